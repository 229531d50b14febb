//! Segments that arrive ahead of a hole: they pass the hook once, so their bytes are set
//! aside until TCP has closed the hole in front of them.

use aya_ebpf::bindings::{__sk_buff, BPF_ANY};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use meshtap_ebpf::event::INGRESS;
use meshtap_ebpf::flow::{Flow, mode};
use meshtap_ebpf::limits;

use super::follow::{finish, walk};
use super::frames;
use super::outlet::{Outlet, claimed};
use super::part;
use super::state::{ASIDE, AsideKey, Http};
use super::steps;
use super::waiting::{self, EMPTY, HELD_BYTES, Held, Waiting};

const DIRECTION: usize = INGRESS as usize;
/// Steps of one call.
const STEPS: u32 = 16;

/// Keeps the flow's segment, piece by piece; returns how many pieces are kept. What there is
/// no room for is missing behind them.
#[inline(never)]
pub fn keep(skb: *mut __sk_buff, flow: &Flow) -> u32 {
    let length = flow.segment_end.wrapping_sub(flow.segment_start);
    let room = u32::from(limits::ASIDE).wrapping_sub(flow.aside.into());
    let mut pieces = 0;
    while pieces < u32::from(limits::ASIDE) {
        let before = pieces * HELD_BYTES as u32;
        if before >= length || pieces >= room || !keep_piece(skb, flow, before, length - before) {
            break;
        }
        pieces += 1;
    }
    pieces
}

/// Keeps what fits one place of the segment's bytes behind the first `before`, of which
/// there are `rest`.
#[inline(always)]
fn keep_piece(skb: *mut __sk_buff, flow: &Flow, before: u32, rest: u32) -> bool {
    let sequence = flow.segment_start.wrapping_add(before);
    let key = AsideKey { cookie: flow.cookie, sequence: sequence.into() };
    let _ = ASIDE.insert(&key, &EMPTY, u64::from(BPF_ANY));
    let Some(held) = ASIDE.get_ptr_mut(&key) else { return false };
    // SAFETY: a value of the map.
    unsafe {
        (*held).sequence = sequence;
        (*held).acknowledgement = flow.segment_ack;
        (*held).length = if rest > HELD_BYTES as u32 { HELD_BYTES as u32 } else { rest };
        waiting::store(held, skb, flow.payload.wrapping_add(before));
    }
    true
}

/// The segment of a connection that was set aside and begins at `sequence`.
#[inline(always)]
pub fn find(cookie: u64, sequence: u32) -> Option<*mut Held> {
    ASIDE.get_ptr_mut(&AsideKey { cookie, sequence: sequence.into() })
}

/// Tail-calls the part that walks what was set aside; returns if the kernel's bound on tail
/// calls is reached.
#[inline(always)]
pub fn go_on(ctx: &SkBuffContext, flow: &Flow) {
    if flow.mode == mode::FRAMES {
        part::go_on::<DIRECTION>(ctx, part::ASIDE_FRAMES);
    } else {
        part::go_on::<DIRECTION>(ctx, part::ASIDE_LINES);
    }
}

/// Walks a segment that was set aside.
#[cgroup_skb(ingress)]
pub fn ingress_aside_lines(ctx: SkBuffContext) -> i32 {
    lines(&ctx);
    1
}

/// The same where it holds frames of HTTP/2.
#[cgroup_skb(ingress)]
pub fn ingress_aside_frames(ctx: SkBuffContext) -> i32 {
    walk_frames(&ctx);
    1
}

/// Tells the flow of the segment that was set aside and follows; `None`: none does.
#[inline(always)]
fn arrive(flow: &mut Flow) -> Option<*mut Held> {
    let begins = if flow.walking != 0 { flow.segment_start } else { flow.edge.end };
    let Some(held) = find(flow.cookie, begins) else {
        flow.walking = 0;
        flow.pass_unseen();
        return None;
    };
    if flow.walking != 0 {
        return Some(held);
    }
    flow.take_aside();
    flow.walking = 1;
    // SAFETY: a value of the map.
    unsafe {
        flow.segment_start = (*held).sequence;
        flow.segment_end = (*held).sequence.wrapping_add((*held).length);
        flow.segment_ack = (*held).acknowledgement;
    }
    flow.payload = 0;
    Some(held)
}

