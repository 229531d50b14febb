//! Drains the ring: bounded batches, woken by a timer or by records that cannot wait.

use std::os::fd::AsFd as _;
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Event;
use super::decode::{DecodeError, decode};

/// The reading end of the ring.
pub struct Reader {
    ring: RingBuf<MapData>,
    /// Records that were no events; not zero only if both halves differ.
    undecodable: u64,
}

impl Reader {
    /// Reads from `ring`.
    #[must_use]
    pub fn new(ring: RingBuf<MapData>) -> Self {
        Self { ring, undecodable: 0 }
    }

    /// Waits until a record asks for attention, at most `patience`.
    pub fn wait(&self, patience: Duration) {
        let mut descriptors = [PollFd::from_borrowed_fd(self.ring_fd(), PollFlags::IN)];
        let patience = Timespec {
            tv_sec: patience.as_secs() as i64,
            tv_nsec: i64::from(patience.subsec_nanos()),
        };
        // An interrupted wait is a short wait.
        let _ = poll(&mut descriptors, Some(&patience));
    }

    /// Hands at most `most` events to `take`; returns how many records were read.
    pub fn drain(&mut self, most: usize, mut take: impl FnMut(Event<'_>)) -> usize {
        let mut read = 0;
        while read < most {
            let Some(item) = self.ring.next() else { break };
            read += 1;
            match decode(&item) {
                Ok(event) => take(event),
                Err(DecodeError::Short(_) | DecodeError::Kind(_)) => self.undecodable += 1,
            }
        }
        read
    }

    /// Records that could not be read.
    #[must_use]
    pub fn undecodable(&self) -> u64 {
        self.undecodable
    }

    fn ring_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.ring.as_fd()
    }
}
