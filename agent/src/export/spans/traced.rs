//! [`Traced`]: whose calls somebody else makes spans of already, so that no hop has two.
//!
//! A service is traced elsewhere where the configuration says so, by name. A *process*
//! also where its own traffic proves it. A trace in which a request with the ids (T, A)
//! reached the process, and which holds a request with (T, B) that the process sent
//! while the first was open, is
//! - **proof** that it makes spans, where no request reached it with B: then B is an id
//!   that the process made, as an SDK, or a proxy that traces, does;
//! - **proof against it**, where B is A: it passes on what it was given.
//!
//! [`PROOFS`] traces that prove it and none against, in either order, make a process
//! traced. Then its SERVER spans are left out, and the CLIENT spans of its requests that
//! carry a context: one without was not made by its tracing.
//!
//! Refuses to guess: contexts without a request that reached the process (a job, a load
//! generator), or with one that cannot be read (TLS, queues), prove nothing, and one proof
//! against outweighs all others. **Bounded**: [`PROCESSES`] processes, the one not seen
//! for longest goes and is counted; `TRACES` traces, a newer takes an older one's place.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use lru::LruCache;
use parking_lot::Mutex;

use crate::attribution::names::Glob;
use crate::attribution::{Call, Identity, IdentityKind};
use crate::protocol::Side;

/// Traces that have to prove it.
pub const PROOFS: u8 = 3;
/// Processes that are judged at one time.
pub const PROCESSES: usize = 1_024;
/// Traces that are looked at, at one time; a power of two.
const TRACES: usize = 2_048;
/// Requests that one trace brings to a process, or takes from it, before it is too
/// crowded to prove anything.
const REQUESTS: usize = 4;

/// Who is known, or found out, to make spans.
#[derive(Clone, Debug, PartialEq)]
pub struct TracedSettings {
    /// Names of services.
    pub services: Vec<Glob>,
    /// Find out about others.
    pub detects: bool,
}

impl Default for TracedSettings {
    fn default() -> Self {
        Self { services: Vec::new(), detects: true }
    }
}

/// How it is known that a call is traced elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TracedBy {
    /// The configuration names the service.
    Configured,
    /// The process proved that it makes spans.
    Itself,
}

/// Totals since the start, and how full the memory of processes is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TracedStats {
    /// Spans left out, the service being configured.
    pub configured: u64,
    /// Spans left out, the process tracing itself.
    pub itself: u64,
    /// Processes that are being judged or were.
    pub processes: usize,
    /// Processes forgotten for want of room.
    pub evicted: u64,
}

/// Remembers who makes spans. Shared by reference.
#[derive(Debug)]
pub struct Traced {
    settings: TracedSettings,
    evidence: Mutex<Evidence>,
    configured: AtomicU64,
    itself: AtomicU64,
}

impl Traced {
    /// Knows nothing but the settings yet.
    #[must_use]
    pub fn new(settings: TracedSettings) -> Self {
        let evidence = Mutex::new(Evidence::new());
        Self { settings, evidence, configured: AtomicU64::new(0), itself: AtomicU64::new(0) }
    }

    /// Learns from a call. Every call, sampled or not: ids are made for both.
    pub fn observe(&self, call: &Call) {
        if self.settings.detects && call.exchange.trace.is_some() {
            self.evidence.lock().take(call);
        }
    }

    /// Who makes the span of this end of the call, if not this agent.
    #[must_use]
    pub fn by(&self, call: &Call) -> Option<TracedBy> {
        let name = &call.local().identity.name;
        if self.settings.services.iter().any(|service| service.matches(name)) {
            return Some(TracedBy::Configured);
        }
        let carries = call.side() == Side::Server || call.exchange.trace.is_some();
        let traced = self.settings.detects && carries && self.evidence.lock().convicts(call);
        traced.then_some(TracedBy::Itself)
    }

    /// Counts a span that was left out.
    pub fn left_out(&self, by: TracedBy) {
        match by {
            TracedBy::Configured => &self.configured,
            TracedBy::Itself => &self.itself,
        }
        .fetch_add(1, Relaxed);
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> TracedStats {
        let evidence = self.evidence.lock();
        TracedStats {
            configured: self.configured.load(Relaxed),
            itself: self.itself.load(Relaxed),
            processes: evidence.processes.len(),
            evicted: evidence.evicted,
        }
    }
}

/// What is known of the process behind a pid.
#[derive(Debug)]
struct Verdict {
    /// Whose the traces are: no two verdicts have the same one.
    number: u64,
    /// As its clients see it, and as its servers do: a name may be given to a port alone.
    /// Another identity than before is another process. The place stands for the identity,
    /// which is interned; the pointer keeps the place from being given to another one.
    identities: [Option<Weak<Identity>>; 2],
    proofs: u8,
    forwards: bool,
}

impl Verdict {
    fn new(number: u64) -> Self {
        Self { number, identities: [None, None], proofs: 0, forwards: false }
    }

