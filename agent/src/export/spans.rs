//! [`Spans`]: a call as a finished span. It decides which calls become spans and with
//! which ids, from the call alone: no state, no clock, no random number per call.
//!
//! - A SERVER span's parent is the context that the request carried.
//! - A CLIENT span is a child of the context that it sent, with an id of its own: the id
//!   on the wire belongs to whoever wrote it.
//! - Where no context is on the wire and both ends are on this host, both spans get one
//!   trace and the SERVER span is the child of the CLIENT span: each end derives the same
//!   ids from [`Call::pair`] with a key drawn at start.
//! - The sampled bit is honoured. Without a decision on the wire a share of traces is
//!   taken, by trace id, so that both ends decide alike.
//! - What somebody else traces already is left out: [`traced`] knows.

mod attributes;
pub(crate) mod rpc;
pub mod traced;

use std::borrow::Cow;

use ahash::RandomState;
use opentelemetry::InstrumentationScope;
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry_sdk::trace::{
    Sampler, SamplingDecision, ShouldSample, SpanData, SpanEvents, SpanLinks,
};

use super::clock::Clock;
use crate::aggregation::RpcNames;
use crate::attribution::Call;
use crate::protocol::Side;

pub use attributes::known_method;
pub(crate) use attributes::{error_type, url_host};

/// Which calls become spans.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpanSettings {
    /// What an incoming decision counts for.
    pub parent: ParentDecision,
    /// Share of the traces without a decision on the wire, 0 to 1.
    pub ratio: f64,
    /// How remote procedure calls are described.
    pub rpc_names: RpcNames,
}

impl Default for SpanSettings {
    fn default() -> Self {
        let (parent, rpc_names) = (ParentDecision::Follow, RpcNames::default());
        Self { parent, ratio: 0.01, rpc_names }
    }
}

/// What to do with a sampling decision on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParentDecision {
    /// Follow it; the ratio is for what carries none.
    Follow,
    /// Apply the ratio to every trace, by its id. Traces may come out with holes.
    Ignore,
}

/// Key of the hash that ids are derived with: nobody who sees ids can foretell others.
#[derive(Clone, Copy, Debug)]
pub struct Secret([u64; 4]);

impl Secret {
    /// A new one.
    #[must_use]
    pub fn draw() -> Self {
        Self(rand::random())
    }

    /// A given one, for what has to come out the same again.
    #[must_use]
    pub fn fixed(seed: [u64; 4]) -> Self {
        Self(seed)
    }
}

/// The ids of a call's span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// The trace.
    pub trace: TraceId,
    /// The span itself.
    pub span: SpanId,
    /// Its parent; `SpanId::INVALID` for a root.
    pub parent: SpanId,
    /// The sampling decision.
    pub sampled: bool,
}

/// Makes spans out of calls.
#[derive(Debug)]
pub struct Spans {
    settings: SpanSettings,
    sampler: Sampler,
    hash: RandomState,
    scope: InstrumentationScope,
}

/// What ids are derived for: one kind of id never repeats as another.
#[derive(Clone, Copy, Hash)]
enum Purpose {
    TraceHigh,
    TraceLow,
    ClientSpan,
    ServerSpan,
}

impl Spans {
    /// Spans of `settings` with ids under `secret`.
    #[must_use]
    pub fn new(settings: SpanSettings, secret: Secret) -> Self {
        let Secret([a, b, c, d]) = secret;
        Self {
            settings,
            sampler: Sampler::TraceIdRatioBased(settings.ratio),
            hash: RandomState::with_seeds(a, b, c, d),
            scope: super::otlp::encode::scope(),
        }
    }

