//! The surroundings of a walk in the kernel: the packet, its socket, the ring buffer.

use core::ffi::c_void;

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use aya_ebpf::programs::SkBuffContext;
use meshtap_ebpf::event::{Frames, Head};
use meshtap_ebpf::flow::{BUFFER, Flow, WINDOW, WINDOW_START, opaque};
use meshtap_ebpf::frames::{FramePort, ITEMS, ITEMS_AT, PIECE};
use meshtap_ebpf::repeat::{Answer, Memo};
use meshtap_ebpf::walk::{Port, Shared};

use super::aside;
use super::block;
use super::emit::{self, Wake};
use super::globals;
use super::packet::socket;
use super::repeat;
use super::state::{self, Http, StreamKey};

/// Remembers whether the connection's record found room.
#[inline(always)]
pub fn note(shared: &mut Shared, sent: bool) {
    shared.lost = if sent { 0 } else { shared.lost.saturating_add(1) };
}

/// The walk's surroundings in the kernel.
pub struct Outlet {
    /// The packet.
    pub skb: *mut __sk_buff,
    /// Its socket.
    pub sk: *mut bpf_sock,
    /// The state of that.
    pub http: *mut Http,
}

/// The packet's surroundings and the state of its socket, of which the first part of the
/// programs has claimed the flow.
#[inline(always)]
pub fn claimed(ctx: &SkBuffContext) -> Option<(Outlet, *mut Http)> {
    let skb = ctx.skb.skb;
    let sk = socket(skb);
    if sk.is_null() {
        return None;
    }
    // SAFETY: a socket.
    let http = unsafe { state::http(sk.cast(), false) };
    if http.is_null() { None } else { Some((Outlet { skb, sk, http }, http)) }
}

impl Port for Outlet {
    #[inline(always)]
    fn load(&mut self, flow: &mut Flow, offset: u32, length: u32) -> bool {
        // VERIFIER(6.1): the least length must be seen to be one, so one is added last.
        let rest = opaque((length as usize).wrapping_sub(1));
        if rest >= WINDOW {
            return false;
        }
        let length = rest as u32 + 1;
        // SAFETY: the window has room for `length` bytes, as just checked.
        unsafe {
            let window = flow.buffer.as_mut_ptr().add(WINDOW_START);
            bpf_skb_load_bytes(self.skb.cast(), offset, window.cast(), length) == 0
        }
    }

    #[inline(always)]
    fn send_head(&mut self, flow: &mut Flow, shared: &mut Shared, length: u32) {
        let length = opaque(length as usize);
        if length < WINDOW_START || length > WINDOW_START + WINDOW {
            return;
        }
        // SAFETY: the buffer has `length` bytes, as just checked.
        let sent = unsafe {
            let record: *const c_void = flow.buffer.as_ptr().cast();
            emit::send_bytes(record, length as u64, Wake::Behind)
        };
        note(shared, sent);
    }

    #[inline(always)]
    fn send<T: zerocopy::IntoBytes>(&mut self, shared: &mut Shared, fill: impl FnOnce(*mut T)) {
        note(shared, emit::send(Wake::Behind, fill));
    }

    #[inline(always)]
    fn measure(&mut self, record: &mut Head) {
        // SAFETY: a full socket.
        if let Some(tcp) = unsafe { emit::tcp(self.sk) } {
            record.bytes_acked = tcp.bytes_acked;
            record.bytes_received = tcp.bytes_received;
            record.srtt_us = emit::smoothed(tcp);
            record.retransmits = tcp.total_retrans;
        }
    }

    #[inline(always)]
    fn set_aside(&mut self, flow: &mut Flow) -> u8 {
        aside::keep(self.skb, flow) as u8
    }

    #[inline(always)]
    fn prefix(&self) -> u32 {
        globals::head_prefix()
    }

    #[inline(always)]
    fn key(&self, index: usize) -> u64 {
        globals::repeat_key(index)
    }

    #[inline(always)]
    fn slot(&mut self, tag: u64) -> u16 {
        repeat::slot(tag)
    }

