//! [`Occupancy`]: how full each of the stage's caches is.

use super::Attributor;

/// How full a cache is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupancy {
    /// What it holds, as a label: `connections`.
    pub cache: &'static str,
    /// Entries held.
    pub used: usize,
    /// Entries it may hold.
    pub bound: usize,
    /// Entries lost for want of room so far.
    pub evicted: u64,
}

impl Attributor {
    /// Every cache against its bound.
    #[must_use]
    pub fn occupancy(&self) -> Vec<Occupancy> {
        let one = |cache, (used, bound): (usize, usize), evicted| Occupancy {
            cache,
            used,
            bound,
            evicted,
        };
        let [identities, containers] = self.identities.occupancy();
        let [identities_evicted, containers_evicted] = self.identities.evicted();
        let [(pods, bound, pods_refused), (services, services_bound, services_refused)] =
            self.cluster.occupancy();
        vec![
            one("connections", self.connections.occupancy(), self.connections.evicted()),
            one("processes", self.processes.occupancy(), self.processes.evicted()),
            one("cgroups", self.cgroups.occupancy(), self.cgroups.evicted()),
            one("identities", identities, identities_evicted),
            one("containers", containers, containers_evicted),
            one("dns_addresses", self.names.occupancy(), self.names.evicted()),
            one("unmatched_requests", self.sequences.occupancy(), self.sequences.evicted()),
            one("proxied_connections", self.inbound.occupancy(), self.inbound.evicted()),
            one("proxied_calls", self.joining.occupancy(), self.joining.evicted()),
            one("hops", self.hops.occupancy(), self.hops.evicted()),
            one("kubernetes_pods", (pods, bound), pods_refused),
            one("kubernetes_services", (services, services_bound), services_refused),
            one("translations", self.translations.occupancy(), self.translations.refused()),
        ]
    }
}
