//! What is told of each call where that is asked for, and of each series when it is read.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput};
use meshtap::attribution::Call;
use meshtap::export::access_log::{AccessLog, AccessLogSettings, Format};
use meshtap::export::clock::Clock;
use meshtap::export::otlp::encode::{Encode as _, Item, SpanEncoder};
use meshtap::export::otlp::resource::Host;
use meshtap::export::spans::{Secret, SpanSettings, Spans};

use crate::load::{ENDS, STEADY};
use crate::stages::{Last, Pipeline};

const CLOCK: Clock = Clock { unix_minus_monotonic: 1_700_000_000_000_000_000 };

pub fn measure(criterion: &mut Criterion) {
    let calls = Pipeline::new(STEADY, Last::Attribution).calls();
    assert_eq!(calls.len() as u64, ENDS, "a round is told whole");
    let mut group = criterion.benchmark_group("export");
    group.throughput(Throughput::Elements(ENDS));
    let spans = Spans::new(SpanSettings { ratio: 1.0, ..SpanSettings::default() }, Secret::draw());
    let mut encoder = SpanEncoder::new(Host { name: "host".into(), id: None })
        .expect("the environment has no settings");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    group.bench_function("span", |bencher| {
        bencher.iter(|| {
            let items: Vec<_> = calls.iter().map(|call| item(&spans, black_box(call))).collect();
            runtime.block_on(encoder.encode(items)).expect("spans are encoded").request.len()
        });
    });
    let log = AccessLog::new(AccessLogSettings { both_ends: true, ..AccessLogSettings::default() });
    group.bench_function("access_log", |bencher| {
        let mut lines = Vec::new();
        bencher.iter(|| {
            lines.clear();
            for call in &calls {
                log.line(black_box(call), CLOCK, Format::Json, &mut lines);
            }
            lines.len()
        });
    });
    group.finish();
}

fn item(spans: &Spans, call: &Call) -> Item<opentelemetry_sdk::trace::SpanData> {
    let content = spans.span(call, CLOCK).expect("all calls are sampled");
    Item { identity: Arc::clone(&call.server.identity), content }
}
