//! What holds for every sequence of records, possible or not.
//!
//! A small kernel writes what a connection does; records of it are then left out, as
//! a full ring would, or change places. Requests are told apart by their TCP sequence
//! number.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::protocol::rpc;

/// What a connection may do next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Request { ended: bool },
    RequestEnd,
    Interim,
    AnswerBegins { status: u16 },
    AnswerEnds { reason: u8 },
    Desynchronised,
    Statistics,
    AskerFin,
}

/// What truly happened to a request.
#[derive(Clone, Copy, Debug, Default)]
struct Truth {
    status: Option<u16>,
    answer_ended: bool,
}

/// A connection from its beginning to its end, and the records that the kernel half
/// writes about it.
#[derive(Debug)]
struct Story {
    records: Vec<Record>,
    truth: HashMap<u32, Truth>,
}

struct Teller {
    socket: Socket,
    story: Story,
    requests: u32,
    answered: u32,
    request_open: bool,
    answer_open: bool,
}

fn tell(side: Side, steps: &[Step], reason: u8) -> Story {
    let mut teller = Teller {
        socket: Socket::new(side),
        story: Story { records: Vec::new(), truth: HashMap::new() },
        requests: 0,
        answered: 0,
        request_open: false,
        answer_open: false,
    };
    for step in steps {
        teller.step(*step);
    }
    let last = teller.socket.closed(reason);
    teller.story.records.push(last);
    teller.story
}

impl Teller {
    fn truth(&mut self) -> &mut Truth {
        let sequence = self.socket.epoch * 1_000_000 + self.answered;
        self.story.truth.entry(sequence).or_default()
    }

    fn step(&mut self, step: Step) {
        let waits = self.answered < self.requests;
        let (number, last) = (self.answered, self.requests.wrapping_sub(1));
        let record = match step {
            Step::Request { ended } if !self.request_open => {
                let number = self.requests;
                self.requests += 1;
                self.request_open = !ended;
                self.story.truth.insert(self.socket.epoch * 1_000_000 + number, Truth::default());
                let flags = HEAD_FIRST | HEAD_COMPLETE | if ended { HEAD_ENDED } else { 0 };
                self.socket.piece(number, 0, b"GET / HTTP/1.1\r\n\r\n", flags)
            }
            Step::RequestEnd if self.request_open => {
                self.request_open = false;
                self.socket.request_end(last, 5, event::END_COMPLETE)
            }
            Step::Interim if waits && !self.answer_open => self.socket.interim(number, 100),
            Step::AnswerBegins { status } if waits && !self.answer_open => {
                self.answer_open = true;
                self.truth().status = Some(status);
                self.socket.answer_begins(number, status, event::FRAMING_LENGTH)
            }
            Step::AnswerEnds { reason } if self.answer_open => {
                self.truth().answer_ended = reason == event::END_COMPLETE;
                self.answer_open = false;
                self.answered += 1;
                self.socket.answer_end(number, 3, reason)
            }
            Step::Desynchronised => {
                let unanswered = self.requests - self.answered;
                (self.requests, self.answered) = (0, 0);
                (self.request_open, self.answer_open) = (false, false);
                self.socket.desynchronised(unanswered, event::LOST_GAP)
            }
            Step::Statistics => Record::Statistics(self.socket.statistics()),
            Step::AskerFin => {
                let direction = self.socket.asks();
                self.socket.fin(direction)
            }
            _ => return,
        };
        self.story.records.push(record);
    }
}

impl Story {
    /// Leaves out the records for which `lost` says so; the next one that goes through says how many.
    fn lose(&mut self, lost: &[bool]) {
        let mut missing = 0;
        let mut lost = lost.iter().copied().chain(std::iter::repeat(false));
        self.records.retain_mut(|record| {
            if lost.next() == Some(true) {
                missing += 1;
                return false;
            }
            record.header_mut().lost = std::mem::take(&mut missing);
            true
        });
    }

    /// Requests of which at least one record that came shows that they exist.
    fn shown(&self) -> u32 {
        let mut highest: HashMap<u32, u32> = HashMap::new();
        for record in &self.records {
            let (epoch, begun) = match record {
                Record::Head(head, _) => (head.epoch, head.number + 1),
                Record::End(end) => (end.epoch, end.number + 1),
                _ => continue,
            };
            let known = highest.entry(epoch).or_default();
            *known = begun.max(*known);
        }
        highest.values().sum()
    }

