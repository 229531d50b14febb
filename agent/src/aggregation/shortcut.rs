//! Shortcuts from what a call or connection points at to its series, without hashing text.
//!
//! A key is made of addresses. **Every shortcut holds what its key points at**, so no
//! address can come to mean something else while the shortcut stands.

use std::sync::Arc;

use ahash::AHashMap;

use super::istio::{IstioSeries, IstioTcpSeries};
use super::series::SlotId;
use super::summary::{CallFacts, RpcFacts};
use crate::attribution::cluster::Service;
use crate::attribution::mesh::{Mesh, Passage};
use crate::attribution::{ConnectionReport, Identity};
use crate::protocol::exchange::rpc::CODES;
use crate::protocol::{Cause, Side};

/// What tells the label sets of calls apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CallKey {
    client: usize,
    server: usize,
    route: usize,
    address: usize,
    passage: usize,
    service: usize,
    // Port, status, method (RPC: its status), cause, protocol, side, whether the peer is
    // observed, kind of RPC, whether its messages are counted, whether what lies between
    // the ends is known, and whether a waypoint is there.
    rest: u64,
}

fn place<T: ?Sized>(shared: &Arc<T>) -> usize {
    Arc::as_ptr(shared).cast::<()>() as usize
}

impl CallKey {
    /// Where it stands in [`Recent`]; allocations begin at multiples of 16.
    #[inline]
    fn place(&self) -> usize {
        let rest = self.rest ^ self.rest >> 16 ^ self.rest >> 32 ^ self.rest >> 56;
        let rest = rest.to_le_bytes()[0];
        ((self.client ^ self.server ^ self.route) >> 4 ^ usize::from(rest)) % RECENT
    }

    #[inline]
    pub(super) fn of(facts: &CallFacts<'_>) -> Self {
        let is_client = facts.side == Side::Client;
        // The server side has no label of them: one shortcut whatever the client asked for.
        let (address, port) =
            if is_client { (place(facts.server_address), facts.server_port) } else { (0, 0) };
        let error = u64::from(facts.error.map_or(0, Cause::number));
        let mut rest = u64::from(port)
            | u64::from(facts.status.unwrap_or(0)) << 16
            | error << 40
            | (facts.protocol as u64) << 48
            | u64::from(is_client) << 56
            | u64::from(facts.peer_observed) << 57
            | u64::from(facts.has_between) << 62
            | u64::from(facts.has_waypoint) << 63;
        rest |= match &facts.rpc {
            None => (facts.method as u64) << 32,
            Some(rpc) => rpc.key(),
        };
        Self {
            client: place(&facts.client.identity),
            server: place(&facts.server.identity),
            route: place(facts.route),
            address,
            passage: facts.passage.map_or(0, place),
            service: facts.service.map_or(0, place),
            rest,
        }
    }
}

impl RpcFacts {
    /// Bits 32 to 40 and from 58 on of a key, which HTTP needs for its method, and not at all.
    fn key(&self) -> u64 {
        // Codes without a name are one code to every label.
        let least_unnamed = u32::try_from(CODES.len()).unwrap_or(u32::MAX);
        let status = self.status.map_or(0, |code| u64::from(code.min(least_unnamed)) + 1);
        let [requests, responses] = self.counted.map(u64::from);
        status << 32 | (self.system as u64 + 1) << 58 | requests << 60 | responses << 61
    }
}

/// The series of one kind of call.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallSeries {
    pub(super) duration: SlotId,
    pub(super) volume: Volume,
    pub(super) edge_seconds: SlotId,
    /// Total and failed, where this observation counts the call.
    pub(super) edge_counts: Option<(SlotId, SlotId)>,
    pub(super) has_failed: bool,
    /// In Istio's shape, where nobody else reports them.
    pub(super) istio: Option<IstioSeries>,
    /// What lies between the ends, in a mesh.
    pub(super) between: Option<SlotId>,
}

/// What calls carried.
#[derive(Clone, Copy, Debug)]
pub(super) enum Volume {
    /// HTTP: sizes of the bodies.
    Bodies { request: SlotId, response: SlotId },
    /// Remote procedure calls.
    Rpc(RpcSeries),
}

/// The series that remote procedure calls have beside their durations.
#[derive(Clone, Copy, Debug)]
pub(super) struct RpcSeries {
    /// Durations under another name, too.
    pub(super) beside: Option<SlotId>,
    /// Messages of requests and of answers; where they are not counted, calls of that kind.
    pub(super) messages: [SlotId; 2],
    /// Bytes of requests and of answers.
    pub(super) bytes: [SlotId; 2],
}

impl CallSeries {
    fn slots(&self) -> impl Iterator<Item = SlotId> {
        let counts = self.edge_counts.into_iter().flat_map(|(total, failed)| [total, failed]);
        let (volume, more) = match self.volume {
            Volume::Bodies { request, response } => ([request, response], None),
            Volume::Rpc(rpc) => (rpc.messages, Some(rpc)),
        };
        let more = more.into_iter().flat_map(|rpc| rpc.bytes.into_iter().chain(rpc.beside));
        let more = more.chain(self.istio.into_iter().flat_map(|istio| istio.slots()));
        let more = more.chain(self.between);
        [self.duration, self.edge_seconds].into_iter().chain(volume).chain(more).chain(counts)
    }
}

/// What tells the edges of connections apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct EdgeKey {
    client: usize,
    server: usize,
    service: usize,
    side: Side,
    mesh: Option<Mesh>,
    spoke: bool,
}

