//! One direction of a connection: its place in the byte stream and the window
//! of bytes that is being looked at. Lives in socket storage; decides nothing.

use core::mem::size_of;

use crate::event::Head;
use crate::http1;
use crate::sequence::{Edge, distance};

/// Bytes of a line that goes on which are kept in front of the next window.
pub const CARRY: usize = 48;
/// Where the window's bytes begin in [`Flow::buffer`]; the record's fixed part is
/// written in front of them, so that record and bytes leave in one piece.
pub const WINDOW_START: usize = size_of::<Head>();
/// Bytes looked at in one piece: with the slack, a whole number of blocks.
pub const WINDOW: usize = 184;
/// Bytes that are searched for newlines at once.
pub const BLOCK: usize = 64;
/// Room behind the window so that a whole word may be read at its last byte.
const SLACK: usize = 8;
/// Size of [`Flow::buffer`].
pub const BUFFER: usize = WINDOW_START + WINDOW + SLACK;

const _: () = assert!((WINDOW + SLACK).is_multiple_of(BLOCK));

/// What the next byte is.
pub mod mode {
    /// Not known: waits for a packet that starts like a message.
    pub const IDLE: u8 = 0;
    /// The first line of a message, or empty lines before it.
    pub const START: u8 = 1;
    /// A header line.
    pub const HEADERS: u8 = 2;
    /// A body of known length.
    pub const BODY: u8 = 3;
    /// A chunk's size line.
    pub const CHUNK: u8 = 4;
    /// A trailer line.
    pub const TRAILER: u8 = 5;
    /// A body that lasts until the connection closes.
    pub const CLOSE: u8 = 6;
    /// After a CONNECT request: what follows depends on the answer.
    pub const WAIT: u8 = 7;
    /// Frames of HTTP/2: what follows is told by [`crate::frames`] alone.
    pub const FRAMES: u8 = 8;
}

/// [`Flow::marks`]: the start line was recognised whole.
pub const MARK_VALID: u8 = 1;
/// The current line is longer than the carry; its beginning was judged already.
pub const MARK_LONG: u8 = 2;
/// `Transfer-Encoding` named chunked last.
pub const MARK_CHUNKED: u8 = 4;
/// `Content-Length` was given.
pub const MARK_LENGTH: u8 = 8;
/// `Transfer-Encoding` was given, whatever it named.
pub const MARK_ENCODED: u8 = 16;
/// Bytes of this head were not sent: the prefix is used up.
pub const MARK_CUT: u8 = 32;
/// The start line said HTTP/1.0.
pub const MARK_HTTP10: u8 = 64;
/// The head contradicts itself or holds a header line that cannot be read.
pub const MARK_INVALID: u8 = 128;

/// [`Flow::placed`]: its first packet is yet to come.
pub const PLACED_NOT: u8 = 0;
/// Its first packet is being looked at.
pub const PLACED_FIRST: u8 = 1;
/// It has had its first packet.
pub const PLACED: u8 = 2;

/// [`Flow::fin`]: no FIN was seen.
pub const FIN_NONE: u8 = 0;
/// A FIN was seen; bytes before it may still be missing.
pub const FIN_SEEN: u8 = 1;
/// Every byte before the FIN has passed.
pub const FIN_REACHED: u8 = 2;

/// [`Flow::class`]: a request like any other.
pub const CLASS_PLAIN: u8 = 0;
/// A HEAD request: its answer has no body.
pub const CLASS_HEAD: u8 = 1;
/// A CONNECT request: a 2xx answer turns the connection into a tunnel.
pub const CLASS_CONNECT: u8 = 2;
/// A message of a type whose bodies end with a message that closes the answer.
pub const CLASS_CLOSED: u8 = 3;

