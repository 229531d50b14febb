//! A pod as the API server has it, with all that an agent has no use for.

use serde_json::{Value, json};

use crate::cluster::container::Role;
use crate::cluster::names::now;
use crate::cluster::{Container, Key, Quality, Resource};

use super::Pod;

impl Pod {
    /// What names it.
    #[must_use]
    pub fn key(&self) -> Key {
        let (namespace, name) = (self.namespace.clone(), self.name.clone());
        Key { resource: Resource::Pods, namespace, name }
    }

    /// As the API server has it.
    #[must_use]
    pub fn object(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": self.metadata(),
            "spec": self.spec(),
            "status": self.status()
        })
    }

    fn metadata(&self) -> Value {
        let mut metadata = json!({
            "name": self.name,
            "namespace": self.namespace,
            "uid": self.uid,
            "labels": self.labels,
            "annotations": self.annotations,
            "managedFields": managed_fields()
        });
        if !self.generate_name.is_empty() {
            metadata["generateName"] = self.generate_name.as_str().into();
        }
        if let Some(owner) = &self.owner {
            metadata["ownerReferences"] = json!([owner.object()]);
        }
        if self.is_terminating {
            metadata["deletionTimestamp"] = now().into();
            metadata["deletionGracePeriodSeconds"] = 30.into();
        }
        metadata
    }

    fn of_roles(&self, roles: &[Role], view: impl Fn(&Container) -> Value) -> Option<Value> {
        let chosen = self.containers.iter().filter(|container| roles.contains(&container.role));
        let chosen: Vec<Value> = chosen.map(view).collect();
        (!chosen.is_empty()).then(|| chosen.into())
    }

    fn spec(&self) -> Value {
        let mut spec = json!({
            "dnsPolicy": "ClusterFirst",
            "enableServiceLinks": true,
            "preemptionPolicy": "PreemptLowerPriority",
            "priority": 0,
            "restartPolicy": if self.labels.contains_key("job-name") { "Never" } else { "Always" },
            "schedulerName": "default-scheduler",
            "securityContext": {},
            "serviceAccount": self.account,
            "serviceAccountName": self.account,
            "terminationGracePeriodSeconds": 30,
            "tolerations": [
                { "effect": "NoExecute", "key": "node.kubernetes.io/not-ready",
                  "operator": "Exists", "tolerationSeconds": 300 },
                { "effect": "NoExecute", "key": "node.kubernetes.io/unreachable",
                  "operator": "Exists", "tolerationSeconds": 300 }
            ],
            "volumes": [{ "name": "kube-api-access", "projected": {
                "defaultMode": 420,
                "sources": [
                    { "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } },
                    { "configMap": { "name": "kube-root-ca.crt",
                        "items": [{ "key": "ca.crt", "path": "ca.crt" }] } }
                ]
            } }]
        });
        if !self.node.is_empty() {
            spec["nodeName"] = self.node.as_str().into();
        }
        if self.host_network {
            spec["hostNetwork"] = true.into();
        }
        let fields = [
            ("containers", &[Role::Application] as &[Role]),
            ("initContainers", &[Role::Init, Role::Sidecar]),
            ("ephemeralContainers", &[Role::Ephemeral]),
        ];
        for (field, roles) in fields {
            if let Some(containers) = self.of_roles(roles, Container::spec) {
                spec[field] = containers;
            }
        }
        // What is requested decides about the class of service.
        let amount = json!({ "cpu": "10m", "memory": "16Mi" });
        let resources = match self.quality {
            Quality::Guaranteed => json!({ "requests": amount, "limits": amount }),
            Quality::Burstable => json!({ "requests": amount }),
            Quality::BestEffort => json!({}),
        };
        for container in spec["containers"].as_array_mut().into_iter().flatten() {
            container["resources"] = resources.clone();
        }
        spec
    }

    fn status(&self) -> Value {
        let is_started = self.phase != "Pending";
        let mut status = json!({
            "phase": self.phase,
            "qosClass": self.quality.name(),
            "startTime": now(),
            "conditions": conditions(self.phase == "Running")
        });
        if !self.node.is_empty() {
            status["hostIP"] = self.host.to_string().into();
            status["hostIPs"] = json!([{ "ip": self.host.to_string() }]);
        }
        let own: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let addresses = if self.host_network { vec![self.host.to_string()] } else { own };
        if let Some(first) = addresses.first() {
            status["podIP"] = first.as_str().into();
            status["podIPs"] =
                addresses.iter().map(|address| json!({ "ip": address })).collect::<Vec<_>>().into();
        }
        let view = |container: &Container| container.status(self.runtime, is_started);
        let fields = [
            ("containerStatuses", &[Role::Application] as &[Role]),
            ("initContainerStatuses", &[Role::Init, Role::Sidecar]),
            ("ephemeralContainerStatuses", &[Role::Ephemeral]),
        ];
        for (field, roles) in fields {
            if let Some(statuses) = self.of_roles(roles, view) {
                status[field] = statuses;
            }
        }
        status
    }
}

fn conditions(is_ready: bool) -> Value {
    let state = |is_true: bool| if is_true { "True" } else { "False" };
    let of = |kind: &str, is_true: bool| {
        json!({
            "type": kind, "status": state(is_true),
            "lastProbeTime": null, "lastTransitionTime": now()
        })
    };
    json!([
        of("Initialized", true),
        of("Ready", is_ready),
        of("ContainersReady", is_ready),
        of("PodScheduled", true)
    ])
}

/// About as much as a real pod carries along.
fn managed_fields() -> Value {
    let set = |names: &[&str]| -> Value {
        names
            .iter()
            .map(|name| (format!("f:{name}"), json!({})))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let spec = set(&[
        "containers",
        "dnsPolicy",
        "enableServiceLinks",
        "restartPolicy",
        "schedulerName",
        "securityContext",
        "serviceAccountName",
        "terminationGracePeriodSeconds",
    ]);
    let status = set(&[
        "conditions",
        "containerStatuses",
        "hostIP",
        "hostIPs",
        "phase",
        "podIP",
        "podIPs",
        "startTime",
    ]);
    let metadata = set(&["generateName", "labels", "ownerReferences"]);
    json!([
        { "manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1",
          "time": now(), "fieldsType": "FieldsV1",
          "fieldsV1": { "f:metadata": metadata, "f:spec": spec } },
        { "manager": "kubelet", "operation": "Update", "apiVersion": "v1", "time": now(),
          "fieldsType": "FieldsV1", "subresource": "status", "fieldsV1": { "f:status": status } }
    ])
}
