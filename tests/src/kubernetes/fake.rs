//! Nodes, pods and Services that are only objects of a real API server: kwok plays the
//! kubelets, everything else is what it is in a cluster of that size.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::binaries::{Binary, STAGES};
use super::control_plane::admin;
use super::{ADDRESS, API_PORT, Node, ROOT, binary, wait};
use crate::netns::Place;
use crate::process::{output, write};

/// Pods of one Deployment.
const REPLICAS: usize = 10;
/// Namespaces that they are spread over.
const NAMESPACES: usize = 10;
/// Between two looks: at this size the API server has better things to do than to answer.
const PAUSE: Duration = Duration::from_secs(1);
/// How long ten thousand pods may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(900);

impl Node {
    /// Adds nodes `fake-0`, `fake-1`, … which run every pod that they are given, in no time.
    pub fn fake_nodes(&self, count: usize) -> Result<()> {
        if !self.services.runs("kwok") {
            Binary::Kwok.link()?;
            let mut command = Command::new(binary(Binary::Kwok));
            command.arg(format!("--kubeconfig={}", admin().display()));
            let stages = Binary::Kwok.build()?.with_file_name(STAGES);
            command.arg(format!("--config={}", stages.display()));
            command.arg("--manage-all-nodes=false");
            command.arg("--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake");
            command.arg("--node-lease-duration-seconds=3600");
            command.arg("--node-ip=10.245.0.1").arg("--cidr=10.246.0.0/16");
            self.services.start("kwok", &mut command)?;
        }
        let node = |number| {
            json!({
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": format!("fake-{number}"),
                    "labels": {"kubernetes.io/hostname": format!("fake-{number}"), "kubernetes.io/os": "linux"},
                    "annotations": {"kwok.x-k8s.io/node": "fake"},
                },
            })
        };
        post((0..count).map(|number| ("/api/v1/nodes".to_owned(), node(number))))?;
        wait("the fake nodes are ready", PATIENCE, || {
            self.services.demand("kwok")?;
            std::thread::sleep(PAUSE);
            let what = "jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}";
            let ready = self.kubectl(&["get", "nodes", "-o", what])?;
            Ok((ready.matches("True").count() >= count).then_some(()))
        })
    }

    /// Adds Deployments of ten pods each, in namespaces `fake-0` to `fake-9`, and waits until
    /// all pods are ready. `count` is rounded up to whole Deployments.
    pub fn fake_pods(&self, count: usize) -> Result<()> {
        self.fake_namespaces()?;
        let deployments = count.div_ceil(REPLICAS);
        post((0..deployments).map(|number| {
            let path = format!("/apis/apps/v1/namespaces/{}/deployments", namespace(number));
            (path, deployment(number))
        }))?;
        wait("the fake pods are ready", PATIENCE, || {
            self.demand()?;
            std::thread::sleep(PAUSE);
            let what = "jsonpath={.items[*].status.readyReplicas}";
            let ready = self.kubectl(&["get", "deployments", "--all-namespaces", "-o", what])?;
            let ready: usize =
                ready.split(' ').filter_map(|count| count.parse::<usize>().ok()).sum();
            Ok((ready >= deployments * REPLICAS).then_some(()))
        })
    }

    /// Adds Services `fake-0`, `fake-1`, …: each selects the pods of the Deployment of its
    /// name, where there is one.
    pub fn fake_services(&self, count: usize) -> Result<()> {
        self.fake_namespaces()?;
        post((0..count).map(|number| {
            let service = json!({
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": format!("fake-{number}")},
                "spec": {
                    "selector": {"app": format!("fake-{number}")},
                    "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
                },
            });
            (format!("/api/v1/namespaces/{}/services", namespace(number)), service)
        }))
    }

    fn fake_namespaces(&self) -> Result<()> {
        for name in (0..NAMESPACES).map(namespace) {
            if self.kubectl(&["get", "namespace", &name]).is_err() {
                self.namespace(&name)?;
            }
        }
        Ok(())
    }
}

fn namespace(number: usize) -> String {
    format!("fake-{}", number % NAMESPACES)
}

fn deployment(number: usize) -> Value {
    let name = format!("fake-{number}");
    let labels = json!({
        "app": name,
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/version": "1.2.3",
        "team": format!("team-{}", number % 7),
    });
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": REPLICAS,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "containers": [{
                        "name": "web",
                        "image": "lab.local/web:1",
                        "ports": [{"name": "http", "containerPort": 8080}],
                        "env": [{"name": "PORT", "value": "8080"}],
                    }],
                },
            },
        },
    })
}

/// Creates objects, many at a time: kubectl takes half a second for each two.
fn post(objects: impl Iterator<Item = (String, Value)>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut config = String::new();
    for (number, (path, object)) in objects.enumerate() {
        let file = folder.path().join(number.to_string());
        write(&file, &object.to_string())?;
        if !config.is_empty() {
            config.push_str("next\n");
        }
        let certificates = Path::new(ROOT).join("certificates");
        let certificates = certificates.display();
        write!(
            config,
            "url = \"https://{ADDRESS}:{API_PORT}{path}\"\ndata = \"@{file}\"\n\
             header = \"Content-Type: application/json\"\noutput = \"/dev/null\"\n\
             cacert = \"{certificates}/authority.crt\"\ncert = \"{certificates}/admin.crt\"\n\
             key = \"{certificates}/admin.key\"\nwrite-out = \"%{{http_code}} \"\nsilent\n",
            file = file.display(),
        )?;
    }
    let file = folder.path().join("config");
    write(&file, &config)?;
    let mut curl = Place::HERE.inside("curl")?;
    curl.args(["--parallel", "--parallel-max", "16", "--config"]).arg(&file);
    let statuses = output(&mut curl).context("the API server does not answer")?;
    let refused = statuses.split_whitespace().find(|status| *status != "201");
    ensure!(refused.is_none(), "the API server answers {refused:?} to a fake object");
    Ok(())
}
