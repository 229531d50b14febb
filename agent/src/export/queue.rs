//! A queue bounded in items and in bytes between the pipeline and an exporter: offering
//! never waits, what does not fit is counted, and what is being sent still counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Instant, sleep_until};

use super::stop::Stop;

/// How much a queue may hold, what is being sent included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Items.
    pub items: usize,
    /// Estimated bytes of memory.
    pub bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { items: 8_192, bytes: 16 << 20 }
    }
}

/// How full a queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Items held, those being sent included.
    pub items: usize,
    /// Their estimated bytes.
    pub bytes: usize,
    /// The bound on items.
    pub items_bound: usize,
    /// The bound on bytes.
    pub bytes_bound: usize,
    /// Items that did not fit, since the start.
    pub dropped: u64,
}

#[derive(Debug)]
struct Level {
    bounds: Bounds,
    items: AtomicUsize,
    bytes: AtomicUsize,
    dropped: AtomicU64,
}

impl Level {
    /// Reserves room. Adds first and looks after, so that two threads cannot both take the last place.
    fn charge(&self, bytes: usize) -> bool {
        let items = self.items.fetch_add(1, Ordering::AcqRel);
        let held = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        if items < self.bounds.items && held.saturating_add(bytes) <= self.bounds.bytes {
            return true;
        }
        self.release(1, bytes);
        false
    }

    fn release(&self, items: usize, bytes: usize) {
        self.items.fetch_sub(items, Ordering::AcqRel);
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }

    fn drop_items(&self, items: u64) {
        self.dropped.fetch_add(items, Ordering::Relaxed);
    }
}

/// The pipeline's end. Cheap to clone.
#[derive(Debug)]
pub struct Sender<T> {
    channel: mpsc::Sender<(T, usize)>,
    level: Arc<Level>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { channel: self.channel.clone(), level: Arc::clone(&self.level) }
    }
}

/// The exporter's end.
#[derive(Debug)]
pub struct Receiver<T> {
    channel: mpsc::Receiver<(T, usize)>,
    level: Arc<Level>,
}

/// Items taken together. They count against the bounds until this is dropped.
#[derive(Debug)]
pub struct Batch<T> {
    /// In the order offered.
    pub items: Vec<T>,
    charge: Charge,
}

/// The room that a batch holds.
#[derive(Debug)]
pub struct Charge {
    level: Arc<Level>,
    items: usize,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.level.release(self.items, self.bytes);
    }
}

impl<T> Batch<T> {
    /// The items, and the room they hold until it is dropped.
    #[must_use]
    pub fn into_parts(self) -> (Vec<T>, Charge) {
        (self.items, self.charge)
    }
}

/// When a batch is complete: whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// So many items.
    pub items: usize,
    /// So many estimated bytes.
    pub bytes: usize,
    /// So long after its first item.
    pub delay: Duration,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { items: 1_024, bytes: 1 << 20, delay: Duration::from_secs(1) }
    }
}

/// A queue that holds at most `bounds`.
#[must_use]
pub fn bounded<T>(bounds: Bounds) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::channel(bounds.items.max(1));
    let level = Arc::new(Level {
        bounds,
        items: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
        dropped: AtomicU64::new(0),
    });
    (Sender { channel: sender, level: Arc::clone(&level) }, Receiver { channel: receiver, level })
}

impl<T> Sender<T> {
    /// Puts `item`, which takes about `bytes` of memory, or counts it as dropped; never waits.
    pub fn offer(&self, item: T, bytes: usize) -> bool {
        if !self.level.charge(bytes) {
            self.level.drop_items(1);
            return false;
        }
        match self.channel.try_send((item, bytes)) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                self.level.release(1, bytes);
                self.level.drop_items(1);
                false
            }
        }
    }

    /// Whether an item of average size would fit: asked before the work of making one. A
    /// refusal counts as a drop.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let room = self.level.items.load(Ordering::Relaxed) < self.level.bounds.items
            && self.level.bytes.load(Ordering::Relaxed) < self.level.bounds.bytes
            && !self.channel.is_closed();
        if !room {
            self.level.drop_items(1);
        }
        room
    }

    /// How full it is.
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        Occupancy {
            items: self.level.items.load(Ordering::Relaxed),
            bytes: self.level.bytes.load(Ordering::Relaxed),
            items_bound: self.level.bounds.items,
            bytes_bound: self.level.bounds.bytes,
            dropped: self.level.dropped.load(Ordering::Relaxed),
        }
    }
}

impl<T> Receiver<T> {
    /// The next batch; `None` once the queue is closed and empty. A stop closes it: what
    /// is held still comes out, without the delay.
    pub async fn batch(&mut self, limits: BatchLimits, stop: &mut Stop) -> Option<Batch<T>> {
        let first = tokio::select! {
            biased;
            first = self.channel.recv() => first?,
            _ = stop.requested() => {
                self.channel.close();
                self.channel.recv().await?
            }
        };
        let deadline = Instant::now() + limits.delay;
        let mut batch = self.begin(first);
        let mut stopping = false;
        while batch.items.len() < limits.items && batch.charge.bytes < limits.bytes {
            let next = tokio::select! {
                biased;
                next = self.channel.recv() => next,
                _ = stop.requested(), if !stopping => {
                    self.channel.close();
                    stopping = true;
                    continue;
                }
                () = sleep_until(deadline) => None,
            };
            let Some(next) = next else { break };
            Self::add(&mut batch, next);
        }
        Some(batch)
    }

