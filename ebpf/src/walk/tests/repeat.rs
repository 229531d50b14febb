//! Calls that repeat: each is counted or told, and never both.

use super::*;
use crate::repeat::{Control, tag};

const OTHER: &[u8] = b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n";
const MISSING: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno";

/// A connection on which `GET /a` with an answer of `200` and at most 128 bytes is counted,
/// after one call that was told.
fn counting() -> Connection {
    let mut connection = Connection::new();
    connection.send(EGRESS, GET);
    connection.send(INGRESS, OK);
    connection.count(GET);
    connection
}

impl Connection {
    fn count(&mut self, head: &[u8]) {
        let word = |index: usize| {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(&head[index * 8..]) {
                *to = *from;
            }
            u64::from_le_bytes(word)
        };
        let cookie = self.flows[0].cookie;
        let tag = tag(head.len() as u32, cookie, word, |index| self.port.key(index));
        self.port.controls.push(Control { tag, least: 1, most: 128, status: 200, pad: 0 });
    }

    fn told(&self) -> Vec<String> {
        self.lines().split_off(2)
    }
}

#[test]
fn what_repeats_is_counted_and_takes_no_number() {
    let mut connection = counting();
    for _ in 0..3 {
        connection.send(EGRESS, GET);
        connection.send(INGRESS, OK);
    }
    assert_eq!(connection.port.counted, [5, 5, 5]);
    connection.send(EGRESS, OTHER);
    connection.send(INGRESS, MISSING);
    connection.send(EGRESS, GET);
    connection.send(INGRESS, OK);
    assert_eq!(connection.port.counted.len(), 4);
    assert_eq!(connection.told(), ["> 1 GET /b ended 0", "< 1 404 ended 2"]);
}

#[test]
fn another_answer_has_its_request_told() {
    let large = format!("HTTP/1.1 200 OK\r\nContent-Length: 129\r\n\r\n{}", "x".repeat(129));
    let interim = format!("HTTP/1.1 100 Continue\r\n\r\n{}", String::from_utf8_lossy(OK));
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
    let empty = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    for (answer, told) in [
        (String::from_utf8_lossy(MISSING).into_owned(), &["< 1 404 ended 2"][..]),
        (large, &["< 1 200 ended 129"]),
        (interim, &["< 1 100", "< 1 200 ended 5"]),
        (chunked.into(), &["< 1 200", "< 1 end 1 (0)"]),
        (empty.into(), &["< 1 200 ended 0"]),
    ] {
        let mut connection = counting();
        connection.send(EGRESS, GET);
        connection.send(INGRESS, answer.as_bytes());
        connection.send(EGRESS, GET);
        connection.send(INGRESS, OK);
        connection.send(EGRESS, OTHER);
        let mut wanted = vec!["> 1 GET /a ended 0"];
        wanted.extend(told);
        wanted.push("> 2 GET /b ended 0");
        assert_eq!(connection.told(), wanted, "{answer}");
        assert_eq!(connection.port.counted, [5]);
    }
}

#[test]
fn a_request_that_is_told_late_says_what_it_stands_for() {
    let mut connection = counting();
    connection.shared.late = 3 << 4;
    connection.send(EGRESS, GET);
    connection.send(INGRESS, MISSING);
    let flags = connection.port.sent[2..].iter().filter_map(|sent| match sent {
        Sent::Head { flags, .. } => Some(flags >> event::WEIGHT_SHIFT),
        _ => None,
    });
    assert_eq!(flags.collect::<Vec<_>>(), [3, 3]);
}

#[test]
fn an_answer_in_pieces_has_its_request_told() {
    let mut connection = counting();
    connection.send(EGRESS, GET);
    connection.send_split(INGRESS, OK, 30);
    assert_eq!(connection.told(), ["> 1 GET /a ended 0", "< 1 200", "< 1 end 5 (0)"]);
    assert!(connection.port.counted.is_empty());
}

#[test]
fn a_request_in_pieces_or_with_another_is_told() {
    for size in [10, GET.len() - 1] {
        let mut connection = counting();
        connection.send_split(EGRESS, GET, size);
        connection.send(INGRESS, OK);
        assert_eq!(connection.told(), ["> 1 GET /a ended 0", "< 1 200 ended 5"]);
    }
    let mut connection = counting();
    connection.send(EGRESS, &[GET, GET].concat());
    connection.send(INGRESS, &[OK, OK].concat());
    assert_eq!(connection.told().len(), 4);
    assert!(connection.port.counted.is_empty());
}

