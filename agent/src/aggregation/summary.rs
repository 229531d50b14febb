//! [`CallSummary`]: many calls of one kind as one record, and what it shares with a [`Call`].

use std::sync::Arc;

use super::histogram::{DURATION, DURATION_BUCKETS, SIZE, SIZE_BUCKETS, Tally};
use super::rpc::Amounts;
use crate::attribution::cluster::Service;
use crate::attribution::mesh::Passage;
use crate::attribution::{Call, Identity, IdentityKind, Party};
use crate::protocol::exchange::UNKNOWN;
use crate::protocol::exchange::rpc::{Fault, Rpc, RpcSystem};
use crate::protocol::{Cause, Exchange, Protocol, Side};

/// A request method as a label: known ones by name, so that no client can make series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they say it themselves")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    Query,
    /// Anything else; methods are case-sensitive.
    Other,
    /// [`UNKNOWN`].
    Unknown,
}

impl Method {
    /// The method that a request line named.
    #[must_use]
    pub fn of(token: &str) -> Self {
        match token {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "CONNECT" => Self::Connect,
            "OPTIONS" => Self::Options,
            "TRACE" => Self::Trace,
            "PATCH" => Self::Patch,
            "QUERY" => Self::Query,
            UNKNOWN => Self::Unknown,
            _ => Self::Other,
        }
    }

    /// The value of `http.request.method`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
            Self::Query => "QUERY",
            Self::Other => "_OTHER",
            Self::Unknown => UNKNOWN,
        }
    }
}

/// What remote procedure calls have beyond HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RpcSummary {
    /// See [`Rpc::system`].
    pub system: RpcSystem,
    /// See [`Rpc::status`].
    pub status: Option<u32>,
    /// Messages of all the requests, but those that were reported before the calls ended.
    /// `None`: those of none of the calls could be counted; calls agree in that.
    pub request_messages: Option<u64>,
    /// Messages of the answers, likewise.
    pub response_messages: Option<u64>,
    /// Body bytes of the requests, but those that were reported before.
    pub request_bytes: u64,
    /// Body bytes of the answers, likewise.
    pub response_bytes: u64,
}

impl RpcSummary {
    fn of(rpc: &Rpc) -> Self {
        Self {
            system: rpc.system,
            status: rpc.status,
            request_messages: rpc.request_messages.map(|_| 0),
            response_messages: rpc.response_messages.map(|_| 0),
            request_bytes: 0,
            response_bytes: 0,
        }
    }

    fn add(&mut self, exchange: &Exchange, rpc: &Rpc) {
        let rest = Amounts::rest(exchange, rpc);
        let [requests, responses] = rest.messages;
        let sum = |sum: Option<u64>, more: Option<u64>| Some(sum?.saturating_add(more?));
        self.request_messages = sum(self.request_messages, requests);
        self.response_messages = sum(self.response_messages, responses);
        let [requests, responses] = rest.bytes;
        self.request_bytes = self.request_bytes.saturating_add(requests);
        self.response_bytes = self.response_bytes.saturating_add(responses);
    }

    pub(super) fn amounts(&self, calls: u64) -> Amounts {
        Amounts {
            calls,
            messages: [self.request_messages, self.response_messages],
            bytes: [self.request_bytes, self.response_bytes],
        }
    }
}

/// Calls that agree in everything but duration and sizes, counted elsewhere.
#[derive(Clone, Debug)]
pub struct CallSummary {
    /// Which end observed them.
    pub side: Side,
    /// As in [`crate::protocol::Exchange`].
    pub protocol: Protocol,
    /// As a label.
    pub method: Method,
    /// See [`crate::protocol::Exchange::status`].
    pub status: Option<u16>,
    /// See [`crate::protocol::Exchange::error`].
    pub error: Option<Cause>,
    /// Who asked.
    pub client: Party,
    /// Who was asked.
    pub server: Party,
    /// See [`Call::route`].
    pub route: Arc<str>,
    /// See [`Call::server_address`].
    pub server_address: Arc<str>,
    /// See [`Call::server_port`].
    pub server_port: u16,
    /// See [`Call::peer_observed`].
    pub peer_observed: bool,
    /// Durations in nanoseconds over [`DURATION`]; its count is the number of calls.
    pub durations: Tally<DURATION_BUCKETS>,
    /// Body bytes of the requests over [`SIZE`].
    pub request_bytes: Tally<SIZE_BUCKETS>,
    /// Body bytes of the answers over [`SIZE`].
    pub response_bytes: Tally<SIZE_BUCKETS>,
    /// See [`Call::service`].
    pub service: Option<Arc<Service>>,
    /// See [`Call::passage`].
    pub passage: Option<Arc<Passage>>,
    /// See [`Call::passes_waypoint`] and [`Call::waypoint`].
    pub has_waypoint: bool,
    /// What they were beyond HTTP.
    pub rpc: Option<RpcSummary>,
}

impl CallSummary {
    /// A summary of this one call.
    #[must_use]
    pub fn of(call: &Call) -> Self {
        let exchange = &call.exchange;
        let mut summary = Self {
            side: exchange.side,
            protocol: exchange.protocol,
            method: Method::of(exchange.method.as_str()),
            status: exchange.status,
            error: exchange.error,
            client: call.client.clone(),
            server: call.server.clone(),
            route: Arc::clone(&call.route),
            server_address: Arc::clone(&call.server_address),
            server_port: call.server_port,
            peer_observed: call.peer_observed,
            durations: Tally::default(),
            request_bytes: Tally::default(),
            response_bytes: Tally::default(),
            service: call.service.clone(),
            passage: call.passage.clone(),
            has_waypoint: call.passes_waypoint || call.waypoint().is_some(),
            rpc: exchange.rpc.as_deref().map(RpcSummary::of),
        };
        summary.add(call);
        summary
    }

