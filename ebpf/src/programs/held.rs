//! First requests that arrive at the listener: with `TCP_DEFER_ACCEPT`, or where the
//! handshake's last acknowledgement was lost, the packet that carries them belongs to
//! no connection yet. Their bytes wait here until the connection answers.

use core::ffi::c_void;

use aya_ebpf::bindings::{__sk_buff, BPF_ANY};
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_ktime_get_ns, bpf_skb_load_bytes};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use meshtap_ebpf::event::{Endpoint, Head, INGRESS, Loss};
use meshtap_ebpf::flow::{Flow, WINDOW, WINDOW_START, mode, opaque, read_word, write_word};
use meshtap_ebpf::frames::{FramePort, PIECE};
use meshtap_ebpf::http1::is_token;
use meshtap_ebpf::walk::{Port, Shared};

use super::claim::{claim, release};
use super::follow::{again, may_be_frames, steps, walk};
use super::frames;
use super::opened::addresses;
use super::outlet::{LAST_PLACE, Outlet};
use super::packet::socket;
use super::segment::{self, Segment};
use super::state::{self, EGRESS_PARTS, HELD, Http};

/// Bytes of a request that wait, more than a packet of most networks holds; more of it
/// cannot be looked at and is declared lost.
pub const HELD_BYTES: usize = 2048;

/// Steps through frames that waited: the first ones of a connection are few.
const STEPS: u32 = 64;

/// The addresses in the packet.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Tuple {
    /// The client.
    pub source: Endpoint,
    /// The listener.
    pub destination: Endpoint,
}

/// A first request that waits for its connection.
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

static EMPTY: Held = Held {
    time_ns: 0,
    sequence: 0,
    acknowledgement: 0,
    length: 0,
    stored: 0,
    bytes: [0; HELD_BYTES + WINDOW],
};

/// Keeps the payload of a packet that came to a listener.
#[inline(never)]
pub fn hold(skb: *mut __sk_buff, segment: &Segment) -> u32 {
    let Some((source, destination)) = segment::endpoints(skb, segment.header) else { return 0 };
    let Some(first) = segment::load::<1>(skb, segment.payload) else { return 0 };
    if !is_token(first[0]) {
        return 0;
    }
    let key = Tuple { source, destination };
    let _ = HELD.insert(&key, &EMPTY, u64::from(BPF_ANY));
    let Some(held) = HELD.get_ptr_mut(&key) else {
        state::count(Loss::Held);
        return 0;
    };
    let length = segment.length as usize;
    let stored = if length > HELD_BYTES { HELD_BYTES } else { length };
    // VERIFIER(6.1): the least length must be seen to be one, so one is added last.
    let rest = opaque(stored.wrapping_sub(1));
    if rest >= HELD_BYTES {
        return 0;
    }
    let stored = rest + 1;
    // SAFETY: a value of the map; it has room for `stored` bytes, as just checked.
    unsafe {
        (*held).time_ns = bpf_ktime_get_ns();
        (*held).sequence = segment.sequence;
        (*held).acknowledgement = segment.acknowledgement;
        (*held).length = segment.length;
        (*held).stored = stored as u32;
        let bytes = (&raw mut (*held).bytes).cast::<c_void>();
        let _ = bpf_skb_load_bytes(skb.cast(), segment.payload, bytes, stored as u32);
    }
    0
}

/// Runs before a server's first answer where no request was seen on its connection.
#[cgroup_skb(egress)]
pub fn egress_held(ctx: SkBuffContext) -> i32 {
    let _ = begin(&ctx);
    again(&ctx);
    1
}

/// Walks a request that waited as if it came now. A program of its own for the same
/// reason as the walk through a packet.
#[cgroup_skb(egress)]
pub fn egress_held_part(ctx: SkBuffContext) -> i32 {
    let _ = replay(&ctx);
    again(&ctx);
    1
}

/// The same where it turned out to be frames of HTTP/2.
#[cgroup_skb(egress)]
pub fn egress_held_frames(ctx: SkBuffContext) -> i32 {
    let _ = replay_frames(&ctx);
    again(&ctx);
    1
}

/// What waits for the socket of the packet, and where the socket's state is.
struct Place {
    outlet: Outlet,
    http: *mut Http,
    held: *const Held,
    key: Tuple,
}

