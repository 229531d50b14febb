//! How a walk ends: the edge moves on, bodies end, what was lost is told.

use super::port::Port;
use super::{VERDICT_HTTP1, VERDICT_OPAQUE, Walk};
use crate::event;
use crate::flow::{PLACED, mode};
use crate::limits::SNIFF_BUDGET;
use crate::sequence::distance;

impl<P: Port> Walk<'_, P> {
    /// Tells lost boundaries, or leaves alone what never was HTTP.
    #[inline(always)]
    pub(super) fn conclude(&mut self) {
        if self.flow.trouble == 0 {
            return;
        }
        if self.shared.verdict == VERDICT_HTTP1 {
            self.lose();
        } else {
            self.give_up();
        }
        self.flow.trouble = 0;
    }

    /// Leaves the flow until the next turn, or for ever once the attempts are used up.
    #[inline(always)]
    pub(super) fn give_up(&mut self) {
        self.start_message();
        self.flow.mode = mode::IDLE;
        self.shared.attempts += 1;
        if self.shared.attempts >= SNIFF_BUDGET {
            self.shared.verdict = VERDICT_OPAQUE;
        }
    }

    /// After the last step: moves the edge, tells what went wrong.
    #[inline(always)]
    pub fn leave(&mut self) {
        self.flow.pass();
        self.flow.placed = PLACED;
        if self.flow.trouble == 0 {
            self.settle();
        }
        self.conclude();
        if self.flow.mode == mode::IDLE {
            self.flow.next = self.flow.edge.end;
        }
    }

    /// Ends a body that the edge has passed, gives up bytes that it has passed unseen.
    #[inline(always)]
    pub(super) fn settle(&mut self) {
        let beyond = distance(self.flow.edge.end, self.flow.next);
        if self.flow.mode == mode::BODY && self.flow.skip == 0 && beyond >= 0 {
            self.flow.body = self.flow.length;
            self.send_end(event::END_COMPLETE);
            self.next_message(false);
        }
        if beyond <= 0 {
            return;
        }
        // What came ahead of a hole is gone: harmless where it needed no look.
        self.flow.next = self.flow.edge.end;
        if self.flow.mode == mode::CLOSE {
            self.flow.body += beyond as u64;
        } else if self.flow.reads_lines() || self.flow.mode == mode::BODY {
            self.flow.trouble = event::LOST_GAP;
        }
    }

    /// The packet holds more than the programs walk.
    #[inline(always)]
    pub fn exhaust(&mut self) {
        self.flow.trouble = event::LOST_BUDGET;
        self.leave();
    }

    /// FIN or RST passed: ends what is open.
    #[inline(always)]
    pub fn shut(&mut self, reset: bool) {
        let reason = if reset {
            event::END_RESET
        } else if self.flow.mode == mode::CLOSE {
            event::END_CLOSED
        } else {
            event::END_TRUNCATED
        };
        self.break_off(reason);
    }

    /// Ends the message whose body is under way, if there is one that TCP has not
    /// received whole.
    #[inline(always)]
    pub fn break_off(&mut self, reason: u8) {
        self.flow.trouble = 0;
        if distance(self.flow.edge.end, self.flow.next) >= 0 {
            self.settle();
            self.conclude();
        }
        let open = matches!(self.flow.mode, mode::BODY | mode::CHUNK | mode::TRAILER | mode::CLOSE);
        if !open {
            return;
        }
        self.settle_body();
        self.send_end(reason);
        self.flow.number += 1;
        self.show_answered();
        self.start_message();
        self.flow.mode = mode::IDLE;
    }
}
