//! Telemetry arrives in real back ends (`MESHTAP_FULL=1`, or where they are built already), and
//! reads back with the values that the server's own log has: Prometheus, the OpenTelemetry
//! Collector, Jaeger.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use meshtap_tests::agent::Agent;
use meshtap_tests::component::Backend;
use meshtap_tests::ledger::Ledger;
use meshtap_tests::part::Part;
use meshtap_tests::process::{PATIENCE, free_port};
use meshtap_tests::scrape::{Sample, Scrape};
use meshtap_tests::workload::{Nginx, curl};
use meshtap_tests::{require, skip};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";
const COUNT: &str = "http_server_request_duration_seconds_count";

/// An nginx whose name no other program of this host has, and an agent that sends all and
/// serves its page on `page`.
fn shop(page: u16, otlp: &str) -> (Nginx, Agent, String) {
    let nginx = Nginx::start().expect("starts");
    let name = format!("stall-{}", nginx.port());
    let agent = Agent::start(&format!(
        "listen: \"127.0.0.1:{page}\"\nnames:\n  - name: {name}\n    match: {{ port: {} }}\n\
         otlp:\n  interval: 300ms\n{otlp}",
        nginx.port(),
    ))
    .expect("is ready");
    (nginx, agent, name)
}

fn ask(nginx: &Nginx, path: &str, header: &str) {
    let url = format!("http://127.0.0.1:{}{path}", nginx.port());
    curl(&["-H", header, &url]).expect("answers");
}

/// What is left of series, as text, when the labels that say who reported them are taken away.
fn shared(scrape: &Scrape) -> BTreeSet<String> {
    const REPORTER: [&str; 6] = [
        "job",
        "instance",
        "service_name",
        "service_namespace",
        "service_instance_id",
        "container_id",
    ];
    let text = |sample: &Sample| {
        let mut labels = sample.labels.clone();
        labels.retain(|label, _| !REPORTER.contains(&label.as_str()));
        if let Some(bound) = labels.get_mut("le") {
            *bound = number(bound);
        }
        format!("{}{labels:?} {}", sample.name, sample.value)
    };
    scrape.samples.iter().map(text).collect()
}

/// A bucket's bound: Prometheus writes `1.0` where it scrapes and `1` where it is sent.
fn number(bound: &str) -> String {
    bound.parse::<f64>().expect("a bound").to_string()
}

fn names(scrape: &Scrape) -> BTreeSet<&str> {
    scrape.samples.iter().map(|sample| sample.name.as_str()).collect()
}

/// Scraped by a real Prometheus and sent to it by OTLP, the same agent gives the same series:
/// names, labels, counts, sums and every bucket.
#[test]
fn prometheus() {
    require!("curl", "nginx", "ss");
    if let Some(reason) = Part::Prometheus.missing() {
        skip!(reason);
    }
    let page = free_port();
    let backend = Backend::prometheus(&[page]).expect("is built and starts");
    // It takes no traces, of which one in a hundred would be sent.
    let otlp = format!(
        "  endpoint: http://127.0.0.1:{}/api/v1/otlp\n  protocol: http/protobuf\n  \
         traces: {{ enabled: false }}\n",
        backend.web
    );
    let (nginx, agent, name) = shop(page, &otlp);
    // A page tells start times as series of their own, OTLP within each point.
    let by_page = format!("{{job=\"meshtap\",service_name=\"{name}\",__name__!~\".*_created\"}}");
    let by_otlp = format!("{{job=\"{name}\",__name__!=\"target_info\"}}");
    for round in 1..=2 {
        for _ in 0..9 {
            ask(&nginx, "/ok", "X-Round: yes");
        }
        for path in ["/nothing/at", "/broken", "/empty"] {
            ask(&nginx, path, "X-Round: yes");
        }
        let ledger = nginx.ledger().expect("is there");
        assert_eq!(ledger.total(), round * 12);
        // Connections that end have the last word on their edge.
        let closed = [("reason", "fin")];
        let whole = |scrape: &Scrape| {
            scrape.count(COUNT, &[]) == round * 12
                && scrape.count("meshtap_tcp_connections_closed_total", &closed) == round * 12
                && scrape.count("meshtap_tcp_connections_active", &[]) == 0
        };
        let scraped = backend.read_until(&by_page, whole).expect("answers");
        let sent =
            backend.read_until(&by_otlp, |sent| shared(sent) == shared(&scraped)).expect("answers");
        assert!(whole(&scraped), "{scraped:#?}");
        for read in [&scraped, &sent] {
            assert_eq!(Ledger::from_metrics(read, COUNT, &[]), ledger);
        }
        let (sent, scraped) = (shared(&sent), shared(&scraped));
        let differ: Vec<_> = sent.symmetric_difference(&scraped).collect();
        assert!(differ.is_empty(), "{differ:#?}");
    }
    what_prometheus_makes_of_it(&backend, page, &name);
    agent.stop().expect("ends well");
}

