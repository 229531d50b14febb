//! The walk through a packet that carries frames of HTTP/2.
//!
//! One [`FrameWalk::step`] takes one decision: a frame's header, a piece of a payload that
//! is sent, a message of DATA. The programs repeat it and go on in a tail call. **DATA is
//! counted and never copied**; what it says of messages is a hint that user space checks
//! (see [`event::Data`]). Which direction asks, and what header blocks mean, user space
//! finds out: here both directions are alike.

mod data;
mod header;
mod join;
mod outbox;
mod port;
mod state;

pub use header::{FrameHeader, HEADER_BYTES};
pub use port::FramePort;
pub use state::{ITEMS, ITEMS_AT, PIECE};

use outbox::ITEM;
use state::{CLOSING, DATA, ENDING, HEADER, HEADER_AT, PADDING, PAYLOAD};

use crate::event;
use crate::flow::{Flow, PLACED, mode, opaque};
use crate::sequence::{Arrival, distance};
use crate::streams::block;
use crate::walk::{Shared, VERDICT_HTTP2, VERDICT_UPGRADED, forget};

/// Bytes of the client's preface that are compared at once.
const PREFACE_WORD: u32 = 8;
/// Bytes of GOAWAY that are sent: what follows is text for people.
const GOAWAY_BYTES: u32 = 8;
/// Bytes of SETTINGS that are sent: more than there are settings.
const SETTINGS_BYTES: u32 = 240;

/// Whether a flow is walked frame by frame, or may be.
#[inline(always)]
#[must_use]
pub const fn carries_frames(flow: &Flow, shared: &Shared) -> bool {
    shared.verdict == VERDICT_HTTP2
        || shared.verdict == VERDICT_UPGRADED
        || flow.mode == mode::FRAMES
}

/// One direction of one packet, while it is walked.
pub struct FrameWalk<'a, P> {
    /// The direction's state.
    pub flow: &'a mut Flow,
    /// What both share.
    pub shared: &'a mut Shared,
    /// Where bytes come from and findings go.
    pub port: &'a mut P,
    /// [`event::INGRESS`] or [`event::EGRESS`].
    pub direction: u8,
}

