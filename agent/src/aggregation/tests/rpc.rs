//! Remote procedure calls: their labels, what counts as failed, and messages counted once.

use super::*;
use crate::protocol::exchange::rpc::Traffic;
use crate::protocol::{Rpc, RpcSystem};

const METHOD: &str = "shop.Stock/Take";

pub(super) fn any_rpc() -> impl Strategy<Value = Box<Rpc>> {
    let system =
        prop_oneof![Just(RpcSystem::Grpc), Just(RpcSystem::GrpcWeb), Just(RpcSystem::Connect)];
    let status = prop_oneof![Just(None), (0..20_u32).prop_map(Some)];
    let count = || proptest::option::of(0..1_000_u64);
    (system, status, count(), count(), 0..500_u64).prop_map(
        |(system, status, request_messages, response_messages, reported)| {
            let reported = Traffic { request_messages: reported, ..Traffic::default() };
            let timeout_ns = None;
            Box::new(Rpc {
                system,
                status,
                request_messages,
                response_messages,
                timeout_ns,
                reported,
            })
        },
    )
}

/// A gRPC call that ended with `status`: 3 messages of 30 bytes there, 5 of 50 back.
fn grpc(side: Side, status: Option<u32>) -> Call {
    let mut call = World { route: METHOD.into(), ..World::new() }.call(side);
    call.exchange.protocol = Protocol::Http2;
    (call.exchange.request_bytes, call.exchange.response_bytes) = (30, 50);
    call.exchange.rpc = Some(Box::new(Rpc {
        request_messages: Some(3),
        response_messages: Some(5),
        ..*Rpc::sample(status)
    }));
    call
}

fn stage(rpc_names: RpcNames) -> Aggregator {
    Aggregator::new(AggregationSettings { rpc_names, ..AggregationSettings::default() }, 0, 0)
}

#[test]
fn both_ends_of_a_call_have_these_series_and_none_of_http() {
    let mut stage = aggregator();
    stage.record(&grpc(Side::Client, Some(0)), 1);
    stage.record(&grpc(Side::Server, Some(0)), 2);
    let snapshot = stage.snapshot(3);
    assert_is_defined(&snapshot);
    let common = format!("rpc.method={METHOD},rpc.status_code=OK,rpc.system.name=grpc");
    let traffic = |local: &str, role: &str, peer: &str, direction: &str| {
        format!(
            "{{service.name={local},direction={direction},role={role},rpc.method={METHOD},{peer}}}"
        )
    };
    let shop = "service.peer.name=shop,service.peer.namespace=web";
    let stock = "service.peer.name=stock";
    let server = |direction| traffic("stock", "server", shop, direction);
    let client = |direction| traffic("shop", "client", stock, direction);
    let edge = "{client=shop,client_service_namespace=web,server=stock}";
    let expected: BTreeMap<String, f64> = [
        (format!("rpc.server.call.duration{{service.name=stock,{common},{shop}}}"), 1.0),
        (
            format!(
                "rpc.client.call.duration{{service.name=shop,{common},server.address=stock.internal,server.port=8080,{stock}}}"
            ),
            1.0,
        ),
        (format!("meshtap.rpc.messages{}", server("received")), 3.0),
        (format!("meshtap.rpc.messages{}", server("sent")), 5.0),
        (format!("meshtap.rpc.messages{}", client("sent")), 3.0),
        (format!("meshtap.rpc.messages{}", client("received")), 5.0),
        (format!("meshtap.rpc.io{}", server("received")), 30.0),
        (format!("meshtap.rpc.io{}", server("sent")), 50.0),
        (format!("meshtap.rpc.io{}", client("sent")), 30.0),
        (format!("meshtap.rpc.io{}", client("received")), 50.0),
        (format!("traces_service_graph_request_total{edge}"), 1.0),
        (format!("traces_service_graph_request_failed_total{edge}"), 0.0),
        (format!("traces_service_graph_request_server_seconds{edge}"), 1.0),
        (format!("traces_service_graph_request_client_seconds{edge}"), 1.0),
    ]
    .into();
    assert_eq!(figures(&snapshot), expected);
}

