//! The stage as a whole: what is counted, under which labels, and what the bounds do to it.

mod istio;
mod rpc;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use meshtap_ebpf::event::{CLOSE_FIN, CLOSE_REFUSED, CLOSE_RESET_RECEIVED};
use proptest::prelude::*;

use super::series::OVERFLOWS;
use super::*;
use crate::attribution::mesh::{Mesh, Passage, Through, Times};
use crate::attribution::{ConnectionReport, Identity, IdentityKind};
use crate::protocol::{Cause, Exchange, Protocol, Text};

const SECOND: u64 = 1_000_000_000;
const IDLE: u64 = 600 * SECOND;

fn identity(name: &str, namespace: &str) -> Arc<Identity> {
    Arc::new(Identity {
        name: name.into(),
        namespace: namespace.into(),
        kind: IdentityKind::Process,
        attributes: Vec::new(),
        workload: None,
    })
}

fn party(identity: &Arc<Identity>) -> Party {
    let endpoint: SocketAddr = "127.0.0.1:80".parse().expect("an address");
    Party { identity: Arc::clone(identity), endpoint: Some(endpoint), pid: 1 }
}

fn exchange(side: Side) -> Exchange {
    Exchange {
        method: Text::from("GET"),
        path: Text::from("/orders/7"),
        status: Some(200),
        request_end_ns: Some(1_500),
        first_byte_ns: Some(2_000),
        end_ns: 1_000 + 20_000_000,
        response_bytes: 600,
        ..Exchange::begun(1, side, Protocol::Http11, 1_000)
    }
}

struct World {
    shop: Arc<Identity>,
    stock: Arc<Identity>,
    route: Arc<str>,
    address: Arc<str>,
}

impl World {
    fn new() -> Self {
        Self {
            shop: identity("shop", "web"),
            stock: identity("stock", ""),
            route: "/orders/{id}".into(),
            address: "stock.internal".into(),
        }
    }

    fn call(&self, side: Side) -> Call {
        Call {
            exchange: Box::new(exchange(side)),
            client: party(&self.shop),
            server: party(&self.stock),
            route: Arc::clone(&self.route),
            server_address: Arc::clone(&self.address),
            server_port: 8_080,
            peer_observed: true,
            pair: 1,
            service: None,
            passes_waypoint: false,
            passage: None,
            through: None,
        }
    }

    fn report(&self, socket: u64) -> ConnectionReport {
        ConnectionReport {
            socket,
            side: Side::Client,
            client: party(&self.shop),
            server: party(&self.stock),
            opened: false,
            late: false,
            closed: None,
            failed: None,
            bytes_received: 0,
            bytes_sent: 0,
            retransmits: 0,
            rtt_us: None,
            connect_ns: None,
            service: None,
            mesh: None,
            spoke: false,
        }
    }
}

fn aggregator() -> Aggregator {
    Aggregator::new(AggregationSettings::default(), 0, 0)
}

/// Every series by text: name, workload and labels; counts of histograms.
fn figures(snapshot: &Snapshot) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    for family in &snapshot.families {
        for series in &family.series {
            let figure = match &series.value {
                Value::Number(number) => *number,
                Value::Histogram { buckets, .. } => exact(buckets.iter().sum()),
            };
            let labels = labels(series);
            assert!(all.insert(format!("{}{{{labels}}}", family.name), figure).is_none());
        }
    }
    all
}

#[expect(clippy::cast_precision_loss, reason = "counts of tests are small")]
fn exact(count: u64) -> f64 {
    count as f64
}

fn labels(series: &Series) -> String {
    let mut parts = Vec::new();
    if let Some(identity) = &series.resource {
        parts.push(format!("service.name={}", identity.name));
    }
    for (name, value) in &series.labels {
        parts.push(match value {
            Label::Text(text) => format!("{name}={text}"),
            Label::Integer(number) => format!("{name}={number}"),
        });
    }
    parts.join(",")
}

fn total(snapshot: &Snapshot, name: &str) -> f64 {
    let prefix = format!("{name}{{");
    figures(snapshot).iter().filter(|(key, _)| key.starts_with(&prefix)).map(|(_, v)| v).sum()
}

fn start(snapshot: &Snapshot, name: &str) -> u64 {
    let family = snapshot.families.iter().find(|family| family.name == name).expect("a family");
    family.series[0].start_unix_ns
}

