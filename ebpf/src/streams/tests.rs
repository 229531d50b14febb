//! A whole connection by hand: packets of both directions in; frames, streams that waited and
//! counts out. What the programs do around the walks is done here in the same order.

extern crate std;

mod account;
mod agent;
mod block;
mod calls;
mod losses;
mod properties;
mod recorder;
mod wire;

use std::string::String;

use std::vec::Vec;

use super::*;
use crate::event::{EGRESS, FLAG_END_HEADERS, FLAG_END_STREAM, FRAME_DATA, FRAME_HEADERS, INGRESS};
use crate::flow::Flow;
use crate::frames::FrameWalk;
use crate::frames::tests::{PREFACE, frame, message};
use crate::walk::{Shared, VERDICT_HTTP2};
use recorder::{Recorder, Told};

/// TCP flags of a packet.
const FIN: u8 = 1;
/// The same.
const RESET: u8 = 4;
/// Steps of [`FrameWalk`] in one program.
const STEPS: u32 = 176;
/// Steps of [`StreamWalk`] in one program.
const LOOKS: u32 = 4 * 32;
/// Programs that one packet may go through.
const PARTS: u32 = 33;

/// What a program leaves the packet to.
enum Part {
    Frames,
    Streams,
    Nothing,
}

/// A connection as the programs follow it.
struct Connection {
    flows: [Flow; 2],
    shared: Shared,
    port: Recorder,
    /// Where the next packet of each direction begins.
    sequences: [u32; 2],
    /// The direction of the requests.
    asks: u8,
    /// What TCP has received in order.
    received: u32,
    /// How many programs the latest packet went through.
    parts: u32,
}

impl Connection {
    /// One that begins.
    fn of(asks: u8) -> Self {
        // SAFETY: all zero is the state of a new flow.
        let flow: Flow = unsafe { core::mem::zeroed() };
        let shared = Shared { verdict: VERDICT_HTTP2, ..Shared::default() };
        let sequences = [u32::MAX - 400, 70_000];
        let port = Recorder::default();
        let mut connection = Self {
            flows: [flow; 2],
            shared,
            port,
            sequences,
            asks,
            received: sequences[0],
            parts: 0,
        };
        for flow in &mut connection.flows {
            flow.cookie = recorder::COOKIE;
        }
        connection.ask(&[PREFACE, &frame(crate::event::FRAME_SETTINGS, 0, 0, &[])].concat());
        connection.answer(&frame(crate::event::FRAME_SETTINGS, 0, 0, &[]));
        connection.port.told.clear();
        connection
    }

    /// The end that asks.
    fn new() -> Self {
        Self::of(EGRESS)
    }

    fn ask(&mut self, bytes: &[u8]) {
        self.send(self.asks, 0, bytes);
    }

    fn answer(&mut self, bytes: &[u8]) {
        self.send(1 - self.asks, 0, bytes);
    }

    fn send(&mut self, direction: u8, flags: u8, bytes: &[u8]) {
        let sequence = self.sequences[usize::from(direction)];
        self.sequences[usize::from(direction)] = sequence.wrapping_add(bytes.len() as u32);
        self.send_at(direction, flags, sequence, bytes);
    }

    /// A packet arrives that nobody looks at.
    fn miss(&mut self, bytes: &[u8]) {
        let sequence = self.skip(bytes);
        self.received = sequence.wrapping_add(bytes.len() as u32);
    }

    /// A packet will arrive later, here.
    fn skip(&mut self, bytes: &[u8]) -> u32 {
        let next = &mut self.sequences[usize::from(INGRESS)];
        let sequence = *next;
        *next = sequence.wrapping_add(bytes.len() as u32);
        sequence
    }

    fn send_at(&mut self, direction: u8, flags: u8, sequence: u32, bytes: &[u8]) {
        self.port.packet = bytes.to_vec();
        self.port.direction = direction;
        self.port.now_ns += 1_000;
        let flow = &mut self.flows[usize::from(direction)];
        flow.now_ns = self.port.now_ns;
        (flow.segment_start, flow.payload, flow.flags) = (sequence, 0, flags);
        flow.segment_end = sequence.wrapping_add(bytes.len() as u32);
        if flow.placed == 0 {
            flow.place(sequence);
        } else if direction == INGRESS && sequence != flow.edge.end {
            flow.catch_up(self.received);
        }
        if direction == INGRESS && sequence == self.received {
            self.received = self.sequences[usize::from(INGRESS)];
        }
        self.follow(direction);
    }

