//! Stage 4: calls, or summaries of calls, become bounded series.
//!
//! Owns what is counted, under which labels, and for how long; refuses to know who reads
//! it. Pure: time comes with the calls. One owner, no locks.
//!
//! **Nothing is lost from totals**: what finds no room in the budget of series is counted
//! in one overflow series per metric. **No counter goes back without a new start time.**

pub mod convention;
pub mod definition;
mod edge;
pub mod histogram;
mod istio;
pub mod labels;
mod rpc;
mod series;
mod shortcut;
pub mod snapshot;
pub mod summary;

use std::sync::Arc;

use ahash::AHashMap;

use crate::attribution::{Call, Party};
use crate::protocol::Side;
use definition::MetricId;
use istio::Istio;
use labels::Words;
use rpc::Amounts;
use series::{SeriesTable, SlotId, Start};
use shortcut::{CallKey, CallSeries, EdgeKey, EdgeSeries, Recent, Shortcuts, Volume};
use summary::CallFacts;

pub use convention::RpcNames;
pub use definition::{DEFINITIONS, Definition};
pub use histogram::Tally;
pub use snapshot::{Family, Label, Metric, Series, Snapshot, Value};
pub use summary::{CallSummary, Method, RpcSummary};

/// Bounds of the stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AggregationSettings {
    /// Series of all metrics together, overflow series included. Where it is less than
    /// one for each metric, every metric has its overflow series all the same.
    pub series_limit: usize,
    /// A series that nothing touched for this long is dropped.
    pub idle_ns: u64,
    /// Open connections that are followed for the gauge of active ones.
    pub connection_limit: usize,
    /// The cluster as Istio calls it; empty: left out.
    pub cluster: Arc<str>,
    /// Metrics in Istio's shape for what no proxy of Istio's reports.
    pub istio: bool,
    /// Under which names the durations of remote procedure calls go.
    pub rpc_names: RpcNames,
}

impl Default for AggregationSettings {
    fn default() -> Self {
        Self {
            series_limit: 10_000,
            idle_ns: 600_000_000_000,
            connection_limit: 65_536,
            cluster: Arc::from(""),
            istio: false,
            rpc_names: RpcNames::default(),
        }
    }
}

/// How full the stage is, and what it had no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Series that stand, overflow series included.
    pub series: usize,
    /// See [`AggregationSettings::series_limit`].
    pub series_limit: usize,
    /// Updates that went to an overflow series.
    pub overflowed: u64,
    /// Series that were dropped because they were idle.
    pub expired: u64,
    /// Open connections that are followed.
    pub connections: usize,
    /// See [`AggregationSettings::connection_limit`].
    pub connection_limit: usize,
    /// Connections that the gauge of active ones lacks, for want of room.
    pub connections_dropped: u64,
    /// Shortcuts to series.
    pub shortcuts: usize,
    /// Shortcuts that there may be.
    pub shortcut_limit: usize,
    /// Shortcuts that were dropped for want of room.
    pub shortcuts_dropped: u64,
}

/// The stage.
#[derive(Debug)]
pub struct Aggregator {
    settings: AggregationSettings,
    start: Start,
    series: SeriesTable,
    words: Words,
    istio: Option<Istio>,
    recent: Recent,
    calls: Shortcuts<CallKey, CallSeries>,
    edges: Shortcuts<EdgeKey, EdgeSeries>,
    // Socket cookie to the gauge that its connection stands in.
    active: AHashMap<u64, SlotId>,
    active_dropped: u64,
}

impl Aggregator {
    /// An empty stage; `start_ns` is when the agent began to count. All times are
    /// `CLOCK_MONOTONIC`, which nobody sets; `unix_minus_monotonic`
    /// makes the wall clock's time of them.
    #[must_use]
    pub fn new(settings: AggregationSettings, start_ns: u64, unix_minus_monotonic: i64) -> Self {
        let series = SeriesTable::new(settings.series_limit, unix_minus_monotonic);
        Self {
            start: series.start(start_ns),
            series,
            words: Words::default(),
            istio: settings.istio.then(|| Istio::new(&settings.cluster)),
            recent: Recent::new(),
            calls: Shortcuts::new(settings.series_limit),
            edges: Shortcuts::new(settings.series_limit),
            active: AHashMap::new(),
            active_dropped: 0,
            settings,
        }
    }

