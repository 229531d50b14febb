//! What surrounds a walk: where bytes come from and findings go.

use crate::event::{Head, INGRESS};
use crate::flow::Flow;
use crate::limits::ASIDE;
use crate::repeat::{Answer, Memo};
use crate::sequence::distance;
use crate::walk::Shared;

impl Flow {
    /// Takes note of a segment that came ahead of a hole. What leaves does so in order, or
    /// again: only what arrives is set aside.
    #[inline(always)]
    pub fn note_ahead(&mut self, port: &mut impl Port, direction: u8) {
        let (start, end) = (self.segment_start, self.segment_end);
        self.edge.note_ahead(start, end);
        if direction == INGRESS && self.aside < ASIDE {
            self.aside += port.set_aside(self);
        }
    }

    /// Moves the edge behind the segment, and over what came ahead of the hole that it
    /// closed; what was set aside is to be walked first, if it follows.
    #[inline(always)]
    pub fn pass(&mut self) {
        let end = self.segment_end;
        if self.aside == 0 {
            self.edge.advance(end);
        } else if distance(end, self.edge.end) > 0 {
            self.edge.end = end;
        }
    }

    /// A segment that was set aside is walked next.
    #[inline(always)]
    pub fn take_aside(&mut self) {
        self.aside -= 1;
    }

    /// None that was set aside follows: what passed beyond the hole was not seen.
    #[inline(always)]
    pub fn pass_unseen(&mut self) {
        let end = self.edge.end;
        self.edge.advance(end);
        if self.edge.ahead == 0 {
            self.aside = 0;
        }
    }
}

/// What the walk needs from its surroundings.
pub trait Port {
    /// Copies `length` bytes of the packet from `offset` on behind [`crate::flow::WINDOW_START`] of the flow's buffer.
    fn load(&mut self, flow: &mut Flow, offset: u32, length: u32) -> bool;
    /// Sends the first `length` bytes of the flow's buffer, a [`Head`] and its bytes.
    fn send_head(&mut self, flow: &mut Flow, shared: &mut Shared, length: u32);
    /// Sends a small record ([`crate::event::End`], [`crate::event::Desynchronised`]) that `fill` writes in place.
    fn send<T: zerocopy::IntoBytes>(&mut self, shared: &mut Shared, fill: impl FnOnce(*mut T));
    /// Fills in what TCP knows at this moment.
    fn measure(&mut self, record: &mut Head);
    /// Keeps the flow's segment, which came ahead of a hole, in pieces that are segments of
    /// their own from then on; returns their number, at most so many that no more than
    /// [`ASIDE`] of the flow are kept.
    fn set_aside(&mut self, flow: &mut Flow) -> u8;
    /// Bytes of a request's head that may be sent.
    fn prefix(&self) -> u32;

    /// A secret word, below [`crate::repeat::KEYS`].
    #[inline(always)]
    fn key(&self, _index: usize) -> u64 {
        0
    }

    /// The slot of a request's tag, plus one; 0: its calls are not counted.
    #[inline(always)]
    fn slot(&mut self, _tag: u64) -> u16 {
        0
    }

    /// Adds a call to the slot, given plus one, where it is still of the tag and takes the answer.
    #[inline(always)]
    fn count(&mut self, _slot: u16, _tag: u64, _answer: &Answer) -> bool {
        false
    }

    /// What answers were like that were counted in a slot, given plus one.
    #[inline(always)]
    fn memo(&mut self, _slot: u16) -> Option<&mut Memo> {
        None
    }

    /// [`super::decide`] with the direction of the request, from `_flow`, that of the answer.
    #[inline(always)]
    fn answer(&mut self, _flow: &Flow, _shared: &mut Shared, _answer: Answer) -> bool {
        false
    }
}
