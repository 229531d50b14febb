//! The agent in small: reads what was told, and asks for calls to be counted.

extern crate std;

use std::collections::BTreeMap;

use super::super::{Expected, block};
use super::Connection;
use super::recorder::{COOKIE, Frame, Slot, Told, key};
use crate::event::{FLAG_END_STREAM, FRAME_DATA, FRAME_HEADERS};
use crate::repeat::Control;

/// What a block of headers is known by.
pub fn tag(block: &[u8], version: u32, direction: u8) -> u64 {
    let word = |index: usize| {
        let mut word = [0; 8];
        for (to, from) in word.iter_mut().zip(&block[index * 8..]) {
            *to = *from;
        }
        u64::from_le_bytes(word)
    };
    block::tag(block.len() as u32, COOKIE, (version, direction), word, key)
}

/// A call, as far as it was told.
#[derive(Clone, Debug, Default)]
pub struct Known {
    tag: u64,
    head: u64,
    tail: u64,
    framed: bool,
    asked: u64,
    answered: u64,
    messages: [u32; 2],
    sent: bool,
    ended: bool,
    /// It is none that may be counted.
    odd: bool,
}

impl Frame {
    /// What the block is known by; 0: it is none that is.
    pub fn tag(&self) -> u64 {
        let plain = self.kind == FRAME_HEADERS && block::shape(self.flags) == 0;
        if !plain || self.items != 1 || self.table & 1 != 0 {
            return 0;
        }
        assert!(block::leaves(&self.payload), "what leaves the table is of the version before");
        tag(&self.payload, self.table >> 1, self.direction)
    }
}

impl Known {
    fn take(&mut self, frame: &Frame, asks: bool) {
        let ends = frame.flags & FLAG_END_STREAM != 0;
        match frame.kind {
            FRAME_DATA => self.data(frame, asks),
            FRAME_HEADERS => self.headers(frame, asks, ends),
            _ => self.odd = true,
        }
        self.sent |= asks && ends;
        self.ended |= !asks && ends;
    }

    fn headers(&mut self, frame: &Frame, asks: bool, ends: bool) {
        let tag = frame.tag();
        self.odd |= tag == 0;
        let place = match (asks, self.tag, self.head) {
            (true, 0, _) => {
                let grpc = b"application/grpc";
                self.framed = frame.payload.windows(grpc.len()).any(|bytes| bytes == grpc);
                &mut self.tag
            }
            (false, _, 0) => &mut self.head,
            (false, ..) if ends => &mut self.tail,
            _ => {
                self.odd = true;
                return;
            }
        };
        *place = tag;
    }

    fn data(&mut self, frame: &Frame, asks: bool) {
        *(if asks { &mut self.asked } else { &mut self.answered }) += u64::from(frame.length);
        self.odd |= self.framed && frame.parts;
        self.messages[usize::from(!asks)] += frame.messages.unwrap_or(0);
    }

    /// What is to be counted, if such calls may be.
    fn asks_for(&self) -> Option<(Control, Expected)> {
        if self.odd || !self.sent || !self.ended || self.tag == 0 || self.head == 0 {
            return None;
        }
        let [asked, answered] =
            self.messages.map(|count| if self.framed { count as u16 } else { 0 });
        let (least, most) = sizes(self.asked);
        let (head, tail, framed) = (self.head, self.tail, self.framed.into());
        let expected = Expected { head, tail, least, most, framed, asked, answered };
        let (least, most) = sizes(self.answered);
        Some((Control { tag: self.tag, least, most, status: 200, pad: 0 }, expected))
    }
}

/// The fewest and the most bytes in a bucket of sizes.
fn sizes(bytes: u64) -> (u32, u32) {
    if bytes <= 128 { (0, 128) } else { (129, u32::MAX) }
}

impl Connection {
    /// The calls that were told, by their streams.
    pub fn known(&self) -> BTreeMap<u32, Known> {
        let mut known: BTreeMap<u32, Known> = BTreeMap::new();
        for told in &self.port.told {
            match told {
                Told::Frame(frame) if frame.stream != 0 => {
                    known
                        .entry(frame.stream)
                        .or_default()
                        .take(frame, frame.direction == self.asks);
                }
                Told::Waited(record) => known.entry(record.stream).or_default().odd = true,
                _ => {}
            }
        }
        known
    }

    /// Asks for calls like that of this stream; false: they cannot be counted, or are.
    pub fn count(&mut self, stream: u32) -> bool {
        self.known().get(&stream).is_some_and(|known| self.give_slot(known))
    }

    /// Asks for all that were told.
    pub fn count_all(&mut self) {
        for known in self.known().values() {
            self.give_slot(known);
        }
    }

    fn give_slot(&mut self, known: &Known) -> bool {
        let Some((control, expected)) = known.asks_for() else { return false };
        let slots = &mut self.port.slots;
        if slots.iter().any(|slot| slot.control.tag == control.tag) {
            return false;
        }
        let free = slots.iter().position(|slot| slot.control.tag == 0);
        let place = free.unwrap_or_else(|| {
            slots.push(Slot::default());
            slots.len() - 1
        });
        (slots[place].expected, slots[place].control) = (expected, control);
        self.port.history.push((control.tag, expected));
        true
    }

    /// Has nothing more counted in a slot.
    pub fn give_back(&mut self, slot: usize) {
        self.port.slots[slot].control = Control::default();
    }
}
