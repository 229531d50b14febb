//! Both ends of a connection: the socket that saw it, and whoever is on the other side,
//! behind hops where there are any.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::authority;
use super::connection::{Connection, Connections, socket_address};
use super::join;
use super::mesh::Passage;
use super::mesh::passage::hides_client;
use super::{Attributor, Call, Identity, Party};
use crate::protocol::{Exchange, Routes, Side};

/// A hop connects onwards within this time.
const ONWARDS_NS: u64 = 5_000_000_000;
/// Bytes of a first request that are compared.
pub(super) const FIRST_BYTES: usize = 512;
/// Connections of hops that wait for their other half.
const HOPS: usize = 8_192;

/// Client and server of a connection as one socket sees them.
pub(super) struct Ends {
    pub client: Party,
    pub server: Party,
    /// The other end's own socket is on this host, and known.
    pub observed: bool,
    cookie: u64,
    other: Option<u64>,
    /// Where the byte stream begins, where sequence numbers change on the way.
    begins: Option<u32>,
}

impl Ends {
    /// See [`super::Call::pair`]; 0 where nobody else reports the call.
    pub fn pair(&self, exchange: &Exchange) -> u64 {
        if !self.observed {
            return 0;
        }
        let other = self.other.unwrap_or(self.cookie);
        let sequence = exchange.sequence.wrapping_sub(self.begins.unwrap_or(0));
        let (low, high) = (self.cookie.min(other), self.cookie.max(other));
        mix(mix(mix(low) ^ high) ^ u64::from(sequence)).max(1)
    }
}