    #[inline(always)]
    fn count(&mut self, slot: u16, tag: u64, answer: &Answer) -> bool {
        repeat::count(slot, tag, answer)
    }

    #[inline(always)]
    fn memo(&mut self, slot: u16) -> Option<&mut Memo> {
        repeat::memo(slot)
    }

    #[inline(always)]
    fn answer(&mut self, _: &Flow, _: &mut Shared, answer: Answer) -> bool {
        if globals::repeats() != 1 {
            return false;
        }
        let (now_ns, body, status) = (answer.now_ns, answer.body, u32::from(answer.status));
        // SAFETY: a value of the map, and a full socket.
        unsafe { repeat::decide(self.http, self.sk, now_ns, body, status) != 0 }
    }
}

impl FramePort for Outlet {
    #[inline(always)]
    fn leaves_table(&mut self, direction: u8, _: &mut Flow, at: u32, length: u32) -> u32 {
        block::leaves_table(self.skb, direction.into(), at, length)
    }

    #[inline(always)]
    fn load_at(&mut self, flow: &mut Flow, at: u32, offset: u32, length: u32) -> bool {
        if at + length > BUFFER as u32 {
            return false;
        }
        // VERIFIER: it does not see the sum; each alone keeps within the flow.
        let at = opaque(at as usize);
        let rest = opaque((length as usize).wrapping_sub(1));
        if at > LAST_PLACE || rest >= PIECE {
            return false;
        }
        let length = rest as u32 + 1;
        // SAFETY: the buffer has room for `length` bytes from `at` on, as just checked.
        unsafe {
            let place = flow.buffer.as_mut_ptr().add(at);
            bpf_skb_load_bytes(self.skb.cast(), offset, place.cast(), length) == 0
        }
    }

    #[inline(always)]
    fn send_frames(&mut self, flow: &mut Flow, shared: &mut Shared, length: u32) -> bool {
        // VERIFIER(6.12): it does not carry the bound of a difference over to what it was
        // taken from, so the length is made anew from the difference.
        let items = opaque((length as usize).wrapping_sub(ITEMS_AT));
        if items > ITEMS {
            return false;
        }
        let length = items + ITEMS_AT;
        // SAFETY: a full socket; the buffer begins with the record and has `length` bytes.
        let sent = unsafe {
            let record = flow.buffer.as_mut_ptr().cast::<Frames>();
            if globals::repeats() == 1 && shared.misses != 0 {
                (*record).waited = waited(self.sk, (*record).header.direction);
            }
            if let Some(tcp) = emit::tcp(self.sk) {
                (*record).srtt_us = emit::smoothed(tcp);
                (*record).retransmits = tcp.total_retrans;
            }
            emit::send_bytes(record.cast_const().cast(), length as u64, Wake::Behind)
        };
        note(shared, sent);
        sent
    }

    #[inline(always)]
    fn keep(&mut self, stream: u64, cookie: u64, place: u64) {
        let _ = state::PLACES.insert(&StreamKey { cookie, stream }, &place, 0);
    }

    #[inline(always)]
    fn take(&mut self, stream: u64, cookie: u64) -> Option<u64> {
        let key = StreamKey { cookie, stream };
        // SAFETY: an aligned value of the map.
        let place = unsafe { *state::PLACES.get_ptr(&key)? };
        let _ = state::PLACES.remove(&key);
        Some(place)
    }
}

/// See [`Frames::waited`].
///
/// # Safety
/// `sk` must be a full socket.
#[inline(always)]
unsafe fn waited(sk: *mut bpf_sock, direction: u8) -> u32 {
    // SAFETY: by the contract; the storage lives as long as the program runs.
    unsafe {
        let streams = state::streams(sk, false);
        if streams.is_null() {
            0
        } else if (*streams).asks == direction + 1 {
            (*streams).let_wait
        } else {
            (*streams).told
        }
    }
}

/// Where the last thing in the buffer begins that is loaded.
pub const LAST_PLACE: usize = BUFFER - 8;
