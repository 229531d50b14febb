//! [`Cluster`]: what is known of Kubernetes' objects, and whom an address means.
//!
//! Pure: changes come in from whoever watches the interface; questions carry their time.
//! A name is given only where it is certain: an address that two pods may have had at the
//! time, or a service with several workloads behind it, names none of them.

mod object;
mod pods;
mod services;
mod waypoints;
mod workload;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub use object::{Change, Endpoints, Namespace, Node, Object, ObjectKind, Pod, Service};
pub use workload::{PodFacts, Sidecar, Workload, WorkloadKind};

use pods::Pods;
use services::Services;
use waypoints::Waypoints;

type Map<K, V> = HashMap<K, V, ahash::RandomState>;

/// How long pods that are gone still name what happened before.
const GONE_NS: u64 = 60_000_000_000;

/// Whom an address means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// A pod's workload, or the only one behind a service.
    Workload(Arc<Workload>),
    /// A service: which of its backends is not known.
    Service(Arc<Service>),
    /// A service for what is outside of the cluster.
    External(Arc<Service>),
    /// A node.
    Node(Arc<str>),
}

/// The pod of a container of this node.
#[derive(Clone, Debug)]
pub struct Local<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Name of the container, where its id is known already.
    pub container: Option<&'a Arc<str>>,
}

/// Kubernetes' objects as far as names hang on them.
#[derive(Debug)]
pub struct Cluster {
    pods: Pods,
    services: Services,
    nodes: Map<Arc<str>, Node>,
    node_addresses: Map<IpAddr, Arc<str>>,
    waypoints: Waypoints,
    /// Of lists that are on their way: the uids that came so far.
    listed: Map<ObjectKind, HashSet<Arc<str>, ahash::RandomState>>,
    /// What a service stands for, and at which revision that was found.
    sole: Map<Arc<str>, (u64, Remote)>,
    is_reachable: bool,
    /// All pods that are watched have been told of.
    is_listed: bool,
    revision: u64,
}

impl Cluster {
    /// At most `bound` pods, services, slices of endpoints and namespaces each. `waypoints`:
    /// whether namespaces are told of, which say whether traffic passes waypoints.
    #[must_use]
    pub fn new(bound: usize, waypoints: bool) -> Self {
        Self {
            pods: Pods::new(bound),
            services: Services::new(bound),
            nodes: Map::default(),
            node_addresses: Map::default(),
            waypoints: Waypoints::new(bound, waypoints),
            listed: Map::default(),
            sole: Map::default(),
            is_reachable: false,
            is_listed: false,
            revision: 0,
        }
    }

