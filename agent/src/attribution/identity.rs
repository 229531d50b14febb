//! Identities: who a local socket or a remote address is, each one allocation.
//!
//! **Bounded**: where no identity can be forgotten because all are in use, new ones are
//! `unknown` and counted.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use super::call::{Identity, IdentityKind};
use super::cgroup::Cgroup;
use super::cluster;
use super::cluster::{Cluster, Remote, Workload};
use super::container::{Container, ContainerName};
use super::host::Host;
use super::names::{self, NameRule, Subject};
use super::process::Facts;
use super::program::base_name;
use super::settings::AttributionSettings;

/// How long a container without a name is left alone before its files are asked again.
const RETRY_NS: u64 = 2_000_000_000;

/// What is known about a local socket.
#[derive(Clone, Copy, Debug)]
pub struct Local<'a> {
    /// The process that holds it.
    pub facts: &'a Facts,
    /// cgroups to look at, best first.
    pub cgroups: &'a [Arc<Cgroup>],
    /// Its own address.
    pub endpoint: Option<SocketAddr>,
    /// Whether it is the end that listens, so that its port may name it.
    pub listens: bool,
    /// What is known of Kubernetes.
    pub cluster: &'a Cluster,
}

/// Makes and interns identities.
#[derive(Debug)]
pub struct Identities {
    known: HashSet<Arc<Identity>, ahash::RandomState>,
    bound: usize,
    containers: LruCache<Arc<str>, (Option<ContainerName>, u64), ahash::RandomState>,
    rules: Vec<NameRule>,
    host_name: Arc<str>,
    cluster_name: Arc<str>,
    unknown: Arc<Identity>,
    nowhere: Arc<str>,
    refused: u64,
    evicted: u64,
    containers_evicted: u64,
}

impl Identities {
    /// With the names, places and bounds of the settings.
    #[must_use]
    pub fn new(settings: &AttributionSettings) -> Self {
        let nowhere: Arc<str> = Arc::from("");
        let unknown = Arc::new(Identity {
            name: Arc::from("unknown"),
            namespace: Arc::clone(&nowhere),
            kind: IdentityKind::Unknown,
            attributes: Vec::new(),
            workload: None,
        });
        let containers = NonZeroUsize::new(settings.containers).unwrap_or(NonZeroUsize::MIN);
        Self {
            known: HashSet::default(),
            bound: settings.identities,
            containers: LruCache::with_hasher(containers, ahash::RandomState::new()),
            rules: settings.names.clone(),
            host_name: Arc::clone(&settings.host_name),
            cluster_name: Arc::clone(&settings.cluster_name),
            unknown,
            nowhere,
            refused: 0,
            evicted: 0,
            containers_evicted: 0,
        }
    }

    /// Nobody known.
    #[must_use]
    pub fn unknown(&self) -> Arc<Identity> {
        Arc::clone(&self.unknown)
    }

    /// Who holds a local socket: configured name, workload, container, unit, executable.
    pub fn local(&mut self, local: &Local<'_>, now_ns: u64, host: &dyn Host) -> Arc<Identity> {
        let container = local.cgroups.iter().find_map(|cgroup| cgroup.container.as_ref());
        let unit = local.cgroups.iter().find_map(|cgroup| cgroup.unit.as_ref());
        let mut attributes = Vec::with_capacity(12);
        let (mut named, mut workload) = (None, None);
        if let Some(container) = container {
            let pod = local.cluster.local(&container.id, container.pod.as_deref());
            workload = pod.as_ref().map(|local| Arc::clone(&local.pod.workload));
            // The interface tells of a container some time after its start.
            if pod.as_ref().is_none_or(|pod| pod.container.is_none()) {
                named = self.container(container, now_ns, host);
            }
            attributes.push(("container.id", Arc::clone(&container.id)));
            match &pod {
                Some(pod) => {
                    describe(pod, named.as_ref(), &mut attributes);
                    if !self.cluster_name.is_empty() {
                        attributes.push(("k8s.cluster.name", Arc::clone(&self.cluster_name)));
                    }
                }
                None => attributes.extend(named.iter().flat_map(told)),
            }
        } else if let Some(unit) = unit {
            attributes.push(("systemd.unit", unit.unit.as_str().into()));
        } else if let Some(executable) = &local.facts.executable {
            attributes.push(("process.executable.name", base_name(executable).into()));
            if executable.starts_with('/') {
                attributes.push(("process.executable.path", Arc::clone(executable)));
            }
        }
        if !self.host_name.is_empty() {
            attributes.push(("host.name", Arc::clone(&self.host_name)));
        }
        attributes.sort_unstable_by_key(|(key, _)| *key);
        let nowhere = || Arc::clone(&self.nowhere);
        let (name, namespace, kind) = if let Some(rule) =
            self.rule(local, unit.map(|unit| &*unit.unit))
        {
            (rule.name.as_str().into(), rule.namespace.as_str().into(), IdentityKind::Configured)
        } else if let Some(workload) = &workload {
            let (name, namespace) = (&workload.service, &workload.service_namespace);
            (Arc::clone(name), Arc::clone(namespace), IdentityKind::Workload)
        } else if let Some(container) = container {
            let (name, namespace) = match named {
                Some(named) => (named.name, named.namespace),
                None => (container.short_id().into(), nowhere()),
            };
            (name, namespace, IdentityKind::Container)
        } else if let Some(unit) = unit {
            (unit.name.as_str().into(), nowhere(), IdentityKind::Unit)
        } else if local.facts.program.is_empty() {
            return self.unknown();
        } else {
            (Arc::clone(&local.facts.program), nowhere(), IdentityKind::Process)
        };
        self.intern(Identity { name, namespace, kind, attributes, workload })
    }