fn assert_is_defined(snapshot: &Snapshot) {
    for family in &snapshot.families {
        let defined = DEFINITIONS
            .iter()
            .find(|definition| definition.name == family.name)
            .unwrap_or_else(|| panic!("{} is not defined", family.name));
        for series in &family.series {
            let names: Vec<_> = series.labels.iter().map(|(name, _)| *name).collect();
            assert!(names.is_sorted_by(|a, b| a < b), "{}: {names:?}", family.name);
            for name in names {
                assert!(
                    name == "otel.metric.overflow"
                        || defined.labels.iter().any(|label| label.name == name),
                    "{name} of {}",
                    family.name
                );
            }
            if let (Value::Histogram { buckets, .. }, Metric::Histogram(bounds)) =
                (&series.value, family.metric)
            {
                assert_eq!(buckets.len(), bounds.len() + 1);
            }
        }
    }
}

#[test]
fn both_ends_of_a_call_are_one_call_of_the_edge() {
    let world = World::new();
    let mut stage = aggregator();
    stage.record(&world.call(Side::Client), 1);
    stage.record(&world.call(Side::Server), 2);
    let snapshot = stage.snapshot(3);
    assert_is_defined(&snapshot);
    let common = "http.request.method=GET,http.response.status_code=200,http.route=/orders/{id},network.protocol.version=1.1";
    let server = format!(
        "{{service.name=stock,{common},service.peer.name=shop,service.peer.namespace=web,url.scheme=http}}"
    );
    let client = format!(
        "{{service.name=shop,{common},server.address=stock.internal,server.port=8080,service.peer.name=stock}}"
    );
    let edge = "{client=shop,client_service_namespace=web,server=stock}";
    let expected: BTreeMap<String, f64> = [
        (format!("http.server.request.duration{server}"), 1.0),
        (format!("http.server.request.body.size{server}"), 1.0),
        (format!("http.server.response.body.size{server}"), 1.0),
        (format!("http.client.request.duration{client}"), 1.0),
        (format!("http.client.request.body.size{client}"), 1.0),
        (format!("http.client.response.body.size{client}"), 1.0),
        (format!("traces_service_graph_request_total{edge}"), 1.0),
        (format!("traces_service_graph_request_failed_total{edge}"), 0.0),
        (format!("traces_service_graph_request_server_seconds{edge}"), 1.0),
        (format!("traces_service_graph_request_client_seconds{edge}"), 1.0),
    ]
    .into();
    assert_eq!(figures(&snapshot), expected);
}

#[test]
fn a_call_with_one_observed_end_counts_by_that_end() {
    let world = World::new();
    for side in [Side::Client, Side::Server] {
        let mut stage = aggregator();
        let mut call = world.call(side);
        call.peer_observed = false;
        stage.record(&call, 1);
        let figures = figures(&stage.snapshot(2));
        let edge =
            "{client=shop,client_service_namespace=web,connection_type=virtual_node,server=stock}";
        assert_eq!(figures[&format!("traces_service_graph_request_total{edge}")], 1.0);
    }
}

#[test]
fn what_lies_between_two_ends_in_a_mesh_is_counted_once() {
    let world = World::new();
    let mut stage = aggregator();
    let proxied = |side, between_ns| {
        let times = Times { between_ns, ..Times::default() };
        let through =
            Through { number: 1, other: None, tried: Vec::new(), by: None, times, waypoint: None };
        let passage = Passage {
            mesh: Mesh::Istio,
            policy: None,
            client_principal: None,
            server_principal: None,
        };
        let through = Some(Box::new(through));
        Call { passage: Some(Arc::new(passage)), through, ..world.call(side) }
    };
    stage.record(&proxied(Side::Server, None), 1);
    let edge = "{client=shop,client_service_namespace=web,mesh=istio,server=stock}";
    let name = format!("meshtap.mesh.between{edge}");
    assert!(!figures(&stage.snapshot(2)).contains_key(&name), "nothing is known of it");
    stage.record(&proxied(Side::Client, Some(3_000_000)), 3);
    stage.record(&proxied(Side::Client, None), 4);
    stage.record(&proxied(Side::Client, Some(4_000_000)), 5);
    let snapshot = stage.snapshot(6);
    assert_is_defined(&snapshot);
    assert_eq!(figures(&snapshot)[&name], 2.0);
    let calls = format!("traces_service_graph_request_client_seconds{edge}");
    assert_eq!(figures(&snapshot)[&calls], 3.0);
}

