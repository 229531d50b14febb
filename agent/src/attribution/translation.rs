//! [`Translation`]: the addresses of one connection at both of its ends, where the node
//! between them rewrites them (kube-proxy, docker, any NAT), and when the node is asked.
//!
//! A client knows the Service's address only, and a server behind a masquerade the node's;
//! the node's connection tracking knows both sides. It is asked once a connection, when the
//! first call or report of it is to be named, and only where no socket of this host is
//! known to be the other end. **Bounded** by so many questions a second; what is beyond keeps
//! the address that its socket says until it is its turn, and is counted.
//!
//! Refuses loopback addresses: every network namespace has them, and the node's connection
//! tracking speaks of its own only.

use std::net::{IpAddr, SocketAddr};

use super::connection::{Connection, Tuple, endpoint, socket_address};
use super::{Attributor, join};

/// A connection younger than this may be asked about a second time.
const YOUNG_NS: u64 = 1_000_000_000;

/// One entry of the node's connection tracking; each pair is where packets come from and
/// where they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// As the client sends them.
    pub original: (SocketAddr, SocketAddr),
    /// As the server sends them.
    pub reply: (SocketAddr, SocketAddr),
}

impl Translation {
    /// This end and the other of a socket's connection as the other end knows them. `None`
    /// where that is how the socket knows them itself, and where the entry is not about it.
    #[must_use]
    pub fn beyond(
        &self,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Option<(SocketAddr, SocketAddr)> {
        let (own, other) = match (local, remote) {
            seen if seen == self.original => (self.reply.1, self.reply.0),
            seen if seen == self.reply => (self.original.1, self.original.0),
            _ => return None,
        };
        ((own, other) != (local, remote)).then_some((own, other))
    }
}

/// How far the node was asked about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inquiry {
    /// Not yet.
    Due,
    /// It knew nothing of a connection that is young.
    Repeat,
    /// It said what it knows, or there is nothing to ask.
    Done,
}

/// How many questions were asked this second.
#[derive(Debug)]
pub(super) struct Budget {
    bound: usize,
    second: u64,
    used: usize,
    refused: u64,
}

impl Budget {
    /// At most `bound` a second.
    pub(super) fn new(bound: usize) -> Self {
        Self { bound, second: 0, used: 0, refused: 0 }
    }

    /// Whether another question may be asked now.
    fn take(&mut self, now_ns: u64) -> bool {
        self.renew(now_ns);
        if self.used >= self.bound {
            self.refused += 1;
            return false;
        }
        self.used += 1;
        true
    }

    /// A new second may have begun. Times of records go back a little now and then.
    pub(super) fn renew(&mut self, now_ns: u64) {
        let second = now_ns / 1_000_000_000;
        if second > self.second {
            (self.second, self.used) = (second, 0);
        }
    }

    /// Questions of this second, and the bound.
    pub(super) fn occupancy(&self) -> (usize, usize) {
        (self.used, self.bound)
    }

    /// Questions that were not asked.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }
}

impl Attributor {
    /// Asks the node about a connection's addresses if that is due.
    pub(super) fn inquire(&mut self, cookie: u64, now_ns: u64) {
        let Some(connection) = self.connections.get(cookie) else { return };
        if connection.inquiry == Inquiry::Done {
            return;
        }
        // The entry of a connection that has ended may be another one's by now.
        let is_open = connection.closed_ns.is_none();
        let asks = is_open && join::peer(&self.connections, cookie, connection).is_none();
        let mut seen = if asks { seen_outside(connection) } else { [None; 2] };
        for one in &mut seen {
            *one = one.filter(|(local, remote)| {
                let tuple = (endpoint(*local), endpoint(*remote));
                !join::is_shared(&self.connections, cookie, connection, &tuple)
            });
        }
        let is_young = now_ns.saturating_sub(connection.opened_ns) < YOUNG_NS;
        let again = connection.inquiry == Inquiry::Due && is_young && seen != [None; 2];
        let mut next = if again { Inquiry::Repeat } else { Inquiry::Done };
        let mut beyond = None;
        for (local, remote) in seen.into_iter().flatten() {
            if !self.translations.take(now_ns) {
                return;
            }
            if let Some(entry) = self.host.translation(local, remote) {
                (beyond, next) = (entry.beyond(local, remote), Inquiry::Done);
                break;
            }
        }
        if let Some(connection) = self.connections.peek_mut(cookie) {
            connection.inquiry = next;
        }
        if let Some((own, other)) = beyond {
            self.connections.translate(cookie, (endpoint(own), endpoint(other)));
            self.name_remote(cookie, now_ns);
        }
    }
}

/// The addresses under which packets of a connection may pass the node: the socket's, and
/// those that its own namespace makes of them. None where they stay in that namespace.
fn seen_outside(connection: &Connection) -> [Option<(SocketAddr, SocketAddr)>; 2] {
    let ends = |tuple: &Tuple| socket_address(&tuple.0).zip(socket_address(&tuple.1));
    let tuples = [Some(&connection.tuple), connection.redirected.as_deref()];
    let seen = tuples.map(|tuple| tuple.and_then(ends));
    let stays = seen.iter().flatten().any(|(local, remote)| {
        [local, remote].into_iter().any(|end| is_of_one_namespace(end.ip()))
    });
    if stays { [None; 2] } else { seen }
}

fn is_of_one_namespace(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local(),
    }
}
