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
use super::container::{Container, ContainerName};
use super::host::Host;
use super::names::{self, NameRule, Subject};
use super::process::Facts;
use super::program::base_name;

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
}

/// Makes and interns identities.
#[derive(Debug)]
pub struct Identities {
    known: HashSet<Arc<Identity>, ahash::RandomState>,
    bound: usize,
    containers: LruCache<Arc<str>, (Option<ContainerName>, u64), ahash::RandomState>,
    rules: Vec<NameRule>,
    host_name: Arc<str>,
    unknown: Arc<Identity>,
    nowhere: Arc<str>,
    refused: u64,
    evicted: u64,
    containers_evicted: u64,
}

impl Identities {
    /// At most `bound` identities and the names of `containers` containers.
    #[must_use]
    pub fn new(rules: Vec<NameRule>, host_name: Arc<str>, bound: usize, containers: usize) -> Self {
        let nowhere: Arc<str> = Arc::from("");
        let unknown = Arc::new(Identity {
            name: Arc::from("unknown"),
            namespace: Arc::clone(&nowhere),
            kind: IdentityKind::Unknown,
            attributes: Vec::new(),
        });
        let containers = NonZeroUsize::new(containers).unwrap_or(NonZeroUsize::MIN);
        Self {
            known: HashSet::default(),
            bound,
            containers: LruCache::with_hasher(containers, ahash::RandomState::new()),
            rules,
            host_name,
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

    /// Who holds a local socket: configured name, container, unit, executable.
    pub fn local(&mut self, local: &Local<'_>, now_ns: u64, host: &dyn Host) -> Arc<Identity> {
        let container = local.cgroups.iter().find_map(|cgroup| cgroup.container.as_ref());
        let unit = local.cgroups.iter().find_map(|cgroup| cgroup.unit.as_ref());
        let mut attributes = Vec::with_capacity(6);
        let mut named = None;
        if let Some(container) = container {
            named = self.container(container, now_ns, host);
            attributes.push(("container.id", Arc::clone(&container.id)));
            if let Some(named) = &named {
                attributes.push(("container.name", Arc::clone(&named.name)));
                if !named.namespace.is_empty() {
                    attributes.push(("k8s.namespace.name", Arc::clone(&named.namespace)));
                }
                attributes.extend(named.pod.iter().map(|pod| ("k8s.pod.name", Arc::clone(pod))));
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
        let (name, namespace, kind) = if let Some(rule) =
            self.rule(local, unit.map(|unit| &*unit.unit))
        {
            (rule.name.as_str().into(), rule.namespace.as_str().into(), IdentityKind::Configured)
        } else if let Some(container) = container {
            let (name, namespace) = match named {
                Some(named) => (named.name, named.namespace),
                None => (container.short_id().into(), Arc::clone(&self.nowhere)),
            };
            (name, namespace, IdentityKind::Container)
        } else if let Some(unit) = unit {
            (unit.name.as_str().into(), Arc::clone(&self.nowhere), IdentityKind::Unit)
        } else if local.facts.program.is_empty() {
            return self.unknown();
        } else {
            (Arc::clone(&local.facts.program), Arc::clone(&self.nowhere), IdentityKind::Process)
        };
        self.intern(Identity { name, namespace, kind, attributes })
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

    /// Who a remote end is: a configured name, the DNS name given, the first address.
    /// `listens` says whether the remote end is the one that was connected to.
    pub fn remote(
        &mut self,
        endpoints: &[SocketAddr],
        listens: bool,
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

    fn bare(&mut self, name: Arc<str>, namespace: Arc<str>, kind: IdentityKind) -> Arc<Identity> {
        self.intern(Identity { name, namespace, kind, attributes: Vec::new() })
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