#[test]
fn durations_and_sizes_fall_into_their_buckets() {
    let world = World::new();
    let mut stage = aggregator();
    stage.record(&world.call(Side::Server), 1);
    let snapshot = stage.snapshot(2);
    let value = |name: &str| {
        let family = snapshot.families.iter().find(|family| family.name == name).expect("family");
        family.series[0].value.clone()
    };
    let mut buckets = vec![0; 15];
    buckets[2] = 1;
    let duration = value("http.server.request.duration");
    assert_eq!(duration, Value::Histogram { buckets, sum: 0.02 });
    let Value::Histogram { buckets, sum } = value("http.server.response.body.size") else {
        panic!("no histogram")
    };
    assert_eq!((buckets[2], sum), (1, 600.0));
}

#[test]
fn error_type_depends_on_the_side_and_a_failed_edge_does_not() {
    let world = World::new();
    // Side, status, cause; error.type, whether the edge's call failed.
    let cases = [
        (Side::Server, Some(404), None, None, 0.0),
        (Side::Client, Some(404), None, Some("404"), 0.0),
        (Side::Server, Some(503), None, Some("503"), 1.0),
        (Side::Client, Some(503), None, Some("503"), 1.0),
        (Side::Server, Some(200), Some(Cause::ResetReceived), Some("connection_reset"), 1.0),
        (Side::Client, None, Some(Cause::Timeout), Some("timeout"), 1.0),
        (Side::Client, Some(302), None, None, 0.0),
    ];
    for (side, status, error, error_type, failed) in cases {
        let mut stage = aggregator();
        let mut call = world.call(side);
        call.peer_observed = false;
        call.exchange.status = status;
        call.exchange.error = error;
        stage.record(&call, 1);
        let snapshot = stage.snapshot(2);
        assert_is_defined(&snapshot);
        assert_eq!(total(&snapshot, "traces_service_graph_request_failed_total"), failed);
        let labels = &snapshot.families[0].series[0].labels;
        let label = |wanted| labels.iter().find(|(name, _)| *name == wanted).map(|(_, v)| v);
        assert_eq!(label("error.type"), error_type.map(|t| Label::Text(t.into())).as_ref());
        let status = status.map(|status| Label::Integer(i64::from(status)));
        assert_eq!(label("http.response.status_code"), status.as_ref());
    }
}

#[test]
fn methods_that_no_standard_knows_make_one_series() {
    let world = World::new();
    let mut stage = aggregator();
    for method in ["get", "PROPFIND", "X1", ""] {
        let mut call = world.call(Side::Server);
        call.exchange.method = Text::from(method);
        stage.record(&call, 1);
    }
    let figures = figures(&stage.snapshot(2));
    let durations: Vec<_> =
        figures.iter().filter(|(key, _)| key.starts_with("http.server.request.duration")).collect();
    assert_eq!(durations.len(), 1);
    assert!(durations[0].0.contains("http.request.method=_OTHER"));
    assert_eq!(*durations[0].1, 4.0);
}

#[test]
fn equal_text_in_other_allocations_is_the_same_series() {
    let mut stage = aggregator();
    for _ in 0..3 {
        let world = World::new();
        stage.record(&world.call(Side::Client), 1);
        stage.connection(&ConnectionReport { opened: true, ..world.report(0) }, 1);
    }
    let snapshot = stage.snapshot(2);
    // `figures` refuses two series of one label set.
    assert_eq!(total(&snapshot, "http.client.request.duration"), 3.0);
    assert_eq!(total(&snapshot, "meshtap.tcp.connections.opened"), 3.0);
}

#[test]
fn instances_of_a_workload_are_apart_and_other_attributes_are_not() {
    let with = |attributes: Vec<(&'static str, &str)>| {
        let attributes = attributes.into_iter().map(|(name, value)| (name, value.into())).collect();
        Arc::new(Identity { attributes, ..Identity::clone(&identity("stock", "")) })
    };
    let mut stage = aggregator();
    for stock in [
        with(vec![("container.id", "a")]),
        with(vec![("container.id", "b")]),
        with(vec![("container.id", "b"), ("process.executable.name", "java")]),
    ] {
        stage.record(&World { stock, ..World::new() }.call(Side::Server), 1);
    }
    let snapshot = stage.snapshot(2);
    assert_eq!(snapshot.families[0].series.len(), 2);
    let edges = snapshot.families.iter().find(|f| f.name == "traces_service_graph_request_total");
    assert_eq!(edges.expect("edges").series.len(), 1, "edges are between workloads");
}

