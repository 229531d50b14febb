//! First requests that arrive at the listener: with `TCP_DEFER_ACCEPT`, or where the
//! handshake's last acknowledgement was lost, the packet that carries them belongs to
//! no connection yet. Their bytes wait here until the connection answers.

use aya_ebpf::bindings::{__sk_buff, BPF_ANY, bpf_sock};
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_ktime_get_ns};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use meshtap_ebpf::event::{EGRESS, Endpoint, INGRESS, Loss};
use meshtap_ebpf::flow::{Flow, mode};
use meshtap_ebpf::http1::is_token;

use super::claim::{claim, release};
use super::emit;
use super::follow::{may_be_frames, walk};
use super::frames;
use super::opened::addresses;
use super::outlet::Outlet;
use super::packet::socket;
use super::part;
use super::segment::{self, Segment};
use super::state::{self, HELD, Http};
use super::steps;
use super::waiting::{self, EMPTY, Held, Waiting};

/// Steps of one call.
const STEPS: u32 = 16;

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

/// Runs before the first packet of an accepted connection.
#[cgroup_skb(ingress)]
pub fn ingress_held(ctx: SkBuffContext) -> i32 {
    begin::<{ INGRESS as usize }>(&ctx);
    1
}

/// Runs before the first packet of an accepted connection.
#[cgroup_skb(egress)]
pub fn egress_held(ctx: SkBuffContext) -> i32 {
    begin::<{ EGRESS as usize }>(&ctx);
    1
}

/// Walks a request that waited as if it came now.
#[cgroup_skb(ingress)]
pub fn ingress_held_lines(ctx: SkBuffContext) -> i32 {
    replay::<{ INGRESS as usize }>(&ctx);
    1
}

/// Walks a request that waited as if it came now.
#[cgroup_skb(egress)]
pub fn egress_held_lines(ctx: SkBuffContext) -> i32 {
    replay::<{ EGRESS as usize }>(&ctx);
    1
}

/// The same where it turned out to be frames of HTTP/2.
#[cgroup_skb(ingress)]
pub fn ingress_held_frames(ctx: SkBuffContext) -> i32 {
    replay_frames::<{ INGRESS as usize }>(&ctx);
    1
}

/// The same where it turned out to be frames of HTTP/2.
#[cgroup_skb(egress)]
pub fn egress_held_frames(ctx: SkBuffContext) -> i32 {
    replay_frames::<{ EGRESS as usize }>(&ctx);
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
    Some(Place { outlet: Outlet { skb, sk, http }, http, held, key })
}

#[inline(always)]
fn begin<const DIRECTION: usize>(ctx: &SkBuffContext) {
    let _ = take_in::<DIRECTION>(ctx);
    part::go_on::<DIRECTION>(ctx, part::WHOLE);
}

#[inline(always)]
fn take_in<const DIRECTION: usize>(ctx: &SkBuffContext) -> Option<()> {
    let Place { outlet, http, held, key } = find(ctx.skb.skb)?;
    // SAFETY: a value of the map, and a full socket.
    if !unsafe { belongs(held, outlet.sk) } {
        let _ = HELD.remove(&key);
        return None;
    }
    if !claim::<{ INGRESS as usize }>(http) {
        return None;
    }
    let mut waiting = Waiting { inner: outlet, held };
    // SAFETY: the flow is claimed.
    let mut walk = unsafe { walk::<{ INGRESS as usize }, _>(http, &mut waiting) };
    // SAFETY: a value of the map.
    unsafe { arrive(walk.flow, ctx.skb.skb, held) };
    if walk.enter() {
        part::go_on::<DIRECTION>(ctx, part::HELD_LINES);
        walk.exhaust();
    }
    release::<{ INGRESS as usize }>(http);
    let _ = HELD.remove(&key);
    Some(())
}

#[inline(always)]
fn replay<const DIRECTION: usize>(ctx: &SkBuffContext) {
    let _ = walk_lines::<DIRECTION>(ctx);
    part::go_on::<DIRECTION>(ctx, part::WHOLE);
}

