//! Services by address and port, by name, and what is behind them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::object::{Endpoints, Service};

type Map<K, V> = HashMap<K, V, ahash::RandomState>;
type Named = (Arc<str>, Arc<str>);
/// What a slice of endpoints, by its uid, says of an address.
type Of = (Arc<str>, Backend);

/// One address behind a service.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Namespace and name of the service.
    pub service: Named,
    /// The pod there, if it is one.
    pub pod: Option<Arc<str>>,
}

/// All services and what is behind them. **Bounded**: further ones are refused and counted.
#[derive(Debug)]
pub struct Services {
    by_uid: Map<Arc<str>, Arc<Service>>,
    by_name: Map<Named, Arc<Service>>,
    by_address: Map<(IpAddr, u16), Arc<Service>>,
    by_node_port: Map<u16, Arc<Service>>,
    slices: Map<Arc<str>, Arc<Endpoints>>,
    /// Slices of a service.
    behind: Map<Named, Vec<Arc<str>>>,
    backends: Map<(IpAddr, u16), Vec<Of>>,
    bound: usize,
    refused: u64,
}

impl Services {
    /// At most `bound` services and as many slices of endpoints.
    pub fn new(bound: usize) -> Self {
        Self {
            by_uid: Map::default(),
            by_name: Map::default(),
            by_address: Map::default(),
            by_node_port: Map::default(),
            slices: Map::default(),
            behind: Map::default(),
            backends: Map::default(),
            bound,
            refused: 0,
        }
    }

    /// Takes a service, or its new state.
    pub fn apply(&mut self, service: Service) {
        if self.by_uid.get(&service.uid).is_some_and(|known| **known == service) {
            return;
        }
        self.delete(&Arc::clone(&service.uid));
        if self.by_uid.len() >= self.bound {
            self.refused += 1;
            return;
        }
        let service = Arc::new(service);
        for address in &service.addresses {
            for port in &service.ports {
                self.by_address.insert((*address, *port), Arc::clone(&service));
            }
        }
        for port in &service.node_ports {
            self.by_node_port.insert(*port, Arc::clone(&service));
        }
        self.by_name.insert(name(&service), Arc::clone(&service));
        self.by_uid.insert(Arc::clone(&service.uid), service);
    }

    /// The service is gone.
    pub fn delete(&mut self, uid: &Arc<str>) {
        let Some(service) = self.by_uid.remove(uid) else { return };
        // One of the same name or address that came since stays.
        let is_it = |known: &Arc<Service>| known.uid == *uid;
        for address in &service.addresses {
            for port in &service.ports {
                remove(&mut self.by_address, &(*address, *port), is_it);
            }
        }
        for port in &service.node_ports {
            remove(&mut self.by_node_port, port, is_it);
        }
        remove(&mut self.by_name, &name(&service), is_it);
    }

    /// Takes a slice of endpoints, or its new state.
    pub fn apply_endpoints(&mut self, slice: Endpoints) {
        if self.slices.get(&slice.uid).is_some_and(|known| **known == slice) {
            return;
        }
        self.delete_endpoints(&Arc::clone(&slice.uid));
        if self.slices.len() >= self.bound {
            self.refused += 1;
            return;
        }
        let service = (Arc::clone(&slice.namespace), Arc::clone(&slice.service));
        for (address, pod) in &slice.addresses {
            for port in &slice.ports {
                let backend = Backend { service: service.clone(), pod: pod.clone() };
                let backends = self.backends.entry((*address, *port)).or_default();
                backends.push((Arc::clone(&slice.uid), backend));
            }
        }
        self.behind.entry(service).or_default().push(Arc::clone(&slice.uid));
        self.slices.insert(Arc::clone(&slice.uid), Arc::new(slice));
    }

    /// The slice is gone.
    pub fn delete_endpoints(&mut self, uid: &Arc<str>) {
        let Some(slice) = self.slices.remove(uid) else { return };
        for (address, _) in &slice.addresses {
            for port in &slice.ports {
                let key = (*address, *port);
                if let Some(backends) = self.backends.get_mut(&key) {
                    backends.retain(|(of, _)| of != uid);
                    if backends.is_empty() {
                        self.backends.remove(&key);
                    }
                }
            }
        }
        let service = (Arc::clone(&slice.namespace), Arc::clone(&slice.service));
        if let Some(slices) = self.behind.get_mut(&service) {
            slices.retain(|of| of != uid);
            if slices.is_empty() {
                self.behind.remove(&service);
            }
        }
    }

    /// The service at one of its own addresses.
    pub fn at(&self, endpoint: SocketAddr) -> Option<&Arc<Service>> {
        self.by_address.get(&(endpoint.ip(), endpoint.port()))
    }

    /// The service at a port of every node.
    pub fn at_node(&self, port: u16) -> Option<&Arc<Service>> {
        self.by_node_port.get(&port)
    }

    /// A service by its uid.
    pub fn get(&self, uid: &str) -> Option<&Arc<Service>> {
        self.by_uid.get(uid)
    }

    /// A service by namespace and name.
    pub fn named(&self, namespace: &str, name: &str) -> Option<&Arc<Service>> {
        self.by_name.get(&(Arc::from(namespace), Arc::from(name)))
    }

    /// The pod at an address behind services, on which all of them agree.
    pub fn pod_at(&self, endpoint: SocketAddr) -> Option<&Arc<str>> {
        let mut backends = self.backends.get(&(endpoint.ip(), endpoint.port()))?.iter();
        let (_, first) = backends.next()?;
        let pod = first.pod.as_ref()?;
        backends.all(|(_, other)| other.pod.as_ref() == Some(pod)).then_some(pod)
    }

    /// The one service that an address stands behind.
    pub fn only_service_of(&self, endpoint: SocketAddr) -> Option<&Named> {
        let mut backends = self.backends.get(&(endpoint.ip(), endpoint.port()))?.iter();
        let (_, first) = backends.next()?;
        backends.all(|(_, other)| other.service == first.service).then_some(&first.service)
    }

    /// Addresses behind a service, and their pods.
    pub fn behind(&self, service: &Service) -> impl Iterator<Item = &(IpAddr, Option<Arc<str>>)> {
        let slices = self.behind.get(&name(service)).into_iter().flatten();
        slices.filter_map(|uid| self.slices.get(uid)).flat_map(|slice| &slice.addresses)
    }

    /// Uids of all services.
    pub fn uids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_uid.keys()
    }

    /// Uids of all slices.
    pub fn slices(&self) -> impl Iterator<Item = &Arc<str>> {
        self.slices.keys()
    }

    /// Services and slices held, the larger number of the two; the bound, and those refused.
    pub fn occupancy(&self) -> (usize, usize, u64) {
        (self.by_uid.len().max(self.slices.len()), self.bound, self.refused)
    }
}

fn name(service: &Service) -> Named {
    (Arc::clone(&service.namespace), Arc::clone(&service.name))
}

fn remove<K: std::hash::Hash + Eq, V>(map: &mut Map<K, V>, key: &K, is_it: impl Fn(&V) -> bool) {
    if map.get(key).is_some_and(is_it) {
        map.remove(key);
    }
}