#[test]
fn what_exceeds_the_budget_is_in_one_series_per_metric_and_in_the_totals() {
    let world = World::new();
    let limit = OVERFLOWS + 12;
    let settings = AggregationSettings { series_limit: limit, ..AggregationSettings::default() };
    let mut stage = Aggregator::new(settings, 0, 0);
    for number in 0..100_u64 {
        let mut call = world.call(Side::Server);
        call.route = format!("/{number}").into();
        stage.record(&call, number);
        let report = ConnectionReport {
            client: party(&identity(&format!("c{number}"), "")),
            opened: true,
            bytes_sent: 10,
            ..world.report(number + 1)
        };
        stage.connection(&report, number);
    }
    let snapshot = stage.snapshot(200);
    assert_is_defined(&snapshot);
    let count: usize = snapshot.families.iter().map(|family| family.series.len()).sum();
    assert!(count <= limit, "{count} series");
    assert_eq!(stage.occupancy().series, count);
    for name in [
        "http.server.request.duration",
        "http.server.response.body.size",
        "traces_service_graph_request_total",
        "meshtap.tcp.connections.opened",
        "meshtap.tcp.connections.active",
    ] {
        assert_eq!(total(&snapshot, name), 100.0, "{name}");
    }
    assert_eq!(total(&snapshot, "meshtap.tcp.io"), 1_000.0);
    for family in &snapshot.families {
        let overflow = family
            .series
            .iter()
            .filter(|series| series.labels.iter().any(|(name, _)| *name == "otel.metric.overflow"));
        assert!(overflow.count() <= 1, "{}", family.name);
    }
    assert!(stage.occupancy().overflowed >= 100);
}

#[test]
fn an_idle_series_goes_and_comes_back_with_a_new_start() {
    let world = World::new();
    let mut stage = aggregator();
    let call = world.call(Side::Server);
    stage.record(&call, 5 * SECOND);
    stage.record(&call, 6 * SECOND);
    stage.expire(6 * SECOND + IDLE);
    assert_eq!(total(&stage.snapshot(1), "http.server.request.duration"), 2.0, "not idle yet");
    stage.expire(6 * SECOND + IDLE + 1);
    assert!(stage.snapshot(1).families.is_empty());
    assert_eq!(stage.occupancy().expired, 6);
    stage.record(&call, 2_000 * SECOND);
    let snapshot = stage.snapshot(2_001 * SECOND);
    assert_eq!(total(&snapshot, "http.server.request.duration"), 1.0);
    for family in &snapshot.families {
        assert_eq!(family.series[0].start_unix_ns, 2_000 * SECOND, "{}", family.name);
    }
}

/// A step is no time in which something was idle; nothing begins after the moment at which it
/// is read, and nothing begins anew.
#[test]
fn steps_of_the_wall_clock_change_no_series() {
    const HOUR: i64 = 3_600_000_000_000;
    let world = World::new();
    let mut stage = Aggregator::new(AggregationSettings::default(), SECOND, 10 * HOUR);
    let of = |stage: &Aggregator, now| {
        let snapshot = stage.snapshot(now);
        let starts: std::collections::BTreeSet<u64> = snapshot
            .families
            .iter()
            .flat_map(|family| family.series.iter().map(|series| series.start_unix_ns))
            .collect();
        assert_eq!(starts.len(), 1);
        assert!(starts.iter().all(|start| *start <= snapshot.time_unix_ns), "{starts:?}");
        assert_eq!(total(&snapshot, "http.server.request.duration"), 1.0);
        (starts.into_iter().next().unwrap_or(0), snapshot.time_unix_ns)
    };
    stage.record(&world.call(Side::Server), 2 * SECOND);
    let ten = 10 * HOUR.unsigned_abs();
    assert_eq!(of(&stage, 3 * SECOND), (ten + 2 * SECOND, ten + 3 * SECOND));
    stage.follow_clock(15 * HOUR, 4 * SECOND);
    stage.expire(4 * SECOND);
    assert_eq!(of(&stage, 4 * SECOND), (ten + 2 * SECOND, ten + ten / 2 + 4 * SECOND));
    // To a time before the agent's start.
    stage.follow_clock(5 * HOUR, 5 * SECOND);
    stage.expire(5 * SECOND);
    assert_eq!(of(&stage, 5 * SECOND), (ten / 2 + 2 * SECOND, ten / 2 + 5 * SECOND));
    assert_eq!(stage.start_unix_ns(), ten / 2 + SECOND);
}

