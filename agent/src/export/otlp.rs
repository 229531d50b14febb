//! OTLP export of metrics, spans and logs, by gRPC or HTTP. Metrics are messages of
//! opentelemetry-proto; spans and logs go through opentelemetry-otlp. **A collector that
//! is down or slow never holds up the pipeline; it loses what exceeds the queues' bounds,
//! and that is counted.**

pub mod delivery;
pub mod encode;
pub mod metrics;
pub mod resource;
pub mod settings;
pub mod transport;
pub mod worker;

pub use resource::Host;
pub use settings::{Compression, OtlpSettings, Protocol, Retry, SettingError, Signal, Target};