    /// Whether the call is the process's, as far as names tell; `None`: they do not yet.
    fn is_of(&self, call: &Call) -> Option<bool> {
        let known = self.identities[side(call)].as_ref()?;
        Some(std::ptr::eq(known.as_ptr(), Arc::as_ptr(&call.local().identity)))
    }
}

fn side(call: &Call) -> usize {
    usize::from(call.side() == Side::Client)
}

/// The pid behind this end of a call, where it stands for one process.
fn process(call: &Call) -> Option<u32> {
    use IdentityKind::{Configured, Container, Process, Unit};
    let local = call.local();
    let known = matches!(local.identity.kind, Configured | Container | Unit | Process);
    (known && local.pid != 0).then_some(local.pid)
}

#[derive(Debug)]
struct Evidence {
    processes: LruCache<u32, Verdict, ahash::RandomState>,
    verdicts: u64,
    evicted: u64,
    /// Direct-mapped; allocated with the first context.
    traces: Vec<Trace>,
    hasher: ahash::RandomState,
}

impl Evidence {
    fn new() -> Self {
        let bound = NonZeroUsize::new(PROCESSES).unwrap_or(NonZeroUsize::MIN);
        Self {
            processes: LruCache::with_hasher(bound, ahash::RandomState::new()),
            verdicts: 0,
            evicted: 0,
            traces: Vec::new(),
            hasher: ahash::RandomState::new(),
        }
    }

    fn take(&mut self, call: &Call) {
        let (Some(pid), Some(context)) = (process(call), &call.exchange.trace) else { return };
        let is_another = self.processes.peek(&pid).map(|verdict| verdict.is_of(call));
        if matches!(is_another, None | Some(Some(false))) {
            self.verdicts += 1;
            let old = self.processes.push(pid, Verdict::new(self.verdicts));
            self.evicted += u64::from(old.is_some_and(|(old, _)| old != pid));
        }
        let Some(verdict) = self.processes.get_mut(&pid) else { return };
        let identity = &mut verdict.identities[side(call)];
        if identity.is_none() {
            *identity = Some(Arc::downgrade(&call.local().identity));
        }
        if verdict.forwards {
            return;
        }
        if self.traces.is_empty() {
            self.traces.resize_with(TRACES, Trace::default);
        }
        let key = (verdict.number, context.trace_id);
        let hash = self.hasher.hash_one(key);
        let place = usize::try_from(hash & (TRACES as u64 - 1)).unwrap_or(0);
        let Some(trace) = self.traces.get_mut(place) else { return };
        if trace.key != key {
            *trace = Trace { key, ..Trace::default() };
        }
        let exchange = &call.exchange;
        let request =
            Request { span: context.span_id, start: exchange.start_ns, end: exchange.end_ns };
        match call.side() {
            Side::Client => trace.sent.push(request),
            Side::Server => trace.received.push(request),
        }
        if trace.forwards() {
            verdict.forwards = true;
        } else if !trace.counted && trace.proves() {
            trace.counted = true;
            verdict.proofs = verdict.proofs.saturating_add(1);
        }
    }

    fn convicts(&self, call: &Call) -> bool {
        let verdict = process(call).and_then(|pid| self.processes.peek(&pid));
        verdict.is_some_and(|verdict| {
            verdict.proofs >= PROOFS && !verdict.forwards && verdict.is_of(call) == Some(true)
        })
    }
}

/// One request of a trace at one process.
#[derive(Clone, Copy, Debug, Default)]
struct Request {
    span: u64,
    start: u64,
    end: u64,
}

#[derive(Debug, Default)]
struct Requests {
    list: [Request; REQUESTS],
    held: usize,
    crowded: bool,
}

impl Requests {
    fn push(&mut self, request: Request) {
        match self.list.get_mut(self.held) {
            Some(slot) => {
                *slot = request;
                self.held += 1;
            }
            None => self.crowded = true,
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Request> {
        self.list.iter().take(self.held)
    }
}

/// What of one trace reached a process, and what the process sent of it.
#[derive(Debug, Default)]
struct Trace {
    /// The verdict's number, and the trace.
    key: (u64, u128),
    received: Requests,
    sent: Requests,
    /// Its proof is part of the verdict.
    counted: bool,
}

impl Trace {
    /// Something that reached it was passed on unchanged. What was sent before it arrived
    /// went out first and came back.
    fn forwards(&self) -> bool {
        let same = |sent: &Request, got: &Request| got.span == sent.span && got.start <= sent.start;
        self.sent.iter().any(|sent| self.received.iter().any(|got| same(sent, got)))
    }

    /// An id went out that the process made while it answered.
    fn proves(&self) -> bool {
        let open = |sent: &Request, got: &Request| got.start <= sent.start && sent.start <= got.end;
        !self.received.crowded
            && self.sent.iter().any(|sent| {
                self.received.iter().all(|got| got.span != sent.span)
                    && self.received.iter().any(|got| open(sent, got))
            })
    }
}

#[cfg(test)]
mod tests;
