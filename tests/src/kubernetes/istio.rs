//! [`Istio`]: Envoy in pods of the node, as Istio puts it there: beside an application, whose
//! connections an init container leads through it, or in a pod of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{Image, Node, object};
use crate::cluster;
use crate::mesh::certificates::{Authority, Credentials};
use crate::mesh::{istio, sidecar};
use crate::requirement::program;
use crate::workload::{Envoy, envoy};

/// The image of everything that Istio adds to a pod.
const IMAGE: &str = "lab.local/istio:1";
/// Where a pod has what only its Envoy is given.
const FOLDER: &str = "/etc/istio";
/// Where distributions put what iptables knows of each kind of rule.
const EXTENSIONS: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/xtables",
    "/usr/lib/aarch64-linux-gnu/xtables",
    "/usr/lib64/xtables",
    "/usr/lib/xtables",
];
/// The port of every application.
pub const PORT: u16 = 8080;

/// Who signs the certificates of a node's workloads.
#[derive(Debug)]
pub struct Istio {
    authority: Authority,
    _folder: tempfile::TempDir,
}

/// How a sidecar is in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A container beside the application's.
    Beside,
    /// Among the init containers, of those that stay, as since Kubernetes 1.29.
    Native,
}

impl Istio {
    /// Why there can be none here; `None`: there can. Fetches Envoy.
    #[must_use]
    pub fn missing() -> Option<String> {
        let lacks = || Some("iptables has no extensions here".to_owned());
        Envoy::missing().or_else(|| extensions().is_none().then(lacks).flatten())
    }

    /// Gives the node the image.
    pub fn on(node: &Node) -> Result<Self> {
        let mut image = Image::new(IMAGE, &["/bin/sh"])?
            .busybox()?
            .program("iptables")?
            .executable("usr/local/bin/envoy", &envoy::binary()?)?
            // Where iptables has its lock.
            .text("run/.keep", "")?;
        for entry in extensions().context("iptables has no extensions here")?.read_dir()? {
            let path = entry?.path();
            image = image.file(path.display().to_string().trim_start_matches('/'), &path)?;
        }
        node.load(&image)?;
        let folder = tempfile::tempdir()?;
        Ok(Self { authority: Authority::create(folder.path())?, _folder: folder })
    }

    /// Makes a pod's service account, and what its Envoy is given: a certificate of that
    /// account, and what `configure` makes of the files in the pod.
    pub fn enrol(
        &self,
        node: &Node,
        pod: &cluster::Pod,
        configure: impl FnOnce(&Credentials) -> Result<Value>,
    ) -> Result<()> {
        let issued = self.authority.issue(pod, &[])?;
        let inside = |name: &str| Path::new(FOLDER).join(name);
        let own = Credentials {
            authority: inside("authority.pem"),
            certificate: inside("certificate.pem"),
            key: inside("key.pem"),
        };
        let mut data = BTreeMap::from([("envoy.json", configure(&own)?.to_string())]);
        for (name, file) in [
            ("authority.pem", &issued.authority),
            ("certificate.pem", &issued.certificate),
            ("key.pem", &issued.key),
        ] {
            data.insert(name, std::fs::read_to_string(file)?);
        }
        for object in [
            json!({"apiVersion": "v1", "kind": "ServiceAccount"}),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data}),
        ] {
            let name = match object["kind"].as_str() {
                Some("ConfigMap") => given(pod),
                _ => pod.account.clone(),
            };
            let mut object = object;
            object["metadata"] = json!({"name": name, "namespace": pod.namespace});
            node.apply(&object.to_string())?;
        }
        Ok(())
    }
}

/// What a pod's Envoy counted, by name, as far as the name contains `part`.
pub fn counters(
    node: &Node,
    namespace: &str,
    pod: &str,
    part: &str,
) -> Result<BTreeMap<String, u64>> {
    let url = format!("http://127.0.0.1:{}{}", istio::ADMINISTRATION, sidecar::STATISTICS);
    let words = ["wget", "-q", "-O", "-", &url];
    sidecar::counters(&node.exec(namespace, pod, Some(istio::CONTAINER), &words)?, part)
}

/// A Deployment of pods like this one whose application, `image`, has a sidecar.
#[must_use]
pub fn injected(pod: &cluster::Pod, kind: Kind, replicas: u32, image: &str) -> Value {
    let pod = istio::injected(pod.clone(), kind == Kind::Native);
    let mut proxy = proxy();
    let rules = json!({
        "name": "istio-init", "image": IMAGE,
        "command": ["/bin/sh", "-c", istio::redirection()],
        "securityContext": {"runAsUser": 0, "capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}},
    });
    let application = json!({"name": "app", "image": image});
    let (before, beside) = match kind {
        Kind::Beside => (vec![rules], vec![application, proxy]),
        Kind::Native => {
            proxy["restartPolicy"] = "Always".into();
            proxy["startupProbe"] = proxy["readinessProbe"].clone();
            (vec![rules, proxy], vec![application])
        }
    };
    deployment(&pod, replicas, &json!({"initContainers": before, "containers": beside}))
}

/// A Deployment of one pod like this one that is nothing but Envoy.
#[must_use]
pub fn alone(pod: &cluster::Pod) -> Value {
    deployment(pod, 1, &json!({"containers": [proxy()]}))
}

/// Envoy's container. A connection to the application's port is one to Envoy.
fn proxy() -> Value {
    let command = ["/usr/local/bin/envoy", "--concurrency", "2", "--disable-hot-restart"];
    json!({
        "name": istio::CONTAINER, "image": IMAGE,
        "command": command.into_iter().chain(["-l", "warning", "-c", "/etc/istio/envoy.json"])
            .collect::<Vec<_>>(),
        "securityContext": {"runAsUser": istio::USER, "runAsGroup": istio::USER},
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "volumeMounts": [{"name": "given", "mountPath": FOLDER}],
    })
}

fn deployment(pod: &cluster::Pod, replicas: u32, spec: &Value) -> Value {
    let name = pod.labels.get("app").unwrap_or(&pod.name);
    let mut spec = spec.clone();
    spec["serviceAccountName"] = pod.account.as_str().into();
    spec["volumes"] = json!([{"name": "given", "configMap": {"name": given(pod)}}]);
    let metadata = json!({"labels": pod.labels, "annotations": pod.annotations});
    object::deployment(&pod.namespace, name, replicas, &metadata, &spec)
}

/// The name of the object that holds what a pod's Envoy is given.
fn given(pod: &cluster::Pod) -> String {
    format!("envoy-{}", pod.account)
}

fn extensions() -> Option<PathBuf> {
    program("iptables")?;
    EXTENSIONS.iter().map(PathBuf::from).find(|folder| folder.is_dir())
}
