//! Follows the messages of a connection: claims a direction, walks its packet, sends
//! what the walk found.

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_ktime_get_ns};
use aya_ebpf::programs::SkBuffContext;
use aya_log_ebpf::{debug, warn};
use meshtap_ebpf::event::{self, EGRESS, Header, INGRESS, Kind, Loss, Shut};
use meshtap_ebpf::flow::Flow;
use meshtap_ebpf::frames::carries_frames;
use meshtap_ebpf::sequence::distance;
use meshtap_ebpf::walk::{
    Port, Shared, VERDICT_HTTP1, VERDICT_HTTP2, VERDICT_OPAQUE, VERDICT_OPEN, VERDICT_UPGRADED,
    Walk,
};

use super::aside;
use super::claim::{claim, claim_in_turn, release};
use super::emit::{self, Wake};
use super::frames;
use super::globals;
use super::outlet::{Outlet, claimed, note};
use super::part;
use super::repeat;
use super::segment::{FIN, RESET, Segment};
use super::state::{self, Http};
use super::steps;
use super::streams;

/// Steps of one call, enough for most packets.
const STEPS: u32 = 16;

/// A walk over the flow of this direction.
///
/// # Safety
/// `http` must be a value of the map, its flow claimed.
#[inline(always)]
pub unsafe fn walk<'a, const DIRECTION: usize, P: Port>(
    http: *mut Http,
    outlet: &'a mut P,
) -> Walk<'a, P> {
    // SAFETY: by the contract.
    unsafe {
        Walk {
            flow: &mut (*http).flows[DIRECTION],
            shared: &mut (*http).shared,
            port: outlet,
            direction: DIRECTION as u8,
        }
    }
}

#[inline(always)]
pub fn follow<const DIRECTION: usize>(
    ctx: &SkBuffContext,
    sk: *mut bpf_sock,
    http: *mut Http,
    segment: &Segment,
) {
    let skb = ctx.skb.skb;
    // SAFETY: no arguments.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    if !claim_in_turn::<DIRECTION>(skb, http, segment) {
        warn!(ctx, "two packets of one direction at once: the later is not looked at");
        // Its bytes are unseen: the kernel's own count shows the hole to the next packet.
        state::count(Loss::Unreadable);
        return;
    }
    let mut outlet = Outlet { skb, sk, http };
    // SAFETY: the flow is claimed.
    let mut walk = unsafe { walk::<DIRECTION, _>(http, &mut outlet) };
    arrive::<DIRECTION>(walk.flow, skb, sk, segment, now_ns);
    if carries_frames(walk.flow, walk.shared) {
        return frames::follow::<DIRECTION>(ctx, walk, http);
    }
    let ends = segment.flags & (FIN | RESET) != 0;
    if segment.length > 0 && walk.pass_by(ends) {
        return release::<DIRECTION>(http);
    }
    if globals::repeats() == 1 && walk.may_defer(ends) {
        part::go_on::<DIRECTION>(ctx, part::REPEAT);
        // The next packet shows the hole.
        state::count(Loss::TailCall);
        return release::<DIRECTION>(http);
    }
    if segment.length > 0 && walk.enter() {
        // The walk is a program of its own: here the verifier would follow it once for
        // every way that leads to this line.
        part::go_on::<DIRECTION>(ctx, part::LINES);
        state::count(Loss::TailCall);
        walk.exhaust();
    }
    close::<DIRECTION>(ctx, walk, http, segment.flags);
}

/// Walks a packet, or the next part of a long one.
#[inline(always)]
pub fn walk_on<const DIRECTION: usize>(ctx: &SkBuffContext) {
    let (skb, arrives) = (ctx.skb.skb, DIRECTION == INGRESS as usize);
    let some = || if arrives { ingress_line_steps(skb) } else { egress_line_steps(skb) };
    let done = steps::all(some);
    let Some((mut outlet, http)) = claimed(ctx) else { return };
    // SAFETY: the flow was claimed by the first part.
    let mut walk = unsafe { walk::<DIRECTION, _>(http, &mut outlet) };
    let done = done && !walk.resume();
    if done && may_be_frames(walk.flow, walk.shared) {
        part::go_on::<DIRECTION>(ctx, part::JOIN);
    }
    if !done {
        part::go_on::<DIRECTION>(ctx, part::LINES);
        walk.exhaust();
    } else {
        walk.leave();
    }
    if DIRECTION == INGRESS as usize && walk.flow.aside > 0 {
        aside::go_on(ctx, walk.flow);
    }
    let flags = walk.flow.flags;
    finish::<DIRECTION>(ctx, walk, http, flags);
}

/// Whether the packet is to be looked at for frames: what is no HTTP/1 may be HTTP/2, and
/// what was upgraded may go on as that.
#[inline(always)]
pub fn may_be_frames(flow: &Flow, shared: &Shared) -> bool {
    match shared.verdict {
        VERDICT_OPEN => flow.trouble == event::LOST_SYNTAX,
        VERDICT_UPGRADED => distance(flow.segment_end, flow.next) > 0,
        _ => false,
    }
}

/// Steps through a packet that arrives; see [`steps`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ingress_line_steps(skb: *mut __sk_buff) -> u32 {
    some::<{ INGRESS as usize }>(skb)
}

/// The same for one that leaves.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn egress_line_steps(skb: *mut __sk_buff) -> u32 {
    some::<{ EGRESS as usize }>(skb)
}

#[inline(always)]
fn some<const DIRECTION: usize>(skb: *mut __sk_buff) -> u32 {
    let Some((mut outlet, http)) = claimed(&SkBuffContext::new(skb)) else { return 0 };
    // SAFETY: the flow was claimed by the first part.
    let mut walk = unsafe { walk::<DIRECTION, _>(http, &mut outlet) };
    steps::some::<STEPS>(|| walk.step())
}

