//! The walk through a packet's payload: windows, lines, messages.
//!
//! One [`Walk::step`] looks at one line or takes one decision; the programs repeat it
//! as often as the verifier allows and go on in a tail call. What a walk finds it
//! tells its [`Port`]: the ring buffer in the kernel, a list in tests. **A flow is
//! either in step with its stream or says so**: what does not parse ends in
//! [`event::Desynchronised`], never in a guess.

mod ending;
mod message;
mod port;
mod record;
mod repeat;
mod shared;
mod window;

pub use port::Port;
pub use repeat::decide;
pub(crate) use shared::forget;
pub use shared::{
    LATE, REQUESTS_UNKNOWN, Shared, VERDICT_HTTP1, VERDICT_HTTP2, VERDICT_OPAQUE, VERDICT_OPEN,
    VERDICT_UPGRADED,
};

use crate::event;
use crate::flow::{self, BLOCK, Flow, PLACED, mode};
use crate::http1;
use crate::sequence::{Arrival, distance};

/// What a step decided. The slow parts are done in one place, behind the decision:
/// the verifier follows every path of a step as often as steps are taken.
mod action {
    /// The packet holds more.
    pub const MORE: u32 = 1;
    /// The window is done with.
    pub const WINDOW: u32 = 2;
    /// A piece of the head is to be sent.
    pub const PIECE: u32 = 4;
    /// The message ended; its head was sent before.
    pub const END: u32 = 8;
    /// The next message begins.
    pub const NEXT: u32 = 16;
    /// It takes the same number: another answer to the same request, or a call that was counted.
    pub const SAME: u32 = 32;
    /// The head of an answer to a request that waits.
    pub const ANSWER: u32 = 64;
}
use action::{ANSWER, END, MORE, NEXT, PIECE, SAME};

/// One direction of one packet, while it is walked.
pub struct Walk<'a, P> {
    /// The direction's state.
    pub flow: &'a mut Flow,
    /// What both share.
    pub shared: &'a mut Shared,
    /// Where findings go.
    pub port: &'a mut P,
    /// [`event::INGRESS`] or [`event::EGRESS`].
    pub direction: u8,
}

