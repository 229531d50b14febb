//! The agent on a real Kubernetes node (`MESHTAP_FULL=1`, or where its programs are built
//! already): installed by its own chart, it names both ends of every call between pods, whichever
//! way the call goes, also while pods come and go and while the API server is away.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use meshtap_tests::agent::{Agent, Observer};
use meshtap_tests::call::CallLine;
use meshtap_tests::helm::Helm;
use meshtap_tests::kubernetes::town::{Edges, Town, metric};
use meshtap_tests::kubernetes::{ADDRESS, Installed, NAME, Node, Pod, left_running};
use meshtap_tests::part;
use meshtap_tests::receiver::{Receiver, Transport, attribute};
use meshtap_tests::requirement::missing;
use meshtap_tests::scrape::Scrape;
use meshtap_tests::skip;
use opentelemetry_proto::tonic::resource::v1::Resource;
use serde_json::json;

/// Calls of each kind.
const CALLS: u64 = 20;
const NAMESPACE: &str = "shop";
/// Of the node, for the Service `web`.
const NODE_PORT: u16 = 30081;

/// A probe by TCP alone: what kubelet asks by HTTP would be a call, too.
const SHOP: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: 30081}]}
---
apiVersion: v1
kind: Service
metadata: {name: all-web, namespace: shop}
spec: {clusterIP: None, selector: {app: web}, ports: [{port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: door, namespace: shop}
spec: {selector: {app: door}, ports: [{port: 80, targetPort: 8081}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: "lab.local/web:1"
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: client, namespace: shop}
spec:
  selector: {matchLabels: {app: client}}
  template:
    metadata: {labels: {app: client}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: "lab.local/web:1"
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: shop}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: "lab.local/web:1"
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
---
# On the node's own network.
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: door, namespace: shop}
spec:
  selector: {matchLabels: {app: door}}
  template:
    metadata: {labels: {app: door}}
    spec:
      hostNetwork: true
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: "lab.local/web:1"
        env: [{name: PORT, value: "8081"}]
        readinessProbe: {tcpSocket: {port: 8081}, periodSeconds: 1}
"#;

/// Asks for each of these URLs so many times, and fails with the first that has no answer.
fn script(urls: &[String]) -> String {
    let each = "timeout 10 wget -q -O /dev/null \"$url\" || exit 1";
    format!("for url in {}; do for i in $(seq {CALLS}); do {each}; done; done", urls.join(" "))
}

/// A Job that asks for URLs and ends.
fn job(name: &str, urls: &[String]) -> String {
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"backoffLimit": 0, "template": {"spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "main", "image": "lab.local/web:1",
                "command": ["/bin/sh", "-c", script(urls)],
            }],
        }}},
    })
    .to_string()
}

/// A pod that nothing controls.
fn pod(name: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{
            "name": "main", "image": "lab.local/web:1",
            "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        }]},
    })
    .to_string()
}

/// The shop, and an agent beside it.
fn found(helm: &Helm) -> Town {
    let settle = |node: &Node| {
        node.apply(SHOP)?;
        ["deployment/web", "deployment/client", "statefulset/db", "daemonset/door"]
            .iter()
            .try_for_each(|workload| node.wait_ready(NAMESPACE, workload))
    };
    Town::found(helm, NAMESPACE, settle).expect("is founded")
}

/// The one pod of `app` asks for URLs.
fn ask(town: &Town, app: &str, urls: &[String]) {
    ask_from(town, &one(town, app), urls);
}

fn ask_from(town: &Town, pod: &Pod, urls: &[String]) {
    town.node.exec(NAMESPACE, &pod.name, None, &["sh", "-c", &script(urls)]).expect("is answered");
}

fn pods(town: &Town, app: &str, count: usize) -> Vec<Pod> {
    town.pods(app, count).expect("are ready")
}

fn one(town: &Town, app: &str) -> Pod {
    town.one(app).expect("is ready")
}

