//! [`Held`]: what was found of ends that Kubernetes has not told of yet. It waits a short,
//! bounded time for their names, and is never left out for lack of one. So does what has a
//! client that a waypoint hides.

mod hidden;

use std::collections::VecDeque;

use ahash::AHashSet;

use hidden::Hidden;

use super::Found;
use crate::attribution::{Attributor, ConnectionReport};
use crate::protocol::exchange::rpc::Progress;
use crate::protocol::{Exchange, Routes};

/// Things that wait at once; what comes beyond goes by the names that are known.
const BOUND: usize = 8_192;

/// Something that waits for names.
#[derive(Debug)]
pub(super) enum Unnamed {
    Call(Box<Exchange>),
    Progress(Progress),
    Report(Box<ConnectionReport>, u64),
}

impl Unnamed {
    fn socket(&self) -> u64 {
        match self {
            Self::Call(exchange) | Self::Progress(Progress { exchange, .. }) => exchange.socket,
            Self::Report(report, _) => report.socket,
        }
    }

    fn time_ns(&self) -> u64 {
        match self {
            Self::Call(exchange) | Self::Progress(Progress { exchange, .. }) => exchange.end_ns,
            Self::Report(_, time_ns) => *time_ns,
        }
    }

    /// Names it as well as it can be; `None` for what is none of a call's ends.
    pub(super) fn name(self, attributor: &mut Attributor, routes: &mut Routes) -> Option<Found> {
        match self {
            Self::Call(exchange) => attributor.resolve(exchange, routes).map(Found::Call),
            Self::Progress(Progress { exchange, gains }) => {
                let call = attributor.resolve_progress(exchange, routes)?;
                Some(Found::Progress(call, gains))
            }
            Self::Report(mut report, time_ns) => {
                attributor.rename(&mut report);
                Some(Found::Connection(report, time_ns))
            }
        }
    }
}

/// What waits, oldest first.
#[derive(Debug, Default)]
pub(super) struct Held {
    waiting: VecDeque<Unnamed>,
    /// Sockets of which reports wait.
    reported: AHashSet<u64>,
    /// State of knowledge at the last look.
    revision: u64,
    hidden: Hidden,
}

impl Held {
    /// Keeps `found` where Kubernetes may soon name its ends, else gives it back. The reports
    /// of a connection stay in their order: its end is never told before its beginning.
    pub(super) fn keep(&mut self, found: Unnamed, attributor: &mut Attributor) -> Option<Unnamed> {
        let is_report = matches!(found, Unnamed::Report(..));
        let is_behind = is_report && self.reported.contains(&found.socket());
        let has_room = self.waiting.len() < BOUND;
        let waits = is_behind || (has_room && attributor.awaits(found.socket(), found.time_ns()));
        if !waits {
            return self.keep_hidden(found, attributor);
        }
        if is_report {
            self.reported.insert(found.socket());
        }
        self.waiting.push_back(found);
        None
    }

    /// What has its names and its client by now, or has waited long enough.
    pub(super) fn due(&mut self, now_ns: u64, attributor: &mut Attributor) -> VecDeque<Unnamed> {
        let mut due: VecDeque<Unnamed> =
            self.hidden.due(now_ns, attributor).into_iter().map(Unnamed::Call).collect();
        for named in self.named(now_ns, attributor) {
            due.extend(self.keep_hidden(named, attributor));
        }
        due
    }

    fn keep_hidden(&mut self, found: Unnamed, attributor: &Attributor) -> Option<Unnamed> {
        match found {
            Unnamed::Call(exchange) => self.hidden.keep(exchange, attributor).map(Unnamed::Call),
            other => Some(other),
        }
    }

    fn named(&mut self, now_ns: u64, attributor: &mut Attributor) -> VecDeque<Unnamed> {
        let Some(oldest) = self.waiting.front() else { return VecDeque::new() };
        let (patience_ns, revision) = attributor.patience();
        let is_over = |found: &Unnamed| now_ns >= found.time_ns().saturating_add(patience_ns);
        if revision == self.revision && !is_over(oldest) {
            return VecDeque::new();
        }
        self.revision = revision;
        self.reported.clear();
        let (due, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|found| {
            let is_due = is_over(found) || !attributor.awaits(found.socket(), found.time_ns());
            let is_report = matches!(found, Unnamed::Report(..));
            let is_behind = is_report && self.reported.contains(&found.socket());
            if is_report && !is_due {
                self.reported.insert(found.socket());
            }
            is_due && !is_behind
        });
        self.waiting = waiting;
        due
    }

    /// All that waits.
    pub(super) fn all(&mut self) -> VecDeque<Unnamed> {
        self.reported.clear();
        let mut all = std::mem::take(&mut self.waiting);
        all.extend(self.hidden.all().into_iter().map(Unnamed::Call));
        all
    }

    /// Things that wait, and the bound.
    pub(super) fn occupancy(&self) -> (usize, usize) {
        (self.waiting.len() + self.hidden.len(), BOUND + hidden::BOUND)
    }
}

#[cfg(test)]
mod tests;
