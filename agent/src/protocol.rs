//! Stage 2: events become [`Exchange`]s, a request with its answer as one end saw them.
//!
//! Pure: no clock, no input or output; every time comes with the events.

pub mod exchange;

pub use exchange::{Cause, Exchange, Protocol, Side, Text};
