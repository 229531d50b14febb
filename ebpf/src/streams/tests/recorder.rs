//! The surroundings of the walks: a list of what was told, and slots.

extern crate std;

use core::ptr::null_mut;
use std::boxed::Box;
use std::collections::HashMap;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use zerocopy::{FromBytes, IntoBytes};

use super::super::{Expected, StreamPort, Streams, tell};
use crate::event::{
    Data, FLAG_END_STREAM, FRAME_DATA, FRAME_GOAWAY, FRAME_HEADERS, FRAME_RST_STREAM,
    FRAME_SETTINGS, Frames, Head, Header, Item, Kind, MESSAGE_UNKNOWN, Waited,
};
use crate::flow::Flow;
use crate::frames::FramePort;
use crate::repeat::{Answer, Control, Counts};
use crate::walk::tests::keep_pieces;
use crate::walk::{Port, Shared};

/// The connection's.
pub const COOKIE: u64 = 77;

/// A frame that was told, with all of its items.
#[derive(Clone, Debug)]
pub struct Frame {
    pub direction: u8,
    pub sequence: u32,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub length: u32,
    pub payload: Vec<u8>,
    /// Of DATA: messages, if they could be counted.
    pub messages: Option<u32>,
    /// Of DATA: it is anything but one whole message, or none.
    pub parts: bool,
    /// Of the last item.
    pub table: u32,
    /// Of the record of the first item.
    pub waited: u32,
    /// How many items it came in.
    pub items: u32,
}

/// What was told, in its order.
#[derive(Clone, Debug)]
pub enum Told {
    Waited(Waited),
    Frame(Frame),
    Lost,
}

impl Told {
    pub fn in_short(&self, asks: u8) -> String {
        match self {
            Self::Lost => "lost".into(),
            Self::Waited(waited) => {
                let Waited { stream, asked, answered, sent, answering, .. } = *waited;
                let [asks, answers] = [waited.asked_messages, waited.answered_messages];
                let sent = if sent == 1 { " sent" } else { "" };
                let answering = if answering == 1 { " answering" } else { "" };
                format!(
                    "waited {stream}: {asked} ({asks}){sent}, {answered} ({answers}){answering}"
                )
            }
            Self::Frame(frame) => frame.in_short(asks),
        }
    }
}

impl Frame {
    fn in_short(&self, asks: u8) -> String {
        let way = if self.direction == asks { '>' } else { '<' };
        let kind = match self.kind {
            FRAME_DATA => match self.messages {
                Some(messages) => format!("{} ({messages})", self.length),
                None => format!("{}", self.length),
            },
            FRAME_HEADERS => "headers".into(),
            FRAME_RST_STREAM => "reset".into(),
            FRAME_SETTINGS => "settings".into(),
            FRAME_GOAWAY => "goaway".into(),
            kind => format!("kind {kind}"),
        };
        let of_call = matches!(self.kind, FRAME_DATA | FRAME_HEADERS);
        let ends = of_call && self.flags & FLAG_END_STREAM != 0;
        format!("{way} {} {kind}{}", self.stream, if ends { " end" } else { "" })
    }
}

/// A slot of the table.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slot {
    pub control: Control,
    pub expected: Expected,
    pub counts: Counts,
}

/// A call that was counted.
#[derive(Clone, Copy, Debug)]
pub struct Added {
    pub tag: u64,
    pub asked: u32,
    pub answer: Answer,
    pub expected: Expected,
}

pub struct Recorder {
    /// The packet, its direction, and when it came.
    pub packet: Vec<u8>,
    pub direction: u8,
    pub now_ns: u64,
    pub told: Vec<Told>,
    pub aside: HashMap<u32, Vec<u8>>,
    pub slots: Vec<Slot>,
    /// What was ever expected of calls with a tag.
    pub history: Vec<(u64, Expected)>,
    pub added: Vec<Added>,
    pub streams: *mut Streams,
    /// There is no room for streams that wait.
    pub is_full: bool,
    /// The other direction cannot be claimed.
    pub refuses: bool,
    /// How often it was claimed.
    pub claims: u32,
    open: [Option<Frame>; 2],
    places: HashMap<(u64, u64), u64>,
    after: HashMap<(u8, u32), u32>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            packet: vec![],
            direction: 0,
            now_ns: 1_000_000,
            told: vec![],
            aside: HashMap::new(),
            slots: vec![],
            history: vec![],
            added: vec![],
            streams: null_mut(),
            is_full: false,
            refuses: false,
            claims: 0,
            open: [None, None],
            places: HashMap::new(),
            after: HashMap::new(),
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if !self.streams.is_null() {
            // SAFETY: made of a box, and nobody looks at it any more.
            drop(unsafe { Box::from_raw(self.streams) });
        }
    }
}

