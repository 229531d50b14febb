//! The keys of the `otlp` section, and where each signal goes by them.
//!
//! What OpenTelemetry's variables say of one signal is stronger than what they say of
//! all: so it is here, in every layer.

use std::path::PathBuf;
use std::time::Duration;

use super::destination::{Endpoint, Headers};
use super::environment::{Environment, Standard, fault};
use super::reader::{Bounds, Key, Reader};
use super::scalar::Size;
use super::settings::section;
use super::value::{Fault, choice};

choice! {
    /// How OTLP is spoken.
    OtlpProtocol, "a protocol" {
        /// gRPC, usually on port 4317.
        Grpc = "grpc",
        /// Protocol buffers over HTTP, usually on port 4318.
        HttpProtobuf = "http/protobuf",
    }
}

choice! {
    /// How messages are compressed.
    Compression, "a compression" {
        /// Not at all.
        None = "none",
        /// As gzip does.
        Gzip = "gzip",
    }
}

/// One kind of telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalKind {
    /// Series.
    Metrics,
    /// Spans.
    Traces,
    /// Lines.
    Logs,
}

impl SignalKind {
    /// `metrics`
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Traces => "traces",
            Self::Logs => "logs",
        }
    }
}

section! {
    /// Telemetry to a collector by OTLP. Nothing is sent unless an endpoint is given.
    Otlp = "otlp" {
        /// Send at all.
        enabled: bool = true, Bounds::any(),
            or Standard { name: "OTEL_SDK_DISABLED".into(), translate: not_disabled };
        /// The collector, for example `http://localhost:4318`. For `http/protobuf` the path of
        /// each signal (`/v1/metrics`, …) is added; a signal's own endpoint is taken as it is.
        endpoint: Option<Endpoint> = None, Bounds::any(),
            or Standard::same("OTEL_EXPORTER_OTLP_ENDPOINT");
        /// How it is spoken to.
        protocol: OtlpProtocol = OtlpProtocol::HttpProtobuf, Bounds::any(),
            or Standard::same("OTEL_EXPORTER_OTLP_PROTOCOL");
        /// Headers of every request; their values are never shown.
        headers: Headers = Headers::default(), Bounds::any(),
            or Standard::same("OTEL_EXPORTER_OTLP_HEADERS");
        /// Compression of every request.
        compression: Compression = Compression::None, Bounds::any(),
            or Standard::same("OTEL_EXPORTER_OTLP_COMPRESSION");
        /// How long one attempt may take.
        timeout: Duration = Duration::from_secs(10),
            Bounds::between(Duration::from_millis(10), Duration::from_secs(600)),
            or Standard::milliseconds("OTEL_EXPORTER_OTLP_TIMEOUT");
        /// How often metrics are sent.
        interval: Duration = Duration::from_secs(60),
            Bounds::between(Duration::from_millis(100), Duration::from_secs(3600)),
            or Standard::milliseconds("OTEL_METRIC_EXPORT_INTERVAL");
        /// Certificates (PEM) of the authorities to trust; `null`: those of the system.
        certificate: Option<PathBuf> = None, Bounds::any(),
            or Standard::same("OTEL_EXPORTER_OTLP_CERTIFICATE");
        /// Give up what could not be delivered for so long; `null`: never, the bounds of the
        /// queues decide.
        give_up_after: Option<Duration> = None,
            Bounds::between_if_given(Duration::from_secs(1), Duration::from_secs(86_400));
        /// Spans, and as many log records, that wait for a collector that is slow or down; what
        /// comes on top is dropped and counted.
        queue: usize = 8192, Bounds::between(16, 1_048_576),
            or Standard::same("OTEL_BSP_MAX_QUEUE_SIZE");
        /// Memory that either of them may take.
        queue_bytes: Size = Size(16 << 20), Bounds::between(Size(1 << 20), Size(1 << 30));
        /// Spans or log records in one message.
        batch: usize = 1024, Bounds::between(1, 65_536),
            or Standard::same("OTEL_BSP_MAX_EXPORT_BATCH_SIZE");
        /// Memory of one message, before compression.
        batch_bytes: Size = Size(1 << 20), Bounds::between(Size(16 << 10), Size(64 << 20));
        /// How long a message waits for more.
        batch_delay: Duration = Duration::from_secs(1),
            Bounds::between(Duration::from_millis(10), Duration::from_secs(60)),
            or Standard::milliseconds("OTEL_BSP_SCHEDULE_DELAY");
    }
}

/// What one signal does differently.
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    /// Send it.
    pub enabled: bool,
    /// Taken as it is; no path is added.
    pub endpoint: Option<Endpoint>,
    /// `None`: as `otlp.protocol`.
    pub protocol: Option<OtlpProtocol>,
    /// `None`: as `otlp.headers`; not added to them.
    pub headers: Option<Headers>,
    /// `None`: as `otlp.compression`.
    pub compression: Option<Compression>,
    /// `None`: as `otlp.timeout`.
    pub timeout: Option<Duration>,
    /// `None`: as `otlp.certificate`.
    pub certificate: Option<PathBuf>,
}

