//! Follows the frames of a connection that speaks HTTP/2.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::programs::SkBuffContext;
use aya_log_ebpf::debug;
use meshtap_ebpf::event::{EGRESS, INGRESS, Loss};
use meshtap_ebpf::frames::{FramePort, FrameWalk};
use meshtap_ebpf::streams;
use meshtap_ebpf::walk::{VERDICT_HTTP2, VERDICT_OPAQUE, Walk};

use super::aside;
use super::claim::release;
use super::follow::{finish, leave_alone, send_shut, walk};
use super::globals;
use super::outlet::{Outlet, claimed};
use super::part;
use super::segment::{FIN, RESET};
use super::state::{self, Http, MARKS};
use super::steps;

/// Steps of one call, enough for most packets. With all calls of all 33 parts they are for a
/// packet of 64 KiB that is nothing but the smallest frames.
const STEPS: u32 = 16;

/// The same direction of the same packet, frame by frame.
#[inline(always)]
pub fn of<'b, P: FramePort>(walk: &'b mut Walk<'_, P>) -> FrameWalk<'b, P> {
    FrameWalk {
        flow: &mut *walk.flow,
        shared: &mut *walk.shared,
        port: &mut *walk.port,
        direction: walk.direction,
    }
}

/// Takes in a segment of a connection that carries frames, and walks it.
#[inline(always)]
pub fn follow<const DIRECTION: usize>(
    ctx: &SkBuffContext,
    mut lines: Walk<'_, Outlet>,
    http: *mut Http,
) {
    let mut frames = of(&mut lines);
    let repeats = globals::repeats() == 1 && frames.shared.verdict == VERDICT_HTTP2;
    let (ends, wait) = (frames.flow.flags & (FIN | RESET) != 0, frames.shared.misses != 0);
    frames.flow.paused = 0;
    if repeats && ends && wait {
        part::go_on::<DIRECTION>(ctx, part::STREAMS);
        state::count(Loss::TailCall);
    }
    if frames.flow.holds_payload() && frames.enter() {
        if repeats && !ends && (wait || (is_marked(frames.flow.cookie) && frames.begins())) {
            part::go_on::<DIRECTION>(ctx, part::STREAMS);
        }
        part::go_on::<DIRECTION>(ctx, part::FRAMES);
        state::count(Loss::TailCall);
        frames.exhaust();
    }
    end::<DIRECTION>(ctx, frames, http);
}

/// Whether calls may be counted on this connection.
#[inline(always)]
fn is_marked(cookie: u64) -> bool {
    MARKS.get(streams::mark(cookie)).is_some_and(|connections| *connections > 0)
}

/// Walks a packet, or the next part of a long one.
#[inline(always)]
pub fn walk_on<const DIRECTION: usize>(ctx: &SkBuffContext) {
    let (skb, arrives) = (ctx.skb.skb, DIRECTION == INGRESS as usize);
    let some = || if arrives { ingress_frame_steps(skb) } else { egress_frame_steps(skb) };
    let done = steps::all(some);
    let Some((mut outlet, http)) = claimed(ctx) else { return };
    // SAFETY: the flow was claimed by the first program.
    let mut lines = unsafe { walk::<DIRECTION, _>(http, &mut outlet) };
    let mut frames = of(&mut lines);
    if !done || (globals::repeats() == 1 && frames.is_paused()) {
        part::go_on::<DIRECTION>(ctx, if done { part::STREAMS } else { part::FRAMES });
        frames.give_up();
    }
    frames.leave();
    if DIRECTION == INGRESS as usize && frames.flow.aside > 0 {
        aside::go_on(ctx, frames.flow);
    }
    end::<DIRECTION>(ctx, frames, http);
}

/// Looks for frames where the walk through lines has left off.
#[inline(always)]
pub fn join<const DIRECTION: usize>(ctx: &SkBuffContext) {
    let Some((mut outlet, http)) = claimed(ctx) else { return };
    // SAFETY: the flow was claimed by the first program.
    let mut lines = unsafe { walk::<DIRECTION, _>(http, &mut outlet) };
    if of(&mut lines).recognise() {
        debug!(ctx, "HTTP/2 on port {}", unsafe { (*lines.port.sk).src_port });
        part::go_on::<DIRECTION>(ctx, part::FRAMES);
        of(&mut lines).exhaust();
        let frames = of(&mut lines);
        return end::<DIRECTION>(ctx, frames, http);
    }
    lines.leave();
    let flags = lines.flow.flags;
    finish::<DIRECTION>(ctx, lines, http, flags);
}

/// Steps through a packet that arrives; see [`steps`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ingress_frame_steps(skb: *mut __sk_buff) -> u32 {
    some::<{ INGRESS as usize }>(skb)
}

/// The same for one that leaves.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn egress_frame_steps(skb: *mut __sk_buff) -> u32 {
    some::<{ EGRESS as usize }>(skb)
}

#[inline(always)]
fn some<const DIRECTION: usize>(skb: *mut __sk_buff) -> u32 {
    let Some((mut outlet, http)) = claimed(&SkBuffContext::new(skb)) else { return 0 };
    // SAFETY: the flow was claimed by the first program.
    let mut lines = unsafe { walk::<DIRECTION, _>(http, &mut outlet) };
    let mut frames = of(&mut lines);
    steps::some::<STEPS>(|| frames.step())
}

/// After the walk: the end of the connection, the verdict, the claim.
#[inline(always)]
pub fn end<const DIRECTION: usize>(
    ctx: &SkBuffContext,
    mut frames: FrameWalk<'_, Outlet>,
    http: *mut Http,
) {
    let flags = frames.flow.flags;
    let reset = flags & RESET != 0;
    if frames.flow.reaches_fin(flags & FIN != 0) || reset {
        frames.break_off();
        send_shut::<DIRECTION>(frames.flow, frames.shared, flags);
    }
    let opaque = frames.shared.verdict == VERDICT_OPAQUE;
    let sk = frames.port.sk;
    release::<DIRECTION>(http);
    if opaque {
        leave_alone(ctx, sk);
    }
}