    /// The ids and the decision of a call: the same each time it is asked.
    #[must_use]
    pub fn ids(&self, call: &Call) -> Ids {
        let exchange = &call.exchange;
        // What makes this call this one: the pair where both ends must agree, else the socket.
        let own = (exchange.socket, exchange.start_ns, exchange.sequence);
        let purpose = match call.side() {
            Side::Client => Purpose::ClientSpan,
            Side::Server => Purpose::ServerSpan,
        };
        if let Some(context) = &exchange.trace {
            let trace = TraceId::from(context.trace_id);
            let sampled = match (self.settings.parent, context.sampled) {
                (ParentDecision::Follow, Some(sampled)) => sampled,
                _ => self.takes(trace),
            };
            let span = self.span_id((purpose, own, context.span_id));
            return Ids { trace, span, parent: SpanId::from(context.span_id), sampled };
        }
        if call.peer_observed {
            let trace = self.trace_id(call.pair);
            let span = self.span_id((purpose, call.pair));
            let parent = match call.side() {
                Side::Client => SpanId::INVALID,
                Side::Server => self.span_id((Purpose::ClientSpan, call.pair)),
            };
            return Ids { trace, span, parent, sampled: self.takes(trace) };
        }
        let trace = self.trace_id((purpose, own));
        let span = self.span_id((purpose, own));
        Ids { trace, span, parent: SpanId::INVALID, sampled: self.takes(trace) }
    }

    /// The span of a call; `None` where it is not sampled.
    #[must_use]
    pub fn span(&self, call: &Call, clock: Clock) -> Option<SpanData> {
        let ids = self.ids(call);
        ids.sampled.then(|| self.finished(call, ids, clock))
    }

    fn finished(&self, call: &Call, ids: Ids, clock: Clock) -> SpanData {
        let exchange = &call.exchange;
        let state = exchange.trace_state.as_ref().and_then(|state| state.as_str().parse().ok());
        SpanData {
            span_context: SpanContext::new(
                ids.trace,
                ids.span,
                TraceFlags::SAMPLED,
                false,
                state.unwrap_or(TraceState::NONE),
            ),
            parent_span_id: ids.parent,
            parent_span_is_remote: call.side() == Side::Server && ids.parent != SpanId::INVALID,
            span_kind: match call.side() {
                Side::Client => SpanKind::Client,
                Side::Server => SpanKind::Server,
            },
            name: name(call),
            start_time: clock.system_time(exchange.start_ns),
            end_time: clock.system_time(exchange.end_ns.max(exchange.start_ns)),
            attributes: attributes::of(call, self.settings.rpc_names),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: status(call),
            instrumentation_scope: self.scope.clone(),
        }
    }

    fn takes(&self, trace: TraceId) -> bool {
        let kind = SpanKind::Internal;
        let result = self.sampler.should_sample(None, trace, "", &kind, &[], &[]);
        result.decision == SamplingDecision::RecordAndSample
    }

    fn trace_id(&self, key: impl std::hash::Hash + Copy) -> TraceId {
        let high = self.hash.hash_one((Purpose::TraceHigh, key));
        let low = self.hash.hash_one((Purpose::TraceLow, key));
        // All zeros is no id.
        TraceId::from((u128::from(high) << 64 | u128::from(low)).max(1))
    }

    fn span_id(&self, key: impl std::hash::Hash) -> SpanId {
        SpanId::from(self.hash.hash_one(key).max(1))
    }
}

/// `GET /orders/{id}`, or `package.Service/Method`; the raw path never enters a name.
fn name(call: &Call) -> Cow<'static, str> {
    if let Some(called) = call.exchange.rpc.as_deref() {
        return rpc::name(call, called);
    }
    let method = known_method(call.exchange.method.as_str()).unwrap_or("HTTP");
    if call.route.is_empty() {
        return Cow::Borrowed(method);
    }
    Cow::Owned(format!("{method} {}", call.route))
}

/// Errors by the conventions: 5xx for a server, 4xx too for a client, and no whole answer; of
/// remote procedure calls see [`crate::protocol::exchange::rpc::Fault::of`].
fn status(call: &Call) -> Status {
    match (call.exchange.error, error_type(call)) {
        (Some(cause), _) => Status::error(cause.name()),
        (None, Some(_)) => Status::error(""),
        (None, None) => Status::Unset,
    }
}

/// Bytes of memory that a span takes in a queue, about.
#[must_use]
pub fn weight(span: &SpanData) -> usize {
    let attributes: usize = span.attributes.iter().map(attributes::weight).sum();
    size_of::<SpanData>() + span.name.len() + attributes
}

#[cfg(test)]
mod tests;