/// One direction of one connection. All zero is the state of a new one.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Flow {
    /// Record in front, window behind; see [`WINDOW_START`].
    pub buffer: [u8; BUFFER],
    /// When the packet under the hook came.
    pub now_ns: u64,
    /// When the current message's first byte came.
    pub first_ns: u64,
    /// Tag of a request that waits untold.
    pub repeat: u64,
    /// Body bytes of the current message so far, without chunk framing.
    pub body: u64,
    /// Bytes from [`Flow::next`] on that need no look.
    pub skip: u64,
    /// `Content-Length`, or the chunk size being read.
    pub length: u64,
    /// The socket's cookie, once [`Flow::placed`].
    pub cookie: u64,
    /// Newlines of the block before [`Flow::scanned`] that were not reached yet: bit n for its byte n.
    pub newlines: u64,
    /// How far the stream has come.
    pub edge: Edge,
    /// First byte that was not parsed yet; never before the edge once a packet is done.
    pub next: u32,
    /// Sequence number of the packet's first payload byte.
    pub segment_start: u32,
    /// Sequence number behind its last.
    pub segment_end: u32,
    /// Its acknowledgement number.
    pub segment_ack: u32,
    /// Where its payload stands in the packet.
    pub payload: u32,
    /// Bytes in the window; 0: none is loaded.
    pub fill: u32,
    /// Bytes of the window that were searched for newlines, in whole blocks; where frames are
    /// carried, the version of the table of headers, see [`crate::streams`].
    pub scanned: u32,
    /// Where in the window the current line begins, or goes on.
    pub at: u32,
    /// Bytes of the current line before [`Flow::at`].
    pub line: u32,
    /// Number of the current message in its epoch; where frames are carried, the highest odd
    /// stream that was begun or answered.
    pub number: u32,
    /// The epoch that the numbers belong to.
    pub epoch: u32,
    /// Sequence number of the current message's first byte; where frames are carried, of the
    /// frame that [`crate::streams`] looked at last.
    pub sequence: u32,
    /// Acknowledgement number beside it.
    pub acknowledgement: u32,
    /// Bytes of the current head seen.
    pub head: u32,
    /// Bytes of the current head sent, or left out.
    pub sent: u32,
    /// Bytes of the window that the next piece of the head holds.
    pub piece: u16,
    /// `HEAD_*` of that piece.
    pub piece_flags: u16,
    /// Status of a response.
    pub status: u16,
    /// What a step was about to do when it left the decision about an answer to others; 0:
    /// nothing. Where frames are carried: how often the packet's frames were handed over while
    /// streams waited; 0: none waits.
    pub paused: u16,
    /// A [`mode`].
    pub mode: u8,
    /// `MARK_*`.
    pub marks: u8,
    /// `CLASS_*` of a message.
    pub class: u8,
    /// `FRAMING_*` of the current message.
    pub framing: u8,
    /// `PLACED_*`: whether the flow's place in the stream is known.
    pub placed: u8,
    /// 1: the next byte in order is the first since the other direction spoke.
    pub fresh: u8,
    /// TCP flags of the packet.
    pub flags: u8,
    /// `LOST_*`: why boundaries are about to be given up; 0: they are not.
    pub trouble: u8,
    /// `FIN_*`: how far the end of the stream has come.
    pub fin: u8,
    /// Segments that came ahead of a hole and were set aside, or pieces of them, at most.
    pub aside: u8,
    /// 1: one of them is being walked, by several programs in turn.
    pub walking: u8,
    /// `grpc-status` of a response, plus one; 0: none.
    pub grpc_status: u8,
    /// Where the stream ends, once a FIN was seen.
    pub fin_at: u32,
    /// Answers in a row of calls that are counted that were none like the one before; see
    /// [`crate::walk::Walk::take`].
    pub unlike: u8,
    /// 1: the frame under way was not found to leave the table of headers as it was.
    pub changed: u8,
}

// Whole cache lines, so that the two directions share none.
const _: () = assert!(size_of::<Flow>().is_multiple_of(64));

impl Flow {
    /// Eight bytes of the buffer from `index`, little-endian; zero beyond its end.
    #[inline(always)]
    #[must_use]
    pub fn word(&self, index: usize) -> u64 {
        let index = opaque(index);
        if index > BUFFER - 8 {
            return 0;
        }
        // SAFETY: eight bytes from `index` lie within the buffer, as just checked.
        unsafe { read_word(self.buffer.as_ptr().add(index)) }
    }

    /// Where newlines stand in the block from `index` on: bit n for byte n.
    #[inline(always)]
    #[must_use]
    pub fn newlines_from(&self, index: usize) -> u64 {
        let index = opaque(index);
        if index > BUFFER - BLOCK {
            return 0;
        }
        let mut others = 0;
        let mut number = 0;
        while number < BLOCK / 8 {
            // SAFETY: a block from `index` lies within the buffer, as just checked.
            let word = unsafe { read_word(self.buffer.as_ptr().add(index + number * 8)) };
            others |= http1::no_newlines(word) >> (7 - number);
            number += 1;
        }
        !http1::transposed(others)
    }

