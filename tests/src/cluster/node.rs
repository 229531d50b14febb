//! A node.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::names::uid;
use super::store::{Key, Resource};

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// `InternalIP`: of each family at most one.
    pub addresses: Vec<IpAddr>,
    /// `ExternalIP`.
    pub external: Vec<IpAddr>,
    /// Networks that its pods' addresses are from.
    pub pod_networks: Vec<String>,
}

impl Node {
    /// One with an address.
    #[must_use]
    pub fn new(name: &str, address: impl Into<IpAddr>) -> Self {
        Self {
            name: name.to_owned(),
            uid: uid(),
            addresses: vec![address.into()],
            external: Vec::new(),
            pod_networks: Vec::new(),
        }
    }

    /// What names it.
    #[must_use]
    pub fn key(&self) -> Key {
        Key { resource: Resource::Nodes, namespace: String::new(), name: self.name.clone() }
    }

    /// As the API server has it.
    #[must_use]
    pub fn object(&self) -> Value {
        let of = |kind: &str, address: String| json!({ "type": kind, "address": address });
        let mut addresses: Vec<Value> =
            self.addresses.iter().map(|address| of("InternalIP", address.to_string())).collect();
        addresses.extend(self.external.iter().map(|address| of("ExternalIP", address.to_string())));
        addresses.push(of("Hostname", self.name.clone()));
        let mut spec = json!({ "providerID": format!("tests://{}", self.name) });
        if let Some(first) = self.pod_networks.first() {
            spec["podCIDR"] = first.as_str().into();
            spec["podCIDRs"] = self.pod_networks.clone().into();
        }
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": self.name,
                "uid": self.uid,
                "labels": {
                    "kubernetes.io/arch": "amd64",
                    "kubernetes.io/hostname": self.name,
                    "kubernetes.io/os": "linux",
                    "topology.kubernetes.io/region": "lab",
                    "topology.kubernetes.io/zone": "lab-a"
                },
                "annotations": { "volumes.kubernetes.io/controller-managed-attach-detach": "true" }
            },
            "spec": spec,
            "status": {
                "addresses": addresses,
                "capacity": { "cpu": "2", "memory": "8Gi", "pods": "110" },
                "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady" }],
                "nodeInfo": {
                    "architecture": "amd64", "containerRuntimeVersion": "containerd://2.1.4",
                    "kubeletVersion": "v1.37.2", "operatingSystem": "linux"
                }
            }
        })
    }
}
