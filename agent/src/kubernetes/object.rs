//! Kubernetes' objects as far as they are read, and what becomes of them.

mod pod;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::Resource;
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;

pub(super) use pod::PodObject;

use crate::attribution::cluster::{Endpoints, Namespace, Node, Object, ObjectKind, Service};

/// Label by which traffic to a service, a pod, or all of a namespace passes a waypoint; in which
/// namespace that one is (`istio.io/use-waypoint-namespace`) makes no difference here.
pub(super) const USE_WAYPOINT: &str = "istio.io/use-waypoint";
/// Label of an endpoint slice with its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// How objects are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub well_known_labels: bool,
}

/// What is kept of an object of this kind that stands in JSON; `None` where it names nothing.
///
/// # Errors
/// It is no such object.
pub fn read(
    kind: ObjectKind,
    json: &[u8],
    well_known_labels: bool,
) -> Result<Option<Object>, serde_json::Error> {
    fn of<K>(json: &[u8], reading: Reading) -> Result<Option<Object>, serde_json::Error>
    where
        K: Watched + serde::de::DeserializeOwned,
    {
        Ok(serde_json::from_slice::<K>(json)?.read(reading))
    }
    let reading = Reading { well_known_labels };
    match kind {
        ObjectKind::Pod => of::<PodObject>(json, reading),
        ObjectKind::Service => of::<ServiceObject>(json, reading),
        ObjectKind::Endpoints => of::<EndpointSliceObject>(json, reading),
        ObjectKind::Node => of::<NodeObject>(json, reading),
        ObjectKind::Namespace => of::<NamespaceObject>(json, reading),
    }
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
resource!(NamespaceObject, ClusterResourceScope, "Namespace", "", "namespaces");
resource!(
    EndpointSliceObject,
    NamespaceResourceScope,
    "EndpointSlice",
    "discovery.k8s.io",
    "endpointslices"
);

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PodAddress {
    ip: String,
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
    #[serde(rename = "type")]
    kind: String,
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
    protocol: String,
}

impl ServicePort {
    /// Only connections are named; TCP is what a port is unless it says otherwise.
    fn is_tcp(&self) -> bool {
        matches!(&*self.protocol, "" | "TCP")
    }
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
        let tcp = || spec.ports.iter().filter(|port| port.is_tcp());
        Some(Object::Service(Service {
            is_alias: spec.kind == "ExternalName",
            addresses: addresses(own.chain(std::iter::once(&spec.cluster_ip))),
            ports: tcp().filter_map(|port| port.port).collect(),
            node_ports: tcp().filter_map(|port| port.node_port).filter(|port| *port != 0).collect(),
            waypoint: waypoint(metadata.labels.as_ref())
                .or_else(|| waypoint(metadata.annotations.as_ref())),
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
            ports: ports.iter().filter(|port| port.is_tcp()).filter_map(|port| port.port).collect(),
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

#[derive(Clone, Debug, Deserialize)]
pub(super) struct NamespaceObject {
    metadata: ObjectMeta,
}

impl Watched for NamespaceObject {
    const KIND: ObjectKind = ObjectKind::Namespace;

    fn read(self, _: Reading) -> Option<Object> {
        let metadata = self.metadata;
        Some(Object::Namespace(Namespace {
            waypoint: waypoint(metadata.labels.as_ref())?,
            uid: metadata.uid?.into(),
            name: metadata.name?.into(),
        }))
    }
}

/// What labels say of a waypoint: `none` is none, whatever the namespace says.
fn waypoint(labels: Option<&BTreeMap<String, String>>) -> Option<bool> {
    let name = labels?.get(USE_WAYPOINT)?;
    Some(!name.is_empty() && name != "none")
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

#[cfg(test)]
mod tests;
