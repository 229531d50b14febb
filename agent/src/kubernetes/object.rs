//! Kubernetes' objects as far as they are read, and what becomes of them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::Resource;
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;

use crate::attribution::cluster::{Endpoints, Node, Object, ObjectKind, Pod, PodFacts, Service};

/// Annotations with the uid under which the kubelet runs a static pod.
const STATIC_UID: [&str; 2] = ["kubernetes.io/config.hash", "kubernetes.io/config.mirror"];
/// Label or annotation by which a service's traffic passes a waypoint.
const USE_WAYPOINT: &str = "istio.io/use-waypoint";
/// Label of an endpoint slice with its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Times are told to the second.
const PRECISION_NS: u64 = 1_000_000_000;

/// How objects are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub well_known_labels: bool,
}

/// An object that is watched.
pub(super) trait Watched {
    /// What it is.
    const KIND: ObjectKind;

    /// What is kept of it; `None` where it names nothing.
    fn read(self, reading: Reading) -> Option<Object>;
}

macro_rules! resource {
    ($type:ident, $scope:ty, $kind:literal, $group:literal, $plural:literal) => {
        impl Resource for $type {
            type DynamicType = ();
            type Scope = $scope;
            fn kind((): &()) -> Cow<'_, str> {
                $kind.into()
            }
            fn group((): &()) -> Cow<'_, str> {
                $group.into()
            }
            fn version((): &()) -> Cow<'_, str> {
                "v1".into()
            }
            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

resource!(PodObject, NamespaceResourceScope, "Pod", "", "pods");
resource!(ServiceObject, NamespaceResourceScope, "Service", "", "services");
resource!(NodeObject, ClusterResourceScope, "Node", "", "nodes");
resource!(
    EndpointSliceObject,
    NamespaceResourceScope,
    "EndpointSlice",
    "discovery.k8s.io",
    "endpointslices"
);

#[derive(Clone, Debug, Deserialize)]
pub(super) struct PodObject {
    metadata: ObjectMeta,
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
#[serde(default)]
struct PodAddress {
    ip: String,
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

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ServiceObject {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: ServiceSpec,
    #[serde(default)]
    status: ServiceStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpec {
    #[serde(rename = "clusterIP")]
    cluster_ip: String,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Vec<String>,
    #[serde(rename = "externalIPs")]
    external_ips: Vec<String>,
    ports: Vec<ServicePort>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServicePort {
    port: Option<u16>,
    node_port: Option<u16>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceStatus {
    load_balancer: LoadBalancer,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct LoadBalancer {
    ingress: Vec<PodAddress>,
}

impl Watched for ServiceObject {
    const KIND: ObjectKind = ObjectKind::Service;

    fn read(self, _: Reading) -> Option<Object> {
        let Self { metadata, spec, status } = self;
        let balanced = status.load_balancer.ingress.iter().map(|address| &address.ip);
        let own = spec.cluster_ips.iter().chain(&spec.external_ips).chain(balanced);
        let says = |pairs: &Option<BTreeMap<String, String>>| {
            let waypoint = pairs.as_ref().and_then(|pairs| pairs.get(USE_WAYPOINT));
            waypoint.is_some_and(|name| !name.is_empty() && name != "none")
        };
        Some(Object::Service(Service {
            addresses: addresses(own.chain(std::iter::once(&spec.cluster_ip))),
            ports: spec.ports.iter().filter_map(|port| port.port).collect(),
            node_ports: spec
                .ports
                .iter()
                .filter_map(|port| port.node_port)
                .filter(|port| *port != 0)
                .collect(),
            waypoint: says(&metadata.labels) || says(&metadata.annotations),
            uid: metadata.uid?.into(),
            name: metadata.name?.into(),
            namespace: metadata.namespace?.into(),
        }))
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct EndpointSliceObject {
    metadata: ObjectMeta,
    #[serde(default, deserialize_with = "null_is_none")]
    endpoints: Vec<Endpoint>,
    #[serde(default, deserialize_with = "null_is_none")]
    ports: Vec<ServicePort>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Endpoint {
    addresses: Vec<String>,
    target_ref: Option<Target>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Target {
    kind: String,
    uid: String,
}

/// An empty list is `null` in some answers.
fn null_is_none<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Watched for EndpointSliceObject {
    const KIND: ObjectKind = ObjectKind::Endpoints;

    fn read(self, _: Reading) -> Option<Object> {
        let Self { metadata, endpoints, ports } = self;
        let service = metadata.labels?.remove(SERVICE_NAME)?;
        let pod = |target: &Option<Target>| {
            let target = target.as_ref().filter(|target| target.kind == "Pod")?;
            Some(Arc::from(target.uid.as_str()))
        };
        let each = endpoints.iter().flat_map(|endpoint| {
            let pod = pod(&endpoint.target_ref);
            addresses(endpoint.addresses.iter())
                .into_iter()
                .map(move |address| (address, pod.clone()))
        });
        Some(Object::Endpoints(Endpoints {
            addresses: each.collect(),
            ports: ports.iter().filter_map(|port| port.port).collect(),
            uid: metadata.uid?.into(),
            namespace: metadata.namespace?.into(),
            service: service.into(),
        }))
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct NodeObject {
    metadata: ObjectMeta,
    #[serde(default)]
    status: NodeStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct NodeStatus {
    addresses: Vec<NodeAddress>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct NodeAddress {
    address: String,
}

impl Watched for NodeObject {
    const KIND: ObjectKind = ObjectKind::Node;

    fn read(self, _: Reading) -> Option<Object> {
        let Self { metadata, status } = self;
        let all = status.addresses.iter().map(|address| &address.address);
        Some(Object::Node(Node {
            uid: metadata.uid?.into(),
            name: metadata.name?.into(),
            addresses: addresses(all),
        }))
    }
}

/// What is an address, each once: `None` of a headless service and host names are none.
fn addresses<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for address in texts.filter_map(|text| text.parse::<IpAddr>().ok()) {
        let address = address.to_canonical();
        if !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

/// `CLOCK_MONOTONIC`, nanoseconds.
pub(super) fn now_ns() -> u64 {
    clock(ClockId::Monotonic)
}

/// A time of the interface on the clock of the records; 0 for one before this host's start.
fn ns(time: &Time) -> u64 {
    let then = u64::try_from(time.0.as_nanosecond()).unwrap_or(0);
    let ago = clock(ClockId::Realtime).saturating_sub(then);
    now_ns().saturating_sub(ago)
}

fn clock(id: ClockId) -> u64 {
    let time = clock_gettime(id);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}
