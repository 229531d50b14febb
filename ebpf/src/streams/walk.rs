//! The walk over frames of streams that wait, or may.

use super::block::{self, LONGEST};
use super::port::StreamPort;
use super::{Expected, MOST, Stream, Streams};
use crate::event::{
    FLAG_END_STREAM, FLAG_PADDED, FRAME_CONTINUATION, FRAME_DATA, FRAME_GOAWAY, FRAME_HEADERS,
    FRAME_PUSH_PROMISE, FRAME_RST_STREAM, FRAME_SETTINGS,
};
use crate::flow::{Flow, mode};
use crate::frames::{FrameHeader, HEADER_BYTES, ITEMS_AT, PIECE};
use crate::repeat::Answer;
use crate::sequence::distance;
use crate::walk::{Shared, forget};

/// How often a packet goes to and fro between this walk and that over frames.
const TURNS: u16 = 8;
/// Where the frame's payload stands in [`Flow::buffer`].
const AT: usize = ITEMS_AT + HEADER_BYTES as usize;
/// [`block::next`] of the bytes in the buffer, and what follows.
const MESSAGE_BYTES: u32 = 5;

/// What is to be done after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Next {
    /// Another step.
    Step = 0,
    /// The packet is done.
    Done = 1,
    /// The frame, and what follows, is to be told.
    Frames = 2,
    /// The answers could not be claimed: the packet is not to be told, and boundaries are lost.
    Blocked = 3,
}

/// One direction of one packet, while it is walked. Items of frames must not wait to be sent:
/// their place is used.
pub struct StreamWalk<'a, P> {
    /// The direction's state.
    pub flow: &'a mut Flow,
    /// What both share.
    pub shared: &'a mut Shared,
    /// Where bytes come from and findings go.
    pub port: &'a mut P,
    /// [`crate::event::INGRESS`] or [`crate::event::EGRESS`].
    pub direction: u8,
    /// Those that wait; null: none ever did.
    pub streams: *mut Streams,
}

