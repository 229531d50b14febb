//! Stage 4: calls, or summaries of calls, become bounded series.

pub mod snapshot;

pub use snapshot::{Family, Label, Metric, Series, Snapshot, Value};
