//! [`Installed`]: the agent as an operator has it, by its own chart, as a DaemonSet of the node.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::Value;

use super::ask::Right;
use super::control_plane::audit_log;
use super::{ADDRESS, Image, Node, PATIENCE, wait};
use crate::agent::{Turn, binary};
use crate::helm::Helm;
use crate::http;
use crate::part;
use crate::scrape::Scrape;

/// Whom the API server takes it for.
pub(super) const USER: &str = "system:serviceaccount:meshtap:meshtap";
/// Namespace of its objects.
const NAMESPACE: &str = "meshtap";
/// Where it serves `/metrics`, unless the chart is told otherwise.
const PORT: u16 = 9990;

/// An agent that runs in a pod of the node. It ends with the node, which has to be dropped
/// before it: other tests have their turn then.
#[derive(Debug)]
pub struct Installed {
    address: SocketAddr,
    _turn: Turn,
}

impl Installed {
    /// Installs the agent's own image with the chart's own values; where it is not built
    /// ([`part::image`]), one that is made here of the newest build and the libraries that it
    /// is linked to. `config` is the agent's configuration. Waits until the DaemonSet is ready.
    pub fn by(helm: &Helm, node: &Node, config: &Value) -> Result<Self> {
        let turn = Turn::take()?;
        let config = format!("config={config}");
        let mut sets = vec!["--set-json", "createNamespace=true", "--set-json", &config];
        if let Ok(file) = part::image() {
            node.import(&file)?;
        } else {
            let image = Image::new("localhost/meshtap:lab", &["/usr/bin/meshtap"])?;
            node.load(&image.executable("usr/bin/meshtap", &binary()?)?)?;
            sets.extend(["--set", "image.tag=lab"]);
        }
        let manifests = helm.template(&sets)?.map_err(|refused| anyhow!(refused))?;
        node.apply(&manifests)?;
        node.wait_ready(NAMESPACE, "daemonset/meshtap")?;
        Ok(Self { address: SocketAddr::new(ADDRESS.parse()?, PORT), _turn: turn })
    }

    /// Its pod as the API tells it.
    pub fn pod(&self, node: &Node) -> Result<Value> {
        let list = node.get(&["pods", "--namespace", NAMESPACE])?;
        list["items"].get(0).cloned().context("the agent has no pod")
    }

    /// Runs the agent's program with other arguments in its pod.
    pub fn exec(&self, node: &Node, arguments: &[&str]) -> Result<String> {
        let program = ["exec", "--namespace", NAMESPACE, "daemonset/meshtap", "--", "meshtap"];
        node.kubectl(&[&program, arguments].concat())
    }

    /// What it printed.
    pub fn log(&self, node: &Node) -> Result<String> {
        node.kubectl(&["logs", "--namespace", NAMESPACE, "daemonset/meshtap"])
    }

    /// What it may do, beyond what every account may.
    pub fn granted(&self, node: &Node) -> Result<BTreeSet<Right>> {
        let own = node.rights(USER, NAMESPACE)?;
        let everybodys = node.rights(&format!("system:serviceaccount:{NAMESPACE}:x"), NAMESPACE)?;
        Ok(own.difference(&everybodys).cloned().collect())
    }

    /// What it has done. Fails where it was refused something.
    pub fn used(&self) -> Result<BTreeSet<Right>> {
        let mut used = BTreeSet::new();
        for line in fs::read_to_string(audit_log())?.lines() {
            let event: Value = serde_json::from_str(line)?;
            let code = event["responseStatus"]["code"].as_u64().unwrap_or_default();
            ensure!(code != 401 && code != 403, "{line}");
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (verb, object) = (text(&event["verb"]), &event["objectRef"]);
            if !object.is_null() {
                used.insert([verb, text(&object["apiGroup"]), text(&object["resource"])]);
            }
        }
        Ok(used)
    }

    /// The status of `/readyz`.
    pub fn readiness(&self) -> Result<u16> {
        Ok(http::get(self.address, "/readyz")?.status)
    }

    /// Reads `/metrics` until `enough` says so, or patience ends.
    pub fn scrape_until(&self, enough: impl Fn(&Scrape) -> bool) -> Result<Scrape> {
        let patience = PATIENCE.min(Duration::from_secs(20));
        let last = std::cell::RefCell::new(Scrape::default());
        let found = wait("the metrics say enough", patience, || {
            let scrape = Scrape::fetch(self.address)?;
            let is_enough = enough(&scrape);
            *last.borrow_mut() = scrape;
            Ok(is_enough.then_some(()))
        });
        // The test's own comparison says best what is missing.
        drop(found);
        Ok(last.into_inner())
    }
}
