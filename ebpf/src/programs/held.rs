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
use meshtap_ebpf::http1::is_token;
use meshtap_ebpf::walk::{Port, Shared};

use super::claim::{claim, release};
use super::follow::{again, steps, walk};
use super::opened::addresses;
use super::outlet::Outlet;
use super::packet::socket;
use super::segment::{self, Segment};
use super::state::{self, EGRESS_PARTS, HELD, Http};

/// Bytes of a request that wait, more than a packet of most networks holds; more of it
/// cannot be looked at and is declared lost.
pub const HELD_BYTES: usize = 2048;

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
    if steps(&mut walk) {
        walk.leave();
    } else {
        walk.exhaust();
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

impl Port for Waiting {
    #[inline(always)]
    fn load(&mut self, flow: &mut Flow, offset: u32, length: u32) -> bool {
        // SAFETY: a value of the map.
        let stored = unsafe { (*self.held).stored };
        let from = opaque(offset as usize);
        if from >= HELD_BYTES || offset.wrapping_add(length) > stored {
            return false;
        }
        let mut index = 0;
        while index < WINDOW {
            // SAFETY: a window from any kept byte lies within the value, and in the flow's buffer.
            unsafe {
                let source = (&raw const (*self.held).bytes).cast::<u8>().add(from + index);
                let target = flow.buffer.as_mut_ptr().add(WINDOW_START + index);
                write_word(target, read_word(source));
            }
            index += 8;
        }
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
