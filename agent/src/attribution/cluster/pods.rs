//! Pods by container, by cgroup and by address **at a time**: an address that is used
//! again never gives yesterday's pod.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use super::object::Pod;
use super::workload::Workload;

type Map<K, V> = HashMap<K, V, ahash::RandomState>;
/// Namespace and name of a service account.
type Account = (Arc<str>, Arc<str>);

/// A pod's claim on an address.
#[derive(Debug)]
struct Claim {
    pod: Arc<Pod>,
    from_ns: u64,
    until_ns: Option<u64>,
}

impl Claim {
    fn holds(&self, at_ns: u64) -> bool {
        self.from_ns <= at_ns && self.until_ns.is_none_or(|until| at_ns < until)
    }
}

/// All pods that are there, and those that went a moment ago. **Bounded**: further ones
/// are refused and counted.
#[derive(Debug)]
pub struct Pods {
    by_uid: Map<Arc<str>, Arc<Pod>>,
    static_uids: Map<Arc<str>, Arc<str>>,
    by_container: Map<Arc<str>, Arc<str>>,
    addresses: Map<IpAddr, Vec<Claim>>,
    /// Networks of the size that one node gets, with the number of claims in each.
    networks: Map<IpAddr, usize>,
    /// Pods by namespace and service account.
    accounts: Map<Account, Map<Arc<Workload>, usize>>,
    workloads: HashSet<Arc<Workload>, ahash::RandomState>,
    /// Gone, and when.
    gone: VecDeque<(u64, Arc<str>)>,
    bound: usize,
    refused: u64,
}

impl Pods {
    /// At most `bound` pods.
    pub fn new(bound: usize) -> Self {
        Self {
            by_uid: Map::default(),
            static_uids: Map::default(),
            by_container: Map::default(),
            addresses: Map::default(),
            networks: Map::default(),
            accounts: Map::default(),
            workloads: HashSet::default(),
            gone: VecDeque::new(),
            bound,
            refused: 0,
        }
    }

    /// Takes a pod, or its new state.
    pub fn apply(&mut self, mut pod: Pod) {
        let known = self.by_uid.get(&pod.uid).map(Arc::clone);
        if known.as_deref() == Some(&pod) {
            return;
        }
        if known.is_none() && self.by_uid.len() >= self.bound {
            self.refused += 1;
            return;
        }
        // One allocation for all pods of a workload.
        pod.workload = self.shared(pod.workload);
        if let Some(known) = known {
            self.unindex(&known);
        }
        self.index(Arc::new(pod));
    }

    /// The pod is gone; what happened before still finds it for a while.
    pub fn delete(&mut self, uid: &Arc<str>, at_ns: u64) {
        let Some(pod) = self.by_uid.get(uid).map(Arc::clone) else { return };
        for address in &pod.addresses {
            for claim in self.addresses.get_mut(address).into_iter().flatten() {
                if claim.pod.uid == *uid {
                    claim.until_ns = claim.until_ns.or(Some(at_ns));
                }
            }
        }
        self.gone.push_back((at_ns, Arc::clone(uid)));
    }

    /// Forgets pods that went before `before_ns`.
    pub fn sweep(&mut self, before_ns: u64) {
        let held = self.gone.len();
        while let Some((gone_ns, _)) = self.gone.front() {
            if *gone_ns >= before_ns {
                break;
            }
            let Some((_, uid)) = self.gone.pop_front() else { break };
            if let Some(pod) = self.by_uid.get(&uid).map(Arc::clone) {
                self.unindex(&pod);
            }
        }
        if self.gone.len() < held {
            // Those that somebody else had in hand when their last pod went.
            self.workloads.retain(|workload| Arc::strong_count(workload) > 1);
        }
    }

    fn shared(&mut self, workload: Arc<Workload>) -> Arc<Workload> {
        if let Some(known) = self.workloads.get(&workload) {
            return Arc::clone(known);
        }
        self.workloads.insert(Arc::clone(&workload));
        workload
    }