impl<P: FramePort> FrameWalk<'_, P> {
    /// Takes in a segment: returns whether to [`FrameWalk::step`].
    #[inline(always)]
    pub fn enter(&mut self) -> bool {
        self.flow.trouble = 0;
        self.settle();
        self.conclude();
        let (start, end) = (self.flow.segment_start, self.flow.segment_end);
        match self.flow.edge.arrival(start, end) {
            Arrival::Again => return false,
            Arrival::Ahead => {
                self.flow.note_ahead(self.port, self.direction);
                return false;
            }
            Arrival::InOrder => {}
        }
        if self.flow.mode == mode::FRAMES {
            self.flow.frames().counted = 0;
            return true;
        }
        self.flow.next = self.flow.edge.end;
        self.arrive()
    }

    /// Looks for frames where a message of HTTP/1 has left off, or a packet begins.
    #[inline(always)]
    pub fn arrive(&mut self) -> bool {
        let found = self.look();
        if !found {
            self.miss();
            self.leave();
        }
        found
    }

    /// Takes the next decision; false: the packet is done.
    ///
    /// The verifier follows every way through a step: what is done in it one behind the
    /// other is parted by a barrier, or the ways would multiply.
    #[inline(always)]
    pub fn step(&mut self) -> bool {
        forget(&mut self.flow, &mut self.shared);
        if self.is_full() {
            self.flush();
            return true;
        }
        let left = self.ahead();
        if self.is_paused() {
            return false;
        }
        let state = self.flow.frames();
        let (phase, whole) = (state.phase, state.left == 0);
        if phase == PAYLOAD && left >= 0 && (whole || left > 0) {
            return self.send_piece(left as u32);
        }
        if left < 0 || (left == 0 && phase != ENDING) {
            return false;
        }
        if phase == HEADER && !self.header(left as u32) {
            return false;
        }
        self.go_through_data()
    }

    /// A whole DATA frame of one message passes in one step: they may be as small as they
    /// are many.
    #[inline(always)]
    fn go_through_data(&mut self) -> bool {
        forget(&mut self.flow, &mut self.shared);
        let phase = self.flow.frames().phase;
        if phase == PADDING {
            return self.ahead() > 0 && self.padding();
        }
        if phase == DATA && self.ahead() > 0 && !self.data() {
            return false;
        }
        forget(&mut self.flow, &mut self.shared);
        if self.flow.frames().phase == CLOSING {
            return self.begin_closing();
        }
        if self.flow.frames().phase == ENDING && self.ahead() >= 0 {
            return self.end_data();
        }
        true
    }

    /// Whether a frame begins with the next byte.
    #[inline(always)]
    pub fn begins(&mut self) -> bool {
        if self.flow.mode != mode::FRAMES {
            return false;
        }
        let state = self.flow.frames();
        u32::from(state.phase ^ HEADER) | state.have | u32::from(state.tentative | state.preface)
            == 0
    }

    /// Whether the next frame may belong to a stream that waits: [`crate::streams`] has to look
    /// at it first.
    #[inline(always)]
    pub fn is_paused(&mut self) -> bool {
        // In numbers: each question would double the paths of a walk.
        let left = self.ahead();
        let looked = self.flow.sequence ^ self.flow.next;
        let paused = u32::from(self.flow.paused);
        let state = self.flow.frames();
        let midst = u32::from(state.phase ^ HEADER) | state.have;
        let pauses = is_any(paused) & is_any(looked) & (1 ^ is_any(midst)) & (1 ^ before(left));
        pauses != 0
    }

    /// Bytes of the packet from [`Flow::next`] on; negative: it is in a later packet.
    #[inline(always)]
    fn ahead(&self) -> i32 {
        distance(self.flow.segment_end, self.flow.next)
    }

    /// Where [`Flow::next`] stands in the packet.
    #[inline(always)]
    fn offset(&self) -> u32 {
        self.flow.payload.wrapping_add(distance(self.flow.next, self.flow.segment_start) as u32)
    }

    /// Gathers a frame's header, which may come in several packets.
    #[inline(always)]
    fn header(&mut self, left: u32) -> bool {
        let offset = self.offset();
        let next = self.flow.next;
        let state = self.flow.frames();
        if state.have == 0 {
            state.start = next;
        }
        let have = state.have;
        let preface = state.preface != 0;
        let wanted = if preface { PREFACE_WORD } else { HEADER_BYTES };
        let missing = wanted.wrapping_sub(have);
        let count = if left < missing { left } else { missing };
        if !self.port.load_at(self.flow, HEADER_AT as u32 + have, offset, count) {
            return self.fail(event::LOST_GAP);
        }
        self.flow.next = next.wrapping_add(count);
        if count < missing {
            self.flow.frames().have = have + count;
            return false;
        }
        if preface { self.read_preface() } else { self.begin_frame() }
    }

    /// A frame's header is whole.
    #[inline(always)]
    fn begin_frame(&mut self) -> bool {
        let (first, last) = self.flow.header_words();
        let header = FrameHeader::read(first, last);
        let state = self.flow.frames();
        state.have = 0;
        if !header.is_legal() || (state.tentative != 0 && !header.is_first()) {
            return self.fail(event::LOST_SYNTAX);
        }
        if state.tentative != 0 {
            state.tentative = 0;
            self.shared.verdict = VERDICT_HTTP2;
        }
        let state = self.flow.frames();
        let FrameHeader { length, kind, flags, stream } = header;
        (state.kind, state.flags, state.stream) = (kind, flags, stream);
        self.begin_block(kind);
        let state = self.flow.frames();
        let sent = match kind {
            event::FRAME_DATA | event::FRAME_HEADERS | event::FRAME_CONTINUATION => length,
            event::FRAME_PUSH_PROMISE | event::FRAME_RST_STREAM => length,
            event::FRAME_SETTINGS if length > SETTINGS_BYTES => SETTINGS_BYTES,
            event::FRAME_SETTINGS => length,
            event::FRAME_GOAWAY => GOAWAY_BYTES,
            _ => {
                self.flow.next = self.flow.next.wrapping_add(length);
                return true;
            }
        };
        (state.length, state.left, state.rest) = (sent, sent, length - sent);
        if kind == event::FRAME_DATA {
            return self.begin_data();
        }
        if kind == event::FRAME_HEADERS && stream & 1 != 0 && stream > self.flow.number {
            self.flow.number = stream;
        }
        let state = self.flow.frames();
        state.phase = PAYLOAD;
        true
    }

    /// A block of headers begins a new version of the table, until it is found to leave it.
    #[inline(always)]
    fn begin_block(&mut self, kind: u8) {
        const BLOCKS: u32 = 1 << event::FRAME_HEADERS
            | 1 << event::FRAME_CONTINUATION
            | 1 << event::FRAME_PUSH_PROMISE;
        // In numbers: each question would double the paths of a walk.
        let block = BLOCKS >> (kind & 31) & 1;
        self.flow.changed = block as u8;
        self.flow.scanned = self.flow.scanned.wrapping_add(block);
    }

    /// A piece of `count` bytes was put into the item at `at`: where it is a whole block that
    /// leaves the table, it is of the version before.
    #[inline(always)]
    fn count_block(&mut self, at: u32, count: u32) {
        let state = self.flow.frames();
        let (kind, flags, length) = (state.kind, state.flags, state.length);
        let other = u32::from(kind ^ event::FRAME_HEADERS) | block::shape(flags) | length ^ count;
        if is_any(other) | is_any(count / (block::LONGEST + 1)) != 0 {
            return;
        }
        let (direction, begin) = (self.direction, ITEMS_AT as u32 + at + ITEM);
        let leaves = self.port.leaves_table(direction, self.flow, begin, count);
        self.flow.changed ^= leaves as u8;
        self.flow.scanned = self.flow.scanned.wrapping_sub(leaves);
        self.restate_table(at);
    }

    /// Puts the next piece of a payload into an item, and goes on behind it.
    #[inline(always)]
    fn send_piece(&mut self, left: u32) -> bool {
        let state = self.flow.frames();
        let room = (PIECE as u32).wrapping_sub(state.fill);
        let mut count = state.left;
        if count > left {
            count = left;
        }
        if count > room {
            count = room;
        }
        let at = state.fill;
        if !self.append(count, false) {
            return self.fail(event::LOST_GAP);
        }
        self.count_block(at, count);
        let state = self.flow.frames();
        state.left -= count;
        let mut passed = count;
        if state.left == 0 {
            state.phase = HEADER;
            passed += state.rest;
        }
        self.flow.next = self.flow.next.wrapping_add(passed);
        true
    }

    /// Notes why boundaries are lost; [`FrameWalk::leave`] tells it.
    #[inline(always)]
    fn fail(&mut self, trouble: u8) -> bool {
        self.flow.trouble = trouble;
        false
    }

    /// After the last step: moves the edge, sends what waits, tells what went wrong.
    #[inline(always)]
    pub fn leave(&mut self) {
        self.flow.pass();
        self.flow.placed = PLACED;
        if self.flow.trouble == 0 {
            self.settle();
        }
        self.conclude();
        if self.flow.mode == mode::FRAMES {
            self.flush();
        } else {
            self.flow.next = self.flow.edge.end;
        }
    }

    /// The packet holds more than the programs walk.
    #[inline(always)]
    pub fn exhaust(&mut self) {
        self.give_up();
        self.leave();
    }

    /// The same before [`FrameWalk::leave`].
    #[inline(always)]
    pub fn give_up(&mut self) {
        self.flow.trouble = event::LOST_BUDGET;
    }

    /// Takes account of bytes that passed unseen: harmless where they needed no look.
    #[inline(always)]
    fn settle(&mut self) {
        if self.flow.mode != mode::FRAMES {
            return;
        }
        let edge = self.flow.edge.end;
        if self.flow.frames().phase == DATA && distance(edge, self.flow.next) > 0 {
            let state = self.flow.frames();
            state.place = event::MESSAGE_UNKNOWN;
            state.phase = ENDING;
            let unseen = state.left.wrapping_add(state.rest);
            state.left = 0;
            self.flow.next = self.flow.next.wrapping_add(unseen);
        }
        let beyond = distance(edge, self.flow.next);
        if self.flow.frames().phase == ENDING && beyond >= 0 {
            if self.is_full() {
                self.flush();
            }
            self.end_data();
        }
        if beyond > 0 {
            self.flow.trouble = event::LOST_GAP;
        }
    }

    /// Tells lost boundaries; what only looked like frames is left to the other walk.
    #[inline(always)]
    fn conclude(&mut self) {
        if self.flow.trouble == 0 || self.flow.mode != mode::FRAMES {
            return;
        }
        if self.flow.frames().tentative != 0 {
            return self.miss();
        }
        self.flush();
        self.lose();
        self.flow.trouble = 0;
    }
}

/// 1 unless all bits are 0.
#[inline(always)]
fn is_any(bits: u32) -> u32 {
    let bits = opaque(bits as usize) as u32;
    opaque(((bits | bits.wrapping_neg()) >> 31) as usize) as u32
}

/// 1 where nothing is ahead.
#[inline(always)]
fn before(ahead: i32) -> u32 {
    opaque(ahead.wrapping_sub(1).cast_unsigned() as usize) as u32 >> 31
}

#[cfg(test)]
pub(crate) mod tests;
