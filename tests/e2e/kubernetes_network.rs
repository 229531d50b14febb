//! The ways that lead to a pod on a real node (`MESHTAP_FULL=1`, or where its programs are built
//! already): by both families of addresses, past Services and by them, behind each kind of
//! kube-proxy. Both ends of every call have their names, and the Service is the one that was
//! asked for.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use meshtap_tests::kubernetes::town::{Edges, Town};
use meshtap_tests::kubernetes::{ADDRESS, ADDRESS_6, Node, Pod, Proxy, lacks_ipv6, object};
use meshtap_tests::requirement::program;
use meshtap_tests::scrape::Scrape;
use meshtap_tests::skip;
use serde_json::{Value, json};

/// Calls of each kind.
const CALLS: u64 = 20;
const NAMESPACE: &str = "shop";
const PORT: u16 = 8080;
/// Where the pod on the node's own network listens.
const DOOR_PORT: u16 = 8081;

/// A Service for the pods with this label, `app`, with addresses of these families only.
fn service(name: &str, app: &str, families: &[&str], more: &Value) -> Value {
    let target = if app == "door" { DOOR_PORT } else { PORT };
    let mut service = object::service(NAMESPACE, name, 80, target);
    let spec = &mut service["spec"];
    spec["selector"]["app"] = app.into();
    spec["ipFamilies"] = json!(families);
    let policy = if families.len() > 1 { "RequireDualStack" } else { "SingleStack" };
    spec["ipFamilyPolicy"] = policy.into();
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    service
}

fn settle(node: &Node) -> anyhow::Result<()> {
    let ports = |node: u16| {
        let port = json!({"name": "http", "port": 80, "targetPort": PORT, "nodePort": node});
        json!({"type": "NodePort", "ports": [port]})
    };
    let headless = json!({"clusterIP": "None", "ports": [{"port": PORT}]});
    let mut services = vec![service("web", "web", &["IPv4"], &ports(30081))];
    if lacks_ipv6().is_none() {
        services.extend([
            service("web6", "web", &["IPv6"], &ports(30086)),
            service("all-web6", "web", &["IPv6"], &headless),
            service("both", "web", &["IPv4", "IPv6"], &json!({})),
            service("door6", "door", &["IPv6"], &json!({})),
        ]);
    }
    for service in services {
        node.apply(&service.to_string())?;
    }
    let probe = |port| json!({"tcpSocket": {"port": port}, "periodSeconds": 1});
    let container = |port: u16| {
        json!({
            "name": "main", "image": "lab.local/web:1",
            "env": [{"name": "PORT", "value": port.to_string()}],
            "readinessProbe": probe(port),
        })
    };
    for (name, replicas, is_on_node) in [("web", 2, false), ("client", 1, false), ("door", 1, true)]
    {
        let port = if is_on_node { DOOR_PORT } else { PORT };
        let spec = json!({"hostNetwork": is_on_node, "containers": [container(port)]});
        let deployment = object::deployment(NAMESPACE, name, replicas, &json!({}), &spec);
        node.apply(&deployment.to_string())?;
    }
    ["web", "client", "door"]
        .iter()
        .try_for_each(|name| node.wait_ready(NAMESPACE, &format!("deployment/{name}")))
}

/// A node with an agent that says of each call which Service was asked for.
fn found() -> Result<Town, String> {
    let helm = Town::helm()?;
    let more = json!({"mesh": {"istio_metrics": true}});
    Ok(Town::found_with(&helm, NAMESPACE, &more, settle).expect("is founded"))
}

#[test]
fn by_ipv6() {
    if let Some(reason) = lacks_ipv6() {
        skip!(reason);
    }
    let town = match found() {
        Ok(town) => town,
        Err(reason) => skip!(reason),
    };
    by_ways(&town, &ways_of_ipv6(&town));
    has_its_rights(&town);
}

#[test]
fn by_nftables() {
    if program("nft").is_none() {
        skip!("not installed: nft");
    }
    if let Err(reason) = meshtap_tests::process::run("nft list tables") {
        skip!(format!("this kernel has no nftables: {reason:#}"));
    }
    let town = match found() {
        Ok(town) => town,
        Err(reason) => skip!(reason),
    };
    town.node.lead_by(Proxy::Nftables).expect("leads");
    let mut ways = ways_of_ipv4(&town);
    if lacks_ipv6().is_none() {
        ways.extend(ways_of_ipv6(&town));
    }
    by_ways(&town, &ways);
    has_its_rights(&town);
}

/// Metrics in Istio's shape want to know of namespaces.
fn has_its_rights(town: &Town) {
    town.has_its_rights(&["pods", "services", "nodes", "namespaces"]).expect("no more and no less");
}

/// One kind of call: who asks whom by which URL, and what the Service is that was asked for.
struct Way {
    from: &'static str,
    to: &'static str,
    url: String,
    service: &'static str,
}

/// The Service of calls that none was asked for by.
const NONE: &str = "";

fn way(from: &'static str, to: &'static str, url: String, service: &'static str) -> Way {
    Way { from, to, url, service }
}

