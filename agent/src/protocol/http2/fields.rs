//! [`Fields`]: what the headers of one block say together.

use std::ops::Range;

use super::fact::Fact;
use super::hpack::Field;
use super::names::Name;
use crate::protocol::exchange::{AgentClass, Exchange, Text};
use crate::protocol::http1;
use crate::protocol::relayed::Relayed;
use crate::protocol::rpc::Content;
use crate::protocol::trace_context::Carrier;

/// Headers with trace context that are looked at.
const TRACES: usize = 12;
/// Longest such header that is looked at.
const TRACE_MAX: usize = 4_096;

/// What a block says; the first of a header that stands there twice counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    pub(super) method: Option<Text>,
    pub(super) scheme: bool,
    pub(super) path: Option<Text>,
    pub(super) authority: Option<Text>,
    pub(super) host: Option<Text>,
    pub(super) protocol: bool,
    pub(super) status: Option<u16>,
    pub(super) agent: Option<AgentClass>,
    pub(super) request_id: Option<Text>,
    pub(super) content: Option<Content>,
    pub(super) connect: bool,
    pub(super) grpc_status: Option<u32>,
    pub(super) grpc_timeout: Option<u64>,
    pub(super) relayed: Relayed,
    /// The path was longer than what is kept.
    pub(super) cut: bool,
    /// At least one header's name or value is not known.
    pub(super) unknown: bool,
    /// There was a block, and nothing of it could be read.
    pub(super) unreadable: bool,
    /// Names of headers with trace context, and where in the bytes their values stand.
    traces: Vec<(&'static str, Range<usize>)>,
    bytes: Vec<u8>,
}

impl Fields {
    /// Empties it and keeps its memory.
    pub(super) fn clear(&mut self) {
        let (mut traces, mut bytes) =
            (std::mem::take(&mut self.traces), std::mem::take(&mut self.bytes));
        traces.clear();
        bytes.clear();
        *self = Self { traces, bytes, ..Self::default() };
    }

    /// Says what `other` says, which has no ids.
    pub(super) fn copy(&mut self, other: &Self) {
        let (traces, bytes) = (std::mem::take(&mut self.traces), std::mem::take(&mut self.bytes));
        *self = Self { traces, bytes, ..other.clone() };
    }

    /// Whether another block may say the same: it has no ids.
    pub(super) fn repeat(&self) -> bool {
        self.traces.is_empty() && self.request_id.is_none()
    }

    /// Takes a header.
    pub(super) fn take(&mut self, field: Field<'_>) {
        self.unknown |= field.kind == Name::Unknown;
        match field.fact {
            Fact::Nothing => {}
            Fact::Method(method) => first(&mut self.method, method),
            Fact::Scheme => self.scheme = true,
            Fact::Path(path) => first(&mut self.path, path),
            Fact::PathCut(path) => {
                self.cut = true;
                first(&mut self.path, path);
            }
            Fact::Authority(authority) => first(&mut self.authority, authority),
            Fact::Protocol => self.protocol = true,
            Fact::Status(status) => first(&mut self.status, status),
            Fact::Host(host) => first(&mut self.host, host),
            Fact::Agent(agent) => first(&mut self.agent, agent),
            Fact::RequestId(id) => first(&mut self.request_id, id),
            Fact::Content(content) => first(&mut self.content, content),
            Fact::ConnectVersion => self.connect = true,
            Fact::GrpcStatus(status) => first(&mut self.grpc_status, status),
            Fact::GrpcTimeout(timeout) => first(&mut self.grpc_timeout, timeout),
            Fact::Relayed(said) => self.relayed.merge(said),
            Fact::Trace(name) => self.trace(name, field.value.unwrap_or_default()),
        }
    }

    fn trace(&mut self, name: &'static str, value: &[u8]) {
        if self.traces.len() >= TRACES || value.len() > TRACE_MAX {
            return;
        }
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.traces.push((name, begin..self.bytes.len()));
    }

    /// Whether it is the head of a request.
    pub(super) fn is_request(&self) -> bool {
        let Self { method, path, authority, scheme, .. } = self;
        *scheme || method.is_some() || path.is_some() || authority.is_some()
    }

    /// Whether the request asks for a tunnel. CONNECT has neither scheme nor path, unless
    /// it names a protocol; every other request has both, and the usual schemes have
    /// indices that are always known.
    pub(super) fn is_tunnel(&self) -> bool {
        match &self.method {
            Some(method) => method.as_str() == "CONNECT",
            None => self.protocol || (self.unknown && !self.scheme && self.path.is_none()),
        }
    }

    /// Gives the exchange what the request carried beside its target.
    pub(super) fn say_ids(&mut self, exchange: &mut Exchange, scratch: &mut Vec<u8>) {
        exchange.request_id = self.request_id.take();
        if self.traces.is_empty() {
            return;
        }
        let mut carrier = Carrier::default();
        for (name, range) in &self.traces {
            carrier.header(name, self.bytes.get(range.clone()).unwrap_or_default());
        }
        if let Some((context, is_w3c)) = carrier.context() {
            exchange.trace = Some(context);
            if is_w3c {
                scratch.clear();
                carrier.trace_state(scratch);
                exchange.trace_state = (!scratch.is_empty()).then(|| http1::text(scratch));
            }
        }
    }
}

fn first<T: Clone>(place: &mut Option<T>, value: &T) {
    if place.is_none() {
        *place = Some(value.clone());
    }
}