impl<P: Port> Walk<'_, P> {
    #[inline(always)]
    pub(super) fn is_response(&self) -> bool {
        self.shared.requests != REQUESTS_UNKNOWN && self.shared.requests != self.direction + 1
    }

    /// Takes in a segment (`Flow::segment_*` and `payload` are set): returns whether to [`Walk::step`].
    #[inline(always)]
    pub fn enter(&mut self) -> bool {
        if self.shared.turn != self.direction + 1 {
            self.shared.turn = self.direction + 1;
            self.flow.fresh = 1;
        }
        self.flow.trouble = 0;
        if self.shared.settled != 0 && self.is_response() {
            self.shared.settled = 0;
            self.start_message();
            self.flow.mode = mode::IDLE;
        }
        if distance(self.flow.edge.end, self.flow.next) > 0 {
            self.settle();
            self.conclude();
        }
        let (start, end) = (self.flow.segment_start, self.flow.segment_end);
        match self.flow.edge.arrival(start, end) {
            Arrival::Again => return false,
            Arrival::Ahead => {
                self.flow.note_ahead(self.port, self.direction);
                return false;
            }
            Arrival::InOrder => {}
        }
        if self.flow.mode == mode::START && self.flow.head == 0 && self.out_of_date() {
            self.flow.mode = mode::IDLE;
        }
        if self.flow.mode == mode::WAIT && self.refused() {
            self.flow.next = self.flow.edge.end;
            self.start_message();
        }
        if self.flow.mode == mode::IDLE {
            self.flow.next = self.flow.edge.end;
            if self.flow.fresh != 0 && self.may_begin() {
                self.start_message();
            } else if self.is_response() && self.waited_for() {
                // Bytes of an answer that cannot be placed: no later one may be
                // taken for it.
                self.adopt_epoch();
                self.flow.trouble = event::LOST_GAP;
            }
        }
        self.flow.fresh = 0;
        true
    }

    /// Takes a segment in the midst of a body, in its place, of which no byte needs a look; false:
    /// it is to be entered. `ends`: the stream ends with it.
    ///
    /// In numbers: the verifier would follow each answer to the end of the program.
    #[inline(always)]
    pub fn pass_by(&mut self, ends: bool) -> bool {
        let (flow, shared) = (&mut *self.flow, &mut *self.shared);
        let place = u32::from(flow.placed ^ PLACED)
            | flow.edge.ahead
            | u32::from(flow.aside)
            | (flow.segment_start ^ flow.edge.end);
        let state = flow.fill
            | u32::from(shared.waiting)
            | u32::from(shared.settled)
            | (1 ^ (distance(flow.segment_end, flow.next) as u32 >> 31));
        if place | state | u32::from(ends) != 0 {
            return false;
        }
        flow.edge.end = flow.segment_end;
        flow.fresh = 0;
        shared.turn = self.direction + 1;
        true
    }

    /// Whether the other direction has begun requests in this epoch.
    #[inline(always)]
    fn waited_for(&self) -> bool {
        self.shared.requests_epoch == self.shared.epoch as u16 && self.shared.begun != 0
    }

    /// A response flow whose epoch ended waits for the next request.
    #[inline(always)]
    fn out_of_date(&self) -> bool {
        self.is_response() && self.flow.epoch != self.shared.epoch
    }

    /// Whether the CONNECT before was answered: the connection would be a tunnel had it been granted.
    #[inline(always)]
    fn refused(&self) -> bool {
        self.shared.responses_epoch == self.flow.epoch as u16
            && self.shared.answered == self.flow.number
    }

    /// Whether an idle flow may look for a message at the start of a turn.
    #[inline(always)]
    fn may_begin(&mut self) -> bool {
        if !self.is_response() {
            return true;
        }
        if !self.waited_for() {
            return false;
        }
        // An answer that left before the request arrived belongs to an older one.
        if distance(self.flow.segment_ack, self.shared.sequence) <= 0 {
            return false;
        }
        self.adopt_epoch();
        true
    }

    /// The numbers of an answering flow begin anew, with those of the requests.
    #[inline(always)]
    fn adopt_epoch(&mut self) {
        self.flow.epoch = self.shared.epoch;
        self.flow.number = 0;
        self.show_answered();
    }

    /// Shows the asking direction how far the answers have come.
    #[inline(always)]
    pub(super) fn show_answered(&mut self) {
        if self.is_response() {
            self.shared.answered = self.flow.number;
            self.shared.responses_epoch = self.flow.epoch as u16;
        }
    }

    #[inline(always)]
    pub(super) fn start_message(&mut self) {
        let flow = &mut *self.flow;
        flow.mode = mode::START;
        flow.marks = 0;
        flow.framing = event::FRAMING_UNKNOWN;
        flow.class = flow::CLASS_PLAIN;
        flow.status = 0;
        flow.grpc_status = 0;
        flow.line = 0;
        flow.head = 0;
        flow.sent = 0;
        flow.body = 0;
        flow.length = 0;
        flow.skip = 0;
        flow.fill = 0;
        flow.at = 0;
        flow.newlines = 0;
    }

    /// Looks at the next line, or takes the next decision; false: the packet is done.
    #[inline(always)]
    pub fn step(&mut self) -> bool {
        forget(&mut self.flow, &mut self.shared);
        let action = self.advance();
        if action & ANSWER != 0 {
            self.flow.paused = action as u16;
            return false;
        }
        self.act(action)
    }

    /// Does what [`Walk::step`] left to be decided when it returned false, if anything; true:
    /// the packet holds more.
    #[inline(always)]
    pub fn resume(&mut self) -> bool {
        let action = u32::from(self.flow.paused);
        if action == 0 {
            return false;
        }
        self.flow.paused = 0;
        let counted = self.answer();
        let action = if counted { action::WINDOW | NEXT | SAME | MORE } else { action };
        self.act(action) && distance(self.flow.segment_end, self.flow.next) > 0
    }

    #[inline(always)]
    fn act(&mut self, action: u32) -> bool {
        if action & action::WINDOW != 0 {
            self.leave_window(action & PIECE != 0);
        }
        if action & END != 0 {
            self.send_end(event::END_COMPLETE);
        }
        if action & NEXT != 0 {
            self.next_message(action & SAME != 0);
        }
        action & MORE != 0
    }

    #[inline(always)]
    fn advance(&mut self) -> u32 {
        if self.flow.fill == 0 {
            return self.open_window();
        }
        if self.flow.newlines == 0 {
            if self.flow.scanned >= self.flow.fill {
                return self.close_window();
            }
            self.scan();
            return MORE;
        }
        let place = http1::lowest(self.flow.newlines);
        self.flow.newlines &= self.flow.newlines.wrapping_sub(1);
        let at = self.flow.scanned.wrapping_sub(BLOCK as u32 - 1).wrapping_add(place);
        self.flow.line += at.wrapping_sub(self.flow.at);
        self.flow.at = at;
        self.end_line()
    }

    /// Notes why boundaries are lost; [`Walk::leave`] tells it.
    #[inline(always)]
    pub(super) fn fail(&mut self, trouble: u8) -> u32 {
        self.flow.trouble = trouble;
        0
    }

    /// Notes where a message begins; false: none may begin here.
    #[inline(always)]
    pub(super) fn begin_message(&mut self) -> bool {
        if self.is_response() {
            if self.flow.epoch != self.shared.epoch
                || self.shared.requests_epoch != self.flow.epoch as u16
                || (self.shared.begun == self.flow.number && self.shared.waiting == 0)
            {
                return false;
            }
        } else if self.flow.epoch != self.shared.epoch {
            self.flow.epoch = self.shared.epoch;
            self.flow.number = 0;
        }
        self.flow.sequence = self.flow.next;
        self.flow.acknowledgement = self.flow.segment_ack;
        self.flow.first_ns = self.flow.now_ns;
        true
    }
}

#[cfg(test)]
pub(crate) mod tests;
