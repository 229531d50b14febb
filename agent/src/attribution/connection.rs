//! The connections of this host's sockets, by socket cookie and by address tuple.
//!
//! **Bounded**: beyond the bound the longest silent connection is forgotten and
//! reported as ended, so that no gauge keeps what nobody remembers.

mod known;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use lru::LruCache;
use meshtap_ebpf::event::{self, Endpoint, Owner};

use known::Known;

use super::call::Identity;
use super::cluster::Service;
use super::hop::Hop;
use super::mesh::Proxy;
use super::mesh::passage::Behind;
use super::translation::Inquiry;
use crate::protocol::{Side, Text};
use crate::ring_buffer::ByCookie;

/// Addresses of one end and the other, as packets or a socket carry them.
pub type Tuple = (Endpoint, Endpoint);

/// One socket's connection.
#[derive(Debug)]
pub struct Connection {
    /// Established, or first seen by a late agent.
    pub opened_ns: u64,
    /// When its end was seen.
    pub closed_ns: Option<u64>,
    /// Older than the agent.
    pub late: bool,
    /// Never established.
    pub failed: bool,
    /// Which end this socket is, as far as known.
    pub role: Option<Side>,
    /// The socket's own addresses: this end, the other.
    pub tuple: Tuple,
    /// The packets' addresses where they differ.
    pub redirected: Option<Box<Tuple>>,
    /// As the other end knows the two addresses, where this node translates them.
    pub translated: Option<Box<Tuple>>,
    /// How far this node was asked about that.
    pub inquiry: Inquiry,
    /// What the program asked for.
    pub asked: Endpoint,
    /// v2 cgroup of the socket.
    pub cgroup: u64,
    /// Network namespace cookie; 0: not known.
    pub netns: u64,
    /// From SYN to established; 0: not known.
    pub connect_ns: u64,
    /// The process, and when it held the socket.
    pub owner: Owner,
    /// See [`Connection::owner`].
    pub owner_ns: u64,
    /// The owner accepted or took over the socket, rather than made its listener.
    pub accepted: bool,
    /// Who this end is.
    pub identity: Arc<Identity>,
    /// Who the other end is if no socket of this host is.
    pub remote: Arc<Identity>,
    /// The service of Kubernetes that was asked for.
    pub service: Option<Arc<Service>>,
    /// What is sent there passes a waypoint: see [`super::Call::passes_waypoint`].
    pub passes_waypoint: bool,
    /// Who the hop's target is, where this socket is a hop's accepted one.
    pub beyond: Option<Arc<Identity>>,
    /// This end is in a pod that Kubernetes has not told of.
    pub awaits_pod: bool,
    /// The owner only passes the connection on.
    pub hop: Option<Box<Hop>>,
    /// The owner is a mesh's proxy.
    pub proxy: Option<Proxy>,
    /// The clients that a proxy at the other end has brought.
    pub behind: Behind,
    /// The hop's other socket.
    pub partner: Option<u64>,
    /// The first bytes of the first request that a hop passed on.
    pub first_bytes: Option<Box<[u8]>>,
    /// The other end's socket, confirmed by sequence numbers.
    pub peer: Option<u64>,
    /// Sequence number of the connection's first request.
    pub first_request: Option<u32>,
    /// Sequence number of the first request that was seen: that of the connection, unless it is late.
    pub first_seen: Option<u32>,
    /// Requests that were offered to the join so far.
    pub offered: u8,
    /// What [`Connection::identity`] and [`Connection::remote`] rest on.
    pub revisions: Revisions,
    /// Figures at the last report; `None`: a late connection whose past is not known.
    pub figures: Option<Figures>,
    /// Its beginning was reported.
    pub reported: bool,
    /// The authority that was asked last, taken apart.
    pub authority: Option<(Text, Arc<str>, u16)>,
}

/// States of knowledge: names that rest on an older one may be known better now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revisions {
    /// Processes, for this end.
    pub processes: u64,
    /// Kubernetes' objects, for this end.
    pub pods: u64,
    /// DNS answers, for the other end.
    pub names: u64,
    /// Kubernetes' objects, for the other end.
    pub addresses: u64,
    /// What namespaces say of waypoints.
    pub waypoints: u64,
}

/// TCP figures since a connection began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Payload bytes received.
    pub received: u64,
    /// Payload bytes acknowledged.
    pub acked: u64,
    /// Segments sent again.
    pub retransmits: u32,
}

