//! Envoy inside pods of a real Kubernetes node (`MESHTAP_FULL=1`, or where its programs are
//! built already): beside applications as Istio's sidecar, and as pods of its own. What it
//! counts by itself is what the agent counts.

use std::collections::BTreeMap;

use meshtap_tests::cluster::{Pod, Service};
use meshtap_tests::kubernetes::istio::{Istio, Kind, PORT, alone, counters, injected};
use meshtap_tests::kubernetes::town::{Edges, Town};
use meshtap_tests::kubernetes::{Image, Node, object};
use meshtap_tests::mesh::{ambient, istio, sidecar};
use meshtap_tests::requirement::missing;
use meshtap_tests::scrape::Scrape;
use meshtap_tests::skip;
use serde_json::json;

const NAMESPACE: &str = "shop";
/// The Services' port.
const HTTP: u16 = 80;
/// Requests of each kind.
const CALLS: u64 = 600;
/// What serves, and what calls.
const WEB: &str = "lab.local/web:1";
const CALLER: &str = "lab.local/caller:1";

/// A pod of the account and with the label `app` of that name.
fn pod(name: &str) -> Pod {
    Pod::bare(NAMESPACE, name).account(name).label("app", name)
}

fn principal(name: &str) -> String {
    pod(name).principal()
}

/// A Deployment without a mesh.
fn plain(name: &str, image: &str) -> String {
    let spec = json!({"containers": [{"name": "app", "image": image}]});
    object::deployment(NAMESPACE, name, 1, &json!({}), &spec).to_string()
}

/// A Service with the pods behind it, for Envoy's configuration: what a control plane would
/// tell it.
fn known(node: &Node, name: &str, count: usize, like: &Pod) -> (Service, Vec<Pod>) {
    let object = node.get(&["service", "--namespace", NAMESPACE, name]).expect("is there");
    let address = object["spec"]["clusterIP"].as_str().expect("an address");
    let address: std::net::IpAddr = address.parse().expect("an address");
    let service = Service::new(NAMESPACE, name).address(address).port("http", HTTP, PORT);
    let pods = node.wait_for_pods(NAMESPACE, &format!("app={name}"), count).expect("are ready");
    let backend = |address| like.clone().address(address);
    (service, pods.iter().filter_map(|pod| pod.address).map(backend).collect())
}

/// Starts a Deployment and waits for its pods.
fn start(node: &Node, name: &str, object: &str) {
    node.apply(object).expect("is applied");
    node.wait_ready(NAMESPACE, &format!("deployment/{name}")).expect(name);
}

/// The cart and the buyer have sidecars; the visitor and the depot have none. The waypoint
/// leads to the depot, the gateway to the cart.
fn settle(node: &Node) {
    let istio = Istio::on(node).expect("is loaded");
    let caller = Image::new(CALLER, &["/bin/sleep", "1000000"])
        .and_then(Image::busybox)
        .and_then(|image| image.program("h2load"))
        .expect("is made");
    node.load(&caller).expect("is loaded");
    for name in ["cart", "depot", "waypoint", "gateway"] {
        node.apply(&object::service(NAMESPACE, name, HTTP, PORT).to_string()).expect("is applied");
    }
    start(node, "visitor", &plain("visitor", CALLER));
    start(node, "depot", &plain("depot", WEB));

    let cart = pod("cart");
    let enrol = |pod: &Pod, services: &[(Service, Vec<Pod>)]| {
        let configure = |own: &_| Ok(sidecar::configuration(pod, own, &[PORT], services, false));
        istio.enrol(node, pod, configure).expect("is enrolled");
    };
    enrol(&cart, &[]);
    start(node, "cart", &injected(&cart, Kind::Beside, 2, WEB).to_string());
    let carts = known(node, "cart", 2, &istio::injected(cart, false));
    let buyer = pod("buyer");
    enrol(&buyer, std::slice::from_ref(&carts));
    start(node, "buyer", &injected(&buyer, Kind::Native, 1, CALLER).to_string());

    let depot = known(node, "depot", 1, &pod("depot"));
    let lead = |pod: &Pod, (service, behind): &(Service, Vec<Pod>)| {
        let configure = |own: &_| sidecar::gateway(pod, own, PORT, (service, HTTP, behind));
        istio.enrol(node, pod, configure).expect("is enrolled");
        start(node, &pod.labels["app"], &alone(pod).to_string());
    };
    lead(&named(ambient::waypoint(NAMESPACE), "waypoint"), &depot);
    lead(&named(istio::gateway(NAMESPACE, "gateway"), "gateway"), &carts);
}

/// Without what only a controller gives a pod.
fn named(mut pod: Pod, name: &str) -> Pod {
    pod.labels.remove("pod-template-hash");
    pod.label("app", name)
}

/// Sums of some counters over all pods of `app`.
fn counted(town: &Town, app: &str, pods: usize, names: &[String]) -> Vec<u64> {
    let mut sums = BTreeMap::new();
    for pod in town.pods(app, pods).expect("are ready") {
        for (name, value) in counters(&town.node, NAMESPACE, &pod.name, "").expect("counts") {
            *sums.entry(name).or_insert(0) += value;
        }
    }
    names.iter().map(|name| sums.get(name).copied().unwrap_or_default()).collect()
}

