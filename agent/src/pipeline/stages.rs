//! [`Stages`]: stages 2 and 3 in their order, event by event. No clock, no input or
//! output of its own; what reads the host hides behind attribution.

use std::collections::VecDeque;

use meshtap_ebpf::event::Ended;

use super::held::{Held, Unnamed};
use crate::aggregation::CallSummary;
use crate::attribution::{Attributor, Call, ConnectionReport};
use crate::command::observe::Lost;
use crate::protocol::exchange::rpc::Traffic;
use crate::protocol::{Exchange, Output, Protocols, Routes, Side};
use crate::ring_buffer::Event;

/// What the stages found, in the order of the events that led to it.
#[derive(Clone, Debug)]
pub enum Found {
    /// One end's observation of a call.
    Call(Call),
    /// What a call that goes on did since its last report.
    Progress(Call, Traffic),
    /// Calls of one kind that the kernel half counted, and when the last one ended.
    Repeated(Box<CallSummary>, u64),
    /// Calls that took place and cannot be told.
    Lost(Lost),
    /// What changed on a connection, and when (`CLOCK_MONOTONIC`, nanoseconds).
    Connection(Box<ConnectionReport>, u64),
}

/// Protocol state, attribution and routes of the host.
#[derive(Debug)]
pub struct Stages {
    /// Stage 2.
    pub protocols: Protocols,
    /// Stage 3.
    pub attributor: Attributor,
    /// Paths as routes, per service that answers.
    pub routes: Routes,
    learns_names: bool,
    output: Output,
    reports: Vec<ConnectionReport>,
    held: Held,
}

impl Stages {
    /// Wires the stages; `learns_names`: DNS answers may name addresses.
    #[must_use]
    pub fn new(
        protocols: Protocols,
        attributor: Attributor,
        routes: Routes,
        learns_names: bool,
    ) -> Self {
        Self {
            protocols,
            attributor,
            routes,
            learns_names,
            output: Output::default(),
            reports: Vec::new(),
            held: Held::default(),
        }
    }

    /// Takes one event; what it led to is appended to `found`.
    pub fn event(&mut self, event: &Event<'_>, found: &mut Vec<Found>) {
        if !self.learns_names && matches!(event, Event::NameAnswer(..)) {
            return;
        }
        let time_ns = event.header().time_ns;
        // Attribution first: a call that this event ends is named with what it tells.
        self.attributor.observe(event, &mut self.reports);
        self.protocols.feed(event, &mut self.output);
        // The calls of a connection before its end.
        if !self.output.exchanges.is_empty() || !self.output.lost.is_empty() {
            self.name(found);
        }
        if !self.reports.is_empty() {
            self.report(time_ns, found);
        }
    }

    /// Takes ends of connections that found no room among the events, after all events of
    /// theirs.
    pub fn ended(&mut self, ended: &[(u64, Ended)], now_ns: u64, found: &mut Vec<Found>) {
        for (socket, ended) in ended {
            self.protocols.ended(*socket, ended, now_ns, &mut self.output);
        }
        self.name(found);
    }

    /// Forgets what is over and reports calls that go on. To be called about every second.
    pub fn sweep(&mut self, now_ns: u64, found: &mut Vec<Found>) {
        self.protocols.expire(now_ns, &mut self.output);
        self.protocols.report(now_ns, &mut self.output);
        self.name(found);
        self.attributor.sweep(now_ns);
    }

    /// Reports connections whose beginning waited, a bounded number of them; whether there are
    /// more. To be called about every second.
    pub fn report_beginnings(&mut self, now_ns: u64, found: &mut Vec<Found>) -> bool {
        let more = self.attributor.report_beginnings(now_ns, &mut self.reports);
        self.report(now_ns, found);
        more
    }

    /// Takes back what nobody wants any more, for its memory; `found` is empty then.
    pub fn reuse(&mut self, found: &mut Vec<Found>) {
        for found in found.drain(..) {
            if let Found::Call(Call { exchange, .. }) | Found::Progress(Call { exchange, .. }, _) =
                found
            {
                self.protocols.reuse(exchange);
            }
        }
    }

    /// Names both ends of calls like this one, as they are known by now.
    pub fn resolve(&mut self, exchange: Box<Exchange>) -> Option<Call> {
        self.attributor.resolve_progress(exchange, &mut self.routes)
    }

    /// Hands on what waited for a name that is known by now, or for long enough.
    pub fn release(&mut self, now_ns: u64, found: &mut Vec<Found>) {
        let due = self.held.due(now_ns, &mut self.attributor);
        self.hand_on(due, found);
    }

    /// Hands on all that waits for names.
    pub fn release_all(&mut self, found: &mut Vec<Found>) {
        let all = self.held.all();
        self.hand_on(all, found);
    }

    fn hand_on(&mut self, named: VecDeque<Unnamed>, found: &mut Vec<Found>) {
        let Self { attributor, routes, .. } = self;
        found.extend(named.into_iter().filter_map(|named| named.name(attributor, routes)));
    }

    /// What waits for names, and the bound.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        self.held.occupancy()
    }

    fn report(&mut self, time_ns: u64, found: &mut Vec<Found>) {
        for report in self.reports.drain(..) {
            let report = Unnamed::Report(Box::new(report), time_ns);
            if let Some(Unnamed::Report(report, time_ns)) =
                self.held.keep(report, &mut self.attributor)
            {
                found.push(Found::Connection(report, time_ns));
            }
        }
    }

    fn name(&mut self, found: &mut Vec<Found>) {
        let Self { output, attributor, routes, held, .. } = self;
        let calls = output.exchanges.drain(..).map(Unnamed::Call);
        for unnamed in calls.chain(output.progress.drain(..).map(Unnamed::Progress)) {
            let named = held.keep(unnamed, attributor);
            found.extend(named.and_then(|unnamed| unnamed.name(attributor, routes)));
        }
        for lost in self.output.lost.drain(..) {
            if self.attributor.is_passed_on(lost.socket) {
                continue;
            }
            let edge = self.attributor.edge(lost.socket);
            let parties = edge.and_then(|(role, client, server)| {
                // Which end is which would be a guess.
                let side: Option<Side> = lost.side.or(role);
                side.map(|_| (client, server))
            });
            let (client, server) = parties.unzip();
            found.push(Found::Lost(Lost {
                time_ns: lost.time_ns,
                count: u64::from(lost.calls),
                reason: lost.reason,
                client,
                server,
            }));
        }
    }
}
