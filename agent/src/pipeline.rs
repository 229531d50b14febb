//! The only place that knows two stages: it wires them.
//!
//! ```text
//! Reader -> Stages (attribution sees, protocol pairs, attribution names, routes) -> Sink
//! ```
//!
//! One thread owns everything up to the [`Sink`]; what leaves it goes in batches, so that
//! whoever reads the series never waits for an event and no event waits for a reader.

pub mod capture;
pub mod counting;
pub mod guard;
mod held;
pub mod pulse;
pub mod repeated;
pub mod session;
pub mod settings;
pub mod stages;
mod starter;
pub mod watching;

pub use session::Agent;
pub use stages::{Found, Stages};

use crate::command::observe::Flow;
use pulse::Pulse;

/// Where what the stages found goes.
pub trait Sink: Send {
    /// Takes what was found in one batch of events, in its order. What it leaves in `found`
    /// it has no more use for: the memory goes back to the stages.
    /// `now_ns` is `CLOCK_MONOTONIC` after the batch.
    fn take(&mut self, found: &mut Vec<Found>, now_ns: u64) -> Flow;

    /// About every second: how the stages and the kernel half stand.
    fn pulse(&mut self, pulse: &Pulse<'_>);
}
