//! Calls that repeat, in the kernel: their maps, and who decides about a request that waits.
//!
//! The requests' direction lets one wait, **only who has claimed the answers' ends that**:
//! the answer itself, or whatever comes first in the requests' direction.

use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use meshtap_ebpf::event::{EGRESS, INGRESS, Loss};
use meshtap_ebpf::flow::Flow;
use meshtap_ebpf::repeat::{self, Answer, Memo, SLOTS};
use meshtap_ebpf::walk::decide as decide_walk;

use super::claim::{claim, release};
use super::follow::{finish, walk};
use super::globals;
use super::outlet::{Outlet, claimed};
use super::part;
use super::segment::{FIN, RESET};
use super::state::{self, CONTROLS, COUNTS, Http};

/// Looks at a packet of the requests that may be one of those that are counted, at an answer to
/// one that waits, and at the end of either direction while one waits.
#[cgroup_skb(ingress)]
pub fn ingress_repeat(ctx: SkBuffContext) -> i32 {
    look::<{ INGRESS as usize }>(&ctx);
    1
}

/// The same for packets that leave.
#[cgroup_skb(egress)]
pub fn egress_repeat(ctx: SkBuffContext) -> i32 {
    look::<{ EGRESS as usize }>(&ctx);
    1
}

#[inline(always)]
fn look<const DIRECTION: usize>(ctx: &SkBuffContext) {
    let Some((mut outlet, http)) = claimed(ctx) else { return };
    let sk = outlet.sk;
    // SAFETY: the flow was claimed by the first program.
    let mut walk = unsafe { walk::<DIRECTION, _>(http, &mut outlet) };
    let flags = walk.flow.flags;
    let ends = flags & (FIN | RESET) != 0;
    let done = if walk.shared.requests == DIRECTION as u8 + 1 {
        // SAFETY: as above, and the socket is full.
        if !unsafe { make_way::<DIRECTION>(http, sk) } {
            // The next packet shows the hole.
            state::count(Loss::Unreadable);
            return release::<DIRECTION>(http);
        }
        walk.defer(ends)
    } else {
        !ends && walk.take()
    };
    if done {
        return release::<DIRECTION>(http);
    }
    if walk.flow.holds_payload() && walk.enter() {
        part::go_on::<DIRECTION>(ctx, part::LINES);
        state::count(Loss::TailCall);
        walk.exhaust();
    }
    finish::<DIRECTION>(ctx, walk, http, flags);
}

/// The slot of a tag, plus one; 0: it has none.
#[inline(always)]
pub fn slot(tag: u64) -> u16 {
    let pair = repeat::pair(tag);
    let Some(controls) = CONTROLS.get(pair) else { return 0 };
    let first = pair as u16 * 2 + 1;
    if controls[0].tag == tag {
        first
    } else if controls[1].tag == tag {
        first + 1
    } else {
        0
    }
}

/// Adds a call to a slot, given plus one, if it takes the answer.
#[inline(always)]
pub fn count(slot: u16, tag: u64, answer: &Answer) -> bool {
    let slot = u32::from(slot).wrapping_sub(1);
    let Some(controls) = CONTROLS.get(slot / 2) else { return false };
    let control = if slot & 1 == 0 { &controls[0] } else { &controls[1] };
    if !control.takes(tag, answer) {
        return false;
    }
    let Some(counts) = COUNTS.get_ptr_mut(slot) else { return false };
    // SAFETY: an aligned value of the map, of one connection, whose answers are claimed.
    unsafe { (*counts).add(answer) };
    true
}

/// What answers were like that were counted in a slot, given plus one.
#[inline(always)]
pub fn memo<'a>(slot: u16) -> Option<&'a mut Memo> {
    let counts = COUNTS.get_ptr_mut(u32::from(slot).wrapping_sub(1))?;
    // SAFETY: an aligned value of the map, of one connection, whose answers are claimed.
    Some(unsafe { &mut (*counts).memo })
}

/// The direction of the requests, and the other.
///
/// # Safety
/// `http` must be a value of the map; nobody else may change these flows' messages.
#[inline(always)]
unsafe fn directions<'a>(http: *mut Http) -> (&'a mut Flow, &'a Flow) {
    // SAFETY: by the contract.
    unsafe {
        let [ingress, egress] = &mut (*http).flows;
        let arrive = (*http).shared.requests == INGRESS + 1;
        if arrive { (ingress, egress) } else { (egress, ingress) }
    }
}

/// See [`meshtap_ebpf::walk::decide`]. The answers are claimed. A function of its own: the verifier would
/// follow it with every step of a walk.
///
/// # Safety
/// `http` must be a value of the map, `sk` a full socket.
#[inline(never)]
pub unsafe fn decide(
    http: *mut Http,
    sk: *mut bpf_sock,
    now_ns: u64,
    body: u64,
    status: u32,
) -> u32 {
    let mut outlet = Outlet { skb: core::ptr::null_mut(), sk, http };
    let answer = Answer { now_ns, nanoseconds: 0, body, status: status as u16 };
    // SAFETY: by the contract; a request that waits is its direction's last message.
    unsafe {
        let (asking, answering) = directions(http);
        let shared = &mut (*http).shared;
        u32::from(decide_walk(asking, answering, shared, &mut outlet, answer))
    }
}

/// Has a request told that waits, if one does, before another packet in its direction is
/// looked at, which the caller has claimed; false: the answers could not be claimed.
///
/// # Safety
/// As for [`decide`].
#[inline(always)]
pub unsafe fn make_way<const DIRECTION: usize>(http: *mut Http, sk: *mut bpf_sock) -> bool {
    // SAFETY: by the contract.
    unsafe {
        if (*http).shared.waiting == 0 {
            return true;
        }
        let answers = if DIRECTION == INGRESS as usize { EGRESS } else { INGRESS };
        let claimed = if answers == EGRESS {
            claim::<{ EGRESS as usize }>(http)
        } else {
            claim::<{ INGRESS as usize }>(http)
        };
        if !claimed {
            return false;
        }
        decide(http, sk, 0, 0, 0);
        if answers == EGRESS {
            release::<{ EGRESS as usize }>(http);
        } else {
            release::<{ INGRESS as usize }>(http);
        }
        true
    }
}

/// Has a request told that waits, if one does, before its answer's direction ends, which the
/// caller has claimed.
///
/// # Safety
/// As for [`decide`].
#[inline(always)]
pub unsafe fn end<const DIRECTION: usize>(http: *mut Http, sk: *mut bpf_sock) {
    // SAFETY: by the contract.
    unsafe {
        let answers = (*http).shared.requests != DIRECTION as u8 + 1;
        if globals::repeats() == 1 && answers && (*http).shared.waiting != 0 {
            decide(http, sk, 0, 0, 0);
        }
    }
}

const _: () = assert!(SLOTS <= u16::MAX as u32 - 1);
