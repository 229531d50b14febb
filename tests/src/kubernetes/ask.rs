//! Asking the laboratory: kubectl, what is waited for, and programs inside pods.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::binaries::Binary;
use super::control_plane::admin;
use super::{Node, PATIENCE, binary, wait};
use crate::netns::Place;
use crate::process::output;

/// Verb, API group and resource, as rules of RBAC name them.
pub type Right = [String; 3];

/// A pod, as the API tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its address; `None`: it has none yet.
    pub address: Option<IpAddr>,
    /// That address, and what it has beside it: of IPv6, where the laboratory has that.
    pub addresses: Vec<IpAddr>,
    /// Its unique id.
    pub uid: String,
    /// Ids of its containers, without the runtime's name, in the order of the pod's own list.
    pub containers: Vec<String>,
    /// Whether it is ready.
    pub is_ready: bool,
}

impl Node {
    /// Runs kubectl as whoever may do anything, and gives what it printed.
    pub fn kubectl(&self, words: &[&str]) -> Result<String> {
        output(self.kubectl_command().args(words))
    }

    /// kubectl's command line, for whoever may do anything; for what goes on while something
    /// else happens.
    #[must_use]
    pub fn kubectl_command(&self) -> Command {
        let mut command = Command::new(binary(Binary::Kubectl));
        command.arg("--kubeconfig").arg(admin());
        // Nothing of the user's own is looked at or written.
        command.env_remove("KUBECONFIG").arg(format!("--cache-dir={}/kubectl", super::ROOT));
        command
    }

