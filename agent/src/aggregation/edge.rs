//! Connections of an edge: the TCP series, and the gauge of active connections.
//!
//! **The gauge cannot drift**: each connection is taken out of the very series that it was
//! put into, whatever its ends are called by then and whatever the budget said.

use meshtap_ebpf::event::{
    CLOSE_FIN, CLOSE_REFUSED, CLOSE_RESET_RECEIVED, CLOSE_RESET_SENT, CLOSE_TIMEOUT,
    CLOSE_UNANSWERED,
};

use super::Aggregator;
use super::definition::MetricId;
use super::istio::{Istio, IstioTcpSeries};
use super::labels::{Facet, Words};
use super::series::{SeriesTable, SlotId};
use super::shortcut::{EdgeKey, EdgeSeries, REASONS};
use crate::attribution::ConnectionReport;
use crate::protocol::Side;

impl Aggregator {
    /// Counts what changed on a connection.
    pub fn connection(&mut self, report: &ConnectionReport, time_ns: u64) {
        let key = EdgeKey::of(report);
        if self.edges.get(&key).is_none() {
            let found = Edge::of(self, report, time_ns).find();
            self.edges.add_edge(key, found, report);
        }
        let Some(of) = self.edges.get_mut(&key) else { return };
        let istio = self.istio.as_ref();
        let (series, words) = (&mut self.series, &mut self.words);
        let mut edge = Edge { series, words, istio, report, time_ns };
        edge.complete(of);
        let of = of.clone();
        edge.count(&of);
        self.follow(report, of.active, time_ns);
    }

    /// Moves the gauges of active connections.
    fn follow(&mut self, report: &ConnectionReport, active: SlotId, time_ns: u64) {
        if report.socket == 0 {
            return;
        }
        if let Some(stands) = self.active.get_mut(&report.socket) {
            let stood = *stands;
            if report.closed.is_some() {
                self.active.remove(&report.socket);
                self.series.shift(stood, -1, time_ns);
            } else if stood != active {
                *stands = active;
                self.series.shift(stood, -1, time_ns);
                self.series.shift(active, 1, time_ns);
            } else {
                self.series.shift(active, 0, time_ns);
            }
        } else if report.opened && report.closed.is_none() {
            if self.active.len() >= self.settings.connection_limit {
                self.active_dropped += 1;
                return;
            }
            self.active.insert(report.socket, active);
            self.series.shift(active, 1, time_ns);
        }
    }
}

/// One report, and where its series are.
struct Edge<'a> {
    series: &'a mut SeriesTable,
    words: &'a mut Words,
    istio: Option<&'a Istio>,
    report: &'a ConnectionReport,
    time_ns: u64,
}

impl<'a> Edge<'a> {
    fn of(stage: &'a mut Aggregator, report: &'a ConnectionReport, time_ns: u64) -> Self {
        let istio = stage.istio.as_ref();
        let (series, words) = (&mut stage.series, &mut stage.words);
        Self { series, words, istio, report, time_ns }
    }

    fn slot(&mut self, metric: MetricId, more: Option<Facet>) -> SlotId {
        let (client, server) = (&self.report.client.identity, &self.report.server.identity);
        let (local, peer) = match self.report.side {
            Side::Client => (client, server),
            Side::Server => (server, client),
        };
        let labels = self.words.tcp(self.report.side, peer, more);
        self.series.slot(metric, Some(local), &labels, self.time_ns)
    }

    /// The series that every edge has.
    fn find(&mut self) -> EdgeSeries {
        let (receive, transmit) =
            (Some(Facet::Direction("receive")), Some(Facet::Direction("transmit")));
        EdgeSeries {
            opened: self.slot(MetricId::TcpOpened, None),
            active: self.slot(MetricId::TcpActive, None),
            received: self.slot(MetricId::TcpIo, receive),
            transmitted: self.slot(MetricId::TcpIo, transmit),
            retransmits: self.slot(MetricId::TcpRetransmits, None),
            resets_received: self.slot(MetricId::TcpResets, receive),
            resets_sent: self.slot(MetricId::TcpResets, transmit),
            connect: None,
            rtt: None,
            closed: [None; REASONS],
            failed: [None; REASONS],
            istio: self.istio(),
        }
    }