impl Signal {
    pub(super) fn read(reader: &mut Reader<'_>, kind: SignalKind) -> Self {
        let name = kind.name();
        let upper = name.to_ascii_uppercase();
        reader.section(
            &format!("otlp.{name}"),
            &format!("What is different for {name}; `null`: as in `otlp`."),
        );
        let path = |key: &str| format!("otlp.{name}.{key}");
        let variable = |end: &str| format!("OTEL_EXPORTER_OTLP_{upper}_{end}");
        Self {
            enabled: enabled(reader, path("enabled"), format!("OTEL_{upper}_EXPORTER")),
            endpoint: optional(
                reader,
                path("endpoint"),
                "Where this signal goes; with `http/protobuf` the whole URL, path included.",
                Standard::same(variable("ENDPOINT")),
            ),
            protocol: optional(
                reader,
                path("protocol"),
                "How this signal is sent.",
                Standard::same(variable("PROTOCOL")),
            ),
            headers: optional(
                reader,
                path("headers"),
                "Headers of this signal, instead of the others.",
                Standard::same(variable("HEADERS")),
            ),
            compression: optional(
                reader,
                path("compression"),
                "Compression of this signal.",
                Standard::same(variable("COMPRESSION")),
            ),
            timeout: reader.take(Key {
                path: path("timeout"),
                meaning: "How long one attempt may take for this signal.",
                default: None,
                bounds: Bounds::between_if_given(
                    Duration::from_millis(10),
                    Duration::from_secs(600),
                ),
                standard: vec![Standard::milliseconds(variable("TIMEOUT"))],
            }),
            certificate: optional(
                reader,
                path("certificate"),
                "Certificates of the authorities to trust for this signal.",
                Standard::same(variable("CERTIFICATE")),
            ),
        }
    }
}

fn enabled(reader: &mut Reader<'_>, path: String, variable: String) -> bool {
    reader.take(Key {
        path,
        meaning: "Send this signal.",
        default: true,
        bounds: Bounds::any(),
        standard: vec![Standard { name: variable.into(), translate: exporter }],
    })
}

fn optional<T: super::value::Setting>(
    reader: &mut Reader<'_>,
    path: String,
    meaning: &'static str,
    standard: Standard,
) -> Option<T> {
    let (default, bounds) = (None, Bounds::any());
    reader.take(Key { path, meaning, default, bounds, standard: vec![standard] })
}

/// Where a signal goes, all things considered.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// For `http/protobuf` the whole URL, for `grpc` the server.
    pub endpoint: Endpoint,
    /// How it is spoken to.
    pub protocol: OtlpProtocol,
    /// Headers of every request.
    pub headers: Headers,
    /// Compression of every request.
    pub compression: Compression,
    /// Of one attempt.
    pub timeout: Duration,
    /// PEM file of the authorities to trust; `None`: those of the system.
    pub certificate: Option<PathBuf>,
}

impl Otlp {
    /// Where a signal goes by this section and its own; `None`: it is not sent.
    #[must_use]
    pub fn destination(&self, kind: SignalKind, signal: &Signal) -> Option<Destination> {
        let protocol = signal.protocol.unwrap_or(self.protocol);
        let endpoint = match (&signal.endpoint, &self.endpoint, protocol) {
            (Some(own), _, _) => own.clone(),
            (None, Some(base), OtlpProtocol::Grpc) => base.clone(),
            (None, Some(base), OtlpProtocol::HttpProtobuf) => {
                base.join(&format!("v1/{}", kind.name()))
            }
            (None, None, _) => return None,
        };
        (self.enabled && signal.enabled).then(|| Destination {
            endpoint,
            protocol,
            headers: signal.headers.as_ref().unwrap_or(&self.headers).clone(),
            compression: signal.compression.unwrap_or(self.compression),
            timeout: signal.timeout.unwrap_or(self.timeout),
            certificate: signal.certificate.as_ref().or(self.certificate.as_ref()).cloned(),
        })
    }
}

fn not_disabled(text: &str, _: &Environment) -> Result<Option<String>, Fault> {
    // By OpenTelemetry everything but `true` means false.
    Ok(text.trim().eq_ignore_ascii_case("true").then(|| "false".to_owned()))
}

/// `OTEL_TRACES_EXPORTER`: a list of exporters of which `otlp` is ours.
fn exporter(text: &str, _: &Environment) -> Result<Option<String>, Fault> {
    let mut sends = false;
    for word in text.split(',').map(str::trim) {
        match word {
            "otlp" => sends = true,
            "none" | "prometheus" => {}
            other => return Err(fault(other, "`otlp`, `none`, or both `otlp` and `prometheus`")),
        }
    }
    Ok(Some(sends.to_string()))
}
