//! What every metric is called, means and carries: the only place that says so.
//!
//! Exporters, `docs/metrics.md` and the tests read these tables; nothing else may name
//! a metric or one of its labels.

pub mod label;
pub mod name;
mod table;

use std::fmt::Write;

use super::histogram::Bounds;
use super::snapshot::{Family, Metric};

pub use label::LabelDefinition;
pub use name::PrometheusName;
pub use table::DEFINITIONS;

/// Every metric; the value is its place in [`DEFINITIONS`] and in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[expect(missing_docs, reason = "the table says what each of them means")]
pub enum MetricId {
    HttpServerDuration,
    HttpServerRequestSize,
    HttpServerResponseSize,
    HttpClientDuration,
    HttpClientRequestSize,
    HttpClientResponseSize,
    RpcServerDuration,
    RpcClientDuration,
    RpcServerDurationOld,
    RpcClientDurationOld,
    RpcMessages,
    RpcIo,
    RpcUncounted,
    GraphTotal,
    GraphFailed,
    GraphServerSeconds,
    GraphClientSeconds,
    MeshBetween,
    TcpOpened,
    TcpClosed,
    TcpFailed,
    TcpActive,
    TcpIo,
    TcpRetransmits,
    TcpResets,
    TcpConnect,
    TcpRtt,
    IstioRequests,
    IstioDuration,
    IstioRequestBytes,
    IstioResponseBytes,
    IstioTcpOpened,
    IstioTcpClosed,
    IstioTcpSent,
    IstioTcpReceived,
    CallsLost,
    HostDropped,
    HostResets,
    HostRetransmits,
    EventsLost,
    Events,
    CallsCounted,
    CaptureShare,
    ConnectionsLeftOut,
    RingUsed,
    RingCapacity,
    QueueLength,
    QueueCapacity,
    QueueDropped,
    TableEntries,
    TableCapacity,
    TableDropped,
    ExportItems,
    ExportRetries,
    SpansLeftOut,
    NotCalls,
    SeriesOverflowed,
    SeriesExpired,
    CpuSeconds,
    ResidentMemory,
    StartTime,
    BuildInfo,
    KernelInfo,
}

/// How a metric behaves.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram(&'static Bounds),
}

/// Whom a metric is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The workload at the observing end: `service.name`, `service.namespace`.
    Workload,
    /// Two workloads, both named by labels.
    Edge,
    /// The kernel that the agent runs on, in all its network namespaces.
    Host,
    /// The agent.
    Agent,
}

/// One metric.
#[derive(Debug)]
pub struct Definition {
    /// Its key.
    pub id: MetricId,
    /// See [`Family::name`].
    pub name: &'static str,
    /// UCUM; empty: none.
    pub unit: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// Whom it is about.
    pub subject: Subject,
    /// Labels that its series may have; sorted by name.
    pub labels: &'static [&'static LabelDefinition],
}

impl MetricId {
    /// What it is.
    #[must_use]
    pub fn definition(self) -> &'static Definition {
        &DEFINITIONS[self as usize]
    }
}

impl Definition {
    /// A family of this metric without series.
    #[must_use]
    pub fn family(&self) -> Family {
        let metric = match self.kind {
            Kind::Counter => Metric::Counter,
            Kind::Gauge => Metric::Gauge,
            Kind::Histogram(bounds) => Metric::Histogram(bounds.exposed),
        };
        Family { name: self.name, help: self.help, unit: self.unit, metric, series: Vec::new() }
    }

    /// Whether its series draw on the budget and may end in an overflow series.
    #[must_use]
    pub fn is_budgeted(&self) -> bool {
        self.id <= MetricId::CallsLost
    }
}

/// `docs/metrics.md`: every metric and label, from the definitions.
#[must_use]
pub fn reference() -> String {
    let mut page = String::from(INTRODUCTION);
    for (subject, title) in [
        (Subject::Workload, "About one workload"),
        (Subject::Edge, "About an edge"),
        (Subject::Host, "About the host"),
        (Subject::Agent, "About the agent"),
    ] {
        let _ = writeln!(page, "\n## {title}");
        for definition in DEFINITIONS.iter().filter(|definition| definition.subject == subject) {
            describe(&mut page, definition);
        }
    }
    page.push_str("\n## Labels\n\n| OpenTelemetry | Prometheus | Meaning |\n|---|---|---|\n");
    for label in label::all() {
        let name = label.name.replace('.', "_");
        let _ = writeln!(page, "| `{}` | `{name}` | {} |", label.name, label.meaning);
    }
    page
}