#[test]
fn a_request_before_the_answer_has_the_one_that_waits_told() {
    let mut connection = counting();
    connection.send(EGRESS, GET);
    assert!(connection.told().is_empty());
    connection.send(EGRESS, OTHER);
    connection.send(INGRESS, OK);
    connection.send(INGRESS, MISSING);
    let told = ["> 1 GET /a ended 0", "> 2 GET /b ended 0", "< 1 200 ended 5", "< 2 404 ended 2"];
    assert_eq!(connection.told(), told);
    assert!(connection.port.counted.is_empty());
}

#[test]
fn two_answers_in_a_packet_are_taken_one_by_one() {
    let mut connection = counting();
    connection.send(EGRESS, GET);
    // What follows was never asked for.
    connection.send(INGRESS, &[OK, OK].concat());
    assert_eq!(connection.port.counted, [5]);
    assert_eq!(connection.told(), [format!("lost 0 ({})", event::LOST_UNEXPECTED)]);
}

#[test]
fn lost_boundaries_lose_the_one_that_waits() {
    let mut connection = counting();
    connection.send(EGRESS, GET);
    connection.send(INGRESS, b"HTTP/1.1 nonsense\r\n\r\n");
    assert_eq!(connection.told(), [format!("lost 1 ({})", event::LOST_SYNTAX)]);
    connection.send(EGRESS, GET);
    connection.send(INGRESS, OK);
    assert_eq!(connection.told()[1..], ["> 0 GET /a ended 0", "< 0 200 ended 5"]);
}

#[test]
fn a_head_sent_again_is_not_a_second_call() {
    let mut connection = counting();
    let sequence = connection.sequence[usize::from(EGRESS)];
    connection.send(EGRESS, GET);
    connection.segment(EGRESS, sequence, GET);
    connection.send(INGRESS, OK);
    assert_eq!(connection.told(), ["> 1 GET /a ended 0", "< 1 200 ended 5"]);
    assert!(connection.port.counted.is_empty(), "it was told when it came again");
}

#[test]
fn of_requests_that_never_repeat_few_are_looked_at() {
    let mut connection = counting();
    for number in 0..1_000 {
        let get = format!("GET /{number} HTTP/1.1\r\n\r\n");
        connection.send(EGRESS, get.as_bytes());
        connection.send(INGRESS, OK);
    }
    assert!(connection.port.looks < 50, "{}", connection.port.looks);
    assert_eq!(connection.told().len(), 2_000);
}

#[test]
fn a_last_request_behind_one_that_was_told_late_has_its_own_number() {
    let mut connection = counting();
    connection.send(EGRESS, GET);
    connection.send(INGRESS, MISSING);
    let flow = &mut connection.flows[usize::from(EGRESS)];
    let (shared, port) = (&mut connection.shared, &mut connection.port);
    let mut walk = Walk { flow, shared, port, direction: EGRESS };
    assert!(!walk.defer(true));
    assert_eq!(connection.flows[usize::from(EGRESS)].number, 2);
}

impl Connection {
    fn calls(&mut self, answers: &[&[u8]]) {
        for answer in answers {
            self.send(EGRESS, GET);
            self.send(INGRESS, answer);
        }
    }
}

#[test]
fn an_answer_like_the_one_before_is_not_walked() {
    let mut connection = counting();
    connection.calls(&[OK; 5]);
    assert_eq!((connection.port.counted.as_slice(), connection.port.taken), (&[5; 5][..], 3));
    // Another body of that length.
    let other = OK.strip_suffix(b"hello").map(|head| [head, b"HTTP/"].concat()).unwrap();
    connection.calls(&[&other]);
    assert_eq!((connection.port.counted.as_slice(), connection.port.taken), (&[5; 6][..], 4));
    // Another head of that length: once, and from then on.
    let other = String::from_utf8_lossy(OK).replace("thing", "thong");
    connection.calls(&[other.as_bytes(); 3]);
    assert_eq!((connection.port.counted.as_slice(), connection.port.taken), (&[5; 9][..], 6));
    assert!(connection.told().is_empty());
}

#[test]
fn another_status_of_that_length_is_told_as_often_as_it_comes() {
    let missing = String::from_utf8_lossy(OK).replace("200 OK", "404 NO");
    let mut connection = counting();
    connection.calls(&[OK; 4]);
    connection.calls(&[missing.as_bytes(); 3]);
    connection.calls(&[OK; 3]);
    let told: Vec<String> = (1..4)
        .flat_map(|n| [format!("> {n} GET /a ended 0"), format!("< {n} 404 ended 5")])
        .collect();
    assert_eq!(connection.told(), told);
    assert_eq!((connection.port.counted.len(), connection.port.taken), (7, 4));
}

