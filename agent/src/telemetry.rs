//! The agent's own counters: what it lost, how full it is, what it costs; and what it
//! counts for the host as a whole.
//!
//! Every part of the agent holds a handle and writes it without a lock; exporters ask
//! for [`AgentTelemetry::families`] and append them to a snapshot. Refuses to count calls:
//! that is the aggregation's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::aggregation::definition::MetricId;
use crate::aggregation::definition::label::{
    ARCHITECTURE, BUILD_VERSION, DIRECTION, EVENT_KIND, OUTCOME, QUEUE, REASON, RELEASE, SIGNAL,
    TABLE,
};
use crate::aggregation::{Family, Label, Occupancy, Series, Value};

/// A figure that one part of the agent writes and exporters read.
#[derive(Debug, Default)]
pub struct Figure(AtomicU64);

impl Figure {
    /// Adds to a counter.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Relaxed);
    }

    /// Sets a gauge, or a counter whose total is kept elsewhere (in the kernel).
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// Where it stands.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How full something bounded is. Cheap to clone; clones write the same figures.
#[derive(Clone, Debug, Default)]
pub struct Fill {
    /// Entries now.
    pub entries: Arc<Figure>,
    /// Entries at the most.
    pub capacity: Arc<Figure>,
    /// Entries refused or evicted so far, for want of room.
    pub dropped: Arc<Figure>,
}

impl Fill {
    /// Writes all three.
    pub fn set(&self, entries: u64, capacity: u64, dropped: u64) {
        self.entries.set(entries);
        self.capacity.set(capacity);
        self.dropped.set(dropped);
    }
}

/// What became of the items of one signal, in totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Export {
    /// The receiver took them.
    pub exported: u64,
    /// The receiver took the request and not them.
    pub rejected: u64,
    /// Their request was refused.
    pub failed: u64,
    /// Given up, or no room for them.
    pub dropped: u64,
    /// Attempts after the first.
    pub retries: u64,
}

/// The agent's own counters. Names are words of the program, so there are few of them.
#[derive(Debug)]
pub struct AgentTelemetry {
    kernel_release: Arc<str>,
    ring_used: Figure,
    ring_capacity: Figure,
    series_overflowed: Figure,
    series_expired: Figure,
    events_lost: Named<Arc<Figure>>,
    events: Named<Arc<Figure>>,
    spans_left_out: Named<Arc<Figure>>,
    not_calls: Named<Arc<Figure>>,
    exports: Named<Export>,
    queues: Named<Fill>,
    tables: Named<Fill>,
    host_dropped: Mutex<Vec<(Arc<str>, u64)>>,
    host_resets: Named<Arc<Figure>>,
    host_retransmits: Mutex<Option<u64>>,
    calls_counted: Figure,
    /// As an exponent of two.
    share: Figure,
    left_out: Figure,
}

type Named<T> = Mutex<BTreeMap<&'static str, T>>;

impl AgentTelemetry {
    /// Counts from now on; `kernel_release` as `uname -r` says it.
    #[must_use]
    pub fn new(kernel_release: &str) -> Self {
        Self {
            kernel_release: kernel_release.into(),
            ring_used: Figure::default(),
            ring_capacity: Figure::default(),
            series_overflowed: Figure::default(),
            series_expired: Figure::default(),
            events_lost: Named::default(),
            events: Named::default(),
            spans_left_out: Named::default(),
            not_calls: Named::default(),
            exports: Named::default(),
            queues: Named::default(),
            tables: Named::default(),
            host_dropped: Mutex::default(),
            host_resets: Named::default(),
            host_retransmits: Mutex::default(),
            calls_counted: Figure::default(),
            share: Figure::default(),
            left_out: Figure::default(),
        }
    }

    /// Records that are missing for this reason. Keep the handle; the series exists from
    /// here on, so ask for every reason at start.
    #[must_use]
    pub fn events_lost(&self, reason: &'static str) -> Arc<Figure> {
        Arc::clone(self.events_lost.lock().entry(reason).or_default())
    }

    /// Records of this kind that were read.
    #[must_use]
    pub fn events(&self, kind: &'static str) -> Arc<Figure> {
        Arc::clone(self.events.lock().entry(kind).or_default())
    }