    /// Has series begin, and snapshots be taken, at the wall clock's time, which is so many
    /// nanoseconds after the monotonic one. A step of it is no time in which something was idle.
    /// Series go on to begin when they did, unless that would be in the future now: those
    /// begin as long ago as they did.
    pub fn follow_clock(&mut self, unix_minus_monotonic: i64, now_ns: u64) {
        self.series.follow_clock(unix_minus_monotonic, now_ns, &mut self.start);
    }

    /// When the agent began to count, by the wall clock.
    #[must_use]
    pub fn start_unix_ns(&self) -> u64 {
        self.start.unix_ns
    }

    /// Counts a call. Costs no allocation where its label set is known.
    pub fn record(&mut self, call: &Call, time_ns: u64) {
        let of = self.call_series(&CallFacts::from(call), time_ns);
        self.series.weigh(call.exchange.weight);
        self.add(call, &of, time_ns);
        self.series.weigh(1);
    }

    #[inline]
    fn add(&mut self, call: &Call, of: &CallSeries, time_ns: u64) {
        let duration_ns = call.exchange.duration_ns();
        let series = &mut self.series;
        series.observe(of.duration, duration_ns, time_ns);
        series.observe(of.edge_seconds, duration_ns, time_ns);
        match (&of.volume, call.exchange.rpc.as_deref()) {
            (Volume::Bodies { request, response }, _) => {
                series.observe(*request, call.exchange.request_bytes, time_ns);
                series.observe(*response, call.exchange.response_bytes, time_ns);
            }
            (Volume::Rpc(of), Some(rpc)) => {
                if let Some(beside) = of.beside {
                    series.observe(beside, duration_ns, time_ns);
                }
                of.add(series, &Amounts::rest(&call.exchange, rpc), time_ns);
            }
            // What has such series is one.
            (Volume::Rpc(_), None) => {}
        }
        if let Some(istio) = &of.istio {
            istio.record(series, &call.exchange, time_ns);
        }
        if let (Some(slot), Some(between_ns)) = (of.between, call.between_ns()) {
            series.observe(slot, between_ns, time_ns);
        }
        if let Some((total, failed)) = of.edge_counts {
            series.add(total, 1, time_ns);
            series.add(failed, u64::from(of.has_failed), time_ns);
        }
    }

    /// Counts many calls; the series are those that [`Self::record`] would have made of them.
    pub fn record_summary(&mut self, summary: &CallSummary, time_ns: u64) {
        let calls = summary.durations.count();
        if calls == 0 {
            return;
        }
        let of = self.call_series(&CallFacts::from(summary), time_ns);
        let (durations, requests, responses) =
            (&summary.durations, &summary.request_bytes, &summary.response_bytes);
        let series = &mut self.series;
        series.merge(of.duration, &durations.buckets, durations.sum, time_ns);
        series.merge(of.edge_seconds, &durations.buckets, durations.sum, time_ns);
        match (&of.volume, &summary.rpc) {
            (Volume::Bodies { request, response }, _) => {
                series.merge(*request, &requests.buckets, requests.sum, time_ns);
                series.merge(*response, &responses.buckets, responses.sum, time_ns);
            }
            (Volume::Rpc(of), Some(rpc)) => {
                if let Some(beside) = of.beside {
                    series.merge(beside, &durations.buckets, durations.sum, time_ns);
                }
                of.add(series, &rpc.amounts(calls), time_ns);
            }
            (Volume::Rpc(_), None) => {}
        }
        if let Some((total, failed)) = of.edge_counts {
            series.add(total, calls, time_ns);
            series.add(failed, if of.has_failed { calls } else { 0 }, time_ns);
        }
    }

    #[inline]
    fn call_series(&mut self, facts: &CallFacts<'_>, time_ns: u64) -> CallSeries {
        let key = CallKey::of(facts);
        if let Some(known) = self.recent.get(&key) {
            return *known;
        }
        let found = match self.calls.get(&key) {
            Some(known) => *known,
            None => {
                let found = self.find_call_series(facts, time_ns);
                if self.calls.is_full() {
                    self.recent.clear();
                }
                self.calls.add_call(key, found, facts);
                found
            }
        };
        self.recent.put(key, found);
        found
    }

