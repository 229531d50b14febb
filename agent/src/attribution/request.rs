//! What the beginnings of requests tell of a connection: which end it is, which other
//! socket carries the same bytes, and where a hop passes them on.

use meshtap_ebpf::event::{self, Item};

use super::connection::Connection;
use super::join::{OFFERS, Offer};
use super::{Attributor, edge};
use crate::protocol::Side;
use crate::ring_buffer::Items;

/// The first bytes of a request, as they passed a socket.
struct Beginning<'a> {
    cookie: u64,
    time_ns: u64,
    /// The socket sends it.
    sends: bool,
    /// TCP sequence and acknowledgement numbers.
    key: (u32, u32),
    /// It is the first one of its connection.
    is_first: bool,
    bytes: &'a [u8],
}

impl Attributor {
    /// Takes a message of HTTP/1.
    pub(super) fn head(&mut self, record: &event::Head, bytes: &[u8]) {
        let header = &record.header;
        if header.flags & event::HEAD_FIRST == 0 || header.flags & event::HEAD_RESPONSE != 0 {
            return;
        }
        let sends = header.direction == event::EGRESS;
        let Some(connection) = self.connections.get_mut(header.cookie) else {
            self.strangers += 1;
            return;
        };
        connection.role = connection.role.or(Some(asker(sends)));
        self.begun(&Beginning {
            cookie: header.cookie,
            time_ns: header.time_ns,
            sends,
            key: (record.sequence, record.acknowledgement),
            is_first: record.number == 0 && record.epoch == 0,
            bytes,
        });
    }

    /// Takes frames of HTTP/2. Headers in the direction of the requests begin one; where it
    /// is not known which that is, either direction's tell the two ends of a connection.
    pub(super) fn frames(&mut self, record: &event::Frames, bytes: &[u8]) {
        let header = &record.header;
        let sends = header.direction == event::EGRESS;
        let Some(connection) = self.connections.get_mut(header.cookie) else {
            self.strangers += 1;
            return;
        };
        if header.flags & event::FRAMES_PREFACE != 0 {
            connection.role = connection.role.or(Some(asker(sends)));
        }
        let asks = connection.role.map(|role| role == asker(sends));
        if asks == Some(false) || knows_enough(connection) {
            return;
        }
        for (item, bytes) in Items::new(bytes).map_while(Result::ok) {
            if item.kind != event::FRAME_HEADERS || item.offset != 0 {
                continue;
            }
            let Item { sequence, stream, .. } = *item;
            let beginning = Beginning {
                cookie: header.cookie,
                time_ns: header.time_ns,
                sends,
                key: (sequence, record.acknowledgement),
                is_first: stream == 1,
                bytes,
            };
            if asks.is_some() { self.begun(&beginning) } else { self.offer(&beginning) }
        }
    }

    /// Whether no further request of a connection can tell more of it than those before.
    #[must_use]
    pub fn knows_enough(&self, socket: u64) -> bool {
        self.connections.get(socket).is_some_and(|connection| {
            connection.role.is_some() && !connection.is_passed_on() && knows_enough(connection)
        })
    }

    fn begun(&mut self, beginning: &Beginning<'_>) {
        let Some(connection) = self.connections.get_mut(beginning.cookie) else { return };
        let (sequence, _) = beginning.key;
        if connection.proxy.is_some() && connection.first_seen.is_none() {
            // It is in plain text, then.
            self.inbound.changed(connection.owner.pid);
        }
        connection.first_seen = connection.first_seen.or(Some(sequence));
        if beginning.is_first && !connection.late && connection.first_request.is_none() {
            connection.first_request = Some(sequence);
        }
        if connection.hop.is_some() && connection.first_bytes.is_none() {
            let bytes = beginning.bytes;
            let first = bytes.get(..edge::FIRST_BYTES).unwrap_or(bytes);
            connection.first_bytes = Some(first.into());
            self.hops.passed(beginning.cookie, &mut self.connections);
        }
        self.offer(beginning);
    }

    /// Looks for the other end, which carries the same bytes.
    fn offer(&mut self, beginning: &Beginning<'_>) {
        let Beginning { cookie, key, sends, time_ns, .. } = *beginning;
        let Some(connection) = self.connections.get_mut(cookie) else { return };
        if connection.peer.is_some() || connection.offered >= OFFERS {
            return;
        }
        connection.offered += 1;
        let Some(other) = self.sequences.offer(Offer { cookie, key, sends, time_ns }) else {
            return;
        };
        let Some(peer) = self.connections.get_mut(other) else { return };
        if peer.peer.is_none() {
            peer.peer = Some(cookie);
            if let Some(connection) = self.connections.get_mut(cookie) {
                connection.peer = Some(other);
            }
        }
    }
}

/// Whether no request of the connection can tell more.
fn knows_enough(connection: &Connection) -> bool {
    let is_joined = connection.peer.is_some() || connection.offered >= OFFERS;
    let is_seen = connection.first_seen.is_some() || connection.role.is_none();
    is_joined && is_seen && (connection.hop.is_none() || connection.first_bytes.is_some())
}

/// Which end a socket is on which a request passes.
fn asker(sends: bool) -> Side {
    if sends { Side::Client } else { Side::Server }
}
