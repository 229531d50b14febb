//! Metrics in the shape of Istio's, for edges of which no proxy of Istio's reports either
//! end: unmeshed workloads, and ambient ones without a waypoint. Names, labels, buckets and
//! directions are those of Istio 1.31 (`istio_stats.cc` of Envoy, `metrics.rs` of ztunnel).
//!
//! **Never beside another reporter of the same edge**: what a sidecar, a gateway or a
//! waypoint reports at one end would be counted again by who adds up both ends.

use std::sync::Arc;

use super::Aggregator;
use super::definition::MetricId;
use super::definition::label::istio as label;
use super::definition::label::{DESTINATION_PRINCIPAL, POLICY, SOURCE_PRINCIPAL};
use super::labels::{Labels, Words};
use super::series::{SeriesTable, SlotId};
use super::snapshot::Label;
use super::summary::CallFacts;
use crate::attribution::cluster::{Service, Sidecar, Workload};
use crate::attribution::mesh::{Mesh, Policy};
use crate::attribution::{ConnectionReport, Identity};
use crate::protocol::exchange::rpc::RpcSystem;
use crate::protocol::{Exchange, Side};

const MILLISECOND_NS: u64 = 1_000_000;
/// Domain of the cluster's services.
const DOMAIN: &str = "svc.cluster.local";

/// What the labels need beside the calls.
#[derive(Clone, Debug)]
pub(super) struct Istio {
    cluster: Arc<str>,
    unknown: Arc<str>,
    latest: Arc<str>,
}

impl Istio {
    /// `cluster`: as Istio calls it; empty: left out.
    pub(super) fn new(cluster: &Arc<str>) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            unknown: Arc::from("unknown"),
            latest: Arc::from("latest"),
        }
    }
}

/// The series of one kind of call.
#[derive(Clone, Copy, Debug)]
pub(super) struct IstioSeries {
    requests: SlotId,
    duration: SlotId,
    request_bytes: SlotId,
    response_bytes: SlotId,
}

impl IstioSeries {
    pub(super) fn record(self, series: &mut SeriesTable, exchange: &Exchange, time_ns: u64) {
        let whole_ms = exchange.duration_ns() / MILLISECOND_NS * MILLISECOND_NS;
        series.add(self.requests, 1, time_ns);
        series.observe(self.duration, whole_ms, time_ns);
        series.observe(self.request_bytes, exchange.request_bytes, time_ns);
        series.observe(self.response_bytes, exchange.response_bytes, time_ns);
    }

    pub(super) fn slots(self) -> [SlotId; 4] {
        [self.requests, self.duration, self.request_bytes, self.response_bytes]
    }
}

/// The series of one edge's connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct IstioTcpSeries {
    pub(super) opened: SlotId,
    pub(super) closed: SlotId,
    pub(super) sent: SlotId,
    pub(super) received: SlotId,
}

impl IstioTcpSeries {
    pub(super) fn record(self, series: &mut SeriesTable, report: &ConnectionReport, time_ns: u64) {
        // Seen from a proxy: what it sent to the client is the answer.
        let (sent, received) = match report.side {
            Side::Client => (report.bytes_received, report.bytes_sent),
            Side::Server => (report.bytes_sent, report.bytes_received),
        };
        for (slot, amount) in [
            (self.opened, u64::from(report.opened && !report.late)),
            (self.closed, u64::from(report.closed.is_some())),
            (self.sent, sent),
            (self.received, received),
        ] {
            series.add(slot, amount, time_ns);
        }
    }

    pub(super) fn slots(self) -> [SlotId; 4] {
        [self.opened, self.closed, self.sent, self.received]
    }
}

impl Aggregator {
    /// The series in Istio's shape, where they are wanted and nobody else reports them.
    pub(super) fn find_istio_series(
        &mut self,
        facts: &CallFacts<'_>,
        time_ns: u64,
    ) -> Option<IstioSeries> {
        let labels = self.words.istio(facts, self.istio.as_ref()?)?;
        let mut slot = |metric| self.series.slot(metric, None, &labels, time_ns);
        Some(IstioSeries {
            requests: slot(MetricId::IstioRequests),
            duration: slot(MetricId::IstioDuration),
            request_bytes: slot(MetricId::IstioRequestBytes),
            response_bytes: slot(MetricId::IstioResponseBytes),
        })
    }
}

