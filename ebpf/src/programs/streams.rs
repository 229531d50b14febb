//! Calls of HTTP/2 that repeat, in the kernel: looks at frames before they are told.

use core::ptr::null_mut;

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use meshtap_ebpf::event::{EGRESS, INGRESS, Loss};
use meshtap_ebpf::flow::Flow;
use meshtap_ebpf::repeat::Answer;
use meshtap_ebpf::streams::{self, Expected, Next, StreamPort, StreamWalk, Streams};
use meshtap_ebpf::walk::{Shared, Walk};

use super::claim::{GLANCES, claim_other, release};
use super::follow::walk;
use super::frames;
use super::outlet::{Outlet, claimed};
use super::part;
use super::segment::{FIN, RESET};
use super::state::{self, CONTROLS, COUNTS, EXPECTED, Http};
use super::steps;

/// Frames that one call looks at.
const STEPS: u32 = 4;

/// Looks for the answers when the socket ends, and hardly anybody else is at work on it.
const LAST_GLANCES: u32 = 256;

/// Looks at packets that arrive.
#[cgroup_skb(ingress)]
pub fn ingress_streams(ctx: SkBuffContext) -> i32 {
    look::<{ INGRESS as usize }>(&ctx);
    1
}

/// The same for packets that leave.
#[cgroup_skb(egress)]
pub fn egress_streams(ctx: SkBuffContext) -> i32 {
    look::<{ EGRESS as usize }>(&ctx);
    1
}

#[inline(always)]
fn look<const DIRECTION: usize>(ctx: &SkBuffContext) {
    let Some((mut outlet, http)) = claimed(ctx) else { return };
    let next = pass::<DIRECTION>(ctx, http, &mut outlet);
    // SAFETY: the flow was claimed by the first program.
    let mut lines = unsafe { walk::<DIRECTION, _>(http, &mut outlet) };
    let blocked = matches!(next, Next::Blocked);
    let mut frames = frames::of(&mut lines);
    let ends = frames.flow.flags & (FIN | RESET) != 0;
    // A packet that ends the stream was not taken in yet.
    let goes_on = !ends || (frames.flow.holds_payload() && frames.enter());
    if matches!(next, Next::Done) {
        frames.leave();
    } else if goes_on {
        if !blocked {
            let part = if matches!(next, Next::Step) { part::STREAMS } else { part::FRAMES };
            part::go_on::<DIRECTION>(ctx, part);
        }
        state::count(if blocked { Loss::Unreadable } else { Loss::TailCall });
        // The next packet has all told that wait.
        frames.exhaust();
    }
    frames::end::<DIRECTION>(ctx, frames, http);
}

/// Looks at frames, where [`StreamWalk::begin`] does not say otherwise.
#[inline(always)]
fn pass<const DIRECTION: usize>(ctx: &SkBuffContext, http: *mut Http, outlet: &mut Outlet) -> Next {
    // SAFETY: the flow was claimed by the first program.
    let mut lines = unsafe { walk::<DIRECTION, _>(http, outlet) };
    let mut frames = frames::of(&mut lines);
    frames.flush();
    let begins = frames.begins();
    let ends = frames.flow.flags & (FIN | RESET) != 0;
    if let Some(next) = of::<DIRECTION>(&mut lines).begin(begins, ends) {
        return next;
    }
    let (skb, arrives) = (ctx.skb.skb, DIRECTION == INGRESS as usize);
    steps::all(|| if arrives { ingress_stream_steps(skb) } else { egress_stream_steps(skb) });
    // SAFETY: as above. Streams may have been made meanwhile.
    let mut lines = unsafe { walk::<DIRECTION, _>(http, outlet) };
    of::<DIRECTION>(&mut lines).stop()
}

/// The same packet, stream by stream.
#[inline(always)]
fn of<'a, const DIRECTION: usize>(lines: &'a mut Walk<'_, Outlet>) -> StreamWalk<'a, Outlet> {
    let port = &mut *lines.port;
    // SAFETY: a full socket.
    let streams = unsafe { state::streams(port.sk, false) };
    let (flow, shared) = (&mut *lines.flow, &mut *lines.shared);
    StreamWalk { flow, shared, port, direction: DIRECTION as u8, streams }
}