impl Connection {
    /// A connection as its first record describes it; nobody is named yet.
    #[must_use]
    pub fn new(record: &event::Opened, unknown: &Arc<Identity>) -> Self {
        let late = record.header.flags & event::OPENED_LATE != 0;
        Self {
            opened_ns: record.header.time_ns,
            closed_ns: None,
            late,
            failed: record.header.flags & event::OPENED_FAILED != 0,
            role: match record.role {
                event::ROLE_CLIENT => Some(Side::Client),
                event::ROLE_SERVER => Some(Side::Server),
                _ => None,
            },
            tuple: (record.local, record.remote),
            redirected: None,
            translated: None,
            inquiry: Inquiry::Due,
            asked: record.asked,
            cgroup: record.cgroup,
            netns: record.netns,
            connect_ns: record.connect_ns,
            owner: record.owner,
            owner_ns: record.header.time_ns,
            accepted: false,
            identity: Arc::clone(unknown),
            remote: Arc::clone(unknown),
            service: None,
            passes_waypoint: false,
            beyond: None,
            awaits_pod: false,
            hop: None,
            proxy: None,
            behind: Behind::default(),
            partner: None,
            first_bytes: None,
            peer: None,
            first_request: None,
            first_seen: None,
            offered: 0,
            revisions: Revisions::default(),
            figures: (!late).then(Figures::default),
            reported: false,
            authority: None,
        }
    }

    /// The owner only passes on what applications say.
    #[must_use]
    pub fn is_passed_on(&self) -> bool {
        self.hop.is_some() || self.proxy.is_some()
    }

    /// This end's address.
    #[must_use]
    pub fn local(&self) -> Option<SocketAddr> {
        socket_address(&self.tuple.0)
    }

    /// Where the other end is, each address once. Of a server: what was asked for, what
    /// the socket says, and last its own address, where this node translates that. Of a
    /// client that this node translates its own address only: the socket's is the node's.
    pub fn remotes(&self) -> impl Iterator<Item = SocketAddr> + use<> {
        let accepts = self.role == Some(Side::Server);
        let own = self.translated.as_deref().and_then(|(_, own)| socket_address(own));
        let asked = socket_address(&self.asked).filter(|_| !accepts);
        let remote = socket_address(&self.tuple.1).filter(|_| !accepts || own.is_none());
        let remote = remote.filter(|remote| Some(*remote) != asked);
        let own = own.filter(|own| Some(*own) != asked && Some(*own) != remote);
        asked.into_iter().chain(remote).chain(own)
    }

    /// The tuples under which the other end may know this one.
    pub fn tuples(&self) -> impl Iterator<Item = Tuple> + use<> {
        let others = [&self.redirected, &self.translated].map(|tuple| tuple.as_deref().copied());
        std::iter::once(self.tuple).chain(others.into_iter().flatten())
    }
}

/// An endpoint of a record as an address; `None` where it is all zero.
#[must_use]
pub fn socket_address(endpoint: &Endpoint) -> Option<SocketAddr> {
    if *endpoint == Endpoint::default() {
        return None;
    }
    Some(SocketAddr::new(IpAddr::from(endpoint.address).to_canonical(), endpoint.port))
}