    /// One byte of the buffer; zero beyond its end.
    #[inline(always)]
    #[must_use]
    pub fn byte(&self, index: usize) -> u8 {
        let index = opaque(index);
        if index >= BUFFER {
            return 0;
        }
        // SAFETY: `index` lies within the buffer, as just checked.
        unsafe { *self.buffer.as_ptr().add(index) }
    }

    /// Tells a new flow which byte comes next, as TCP knows it. A packet cannot tell:
    /// the first one seen may be ahead of a hole.
    #[inline(always)]
    pub fn place(&mut self, sequence: u32) {
        self.edge.end = sequence;
        self.next = sequence;
        self.placed = PLACED_FIRST;
    }

    /// Moves the edge to what TCP itself has received in order: what lies before was
    /// seen, or will never be. TCP counts a FIN that it has received as one byte more.
    #[inline(always)]
    pub fn catch_up(&mut self, received: u32) {
        let beyond = self.fin != FIN_NONE && distance(received, self.fin_at) > 0;
        let received = if beyond { self.fin_at } else { received };
        if distance(received, self.edge.end) > 0 {
            self.edge.advance(received);
        }
    }

    /// Whether the segment has any payload.
    #[inline(always)]
    #[must_use]
    pub const fn holds_payload(&self) -> bool {
        self.segment_start != self.segment_end
    }

    /// Whether the stream ends with this packet: a FIN ends nothing before every byte in
    /// front of it has passed, and it does so once.
    #[inline(always)]
    pub fn reaches_fin(&mut self, fin: bool) -> bool {
        if fin && self.fin == FIN_NONE {
            self.fin = FIN_SEEN;
            self.fin_at = self.segment_end;
        }
        if self.fin != FIN_SEEN || distance(self.edge.end, self.fin_at) < 0 {
            return false;
        }
        self.fin = FIN_REACHED;
        true
    }

    /// Whether a mark is set.
    #[inline(always)]
    #[must_use]
    pub const fn marked(&self, mark: u8) -> bool {
        self.marks & mark != 0
    }

    /// Whether the current mode reads lines.
    #[inline(always)]
    #[must_use]
    pub const fn reads_lines(&self) -> bool {
        matches!(self.mode, mode::START | mode::HEADERS | mode::CHUNK | mode::TRAILER)
    }
}

/// Eight bytes, wherever they stand: rustc would read them one by one for BPF, whose
/// machines read them at once.
///
/// # Safety
/// Eight bytes from `place` on must be readable.
#[inline(always)]
#[must_use]
pub unsafe fn read_word(place: *const u8) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let value: u64;
        // SAFETY: by the contract.
        unsafe {
            core::arch::asm!(
                "{value} = *(u64 *)({place} + 0)",
                value = out(reg) value,
                place = in(reg) place,
                options(readonly, nostack),
            );
        }
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: by the contract.
    unsafe {
        place.cast::<u64>().read_unaligned()
    }
}

/// Writes eight bytes wherever they stand; see [`read_word`].
///
/// # Safety
/// Eight bytes from `place` on must be writable.
#[inline(always)]
pub unsafe fn write_word(place: *mut u8, value: u64) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: by the contract.
    unsafe {
        core::arch::asm!(
            "*(u64 *)({place} + 0) = {value}",
            value = in(reg) value,
            place = in(reg) place,
            options(nostack),
        );
    }
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: by the contract.
    unsafe {
        place.cast::<u64>().write_unaligned(value);
    }
}

/// Hides a value's origin from the compiler: LLVM would else drop a bounds check
/// that it can prove and the kernel's verifier cannot.
#[inline(always)]
#[must_use]
pub fn opaque(value: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value;
        // An instruction, though it does nothing: without one the kernel refuses the
        // line information that is left behind.
        // SAFETY: the register is assigned to itself.
        unsafe {
            core::arch::asm!("{0} = {0}", inout(reg) value, options(pure, nomem, nostack));
        }
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    value
}
