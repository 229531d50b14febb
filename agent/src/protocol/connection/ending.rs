//! Causes: what a connection's end says of the calls that were open.

use meshtap_ebpf::event;

use crate::protocol::{Cause, Side};

/// How a connection, or its answering end, came to an end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    /// By FIN: bodies that last until the close are whole.
    InOrder(Cause),
    /// By a reset: this is also the cause of what broke off just before.
    Reset(Cause),
    /// Otherwise.
    Other(Cause),
}

impl Ending {
    /// What a call is told to have ended by.
    fn cause(self) -> Cause {
        match self {
            Self::InOrder(cause) | Self::Reset(cause) | Self::Other(cause) => cause,
        }
    }
}

/// How a connection ended whose socket ended for `reason`.
pub(super) fn ending(reason: u8, side: Side, asker_shut: bool) -> Ending {
    match reason {
        event::CLOSE_FIN => Ending::InOrder(closed_first(side, asker_shut)),
        event::CLOSE_RESET_RECEIVED | event::CLOSE_REFUSED => Ending::Reset(Cause::ResetReceived),
        event::CLOSE_RESET_SENT => Ending::Reset(Cause::ResetSent),
        event::CLOSE_TIMEOUT | event::CLOSE_UNANSWERED => Ending::Other(Cause::Timeout),
        _ if asker_shut => Ending::Other(closed_first(side, true)),
        _ => Ending::Other(Cause::Vanished),
    }
}

/// What open calls ended by where the socket ended for `reason` (`CLOSE_*`).
pub(in crate::protocol) fn cause(reason: u8, side: Side, asker_shut: bool) -> Cause {
    ending(reason, side, asker_shut).cause()
}

/// The direction in which requests pass a socket that is this end.
pub(super) fn asking_direction(side: Side) -> u8 {
    if side == Side::Server { event::INGRESS } else { event::EGRESS }
}

/// The direction in which answers do.
pub(in crate::protocol) fn answering_direction(side: Side) -> u8 {
    if side == Side::Server { event::EGRESS } else { event::INGRESS }
}

/// Which end a socket is on which a request passes in this direction.
pub(in crate::protocol) fn asking_side(direction: u8) -> Side {
    if direction == event::INGRESS { Side::Server } else { Side::Client }
}

pub(in crate::protocol) fn reset(direction: u8) -> Cause {
    if direction == event::INGRESS { Cause::ResetReceived } else { Cause::ResetSent }
}

/// The cause where the answering end closed in order; `asker_shut`: the asking end had closed before.
pub(in crate::protocol) fn closed_first(side: Side, asker_shut: bool) -> Cause {
    match (side, asker_shut) {
        (Side::Client, false) | (Side::Server, true) => Cause::Closed,
        (Side::Client, true) | (Side::Server, false) => Cause::Abandoned,
    }
}
