//! Remote procedure calls: their durations by name of method, and what their ends sent.
//!
//! **Each message and byte is counted once**: what a call reported while it ran is not
//! counted again at its end. A count that nobody has is no zero: the call is counted among
//! those without one.

use super::Aggregator;
use super::definition::MetricId;
use super::labels::Words;
use super::series::{SeriesTable, SlotId};
use super::shortcut::RpcSeries;
use super::summary::{CallFacts, RpcFacts};
use crate::attribution::Call;
use crate::protocol::exchange::rpc::{Rpc, Traffic};
use crate::protocol::{Exchange, Side};

/// Whose messages and bytes: the client's are those of requests.
const SENDERS: [Side; 2] = [Side::Client, Side::Server];

/// What calls add to their counters, in the order of [`SENDERS`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Amounts {
    pub(super) calls: u64,
    /// `None`: no call has a count.
    pub(super) messages: [Option<u64>; 2],
    pub(super) bytes: [u64; 2],
}

impl Amounts {
    /// What the end of a call adds to what it reported before.
    pub(super) fn rest(exchange: &Exchange, rpc: &Rpc) -> Self {
        let reported = &rpc.reported;
        let rest = |count: Option<u64>, reported| Some(count?.saturating_sub(reported));
        Self {
            calls: 1,
            messages: [
                rest(rpc.request_messages, reported.request_messages),
                rest(rpc.response_messages, reported.response_messages),
            ],
            bytes: [
                exchange.request_bytes.saturating_sub(reported.request_bytes),
                exchange.response_bytes.saturating_sub(reported.response_bytes),
            ],
        }
    }
}

impl RpcSeries {
    /// Adds what calls sent.
    pub(super) fn add(&self, series: &mut SeriesTable, amounts: &Amounts, time_ns: u64) {
        for (slot, messages) in self.messages.into_iter().zip(amounts.messages) {
            // Where there is no count, the slot is that of calls without one.
            series.add(slot, messages.unwrap_or(amounts.calls), time_ns);
        }
        for (slot, bytes) in self.bytes.into_iter().zip(amounts.bytes) {
            series.add(slot, bytes, time_ns);
        }
    }
}

impl Aggregator {
    /// Counts what a call that goes on did since its last report: `call` is as far as it
    /// got, `gains` are those of [`crate::protocol::exchange::rpc::Progress`]. Its duration
    /// and outcome count when it ends.
    pub fn progress(&mut self, call: &Call, gains: &Traffic, time_ns: u64) {
        let facts = CallFacts::from(call);
        let Some(rpc) = &facts.rpc else { return };
        let counts = [gains.request_messages, gains.response_messages];
        let bytes = [gains.request_bytes, gains.response_bytes];
        let mut find = Finder::of(self, &facts, time_ns);
        let each = SENDERS.into_iter().zip(rpc.counted).zip(counts.into_iter().zip(bytes));
        for ((sender, is_counted), (messages, bytes)) in each {
            if is_counted {
                let slot = find.slot(MetricId::RpcMessages, sender);
                find.series.add(slot, messages, time_ns);
            }
            let slot = find.slot(MetricId::RpcIo, sender);
            find.series.add(slot, bytes, time_ns);
        }
    }

    /// The series of durations, and those of what was sent.
    pub(super) fn find_rpc_series(
        &mut self,
        facts: &CallFacts<'_>,
        rpc: &RpcFacts,
        time_ns: u64,
    ) -> (SlotId, RpcSeries) {
        let (stable, deprecated) = match facts.side {
            Side::Server => (MetricId::RpcServerDuration, MetricId::RpcServerDurationOld),
            Side::Client => (MetricId::RpcClientDuration, MetricId::RpcClientDurationOld),
        };
        let local = Some(facts.local());
        let names = self.settings.rpc_names;
        let old = names.deprecated().then(|| {
            self.series.slot(deprecated, local, &self.words.deprecated_rpc(facts, rpc), time_ns)
        });
        let (duration, beside) = match old.filter(|_| !names.stable()) {
            Some(old) => (old, None),
            None => (self.series.slot(stable, local, &self.words.rpc(facts, rpc), time_ns), old),
        };
        let mut find = Finder::of(self, facts, time_ns);
        let [request, response] = SENDERS;
        let [request_is_counted, response_is_counted] = rpc.counted;
        let metric = |counted| if counted { MetricId::RpcMessages } else { MetricId::RpcUncounted };
        let messages = [
            find.slot(metric(request_is_counted), request),
            find.slot(metric(response_is_counted), response),
        ];
        let bytes = [find.slot(MetricId::RpcIo, request), find.slot(MetricId::RpcIo, response)];
        (duration, RpcSeries { beside, messages, bytes })
    }
}

/// Finds the series of what the ends of a call sent.
struct Finder<'a> {
    series: &'a mut SeriesTable,
    words: &'a mut Words,
    facts: &'a CallFacts<'a>,
    time_ns: u64,
}

impl<'a> Finder<'a> {
    fn of(stage: &'a mut Aggregator, facts: &'a CallFacts<'a>, time_ns: u64) -> Self {
        Self { series: &mut stage.series, words: &mut stage.words, facts, time_ns }
    }

    fn slot(&mut self, metric: MetricId, sender: Side) -> SlotId {
        let labels = self.words.traffic(self.facts, sender);
        self.series.slot(metric, Some(self.facts.local()), &labels, self.time_ns)
    }
}
