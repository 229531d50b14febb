//! A connection by hand: segments in, records out.

extern crate std;

mod repeat;

use std::collections::HashMap;
use std::format;
use std::ptr::NonNull;
use std::string::String;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use zerocopy::FromBytes;

use super::*;
use crate::event::{Desynchronised, EGRESS, End, Head, Header, INGRESS, Kind};
use crate::flow::WINDOW_START;
use crate::limits::ASIDE;
use crate::repeat::{Answer, Control, Memo};

/// Bytes of a segment ahead of a hole that are kept in one piece.
pub(crate) const PIECE: usize = 128;

/// Sets a segment aside as the programs do.
pub(crate) fn keep_pieces(aside: &mut HashMap<u32, Vec<u8>>, flow: &Flow, segment: &[u8]) -> u8 {
    let room = usize::from(ASIDE - flow.aside);
    let pieces = segment.chunks(PIECE).take(room).enumerate();
    let keep = |(index, piece): (usize, &[u8])| {
        let place = flow.segment_start.wrapping_add((index * PIECE) as u32);
        aside.insert(place, piece.to_vec());
    };
    pieces.map(keep).count() as u8
}

/// What a walk sent, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sent {
    /// A head's piece: response, number, epoch, status, body, flags, bytes.
    Head {
        response: bool,
        number: u32,
        epoch: u32,
        status: u16,
        body: u64,
        flags: u16,
        grpc_status: u8,
        bytes: Vec<u8>,
    },
    End {
        response: bool,
        number: u32,
        body: u64,
        reason: u8,
    },
    Lost {
        unanswered: u32,
        reason: u8,
    },
}

#[derive(Default)]
struct Recorder {
    packet: Vec<u8>,
    aside: HashMap<u32, Vec<u8>>,
    /// Nothing can be set aside.
    full: bool,
    sent: Vec<Sent>,
    prefix: u32,
    /// What is counted: a slot each.
    controls: Vec<Control>,
    /// What their answers were like.
    memos: [Memo; 8],
    /// How often something was loaded.
    loads: usize,
    /// How often one was taken as it was.
    taken: usize,
    /// Bodies of the answers that were.
    counted: Vec<u64>,
    /// How often somebody asked for a slot.
    looks: usize,
    /// The direction of the requests.
    asking: Option<NonNull<Flow>>,
}

impl Port for Recorder {
    fn load(&mut self, flow: &mut Flow, offset: u32, length: u32) -> bool {
        self.loads += 1;
        let (offset, length) = (offset as usize, length as usize);
        let Some(bytes) = self.packet.get(offset..offset + length) else { return false };
        flow.buffer[WINDOW_START..WINDOW_START + length].copy_from_slice(bytes);
        true
    }

    fn send_head(&mut self, flow: &mut Flow, _: &mut Shared, length: u32) {
        let (head, rest) = Head::ref_from_prefix(&flow.buffer[..length as usize]).unwrap();
        assert_eq!(usize::from(head.header.length), rest.len());
        self.sent.push(Sent::Head {
            response: head.header.flags & event::HEAD_RESPONSE != 0,
            number: head.number,
            epoch: head.epoch,
            status: head.status,
            body: head.body_bytes,
            flags: head.header.flags,
            grpc_status: head.grpc_status,
            bytes: rest.to_vec(),
        });
    }

    fn send<T: zerocopy::IntoBytes>(&mut self, _: &mut Shared, fill: impl FnOnce(*mut T)) {
        let mut place = vec![0u64; size_of::<T>().div_ceil(8)];
        fill(place.as_mut_ptr().cast());
        let bytes = zerocopy::IntoBytes::as_bytes(place.as_slice());
        let (header, _) = Header::ref_from_prefix(bytes).unwrap();
        self.sent.push(if header.kind == Kind::End as u8 {
            let (record, _) = End::ref_from_prefix(bytes).unwrap();
            Sent::End {
                response: record.header.flags & event::HEAD_RESPONSE != 0,
                number: record.number,
                body: record.body_bytes,
                reason: record.reason,
            }
        } else {
            let (record, _) = Desynchronised::ref_from_prefix(bytes).unwrap();
            Sent::Lost { unanswered: record.unanswered, reason: record.reason }
        });
    }

