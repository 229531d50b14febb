//! What two ends say to each other, frame by frame, and in which packets it passes.

extern crate std;

use std::vec;
use std::vec::Vec;

use proptest::sample::Index;

use super::*;
use crate::event::{FLAG_PADDED, FRAME_CONTINUATION, FRAME_PUSH_PROMISE};
use crate::limits::ASIDE;
use crate::walk::tests::PIECE;

/// A frame as it is sent.
#[derive(Clone, Debug)]
pub struct Sent {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
    /// Where in its direction it begins.
    pub at: usize,
}

impl Sent {
    pub fn of(kind: u8, flags: u8, payload: &[u8]) -> Self {
        Self { kind, flags, stream: 0, payload: payload.to_vec(), at: 0 }
    }

    pub fn is_block(&self) -> bool {
        matches!(self.kind, FRAME_HEADERS | FRAME_CONTINUATION | FRAME_PUSH_PROMISE)
    }

    /// Bytes of DATA, without padding.
    pub fn bytes(&self) -> &[u8] {
        match (self.kind, self.flags & FLAG_PADDED) {
            (FRAME_DATA, 0) => &self.payload,
            (FRAME_DATA, _) => &self.payload[1..self.payload.len() - usize::from(self.payload[0])],
            _ => &[],
        }
    }

    pub fn ends(&self) -> bool {
        matches!(self.kind, FRAME_DATA | FRAME_HEADERS) && self.flags & FLAG_END_STREAM != 0
    }
}

/// Frames that are sent behind one another, nothing between them.
pub type Unit = Vec<Sent>;

/// What both ends say in a call, whole.
#[derive(Clone, Debug)]
pub struct Call {
    pub ways: [Vec<Unit>; 2],
    pub framed: bool,
}

/// What happens next.
#[derive(Clone, Debug)]
pub enum Turn {
    /// A request begins, with this many of its units.
    Begin(usize),
    /// A call goes on in a direction, by so many units.
    GoOn(Index, usize, usize),
    /// A frame of the connection.
    Other(usize, Sent),
    /// A packet of a part of the bytes that were sent, or all.
    Pass(usize, Option<Index>),
    /// Two packets that arrive, the second one before the first.
    Swap(Index),
    /// The agent asks for calls to be counted like one that was told.
    Count(Index),
    CountAll,
    GiveBack(Index),
}

/// A packet of a direction: where its bytes begin and end, and when it came.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    pub begin: usize,
    pub end: usize,
    pub time_ns: u64,
}

/// One direction of the wire.
#[derive(Default)]
pub struct Way {
    bytes: Vec<u8>,
    passed: usize,
    pub sent: Vec<Sent>,
    pub packets: Vec<Packet>,
}

/// What the ends of the connection do.
pub struct Ends {
    pub connection: Connection,
    pub calls: Vec<Call>,
    pub ways: [Way; 2],
    /// How many units of each call were sent in each direction.
    done: Vec<[usize; 2]>,
    /// Sequence numbers of what the directions begin with.
    pub begin: [u32; 2],
}

pub fn stream(call: usize) -> u32 {
    call as u32 * 2 + 1
}

impl Ends {
    pub fn new(asks: u8, calls: Vec<Call>) -> Self {
        let connection = Connection::of(asks);
        let asks = usize::from(asks);
        let begin = [connection.sequences[asks], connection.sequences[1 - asks]];
        Self { connection, calls, ways: <[Way; 2]>::default(), done: vec![], begin }
    }

    fn send(&mut self, way: usize, mut sent: Sent) {
        let way = &mut self.ways[way];
        sent.at = way.bytes.len();
        way.bytes.extend(frame(sent.kind, sent.flags, sent.stream, &sent.payload));
        way.sent.push(sent);
    }

    /// Whether the answering end has seen that a call began.
    fn has_arrived(&self, call: usize) -> bool {
        let way = &self.ways[0];
        let of_call = |sent: &&Sent| sent.stream == stream(call);
        let first = way.sent.iter().find(of_call);
        first.is_some_and(|sent| way.passed >= sent.at + 9 + sent.payload.len())
    }

    fn go_on(&mut self, call: usize, way: usize, units: usize) {
        if way == 1 && !self.has_arrived(call) {
            return;
        }
        let done = self.done[call][way];
        let next: Vec<Unit> =
            self.calls[call].ways[way].iter().skip(done).take(units).cloned().collect();
        self.done[call][way] += next.len();
        for sent in next.concat() {
            self.send(way, Sent { stream: stream(call), ..sent });
        }
    }

    fn pass(&mut self, way: usize, part: Option<Index>) {
        let of = &mut self.ways[way];
        let left = of.bytes.len() - of.passed;
        let count = part.map_or(left, |part| part.index(left + 1));
        if count == 0 {
            return;
        }
        let packet = of.bytes[of.passed..of.passed + count].to_vec();
        let begin = of.passed;
        of.passed += count;
        if way == 0 {
            self.connection.ask(&packet);
        } else {
            self.connection.answer(&packet);
        }
        let time_ns = self.connection.port.now_ns;
        self.ways[way].packets.push(Packet { begin, end: begin + count, time_ns });
    }

    /// What arrives first is set aside, in pieces.
    fn swap(&mut self, part: Index) {
        let way = usize::from(self.connection.asks != INGRESS);
        let of = &mut self.ways[way];
        let begin = of.passed;
        let count = (of.bytes.len() - begin).min(PIECE * usize::from(ASIDE));
        if count < 2 {
            return;
        }
        let (middle, end) = (begin + 1 + part.index(count - 1), begin + count);
        let (first, second) = (of.bytes[begin..middle].to_vec(), of.bytes[middle..end].to_vec());
        of.passed = end;
        let place = self.connection.skip(&first);
        self.connection.send(INGRESS, 0, &second);
        self.connection.send_at(INGRESS, 0, place, &first);
        let time_ns = self.connection.port.now_ns;
        let pieces = (middle..end).step_by(PIECE).map(|begin| (begin, end.min(begin + PIECE)));
        for (begin, end) in [(begin, middle)].into_iter().chain(pieces) {
            self.ways[way].packets.push(Packet { begin, end, time_ns });
        }
    }

    pub fn take(&mut self, turn: Turn) {
        let begun = self.done.len();
        match turn {
            Turn::Begin(units) if begun < self.calls.len() => {
                self.done.push([0; 2]);
                self.go_on(begun, 0, units);
            }
            Turn::GoOn(call, way, units) if begun > 0 => {
                // One of the latest.
                let call = begun - 1 - call.index(begun.min(6));
                self.go_on(call, way, units);
            }
            Turn::Other(way, other) => self.send(way, other),
            Turn::Pass(way, part) => self.pass(way, part),
            Turn::Count(call) if begun > 0 => {
                self.connection.count(stream(call.index(begun)));
            }
            Turn::Swap(part) => self.swap(part),
            Turn::CountAll => self.connection.count_all(),
            Turn::GiveBack(slot) if !self.connection.port.slots.is_empty() => {
                let slot = slot.index(self.connection.port.slots.len());
                self.connection.give_back(slot);
            }
            _ => {}
        }
    }

    /// Everything that is left, and the end.
    pub fn finish(&mut self) {
        while self.done.len() < self.calls.len() {
            self.take(Turn::Begin(9));
        }
        for way in [0, 1] {
            for call in 0..self.calls.len() {
                self.go_on(call, way, 9);
                if call % 5 == 0 {
                    self.pass(way, None);
                }
            }
            self.pass(way, None);
        }
        self.connection.close();
    }
}
