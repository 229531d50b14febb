//! Tests of export.

mod collector;

use std::time::Instant as Moment;

use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};

use super::*;
use crate::aggregation::{Family, Metric, Series, Value};
use crate::export::otlp::{Compression, Protocol, Retry};
use crate::export::queue::BatchLimits;
use crate::export::sample::{CONTEXT, call, identity};
use crate::protocol::Side;
use collector::{Collector, Reply};

const BOTH: [Protocol; 2] = [Protocol::Grpc, Protocol::HttpProtobuf];

fn settings(base: &str, protocol: Protocol) -> ExportSettings {
    let mut otlp = OtlpSettings::to(base, protocol);
    otlp.retry.initial = Duration::from_millis(20);
    otlp.retry.longest = Duration::from_secs(2);
    otlp.batch.delay = Duration::from_millis(10);
    let access_log = AccessLogSettings { otlp: true, ..AccessLogSettings::default() };
    let spans = SpanSettings { ratio: 1.0, ..SpanSettings::default() };
    ExportSettings { otlp, spans, access_log, ..ExportSettings::default() }
}

fn start(settings: &ExportSettings) -> Exporters {
    let host = Host { name: "n1".into(), id: Some("m1".into()) };
    let sink = Box::new(std::io::sink());
    Exporters::start_with(settings, &Handle::current(), host, sink).unwrap()
}

/// A call with a route of its own, so that its span can be told from others.
fn numbered(number: usize) -> Call {
    let mut call = call(Side::Server);
    call.exchange.trace = Some(CONTEXT);
    call.exchange.start_ns += number as u64;
    call.route = format!("/{number:05}").into();
    call
}

fn names(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("GET /{number:05}")).collect()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Moment::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn text<'a>(attributes: &'a [KeyValue], name: &str) -> &'a str {
    let found = attributes.iter().find(|pair| pair.key == name);
    match found.and_then(|pair| pair.value.as_ref()).and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text,
        other => panic!("{name}: {other:?} in {attributes:?}"),
    }
}

fn of_service<'a>(resources: &'a [ResourceSpans], name: &str) -> &'a [Span] {
    let mut found = resources.iter().filter(|resource| {
        text(&resource.resource.as_ref().unwrap().attributes, "service.name") == name
    });
    let resource = found.next().unwrap();
    assert!(found.next().is_none(), "{name} twice in one request");
    assert_eq!(resource.scope_spans[0].scope.as_ref().unwrap().name, "meshtap");
    &resource.scope_spans[0].spans
}

fn counter(time_unix_ns: u64, value: f64) -> Snapshot {
    let of = |resource, value| Series {
        resource,
        labels: Vec::new(),
        start_unix_ns: 5,
        value: Value::Number(value),
    };
    Snapshot {
        time_unix_ns,
        families: vec![Family {
            name: "calls",
            help: "",
            unit: "{call}",
            metric: Metric::Counter,
            series: vec![of(Some(identity("cart")), value), of(None, value)],
        }],
    }
}

