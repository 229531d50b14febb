//! Telemetry arrives, with the right values, in a receiver that keeps the protocol's own
//! messages. (`backends.rs`: in real back ends.)

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use meshtap_tests::agent::Agent;
use meshtap_tests::netns::Place;
use meshtap_tests::process::{Running, free_port};
use meshtap_tests::receiver::{Received, Receiver, Transport, attribute, hexadecimal};
use meshtap_tests::require;
use meshtap_tests::workload::{Language, Nginx, curl};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// An nginx whose name no other program of this host has, and an agent that sends all.
fn shop(endpoint: &str, transport: Transport, more: &str) -> (Nginx, Agent, String) {
    let nginx = Nginx::start().expect("starts");
    let name = format!("stall-{}", nginx.port());
    let agent = Agent::start(&format!(
        "names:\n  - name: {name}\n    match: {{ port: {} }}\n\
         otlp:\n  endpoint: {endpoint}\n  protocol: {}\n  interval: 300ms\n{more}",
        nginx.port(),
        transport.name(),
    ))
    .expect("is ready");
    (nginx, agent, name)
}

fn ask(nginx: &Nginx, path: &str, flags: Option<&str>) {
    let url = format!("http://127.0.0.1:{}{path}", nginx.port());
    let header = flags.map(|flags| format!("traceparent: 00-{TRACE}-{SPAN}-{flags}"));
    match &header {
        Some(header) => curl(&["-H", header, &url]).expect("answers"),
        None => curl(&[&url]).expect("answers"),
    };
}

fn metrics_by(transport: Transport) {
    require!("curl", "nginx", "ss");
    let receiver = Receiver::start(transport).expect("listens");
    let (nginx, agent, name) = shop(&receiver.endpoint(), transport, "");
    for _ in 0..7 {
        ask(&nginx, "/ok", None);
    }
    for _ in 0..3 {
        ask(&nginx, "/nothing", None);
    }
    let server = "http.server.request.duration";
    let client = "http.client.request.duration";
    let own = [("service.name", name.as_str())];
    let port = nginx.port().to_string();
    let curls = [("service.name", "curl"), ("server.port", port.as_str())];
    let received = receiver.wait(|received| {
        received.count(server, &own) >= 10 && received.count(client, &curls) >= 10
    });
    let count = |metric: &str, labels: &[(&str, &str)], status, route| {
        let mut all = labels.to_vec();
        all.extend([("http.response.status_code", status), ("http.route", route)]);
        received.count(metric, &all)
    };
    assert_eq!(count(server, &own, "200", "/ok"), 7);
    assert_eq!(count(server, &own, "404", "/nothing"), 3);
    assert_eq!(received.count(server, &own), 10);
    assert_eq!(received.count(client, &curls), 10);
    let points = received.points(server, &own);
    for point in &points {
        assert_eq!(point.explicit_bounds.len() + 1, point.bucket_counts.len());
        assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
        assert!(point.sum.is_some_and(|sum| sum > 0.0 && sum < 10.0), "seconds: {point:?}");
        assert!(0 < point.start_time_unix_nano, "{point:?}");
        assert!(point.start_time_unix_nano <= point.time_unix_nano, "{point:?}");
    }
    // OpenTelemetry's default: compression is for those who ask for it.
    assert_eq!(received.compressed, 0, "no compression is the default");
    // The page for Prometheus says the same.
    let scrape = agent.scrape().expect("is served");
    let labels = [("service_name", name.as_str())];
    assert_eq!(scrape.count("http_server_request_duration_seconds_count", &labels), 10);
    agent.stop().expect("ends well");
}

#[test]
fn metrics_by_grpc() {
    metrics_by(Transport::Grpc);
}

#[test]
fn metrics_by_http() {
    metrics_by(Transport::Http);
}