/// Whether a proxy of Istio's reports what is beside it.
fn is_reported(identity: &Identity) -> bool {
    let sidecar = identity.workload.as_ref().map(|workload| workload.sidecar);
    matches!(sidecar, Some(Sidecar::Istio | Sidecar::Gateway))
}

impl Words {
    fn istio(&mut self, facts: &CallFacts<'_>, istio: &Istio) -> Option<Labels> {
        let mesh = facts.passage.map(|passage| passage.mesh);
        let (client, server) = (&facts.client.identity, &facts.server.identity);
        let reported = is_reported(client) || is_reported(server) || facts.has_waypoint;
        if facts.local().workload.is_none() || reported || mesh == Some(Mesh::Istio) {
            return None;
        }
        let is_grpc = facts.rpc.is_some_and(|rpc| rpc.system == RpcSystem::Grpc);
        let status = facts.rpc.filter(|_| is_grpc).and_then(|rpc| rpc.status);
        let principal = |text: Option<&str>| text.map(Arc::from);
        let passage = facts.passage.map(|passage| &**passage);
        let edge = Edge {
            istio,
            side: facts.side,
            client,
            server,
            service: facts.service.map(|service| &**service),
            asked: facts.server_address,
            policy: passage.and_then(|passage| passage.policy),
            principals: [
                principal(
                    passage.and_then(|passage| Some(passage.client_principal.as_ref()?.as_str())),
                ),
                principal(
                    passage.and_then(|passage| Some(passage.server_principal.as_ref()?.as_str())),
                ),
            ],
        };
        let mut labels = edge.labels();
        labels.push((label::REQUEST_PROTOCOL.name, if is_grpc { "grpc" } else { "http" }.into()));
        let code = facts.status.unwrap_or(0);
        labels.push((label::RESPONSE_CODE.name, code.to_string().into()));
        if let Some(status) = status {
            labels.push((label::GRPC_RESPONSE_STATUS.name, status.to_string().into()));
        }
        Some(finish(labels))
    }

    /// Labels of a connection that carries no calls: those of calls are counted as requests.
    pub(super) fn istio_tcp(&mut self, report: &ConnectionReport, istio: &Istio) -> Option<Labels> {
        let (client, server) = (&report.client.identity, &report.server.identity);
        let local = match report.side {
            Side::Client => client,
            Side::Server => server,
        };
        let reported = is_reported(client) || is_reported(server);
        // A ztunnel reports every connection.
        if report.spoke || report.mesh.is_some() || reported || local.workload.is_none() {
            return None;
        }
        let edge = Edge {
            istio,
            side: report.side,
            client,
            server,
            service: report.service.as_deref(),
            asked: &istio.unknown,
            policy: None,
            principals: [None, None],
        };
        let mut labels = edge.labels();
        labels.push((label::REQUEST_PROTOCOL.name, "tcp".into()));
        Some(finish(labels))
    }
}

type Pairs = Vec<(&'static str, Arc<str>)>;

fn finish(mut labels: Pairs) -> Labels {
    labels.retain(|(_, value)| !value.is_empty());
    labels.sort_unstable_by_key(|(name, _)| *name);
    labels.into_iter().map(|(name, value)| (name, Label::Text(value))).collect()
}

/// What both kinds of metrics say of an edge.
struct Edge<'a> {
    istio: &'a Istio,
    side: Side,
    client: &'a Identity,
    server: &'a Identity,
    service: Option<&'a Service>,
    /// Host that the client asked for.
    asked: &'a Arc<str>,
    policy: Option<Policy>,
    /// The client's and the server's.
    principals: [Option<Arc<str>>; 2],
}