    fn rule(&self, local: &Local<'_>, unit: Option<&str>) -> Option<&NameRule> {
        if self.rules.is_empty() {
            return None;
        }
        let subject = Subject {
            port: local.endpoint.filter(|_| local.listens).map(|endpoint| endpoint.port()),
            executable: local.facts.executable.as_deref(),
            unit,
            cgroup: None,
            address: local.endpoint.map(|endpoint| endpoint.ip()),
        };
        let paths = || local.cgroups.iter().map(|cgroup| &*cgroup.path);
        self.rules.iter().find(|rule| {
            rule.matches(&subject)
                || paths().any(|path| rule.matches(&Subject { cgroup: Some(path), ..subject }))
        })
    }

    fn container(
        &mut self,
        container: &Container,
        now_ns: u64,
        host: &dyn Host,
    ) -> Option<ContainerName> {
        if container.named {
            let name = Arc::clone(&container.id);
            return Some(ContainerName { name, ..ContainerName::default() });
        }
        if let Some((name, asked_ns)) = self.containers.get(&container.id)
            && (name.is_some() || now_ns < asked_ns.saturating_add(RETRY_NS))
        {
            return name.clone();
        }
        let name = host.container_name(&container.id);
        let old = self.containers.push(Arc::clone(&container.id), (name.clone(), now_ns));
        if old.is_some_and(|(id, _)| id != container.id) {
            self.containers_evicted += 1;
        }
        name
    }

    /// Who a remote end is: a configured name, what Kubernetes knows, the DNS name given,
    /// the first address. `listens` says whether the remote end is the one that was
    /// connected to.
    pub fn remote(
        &mut self,
        endpoints: &[SocketAddr],
        listens: bool,
        kubernetes: impl FnMut(SocketAddr) -> Option<Remote>,
        dns: impl Fn(IpAddr) -> Option<Arc<str>>,
    ) -> Arc<Identity> {
        for endpoint in endpoints {
            let subject = Subject {
                port: listens.then(|| endpoint.port()),
                address: Some(endpoint.ip()),
                ..Subject::default()
            };
            if let Some(rule) = names::first(&self.rules, &subject) {
                let (name, namespace) = (rule.name.as_str().into(), rule.namespace.as_str().into());
                return self.bare(name, namespace, IdentityKind::Configured);
            }
        }
        if let Some(remote) = best(endpoints.iter().copied().filter_map(kubernetes)) {
            return self.of_cluster(remote);
        }
        let nowhere = Arc::clone(&self.nowhere);
        if let Some(name) = endpoints.iter().find_map(|endpoint| dns(endpoint.ip())) {
            return self.bare(name, nowhere, IdentityKind::Dns);
        }
        match endpoints.first() {
            Some(endpoint) => {
                self.bare(endpoint.ip().to_string().into(), nowhere, IdentityKind::Address)
            }
            None => self.unknown(),
        }
    }

    /// Whom Kubernetes' objects mean.
    pub fn of_cluster(&mut self, remote: Remote) -> Arc<Identity> {
        match remote {
            Remote::Workload(workload) => self.workload(workload),
            Remote::Service(service) => {
                let (name, namespace) = (Arc::clone(&service.name), Arc::clone(&service.namespace));
                self.bare(name, namespace, IdentityKind::Service)
            }
            Remote::External(service) => {
                let (name, namespace) = (Arc::clone(&service.name), Arc::clone(&service.namespace));
                self.bare(name, namespace, IdentityKind::External)
            }
            Remote::Node(name) => self.bare(name, Arc::clone(&self.nowhere), IdentityKind::Node),
        }
    }

