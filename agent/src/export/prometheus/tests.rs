//! Golden text, awkward label values and the choice of a format.

use super::*;

use std::sync::Arc;

use crate::attribution::{Identity, IdentityKind};

fn workload(name: &str, attributes: Vec<(&'static str, Arc<str>)>) -> Option<Arc<Identity>> {
    Some(Arc::new(Identity {
        name: name.into(),
        namespace: "web".into(),
        kind: IdentityKind::Container,
        attributes,
        workload: None,
    }))
}

fn snapshot() -> Snapshot {
    let duration = Family {
        name: "http.server.request.duration",
        help: "Duration.",
        unit: "s",
        metric: Metric::Histogram(&[0.005, 1.0]),
        series: vec![
            Series {
                resource: workload("stock", vec![("container.id", "c0ffee".into())]),
                labels: vec![
                    ("http.request.method", Label::Text("GET".into())),
                    ("http.response.status_code", Label::Integer(200)),
                ],
                start_unix_ns: 1_700_000_000_000_000_001,
                value: Value::Histogram { buckets: vec![2, 1, 1], sum: 12.5 },
            },
            Series {
                resource: None,
                labels: vec![("otel.metric.overflow", Label::Text("true".into()))],
                start_unix_ns: 1_700_000_000_000_000_000,
                value: Value::Histogram { buckets: vec![0, 0, 1], sum: 2.0 },
            },
        ],
    };
    let io = Family {
        name: "meshtap.tcp.io",
        help: "Bytes with a \\ and a \"quote\".",
        unit: "By",
        metric: Metric::Counter,
        series: vec![Series {
            resource: workload("a\"b\\c\nd", Vec::new()),
            labels: vec![("service.peer.name", Label::Text("é".into()))],
            start_unix_ns: 1_500_000_000,
            value: Value::Number(7.0),
        }],
    };
    let memory = Family {
        name: "process_resident_memory_bytes",
        help: "Memory.",
        unit: "By",
        metric: Metric::Gauge,
        series: vec![Series {
            resource: None,
            labels: Vec::new(),
            start_unix_ns: 1,
            value: Value::Number(4096.0),
        }],
    };
    Snapshot { time_unix_ns: 1_700_000_001_000_000_000, families: vec![duration, io, memory] }
}

fn rendered(format: Format) -> String {
    let mut text = String::new();
    render(&snapshot(), format, &mut text);
    text.replace(env!("CARGO_PKG_VERSION"), "VERSION")
}

#[test]
fn golden_text() {
    let expected = r##"# HELP target_info The agent that observes.
# TYPE target_info gauge
target_info{service_name="meshtap",service_version="VERSION"} 1
# HELP http_server_request_duration_seconds Duration.
# TYPE http_server_request_duration_seconds histogram
http_server_request_duration_seconds_bucket{otel_metric_overflow="true",le="0.005"} 0
http_server_request_duration_seconds_bucket{otel_metric_overflow="true",le="1"} 0
http_server_request_duration_seconds_bucket{otel_metric_overflow="true",le="+Inf"} 1
http_server_request_duration_seconds_sum{otel_metric_overflow="true"} 2
http_server_request_duration_seconds_count{otel_metric_overflow="true"} 1
http_server_request_duration_seconds_bucket{service_name="stock",service_namespace="web",container_id="c0ffee",http_request_method="GET",http_response_status_code="200",le="0.005"} 2
http_server_request_duration_seconds_bucket{service_name="stock",service_namespace="web",container_id="c0ffee",http_request_method="GET",http_response_status_code="200",le="1"} 3
http_server_request_duration_seconds_bucket{service_name="stock",service_namespace="web",container_id="c0ffee",http_request_method="GET",http_response_status_code="200",le="+Inf"} 4
http_server_request_duration_seconds_sum{service_name="stock",service_namespace="web",container_id="c0ffee",http_request_method="GET",http_response_status_code="200"} 12.5
http_server_request_duration_seconds_count{service_name="stock",service_namespace="web",container_id="c0ffee",http_request_method="GET",http_response_status_code="200"} 4
# HELP meshtap_tcp_io_bytes_total Bytes with a \\ and a "quote".
# TYPE meshtap_tcp_io_bytes_total counter
meshtap_tcp_io_bytes_total{service_name="a\"b\\c\nd",service_namespace="web",service_peer_name="é"} 7
# HELP process_resident_memory_bytes Memory.
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes 4096
"##;
    assert_eq!(rendered(Format::Text), expected);
}

#[test]
fn golden_openmetrics() {
    let expected = r##"# HELP target The agent that observes.
# TYPE target info
target_info{service_name="meshtap",service_version="VERSION"} 1
# HELP http_server_request_duration_seconds Duration.
# TYPE http_server_request_duration_seconds histogram
# UNIT http_server_request_duration_seconds seconds
http_server_request_duration_seconds_bucket{otel_metric_overflow="true",le="0.005"} 0
http_server_request_duration_seconds_bucket{otel_metric_overflow="true",le="1.0"} 0
http_server_request_duration_seconds_bucket{otel_metric_overflow="true",le="+Inf"} 1
http_server_request_duration_seconds_sum{otel_metric_overflow="true"} 2
http_server_request_duration_seconds_count{otel_metric_overflow="true"} 1
http_server_request_duration_seconds_created{otel_metric_overflow="true"} 1700000000.000000000
http_server_request_duration_seconds_bucket{service_name="stock",service_namespace="web",container_id="c0ffee",http_request_method="GET",http_response_status_code="200",le="0.005"} 2
http_server_request_duration_seconds_bucket{service_name="stock",service_namespace="web",container_id="c0ffee",http_request_method="GET",http_response_status_code="200",le="1.0"} 3
http_server_request_duration_seconds_bucket{service_name="stock",service_namespace="web",container_id="c0ffee",http_request_method="GET",http_response_status_code="200",le="+Inf"} 4
http_server_request_duration_seconds_sum{service_name="stock",service_namespace="web",container_id="c0ffee",http_request_method="GET",http_response_status_code="200"} 12.5
http_server_request_duration_seconds_count{service_name="stock",service_namespace="web",container_id="c0ffee",http_request_method="GET",http_response_status_code="200"} 4
http_server_request_duration_seconds_created{service_name="stock",service_namespace="web",container_id="c0ffee",http_request_method="GET",http_response_status_code="200"} 1700000000.000000001
# HELP meshtap_tcp_io_bytes Bytes with a \\ and a \"quote\".
# TYPE meshtap_tcp_io_bytes counter
# UNIT meshtap_tcp_io_bytes bytes
meshtap_tcp_io_bytes_total{service_name="a\"b\\c\nd",service_namespace="web",service_peer_name="é"} 7
meshtap_tcp_io_bytes_created{service_name="a\"b\\c\nd",service_namespace="web",service_peer_name="é"} 1.500000000
# HELP process_resident_memory_bytes Memory.
# TYPE process_resident_memory_bytes gauge
# UNIT process_resident_memory_bytes bytes
process_resident_memory_bytes 4096
# EOF
"##;
    assert_eq!(rendered(Format::OpenMetrics), expected);
}

#[test]
fn the_order_of_series_does_not_show() {
    let mut turned = snapshot();
    turned.families[0].series.reverse();
    let mut text = String::new();
    render(&turned, Format::Text, &mut text);
    assert_eq!(text.replace(env!("CARGO_PKG_VERSION"), "VERSION"), rendered(Format::Text));
}

#[test]
fn floats_that_are_no_numbers_are_spelt_as_the_format_wants() {
    let mut odd = snapshot();
    odd.families.truncate(0);
    let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    odd.families.push(Family {
        name: "odd",
        help: "Odd.",
        unit: "",
        metric: Metric::Gauge,
        series: (0..3)
            .map(|place| Series {
                resource: None,
                labels: vec![("place", Label::Integer(place))],
                start_unix_ns: 0,
                value: Value::Number(values[usize::try_from(place).expect("small")]),
            })
            .collect(),
    });
    let mut text = String::new();
    render(&odd, Format::Text, &mut text);
    assert!(text.ends_with("odd{place=\"0\"} NaN\nodd{place=\"1\"} +Inf\nodd{place=\"2\"} -Inf\n"));
}

#[test]
fn the_format_follows_the_accept_header() {
    let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
        application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;q=0.3,\
        text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
    let protobuf_first = "application/vnd.google.protobuf;\
        proto=io.prometheus.client.MetricFamily;encoding=delimited,text/plain;version=0.0.4;q=0.3";
    let cases = [
        (None, Format::Text),
        (Some(""), Format::Text),
        (Some("*/*"), Format::Text),
        (Some("text/plain"), Format::Text),
        (Some("application/openmetrics-text"), Format::OpenMetrics),
        (Some("Application/OpenMetrics-Text; version=\"1.0.0\""), Format::OpenMetrics),
        (Some("application/openmetrics-text;version=9.0.0,text/plain"), Format::Text),
        (Some("application/openmetrics-text;q=0"), Format::Text),
        (Some("text/plain,application/openmetrics-text;q=0.9"), Format::Text),
        (Some("application/openmetrics-text;q=nonsense"), Format::Text),
        (Some(prometheus_3), Format::OpenMetrics),
        (Some(protobuf_first), Format::Text),
    ];
    for (accept, expected) in cases {
        assert_eq!(Format::negotiate(accept), expected, "{accept:?}");
    }
}

#[test]
fn the_pieces_are_the_whole_and_stay_small() {
    let mut large = snapshot();
    let one = large.families[0].series[0].clone();
    large.families[0].series = (0..2_000)
        .map(|number| Series {
            labels: vec![("http.route", Label::Text(format!("/{number}").into()))],
            ..one.clone()
        })
        .collect();
    for format in [Format::Text, Format::OpenMetrics] {
        let mut whole = String::new();
        render(&large, format, &mut whole);
        let pieces: Vec<String> = Pieces::new(large.clone(), format).collect();
        assert!(pieces.len() > 5, "{} pieces", pieces.len());
        assert!(pieces.iter().all(|piece| piece.len() < 80 * 1024));
        assert_eq!(pieces.concat(), whole);
    }
    let empty = Snapshot { time_unix_ns: 0, families: Vec::new() };
    let pieces: Vec<String> = Pieces::new(empty, Format::OpenMetrics).collect();
    assert!(pieces.concat().ends_with("# EOF\n"));
}
