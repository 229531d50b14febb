//! The requests' half: a stream begins to wait, and belongs to the answers' half once its packet
//! says no more of it.

use core::ptr::write_volatile;

use super::port::StreamPort;
use super::walk::StreamWalk;
use super::{MOST, Stream, place};

impl<P: StreamPort> StreamWalk<'_, P> {
    /// The stream, where it waits.
    #[inline(always)]
    pub(super) fn waiting(&self, stream: u32) -> Option<*mut Stream> {
        if self.streams.is_null() {
            return None;
        }
        // SAFETY: a place within.
        let waiting = unsafe { &raw mut (*self.streams).waiting[place(stream)] };
        // SAFETY: as above.
        if unsafe { (*waiting).stream } == stream { Some(waiting) } else { None }
    }

    /// The stream, where its request is under way in this packet.
    #[inline(always)]
    pub(super) fn pending(&self, stream: u32) -> Option<*mut Stream> {
        // SAFETY: readable where it is not null, and a place within.
        unsafe {
            if self.streams.is_null() || (*self.streams).pending != stream || !self.asks() {
                return None;
            }
            Some(&raw mut (*self.streams).waiting[place(stream)])
        }
    }

    /// The packet says no more of the request that is under way.
    #[inline(always)]
    pub(super) fn publish(&mut self) {
        // SAFETY: readable and writable where it is not null.
        unsafe {
            if self.streams.is_null() || (*self.streams).pending == 0 || !self.asks() {
                return;
            }
            let stream = (*self.streams).pending;
            (*self.streams).pending = 0;
            write_volatile(&raw mut (*self.streams).waiting[place(stream)].stream, stream);
        }
    }

    /// A request that is counted begins.
    #[inline(always)]
    pub(super) fn let_wait(&mut self, stream: u32, (slot, tag): (u16, u64), ends: bool) -> bool {
        if self.streams.is_null() {
            self.streams = self.port.create();
            self.shared.misses = 1;
        }
        let streams = self.streams;
        let Some(expected) = self.port.expected(slot) else { return false };
        if streams.is_null() {
            return false;
        }
        // SAFETY: a place within; it is free, so that nobody looks at it until it is published.
        unsafe {
            let waiting = &raw mut (*streams).waiting[place(stream)];
            let asks = self.direction + 1;
            if (*waiting).stream != 0 || ((*streams).asks != asks && (*streams).let_wait != 0) {
                return false;
            }
            (*streams).asks = asks;
            (*waiting).slot = slot;
            (*waiting).sent = ends as u8;
            (*waiting).answering = 0;
            (*waiting).first_ns = self.flow.now_ns;
            (*waiting).head_ns = 0;
            (*waiting).tag = tag;
            (*waiting).sequence = self.flow.next;
            (*waiting).acknowledgement = self.flow.segment_ack;
            (*waiting).asked = 0;
            (*waiting).answered = 0;
            (*waiting).asked_messages = 0;
            (*waiting).answered_messages = 0;
            (*waiting).framed = expected.framed;
            (*streams).let_wait = (*streams).let_wait.wrapping_add(1);
            (*streams).pending = stream;
        }
        self.flow.number = stream;
        if ends {
            self.publish();
        }
        true
    }

    /// Bytes of the request's body, in the packet of its headers.
    ///
    /// # Safety
    /// `waiting` must be readable and writable.
    #[inline(always)]
    pub(super) unsafe fn asked(
        &mut self,
        waiting: *mut Stream,
        length: u32,
        messages: u16,
        ends: bool,
    ) -> bool {
        // SAFETY: by the contract.
        unsafe {
            if (*waiting).asked > MOST {
                return false;
            }
            (*waiting).asked += length;
            (*waiting).asked_messages = (*waiting).asked_messages.saturating_add(messages);
            (*waiting).sent = ends as u8;
        }
        if ends {
            self.publish();
        }
        true
    }
}
