//! First requests that arrive at the listener: with `TCP_DEFER_ACCEPT`, or where the
//! handshake's last acknowledgement was lost, the packet that carries them belongs to
//! no connection yet. Their bytes wait here until the connection answers.

use aya_ebpf::bindings::{__sk_buff, BPF_ANY};
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_ktime_get_ns};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use meshtap_ebpf::event::{Endpoint, INGRESS, Loss};
use meshtap_ebpf::flow::{Flow, mode};
use meshtap_ebpf::http1::is_token;

use super::claim::{claim, release};
use super::follow::{self, again, may_be_frames, steps, walk};
use super::frames;
use super::opened::addresses;
use super::outlet::Outlet;
use super::packet::socket;
use super::segment::{self, Segment};
use super::state::{self, EGRESS_PARTS, HELD, Http};
use super::waiting::{self, EMPTY, Held, Waiting};

/// Steps through frames that waited: the first ones of a connection are few.
const STEPS: u32 = 40;

/// The addresses in the packet.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Tuple {
    /// The client.
    pub source: Endpoint,
    /// The listener.
    pub destination: Endpoint,
}

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
    // SAFETY: a value of the map.
    unsafe {
        (*held).time_ns = bpf_ktime_get_ns();
        (*held).sequence = segment.sequence;
        (*held).acknowledgement = segment.acknowledgement;
        (*held).length = segment.length;
        waiting::store(held, skb, segment.payload);
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
    if !steps::<{ follow::STEPS }>(&mut walk) {
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
