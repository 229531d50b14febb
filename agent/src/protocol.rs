//! Stage 2: events become [`Exchange`]s, a request with its answer as one end saw them.
//!
//! Pure: no clock, no input or output; every time comes with the events. Refuses to
//! guess: **every request that is known to have begun becomes exactly one exchange or
//! one lost call**, and no exchange has a status that did not stand in an answer of
//! the same number and epoch. How calls end is told in [`connection`].

pub mod agent_class;
pub mod connection;
pub mod exchange;
mod heads;
pub mod http1;
mod http2;
pub mod lost;
pub mod relayed;
mod request;
pub mod route;
pub mod rpc;
mod tcp;
pub mod trace_context;

use lru::LruCache;
use meshtap_ebpf::{event, limits};

pub use exchange::{
    Cause, ConnectionBytes, Exchange, Protocol, Rpc, RpcSystem, Side, StreamError, Text,
};
pub use lost::LostCalls;
pub use route::{RouteSettings, Routes};

use crate::kernel::repeats::Keys;
use crate::ring_buffer::{ByCookie, Event};
use connection::{Connection, Forgotten, Pass};
use exchange::rpc::Progress;
use heads::Heads;

/// Connections that were forgotten with open requests and of which the numbers are
/// kept: if they are heard of again, nothing is counted twice. The oldest go first.
const FORGOTTEN: usize = 65_536;

/// Exchanges that are kept for their memory: about as many as end in one batch of events.
const SPARE: usize = 512;
/// Bytes of heads that are kept since the kernel half may count their calls: of 8,192.
const TEMPLATES: usize = 8 << 20;

/// What [`Protocols`] may hold. Reaching a bound costs calls, which are counted as lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtocolSettings {
    /// Connections that speak HTTP; beyond it the one that was silent for longest is forgotten.
    pub connections: usize,
    /// Open requests of all connections; beyond it the connection that was silent for longest is forgotten.
    pub requests: usize,
    /// Open requests of one connection; beyond it further ones are lost calls.
    pub requests_per_connection: usize,
    /// Bytes of one request's head; what exceeds it is cut.
    pub head_bytes: usize,
    /// Bytes of all heads of which only a part has come; what exceeds it is cut.
    pub head_bytes_total: usize,
    /// Silence after which a connection without open requests is forgotten.
    pub idle_ns: u64,
    /// Silence after which a connection is forgotten even if requests are open: its end was missed.
    pub pending_ns: u64,
    /// When all of the kernel's hooks were attached. A connection that was opened before is as
    /// one older than the agent: half of its first messages may have passed unseen.
    pub complete_ns: u64,
    /// Calls that are open for longer report what they did, each time this has gone by.
    pub report_ns: u64,
    /// What heads are hashed with that the kernel half may count, where it counts.
    pub keys: Option<Keys>,
}

impl Default for ProtocolSettings {
    fn default() -> Self {
        Self {
            connections: 65_536,
            requests: 65_536,
            requests_per_connection: 4_096,
            head_bytes: limits::HEAD_PREFIX_MAX as usize,
            head_bytes_total: 16 << 20,
            idle_ns: 15 * 60 * 1_000_000_000,
            pending_ns: 2 * 60 * 60 * 1_000_000_000,
            complete_ns: 0,
            report_ns: 10_000_000_000,
            keys: None,
        }
    }
}

/// Where [`Protocols`] puts what it found; kept by the caller, emptied between batches.
#[derive(Debug, Default)]
pub struct Output {
    /// Calls that ended, in the order of their ends; boxed, since they move on as they are.
    pub exchanges: Vec<Box<Exchange>>,
    /// Calls that were there and cannot be told.
    pub lost: Vec<LostCalls>,
    /// What calls did that go on.
    pub progress: Vec<Progress>,
}

impl Output {
    /// How much there is.
    fn mark(&self) -> [usize; 3] {
        [self.exchanges.len(), self.lost.len(), self.progress.len()]
    }

    /// Has what came since a mark, all of one connection, stand for 2^`exponent` of its kind.
    fn weigh(&mut self, mark: [usize; 3], exponent: u8) {
        let weight = 1_u32 << exponent.min(31);
        let [exchanges, lost, progress] = mark;
        for exchange in self.exchanges.iter_mut().skip(exchanges) {
            exchange.weight = weight;
        }
        for lost in self.lost.iter_mut().skip(lost) {
            lost.calls = lost.calls.saturating_mul(weight);
        }
        for progress in self.progress.iter_mut().skip(progress) {
            progress.exchange.weight = weight;
        }
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.exchanges.clear();
        self.lost.clear();
        self.progress.clear();
    }
}

/// How full a bounded thing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// Held now.
    pub used: usize,
    /// The most that may be held.
    pub limit: usize,
}

