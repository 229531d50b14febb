//! The window: the piece of a packet's payload that is looked at, and what of it is kept.

use super::Walk;
use super::action::{self, END, MORE, NEXT, PIECE};
use super::port::Port;
use crate::event;
use crate::flow::{self, BLOCK, CARRY, WINDOW, WINDOW_START, mode};
use crate::http1;
use crate::sequence::distance;

impl<P: Port> Walk<'_, P> {
    /// Sends what of the window belongs to a head, keeps the beginning of a line that goes on.
    #[inline(always)]
    pub(super) fn leave_window(&mut self, piece: bool) {
        let carry = self.carry(WINDOW_START.wrapping_add(self.flow.fill as usize));
        if piece {
            self.send_piece();
        }
        if self.flow.line != 0 {
            self.restore(carry);
        }
        self.flow.fill = 0;
        self.flow.newlines = 0;
    }

    /// Searches the next block of the window for newlines.
    #[inline(always)]
    pub(super) fn scan(&mut self) {
        let from = self.flow.scanned;
        let found = self.flow.newlines_from(WINDOW_START.wrapping_add(from as usize));
        let left = self.flow.fill.wrapping_sub(from);
        let within =
            if left < BLOCK as u32 { (1u64 << (left & 63)).wrapping_sub(1) } else { u64::MAX };
        self.flow.newlines = found & within;
        self.flow.scanned = from + BLOCK as u32;
    }

    /// Loads the next bytes that need a look, if this packet holds any.
    #[inline(always)]
    pub(super) fn open_window(&mut self) -> u32 {
        let left = distance(self.flow.segment_end, self.flow.next);
        if left >= 0 && self.flow.skip > 0 {
            self.hop();
            return MORE;
        }
        let ended = matches!(self.flow.mode, mode::BODY | mode::TRAILER);
        if left >= 0 && ended && self.has_tail() {
            return self.load_tail();
        }
        if left <= 0 {
            return 0;
        }
        if !self.flow.reads_lines() {
            if self.flow.mode == mode::BODY {
                self.flow.body = self.flow.length;
                return END | NEXT | MORE;
            }
            if self.flow.mode == mode::CLOSE {
                self.flow.body += left as u64;
            }
            self.flow.next = self.flow.segment_end;
            return 0;
        }
        if self.flow.mode == mode::START && self.flow.head == 0 && !self.begin_message() {
            return self.fail(event::LOST_UNEXPECTED);
        }
        let length = if left > WINDOW as i32 { WINDOW as u32 } else { left as u32 };
        let offset = self.flow.payload + distance(self.flow.next, self.flow.segment_start) as u32;
        if !self.port.load(self.flow, offset, length) {
            return self.fail(event::LOST_GAP);
        }
        self.flow.fill = length;
        self.flow.at = 0;
        self.flow.scanned = 0;
        self.scan();
        MORE
    }

    /// Loads what the packet holds of the body that ends at [`crate::flow::Flow::next`], once.
    #[inline(always)]
    fn load_tail(&mut self) -> u32 {
        self.flow.class = flow::CLASS_PLAIN;
        let passed = distance(self.flow.next, self.flow.segment_start) as u32;
        let length = if passed > WINDOW as u32 { WINDOW as u32 } else { passed };
        let offset = self.flow.payload.wrapping_add(passed).wrapping_sub(length);
        if !self.port.load(self.flow, offset, length) {
            return MORE;
        }
        self.send_tail(length)
    }

    /// Moves over bytes that need no look; far jumps take several hops, since sequence numbers wrap.
    #[inline(always)]
    pub(super) fn hop(&mut self) {
        const FARTHEST: u64 = 1 << 30;
        let hop = if self.flow.skip > FARTHEST { FARTHEST } else { self.flow.skip };
        self.flow.next = self.flow.next.wrapping_add(hop as u32);
        self.flow.skip -= hop;
    }

    /// The window is used up inside a line: judge a long line's beginning, send the
    /// piece of the head; the line's last bytes are kept for the next window.
    #[inline(always)]
    pub(super) fn close_window(&mut self) -> u32 {
        let fill = self.flow.fill;
        self.flow.line += fill.wrapping_sub(self.flow.at);
        if self.flow.line > CARRY as u32 && !self.flow.marked(flow::MARK_LONG) {
            self.flow.marks |= flow::MARK_LONG;
            let start = (WINDOW_START as u32 + fill).wrapping_sub(self.flow.line);
            let response = self.is_response();
            if http1::begin_line(self.flow, start as usize, response) != http1::LINE_FINE {
                return self.fail(event::LOST_SYNTAX);
            }
            self.note_begun();
        } else if self.begins_badly() {
            return self.fail(event::LOST_SYNTAX);
        }
        self.flow.next = self.flow.next.wrapping_add(fill);
        if !matches!(self.flow.mode, mode::START | mode::HEADERS) {
            return action::WINDOW | MORE;
        }
        self.flow.head += fill;
        self.flow.piece = fill as u16;
        self.flow.piece_flags = 0;
        if self.is_response() { action::WINDOW | MORE } else { action::WINDOW | PIECE | MORE }
    }
}