impl Edge<'_> {
    fn labels(&self) -> Pairs {
        let known =
            |text: Option<Arc<str>>| text.unwrap_or_else(|| Arc::clone(&self.istio.unknown));
        let [client, server] = self.principals.clone();
        // A client's proxy does not know how its own connection is seen at the other end.
        let policy = match (self.side, self.policy) {
            (Side::Client, _) => "unknown",
            (Side::Server, Some(Policy::MutualTls)) => "mutual_tls",
            (Side::Server, _) => "none",
        };
        let reporter = match self.side {
            Side::Client => "source",
            Side::Server => "destination",
        };
        let mut labels: Pairs = Vec::with_capacity(25);
        labels.extend([
            (POLICY.name, policy.into()),
            (label::REPORTER.name, reporter.into()),
            (label::RESPONSE_FLAGS.name, "-".into()),
            (SOURCE_PRINCIPAL.name, known(client)),
            (DESTINATION_PRINCIPAL.name, known(server)),
            (label::SOURCE_CLUSTER.name, Arc::clone(&self.istio.cluster)),
            (label::DESTINATION_CLUSTER.name, Arc::clone(&self.istio.cluster)),
        ]);
        labels.extend(self.workload(self.client, &SOURCE));
        labels.extend(self.workload(self.server, &DESTINATION));
        labels.extend(self.service());
        labels
    }

    fn workload(&self, identity: &Identity, names: &Names) -> Pairs {
        let of = |read: fn(&Workload) -> &Arc<str>| {
            let text = identity.workload.as_deref().map(read).filter(|text| !text.is_empty());
            Arc::clone(text.unwrap_or(&self.istio.unknown))
        };
        let revision = identity.workload.as_ref().map(|workload| &workload.revision);
        vec![
            (names.app, of(|workload| &workload.app)),
            (names.version, of(|workload| &workload.app_version)),
            (names.workload, of(|workload| &workload.name)),
            (names.namespace, of(|workload| &workload.namespace)),
            (names.canonical, of(|workload| &workload.canonical)),
            (names.revision, Arc::clone(revision.unwrap_or(&self.istio.latest))),
        ]
    }

    fn service(&self) -> Pairs {
        let unknown = &self.istio.unknown;
        let server = self.server.workload.as_deref();
        let namespace = server.map_or(unknown, |workload| &workload.namespace);
        let (host, name, namespace) = match self.service {
            Some(service) => {
                let host = format!("{}.{}.{DOMAIN}", service.name, service.namespace);
                (host.into(), Arc::clone(&service.name), &service.namespace)
            }
            None if self.side == Side::Server => {
                let canonical = server.map_or(unknown, |workload| &workload.canonical);
                (Arc::clone(canonical), Arc::clone(canonical), namespace)
            }
            None => (Arc::clone(self.asked), first_label(self.asked), namespace),
        };
        vec![
            (label::DESTINATION_SERVICE.name, host),
            (label::DESTINATION_SERVICE_NAME.name, name),
            (label::DESTINATION_SERVICE_NAMESPACE.name, Arc::clone(namespace)),
        ]
    }
}

/// The first label of a DNS name; an address as it is.
fn first_label(host: &Arc<str>) -> Arc<str> {
    if host.parse::<std::net::IpAddr>().is_ok() {
        return Arc::clone(host);
    }
    host.split_once('.').map_or_else(|| Arc::clone(host), |(first, _)| first.into())
}

/// Names of the labels of one end.
struct Names {
    app: &'static str,
    version: &'static str,
    workload: &'static str,
    namespace: &'static str,
    canonical: &'static str,
    revision: &'static str,
}

static SOURCE: Names = Names {
    app: label::SOURCE_APP.name,
    version: label::SOURCE_VERSION.name,
    workload: label::SOURCE_WORKLOAD.name,
    namespace: label::SOURCE_WORKLOAD_NAMESPACE.name,
    canonical: label::SOURCE_CANONICAL_SERVICE.name,
    revision: label::SOURCE_CANONICAL_REVISION.name,
};

static DESTINATION: Names = Names {
    app: label::DESTINATION_APP.name,
    version: label::DESTINATION_VERSION.name,
    workload: label::DESTINATION_WORKLOAD.name,
    namespace: label::DESTINATION_WORKLOAD_NAMESPACE.name,
    canonical: label::DESTINATION_CANONICAL_SERVICE.name,
    revision: label::DESTINATION_CANONICAL_REVISION.name,
};