/// Looks at frames of a packet that arrives; see [`steps`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ingress_stream_steps(skb: *mut __sk_buff) -> u32 {
    some::<{ INGRESS as usize }>(skb)
}

/// The same for one that leaves.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn egress_stream_steps(skb: *mut __sk_buff) -> u32 {
    some::<{ EGRESS as usize }>(skb)
}

#[inline(always)]
fn some<const DIRECTION: usize>(skb: *mut __sk_buff) -> u32 {
    let Some((mut outlet, http)) = claimed(&SkBuffContext::new(skb)) else { return 0 };
    // SAFETY: the flow was claimed by the first program.
    let mut lines = unsafe { walk::<DIRECTION, _>(http, &mut outlet) };
    let mut streams = of::<DIRECTION>(&mut lines);
    steps::some::<STEPS>(|| streams.step())
}

impl StreamPort for Outlet {
    #[inline(always)]
    fn create(&mut self) -> *mut Streams {
        // SAFETY: a full socket.
        unsafe { state::streams(self.sk, true) }
    }

    #[inline(always)]
    fn expected(&mut self, slot: u16) -> Option<Expected> {
        EXPECTED.get(u32::from(slot).wrapping_sub(1)).copied()
    }

    #[inline(always)]
    fn add(&mut self, slot: u16, tag: u64, answer: &Answer, asked: u32) -> bool {
        let slot = u32::from(slot).wrapping_sub(1);
        let Some(controls) = CONTROLS.get(slot / 2) else { return false };
        let control = if slot & 1 == 0 { &controls[0] } else { &controls[1] };
        if control.tag != tag || !control.fits(answer.body) {
            return false;
        }
        let Some(counts) = COUNTS.get_ptr_mut(slot) else { return false };
        // SAFETY: an aligned value of the map, of one connection, whose answers are claimed.
        unsafe {
            (*counts).asked = (*counts).asked.wrapping_add(asked.into());
            (*counts).add(answer);
        }
        true
    }

    #[inline(always)]
    fn tell(&mut self, _: &Flow, _: &mut Shared, asks: bool, stream: u32) -> bool {
        // SAFETY: a value of the map, and a full socket.
        unsafe { tell(self.http, self.sk, if asks { GLANCES } else { 0 }, stream) != 0 }
    }
}

/// See [`streams::tell`]; `glances`: the answers are to be claimed, with so many of them. 0: they
/// could not be. A function of its own: the verifier would follow it with every step of a walk.
///
/// # Safety
/// `http` must be a value of the map, `sk` a full socket.
#[inline(never)]
unsafe fn tell(http: *mut Http, sk: *mut bpf_sock, glances: u32, stream: u32) -> u32 {
    // SAFETY: by the contract.
    unsafe {
        let streams = state::streams(sk, false);
        if streams.is_null() {
            return 1;
        }
        let answers = if (*streams).asks == INGRESS + 1 { EGRESS } else { INGRESS };
        if glances != 0 && !claim_either(http, answers, glances) {
            return 0;
        }
        let cookie = (*http).flows[0].cookie;
        let mut outlet = Outlet { skb: null_mut(), sk, http };
        let moment = (bpf_ktime_get_ns(), cookie);
        streams::tell(streams, moment, &mut (*http).shared, &mut outlet, stream);
        if glances != 0 {
            release_either(http, answers);
        }
        1
    }
}

/// # Safety
/// `http` must be a value of the map.
#[inline(always)]
unsafe fn claim_either(http: *mut Http, direction: u8, glances: u32) -> bool {
    if direction == EGRESS {
        claim_other::<{ EGRESS as usize }>(http, glances)
    } else {
        claim_other::<{ INGRESS as usize }>(http, glances)
    }
}

/// # Safety
/// As for [`claim_either`].
#[inline(always)]
unsafe fn release_either(http: *mut Http, direction: u8) {
    if direction == EGRESS {
        release::<{ EGRESS as usize }>(http);
    } else {
        release::<{ INGRESS as usize }>(http);
    }
}

/// The socket ends: has all told that wait. Nothing is claimed.
///
/// # Safety
/// As for [`tell`].
#[inline(always)]
pub unsafe fn end(http: *mut Http, sk: *mut bpf_sock) {
    // SAFETY: by the contract.
    unsafe {
        if (*http).shared.misses != 0 {
            tell(http, sk, LAST_GLANCES, 0);
        }
    }
}
