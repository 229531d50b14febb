//! Metrics in Istio's shape, read by a real Prometheus as Kiali and Istio's own dashboards ask
//! for them: an edge that no proxy reports is drawn, from both of its ends and once; one that
//! proxies report is left to them.

use std::collections::BTreeSet;

use meshtap_tests::agent::Agent;
use meshtap_tests::cluster::Driver;
use meshtap_tests::component::Backend;
use meshtap_tests::mesh::shop::{BUYER, CART, HTTP, NAMESPACE};
use meshtap_tests::mesh::{Mesh, Shop};
use meshtap_tests::part::Part;
use meshtap_tests::process::free_port;
use meshtap_tests::scrape::{Sample, Scrape};
use meshtap_tests::skip;
use meshtap_tests::workload::load;

/// Labels that Kiali's graph groups by; an edge without one of them is passed over
/// (`graph/telemetry/istio/istio.go`, `buildNamespaceTrafficMap`).
const GROUP: &str = "source_workload_namespace,source_workload,source_canonical_service,\
    source_canonical_revision,destination_service_namespace,destination_service,\
    destination_service_name,destination_workload_namespace,destination_workload,\
    destination_canonical_service,destination_canonical_revision,request_protocol,\
    response_code,grpc_response_status,response_flags";
/// Of them those that a call over HTTP has; the status of gRPC is absent or empty.
const KEYS: usize = 14;
const CALLS: u64 = 3_000;

/// The three questions of Kiali's graph about a namespace: what comes from elsewhere to a
/// service without workload, what arrives, what leaves. `metric` is put as they put it.
fn graph(metric: impl Fn(&str) -> String) -> [String; 3] {
    [
        format!(
            "reporter=~\"waypoint|source\",source_workload_namespace!=\"{NAMESPACE}\",\
             destination_workload_namespace=\"unknown\",destination_workload=\"unknown\",\
             destination_service=~\"^.+\\\\.{NAMESPACE}\\\\..+$\""
        ),
        format!(
            "reporter=~\"waypoint|destination\",destination_workload_namespace=\"{NAMESPACE}\""
        ),
        format!("reporter=~\"waypoint|source\",source_workload_namespace=\"{NAMESPACE}\""),
    ]
    .map(|selected| metric(&selected))
}

fn rates(selected: &str) -> String {
    format!("round(sum(rate(istio_requests_total{{{selected}}}[30s])) by ({GROUP}) > 0, 0.001)")
}

fn counts(selected: &str) -> String {
    format!("sum(istio_requests_total{{{selected}}}) by ({GROUP})")
}

/// What Kiali tells edges apart by.
fn tuples(scrape: &Scrape) -> BTreeSet<String> {
    scrape.samples.iter().map(|sample| format!("{:?}", sample.labels)).collect()
}

fn total(scrape: &Scrape) -> f64 {
    scrape.samples.iter().map(|sample| sample.value).sum()
}

/// An agent in the shop, and a Prometheus that reads its page.
fn watch(shop: &Shop) -> (Agent, Backend) {
    let page = free_port();
    let config = format!(
        "{}listen: \"127.0.0.1:{page}\"\nmesh:\n  istio_metrics: true\n",
        shop.lab.configuration()
    );
    let agent = Agent::start(&config).expect("is ready");
    (agent, Backend::prometheus(&[page]).expect("starts"))
}

fn visit(shop: &Shop) {
    let address = shop.address(HTTP).expect("has one");
    let paths = ["/ok", "/nothing", "/teapot"];
    let place = shop.client(0).expect("is there");
    load::h2load(place, &address, &paths, 4, CALLS).expect("is answered");
}

fn missing(mesh: Mesh) -> Option<String> {
    Part::Prometheus.missing().or_else(|| Shop::missing(mesh))
}

