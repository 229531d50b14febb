//! Compares what was told and counted with what was sent.

extern crate std;

use std::collections::{BTreeSet, HashMap};
use std::vec;
use std::vec::Vec;

use super::agent::tag;
use super::recorder::Frame;
use super::wire::{Ends, Sent, Way, stream};
use super::*;
use crate::event::{FLAG_PADDED, FRAME_RST_STREAM, Waited};
use crate::streams::block::{leaves, shape};

/// What is expected of the version of the table behind each block, by where its frame begins.
fn versions(way: &Way) -> HashMap<usize, (u32, bool)> {
    let mut versions = HashMap::new();
    let mut version = 1;
    for sent in way.sent.iter().filter(|sent| sent.is_block()) {
        let begin = sent.at + 9;
        let end = begin + sent.payload.len();
        let whole = begin == end
            || way.packets.iter().any(|packet| packet.begin <= begin && end <= packet.end);
        let plain = sent.kind == FRAME_HEADERS && shape(sent.flags) == 0;
        let changes = !(plain && whole && leaves(&sent.payload));
        version += u32::from(changes);
        versions.insert(sent.at, (version, changes));
    }
    versions
}

/// Messages whose prefix is whole in these bytes.
fn messages(mut bytes: &[u8]) -> u64 {
    let mut count = 0;
    while let [_, a, b, c, d, rest @ ..] = bytes {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        bytes = rest.get(length..).unwrap_or_default();
        count += 1;
    }
    count
}

/// A call that is in no record: what its counts have to say.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Counted {
    tag: u64,
    asked: u64,
    answered: u64,
    head: u64,
    tail: u64,
    messages: Option<[u64; 2]>,
}

/// Compares what was told with what was sent.
pub struct Account<'a> {
    ends: &'a Ends,
    versions: [HashMap<usize, (u32, bool)>; 2],
}

impl<'a> Account<'a> {
    pub fn of(ends: &'a Ends) -> Self {
        Self { ends, versions: [versions(&ends.ways[0]), versions(&ends.ways[1])] }
    }

    fn way(&self, frame: &Frame) -> usize {
        usize::from(frame.direction != self.ends.connection.asks)
    }

    fn at(&self, way: usize, sequence: u32) -> usize {
        sequence.wrapping_sub(self.ends.begin[way]) as usize
    }

    fn waited(&self) -> Vec<&Waited> {
        let told = self.ends.connection.port.told.iter();
        told.filter_map(|told| match told {
            Told::Waited(waited) => Some(waited),
            _ => None,
        })
        .collect()
    }

    fn frames(&self) -> Vec<&Frame> {
        let told = self.ends.connection.port.told.iter();
        told.filter_map(|told| match told {
            Told::Frame(frame) => Some(frame),
            _ => None,
        })
        .collect()
    }

    fn frames_of(&self, way: usize, stream: u32) -> Vec<&Frame> {
        let all = self.frames().into_iter();
        all.filter(|frame| self.way(frame) == way && frame.stream == stream).collect()
    }

    fn sent_of(&self, way: usize, stream: u32) -> Vec<&Sent> {
        self.ends.ways[way].sent.iter().filter(|sent| sent.stream == stream).collect()
    }

    /// What a block is known by.
    fn tag(&self, way: usize, sent: &Sent) -> u64 {
        let (version, changes) = self.versions[way][&sent.at];
        assert!(!changes, "{sent:?} may not have been counted");
        let asks = self.ends.connection.asks;
        tag(&sent.payload, version, if way == 0 { asks } else { 1 - asks })
    }

    fn time_ns(&self, way: usize, at: usize) -> u64 {
        let packets = &self.ends.ways[way].packets;
        packets.iter().find(|packet| packet.begin <= at && at < packet.end).unwrap().time_ns
    }

    /// Each frame that was told is one that was sent, of the version that it says.
    fn check_frame(&self, frame: &Frame) {
        let way = self.way(frame);
        let at = self.at(way, frame.sequence);
        let sent = self.ends.ways[way].sent.iter().find(|sent| sent.at == at).unwrap();
        assert_eq!((frame.kind, frame.flags, frame.stream), (sent.kind, sent.flags, sent.stream));
        if frame.kind == FRAME_DATA {
            assert_eq!(frame.length as usize, sent.bytes().len());
        } else {
            assert_eq!(frame.payload, sent.payload);
        }
        if sent.is_block() {
            let (version, changes) = self.versions[way][&at];
            assert_eq!((frame.table >> 1, frame.table & 1 != 0), (version, changes), "{sent:?}");
        }
    }