    /// Takes a change.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Reachable(reachable) => self.is_reachable = reachable,
            Change::ListBegun(kind) => {
                self.listed.insert(kind, HashSet::default());
            }
            Change::ListComplete(kind, at_ns) => self.complete(kind, at_ns),
            Change::Applied(object) => self.applied(*object),
            Change::Deleted(kind, uid, at_ns) => self.deleted(kind, &uid, at_ns),
        }
    }

    fn applied(&mut self, object: Object) {
        self.revision += 1;
        let (kind, uid) = object.key();
        if let Some(listed) = self.listed.get_mut(&kind) {
            listed.insert(Arc::clone(uid));
        }
        if self.is_relabelled(&object) {
            self.waypoints.relabelled();
        }
        match object {
            Object::Pod(pod) => self.pods.apply(pod),
            Object::Service(service) => self.services.apply(service),
            Object::Endpoints(endpoints) => self.services.apply_endpoints(endpoints),
            Object::Node(node) => {
                self.forget_node(&node.uid);
                for address in &node.addresses {
                    self.node_addresses.insert(*address, Arc::clone(&node.name));
                }
                self.nodes.insert(Arc::clone(&node.uid), node);
            }
            Object::Namespace(namespace) => self.waypoints.apply(namespace),
        }
    }

    /// Whether a Service or a pod that was known before says something else of waypoints now.
    fn is_relabelled(&self, object: &Object) -> bool {
        let (before, now) = match object {
            Object::Pod(pod) => (self.pods.get(&pod.uid).map(|known| known.waypoint), pod.waypoint),
            Object::Service(service) => {
                let known = self.services.get(&service.uid);
                (known.map(|known| known.waypoint), service.waypoint)
            }
            Object::Endpoints(_) | Object::Node(_) | Object::Namespace(_) => return false,
        };
        before.is_some_and(|before| before != now)
    }

    fn deleted(&mut self, kind: ObjectKind, uid: &Arc<str>, at_ns: u64) {
        self.revision += 1;
        match kind {
            ObjectKind::Pod => self.pods.delete(uid, at_ns),
            ObjectKind::Service => {
                self.services.delete(uid);
                self.sole.remove(uid);
            }
            ObjectKind::Endpoints => self.services.delete_endpoints(uid),
            ObjectKind::Node => self.forget_node(uid),
            ObjectKind::Namespace => self.waypoints.delete(uid),
        }
    }

    fn forget_node(&mut self, uid: &Arc<str>) {
        let Some(node) = self.nodes.remove(uid) else { return };
        self.node_addresses.retain(|_, name| *name != node.name);
    }

    /// What a whole list did not hold is gone; exactly when is not known.
    fn complete(&mut self, kind: ObjectKind, at_ns: u64) {
        let Some(listed) = self.listed.remove(&kind) else { return };
        self.is_listed |= kind == ObjectKind::Pod;
        let known: Vec<Arc<str>> = match kind {
            ObjectKind::Pod => self.pods.uids().map(Arc::clone).collect(),
            ObjectKind::Service => self.services.uids().map(Arc::clone).collect(),
            ObjectKind::Endpoints => self.services.slices().map(Arc::clone).collect(),
            ObjectKind::Node => self.nodes.keys().map(Arc::clone).collect(),
            ObjectKind::Namespace => {
                self.waypoints.listed();
                self.waypoints.uids().map(Arc::clone).collect()
            }
        };
        for uid in known.iter().filter(|uid| !listed.contains(*uid)) {
            self.deleted(kind, uid, at_ns);
        }
    }

    /// Forgets what went longer ago than its grace.
    pub fn sweep(&mut self, now_ns: u64) {
        self.pods.sweep(now_ns.saturating_sub(GONE_NS));
    }

    /// The pod that a container of this node belongs to; `uid` as its cgroup says.
    #[must_use]
    pub fn local(&self, container: &str, uid: Option<&str>) -> Option<Local<'_>> {
        let (pod, container) = self.pods.of_container(container, uid)?;
        Some(Local { pod, container })
    }

    /// Whom an address means at a time. `listens`: it is the end that was connected to.
    pub fn remote(&mut self, endpoint: SocketAddr, listens: bool, at_ns: u64) -> Option<Remote> {
        let address = endpoint.ip();
        if let Some(pod) = self.pods.at(address, at_ns) {
            return Some(Remote::Workload(Arc::clone(&pod.workload)));
        }
        let node = self.node_addresses.get(&address).map(Arc::clone);
        if listens {
            let by_node = || node.as_ref().and_then(|_| self.services.at_node(endpoint.port()));
            if let Some(service) = self.services.at(endpoint).or_else(by_node) {
                let service = Arc::clone(service);
                return Some(self.behind(service));
            }
            // A pod on its node's network, or a server outside of the cluster.
            if let Some(uid) = self.services.pod_at(endpoint) {
                if let Some(pod) = self.pods.get(uid) {
                    return Some(Remote::Workload(Arc::clone(&pod.workload)));
                }
            } else if let Some((namespace, name)) = self.services.only_service_of(endpoint)
                && let Some(service) = self.services.named(namespace, name)
            {
                return Some(self.behind(Arc::clone(service)));
            }
        }
        node.map(Remote::Node)
    }

    /// The service that a client asked for, by address or because it alone has this backend.
    #[must_use]
    pub fn service(&self, endpoint: SocketAddr) -> Option<&Arc<Service>> {
        let by_node = || {
            self.node_addresses.get(&endpoint.ip())?;
            self.services.at_node(endpoint.port())
        };
        let by_backend = || {
            let (namespace, name) = self.services.only_service_of(endpoint)?;
            self.services.named(namespace, name)
        };
        self.services.at(endpoint).or_else(by_node).or_else(by_backend)
    }

    /// Whether what is sent to an address passes an Istio waypoint, which reports it, as labels
    /// say; `None`: the address is nobody's. `listens`: it is the end that was connected to, and
    /// not this one.
    ///
    /// What is sent to a Service passes the Service's waypoint, and what is sent to a pod the
    /// pod's; which of the two a client meant is known at its own end alone. Whether a
    /// namespace's waypoint is for its pods, too, is not asked: it may be.
    #[must_use]
    pub fn waypoint(&self, endpoint: SocketAddr, listens: bool, at_ns: u64) -> Option<bool> {
        let lead = |service: &Service| self.waypoints.lead(service.waypoint, &service.namespace);
        let service = self.service(endpoint);
        let is_its_own = service.is_some_and(|service| {
            service.addresses.contains(&endpoint.ip())
                || self.node_addresses.contains_key(&endpoint.ip())
        });
        let pod = self.pods.at(endpoint.ip(), at_ns).filter(|_| !is_its_own);
        let Some(pod) = pod else { return service.map(|service| lead(service)) };
        let by_pod = self.waypoints.lead(pod.waypoint, &pod.workload.namespace);
        Some(match service.map(|service| lead(service)) {
            Some(by_service) if !listens => by_service,
            Some(by_service) if pod.waypoint.is_none() => by_service || by_pod,
            _ => by_pod,
        })
    }

    /// What a name of the cluster's DNS means: `web.shop.svc`, `web.shop.svc.cluster.local`.
    pub fn named(&mut self, name: &str) -> Option<Remote> {
        let mut labels = name.trim_end_matches('.').split('.');
        let (service, namespace) = (labels.next()?, labels.next()?);
        if labels.next() != Some("svc") {
            return None;
        }
        let service = Arc::clone(self.services.named(namespace, service)?);
        Some(self.behind(service))
    }

    /// The workload behind a service where there is only one, else the service.
    fn behind(&mut self, service: Arc<Service>) -> Remote {
        if let Some((revision, found)) = self.sole.get(&service.uid)
            && *revision == self.revision
        {
            return found.clone();
        }
        let uid = Arc::clone(&service.uid);
        let found = self.find_behind(service);
        self.sole.insert(uid, (self.revision, found.clone()));
        found
    }

    fn find_behind(&self, service: Arc<Service>) -> Remote {
        let mut sole: Option<&Arc<Workload>> = None;
        let mut is_one = true;
        let mut is_external = service.is_alias;
        for (_, pod) in self.services.behind(&service) {
            is_external |= pod.is_none();
            let pod = pod.as_ref().and_then(|uid| self.pods.get(uid));
            let workload = pod.map(|pod| &pod.workload);
            is_one &= workload
                .is_some_and(|workload| sole.is_none_or(|sole| Arc::ptr_eq(sole, workload)));
            sole = sole.or(workload);
        }
        match sole.filter(|_| is_one) {
            _ if is_external => Remote::External(service),
            Some(workload) => Remote::Workload(Arc::clone(workload)),
            None => Remote::Service(service),
        }
    }

    /// The one workload that runs under a service account, as certificates name it, among the
    /// pods that are watched. `None` also while not all of them are known.
    #[must_use]
    pub fn of_account(&self, namespace: &str, account: &str) -> Option<&Arc<Workload>> {
        self.pods.of_account(namespace, account).filter(|_| self.is_listed)
    }

    /// Whether a name for the address may come soon: it lies where pods are, and the
    /// interface answers.
    #[must_use]
    pub fn may_name(&self, address: IpAddr) -> bool {
        self.is_reachable && self.pods.is_near(address)
    }

    /// Whether Kubernetes' interface answers.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        self.is_reachable
    }

    /// Grows with every change of what is said of waypoints: of all in a namespace, or of a
    /// Service or a pod that is known.
    #[must_use]
    pub fn waypoints(&self) -> u64 {
        self.waypoints.revision()
    }

    /// Grows with every change of an object.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Pods; services and slices; each with the bound and how many were refused.
    #[must_use]
    pub fn occupancy(&self) -> [(usize, usize, u64); 2] {
        [self.pods.occupancy(), self.services.occupancy()]
    }
}
