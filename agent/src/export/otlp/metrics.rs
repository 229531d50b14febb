//! A [`Snapshot`] as OTLP metrics: cumulative, one resource per observed workload, split
//! into requests that a collector with default limits takes.

use std::collections::HashMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, metric, number_data_point,
};
use prost::Message;

use super::delivery::Payload;
use super::resource::{self, Host, SCHEMA_URL};
use crate::aggregation::{self as series, Family, Label, Series, Snapshot, Value};
use crate::attribution::Identity;

/// Name of the instrumentation scope of everything that leaves the agent.
pub const SCOPE: &str = "meshtap";

/// A gRPC server takes 4 MiB by default; a request ends at the first point past half of it.
const REQUEST_BYTES: usize = 2 << 20;

/// `snapshot` as requests; together they hold every series that is well formed.
#[must_use]
pub fn requests(snapshot: &Snapshot, host: &Host) -> Vec<Payload> {
    let mut packer = Packer::new(host, REQUEST_BYTES);
    for (identity, families) in by_resource(snapshot) {
        packer.resource(identity.as_deref());
        for (family, members) in families {
            packer.family(family);
            for member in members {
                packer.point(family, member, snapshot.time_unix_ns);
            }
        }
    }
    packer.finish()
}

type Families<'a> = Vec<(&'a Family, Vec<&'a Series>)>;

/// Series grouped by whom they are about, in order of first appearance.
fn by_resource(snapshot: &Snapshot) -> Vec<(Option<Arc<Identity>>, Families<'_>)> {
    let mut places = HashMap::new();
    let mut groups: Vec<(Option<Arc<Identity>>, Families<'_>)> = Vec::new();
    for family in &snapshot.families {
        for member in &family.series {
            let place = *places.entry(member.resource.as_deref()).or_insert_with(|| {
                groups.push((member.resource.clone(), Vec::new()));
                groups.len() - 1
            });
            let families = &mut groups[place].1;
            match families.last_mut() {
                Some((last, members)) if std::ptr::eq(*last, family) => members.push(member),
                _ => families.push((family, vec![member])),
            }
        }
    }
    groups
}

/// Fills requests up to a size, repeating the heads of resource and metric where one is cut.
struct Packer<'a> {
    host: &'a Host,
    limit: usize,
    attributes: resource::Attributes,
    family: Option<&'a Family>,
    open: Vec<ResourceMetrics>,
    resource_open: bool,
    metric_open: bool,
    points: u64,
    bytes: usize,
    done: Vec<Payload>,
}

impl<'a> Packer<'a> {
    fn new(host: &'a Host, limit: usize) -> Self {
        Self {
            host,
            limit,
            attributes: Vec::new(),
            family: None,
            open: Vec::new(),
            resource_open: false,
            metric_open: false,
            points: 0,
            bytes: 0,
            done: Vec::new(),
        }
    }

    fn resource(&mut self, identity: Option<&Identity>) {
        self.attributes = resource::attributes(identity, self.host);
        self.resource_open = false;
        self.metric_open = false;
    }

    fn family(&mut self, family: &'a Family) {
        self.family = Some(family);
        self.metric_open = false;
    }

    fn point(&mut self, family: &Family, member: &Series, time: u64) {
        let Some(point) = Point::new(family, member, time) else { return };
        if self.bytes >= self.limit {
            self.close();
        }
        self.open_heads();
        self.bytes += point.encoded_len();
        self.points += 1;
        let metric = self
            .open
            .last_mut()
            .and_then(|resource| resource.scope_metrics.last_mut())
            .and_then(|scope| scope.metrics.last_mut());
        match (metric.and_then(|metric| metric.data.as_mut()), point) {
            (Some(metric::Data::Sum(sum)), Point::Number(point)) => sum.data_points.push(point),
            (Some(metric::Data::Gauge(gauge)), Point::Number(point)) => {
                gauge.data_points.push(point);
            }
            (Some(metric::Data::Histogram(histogram)), Point::Histogram(point)) => {
                histogram.data_points.push(point);
            }
            _ => unreachable!("invariant: a point is made by its family's kind"),
        }
    }