/// Who is on the other side.
enum Far<'a> {
    /// A socket of this host; `through` a hop or not.
    Socket { cookie: u64, connection: &'a Connection, through: bool },
    /// Nobody of this host, seen from this connection (a hop's, or one's own).
    Remote(&'a Connection),
    /// Behind a hop that says where it leads, by way of this connection of the hop's.
    Target(&'a Connection, SocketAddr),
    /// Behind a hop, and not known.
    Hidden,
    /// Behind a mesh's proxy.
    Proxied,
}

impl Attributor {
    /// A call of a settled connection.
    pub(super) fn call(
        &self,
        connection: &Connection,
        exchange: Box<Exchange>,
        passed: (Option<Arc<Passage>>, Option<Arc<Identity>>),
        routes: &mut Routes,
    ) -> Call {
        let (passage, client) = passed;
        let ends = self.ends(exchange.socket, connection, exchange.side, client);
        let (server_address, server_port) = match &connection.authority {
            Some((_, host, port)) => (Arc::clone(host), *port),
            None => (Arc::from(""), 0),
        };
        Call {
            route: routes.of_call(&ends.server.identity.name, &exchange),
            pair: ends.pair(&exchange),
            client: ends.client,
            server: ends.server,
            server_address,
            server_port,
            peer_observed: ends.observed,
            service: connection.service.clone(),
            passes_waypoint: connection.passes_waypoint,
            passage,
            through: None,
            exchange,
        }
    }

    /// A call of a socket that was never announced, or that is forgotten.
    #[cold]
    pub(super) fn stranger(&self, exchange: Box<Exchange>, routes: &mut Routes) -> Call {
        let (host, server_port) = authority::split(exchange.authority.as_str()).unwrap_or_default();
        let (client, server) = (self.nobody(), self.nobody());
        let route = routes.of_call(&server.identity.name, &exchange);
        let (server_address, peer_observed, pair, passage) = (host.into(), false, 0, None);
        Call {
            exchange,
            client,
            server,
            route,
            server_address,
            server_port,
            peer_observed,
            pair,
            service: None,
            passes_waypoint: false,
            passage,
            through: None,
        }
    }

    fn nobody(&self) -> Party {
        Party { identity: self.identities.unknown(), endpoint: None, pid: 0 }
    }

    /// `client`: who is behind the proxy of a mesh that hides it, if this is one call's.
    pub(super) fn ends(
        &self,
        cookie: u64,
        connection: &Connection,
        side: Side,
        client: Option<Arc<Identity>>,
    ) -> Ends {
        let far = self.far(cookie, connection, side);
        let (mut observed, mut other, mut begins) = (false, None, None);
        let peer = match far {
            Far::Socket { cookie: far, connection: peer, through } => {
                (observed, other) = (true, Some(far));
                begins = connection.first_seen.filter(|_| through);
                party(peer)
            }
            Far::Remote(seen) => Party {
                identity: Arc::clone(&seen.remote),
                endpoint: seen.remotes().last(),
                pid: 0,
            },
            Far::Target(hop, target) => {
                let server = self.servers.peek(&target);
                // Its own socket reports the call as well, though which one is not known.
                observed = server.is_some();
                let identity = server
                    .or(hop.beyond.as_ref())
                    .map_or_else(|| self.identities.unknown(), Arc::clone);
                Party { identity, endpoint: Some(target), pid: 0 }
            }
            Far::Proxied if side == Side::Server && hides_client(connection) => {
                let client = client.or_else(|| connection.behind.only().map(Arc::clone));
                client.map_or_else(
                    || self.nobody(),
                    |identity| Party { identity, endpoint: None, pid: 0 },
                )
            }
            Far::Proxied => Party {
                identity: Arc::clone(&connection.remote),
                endpoint: connection.remotes().last(),
                pid: 0,
            },
            Far::Hidden if side == Side::Client => self.nobody(),
            Far::Hidden => self.hidden(cookie, connection).unwrap_or_else(|| self.nobody()),
        };
        let (client, server) = match side {
            Side::Client => (party(connection), peer),
            Side::Server => (peer, party(connection)),
        };
        Ends { client, server, observed, cookie, other, begins }
    }

    fn far<'a>(&'a self, cookie: u64, connection: &'a Connection, side: Side) -> Far<'a> {
        let Some((peer, seen)) = self.peer(cookie, connection) else {
            return Far::Remote(connection);
        };
        if seen.proxy.is_some() {
            return Far::Proxied;
        }
        let Some(hop) = seen.hop.as_deref() else {
            return Far::Socket { cookie: peer, connection: seen, through: false };
        };
        let partner =
            seen.partner.and_then(|partner| Some((partner, self.connections.get(partner)?)));
        let Some((partner, onwards)) = partner else {
            return match (side, hop.target) {
                (Side::Client, Some(target)) => Far::Target(seen, target),
                _ => Far::Hidden,
            };
        };
        match self.peer(partner, onwards) {
            Some((_, end)) if end.is_passed_on() => Far::Hidden,
            Some((end, connection)) => Far::Socket { cookie: end, connection, through: true },
            None => match (side, hop.target) {
                (Side::Client, Some(target)) => Far::Target(seen, target),
                _ => Far::Remote(onwards),
            },
        }
    }

    fn peer<'a>(
        &'a self,
        cookie: u64,
        connection: &'a Connection,
    ) -> Option<(u64, &'a Connection)> {
        let peer = join::peer(&self.connections, cookie, connection)?;
        Some((peer, self.connections.get(peer)?))
    }

    /// The client behind a hop where several may be it, if all of them are the same workload.
    fn hidden(&self, cookie: u64, connection: &Connection) -> Option<Party> {
        let (_, hop) = self.peer(cookie, connection)?;
        let mut identity: Option<&Arc<Identity>> = None;
        for accepted in self.hops.accepted(hop.owner.pid) {
            let seen = self.connections.get(accepted)?;
            if !may_lead(seen, hop) {
                continue;
            }
            let client =
                self.peer(accepted, seen).map_or(&seen.remote, |(_, client)| &client.identity);
            if identity.is_some_and(|known| !Arc::ptr_eq(known, client)) {
                return None;
            }
            identity = Some(client);
        }
        Some(Party { identity: Arc::clone(identity?), endpoint: None, pid: 0 })
    }

    /// Takes down `server.address` and `server.port`: the authority that the client asked
    /// for, else the address that it asked for, else the server's own.
    pub(super) fn note_authority(&mut self, exchange: &Exchange) {
        let Some(connection) = self.connections.peek_mut(exchange.socket) else { return };
        let end = match exchange.side {
            Side::Client => connection.remotes().next(),
            Side::Server => connection.local(),
        };
        let (host, port) = match (authority::split(exchange.authority.as_str()), end) {
            (Some(named), _) => named,
            (None, Some(end)) => (end.ip().to_string(), end.port()),
            (None, None) => (String::new(), 0),
        };
        let host = match self.hosts.get_key_value(host.as_str()) {
            Some((known, ())) => Arc::clone(known),
            None => {
                let host = Arc::<str>::from(host);
                self.hosts.push(Arc::clone(&host), ());
                host
            }
        };
        connection.authority = Some((exchange.authority.clone(), host, port));
    }
}

fn party(connection: &Connection) -> Party {
    Party {
        identity: Arc::clone(&connection.identity),
        endpoint: connection.local(),
        pid: connection.owner.pid,
    }
}

/// Connections of hops by process, in the order in which they were opened, for as long
/// as their other half is not known.
#[derive(Debug, Default)]
pub(super) struct Hops {
    accepted: HashMap<u32, Vec<u64>, ahash::RandomState>,
    dialled: HashMap<u32, Vec<u64>, ahash::RandomState>,
    waiting: usize,
    evicted: u64,
}

impl Hops {
    /// A connection was opened; if a hop's, its other half is joined where only one can be it.
    pub fn opened(&mut self, cookie: u64, connections: &mut Connections) {
        let Some(connection) = connections.get(cookie) else { return };
        let (Some(_), Some(role)) = (connection.hop.as_ref(), connection.role) else { return };
        if self.waiting >= HOPS {
            self.evicted += 1;
            return;
        }
        let pid = connection.owner.pid;
        self.waiting += 1;
        match role {
            Side::Server => self.accepted.entry(pid).or_default().push(cookie),
            Side::Client => {
                self.dialled.entry(pid).or_default().push(cookie);
                self.settle(pid, connections, |_, _| true);
            }
        }
    }

    /// The first bytes passed a hop's connection: the other half carries the same ones.
    pub fn passed(&mut self, cookie: u64, connections: &mut Connections) {
        let Some(connection) = connections.get(cookie) else { return };
        if connection.partner.is_none() && connection.role == Some(Side::Client) {
            let pid = connection.owner.pid;
            self.settle(pid, connections, |accepted, dialled| {
                dialled.first_bytes.is_some() && accepted.first_bytes.is_some()
            });
        }
    }

    /// Joins every dialled connection of `pid` that exactly one accepted one may lead to.
    fn settle(
        &mut self,
        pid: u32,
        connections: &mut Connections,
        agree: impl Fn(&Connection, &Connection) -> bool,
    ) {
        for dialled in self.dialled.get(&pid).cloned().unwrap_or_default() {
            let Some(onwards) = connections.get(dialled) else { continue };
            let mut fitting = self.accepted(pid).filter(|accepted| {
                connections
                    .get(*accepted)
                    .is_some_and(|seen| may_lead(seen, onwards) && agree(seen, onwards))
            });
            let (Some(accepted), None) = (fitting.next(), fitting.next()) else { continue };
            drop(fitting);
            for (one, other) in [(accepted, dialled), (dialled, accepted)] {
                if let Some(connection) = connections.get_mut(one) {
                    connection.partner = Some(other);
                }
            }
            remove(&mut self.accepted, pid, accepted);
            remove(&mut self.dialled, pid, dialled);
            self.waiting = self.waiting.saturating_sub(2);
        }
    }

    /// Accepted connections of `pid` whose other half is not known.
    pub fn accepted(&self, pid: u32) -> impl Iterator<Item = u64> + use<'_> {
        self.accepted.get(&pid).into_iter().flatten().copied()
    }

    /// Forgets connections that are forgotten.
    pub fn sweep(&mut self, connections: &Connections) {
        if self.waiting == 0 {
            return;
        }
        for waiting in [&mut self.accepted, &mut self.dialled] {
            waiting.retain(|_, cookies| {
                cookies.retain(|cookie| connections.get(*cookie).is_some());
                !cookies.is_empty()
            });
        }
        self.waiting = self.accepted.values().chain(self.dialled.values()).map(Vec::len).sum();
    }

    /// Connections waiting, and the bound.
    pub fn occupancy(&self) -> (usize, usize) {
        (self.waiting, HOPS)
    }

    /// Connections that found no room to wait in.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

fn remove(waiting: &mut HashMap<u32, Vec<u64>, ahash::RandomState>, pid: u32, cookie: u64) {
    if let Some(cookies) = waiting.get_mut(&pid) {
        cookies.retain(|waiting| *waiting != cookie);
        if cookies.is_empty() {
            waiting.remove(&pid);
        }
    }
}

/// Whether a hop's accepted connection may continue in one that it dialled.
fn may_lead(accepted: &Connection, dialled: &Connection) -> bool {
    let onwards = accepted.opened_ns <= dialled.opened_ns
        && dialled.opened_ns - accepted.opened_ns <= ONWARDS_NS
        && accepted.closed_ns.is_none_or(|end| end >= dialled.opened_ns);
    let bytes = match (&accepted.first_bytes, &dialled.first_bytes) {
        (Some(one), Some(other)) => are_same(one, other),
        // What was passed on must have come in before.
        (None, Some(_)) => false,
        _ => true,
    };
    let target = accepted.hop.as_ref().and_then(|hop| hop.target);
    let leads = target.is_none_or(|target| socket_address(&dialled.tuple.1) == Some(target));
    onwards && bytes && leads
}

/// Whether two pieces of a stream begin alike: a hop may cut the bytes elsewhere.
fn are_same(one: &[u8], other: &[u8]) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// Spreads the bits of a number (the finaliser of splitmix64).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
