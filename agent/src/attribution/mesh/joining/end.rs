//! [`End`]: a request as one socket saw it; which two of them may be one call's.

use std::sync::Arc;

use super::id::Ids;
use crate::attribution::call::{Identity, IdentityKind, Party};
use crate::attribution::cluster::{Service, Sidecar};
use crate::protocol::{Exchange, Side, Text};

/// A request as one socket saw it, with its answer.
#[derive(Debug)]
pub struct End {
    pub(super) ids: Ids,
    pub(super) side: Side,
    pub(super) socket: u64,
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    pub(super) method: Text,
    pub(super) path: Text,
    pub(super) status: Option<u16>,
    pub(super) code: Option<u32>,
    pub(super) has_failed: bool,
}

impl End {
    /// Of an exchange.
    #[must_use]
    pub fn of(exchange: &Exchange, ids: Ids) -> Self {
        Self {
            ids,
            side: exchange.side,
            socket: exchange.socket,
            start_ns: exchange.start_ns,
            end_ns: exchange.end_ns,
            method: exchange.method.clone(),
            path: exchange.path.clone(),
            status: exchange.status,
            code: exchange.rpc.as_deref().and_then(|rpc| rpc.status),
            has_failed: exchange.error.is_some(),
        }
    }

    pub(super) fn is_same_request(&self, other: &Self) -> bool {
        self.method == other.method && self.path == other.path
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.start_ns <= other.end_ns && other.start_ns <= self.end_ns
    }

    /// Whether `inner` passed while this was under way. Who gives up does not see the end.
    pub(super) fn contains(&self, inner: &Self) -> bool {
        let begins = (self.start_ns..=self.end_ns).contains(&inner.start_ns);
        begins && (inner.end_ns <= self.end_ns || self.has_failed)
    }

    /// Whether the answer is the one that `inner` gave, and no later attempt's nor the proxy's
    /// own. Who gave up has none: it was waiting for what was under way.
    pub(super) fn answers_as(&self, inner: &Self) -> bool {
        let is_code = self.code.is_none() || inner.code.is_none() || self.code == inner.code;
        match (self.status, inner.status) {
            (Some(got), Some(given)) => got == given && is_code,
            (Some(_), None) => false,
            (None, Some(_)) => inner.end_ns > self.end_ns,
            (None, None) => true,
        }
    }

    fn duration_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }
}

/// What is known of an end that is an application's.
#[derive(Debug)]
pub struct Application {
    /// The proxy's socket at the other end of its connection.
    pub beside: u64,
    /// Who asked.
    pub client: Party,
    /// Who was asked.
    pub server: Party,
    /// The service that was asked for.
    pub service: Option<Arc<Service>>,
    /// How often the client's proxy has tried.
    pub attempt: Option<u32>,
}

impl Application {
    /// Whether the proxy beside this client and that server had it from somebody else: a
    /// waypoint, by its own address.
    pub(super) fn is_behind_another(&self, server: &Self) -> bool {
        let address = |party: &Party| party.endpoint.map(|endpoint| endpoint.ip());
        let named = address(&server.client);
        is_gateway(&server.client.identity) || (named.is_some() && named != address(&self.client))
    }
}

#[derive(Debug)]
pub(super) struct Seen {
    pub(super) end: End,
    /// `None`: the end is the proxy's own.
    pub(super) application: Option<Box<Application>>,
    /// The proxy whose end it is, or which is beside it.
    pub(super) pid: u32,
    /// It is part of a call.
    pub(super) is_taken: bool,
}

impl Seen {
    /// Client and server of a call; `None` for two ends of one side, and for a proxy's.
    pub(super) fn sides<'a>(&'a self, other: &'a Self) -> Option<(Pair<'a>, Pair<'a>)> {
        let pair = |seen: &'a Self| Some((&seen.end, seen.application.as_deref()?));
        match (self.end.side, other.end.side) {
            (Side::Client, Side::Server) => Some((pair(self)?, pair(other)?)),
            (Side::Server, Side::Client) => Some((pair(other)?, pair(self)?)),
            _ => None,
        }
    }
}

pub(super) type Pair<'a> = (&'a End, &'a Application);

/// Whether the two ends may be one call's, by all but their ids.
pub(super) fn fit((asked, client): Pair<'_>, (answered, server): Pair<'_>) -> bool {
    asked.is_same_request(answered)
        && asked.contains(answered)
        && may_be_server(client, server)
        && may_be_client(&server.client, &client.client)
}

/// Whether whom the client asked may be who answered.
fn may_be_server(client: &Application, server: &Application) -> bool {
    let (asked, own) = (&client.server.identity, &server.server.identity);
    match (&asked.workload, &own.workload) {
        (Some(asked), Some(own)) => asked == own,
        _ => match (&client.service, &server.service) {
            (Some(asked), Some(own)) => asked.uid == own.uid,
            _ => true,
        },
    }
}

/// Whether the client that a server names may be this one.
fn may_be_client(named: &Party, own: &Party) -> bool {
    if is_gateway(&named.identity) {
        return true;
    }
    let (identity, own_identity) = (&named.identity, &own.identity);
    match (&identity.workload, &own_identity.workload) {
        (Some(named), Some(own)) => named == own,
        _ if identity.kind == IdentityKind::Unknown => {
            identity.namespace.is_empty() || identity.namespace == own_identity.namespace
        }
        _ => {
            let address = |party: &Party| party.endpoint.map(|endpoint| endpoint.ip());
            Arc::ptr_eq(identity, own_identity) || address(named) == address(own)
        }
    }
}

/// Whether it is a pod that only passes on what others ask.
pub fn is_gateway(identity: &Identity) -> bool {
    identity.workload.as_ref().is_some_and(|workload| workload.sidecar == Sidecar::Gateway)
}

/// Whether two ends of one side are equal requests at a time, of which one end of the other
/// side cannot tell which it belongs to. Attempts that are numbered are none.
pub(super) fn are_rivals(one: &Seen, other: &Seen) -> bool {
    let (Some(a), Some(b)) = (&one.application, &other.application) else { return false };
    let are_attempts = a.attempt.is_some() && b.attempt.is_some() && a.attempt != b.attempt;
    one.end.is_same_request(&other.end)
        && one.end.overlaps(&other.end)
        && may_be_server(a, b)
        && (one.end.side == Side::Client || !are_attempts)
}

/// What the outer one took and the inner one within it did not.
pub(super) fn spent(outer: &End, inner: &End) -> Option<u64> {
    let is_whole = !outer.has_failed && !inner.has_failed && outer.contains(inner);
    is_whole.then(|| outer.duration_ns().saturating_sub(inner.duration_ns()))
}
