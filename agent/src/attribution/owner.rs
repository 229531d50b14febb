//! Whose a socket is: from its record's owner and cgroup to an identity.

use std::net::SocketAddr;
use std::sync::Arc;

use meshtap_ebpf::event;

use super::cgroup::{Cgroup, ROOT};
use super::connection::Connection;
use super::identity::Local;
use super::mesh;
use super::process::Facts;
use super::translation::Inquiry;
use super::{Attributor, Identity, IdentityKind};
use crate::protocol::{Exchange, Side};

/// How long an answer about a listener's holders counts.
const ASK_AGAIN_NS: u64 = 2_000_000_000;
/// The service manager's pid.
const MANAGER: u32 = 1;

/// What an identity follows from, configured names aside. The address of the facts
/// stands for them: whoever holds the key holds them too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    facts: usize,
    cgroup: u64,
    accepted: bool,
}

impl Attributor {
    /// Names this end of a connection by what is known now.
    pub(super) fn name_owner(&mut self, cookie: u64, now_ns: u64) {
        let Some(connection) = self.connections.get(cookie) else { return };
        let (owner, owner_ns) = (connection.owner, connection.owner_ns);
        let (cgroup, accepted) = (connection.cgroup, connection.accepted);
        let (endpoint, role) = (connection.local(), connection.role);
        let mut facts = self.processes.at(&owner, owner_ns, &*self.host);
        let of_socket = self.cgroups.of_id(cgroup, now_ns, &*self.host);
        if is_managers(&facts, owner.pid) && !accepted && role == Some(Side::Server) {
            facts = self.holder(endpoint, of_socket.as_deref(), owner_ns, now_ns);
        }
        let listens = role == Some(Side::Server);
        let key = Key { facts: Arc::as_ptr(&facts).addr(), cgroup, accepted };
        let (identity, awaits_pod) = match self.owners.get(&key) {
            Some((_, identity)) => (Arc::clone(identity), false),
            None => {
                let placed = cgroup <= ROOT || of_socket.is_some();
                let cgroups = self.cgroups_of(&facts, of_socket, accepted, now_ns);
                let cluster = &self.cluster;
                let local = Local { facts: &facts, cgroups: &cgroups, endpoint, listens, cluster };
                let identity = self.identities.local(&local, now_ns, &*self.host);
                let awaits = self.awaits_pod(&cgroups, &identity);
                if self.settings.names.is_empty() && is_final(&identity, placed) && !awaits {
                    self.owners.push(key, (Arc::clone(&facts), Arc::clone(&identity)));
                }
                (identity, awaits)
            }
        };
        let revision = (self.processes.revision(), self.cluster.revision());
        let of = mesh::Owner {
            identity: &identity,
            executable: facts.executable.as_deref(),
            uid: owner.uid,
        };
        let proxy = of.proxy(&self.settings.proxies);
        let target = facts.hop.and_then(|hop| hop.target).filter(|_| listens);
        let beyond =
            target.map(|target| self.identities.remote(&[target], true, |_| None, |_| None));
        if listens
            && facts.hop.is_none()
            && proxy.is_none()
            && let Some(endpoint) = endpoint
        {
            self.servers.push(endpoint, Arc::clone(&identity));
        }
        if let Some(connection) = self.connections.peek_mut(cookie) {
            connection.identity = identity;
            connection.awaits_pod = awaits_pod;
            connection.hop = facts.hop.map(Box::new);
            connection.proxy = proxy;
            connection.beyond = beyond;
            (connection.revisions.processes, connection.revisions.pods) = revision;
        }
        self.has_proxies |= proxy.is_some();
        if proxy.is_some() && listens {
            self.inbound.accepted(owner.pid, cookie);
        }
    }

    /// Gives a connection that a listener from before the agent accepted to the process that
    /// held it, where that is the same process still.
    pub(super) fn adopt(&mut self, connection: &mut Connection) {
        let Some(local) = connection.local() else { return };
        for pid in self.listeners.holders(local, connection.cgroup) {
            let owner = event::Owner { pid: *pid, ..connection.owner };
            let then = self.processes.at(&owner, self.seeded_ns, &*self.host);
            let now = self.processes.at(&owner, connection.opened_ns, &*self.host);
            if Arc::ptr_eq(&then, &now) {
                (connection.owner, connection.owner_ns) = (owner, connection.opened_ns);
                return;
            }
        }
    }

