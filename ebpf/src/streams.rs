//! Calls of HTTP/2 that repeat are counted in the kernel, as those of HTTP/1 are, see
//! [`crate::repeat`]: what differs is that many of them are under way at a time.
//!
//! A stream **waits** where the block of its request's headers is one that the agent asked to
//! have counted. Frames of it are looked at one by one: each is the one that is expected, or
//! the stream is **told** ([`crate::event::Waited`]), and this frame and all behind it are told
//! like any other. The frame that ends the answer has the call counted.
//!
//! What a block says depends on the table of its direction, which other blocks change. One
//! **leaves the table** where it inserts nothing and changes no size ([`block`]); each other
//! one begins a new version of it. Blocks are known by their bytes, by the version, and by
//! their direction and connection. So a block that is known says what it said before.
//!
//! The walk over such frames comes before that of [`crate::frames`], and hands over to it at
//! the first frame that it does not take. While streams wait that one hands back at the next
//! frame, so that none of a waiting stream is passed by.

pub mod block;
mod port;
mod request;
mod tell;
mod walk;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub use port::StreamPort;
pub use tell::tell;
pub use walk::{Next, StreamWalk};

/// Streams of one connection that may wait at a time: one for each remainder of their
/// numbers.
pub const STREAMS: usize = 32;
/// Places for connections on which calls are counted, each for all with the same [`mark`].
pub const MARKED: u32 = 8_192;
/// Messages or bytes of a call above which it is told.
const MOST: u32 = 1 << 30;

/// What is expected of a call beside its request's headers.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Expected {
    /// What the answer's headers are known by.
    pub head: u64,
    /// What stands behind its body is known by; 0: nothing does.
    pub tail: u64,
    /// The fewest bytes of the request's body.
    pub least: u32,
    /// The most.
    pub most: u32,
    /// 1: bodies are messages with a prefix of their length, each in one frame of its own.
    pub framed: u32,
    /// Messages of the request then.
    pub asked: u16,
    /// Messages of the answer.
    pub answered: u16,
}

/// A stream that waits.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Stream {
    /// Its number; 0: none waits here. Written last, once its packet says no more of it: from
    /// then on it belongs to whoever has claimed the answers.
    pub stream: u32,
    /// Its slot, plus one.
    pub slot: u16,
    /// 1: the request is over.
    pub sent: u8,
    /// 1: the answer's headers have come.
    pub answering: u8,
    /// When the request began.
    pub first_ns: u64,
    /// When the answer did.
    pub head_ns: u64,
    /// What the request's headers are known by.
    pub tag: u64,
    /// Sequence number of the request's first byte.
    pub sequence: u32,
    /// Acknowledgement number beside it.
    pub acknowledgement: u32,
    /// Bytes of the request's body so far.
    pub asked: u32,
    /// Bytes of the answer's body so far.
    pub answered: u32,
    /// Messages of the request so far, where there are any.
    pub asked_messages: u16,
    /// Messages of the answer so far.
    pub answered_messages: u16,
    /// [`Expected::framed`] of its slot when it began: another kind of calls may have that since.
    pub framed: u32,
}

/// The streams of a connection that wait.
///
/// The direction of the requests writes [`Streams::let_wait`], [`Streams::pending`] and, as long
/// as it is that, a stream; all else is written by whoever has claimed the answers.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Streams {
    /// How many were ever let wait.
    pub let_wait: u32,
    /// How many of these do not wait any more.
    pub decided: u32,
    /// How many of these were told.
    pub told: u32,
    /// The one whose request is under way in this packet, see [`Stream::stream`]; 0: none is.
    pub pending: u32,
    /// The direction of the requests, plus one.
    pub asks: u8,
    /// Zero.
    pub pad: [u8; 7],
    /// By their numbers.
    pub waiting: [Stream; STREAMS],
}

impl Streams {
    /// Whether any stream waits.
    #[inline(always)]
    #[must_use]
    pub const fn wait(&self) -> bool {
        self.let_wait != self.decided
    }
}

/// The place of a connection's mark.
#[inline(always)]
#[must_use]
pub const fn mark(cookie: u64) -> u32 {
    cookie as u32 % MARKED
}

/// Where a stream waits, if it does.
#[inline(always)]
#[must_use]
pub const fn place(stream: u32) -> usize {
    (stream >> 1) as usize % STREAMS
}

#[cfg(test)]
mod tests;
