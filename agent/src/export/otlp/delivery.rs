//! [`Delivery`]: a request is sent until it is taken, refused or out of time; everything
//! that happens to it is counted, and said in the log at most once a minute.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::Rng;
use tokio::time::{Instant, sleep_until};

use super::settings::{Retry, Signal};
use super::transport::{Outcome, Transport};
use crate::export::stop::Stop;

/// Time between two warnings about the same signal.
const QUIET: Duration = Duration::from_secs(60);

/// An encoded request.
#[derive(Clone, Debug)]
pub struct Payload {
    /// `Export…ServiceRequest`.
    pub request: Bytes,
    /// Spans, log records or data points in it.
    pub items: u64,
}

/// What became of items since the start. They only grow.
#[derive(Debug, Default)]
pub struct Counters {
    /// Taken by the collector.
    pub exported: AtomicU64,
    /// Refused one by one inside requests that were taken (`partial_success`).
    pub rejected: AtomicU64,
    /// In requests that the collector refused, or that could not be encoded.
    pub failed: AtomicU64,
    /// Given up: out of time.
    pub dropped: AtomicU64,
    /// Attempts after the first.
    pub retries: AtomicU64,
}

/// How it ended for a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Taken.
    Accepted,
    /// Refused for good.
    Refused,
    /// Out of time.
    GivenUp,
}

/// Sends what belongs to one signal.
#[derive(Debug)]
pub struct Delivery {
    signal: Signal,
    transport: Transport,
    retry: Retry,
    counters: Arc<Counters>,
    said: Mutex<Said>,
}

/// What the log already knows.
#[derive(Debug, Default)]
struct Said {
    /// When it was last warned.
    at: Option<Instant>,
    /// Warnings swallowed since.
    swallowed: u64,
    /// The last attempt failed.
    failing: bool,
}

impl Delivery {
    /// A delivery by `transport`.
    #[must_use]
    pub fn new(
        signal: Signal,
        transport: Transport,
        retry: Retry,
        counters: Arc<Counters>,
    ) -> Self {
        Self { signal, transport, retry, counters, said: Mutex::default() }
    }

    /// Sends `payload` until it is settled; at the latest at `until`, or when the program's
    /// stop runs out. A stop cuts a delay short: the last chance comes at once.
    pub async fn deliver(
        &self,
        payload: &Payload,
        until: Option<Instant>,
        stop: &mut Stop,
    ) -> Settled {
        let own = self.retry.give_up_after.map(|patience| Instant::now() + patience);
        let until = [until, own].into_iter().flatten().min();
        let mut delay = self.retry.initial;
        loop {
            let end = [until, stop.deadline()].into_iter().flatten().min();
            let left = end.map_or(Duration::MAX, |end| end.duration_since(Instant::now()));
            if left.is_zero() {
                return self.settle(payload, Settled::GivenUp);
            }
            let after = match self.attempt(payload, left, stop).await {
                Outcome::Accepted { rejected, message } => {
                    self.accept(payload, rejected, &message);
                    return Settled::Accepted;
                }
                Outcome::Refused { reason } => {
                    self.warn(&format!("{} refused: {reason}", payload.items));
                    return self.settle(payload, Settled::Refused);
                }
                Outcome::Retry { after, reason } => {
                    self.said.lock().failing = true;
                    self.warn(&format!("not taken, will be tried again: {reason}"));
                    after
                }
            };
            let pause = after.map_or_else(|| jittered(delay), |after| after.max(delay));
            let wake = Instant::now() + pause.min(self.retry.longest);
            if end.is_some_and(|end| wake >= end) {
                return self.settle(payload, Settled::GivenUp);
            }
            self.pause(wake, stop).await;
            delay = (delay * 2).min(self.retry.longest);
            self.counters.retries.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One attempt, cut off when a stop that began meanwhile runs out.
    async fn attempt(&self, payload: &Payload, left: Duration, stop: &mut Stop) -> Outcome {
        let cut_off = async {
            let deadline = stop.requested().await;
            sleep_until(deadline).await;
        };
        tokio::select! {
            biased;
            outcome = self.transport.send(payload.request.clone(), left) => outcome,
            () = cut_off => Outcome::Retry { after: None, reason: "the program ends".to_owned() },
        }
    }

    async fn pause(&self, wake: Instant, stop: &mut Stop) {
        if stop.deadline().is_some() {
            return sleep_until(wake).await;
        }
        tokio::select! {
            () = sleep_until(wake) => {}
            _ = stop.requested() => {}
        }
    }

    fn accept(&self, payload: &Payload, rejected: u64, message: &str) {
        let rejected = rejected.min(payload.items);
        self.counters.exported.fetch_add(payload.items - rejected, Ordering::Relaxed);
        self.counters.rejected.fetch_add(rejected, Ordering::Relaxed);
        if rejected > 0 || !message.is_empty() {
            let message: String =
                message.chars().filter(|letter| !letter.is_control()).take(300).collect();
            self.warn(&format!("{rejected} of {} rejected: {message}", payload.items));
        }
        let mut said = self.said.lock();
        if std::mem::take(&mut said.failing) {
            said.at = None;
            tracing::info!(signal = self.signal.name(), "OTLP export works again");
        }
    }

    fn settle(&self, payload: &Payload, settled: Settled) -> Settled {
        let counter = match settled {
            Settled::Accepted => return settled,
            Settled::Refused => &self.counters.failed,
            Settled::GivenUp => &self.counters.dropped,
        };
        counter.fetch_add(payload.items, Ordering::Relaxed);
        settled
    }

    fn warn(&self, what: &str) {
        let mut said = self.said.lock();
        if said.at.is_some_and(|at| at.elapsed() < QUIET) {
            said.swallowed += 1;
            return;
        }
        said.at = Some(Instant::now());
        let swallowed = std::mem::take(&mut said.swallowed);
        tracing::warn!(signal = self.signal.name(), swallowed, "OTLP export: {what}");
    }
}

/// Between half of `delay` and all of it, so that many agents do not return at once.
fn jittered(delay: Duration) -> Duration {
    delay.mul_f64(rand::rng().random_range(0.5..=1.0))
}