    /// What a user may do in a namespace, as the API server says.
    pub fn rights(&self, user: &str, namespace: &str) -> Result<BTreeSet<Right>> {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": namespace},
        });
        let user = format!("--as={user}");
        let words = ["create", "--validate=false", "-f", "-", "-o", "json", user.as_str()];
        let answer: Value = serde_json::from_str(&self.feed(&words, &review.to_string())?)?;
        let status = &answer["status"];
        ensure!(status["incomplete"] == false, "{status}");
        let words = |list: &Value| -> Vec<String> {
            let all = list.as_array().into_iter().flatten();
            all.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let mut rights = BTreeSet::new();
        for rule in status["resourceRules"].as_array().context("no rules")? {
            for group in words(&rule["apiGroups"]) {
                for resource in words(&rule["resources"]) {
                    let verbs = words(&rule["verbs"]).into_iter();
                    rights.extend(verbs.map(|verb| [verb, group.clone(), resource.clone()]));
                }
            }
        }
        Ok(rights)
    }

    /// kubectl's answer to `get WORDS… -o json`.
    pub fn get(&self, words: &[&str]) -> Result<Value> {
        let text = output(self.kubectl_command().arg("get").args(words).args(["-o", "json"]))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Applies what YAML describes.
    pub fn apply(&self, yaml: &str) -> Result<()> {
        self.feed(&["apply", "-f", "-"], yaml).map(drop)
    }

    /// Deletes what YAML describes and waits until it is gone.
    pub fn delete(&self, yaml: &str) -> Result<()> {
        self.feed(&["delete", "--ignore-not-found", "--grace-period=1", "-f", "-"], yaml).map(drop)
    }

    /// Makes a namespace and waits until pods may come into it.
    pub fn namespace(&self, name: &str) -> Result<()> {
        self.kubectl(&["create", "namespace", name])?;
        self.wait_for_account(name)
    }

    /// Waits until the pods of a Deployment, StatefulSet or DaemonSet (`deployment/web`) are
    /// ready and are those of its newest template.
    pub fn wait_ready(&self, namespace: &str, workload: &str) -> Result<()> {
        self.wait(&["rollout", "status", "--namespace", namespace, workload])
    }

    /// Waits until an object (`pod/web`, `job/once`) has a condition (`Ready`, `complete`).
    pub fn wait_for(&self, namespace: &str, object: &str, condition: &str) -> Result<()> {
        let condition = format!("--for=condition={condition}");
        self.wait(&["wait", "--namespace", namespace, object, &condition])
    }

    /// Waits until a namespace has exactly `count` pods with these labels (`app=web`), all
    /// ready, and gives them by name.
    pub fn wait_for_pods(&self, namespace: &str, labels: &str, count: usize) -> Result<Vec<Pod>> {
        wait(&format!("{count} pods {labels} are ready"), PATIENCE, || {
            let pods = self.pods(namespace, labels)?;
            let are_there = pods.len() == count && pods.iter().all(|pod| pod.is_ready);
            Ok(are_there.then_some(pods))
        })
    }

    /// The pods of a namespace with these labels, by name.
    pub fn pods(&self, namespace: &str, labels: &str) -> Result<Vec<Pod>> {
        let list = self.get(&["pods", "--namespace", namespace, "--selector", labels])?;
        list["items"].as_array().context("no list of pods")?.iter().map(pod).collect()
    }

    /// Runs a program in a container of a pod, and gives what it printed.
    pub fn exec(
        &self,
        namespace: &str,
        pod: &str,
        container: Option<&str>,
        words: &[&str],
    ) -> Result<String> {
        output(self.exec_command(namespace, pod, container).args(words))
    }

    /// The command line that runs what is added to it in a container of a pod (the first
    /// where none is named); for programs that go on while something else happens.
    #[must_use]
    pub fn exec_command(&self, namespace: &str, pod: &str, container: Option<&str>) -> Command {
        let mut command = self.kubectl_command();
        command.args(["exec", "--namespace", namespace, pod]);
        if let Some(container) = container {
            command.args(["--container", container]);
        }
        command.arg("--");
        command
    }

    /// Has a container of a pod fetch a URL by busybox's `wget`, and gives the body.
    pub fn wget(&self, namespace: &str, pod: &str, url: &str) -> Result<String> {
        // Some releases of busybox do not survive their own `wget -T`.
        self.exec(namespace, pod, None, &["timeout", "10", "wget", "-q", "-O", "-", url])
    }

    /// Asks for a URL from this machine until there is an answer of success, and gives the
    /// body: a container that runs may not listen yet, and a Service may not lead to it yet.
    pub fn wait_for_answer(&self, url: &str) -> Result<String> {
        wait(&format!("{url} answers"), PATIENCE, || {
            let mut curl = Place::HERE.inside("curl")?;
            curl.args(["--silent", "--fail", "--globoff", "--max-time", "5", url]);
            Ok(output(&mut curl).ok())
        })
    }

    pub(super) fn wait_for_account(&self, namespace: &str) -> Result<()> {
        wait("the namespace has its service account", PATIENCE, || {
            let words = ["get", "serviceaccount", "default", "--namespace", namespace];
            Ok(self.kubectl(&words).is_ok().then_some(()))
        })
    }

    /// Runs one of kubectl's commands that wait (`wait`, `rollout status`), for as long as
    /// anything in the laboratory may take.
    pub fn wait(&self, words: &[&str]) -> Result<()> {
        output(self.kubectl_command().args(words).arg(format!("--timeout={}s", PATIENCE.as_secs())))
            .map(drop)
    }

    fn feed(&self, words: &[&str], text: &str) -> Result<String> {
        let mut child = self
            .kubectl_command()
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("is piped")?.write_all(text.as_bytes())?;
        let done = child.wait_with_output()?;
        ensure!(
            done.status.success(),
            "kubectl {}: {}",
            words.join(" "),
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }
}

fn pod(item: &Value) -> Result<Pod> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let conditions = item["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    let statuses = item["status"]["containerStatuses"].as_array().map_or(&[][..], Vec::as_slice);
    let addresses = item["status"]["podIPs"].as_array().map_or(&[][..], Vec::as_slice);
    Ok(Pod {
        name: text(&item["metadata"]["name"]),
        address: item["status"]["podIP"].as_str().map(str::parse).transpose()?,
        addresses: addresses
            .iter()
            .map(|one| Ok(one["ip"].as_str().unwrap_or_default().parse()?))
            .collect::<Result<_>>()?,
        uid: text(&item["metadata"]["uid"]),
        containers: statuses
            .iter()
            .filter_map(|status| {
                Some(status["containerID"].as_str()?.split_once("//")?.1.to_owned())
            })
            .collect(),
        is_ready: item["metadata"]["deletionTimestamp"].is_null()
            && conditions.iter().any(|found| found["type"] == "Ready" && found["status"] == "True"),
    })
}
