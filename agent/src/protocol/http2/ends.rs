//! RST_STREAM and GOAWAY: calls that end without a whole answer.

use super::{Http2, Pass};
use crate::protocol::exchange::StreamError;
use crate::protocol::{Cause, lost};

impl Http2 {
    pub(super) fn reset(&mut self, id: u32, payload: &[u8], direction: u8, pass: &mut Pass<'_>) {
        let Some(code) = number(payload, 0) else { return self.malformed(direction, pass) };
        let Some((index, asked)) = self.stream_of(id, direction, pass) else { return };
        let stream = &self.streams[index];
        if let Some(end_ns) = stream.answered_ns {
            self.finish(index, end_ns, None, pass);
            return;
        }
        if stream.answer_missed {
            // It may have been answered before: a reset is also what comes behind that.
            let reason = stream.doubt.unwrap_or(lost::RECORDS_LOST);
            self.drop_at(index, pass);
            self.lose(1, reason, pass);
            return;
        }
        let cause = match StreamError::of(code) {
            // A server that watches the client's time does so when that is over.
            StreamError::Cancel if stream.is_over(pass.time_ns) => Cause::DeadlineExceeded,
            StreamError::NoError if asked && stream.is_over(pass.time_ns) => {
                Cause::DeadlineExceeded
            }
            StreamError::NoError | StreamError::Cancel if asked => Cause::Cancelled,
            StreamError::RefusedStream if !asked => Cause::Refused,
            error => Cause::StreamReset(error),
        };
        self.finish(index, pass.time_ns, Some(cause), pass);
    }

    /// The answering end takes no more requests; those beyond its last one were not processed.
    pub(super) fn goaway(&mut self, payload: &[u8], direction: u8, pass: &mut Pass<'_>) {
        let Some(last) = number(payload, 0) else { return self.malformed(direction, pass) };
        if self.asks.is_none_or(|asks| asks == direction) {
            return;
        }
        let last = self.last.map_or(last & !RESERVED, |known| known.min(last & !RESERVED));
        self.last = Some(last);
        let mut index = self.streams.partition_point(|stream| stream.id <= last);
        while let Some(stream) = self.streams.get(index) {
            if stream.answered_ns.is_some() {
                index += 1;
            } else {
                self.finish(index, pass.time_ns, Some(Cause::Refused), pass);
            }
        }
    }
}

/// The reserved bit of a stream's number.
const RESERVED: u32 = 1 << 31;

fn number(payload: &[u8], at: usize) -> Option<u32> {
    let bytes = payload.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}
