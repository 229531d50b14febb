//! Stage 5: series, spans and lines leave the process.

pub mod prometheus;
