//! [`Watching`]: the sink of `meshtap observe`. Calls are shown as they end.

use super::pulse::Pulse;
use super::{Found, Sink};
use crate::command::Output;
use crate::command::observe::{Flow, Observer};

/// The sink.
pub struct Watching {
    /// Who shows them.
    pub observer: Observer<Output>,
    /// What the kernel half had lost at the last pulse.
    losses: u64,
}

impl Watching {
    /// Shows everything to `observer`.
    #[must_use]
    pub fn new(observer: Observer<Output>) -> Self {
        Self { observer, losses: 0 }
    }
}

impl Sink for Watching {
    fn take(&mut self, found: &mut Vec<Found>, now_ns: u64) -> Flow {
        for found in found.drain(..) {
            match found {
                Found::Call(call) => self.observer.call(call),
                Found::Lost(lost) => self.observer.lost(&lost),
                Found::Connection(..) | Found::Progress(..) | Found::Repeated(..) => {}
            }
        }
        self.observer.tick(now_ns)
    }

    fn pulse(&mut self, pulse: &Pulse<'_>) {
        let losses = pulse.losses.iter().map(|(_, count)| count).sum::<u64>() + pulse.undecodable;
        if losses > self.losses {
            tracing::warn!(
                "{} records of the kernel were lost: calls may be missing; remedy: a larger `capture.ring_bytes`",
                losses - self.losses
            );
            self.losses = losses;
        }
    }
}