#[test]
fn deprecated_names_are_written_alone_or_beside_the_others() {
    let duration = |names, side, status| {
        let mut stage = stage(names);
        stage.record(&grpc(side, status), 1);
        let snapshot = stage.snapshot(2);
        assert_is_defined(&snapshot);
        let figures = figures(&snapshot).into_keys();
        figures.filter(|key| key.starts_with("rpc.")).collect::<Vec<_>>()
    };
    let old_server = "rpc.server.duration{service.name=stock,rpc.grpc.status_code=5,rpc.method=Take,rpc.service=shop.Stock,rpc.system=grpc,service.peer.name=shop,service.peer.namespace=web}";
    assert_eq!(duration(RpcNames::Deprecated, Side::Server, Some(5)), [old_server]);
    let both = duration(RpcNames::Both, Side::Server, Some(5));
    assert!(both[0].starts_with("rpc.server.call.duration{"), "{both:?}");
    assert_eq!(both[1..], [old_server]);
    let client = duration(RpcNames::Deprecated, Side::Client, Some(99));
    let expected = "rpc.client.duration{service.name=shop,rpc.method=Take,rpc.service=shop.Stock,rpc.system=grpc,server.address=stock.internal,server.port=8080,service.peer.name=stock}";
    assert_eq!(client, [expected], "a number that no status has is none");

    let mut stage = stage(RpcNames::Both);
    stage.record(&grpc(Side::Server, Some(0)), 1);
    let snapshot = stage.snapshot(2);
    let sum = |name: &str| {
        let family = snapshot.families.iter().find(|family| family.name == name).expect("family");
        match &family.series[0].value {
            Value::Histogram { buckets, sum } => (buckets[2], *sum),
            Value::Number(_) => panic!("no histogram"),
        }
    };
    assert_eq!(sum("rpc.server.call.duration"), (1, 0.02));
    assert_eq!(sum("rpc.server.duration"), (1, 20.0));
}

#[test]
fn error_type_depends_on_the_side_and_a_failed_edge_does_not() {
    let cancelled = Some(Cause::Cancelled);
    // Side, gRPC's status, HTTP's, cause; error.type, rpc.status_code, whether the edge's call failed.
    let cases = [
        (Side::Client, Some(5), Some(200), None, Some("NOT_FOUND"), Some("NOT_FOUND"), 0.0),
        (Side::Server, Some(5), Some(200), None, None, Some("NOT_FOUND"), 0.0),
        (Side::Server, Some(13), Some(200), None, Some("INTERNAL"), Some("INTERNAL"), 1.0),
        (Side::Client, Some(14), Some(200), None, Some("UNAVAILABLE"), Some("UNAVAILABLE"), 1.0),
        (Side::Client, None, Some(200), cancelled, Some("cancelled"), None, 1.0),
        (Side::Server, None, None, Some(Cause::Refused), Some("refused_stream"), None, 1.0),
        (Side::Client, None, Some(404), None, Some("404"), None, 0.0),
        (Side::Server, None, Some(404), None, None, None, 0.0),
        (Side::Server, None, Some(503), None, Some("503"), None, 1.0),
        (Side::Server, Some(77), Some(200), None, Some("_OTHER"), Some("_OTHER"), 1.0),
        (Side::Server, None, Some(200), None, None, None, 0.0),
    ];
    for (side, code, http, error, error_type, status, failed) in cases {
        let mut stage = aggregator();
        let mut call = grpc(side, code);
        call.peer_observed = false;
        (call.exchange.status, call.exchange.error) = (http, error);
        stage.record(&call, 1);
        let snapshot = stage.snapshot(2);
        assert_is_defined(&snapshot);
        let case = format!("{side:?} {code:?} {http:?} {error:?}");
        let total = total(&snapshot, "traces_service_graph_request_failed_total");
        assert_eq!(total, failed, "{case}");
        let labels = &snapshot.families[0].series[0].labels;
        let label = |wanted| labels.iter().find(|(name, _)| *name == wanted).map(|(_, v)| v);
        let text = |text: Option<&str>| text.map(|text| Label::Text(text.into()));
        assert_eq!(label("error.type"), text(error_type).as_ref(), "{case}");
        assert_eq!(label("rpc.status_code"), text(status).as_ref(), "{case}");
    }
}

#[test]
fn every_outcome_and_system_has_a_key_of_its_own() {
    let mut stage = aggregator();
    let calls = || {
        let statuses = std::iter::once(None).chain((0..17).map(Some));
        let systems = [RpcSystem::Grpc, RpcSystem::Connect];
        statuses.flat_map(move |status| {
            systems.map(|system| {
                let mut call = grpc(Side::Server, status);
                call.exchange.rpc = Some(Box::new(Rpc { system, ..*Rpc::sample(status) }));
                call
            })
        })
    };
    let world = World { route: METHOD.into(), ..World::new() };
    for _ in 0..2 {
        calls().for_each(|mut call| {
            // The same texts for all, so that nothing but the outcome tells them apart.
            (call.client, call.server) = (party(&world.shop), party(&world.stock));
            call.route = Arc::clone(&world.route);
            stage.record(&call, 1);
        });
    }
    let figures = figures(&stage.snapshot(2));
    let durations: Vec<_> =
        figures.iter().filter(|(key, _)| key.starts_with("rpc.server.call.duration")).collect();
    assert_eq!(durations.len(), 36);
    assert!(durations.iter().all(|(_, count)| **count == 2.0), "{durations:?}");
    assert_eq!(stage.occupancy().shortcuts, 36);
}

