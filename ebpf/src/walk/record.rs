//! The records that a walk sends.

use super::port::Port;
use super::{VERDICT_HTTP1, VERDICT_OPAQUE, Walk};
use crate::event::{self, Desynchronised, End, Head, Header, Kind};
use crate::flow::{self, BUFFER, CARRY, WINDOW_START, mode};
use crate::limits::SNIFF_BUDGET;

impl<P: Port> Walk<'_, P> {
    /// Gives up the flow's place among the messages until the next request.
    #[inline(always)]
    pub(super) fn lose(&mut self) {
        let reason = self.flow.trouble;
        let current = self.flow.epoch == self.shared.epoch;
        let answered = if self.is_response() { self.flow.number } else { self.answered() };
        let asked = self.shared.requests_epoch == self.flow.epoch as u16;
        let known = self.shared.verdict == VERDICT_HTTP1;
        let unanswered =
            if current && known && asked { self.shared.begun.saturating_sub(answered) } else { 0 };
        // One that waits untold is lost, too.
        let unanswered = unanswered + u32::from(self.shared.waiting != 0);
        self.shared.waiting = 0;
        let epoch = self.shared.epoch;
        if known {
            let header = self.header(Kind::Desynchronised, 0, 0);
            self.port.send::<Desynchronised>(self.shared, |place| {
                let record = Desynchronised {
                    header,
                    epoch,
                    unanswered,
                    reason,
                    ..Desynchronised::default()
                };
                // SAFETY: the place of a record.
                unsafe { place.write(record) };
            });
            self.shared.attempts += 1;
            if self.shared.attempts >= SNIFF_BUDGET {
                self.shared.verdict = VERDICT_OPAQUE;
            }
        }
        if current {
            self.shared.epoch = epoch.wrapping_add(1);
            self.shared.told = 0;
        }
        self.start_message();
        self.flow.mode = mode::IDLE;
    }

    #[inline(always)]
    pub(super) fn header(&self, kind: Kind, flags: u16, length: u16) -> Header {
        Header {
            time_ns: self.flow.now_ns,
            cookie: self.flow.cookie,
            kind: kind as u8,
            direction: self.direction,
            flags,
            lost: self.shared.lost,
            length,
        }
    }

    #[inline(always)]
    pub(super) fn send_end(&mut self, reason: u8) {
        let flags = if self.is_response() { event::HEAD_RESPONSE } else { 0 };
        let header = self.header(Kind::End, flags, 0);
        let (body_bytes, number, epoch) = (self.flow.body, self.flow.number, self.flow.epoch);
        self.port.send::<End>(self.shared, |place| {
            let record = End { header, body_bytes, number, epoch, reason, ..End::default() };
            // SAFETY: the place of a record.
            unsafe { place.write(record) };
        });
        self.shared.tell(number);
    }

    /// Sends `length` bytes of the window as a piece of the head, within the prefix.
    #[inline(always)]
    pub(super) fn send_piece(&mut self) {
        let (length, mut flags) = (u32::from(self.flow.piece), self.flow.piece_flags);
        let offset = self.flow.sent;
        let room = self.port.prefix().saturating_sub(offset);
        let mut length = length;
        if length > room {
            length = room;
            self.flow.marks |= flow::MARK_CUT;
        }
        if length == 0 && flags == 0 {
            return;
        }
        if offset == 0 {
            flags |= event::HEAD_FIRST;
        }
        if self.is_response() {
            flags |= event::HEAD_RESPONSE;
        }
        if self.flow.marked(flow::MARK_CUT) {
            flags |= event::HEAD_CUT;
        }
        if self.flow.marked(flow::MARK_HTTP10) {
            flags |= event::HEAD_HTTP10;
        }
        let header = self.header(Kind::Head, self.shared.weighed(flags), length as u16);
        let flow = &*self.flow;
        let head = Head {
            header,
            first_ns: flow.first_ns,
            body_bytes: flow.body,
            number: flow.number,
            epoch: flow.epoch,
            sequence: flow.sequence,
            acknowledgement: flow.acknowledgement,
            offset,
            status: flow.status,
            framing: flow.framing,
            grpc_status: flow.grpc_status,
            ..Head::default()
        };
        // SAFETY: the record fits in front of the window, and the buffer is aligned to
        // eight bytes as the first field of the flow.
        let record = unsafe {
            let place = self.flow.buffer.as_mut_ptr().cast::<Head>();
            place.write(head);
            &mut *place
        };
        self.port.measure(record);
        self.flow.sent = offset + length;
        self.port.send_head(self.flow, self.shared, WINDOW_START as u32 + length);
        self.shared.tell(self.flow.number);
    }

    /// The last bytes before `end`: the beginning of a line that goes on.
    #[inline(always)]
    pub(super) fn carry(&self, end: usize) -> [u64; 6] {
        let start = flow::opaque(end.wrapping_sub(CARRY));
        if start > BUFFER - CARRY {
            return [0; 6];
        }
        // SAFETY: the bytes from `start` lie within the buffer, as just checked.
        let word = |index: usize| unsafe {
            flow::read_word(self.flow.buffer.as_ptr().add(start + index * 8))
        };
        [word(0), word(1), word(2), word(3), word(4), word(5)]
    }

    /// Puts them in front of the next window, where a record was written meanwhile.
    #[inline(always)]
    pub(super) fn restore(&mut self, carry: [u64; 6]) {
        let base = self.flow.buffer.as_mut_ptr();
        let mut index = 0;
        while index < 6 {
            // SAFETY: the 48 bytes before the window lie within the buffer.
            unsafe { flow::write_word(base.add(WINDOW_START - CARRY + index * 8), carry[index]) };
            index += 1;
        }
    }
}