#[test]
fn a_failure_counter_lives_as_long_as_its_total() {
    let world = World::new();
    let mut stage = aggregator();
    let mut failing = world.call(Side::Server);
    failing.exchange.status = Some(500);
    stage.record(&failing, 1);
    for minute in 0..30 {
        let now = minute * 60 * SECOND;
        stage.record(&world.call(Side::Server), now);
        stage.expire(now);
    }
    let snapshot = stage.snapshot(0);
    assert_eq!(total(&snapshot, "traces_service_graph_request_failed_total"), 1.0);
    assert_eq!(start(&snapshot, "traces_service_graph_request_failed_total"), 1);
}

#[test]
fn room_that_expiry_makes_is_used_again() {
    let settings = AggregationSettings { series_limit: OVERFLOWS + 6, ..Default::default() };
    let mut stage = Aggregator::new(settings, 0, 0);
    let (old, new) = (World::new(), World { route: "/new".into(), ..World::new() });
    stage.record(&old.call(Side::Server), 0);
    stage.record(&new.call(Side::Server), IDLE);
    let before = figures(&stage.snapshot(1));
    assert!(before.contains_key("http.server.request.duration{otel.metric.overflow=true}"));
    stage.expire(2 * IDLE);
    stage.record(&new.call(Side::Server), 2 * IDLE);
    let after = figures(&stage.snapshot(1));
    assert_eq!(after["http.server.request.duration{otel.metric.overflow=true}"], 1.0);
    assert!(after.keys().any(|key| key.contains("http.route=/new")));
}

#[test]
fn connections_are_counted_by_what_happened_to_them() {
    let world = World::new();
    let mut stage = aggregator();
    stage.connection(
        &ConnectionReport {
            opened: true,
            connect_ns: Some(80_000),
            service: None,
            mesh: None,
            spoke: false,
            rtt_us: Some(70),
            bytes_sent: 100,
            ..world.report(1)
        },
        1,
    );
    stage.connection(&ConnectionReport { opened: true, late: true, ..world.report(2) }, 1);
    stage.connection(&ConnectionReport { failed: Some(CLOSE_REFUSED), ..world.report(3) }, 1);
    stage.connection(
        &ConnectionReport {
            closed: Some(CLOSE_RESET_RECEIVED),
            bytes_received: 7,
            retransmits: 2,
            ..world.report(1)
        },
        2,
    );
    let snapshot = stage.snapshot(3);
    assert_is_defined(&snapshot);
    let figures = figures(&snapshot);
    let figure = |name: &str, label: &str| {
        let label = if label.is_empty() { String::new() } else { format!("{label},") };
        figures[&format!("{name}{{service.name=shop,{label}role=client,service.peer.name=stock}}")]
    };
    assert_eq!(figure("meshtap.tcp.connections.opened", ""), 1.0);
    assert_eq!(figure("meshtap.tcp.connections.active", ""), 1.0);
    assert_eq!(figure("meshtap.tcp.connections.failed", "reason=refused"), 1.0);
    assert_eq!(figure("meshtap.tcp.connections.closed", "reason=reset_received"), 1.0);
    assert_eq!(figure("meshtap.tcp.io", "network.io.direction=transmit"), 100.0);
    assert_eq!(figure("meshtap.tcp.io", "network.io.direction=receive"), 7.0);
    assert_eq!(figure("meshtap.tcp.retransmits", ""), 2.0);
    assert_eq!(figure("meshtap.tcp.resets", "network.io.direction=receive"), 1.0);
    assert_eq!(figure("meshtap.tcp.resets", "network.io.direction=transmit"), 0.0);
    assert_eq!(figure("meshtap.tcp.connect.duration", ""), 1.0);
    assert_eq!(figure("meshtap.tcp.rtt", ""), 1.0);
}

