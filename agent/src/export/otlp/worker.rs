//! One task per signal: batches from a queue, or snapshots on an interval, are encoded
//! and delivered; a task ends when the program stops and its queue is settled.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::delivery::{Counters, Delivery, Settled};
use super::encode::{Encode, Item};
use super::metrics;
use super::resource::Host;
use crate::aggregation::Snapshot;
use crate::export::queue::{BatchLimits, Receiver};
use crate::export::stop::Stop;

/// Takes batches until the queue is closed; what the deadline of a stop cuts off is counted.
pub async fn forward<T: Send, E: Encode<T>>(
    mut queue: Receiver<Item<T>>,
    limits: BatchLimits,
    mut encoder: E,
    delivery: Delivery,
    counters: Arc<Counters>,
    mut stop: Stop,
) {
    while let Some(batch) = queue.batch(limits, &mut stop).await {
        let (items, _charge) = batch.into_parts();
        let count = items.len() as u64;
        let payload = match encoder.encode(items).await {
            Ok(payload) => payload,
            Err(error) => {
                counters.failed.fetch_add(count, Ordering::Relaxed);
                tracing::warn!(count, "a batch could not be encoded for OTLP: {error}");
                continue;
            }
        };
        let settled = delivery.deliver(&payload, None, &mut stop).await;
        if settled == Settled::GivenUp && stop.deadline().is_some() {
            break;
        }
    }
    queue.abandon(0);
}

/// Sends a snapshot on every interval, and a last one when the program stops. One that
/// cannot be delivered is replaced by the next: it is cumulative, nothing is lost.
pub async fn sweep(
    source: impl Fn() -> Snapshot + Send + Sync + 'static,
    interval: Duration,
    host: Host,
    delivery: Delivery,
    counters: Arc<Counters>,
    mut stop: Stop,
) {
    let source = Arc::new(source);
    let mut ticks = interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let last = tokio::select! {
            _ = ticks.tick() => false,
            _ = stop.requested() => true,
        };
        let until = if last { None } else { Some(Instant::now() + interval) };
        let (source, host) = (Arc::clone(&source), host.clone());
        // Rendering thousands of series is no work for the threads that serve connections.
        let requests =
            tokio::task::spawn_blocking(move || metrics::requests(&source(), &host)).await;
        let mut requests = requests.unwrap_or_default().into_iter();
        while let Some(payload) = requests.next() {
            if delivery.deliver(&payload, until, &mut stop).await == Settled::GivenUp {
                let rest = requests.map(|payload| payload.items).sum();
                counters.dropped.fetch_add(rest, Ordering::Relaxed);
                break;
            }
        }
        if last {
            return;
        }
    }
}
