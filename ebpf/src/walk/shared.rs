//! What both directions of a connection share.

/// [`Shared::verdict`]: not judged yet.
pub const VERDICT_OPEN: u8 = 0;
/// Speaks HTTP/1.
pub const VERDICT_HTTP1: u8 = 1;
/// Speaks something else, or became a tunnel: never looked at again.
pub const VERDICT_OPAQUE: u8 = 2;

/// [`Shared::requests`]: it is not known yet which direction carries the requests.
pub const REQUESTS_UNKNOWN: u8 = 0;

/// What both directions of a connection share.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Shared {
    /// Grows with every loss of message boundaries.
    pub epoch: u32,
    /// Records that found no room since the last one that did.
    pub lost: u16,
    /// `VERDICT_*`.
    pub verdict: u8,
    /// Direction that carries the requests, plus one; [`REQUESTS_UNKNOWN`].
    pub requests: u8,
    /// Direction of the last payload, plus one.
    pub turn: u8,
    /// Attempts at recognition that are left, as used up.
    pub attempts: u8,
    /// Zero.
    pub pad: [u8; 6],
}
