//! A pod as it is read: its containers, its addresses and since when they are its own.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use serde::Deserialize;

use super::{PodAddress, Reading, Watched, addresses, now_ns, ns, waypoint};
use crate::attribution::cluster::{Object, ObjectKind, Pod, PodFacts};

/// Annotations with the uid under which the kubelet runs a static pod.
const STATIC_UID: [&str; 2] = ["kubernetes.io/config.hash", "kubernetes.io/config.mirror"];
/// Times are told to the second.
const PRECISION_NS: u64 = 1_000_000_000;

#[derive(Clone, Debug, Deserialize)]
pub(in crate::kubernetes) struct PodObject {
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: String,
    service_account_name: String,
    host_network: bool,
    containers: Vec<ContainerSpec>,
    init_containers: Vec<ContainerSpec>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerSpec {
    name: String,
    restart_policy: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: String,
    start_time: Option<Time>,
    #[serde(rename = "podIP")]
    pod_ip: String,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<PodAddress>,
    conditions: Vec<Condition>,
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
    ephemeral_container_statuses: Vec<ContainerStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    last_transition_time: Option<Time>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerStatus {
    name: String,
    #[serde(rename = "containerID")]
    container_id: String,
    state: ContainerState,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerState {
    terminated: Option<Terminated>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Terminated {
    finished_at: Option<Time>,
}

impl Watched for PodObject {
    const KIND: ObjectKind = ObjectKind::Pod;

    fn read(self, reading: Reading) -> Option<Object> {
        let Self { metadata, spec, status } = self;
        let (name, namespace) = (metadata.name?, metadata.namespace?);
        let labels = metadata.labels.unwrap_or_default();
        let annotations = metadata.annotations.unwrap_or_default();
        let owners = metadata.owner_references.unwrap_or_default();
        let stays = |container: &&ContainerSpec| container.restart_policy == "Always";
        let containers: Vec<&str> = (spec.containers.iter())
            .chain(spec.init_containers.iter().filter(stays))
            .map(|container| container.name.as_str())
            .collect();
        let facts = PodFacts {
            namespace: &namespace,
            name: &name,
            is_generated: metadata.generate_name.is_some(),
            owner: controller(&owners),
            labels: &labels,
            annotations: &annotations,
            account: &spec.service_account_name,
            containers: &containers,
            well_known_labels: reading.well_known_labels,
        };
        Some(Object::Pod(Pod {
            workload: Arc::new(facts.workload()),
            instance: facts.instance().map(Arc::from),
            uid: metadata.uid?.into(),
            static_uid: static_uid(&annotations),
            name: name.as_str().into(),
            node: spec.node_name.into(),
            addresses: if spec.host_network { Vec::new() } else { status.addresses() },
            since_ns: status
                .since()
                .or_else(|| metadata.creation_timestamp.as_ref().map(ns))
                .unwrap_or(0),
            until_ns: status.until(),
            containers: status.containers(),
            waypoint: waypoint(Some(&labels)),
        }))
    }
}

impl PodStatus {
    fn addresses(&self) -> Vec<IpAddr> {
        let more = self.pod_ips.iter().map(|address| &address.ip);
        addresses(more.chain(std::iter::once(&self.pod_ip)))
    }

    /// When the pod got its network, or at least when the kubelet took it on.
    fn since(&self) -> Option<u64> {
        let ready = self.conditions.iter().find(|condition| {
            condition.kind == "PodReadyToStartContainers" && condition.status == "True"
        });
        let ready = ready.and_then(|condition| condition.last_transition_time.as_ref());
        ready.or(self.start_time.as_ref()).map(ns)
    }

    /// When the last container ended, of a pod that starts none any more.
    fn until(&self) -> Option<u64> {
        if !matches!(&*self.phase, "Succeeded" | "Failed") {
            return None;
        }
        let ended = |status: &ContainerStatus| {
            status.state.terminated.as_ref()?.finished_at.as_ref().map(ns)
        };
        let last = self.container_statuses.iter().filter_map(ended).max();
        Some(last.map_or_else(now_ns, |last| last.saturating_add(PRECISION_NS)))
    }

    /// `containerd://0a1b…` as `0a1b…`, with the container's name.
    fn containers(&self) -> Vec<(Arc<str>, Arc<str>)> {
        let all = [
            &self.container_statuses,
            &self.init_container_statuses,
            &self.ephemeral_container_statuses,
        ];
        all.into_iter()
            .flatten()
            .filter_map(|status| {
                let (_, id) = status.container_id.split_once("://")?;
                Some((Arc::from(id), Arc::from(status.name.as_str())))
            })
            .collect()
    }
}

/// Kind and name of the controlling owner.
fn controller(owners: &[OwnerReference]) -> Option<(&str, &str)> {
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    Some((&owner.kind, &owner.name))
}

fn static_uid(annotations: &BTreeMap<String, String>) -> Option<Arc<str>> {
    STATIC_UID.iter().find_map(|key| annotations.get(*key)).map(|uid| uid.as_str().into())
}
