//! DATA frames: how far their bytes are, and how many length-prefixed messages they hold.

use super::FrameWalk;
use super::port::FramePort;
use super::state::{self, PREFIX_AT};
use crate::event::{
    self, FLAG_END_STREAM, FLAG_PADDED, MESSAGE_BOUNDARY, MESSAGE_CLOSING_CONNECT,
    MESSAGE_CLOSING_WEB, MESSAGE_COMPRESSED, MESSAGE_PREFIX, MESSAGE_UNKNOWN,
};
use crate::sequence::distance;

/// Messages of one packet that are counted, but for the first of each frame: each takes a
/// step.
const MESSAGES: u16 = 1_024;
/// Empty messages in a row in one frame: more are bytes of something else that are all zero.
const EMPTY: u8 = 16;
/// Bytes of a message's prefix: a flag and the length.
const PREFIX_BYTES: u32 = 5;

impl<P: FramePort> FrameWalk<'_, P> {
    /// The header of a DATA frame is there.
    #[inline(always)]
    pub(super) fn begin_data(&mut self) -> bool {
        let stream = self.flow.frames().stream;
        if self.flow.frames().place_stream != stream {
            self.change_stream(stream);
        }
        let state = self.flow.frames();
        state.before = state.place;
        state.messages = 0;
        state.empty = 0;
        state.phase = if state.flags & FLAG_PADDED != 0 {
            state::PADDING
        } else if state.left == 0 {
            state::ENDING
        } else {
            state::DATA
        };
        true
    }

    /// Puts the place of one stream away for that of another.
    #[inline(always)]
    fn change_stream(&mut self, stream: u32) {
        let (cookie, direction) = (self.flow.cookie, u64::from(self.direction) << 32);
        let state = self.flow.frames();
        let (place, of) = (state.place, state.place_stream);
        // What holds no messages is given up: the next frame's `before` tells.
        if place != MESSAGE_BOUNDARY && place != MESSAGE_UNKNOWN {
            state.kept = state.kept.saturating_add(1);
            let prefix = self.flow.word(PREFIX_AT) << 32;
            self.port.keep(direction | u64::from(of), cookie, prefix | u64::from(place));
        }
        let state = self.flow.frames();
        state.place_stream = stream;
        state.place = MESSAGE_BOUNDARY;
        if state.kept > 0
            && let Some(place) = self.port.take(direction | u64::from(stream), cookie)
        {
            let state = self.flow.frames();
            state.place = place as u32;
            state.prefix = (place >> 32).to_le_bytes();
            state.kept = state.kept.saturating_sub(1);
        }
    }

    /// The byte that tells how long the padding is.
    #[inline(always)]
    pub(super) fn padding(&mut self) -> bool {
        let offset = self.offset();
        if self.flow.frames().left == 0 {
            return self.fail(event::LOST_SYNTAX);
        }
        if !self.port.load_at(self.flow, PREFIX_AT as u32 + 7, offset, 1) {
            return self.fail(event::LOST_GAP);
        }
        self.flow.next = self.flow.next.wrapping_add(1);
        let state = self.flow.frames();
        let padding = u32::from(state.prefix[7]);
        state.left -= 1;
        if padding > state.left {
            return self.fail(event::LOST_SYNTAX);
        }
        state.left -= padding;
        state.length = state.left;
        state.rest = padding;
        state.phase = state::DATA;
        if state.left == 0 {
            self.end_bytes();
        }
        true
    }

    /// Bytes of DATA: to the end of the message, the frame, or the packet's.
    #[inline(always)]
    pub(super) fn data(&mut self) -> bool {
        let place = self.flow.frames().place;
        let in_prefix = place & MESSAGE_PREFIX != 0 && place != MESSAGE_UNKNOWN;
        if (place == MESSAGE_BOUNDARY || in_prefix) && !self.read_prefix(place & 7) {
            return self.fail(event::LOST_GAP);
        }
        let state = self.flow.frames();
        if state.phase == state::CLOSING {
            return true;
        }
        let mut count = state.left;
        if state.place & MESSAGE_PREFIX == 0 {
            if state.place < count {
                count = state.place;
            }
            state.place -= count;
        } else if state.place != MESSAGE_UNKNOWN {
            // The rest of the prefix is in another frame or packet.
            count = 0;
        }
        state.left -= count;
        self.flow.next = self.flow.next.wrapping_add(count);
        if self.flow.frames().left == 0 {
            self.end_bytes();
        }
        true
    }

    /// Tells what stands before the message that closes the answer as a frame, and goes on
    /// with the message as with another.
    #[inline(always)]
    pub(super) fn begin_closing(&mut self) -> bool {
        let state = self.flow.frames();
        let (length, flags) = (state.left, state.flags);
        state.length -= length;
        state.flags &= !FLAG_END_STREAM;
        let told = self.end_data();
        let state = self.flow.frames();
        (state.kind, state.flags) = (event::FRAME_CLOSING, flags);
        (state.length, state.left, state.phase) = (length, length, state::PAYLOAD);
        told
    }

    /// What follows the last byte of data: padding that needs no look, and the end.
    #[inline(always)]
    fn end_bytes(&mut self) {
        let state = self.flow.frames();
        let rest = state.rest;
        state.phase = state::ENDING;
        self.flow.next = self.flow.next.wrapping_add(rest);
    }

    /// Reads what is here of a message's prefix, of which `have` bytes have come.
    #[inline(always)]
    fn read_prefix(&mut self, have: u32) -> bool {
        let left = distance(self.flow.segment_end, self.flow.next) as u32;
        let frame = self.flow.frames().left;
        let left = if frame < left { frame } else { left };
        let missing = PREFIX_BYTES.wrapping_sub(have);
        let count = if missing < left { missing } else { left };
        let offset = self.offset();
        if !self.port.load_at(self.flow, PREFIX_AT as u32 + have, offset, count) {
            return false;
        }
        self.flow.next = self.flow.next.wrapping_add(count);
        let prefix = self.flow.word(PREFIX_AT);
        let state = self.flow.frames();
        state.left -= count;
        let have = have + count;
        if have < PREFIX_BYTES {
            state.place = MESSAGE_PREFIX | have;
            return true;
        }
        let length = ((prefix >> 8) as u32).swap_bytes();
        // The first of a frame is no step of its own.
        state.counted = state.counted.saturating_add(u16::from(state.messages != 0));
        state.empty = if length == 0 { state.empty.saturating_add(1) } else { 0 };
        let zeros = state.counted > MESSAGES || state.empty > EMPTY;
        let flag = prefix as u8 & !MESSAGE_COMPRESSED;
        let closes = flag == MESSAGE_CLOSING_WEB || flag == MESSAGE_CLOSING_CONNECT;
        if (flag != 0 && !closes) || length & MESSAGE_PREFIX != 0 || zeros {
            state.place = MESSAGE_UNKNOWN;
            return true;
        }
        state.place = length;
        state.messages += u32::from(!closes);
        if closes && length == state.left && length.wrapping_sub(1) < event::CLOSING {
            state.place = MESSAGE_BOUNDARY;
            state.phase = state::CLOSING;
        }
        true
    }
}