    /// Who accepts from a listener that the service manager made, where only the
    /// listener is known: the other process that holds it.
    fn holder(
        &mut self,
        endpoint: Option<SocketAddr>,
        of_socket: Option<&Cgroup>,
        owner_ns: u64,
        now_ns: u64,
    ) -> Arc<Facts> {
        let nobody = Arc::new(Facts::default());
        // `X.socket` as the socket's cgroup names the service without asking.
        if of_socket.is_some_and(|cgroup| cgroup.unit.is_some()) {
            return nobody;
        }
        let Some(endpoint) = endpoint else { return nobody };
        let known = self.holders.get(&endpoint).copied();
        let known = known
            .filter(|(pid, asked)| pid.is_some() || now_ns < asked.saturating_add(ASK_AGAIN_NS));
        let pid = match known {
            Some((pid, _)) => pid,
            None => {
                let holders = self.host.listener_holders(endpoint);
                let pid = holders.into_iter().filter(|pid| *pid != MANAGER).min();
                self.holders.push(endpoint, (pid, now_ns));
                pid
            }
        };
        let Some(pid) = pid else { return nobody };
        self.processes.at(&event::Owner { pid, ..event::Owner::default() }, owner_ns, &*self.host)
    }

    /// The cgroups that may tell the identity, best first: the socket's own, then the
    /// process's; the other way round where the process came to the socket later.
    fn cgroups_of(
        &mut self,
        facts: &Facts,
        of_socket: Option<Arc<Cgroup>>,
        accepted: bool,
        now_ns: u64,
    ) -> Vec<Arc<Cgroup>> {
        let mut cgroups = Vec::with_capacity(4);
        if !accepted {
            cgroups.extend(of_socket.clone());
        }
        for path in &facts.cgroups {
            cgroups.push(self.cgroups.of_path(path));
        }
        if facts.cgroups.is_empty() {
            cgroups.extend(self.cgroups.of_id(facts.cgroup_id, now_ns, &*self.host));
        }
        if accepted {
            cgroups.extend(of_socket);
        }
        cgroups
    }

    /// Names the other end for as long as no socket of this host turns out to be it.
    pub(super) fn name_remote(&mut self, cookie: u64, now_ns: u64) {
        let Some(connection) = self.connections.get(cookie) else { return };
        let endpoints: Vec<SocketAddr> = connection.remotes().collect();
        let (cgroup, at_ns) =
            (connection.cgroup, connection.opened_ns.max(if connection.late { now_ns } else { 0 }));
        let listens = self.side(connection) == Side::Client;
        let (names, cluster) = (&self.names, &mut self.cluster);
        let mut remote = self.identities.remote(
            &endpoints,
            listens,
            |endpoint| cluster.remote(endpoint, listens, at_ns),
            |address| names.name(address, cgroup, at_ns),
        );
        // A name of the cluster's own DNS is a service.
        if remote.kind == IdentityKind::Dns
            && let Some(known) = self.cluster.named(&remote.name)
        {
            remote = self.identities.of_cluster(known);
        }
        let asked = self.asked(cookie);
        let service = asked.into_iter().find_map(|endpoint| self.cluster.service(endpoint));
        let service = service.map(Arc::clone);
        self.has_waypoints |= mesh::is_gateway(&remote);
        let revisions = (self.names.revision(), self.cluster.revision());
        if let Some(connection) = self.connections.peek_mut(cookie) {
            connection.remote = remote;
            connection.service = service;
            (connection.revisions.names, connection.revisions.addresses) = revisions;
        }
        self.note_waypoint(cookie, now_ns);
    }

    /// What was asked for on a connection, in the order in which it is looked at.
    fn asked(&self, cookie: u64) -> Vec<SocketAddr> {
        let Some(connection) = self.connections.get(cookie) else { return Vec::new() };
        match self.side(connection) {
            Side::Client => connection.remotes().collect(),
            Side::Server => connection.local().into_iter().collect(),
        }
    }

    /// Notes whether what is asked for is behind a waypoint.
    fn note_waypoint(&mut self, cookie: u64, now_ns: u64) {
        let Some(connection) = self.connections.get(cookie) else { return };
        if !self.settings.watches_namespaces {
            return;
        }
        let listens = self.side(connection) == Side::Client;
        let at_ns = connection.opened_ns.max(if connection.late { now_ns } else { 0 });
        let mut asked = self.asked(cookie).into_iter();
        let found = asked.find_map(|endpoint| self.cluster.waypoint(endpoint, listens, at_ns));
        let revision = self.cluster.waypoints();
        if let Some(connection) = self.connections.peek_mut(cookie) {
            connection.passes_waypoint = found.unwrap_or(false);
            connection.revisions.waypoints = revision;
        }
    }