    fn measure(&mut self, _: &mut Head) {}

    fn set_aside(&mut self, flow: &mut Flow) -> u8 {
        if self.full { 0 } else { keep_pieces(&mut self.aside, flow, &self.packet) }
    }

    fn prefix(&self) -> u32 {
        self.prefix
    }

    fn key(&self, index: usize) -> u64 {
        // Any will do.
        (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn slot(&mut self, tag: u64) -> u16 {
        self.looks += 1;
        let slot = self.controls.iter().position(|control| control.tag == tag);
        slot.map_or(0, |slot| slot as u16 + 1)
    }

    fn count(&mut self, slot: u16, tag: u64, answer: &Answer) -> bool {
        let takes = self.controls[usize::from(slot) - 1].takes(tag, answer);
        if takes {
            self.counted.push(answer.body);
        }
        takes
    }

    fn memo(&mut self, slot: u16) -> Option<&mut Memo> {
        self.memos.get_mut(usize::from(slot).wrapping_sub(1))
    }

    fn answer(&mut self, flow: &Flow, shared: &mut Shared, answer: Answer) -> bool {
        // SAFETY: of the connection, the other direction than is walked.
        let asking = unsafe { self.asking.expect("a request waits").as_mut() };
        decide(asking, flow, shared, self, answer)
    }
}

pub(crate) fn new_flow() -> Flow {
    // All zero is a new flow, as socket storage makes it.
    // SAFETY: every field of a flow is valid as zero.
    unsafe { core::mem::zeroed() }
}

struct Connection {
    flows: [Flow; 2],
    sequence: [u32; 2],
    shared: Shared,
    port: Recorder,
    /// Segments that were passed by.
    passed: usize,
}

impl Connection {
    fn new() -> Self {
        let sequence = [u32::MAX - 20, 77];
        let flows = sequence.map(|place| {
            let mut flow = new_flow();
            flow.place(place);
            flow
        });
        Self {
            flows,
            sequence,
            shared: Shared::default(),
            port: Recorder { prefix: 4096, ..Recorder::default() },
            passed: 0,
        }
    }

    fn segment(&mut self, direction: u8, sequence: u32, bytes: &[u8]) {
        if self.shared.verdict == VERDICT_OPAQUE {
            return;
        }
        let mine = usize::from(direction);
        let ack = self.sequence[1 - mine];
        self.port.packet = bytes.to_vec();
        let flow = &mut self.flows[mine];
        flow.segment_start = sequence;
        flow.segment_end = sequence.wrapping_add(bytes.len() as u32);
        flow.segment_ack = ack;
        flow.payload = 0;
        let mut walk = Walk { flow, shared: &mut self.shared, port: &mut self.port, direction };
        if !bytes.is_empty() && walk.pass_by(false) {
            self.passed += 1;
            return;
        }
        if walk.may_defer(false) {
            let done = if walk.shared.requests == direction + 1 {
                let nothing = new_flow();
                decide(walk.flow, &nothing, walk.shared, walk.port, Answer::default());
                walk.port.asking = Some(NonNull::from(&mut *walk.flow));
                walk.defer(false)
            } else {
                let taken = walk.take();
                walk.port.taken += usize::from(taken);
                taken
            };
            if done {
                return;
            }
        }
        let flow = &mut self.flows[mine];
        let mut walk = Walk { flow, shared: &mut self.shared, port: &mut self.port, direction };
        if walk.enter() {
            let mut steps = 0;
            while walk.step() || walk.resume() {
                steps += 1;
                assert!(steps < 1_000_000, "the walk does not end");
            }
            walk.leave();
            self.go_on(direction);
        }
    }

    /// Walks what was set aside, once the hole in front of it is closed.
    fn go_on(&mut self, direction: u8) {
        let flow = &mut self.flows[usize::from(direction)];
        if flow.aside == 0 {
            return;
        }
        let sequence = flow.edge.end;
        let Some(bytes) = self.port.aside.remove(&sequence) else { return flow.pass_unseen() };
        flow.take_aside();
        self.segment(direction, sequence, &bytes);
    }

    fn send(&mut self, direction: u8, bytes: &[u8]) {
        let sequence = self.sequence[usize::from(direction)];
        self.sequence[usize::from(direction)] = sequence.wrapping_add(bytes.len() as u32);
        self.segment(direction, sequence, bytes);
    }

    fn send_split(&mut self, direction: u8, bytes: &[u8], size: usize) {
        for piece in bytes.chunks(size) {
            self.send(direction, piece);
        }
    }

    fn shut(&mut self, direction: u8, reset: bool) {
        let mine = usize::from(direction);
        let flow = &mut self.flows[mine];
        Walk { flow, shared: &mut self.shared, port: &mut self.port, direction }.shut(reset);
    }

    fn reaches_fin(&mut self, direction: u8, fin: bool) -> bool {
        let mine = usize::from(direction);
        let flow = &mut self.flows[mine];
        flow.reaches_fin(fin)
    }

    /// What was sent, as lines: `> 0 GET /… [body]`, `< 0 200 [body]`, `lost n`.
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut head = Vec::new();
        for sent in &self.port.sent {
            match sent {
                Sent::Head { response, number, status, body, flags, bytes, .. } => {
                    if flags & event::HEAD_FIRST != 0 {
                        head.clear();
                    }
                    head.extend_from_slice(bytes);
                    if flags & event::HEAD_COMPLETE == 0 {
                        continue;
                    }
                    let ended = if flags & event::HEAD_ENDED != 0 {
                        format!(" ended {body}")
                    } else {
                        String::new()
                    };
                    if *response {
                        lines.push(format!("< {number} {status}{ended}"));
                    } else {
                        let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
                        let line = String::from_utf8_lossy(line);
                        lines.push(format!(
                            "> {number} {}{ended}",
                            line.trim_end().trim_end_matches(" HTTP/1.1")
                        ));
                    }
                }
                Sent::End { response, number, body, reason } => {
                    let arrow = if *response { '<' } else { '>' };
                    lines.push(format!("{arrow} {number} end {body} ({reason})"));
                }
                Sent::Lost { unanswered, reason } => {
                    lines.push(format!("lost {unanswered} ({reason})"));
                }
            }
        }
        lines
    }
}

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nServer: some thing\r\nContent-Length: 5\r\n\r\nhello";

#[test]
fn a_call_in_two_packets() {
    let mut connection = Connection::new();
    connection.send(EGRESS, GET);
    connection.send(INGRESS, OK);
    connection.send(EGRESS, GET);
    connection.send(INGRESS, OK);
    assert_eq!(
        connection.lines(),
        ["> 0 GET /a ended 0", "< 0 200 ended 5", "> 1 GET /a ended 0", "< 1 200 ended 5"]
    );
}

#[test]
fn every_split_gives_the_same_calls() {
    let long = "x".repeat(700);
    let requests = format!(
        "POST /{long} HTTP/1.1\r\nHost: x\r\nX-Long: {long}\r\nContent-Length: 30\r\n\r\nGET /inside HTTP/1.1\r\nHost: y\r\n\
         \r\nPUT /c HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3;ext={long}\r\nabc\r\nA\r\nGET / HTTP\r\n0\r\nTrailer: {long}\r\n\r\n\
         HEAD /h HTTP/1.1\r\n\r\n"
    );
    let responses = format!(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early {long}\r\nLink: {long}\r\n\r\n\
         HTTP/1.1 404 {long}\r\nContent-Length: 26\r\n\r\nHTTP/1.1 500 No\r\n\r\n1234567\
         HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    );
    for size in (1..64).chain([100, 159, 160, 161, 400, 5000]) {
        let mut connection = Connection::new();
        connection.send_split(INGRESS, requests.as_bytes(), size);
        connection.send_split(EGRESS, responses.as_bytes(), size);
        let lines: Vec<String> = connection
            .lines()
            .iter()
            .map(|line| line.replace(" ended ", " end ").replace(" (0)", ""))
            .map(|line| line.split('?').next().unwrap_or_default().into())
            .collect();
        let joined = lines.join("\n");
        for expected in [
            format!("> 0 POST /{long}"),
            "> 1 PUT /c".into(),
            "> 1 end 13".into(),
            "> 2 HEAD /h end 0".into(),
            "< 0 100".into(),
            "< 0 103".into(),
            "< 0 404".into(),
            "< 1 200".into(),
            "< 1 end 5".into(),
            "< 2 200 end 0".into(),
        ] {
            assert!(joined.contains(&expected), "size {size}: no {expected} in\n{joined}");
        }
        assert!(
            !joined.contains("500") && !joined.contains("lost") && !joined.contains("inside"),
            "size {size}:\n{joined}"
        );
    }
}

/// The tails of answers, and `grpc-status` where it stands in a head.
fn tails(answer: &str, size: usize) -> (Vec<String>, u8, Vec<String>) {
    let mut connection = Connection::new();
    connection.send(EGRESS, GET);
    connection.send_split(INGRESS, answer.as_bytes(), size);
    connection.send(EGRESS, GET);
    connection.send(INGRESS, OK);
    let (mut tails, mut status) = (Vec::new(), 0);
    for sent in &connection.port.sent {
        let Sent::Head { response: true, flags, grpc_status, bytes, .. } = sent else { continue };
        if flags & event::HEAD_TAIL != 0 {
            tails.push(String::from_utf8_lossy(bytes).into_owned());
        }
        status = status.max(*grpc_status);
    }
    let lines = connection.lines();
    (tails, status, lines.into_iter().filter(|line| line.starts_with('<')).collect())
}

#[test]
fn answers_that_a_message_closes_have_a_tail() {
    let types = [
        "content-type:application/grpc-web+proto",
        "Content-Type: application/grpc-web",
        "Content-Type: application/connect+json; charset=utf-8",
    ];
    for kind in types {
        let length = format!("HTTP/1.1 200 OK\r\n{kind}\r\nContent-Length: 9\r\n\r\n");
        let whole = format!("{length}123456789");
        let (told, _, lines) = tails(&whole, 5_000);
        assert_eq!(told, [&*whole], "{kind}");
        assert_eq!(lines, ["< 0 200", "< 0 end 9 (0)", "< 1 200 ended 5"]);
        let (told, _, lines) = tails(&whole, length.len());
        assert_eq!(told, ["123456789"]);
        assert_eq!(lines, ["< 0 200", "< 0 end 9 (0)", "< 1 200 ended 5"]);
        let chunked = format!(
            "HTTP/1.1 200 OK\r\n{kind}\r\nTransfer-Encoding: chunked\r\n\r\n12C\r\n{}\r\n0\r\nA: b\r\n\r\n",
            "c".repeat(300),
        );
        let (told, _, lines) = tails(&chunked, 5_000);
        let tail = format!("{}\r\n0\r\n", "c".repeat(179));
        assert_eq!(told, [&*tail]);
        assert_eq!(lines, ["< 0 200", "< 0 end 300 (0)", "< 1 200 ended 5"]);
        for size in 1..60 {
            let (told, _, lines) = tails(&chunked, size);
            assert_eq!(told.len(), 1);
            assert!(tail.ends_with(&told[0]) || told[0].ends_with("0\r\n"), "{told:?}");
            assert_eq!(lines, ["< 0 200", "< 0 end 300 (0)", "< 1 200 ended 5"]);
        }
    }
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/connect+proto\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks = format!("{head}1\r\nx\r\n7\r\n\x02\0\0\0\x02{{}}\r\n");
    let (told, ..) = tails(&format!("{chunks}0\r\n\r\n"), chunks.len());
    assert_eq!(told, ["7\r\n\x02\0\0\0\x02{}\r\n", "0\r\n"], "a chunk of its own");
    for other in ["application/grpcweb", "application/grpc", "application/json", "text/grpc-web"] {
        let answer =
            format!("HTTP/1.1 200 OK\r\nContent-Type: {other}\r\nContent-Length: 1\r\n\r\nx");
        assert_eq!(tails(&answer, 5_000).0, [""; 0], "{other}");
    }
}

#[test]
fn a_request_has_no_tail() {
    let mut connection = Connection::new();
    let request = "POST /a.B/C HTTP/1.1\r\nContent-Type: application/grpc-web\r\nContent-Length: 3\r\n\r\nabc";
    connection.send(EGRESS, request.as_bytes());
    assert_eq!(connection.lines(), ["> 0 POST /a.B/C ended 3"]);
}

#[test]
fn grpc_statuses_in_heads_are_read() {
    for (line, status) in [
        ("grpc-status:0", 1),
        ("Grpc-Status: 5", 6),
        ("GRPC-STATUS: 14", 15),
        ("grpc-status: 99", 100),
        ("grpc-status: 100", 0),
        ("grpc-status: ", 0),
        ("grpc-status: x", 0),
        ("grpc-status: 1x", 0),
        ("grpc-statusx: 1", 0),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{line}\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(tails(&answer, 5_000).1, status, "{line}");
        assert_eq!(tails(&answer, 3).1, status, "{line}");
    }
}

#[test]
fn a_body_ends_with_its_last_byte() {
    let mut connection = Connection::new();
    connection.send(EGRESS, GET);
    connection.send(INGRESS, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nHTTP/1");
    assert_eq!(connection.lines().len(), 2);
    connection.send(INGRESS, b".1 2");
    assert_eq!(connection.lines()[2], "< 0 end 10 (0)");
}

#[test]
fn huge_bodies_are_skipped_in_hops() {
    let mut connection = Connection::new();
    connection.send(EGRESS, GET);
    let length: u64 = 5 << 30;
    connection
        .send(INGRESS, format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes());
    let mut left = length;
    while left > 0 {
        // Only the sequence numbers matter: nothing of a body is read.
        let size = left.min(1 << 29) as u32;
        let start = connection.sequence[0];
        let flow = &mut connection.flows[0];
        flow.segment_start = start;
        flow.segment_end = start.wrapping_add(size);
        connection.sequence[0] = start.wrapping_add(size);
        let mut walk = Walk {
            flow: &mut connection.flows[0],
            shared: &mut connection.shared,
            port: &mut connection.port,
            direction: INGRESS,
        };
        assert!(walk.enter());
        while walk.step() {}
        walk.leave();
        left -= u64::from(size);
        assert_eq!(connection.lines().len(), if left == 0 { 3 } else { 2 });
    }
    assert_eq!(connection.lines()[2], format!("< 0 end {length} (0)"));
}

#[test]
fn the_rest_of_an_older_answer_spoils_no_later_one() {
    let mut connection = Connection::new();
    connection.send(INGRESS, b"ok");
    connection.send(EGRESS, GET);
    connection.send(INGRESS, OK);
    assert_eq!(connection.lines()[1..], ["< 0 200 ended 5"]);
}

#[test]
fn loss_inside_a_body_is_no_loss() {
    let mut connection = Connection::new();
    connection.send(EGRESS, GET);
    connection.send(INGRESS, b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n");
    let place = connection.sequence[0];
    connection.segment(INGRESS, place.wrapping_add(10), b"HTTP/1.1 5");
    connection.segment(INGRESS, place.wrapping_add(20), b"HTTP/1.1 5");
    assert_eq!(connection.lines().len(), 2);
    connection.segment(INGRESS, place, b"HTTP/1.1 5");
    assert_eq!(connection.lines()[2], "< 0 end 30 (0)");
}

#[test]
fn a_fin_ahead_of_a_hole_waits() {
    let mut connection = Connection::new();
    connection.send(EGRESS, GET);
    let place = connection.sequence[0];
    let half = OK.len() - 3;
    connection.segment(INGRESS, place, &OK[..half]);
    // The FIN comes with no payload, beyond the last three bytes.
    let end = place.wrapping_add(OK.len() as u32);
    connection.flows[0].segment_end = end;
    assert!(!connection.reaches_fin(INGRESS, true));
    connection.segment(INGRESS, place.wrapping_add(half as u32), &OK[half..]);
    assert!(connection.reaches_fin(INGRESS, false));
    assert!(!connection.reaches_fin(INGRESS, true), "a FIN ends a stream once");
    assert_eq!(connection.lines()[1..], ["< 0 200", "< 0 end 5 (0)"]);
}

#[test]
fn the_midst_of_a_body_is_passed_by() {
    let mut connection = Connection::new();
    connection.send(EGRESS, GET);
    connection.send(INGRESS, b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n");
    let pieces = [20, 10, 19].map(|length| {
        connection.send(INGRESS, &vec![b'\n'; length]);
        connection.passed
    });
    // The last byte is the end of the message.
    assert_eq!(pieces, [1, 2, 3]);
    connection.send(INGRESS, b"x");
    connection.send(EGRESS, GET);
    connection.send(INGRESS, OK);
    assert_eq!(connection.passed, 3);
    let ends = |sent: &Sent| matches!(sent, Sent::End { response: true, body: 50, .. });
    assert_eq!(connection.port.sent.iter().filter(|sent| ends(sent)).count(), 1);
}

#[test]
fn a_body_that_came_around_holes_is_whole_at_the_fin() {
    let mut connection = Connection::new();
    connection.send(EGRESS, GET);
    connection.send(INGRESS, b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n");
    let start = connection.sequence[0];
    let at = |offset: u32| start.wrapping_add(offset);
    // Two holes: how far TCP has come once they are filled is not known from packets.
    for offset in [10, 30, 0, 20] {
        connection.segment(INGRESS, at(offset), &[b'x'; 10]);
    }
    connection.flows[0].segment_end = at(40);
    connection.flows[0].catch_up(at(40));
    assert!(connection.reaches_fin(INGRESS, true));
    // Later TCP counts the FIN.
    connection.flows[0].catch_up(at(41));
    connection.shut(INGRESS, false);
    assert_eq!(connection.lines()[1..], ["< 0 200", "< 0 end 40 (0)"]);
}

#[test]
fn retransmissions_and_overlaps_change_nothing() {
    let mut connection = Connection::new();
    let place = connection.sequence[1];
    connection.send(EGRESS, &GET[..10]);
    connection.segment(EGRESS, place, &GET[..10]);
    connection.segment(EGRESS, place.wrapping_add(4), &GET[4..20]);
    connection.segment(EGRESS, place, GET);
    connection.segment(EGRESS, place, GET);
    connection.sequence[1] = place.wrapping_add(GET.len() as u32);
    connection.send(INGRESS, OK);
    assert_eq!(connection.lines(), ["> 0 GET /a ended 0", "< 0 200 ended 5"]);
}

#[test]
fn what_comes_ahead_of_a_hole_waits_for_it() {
    let mut connection = Connection::new();
    connection.send(EGRESS, GET);
    let place = connection.sequence[0];
    for (from, to) in [(20, 30), (30, OK.len()), (10, 20), (0, 10)] {
        connection.segment(INGRESS, place.wrapping_add(from as u32), &OK[from..to]);
    }
    assert_eq!(connection.lines(), ["> 0 GET /a ended 0", "< 0 200 ended 5"]);
}

#[test]
fn several_holes_are_closed_one_by_one() {
    let mut connection = Connection::new();
    connection.send(EGRESS, GET);
    let place = connection.sequence[0];
    for (from, to) in [(30, OK.len()), (20, 25), (10, 15), (0, 10), (15, 20), (25, 30)] {
        connection.segment(INGRESS, place.wrapping_add(from as u32), &OK[from..to]);
    }
    assert_eq!(connection.lines(), ["> 0 GET /a ended 0", "< 0 200 ended 5"]);
}

#[test]
fn a_lost_head_is_declared_and_the_next_call_is_seen() {
    let mut connection = Connection::new();
    connection.port.full = true;
    connection.send(EGRESS, GET);
    let place = connection.sequence[0];
    // The answer's first half comes after its second.
    connection.segment(INGRESS, place.wrapping_add(10), &OK[10..]);
    connection.segment(INGRESS, place, &OK[..10]);
    connection.sequence[0] = place.wrapping_add(OK.len() as u32);
    connection.send(EGRESS, GET);
    connection.send(INGRESS, OK);
    assert_eq!(
        connection.lines(),
        ["> 0 GET /a ended 0", "lost 1 (1)", "> 0 GET /a ended 0", "< 0 200 ended 5"]
    );
}

#[test]
fn heads_and_tunnels() {
    let mut connection = Connection::new();
    connection.send(EGRESS, b"HEAD / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    connection.send(INGRESS, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.1 304 Not\r\nContent-Length: 9\r\n\r\n");
    connection.send(EGRESS, b"CONNECT a:1 HTTP/1.1\r\n\r\n");
    connection.send(INGRESS, b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n");
    connection.send(EGRESS, b"CONNECT a:1 HTTP/1.1\r\n\r\n");
    connection.send(INGRESS, b"HTTP/1.1 200 Yes\r\n\r\n");
    connection.send(EGRESS, GET);
    connection.send(INGRESS, OK);
    assert_eq!(
        connection.lines(),
        [
            "> 0 HEAD / ended 0",
            "> 1 GET / ended 0",
            "< 0 200 ended 0",
            "< 1 304 ended 0",
            "> 2 CONNECT a:1 ended 0",
            "< 2 403 ended 0",
            "> 3 CONNECT a:1 ended 0",
            "< 3 200 ended 0",
        ]
    );
    assert_eq!(connection.shared.verdict, VERDICT_OPAQUE);
}

#[test]
fn bodies_that_end_by_close() {
    for (reset, reason) in [(false, event::END_CLOSED), (true, event::END_RESET)] {
        let mut connection = Connection::new();
        connection.send(INGRESS, GET);
        connection.send(EGRESS, b"HTTP/1.0 200 OK\r\n\r\nHTTP/1.1 404 x\r\n\r\n");
        connection.send(EGRESS, b"more");
        connection.shut(EGRESS, reset);
        assert_eq!(connection.lines()[2], format!("< 0 end 22 ({reason})"));
    }
}

#[test]
fn what_is_no_http_is_left_alone() {
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 GET / HTTP/1.1\r\n\r\n"[..],
        b"SSH-2.0-OpenSSH\r\n",
        b"GET / HTTP/3.1\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\n",
    ] {
        let mut connection = Connection::new();
        for _ in 0..20 {
            connection.send(EGRESS, bytes);
            connection.send(INGRESS, bytes);
        }
        assert_eq!(connection.shared.verdict, VERDICT_OPAQUE, "{bytes:?}");
        assert_eq!(connection.lines(), Vec::<String>::new(), "{bytes:?}");
    }
}

#[test]
fn an_unexpected_answer_is_no_call() {
    let mut connection = Connection::new();
    connection.send(EGRESS, GET);
    connection.send(INGRESS, OK);
    connection.send(INGRESS, b"HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(connection.lines()[2..], ["lost 0 (6)"]);
}

#[test]
fn contradicting_lengths_are_not_guessed() {
    let mut connection = Connection::new();
    connection.send(EGRESS, GET);
    connection
        .send(INGRESS, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello");
    assert_eq!(connection.lines()[1..], ["lost 1 (4)"]);
}

proptest! {
    #[test]
    fn any_bytes_in_any_order_end(segments in prop::collection::vec((0u8..2, 0u32..3000, prop::collection::vec(any::<u8>(), 1..300)), 1..40)) {
        let mut connection = Connection::new();
        for (direction, place, bytes) in segments {
            connection.segment(direction, place, &bytes);
        }
    }

    /// Whatever is lost or swapped, a status that is reported stood in an answer,
    /// and every request is answered, lost or still open.
    #[test]
    fn damage_never_makes_a_wrong_status(
        order in prop::collection::vec((0u8..10, 1usize..60), 1..60),
        seed in any::<u32>(),
    ) {
        let mut connection = Connection::new();
        let mut statuses = Vec::new();
        for index in 0..20u16 {
            statuses.push(200 + index);
            let request = format!("GET /{index} HTTP/1.1\r\nHost: h\r\n\r\n");
            let body = "HTTP/1.1 599 Bad\r\nContent-Length: 0\r\n\r\n";
            let kind = if index % 3 == 0 { "Content-Type: application/grpc-web\r\n" } else { "" };
            let answer = format!("HTTP/1.1 {} OK\r\n{kind}Content-Length: {}\r\n\r\n{body}", 200 + index, body.len());
            for (direction, bytes) in [(EGRESS, request), (INGRESS, answer)] {
                let (fate, size) = order[(usize::from(index) * 2 + usize::from(direction)) % order.len()];
                let place = connection.sequence[usize::from(direction)];
                let mut pieces: Vec<(u32, &[u8])> = Vec::new();
                for (number, piece) in bytes.as_bytes().chunks(size).enumerate() {
                    pieces.push((place.wrapping_add((number * size) as u32), piece));
                }
                if direction == INGRESS && fate < 4 && pieces.len() > 1 {
                    let at = seed as usize % (pieces.len() - 1);
                    pieces.swap(at, at + 1);
                    if fate == 0 { let again = pieces[at]; pieces.push(again); }
                }
                connection.sequence[usize::from(direction)] = place.wrapping_add(bytes.len() as u32);
                for (place, piece) in pieces {
                    connection.segment(direction, place, piece);
                }
            }
        }
        let mut answered = 0;
        let mut lost = 0;
        for sent in &connection.port.sent {
            match sent {
                Sent::Head { response: true, status, flags, .. } => {
                    prop_assert!(statuses.contains(status));
                    answered += u32::from(flags & event::HEAD_TAIL == 0);
                }
                Sent::Lost { unanswered, .. } => lost += unanswered,
                _ => {}
            }
        }
        prop_assert!(answered + lost >= 19 && answered + lost <= 20, "{answered} + {lost}");
    }
}

#[test]
fn blanks_behind_a_length_are_no_part_of_it() {
    let mut connection = Connection::new();
    connection.send(EGRESS, b"POST /a HTTP/1.1\r\nContent-Length:   00003 \t  \r\n\r\nabc");
    assert_eq!(connection.lines(), ["> 0 POST /a ended 3"]);
}

#[test]
fn what_begins_with_no_token_leaves_no_piece() {
    let mut connection = Connection::new();
    connection.send(EGRESS, &[0; 40]);
    connection.send(INGRESS, &[0; 8]);
    assert_eq!(connection.port.sent, []);
    connection.send(EGRESS, b"\r\n\r");
    connection.send(EGRESS, b"\nGET /a HTTP/1.1\r\n\r\n");
    assert_eq!(connection.lines(), ["> 0 GET /a ended 0"]);
}

#[test]
fn a_body_that_breaks_off_counts_what_came() {
    for (head, ended) in [
        (&b"POST /a HTTP/1.1\r\nContent-Length: 100\r\n\r\n0123"[..], "> 0 end 10 (1)"),
        (b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n0123", "> 0 end 10 (1)"),
    ] {
        let mut connection = Connection::new();
        connection.send(EGRESS, head);
        connection.send(EGRESS, b"456789");
        connection.shut(EGRESS, false);
        let lines = connection.lines();
        let reason = format!("({})", event::END_TRUNCATED);
        assert_eq!(lines[1], ended.replace("(1)", &reason));
    }
}