#[test]
fn an_edge_that_nobody_reports_is_drawn_once() {
    if let Some(reason) = missing(Mesh::None) {
        skip!(reason);
    }
    let shop = Shop::open(Mesh::None, 1, 1, Driver::Cgroupfs).expect("opens");
    let (agent, prometheus) = watch(&shop);
    // A rate needs what was there before.
    visit(&shop);
    let [_, arrives, leaves] = graph(counts);
    let whole = |calls: u64| move |scrape: &Scrape| total(scrape) >= calls as f64;
    prometheus.read_until(&arrives, whole(CALLS)).expect("answers");
    visit(&shop);
    let arrived = prometheus.read_until(&arrives, whole(2 * CALLS)).expect("answers");
    let left = prometheus.read_until(&leaves, whole(2 * CALLS)).expect("answers");
    for counted in [&arrived, &left] {
        assert_eq!(total(counted), (2 * CALLS) as f64, "{counted:#?}");
        for Sample { labels, .. } in &counted.samples {
            assert_eq!(labels.len(), KEYS, "an edge without one of them is not drawn: {labels:?}");
            assert_eq!(
                (&*labels["source_workload"], &*labels["destination_workload"]),
                (BUYER, CART)
            );
        }
        let codes: BTreeSet<&str> =
            counted.samples.iter().map(|sample| sample.label("response_code")).collect();
        assert_eq!(codes, ["200", "404", "418"].into());
    }
    // Kiali keeps the first of equal tuples: what both ends report is one edge only so.
    assert_eq!(tuples(&arrived), tuples(&left));
    let [elsewhere, arrives, leaves] = graph(rates);
    for rate in [arrives, leaves] {
        let drawn = prometheus.read_until(&rate, |drawn| drawn.samples.len() == 3);
        assert_eq!(tuples(&drawn.expect("answers")), tuples(&arrived), "{rate}");
    }
    assert_eq!(prometheus.read(&elsewhere).expect("answers").samples.len(), 0);
    dashboards(&prometheus);
    agent.stop().expect("ends well");
}

/// What Istio's dashboards for the mesh, for services and for workloads ask.
fn dashboards(prometheus: &Backend) {
    let of_mesh = "sum(istio_requests_total{reporter=~\"source|waypoint\"}) by \
        (destination_workload, destination_workload_namespace, destination_service)";
    let of_service = "sum(istio_requests_total{reporter=\"destination\"}) by \
        (destination_workload, destination_workload_namespace, destination_service)";
    for panel in [of_mesh, of_service] {
        let shown = prometheus.read(panel).expect("answers");
        let [row] = shown.samples.as_slice() else { panic!("one workload: {shown:#?}") };
        assert_eq!((row.label("destination_workload"), row.value), (CART, (2 * CALLS) as f64));
    }
    for family in ["request_duration_milliseconds", "request_bytes", "response_bytes"] {
        for reporter in ["source", "destination"] {
            let panel = format!(
                "histogram_quantile(0.99, sum(irate(istio_{family}_bucket{{\
                 reporter=\"{reporter}\",destination_workload=\"{CART}\"}}[1m])) by (le))"
            );
            let shown = prometheus.read(&panel).expect("answers");
            assert_eq!(shown.samples.len(), 1, "{panel}: {shown:#?}");
        }
    }
    let secured = "sum(istio_requests_total{connection_security_policy=\"mutual_tls\"})";
    assert_eq!(prometheus.read(secured).expect("answers").samples.len(), 0);
}

#[test]
fn what_sidecars_report_is_left_to_them() {
    if let Some(reason) = missing(Mesh::Istio) {
        skip!(reason);
    }
    let shop = Shop::open(Mesh::Istio, 1, 1, Driver::Cgroupfs).expect("opens");
    let (agent, prometheus) = watch(&shop);
    visit(&shop);
    let calls = "sum(http_server_request_duration_seconds_count{service_name=\"cart\"})";
    let seen = prometheus.read_until(calls, |seen| total(seen) >= CALLS as f64);
    assert_eq!(total(&seen.expect("answers")), CALLS as f64, "the agent has counted them");
    for question in graph(counts) {
        let drawn = prometheus.read(&question).expect("answers");
        assert_eq!(drawn.samples.len(), 0, "would be added to the proxies': {drawn:#?}");
    }
    agent.stop().expect("ends well");
}
