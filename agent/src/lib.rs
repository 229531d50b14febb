//! meshtap: who calls whom on this host, how often, how fast and how it fails.
//!
//! ```text
//! kernel -> ring_buffer -> protocol -> attribution -> aggregation -> export
//!           Event          Exchange    Call           Series
//! ```
//!
//! Each stage knows only the types of the stages before it; [`pipeline`] alone
//! wires them. Stages 2 to 4 are pure: time comes with the data.

pub mod kernel;

pub mod ring_buffer;

pub mod protocol;

pub mod attribution;

pub mod aggregation;

pub mod export;

pub mod command;
pub mod config;
pub mod kubernetes;
pub mod pipeline;
#[cfg(test)]
mod requirement;
pub mod telemetry;