fn last_total(collector: &Collector) -> Option<f64> {
    let taken = collector.log.taken.lock();
    let resource = taken.metrics.last()?.resource_metrics.last()?;
    let Some(metric::Data::Sum(sum)) = &resource.scope_metrics[0].metrics[0].data else { panic!() };
    match sum.data_points[0].value {
        Some(opentelemetry_proto::tonic::metrics::v1::number_data_point::Value::AsDouble(
            total,
        )) => Some(total),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_of_two_workloads_arrive_in_one_request_with_a_resource_each() {
    for protocol in BOTH {
        let collector = Collector::start(protocol);
        let mut settings = settings(&collector.base(), protocol);
        settings.otlp.traces.as_mut().unwrap().headers = vec![("x-scope".into(), "me".into())];
        let exporters = start(&settings);
        let mut pair = [call(Side::Client), call(Side::Server)];
        for call in &mut pair {
            call.peer_observed = true;
            call.pair = 9;
            exporters.span(call);
        }
        until("both spans", || exporters.stats().traces.exported == 2).await;
        let taken = collector.log.taken.lock();
        let resources: Vec<_> =
            taken.traces.iter().flat_map(|request| request.resource_spans.clone()).collect();
        let (client, server) =
            (&of_service(&resources, "web")[0], &of_service(&resources, "cart")[0]);
        assert_eq!(server.trace_id, client.trace_id);
        assert_eq!(server.parent_span_id, client.span_id);
        assert!(client.parent_span_id.is_empty());
        assert_eq!((client.kind, server.kind), (3, 2));
        assert_eq!(server.end_time_unix_nano - server.start_time_unix_nano, 3_000_000);
        let resource = &resources[0].resource.as_ref().unwrap().attributes;
        assert_eq!(text(resource, "host.name"), "n1");
        assert_eq!(text(resource, "container.id"), "web-1");
        assert_eq!(text(resource, "service.instance.id").len(), 36);
        assert_eq!(taken.attempts[0].1, "me");
        drop(taken);
        let stats = exporters.stats().traces;
        assert_eq!((stats.exported, stats.dropped, stats.failed), (2, 0, 0));
        assert!(stats.enabled);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsampled_call_sends_nothing() {
    let collector = Collector::start(Protocol::Grpc);
    let exporters = start(&settings(&collector.base(), Protocol::Grpc));
    let mut unsampled = numbered(1);
    unsampled.exchange.trace.as_mut().unwrap().sampled = Some(false);
    exporters.span(&unsampled);
    exporters.span(&numbered(2));
    until("a span", || !collector.spans().is_empty()).await;
    assert_eq!(collector.spans(), names(2..3));
}

#[tokio::test(flavor = "multi_thread")]
async fn compression_is_what_was_asked_for() {
    for protocol in BOTH {
        for (compression, compressed) in [(Compression::Gzip, true), (Compression::None, false)] {
            let collector = Collector::start(protocol);
            let mut settings = settings(&collector.base(), protocol);
            settings.otlp.traces.as_mut().unwrap().compression = compression;
            let exporters = start(&settings);
            exporters.span(&numbered(0));
            until("a span", || collector.spans() == names(0..1)).await;
            assert_eq!(collector.log.taken.lock().attempts[0].2, compressed, "{protocol:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_records_arrive_with_their_resource_and_their_spans_ids() {
    for protocol in BOTH {
        let collector = Collector::start(protocol);
        let exporters = start(&settings(&collector.base(), protocol));
        exporters.span(&numbered(3));
        exporters.log(&numbered(3));
        until("span and record", || {
            let taken = collector.log.taken.lock();
            !taken.traces.is_empty() && !taken.logs.is_empty()
        })
        .await;
        let taken = collector.log.taken.lock();
        let resource = &taken.logs[0].resource_logs[0];
        let attributes = &resource.resource.as_ref().unwrap().attributes;
        assert_eq!(text(attributes, "service.name"), "cart");
        let record = &resource.scope_logs[0].log_records[0];
        assert_eq!(text(&record.attributes, "http.route"), "/00003");
        let span = &taken.traces[0].resource_spans[0].scope_spans[0].spans[0];
        assert_eq!((&record.trace_id, &record.span_id), (&span.trace_id, &span.span_id));
        // The wall clock may be adjusted between the two.
        let apart = record.time_unix_nano.abs_diff(span.start_time_unix_nano);
        assert!(apart < 5_000_000, "{apart}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_go_out_on_the_interval_and_once_more_at_the_end() {
    for protocol in BOTH {
        let collector = Collector::start(protocol);
        let mut settings = settings(&collector.base(), protocol);
        settings.otlp.metric_interval = Duration::from_millis(50);
        let exporters = start(&settings);
        let total = Arc::new(Mutex::new(1.0));
        let source = Arc::clone(&total);
        exporters.metrics(move || counter(77, *source.lock()));
        until("two exports", || collector.log.taken.lock().metrics.len() >= 2).await;
        *total.lock() = 2.0;
        exporters.shutdown(Duration::from_secs(5)).await;
        assert_eq!(last_total(&collector), Some(2.0), "the last word is the newest");
        let taken = collector.log.taken.lock();
        let resources = &taken.metrics[0].resource_metrics;
        let service = |place: usize| {
            let resource = resources[place].resource.as_ref().unwrap();
            text(&resource.attributes, "service.name").to_owned()
        };
        assert_eq!((service(0), service(1)), ("cart".to_owned(), "meshtap".to_owned()));
        let stats = exporters.stats().metrics;
        // One that was under way at the end is given up, and what it said is said once more.
        let given_up = taken.metrics.len() as u64 * 2 - stats.exported;
        assert!(given_up <= 2, "{given_up}");
        assert_eq!((stats.failed, stats.dropped), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_comes_late_gets_everything_within_the_bound() {
    for protocol in BOTH {
        let address = Collector::start(protocol).address;
        let mut settings = settings(&format!("http://{address}"), protocol);
        settings.otlp.queue = Bounds { items: 100, bytes: 1 << 20 };
        settings.otlp.batch.items = 30;
        settings.otlp.retry.longest = Duration::from_millis(100);
        let exporters = start(&settings);
        for number in 0..250 {
            exporters.span(&numbered(number));
        }
        let stats = exporters.stats().traces;
        assert_eq!((stats.dropped, stats.queue.items), (150, 100), "{protocol:?}");
        until("some retries", || exporters.stats().traces.retries >= 3).await;
        assert_eq!(exporters.stats().traces.queue.items, 100, "held, not lost");

        let collector = Collector::at(protocol, address);
        until("recovery", || collector.spans().len() == 100).await;
        assert_eq!(collector.spans(), names(0..100));
        until("settled", || exporters.stats().traces.queue.items == 0).await;
        exporters.span(&numbered(300));
        until("normal again", || exporters.stats().traces.exported == 101).await;
        assert_eq!(collector.spans().len(), 101);
        until("room again", || exporters.stats().traces.queue.items == 0).await;
        let stats = exporters.stats().traces;
        assert_eq!((stats.exported, stats.dropped, stats.failed), (101, 150, 0));
        assert_eq!(stats.queue.bytes, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_dies_and_returns_loses_nothing() {
    for protocol in BOTH {
        let first = Collector::start(protocol);
        let address = first.address;
        let exporters = start(&settings(&first.base(), protocol));
        exporters.span(&numbered(0));
        until("the first", || first.spans().len() == 1).await;
        drop(first);
        exporters.span(&numbered(1));
        until("a retry", || exporters.stats().traces.retries >= 1).await;
        let second = Collector::at(protocol, address);
        exporters.span(&numbered(2));
        until("the rest", || second.spans().len() == 2).await;
        assert_eq!(second.spans(), names(1..3));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_missed_while_the_collector_was_down_are_in_the_next() {
    let address = Collector::start(Protocol::Grpc).address;
    let mut settings = settings(&format!("http://{address}"), Protocol::Grpc);
    settings.otlp.metric_interval = Duration::from_millis(60);
    let exporters = start(&settings);
    let total = Arc::new(Mutex::new(0.0));
    let source = Arc::clone(&total);
    exporters.metrics(move || {
        *source.lock() += 1.0;
        counter(1, *source.lock())
    });
    until("missed intervals", || exporters.stats().metrics.dropped >= 4).await;
    let missed = *total.lock();
    let collector = Collector::at(Protocol::Grpc, address);
    until("an export", || last_total(&collector).is_some_and(|total| total > missed)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_collector_is_left_alone_as_long_as_it_asks() {
    for protocol in BOTH {
        let collector = Collector::start(protocol);
        collector.will([Reply::Busy(Some(1))]);
        let exporters = start(&settings(&collector.base(), protocol));
        exporters.span(&numbered(0));
        until("the span", || collector.spans() == names(0..1)).await;
        let taken = collector.log.taken.lock();
        let waited = taken.attempts[1].0 - taken.attempts[0].0;
        assert!(waited >= Duration::from_millis(990), "{protocol:?}: {waited:?}");
        assert!(waited < Duration::from_secs(5), "{waited:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn delays_grow_and_a_longer_wish_than_allowed_is_cut() {
    for protocol in BOTH {
        let collector = Collector::start(protocol);
        collector.will([Reply::Busy(None), Reply::Busy(None), Reply::Busy(None)]);
        collector.will([Reply::Busy(Some(3_600))]);
        let mut settings = settings(&collector.base(), protocol);
        settings.otlp.retry = Retry {
            initial: Duration::from_millis(40),
            longest: Duration::from_millis(400),
            give_up_after: None,
        };
        let exporters = start(&settings);
        exporters.span(&numbered(0));
        until("the span", || collector.spans().len() == 1).await;
        let taken = collector.log.taken.lock();
        let gaps: Vec<_> = taken.attempts.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        let at_least = [20, 40, 80, 400].map(Duration::from_millis);
        assert_eq!(gaps.len(), 4);
        for (gap, at_least) in gaps.iter().zip(at_least) {
            assert!(*gap >= at_least, "{gaps:?}");
        }
        assert_eq!(exporters.stats().traces.retries, 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_counted_and_not_sent_again() {
    for protocol in BOTH {
        let collector = Collector::start(protocol);
        collector.will([Reply::Refuse]);
        let exporters = start(&settings(&collector.base(), protocol));
        exporters.span(&numbered(0));
        until("the refusal", || exporters.stats().traces.failed == 1).await;
        exporters.span(&numbered(1));
        until("the next", || exporters.stats().traces.exported == 1).await;
        assert_eq!(collector.spans(), names(1..2));
        let stats = exporters.stats().traces;
        assert_eq!((stats.exported, stats.failed, stats.retries), (1, 1, 0));
        assert_eq!(collector.log.taken.lock().attempts.len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_collector_rejects_inside_a_success_is_counted_apart() {
    for protocol in BOTH {
        let collector = Collector::start(protocol);
        collector.will([Reply::Partial(2)]);
        let mut settings = settings(&collector.base(), protocol);
        settings.otlp.batch =
            BatchLimits { items: 3, bytes: 1 << 20, delay: Duration::from_secs(5) };
        let exporters = start(&settings);
        for number in 0..3 {
            exporters.span(&numbered(number));
        }
        until("the answer", || exporters.stats().traces.rejected == 2).await;
        let stats = exporters.stats().traces;
        assert_eq!((stats.exported, stats.failed, stats.retries), (1, 0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_collector_never_holds_up_the_pipeline() {
    let collector = Collector::start(Protocol::Grpc);
    collector.will((0..3).map(|_| Reply::After(Duration::from_secs(60))));
    let mut settings = settings(&collector.base(), Protocol::Grpc);
    settings.otlp.traces.as_mut().unwrap().timeout = Duration::from_millis(150);
    settings.otlp.queue.items = 50;
    let exporters = start(&settings);
    let begun = Moment::now();
    for number in 0..5_000 {
        exporters.span(&numbered(number));
    }
    let offering = begun.elapsed();
    assert!(offering < Duration::from_secs(2), "{offering:?} for 5000 spans");
    assert_eq!(exporters.stats().traces.dropped, 4_950);
    until("the timeouts to pass", || collector.spans().len() == 50).await;
    assert_eq!(exporters.stats().traces.retries, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bound_on_bytes_holds_for_long_paths() {
    let mut settings = settings("http://127.0.0.1:9", Protocol::HttpProtobuf);
    settings.otlp.queue = Bounds { items: 1_000_000, bytes: 100_000 };
    let exporters = start(&settings);
    let mut long = numbered(0);
    long.exchange.path = format!("/{}", "x".repeat(8_000)).into();
    for _ in 0..100 {
        exporters.span(&long);
    }
    let stats = exporters.stats().traces;
    assert!((5..=12).contains(&stats.queue.items), "{stats:?}");
    assert!(stats.queue.bytes <= 100_000, "{stats:?}");
    assert_eq!(stats.queue.items as u64 + stats.dropped, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_sends_what_is_held_at_once() {
    for protocol in BOTH {
        let collector = Collector::start(protocol);
        let mut settings = settings(&collector.base(), protocol);
        settings.otlp.batch =
            BatchLimits { items: 7, bytes: 1 << 20, delay: Duration::from_secs(3_600) };
        let exporters = start(&settings);
        for number in 0..20 {
            exporters.span(&numbered(number));
            exporters.log(&numbered(number));
        }
        let begun = Moment::now();
        exporters.shutdown(Duration::from_secs(10)).await;
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert_eq!(collector.spans(), names(0..20));
        let stats = exporters.stats();
        assert_eq!((stats.traces.exported, stats.traces.dropped), (20, 0));
        assert_eq!((stats.logs.exported, stats.logs.dropped), (20, 0));
        exporters.span(&numbered(99));
        assert_eq!(exporters.stats().traces.dropped, 1, "after the end all is counted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_with_nothing_held_ends_at_once() {
    let exporters = start(&settings("http://127.0.0.1:9", Protocol::Grpc));
    let begun = Moment::now();
    exporters.shutdown(Duration::from_secs(30)).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_without_a_collector_ends_in_time_and_counts_everything() {
    let mut settings = settings("http://127.0.0.1:9", Protocol::Grpc);
    settings.otlp.batch.items = 8;
    let exporters = start(&settings);
    exporters.metrics(|| counter(1, 1.0));
    for number in 0..30 {
        exporters.span(&numbered(number));
    }
    let begun = Moment::now();
    exporters.shutdown(Duration::from_millis(400)).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let stats = exporters.stats();
    assert_eq!((stats.traces.exported, stats.traces.dropped), (0, 30));
    assert_eq!(stats.traces.queue.items, 0);
    assert_eq!(stats.metrics.dropped, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn giving_up_is_for_those_who_set_it() {
    let mut settings = settings("http://127.0.0.1:9", Protocol::HttpProtobuf);
    settings.otlp.retry.give_up_after = Some(Duration::from_millis(100));
    let exporters = start(&settings);
    exporters.span(&numbered(0));
    until("the end of patience", || exporters.stats().traces.dropped == 1).await;
    assert!(exporters.stats().traces.retries >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_reaches_a_collector_whose_authority_is_trusted() {
    let authority = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(authority.path(), include_bytes!("tests/tls/ca.pem")).unwrap();
    for protocol in BOTH {
        let collector = Collector::secure(protocol);
        let base = format!("https://localhost:{}", collector.address.port());
        let mut settings = settings(&base, protocol);
        settings.otlp.traces.as_mut().unwrap().certificate = Some(authority.path().to_owned());
        settings.otlp.metrics = None;
        settings.otlp.logs = None;
        let exporters = start(&settings);
        exporters.span(&numbered(0));
        until("the span", || collector.spans() == names(0..1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_sends_nothing_to_a_collector_whose_authority_is_another() {
    // A real authority, but not the one that signed: the server's own certificate is none.
    let other = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(other.path(), include_bytes!("tests/tls/server.pem")).unwrap();
    for protocol in BOTH {
        let collector = Collector::secure(protocol);
        let base = format!("https://localhost:{}", collector.address.port());
        let mut settings = settings(&base, protocol);
        settings.otlp.traces.as_mut().unwrap().certificate = Some(other.path().to_owned());
        settings.otlp.metrics = None;
        settings.otlp.logs = None;
        let plain = ExportSettings {
            otlp: OtlpSettings {
                metrics: None,
                logs: None,
                ..OtlpSettings::to(&format!("http://{}", collector.address), protocol)
            },
            ..settings.clone()
        };
        for settings in [settings, plain] {
            let exporters = start(&settings);
            exporters.span(&numbered(0));
            until("a retry", || exporters.stats().traces.retries >= 1).await;
            assert_eq!(exporters.stats().traces.exported, 0);
        }
        assert!(collector.log.taken.lock().attempts.is_empty());
    }
}

#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn lines_only(output: Box<dyn Write + Send>) -> Exporters {
    let mut settings = ExportSettings::default();
    settings.access_log.stdout = Some(Format::Json);
    let host = Host { name: "n1".into(), id: None };
    Exporters::start_with(&settings, &Handle::current(), host, output).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_written_in_order_and_flushed_at_the_end() {
    let page = Page::default();
    let exporters = lines_only(Box::new(page.clone()));
    for number in 0..500 {
        exporters.log(&numbered(number));
        exporters.span(&numbered(number));
    }
    exporters.shutdown(Duration::from_secs(5)).await;
    let text = String::from_utf8(page.0.lock().clone()).unwrap();
    let routes: Vec<_> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["route"].clone())
        .collect();
    let expected: Vec<_> = (0..500).map(|number| format!("/{number:05}")).collect();
    assert_eq!(routes, expected);
    assert_eq!(exporters.stats().lines.exported, 500);
    assert!(!exporters.stats().traces.enabled);
}

struct Stuck(std::sync::mpsc::Receiver<()>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // Ends when the test drops the other end.
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stalls_stalls_neither_the_pipeline_nor_the_end() {
    let (_hold, stuck) = std::sync::mpsc::channel();
    let exporters = lines_only(Box::new(Stuck(stuck)));
    let begun = Moment::now();
    for number in 0..20_000 {
        exporters.log(&numbered(number));
    }
    let stats = exporters.stats().lines;
    assert_eq!(stats.dropped + stats.queue.items as u64, 20_000);
    assert!(stats.dropped >= 20_000 - 8_192);
    exporters.shutdown(Duration::from_millis(100)).await;
    assert!(begun.elapsed() < Duration::from_secs(10));
}

struct Broken;

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_output_ends_the_lines_and_counts_them() {
    let exporters = lines_only(Box::new(Broken));
    exporters.log(&numbered(0));
    until("the failure", || exporters.stats().lines.failed == 1).await;
    until("the queue closes", || {
        exporters.log(&numbered(1));
        exporters.stats().lines.dropped >= 1
    })
    .await;
}

#[tokio::test]
async fn nothing_is_on_by_default() {
    let page = Page::default();
    let host = Host { name: "n1".into(), id: None };
    let settings = ExportSettings::default();
    let exporters =
        Exporters::start_with(&settings, &Handle::current(), host, Box::new(page.clone())).unwrap();
    exporters.span(&numbered(0));
    exporters.log(&numbered(0));
    exporters.metrics(|| unreachable!("no target"));
    exporters.shutdown(Duration::from_secs(1)).await;
    assert!(page.0.lock().is_empty());
    assert_eq!(exporters.stats(), Stats::default());
}

#[tokio::test]
async fn impossible_targets_are_refused_at_the_start_with_a_remedy() {
    let refused = |change: &dyn Fn(&mut OtlpSettings)| {
        let mut settings = settings("http://127.0.0.1:9", Protocol::HttpProtobuf);
        change(&mut settings.otlp);
        let host = Host { name: "n1".into(), id: None };
        let sink = Box::new(std::io::sink());
        Exporters::start_with(&settings, &Handle::current(), host, sink).unwrap_err().to_string()
    };
    let endpoint = |protocol, endpoint: &'static str| {
        refused(&move |otlp: &mut OtlpSettings| {
            let target = otlp.traces.as_mut().unwrap();
            target.protocol = protocol;
            target.endpoint = endpoint.to_owned();
        })
    };
    for protocol in BOTH {
        for wrong in ["collector:4317", "ftp://collector", "http://", "no url at all"] {
            let error = endpoint(protocol, wrong);
            assert!(error.contains(&format!("{wrong:?} of traces")), "{error}");
            assert!(error.contains("write it like http://collector:43"), "{error}");
        }
    }
    let error = refused(&|otlp: &mut OtlpSettings| {
        otlp.logs.as_mut().unwrap().headers = vec![("x-key".into(), "se\ncret".into())];
    });
    assert!(error.contains("\"x-key\" of logs") && !error.contains("cret"), "{error}");
    for protocol in BOTH {
        let error = refused(&move |otlp: &mut OtlpSettings| {
            let target = otlp.metrics.as_mut().unwrap();
            target.protocol = protocol;
            target.endpoint = "https://collector:4318".to_owned();
            target.certificate = Some("/no/such/ca.pem".into());
        });
        assert!(error.contains("/no/such/ca.pem: No such file"), "{error}");
        assert!(error.contains("OTEL_EXPORTER_OTLP_CERTIFICATE"), "{error}");
    }
}

/// The log record of a call whose span somebody else makes belongs to the span that the
/// request came from: the call's own is never sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_traced_elsewhere_has_log_records_and_no_spans() {
    let collector = Collector::start(Protocol::Grpc);
    let mut settings = settings(&collector.base(), Protocol::Grpc);
    settings.traced.services = vec!["cart".to_owned().parse().unwrap()];
    let exporters = start(&settings);
    let mut pair = [call(Side::Client), call(Side::Server)];
    for call in &mut pair {
        call.exchange.trace = Some(CONTEXT);
        exporters.span(call);
        exporters.log(call);
    }
    let bare = call(Side::Server);
    exporters.span(&bare);
    exporters.log(&bare);
    exporters.shutdown(Duration::from_secs(5)).await;
    let stats = exporters.stats();
    assert_eq!((stats.traced.configured, stats.traced.itself), (2, 0));
    assert_eq!((stats.traces.exported, stats.logs.exported), (1, 3));
    let taken = collector.log.taken.lock();
    let spans: Vec<_> = taken
        .traces
        .iter()
        .flat_map(|request| &request.resource_spans)
        .flat_map(|resource| &resource.scope_spans[0].spans)
        .collect();
    assert_eq!(spans.len(), 1, "that of the client, which nobody else traces");
    let records = taken.logs.iter().flat_map(|request| &request.resource_logs);
    let mut links: Vec<_> = records
        .flat_map(|resource| &resource.scope_logs[0].log_records)
        .map(|record| record.span_id.clone())
        .collect();
    links.sort();
    let mut expected =
        [Vec::new(), CONTEXT.span_id.to_be_bytes().to_vec(), spans[0].span_id.clone()];
    expected.sort();
    assert_eq!(links, expected);
}