    /// Names anew what rests on knowledge that has changed since.
    pub(super) fn refresh(&mut self, cookie: u64, now_ns: u64) {
        let Some(connection) = self.connections.get(cookie) else { return };
        let (owner, remote) = self.outdated(connection);
        let waypoint = connection.revisions.waypoints != self.cluster.waypoints();
        if owner {
            self.name_owner(cookie, now_ns);
        }
        if remote {
            self.name_remote(cookie, now_ns);
        } else if waypoint {
            self.note_waypoint(cookie, now_ns);
        }
    }

    /// Whether the names of this end and of the other rest on knowledge that has changed.
    fn outdated(&self, connection: &Connection) -> (bool, bool) {
        let revisions = &connection.revisions;
        let pods = connection.identity.kind == IdentityKind::Container
            && revisions.pods != self.cluster.revision();
        let remote = match connection.remote.kind {
            IdentityKind::Address => {
                revisions.names != self.names.revision()
                    || revisions.addresses != self.cluster.revision()
            }
            IdentityKind::Service | IdentityKind::External | IdentityKind::Dns => {
                revisions.addresses != self.cluster.revision()
            }
            _ => false,
        };
        (pods || revisions.processes != self.processes.revision(), remote)
    }

    /// Whether Kubernetes will tell of the pod that a container is in, and has not yet.
    pub(super) fn awaits_pod(&self, cgroups: &[Arc<Cgroup>], identity: &Identity) -> bool {
        let in_pod = |cgroup: &Arc<Cgroup>| {
            cgroup.container.as_ref().is_some_and(|container| container.pod.is_some())
        };
        identity.kind == IdentityKind::Container
            && self.settings.watches_kubernetes
            && cgroups.iter().any(in_pod)
    }

    /// Whether a connection says what a call needs of it, so that [`Self::settle`] is spared.
    pub(super) fn is_settled(&self, connection: &Connection, exchange: &Exchange) -> bool {
        self.outdated(connection) == (false, false)
            && connection.revisions.waypoints == self.cluster.waypoints()
            && connection.inquiry == Inquiry::Done
            && connection.role == Some(exchange.side)
            && matches!(&connection.authority, Some((text, ..)) if *text == exchange.authority)
    }

    /// Brings a connection up to what its exchange tells.
    #[cold]
    pub(super) fn settle(&mut self, exchange: &Exchange) {
        let (cookie, side) = (exchange.socket, exchange.side);
        self.refresh(cookie, exchange.end_ns);
        let Some(connection) = self.connections.peek_mut(cookie) else { return };
        if connection.role != Some(side) {
            // A message's direction says more than any evidence before it.
            connection.role = Some(side);
            self.name_remote(cookie, exchange.end_ns);
        }
        self.inquire(cookie, exchange.end_ns);
        let is_noted = self.connections.get(cookie).is_some_and(|connection| {
            matches!(&connection.authority, Some((text, ..)) if *text == exchange.authority)
        });
        if !is_noted {
            self.note_authority(exchange);
        }
    }

    /// Which end a socket is. Where no record and no message told: the end that is known
    /// to accept, else the one with the lower port, is the server.
    pub(super) fn side(&self, connection: &Connection) -> Side {
        if let Some(role) = connection.role {
            return role;
        }
        let local = connection.local();
        let remote = connection.remotes().next();
        let accepts = |end: Option<SocketAddr>| end.is_some_and(|end| self.servers.contains(&end));
        match (accepts(local), accepts(remote)) {
            (true, false) => Side::Server,
            (false, true) => Side::Client,
            _ if local.map(|end| end.port()) < remote.map(|end| end.port()) => Side::Server,
            _ => Side::Client,
        }
    }
}

/// Whether asking again later cannot say more: a container may still get its name, an
/// unknown cgroup its path.
fn is_final(identity: &Identity, placed: bool) -> bool {
    match identity.kind {
        IdentityKind::Container => {
            identity.attributes.iter().any(|(key, _)| *key == "container.name")
        }
        IdentityKind::Unit => true,
        IdentityKind::Unknown => false,
        _ => placed,
    }
}

fn is_managers(facts: &Facts, pid: u32) -> bool {
    pid == MANAGER && matches!(&*facts.program, "systemd" | "init")
}
