//! [`Snapshot`]: every series at one moment, the only thing that exporters see.

use std::sync::Arc;

use crate::attribution::Identity;

/// A label's value. Numbers stay numbers for exporters that tell them apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Label {
    /// Text.
    Text(Arc<str>),
    /// A whole number (status code, port).
    Integer(i64),
}

/// How a family's series behave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Metric {
    /// Only grows, from [`Series::start_unix_ns`].
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution over these upper bounds (inclusive), `+Inf` implied.
    Histogram(&'static [f64]),
}

/// The state of a series.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// For [`Metric::Counter`] and [`Metric::Gauge`].
    Number(f64),
    /// For [`Metric::Histogram`].
    Histogram {
        /// Observations per bucket, not cumulative; one more than the bounds.
        buckets: Vec<u64>,
        /// Sum of the observations, in the family's unit.
        sum: f64,
    },
}

/// One series of a family.
#[derive(Clone, Debug)]
pub struct Series {
    /// The workload that the series is about; `None`: the agent itself.
    pub resource: Option<Arc<Identity>>,
    /// Labels by OpenTelemetry name (`http.request.method`), sorted by name; the
    /// resource's own (`service.name`) are not repeated here. A Prometheus label is
    /// the name with `_` for every `.`.
    pub labels: Vec<(&'static str, Label)>,
    /// When counting began for this series.
    pub start_unix_ns: u64,
    /// Where it stands.
    pub value: Value,
}

/// All series of one metric.
#[derive(Clone, Debug)]
pub struct Family {
    /// OpenTelemetry name (`http.server.request.duration`), or the Prometheus name as
    /// it is where it has no dots (`traces_service_graph_request_total`).
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// UCUM: `s`, `By`, `{request}`; empty: none.
    pub unit: &'static str,
    /// Kind and, for histograms, bounds.
    pub metric: Metric,
    /// The series.
    pub series: Vec<Series>,
}

/// Every series at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When it was taken.
    pub time_unix_ns: u64,
    /// In a stable order.
    pub families: Vec<Family>,
}