    /// Counts what is still held as dropped, with `more` that were taken and not sent.
    pub fn abandon(&mut self, more: u64) {
        self.channel.close();
        let mut items = more;
        while let Ok((_, bytes)) = self.channel.try_recv() {
            self.level.release(1, bytes);
            items += 1;
        }
        self.level.drop_items(items);
    }

    fn begin(&self, (item, bytes): (T, usize)) -> Batch<T> {
        let charge = Charge { level: Arc::clone(&self.level), items: 1, bytes };
        Batch { items: vec![item], charge }
    }

    fn add(batch: &mut Batch<T>, (item, bytes): (T, usize)) {
        batch.items.push(item);
        batch.charge.items += 1;
        batch.charge.bytes += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::export::stop::Stopper;

    const NOW: BatchLimits = BatchLimits { items: 10, bytes: 1_000, delay: Duration::ZERO };

    fn never() -> Stop {
        Stopper::new().stop()
    }

    #[tokio::test]
    async fn a_stop_ends_the_waiting_and_loses_nothing() {
        let (sender, mut receiver) = bounded(Bounds::default());
        let stopper = Stopper::new();
        let mut stop = stopper.stop();
        sender.offer(1, 1);
        let limits = BatchLimits { items: 10, bytes: 100, delay: Duration::from_secs(3_600) };
        let (batch, ()) = tokio::join!(receiver.batch(limits, &mut stop), async {
            sender.offer(2, 1);
            stopper.request(Instant::now());
        });
        assert_eq!(batch.unwrap().items, [1, 2]);
        assert!(!sender.offer(3, 1));
        assert!(receiver.batch(limits, &mut stop).await.is_none());
    }

    #[tokio::test]
    async fn the_bound_on_items_covers_what_is_being_sent() {
        let (sender, mut receiver) = bounded(Bounds { items: 3, bytes: 1_000 });
        assert!((0..3).all(|item| sender.offer(item, 1)));
        assert!(!sender.offer(3, 1));
        let batch = receiver.batch(BatchLimits { items: 2, ..NOW }, &mut never()).await.unwrap();
        assert_eq!(batch.items, [0, 1]);
        assert!(!sender.offer(4, 1), "two are being sent, one waits");
        drop(batch);
        assert!(sender.offer(5, 1) && sender.offer(6, 1));
        assert_eq!(sender.occupancy().dropped, 2);
        assert_eq!(sender.occupancy().items, 3);
    }

    #[tokio::test]
    async fn the_bound_on_bytes_holds_alone() {
        let (sender, mut receiver) = bounded(Bounds { items: 100, bytes: 10 });
        assert!(sender.offer('a', 6));
        assert!(!sender.offer('b', 5));
        assert!(sender.offer('c', 4));
        assert!(!sender.has_room());
        assert_eq!(sender.occupancy().dropped, 2);
        assert_eq!(receiver.batch(NOW, &mut never()).await.unwrap().items, ['a', 'c']);
        assert_eq!(sender.occupancy().bytes, 0);
    }

    #[tokio::test]
    async fn a_batch_ends_at_its_bytes_and_at_its_delay() {
        let (sender, mut receiver) = bounded(Bounds::default());
        for item in 0..4 {
            sender.offer(item, 600);
        }
        let batch = receiver
            .batch(BatchLimits { delay: Duration::from_secs(9), ..NOW }, &mut never())
            .await;
        assert_eq!(batch.unwrap().items, [0, 1]);
        sender.offer(9, 0);
        let limits = BatchLimits { items: 10, bytes: 9_999, delay: Duration::from_millis(1) };
        assert_eq!(receiver.batch(limits, &mut never()).await.unwrap().items, [2, 3, 9]);
    }

    #[tokio::test]
    async fn what_is_abandoned_is_counted_and_released() {
        let (sender, mut receiver) = bounded(Bounds { items: 5, bytes: 100 });
        for item in 0..4 {
            sender.offer(item, 10);
        }
        receiver.abandon(7);
        assert_eq!(sender.occupancy().dropped, 11);
        assert_eq!((sender.occupancy().items, sender.occupancy().bytes), (0, 0));
        assert!(!sender.offer(1, 1), "closed");
        assert_eq!(sender.occupancy().dropped, 12);
        assert!(receiver.batch(NOW, &mut never()).await.is_none());
    }

    #[test]
    fn many_threads_never_exceed_the_bound() {
        let (sender, receiver) = bounded(Bounds { items: 50, bytes: 1_000 });
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1_000).filter(|item| sender.offer(*item, 10)).count());
            }
        });
        assert_eq!(sender.occupancy().items, 50);
        assert_eq!(sender.occupancy().dropped, 7_950);
        drop(receiver);
    }
}