#[test]
fn a_count_that_nobody_has_is_no_zero() {
    let mut stage = aggregator();
    let mut call = grpc(Side::Server, Some(0));
    stage.record(&call, 1);
    if let Some(rpc) = &mut call.exchange.rpc {
        rpc.response_messages = None;
    }
    stage.record(&call, 1);
    stage.record_summary(&CallSummary::of(&call), 1);
    let snapshot = stage.snapshot(2);
    assert_is_defined(&snapshot);
    let figures = figures(&snapshot);
    let figure = |name: &str, direction: &str| {
        let key = format!(
            "{name}{{service.name=stock,direction={direction},role=server,rpc.method={METHOD},service.peer.name=shop,service.peer.namespace=web}}"
        );
        figures.get(&key).copied()
    };
    assert_eq!(figure("meshtap.rpc.messages", "received"), Some(9.0));
    assert_eq!(figure("meshtap.rpc.messages", "sent"), Some(5.0));
    assert_eq!(figure("meshtap.rpc.calls.uncounted", "sent"), Some(2.0));
    assert_eq!(figure("meshtap.rpc.calls.uncounted", "received"), None);
}

#[test]
fn what_a_call_reported_while_it_ran_is_not_counted_again() {
    let mut stage = aggregator();
    let mut call = grpc(Side::Client, None);
    let gains = Traffic {
        request_messages: 1,
        response_messages: 2,
        request_bytes: 10,
        response_bytes: 20,
    };
    stage.progress(&call, &gains, 1);
    stage.progress(&call, &gains, 2);
    let running = stage.snapshot(3);
    assert_is_defined(&running);
    assert_eq!(total(&running, "meshtap.rpc.messages"), 6.0);
    assert_eq!(total(&running, "meshtap.rpc.io"), 60.0);
    assert_eq!(total(&running, "rpc.client.call.duration"), 0.0);
    assert_eq!(total(&running, "traces_service_graph_request_total"), 0.0, "it goes on");
    if let Some(rpc) = &mut call.exchange.rpc {
        rpc.status = Some(0);
        rpc.reported = Traffic {
            request_messages: 2,
            response_messages: 4,
            request_bytes: 20,
            response_bytes: 40,
        };
    }
    stage.record(&call, 4);
    let ended = stage.snapshot(5);
    assert_eq!(total(&ended, "meshtap.rpc.messages"), 8.0);
    assert_eq!(total(&ended, "meshtap.rpc.io"), 80.0);
    assert_eq!(total(&ended, "rpc.client.call.duration"), 1.0);
    assert!(only_grows(&running, &ended));
}

#[test]
fn a_report_of_what_cannot_be_counted_counts_bytes_alone() {
    let mut stage = aggregator();
    let mut call = grpc(Side::Client, None);
    if let Some(rpc) = &mut call.exchange.rpc {
        (rpc.request_messages, rpc.response_messages) = (None, None);
    }
    let gains = Traffic { request_bytes: 7, ..Traffic::default() };
    stage.progress(&call, &gains, 1);
    let world = World::new();
    stage.progress(&world.call(Side::Client), &gains, 1);
    let snapshot = stage.snapshot(2);
    let names: Vec<_> = snapshot.families.iter().map(|family| family.name).collect();
    assert_eq!(names, ["meshtap.rpc.io"]);
    assert_eq!(total(&snapshot, "meshtap.rpc.io"), 7.0);
}

#[test]
fn a_stream_that_reports_does_not_expire_and_the_budget_holds_for_it() {
    let mut stage = aggregator();
    let call = grpc(Side::Client, None);
    let gains = Traffic { response_messages: 1, ..Traffic::default() };
    for minute in 0..60 {
        let now = minute * 60 * SECOND;
        stage.progress(&call, &gains, now);
        stage.expire(now);
    }
    assert_eq!(total(&stage.snapshot(0), "meshtap.rpc.messages"), 60.0);

    let limit = OVERFLOWS + 4;
    let settings = AggregationSettings { series_limit: limit, ..AggregationSettings::default() };
    let mut stage = Aggregator::new(settings, 0, 0);
    for number in 0..50_u64 {
        let mut call = grpc(Side::Server, Some(0));
        call.route = format!("a.B/M{number}").into();
        stage.progress(&call, &gains, number);
        stage.record(&call, number);
    }
    let snapshot = stage.snapshot(100);
    assert_is_defined(&snapshot);
    let count: usize = snapshot.families.iter().map(|family| family.series.len()).sum();
    assert!(count <= limit, "{count} series");
    // One of each call by its report, eight by its end.
    assert_eq!(total(&snapshot, "meshtap.rpc.messages"), 450.0);
    assert_eq!(total(&snapshot, "rpc.server.call.duration"), 50.0);
}

#[test]
fn a_request_without_a_known_method_says_so() {
    let mut stage = aggregator();
    let mut call = World::new().call(Side::Server);
    call.exchange.method = Text::from(crate::protocol::exchange::UNKNOWN);
    stage.record(&call, 1);
    let figures = figures(&stage.snapshot(2));
    assert!(figures.keys().any(|key| key.contains("http.request.method=<unknown>")), "{figures:?}");
}
