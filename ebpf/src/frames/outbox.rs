//! What a walk over frames sends.

use core::mem::{offset_of, size_of};

use super::FrameWalk;
use super::port::FramePort;
use super::state::{HEADER, ITEMS, ITEMS_AT, PAYLOAD};
use crate::event::{self, Data, Desynchronised, FLAG_END_STREAM, Frames, Header, Item, Kind};
use crate::flow::{mode, opaque};
use crate::streams::block;

pub(super) const ITEM: u32 = size_of::<Item>() as u32;
const COUNTED: u32 = size_of::<Data>() as u32;
/// A piece of a payload shorter than that waits for the next record: blocks of headers that may
/// be looked at are not cut.
const SHORT: u32 = block::LONGEST;

impl<P: FramePort> FrameWalk<'_, P> {
    /// Whether the next item needs a record of its own.
    #[inline(always)]
    pub(super) fn is_full(&mut self) -> bool {
        let state = self.flow.frames();
        let wanted = if state.phase != PAYLOAD {
            COUNTED
        } else if state.left < SHORT {
            state.left
        } else {
            SHORT
        };
        state.fill + ITEM + wanted > ITEMS as u32
    }

    /// Puts an item behind those that wait; `bytes` of the packet follow it.
    #[inline(always)]
    pub(super) fn append(&mut self, bytes: u32, counted: bool) -> bool {
        let offset = self.offset();
        let table = self.table();
        let state = self.flow.frames();
        let at = opaque(state.fill as usize);
        let follow = if counted { COUNTED } else { bytes };
        if at > ITEMS - ITEM as usize {
            return false;
        }
        let item = Item {
            sequence: state.start,
            stream: state.stream,
            length: state.length,
            offset: state.length - state.left,
            kind: state.kind,
            flags: state.flags,
            bytes: follow as u16,
            table,
        };
        let data =
            Data { before: state.before, after: state.place, messages: state.messages, pad: 0 };
        // SAFETY: an item from `at` on fits the room, as just checked; with the counts
        // behind it, it ends within the state.
        unsafe {
            let place = state.items.as_mut_ptr().add(at);
            place.cast::<Item>().write_unaligned(item);
            if counted {
                place.add(ITEM as usize).cast::<Data>().write_unaligned(data);
            }
        }
        let behind = (ITEMS_AT + at) as u32 + ITEM;
        if bytes > 0 && !self.port.load_at(self.flow, behind, offset, bytes) {
            return false;
        }
        self.flow.frames().fill += ITEM + ((follow + 7) & !7);
        true
    }

    /// Has the item at `at` say what the table has become.
    #[inline(always)]
    pub(super) fn restate_table(&mut self, at: u32) {
        let table = self.table();
        let at = opaque(at as usize);
        if at <= ITEMS - ITEM as usize {
            let items = self.flow.frames().items.as_mut_ptr();
            // SAFETY: within an item that fits the room, as just checked.
            unsafe { items.add(at + offset_of!(Item, table)).cast::<u32>().write_unaligned(table) };
        }
    }

    /// See [`Item::table`].
    #[inline(always)]
    fn table(&self) -> u32 {
        self.flow.scanned << 1 | u32::from(self.flow.changed)
    }

    /// Tells of DATA whose last byte has passed, or that broke off.
    #[inline(always)]
    pub(super) fn end_data(&mut self) -> bool {
        // The item says from where on its bytes stand: nothing of DATA is sent.
        let state = self.flow.frames();
        state.left = state.length;
        state.phase = HEADER;
        self.append(0, true)
    }

    /// Sends the items that wait.
    #[inline(always)]
    pub fn flush(&mut self) {
        let (time_ns, cookie) = (self.flow.now_ns, self.flow.cookie);
        let (acknowledgement, lost) = (self.flow.segment_ack, self.shared.lost);
        let weight = self.shared.weighed(0);
        let direction = self.direction;
        let state = self.flow.frames();
        let fill = state.fill;
        if fill == 0 {
            return;
        }
        let header = Header {
            time_ns,
            cookie,
            kind: Kind::Frames as u8,
            direction,
            flags: state.announce | weight,
            lost,
            length: fill as u16,
        };
        state.record = Frames { header, acknowledgement, ..Frames::default() };
        state.fill = 0;
        if self.port.send_frames(self.flow, self.shared, ITEMS_AT as u32 + fill) {
            self.flow.frames().announce = 0;
        }
    }

    /// Gives up the direction's place among the frames: it is looked for from the next
    /// packet on.
    #[inline(always)]
    pub(super) fn lose(&mut self) {
        let (reason, epoch) = (self.flow.trouble, self.flow.epoch);
        let header = Header {
            time_ns: self.flow.now_ns,
            cookie: self.flow.cookie,
            kind: Kind::Desynchronised as u8,
            direction: self.direction,
            flags: 0,
            lost: self.shared.lost,
            length: 0,
        };
        self.port.send::<Desynchronised>(self.shared, |place| {
            let record = Desynchronised { header, epoch, reason, ..Desynchronised::default() };
            // SAFETY: the place of a record.
            unsafe { place.write(record) };
        });
        self.flow.epoch = epoch.wrapping_add(1);
        self.flow.mode = mode::IDLE;
    }

    /// FIN, RST or the end of the socket: tells of the DATA frame that broke off.
    #[inline(always)]
    pub fn break_off(&mut self) {
        self.flow.trouble = 0;
        self.settle();
        self.conclude();
        if self.flow.mode != mode::FRAMES {
            return;
        }
        let ahead = crate::sequence::distance(self.flow.next, self.flow.edge.end);
        let state = self.flow.frames();
        if matches!(state.phase, super::state::DATA | super::state::ENDING | super::state::CLOSING)
        {
            let missing = state.left.saturating_add(if ahead > 0 { ahead as u32 } else { 0 });
            state.length = state.length.saturating_sub(missing);
            state.flags &= !FLAG_END_STREAM;
            state.place = event::MESSAGE_UNKNOWN;
            if self.is_full() {
                self.flush();
            }
            self.end_data();
        }
        self.flush();
        self.flow.mode = mode::IDLE;
    }
}
