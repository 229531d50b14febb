//! A container of a pod.

use serde_json::{Value, json};

use super::kubelet::Runtime;
use super::names::{digits, now};

/// What a container is in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// In `containers`.
    Application,
    /// In `initContainers`, over when the others start.
    Init,
    /// In `initContainers` with `restartPolicy: Always`: it starts first and stays.
    Sidecar,
    /// In `ephemeralContainers`, as `kubectl debug` adds it.
    Ephemeral,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its name in the pod.
    pub name: String,
    /// 64 hexadecimal digits; another one after each start.
    pub id: String,
    /// What it is in the pod.
    pub role: Role,
    /// Ports that it says it has: name (may be empty) and number.
    pub ports: Vec<(String, u16)>,
    /// How often it was started again.
    pub restarts: u32,
    /// Exit code, where it is over.
    pub exit: Option<i32>,
    /// Id of the one before it, where it was started again.
    pub last: Option<String>,
}

impl Container {
    /// One that runs; an init container is over.
    #[must_use]
    pub fn new(name: &str, role: Role) -> Self {
        Self {
            name: name.to_owned(),
            id: digits(64),
            role,
            ports: Vec::new(),
            restarts: 0,
            exit: (role == Role::Init).then_some(0),
            last: None,
        }
    }

    /// Is started again, under another id.
    pub fn restart(&mut self) {
        self.last = Some(std::mem::replace(&mut self.id, digits(64)));
        self.restarts += 1;
    }

    fn image(&self) -> String {
        format!("registry.example/{}:1.0", self.name)
    }

    /// As in the pod's `spec`.
    pub(super) fn spec(&self) -> Value {
        let ports: Vec<Value> = self.ports.iter().map(port).collect();
        let mut spec = json!({
            "name": self.name,
            "image": self.image(),
            "imagePullPolicy": "IfNotPresent",
            "env": [
                { "name": "LOG_LEVEL", "value": "info" },
                { "name": "POD_NAME", "valueFrom": { "fieldRef": {
                    "apiVersion": "v1", "fieldPath": "metadata.name"
                } } }
            ],
            "ports": ports,
            "resources": {},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "volumeMounts": [{
                "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
                "name": "kube-api-access", "readOnly": true
            }]
        });
        if self.role == Role::Sidecar {
            spec["restartPolicy"] = "Always".into();
        }
        spec
    }

    /// As in the pod's `status`; without an id before it was started.
    pub(super) fn status(&self, runtime: Runtime, is_started: bool) -> Value {
        let state = match self.exit {
            _ if !is_started => json!({ "waiting": { "reason": "ContainerCreating" } }),
            Some(code) => json!({ "terminated": {
                "exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" },
                "startedAt": now(), "finishedAt": now(), "containerID": self.address(runtime, &self.id)
            } }),
            None => json!({ "running": { "startedAt": now() } }),
        };
        let last = self.last.as_ref().map_or_else(
            || json!({}),
            |id| {
                json!({ "terminated": {
                    "exitCode": 1, "reason": "Error", "startedAt": now(), "finishedAt": now(),
                    "containerID": self.address(runtime, id)
                } })
            },
        );
        let is_running = is_started && self.exit.is_none();
        let mut status = json!({
            "name": self.name,
            "image": self.image(),
            "imageID": if is_started { "registry.example/image@sha256:0f" } else { "" },
            "ready": is_running || self.exit == Some(0),
            "started": is_running,
            "restartCount": self.restarts,
            "state": state,
            "lastState": last
        });
        if is_started {
            status["containerID"] = self.address(runtime, &self.id).into();
        }
        status
    }

    fn address(&self, runtime: Runtime, id: &str) -> String {
        format!("{}://{id}", runtime.scheme())
    }
}

fn port((name, number): &(String, u16)) -> Value {
    let mut port = json!({ "containerPort": number, "protocol": "TCP" });
    if !name.is_empty() {
        port["name"] = name.as_str().into();
    }
    port
}
