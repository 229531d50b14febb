//! What is kept of Kubernetes' objects, and how changes of them arrive.

use std::net::IpAddr;
use std::sync::Arc;

use super::workload::Workload;

/// Kinds of objects that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// `Pod`
    Pod,
    /// `Service`
    Service,
    /// `EndpointSlice`
    Endpoints,
    /// `Node`
    Node,
    /// `Namespace`, of those that say something of waypoints.
    Namespace,
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// See [`Pod`].
    Pod(Pod),
    /// See [`Service`].
    Service(Service),
    /// See [`Endpoints`].
    Endpoints(Endpoints),
    /// See [`Node`].
    Node(Node),
    /// See [`Namespace`].
    Namespace(Namespace),
}

/// A change of what is known. Times are `CLOCK_MONOTONIC`, nanoseconds, like those of records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Whether Kubernetes' interface answers, so that waiting for a name may be worth it.
    Reachable(bool),
    /// A whole list of a kind begins: what it does not hold is gone.
    ListBegun(ObjectKind),
    /// The list is whole.
    ListComplete(ObjectKind, u64),
    /// An object is there, or has changed.
    Applied(Box<Object>),
    /// The object with this uid is gone.
    Deleted(ObjectKind, Arc<str>, u64),
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.uid`
    pub uid: Arc<str>,
    /// Of a static pod: the uid that the kubelet gave it before the mirror was made, under
    /// which its cgroups stand.
    pub static_uid: Option<Arc<str>>,
    /// `metadata.name`
    pub name: Arc<str>,
    /// Node that it runs on; empty where it has none yet.
    pub node: Arc<str>,
    /// What it is an instance of.
    pub workload: Arc<Workload>,
    /// `service.instance.id` as an annotation says it.
    pub instance: Option<Arc<str>>,
    /// Its addresses; none of a pod on its node's network.
    pub addresses: Vec<IpAddr>,
    /// Since when the addresses are its own.
    pub since_ns: u64,
    /// When the last of its containers ended for good, if they did.
    pub until_ns: Option<u64>,
    /// Ids of its containers without the runtime's prefix, and their names.
    pub containers: Vec<(Arc<str>, Arc<str>)>,
    /// Whether what is sent to its address passes an Istio waypoint, as its own label says;
    /// `None`: it says nothing, and the namespace's holds.
    pub waypoint: Option<bool>,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// `metadata.uid`
    pub uid: Arc<str>,
    /// `metadata.name`
    pub name: Arc<str>,
    /// `metadata.namespace`
    pub namespace: Arc<str>,
    /// Addresses of its own: of the cluster, external ones, those of load balancers.
    pub addresses: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<u16>,
    /// Its ports on every node.
    pub node_ports: Vec<u16>,
    /// It stands for a name outside of the cluster.
    pub is_alias: bool,
    /// Whether traffic to it passes an Istio waypoint, which reports it, as its own label says;
    /// `None`: it says nothing, and the namespace's holds.
    pub waypoint: Option<bool>,
}

/// What is behind a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// `metadata.uid`
    pub uid: Arc<str>,
    /// Namespace of the service.
    pub namespace: Arc<str>,
    /// Name of the service.
    pub service: Arc<str>,
    /// Address, and uid of the pod there if it is one.
    pub addresses: Vec<(IpAddr, Option<Arc<str>>)>,
    /// Ports at each of them.
    pub ports: Vec<u16>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// `metadata.uid`
    pub uid: Arc<str>,
    /// `metadata.name`
    pub name: Arc<str>,
    /// Its addresses, inside and outside.
    pub addresses: Vec<IpAddr>,
}

/// A namespace whose label says something of waypoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// `metadata.uid`
    pub uid: Arc<str>,
    /// `metadata.name`
    pub name: Arc<str>,
    /// Whether traffic to what is in it passes an Istio waypoint, unless that says otherwise.
    pub waypoint: bool,
}

impl Object {
    /// Its kind and uid.
    #[must_use]
    pub fn key(&self) -> (ObjectKind, &Arc<str>) {
        match self {
            Self::Pod(pod) => (ObjectKind::Pod, &pod.uid),
            Self::Service(service) => (ObjectKind::Service, &service.uid),
            Self::Endpoints(endpoints) => (ObjectKind::Endpoints, &endpoints.uid),
            Self::Node(node) => (ObjectKind::Node, &node.uid),
            Self::Namespace(namespace) => (ObjectKind::Namespace, &namespace.uid),
        }
    }
}