fn ways_of_ipv4(town: &Town) -> Vec<Way> {
    let webs = town.pods("web", 2).expect("are ready");
    let service = cluster_address(town, "web", false);
    vec![
        way("client", "web", format!("http://{}:{PORT}/", of_family(&webs[0], false)), NONE),
        way("client", "web", format!("http://{service}/"), "web"),
        way("client", "web", format!("http://{ADDRESS}:30081/"), "web"),
        way("client", "web", "http://web/".to_owned(), "web"),
        way("door", "web", format!("http://{service}/"), "web"),
        way("door", "web", format!("http://{ADDRESS}:30081/"), "web"),
        way("web", "web", format!("http://{service}/"), "web"),
    ]
}

fn ways_of_ipv6(town: &Town) -> Vec<Way> {
    let webs = town.pods("web", 2).expect("are ready");
    let service = cluster_address(town, "web6", true);
    let second = cluster_address(town, "both", true);
    let name = "all-web6.shop.svc.cluster.local";
    vec![
        way("client", "web", format!("http://[{}]:{PORT}/", of_family(&webs[0], true)), NONE),
        way("client", "web", format!("http://[{service}]/"), "web6"),
        way("client", "web", format!("http://[{second}]/"), "both"),
        way("client", "web", format!("http://[{ADDRESS_6}]:30086/"), "web6"),
        way("client", "web", "http://web6/".to_owned(), "web6"),
        way("client", "web", format!("http://{name}:{PORT}/"), NONE),
        way("client", "door", "http://door6/".to_owned(), "door6"),
        way("client", "door", format!("http://[{ADDRESS_6}]:{DOOR_PORT}/"), "door6"),
        way("door", "web", format!("http://[{service}]/"), "web6"),
        way("door", "web", format!("http://[{}]:{PORT}/", of_family(&webs[1], true)), NONE),
        way("door", "web", format!("http://[{ADDRESS_6}]:30086/"), "web6"),
        // Some of them lead to the asking pod itself, through the bridge and back.
        way("web", "web", format!("http://[{service}]/"), "web6"),
    ]
}

/// Every way is gone so many times, and counted so many times at both sides.
fn by_ways(town: &Town, ways: &[Way]) {
    for way in ways {
        // A Service may lead to its pods a moment after they are ready.
        let first = format!("timeout 5 wget -q -O /dev/null '{}'", way.url);
        let pod = town.pods(way.from, if way.from == "web" { 2 } else { 1 }).expect("are ready");
        eventually(&way.url, || {
            town.node.exec(NAMESPACE, &pod[0].name, None, &["sh", "-c", &first]).ok()
        });
    }
    // Of what only made sure that all of them lead somewhere, nothing is left to be counted.
    let before = eventually("nothing more is counted", || {
        let look = || town.agent.scrape_until(|_| true).expect("is scraped");
        let first = services(&look());
        std::thread::sleep(Duration::from_secs(2));
        let scrape = look();
        (services(&scrape) == first).then_some(scrape)
    });
    let mut calls: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for way in ways {
        *calls.entry((way.from, way.to)).or_default() += CALLS;
    }
    let calls: Vec<_> = calls.into_iter().map(|((from, to), count)| (from, to, count)).collect();
    let scrape = town.expect(&calls, || {
        for way in ways {
            let pods = town.pods(way.from, if way.from == "web" { 2 } else { 1 });
            let pod = &pods.expect("are ready")[0];
            let script = format!(
                "for i in $(seq {CALLS}); do timeout 10 wget -q -O /dev/null '{}' || exit 1; done",
                way.url
            );
            let words = ["sh", "-c", &script];
            town.node.exec(NAMESPACE, &pod.name, None, &words).expect(&way.url);
        }
    });
    let scrape = scrape.expect("is counted");
    let mut wanted = Edges::new();
    for way in ways {
        let asked = if way.service == NONE {
            let host = way.url.trim_start_matches("http://").split('/').next().unwrap_or_default();
            let (host, _) = host.rsplit_once(':').unwrap_or((host, ""));
            host.trim_matches(['[', ']']).to_owned()
        } else {
            format!("{}.{NAMESPACE}.svc.cluster.local", way.service)
        };
        let key = [way.from, way.to, &asked].map(str::to_owned).to_vec();
        *wanted.entry(key).or_default() += CALLS;
    }
    let earlier = services(&before);
    let mut found = services(&scrape);
    for (edge, count) in &mut found {
        *count -= earlier.get(edge).copied().unwrap_or(0);
    }
    assert_eq!(found, wanted, "as the client's side names Services");
}

/// Calls by client, server and Service that was asked for, as the client's side tells.
fn services(scrape: &Scrape) -> Edges {
    let labels = ["source_workload", "destination_workload", "destination_service"];
    let ours = [("reporter", "source"), ("source_workload_namespace", NAMESPACE)];
    scrape.by("istio_requests_total", &labels, &ours)
}

fn of_family(pod: &Pod, is_ipv6: bool) -> IpAddr {
    let mut addresses = pod.addresses.iter();
    *addresses.find(|address| address.is_ipv6() == is_ipv6).expect("has an address of the family")
}

fn cluster_address(town: &Town, name: &str, is_ipv6: bool) -> String {
    let service = town.node.get(&["service", "--namespace", NAMESPACE, name]).expect("is there");
    let all = service["spec"]["clusterIPs"].as_array().expect("addresses");
    let mut all = all.iter().filter_map(Value::as_str);
    all.find(|address| address.contains(':') == is_ipv6).expect("one of the family").to_owned()
}

/// Asks until there is something.
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited for: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