    fn open_heads(&mut self) {
        if !self.resource_open {
            let resource = open_resource(&self.attributes);
            self.bytes += resource.encoded_len();
            self.open.push(resource);
            self.resource_open = true;
            self.metric_open = false;
        }
        if !self.metric_open
            && let Some(family) = self.family
            && let Some(scope) =
                self.open.last_mut().and_then(|resource| resource.scope_metrics.last_mut())
        {
            let metric = open_metric(family);
            self.bytes += metric.encoded_len();
            scope.metrics.push(metric);
            self.metric_open = true;
        }
    }

    fn close(&mut self) {
        let resource_metrics = std::mem::take(&mut self.open);
        let items = std::mem::take(&mut self.points);
        self.bytes = 0;
        self.resource_open = false;
        self.metric_open = false;
        if items > 0 {
            let request = ExportMetricsServiceRequest { resource_metrics };
            self.done.push(Payload { request: request.encode_to_vec().into(), items });
        }
    }

    fn finish(mut self) -> Vec<Payload> {
        self.close();
        self.done
    }
}

fn open_resource(attributes: &resource::Attributes) -> ResourceMetrics {
    ResourceMetrics {
        resource: Some(resource::proto(attributes)),
        scope_metrics: vec![ScopeMetrics {
            scope: Some(InstrumentationScope {
                name: SCOPE.to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..Default::default()
            }),
            metrics: Vec::new(),
            schema_url: SCHEMA_URL.to_owned(),
        }],
        schema_url: SCHEMA_URL.to_owned(),
    }
}

fn open_metric(family: &Family) -> Metric {
    let cumulative = AggregationTemporality::Cumulative.into();
    Metric {
        name: family.name.to_owned(),
        description: family.help.to_owned(),
        unit: family.unit.to_owned(),
        metadata: Vec::new(),
        data: Some(match family.metric {
            series::Metric::Counter => metric::Data::Sum(Sum {
                data_points: Vec::new(),
                aggregation_temporality: cumulative,
                is_monotonic: true,
            }),
            series::Metric::Gauge => metric::Data::Gauge(Gauge::default()),
            series::Metric::Histogram(_) => metric::Data::Histogram(Histogram {
                data_points: Vec::new(),
                aggregation_temporality: cumulative,
            }),
        }),
    }
}

enum Point {
    Number(NumberDataPoint),
    Histogram(HistogramDataPoint),
}

impl Point {
    /// `None` where the value is not of the family's kind: a wrong figure is worse than none.
    fn new(family: &Family, member: &Series, time: u64) -> Option<Self> {
        let attributes = member.labels.iter().map(attribute).collect();
        match (family.metric, &member.value) {
            (series::Metric::Counter | series::Metric::Gauge, Value::Number(number)) => {
                Some(Self::Number(NumberDataPoint {
                    attributes,
                    start_time_unix_nano: match family.metric {
                        series::Metric::Gauge => 0,
                        _ => member.start_unix_ns,
                    },
                    time_unix_nano: time,
                    value: Some(number_data_point::Value::AsDouble(*number)),
                    ..Default::default()
                }))
            }
            (series::Metric::Histogram(bounds), Value::Histogram { buckets, sum })
                if buckets.len() == bounds.len() + 1 =>
            {
                Some(Self::Histogram(HistogramDataPoint {
                    attributes,
                    start_time_unix_nano: member.start_unix_ns,
                    time_unix_nano: time,
                    count: buckets.iter().sum(),
                    sum: Some(*sum),
                    bucket_counts: buckets.clone(),
                    explicit_bounds: bounds.to_vec(),
                    ..Default::default()
                }))
            }
            _ => None,
        }
    }

    fn encoded_len(&self) -> usize {
        match self {
            Self::Number(point) => point.encoded_len(),
            Self::Histogram(point) => point.encoded_len(),
        }
    }
}

fn attribute((name, value): &(&'static str, Label)) -> KeyValue {
    match value {
        Label::Text(text) => resource::text(name, text),
        Label::Integer(number) => resource::pair(name, any_value::Value::IntValue(*number)),
    }
}

#[cfg(test)]
mod tests;