/// Tells the flow of the segment.
#[inline(always)]
fn arrive<const DIRECTION: usize>(
    flow: &mut Flow,
    skb: *mut __sk_buff,
    sk: *mut bpf_sock,
    segment: &Segment,
    now_ns: u64,
) {
    flow.now_ns = now_ns;
    flow.segment_start = segment.sequence;
    flow.segment_end = segment.sequence.wrapping_add(segment.length);
    flow.segment_ack = segment.acknowledgement;
    flow.payload = segment.payload;
    flow.flags = segment.flags;
    let settled = flow.placed != 0 && flow.edge.ahead == 0 && segment.sequence == flow.edge.end;
    if settled {
        return;
    }
    // SAFETY: a full socket.
    let Some(tcp) = (unsafe { emit::tcp(sk) }) else { return };
    let known = if DIRECTION == INGRESS as usize { tcp.rcv_nxt } else { tcp.snd_nxt };
    if flow.placed == 0 {
        flow.place(known);
        // SAFETY: helper on the context of the program.
        flow.cookie = unsafe { bpf_get_socket_cookie(skb.cast()) };
    } else if DIRECTION == INGRESS as usize {
        flow.catch_up(known);
    }
}

/// After the walk: a request that waits, where its answer will not come; then [`close`].
#[inline(always)]
pub fn finish<const DIRECTION: usize>(
    ctx: &SkBuffContext,
    walk: Walk<'_, Outlet>,
    http: *mut Http,
    flags: u8,
) {
    if flags & (FIN | RESET) != 0 {
        // SAFETY: the flow is claimed, the socket full.
        unsafe { repeat::end::<DIRECTION>(http, walk.port.sk) };
    }
    close::<DIRECTION>(ctx, walk, http, flags);
}

/// The end of the connection, the verdict, the claim.
#[inline(always)]
fn close<const DIRECTION: usize>(
    ctx: &SkBuffContext,
    mut walk: Walk<'_, Outlet>,
    http: *mut Http,
    flags: u8,
) {
    let reset = flags & RESET != 0;
    if walk.flow.reaches_fin(flags & FIN != 0) || reset {
        walk.shut(reset);
        send_shut::<DIRECTION>(walk.flow, walk.shared, flags);
    }
    let opaque = walk.shared.verdict == VERDICT_OPAQUE;
    let sk = walk.port.sk;
    release::<DIRECTION>(http);
    if opaque {
        leave_alone(ctx, sk);
    }
}

/// Never looks at the socket's payload again.
#[inline(always)]
pub fn leave_alone(ctx: &SkBuffContext, sk: *mut bpf_sock) {
    debug!(ctx, "no more HTTP on port {}: left alone", unsafe { (*sk).src_port });
    // SAFETY: a socket.
    unsafe {
        if let Some(connection) = state::connection(sk.cast(), false) {
            connection.marks |= state::OPAQUE;
        }
        state::forget_http(sk.cast());
    }
}

/// The socket ended: tells how far the messages came that are open. A program that closes
/// by reset changes the socket's state before the packet leaves that says so.
///
/// # Safety
/// `sk` must be a socket that the verifier knows.
#[inline(never)]
pub unsafe fn end(sk: *mut bpf_sock, now_ns: u64, reset: bool) {
    // SAFETY: by the contract.
    let http = unsafe { state::http(sk.cast(), false) };
    if http.is_null() {
        return;
    }
    // SAFETY: by the contract.
    unsafe { streams::end(http, sk) };
    let mut outlet = Outlet { skb: core::ptr::null_mut(), sk, http };
    let reason = if reset { event::END_RESET } else { event::END_GONE };
    end_flow::<{ INGRESS as usize }>(http, &mut outlet, now_ns, reason);
    end_flow::<{ EGRESS as usize }>(http, &mut outlet, now_ns, reason);
}

#[inline(always)]
fn end_flow<const DIRECTION: usize>(http: *mut Http, outlet: &mut Outlet, now_ns: u64, reason: u8) {
    if !claim::<DIRECTION>(http) {
        return;
    }
    // SAFETY: the flow is claimed; a socket, by the contract of `end`.
    unsafe { repeat::end::<DIRECTION>(http, outlet.sk) };
    // SAFETY: as above.
    let mut walk = unsafe { walk::<DIRECTION, _>(http, outlet) };
    walk.flow.now_ns = now_ns;
    // SAFETY: a socket, by the contract of `end`.
    let tcp = unsafe { emit::tcp(walk.port.sk) };
    if let Some(tcp) = tcp.filter(|_| DIRECTION == INGRESS as usize && walk.flow.placed != 0) {
        walk.flow.catch_up(tcp.rcv_nxt);
    }
    if carries_frames(walk.flow, walk.shared) {
        frames::of(&mut walk).break_off();
    } else {
        walk.break_off(reason);
    }
    release::<DIRECTION>(http);
}

/// Tells of a FIN or RST.
#[inline(always)]
pub fn send_shut<const DIRECTION: usize>(flow: &Flow, shared: &mut Shared, flags: u8) {
    if shared.verdict != VERDICT_HTTP1 && shared.verdict != VERDICT_HTTP2 {
        return;
    }
    let reset = flags & RESET != 0;
    let header = Header {
        time_ns: flow.now_ns,
        cookie: flow.cookie,
        kind: Kind::Shut as u8,
        direction: DIRECTION as u8,
        flags: if reset { event::SHUT_RESET } else { event::SHUT_FIN },
        lost: shared.lost,
        length: 0,
    };
    let sent = emit::send::<Shut>(Wake::Behind, |place| {
        // SAFETY: the place of a record.
        unsafe { place.write(Shut { header }) };
    });
    note(shared, sent);
}
