//! Tests of metrics.

use super::*;
use crate::export::sample::identity;

const BOUNDS: &[f64] = &[0.1, 1.0];

fn host() -> Host {
    Host { name: "n1".into(), id: None }
}

fn series(resource: Option<Arc<Identity>>, status: i64, value: Value) -> Series {
    Series {
        resource,
        labels: vec![
            ("http.request.method", Label::Text("GET".into())),
            ("http.response.status_code", Label::Integer(status)),
        ],
        start_unix_ns: 100,
        value,
    }
}

fn family(name: &'static str, metric: series::Metric, series: Vec<Series>) -> Family {
    Family { name, help: "help", unit: "s", metric, series }
}

fn decode(payloads: &[Payload]) -> Vec<ResourceMetrics> {
    payloads
        .iter()
        .flat_map(|payload| {
            ExportMetricsServiceRequest::decode(payload.request.clone()).unwrap().resource_metrics
        })
        .collect()
}

fn service(resource: &ResourceMetrics) -> &str {
    let attributes = &resource.resource.as_ref().unwrap().attributes;
    let name = attributes.iter().find(|pair| pair.key == "service.name").unwrap();
    match name.value.as_ref().unwrap().value.as_ref().unwrap() {
        any_value::Value::StringValue(name) => name,
        other => panic!("{other:?}"),
    }
}

fn metrics_of(resource: &ResourceMetrics) -> &[Metric] {
    assert_eq!(resource.scope_metrics.len(), 1);
    &resource.scope_metrics[0].metrics
}

#[test]
fn one_resource_per_workload_and_one_for_the_agent() {
    let (web, cart) = (identity("web"), identity("cart"));
    let histogram = Value::Histogram { buckets: vec![1, 2, 3], sum: 4.5 };
    let snapshot = Snapshot {
        time_unix_ns: 900,
        families: vec![
            family(
                "http.server.request.duration",
                series::Metric::Histogram(BOUNDS),
                vec![
                    series(Some(web.clone()), 200, histogram.clone()),
                    series(Some(cart.clone()), 200, histogram.clone()),
                    series(Some(web.clone()), 500, histogram),
                ],
            ),
            family(
                "meshtap_calls",
                series::Metric::Counter,
                vec![series(None, 0, Value::Number(7.0)), series(Some(web), 0, Value::Number(9.0))],
            ),
            family(
                "active",
                series::Metric::Gauge,
                vec![series(Some(cart), 0, Value::Number(-1.5))],
            ),
        ],
    };
    let payloads = requests(&snapshot, &host());
    assert_eq!(payloads.len(), 1);
    assert_eq!(payloads[0].items, 6);
    let resources = decode(&payloads);
    assert_eq!(resources.iter().map(service).collect::<Vec<_>>(), ["web", "cart", "meshtap"]);
    let scope = resources[0].scope_metrics[0].scope.as_ref().unwrap();
    assert_eq!((&*scope.name, &*scope.version), ("meshtap", env!("CARGO_PKG_VERSION")));

    let web = metrics_of(&resources[0]);
    assert_eq!(web.len(), 2);
    let Some(metric::Data::Histogram(histogram)) = &web[0].data else { panic!("{web:?}") };
    assert_eq!(histogram.aggregation_temporality(), AggregationTemporality::Cumulative);
    assert_eq!(histogram.data_points.len(), 2);
    let point = &histogram.data_points[1];
    assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (100, 900));
    assert_eq!((point.count, point.sum), (6, Some(4.5)));
    assert_eq!(point.bucket_counts, [1, 2, 3]);
    assert_eq!(point.explicit_bounds, BOUNDS);
    let code = point.attributes.iter().find(|pair| pair.key == "http.response.status_code");
    let code = code.unwrap().value.as_ref().unwrap().value.clone();
    assert_eq!(code, Some(any_value::Value::IntValue(500)), "numbers stay numbers");

    let Some(metric::Data::Sum(sum)) = &web[1].data else { panic!("{web:?}") };
    assert!(sum.is_monotonic);
    assert_eq!(sum.data_points[0].value, Some(number_data_point::Value::AsDouble(9.0)));
    let Some(metric::Data::Gauge(gauge)) = &metrics_of(&resources[1])[1].data else { panic!() };
    assert_eq!(gauge.data_points[0].value, Some(number_data_point::Value::AsDouble(-1.5)));
    assert_eq!(gauge.data_points[0].start_time_unix_nano, 0, "a gauge has no beginning");
}

#[test]
fn a_value_of_another_kind_is_left_out() {
    let broken = vec![
        series(None, 1, Value::Number(1.0)),
        series(None, 2, Value::Histogram { buckets: vec![1, 2], sum: 0.0 }),
    ];
    let snapshot = Snapshot {
        time_unix_ns: 1,
        families: vec![family("d", series::Metric::Histogram(BOUNDS), broken)],
    };
    assert!(requests(&snapshot, &host()).is_empty());
    assert!(requests(&Snapshot { time_unix_ns: 1, families: Vec::new() }, &host()).is_empty());
}

#[test]
fn many_series_are_split_into_requests_that_a_collector_takes_and_none_is_lost() {
    let workloads: Vec<_> = (0..3).map(|number| identity(&format!("w{number}"))).collect();
    let members = |count: i64| {
        (0..count)
            .map(|status| {
                let resource = Some(workloads[status as usize % 3].clone());
                let value = Value::Histogram { buckets: vec![1, 0, 0], sum: 0.1 };
                series(resource, status, value)
            })
            .collect::<Vec<_>>()
    };
    let snapshot = Snapshot {
        time_unix_ns: 1,
        families: vec![
            family("a", series::Metric::Histogram(BOUNDS), members(30_000)),
            family("b", series::Metric::Histogram(BOUNDS), members(100)),
        ],
    };
    let payloads = requests(&snapshot, &host());
    assert!(payloads.len() > 1, "{}", payloads.len());
    for payload in &payloads {
        assert!(payload.request.len() < 4 << 20, "{} bytes", payload.request.len());
    }
    assert_eq!(payloads.iter().map(|payload| payload.items).sum::<u64>(), 30_100);
    let mut seen = std::collections::HashSet::new();
    for resource in decode(&payloads) {
        for metric in metrics_of(&resource) {
            let Some(metric::Data::Histogram(histogram)) = &metric.data else { panic!() };
            for point in &histogram.data_points {
                let key = format!("{} {} {:?}", service(&resource), metric.name, point.attributes);
                assert!(seen.insert(key), "twice");
            }
        }
    }
    assert_eq!(seen.len(), 30_100);
}