    #[cold]
    fn find_call_series(&mut self, facts: &CallFacts<'_>, time_ns: u64) -> CallSeries {
        let (duration, volume) = match &facts.rpc {
            None => self.find_http_series(facts, time_ns),
            Some(rpc) => {
                let (duration, series) = self.find_rpc_series(facts, rpc, time_ns);
                (duration, Volume::Rpc(series))
            }
        };
        let edge_seconds = match facts.side {
            Side::Server => MetricId::GraphServerSeconds,
            Side::Client => MetricId::GraphClientSeconds,
        };
        let istio = self.find_istio_series(facts, time_ns);
        let series = &mut self.series;
        let graph = self.words.graph(facts);
        let between = facts.has_between.then(|| {
            let labels = self.words.between(facts);
            series.slot(MetricId::MeshBetween, None, &labels, time_ns)
        });
        CallSeries {
            istio,
            between,
            duration,
            volume,
            edge_seconds: series.slot(edge_seconds, None, &graph, time_ns),
            edge_counts: facts.counts().then(|| {
                (
                    series.slot(MetricId::GraphTotal, None, &graph, time_ns),
                    series.slot(MetricId::GraphFailed, None, &graph, time_ns),
                )
            }),
            has_failed: facts.has_failed(),
        }
    }

    fn find_http_series(&mut self, facts: &CallFacts<'_>, time_ns: u64) -> (SlotId, Volume) {
        let (duration, request, response) = match facts.side {
            Side::Server => (
                MetricId::HttpServerDuration,
                MetricId::HttpServerRequestSize,
                MetricId::HttpServerResponseSize,
            ),
            Side::Client => (
                MetricId::HttpClientDuration,
                MetricId::HttpClientRequestSize,
                MetricId::HttpClientResponseSize,
            ),
        };
        let (series, labels, local) =
            (&mut self.series, self.words.http(facts), Some(facts.local()));
        let mut slot = |metric| series.slot(metric, local, &labels, time_ns);
        let duration = slot(duration);
        (duration, Volume::Bodies { request: slot(request), response: slot(response) })
    }

    /// Counts calls that took place and are in no other series; `parties` (client, server)
    /// where they are known. With `calls` 0 the series begins to exist.
    pub fn lost(
        &mut self,
        parties: Option<(&Party, &Party)>,
        reason: &'static str,
        calls: u64,
        time_ns: u64,
    ) {
        let names =
            parties.map(|(client, server)| (client.identity.as_ref(), server.identity.as_ref()));
        let labels = self.words.lost(names, reason);
        // Without an edge there are as many series as reasons: they stay, and count from
        // the agent's start.
        let start_ns = if parties.is_some() { time_ns } else { self.start.ns };
        let slot = self.series.slot(MetricId::CallsLost, None, &labels, start_ns);
        if parties.is_none() {
            self.series.keep(slot);
        }
        self.series.add(slot, calls, time_ns);
    }

    /// Drops the series that have been idle for too long. Call it before each snapshot.
    pub fn expire(&mut self, now_ns: u64) {
        let deadline_ns = now_ns.saturating_sub(self.settings.idle_ns);
        if self.series.expire(deadline_ns) == 0 {
            return;
        }
        // Shortcuts to overflow series go too: there is room now.
        self.recent.clear();
        let series = &self.series;
        self.calls.retain(|slot| series.is_own(slot));
        self.edges.retain(|slot| series.is_own(slot));
    }

    /// Every series as it stands.
    #[must_use]
    pub fn snapshot(&self, now_ns: u64) -> Snapshot {
        Snapshot { time_unix_ns: self.series.unix_ns(now_ns), families: self.series.families() }
    }

    /// How full the stage is.
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        Occupancy {
            series: self.series.len(),
            series_limit: self.settings.series_limit,
            overflowed: self.series.overflowed(),
            expired: self.series.expired(),
            connections: self.active.len(),
            connection_limit: self.settings.connection_limit,
            connections_dropped: self.active_dropped,
            shortcuts: self.calls.len() + self.edges.len(),
            shortcut_limit: self.calls.capacity() + self.edges.capacity(),
            shortcuts_dropped: self.calls.dropped() + self.edges.dropped(),
        }
    }
}

#[cfg(test)]
mod tests;