    /// Feeds the records; at the end the agent waits until nothing can be open any more.
    fn play(&self) -> Stage {
        let mut stage = Stage::new();
        for record in &self.records {
            stage.feed(record);
        }
        stage.protocols.expire(u64::MAX, &mut stage.out);
        assert_eq!(stage.used(), (0, 0, 0));
        stage
    }

    /// No status, end or absence that did not happen, and no request twice.
    fn check_exchanges(&self, stage: &Stage) -> Result<u32, TestCaseError> {
        let mut told = HashMap::new();
        for exchange in &stage.out.exchanges {
            prop_assert!(
                told.insert(exchange.sequence, ()).is_none(),
                "told twice: {:?}",
                exchange
            );
            let truth = self.truth[&exchange.sequence];
            prop_assert_eq!(exchange.status, truth.status, "{:?}", exchange);
            if exchange.error.is_none() {
                prop_assert!(truth.answer_ended, "{:?}", exchange);
            }
            prop_assert!(exchange.end_ns >= exchange.start_ns);
        }
        let lost: u32 = stage.out.lost.iter().map(|lost| lost.calls).sum();
        Ok(lost + u32::try_from(told.len()).unwrap())
    }
}

/// Whether the second of two records could have been written before the first.
fn may_change_places(records: &mut [Record]) -> bool {
    let [first, second] = records else { return false };
    if first.header_mut().direction == second.header_mut().direction {
        return false;
    }
    let number = |record: &Record| match record {
        Record::Head(head, _) => Some(head.number),
        Record::End(end) => Some(end.number),
        _ => None,
    };
    let begins = matches!(first, Record::Head(head, _) if head.header.flags & HEAD_RESPONSE == 0);
    !(begins && number(first) == number(second))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => any::<bool>().prop_map(|ended| Step::Request { ended }),
        2 => Just(Step::RequestEnd),
        1 => Just(Step::Interim),
        5 => (200_u16..600).prop_map(|status| Step::AnswerBegins { status }),
        5 => prop_oneof![9 => Just(event::END_COMPLETE), 1 => Just(event::END_TRUNCATED)]
            .prop_map(|reason| Step::AnswerEnds { reason }),
        1 => Just(Step::Desynchronised),
        1 => Just(Step::Statistics),
        1 => Just(Step::AskerFin),
    ];
    prop::collection::vec(step, 0..60)
}

fn sides() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Client), Just(Side::Server)]
}

/// Records that make no sense together, of two connections.
fn nonsense() -> impl Strategy<Value = Record> {
    let header = (1_u64..3, 0_u8..2, any::<u16>(), prop_oneof![9 => Just(0_u16), 1 => 0_u16..5]);
    let numbers = (0_u32..6, 0_u32..3, any::<u8>(), 190_u16..210);
    let bytes = prop_oneof![
        "(GET|PUT) /[a-z]{0,9} HTTP/1.1\r\n(Host: [a-z]{0,9}\r\n\r\n)?"
            .prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..40),
    ];
    (0_u8..7, header, numbers, bytes, any::<u64>()).prop_map(
        |(
            kind,
            (cookie, direction, flags, lost),
            (number, epoch, reason, status),
            bytes,
            time_ns,
        )| {
            let header = Header { time_ns, cookie, direction, flags, lost, ..Header::default() };
            let reason = reason % 8;
            match kind {
                0..=2 => Record::Head(
                    Head {
                        header,
                        number,
                        epoch,
                        sequence: epoch * 1_000_000 + number,
                        offset: u32::from(reason),
                        first_ns: time_ns / 2,
                        framing: reason,
                        status,
                        ..Head::default()
                    },
                    bytes,
                ),
                3 => Record::End(End { header, number, epoch, reason, ..End::default() }),
                4 => Record::Shut(Shut { header }),
                5 => Record::Desynchronised(Desynchronised {
                    header,
                    epoch,
                    unanswered: number,
                    reason,
                    ..Desynchronised::default()
                }),
                _ => Record::Closed(Statistics { header, reason, ..Statistics::default() }),
            }
        },
    )
}

