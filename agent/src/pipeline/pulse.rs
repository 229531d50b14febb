//! [`Pulse`]: about every second, how the reading thread stands; and what of it becomes
//! the agent's own telemetry.

use std::sync::Arc;

use meshtap_ebpf::event::Loss;

use super::repeated::Repeated;
use super::stages::Stages;
use crate::kernel::host::HostFigures;
use crate::kernel::tables::Filled;
use crate::ring_buffer::Event;
use crate::telemetry::{AgentTelemetry, Figure};

/// Kinds of records, as in `meshtap_events_total{kind}`.
pub const KINDS: [&str; 14] = [
    "opened",
    "redirected",
    "owner_changed",
    "statistics",
    "closed",
    "head",
    "end",
    "shut",
    "desynchronised",
    "exec",
    "exit",
    "name_answer",
    "frames",
    "waited",
];

/// The place of an event's kind in [`KINDS`].
#[must_use]
pub fn kind(event: &Event<'_>) -> usize {
    match event {
        Event::Opened(_) => 0,
        Event::Redirected(_) => 1,
        Event::OwnerChanged(_) => 2,
        Event::Statistics(_) => 3,
        Event::Closed(_) => 4,
        Event::Head(..) => 5,
        Event::End(_) => 6,
        Event::Shut(_) => 7,
        Event::Desynchronised(_) => 8,
        Event::Exec(..) => 9,
        Event::Exit(_) => 10,
        Event::NameAnswer(..) => 11,
        Event::Frames(..) => 12,
        Event::Waited(_) => 13,
    }
}

/// Why records are missing, as in `meshtap_events_lost_total{reason}`.
#[must_use]
pub fn reason(loss: Loss) -> &'static str {
    match loss {
        Loss::RingFull => "ring_full",
        Loss::Storage => "socket_storage",
        Loss::Unreadable => "unreadable_packet",
        Loss::TailCall => "tail_call",
        Loss::Held => "held_requests",
    }
}

/// Totals since the start.
#[derive(Debug)]
pub struct Pulse<'a> {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub now_ns: u64,
    /// Records read, in the order of [`KINDS`].
    pub events: &'a [u64; KINDS.len()],
    /// What the kernel half counted as lost.
    pub losses: &'a [(Loss, u64)],
    /// What the kernel half counted for the host as a whole.
    pub host: &'a HostFigures,
    /// Records that were no events.
    pub undecodable: u64,
    /// Most bytes that one emptying of the ring found in it since the last pulse.
    pub ring_used: u64,
    /// Size of the ring in bytes.
    pub ring_bytes: u64,
    /// How full the kernel half's own tables are.
    pub tables: &'a [Filled],
    /// Calls that the kernel half counts, where it does.
    pub repeated: Option<&'a Repeated>,
    /// 1 in 2^n connections is followed; and so many were left out.
    pub share: (u32, u64),
    /// The stages.
    pub stages: &'a Stages,
}

/// Handles of the figures that a pulse sets.
#[derive(Debug)]
pub struct Figures {
    telemetry: Arc<AgentTelemetry>,
    events: [Arc<Figure>; KINDS.len()],
    undecodable: Arc<Figure>,
}

impl Figures {
    /// All series exist from here on.
    #[must_use]
    pub fn new(telemetry: Arc<AgentTelemetry>) -> Self {
        for loss in [Loss::RingFull, Loss::Storage, Loss::Unreadable, Loss::TailCall, Loss::Held] {
            telemetry.events_lost(reason(loss)).set(0);
        }
        Self {
            events: KINDS.map(|kind| telemetry.events(kind)),
            undecodable: telemetry.events_lost("undecodable"),
            telemetry,
        }
    }

    /// Writes a pulse down.
    pub fn write(&self, pulse: &Pulse<'_>) {
        for (figure, count) in self.events.iter().zip(pulse.events) {
            figure.set(*count);
        }
        self.undecodable.set(pulse.undecodable);
        for (loss, count) in pulse.losses {
            self.telemetry.events_lost(reason(*loss)).set(*count);
        }
        self.telemetry.ring(pulse.ring_used, pulse.ring_bytes);
        self.host(pulse.host);
        for &(name, used, bound) in pulse.tables {
            // What they drop is counted among the losses.
            self.telemetry.table(name).set(used as u64, bound as u64, 0);
        }
        if let Some(repeated) = pulse.repeated {
            self.telemetry.calls_counted(repeated.calls());
            let (used, bound, refused) = repeated.occupancy();
            self.telemetry.table("repeated_calls").set(used as u64, bound as u64, refused);
        }
        let (exponent, left_out) = pulse.share;
        self.telemetry.share(exponent, left_out);
        self.stages(pulse.stages);
    }

    fn host(&self, host: &HostFigures) {
        self.telemetry.host_dropped(&host.dropped);
        for (direction, count) in
            [("transmit", host.resets_sent), ("receive", host.resets_received)]
        {
            if let Some(count) = count {
                self.telemetry.host_resets(direction).set(count);
            }
        }
        if let Some(count) = host.retransmits {
            self.telemetry.host_retransmits(count);
        }
    }

    fn stages(&self, stages: &Stages) {
        let table = |name, used: usize, bound: usize, dropped: u64| {
            self.telemetry.table(name).set(used as u64, bound as u64, dropped);
        };
        let protocol = stages.protocols.occupancy();
        let counters = protocol.counters;
        let connections = protocol.connections;
        table(
            "http_connections",
            connections.used,
            connections.limit,
            counters.connections_evicted,
        );
        let forgotten = protocol.forgotten;
        let dropped = counters.forgotten_dropped;
        table("forgotten_connections", forgotten.used, forgotten.limit, dropped);
        let requests = protocol.requests;
        table("open_requests", requests.used, requests.limit, counters.requests_refused);
        let heads = protocol.head_bytes;
        table("head_bytes", heads.used, heads.limit, counters.heads_cut);
        let tables = protocol.table_bytes;
        table("compression_tables_bytes", tables.used, tables.limit, protocol.tables_forgotten);
        let heads = protocol.repeated_bytes;
        table("repeated_heads_bytes", heads.used, heads.limit, protocol.repeated_refused);
        for (reason, count) in [
            ("tunnel", counters.tunnels),
            ("push", counters.pushes),
            ("unreadable_block", counters.blocks_unreadable),
            ("malformed_frame", counters.frames_malformed),
            ("stray_record", counters.strays),
            ("mesh_probe", stages.attributor.probes()),
        ] {
            self.telemetry.not_calls(reason).set(count);
        }
        let (held, bound) = stages.held();
        table("unnamed_calls", held, bound, 0);
        for cache in stages.attributor.occupancy() {
            table(cache.cache, cache.used, cache.bound, cache.evicted);
        }
        let routes = stages.routes.occupancy();
        let bounds = stages.routes.settings();
        table("routed_services", routes.services, bounds.services, routes.services_evicted);
        let bound = bounds.services.saturating_mul(bounds.routes_per_service);
        table("rpc_methods", routes.methods, bound, routes.methods_other);
    }
}