fn what_prometheus_makes_of_it(backend: &Backend, page: u16, name: &str) {
    // Names of everything else, the agent's own figures and edges among it.
    let own =
        format!("instance=\"127.0.0.1:{page}\",__name__!~\"up|scrape_.*|target_info|.*_created\"");
    let scraped = backend.read(&format!("{{{own}}}")).expect("answers");
    let sent = backend.read("{job!=\"\",instance!~\"127.0.0.1:.*\",__name__!=\"target_info\"}");
    let sent = sent.expect("answers");
    assert_eq!(names(&sent), names(&scraped));
    assert!(names(&scraped).contains("traces_service_graph_request_total"), "{scraped:?}");
    let up = backend.read("up{job=\"meshtap\"}").expect("answers");
    assert_eq!(up.count("up", &[]), 1, "the page is one that it can read");
    let target = backend.read(&format!("target_info{{job=\"{name}\"}}")).expect("answers");
    let [target] = target.samples.as_slice() else { panic!("one instance: {target:?}") };
    assert_eq!(target.label("telemetry_distro_name"), "meshtap", "{target:?}");
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("is there");
    assert_eq!(target.label("host_name"), host.trim(), "{target:?}");
    let quantile = backend
        .read(&format!(
            "histogram_quantile(0.5, sum by (le) (http_server_request_duration_seconds_bucket{{job=\"{name}\"}}))"
        ))
        .expect("answers");
    let median = quantile.sum("", &[]);
    assert!(median > 0.0 && median < 1.0, "seconds: {median}");
    // What a page says of a metric: its kind, and by OpenMetrics its unit.
    let metric = "http_server_request_duration_seconds";
    let metadata = backend.ask(&format!("/api/v1/metadata?metric={metric}")).expect("answers");
    let metadata = &metadata["data"][metric][0];
    assert_eq!((&metadata["type"], &metadata["unit"]), (&"histogram".into(), &"seconds".into()));
}

/// The value of a tag of a span, or of what sent it, as text.
fn tag(tags: &Value, key: &str) -> Option<String> {
    let found = tags.as_array()?.iter().find(|tag| tag["key"] == key)?;
    Some(found["value"].as_str().map_or_else(|| found["value"].to_string(), str::to_owned))
}

/// Whom a span is of, and where: `client stall-1`.
fn seat(trace: &Value, span: &Value) -> String {
    let process = &trace["processes"][span["processID"].as_str().unwrap_or_default()];
    assert_eq!(tag(&process["tags"], "telemetry.distro.name").as_deref(), Some("meshtap"));
    assert!(tag(&process["tags"], "service.instance.id").is_some(), "{process}");
    let kind = tag(&span["tags"], "span.kind").unwrap_or_default();
    format!("{kind} {}", process["serviceName"].as_str().unwrap_or_default())
}

