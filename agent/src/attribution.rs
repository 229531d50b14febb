//! Stage 3: exchanges become [`Call`]s: who called whom.
//!
//! Sees every event before the protocol stage does, and remembers whose each socket is.
//! Time comes with the events; what must be read of the host is asked from a
//! [`host::Host`], on an event and never on a timer.

pub mod authority;
mod blind;
pub mod call;
pub mod cgroup;
pub mod cluster;
pub mod connection;
pub mod container;
pub mod dns;
mod edge;
pub mod hop;
pub mod host;
pub mod identity;
pub mod inventory;
pub mod join;
pub mod listeners;
pub mod mesh;
pub mod names;
mod occupancy;
mod owner;
pub mod process;
pub mod program;
mod report;
mod request;
mod resolve;
pub mod settings;
pub mod translation;
pub mod unit;

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use meshtap_ebpf::event;

pub use blind::{BlindSpot, blind_spots};
pub use call::{Call, ConnectionReport, Identity, IdentityKind, Party};
pub use inventory::Inventory;
pub use names::NameRule;
pub use occupancy::Occupancy;
pub use settings::{AttributionSettings, HostPaths};
pub use translation::Translation;

use cgroup::Cgroups;
use cluster::{Change, Cluster};
use connection::{Connection, Connections};
use host::Host;
use identity::Identities;
use join::Sequences;
use listeners::Listeners;
use mesh::{Inbound, Joining, Passage};
use process::Processes;
use translation::Budget;

use crate::protocol::Side;
use crate::ring_buffer::Event;

/// Local addresses that accept connections, and who is behind them.
const SERVERS: usize = 4_096;
/// Processes whose identity is at hand; a cache of pointers, so its misses lose nothing.
const OWNERS: usize = 1_024;
/// Hosts that were asked for, each one allocation, so that equal ones have one address; a
/// cache of pointers, so its misses lose nothing.
const HOSTS: usize = 1_024;
/// Ways through a mesh, each one allocation.
const PASSAGES: usize = 4_096;
/// Listeners of a service manager whose holders are remembered.
const HOLDERS: usize = 256;

/// Names both ends of every exchange and connection.
pub struct Attributor {
    settings: AttributionSettings,
    host: Box<dyn Host>,
    connections: Connections,
    processes: Processes,
    cgroups: Cgroups,
    identities: Identities,
    names: dns::Names,
    cluster: Cluster,
    sequences: Sequences,
    hops: edge::Hops,
    inbound: Inbound,
    joining: Joining,
    /// A mesh's proxy has been seen: before that no call is asked whether it passed one.
    has_proxies: bool,
    /// So has a waypoint, or a gateway: before that no call is asked whether one hides its client.
    has_waypoints: bool,
    /// A cache of pointers, so its misses lose nothing.
    passages: LruCache<Arc<Passage>, (), ahash::RandomState>,
    /// Questions that proxies asked on their own account.
    probes: u64,
    /// Time of the last record.
    now_ns: u64,
    /// Questions about addresses that the node may have translated.
    translations: Budget,
    /// Who accepts on which local address.
    servers: LruCache<SocketAddr, Arc<Identity>, ahash::RandomState>,
    /// Who besides the service manager holds a listener, and when that was asked.
    holders: LruCache<SocketAddr, (Option<u32>, u64), ahash::RandomState>,
    /// Identities by process and cgroup, where no configured name looks at the address too.
    owners: LruCache<owner::Key, (Arc<process::Facts>, Arc<Identity>), ahash::RandomState>,
    /// Hosts of authorities and addresses, as [`Call::server_address`] has them.
    hosts: LruCache<Arc<str>, (), ahash::RandomState>,
    /// Owners and roles of sockets that were there before the agent.
    seeds: LruCache<u64, inventory::LocalSocket, ahash::RandomState>,
    seeded_ns: u64,
    /// Who listened before the agent.
    listeners: Listeners,
    /// Connections whose beginning is not reported yet, oldest first.
    unreported: VecDeque<(u64, u64)>,
    /// Records about connections that were never announced, or are forgotten.
    strangers: u64,
}

impl fmt::Debug for Attributor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Attributor")
            .field("occupancy", &self.occupancy())
            .finish_non_exhaustive()
    }
}

impl Attributor {
    /// For this host.
    #[must_use]
    pub fn new(settings: AttributionSettings) -> Self {
        let host = Box::new(host::real::RealHost::new(settings.paths.clone()));
        Self::with_host(settings, host)
    }