#[test]
fn the_gauge_outlives_its_idle_edge_and_comes_down_with_the_connection() {
    let world = World::new();
    let mut stage = aggregator();
    stage.connection(&ConnectionReport { opened: true, ..world.report(1) }, 0);
    stage.expire(2 * IDLE);
    let snapshot = stage.snapshot(0);
    assert_eq!(total(&snapshot, "meshtap.tcp.connections.active"), 1.0);
    assert_eq!(total(&snapshot, "meshtap.tcp.connections.opened"), 0.0, "expired");
    stage.connection(&ConnectionReport { closed: Some(CLOSE_FIN), ..world.report(1) }, 2 * IDLE);
    assert_eq!(total(&stage.snapshot(0), "meshtap.tcp.connections.active"), 0.0);
    stage.expire(4 * IDLE);
    assert!(stage.snapshot(0).families.is_empty());
    assert_eq!(stage.occupancy().connections, 0);
}

#[test]
fn a_connection_that_changes_hands_moves_and_leaves_the_right_gauge() {
    let world = World::new();
    let other = World { shop: identity("worker", "web"), ..World::new() };
    let mut stage = aggregator();
    let gauge = |stage: &Aggregator, name: &str| {
        figures(&stage.snapshot(0))
            .iter()
            .filter(|(key, _)| {
                key.starts_with("meshtap.tcp.connections.active") && key.contains(name)
            })
            .map(|(_, value)| *value)
            .sum::<f64>()
    };
    stage.connection(&ConnectionReport { opened: true, ..world.report(1) }, 0);
    stage.connection(&other.report(1), 1);
    assert_eq!((gauge(&stage, "=shop"), gauge(&stage, "=worker")), (0.0, 1.0));
    // Its end is told under the first name again.
    stage.connection(&ConnectionReport { closed: Some(CLOSE_FIN), ..world.report(1) }, 2);
    stage.connection(&ConnectionReport { closed: Some(CLOSE_FIN), ..world.report(1) }, 2);
    assert_eq!((gauge(&stage, "=shop"), gauge(&stage, "=worker")), (0.0, 0.0));
}

#[test]
fn connections_beyond_the_bound_are_not_in_the_gauge_and_do_not_leave_it() {
    let world = World::new();
    let settings = AggregationSettings { connection_limit: 2, ..Default::default() };
    let mut stage = Aggregator::new(settings, 0, 0);
    for socket in 1..=3 {
        stage.connection(&ConnectionReport { opened: true, ..world.report(socket) }, 0);
    }
    assert_eq!(total(&stage.snapshot(0), "meshtap.tcp.connections.active"), 2.0);
    assert_eq!(stage.occupancy().connections_dropped, 1);
    for socket in 1..=3 {
        let report = ConnectionReport { closed: Some(CLOSE_FIN), ..world.report(socket) };
        stage.connection(&report, 1);
    }
    assert_eq!(total(&stage.snapshot(0), "meshtap.tcp.connections.active"), 0.0);
    assert_eq!(total(&stage.snapshot(0), "meshtap.tcp.connections.opened"), 3.0);
}

#[test]
fn the_gauge_does_not_drift_when_the_budget_frees_up_in_between() {
    let settings = AggregationSettings { series_limit: OVERFLOWS + 6, ..Default::default() };
    let mut stage = Aggregator::new(settings, 0, 0);
    let world = World::new();
    stage.record(&world.call(Side::Server), 0);
    stage.connection(&ConnectionReport { opened: true, ..world.report(1) }, IDLE);
    let overflow = "meshtap.tcp.connections.active{otel.metric.overflow=true}";
    assert_eq!(figures(&stage.snapshot(0))[overflow], 1.0);
    stage.expire(IDLE + 1);
    stage.connection(&ConnectionReport { bytes_sent: 1, ..world.report(1) }, IDLE + 2);
    assert_eq!(figures(&stage.snapshot(0))[overflow], 0.0);
    assert_eq!(total(&stage.snapshot(0), "meshtap.tcp.connections.active"), 1.0);
    stage.connection(&ConnectionReport { closed: Some(CLOSE_FIN), ..world.report(1) }, IDLE + 3);
    assert_eq!(total(&stage.snapshot(0), "meshtap.tcp.connections.active"), 0.0);
}