    fn frames(&mut self, direction: u8) -> FrameWalk<'_, Recorder> {
        let Self { flows, shared, port, .. } = self;
        FrameWalk { flow: &mut flows[usize::from(direction)], shared, port, direction }
    }

    fn streams(&mut self, direction: u8) -> StreamWalk<'_, Recorder> {
        let Self { flows, shared, port, .. } = self;
        let streams = port.streams;
        StreamWalk { flow: &mut flows[usize::from(direction)], shared, port, direction, streams }
    }

    /// The first program, and those that it leaves the packet to.
    fn follow(&mut self, direction: u8) {
        let mut part = self.enter(direction);
        self.parts = 0;
        loop {
            part = match part {
                Part::Frames => self.walk_on(direction),
                Part::Streams => self.look(direction),
                Part::Nothing => return,
            };
            self.parts += 1;
            assert!(self.parts < PARTS, "a packet is left to one program after the other");
        }
    }

    fn enter(&mut self, direction: u8) -> Part {
        let wait = self.shared.misses != 0;
        let mut frames = self.frames(direction);
        let ends = frames.flow.flags & (FIN | RESET) != 0;
        frames.flow.paused = 0;
        if ends && wait {
            return Part::Streams;
        }
        if frames.flow.holds_payload() && frames.enter() {
            let looks = !ends && (wait || frames.begins());
            return if looks { Part::Streams } else { Part::Frames };
        }
        self.end(direction)
    }

    /// The program that walks over frames.
    fn walk_on(&mut self, direction: u8) -> Part {
        let mut frames = self.frames(direction);
        let mut steps = 0;
        while steps < STEPS && frames.step() {
            steps += 1;
        }
        if steps == STEPS {
            return Part::Frames;
        }
        if frames.is_paused() {
            return Part::Streams;
        }
        frames.leave();
        if direction == INGRESS {
            self.walk_aside();
        }
        self.end(direction)
    }

    /// Walks what was set aside.
    fn walk_aside(&mut self) {
        while self.flows[usize::from(INGRESS)].aside > 0 {
            let begins = self.flows[usize::from(INGRESS)].edge.end;
            let Some(bytes) = self.port.aside.remove(&begins) else {
                return self.flows[usize::from(INGRESS)].pass_unseen();
            };
            let mut frames = self.frames(INGRESS);
            frames.flow.take_aside();
            frames.flow.segment_start = begins;
            frames.flow.segment_end = begins.wrapping_add(bytes.len() as u32);
            frames.flow.payload = 0;
            frames.port.packet = bytes;
            while frames.step() {}
            frames.leave();
        }
    }

    /// The program that looks at frames before they are told.
    fn look(&mut self, direction: u8) -> Part {
        let mut frames = self.frames(direction);
        frames.flush();
        let begins = frames.begins();
        let next = self.pass(direction, begins);
        let mut frames = self.frames(direction);
        let ends = frames.flow.flags & (FIN | RESET) != 0;
        let goes_on = !ends || (frames.flow.holds_payload() && frames.enter());
        if next == Next::Done {
            frames.leave();
        } else if goes_on {
            match next {
                Next::Blocked => frames.exhaust(),
                Next::Step => return Part::Streams,
                _ => return Part::Frames,
            }
        }
        self.end(direction)
    }

    fn pass(&mut self, direction: u8, begins: bool) -> Next {
        let mut walk = self.streams(direction);
        let ends = walk.flow.flags & (FIN | RESET) != 0;
        if let Some(next) = walk.begin(begins, ends) {
            return next;
        }
        let mut looks = 0;
        // Each finds anew where streams wait, as several calls of one program do.
        while looks < LOOKS && self.streams(direction).step() {
            looks += 1;
        }
        self.streams(direction).stop()
    }

    /// After the walk.
    fn end(&mut self, direction: u8) -> Part {
        let mut frames = self.frames(direction);
        let flags = frames.flow.flags;
        if frames.flow.reaches_fin(flags & FIN != 0) || flags & RESET != 0 {
            frames.break_off();
        }
        Part::Nothing
    }

    /// The socket ends.
    fn close(&mut self) {
        if self.shared.misses != 0 {
            self.port.tell_streams(&mut self.shared, 0);
        }
        self.frames(INGRESS).break_off();
        self.frames(EGRESS).break_off();
    }

    /// What was told, in short.
    fn told(&self) -> Vec<String> {
        self.port.told.iter().map(|told| told.in_short(self.asks)).collect()
    }

    /// The streams as they are.
    fn waits(&self) -> Streams {
        self.port.waits()
    }
}

/// What a gRPC client asks, but for what differs.
fn grpc() -> Vec<u8> {
    // `content-type` is the 31st of the static table.
    [&[0x83, 0x86, 0x0f, 16, 16], &b"application/grpc"[..]].concat()
}

/// The head of its answer.
fn granted() -> Vec<u8> {
    [&[0x88, 0x0f, 16, 16], &b"application/grpc"[..]].concat()
}

/// What stands behind the answer.
fn status(status: u8) -> Vec<u8> {
    [&[0, 11], &b"grpc-status"[..], &[1, b'0' + status]].concat()
}

/// A frame that is a whole block of headers.
fn headers(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(FRAME_HEADERS, FLAG_END_HEADERS | flags, stream, block)
}

fn data(stream: u32, flags: u8, bytes: &[u8]) -> Vec<u8> {
    frame(FRAME_DATA, flags, stream, bytes)
}

/// A request of one message.
fn asked(stream: u32) -> Vec<u8> {
    [headers(stream, 0, &grpc()), data(stream, FLAG_END_STREAM, &message(7))].concat()
}

/// Its answer.
fn answered(stream: u32) -> Vec<u8> {
    let parts = [
        headers(stream, 0, &granted()),
        data(stream, 0, &message(20)),
        headers(stream, FLAG_END_STREAM, &status(0)),
    ];
    parts.concat()
}

/// A connection on which such calls are counted, after the first, which was told.
fn counting() -> Connection {
    counting_of(EGRESS)
}

fn counting_of(asks: u8) -> Connection {
    let mut connection = Connection::of(asks);
    connection.ask(&asked(1));
    connection.answer(&answered(1));
    assert!(connection.count(1), "{:?}", connection.told());
    connection.port.told.clear();
    connection
}