fn describe(page: &mut String, definition: &Definition) {
    let prometheus = PrometheusName::of(&definition.family()).sample();
    let kind = match definition.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    let unit = if definition.unit.is_empty() {
        String::new()
    } else {
        format!(", unit `{}`", definition.unit)
    };
    let _ = writeln!(page, "\n### `{}`\n\n{}\n", definition.name, definition.help);
    let _ = writeln!(page, "- Prometheus: `{prometheus}`\n- Type: {kind}{unit}");
    if let Kind::Histogram(bounds) = definition.kind {
        let bounds: Vec<_> = bounds.exposed.iter().map(ToString::to_string).collect();
        let _ = writeln!(page, "- Bounds: {}", bounds.join(", "));
    }
    let labels: Vec<_> =
        definition.labels.iter().map(|label| format!("`{}`", label.name)).collect();
    if !labels.is_empty() {
        let _ = writeln!(page, "- Labels: {}", labels.join(", "));
    }
}

const INTRODUCTION: &str = "\
# Metrics

Written from the definitions in `agent/src/aggregation/definition`; do not edit.

The same series go out by OTLP and by Prometheus. In Prometheus every `.` of a name is a
`_`, the unit is a suffix (`_seconds`, `_bytes`) and counters end in `_total`. A label that
has nothing to say is left out, which Prometheus treats like an empty one.

Series **about a workload** belong to the workload at the observing end: its resource in
OTLP, the labels `service_name` and `service_namespace` in Prometheus, beside them
`service_instance_id`, else `container_id`, where the workload has such an id.

Series **about the host** count what the kernel tells of no connection, in all network
namespaces together; their resource is the agent's. One whose event this kernel does not
have is absent, not zero: `meshtap doctor` names it.

Durations last from the first byte of the request to the last byte of the answer, as the
observing end's socket saw them: the client's includes the network, the server's does not.

Remote procedure calls follow the RPC conventions as they are stable since semantic
conventions 1.45, and are in no HTTP metric. `semantics.rpc` or
`OTEL_SEMCONV_STABILITY_OPT_IN=rpc/dup` adds the deprecated names of durations, `old` or
`rpc/old` leaves them alone; the names that begin with `meshtap` are the same with either.

The number of series is bounded. What does not fit is counted in one series per metric,
with the label `otel_metric_overflow=\"true\"` and no other: sums stay right. A series that
nothing touched for the idle time is dropped; it comes back with a new start time. Start
times are `_created` in OpenMetrics.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_keys() {
        for (place, definition) in DEFINITIONS.iter().enumerate() {
            assert_eq!(definition.id as usize, place, "{}", definition.name);
        }
    }

    #[test]
    fn names_are_unique_and_labels_sorted_and_listed() {
        for (place, definition) in DEFINITIONS.iter().enumerate() {
            assert!(DEFINITIONS[..place].iter().all(|other| other.name != definition.name));
            assert!(
                definition.labels.is_sorted_by(|a, b| a.name < b.name),
                "labels of {}",
                definition.name
            );
            for label in definition.labels {
                assert!(
                    label::all().any(|known| known.name == label.name),
                    "{} of {} is not in the reference",
                    label.name,
                    definition.name
                );
            }
            assert!(definition.help.ends_with('.'), "help of {}", definition.name);
        }
    }

    #[test]
    fn the_reference_names_every_metric_and_label() {
        let page = reference();
        for definition in DEFINITIONS {
            assert!(page.contains(&format!("### `{}`\n", definition.name)));
        }
        for label in label::all() {
            assert!(page.contains(&format!("| `{}` |", label.name)));
        }
        assert!(page.contains("- Prometheus: `http_server_request_duration_seconds`"));
        assert!(page.contains("- Prometheus: `meshtap_tcp_io_bytes_total`"));
    }
}