/// What happened since the start; only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections forgotten because a bound was reached.
    pub connections_evicted: u64,
    /// Connections forgotten because nothing was heard of them.
    pub connections_expired: u64,
    /// Connections that were forgotten with open requests, of which that is not known any
    /// more: what was lost of them may be counted as lost once more.
    pub forgotten_dropped: u64,
    /// Requests not taken because their connection had too many.
    pub requests_refused: u64,
    /// Heads of which a part is missing: beyond the prefix, beyond a bound, or a lost record.
    pub heads_cut: u64,
    /// Records, or frames of HTTP/2, that belong to a call that was counted before, or to none.
    pub strays: u64,
    /// Streams of HTTP/2 that asked for a tunnel (CONNECT): hops, no calls.
    pub tunnels: u64,
    /// Streams that a server promised to push.
    pub pushes: u64,
    /// Blocks of headers that could not be read: beyond a bound, or not well-formed.
    pub blocks_unreadable: u64,
    /// Frames, or pieces of frames, that cannot stand where they came.
    pub frames_malformed: u64,
}

/// State of [`Protocols`] against its bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Connections.
    pub connections: Bound,
    /// Connections that were forgotten with open requests.
    pub forgotten: Bound,
    /// Open requests of all connections.
    pub requests: Bound,
    /// Bytes of heads of which only a part has come.
    pub head_bytes: Bound,
    /// Bytes in the tables of HTTP/2's header compression.
    pub table_bytes: Bound,
    /// Bytes of heads of HTTP/2 that are kept since the kernel half may count their calls.
    pub repeated_bytes: Bound,
    /// Such heads that were not kept because all were full: their calls are told.
    pub repeated_refused: u64,
    /// Such tables that were forgotten because all were full: what refers to them is unknown.
    pub tables_forgotten: u64,
    /// What was dropped.
    pub counters: Counters,
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: ProtocolSettings,
    pub(crate) scratch: Vec<u8>,
    pub(crate) heads: Heads,
    /// There while no block of headers is being read.
    pub(crate) memory: Option<Box<http2::Memory>>,
    /// Exchanges that were done with: the next ones take their memory.
    #[expect(clippy::vec_box, reason = "the boxes are what is kept")]
    pub(crate) spare: Vec<Box<Exchange>>,
    pub(crate) requests: usize,
    pub(crate) head_bytes: usize,
    /// What all tables of HTTP/2's header compression may hold.
    pub(crate) tables: http2::Budget,
    /// What is kept of heads whose calls the kernel half may count, likewise.
    pub(crate) templates: http2::Budget,
    pub(crate) counters: Counters,
}

/// Pairs requests with answers, connection by connection.
#[derive(Debug)]
pub struct Protocols {
    connections: LruCache<u64, Connection, ByCookie>,
    forgotten: LruCache<u64, Forgotten, ByCookie>,
    shared: Shared,
    gone: Vec<u64>,
    /// When open calls report again.
    next_report_ns: u64,
}

impl Protocols {
    /// Holds nothing yet.
    #[must_use]
    pub fn new(settings: ProtocolSettings) -> Self {
        Self {
            // The bound is kept by `keep_bounds`: what is evicted has calls to account for.
            connections: LruCache::unbounded_with_hasher(ByCookie::default()),
            forgotten: LruCache::unbounded_with_hasher(ByCookie::default()),
            shared: Shared {
                settings,
                scratch: Vec::new(),
                heads: Heads::new(),
                memory: None,
                spare: Vec::new(),
                requests: 0,
                head_bytes: 0,
                tables: http2::Budget::default(),
                templates: http2::Budget::new(TEMPLATES),
                counters: Counters::default(),
            },
            gone: Vec::new(),
            next_report_ns: 0,
        }
    }

    /// Takes one event. Events of a connection must come in the order of the ring.
    pub fn feed(&mut self, event: &Event<'_>, out: &mut Output) {
        let header = event.header();
        if header.cookie == 0 {
            return;
        }
        let begins = match event {
            Event::Exec(..) | Event::Exit(_) | Event::NameAnswer(..) => return,
            Event::Head(..)
            | Event::End(_)
            | Event::Desynchronised(_)
            | Event::Frames(..)
            | Event::Waited(_) => true,
            // Where the messages of a connection older than the agent begin is a guess until
            // a request and its answer were both seen: what comes next must know that.
            Event::Opened(_) if is_late(header, &self.shared.settings) => true,
            // Connections that never spoke HTTP have no state here, unless records of
            // theirs are missing: what comes next must know that too.
            Event::Opened(_)
            | Event::Redirected(_)
            | Event::OwnerChanged(_)
            | Event::Statistics(_)
            | Event::Shut(_) => header.lost > 0,
            Event::Closed(record) => header.lost > 0 && record.ended.requests > record.ended.told,
        };
        let mut pass =
            Pass { socket: header.cookie, time_ns: header.time_ns, shared: &mut self.shared, out };
        let connection = if begins {
            let forgotten = &mut self.forgotten;
            self.connections.get_or_insert_mut(header.cookie, || {
                Connection::resume(forgotten.pop(&header.cookie))
            })
        } else if let Some(connection) = self.connections.get_mut(&header.cookie) {
            connection
        } else {
            if matches!(event, Event::Closed(_)) {
                self.forgotten.pop(&header.cookie);
            }
            return;
        };
        connection.feed(event, &mut pass);
        if matches!(event, Event::Closed(_)) {
            self.connections.pop(&header.cookie);
        }
        self.keep_bounds(header.time_ns, out);
    }