/// A secret word: any will do.
pub fn key(index: usize) -> u64 {
    (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Recorder {
    pub fn waits(&self) -> Streams {
        // SAFETY: made of a box where it is not null.
        if self.streams.is_null() { Streams::default() } else { unsafe { *self.streams } }
    }

    /// Whether answers with this head were ever expected.
    pub fn expects(&self, tag: u64, head: u64) -> bool {
        self.history.iter().any(|(of, expected)| *of == tag && expected.head == head)
    }

    pub fn tell_streams(&mut self, shared: &mut Shared, stream: u32) {
        let (streams, moment) = (self.streams, (self.now_ns, COOKIE));
        if !streams.is_null() {
            // SAFETY: made of a box.
            unsafe { tell(streams, moment, shared, self, stream) };
        }
    }

    fn item(&mut self, record: &Frames, item: Item, bytes: &[u8]) {
        let Item { sequence, stream, length, offset, kind, flags, table, .. } = item;
        let direction = record.header.direction;
        let mut frame = self.open[usize::from(direction)].take().unwrap_or(Frame {
            direction,
            sequence,
            kind,
            flags,
            stream,
            length,
            payload: vec![],
            messages: None,
            parts: false,
            table,
            waited: record.waited,
            items: 0,
        });
        assert_eq!((frame.kind, frame.stream), (kind, stream), "pieces of one frame");
        (frame.table, frame.items) = (table, frame.items + 1);
        if kind == FRAME_DATA {
            self.messages(&mut frame, bytes);
        } else {
            assert_eq!(offset as usize, frame.payload.len());
            frame.payload.extend_from_slice(bytes);
            if frame.payload.len() < length as usize {
                self.open[usize::from(direction)] = Some(frame);
                return;
            }
        }
        self.told.push(Told::Frame(frame));
    }

    fn messages(&mut self, frame: &mut Frame, bytes: &[u8]) {
        let (data, _) = Data::ref_from_prefix(bytes).unwrap();
        let Data { before, after, messages, .. } = *data;
        let key = (frame.direction, frame.stream);
        let place = self.after.insert(key, after).unwrap_or(0);
        let known = place == before && after != MESSAGE_UNKNOWN;
        if !known {
            self.after.insert(key, MESSAGE_UNKNOWN);
        }
        frame.messages = known.then_some(messages);
        frame.parts = !known || (before | after) != 0 || messages > 1;
    }
}

impl Port for Recorder {
    fn load(&mut self, _: &mut Flow, _: u32, _: u32) -> bool {
        unreachable!("no lines are read")
    }

    fn send_head(&mut self, _: &mut Flow, _: &mut Shared, _: u32) {}

    fn send<T: IntoBytes>(&mut self, _: &mut Shared, fill: impl FnOnce(*mut T)) {
        let mut place = vec![0u64; size_of::<T>().div_ceil(8)];
        fill(place.as_mut_ptr().cast());
        let bytes = place.as_slice().as_bytes();
        let (header, _) = Header::ref_from_prefix(bytes).unwrap();
        if header.kind == Kind::Waited as u8 {
            let (record, _) = Waited::ref_from_prefix(bytes).unwrap();
            self.told.push(Told::Waited(*record));
            return;
        }
        assert_eq!(header.kind, Kind::Desynchronised as u8);
        self.open[usize::from(header.direction)] = None;
        self.told.push(Told::Lost);
    }

    fn measure(&mut self, _: &mut Head) {}

    fn set_aside(&mut self, flow: &mut Flow) -> u8 {
        keep_pieces(&mut self.aside, flow, &self.packet)
    }

    fn prefix(&self) -> u32 {
        1024
    }

    fn key(&self, index: usize) -> u64 {
        key(index)
    }

    fn slot(&mut self, tag: u64) -> u16 {
        assert_ne!(tag, 0);
        let place = self.slots.iter().position(|slot| slot.control.tag == tag);
        place.map_or(0, |place| place as u16 + 1)
    }
}

impl FramePort for Recorder {
    fn load_at(&mut self, flow: &mut Flow, at: u32, offset: u32, length: u32) -> bool {
        let (at, offset, length) = (at as usize, offset as usize, length as usize);
        assert!(length > 0);
        let Some(bytes) = self.packet.get(offset..offset + length) else { return false };
        flow.buffer[at..at + length].copy_from_slice(bytes);
        true
    }

    fn send_frames(&mut self, flow: &mut Flow, shared: &mut Shared, length: u32) -> bool {
        let record = flow.buffer[..length as usize].to_vec();
        let (mut record, mut rest) = Frames::read_from_prefix(&record)
            .map(|(record, rest)| (record, rest.to_vec()))
            .unwrap();
        assert_eq!(usize::from(record.header.length), rest.len());
        let streams = self.waits();
        if shared.misses != 0 && !self.streams.is_null() {
            let asks = streams.asks == record.header.direction + 1;
            record.waited = if asks { streams.let_wait } else { streams.told };
        }
        while !rest.is_empty() {
            let (item, behind) = Item::read_from_prefix(&rest).unwrap();
            let bytes = usize::from(item.bytes);
            self.item(&record, item, &behind[..bytes]);
            rest = behind[bytes.next_multiple_of(8)..].to_vec();
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

impl StreamPort for Recorder {
    fn create(&mut self) -> *mut Streams {
        if self.streams.is_null() && !self.is_full {
            self.streams = Box::into_raw(Box::default());
        }
        self.streams
    }

    fn expected(&mut self, slot: u16) -> Option<Expected> {
        Some(self.slots[usize::from(slot) - 1].expected)
    }

    fn add(&mut self, slot: u16, tag: u64, answer: &Answer, asked: u32) -> bool {
        let Slot { control, expected, counts } = &mut self.slots[usize::from(slot) - 1];
        if control.tag != tag || !control.fits(answer.body) {
            return false;
        }
        counts.asked += u64::from(asked);
        counts.add(answer);
        self.added.push(Added { tag, asked, answer: *answer, expected: *expected });
        true
    }

    fn tell(&mut self, _: &Flow, shared: &mut Shared, asks: bool, stream: u32) -> bool {
        assert_eq!(asks, self.waits().asks == self.direction + 1);
        self.claims += u32::from(asks);
        if asks && self.refuses {
            return false;
        }
        self.tell_streams(shared, stream);
        true
    }
}
