//! What kubelet does and runs besides a pod's own containers, on a real node (`MESHTAP_FULL=1`,
//! or where its programs are built already): its probes are its own calls, and static pods,
//! init containers and containers that are added later are pods like others.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use meshtap_tests::kubernetes::town::{Edges, Town, metric};
use meshtap_tests::kubernetes::{Node, Pod, object};
use meshtap_tests::process::PATIENCE;
use meshtap_tests::scrape::Scrape;
use meshtap_tests::skip;
use serde_json::{Value, json};

/// Calls of each kind.
const CALLS: u64 = 20;
const NAMESPACE: &str = "shop";
const WEB: &str = "lab.local/web:1";
const PORT: u16 = 8080;

/// One container, which is asked by TCP alone whether it is ready.
fn plain() -> Value {
    json!({"containers": [{
        "name": "main", "image": WEB,
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
    }]})
}

fn settle(node: &Node) -> anyhow::Result<()> {
    node.apply(&object::service(NAMESPACE, "web", 80, PORT).to_string())?;
    for name in ["web", "client"] {
        let deployment = object::deployment(NAMESPACE, name, 1, &json!({}), &plain());
        node.apply(&deployment.to_string())?;
    }
    ["deployment/web", "deployment/client"]
        .iter()
        .try_for_each(|workload| node.wait_ready(NAMESPACE, workload))
}

/// What is proved of a town; one after the other.
type Step = fn(&Town);

#[test]
fn kubelet_and_what_it_runs() {
    let helm = match Town::helm() {
        Ok(helm) => helm,
        Err(reason) => skip!(reason),
    };
    let town = Town::found(&helm, NAMESPACE, settle).expect("is founded");
    let steps: [(&str, Step); 4] = [
        ("a static pod", a_static_pod),
        ("an init container", an_init_container),
        ("a container that is added", a_container_that_is_added),
        ("probes", probes),
    ];
    for (name, step) in steps {
        println!("{name}");
        step(&town);
    }
}

/// Asks for a URL so many times, and fails with the first that has no answer.
fn script(url: &str) -> String {
    format!("for i in $(seq {CALLS}); do timeout 10 wget -q -O /dev/null {url} || exit 1; done")
}

fn url(pod: &Pod) -> String {
    format!("http://{}:{PORT}/", pod.address.expect("a pod that is ready has an address"))
}

fn ask(town: &Town, pod: &Pod, url: &str) {
    town.node.exec(NAMESPACE, &pod.name, None, &["sh", "-c", &script(url)]).expect("is answered");
}

/// What the server of a pod logged: requests by route and status.
fn logged(town: &Town, pod: &Pod) -> Edges {
    let log = town.node.kubectl(&["logs", "--namespace", NAMESPACE, &pod.name]).expect("is there");
    let (mut asked, mut found) = (BTreeMap::new(), Edges::new());
    for line in log.lines() {
        if let Some((connection, url)) = line.split_once(" url:") {
            asked.insert(connection, url);
        } else if let Some((connection, status)) = line.split_once(" response:") {
            let url = asked.get(connection).expect("was asked");
            *found.entry(vec![(*url).to_owned(), status.to_owned()]).or_default() += 1;
        }
    }
    found
}

/// What the agent counted between kubelet and a workload, by route and status: the server's
/// side, and the client's. A side where somebody else is kubelet's peer, too, is empty.
fn probed(scrape: &Scrape, server: &str) -> [Edges; 2] {
    let sides = [
        ("server", "service_name", "service_peer_name"),
        ("client", "service_peer_name", "service_name"),
    ];
    sides.map(|(side, name, other)| {
        let namespace = name.replace("_name", "_namespace");
        let (metric, ends) = (metric(side), [(name, server), (namespace.as_str(), NAMESPACE)]);
        let callers = scrape.by(&metric, &[other, &other.replace("_name", "_namespace")], &ends);
        let kubelet = ["kubelet", ""].map(str::to_owned).to_vec();
        if !callers.keys().eq([&kubelet]) {
            return Edges::new();
        }
        scrape.by(&metric, &["http_route", "http_response_status_code"], &ends)
    })
}