    /// Spans that are left out because somebody else makes them, by who does.
    #[must_use]
    pub fn spans_left_out(&self, reason: &'static str) -> Arc<Figure> {
        Arc::clone(self.spans_left_out.lock().entry(reason).or_default())
    }

    /// What is no call, by what it is.
    #[must_use]
    pub fn not_calls(&self, reason: &'static str) -> Arc<Figure> {
        Arc::clone(self.not_calls.lock().entry(reason).or_default())
    }

    /// Calls that the kernel half counted.
    pub fn calls_counted(&self, count: u64) {
        self.calls_counted.set(count);
    }

    /// 1 in 2^`exponent` connections is followed, and so many were left out so far.
    pub fn share(&self, exponent: u32, left_out: u64) {
        self.share.set(u64::from(exponent));
        self.left_out.set(left_out);
    }

    /// What became of what was to be sent of a signal, so far.
    pub fn export(&self, signal: &'static str, export: Export) {
        self.exports.lock().insert(signal, export);
    }

    /// A queue between two parts of the agent.
    #[must_use]
    pub fn queue(&self, name: &'static str) -> Fill {
        self.queues.lock().entry(name).or_default().clone()
    }

    /// A map, cache or table.
    #[must_use]
    pub fn table(&self, name: &'static str) -> Fill {
        self.tables.lock().entry(name).or_default().clone()
    }

    /// Packets that the kernel dropped, by reason. A reason that was there stays.
    pub fn host_dropped(&self, counts: &[(Arc<str>, u64)]) {
        counts.clone_into(&mut self.host_dropped.lock());
    }

    /// Resets of the host in this direction; the series exists from here on.
    #[must_use]
    pub fn host_resets(&self, direction: &'static str) -> Arc<Figure> {
        Arc::clone(self.host_resets.lock().entry(direction).or_default())
    }

    /// TCP packets that the kernel sent again; the series exists from here on.
    pub fn host_retransmits(&self, count: u64) {
        *self.host_retransmits.lock() = Some(count);
    }

    /// Bytes that waited in the ring buffer, and its size.
    pub fn ring(&self, used: u64, capacity: u64) {
        self.ring_used.set(used);
        self.ring_capacity.set(capacity);
    }

    /// How full the aggregation is: tables `series`, `connections` and `shortcuts`.
    pub fn aggregation(&self, occupancy: &Occupancy) {
        let whole = |count: usize| count as u64;
        self.series_overflowed.set(occupancy.overflowed);
        self.series_expired.set(occupancy.expired);
        self.table("series").set(whole(occupancy.series), whole(occupancy.series_limit), 0);
        self.table("active_connections").set(
            whole(occupancy.connections),
            whole(occupancy.connection_limit),
            occupancy.connections_dropped,
        );
        self.table("series_shortcuts").set(
            whole(occupancy.shortcuts),
            whole(occupancy.shortcut_limit),
            occupancy.shortcuts_dropped,
        );
    }

    /// Everything as it stands since `start_unix_ns`, in the order of the definitions. Reads the process' own
    /// CPU time and memory from `/proc`; what cannot be read is left out.
    #[must_use]
    pub fn families(&self, start_unix_ns: u64) -> Vec<Family> {
        let mut out = Exposition { start_unix_ns, families: Vec::new() };
        self.host(&mut out);
        out.figures(MetricId::EventsLost, REASON.name, &self.events_lost);
        out.figures(MetricId::Events, EVENT_KIND.name, &self.events);
        out.one(MetricId::CallsCounted, exposed(self.calls_counted.get()));
        let share = u32::try_from(self.share.get()).unwrap_or_default();
        out.one(MetricId::CaptureShare, 0.5_f64.powf(f64::from(share)));
        out.one(MetricId::ConnectionsLeftOut, exposed(self.left_out.get()));
        out.one(MetricId::RingUsed, exposed(self.ring_used.get()));
        out.one(MetricId::RingCapacity, exposed(self.ring_capacity.get()));
        out.fills(
            [MetricId::QueueLength, MetricId::QueueCapacity, MetricId::QueueDropped],
            QUEUE.name,
            &self.queues,
        );
        out.fills(
            [MetricId::TableEntries, MetricId::TableCapacity, MetricId::TableDropped],
            TABLE.name,
            &self.tables,
        );
        out.exports(&self.exports);
        out.figures(MetricId::SpansLeftOut, REASON.name, &self.spans_left_out);
        out.figures(MetricId::NotCalls, REASON.name, &self.not_calls);
        out.one(MetricId::SeriesOverflowed, exposed(self.series_overflowed.get()));
        out.one(MetricId::SeriesExpired, exposed(self.series_expired.get()));
        if let Some(cost) = Cost::read() {
            out.one(MetricId::CpuSeconds, cost.cpu_seconds);
            out.one(MetricId::ResidentMemory, cost.resident_bytes);
        }
        out.one(MetricId::StartTime, exposed(start_unix_ns) / 1e9);
        let version = Label::Text(env!("CARGO_PKG_VERSION").into());
        let architecture = Label::Text(std::env::consts::ARCH.into());
        let build = vec![(ARCHITECTURE.name, architecture), (BUILD_VERSION.name, version)];
        out.push(MetricId::BuildInfo, vec![(build, 1.0)]);
        let release = Label::Text(Arc::clone(&self.kernel_release));
        out.push(MetricId::KernelInfo, vec![(vec![(RELEASE.name, release)], 1.0)]);
        out.families
    }

