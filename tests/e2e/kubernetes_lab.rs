//! The laboratory itself (`MESHTAP_FULL=1`, or where its programs are built already): a real
//! Kubernetes node comes up, its pods reach each other in every way that a cluster has, and
//! nothing of it stays.

use std::path::Path;

use meshtap_tests::helm::Helm;
use meshtap_tests::kubernetes::{
    ADDRESS, Image, Node, Pod, Proxy, ROOT, definition, left_running, remains,
};
use meshtap_tests::process::PATIENCE;
use meshtap_tests::requirement::program;
use meshtap_tests::skip;

const SHOP: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: all-web, namespace: shop}
spec: {clusterIP: None, selector: {app: web}, ports: [{port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: door, namespace: shop}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: 30081}]}
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
      containers: [{name: web, image: "lab.local/web:1"}]
"#;

const GUARD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: guard, namespace: shop, labels: {app: guard}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: web, image: "lab.local/web:1"}]
"#;

/// A namespace with two pods of a Deployment, by name.
fn open_shop(node: &Node) -> Vec<Pod> {
    node.namespace("shop").expect("is made");
    node.apply(SHOP).expect("is applied");
    node.wait_ready("shop", "deployment/web").expect("is ready");
    node.wait_for_pods("shop", "app=web", 2).expect("are ready")
}

fn address(pod: &Pod) -> String {
    pod.address.expect("a pod that is ready has an address").to_string()
}

fn cluster_address(node: &Node) -> String {
    let service = node.get(&["service", "--namespace", "shop", "web"]).expect("is there");
    service["spec"]["clusterIP"].as_str().expect("an address").to_owned()
}

fn answer(node: &Node, address: &str, port: u16) -> String {
    node.wait_for_answer(&format!("http://{address}:{port}/")).expect("answers")
}

/// The node's own promises, one after the other on one node: it takes seconds to come up.
#[test]
fn a_node_runs_pods_and_leaves_nothing() {
    if let Some(reason) = Node::missing() {
        skip!(reason);
    }
    let node = Node::up().expect("comes up");
    let pods = open_shop(&node);
    let (first, second) = (&pods[0], &pods[1]);

    // From this machine, and from a pod: by pod, by Service, by the node's port, by name.
    let service = cluster_address(&node);
    assert_eq!(answer(&node, &address(first), 8080), "ok\n");
    assert_eq!(answer(&node, &service, 80), "ok\n");
    assert_eq!(answer(&node, ADDRESS, 30081), "ok\n");
    let urls = [
        format!("http://{}:8080/", address(second)),
        // Its own, through the bridge and back.
        format!("http://{}:8080/", address(first)),
        format!("http://{service}/"),
        format!("http://{ADDRESS}:30081/"),
        "http://web/".to_owned(),
        "http://all-web.shop.svc.cluster.local:8080/".to_owned(),
    ];
    for url in urls {
        // Enough of them that a Service leads to each pod, the asking one, too.
        for _ in 0..8 {
            assert_eq!(node.wget("shop", &first.name, &url).expect(&url), "ok\n");
        }
    }
    let name = node.exec("shop", &first.name, Some("web"), &["hostname"]).expect("runs");
    assert_eq!(name.trim(), first.name);

    static_pod(&node);
    own_image(&node);
    without_api(&node, second, &service);

    if node.is_kept() {
        node.kubectl(&["delete", "namespace", "shop"]).expect("is deleted");
    } else {
        drop(node);
        assert_eq!(remains().expect("can be looked at"), Vec::<String>::new());
    }
}

fn static_pod(node: &Node) {
    node.static_pod("guard", Some(GUARD)).expect("is written");
    let mirrors = node.wait_for_pods("shop", "app=guard", 1).expect("is ready");
    assert_eq!(mirrors[0].name, "guard-lab");
    node.static_pod("guard", None).expect("is removed");
    node.wait_for_pods("shop", "app=guard", 0).expect("is gone");
}

/// An image with a program of this machine, linked to libraries.
fn own_image(node: &Node) {
    let image = Image::new("lab.local/curl:1", &["/bin/sleep", "1000"])
        .and_then(Image::busybox)
        .and_then(|image| image.program("curl"))
        .expect("is made");
    node.load(&image).expect("is loaded");
    let run = ["run", "--namespace", "shop", "caller", "--labels=app=caller"];
    node.kubectl(&[run.as_slice(), &["--image=lab.local/curl:1"]].concat()).expect("runs");
    let caller = &node.wait_for_pods("shop", "app=caller", 1).expect("is ready")[0];
    let page = node.exec("shop", &caller.name, None, &["curl", "-s", "http://web/"]);
    assert_eq!(page.expect("answers"), "ok\n");
    let words = ["delete", "pod", "--namespace", "shop", "caller", "--grace-period=1"];
    node.kubectl(&words).expect("is deleted");
}

/// The API server ends and pods go on; it comes back, and knows nothing of what was long ago.
fn without_api(node: &Node, pod: &Pod, service: &str) {
    node.stop_api().expect("ends");
    node.kubectl(&["get", "nodes"]).expect_err("nobody answers");
    assert_eq!(answer(node, &address(pod), 8080), "ok\n");
    assert_eq!(answer(node, service, 80), "ok\n");
    node.compact().expect("etcd answers");
    node.start_api().expect("comes back");
    let path = "/api/v1/pods?watch=1&timeoutSeconds=3&resourceVersion=1";
    let told = node.kubectl(&["get", "--raw", path]).expect("answers");
    assert!(told.contains("\"code\":410"), "{told}");
    node.kubectl(&["scale", "--namespace", "shop", "deployment/web", "--replicas=3"]).expect("ok");
    node.wait_for_pods("shop", "app=web", 3).expect("are ready");
}