/// The one pod of `app` makes [`CALLS`] requests on connections that it keeps.
fn visit(town: &Town, app: &str, url: &str) {
    let pod = town.one(app).expect("is ready");
    let (count, done) = (format!("-n{CALLS}"), format!("{CALLS} succeeded"));
    let words = ["h2load", "--h1", "-t1", "-c4", &count, url];
    let said = town.node.exec(NAMESPACE, &pod.name, Some("app"), &words).expect("calls");
    assert!(said.contains(&done), "{said}");
}

/// Calls of an edge, by mesh, policy and principals.
fn graph(scrape: &Scrape, client: &str, server: &str) -> Edges {
    let labels =
        ["mesh", "connection_security_policy", "source_principal", "destination_principal"];
    let ends = [
        ("client", client),
        ("client_service_namespace", NAMESPACE),
        ("server", server),
        ("server_service_namespace", NAMESPACE),
    ];
    scrape.by("traces_service_graph_request_total", &labels, &ends)
}

fn edge(words: [&str; 4], count: u64) -> Edges {
    Edges::from([(words.map(str::to_owned).to_vec(), count)])
}

#[test]
fn envoy_counts_what_the_agent_counts() {
    let helm = match Town::helm() {
        Ok(helm) => helm,
        Err(reason) => skip!(reason),
    };
    if let Some(reason) = Istio::missing().or_else(|| missing(&["h2load"])) {
        skip!(reason);
    }
    let settle = |node: &Node| {
        settle(node);
        Ok(())
    };
    let town = Town::found(&helm, NAMESPACE, settle).expect("is founded");
    for (name, step) in [
        ("sidecars", through_sidecars as fn(&Town)),
        ("waypoint", through_a_waypoint),
        ("gateway", through_a_gateway),
    ] {
        println!("{name}");
        step(&town);
    }
}

/// One edge of the two applications, counted once per side, by mutual TLS between their
/// accounts; as many requests came into and left the sidecars.
fn through_sidecars(town: &Town) {
    let out = [arrived(&format!("outbound_{HTTP}")), outbound("cart")];
    let inside = [
        arrived(&format!("inbound_0.0.0.0_{PORT}")),
        format!("cluster.{}.upstream_rq_total", sidecar::inbound(PORT)),
    ];
    let sidecars = || [counted(town, "buyer", 1, &out), counted(town, "cart", 2, &inside)];
    let before = sidecars();
    let scrape = town.expect(&[("buyer", "cart", CALLS)], || visit(town, "buyer", "http://cart/"));
    let scrape = scrape.expect("is counted");
    assert_eq!(gained(&before, &sidecars()), [[CALLS; 2], [CALLS; 2]]);
    let secured = ["istio", "mutual_tls", &principal("buyer"), &principal("cart")];
    assert_eq!(graph(&scrape, "buyer", "cart"), edge(secured, CALLS));
}

/// A pod that is nothing but Envoy is a node of its own: two edges, both seen at both ends.
fn through_a_waypoint(town: &Town) {
    let names = [arrived(&format!("outbound_0.0.0.0_{PORT}")), outbound("depot")];
    let before = [counted(town, "waypoint", 1, &names)];
    let calls = [("visitor", "waypoint", CALLS), ("waypoint", "depot", CALLS)];
    let scrape = town.expect(&calls, || visit(town, "visitor", "http://waypoint/"));
    let scrape = scrape.expect("is counted");
    assert_eq!(gained(&before, &[counted(town, "waypoint", 1, &names)]), [[CALLS; 2]]);
    for (client, server, _) in calls {
        assert_eq!(graph(&scrape, client, server), edge(["", "", "", ""], CALLS));
    }
}

/// What a gateway sends on by mutual TLS is seen at the server alone.
fn through_a_gateway(town: &Town) {
    let names = [arrived(&format!("outbound_0.0.0.0_{PORT}")), outbound("cart")];
    let before = [counted(town, "gateway", 1, &names)];
    let wanted = [
        town.wanted(&[("visitor", "gateway", CALLS)], "client"),
        town.wanted(&[("visitor", "gateway", CALLS), ("gateway", "cart", CALLS)], "server"),
    ];
    let scrape = town.expect_sides(&wanted, || visit(town, "visitor", "http://gateway/"));
    let scrape = scrape.expect("is counted");
    assert_eq!(gained(&before, &[counted(town, "gateway", 1, &names)]), [[CALLS; 2]]);
    let secured = ["istio", "mutual_tls", &principal("gateway"), &principal("cart")];
    assert_eq!(graph(&scrape, "gateway", "cart"), edge(secured, CALLS));
}

/// The counter of requests that arrived at a listener.
fn arrived(listener: &str) -> String {
    format!("http.{listener}.downstream_rq_total")
}

/// The counter of requests that left for a Service.
fn outbound(service: &str) -> String {
    let cluster = sidecar::outbound(&Service::new(NAMESPACE, service), HTTP);
    format!("cluster.{cluster}.upstream_rq_total")
}

fn gained<const N: usize>(before: &[Vec<u64>; N], after: &[Vec<u64>; N]) -> Vec<Vec<u64>> {
    let gain = |(before, after): (&Vec<u64>, &Vec<u64>)| {
        after.iter().zip(before).map(|(after, before)| after - before).collect()
    };
    before.iter().zip(after).map(gain).collect()
}