/// An address as the records have it.
#[must_use]
pub fn endpoint(address: SocketAddr) -> Endpoint {
    let octets = match address.ip() {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    Endpoint { address: octets, port: address.port(), ..Endpoint::default() }
}

/// One of this many connections may be an ended one. Under churn what ended makes room
/// early, so that it neither fills the memory nor pushes out what lives.
const LIVING_PER_ENDED: usize = 8;

/// Every connection that is remembered.
#[derive(Debug)]
pub struct Connections {
    sockets: LruCache<u64, Connection, ByCookie>,
    tuples: HashMap<Tuple, Known, ahash::RandomState>,
    closed: VecDeque<(u64, u64)>,
    bound: usize,
    evicted: u64,
}

impl Connections {
    /// At most `bound` connections.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self {
            // It grows as connections come; one with a bound would take all its room at once.
            sockets: LruCache::unbounded_with_hasher(ByCookie::default()),
            bound: bound.max(1),
            tuples: HashMap::default(),
            closed: VecDeque::new(),
            evicted: 0,
        }
    }

    /// Whether another connection would push one out, and which.
    #[must_use]
    pub fn next_to_go(&self) -> Option<u64> {
        (self.sockets.len() >= self.bound)
            .then(|| self.sockets.peek_lru().map(|(cookie, _)| *cookie))
            .flatten()
    }

    /// Adds a connection. A cookie is never given twice, so a second record replaces the first.
    pub fn insert(&mut self, cookie: u64, connection: Connection) {
        for tuple in connection.tuples() {
            self.index(tuple, cookie);
        }
        self.sockets.put(cookie, connection);
        if self.sockets.len() <= self.bound {
            return;
        }
        if let Some((old, connection)) = self.sockets.pop_lru() {
            self.evicted += u64::from(connection.closed_ns.is_none());
            self.unindex(old, &connection);
        }
    }

    /// A socket is no longer silent.
    pub fn hear(&mut self, cookie: u64) {
        self.sockets.promote(&cookie);
    }

    /// The connection of a socket, which thereby is no longer silent.
    pub fn get_mut(&mut self, cookie: u64) -> Option<&mut Connection> {
        self.sockets.get_mut(&cookie)
    }

    /// The connection of a socket, as silent as it is.
    pub fn peek_mut(&mut self, cookie: u64) -> Option<&mut Connection> {
        self.sockets.peek_mut(&cookie)
    }

    /// The connection of a socket.
    #[must_use]
    pub fn get(&self, cookie: u64) -> Option<&Connection> {
        self.sockets.peek(&cookie)
    }

    /// Packets carry `tuple`.
    pub fn redirect(&mut self, cookie: u64, tuple: Tuple) {
        let Some(connection) = self.sockets.peek_mut(&cookie) else { return };
        let old = connection.redirected.replace(Box::new(tuple)).map(|old| *old);
        if old == Some(tuple) || connection.tuple == tuple {
            return;
        }
        if let Some(old) = old {
            self.remove(old, cookie);
        }
        self.index(tuple, cookie);
    }

    /// The other end knows the connection by `tuple`, seen from this end.
    pub fn translate(&mut self, cookie: u64, tuple: Tuple) {
        let Some(connection) = self.sockets.peek_mut(&cookie) else { return };
        if connection.translated.is_none() {
            connection.translated = Some(Box::new(tuple));
            self.index(tuple, cookie);
        }
    }

    /// Sockets that know themselves by `tuple`.
    #[must_use]
    pub fn known_by(&self, tuple: &Tuple) -> &[u64] {
        self.tuples.get(tuple).map_or(&[], Known::all)
    }

    /// Marks a connection as ended; [`Connections::sweep`] forgets it.
    pub fn close(&mut self, cookie: u64, now_ns: u64) {
        let Some(connection) = self.sockets.peek_mut(&cookie) else { return };
        if connection.closed_ns.replace(now_ns).is_none() {
            self.closed.push_back((now_ns, cookie));
            if self.closed.len() > self.bound / LIVING_PER_ENDED {
                self.sweep(0);
            }
        }
    }

    /// Forgets what ended before `before_ns`, and more where too much has ended since.
    pub fn sweep(&mut self, before_ns: u64) {
        while let Some(&(closed_ns, cookie)) = self.closed.front() {
            let kept = self.bound / LIVING_PER_ENDED;
            if closed_ns >= before_ns && self.closed.len() <= kept {
                break;
            }
            self.closed.pop_front();
            // One that was pushed out before is no longer there.
            if let Some(connection) = self.sockets.pop(&cookie) {
                self.unindex(cookie, &connection);
            }
        }
    }

    /// Connections held, and the bound.
    #[must_use]
    pub fn occupancy(&self) -> (usize, usize) {
        (self.sockets.len(), self.bound)
    }

    /// Living connections forgotten for want of room.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    fn index(&mut self, tuple: Tuple, cookie: u64) {
        let known = self.tuples.entry(tuple);
        known.and_modify(|known| known.add(cookie)).or_insert(Known::One([cookie]));
    }

    fn unindex(&mut self, cookie: u64, connection: &Connection) {
        for tuple in connection.tuples() {
            self.remove(tuple, cookie);
        }
    }

    fn remove(&mut self, tuple: Tuple, cookie: u64) {
        if let Some(known) = self.tuples.get_mut(&tuple)
            && !known.remove(cookie)
        {
            self.tuples.remove(&tuple);
        }
    }
}
