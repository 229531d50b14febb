//! What the aggregation costs per call, and per snapshot at the full budget of series.
#![expect(missing_docs, reason = "the macro that groups the benches documents nothing")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use meshtap::aggregation::{AggregationSettings, Aggregator, CallSummary};
use meshtap::attribution::{Call, ConnectionReport, Identity, IdentityKind, Party};
use meshtap::export::prometheus::{Format, render};
use meshtap::protocol::{Exchange, Protocol, Side, Text};

fn party(name: &str) -> Party {
    let identity = Identity {
        name: name.into(),
        namespace: "default".into(),
        kind: IdentityKind::Process,
        attributes: Vec::new(),
        workload: None,
    };
    Party { identity: Arc::new(identity), endpoint: None, pid: 1 }
}

fn exchange(side: Side) -> Exchange {
    Exchange {
        method: Text::from("GET"),
        path: Text::from("/orders/7"),
        status: Some(200),
        request_end_ns: Some(0),
        first_byte_ns: Some(0),
        end_ns: 3_000_000,
        response_bytes: 612,
        ..Exchange::begun(1, side, Protocol::Http11, 0)
    }
}

/// Calls that differ in their routes.
fn calls(side: Side, routes: usize) -> Vec<Call> {
    let (client, server) = (party("shop"), party("stock"));
    let server_address: Arc<str> = "stock.internal".into();
    (0..routes)
        .map(|route| Call {
            exchange: Box::new(exchange(side)),
            client: client.clone(),
            server: server.clone(),
            route: format!("/orders/{{id}}/items/{route}").into(),
            server_address: Arc::clone(&server_address),
            server_port: 8_080,
            peer_observed: true,
            pair: 0,
            service: None,
            passes_waypoint: false,
            passage: None,
            through: None,
        })
        .collect()
}

fn stage() -> Aggregator {
    Aggregator::new(AggregationSettings::default(), 0, 0)
}

fn record(criterion: &mut Criterion) {
    for (name, side, routes) in [
        ("record/server, 1 label set", Side::Server, 1),
        ("record/client, 1 label set", Side::Client, 1),
        ("record/server, 100 label sets", Side::Server, 100),
        ("record/server, 3,000 label sets", Side::Server, 3_000),
        ("record/server, 10,000 label sets, most in overflow", Side::Server, 10_000),
    ] {
        let calls = calls(side, routes);
        let mut stage = stage();
        let mut next = calls.iter().cycle();
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                if let Some(call) = next.next() {
                    stage.record(black_box(call), 1);
                }
            });
        });
    }
}

fn unknown(criterion: &mut Criterion) {
    let calls = calls(Side::Server, 1_000);
    criterion.bench_function("record/1,000 new label sets", |bencher| {
        bencher.iter_batched_ref(
            stage,
            |stage| calls.iter().for_each(|call| stage.record(call, 1)),
            BatchSize::LargeInput,
        );
    });
}

fn summary(criterion: &mut Criterion) {
    let summary = CallSummary::of(&calls(Side::Server, 1)[0]);
    let mut stage = stage();
    criterion.bench_function("record_summary", |bencher| {
        bencher.iter(|| stage.record_summary(black_box(&summary), 1));
    });
}

fn connection(criterion: &mut Criterion) {
    let report = ConnectionReport {
        service: None,
        mesh: None,
        spoke: false,
        socket: 1,
        side: Side::Client,
        client: party("shop"),
        server: party("stock"),
        opened: true,
        late: false,
        closed: None,
        failed: None,
        bytes_received: 10,
        bytes_sent: 10,
        retransmits: 0,
        rtt_us: Some(50),
        connect_ns: Some(10_000),
    };
    let mut stage = stage();
    criterion.bench_function("connection", |bencher| {
        bencher.iter(|| stage.connection(black_box(&report), 1));
    });
}

fn expose(criterion: &mut Criterion) {
    let mut stage = stage();
    for call in calls(Side::Server, 3_330) {
        stage.record(&call, 1);
    }
    criterion.bench_function("snapshot/10,000 series", |bencher| {
        bencher.iter(|| stage.snapshot(2));
    });
    let snapshot = stage.snapshot(2);
    for (name, format) in [("text", Format::Text), ("openmetrics", Format::OpenMetrics)] {
        criterion.bench_function(&format!("render/10,000 series, {name}"), |bencher| {
            bencher.iter(|| {
                let mut text = String::new();
                render(&snapshot, format, &mut text);
                text.len()
            });
        });
    }
    criterion.bench_function("expire/10,000 series, none idle", |bencher| {
        bencher.iter(|| stage.expire(2));
    });
}

criterion_group!(benches, record, unknown, summary, connection, expose);
criterion_main!(benches);
