//! Which two sockets of this host are the ends of one connection.
//!
//! Addresses alone join only where they cannot mean anything else: one socket on each
//! side, together in time, in one namespace where the address exists in each. Translated
//! addresses are the other end's where this node's connection tracking says so. Whatever
//! is ambiguous, or translated elsewhere, waits for the sequence numbers of a request's
//! first byte: both ends see the same ones, and no other connection does.

use std::num::NonZeroUsize;

use lru::LruCache;

use super::connection::{Connection, Connections, Tuple, socket_address};

/// Both ends of a connection are established within this time, lost handshake segments included.
const TOGETHER_NS: u64 = 5_000_000_000;
/// Requests of one connection that are offered; a far end on another host never answers.
pub const OFFERS: u8 = 4;

/// The other end's socket: confirmed, or the only one that the addresses allow.
#[must_use]
pub fn peer(connections: &Connections, cookie: u64, connection: &Connection) -> Option<u64> {
    if connection.peer.is_some() {
        return connection.peer;
    }
    let mut found = None;
    for tuple in connection.tuples() {
        let rival = connections.known_by(&tuple).iter().any(|other| {
            *other != cookie
                && connections
                    .get(*other)
                    .is_some_and(|other| are_rivals(connection, other, &tuple))
        });
        if rival {
            return None;
        }
        for other in connections.known_by(&(tuple.1, tuple.0)) {
            let fits = *other != cookie
                && found != Some(*other)
                && connections.get(*other).is_some_and(|other| fit(connection, other, &tuple));
            if fits && found.replace(*other).is_some() {
                return None;
            }
        }
    }
    let other = found.and_then(|found| connections.get(found))?;
    // The choice must be the only one from the other end, too.
    let contested = other.tuples().any(|tuple| {
        connections.known_by(&(tuple.1, tuple.0)).iter().any(|third| {
            *third != cookie
                && connections.get(*third).is_some_and(|third| fit(other, third, &tuple))
        })
    });
    if contested { None } else { found }
}

/// Whether another socket of this host knows itself by `tuple` at the same time, in whatever
/// namespace: what is said of the tuple may be said of the other one.
#[must_use]
pub fn is_shared(
    connections: &Connections,
    cookie: u64,
    connection: &Connection,
    tuple: &Tuple,
) -> bool {
    connections.known_by(tuple).iter().any(|other| {
        *other != cookie && connections.get(*other).is_some_and(|other| overlap(connection, other))
    })
}

/// Whether the two may be ends of one connection with `tuple` seen from `one`.
fn fit(one: &Connection, other: &Connection, tuple: &Tuple) -> bool {
    let roles = one.role.is_none() || other.role.is_none() || one.role != other.role;
    let free = other.peer.is_none();
    // The first request differs: two connections, not one.
    let same_start = match (one.first_request, other.first_request) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    };
    roles
        && free
        && same_start
        && !one.failed
        && !other.failed
        && is_reachable(one, other, tuple)
        && together(one, other)
}

/// Two sockets that know themselves by the same tuple at the same time.
fn are_rivals(one: &Connection, other: &Connection, tuple: &Tuple) -> bool {
    other.peer.is_none() && is_reachable(one, other, tuple) && overlap(one, other)
}

/// A loopback address, or one spoken to from itself, exists in each namespace anew; the
/// latter not where the node's own address stands for a server in another namespace.
fn is_reachable(one: &Connection, other: &Connection, tuple: &Tuple) -> bool {
    let is_translated = [(one, *tuple), (other, (tuple.1, tuple.0))]
        .iter()
        .any(|(end, tuple)| end.translated.as_deref() == Some(tuple));
    let within = (tuple.0.address == tuple.1.address && !is_translated)
        || socket_address(&tuple.0).is_some_and(|address| address.ip().is_loopback());
    !within || one.netns == 0 || other.netns == 0 || one.netns == other.netns
}

fn overlap(one: &Connection, other: &Connection) -> bool {
    one.closed_ns.is_none_or(|end| end >= other.opened_ns)
        && other.closed_ns.is_none_or(|end| end >= one.opened_ns)
}

fn together(one: &Connection, other: &Connection) -> bool {
    let near = one.opened_ns.abs_diff(other.opened_ns) <= TOGETHER_NS;
    overlap(one, other) && (one.late || other.late || near)
}

/// First bytes of requests that one end has shown and the other not yet.
#[derive(Debug)]
pub struct Sequences {
    waiting: LruCache<(u32, u32), Waiting, ahash::RandomState>,
    evicted: u64,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    cookie: u64,
    sends: bool,
    time_ns: u64,
}

/// One end's view of a request's first byte.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// The socket.
    pub cookie: u64,
    /// TCP sequence and acknowledgement numbers.
    pub key: (u32, u32),
    /// The socket sends the request.
    pub sends: bool,
    /// When it passed.
    pub time_ns: u64,
}

impl Sequences {
    /// At most `bound` requests.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        let bound = NonZeroUsize::new(bound).unwrap_or(NonZeroUsize::MIN);
        Self { waiting: LruCache::with_hasher(bound, ahash::RandomState::new()), evicted: 0 }
    }

    /// The socket that showed the same byte from the other end, if one did; otherwise
    /// this one waits.
    pub fn offer(&mut self, offer: Offer) -> Option<u64> {
        if let Some(other) = self.waiting.peek(&offer.key) {
            let is_other_end = other.cookie != offer.cookie && other.sends != offer.sends;
            if is_other_end && other.time_ns.abs_diff(offer.time_ns) <= TOGETHER_NS {
                return self.waiting.pop(&offer.key).map(|other| other.cookie);
            }
        }
        let Offer { cookie, key, sends, time_ns } = offer;
        let old = self.waiting.push(key, Waiting { cookie, sends, time_ns });
        // What nobody answered in time only made room.
        let fresh = |(_, old): ((u32, u32), Waiting)| time_ns.abs_diff(old.time_ns) <= TOGETHER_NS;
        self.evicted += u64::from(old.filter(|(old, _)| *old != key).is_some_and(fresh));
        None
    }

    /// Requests waiting, and the bound.
    #[must_use]
    pub fn occupancy(&self) -> (usize, usize) {
        (self.waiting.len(), self.waiting.cap().get())
    }

    /// Requests that had to go before the other end could show itself.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}
