//! How a direction comes to carry frames: by the client's preface, by a server's first
//! frame, or by a strict look at packets of a connection older than the agent.

use super::FrameWalk;
use super::header::{FrameHeader, HEADER_BYTES};
use super::port::FramePort;
use super::state::HEADER_AT;
use crate::event::{self, FRAMES_JOINED, FRAMES_PREFACE, FRAMES_UPGRADED};
use crate::flow::{Flow, PLACED_FIRST, WINDOW_START, mode};
use crate::limits::SNIFF_BUDGET;
use crate::sequence::distance;
use crate::walk::{LATE, VERDICT_HTTP2, VERDICT_OPAQUE, VERDICT_UPGRADED};

/// The client's preface (RFC 9113, section 3.4), word by word.
const PREFACE: [u64; 3] = [
    u64::from_le_bytes(*b"PRI * HT"),
    u64::from_le_bytes(*b"TP/2.0\r\n"),
    u64::from_le_bytes(*b"\r\nSM\r\n\r\n"),
];
/// Bytes of it, and of its first line.
const PREFACE_BYTES: u32 = 24;
const PREFACE_LINE: u32 = 16;

impl<P: FramePort> FrameWalk<'_, P> {
    /// The walk through HTTP/1 could not read the flow's message, or ended with an upgrade;
    /// true: it is HTTP/2, and is followed from here on.
    #[inline(always)]
    pub fn recognise(&mut self) -> bool {
        if self.shared.verdict == VERDICT_UPGRADED {
            return self.arrive();
        }
        if self.ends_preface() {
            self.flow.next = self.flow.next.wrapping_add(self.flow.at);
            return self.join_preface(PREFACE_BYTES - PREFACE_LINE);
        }
        // Elsewhere the message's first bytes are in the window no more.
        self.flow.head == 0 && self.look()
    }

    /// Whether the line that could not be read is the first one of the preface, which has
    /// the form of a request line and may have come in many segments.
    #[inline(always)]
    fn ends_preface(&self) -> bool {
        let start = (WINDOW_START as u32 + self.flow.at).wrapping_sub(PREFACE_LINE) as usize;
        self.flow.head + self.flow.at == PREFACE_LINE
            && self.flow.word(start) == PREFACE[0]
            && self.flow.word(start.wrapping_add(8)) == PREFACE[1]
    }

    /// Looks whether frames begin at [`Flow::next`]; true: they do, or may.
    #[inline(always)]
    pub(super) fn look(&mut self) -> bool {
        let left = distance(self.flow.segment_end, self.flow.next);
        if left <= 0 {
            return false;
        }
        let sure = self.shared.verdict == VERDICT_HTTP2;
        let at_message = self.flow.mode == mode::START;
        if sure && at_message && self.flow.head > 0 && self.flow.head < PREFACE_BYTES {
            // The server spoke first while the preface was coming in small segments.
            return self.join_preface(PREFACE_BYTES - self.flow.head);
        }
        let count = if left > HEADER_BYTES as i32 { HEADER_BYTES } else { left as u32 };
        if !self.load_header(0, count) {
            return false;
        }
        let (first, last) = self.flow.header_words();
        let upgraded = self.shared.verdict == VERDICT_UPGRADED;
        if upgraded || at_message || self.flow.placed == PLACED_FIRST {
            if begins_preface(first, count, sure) {
                return self.join_preface(PREFACE_BYTES);
            }
            // What the other end said first, if it did, was no preface where it was refused.
            let open = sure || self.shared.attempts == 0;
            if open && begins_server(first, last, count) {
                self.join(0);
                self.flow.frames().tentative = 1;
                return true;
            }
        }
        let known = sure || self.shared.late & LATE != 0;
        if !known || count < HEADER_BYTES || !self.tiles(FrameHeader::read(first, last)) {
            return false;
        }
        self.join(FRAMES_JOINED);
        self.shared.verdict = VERDICT_HTTP2;
        true
    }

    /// Whether a likely frame begins here and another one behind it, or none fits the rest.
    #[inline(always)]
    fn tiles(&mut self, header: FrameHeader) -> bool {
        if !header.is_likely() {
            return false;
        }
        let behind = distance(self.flow.segment_end, self.flow.next)
            - HEADER_BYTES as i32
            - header.length as i32;
        if behind == 0 {
            return true;
        }
        if behind < 0 {
            // Only these are long.
            return matches!(
                header.kind,
                event::FRAME_DATA | event::FRAME_HEADERS | event::FRAME_CONTINUATION
            );
        }
        if behind < HEADER_BYTES as i32 {
            return false;
        }
        if !self.load_header(HEADER_BYTES + header.length, HEADER_BYTES) {
            return false;
        }
        let (first, last) = self.flow.header_words();
        FrameHeader::read(first, last).is_likely()
    }

    /// Loads bytes of a header from `beyond` bytes behind [`Flow::next`].
    #[inline(always)]
    fn load_header(&mut self, beyond: u32, count: u32) -> bool {
        let offset = self.offset().wrapping_add(beyond);
        self.flow.frames().header = [0; 12];
        self.port.load_at(self.flow, HEADER_AT as u32, offset, count)
    }

    /// The client's preface is here, and `rest` bytes of it are to come: its whole words
    /// among them decide.
    #[inline(always)]
    fn join_preface(&mut self, rest: u32) -> bool {
        self.join(FRAMES_PREFACE);
        self.flow.next = self.flow.next.wrapping_add(rest & 7);
        let state = self.flow.frames();
        state.preface = (rest >> 3) as u8;
        state.tentative = state.preface;
        true
    }

    /// A word of the preface was gathered.
    #[inline(always)]
    pub(super) fn read_preface(&mut self) -> bool {
        let (word, _) = self.flow.header_words();
        let state = self.flow.frames();
        state.have = 0;
        let expected = match state.preface {
            3 => PREFACE[0],
            2 => PREFACE[1],
            _ => PREFACE[2],
        };
        if word != expected {
            return self.fail(event::LOST_SYNTAX);
        }
        state.preface -= 1;
        if state.preface == 0 {
            state.tentative = 0;
            self.shared.verdict = VERDICT_HTTP2;
        }
        true
    }

    /// From here on the direction carries frames.
    #[inline(always)]
    fn join(&mut self, announce: u16) {
        let upgraded = self.shared.verdict == VERDICT_UPGRADED;
        self.flow.clear_frames();
        // What passed before may have changed the table of headers.
        self.flow.scanned = self.flow.scanned.wrapping_add(1);
        self.flow.frames().announce = announce | if upgraded { FRAMES_UPGRADED } else { 0 };
        self.flow.mode = mode::FRAMES;
        self.flow.trouble = 0;
    }

    /// No frames begin here, or what began was none. A connection that was upgraded became
    /// something else; one that is not judged yet has used up an attempt.
    #[inline(always)]
    pub(super) fn miss(&mut self) {
        self.flow.mode = mode::IDLE;
        self.flow.trouble = 0;
        if self.shared.verdict == VERDICT_HTTP2 {
            return;
        }
        self.shared.attempts += 1;
        if self.shared.verdict == VERDICT_UPGRADED || self.shared.attempts >= SNIFF_BUDGET {
            self.shared.verdict = VERDICT_OPAQUE;
        }
    }
}

/// Whether `count` bytes begin the client's preface; `sure`: the connection is known to
/// speak HTTP/2, so that one byte is enough.
#[inline(always)]
fn begins_preface(first: u64, count: u32, sure: bool) -> bool {
    let count = if count > 8 { 8 } else { count };
    let mask = u64::MAX >> ((64 - count * 8) & 63);
    (count >= 4 || sure) && first == PREFACE[0] & mask
}

/// Whether `count` bytes may begin a server's first frame.
#[inline(always)]
fn begins_server(first: u64, last: u8, count: u32) -> bool {
    if count >= HEADER_BYTES {
        return FrameHeader::read(first, last).is_first();
    }
    first as u8 == 0 && (count < 4 || (first >> 24) as u8 == event::FRAME_SETTINGS)
}

impl Flow {
    /// The first eight bytes of a frame's header, and the ninth.
    #[inline(always)]
    pub(super) fn header_words(&mut self) -> (u64, u8) {
        (self.word(HEADER_AT), self.byte(HEADER_AT + 8))
    }
}