proptest! {
    #[test]
    fn the_sum_comes_out(side in sides(), steps in steps(), reason in 0_u8..8) {
        let story = tell(side, &steps, reason);
        let stage = story.play();
        let counted = story.check_exchanges(&stage)?;
        prop_assert_eq!(counted as usize, story.truth.len());
        for exchange in &stage.out.exchanges {
            prop_assert_eq!(exchange.error.is_none(), story.truth[&exchange.sequence].answer_ended);
        }
    }

    #[test]
    fn the_sum_comes_out_with_lost_records(
        side in sides(),
        steps in steps(),
        lost in prop::collection::vec(prop::bool::weighted(0.15), 0..60),
        reason in 0_u8..8,
    ) {
        let mut story = tell(side, &steps, reason);
        story.lose(&lost);
        let stage = story.play();
        let counted = story.check_exchanges(&stage)?;
        prop_assert!(counted >= story.shown(), "{} of {} shown", counted, story.shown());
        prop_assert!(counted as usize <= story.truth.len(), "{} of {}", counted, story.truth.len());
    }

    #[test]
    fn records_that_change_places_never_make_a_call_up(
        side in sides(),
        steps in steps(),
        swaps in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut story = tell(side, &steps, event::CLOSE_FIN);
        // Both directions may be written at the same time, on two CPUs; but nobody
        // answers a request before the hook has let it pass, and the end of the socket
        // is the last.
        let movable = story.records.len() - 1;
        for swap in swaps.iter().filter(|_| movable >= 2) {
            let index = swap.index(movable - 1);
            if may_change_places(&mut story.records[index..index + 2]) {
                story.records.swap(index, index + 1);
            }
        }
        let stage = story.play();
        for exchange in &stage.out.exchanges {
            if exchange.status.is_some() {
                prop_assert_eq!(exchange.status, story.truth[&exchange.sequence].status);
            }
        }
        let lost: u32 = stage.out.lost.iter().map(|lost| lost.calls).sum();
        let counted = stage.out.exchanges.len() + lost as usize;
        prop_assert_eq!(counted, story.truth.len());
    }

    #[test]
    fn nonsense_never_panics_nor_makes_a_status_up(records in prop::collection::vec(nonsense(), 0..120)) {
        let settings = ProtocolSettings {
            requests: 6, requests_per_connection: 4, head_bytes: 64, head_bytes_total: 128,
            ..ProtocolSettings::default()
        };
        let mut stage = Stage::with(settings);
        let mut statuses = HashMap::<_, Vec<u16>>::new();
        for record in records {
            if let Record::Head(head, _) = &record && head.header.flags & HEAD_RESPONSE != 0 {
                statuses.entry((head.header.cookie, head.sequence)).or_default().push(head.status);
            }
            stage.feed(record);
            let occupancy = stage.protocols.occupancy();
            prop_assert!(occupancy.requests.used <= 6 && occupancy.head_bytes.used <= 128);
        }
        stage.protocols.expire(u64::MAX, &mut stage.out);
        for exchange in &stage.out.exchanges {
            let Some(status) = exchange.status else { continue };
            prop_assert!(statuses[&(exchange.socket, exchange.sequence)].contains(&status));
        }
    }

    #[test]
    fn any_bytes_may_end_a_body(mut bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..200) {
        for system in [RpcSystem::Grpc, RpcSystem::GrpcWeb, RpcSystem::Connect] {
            let _ = rpc::closing_status(system, &bytes);
            prop_assert_eq!(rpc::tail_status(system, &bytes), None);
        }
        // Whatever stands before and behind, the message is found.
        bytes.splice(at.min(bytes.len()).., *b"\x80\0\0\0\x0dgrpc-status:7\r\n0\r\n");
        prop_assert_eq!(rpc::tail_status(RpcSystem::GrpcWeb, &bytes), Some(7));
    }

    #[test]
    fn any_bytes_are_a_head(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let head = http1::parse(&bytes);
        for part in [head.method, head.path, head.authority] {
            let text = http1::text(part);
            prop_assert!(!text.as_str().contains(char::is_control));
        }
        prop_assert!(!head.path.contains(&b'?'));
    }
}
