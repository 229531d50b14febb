//! Records of HTTP/2: which frames passed, and what of them user space needs.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Header;
#[cfg(doc)]
use super::{Desynchronised, Kind};

/// [`Header::flags`] of [`Frames`]: the direction began with the client's preface, so it
/// carries the requests; the frames are its first.
pub const FRAMES_PREFACE: u16 = 1;
/// The direction was found in its midst, or again after [`Desynchronised`]: what was
/// compressed before these frames is not known.
pub const FRAMES_JOINED: u16 = 2;
/// The connection spoke HTTP/1 before, and was upgraded (`101`).
pub const FRAMES_UPGRADED: u16 = 4;

/// Frames of one packet, in one direction: [`Item`]s follow, each with its bytes.
///
/// A packet sends one or more of them. Only what matters leaves the kernel: HEADERS,
/// CONTINUATION, PUSH_PROMISE, SETTINGS, RST_STREAM and GOAWAY with all of their payload;
/// DATA as a count of bytes and messages when the frame has ended, but for
/// [`FRAME_CLOSING`]; nothing of the others.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Frames {
    /// See [`Header`]; flags `FRAMES_*`; its length counts all items with their bytes.
    pub header: Header,
    /// Acknowledgement number of the packet.
    pub acknowledgement: u32,
    /// Smoothed round-trip time, microseconds. 0: no sample.
    pub srtt_us: u32,
    /// Segments sent again on this connection so far.
    pub retransmits: u32,
    /// In the direction of the requests: how many streams of the connection were let wait so
    /// far ([`crate::streams`]); of the answers: for how many of them a [`Waited`] was sent.
    pub waited: u32,
}

/// A stream that waited to be counted and is told after all, as far as it has come: the agent
/// knows by the tag what its headers say.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Waited {
    /// See [`Header`]; its direction is that of the request.
    pub header: Header,
    /// When the request began.
    pub first_ns: u64,
    /// When the answer began; 0: it has not.
    pub head_ns: u64,
    /// What the request's headers are known by.
    pub tag: u64,
    /// Its number.
    pub stream: u32,
    /// Sequence number of the request's first byte.
    pub sequence: u32,
    /// Acknowledgement number beside it.
    pub acknowledgement: u32,
    /// Bytes of the request's body so far.
    pub asked: u32,
    /// Bytes of the answer's body so far.
    pub answered: u32,
    /// How many streams of the connection were told like this, with this one.
    pub told: u32,
    /// Whole messages of the request so far, where it consists of such.
    pub asked_messages: u16,
    /// Of the answer.
    pub answered_messages: u16,
    /// 1: the request is over.
    pub sent: u8,
    /// 1: the answer's headers have come, and say what was expected.
    pub answering: u8,
    /// Zero.
    pub pad: [u8; 2],
}

/// One frame, or a piece of one; [`Item::bytes`] bytes follow.
///
/// The payload of a frame that leaves the kernel may come in several items, across
/// records: the first has [`Item::offset`] 0, each later one goes on where the one before
/// ended, and the frame is whole when [`Item::length`] bytes have come. Payload is as on
/// the wire: padding and priority fields are still in it.
///
/// A DATA frame is one item, sent when its last byte has passed, with a [`Data`] behind
/// it. Where the last message in it is the one that closes the answer, that message follows
/// as a frame of its own, [`FRAME_CLOSING`], which has the flags. One that breaks off with its connection is sent too, with the bytes that came and
/// without its END_STREAM flag.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C, packed)]
pub struct Item {
    /// TCP sequence number of the frame's first byte.
    pub sequence: u32,
    /// Stream identifier, without the reserved bit.
    pub stream: u32,
    /// Length of the frame's payload; of DATA without padding.
    pub length: u32,
    /// Where in the payload the bytes of this item stand.
    pub offset: u32,
    /// Type of the frame, `FRAME_*`.
    pub kind: u8,
    /// Flags of the frame, as on the wire.
    pub flags: u8,
    /// Bytes that follow, without what fills them up to a multiple of eight.
    pub bytes: u16,
    /// Version of the table that headers of this direction refer to, behind this frame
    /// ([`crate::streams`]), twice; one more where the frame may have changed the table.
    pub table: u32,
}

/// What a DATA frame held of length-prefixed messages (gRPC, Connect streams), if it held
/// any: the kernel does not know which streams do, and counts as if all did.
///
/// The place in a message is [`MESSAGE_BOUNDARY`], the bytes of it that are left (below
/// 2^31), [`MESSAGE_PREFIX`] and the number of bytes of a prefix that have come (1 to 4),
/// or [`MESSAGE_UNKNOWN`]. **`before` must be what `after` of the stream's frame before
/// was** (at first the boundary); where it is not, the count is not known.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C, packed)]
pub struct Data {
    /// Place in the message before the frame.
    pub before: u32,
    /// Place behind it.
    pub after: u32,
    /// Messages whose prefix was complete in the frame, without one that closes an answer.
    pub messages: u32,
    /// Zero.
    pub pad: u32,
}

/// [`Data::before`], [`Data::after`]: a prefix comes next.
pub const MESSAGE_BOUNDARY: u32 = 0;
/// With the number of bytes of a prefix that have come.
pub const MESSAGE_PREFIX: u32 = 0x8000_0000;
/// Not known, or no messages at all: a prefix that cannot be one.
pub const MESSAGE_UNKNOWN: u32 = u32::MAX;

/// [`Item::kind`]
pub const FRAME_DATA: u8 = 0;
/// [`Item::kind`]
pub const FRAME_HEADERS: u8 = 1;
/// [`Item::kind`]
pub const FRAME_PRIORITY: u8 = 2;
/// [`Item::kind`]
pub const FRAME_RST_STREAM: u8 = 3;
/// [`Item::kind`]
pub const FRAME_SETTINGS: u8 = 4;
/// [`Item::kind`]
pub const FRAME_PUSH_PROMISE: u8 = 5;
/// [`Item::kind`]
pub const FRAME_PING: u8 = 6;
/// [`Item::kind`]
pub const FRAME_GOAWAY: u8 = 7;
/// [`Item::kind`]
pub const FRAME_WINDOW_UPDATE: u8 = 8;
/// [`Item::kind`]
pub const FRAME_CONTINUATION: u8 = 9;
/// [`Item::kind`]: no frame, but the message at the end of a DATA frame that holds what
/// stands in trailers elsewhere, without its prefix: of gRPC-Web, of a stream of Connect.
/// It is told when it is whole in the frame and of at most [`CLOSING`] bytes; it may be
/// compressed.
pub const FRAME_CLOSING: u8 = 0x80;
/// Most bytes of a message that closes an answer.
pub const CLOSING: u32 = 1_024;

/// First byte of a message's prefix: the message is compressed.
pub const MESSAGE_COMPRESSED: u8 = 1;
/// First byte of a message's prefix: it closes the answer, by Connect's rule.
pub const MESSAGE_CLOSING_CONNECT: u8 = 2;
/// First byte of a message's prefix: it closes the answer, by gRPC-Web's rule.
pub const MESSAGE_CLOSING_WEB: u8 = 0x80;

/// [`Item::flags`] of DATA and HEADERS.
pub const FLAG_END_STREAM: u8 = 1;
/// [`Item::flags`] of HEADERS, PUSH_PROMISE and CONTINUATION.
pub const FLAG_END_HEADERS: u8 = 4;
/// [`Item::flags`] of DATA, HEADERS and PUSH_PROMISE.
pub const FLAG_PADDED: u8 = 8;
/// [`Item::flags`] of HEADERS.
pub const FLAG_PRIORITY: u8 = 32;
