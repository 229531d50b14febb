//! The kernel half's walk through frames of HTTP/2: however the bytes behind a preface are cut
//! into segments, the same frames are told, until boundaries are lost.
//!
//! The input is a byte that seeds the cuts, then frames: each behind one byte that says its
//! kind, one its flags, one its stream, one the length of its payload, which follows; or, of an
//! odd seed, the bytes as they are.
#![no_main]

use std::collections::HashMap;
use std::mem::MaybeUninit;

use libfuzzer_sys::fuzz_target;
use meshtap_ebpf::event::{
    Data, Desynchronised, FRAME_DATA, Frames, Head, Header, INGRESS, Item, Kind, MESSAGE_UNKNOWN,
};
use meshtap_ebpf::flow::{Flow, WINDOW_START};
use meshtap_ebpf::frames::{FramePort, FrameWalk, carries_frames};
use meshtap_ebpf::walk::{Port, Shared, VERDICT_OPAQUE, VERDICT_OPEN, Walk};
use zerocopy::{FromBytes as _, IntoBytes};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Debug, PartialEq, Eq)]
enum Told {
    Frame { kind: u8, flags: u8, stream: u32, payload: Vec<u8> },
    Data { flags: u8, stream: u32, length: u32, messages: Option<u32> },
    Lost(u8),
}

#[derive(Default)]
struct Recorder {
    packet: Vec<u8>,
    told: Vec<Told>,
    /// A frame of which a piece is missing, and how long it is.
    open: Option<(Told, usize)>,
    /// Streams' places in their messages.
    after: HashMap<u32, u32>,
    places: HashMap<(u64, u64), u64>,
}

impl Recorder {
    fn item(&mut self, item: &Item, bytes: &[u8]) {
        let Item { stream, length, offset, kind, flags, .. } = *item;
        if kind == FRAME_DATA {
            let data = Data::ref_from_prefix(bytes).expect("what is counted of DATA").0;
            let place = self.after.insert(stream, data.after).unwrap_or(0);
            let known = place == data.before && data.after != MESSAGE_UNKNOWN;
            if !known {
                self.after.insert(stream, MESSAGE_UNKNOWN);
            }
            let messages = known.then_some(data.messages);
            return self.told.push(Told::Data { flags, stream, length, messages });
        }
        let whole = length as usize;
        let fresh = Told::Frame { kind, flags, stream, payload: Vec::new() };
        let (mut frame, _) = self.open.take().unwrap_or((fresh, whole));
        let Told::Frame { kind: begun, stream: of, payload, .. } = &mut frame else { return };
        assert_eq!((*begun, *of), (kind, stream), "pieces of one frame");
        assert_eq!(offset as usize, payload.len(), "one piece behind the other");
        payload.extend_from_slice(bytes);
        assert!(payload.len() <= whole);
        if payload.len() == whole {
            self.told.push(frame);
        } else {
            self.open = Some((frame, whole));
        }
    }
}

impl Port for Recorder {
    fn load(&mut self, flow: &mut Flow, offset: u32, length: u32) -> bool {
        self.load_at(flow, WINDOW_START as u32, offset, length)
    }

    fn send_head(&mut self, _: &mut Flow, _: &mut Shared, _: u32) {
        // The preface in many segments begins like a request.
    }

    fn send<T: IntoBytes>(&mut self, _: &mut Shared, fill: impl FnOnce(*mut T)) {
        let mut place = vec![0u64; size_of::<T>().div_ceil(8)];
        fill(place.as_mut_ptr().cast());
        let bytes = place.as_slice().as_bytes();
        let kind = Header::ref_from_prefix(bytes).expect("a record").0.kind;
        if kind == Kind::Desynchronised as u8 {
            let lost = Desynchronised::ref_from_prefix(bytes).expect("a loss").0;
            self.told.push(Told::Lost(lost.reason));
            self.open = None;
        }
    }

    fn measure(&mut self, _: &mut Head) {}

    fn set_aside(&mut self, _: &mut Flow) -> u8 {
        0
    }

    fn prefix(&self) -> u32 {
        1024
    }
}

impl FramePort for Recorder {
    fn load_at(&mut self, flow: &mut Flow, at: u32, offset: u32, length: u32) -> bool {
        let (at, offset, length) = (at as usize, offset as usize, length as usize);
        assert!(length > 0);
        let bytes = &self.packet[offset..offset + length];
        flow.buffer[at..at + length].copy_from_slice(bytes);
        true
    }