impl<P: StreamPort> StreamWalk<'_, P> {
    /// Before the first step: what is to be done where the packet is not to be looked at
    /// frame by frame. `begins`: a frame does; `ends`: the packet ends the direction.
    #[inline(always)]
    pub fn begin(&mut self, begins: bool, ends: bool) -> Option<Next> {
        // Before the first record of a direction that has lost its place, frames passed unseen.
        let joins = u32::from(self.flow.frames().announce);
        let flow = &*self.flow;
        let misplaced = joins
            | u32::from(ends)
            | u32::from(flow.aside)
            | flow.edge.ahead
            | u32::from(flow.mode ^ mode::FRAMES);
        if misplaced != 0 {
            return Some(if self.tell_all() { Next::Frames } else { Next::Blocked });
        }
        if begins { None } else { Some(self.leave_to_frames()) }
    }

    /// Looks at the next frame; false: [`StreamWalk::stop`] says what is to be done.
    ///
    /// What is found out is kept in memory, of which the verifier remembers nothing: it would
    /// follow every way out of every step.
    #[inline(always)]
    pub fn step(&mut self) -> bool {
        forget(&mut self.flow, &mut self.shared);
        self.flow.line = MORE;
        let left = self.ahead();
        if left <= 0 {
            return false;
        }
        let left = left as u32;
        let count = if left > PIECE as u32 { PIECE as u32 } else { left };
        let behind = distance(self.flow.next, self.flow.segment_start) as u32;
        let offset = self.flow.payload.wrapping_add(behind);
        if count < HEADER_BYTES || !self.port.load_at(self.flow, ITEMS_AT as u32, offset, count) {
            self.flow.line = ALL;
            return false;
        }
        forget(&mut self.flow, &mut self.shared);
        let header = FrameHeader::read(self.flow.word(ITEMS_AT), self.flow.byte(ITEMS_AT + 8));
        self.frame(header, header.length <= left - HEADER_BYTES)
    }

    /// Bytes of the packet that were not looked at.
    #[inline(always)]
    fn ahead(&self) -> i32 {
        distance(self.flow.segment_end, self.flow.next)
    }

    /// `whole`: all of the frame is in the packet.
    #[inline(always)]
    fn frame(&mut self, header: FrameHeader, whole: bool) -> bool {
        let FrameHeader { length, kind, stream, .. } = header;
        let of_call = matches!(kind, FRAME_DATA | FRAME_HEADERS | FRAME_RST_STREAM);
        let concerns_all = !header.is_legal() || kind == FRAME_GOAWAY;
        self.flow.line = if concerns_all { ALL } else { NONE };
        if concerns_all || !whole {
            self.flow.line = if of_call && !concerns_all { stream } else { self.flow.line };
            return false;
        }
        let taken = match kind {
            FRAME_HEADERS => self.headers(&header),
            FRAME_DATA => self.data(&header),
            FRAME_SETTINGS => length == 0,
            FRAME_RST_STREAM | FRAME_PUSH_PROMISE | FRAME_CONTINUATION => false,
            _ => true,
        };
        forget(&mut self.flow, &mut self.shared);
        if taken {
            self.flow.next = self.flow.next.wrapping_add(HEADER_BYTES + length);
            // It may be the last one that this program looks at.
            self.flow.line = MORE;
        } else if of_call {
            self.flow.line = stream;
        }
        taken
    }

    /// After the last step: the stream is told whose frame was not taken, if it waits, or all
    /// that do.
    #[inline(always)]
    pub fn stop(&mut self) -> Next {
        forget(&mut self.flow, &mut self.shared);
        self.publish();
        if self.ahead() <= 0 {
            return Next::Done;
        }
        let stream = self.flow.line;
        if stream == MORE {
            return Next::Step;
        }
        self.flow.sequence = self.flow.next;
        let turns = self.flow.paused + 1;
        self.flow.paused = 0;
        // SAFETY: readable where it is not null.
        if self.streams.is_null() || unsafe { !(*self.streams).wait() } {
            return Next::Frames;
        }
        let stream = if turns > TURNS { ALL } else { stream };
        let concerns_any = stream == ALL || self.waiting(stream).is_some();
        let asks = self.asks();
        if concerns_any && !self.port.tell(self.flow, self.shared, asks, stream) {
            return Next::Blocked;
        }
        // SAFETY: as above.
        if unsafe { (*self.streams).wait() } {
            self.flow.paused = turns;
        }
        Next::Frames
    }

    /// A frame is under way that began in an earlier packet: those that begin behind it may
    /// be of streams that wait.
    #[inline(always)]
    fn leave_to_frames(&mut self) -> Next {
        // SAFETY: readable where it is not null.
        let wait = !self.streams.is_null() && unsafe { (*self.streams).wait() };
        self.flow.sequence = self.flow.segment_start;
        self.flow.paused = u16::from(wait);
        Next::Frames
    }

    /// Has all told that wait; false: the answers could not be claimed.
    #[inline(always)]
    fn tell_all(&mut self) -> bool {
        self.flow.paused = 0;
        let asks = self.asks();
        // SAFETY: readable where it is not null.
        self.streams.is_null()
            || unsafe { !(*self.streams).wait() }
            || self.port.tell(self.flow, self.shared, asks, 0)
    }

    /// Whether this is known as the direction of the requests.
    #[inline(always)]
    pub(super) fn asks(&self) -> bool {
        // SAFETY: readable where it is not null.
        !self.streams.is_null() && unsafe { (*self.streams).asks } == self.direction + 1
    }

    /// HEADERS; false: they are to be told.
    #[inline(always)]
    fn headers(&mut self, header: &FrameHeader) -> bool {
        let FrameHeader { length, flags, stream, .. } = *header;
        let plain = block::shape(flags) == 0 && length.wrapping_sub(1) < LONGEST;
        if !plain || self.port.leaves_table(self.direction, self.flow, AT as u32, length) == 0 {
            return false;
        }
        let tag = self.tag(length);
        let ends = flags & FLAG_END_STREAM != 0;
        forget(&mut self.flow, &mut self.shared);
        if let Some(waiting) = self.waiting(stream) {
            return !self.asks() && self.answer(waiting, tag, ends);
        }
        self.publish();
        if stream & 1 == 0 || stream <= self.flow.number {
            return false;
        }
        let slot = self.port.slot(tag);
        slot != 0 && self.let_wait(stream, (slot, tag), ends)
    }

    /// Headers of the answer, or what stands behind its body.
    #[inline(always)]
    fn answer(&mut self, waiting: *mut Stream, tag: u64, ends: bool) -> bool {
        // SAFETY: a stream that waits; the answers are claimed.
        unsafe {
            let Some(expected) = self.port.expected((*waiting).slot) else { return false };
            if (*waiting).answering == 0 {
                if tag != expected.head || (ends && expected.tail != 0) {
                    return false;
                }
                if ends {
                    return self.finish(waiting, &expected, 0, 0);
                }
                (*waiting).answering = 1;
                (*waiting).head_ns = self.flow.now_ns;
                return true;
            }
            ends && tag == expected.tail && self.finish(waiting, &expected, 0, 0)
        }
    }

    /// DATA; false: they are to be told.
    #[inline(always)]
    fn data(&mut self, header: &FrameHeader) -> bool {
        let FrameHeader { length, kind, flags, stream } = *header;
        let pending = self.pending(stream);
        let Some(waiting) = pending.or(self.waiting(stream)) else { return false };
        if kind != FRAME_DATA || flags & FLAG_PADDED != 0 || (pending.is_none() && self.asks()) {
            return false;
        }
        // SAFETY: a stream that waits; what is written belongs to this direction.
        unsafe {
            let Some(expected) = self.port.expected((*waiting).slot) else { return false };
            let framed = (*waiting).framed != 0 && length != 0;
            if framed && !self.is_message(length) {
                return false;
            }
            let ends = flags & FLAG_END_STREAM != 0;
            forget(&mut self.flow, &mut self.shared);
            if pending.is_some() {
                return self.asked(waiting, length, u16::from(framed), ends);
            }
            if (*waiting).answering == 0 || (*waiting).answered > MOST {
                return false;
            }
            if ends {
                let closes = expected.tail == 0;
                return closes && self.finish(waiting, &expected, length, u16::from(framed));
            }
            (*waiting).answered += length;
            (*waiting).answered_messages =
                (*waiting).answered_messages.saturating_add(u16::from(framed));
        }
        true
    }

    /// The frame that ends the answer, with so many bytes and messages: counts the call.
    ///
    /// # Safety
    /// As for [`StreamWalk::asked`], with the answers claimed.
    #[inline(always)]
    unsafe fn finish(
        &mut self,
        waiting: *mut Stream,
        expected: &Expected,
        length: u32,
        messages: u16,
    ) -> bool {
        // SAFETY: by the contract; those that wait are where one of them is.
        unsafe {
            let asked = (*waiting).asked;
            let answered = (*waiting).answered_messages.saturating_add(messages);
            let differs =
                ((*waiting).asked_messages ^ expected.asked) | (answered ^ expected.answered);
            let differs = expected.framed != 0 && differs != 0;
            if (*waiting).sent == 0 || asked < expected.least || asked > expected.most || differs {
                return false;
            }
            let now_ns = self.flow.now_ns;
            let answer = Answer {
                now_ns,
                nanoseconds: now_ns.saturating_sub((*waiting).first_ns),
                body: u64::from((*waiting).answered) + u64::from(length),
                status: 0,
            };
            if !self.port.add((*waiting).slot, (*waiting).tag, &answer, asked) {
                return false;
            }
            (*waiting).stream = 0;
            (*self.streams).decided = (*self.streams).decided.wrapping_add(1);
        }
        true
    }

    /// Whether DATA of this length is one message.
    #[inline(always)]
    fn is_message(&self, length: u32) -> bool {
        let prefix = self.flow.word(AT);
        let bytes = ((prefix >> 8) as u32).swap_bytes();
        prefix as u8 <= 1 && length >= MESSAGE_BYTES && bytes == length - MESSAGE_BYTES
    }

    /// What the block that was loaded is known by.
    #[inline(always)]
    fn tag(&self, length: u32) -> u64 {
        let (flow, port) = (&*self.flow, &*self.port);
        let table = (flow.scanned, self.direction);
        let word = |index: usize| flow.word(AT.wrapping_add(index * 8));
        block::tag(length, flow.cookie, table, word, |index| port.key(index))
    }
}

/// [`Flow::line`] while frames are looked at: every stream is to be told.
const ALL: u32 = 0;
/// None is.
const NONE: u32 = u32::MAX;
/// There is more to look at.
const MORE: u32 = u32::MAX - 1;
