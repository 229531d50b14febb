//! Connections of HTTP/2: a socket that plays the kernel half frame by frame.

mod calls;
mod endings;
mod late;
mod losses;
mod properties;
mod rpc;
mod upgrade;
mod waited;

use meshtap_ebpf::event::{
    Data, FLAG_END_HEADERS, FLAG_END_STREAM, FRAME_CONTINUATION, FRAME_DATA, FRAME_GOAWAY,
    FRAME_HEADERS, FRAME_PUSH_PROMISE, FRAME_RST_STREAM, FRAME_SETTINGS, FRAMES_JOINED,
    FRAMES_PREFACE, FRAMES_UPGRADED, Item, LOST_GAP,
};
use meshtap_ebpf::streams::block;
use zerocopy::IntoBytes as _;

use super::*;
use crate::protocol::http2::Encoder;

/// A frame as it could pass: kind, flags, stream, payload.
#[derive(Clone, Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
    /// Length of DATA, of which the payload is only what the kernel says of it.
    length: u32,
}

/// One direction of a connection.
#[derive(Clone, Debug)]
struct Way {
    encoder: Encoder,
    sequence: u32,
    /// Of the table, as the kernel half counts it.
    version: u32,
}

/// Writes the records of one connection of HTTP/2.
#[derive(Clone, Debug)]
struct Wire {
    socket: Socket,
    /// By `INGRESS` and `EGRESS`.
    ways: [Way; 2],
    /// Streams that the kernel half let wait so far, and those of them that it told.
    let_wait: u32,
    told: u32,
}

const GET: [(&str, &str); 3] = [(":method", "GET"), (":scheme", "http"), (":authority", "shop")];
const OK: [(&str, &str); 1] = [(":status", "200")];

impl Frame {
    fn data(stream: u32, length: u32, end: bool, data: Data) -> Self {
        let flags = if end { FLAG_END_STREAM } else { 0 };
        Self { kind: FRAME_DATA, flags, stream, payload: data.as_bytes().to_vec(), length }
    }

    fn of(kind: u8, flags: u8, stream: u32, payload: Vec<u8>) -> Self {
        let length = u32::try_from(payload.len()).unwrap();
        Self { kind, flags, stream, payload, length }
    }

    fn reset(stream: u32, code: u32) -> Self {
        Self::of(FRAME_RST_STREAM, 0, stream, code.to_be_bytes().to_vec())
    }

    fn goaway(last: u32) -> Self {
        let payload = [last.to_be_bytes(), [0; 4]].concat();
        Self::of(FRAME_GOAWAY, 0, 0, [&payload[..], b"bye, bye"].concat())
    }
}

/// A frame's items, cut behind every `piece` bytes.
fn items(frame: &Frame, (sequence, table): (u32, u32), piece: usize) -> Vec<(Item, Vec<u8>)> {
    let item = |offset: usize, bytes: &[u8]| {
        let item = Item {
            sequence,
            stream: frame.stream,
            length: frame.length,
            offset: u32::try_from(offset).unwrap(),
            kind: frame.kind,
            flags: frame.flags,
            bytes: u16::try_from(bytes.len()).unwrap(),
            table,
        };
        (item, bytes.to_vec())
    };
    if frame.kind == FRAME_DATA || frame.payload.is_empty() {
        return vec![item(0, &frame.payload)];
    }
    let pieces = frame.payload.chunks(piece).enumerate();
    pieces.map(|(number, bytes)| item(number * piece, bytes)).collect()
}

impl Way {
    /// See [`Item::table`].
    fn table(&mut self, frame: &Frame) -> u32 {
        let is_block =
            matches!(frame.kind, FRAME_HEADERS | FRAME_CONTINUATION | FRAME_PUSH_PROMISE);
        let is_plain =
            frame.kind == FRAME_HEADERS && frame.flags & !FLAG_END_STREAM == FLAG_END_HEADERS;
        let changed = is_block && !(is_plain && block::leaves(&frame.payload));
        self.version += u32::from(changed);
        self.version << 1 | u32::from(changed)
    }
}