    fn istio(&mut self) -> Option<IstioTcpSeries> {
        let labels = self.istio.and_then(|istio| self.words.istio_tcp(self.report, istio))?;
        let mut slot = |metric| self.series.slot(metric, None, &labels, self.time_ns);
        Some(IstioTcpSeries {
            opened: slot(MetricId::IstioTcpOpened),
            closed: slot(MetricId::IstioTcpClosed),
            sent: slot(MetricId::IstioTcpSent),
            received: slot(MetricId::IstioTcpReceived),
        })
    }

    /// Finds the series that only this report asks for.
    fn complete(&mut self, of: &mut EdgeSeries) {
        let report = self.report;
        if report.connect_ns.is_some() && of.connect.is_none() {
            of.connect = Some(self.slot(MetricId::TcpConnect, None));
        }
        if report.rtt_us.is_some() && of.rtt.is_none() {
            of.rtt = Some(self.slot(MetricId::TcpRtt, None));
        }
        for (metric, reason, known) in [
            (MetricId::TcpClosed, report.closed, &mut of.closed),
            (MetricId::TcpFailed, report.failed, &mut of.failed),
        ] {
            let Some(reason) = reason else { continue };
            let slot = &mut known[reason_index(reason)];
            if slot.is_none() {
                *slot = Some(self.slot(metric, Some(Facet::Reason(reason_name(reason)))));
            }
        }
    }

    fn count(&mut self, of: &EdgeSeries) {
        let (report, time_ns) = (self.report, self.time_ns);
        for slot in of.counters() {
            self.series.add(slot, 0, time_ns);
        }
        let is_new = report.opened && !report.late;
        let ended_by = |reason| u64::from(report.closed == Some(reason));
        for (slot, amount) in [
            (of.opened, u64::from(is_new)),
            (of.received, report.bytes_received),
            (of.transmitted, report.bytes_sent),
            (of.retransmits, u64::from(report.retransmits)),
            (of.resets_received, ended_by(CLOSE_RESET_RECEIVED)),
            (of.resets_sent, ended_by(CLOSE_RESET_SENT)),
        ] {
            if amount > 0 {
                self.series.add(slot, amount, time_ns);
            }
        }
        if let Some(istio) = &of.istio {
            istio.record(self.series, report, time_ns);
        }
        for (reason, known) in [(report.closed, &of.closed), (report.failed, &of.failed)] {
            if let Some(slot) = reason.and_then(|reason| known[reason_index(reason)]) {
                self.series.add(slot, 1, time_ns);
            }
        }
        if let (Some(slot), Some(connect_ns)) = (of.connect, report.connect_ns) {
            self.series.observe(slot, connect_ns, time_ns);
        }
        if let (Some(slot), Some(rtt_us)) = (of.rtt, report.rtt_us) {
            self.series.observe(slot, u64::from(rtt_us) * 1_000, time_ns);
        }
    }
}

fn reason_index(reason: u8) -> usize {
    usize::from(reason).min(REASONS - 1)
}

/// The value of `reason` for a `meshtap_ebpf::event::CLOSE_*`.
fn reason_name(reason: u8) -> &'static str {
    match reason {
        CLOSE_FIN => "fin",
        CLOSE_RESET_RECEIVED => "reset_received",
        CLOSE_RESET_SENT => "reset_sent",
        CLOSE_TIMEOUT => "timeout",
        CLOSE_REFUSED => "refused",
        CLOSE_UNANSWERED => "unanswered",
        _ => "unknown",
    }
}
