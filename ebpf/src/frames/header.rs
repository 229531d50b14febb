//! The header of a frame (RFC 9113, section 4.1): its fields, and whether it can be one.

use crate::event::{
    FLAG_END_HEADERS, FLAG_END_STREAM, FLAG_PADDED, FLAG_PRIORITY, FRAME_CONTINUATION, FRAME_DATA,
    FRAME_GOAWAY, FRAME_HEADERS, FRAME_PING, FRAME_PRIORITY, FRAME_PUSH_PROMISE, FRAME_RST_STREAM,
    FRAME_SETTINGS, FRAME_WINDOW_UPDATE,
};

/// Bytes of a frame's header.
pub const HEADER_BYTES: u32 = 9;
/// Longest payload that every receiver must take, and most never take more.
const USUAL: u32 = 16_384;

/// Types that belong to a stream, and those that belong to the connection: one bit a type.
const OF_STREAM: u32 = 1 << FRAME_DATA
    | 1 << FRAME_HEADERS
    | 1 << FRAME_PRIORITY
    | 1 << FRAME_RST_STREAM
    | 1 << FRAME_PUSH_PROMISE
    | 1 << FRAME_CONTINUATION;
const OF_ALL: u32 = 1 << FRAME_SETTINGS | 1 << FRAME_PING | 1 << FRAME_GOAWAY;
/// Lengths that a type always has: four bits a type, 0 where it has none.
const FIXED: u64 = 5 << (4 * FRAME_PRIORITY)
    | 4 << (4 * FRAME_RST_STREAM)
    | 8 << (4 * FRAME_PING)
    | 4 << (4 * FRAME_WINDOW_UPDATE);

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of the payload.
    pub length: u32,
    /// Type, `FRAME_*`.
    pub kind: u8,
    /// Flags.
    pub flags: u8,
    /// Stream, without the reserved bit.
    pub stream: u32,
}

impl FrameHeader {
    /// From the first eight bytes, little-endian, and the ninth.
    #[inline(always)]
    #[must_use]
    pub const fn read(first: u64, last: u8) -> Self {
        let length =
            (first as u32 & 0xff) << 16 | (first as u32 & 0xff00) | (first as u32 >> 16 & 0xff);
        let upper = (first >> 40) as u32;
        let stream =
            (upper & 0x7f) << 24 | (upper & 0xff00) << 8 | (upper >> 16 & 0xff) << 8 | last as u32;
        Self { length, kind: (first >> 24) as u8, flags: (first >> 32) as u8, stream }
    }

    /// Whether the standard allows it. Types that it does not know are allowed.
    #[inline(always)]
    #[must_use]
    pub const fn is_legal(&self) -> bool {
        if self.kind > FRAME_CONTINUATION {
            return true;
        }
        let kind = 1u32 << self.kind;
        let fixed = (FIXED >> (self.kind * 4)) as u32 & 15;
        let stream_fits = if self.stream == 0 { kind & OF_STREAM == 0 } else { kind & OF_ALL == 0 };
        let settings = self.kind == FRAME_SETTINGS;
        let least = if self.kind == FRAME_GOAWAY { 8 } else { 0 };
        stream_fits
            && (fixed == 0 || fixed == self.length)
            && (!settings || self.length.is_multiple_of(6))
            && self.length >= least
    }

    /// Whether bytes in the midst of a stream are likely to be one: legal, of a known
    /// type, with no flag that the type does not have, and no longer than usual.
    #[inline(always)]
    #[must_use]
    pub const fn is_likely(&self) -> bool {
        let flags = match self.kind {
            FRAME_DATA => FLAG_END_STREAM | FLAG_PADDED,
            FRAME_HEADERS => FLAG_END_STREAM | FLAG_END_HEADERS | FLAG_PADDED | FLAG_PRIORITY,
            FRAME_SETTINGS | FRAME_PING => FLAG_END_STREAM,
            FRAME_PUSH_PROMISE => FLAG_END_HEADERS | FLAG_PADDED,
            FRAME_CONTINUATION => FLAG_END_HEADERS,
            _ => 0,
        };
        let known = self.kind <= FRAME_CONTINUATION;
        known && self.flags & !flags == 0 && self.length <= USUAL && self.is_legal()
    }

    /// Whether a server's connection may begin with it.
    #[inline(always)]
    #[must_use]
    pub const fn is_first(&self) -> bool {
        self.kind == FRAME_SETTINGS && self.flags == 0 && self.length <= USUAL && self.is_legal()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(bytes: [u8; 9]) -> FrameHeader {
        let [first @ .., last] = bytes;
        FrameHeader::read(u64::from_le_bytes(first), last)
    }

    #[test]
    fn fields_stand_where_the_standard_puts_them() {
        let read = header([1, 2, 3, 4, 5, 0xf6, 7, 8, 9]);
        let stream = 0x7607_0809;
        assert_eq!(read, FrameHeader { length: 0x01_0203, kind: 4, flags: 5, stream });
    }

    #[test]
    fn what_cannot_be_a_frame_is_told() {
        assert!(header([0, 0, 0, 4, 0, 0, 0, 0, 0]).is_first());
        assert!(!header([0, 0, 0, 4, 1, 0, 0, 0, 0]).is_first(), "an acknowledgement is none");
        assert!(!header([0, 0, 0, 0, 0, 0, 0, 0, 0]).is_legal(), "DATA of no stream");
        assert!(!header([0, 0, 5, 3, 0, 0, 0, 0, 1]).is_legal(), "RST_STREAM of five bytes");
        assert!(header([0, 0, 5, 77, 0, 0, 0, 0, 1]).is_legal(), "types may be added");
        assert!(!header([0, 0, 5, 77, 0, 0, 0, 0, 1]).is_likely());
        assert!(header([0, 0, 5, 1, 5, 0, 0, 0, 1]).is_likely());
        assert!(!header([0, 0, 5, 1, 2, 0, 0, 0, 1]).is_likely(), "HEADERS has no such flag");
    }
}
