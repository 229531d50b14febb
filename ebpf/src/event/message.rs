//! Records of a connection's messages: where one begins and ends, what its head says.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Header;
#[cfg(doc)]
use super::{Kind, Statistics};

/// [`Header::flags`] of [`Head`]: the first piece of its message.
pub const HEAD_FIRST: u16 = 1;
/// The head ends with this piece; framing is decided.
pub const HEAD_COMPLETE: u16 = 2;
/// The whole message, body included, ended in this packet: no [`End`] follows.
pub const HEAD_ENDED: u16 = 4;
/// Bytes of the head were left out because of the configured prefix.
pub const HEAD_CUT: u16 = 8;
/// A response; otherwise a request.
pub const HEAD_RESPONSE: u16 = 16;
/// A 1xx response other than 101: the answer proper is still to come.
pub const HEAD_INTERIM: u16 = 32;
/// The start line said HTTP/1.0.
pub const HEAD_HTTP10: u16 = 64;
/// Bytes of an answer's body where a message may stand that closes it, as they are on the
/// wire: a chunk that begins like one, with the line of its size; and the last bytes of the
/// body that its last packet holds. Only of gRPC-Web and of streams of Connect: the message
/// says how the call went. At most [`crate::flow::WINDOW`] bytes.
pub const HEAD_TAIL: u16 = 128;

/// [`Head::framing`]: not decided yet.
pub const FRAMING_UNKNOWN: u8 = 0;
/// The message has no body.
pub const FRAMING_NONE: u8 = 1;
/// `Content-Length`.
pub const FRAMING_LENGTH: u8 = 2;
/// `Transfer-Encoding: chunked`.
pub const FRAMING_CHUNKED: u8 = 3;
/// The body lasts until the connection closes.
pub const FRAMING_CLOSE: u8 = 4;
/// What follows is no HTTP (101, CONNECT): bytes only.
pub const FRAMING_TUNNEL: u8 = 5;

/// A piece of a message's head; its bytes follow.
///
/// A message sends one or more pieces: the first has [`HEAD_FIRST`], the last
/// [`HEAD_COMPLETE`]. Responses send no bytes, only their status, but for [`HEAD_TAIL`].
/// Nothing is sent before the start line was seen whole and valid.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Head {
    /// See [`Header`]; flags `HEAD_*`.
    pub header: Header,
    /// When the message's first byte passed the hook.
    pub first_ns: u64,
    /// Body bytes, without chunk framing; whole with [`HEAD_ENDED`].
    pub body_bytes: u64,
    /// Connection's payload bytes sent and acknowledged, at this moment.
    pub bytes_acked: u64,
    /// Connection's payload bytes received, at this moment.
    pub bytes_received: u64,
    /// Counts the messages of its direction within [`Head::epoch`], from 0; responses
    /// answer the request of the same number, interim responses carry the number of
    /// the answer to come.
    pub number: u32,
    /// Grows with every [`Desynchronised`] of the connection.
    pub epoch: u32,
    /// TCP sequence number of the message's first byte.
    pub sequence: u32,
    /// Acknowledgement number of the packet that carried the first byte.
    pub acknowledgement: u32,
    /// Where in the head the bytes of this piece stand.
    pub offset: u32,
    /// Smoothed round-trip time, microseconds. 0: no sample.
    pub srtt_us: u32,
    /// Segments sent again on this connection so far.
    pub retransmits: u32,
    /// Status of a response, 100 to 999; 0 for requests.
    pub status: u16,
    /// `FRAMING_*`.
    pub framing: u8,
    /// `grpc-status` of a response, plus one; 0: it has none, or none below 100.
    pub grpc_status: u8,
}

/// [`End::reason`]: the last byte that the framing announced has passed.
pub const END_COMPLETE: u8 = 0;
/// A close-delimited body ended with FIN, as it should.
pub const END_CLOSED: u8 = 1;
/// FIN before the announced end.
pub const END_TRUNCATED: u8 = 2;
/// RST before the end.
pub const END_RESET: u8 = 3;
/// The socket ended before the end, without FIN or RST; a `Closed` record says why.
pub const END_GONE: u8 = 4;

/// The end of a message.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct End {
    /// See [`Header`]; flags: [`HEAD_RESPONSE`] or none.
    pub header: Header,
    /// Body bytes seen, without chunk framing.
    pub body_bytes: u64,
    /// See [`Head::number`].
    pub number: u32,
    /// See [`Head::epoch`].
    pub epoch: u32,
    /// `END_*`.
    pub reason: u8,
    /// Zero.
    pub pad: [u8; 7],
}

/// [`Header::flags`] of [`Shut`]: FIN.
pub const SHUT_FIN: u16 = 1;
/// [`Header::flags`] of [`Shut`]: RST.
pub const SHUT_RESET: u16 = 2;

/// One direction ends; sent for connections that speak HTTP, after the message's own [`End`].
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Shut {
    /// See [`Header`]; flags `SHUT_*`.
    pub header: Header,
}

/// [`Desynchronised::reason`]: a segment was never seen in a place where it mattered.
pub const LOST_GAP: u8 = 1;
/// A start line, header or chunk that is no HTTP/1.
pub const LOST_SYNTAX: u8 = 2;
/// More in one packet than the programs walk.
pub const LOST_BUDGET: u8 = 3;
/// Framing that contradicts itself.
pub const LOST_FRAMING: u8 = 4;
/// Two CPUs had packets of one direction at the same time for too long.
pub const LOST_CONTENTION: u8 = 5;
/// A response where no request was open.
pub const LOST_UNEXPECTED: u8 = 6;

/// The connection is left out from here on, so that the agent keeps within its limits.
pub const LOST_LIMITS: u8 = 7;

/// Message boundaries of the connection were lost; a new epoch begins at the next request.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Desynchronised {
    /// See [`Header`].
    pub header: Header,
    /// The epoch that ended here.
    pub epoch: u32,
    /// Requests begun and not answered in that epoch: calls that are lost.
    pub unanswered: u32,
    /// `LOST_*`.
    pub reason: u8,
    /// Zero.
    pub pad: [u8; 7],
}
