//! `lab kubernetes --record`: answers of a real API server, for the tests that run without one.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use meshtap_tests::kubernetes::Node;
use meshtap_tests::process::{Running, fixture, write};
use serde_json::Value;

/// Where everything happens.
const NAMESPACE: &str = "shop";

/// File and path of each list.
const LISTS: [(&str, &str); 5] = [
    ("pods", "/api/v1/pods"),
    ("services", "/api/v1/services"),
    ("nodes", "/api/v1/nodes"),
    ("endpointslices", "/apis/discovery.k8s.io/v1/endpointslices"),
    ("replicasets", "/apis/apps/v1/replicasets"),
];

/// Runs one of each kind of pod and writes down what the API server says of them.
pub fn record(node: &Node) -> Result<()> {
    open_shop(node)?;
    for (name, path) in LISTS {
        save(name, &node.kubectl(&["get", "--raw", path])?)?;
    }
    save("watch", &changes(node)?)?;
    let initial = "watch=1&timeoutSeconds=4&allowWatchBookmarks=true&sendInitialEvents=true\
                   &resourceVersionMatch=NotOlderThan&labelSelector=app%3Dcart";
    save("watch-initial", &watch(node, initial)?.succeed(PATIENCE)?)?;
    node.stop_api()?;
    node.compact()?;
    node.start_api()?;
    let expired = watch(node, "watch=1&timeoutSeconds=4&resourceVersion=1")?.succeed(PATIENCE)?;
    save("watch-expired", &expired)
}

const PATIENCE: Duration = Duration::from_secs(60);

fn open_shop(node: &Node) -> Result<()> {
    node.namespace(NAMESPACE)?;
    node.apply(&text("shop.yaml")?)?;
    node.static_pod("guard", Some(&text("static.yaml")?))?;
    node.kubectl(&["create", "job", "-n", NAMESPACE, "--from=cronjob/sweep", "sweep-now"])?;
    for workload in ["deployment/cart", "statefulset/ledger", "daemonset/door"] {
        node.wait_ready(NAMESPACE, workload)?;
    }
    node.wait_for(NAMESPACE, "job/once", "complete")?;
    for labels in ["app=solo", "app=guard", "job-name=sweep-now"] {
        node.wait_for_pods(NAMESPACE, labels, 1)?;
    }
    let image = "--image=lab.local/web:1";
    let words = ["-n", NAMESPACE, "solo", image, "--container=look", "--", "sleep", "600"];
    node.kubectl(&[["debug"].as_slice(), &words].concat())?;
    node.wait(&[
        "wait",
        "--namespace",
        NAMESPACE,
        "pod/solo",
        "--for=jsonpath={.status.ephemeralContainerStatuses[0].state.running}",
    ])
}

/// What a watch tells of a pod that comes and goes, to its end, which a bookmark comes before.
fn changes(node: &Node) -> Result<String> {
    let list: Value = serde_json::from_str(&node.kubectl(&["get", "--raw", LISTS[0].1])?)?;
    let version = list["metadata"]["resourceVersion"].as_str().context("a list has a version")?;
    let mut watch = watch(
        node,
        &format!("watch=1&timeoutSeconds=12&allowWatchBookmarks=true&resourceVersion={version}"),
    )?;
    node.kubectl(&["run", "-n", NAMESPACE, "late", "--image=lab.local/web:1"])?;
    node.wait_for(NAMESPACE, "pod/late", "Ready")?;
    node.kubectl(&["delete", "pod", "-n", NAMESPACE, "late", "--grace-period=1"])?;
    watch.succeed(PATIENCE)
}

fn watch(node: &Node, query: &str) -> Result<Running> {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods?{query}");
    Running::start(node.kubectl_command().args(["get", "--raw", &path]))
}

fn file(name: &str) -> PathBuf {
    fixture("kubernetes").join(name)
}

fn text(name: &str) -> Result<String> {
    Ok(std::fs::read_to_string(file(name))?)
}

fn save(name: &str, answer: &str) -> Result<()> {
    println!("{name}.json: {} bytes", answer.len());
    write(&file(&format!("{name}.json")), &format!("{}\n", answer.trim_end()))
}