fn spans_by(transport: Transport) {
    require!("curl", "nginx", "ss");
    let receiver = Receiver::start(transport).expect("listens");
    let (nginx, agent, name) =
        shop(&receiver.endpoint(), transport, "traces:\n  sample_ratio: 0.0\n");
    ask(&nginx, "/broken", Some("01"));
    ask(&nginx, "/teapot", Some("00"));
    ask(&nginx, "/ok", None);
    receiver.wait(|received| received.trace(TRACE).len() >= 2);
    // What was not to be sent would be sent with the rest, at the latest.
    agent.stop().expect("ends well");
    let received = receiver.received();
    let spans = received.trace(TRACE);
    assert_eq!(spans.len(), 2, "one for each end of the sampled call: {spans:#?}");
    let of = |kind: SpanKind| {
        spans.iter().find(|owned| owned.span.kind == kind as i32).expect("is there")
    };
    let (client, server) = (of(SpanKind::Client), of(SpanKind::Server));
    assert_eq!((client.service.as_str(), server.service.as_str()), ("curl", name.as_str()));
    assert_ne!(client.span.span_id, server.span.span_id);
    for owned in [client, server] {
        let span = &owned.span;
        assert_eq!(hexadecimal(&span.parent_span_id), SPAN, "the context of the request");
        assert!(span.start_time_unix_nano < span.end_time_unix_nano, "{span:?}");
        let value = |key: &str| attribute(&span.attributes, key);
        assert_eq!(value("http.request.method").as_deref(), Some("GET"));
        assert_eq!(value("http.response.status_code").as_deref(), Some("500"));
    }
    assert!(client.span.start_time_unix_nano <= server.span.start_time_unix_nano);
    assert!(client.span.end_time_unix_nano >= server.span.end_time_unix_nano);
    assert_eq!(attribute(&server.span.attributes, "url.path").as_deref(), Some("/broken"));
    // 2 is ERROR: a client's for every 4xx and 5xx, a server's for 5xx only.
    let code = |owned: &meshtap_tests::receiver::OwnedSpan| {
        owned.span.status.as_ref().map(|status| status.code)
    };
    assert_eq!((code(client), code(server)), (Some(2), Some(2)));
    let own = received.trace("").into_iter().filter(|owned| owned.service == name).count();
    assert_eq!(own, 1, "neither the unsampled nor, by a ratio of nothing, the one without");
}

#[test]
fn spans_by_grpc() {
    spans_by(Transport::Grpc);
}

#[test]
fn spans_by_http() {
    spans_by(Transport::Http);
}

/// Calls without context of their own become spans by the ratio.
#[test]
fn spans_of_calls_without_context() {
    require!("curl", "nginx", "ss");
    let receiver = Receiver::start(Transport::Grpc).expect("listens");
    let (nginx, agent, name) =
        shop(&receiver.endpoint(), Transport::Grpc, "traces:\n  sample_ratio: 1.0\n");
    for _ in 0..5 {
        ask(&nginx, "/ok", None);
    }
    let own = |received: &Received| {
        let spans = received.trace("").into_iter();
        spans.filter(|owned| owned.service == name).collect::<Vec<_>>()
    };
    receiver.wait(|received| own(received).len() >= 5);
    agent.stop().expect("ends well");
    let spans = own(&receiver.received());
    assert_eq!(spans.len(), 5);
    let traces: std::collections::BTreeSet<_> =
        spans.iter().map(|owned| owned.span.trace_id.clone()).collect();
    assert_eq!(traces.len(), 5, "a trace of its own for each call");
    assert!(traces.iter().all(|id| id.len() == 16 && id.iter().any(|byte| *byte != 0)));
}