/// Requests of all three kinds of probes, those that fail, too: each is a call of kubelet, which
/// is a program of the host, to the workload, and of nobody else.
fn probes(town: &Town) {
    let begin = format!(
        "mkdir -p /tmp/www; echo ok > /tmp/www/live; echo ok > /tmp/www/ready\n\
         (sleep 8; echo ok > /tmp/www/started) &\nexec httpd -f -vv -p {PORT} -h /tmp/www"
    );
    let probe = |path: &str| {
        json!({
            "httpGet": {"path": path, "port": PORT},
            // A busy machine makes no probe fail.
            "periodSeconds": 1, "timeoutSeconds": 20, "failureThreshold": 60,
        })
    };
    let spec = json!({"containers": [{
        "name": "main", "image": WEB, "command": ["/bin/sh", "-c", begin],
        "startupProbe": probe("/started"),
        "livenessProbe": probe("/live"),
        "readinessProbe": probe("/ready"),
    }]});
    let deployment = object::deployment(NAMESPACE, "probed", 1, &json!({}), &spec).to_string();
    town.node.apply(&deployment).expect("is applied");
    let pod = town.one("probed").expect("is ready");
    let is_whole = |log: &Edges| {
        let has = |path: &str, status: &str, least| {
            log.get(&[path, status].map(str::to_owned).to_vec())
                .is_some_and(|&count| count >= least)
        };
        has("/started", "404", 2)
            && has("/started", "200", 1)
            && has("/live", "200", 3)
            && has("/ready", "200", 3)
    };
    // They go on: a moment between two of them is waited for.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let scrape = town.agent.scrape_until(|_| true).expect("is scraped");
        let log = logged(town, &pod);
        let found = probed(&scrape, "probed");
        if is_whole(&log) && found.iter().all(|side| *side == log) {
            break;
        }
        assert!(Instant::now() < deadline, "{found:#?} of {log:#?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    town.node.delete(&deployment).expect("is deleted");
}

/// A pod that kubelet has from a file, and the API server only a copy of.
fn a_static_pod(town: &Town) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "guard", "namespace": NAMESPACE, "labels": {"app": "guard"}},
        "spec": plain(),
    });
    // Kubelet takes what begins with a brace for JSON.
    town.node.static_pod("guard", Some(&pod.to_string())).expect("is written");
    let (guard, client) = (town.one("guard").expect("is ready"), town.one("client").expect("is"));
    let calls = [("client", "guard-lab", CALLS), ("guard-lab", "web", CALLS)];
    town.expect(&calls, || {
        ask(town, &client, &url(&guard));
        ask(town, &guard, "http://web/");
    })
    .expect("is counted");
    town.node.static_pod("guard", None).expect("is removed");
}

/// It is over before the pod's own containers start.
fn an_init_container(town: &Town) {
    let mut spec = plain();
    spec["initContainers"] = json!([{
        "name": "prepare", "image": WEB, "command": ["/bin/sh", "-c", script("http://web/")],
    }]);
    let deployment = object::deployment(NAMESPACE, "prepared", 1, &json!({}), &spec).to_string();
    town.expect(&[("prepared", "web", CALLS)], || {
        town.node.apply(&deployment).expect("is applied");
        town.one("prepared").expect("is ready");
    })
    .expect("is counted");
}

/// As for looking around in a pod that runs.
fn a_container_that_is_added(town: &Town) {
    let client = town.one("client").expect("is ready");
    let debug = ["debug", "--namespace", NAMESPACE, &client.name, "--container=guest"];
    let image = format!("--image={WEB}");
    let calls = script("http://web/");
    let words = [image.as_str(), "--attach=false", "--", "sh", "-c", &calls];
    town.expect(&[("client", "web", CALLS)], || {
        town.node.kubectl(&[debug.as_slice(), &words].concat()).expect("is added");
        let code = || {
            let pod = town.node.get(&["pod", "--namespace", NAMESPACE, &client.name]).ok()?;
            let status = &pod["status"]["ephemeralContainerStatuses"][0]["state"];
            status["terminated"]["exitCode"].as_u64()
        };
        assert_eq!(eventually("it ends", code), 0);
    })
    .expect("is counted");
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