impl EdgeKey {
    pub(super) fn of(report: &ConnectionReport) -> Self {
        Self {
            client: place(&report.client.identity),
            server: place(&report.server.identity),
            service: report.service.as_ref().map_or(0, place),
            side: report.side,
            mesh: report.mesh,
            spoke: report.spoke,
        }
    }
}

/// Reasons of `meshtap_ebpf::event::CLOSE_*`, by value.
pub(super) const REASONS: usize = 8;

/// The series of one edge's connections.
#[derive(Clone, Debug)]
pub(super) struct EdgeSeries {
    pub(super) opened: SlotId,
    pub(super) active: SlotId,
    pub(super) received: SlotId,
    pub(super) transmitted: SlotId,
    pub(super) retransmits: SlotId,
    pub(super) resets_received: SlotId,
    pub(super) resets_sent: SlotId,
    pub(super) connect: Option<SlotId>,
    pub(super) rtt: Option<SlotId>,
    pub(super) closed: [Option<SlotId>; REASONS],
    pub(super) failed: [Option<SlotId>; REASONS],
    /// In Istio's shape, where nobody else reports them.
    pub(super) istio: Option<IstioTcpSeries>,
}

impl EdgeSeries {
    /// The edge's counters, which live and expire together.
    pub(super) fn counters(&self) -> impl Iterator<Item = SlotId> {
        let fixed = [
            self.opened,
            self.received,
            self.transmitted,
            self.retransmits,
            self.resets_received,
            self.resets_sent,
        ];
        let istio = self.istio.into_iter().flat_map(|istio| istio.slots());
        fixed.into_iter().chain(self.closed.into_iter().chain(self.failed).flatten()).chain(istio)
    }

    fn slots(&self) -> impl Iterator<Item = SlotId> {
        let others = [Some(self.active), self.connect, self.rtt];
        self.counters().chain(others.into_iter().flatten())
    }
}

/// Shortcuts of one kind: bounded, and emptied where they are full (a shortcut is cheap
/// to make again, and which of them will be wanted is not known).
#[derive(Debug)]
pub(super) struct Shortcuts<K, V> {
    entries: AHashMap<K, (V, Anchors)>,
    capacity: usize,
    dropped: u64,
}

/// What a key points at.
type Anchors = (Arc<Identity>, Arc<Identity>, Option<Said>);
/// Route, address, service and passage of a call.
type Said = (Arc<str>, Arc<str>, Option<Arc<Service>>, Option<Arc<Passage>>);

impl<K: Eq + std::hash::Hash, V> Shortcuts<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { entries: AHashMap::new(), capacity: capacity.max(1), dropped: 0 }
    }

    #[inline]
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(series, _)| series)
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(series, _)| series)
    }

    /// Whether one more empties it first.
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= self.capacity
    }

    fn insert(&mut self, key: K, series: V, anchors: Anchors) {
        if self.is_full() {
            self.dropped += self.entries.len() as u64;
            self.entries.clear();
        }
        self.entries.insert(key, (series, anchors));
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// Kinds of calls that were counted last, before all others.
const RECENT: usize = 16;

/// The shortcuts of the kinds of calls that come all the time, without a hash. Each is one of
/// [`Shortcuts`] too, which holds what its key points at: where those go, these go.
#[derive(Debug)]
pub(super) struct Recent([Option<(CallKey, CallSeries)>; RECENT]);

impl Recent {
    pub(super) fn new() -> Self {
        Self([None; RECENT])
    }

    #[inline]
    pub(super) fn get(&self, key: &CallKey) -> Option<&CallSeries> {
        let entry = self.0.get(key.place()).and_then(Option::as_ref);
        entry.filter(|(known, _)| known == key).map(|(_, series)| series)
    }

    pub(super) fn put(&mut self, key: CallKey, series: CallSeries) {
        if let Some(entry) = self.0.get_mut(key.place()) {
            *entry = Some((key, series));
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }
}

impl Shortcuts<CallKey, CallSeries> {
    pub(super) fn add_call(&mut self, key: CallKey, series: CallSeries, facts: &CallFacts<'_>) {
        let (service, passage) = (facts.service.map(Arc::clone), facts.passage.map(Arc::clone));
        let said = (Arc::clone(facts.route), Arc::clone(facts.server_address), service, passage);
        let (client, server) = (&facts.client.identity, &facts.server.identity);
        self.insert(key, series, (Arc::clone(client), Arc::clone(server), Some(said)));
    }

    /// Keeps the shortcuts of which every series passes.
    pub(super) fn retain(&mut self, passes: impl Fn(SlotId) -> bool) {
        self.entries.retain(|_, (series, _)| series.slots().all(&passes));
    }
}

impl Shortcuts<EdgeKey, EdgeSeries> {
    pub(super) fn add_edge(&mut self, key: EdgeKey, series: EdgeSeries, report: &ConnectionReport) {
        let (client, server) = (&report.client.identity, &report.server.identity);
        let nothing: Arc<str> = Arc::from("");
        let said = report
            .service
            .clone()
            .map(|service| (Arc::clone(&nothing), nothing, Some(service), None));
        self.insert(key, series, (Arc::clone(client), Arc::clone(server), said));
    }

    /// Keeps the shortcuts of which every series passes.
    pub(super) fn retain(&mut self, passes: impl Fn(SlotId) -> bool) {
        self.entries.retain(|_, (series, _)| series.slots().all(&passes));
    }
}