#[inline(always)]
fn walk_lines<const DIRECTION: usize>(ctx: &SkBuffContext) -> Option<()> {
    let Place { outlet, http, held, key } = find(ctx.skb.skb)?;
    let mut waiting = Waiting { inner: outlet, held };
    let done = steps::all(|| held_line_steps(ctx.skb.skb));
    // SAFETY: the flow was claimed by the first part.
    let mut walk = unsafe { walk::<{ INGRESS as usize }, _>(http, &mut waiting) };
    if !done || walk.resume() {
        part::go_on::<DIRECTION>(ctx, part::HELD_LINES);
        walk.exhaust();
    } else if may_be_frames(walk.flow, walk.shared) {
        part::go_on::<DIRECTION>(ctx, part::HELD_FRAMES);
        walk.leave();
    } else {
        walk.leave();
    }
    release::<{ INGRESS as usize }>(http);
    let _ = HELD.remove(&key);
    Some(())
}

/// Steps through lines that waited; see [`steps`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn held_line_steps(skb: *mut __sk_buff) -> u32 {
    let Some(Place { outlet, http, held, .. }) = find(skb) else { return 0 };
    let mut waiting = Waiting { inner: outlet, held };
    // SAFETY: the flow was claimed by the first part.
    let mut walk = unsafe { walk::<{ INGRESS as usize }, _>(http, &mut waiting) };
    steps::some::<STEPS>(|| walk.step())
}

/// The same through frames.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn held_frame_steps(skb: *mut __sk_buff) -> u32 {
    let Some(Place { outlet, http, held, .. }) = find(skb) else { return 0 };
    let mut waiting = Waiting { inner: outlet, held };
    // SAFETY: the flow was claimed by the first part.
    let mut lines = unsafe { walk::<{ INGRESS as usize }, _>(http, &mut waiting) };
    let mut frames = frames::of(&mut lines);
    steps::some::<STEPS>(|| frames.step())
}

#[inline(always)]
fn replay_frames<const DIRECTION: usize>(ctx: &SkBuffContext) {
    let _ = walk_frames::<DIRECTION>(ctx);
    part::go_on::<DIRECTION>(ctx, part::WHOLE);
}

#[inline(always)]
fn walk_frames<const DIRECTION: usize>(ctx: &SkBuffContext) -> Option<()> {
    let Place { outlet, http, held, key } = find(ctx.skb.skb)?;
    let mut waiting = Waiting { inner: outlet, held };
    // SAFETY: the flow was claimed by the first part.
    let mut lines = unsafe { walk::<{ INGRESS as usize }, _>(http, &mut waiting) };
    let mut frames = frames::of(&mut lines);
    if frames.flow.mode != mode::FRAMES && !frames.recognise() {
        lines.leave();
    } else {
        let done = steps::all(|| held_frame_steps(ctx.skb.skb));
        // SAFETY: as above.
        let mut lines = unsafe { walk::<{ INGRESS as usize }, _>(http, &mut waiting) };
        let mut frames = frames::of(&mut lines);
        if done {
            frames.leave();
        } else {
            part::go_on::<DIRECTION>(ctx, part::HELD_FRAMES);
            frames.exhaust();
        }
    }
    release::<{ INGRESS as usize }>(http);
    let _ = HELD.remove(&key);
    Some(())
}

/// Whether it is the connection's first segment: what an earlier connection between the
/// same addresses left behind is none of this one's.
///
/// # Safety
/// `held` must be a value of the map, `sk` a full socket.
#[inline(always)]
unsafe fn belongs(held: *const Held, sk: *mut bpf_sock) -> bool {
    // SAFETY: by the contract.
    let (tcp, sequence) = unsafe { (emit::tcp(sk), (*held).sequence) };
    let Some(tcp) = tcp else { return false };
    let first = tcp.rcv_nxt.wrapping_sub(tcp.bytes_received as u32);
    // A FIN that was received counts as one more.
    first.wrapping_sub(sequence) <= 1
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