#[test]
fn lost_calls_are_declared_with_their_edge_where_it_is_known() {
    let world = World::new();
    let mut stage = Aggregator::new(AggregationSettings::default(), 3, 0);
    stage.lost(None, "gap", 0, 10);
    stage.lost(None, "syntax", 2, 10);
    stage.lost(Some((&party(&world.shop), &party(&world.stock))), "gap", 5, 10);
    let snapshot = stage.snapshot(11);
    assert_is_defined(&snapshot);
    let expected: BTreeMap<String, f64> = [
        ("meshtap_calls_lost_total{reason=gap}".to_owned(), 0.0),
        ("meshtap_calls_lost_total{reason=syntax}".to_owned(), 2.0),
        (
            "meshtap_calls_lost_total{client=shop,client_service_namespace=web,reason=gap,server=stock}"
                .to_owned(),
            5.0,
        ),
    ]
    .into();
    assert_eq!(figures(&snapshot), expected);
    assert_eq!(start(&snapshot, "meshtap_calls_lost_total"), 3);
    stage.expire(10 * IDLE);
    assert_eq!(figures(&stage.snapshot(0)).len(), 2, "reasons stay");
}

#[test]
fn shortcuts_are_bounded_and_dropping_them_loses_nothing() {
    let settings = AggregationSettings { series_limit: OVERFLOWS + 100, ..Default::default() };
    let mut stage = Aggregator::new(settings, 0, 0);
    let world = World::new();
    for number in 0..1_000_u64 {
        let mut call = world.call(Side::Client);
        call.server_address = format!("host{number}").into();
        stage.record(&call, number);
    }
    let occupancy = stage.occupancy();
    assert!(occupancy.shortcuts <= occupancy.shortcut_limit);
    assert!(occupancy.shortcuts_dropped > 0);
    assert_eq!(total(&stage.snapshot(0), "http.client.request.duration"), 1_000.0);
}

fn any_call() -> impl Strategy<Value = Call> {
    let worlds: [World; 2] = [World::new(), World { route: "/b".into(), ..World::new() }];
    let status = prop_oneof![Just(None), Just(Some(200)), Just(Some(404)), Just(Some(502))];
    let error = prop_oneof![3 => Just(None), 1 => Just(Some(Cause::Closed))];
    let method = prop_oneof![Just("GET"), Just("POST"), Just("BREW")];
    let rpc = prop_oneof![Just(None), rpc::any_rpc().prop_map(Some)];
    let what = (status, error, method, rpc);
    (any::<(bool, bool, bool)>(), what, 0..u64::MAX / 2, any::<(u32, u32)>()).prop_map(
        move |((world, side, observed), (status, error, method, rpc), duration, bytes)| {
            let side = if side { Side::Client } else { Side::Server };
            let mut call = worlds[usize::from(world)].call(side);
            call.peer_observed = observed;
            call.exchange.status = status;
            call.exchange.error = error;
            call.exchange.method = Text::from(method);
            call.exchange.end_ns = call.exchange.start_ns + duration / 1_000_000;
            (call.exchange.request_bytes, call.exchange.response_bytes) =
                (u64::from(bytes.0), u64::from(bytes.1));
            call.exchange.rpc = rpc;
            call
        },
    )
}

fn kind(call: &Call) -> String {
    let CallSummary { side, method, status, error, route, peer_observed, rpc, .. } =
        CallSummary::of(call);
    let rpc = rpc.map(|rpc| {
        let counted = (rpc.request_messages.is_some(), rpc.response_messages.is_some());
        (rpc.system, rpc.status, counted)
    });
    format!("{side:?} {method:?} {status:?} {error:?} {route} {peer_observed} {rpc:?}")
}