    /// A workload somewhere, whichever of its pods.
    pub fn workload(&mut self, workload: Arc<Workload>) -> Arc<Identity> {
        let (name, namespace) =
            (Arc::clone(&workload.service), Arc::clone(&workload.service_namespace));
        let (kind, attributes) = (IdentityKind::Workload, Vec::new());
        self.intern(Identity { name, namespace, kind, attributes, workload: Some(workload) })
    }

    /// Somebody of a namespace.
    pub fn somebody_of(&mut self, namespace: &str) -> Arc<Identity> {
        let name = Arc::clone(&self.unknown.name);
        self.bare(name, namespace.into(), IdentityKind::Unknown)
    }

    fn bare(&mut self, name: Arc<str>, namespace: Arc<str>, kind: IdentityKind) -> Arc<Identity> {
        let (attributes, workload) = (Vec::new(), None);
        self.intern(Identity { name, namespace, kind, attributes, workload })
    }

    fn intern(&mut self, identity: Identity) -> Arc<Identity> {
        if let Some(known) = self.known.get(&identity) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.bound {
            // Only what nobody holds may go: a pointer in use stays the one of its identity.
            let before = self.known.len();
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.evicted += (before - self.known.len()) as u64;
            if self.known.len() >= self.bound {
                self.refused += 1;
                return self.unknown();
            }
        }
        let identity = Arc::new(identity);
        self.known.insert(Arc::clone(&identity));
        identity
    }

    /// Whether the next identity that is new has to find one that nobody holds.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.known.len() >= self.bound
    }

    /// Identities held and their bound; containers held and theirs.
    #[must_use]
    pub fn occupancy(&self) -> [(usize, usize); 2] {
        [(self.known.len(), self.bound), (self.containers.len(), self.containers.cap().get())]
    }

    /// Identities forgotten or refused for want of room; containers forgotten.
    #[must_use]
    pub fn evicted(&self) -> [u64; 2] {
        [self.evicted + self.refused, self.containers_evicted]
    }
}

/// A workload says more than a service, and that more than a node.
fn best(found: impl Iterator<Item = Remote>) -> Option<Remote> {
    found.min_by_key(|remote| match remote {
        Remote::Workload(_) => 0,
        Remote::Service(_) | Remote::External(_) => 1,
        Remote::Node(_) => 2,
    })
}

type Attribute = (&'static str, Arc<str>);

/// What a runtime's files tell of a container.
fn told(named: &ContainerName) -> impl Iterator<Item = Attribute> {
    let namespace = Some(&named.namespace).filter(|namespace| !namespace.is_empty());
    [
        Some(("container.name", Arc::clone(&named.name))),
        namespace.map(|namespace| ("k8s.namespace.name", Arc::clone(namespace))),
        named.pod.as_ref().map(|pod| ("k8s.pod.name", Arc::clone(pod))),
    ]
    .into_iter()
    .flatten()
}

/// What Kubernetes tells of a container's pod.
fn describe(local: &cluster::Local<'_>, named: Option<&ContainerName>, out: &mut Vec<Attribute>) {
    let pod = local.pod;
    let workload = &pod.workload;
    let container = local.container.or(named.map(|named| &named.name));
    out.push(("k8s.namespace.name", Arc::clone(&workload.namespace)));
    out.push(("k8s.pod.name", Arc::clone(&pod.name)));
    out.push(("k8s.pod.uid", Arc::clone(&pod.uid)));
    if !pod.node.is_empty() {
        out.push(("k8s.node.name", Arc::clone(&pod.node)));
    }
    out.extend(workload.kind.attribute().map(|key| (key, Arc::clone(&workload.name))));
    if !workload.version.is_empty() {
        out.push(("service.version", Arc::clone(&workload.version)));
    }
    let Some(container) = container else { return };
    out.push(("container.name", Arc::clone(container)));
    out.push(("k8s.container.name", Arc::clone(container)));
    // As OpenTelemetry forms it where no annotation says it.
    let instance = pod.instance.as_ref().map_or_else(
        || format!("{}.{}.{container}", workload.namespace, pod.name).into(),
        Arc::clone,
    );
    out.push(("service.instance.id", instance));
}