    /// Takes the end of a connection of which the record was lost, after all events of the
    /// connection: what is open, and what no record came of, is lost.
    pub fn ended(&mut self, socket: u64, ended: &event::Ended, now_ns: u64, out: &mut Output) {
        let forgotten = self.forgotten.pop(&socket);
        let mut connection =
            self.connections.pop(&socket).unwrap_or_else(|| Connection::resume(forgotten));
        let mut pass = Pass { socket, time_ns: now_ns, shared: &mut self.shared, out };
        connection.weighed(&mut pass, |connection, pass| connection.ended(ended, pass));
    }

    /// Forgets connections of which nothing was heard for too long before `now_ns`
    /// ([`ProtocolSettings::idle_ns`], [`ProtocolSettings::pending_ns`]): their end was
    /// missed, so whether open requests were answered is not known: lost calls.
    pub fn expire(&mut self, now_ns: u64, out: &mut Output) {
        let settings = self.shared.settings;
        self.gone.clear();
        for (socket, connection) in self.connections.iter().rev() {
            let silence = now_ns.saturating_sub(connection.heard_ns());
            if silence < settings.idle_ns.min(settings.pending_ns) {
                break;
            }
            if silence >= settings.pending_ns || !connection.has_open_requests() {
                self.gone.push(*socket);
            }
        }
        for socket in self.gone.drain(..) {
            let Some(connection) = self.connections.pop(&socket) else { continue };
            self.shared.counters.connections_expired += 1;
            let mut pass = Pass { socket, time_ns: now_ns, shared: &mut self.shared, out };
            forget(&mut self.forgotten, connection, lost::EXPIRED, &mut pass);
        }
    }

    /// Lets remote procedure calls report that are open for long, where that is due
    /// ([`ProtocolSettings::report_ns`]): streams may last for hours. To be called about
    /// every second.
    pub fn report(&mut self, now_ns: u64, out: &mut Output) {
        let settings = self.shared.settings;
        if now_ns < self.next_report_ns {
            return;
        }
        self.next_report_ns = now_ns.saturating_add(settings.report_ns);
        let before_ns = now_ns.saturating_sub(settings.report_ns);
        for (_, connection) in &mut self.connections {
            connection.report(before_ns, now_ns, out);
        }
    }

    /// Takes back an exchange that nobody wants any more, for its memory.
    pub fn reuse(&mut self, exchange: Box<Exchange>) {
        if self.shared.spare.len() < SPARE {
            self.shared.spare.push(exchange);
        }
    }

    /// How much is held, and what was dropped.
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        let Shared { settings, .. } = &self.shared;
        Occupancy {
            connections: Bound { used: self.connections.len(), limit: settings.connections },
            forgotten: Bound { used: self.forgotten.len(), limit: FORGOTTEN },
            requests: Bound { used: self.shared.requests, limit: settings.requests },
            head_bytes: Bound { used: self.shared.head_bytes, limit: settings.head_bytes_total },
            table_bytes: self.shared.tables.bound(),
            tables_forgotten: self.shared.tables.refused(),
            repeated_bytes: self.shared.templates.bound(),
            repeated_refused: self.shared.templates.refused(),
            counters: self.shared.counters,
        }
    }

    fn keep_bounds(&mut self, time_ns: u64, out: &mut Output) {
        loop {
            let reason = if self.connections.len() > self.shared.settings.connections {
                lost::CONNECTIONS_BOUND
            } else if self.shared.requests > self.shared.settings.requests {
                lost::REQUESTS_BOUND
            } else {
                return;
            };
            let Some((socket, connection)) = self.connections.pop_lru() else { return };
            self.shared.counters.connections_evicted += 1;
            let mut pass = Pass { socket, time_ns, shared: &mut self.shared, out };
            forget(&mut self.forgotten, connection, reason, &mut pass);
        }
    }
}

/// Whether the kernel half may have missed the beginning of the connection.
fn is_late(opened: &event::Header, settings: &ProtocolSettings) -> bool {
    opened.flags & event::OPENED_LATE != 0 || opened.time_ns < settings.complete_ns
}

fn forget(
    forgotten: &mut LruCache<u64, Forgotten, ByCookie>,
    mut connection: Connection,
    reason: &'static str,
    pass: &mut Pass<'_>,
) {
    if let Some(numbers) = connection.forgotten() {
        forgotten.put(pass.socket, numbers);
        if forgotten.len() > FORGOTTEN {
            forgotten.pop_lru();
            pass.shared.counters.forgotten_dropped += 1;
        }
    }
    connection.forgo(reason, pass);
}

#[cfg(test)]
mod tests;