    fn index(&mut self, pod: Arc<Pod>) {
        for (id, _) in &pod.containers {
            self.by_container.insert(Arc::clone(id), Arc::clone(&pod.uid));
        }
        if let Some(uid) = &pod.static_uid {
            self.static_uids.insert(Arc::clone(uid), Arc::clone(&pod.uid));
        }
        for address in &pod.addresses {
            let (from_ns, until_ns) = (pod.since_ns, pod.until_ns);
            let claim = Claim { pod: Arc::clone(&pod), from_ns, until_ns };
            self.addresses.entry(*address).or_default().push(claim);
            *self.networks.entry(network(*address)).or_default() += 1;
        }
        let account = (Arc::clone(&pod.workload.namespace), Arc::clone(&pod.workload.account));
        let workloads = self.accounts.entry(account).or_default();
        *workloads.entry(Arc::clone(&pod.workload)).or_default() += 1;
        self.by_uid.insert(Arc::clone(&pod.uid), pod);
    }

    fn unindex(&mut self, pod: &Arc<Pod>) {
        for (id, _) in &pod.containers {
            self.by_container.remove(id);
        }
        if let Some(uid) = &pod.static_uid {
            self.static_uids.remove(uid);
        }
        for address in &pod.addresses {
            if let Some(claims) = self.addresses.get_mut(address) {
                claims.retain(|claim| claim.pod.uid != pod.uid);
                if claims.is_empty() {
                    self.addresses.remove(address);
                }
            }
            take(&mut self.networks, &network(*address));
        }
        let account = (Arc::clone(&pod.workload.namespace), Arc::clone(&pod.workload.account));
        if let Some(workloads) = self.accounts.get_mut(&account) {
            take(workloads, &pod.workload);
            if workloads.is_empty() {
                self.accounts.remove(&account);
            }
        }
        self.by_uid.remove(&pod.uid);
        // The pod's own, the table's and nobody else's.
        if Arc::strong_count(&pod.workload) <= 2 {
            self.workloads.remove(&pod.workload);
        }
    }

    /// The pod that a container, or else a cgroup's uid, belongs to, and the container's name.
    pub fn of_container(&self, id: &str, uid: Option<&str>) -> Option<(&Pod, Option<&Arc<str>>)> {
        if let Some(pod) = self.by_container.get(id).and_then(|uid| self.by_uid.get(uid)) {
            let name = pod.containers.iter().find(|(known, _)| **known == *id);
            return Some((pod, name.map(|(_, name)| name)));
        }
        let uid = uid?;
        let uid = self.static_uids.get(uid).map_or(uid, |uid| uid);
        self.by_uid.get(uid).map(|pod| (&**pod, None))
    }

    /// A pod by its uid.
    pub fn get(&self, uid: &str) -> Option<&Pod> {
        self.by_uid.get(uid).map(|pod| &**pod)
    }

    /// The pod that had the address at a time. `None` also where two pods' claims overlap
    /// at that time: whose it was is not known to the moment.
    pub fn at(&self, address: IpAddr, at_ns: u64) -> Option<&Pod> {
        let claims = self.addresses.get(&address)?;
        let mut holders = claims.iter().filter(|claim| claim.holds(at_ns));
        match (holders.next(), holders.next()) {
            (Some(claim), None) => Some(&claim.pod),
            _ => None,
        }
    }

    /// Whether pods have addresses near this one, so that it may be that of a new pod.
    pub fn is_near(&self, address: IpAddr) -> bool {
        self.networks.contains_key(&network(address))
    }

    /// The one workload that runs under a service account.
    pub fn of_account(&self, namespace: &str, account: &str) -> Option<&Arc<Workload>> {
        let key = (Arc::from(namespace), Arc::from(account));
        let mut workloads = self.accounts.get(&key)?.keys();
        match (workloads.next(), workloads.next()) {
            (Some(workload), None) => Some(workload),
            _ => None,
        }
    }

    /// Uids of all pods that are there.
    pub fn uids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_uid.keys()
    }

    /// Pods held, the bound, and those refused.
    pub fn occupancy(&self) -> (usize, usize, u64) {
        (self.by_uid.len(), self.bound, self.refused)
    }
}

/// Takes one off a count.
fn take<K: std::hash::Hash + Eq>(counts: &mut Map<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// The first 24 bits of an IPv4 address, the first 64 of an IPv6 one.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            IpAddr::from([a, b, c, 0])
        }
        IpAddr::V6(address) => IpAddr::from((u128::from(address) >> 64 << 64).to_be_bytes()),
    }
}