#[inline(always)]
fn find(skb: *mut __sk_buff) -> Option<Place> {
    let sk = socket(skb);
    if sk.is_null() {
        return None;
    }
    let (local, remote) = addresses(sk);
    let key = Tuple { source: remote, destination: local };
    let held = HELD.get_ptr_mut(&key)?;
    // SAFETY: a full socket.
    let http = unsafe { state::http(sk.cast(), true) };
    if http.is_null() {
        return None;
    }
    Some(Place { outlet: Outlet { skb, sk }, http, held, key })
}

#[inline(always)]
fn begin(ctx: &SkBuffContext) -> Option<()> {
    let Place { mut outlet, http, held, key } = find(ctx.skb.skb)?;
    if !claim::<{ INGRESS as usize }>(http) {
        return None;
    }
    // SAFETY: the flow is claimed.
    let mut walk = unsafe { walk::<{ INGRESS as usize }, _>(http, &mut outlet) };
    // SAFETY: a value of the map.
    unsafe { arrive(walk.flow, ctx.skb.skb, held) };
    if walk.enter() {
        // SAFETY: the context of the program.
        unsafe { EGRESS_PARTS.tail_call(ctx, 3) };
        walk.exhaust();
    }
    release::<{ INGRESS as usize }>(http);
    let _ = HELD.remove(&key);
    Some(())
}

#[inline(always)]
fn replay(ctx: &SkBuffContext) -> Option<()> {
    let Place { outlet, http, held, key } = find(ctx.skb.skb)?;
    let mut waiting = Waiting { inner: outlet, held };
    // SAFETY: the flow was claimed by `egress_held`.
    let mut walk = unsafe { walk::<{ INGRESS as usize }, _>(http, &mut waiting) };
    if !steps(&mut walk) {
        walk.exhaust();
    } else if may_be_frames(walk.flow, walk.shared) {
        // SAFETY: the context of the program.
        unsafe { EGRESS_PARTS.tail_call(ctx, 6) };
        walk.leave();
    } else {
        walk.leave();
    }
    release::<{ INGRESS as usize }>(http);
    let _ = HELD.remove(&key);
    Some(())
}

#[inline(always)]
fn replay_frames(ctx: &SkBuffContext) -> Option<()> {
    let Place { outlet, http, held, key } = find(ctx.skb.skb)?;
    let mut waiting = Waiting { inner: outlet, held };
    // SAFETY: the flow was claimed by `egress_held`.
    let mut lines = unsafe { walk::<{ INGRESS as usize }, _>(http, &mut waiting) };
    let mut frames = frames::of(&mut lines);
    if !frames.recognise() {
        lines.leave();
    } else if frames::steps::<STEPS>(&mut frames) {
        frames.leave();
    } else {
        frames.exhaust();
    }
    release::<{ INGRESS as usize }>(http);
    let _ = HELD.remove(&key);
    Some(())
}

/// Tells the flow of the segment that waited.
///
/// # Safety
/// `held` must be a value of the map.
#[inline(always)]
unsafe fn arrive(flow: &mut Flow, skb: *mut __sk_buff, held: *const Held) {
    // SAFETY: by the contract; a helper on the context of the program.
    unsafe {
        let end = (*held).sequence.wrapping_add((*held).length);
        if flow.placed == 0 {
            flow.cookie = bpf_get_socket_cookie(skb.cast());
        }
        // A packet that came twice may have placed the flow behind what waits.
        if flow.placed == 0 || (flow.mode == mode::IDLE && flow.edge.end == end) {
            flow.place((*held).sequence);
        }
        flow.now_ns = (*held).time_ns;
        flow.segment_start = (*held).sequence;
        flow.segment_end = end;
        flow.segment_ack = (*held).acknowledgement;
    }
    flow.payload = 0;
}

/// The surroundings of a walk over bytes that waited.
pub struct Waiting {
    inner: Outlet,
    held: *const Held,
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
    fn prefix(&self) -> u32 {
        self.inner.prefix()
    }
}

impl FramePort for Waiting {
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
    fn keep(&mut self, stream: u64, cookie: u64, place: u32) {
        self.inner.keep(stream, cookie, place);
    }

    #[inline(always)]
    fn take(&mut self, stream: u64, cookie: u64) -> Option<u32> {
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