    fn send_frames(&mut self, flow: &mut Flow, _: &mut Shared, length: u32) -> bool {
        let record = Frames::ref_from_prefix(&flow.buffer[..length as usize]);
        let Ok((record, mut rest)) = record else { panic!("frames that are too short") };
        assert_eq!(usize::from(record.header.length), rest.len());
        while !rest.is_empty() {
            let Ok((item, behind)) = Item::read_from_prefix(rest) else { panic!("a cut item") };
            let bytes = usize::from(item.bytes);
            self.item(&item, &behind[..bytes]);
            rest = &behind[bytes.next_multiple_of(8)..];
        }
        true
    }

    fn keep(&mut self, stream: u64, cookie: u64, place: u64) {
        self.places.insert((stream, cookie), place);
    }

    fn take(&mut self, stream: u64, cookie: u64) -> Option<u64> {
        self.places.remove(&(stream, cookie))
    }
}

struct Direction {
    flow: Flow,
    shared: Shared,
    port: Recorder,
    sequence: u32,
}

impl Direction {
    fn new() -> Self {
        // SAFETY: every field of a flow is valid as zero; so socket storage makes it.
        let mut flow: Flow = unsafe { MaybeUninit::zeroed().assume_init() };
        let sequence = u32::MAX - 40;
        flow.place(sequence);
        Self { flow, shared: Shared::default(), port: Recorder::default(), sequence }
    }

    fn send(&mut self, bytes: &[u8]) {
        let start = self.sequence;
        self.sequence = start.wrapping_add(bytes.len() as u32);
        if self.shared.verdict == VERDICT_OPAQUE {
            return;
        }
        self.port.packet = bytes.to_vec();
        (self.flow.segment_start, self.flow.segment_end) = (start, self.sequence);
        if carries_frames(&self.flow, &self.shared) {
            if self.frames().enter() {
                self.walk(bytes.len());
            }
            return;
        }
        // As the programs do: lines, until they are none.
        let mut lines = self.lines();
        if !lines.enter() {
            return;
        }
        while lines.step() {}
        let gave_up = lines.flow.trouble == meshtap_ebpf::event::LOST_SYNTAX
            && lines.shared.verdict == VERDICT_OPEN;
        if gave_up && self.frames().recognise() {
            self.walk(bytes.len());
        } else {
            self.lines().leave();
        }
    }

    fn walk(&mut self, length: usize) {
        let mut frames = self.frames();
        let mut steps = 0;
        while frames.step() {
            steps += 1;
            assert!(steps <= 64 + 8 * length, "the walk does not end");
        }
        frames.leave();
    }

    fn lines(&mut self) -> Walk<'_, Recorder> {
        let Self { flow, shared, port, .. } = self;
        Walk { flow, shared, port, direction: INGRESS }
    }

    fn frames(&mut self) -> FrameWalk<'_, Recorder> {
        let Self { flow, shared, port, .. } = self;
        FrameWalk { flow, shared, port, direction: INGRESS }
    }

    /// Where frames end in the middle of a stream of them, others may be found: what comes
    /// behind a loss depends on where a segment begins.
    fn until_lost(&self) -> &[Told] {
        let lost = self.port.told.iter().position(|told| matches!(told, Told::Lost(_)));
        &self.port.told[..lost.map_or(self.port.told.len(), |at| at + 1)]
    }
}

fn written(bytes: &[u8]) -> Vec<u8> {
    let (mut rest, mut out) = (bytes, Vec::new());
    while let Some(([kind, flags, stream, length], tail)) = rest.split_first_chunk() {
        let (payload, behind) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = behind;
        out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
        out.extend_from_slice(&[kind % 10, *flags, 0, 0, 0, *stream]);
        out.extend_from_slice(payload);
    }
    out
}

fuzz_target!(|bytes: &[u8]| {
    let Some((seed, rest)) = bytes.split_first() else { return };
    let sent = if seed & 1 == 0 { written(rest) } else { rest.to_vec() };
    let sent = [PREFACE, &sent].concat();
    let (mut whole, mut cut) = (Direction::new(), Direction::new());
    whole.send(&sent);
    let (mut left, mut state) = (&*sent, u64::from(*seed));
    while !left.is_empty() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let size = 1 + (state >> 33) as usize % (1 + usize::from(*seed));
        let (piece, behind) = left.split_at(size.min(left.len()));
        cut.send(piece);
        left = behind;
    }
    assert_eq!(whole.until_lost(), cut.until_lost());
    for direction in [&mut whole, &mut cut] {
        direction.frames().break_off();
    }
});