    fn host(&self, out: &mut Exposition) {
        let dropped = self.host_dropped.lock().clone().into_iter();
        let dropped = dropped
            .map(|(reason, count)| (vec![(REASON.name, Label::Text(reason))], exposed(count)))
            .collect();
        out.push(MetricId::HostDropped, dropped);
        out.figures(MetricId::HostResets, DIRECTION.name, &self.host_resets);
        if let Some(count) = *self.host_retransmits.lock() {
            out.one(MetricId::HostRetransmits, exposed(count));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "numbers are exposed as floats")]
fn exposed(number: u64) -> f64 {
    number as f64
}

type Labels = Vec<(&'static str, Label)>;

struct Exposition {
    start_unix_ns: u64,
    families: Vec<Family>,
}

impl Exposition {
    fn push(&mut self, metric: MetricId, series: Vec<(Labels, f64)>) {
        if series.is_empty() {
            return;
        }
        let mut family = metric.definition().family();
        family.series = series
            .into_iter()
            .map(|(labels, value)| Series {
                resource: None,
                labels,
                start_unix_ns: self.start_unix_ns,
                value: Value::Number(value),
            })
            .collect();
        self.families.push(family);
    }

    fn one(&mut self, metric: MetricId, value: f64) {
        self.push(metric, vec![(Vec::new(), value)]);
    }

    fn named(&mut self, metric: MetricId, label: &'static str, values: Vec<(&'static str, u64)>) {
        let series = values
            .into_iter()
            .map(|(name, value)| (vec![(label, Label::Text(name.into()))], exposed(value)))
            .collect();
        self.push(metric, series);
    }

    fn figures(&mut self, metric: MetricId, label: &'static str, named: &Named<Arc<Figure>>) {
        let values = named.lock().iter().map(|(name, figure)| (*name, figure.get())).collect();
        self.named(metric, label, values);
    }

    fn exports(&mut self, exports: &Named<Export>) {
        let exports = exports.lock().clone();
        let text = |word: &'static str| Label::Text(word.into());
        let mut items = Vec::new();
        for (signal, export) in &exports {
            let Export { exported, rejected, failed, dropped, .. } = *export;
            for (outcome, count) in [
                ("exported", exported),
                ("rejected", rejected),
                ("failed", failed),
                ("dropped", dropped),
            ] {
                let labels = vec![(OUTCOME.name, text(outcome)), (SIGNAL.name, text(signal))];
                items.push((labels, exposed(count)));
            }
        }
        self.push(MetricId::ExportItems, items);
        let retries = exports.iter().map(|(signal, export)| (*signal, export.retries)).collect();
        self.named(MetricId::ExportRetries, SIGNAL.name, retries);
    }

    fn fills(&mut self, metrics: [MetricId; 3], label: &'static str, named: &Named<Fill>) {
        let fills: Vec<_> = named.lock().iter().map(|(name, fill)| (*name, fill.clone())).collect();
        let parts: [fn(&Fill) -> u64; 3] =
            [|fill| fill.entries.get(), |fill| fill.capacity.get(), |fill| fill.dropped.get()];
        for (metric, part) in metrics.into_iter().zip(parts) {
            let values = fills.iter().map(|(name, fill)| (*name, part(fill))).collect();
            self.named(metric, label, values);
        }
    }
}

/// What the agent costs, from `/proc/self/stat`.
struct Cost {
    cpu_seconds: f64,
    resident_bytes: f64,
}

impl Cost {
    fn read() -> Option<Self> {
        let stat = procfs::process::Process::myself().ok()?.stat().ok()?;
        let ticks = exposed(stat.utime + stat.stime);
        Some(Self {
            cpu_seconds: ticks / exposed(procfs::ticks_per_second()),
            resident_bytes: exposed(stat.rss * procfs::page_size()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregation::DEFINITIONS;

    #[test]
    fn what_is_written_is_exposed_with_defined_names_and_labels() {
        let telemetry = AgentTelemetry::new("6.18.0");
        telemetry.events_lost("ring_full").set(7);
        telemetry.events("head").add(3);
        telemetry.queue("otlp_metrics").set(1, 10, 2);
        telemetry.ring(4_096, 8_192);
        telemetry.host_dropped(&[("NO_SOCKET".into(), 4)]);
        telemetry.host_resets("transmit").set(6);
        telemetry.export("traces", Export { exported: 4, retries: 6, ..Export::default() });
        telemetry.spans_left_out("itself").set(8);
        telemetry.not_calls("push").set(9);
        telemetry.aggregation(&Occupancy { series: 5, series_limit: 9, ..Occupancy::default() });
        let families = telemetry.families(1_500_000_000);
        let value = |name: &str, label: Option<&str>| {
            let family = families.iter().find(|family| family.name == name)?;
            let wanted = label.map(|label| Label::Text(label.into()));
            let series = family
                .series
                .iter()
                .find(|series| series.labels.first().map(|(_, value)| value) == wanted.as_ref())?;
            match series.value {
                Value::Number(number) => Some(number),
                Value::Histogram { .. } => None,
            }
        };
        assert_eq!(value("meshtap_events_lost_total", Some("ring_full")), Some(7.0));
        assert_eq!(value("meshtap_events_total", Some("head")), Some(3.0));
        assert_eq!(value("meshtap_queue_dropped_total", Some("otlp_metrics")), Some(2.0));
        assert_eq!(value("meshtap_queue_capacity", Some("otlp_metrics")), Some(10.0));
        assert_eq!(value("meshtap_ring_buffer_used_bytes", None), Some(4_096.0));
        assert_eq!(value("meshtap_export_items_total", Some("exported")), Some(4.0));
        assert_eq!(value("meshtap_export_items_total", Some("dropped")), Some(0.0));
        assert_eq!(value("meshtap_export_retries_total", Some("traces")), Some(6.0));
        assert_eq!(value("meshtap_spans_left_out_total", Some("itself")), Some(8.0));
        assert_eq!(value("meshtap_not_calls_total", Some("push")), Some(9.0));
        assert_eq!(value("meshtap_table_entries", Some("series")), Some(5.0));
        assert_eq!(value("meshtap_table_capacity", Some("series")), Some(9.0));
        assert_eq!(value("meshtap_host_packets_dropped_total", Some("NO_SOCKET")), Some(4.0));
        assert_eq!(value("meshtap_host_resets_total", Some("transmit")), Some(6.0));
        assert_eq!(value("meshtap_host_resets_total", Some("receive")), None, "is not observed");
        assert_eq!(value("meshtap_host_retransmits_total", None), None, "is not observed");
        assert_eq!(value("process_start_time_seconds", None), Some(1.5));
        assert!(value("process_resident_memory_bytes", None).is_some_and(|bytes| bytes > 1e5));
        for family in &families {
            let defined = DEFINITIONS
                .iter()
                .find(|definition| definition.name == family.name)
                .unwrap_or_else(|| panic!("{} is not defined", family.name));
            for (name, _) in family.series.iter().flat_map(|series| &series.labels) {
                assert!(defined.labels.iter().any(|label| label.name == *name), "{name}");
            }
        }
    }

    #[test]
    fn handles_of_one_name_are_one_figure() {
        let telemetry = AgentTelemetry::new("6.18.0");
        telemetry.events_lost("gap").add(1);
        telemetry.events_lost("gap").add(1);
        assert_eq!(telemetry.events_lost("gap").get(), 2);
    }
}
