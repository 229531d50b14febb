//! Bytes of packets that wait until they can be walked.

use core::ffi::c_void;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use meshtap_ebpf::event::Head;
use meshtap_ebpf::flow::{Flow, WINDOW, WINDOW_START, opaque, read_word, write_word};
use meshtap_ebpf::frames::{FramePort, PIECE};
use meshtap_ebpf::repeat::Answer;
use meshtap_ebpf::walk::{Port, Shared};

use super::outlet::{LAST_PLACE, Outlet};

/// Bytes of a packet that wait in one piece, more than a packet of most networks holds. What a
/// first request has more cannot be looked at and is declared lost; what came ahead of a hole
/// waits in several pieces.
pub const HELD_BYTES: usize = 2048;

/// A packet's payload that waits.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Held {
    /// When it came.
    pub time_ns: u64,
    /// Sequence number of its first byte.
    pub sequence: u32,
    /// Its acknowledgement number.
    pub acknowledgement: u32,
    /// Payload bytes of the packet.
    pub length: u32,
    /// Bytes of them that are kept.
    pub stored: u32,
    /// The bytes; a window may be read from any of the kept ones.
    pub bytes: [u8; HELD_BYTES + WINDOW],
}

pub static EMPTY: Held = Held {
    time_ns: 0,
    sequence: 0,
    acknowledgement: 0,
    length: 0,
    stored: 0,
    bytes: [0; HELD_BYTES + WINDOW],
};

/// Keeps the payload that stands at `payload`, of which the length is told already.
///
/// # Safety
/// `held` must be a value of a map.
#[inline(always)]
pub unsafe fn store(held: *mut Held, skb: *mut __sk_buff, payload: u32) {
    // SAFETY: by the contract; the value has room for `stored` bytes, as checked.
    unsafe {
        let length = (*held).length as usize;
        let stored = if length > HELD_BYTES { HELD_BYTES } else { length };
        // VERIFIER(6.1): the least length must be seen to be one, so one is added last.
        let rest = opaque(stored.wrapping_sub(1));
        if rest >= HELD_BYTES {
            return;
        }
        let stored = rest + 1;
        (*held).stored = stored as u32;
        let bytes = (&raw mut (*held).bytes).cast::<c_void>();
        let _ = bpf_skb_load_bytes(skb.cast(), payload, bytes, stored as u32);
    }
}

/// The surroundings of a walk over bytes that waited.
pub struct Waiting {
    /// Where findings go.
    pub inner: Outlet,
    /// The bytes.
    pub held: *const Held,
}

impl Waiting {
    /// Where the bytes from `offset` on are kept; `None`: not all of them are.
    #[inline(always)]
    fn place(&self, offset: u32, length: u32) -> Option<*const u8> {
        // SAFETY: a value of the map.
        let stored = unsafe { (*self.held).stored };
        let from = opaque(offset as usize);
        if from >= HELD_BYTES || offset.wrapping_add(length) > stored {
            return None;
        }
        // SAFETY: a value of the map; the place lies within its bytes.
        Some(unsafe { (&raw const (*self.held).bytes).cast::<u8>().add(from) })
    }
}

impl Port for Waiting {
    #[inline(always)]
    fn load(&mut self, flow: &mut Flow, offset: u32, length: u32) -> bool {
        let Some(from) = self.place(offset, length) else { return false };
        // SAFETY: a window lies behind any kept byte, and in the flow's buffer.
        unsafe { copy::<WINDOW>(from, flow.buffer.as_mut_ptr().add(WINDOW_START)) };
        true
    }

    #[inline(always)]
    fn send_head(&mut self, flow: &mut Flow, shared: &mut Shared, length: u32) {
        self.inner.send_head(flow, shared, length);
    }

    #[inline(always)]
    fn send<T: zerocopy::IntoBytes>(&mut self, shared: &mut Shared, fill: impl FnOnce(*mut T)) {
        self.inner.send(shared, fill);
    }

    #[inline(always)]
    fn measure(&mut self, record: &mut Head) {
        self.inner.measure(record);
    }

    #[inline(always)]
    fn set_aside(&mut self, _: &mut Flow) -> u8 {
        0
    }

    #[inline(always)]
    fn prefix(&self) -> u32 {
        self.inner.prefix()
    }

    #[inline(always)]
    fn key(&self, index: usize) -> u64 {
        self.inner.key(index)
    }

    #[inline(always)]
    fn slot(&mut self, tag: u64) -> u16 {
        self.inner.slot(tag)
    }

    #[inline(always)]
    fn count(&mut self, slot: u16, tag: u64, answer: &Answer) -> bool {
        self.inner.count(slot, tag, answer)
    }

    #[inline(always)]
    fn answer(&mut self, flow: &Flow, shared: &mut Shared, answer: Answer) -> bool {
        self.inner.answer(flow, shared, answer)
    }
}

impl FramePort for Waiting {
    #[inline(always)]
    fn leaves_table(&mut self, direction: u8, flow: &mut Flow, at: u32, length: u32) -> u32 {
        self.inner.leaves_table(direction, flow, at, length)
    }

    #[inline(always)]
    fn load_at(&mut self, flow: &mut Flow, at: u32, offset: u32, length: u32) -> bool {
        let Some(from) = self.place(offset, length) else { return false };
        let at = opaque(at as usize);
        if at > LAST_PLACE || length as usize > PIECE {
            return false;
        }
        // SAFETY: a piece lies behind any kept byte; with what fills it up, it ends within
        // the buffer.
        unsafe {
            let to = flow.buffer.as_mut_ptr().add(at);
            if length as usize <= SHORT {
                copy_bytes(from, to, length as usize);
            } else {
                copy_words(from, to, (length as usize).div_ceil(8));
            }
        }
        true
    }

    #[inline(always)]
    fn send_frames(&mut self, flow: &mut Flow, shared: &mut Shared, length: u32) -> bool {
        self.inner.send_frames(flow, shared, length)
    }

    #[inline(always)]
    fn keep(&mut self, stream: u64, cookie: u64, place: u64) {
        self.inner.keep(stream, cookie, place);
    }

    #[inline(always)]
    fn take(&mut self, stream: u64, cookie: u64) -> Option<u64> {
        self.inner.take(stream, cookie)
    }
}

/// Copies `N` bytes, a multiple of eight.
///
/// # Safety
/// They must be readable and writable.
#[inline(always)]
unsafe fn copy<const N: usize>(from: *const u8, to: *mut u8) {
    let mut index = 0;
    while index < N {
        // SAFETY: by the contract.
        unsafe { write_word(to.add(index), read_word(from.add(index))) };
        index += 8;
    }
}

/// Longest thing that is loaded to where nothing fills it up to a multiple of eight: the
/// header of a frame.
const SHORT: usize = 9;

/// Copies at most [`SHORT`] bytes.
///
/// # Safety
/// They must be readable and writable.
#[inline(always)]
unsafe fn copy_bytes(from: *const u8, to: *mut u8, count: usize) {
    let mut index = 0;
    while index < SHORT {
        if index < opaque(count) {
            // SAFETY: by the contract.
            unsafe { *to.add(index) = *from.add(index) };
        }
        index += 1;
    }
}

/// Copies words, at most those of a piece.
///
/// # Safety
/// They must be readable and writable.
#[inline(always)]
unsafe fn copy_words(from: *const u8, to: *mut u8, count: usize) {
    let mut index = 0;
    while index < PIECE / 8 {
        if index < opaque(count) {
            // SAFETY: by the contract.
            unsafe { write_word(to.add(index * 8), read_word(from.add(index * 8))) };
        }
        index += 1;
    }
}
