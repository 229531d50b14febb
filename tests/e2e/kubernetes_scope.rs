//! `kubernetes.scope: node` on a real node with other nodes beside it (`MESHTAP_FULL=1`, or where
//! its programs are built already): other nodes' pods are not remembered, what runs here has its
//! names all the same, and what runs there is called by its Service, or by its address.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use meshtap_tests::agent::Observer;
use meshtap_tests::kubernetes::far::Far;
use meshtap_tests::kubernetes::town::{Edges, Town};
use meshtap_tests::kubernetes::{NAME, Node, Pod, object};
use meshtap_tests::scrape::Scrape;
use meshtap_tests::skip;
use serde_json::{Value, json};

/// Calls of each kind.
const CALLS: u64 = 20;
const NAMESPACE: &str = "shop";
const PORT: u16 = 8080;
/// Nodes that are not there, and pods on them.
const NODES: usize = 3;
const FAR_PODS: u32 = 60;

/// Containers for a Deployment whose pods stay off, or on, the real node.
fn pods(is_here: bool) -> Value {
    let operator = if is_here { "In" } else { "NotIn" };
    let place = json!({"key": "kubernetes.io/hostname", "operator": operator, "values": [NAME]});
    json!({
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [place]}],
        }}},
        "containers": [{
            "name": "main", "image": "lab.local/web:1",
            "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        }],
    })
}

fn settle(node: &Node) -> anyhow::Result<()> {
    node.fake_nodes(NODES)?;
    let mut all_far = object::service(NAMESPACE, "all-far", PORT, PORT);
    all_far["spec"]["clusterIP"] = "None".into();
    all_far["spec"]["selector"]["app"] = "far".into();
    node.apply(&all_far.to_string())?;
    for (name, count, is_here) in [("web", 1, true), ("client", 1, true), ("far", FAR_PODS, false)]
    {
        node.apply(&object::service(NAMESPACE, name, 80, PORT).to_string())?;
        let deployment = object::deployment(NAMESPACE, name, count, &json!({}), &pods(is_here));
        node.apply(&deployment.to_string())?;
        node.wait_ready(NAMESPACE, &format!("deployment/{name}"))?;
    }
    Ok(())
}

#[test]
fn only_pods_of_this_node_are_remembered() {
    let helm = match Town::helm() {
        Ok(helm) => helm,
        Err(reason) => skip!(reason),
    };
    if let Some(reason) = Node::control_plane_missing() {
        skip!(reason);
    }
    let more = json!({"kubernetes": {"cluster": "lab-cluster", "scope": "node"}});
    let town = Town::found_with(&helm, NAMESPACE, &more, settle).expect("is founded");
    remembered(&town);
    called(&town);
}

/// Pods here, and Services of all, as many as there are: a cluster's list holds all pods.
fn remembered(town: &Town) {
    let here = format!("spec.nodeName={NAME}");
    let here = town.node.get(&["pods", "--all-namespaces", "--field-selector", &here]);
    let all = town.node.get(&["pods", "--all-namespaces"]);
    let count = |list: anyhow::Result<Value>| {
        list.expect("is listed")["items"].as_array().map_or(0, |items| items.len() as u64)
    };
    let (here, all) = (count(here), count(all));
    assert!(all >= here + u64::from(FAR_PODS), "{here} of {all}");
    let slices = count(town.node.get(&["endpointslices", "--all-namespaces"]));
    let services = count(town.node.get(&["services", "--all-namespaces"]));
    let held = |scrape: &Scrape, table| scrape.count("meshtap_table_entries", &[("table", table)]);
    let wanted = [("kubernetes_pods", here), ("kubernetes_services", services.max(slices))];
    let scrape = town
        .agent
        .scrape_until(|scrape| wanted.iter().all(|(table, count)| held(scrape, table) == *count));
    let scrape = scrape.expect("is scraped");
    let found = wanted.map(|(table, _)| (table, held(&scrape, table)));
    assert_eq!(found, wanted, "of {all} pods");
    println!("{here} pods of {all} are remembered, and {} Services", services.max(slices));
}

/// By Service, by name and by address, here and there.
fn called(town: &Town) {
    let far = town.pods("far", FAR_PODS as usize).expect("are ready");
    let client = town.one("client").expect("is ready");
    let web = town.one("web").expect("is ready");
    let _servers = Far::serve(&far.iter().map(address).collect::<Vec<_>>(), PORT).expect("serve");
    let at = address(&far[7]);
    let urls = [
        "http://web/".to_owned(),
        format!("http://{}:{PORT}/", address(&web)),
        "http://far/".to_owned(),
        // Before its name is asked for: the answer may hold this address, which has a name then.
        format!("http://{at}:{PORT}/"),
        format!("http://all-far.shop.svc.cluster.local:{PORT}/"),
    ];
    eventually("kube-proxy leads there", || asked(town, &client, &urls[2], 1).ok());
    let config = tempfile::Builder::new().suffix(".yaml").tempfile().expect("is made");
    let text = format!(
        "kubernetes:\n  watch: always\n  node: {NAME}\n  kubeconfig: {}\n",
        town.node.kubeconfig().display()
    );
    std::fs::write(config.path(), text).expect("is written");
    let path = config.path().display().to_string();
    let mut observer = Observer::start_beside(&["--config", &path]).expect("observes");

    let mut wanted = [
        town.wanted(
            &[("client", "web", 2 * CALLS), ("client", "far", CALLS), ("client", "all-far", CALLS)],
            "client",
        ),
        // Nobody here is asked by, or can look into, what is on other nodes.
        town.wanted(&[("client", "web", 2 * CALLS)], "server"),
    ];
    let by_address = ["client", NAMESPACE, &at.to_string(), ""].map(str::to_owned).to_vec();
    wanted[0].insert(by_address, CALLS);
    let scrape = town.expect_sides(&wanted, || {
        for url in &urls {
            asked(town, &client, url, CALLS).expect(url);
        }
    });
    scrape.expect("is counted");

    // Whoever watches the whole cluster knows what runs there, too.
    observer.settle().expect("observes");
    let mut found = Edges::new();
    let calls = observer.finish().expect("ends well").calls;
    for call in calls.iter().filter(|call| call.client.namespace == NAMESPACE) {
        let words = [&call.client.name, &call.server.name, &call.server.kind];
        *found.entry(words.map(ToOwned::to_owned).to_vec()).or_default() += 1;
    }
    let edge = |server: &str| ["client", server, "workload"].map(str::to_owned).to_vec();
    let wanted = Edges::from([(edge("web"), 2 * CALLS), (edge("far"), 3 * CALLS)]);
    assert_eq!(found, wanted, "with `scope: cluster`");
}

fn asked(town: &Town, client: &Pod, url: &str, count: u64) -> anyhow::Result<String> {
    let script = format!(
        "for i in $(seq {count}); do timeout 10 wget -q -O /dev/null {url} || exit 1; done"
    );
    town.node.exec(NAMESPACE, &client.name, None, &["sh", "-c", &script])
}

fn address(pod: &Pod) -> Ipv4Addr {
    match pod.address {
        Some(IpAddr::V4(address)) => address,
        other => panic!("{other:?} is the address of {}", pod.name),
    }
}

/// Asks until there is something.
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited for: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