    /// Adds a call that agrees with the summary's facts.
    pub fn add(&mut self, call: &Call) {
        self.durations.add(&DURATION, call.exchange.duration_ns());
        self.request_bytes.add(&SIZE, call.exchange.request_bytes);
        self.response_bytes.add(&SIZE, call.exchange.response_bytes);
        if let (Some(summary), Some(rpc)) = (&mut self.rpc, call.exchange.rpc.as_deref()) {
            summary.add(&call.exchange, rpc);
        }
    }
}

/// What decides the labels of remote procedure calls beside the method, which is the route.
#[derive(Clone, Copy, Debug)]
pub(super) struct RpcFacts {
    pub(super) system: RpcSystem,
    pub(super) status: Option<u32>,
    /// Whether the messages of requests and of answers could be counted.
    pub(super) counted: [bool; 2],
}

/// What decides the labels: the same for a call and a summary.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallFacts<'a> {
    pub(super) side: Side,
    pub(super) protocol: Protocol,
    pub(super) method: Method,
    pub(super) status: Option<u16>,
    pub(super) error: Option<Cause>,
    pub(super) client: &'a Party,
    pub(super) server: &'a Party,
    pub(super) route: &'a Arc<str>,
    pub(super) server_address: &'a Arc<str>,
    pub(super) server_port: u16,
    pub(super) peer_observed: bool,
    pub(super) service: Option<&'a Arc<Service>>,
    pub(super) passage: Option<&'a Arc<Passage>>,
    pub(super) rpc: Option<RpcFacts>,
    /// What lies between its ends, in a mesh, is known.
    pub(super) has_between: bool,
    /// A waypoint, which reports the call, stands before the server, or hid its client.
    pub(super) has_waypoint: bool,
}

impl<'a> From<&'a Call> for CallFacts<'a> {
    #[inline]
    fn from(call: &'a Call) -> Self {
        Self {
            side: call.exchange.side,
            protocol: call.exchange.protocol,
            method: Method::of(call.exchange.method.as_str()),
            status: call.exchange.status,
            error: call.exchange.error,
            client: &call.client,
            server: &call.server,
            route: &call.route,
            server_address: &call.server_address,
            server_port: call.server_port,
            peer_observed: call.peer_observed,
            service: call.service.as_ref(),
            passage: call.passage.as_ref(),
            rpc: call.exchange.rpc.as_deref().map(|rpc| RpcFacts {
                system: rpc.system,
                status: rpc.status,
                counted: [rpc.request_messages.is_some(), rpc.response_messages.is_some()],
            }),
            has_between: call.between_ns().is_some(),
            has_waypoint: call.passes_waypoint || call.waypoint().is_some(),
        }
    }
}

impl<'a> From<&'a CallSummary> for CallFacts<'a> {
    fn from(summary: &'a CallSummary) -> Self {
        Self {
            side: summary.side,
            protocol: summary.protocol,
            method: summary.method,
            status: summary.status,
            error: summary.error,
            client: &summary.client,
            server: &summary.server,
            route: &summary.route,
            server_address: &summary.server_address,
            server_port: summary.server_port,
            peer_observed: summary.peer_observed,
            service: summary.service.as_ref(),
            passage: summary.passage.as_ref(),
            rpc: summary.rpc.as_ref().map(|rpc| RpcFacts {
                system: rpc.system,
                status: rpc.status,
                counted: [rpc.request_messages.is_some(), rpc.response_messages.is_some()],
            }),
            has_between: false,
            has_waypoint: summary.has_waypoint,
        }
    }
}

impl CallFacts<'_> {
    pub(super) fn local(&self) -> &Arc<Identity> {
        match self.side {
            Side::Client => &self.client.identity,
            Side::Server => &self.server.identity,
        }
    }

    pub(super) fn peer(&self) -> &Arc<Identity> {
        match self.side {
            Side::Client => &self.server.identity,
            Side::Server => &self.client.identity,
        }
    }

    /// Whether this status is an error to the observing end: what the server refused is
    /// the client's error alone.
    pub(super) fn is_error(&self, status: u16) -> bool {
        let least = match self.side {
            Side::Client => 400,
            Side::Server => 500,
        };
        status >= least
    }

    /// Whether the edge's call failed: one rule for both ends, so that it does not depend
    /// on which of them this host sees.
    pub(super) fn has_failed(&self) -> bool {
        if self.rpc.is_some() {
            return self.rpc_fault(Side::Server).is_some();
        }
        self.error.is_some() || self.status.is_some_and(|status| status >= 500)
    }

    /// Why a remote procedure call is an error to `side`.
    pub(super) fn rpc_fault(&self, side: Side) -> Option<Fault> {
        Fault::of(side, self.rpc?.status, self.status, self.error)
    }

    /// Whether this observation is the one that counts the call on its edge. What runs in the
    /// cluster is seen by the agent of its own node.
    pub(super) fn counts(&self) -> bool {
        let server = &self.server.identity;
        let is_elsewhere = server.workload.is_some() || server.kind == IdentityKind::Service;
        self.side == Side::Server || !(self.peer_observed || is_elsewhere)
    }
}