/// Traces as Jaeger tells them, once there are `count` of them with two spans each.
fn traces(jaeger: &Backend, query: &str, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = jaeger.ask(query).expect("answers");
        let found = answer["data"].as_array().cloned().unwrap_or_default();
        let whole = |trace: &&Value| trace["spans"].as_array().is_some_and(|all| all.len() == 2);
        if found.iter().filter(whole).count() >= count || Instant::now() > deadline {
            return found;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The two spans of a trace, the client's first.
fn ends<'a>(trace: &'a Value, name: &str) -> [&'a Value; 2] {
    let spans = trace["spans"].as_array().expect("has spans");
    assert_eq!(spans.len(), 2, "{trace}");
    ["client curl".to_owned(), format!("server {name}")].map(|wanted| {
        let found = spans.iter().find(|span| seat(trace, span) == wanted);
        found.unwrap_or_else(|| panic!("no span of {wanted}: {trace}"))
    })
}

/// Spans through a real Collector into a real Jaeger: whose they are, under what, with what.
#[test]
fn collector_and_jaeger() {
    require!("curl", "nginx", "ss");
    if let Some(reason) = Part::Jaeger.missing().or_else(|| Part::Collector.missing()) {
        skip!(reason);
    }
    let jaeger = Backend::jaeger().expect("is built and starts");
    let collector = Backend::collector(jaeger.grpc).expect("is built and starts");
    let otlp = format!(
        "  endpoint: http://127.0.0.1:{}\n  protocol: grpc\ntraces:\n  sample_ratio: 1.0\n",
        collector.grpc
    );
    let (nginx, agent, name) = shop(free_port(), &otlp);
    ask(&nginx, "/broken", &format!("traceparent: 00-{TRACE}-{SPAN}-01"));
    ask(&nginx, "/teapot", &format!("traceparent: 00-{}-{SPAN}-00", TRACE.replace('4', "5")));
    ask(&nginx, "/nothing?secret=hunter2", "X-Trace: none");
    let given = traces(&jaeger, &format!("/api/traces/{TRACE}"), 1);
    let [given] = given.as_slice() else { panic!("one trace: {given:?}") };
    a_trace_that_was_begun_elsewhere(given, &name, nginx.port());
    let all = traces(&jaeger, &format!("/api/traces?service={name}&limit=100"), 2);
    assert_eq!(all.len(), 2, "the unsampled call has no span: {all:?}");
    assert!(!format!("{all:?}").contains("hunter2"), "a query is shown: {all:?}");
    let own = all.iter().find(|trace| trace["traceID"] != TRACE).expect("is there");
    a_trace_that_begins_here(own, &name);
    on_the_page_of_the_collector(&collector, &agent, &nginx, &name);
    agent.stop().expect("ends well");
}

fn a_trace_that_was_begun_elsewhere(trace: &Value, name: &str, port: u16) {
    let [client, server] = ends(trace, name);
    for span in [client, server] {
        assert_eq!(span["references"][0]["spanID"], SPAN, "the context of the request: {span}");
        assert_eq!(span["references"][0]["traceID"], TRACE, "{span}");
        assert_eq!(span["operationName"], "GET /broken");
        let tag = |key: &str| tag(&span["tags"], key);
        assert_eq!(tag("http.request.method").as_deref(), Some("GET"), "{span}");
        assert_eq!(tag("http.response.status_code").as_deref(), Some("500"), "{span}");
        assert_eq!(tag("error.type").as_deref(), Some("500"), "{span}");
        assert_eq!(tag("otel.status_code").as_deref(), Some("ERROR"), "{span}");
        assert_eq!(tag("error").as_deref(), Some("true"), "{span}");
        assert_eq!(tag("server.address").as_deref(), Some("127.0.0.1"), "{span}");
        assert_eq!(tag("server.port"), Some(port.to_string()), "{span}");
        assert_eq!(tag("otel.scope.name").as_deref(), Some("meshtap"), "{span}");
    }
    let url = format!("http://127.0.0.1:{port}/broken");
    assert_eq!(tag(&client["tags"], "url.full"), Some(url));
    assert_eq!(tag(&client["tags"], "service.peer.name").as_deref(), Some(name));
    assert_eq!(tag(&server["tags"], "service.peer.name").as_deref(), Some("curl"));
    assert_eq!(tag(&server["tags"], "url.path").as_deref(), Some("/broken"));
    assert_eq!(tag(&server["tags"], "http.route").as_deref(), Some("/broken"));
    assert_eq!(tag(&server["tags"], "client.address").as_deref(), Some("127.0.0.1"));
}

fn a_trace_that_begins_here(trace: &Value, name: &str) {
    let [client, server] = ends(trace, name);
    assert_eq!(client["references"], Value::Array(Vec::new()), "the root: {client}");
    assert_eq!(server["references"][0]["refType"], "CHILD_OF", "{server}");
    assert_eq!(server["references"][0]["spanID"], client["spanID"], "{server}");
    // A 404 is an error for whoever asked, and none for whoever answered.
    assert_eq!(tag(&client["tags"], "error").as_deref(), Some("true"), "{client}");
    assert_eq!(tag(&server["tags"], "error"), None, "{server}");
    assert_eq!(tag(&server["tags"], "otel.status_code"), None, "{server}");
    // Jaeger warns of a child that does not lie inside of its parent, and moves it.
    for span in [client, server] {
        assert_eq!(span["warnings"], Value::Null, "{span}");
    }
    let time = |span: &Value, key: &str| span[key].as_u64().expect("microseconds");
    assert!(time(client, "startTime") <= time(server, "startTime"), "{trace}");
    assert!(time(client, "duration") >= time(server, "duration"), "{trace}");
}

/// The Collector's page has what the agent's has: every bucket.
fn on_the_page_of_the_collector(collector: &Backend, agent: &Agent, nginx: &Nginx, name: &str) {
    let ledger = nginx.ledger().expect("is there");
    let labels = [("service_name", name)];
    let deadline = Instant::now() + PATIENCE;
    let address = ([127, 0, 0, 1], collector.web).into();
    let page = loop {
        let page = Scrape::fetch(address).expect("is served");
        let done = page.count(COUNT, &labels) == ledger.total();
        if done || Instant::now() > deadline {
            break page;
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    assert_eq!(Ledger::from_metrics(&page, COUNT, &labels), ledger);
    let buckets = |scrape: &Scrape| {
        let by = ["http_route", "http_response_status_code", "le"];
        let found = scrape.by("http_server_request_duration_seconds_bucket", &by, &labels);
        let key = |key: &[String]| (key[..2].to_vec(), number(&key[2]));
        found.iter().map(|(labels, count)| (key(labels), *count)).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(buckets(&page), buckets(&agent.scrape().expect("is served")));
}
