//! [`Counting`]: the sink of `meshtap run`. Calls become series, spans and lines.

use std::sync::Arc;

use parking_lot::Mutex;

use super::pulse::{Figures, Pulse};
use super::{Found, Sink};
use crate::aggregation::{Aggregator, Snapshot};
use crate::command::observe::Flow;
use crate::export::clock::{SharedClock, monotonic_now_ns};
use crate::export::spans::traced::{self, TracedStats};
use crate::export::{Exporters, SignalStats};
use crate::protocol::lost;
use crate::telemetry::{AgentTelemetry, Export};

/// Why calls may be lost; each is a series from the start.
const REASONS: [&str; 12] = [
    lost::RECORDS_LOST,
    lost::CONNECTIONS_BOUND,
    lost::REQUESTS_BOUND,
    lost::EXPIRED,
    lost::DESYNCHRONISED_GAP,
    lost::DESYNCHRONISED_SYNTAX,
    lost::DESYNCHRONISED_BUDGET,
    lost::DESYNCHRONISED_FRAMING,
    lost::DESYNCHRONISED_CONTENTION,
    lost::DESYNCHRONISED_UNEXPECTED,
    lost::LIMITS,
    lost::DESYNCHRONISED,
];

/// The series, shared with those who read them.
#[derive(Clone, Debug)]
pub struct Counted {
    aggregator: Arc<Mutex<Aggregator>>,
    telemetry: Arc<AgentTelemetry>,
    clock: SharedClock,
}

impl Counted {
    /// Shares `aggregator`; reasons for lost calls exist from here on.
    #[must_use]
    pub fn new(
        mut aggregator: Aggregator,
        telemetry: Arc<AgentTelemetry>,
        clock: SharedClock,
    ) -> Self {
        let now = monotonic_now_ns();
        for reason in REASONS {
            aggregator.lost(None, reason, 0, now);
        }
        Self { aggregator: Arc::new(Mutex::new(aggregator)), telemetry, clock }
    }

    /// Every series as it stands, the agent's own included.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let offset = self.clock.get().unix_minus_monotonic;
        let (mut snapshot, start_unix_ns) = {
            let mut aggregator = self.aggregator.lock();
            let now = monotonic_now_ns();
            aggregator.follow_clock(offset, now);
            aggregator.expire(now);
            self.telemetry.aggregation(&aggregator.occupancy());
            (aggregator.snapshot(now), aggregator.start_unix_ns())
        };
        snapshot.families.extend(self.telemetry.families(start_unix_ns));
        snapshot
    }
}

/// The sink.
#[derive(Debug)]
pub struct Counting {
    counted: Counted,
    exporters: Arc<Exporters>,
    figures: Figures,
}

impl Counting {
    /// Counts into `counted`, and hands calls to `exporters`.
    #[must_use]
    pub fn new(counted: Counted, exporters: Arc<Exporters>) -> Self {
        let figures = Figures::new(Arc::clone(&counted.telemetry));
        Self { counted, exporters, figures }
    }

    fn queues(&self) {
        let queue = |name, stats: &SignalStats| {
            if stats.enabled {
                let held = stats.queue;
                let telemetry = &self.counted.telemetry;
                telemetry.queue(name).set(
                    held.items as u64,
                    held.items_bound as u64,
                    stats.dropped,
                );
            }
        };
        let stats = self.exporters.stats();
        queue("otlp_traces", &stats.traces);
        queue("otlp_logs", &stats.logs);
        queue("access_log", &stats.lines);
        let signals = [
            ("metrics", &stats.metrics),
            ("traces", &stats.traces),
            ("logs", &stats.logs),
            ("access_log", &stats.lines),
        ];
        for (signal, stats) in signals.into_iter().filter(|(_, stats)| stats.enabled) {
            self.counted.telemetry.export(signal, exported(stats));
        }
        if stats.traces.enabled {
            self.traced(&stats.traced);
        }
    }

    fn traced(&self, stats: &TracedStats) {
        let telemetry = &self.counted.telemetry;
        telemetry.spans_left_out("configured").set(stats.configured);
        telemetry.spans_left_out("itself").set(stats.itself);
        let bound = traced::PROCESSES as u64;
        telemetry.table("traced_processes").set(stats.processes as u64, bound, stats.evicted);
    }
}

fn exported(stats: &SignalStats) -> Export {
    Export {
        exported: stats.exported,
        rejected: stats.rejected,
        failed: stats.failed,
        dropped: stats.dropped,
        retries: stats.retries,
    }
}

impl Sink for Counting {
    fn take(&mut self, found: &mut Vec<Found>, now_ns: u64) -> Flow {
        if found.is_empty() {
            return Flow::Continue;
        }
        {
            let mut aggregator = self.counted.aggregator.lock();
            aggregator.follow_clock(self.counted.clock.get().unix_minus_monotonic, now_ns);
            for found in found.iter() {
                match found {
                    Found::Call(call) => {
                        aggregator.record(call, call.exchange.end_ns);
                    }
                    Found::Repeated(summary, time_ns) => {
                        aggregator.record_summary(summary, *time_ns);
                    }
                    Found::Progress(call, gains) => {
                        aggregator.progress(call, gains, call.exchange.end_ns);
                    }
                    Found::Connection(report, time_ns) => {
                        aggregator.connection(report, *time_ns);
                    }
                    Found::Lost(lost) => {
                        let parties = lost.client.as_ref().zip(lost.server.as_ref());
                        aggregator.lost(parties, lost.reason, lost.count, lost.time_ns);
                    }
                }
            }
        }
        if self.exporters.wants_calls() {
            for found in found.iter() {
                if let Found::Call(call) = found {
                    self.exporters.span(call);
                    self.exporters.log(call);
                }
            }
        }
        Flow::Continue
    }

    fn pulse(&mut self, pulse: &Pulse<'_>) {
        self.figures.write(pulse);
        self.queues();
    }
}