/// What `act` has the shop do is these calls at both sides, and nothing else.
fn expect(town: &Town, calls: &[(&str, &str, u64)], act: impl FnOnce()) -> Scrape {
    town.expect(calls, act).expect("is counted")
}

fn address(pod: &Pod) -> IpAddr {
    pod.address.expect("a pod that is ready has an address")
}

fn url(pod: &Pod) -> String {
    format!("http://{}:8080/", address(pod))
}

/// The agent's own image, under the name that its chart has for it: the static program and
/// nothing else. Where it is built, the agent runs from it in all tests of the cluster.
#[test]
fn the_image_and_the_chart_are_the_products_own() {
    let helm = match Town::helm() {
        Ok(helm) => helm,
        Err(reason) => skip!(reason),
    };
    if let Err(reason) = part::image() {
        skip!(reason);
    }
    let node = Node::up().expect("comes up");
    let agent = Installed::by(&helm, &node, &json!({})).expect("is ready");
    let pod = agent.pod(&node).expect("is there");
    let name = format!("localhost/meshtap:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(pod["spec"]["containers"][0]["image"], name);
    let doctor = agent.exec(&node, &["doctor"]).expect("exits with 0");
    println!("{doctor}");
    // Beside what kubelet and containerd put there.
    let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().expect("an id");
    let id = id.trim_start_matches("containerd://");
    let bundle = node.bundles().join("k8s.io").join(id);
    let files = |folder: &str| {
        let entries = std::fs::read_dir(bundle.join("rootfs").join(folder)).expect("is there");
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.expect("is read").file_name().to_string_lossy().into_owned()
        };
        let mut names: Vec<String> = entries.map(name).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(files("usr"), ["bin"]);
    assert_eq!(files("usr/bin"), ["meshtap"]);
    let shell = ["sh", "-c", "true"];
    assert!(node.exec_beside(id, &shell).is_err(), "there is a shell");
    println!("{:?}", files("."));
    // It does its work.
    let seen = agent.scrape_until(|scrape| {
        scrape.count("meshtap_table_entries", &[("table", "kubernetes_pods")]) > 0
    });
    let seen = seen.expect("is served");
    assert!(seen.count("meshtap_table_entries", &[("table", "kubernetes_pods")]) > 0);
    drop(node);
}

/// What is proved of a town; one after the other.
type Step = fn(&Town);

/// One node for all of it: it takes seconds to come up, and so does the agent.
#[test]
fn pods_are_known_by_their_workloads() {
    let helm = match Town::helm() {
        Ok(helm) => helm,
        Err(reason) => skip!(reason),
    };
    let town = found(&helm);
    let steps: [(&str, Step); 8] = [
        ("deployed", is_deployed),
        ("the API server", the_api_server_is_named),
        ("every way", every_way),
        ("a container starts anew", a_container_starts_anew),
        ("pods are replaced", pods_are_replaced),
        ("an address is used again", an_address_is_used_again),
        ("without the API", without_the_api),
        ("the API server goes and comes", the_api_server_goes_and_comes),
    ];
    for (name, step) in steps {
        println!("{name}");
        step(&town);
    }
}

/// Ready, able to do its work, and with no more rights than were asked for.
fn is_deployed(town: &Town) {
    assert_eq!(town.agent.readiness().expect("answers"), 200);
    let doctor = town.agent.exec(&town.node, &["doctor"]).expect("exits with 0");
    println!("{doctor}");
    let pod = town.agent.pod(&town.node).expect("is there");
    let context = &pod["spec"]["containers"][0]["securityContext"];
    assert_eq!(context["privileged"], false);
    assert_eq!(context["allowPrivilegeEscalation"], false);
    assert!(pod["spec"].get("hostPID").is_none(), "{}", pod["spec"]);
    let log = town.agent.log(&town.node).expect("is there");
    assert!(!log.contains("does not tell of"), "{log}");
    town.has_its_rights(&["pods", "services", "nodes"]).expect("no more and no less");
}

/// Who never asks the API knows pods by what containerd wrote down of their containers.
fn without_the_api(town: &Town) {
    let receiver = Receiver::start(Transport::Grpc).expect("listens");
    let config = format!(
        "kubernetes:\n  watch: never\ncontainers:\n  bundles: [{}]\n",
        town.node.bundles().display()
    );
    let otlp = format!(
        "otlp:\n  endpoint: {}\n  protocol: grpc\n  interval: 300ms\n",
        receiver.endpoint()
    );
    let agent = Agent::start_beside(&format!("{config}{otlp}")).expect("is ready");
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("is made");
    std::fs::write(file.path(), config).expect("is written");
    let path = file.path().display().to_string();
    let observer = Observer::start_beside(&["--config", &path]).expect("observes");
    let (client, web) = (one(town, "client"), &pods(town, "web", 2)[0]);
    expect(town, &[("client", "web", CALLS)], || ask(town, "client", &[url(web)]));

    let lines = observer.finish().expect("ends well").calls;
    let server = address(web).to_string();
    let ours = |call: &&CallLine| call.server.address.as_ref() == Some(&server);
    let mut count = 0;
    for call in lines.iter().filter(ours) {
        assert!(call.both_ends(), "{call:?}");
        for end in [&call.client, &call.server] {
            let known = [&end.kind, &end.name, &end.namespace];
            assert_eq!(known, ["container", "main", NAMESPACE], "{call:?}");
        }
        count += 1;
    }
    assert_eq!(count, CALLS, "{lines:#?}");
    for pod in [&client, web] {
        is_told(
            &receiver,
            &[
                ("service.name", "main"),
                ("service.namespace", NAMESPACE),
                ("container.name", "main"),
                ("container.id", &pod.containers[0]),
                ("k8s.namespace.name", NAMESPACE),
                ("k8s.pod.name", &pod.name),
            ],
        );
    }
    agent.stop().expect("ends well");
}

/// Pods ask it by the Service of the cluster, behind which no pod is. Here it is a process of
/// the host, and known as that, not by its address; where it runs elsewhere it is the Service.
fn the_api_server_is_named(town: &Town) {
    let service = town.node.get(&["service", "--namespace", "default", "kubernetes"]);
    let service = service.expect("is there")["spec"]["clusterIP"].as_str().map(str::to_owned);
    let connect = format!("timeout 2 nc {} 443 < /dev/null; true", service.expect("has one"));
    let client = one(town, "client");
    town.node.exec(NAMESPACE, &client.name, None, &["sh", "-c", &connect]).expect("is connected");
    let opened = |scrape: &Scrape| {
        scrape.by(
            "meshtap_tcp_connections_opened_total",
            &["service_peer_name", "service_peer_namespace"],
            &[("service_name", "client"), ("service_namespace", NAMESPACE), ("role", "client")],
        )
    };
    let scrape = town.agent.scrape_until(|scrape| !opened(scrape).is_empty());
    let found = opened(&scrape.expect("is scraped"));
    let wanted = ["kube-apiserver", ""].map(str::to_owned).to_vec();
    assert_eq!(found, [(wanted, 1)].into());
}

/// By pod, by Service, by a port of the node, by name, from and to the node's own network.
fn every_way(town: &Town) {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("is made");
    let config = format!(
        "kubernetes:\n  watch: always\n  node: {NAME}\n  kubeconfig: {}\n",
        town.node.kubeconfig().display()
    );
    std::fs::write(file.path(), config).expect("is written");
    let path = file.path().display().to_string();
    let mut observer = Observer::start_beside(&["--config", &path]).expect("observes");

    let webs = pods(town, "web", 2);
    let service = town.node.get(&["service", "--namespace", NAMESPACE, "web"]).expect("is there");
    let service = service["spec"]["clusterIP"].as_str().expect("an address").to_owned();
    let by_service = format!("http://{service}/");
    let by_port = format!("http://{ADDRESS}:{NODE_PORT}/");
    let calls = [
        ("client", "web", 5 * CALLS),
        ("client", "db", 2 * CALLS),
        ("client", "door", 2 * CALLS),
        ("door", "web", 3 * CALLS),
        ("web", "web", CALLS),
        ("buyer", "web", CALLS),
        ("buyer", "db", CALLS),
    ];
    let scrape = expect(town, &calls, || {
        let db = "http://db-0.db.shop.svc.cluster.local:8080/".to_owned();
        ask(
            town,
            "client",
            &[
                url(&webs[0]),
                by_service.clone(),
                by_port.clone(),
                "http://web/".to_owned(),
                "http://all-web.shop.svc.cluster.local:8080/".to_owned(),
                "http://db:8080/".to_owned(),
                db.clone(),
                format!("http://{ADDRESS}:8081/"),
                "http://door/".to_owned(),
            ],
        );
        ask(town, "door", &[by_service.clone(), url(&webs[1]), by_port.clone()]);
        // Some of them lead to the asking pod itself, through the bridge and back.
        ask_from(town, &webs[0], std::slice::from_ref(&by_service));
        town.node.apply(&job("buyer", &[by_service.clone(), db])).expect("is applied");
        town.node.wait_for(NAMESPACE, "job/buyer", "complete").expect("ends well");
    });
    let ways = [
        (address(&webs[0]).to_string(), "8080"),
        (service, "80"),
        (ADDRESS.to_owned(), "30081"),
        ("web".to_owned(), "80"),
        ("all-web.shop.svc.cluster.local".to_owned(), "8080"),
    ];
    for (host, port) in ways {
        let labels = [
            ("service_name", "client"),
            ("service_peer_name", "web"),
            ("server_address", host.as_str()),
            ("server_port", port),
        ];
        assert_eq!(scrape.count(&metric("client"), &labels), CALLS, "{host}:{port}");
    }
    observer.settle().expect("observes");
    is_observed(town, &calls, &observer.finish().expect("ends well").calls);
    is_exported(town);
}

/// Every call is one line with both of its ends, which are workloads.
fn is_observed(town: &Town, calls: &[(&str, &str, u64)], lines: &[CallLine]) {
    let mut found = Edges::new();
    let ours = |call: &&CallLine| {
        [&call.client, &call.server].iter().any(|end| end.namespace == NAMESPACE)
    };
    for call in lines.iter().filter(ours) {
        assert!(call.both_ends(), "{call:?}");
        for end in [&call.client, &call.server] {
            assert_eq!(end.kind, "workload", "{call:?}");
        }
        let edge =
            [&call.client.name, &call.client.namespace, &call.server.name, &call.server.namespace];
        *found.entry(edge.map(ToOwned::to_owned).to_vec()).or_default() += 1;
    }
    assert_eq!(found, town.wanted(calls, "client"), "as it is observed");
}

/// Metrics came of somebody who has all of these attributes, of which one is the pod's name.
fn is_told(receiver: &Receiver, wanted: &[(&str, &str)]) {
    let has = |resource: &Resource, (key, value): &(&str, &str)| {
        attribute(&resource.attributes, key).as_deref() == Some(value)
    };
    let is_it = |resource: &Resource| wanted.iter().all(|wanted| has(resource, wanted));
    let received = receiver.wait(|received| {
        received.metrics.iter().any(|message| message.resource.as_ref().is_some_and(is_it))
    });
    let resources = received.metrics.iter().filter_map(|found| found.resource.as_ref());
    let pod = wanted.iter().find(|(key, _)| *key == "k8s.pod.name").expect("is one of them");
    let same: Vec<_> = resources.filter(|resource| has(resource, pod)).collect();
    assert!(same.iter().any(|found| is_it(found)), "{wanted:?} is none of {same:#?}");
}

/// Metrics of OTLP carry the pod that they are of.
fn is_exported(town: &Town) {
    for (app, count, owner) in [
        ("web", 2, "k8s.deployment.name"),
        ("client", 1, "k8s.deployment.name"),
        ("db", 1, "k8s.statefulset.name"),
        ("door", 1, "k8s.daemonset.name"),
    ] {
        for pod in pods(town, app, count) {
            let wanted = [
                ("service.name", app),
                ("service.namespace", NAMESPACE),
                ("k8s.namespace.name", NAMESPACE),
                ("k8s.cluster.name", "lab-cluster"),
                ("k8s.node.name", NAME),
                ("k8s.pod.name", &pod.name),
                ("k8s.pod.uid", &pod.uid),
                ("k8s.container.name", "main"),
                ("container.id", &pod.containers[0]),
                (owner, app),
            ];
            is_told(&town.receiver, &wanted);
        }
    }
    let received = town.receiver.received();
    let resources = received.metrics.iter().filter_map(|found| found.resource.as_ref());
    let job = |found: &&Resource| {
        attribute(&found.attributes, "k8s.job.name").as_deref() == Some("buyer")
    };
    assert!(resources.clone().any(|found| job(&found)), "{:#?}", resources.collect::<Vec<_>>());
}

/// Its pod keeps address and name, and has another container.
fn a_container_starts_anew(town: &Town) {
    let before = one(town, "db");
    let end = ["kill", "-TERM", "1"];
    // What tells it to end may be ended with it.
    drop(town.node.exec(NAMESPACE, &before.name, None, &end));
    let after = eventually("another container", || {
        let pod = one(town, "db");
        (pod.containers != before.containers).then_some(pod)
    });
    assert_eq!((&after.name, after.address), (&before.name, before.address));
    expect(town, &[("client", "db", CALLS), ("db", "web", CALLS)], || {
        ask(town, "client", &[url(&after)]);
        ask(town, "db", &["http://web/".to_owned()]);
    });
}

/// Pods of a Deployment go, others come, and are asked at once.
fn pods_are_replaced(town: &Town) {
    let old = pods(town, "web", 2);
    town.node
        .kubectl(&["rollout", "restart", "--namespace", NAMESPACE, "deployment/web"])
        .expect("ok");
    town.node.wait_ready(NAMESPACE, "deployment/web").expect("is ready");
    let new = pods(town, "web", 2);
    assert!(new.iter().all(|new| old.iter().all(|old| old.uid != new.uid)));
    expect(town, &[("client", "web", 2 * CALLS), ("web", "db", CALLS)], || {
        ask(town, "client", &[url(&new[0]), url(&new[1])]);
        ask_from(town, &new[0], &["http://db:8080/".to_owned()]);
    });
}

/// A pod gets the address of one that went a moment ago.
fn an_address_is_used_again(town: &Town) {
    let mut last = None;
    for name in ["first", "second", "third"] {
        if let Some(IpAddr::V4(address)) = last {
            town.node.next_address(address).expect("is written");
        }
        town.node.apply(&pod(name)).expect("is applied");
        let found = one(town, name);
        if let Some(last) = last {
            assert_eq!(address(&found), last, "the address is used again");
        }
        last = found.address;
        // Who knew the earlier pod looks for it at its own place, until the later one asks.
        let connect = format!("timeout 5 nc {} 8080 < /dev/null", address(&one(town, "client")));
        eventually("it finds its neighbour", || {
            town.node.exec(NAMESPACE, name, None, &["sh", "-c", &connect]).ok()
        });
        expect(town, &[("client", name, CALLS), (name, "db", CALLS)], || {
            ask(town, "client", &[url(&found)]);
            ask(town, name, &["http://db:8080/".to_owned()]);
        });
        town.node.delete(&pod(name)).expect("is deleted");
    }
}

/// What was known stays known, and what is new is learnt once the API server is back, though
/// it has forgotten where the agent was.
fn the_api_server_goes_and_comes(town: &Town) {
    let (client, db) = (one(town, "client"), one(town, "db"));
    let web = &pods(town, "web", 2)[0];
    let beside = |urls: &[String]| {
        let words = ["/bin/sh", "-c", &script(urls)];
        town.node.exec_beside(&client.containers[0], &words).expect("is answered");
    };
    town.node.stop_api().expect("ends");
    expect(town, &[("client", "web", 2 * CALLS), ("client", "db", CALLS)], || {
        beside(&[url(web), "http://web/".to_owned(), url(&db)]);
    });
    // A container that begins while nobody can tell of it.
    drop(town.node.exec_beside(&db.containers[0], &["/bin/kill", "-TERM", "1"]));
    eventually("it ends", || {
        town.node.exec_beside(&db.containers[0], &["/bin/true"]).is_err().then_some(())
    });
    eventually("it answers again", || {
        let words = ["/bin/sh", "-c", &format!("timeout 2 nc {} 8080 < /dev/null", address(&db))];
        town.node.exec_beside(&client.containers[0], &words).ok()
    });
    expect(town, &[("client", "db", CALLS)], || beside(&[url(&db)]));

    town.node.compact().expect("etcd answers");
    town.node.start_api().expect("comes back");
    town.node.apply(&pod("late")).expect("is applied");
    let late = one(town, "late");
    eventually("the agent is told again", || {
        let log = town.agent.log(&town.node).ok()?;
        log.contains("tells of pods again").then_some(())
    });
    expect(town, &[("client", "late", CALLS), ("late", "web", CALLS)], || {
        ask(town, "client", &[url(&late)]);
        ask(town, "late", &["http://web/".to_owned()]);
    });
    let agent = town.agent.pod(&town.node).expect("is there");
    assert_eq!(agent["status"]["containerStatuses"][0]["restartCount"], 0);
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

/// Objects that a cluster of some size has.
const PODS: u32 = 10_000;
const SERVICES: u32 = 1_000;

/// Memory for each pod and Service, and how soon all of them are known. Prints figures.
#[test]
fn a_large_cluster_takes_little_memory() {
    if let Some(reason) = Node::control_plane_missing().or_else(|| missing(&[])) {
        skip!(reason);
    }
    if left_running() {
        skip!("a laboratory was left running on purpose");
    }
    let node = Node::control_plane().expect("comes up");
    let config =
        format!("kubernetes:\n  watch: always\n  kubeconfig: {}\n", node.kubeconfig().display());
    let (empty, _) = resident(&config, "kubernetes_services", 0);
    node.fake_nodes(100).expect("are ready");
    node.fake_services(SERVICES as usize).expect("are made");
    let (with_services, _) = resident(&config, "kubernetes_services", SERVICES.into());
    node.fake_pods(PODS as usize).expect("are ready");
    let (with_pods, took) = resident(&config, "kubernetes_pods", PODS.into());
    let each = |more: u64, less: u64, count: u32| more.saturating_sub(less) / u64::from(count);
    let per_service = each(with_services, empty, SERVICES);
    let per_pod = each(with_pods, with_services, PODS);
    println!(
        "resident: {empty} bytes without objects, {with_services} with {SERVICES} services \
         ({per_service} each), {with_pods} with {PODS} pods behind them ({per_pod} each); \
         all pods known {took:?} after the agent was ready"
    );
    assert!(per_pod < 6_000 && per_service < 12_000, "{per_pod} {per_service}");
    assert!(took < Duration::from_secs(60), "{took:?}");
}

/// Resident memory in bytes of an agent that has found so many objects, and how long it took.
fn resident(config: &str, table: &str, count: u64) -> (u64, Duration) {
    let agent = Agent::start(config).expect("is ready");
    let ready = Instant::now();
    eventually("the objects are known", || {
        let scrape = agent.scrape().ok()?;
        (scrape.count("meshtap_table_entries", &[("table", table)]) >= count).then_some(())
    });
    let took = ready.elapsed();
    // What came beside is read, and freed.
    std::thread::sleep(Duration::from_secs(5));
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).expect("is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    let kilobytes: u64 =
        line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number");
    agent.stop().expect("ends well");
    (kilobytes * 1024, took)
}