    /// For any host.
    #[must_use]
    pub fn with_host(settings: AttributionSettings, host: Box<dyn Host>) -> Self {
        let identities = Identities::new(&settings);
        Self {
            host,
            connections: Connections::new(settings.connections),
            processes: Processes::new(settings.processes),
            cgroups: Cgroups::new(settings.cgroups),
            identities,
            names: dns::Names::new(
                settings.dns_addresses,
                settings.dns_floor_ns,
                settings.dns_ceiling_ns,
            ),
            cluster: Cluster::new(settings.objects, settings.watches_namespaces),
            sequences: Sequences::new(settings.unmatched_requests),
            hops: edge::Hops::default(),
            inbound: Inbound::default(),
            joining: Joining::default(),
            has_proxies: false,
            has_waypoints: false,
            passages: cache(PASSAGES),
            probes: 0,
            now_ns: 0,
            translations: Budget::new(settings.translations),
            servers: cache(SERVERS),
            holders: cache(HOLDERS),
            owners: cache(OWNERS),
            hosts: cache(HOSTS),
            seeds: cache(settings.connections),
            seeded_ns: 0,
            listeners: Listeners::default(),
            unreported: VecDeque::new(),
            strangers: 0,
            settings,
        }
    }

    /// Takes what was found on the host before the first event.
    pub fn seed(&mut self, inventory: Inventory) {
        self.seeded_ns = inventory.taken_ns;
        for socket in inventory.sockets {
            let owner = event::Owner { pid: socket.pid, ..event::Owner::default() };
            // Read now: its process may be gone when its next packet comes.
            let facts = self.processes.at(&owner, inventory.taken_ns, &*self.host);
            if let Some(path) = facts.cgroups.first() {
                self.cgroups.learn(facts.cgroup_id, path);
            }
            self.seeds.push(socket.cookie, socket);
        }
        for pid in inventory.listeners.iter().filter_map(|listener| listener.holders.first()) {
            let owner = event::Owner { pid: *pid, ..event::Owner::default() };
            self.processes.at(&owner, inventory.taken_ns, &*self.host);
        }
        self.listeners = Listeners::new(inventory.listeners);
    }

    /// Sees one event, before the protocol stage does. What became known of connections
    /// is appended to `out`.
    pub fn observe(&mut self, event: &Event<'_>, out: &mut Vec<ConnectionReport>) {
        self.now_ns = event.header().time_ns;
        match event {
            Event::Opened(record) => self.opened(record, out),
            Event::Redirected(record) => {
                self.connections.redirect(record.header.cookie, (record.local, record.remote));
            }
            Event::OwnerChanged(record) => self.owner_changed(record),
            Event::Statistics(record) => self.statistics(record, out),
            Event::Closed(record) => self.closed(record, out),
            Event::Head(record, bytes) => self.head(record, bytes),
            Event::Exec(record, file) => {
                let facts = self.processes.exec(record, file, &*self.host);
                if let Some(path) = facts.cgroups.first() {
                    self.cgroups.learn(facts.cgroup_id, path);
                }
            }
            Event::Exit(record) => self.processes.exit(record),
            Event::NameAnswer(record, message) => {
                self.names.hear(message, record.cgroup, record.header.time_ns);
            }
            Event::Frames(record, bytes) => self.frames(record, bytes),
            Event::Waited(_) => {}
            Event::End(_) | Event::Shut(_) | Event::Desynchronised(_) => {}
        }
    }

    /// Takes what changed among Kubernetes' objects.
    pub fn change(&mut self, change: Change) {
        self.cluster.apply(change);
    }

    /// Whether Kubernetes will soon tell more of an end of the connection than is known.
    pub fn awaits(&mut self, socket: u64, now_ns: u64) -> bool {
        if !self.settings.watches_kubernetes {
            return false;
        }
        self.refresh(socket, now_ns);
        let Some(connection) = self.connections.get(socket) else { return false };
        if connection.is_passed_on() {
            return false;
        }
        if connection.awaits_pod && self.cluster.is_reachable() {
            return true;
        }
        // Where the other end is on this host, it is what its own socket is.
        let Some(peer) = join::peer(&self.connections, socket, connection) else {
            return connection.remote.kind == IdentityKind::Address
                && connection.remotes().any(|remote| self.cluster.may_name(remote.ip()));
        };
        let awaits = |connection: &Connection| connection.awaits_pod && !connection.is_passed_on();
        if !self.connections.get(peer).is_some_and(awaits) {
            return false;
        }
        self.refresh(peer, now_ns);
        self.cluster.is_reachable() && self.connections.get(peer).is_some_and(awaits)
    }

    /// How long that is waited for, and the state of what is known of Kubernetes.
    #[must_use]
    pub fn patience(&self) -> (u64, u64) {
        (self.settings.name_wait_ns, self.cluster.revision())
    }