proptest! {
    #[test]
    fn a_summary_makes_the_series_that_its_calls_make(
        calls in proptest::collection::vec(any_call(), 1..60),
    ) {
        let settings = AggregationSettings { rpc_names: RpcNames::Both, ..Default::default() };
        let [mut one_by_one, mut at_once] = [(); 2].map(|()| Aggregator::new(settings.clone(), 0, 0));
        let mut summaries: BTreeMap<String, CallSummary> = BTreeMap::new();
        for call in &calls {
            one_by_one.record(call, 7);
            summaries
                .entry(kind(call))
                .and_modify(|summary| summary.add(call))
                .or_insert_with(|| CallSummary::of(call));
        }
        for summary in summaries.values() {
            at_once.record_summary(summary, 7);
        }
        let whole = |stage: &Aggregator| {
            let mut all: Vec<String> = Vec::new();
            for family in stage.snapshot(8).families {
                for series in &family.series {
                    let (name, labels) = (family.name, labels(series));
                    all.push(format!("{name} {labels} {} {:?}", series.start_unix_ns, series.value));
                }
            }
            all.sort();
            all
        };
        prop_assert_eq!(whole(&one_by_one), whole(&at_once));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Open(u64, bool),
    Report(u64, bool),
    Close(u64, bool),
    Call(u8),
    Wait(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let socket = 1..6_u64;
    prop_oneof![
        (socket.clone(), any::<bool>()).prop_map(|(socket, world)| Step::Open(socket, world)),
        (socket.clone(), any::<bool>()).prop_map(|(socket, world)| Step::Report(socket, world)),
        (socket, any::<bool>()).prop_map(|(socket, world)| Step::Close(socket, world)),
        (0..20_u8).prop_map(Step::Call),
        (1..IDLE).prop_map(Step::Wait),
    ]
}

/// Whether no counter or histogram went back without a later start.
fn only_grows(before: &Snapshot, after: &Snapshot) -> bool {
    let states = |snapshot: &Snapshot| {
        let mut states = BTreeMap::new();
        for family in snapshot.families.iter().filter(|family| family.metric != Metric::Gauge) {
            for series in &family.series {
                let value = match &series.value {
                    Value::Number(number) => *number,
                    Value::Histogram { buckets, .. } => exact(buckets.iter().sum()),
                };
                let key = format!("{} {}", family.name, labels(series));
                states.insert(key, (series.start_unix_ns, value));
            }
        }
        states
    };
    let (before, after) = (states(before), states(after));
    after.iter().all(|(key, (start, value))| {
        before.get(key).is_none_or(|(old_start, old_value)| {
            if start == old_start { value >= old_value } else { start > old_start }
        })
    })
}

proptest! {
    #[test]
    fn gauges_follow_and_counters_grow_whatever_happens(
        steps in proptest::collection::vec(any_step(), 1..80),
        room in 0..40_usize,
    ) {
        let worlds = [World::new(), World { shop: identity("worker", ""), ..World::new() }];
        let settings =
            AggregationSettings { series_limit: OVERFLOWS + room, ..Default::default() };
        let mut stage = Aggregator::new(settings, 0, 0);
        let (mut now, mut open) = (1, std::collections::BTreeSet::new());
        let mut seen = stage.snapshot(now);
        for step in steps {
            now += 1;
            match step {
                Step::Open(socket, world) => {
                    let report = worlds[usize::from(world)].report(socket);
                    stage.connection(&ConnectionReport { opened: true, ..report }, now);
                    open.insert(socket);
                }
                Step::Report(socket, world) => {
                    let report = worlds[usize::from(world)].report(socket);
                    stage.connection(&ConnectionReport { bytes_sent: 1, ..report }, now);
                }
                Step::Close(socket, world) => {
                    let report = worlds[usize::from(world)].report(socket);
                    stage.connection(&ConnectionReport { closed: Some(CLOSE_FIN), ..report }, now);
                    open.remove(&socket);
                }
                Step::Call(route) => {
                    let call = Call {
                        route: format!("/{route}").into(),
                        ..worlds[0].call(Side::Server)
                    };
                    stage.record(&call, now);
                }
                Step::Wait(time) => {
                    now += time;
                    stage.expire(now);
                }
            }
            let snapshot = stage.snapshot(now);
            prop_assert_eq!(total(&snapshot, "meshtap.tcp.connections.active"), exact(open.len() as u64));
            prop_assert!(only_grows(&seen, &snapshot));
            let count: usize = snapshot.families.iter().map(|family| family.series.len()).sum();
            prop_assert!(count <= OVERFLOWS + room);
            seen = snapshot;
        }
    }
}

/// A call that stands for eight is in every series as if eight had been recorded.
#[test]
fn a_call_counts_as_often_as_it_stands_for() {
    let world = World::new();
    let (mut heavy, mut many) = (aggregator(), aggregator());
    for side in [Side::Client, Side::Server] {
        let mut call = world.call(side);
        for _ in 0..8 {
            many.record(&call, 1);
        }
        call.exchange.weight = 8;
        heavy.record(&call, 1);
        // What comes behind it stands for itself.
        call.exchange.weight = 1;
        heavy.record(&call, 1);
        many.record(&call, 1);
    }
    let [heavy, many] = [heavy.snapshot(2), many.snapshot(2)];
    assert_eq!(figures(&heavy), figures(&many));
    let values = |snapshot: &Snapshot| format!("{:?}", snapshot.families);
    assert_eq!(values(&heavy), values(&many), "sums and buckets, too");
}
