//! etcd, the API server, and who works for it: started, stopped, compacted.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::binaries::Binary;
use super::families::both;
use super::{
    ADDRESS, ALL_PODS, ALL_PODS_6, API_PORT, Node, PATIENCE, ROOT, SERVICES, SERVICES_6, binary,
    wait,
};
use crate::netns::Place;
use crate::process::{output, write};

/// etcd, for clients and for the members that it has not.
const ETCD: [&str; 2] = ["http://127.0.0.1:12379", "http://127.0.0.1:12380"];

impl Node {
    /// Starts all of it and waits until a namespace has its service account: then pods may come.
    pub(super) fn start_control_plane(&self) -> Result<()> {
        let mut etcd = Command::new(binary(Binary::Etcd));
        // Nothing outlives the laboratory, so nothing has to be on the disk.
        etcd.arg("--unsafe-no-fsync").arg("--data-dir").arg(Path::new(ROOT).join("etcd"));
        for (flag, url) in [
            ("listen-client-urls", ETCD[0]),
            ("advertise-client-urls", ETCD[0]),
            ("listen-peer-urls", ETCD[1]),
        ] {
            etcd.arg(format!("--{flag}={url}"));
        }
        self.services.start("etcd", &mut etcd)?;
        self.start_api()?;
        self.services.start("controller-manager", &mut controller_manager())?;
        self.services.start("scheduler", &mut scheduler())?;
        self.wait_for_account("default")
    }

    /// Starts the API server, after [`Node::stop_api`], and waits until it is ready.
    pub fn start_api(&self) -> Result<()> {
        write(&Path::new(ROOT).join("audit.yaml"), &audit().to_string())?;
        self.services.start("apiserver", &mut api_server())?;
        wait("the API server is ready", PATIENCE, || {
            for name in ["etcd", "apiserver"] {
                self.services.demand(name)?;
            }
            let ready = self.kubectl(&["get", "--raw", "/readyz"]);
            Ok(ready.is_ok_and(|answer| answer == "ok").then_some(()))
        })
    }

    /// Ends the API server at once; everything else goes on.
    pub fn stop_api(&self) -> Result<()> {
        self.services.stop("apiserver")
    }

    /// Forgets what objects were like before now: whoever asks for the changes since an
    /// earlier resource version is told that it is gone, once the API server has started anew
    /// (it remembers by itself, too).
    pub fn compact(&self) -> Result<()> {
        let found: Value = etcd("range", &json!({"key": "AA=="}))?;
        let revision = found["header"]["revision"].as_str().context("etcd tells no revision")?;
        etcd("compaction", &json!({"revision": revision, "physical": true})).map(drop)
    }
}

/// Asks etcd by its HTTP interface.
fn etcd(what: &str, question: &Value) -> Result<Value> {
    let mut curl = Place::HERE.inside("curl")?;
    curl.args(["--silent", "--show-error", "--fail", "--data", &question.to_string()]);
    let answer = output(curl.arg(format!("{}/v3/kv/{what}", ETCD[0])))?;
    Ok(serde_json::from_str(&answer)?)
}

/// Where the API server notes what an agent in a pod asks it for, a request a line.
pub(super) fn audit_log() -> PathBuf {
    Path::new(ROOT).join("run/audit.log")
}

fn audit() -> Value {
    json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata", "users": [super::installed::USER]}, {"level": "None"}],
    })
}

fn api_server() -> Command {
    let mut command = Command::new(binary(Binary::ApiServer));
    let certificates = Path::new(ROOT).join("certificates");
    for (flag, file) in [
        ("cert-dir", ""),
        ("client-ca-file", "authority.crt"),
        ("kubelet-certificate-authority", "authority.crt"),
        ("kubelet-client-certificate", "admin.crt"),
        ("kubelet-client-key", "admin.key"),
        ("service-account-key-file", "tokens.pub"),
        ("service-account-signing-key-file", "tokens.key"),
        ("tls-cert-file", "apiserver.crt"),
        ("tls-private-key-file", "apiserver.key"),
    ] {
        command.arg(format!("--{flag}={}", certificates.join(file).display()));
    }
    command.args([
        "--allow-privileged=true",
        "--authorization-mode=Node,RBAC",
        // By the address: nothing here resolves the node's name.
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc",
    ]);
    for (flag, value) in [
        ("advertise-address", ADDRESS),
        ("audit-log-path", &audit_log().display().to_string()),
        ("audit-policy-file", &format!("{ROOT}/audit.yaml")),
        ("bind-address", ADDRESS),
        ("etcd-servers", ETCD[0]),
        ("secure-port", &API_PORT.to_string()),
        ("service-cluster-ip-range", &both(SERVICES, SERVICES_6)),
    ] {
        command.arg(format!("--{flag}={value}"));
    }
    command
}

/// Quick enough for ten thousand pods, too.
const RATE: [&str; 2] = ["--kube-api-qps=500", "--kube-api-burst=1000"];

fn controller_manager() -> Command {
    let mut command = Command::new(binary(Binary::ControllerManager));
    let certificates = Path::new(ROOT).join("certificates");
    command.arg(format!("--kubeconfig={}", admin().display()));
    command.arg(format!("--root-ca-file={}", certificates.join("authority.crt").display()));
    let key = certificates.join("tokens.key");
    command.arg(format!("--service-account-private-key-file={}", key.display()));
    command.arg(format!("--cluster-cidr={}", both(ALL_PODS, ALL_PODS_6))).args(RATE);
    command.args([
        "--allocate-node-cidrs=true",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        // A busy machine is late with signs of life, and no node is in doubt here.
        "--node-monitor-grace-period=1h",
        "--use-service-account-credentials=true",
    ]);
    command
}

fn scheduler() -> Command {
    let mut command = Command::new(binary(Binary::Scheduler));
    command.arg(format!("--kubeconfig={}", admin().display())).args(RATE);
    command.args(["--bind-address=127.0.0.1", "--leader-elect=false"]);
    command
}

pub(super) fn admin() -> PathBuf {
    Path::new(ROOT).join("admin.kubeconfig")
}