    /// How much of a stream's direction passed before it was told, given what was told behind:
    /// this, and nothing else, is missing.
    fn passed(&self, way: usize, stream: u32) -> Vec<&Sent> {
        let (sent, told) = (self.sent_of(way, stream), self.frames_of(way, stream));
        let (passed, rest) = sent.split_at(sent.len() - told.len());
        let told: Vec<_> = told.iter().map(|frame| self.at(way, frame.sequence)).collect();
        assert_eq!(told, rest.iter().map(|sent| sent.at).collect::<Vec<_>>(), "stream {stream}");
        passed.to_vec()
    }

    /// Nothing of a stream is told before the record that says that it waited.
    fn check_order(&self, stream: u32) {
        let of_stream = |told: &Told| match told {
            Told::Waited(record) => (record.stream == stream).then_some(true),
            Told::Frame(frame) => (frame.stream == stream).then_some(false),
            Told::Lost => None,
        };
        let first = self.ends.connection.port.told.iter().find_map(of_stream);
        assert_eq!(first, Some(true), "stream {stream}");
    }

    /// What a record says of a stream is what passed of it.
    fn check_waited(&self, record: &Waited, framed: bool) {
        self.check_order(record.stream);
        let asked = self.passed(0, record.stream);
        let [head, bodies @ ..] = &*asked else { panic!("{record:?}") };
        assert_eq!(record.tag, self.tag(0, head));
        assert_eq!(self.at(0, record.sequence), head.at);
        assert_eq!(record.first_ns, self.time_ns(0, head.at));
        assert_eq!(record.sent == 1, asked.iter().any(|sent| sent.ends()));
        check_bodies(bodies, (record.asked, record.asked_messages), framed);
        let answered = self.passed(1, record.stream);
        assert_eq!(record.answering == 1, !answered.is_empty());
        let Some((head, bodies)) = answered.split_first() else {
            assert_eq!((record.answered, record.answered_messages, record.head_ns), (0, 0, 0));
            return;
        };
        assert_eq!(head.kind, FRAME_HEADERS);
        assert_eq!(record.head_ns, self.time_ns(1, head.at));
        assert!(self.ends.connection.port.expects(record.tag, self.tag(1, head)));
        assert!(answered.iter().all(|sent| !sent.ends()));
        check_bodies(bodies, (record.answered, record.answered_messages), framed);
    }

    fn counted(&self, call: usize) -> Counted {
        let (asks, answers) = (self.passed(0, stream(call)), self.passed(1, stream(call)));
        assert!(asks.iter().any(|sent| sent.ends()) && answers.last().unwrap().ends());
        let blocks: Vec<_> = answers.iter().filter(|sent| sent.is_block()).collect();
        let body = |sent: &[&Sent]| sent.iter().flat_map(|sent| sent.bytes().to_vec()).collect();
        let bodies: [Vec<u8>; 2] = [body(&asks), body(&answers)];
        let framed = self.ends.calls[call].framed;
        Counted {
            tag: self.tag(0, asks[0]),
            asked: bodies[0].len() as u64,
            answered: bodies[1].len() as u64,
            head: self.tag(1, blocks[0]),
            tail: blocks.get(1).map_or(0, |sent| self.tag(1, sent)),
            messages: framed.then(|| bodies.map(|body| messages(&body))),
        }
    }

    /// Messages of a stream that was told from its beginning, or as it goes on.
    fn check_messages(&self, way: usize, stream: u32, before: u16) {
        let told = self.frames_of(way, stream);
        let told: u64 = told.iter().map(|frame| u64::from(frame.messages.unwrap_or(0))).sum();
        let sent = self.sent_of(way, stream);
        let bytes: Vec<u8> = sent.iter().flat_map(|sent| sent.bytes().to_vec()).collect();
        assert_eq!(told + u64::from(before), messages(&bytes), "stream {stream}, way {way}");
    }

