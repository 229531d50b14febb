//! [`LostCalls`]: requests that were there and of which no more can be said.

use meshtap_ebpf::event;

use super::Side;

/// Calls of one connection that cannot be told, each counted exactly once and never
/// also as an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostCalls {
    /// The kernel's socket cookie.
    pub socket: u64,
    /// Which end the socket is, where a request of it was ever seen.
    pub side: Option<Side>,
    /// How many.
    pub calls: u32,
    /// One of this module's constants: the value of the label `reason`.
    pub reason: &'static str,
    /// When it was found out.
    pub time_ns: u64,
}

/// Records of the call found no room in the ring.
pub const RECORDS_LOST: &str = "records_lost";
/// The connection was forgotten: more connections than the bound.
pub const CONNECTIONS_BOUND: &str = "connections_bound";
/// More open requests than a bound.
pub const REQUESTS_BOUND: &str = "requests_bound";
/// Nothing was heard of the connection for too long; its end was missed.
pub const EXPIRED: &str = "expired";
/// [`event::LOST_GAP`]
pub const DESYNCHRONISED_GAP: &str = "desynchronised_gap";
/// [`event::LOST_SYNTAX`]
pub const DESYNCHRONISED_SYNTAX: &str = "desynchronised_syntax";
/// [`event::LOST_BUDGET`]
pub const DESYNCHRONISED_BUDGET: &str = "desynchronised_budget";
/// [`event::LOST_FRAMING`]
pub const DESYNCHRONISED_FRAMING: &str = "desynchronised_framing";
/// [`event::LOST_CONTENTION`]
pub const DESYNCHRONISED_CONTENTION: &str = "desynchronised_contention";
/// [`event::LOST_UNEXPECTED`]
pub const DESYNCHRONISED_UNEXPECTED: &str = "desynchronised_unexpected";
/// [`event::LOST_LIMITS`]
pub const LIMITS: &str = "limits";
/// A `LOST_*` value that this agent does not know.
pub const DESYNCHRONISED: &str = "desynchronised";

/// The reason for calls lost by a [`event::Desynchronised`] record.
#[must_use]
pub fn desynchronised(reason: u8) -> &'static str {
    match reason {
        event::LOST_GAP => DESYNCHRONISED_GAP,
        event::LOST_SYNTAX => DESYNCHRONISED_SYNTAX,
        event::LOST_BUDGET => DESYNCHRONISED_BUDGET,
        event::LOST_FRAMING => DESYNCHRONISED_FRAMING,
        event::LOST_CONTENTION => DESYNCHRONISED_CONTENTION,
        event::LOST_UNEXPECTED => DESYNCHRONISED_UNEXPECTED,
        event::LOST_LIMITS => LIMITS,
        _ => DESYNCHRONISED,
    }
}
