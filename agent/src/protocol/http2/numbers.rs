//! Numbers of streams: what each that is seen says of the others.

use super::assembly::First;
use super::stream::Stream;
use super::{Http2, Pass};
use crate::protocol::{connection, lost};

/// Bytes of the smallest frame that begins a request: its head and one header.
const REQUEST_MIN: u32 = 10;

impl Http2 {
    /// Whether a request can have this number, where what looks like a frame may be none:
    /// behind a gap the kernel half finds its place by what is likely.
    pub(super) fn can_begin(&self, first: &First) -> bool {
        let (Some(next), Some(_), Some(_)) = (self.next, self.gap, self.sequence) else {
            return true;
        };
        first.stream < next || (first.stream - next) / 2 <= self.room(first.sequence)
    }

    /// A request begins, if it does not go on: those before it of which nothing was seen
    /// are lost.
    pub(super) fn begin(&mut self, first: &First, pass: &mut Pass<'_>) {
        if first.stream.is_multiple_of(2) || self.next.is_some_and(|next| first.stream < next) {
            return;
        }
        let waited = self.waits.begin();
        if let Some(next) = self.next {
            let calls = ((first.stream - next) / 2).saturating_sub(waited);
            let calls = calls.min(self.room(first.sequence));
            if let Some(reason) = self.gap {
                self.lose(calls, reason, pass);
            }
        } else if !self.late {
            self.lose(self.missing.min(first.stream / 2), lost::RECORDS_LOST, pass);
        }
        self.gap = None;
        self.sequence = Some(first.sequence.wrapping_add(REQUEST_MIN));
        self.next = Some(first.stream.saturating_add(2));
        let Some(side) = self.side() else { return };
        if self.streams.len() >= pass.shared.settings.requests_per_connection {
            pass.shared.counters.requests_refused += 1;
            self.lose(1, lost::REQUESTS_BOUND, pass);
            return;
        }
        if self.streams.capacity() == 0 {
            self.streams.reserve_exact(1);
        }
        let mut stream = Stream::begin(first, pass.socket, side, self.tcp.retransmits, pass.shared);
        if let Some(reason) = self.way(connection::answering_direction(side)).blind {
            stream.miss(false, reason);
        }
        self.streams.push_back(stream);
        pass.shared.requests += 1;
    }

    /// Where a stream stands of which something was seen, and whether the asking end sent it.
    pub(super) fn stream_of(
        &mut self,
        id: u32,
        direction: u8,
        pass: &mut Pass<'_>,
    ) -> Option<(usize, bool)> {
        let asked = self.asks? == direction;
        let index = if asked { self.position(id) } else { self.answered_stream(id, pass) };
        Some((index?, asked))
    }

    /// Where a stream stands of which something of the answer was seen. A request that was
    /// not seen, and those before it, are lost.
    pub(super) fn answered_stream(&mut self, id: u32, pass: &mut Pass<'_>) -> Option<usize> {
        let index = self.position(id);
        if index.is_none()
            && id % 2 == 1
            && let Some(next) = self.next
            && id >= next
            // Of those that were let wait nothing may be known here; what is missing among
            // them shows with the next request.
            && !self.waits.are_known()
        {
            let room = self.acknowledged.map_or(0, |end| self.room(end));
            let calls = (id - next) / 2 + 1;
            if calls > room && self.sequence.is_some() {
                // No such request was sent yet: this is no answer.
                return None;
            }
            let calls = calls.min(room.max(1));
            // The gap stays: requests behind this one may have begun in it, too.
            let reason = self.gap.unwrap_or(lost::RECORDS_LOST);
            self.next = Some(id.saturating_add(2));
            let sent = calls.wrapping_mul(REQUEST_MIN);
            self.sequence = self.sequence.map(|begin| begin.wrapping_add(sent));
            self.lose(calls, reason, pass);
        }
        index
    }

    /// How many requests the asking end can have begun in what it sent since the last one,
    /// up to a sequence number; where that is not known, one a record that is missing. The
    /// number of a stream alone proves nothing: it may be any.
    fn room(&self, end: u32) -> u32 {
        let Some(begin) = self.sequence else { return self.missing };
        let sent = end.wrapping_sub(begin).cast_signed();
        sent.max(0).cast_unsigned() / REQUEST_MIN
    }

    pub(super) fn position(&self, id: u32) -> Option<usize> {
        if self.streams.front()?.id == id {
            return Some(0);
        }
        self.streams.binary_search_by_key(&id, |stream| stream.id).ok()
    }
}