#[test]
fn of_answers_that_are_never_alike_few_are_hashed() {
    let mut connection = counting();
    let answers: Vec<String> = (10..90)
        .map(|n| String::from_utf8_lossy(OK).replace("thing", &format!("no {n}")))
        .collect();
    for answer in &answers {
        connection.calls(&[answer.as_bytes()]);
    }
    assert_eq!((connection.port.counted.len(), connection.port.taken), (80, 0));
    let before = connection.port.loads;
    connection.calls(&[OK; 2]);
    assert_eq!(connection.port.loads - before, 4, "a window for each packet, and no more");
    connection.calls(&[OK; 2 * 64]);
    assert!(connection.port.taken > 0, "they are looked at again");
}

/// A request, its answer, and how each is cut.
#[derive(Clone, Debug)]
struct Exchange {
    path: u8,
    status: u16,
    body: usize,
    ahead: bool,
    cuts: [usize; 2],
}

fn exchange() -> impl Strategy<Value = Exchange> {
    let status = prop_oneof![4 => Just(200u16), 1 => Just(404), 1 => Just(503)];
    let cut = || prop_oneof![5 => Just(4_096usize), 1 => 1usize..80];
    let body = prop_oneof![4 => Just(5usize), 1 => 0usize..200];
    (0u8..3, status, body, prop::bool::weighted(0.1), cut(), cut()).prop_map(
        |(path, status, body, ahead, first, second)| Exchange {
            path,
            status,
            body,
            ahead,
            cuts: [first, second],
        },
    )
}

impl Exchange {
    fn request(&self) -> String {
        format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", self.path)
    }

    fn answer(&self) -> String {
        let (status, body) = (self.status, self.body);
        format!("HTTP/1.1 {status} X\r\nContent-Length: {body}\r\n\r\n{}", "y".repeat(body))
    }
}

proptest! {
    /// Whatever is counted beside: what is told is a run of whole calls, and with what is
    /// counted there are as many as were made, of each answer.
    #[test]
    fn every_call_is_counted_or_told(exchanges in prop::collection::vec(exchange(), 1..40)) {
        let mut connection = counting();
        for path in 0..2 {
            connection.count(format!("GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        }
        let mut answers = Vec::new();
        for exchange in &exchanges {
            if !exchange.ahead {
                for (answer, cut) in answers.drain(..) {
                    connection.send_split(INGRESS, String::as_bytes(&answer), cut);
                }
            }
            connection.send_split(EGRESS, exchange.request().as_bytes(), exchange.cuts[0]);
            answers.push((exchange.answer(), exchange.cuts[1]));
        }
        for (answer, cut) in answers.drain(..) {
            connection.send_split(INGRESS, answer.as_bytes(), cut);
        }
        let told = connection.told();
        let count = |start: char| told.iter().filter(|line| line.starts_with(start)).count();
        let requests = told.iter().filter(|line| line.contains("GET")).count();
        prop_assert_eq!(requests + connection.port.counted.len(), exchanges.len(), "{:?}", told);
        prop_assert!(!told.iter().any(|line| line.starts_with("lost")), "{:?}", told);
        prop_assert!(count('<') >= requests);
        let good = |line: &&String| line.starts_with('<') && line.contains(" 200");
        let other = told.iter().filter(|line| line.starts_with('<') && line.contains(" ended"));
        let other = other.filter(|line| !good(line)).count();
        let asked = exchanges.iter().filter(|exchange| exchange.status != 200).count();
        prop_assert!(other <= asked && connection.port.counted.len() <= exchanges.len() - asked);
        let mut bodies: Vec<u64> = exchanges.iter().map(|exchange| exchange.body as u64).collect();
        let mut seen = connection.port.counted.clone();
        for line in &told {
            let mut words = line.rsplit(' ');
            let last = words.next().unwrap_or_default();
            if line.starts_with('<') && line.contains("ended") {
                seen.push(last.parse().unwrap());
            } else if line.starts_with('<') && line.contains("end") {
                seen.push(words.next().unwrap_or_default().parse().unwrap());
            }
        }
        bodies.sort_unstable();
        seen.sort_unstable();
        prop_assert_eq!(seen, bodies, "{:?}", told);
    }
}