    /// Names both ends of a report as they are known by now.
    pub fn rename(&self, report: &mut ConnectionReport) {
        if let Some(connection) = self.connections.get(report.socket) {
            let ends = self.ends(report.socket, connection, report.side, None);
            (report.client, report.server) = (ends.client, ends.server);
        }
    }

    /// Whether the socket belongs to a process that only passes on what applications say.
    #[must_use]
    pub fn is_passed_on(&self, socket: u64) -> bool {
        self.connections.get(socket).is_some_and(Connection::is_passed_on)
    }

    /// Questions that meshes' proxies asked on their own account, and no application.
    #[must_use]
    pub fn probes(&self) -> u64 {
        self.probes
    }

    /// Which end a socket is, as far as known, and the client and the server of its
    /// connection; `None` for a socket that is not known.
    #[must_use]
    pub fn edge(&self, socket: u64) -> Option<(Option<Side>, Party, Party)> {
        let connection = self.connections.get(socket)?;
        let ends = self.ends(socket, connection, self.side(connection), None);
        Some((connection.role, ends.client, ends.server))
    }

    /// Forgets what ended longer ago than the graces. To be called every second or so.
    pub fn sweep(&mut self, now_ns: u64) {
        let closed = now_ns.saturating_sub(self.settings.closed_grace_ns);
        self.connections.sweep(closed);
        self.hops.sweep(&self.connections);
        self.inbound.sweep(&self.connections);
        self.joining.sweep(now_ns);
        self.translations.renew(now_ns);
        self.processes.sweep(now_ns.saturating_sub(self.settings.exited_grace_ns));
        self.cluster.sweep(now_ns);
        if self.identities.is_full() {
            // What only a shortcut holds may make room.
            self.owners.clear();
            self.servers.clear();
        }
    }

    /// Records about sockets that were never announced, or that are forgotten.
    #[must_use]
    pub fn strangers(&self) -> u64 {
        self.strangers
    }

    /// Messages from port 53 that were no DNS answers.
    #[must_use]
    pub fn unreadable_names(&self) -> u64 {
        self.names.unreadable()
    }

    fn opened(&mut self, record: &event::Opened, out: &mut Vec<ConnectionReport>) {
        let (cookie, now_ns) = (record.header.cookie, record.header.time_ns);
        let mut connection = Connection::new(record, &self.identities.unknown());
        if let Some(seed) = self.seeds.pop(&cookie) {
            connection.role = connection.role.or(seed.role);
            if connection.cgroup == 0 {
                connection.cgroup = seed.cgroup;
            }
            if seed.pid != 0 {
                connection.owner =
                    event::Owner { pid: seed.pid, uid: seed.uid, ..connection.owner };
                connection.owner_ns = self.seeded_ns;
                // The holder of the descriptor, not the maker of a listener.
                connection.accepted = true;
            }
        }
        if connection.owner.pid == 0 && connection.role == Some(Side::Server) {
            self.adopt(&mut connection);
        }
        self.make_room(now_ns, out);
        self.connections.insert(cookie, connection);
        self.name_owner(cookie, now_ns);
        self.name_remote(cookie, now_ns);
        self.hops.opened(cookie, &mut self.connections);
        self.unreported.push_back((now_ns, cookie));
        if self.unreported.len() > self.connections.occupancy().1 {
            self.report_beginnings(now_ns, out);
        }
    }

    fn owner_changed(&mut self, record: &event::OwnerChanged) {
        let Some(connection) = self.connections.get_mut(record.header.cookie) else {
            self.strangers += 1;
            return;
        };
        // A child that asks for its parent's peer is not the one that connected.
        if connection.role == Some(Side::Client) && connection.owner.pid != 0 {
            return;
        }
        connection.owner = record.owner;
        connection.owner_ns = record.header.time_ns;
        connection.accepted = true;
        let was_hop = connection.hop.is_some();
        let cookie = record.header.cookie;
        self.name_owner(cookie, record.header.time_ns);
        let is_hop = self.connections.get(cookie).is_some_and(|one| one.hop.is_some());
        if !was_hop && is_hop {
            // Another process made the hop's listener.
            self.hops.opened(cookie, &mut self.connections);
        }
    }
}

fn cache<K: std::hash::Hash + Eq, V>(bound: usize) -> LruCache<K, V, ahash::RandomState> {
    let bound = NonZeroUsize::new(bound).unwrap_or(NonZeroUsize::MIN);
    LruCache::with_hasher(bound, ahash::RandomState::new())
}

#[cfg(test)]
mod tests;