/// A process that sends traces on with ids of its own has an SDK, whose spans are not sent
/// a second time; one that passes the header on has none.
#[test]
fn processes_that_trace_themselves() {
    require!("curl", "nginx", "python3", "ss");
    let receiver = Receiver::start(Transport::Grpc).expect("listens");
    let (nginx, agent, _) = shop(&receiver.endpoint(), Transport::Grpc, "");
    let relays = ["tracing", "passing"].map(|mode| {
        let port = free_port();
        let mut command = Language::Python.command("relay", Place::HERE).expect("is installed");
        command.args([port.to_string(), nginx.port().to_string(), mode.to_owned()]);
        let mut running = Running::start(&mut command).expect("starts");
        running.wait_for_listener(&Place::HERE, port).expect("listens");
        (running, port)
    });
    let trace = |number: usize| format!("{number:032x}");
    let ask = |port: u16, number: usize| {
        let header = format!("traceparent: 00-{}-{SPAN}-01", trace(number));
        curl(&["-H", &header, &format!("http://127.0.0.1:{port}/ok")]).expect("answers");
    };
    for (relay, (_, port)) in relays.iter().enumerate() {
        for number in 1..=5 {
            ask(*port, relay * 10 + number);
        }
    }
    // Both ends of curl's call and of the relay's: four spans, or curl's and nginx's alone.
    let spans = |received: &Received, number| received.trace(&trace(number));
    receiver.wait(|received| spans(received, 15).len() >= 4 && spans(received, 5).len() >= 2);
    let left_out = [("reason", "itself")];
    let name = "meshtap_spans_left_out_total";
    let scrape =
        agent.scrape_until(|scrape| scrape.count(name, &left_out) >= 4).expect("is served");
    agent.stop().expect("ends well");
    let received = receiver.received();
    let of_relay = |number| {
        let spans = spans(&received, number);
        spans.iter().filter(|owned| owned.service == "relay").count()
    };
    assert_eq!([1, 2, 3, 4, 5].map(of_relay), [2, 2, 1, 0, 0], "three traces prove it");
    assert_eq!([11, 12, 13, 14, 15].map(of_relay), [2; 5]);
    for number in [5, 15] {
        let services: Vec<_> =
            spans(&received, number).into_iter().map(|owned| owned.service).collect();
        assert!(services.iter().any(|name| name == "curl"), "{services:?}");
        assert!(services.iter().any(|name| name.starts_with("stall-")), "{services:?}");
    }
    assert_eq!(scrape.count(name, &left_out), 5);
    drop(relays);
}

/// What waits while a collector is down is sent when it is up, within the bound of the queue.
#[test]
fn a_collector_that_comes_late() {
    require!("curl", "nginx", "ss");
    let port = free_port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let (nginx, agent, name) = shop(&endpoint, Transport::Http, "traces:\n  sample_ratio: 1.0\n");
    for _ in 0..20 {
        ask(&nginx, "/ok", None);
    }
    let own = [("service_name", name.as_str())];
    let count = "http_server_request_duration_seconds_count";
    agent.scrape_until(|scrape| scrape.count(count, &own) == 20).expect("is served");
    std::thread::sleep(std::time::Duration::from_secs(2));
    let receiver = Receiver::start_at(Transport::Http, port).expect("listens");
    let metric = "http.server.request.duration";
    let labels = [("service.name", name.as_str())];
    let spans = |received: &Received| {
        received.trace("").iter().filter(|owned| owned.service == name).count()
    };
    let received =
        receiver.wait(|received| received.count(metric, &labels) == 20 && spans(received) >= 20);
    assert_eq!((received.count(metric, &labels), spans(&received)), (20, 20));
    agent.stop().expect("ends well");
}

/// A line for each call, as log records and on standard output.
#[test]
fn access_log() {
    require!("curl", "nginx", "ss");
    let receiver = Receiver::start(Transport::Grpc).expect("listens");
    let more = "access_log:\n  stdout: json\n  otlp: true\n";
    let (nginx, agent, name) = shop(&receiver.endpoint(), Transport::Grpc, more);
    ask(&nginx, "/teapot?secret=hunter2", None);
    receiver.wait(|received| !received.records().is_empty());
    let output = agent.stop().expect("ends well");
    let lines: Vec<&str> = output
        .lines()
        .filter(|line| line.starts_with('{') && line.contains("/teapot") && line.contains(&name))
        .collect();
    assert!(!lines.is_empty() && lines.len() <= 2, "a line for each end at the most: {output}");
    for line in lines {
        let value: serde_json::Value = serde_json::from_str(line).expect("is JSON");
        assert!(value.to_string().contains("418"), "{line}");
    }
    let records = format!("{:?}", receiver.received().records());
    assert!(records.contains("/teapot") && records.contains("418"), "{records}");
    assert!(!records.contains("hunter2") && !output.contains("hunter2"), "a query is shown");
}