#[inline(always)]
fn forget(flow: &Flow) {
    let key = AsideKey { cookie: flow.cookie, sequence: flow.segment_start.into() };
    let _ = ASIDE.remove(&key);
}

/// The place to end at once no segment follows, and the one that does, if it was set aside.
#[inline(always)]
fn begin(ctx: &SkBuffContext) -> Option<(Outlet, *mut Http, Option<Waiting>)> {
    let (outlet, http) = claimed(ctx)?;
    let Outlet { skb, sk, .. } = outlet;
    // SAFETY: the flow was claimed by the first program.
    let held = arrive(unsafe { &mut (*http).flows[DIRECTION] });
    let waiting = held.map(|held| Waiting { inner: Outlet { skb, sk, http }, held });
    Some((outlet, http, waiting))
}

/// The segment is walked: goes on behind it.
#[inline(always)]
fn next(ctx: &SkBuffContext, flow: &mut Flow) {
    flow.walking = 0;
    forget(flow);
    if flow.aside > 0 {
        go_on(ctx, flow);
    }
}

#[inline(always)]
fn lines(ctx: &SkBuffContext) {
    let Some((mut outlet, http, waiting)) = begin(ctx) else { return };
    if let Some(mut waiting) = waiting {
        let done = steps::all(|| aside_line_steps(ctx.skb.skb));
        // SAFETY: the flow was claimed by the first program.
        let mut lines = unsafe { walk::<DIRECTION, _>(http, &mut waiting) };
        if done && !lines.resume() {
            lines.leave();
        } else {
            go_on(ctx, lines.flow);
            lines.exhaust();
        }
        next(ctx, lines.flow);
    }
    // SAFETY: as above.
    let lines = unsafe { walk::<DIRECTION, _>(http, &mut outlet) };
    let flags = lines.flow.flags;
    finish::<DIRECTION>(ctx, lines, http, flags);
}

/// Steps through lines that were set aside; see [`steps`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn aside_line_steps(skb: *mut __sk_buff) -> u32 {
    let Some((mut waiting, http)) = walked(skb) else { return 0 };
    // SAFETY: the flow was claimed by the first program.
    let mut lines = unsafe { walk::<DIRECTION, _>(http, &mut waiting) };
    steps::some::<STEPS>(|| lines.step())
}

/// The same through frames.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn aside_frame_steps(skb: *mut __sk_buff) -> u32 {
    let Some((mut waiting, http)) = walked(skb) else { return 0 };
    // SAFETY: the flow was claimed by the first program.
    let mut lines = unsafe { walk::<DIRECTION, _>(http, &mut waiting) };
    let mut frames = frames::of(&mut lines);
    steps::some::<STEPS>(|| frames.step())
}

/// The segment that is walked, which the program has told the flow of.
#[inline(always)]
fn walked(skb: *mut __sk_buff) -> Option<(Waiting, *mut Http)> {
    let (inner, http) = claimed(&SkBuffContext::new(skb))?;
    // SAFETY: a value of the map, the flow was claimed by the first program.
    let flow = unsafe { &(*http).flows[DIRECTION] };
    let held = find(flow.cookie, flow.segment_start)?;
    Some((Waiting { inner, held }, http))
}

#[inline(always)]
fn walk_frames(ctx: &SkBuffContext) {
    let Some((mut outlet, http, waiting)) = begin(ctx) else { return };
    if let Some(mut waiting) = waiting {
        let done = steps::all(|| aside_frame_steps(ctx.skb.skb));
        // SAFETY: the flow was claimed by the first program.
        let mut lines = unsafe { walk::<DIRECTION, _>(http, &mut waiting) };
        let mut frames = frames::of(&mut lines);
        if done {
            frames.leave();
        } else {
            go_on(ctx, frames.flow);
            frames.exhaust();
        }
        next(ctx, lines.flow);
    }
    // SAFETY: as above.
    let mut lines = unsafe { walk::<DIRECTION, _>(http, &mut outlet) };
    frames::end::<DIRECTION>(ctx, frames::of(&mut lines), http);
}