impl Wire {
    fn new(side: Side) -> Self {
        let way = Way { encoder: Encoder::new(), sequence: 1_000, version: 0 };
        Self { socket: Socket::new(side), ways: [way.clone(), way], let_wait: 0, told: 0 }
    }

    fn way(&mut self, direction: u8) -> &mut Way {
        &mut self.ways[usize::from(direction)]
    }

    fn asks(&self) -> u8 {
        self.socket.asks()
    }

    fn answers(&self) -> u8 {
        self.socket.answers()
    }

    /// HEADERS with the usual compression.
    fn headers(
        &mut self,
        direction: u8,
        stream: u32,
        headers: &[(&str, &str)],
        end: bool,
    ) -> Frame {
        let payload = self.way(direction).encoder.block(headers);
        let flags = FLAG_END_HEADERS | if end { FLAG_END_STREAM } else { 0 };
        Frame::of(FRAME_HEADERS, flags, stream, payload)
    }

    /// Items of frames that pass now, one behind the other.
    fn pass(&mut self, direction: u8, frames: &[Frame], piece: usize) -> Vec<(Item, Vec<u8>)> {
        let way = self.way(direction);
        let mut all = Vec::new();
        for frame in frames {
            let table = way.table(frame);
            all.extend(items(frame, (way.sequence, table), piece));
            way.sequence = way.sequence.wrapping_add(9 + frame.length);
        }
        all
    }

    fn record(&mut self, direction: u8, flags: u16, items: &[(Item, Vec<u8>)]) -> Record {
        let acknowledgement = self.way(1 - direction).sequence;
        let header = self.socket.header(direction, flags);
        let (srtt_us, retransmits) = (self.socket.srtt_us, self.socket.retransmits);
        let mut bytes = Vec::new();
        for (item, payload) in items {
            bytes.extend_from_slice(item.as_bytes());
            bytes.extend_from_slice(payload);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        let waited = if direction == self.asks() { self.let_wait } else { self.told };
        Record::Frames(Frames { header, acknowledgement, srtt_us, retransmits, waited }, bytes)
    }

    /// A packet with whole frames.
    fn frames(&mut self, direction: u8, flags: u16, frames: &[Frame]) -> Record {
        let items = self.pass(direction, frames, usize::MAX);
        self.record(direction, flags, &items)
    }

    fn preface(&mut self) -> Record {
        let settings = Frame::of(FRAME_SETTINGS, 0, 0, vec![0, 3, 0, 0, 0, 100]);
        self.frames(self.asks(), FRAMES_PREFACE, &[settings])
    }

    /// A request without a body.
    fn request(&mut self, stream: u32, path: &str) -> Record {
        let frame = self.asking(stream, path, true);
        self.frames(self.asks(), 0, &[frame])
    }

    fn asking(&mut self, stream: u32, path: &str, end: bool) -> Frame {
        let headers = [&GET[..], &[(":path", path)]].concat();
        self.headers(self.asks(), stream, &headers, end)
    }

    /// An answer without a body.
    fn answer(&mut self, stream: u32, status: &str) -> Record {
        self.answer_with(stream, &[(":status", status)], true)
    }

    fn answer_with(&mut self, stream: u32, headers: &[(&str, &str)], end: bool) -> Record {
        let frame = self.headers(self.answers(), stream, headers, end);
        self.frames(self.answers(), 0, &[frame])
    }

    fn desynchronised(&mut self, direction: u8) -> Record {
        let header = self.socket.header(direction, 0);
        Record::Desynchronised(Desynchronised {
            header,
            reason: LOST_GAP,
            ..Desynchronised::default()
        })
    }
}

/// A stage and a connection that has begun.
fn begun(side: Side) -> (Stage, Wire) {
    let (mut stage, mut wire) = (Stage::new(), Wire::new(side));
    stage.feed(wire.preface());
    (stage, wire)
}
