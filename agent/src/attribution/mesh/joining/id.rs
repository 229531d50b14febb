//! [`Ids`]: what a request carries that proxies leave as it is.

use std::hash::{Hash, Hasher};

use super::JoinedBy;
use crate::protocol::{Exchange, Text};

/// Shortest `x-request-id` that is taken for one request's: numbers that count up are not.
const LEAST: usize = 16;
/// Length of a UUID, as Envoy makes them.
const UUID: usize = 36;
/// The character of a UUID by which Envoy tells whether the request is traced.
const TRACED: usize = 14;

/// An `x-request-id`, without the character that Envoy changes in it.
#[derive(Clone, Debug)]
pub struct RequestId(Text);

impl RequestId {
    fn parts(&self) -> (&[u8], &[u8]) {
        let bytes = self.0.as_str().as_bytes();
        if bytes.len() != UUID {
            return (bytes, &[]);
        }
        let (head, rest) = bytes.split_at(TRACED);
        (head, rest.get(1..).unwrap_or_default())
    }
}

impl PartialEq for RequestId {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for RequestId {}

impl Hash for RequestId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Id {
    /// `x-request-id`
    Request(RequestId),
    /// Trace id and span id.
    Span(u128, u64),
}

impl Id {
    /// What it is, for those who are told.
    pub fn joins_by(&self) -> JoinedBy {
        match self {
            Self::Request(_) => JoinedBy::RequestId,
            Self::Span(..) => JoinedBy::TraceContext,
        }
    }
}

/// The ids of one request: at least one.
#[derive(Clone, Debug)]
pub struct Ids {
    first: Id,
    second: Option<Id>,
}

impl Ids {
    /// Of a request whose head is known in full; `None`: it has none.
    #[must_use]
    pub fn of(exchange: &Exchange) -> Option<Self> {
        if exchange.cut {
            return None;
        }
        let request = exchange.request_id.as_ref().filter(|id| id.as_str().len() >= LEAST);
        let request = request.map(|id| Id::Request(RequestId(id.clone())));
        let span = exchange.trace.map(|trace| Id::Span(trace.trace_id, trace.span_id));
        match (request, span) {
            (Some(first), second) => Some(Self { first, second }),
            (None, Some(first)) => Some(Self { first, second: None }),
            (None, None) => None,
        }
    }

    /// The one that tells most: an application may make several requests in one span.
    pub fn first(&self) -> &Id {
        &self.first
    }

    /// All of them, the one that tells most first.
    pub fn all(&self) -> impl Iterator<Item = Id> + use<> {
        std::iter::once(self.first.clone()).chain(self.second.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> RequestId {
        RequestId(Text::from(text.to_owned()))
    }

    #[test]
    fn what_envoy_changes_in_an_id_does_not_count() {
        let (made, traced) =
            ("0ad3f6a1-19e5-4c4a-b2dc-01a7b1a54bfa", "0ad3f6a1-19e5-9c4a-b2dc-01a7b1a54bfa");
        assert_eq!(id(made), id(traced));
        let hasher = ahash::RandomState::new();
        assert_eq!(hasher.hash_one(id(made)), hasher.hash_one(id(traced)));
        assert_ne!(id(made), id("0ad3f6a1-19e5-4d4a-b2dc-01a7b1a54bfa"));
        assert_ne!(id("0123456789abc4def"), id("0123456789abc9def"), "no UUID");
    }
}