    /// Whether any of a call was told. A stream that is over may be reset all the same.
    fn is_told(&self, call: usize) -> bool {
        let stream = stream(call);
        let frames = [self.frames_of(0, stream), self.frames_of(1, stream)].concat();
        let is_over =
            [0, 1].iter().all(|way| self.passed(*way, stream).iter().any(|sent| sent.ends()));
        frames.iter().any(|frame| !is_over || frame.kind != FRAME_RST_STREAM)
    }

    pub fn check(&self) {
        self.frames().iter().for_each(|frame| self.check_frame(frame));
        let (waited, port) = (self.waited(), &self.ends.connection.port);
        let mut let_wait = BTreeSet::new();
        let mut counted = vec![];
        for (call, said) in self.ends.calls.iter().enumerate() {
            let stream = stream(call);
            let records: Vec<_> = waited.iter().filter(|record| record.stream == stream).collect();
            assert!(records.len() <= 1, "told twice: {records:?}");
            let is_told = self.is_told(call);
            match records.first() {
                Some(record) => self.check_waited(record, said.framed),
                None if is_told => {
                    let passed = [self.passed(0, stream), self.passed(1, stream)];
                    assert!(passed.concat().is_empty(), "stream {stream}: {passed:?}");
                }
                None => counted.push(self.counted(call)),
            }
            if !records.is_empty() || !is_told {
                let_wait.insert(stream);
            }
            if said.framed && (is_told || !records.is_empty()) {
                let record =
                    records.first().map(|record| [record.asked_messages, record.answered_messages]);
                let before = record.unwrap_or_default();
                self.check_messages(0, stream, before[0]);
                self.check_messages(1, stream, before[1]);
            }
        }
        self.check_waits(&let_wait, counted.len(), waited.len());
        let added = port.added.iter().map(|added| Counted {
            tag: added.tag,
            asked: added.asked.into(),
            answered: added.answer.body,
            head: added.expected.head,
            tail: added.expected.tail,
            messages: (added.expected.framed != 0)
                .then(|| [added.expected.asked.into(), added.expected.answered.into()]),
        });
        let mut added: Vec<_> = added.collect();
        added.sort();
        counted.sort();
        assert_eq!(counted, added);
        let sum = |of: fn(&crate::repeat::Counts) -> u64| -> u64 {
            port.slots.iter().map(|slot| of(&slot.counts)).sum()
        };
        assert_eq!(sum(|counts| counts.asked), added.iter().map(|added| added.asked).sum());
        assert_eq!(sum(|counts| counts.bytes), added.iter().map(|added| added.answered).sum());
        let calls = sum(|counts| counts.calls.iter().copied().map(u64::from).sum());
        assert_eq!(calls, added.len() as u64);
    }

    fn check_waits(&self, let_wait: &BTreeSet<u32>, counted: usize, told: usize) {
        let waits = self.ends.connection.waits();
        assert_eq!(waits.let_wait, waits.decided);
        assert_eq!(waits.let_wait as usize, let_wait.len());
        assert_eq!((waits.decided - waits.told) as usize, counted);
        assert_eq!(waits.told as usize, told);
        for (record, number) in self.waited().iter().zip(1..) {
            assert_eq!(record.told, number);
        }
        // What requests say that are told: how many before them were let wait.
        for frame in self.frames() {
            let begins = frame.kind == FRAME_HEADERS
                && self.way(frame) == 0
                && self.sent_of(0, frame.stream)[0].at == self.at(0, frame.sequence);
            if begins {
                let before = let_wait.range(..frame.stream).count();
                assert_eq!(frame.waited as usize, before, "stream {}", frame.stream);
            }
        }
    }
}

fn check_bodies(sent: &[&Sent], (bytes, count): (u32, u16), framed: bool) {
    assert!(sent.iter().all(|sent| sent.kind == FRAME_DATA && sent.flags & FLAG_PADDED == 0));
    let all: Vec<u8> = sent.iter().flat_map(|sent| sent.bytes().to_vec()).collect();
    assert_eq!(bytes as usize, all.len());
    assert_eq!(u64::from(count), if framed { messages(&all) } else { 0 });
}