/// One whose starter died without a word is taken away by the next.
#[test]
fn an_abandoned_laboratory_is_taken_away() {
    if let Some(reason) = Node::missing() {
        skip!(reason);
    }
    if left_running() {
        skip!("a laboratory was left running on purpose");
    }
    let mut node = Node::up().expect("comes up");
    let pods = open_shop(&node);
    assert_eq!(answer(&node, &address(&pods[0]), 8080), "ok\n");
    node.keep().expect("is noted");
    drop(node);
    std::fs::remove_file(Path::new(ROOT).join("kept")).expect("was noted");
    assert!(remains().expect("can be looked at").len() > 5);

    let node = Node::up_with(proxy()).expect("comes up again");
    assert!(node.pods("shop", "app=web").expect("answers").is_empty());
    let pods = open_shop(&node);
    let service = cluster_address(&node);
    assert_eq!(answer(&node, &service, 80), "ok\n");
    let url = format!("http://{service}/");
    assert_eq!(node.wget("shop", &pods[0].name, &url).expect("answers"), "ok\n");
    drop(node);
    assert_eq!(remains().expect("can be looked at"), Vec::<String>::new());
}

/// The other kind of kube-proxy, where it can be had.
fn proxy() -> Proxy {
    if program("nft").is_some() { Proxy::Nftables } else { Proxy::Iptables }
}

/// Pods, Services and nodes that are only objects.
#[test]
fn fake_nodes_run_fake_pods() {
    if let Some(reason) = Node::control_plane_missing() {
        skip!(reason);
    }
    if left_running() {
        skip!("a laboratory was left running on purpose");
    }
    let node = Node::control_plane().expect("comes up");
    node.fake_nodes(5).expect("are ready");
    node.fake_services(20).expect("are made");
    node.fake_pods(100).expect("are ready");
    let pods = node.wait_for_pods("fake-3", "app=fake-3", 10).expect("are ready");
    assert!(pods.iter().all(|pod| pod.address.is_some()));
    let selector = ["--selector", "kubernetes.io/service-name=fake-3"];
    // A controller adds them some time after they are ready.
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let slices = node
            .get(&[["endpointslices", "--namespace", "fake-3"].as_slice(), &selector].concat())
            .expect("answers");
        let behind = slices["items"][0]["endpoints"].as_array().map(Vec::len);
        if behind == Some(10) {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{behind:?} of ten are behind the Service");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    drop(node);
    assert_eq!(remains().expect("can be looked at"), Vec::<String>::new());
}

/// The chart's `PodMonitor` is one that Prometheus Operator's own definition of it allows, and it
/// selects the agent's pods by a port that they have.
#[test]
fn prometheus_operator_takes_the_pod_monitor() {
    if let Some(reason) = Node::missing() {
        skip!(reason);
    }
    let helm = match Helm::at_hand() {
        Ok(helm) => helm,
        Err(reason) => skip!(reason),
    };
    let definition = match definition::pod_monitor() {
        Ok(definition) => definition.display().to_string(),
        Err(error) => skip!(format!("its definition cannot be fetched: {error:#}")),
    };
    if left_running() {
        skip!("a laboratory was left running");
    }
    let node = Node::control_plane().expect("comes up");
    node.kubectl(&["apply", "--server-side", "-f", &definition]).expect("is defined");
    let name = "crd/podmonitors.monitoring.coreos.com";
    node.wait(&["wait", "--for=condition=established", name]).expect("is established");
    let sets = ["--set", "podMonitor.enabled=true", "--set", "podMonitor.labels.release=lab"];
    let manifests = helm.template(&[&sets[..], &["--set-json", "createNamespace=true"]].concat());
    let manifests = manifests.expect("runs").expect("renders");
    node.apply(&manifests).expect("is applied");
    let get =
        |kind: &str| node.get(&[kind, "--namespace", "meshtap", "meshtap"]).expect("is there");
    let (monitor, agent) = (get("podmonitor"), get("daemonset"));
    assert_eq!(monitor["metadata"]["labels"]["release"], "lab");
    let pods = &agent["spec"]["template"];
    let selected = monitor["spec"]["selector"]["matchLabels"].as_object().expect("labels");
    assert!(!selected.is_empty());
    for (label, value) in selected {
        assert_eq!(pods["metadata"]["labels"][label], *value, "{label}");
    }
    let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
    assert_eq!(endpoint["honorLabels"], true, "{endpoint}");
    let ports = pods["spec"]["containers"][0]["ports"].as_array().expect("ports");
    assert!(ports.iter().any(|port| port["name"] == endpoint["port"]), "{endpoint} of {ports:?}");
    // The definition is one that refuses.
    for (right, wrong) in
        [("honorLabels: true", "honourLabels: true"), ("interval: ", "interval: x")]
    {
        assert!(manifests.contains(right), "{manifests}");
        node.apply(&manifests.replace(right, wrong)).expect_err(wrong);
    }
}
