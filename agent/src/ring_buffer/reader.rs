//! Drains the ring: bounded batches, woken by the first record that came since.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use rustix::event::{Timespec, epoll};

use super::Event;
use super::decode::{DecodeError, decode};

/// The reading end of the ring.
pub struct Reader {
    ring: RingBuf<MapData>,
    /// Records that were no events; not zero only if both halves differ.
    undecodable: u64,
    /// Bytes of records read, as they lie in the ring.
    bytes: u64,
    /// Tells of wake-ups, not of records; without it the wait is always the whole one.
    wakes: Option<OwnedFd>,
}

impl Reader {
    /// Reads from `ring`.
    #[must_use]
    pub fn new(ring: RingBuf<MapData>) -> Self {
        let wakes = wakes(&ring)
            .inspect_err(|error| tracing::warn!("the ring is read on a timer alone: {error}"))
            .ok();
        Self { ring, undecodable: 0, bytes: 0, wakes }
    }

    /// Waits until a record comes, at most `patience`. The kernel wakes once for all records
    /// that come until the ring is empty again.
    pub fn wait(&self, patience: Duration) {
        let Some(wakes) = &self.wakes else { return std::thread::sleep(patience) };
        let patience = Timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(patience.subsec_nanos()),
        };
        let mut woken = [epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        }];
        // An interrupted wait is a short wait.
        let _ = epoll::wait(wakes, &mut woken, Some(&patience));
    }

    /// Hands at most `most` events to `take`; returns how many records were read.
    pub fn drain(&mut self, most: usize, mut take: impl FnMut(Event<'_>)) -> usize {
        let mut read = 0;
        while read < most {
            let Some(item) = self.ring.next() else { break };
            read += 1;
            // A header of eight bytes, and the record rounded up to eight.
            self.bytes += 8 + item.len().next_multiple_of(8) as u64;
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

    /// Bytes read so far, as they lay in the ring.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Edge-triggered: level-triggered would never wait while records come.
fn wakes(ring: &RingBuf<MapData>) -> rustix::io::Result<OwnedFd> {
    let wakes = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
    epoll::add(&wakes, ring.as_fd(), epoll::EventData::new_u64(0), flags)?;
    Ok(wakes)
}
