//! Claims on a flow: both directions of one socket run at the same time on two CPUs, and
//! so may two packets of one direction.

use core::ptr::read_volatile;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_spin_lock, bpf_spin_unlock};
use aya_ebpf::programs::SkBuffContext;
use meshtap_ebpf::event::{EGRESS, INGRESS};
use meshtap_ebpf::flow::mode;
use meshtap_ebpf::sequence::distance;

use super::globals;
use super::outlet::claimed;
use super::segment::Segment;
use super::state::Http;
use super::waiting::HELD_BYTES;

/// How often a program tries to be alone.
const CLAIMS: u32 = 128;
/// How often a packet, whose bytes would be lost, looks whether it can go on.
const LOOKS: u32 = 1_024;
/// The same for a packet of the other direction.
pub const GLANCES: u32 = 1_024;
/// How long at the most: many walks. A CPU that its host took away is not waited for.
const PATIENCE_NS: u64 = 50_000;

/// What one program at work on the flow of this direction adds to [`Http::busy`].
const fn share<const DIRECTION: usize>() -> u32 {
    1 << (DIRECTION * 16)
}

/// Takes the flow, so that no other CPU works on it; false: it took too long.
#[inline(always)]
pub fn claim<const DIRECTION: usize>(http: *mut Http) -> bool {
    let mut attempts = 0;
    while attempts < CLAIMS {
        // SAFETY: a value of the map.
        if unsafe { try_claim::<DIRECTION>(http) } {
            return true;
        }
        attempts += 1;
    }
    false
}

/// The same for a direction that somebody else may walk right now: waits for [`PATIENCE_NS`],
/// and for so many glances, at most [`GLANCES`].
#[inline(always)]
pub fn claim_other<const DIRECTION: usize>(http: *mut Http, glances: u32) -> bool {
    let mut looks = 0;
    // SAFETY: a value of the map; each field is read by itself.
    unsafe {
        let begin = bpf_ktime_get_ns();
        while looks < GLANCES && looks < glances {
            let busy = read_volatile(&raw const (*http).busy) >> (DIRECTION * 16) & 0xffff;
            if busy == 0 && try_claim::<DIRECTION>(http) {
                return true;
            }
            if bpf_ktime_get_ns().wrapping_sub(begin) > PATIENCE_NS {
                break;
            }
            looks += 1;
        }
    }
    false
}

/// The same for a packet: waits for [`PATIENCE_NS`] until nobody works on the flow and it is
/// the packet's turn. Looks before it tries, which leaves the cache line to the one at work.
#[inline(always)]
pub fn claim_in_turn<const DIRECTION: usize>(
    skb: *mut __sk_buff,
    http: *mut Http,
    segment: &Segment,
) -> bool {
    let (sequence, length) = (segment.sequence, segment.length);
    let waits = waits_for_turn::<DIRECTION>(http, length);
    // SAFETY: a value of the map.
    if unsafe { is_turn::<DIRECTION>(http, sequence, waits) && try_claim::<DIRECTION>(http) } {
        return true;
    }
    let arrives = DIRECTION == INGRESS as usize;
    (if arrives { await_ingress_turn(skb, sequence, length) } else { await_egress_turn(skb) }) != 0
}

/// Waits until a packet that arrives can be looked at; 0: it cannot. Exported: as for
/// [`super::steps`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn await_ingress_turn(skb: *mut __sk_buff, sequence: u32, length: u32) -> u32 {
    await_turn::<{ INGRESS as usize }>(skb, sequence, length).into()
}

/// The same for one that leaves, which waits for none in front of it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn await_egress_turn(skb: *mut __sk_buff) -> u32 {
    await_turn::<{ EGRESS as usize }>(skb, 0, 0).into()
}

#[inline(always)]
fn await_turn<const DIRECTION: usize>(skb: *mut __sk_buff, sequence: u32, length: u32) -> bool {
    let Some((_, http)) = claimed(&SkBuffContext::new(skb)) else { return false };
    let waits = waits_for_turn::<DIRECTION>(http, length);
    // SAFETY: no arguments.
    let begin = unsafe { bpf_ktime_get_ns() };
    let mut looks = 0;
    while looks < LOOKS {
        // SAFETY: a value of the map.
        unsafe {
            if is_turn::<DIRECTION>(http, sequence, waits) && try_claim::<DIRECTION>(http) {
                return true;
            }
            if bpf_ktime_get_ns().wrapping_sub(begin) > PATIENCE_NS {
                break;
            }
        }
        looks += 1;
    }
    // SAFETY: as above. Where nobody is at work, the packet in front is really missing.
    unsafe { try_claim::<DIRECTION>(http) }
}

/// Whether nobody works on the flow, and the packet is not early where it waits for those in
/// front of it.
///
/// # Safety
/// `http` must be a value of the map; each of its fields is read by itself.
#[inline(always)]
unsafe fn is_turn<const DIRECTION: usize>(http: *mut Http, sequence: u32, waits: bool) -> bool {
    // SAFETY: by the contract.
    let (busy, end) = unsafe {
        let busy = read_volatile(&raw const (*http).busy) >> (DIRECTION * 16) & 0xffff;
        (busy, read_volatile(&raw const (*http).flows[DIRECTION].edge.end))
    };
    // VERIFIER: the sign, since a comparison would be a branch for each look.
    let early = distance(end, sequence) as u32 >> 31 & u32::from(waits);
    busy | early == 0
}

/// Whether a packet of `length` bytes, if it is ahead of another one, waits for that: another
/// CPU may carry it right now, and to set aside one as long as this takes longer. So it does
/// once for a hole.
#[inline(always)]
fn waits_for_turn<const DIRECTION: usize>(http: *mut Http, length: u32) -> bool {
    // SAFETY: a value of the map; each field is read by itself.
    unsafe {
        let flow = &raw const (*http).flows[DIRECTION];
        DIRECTION == INGRESS as usize
            && length as usize > HELD_BYTES
            && (*flow).mode == mode::FRAMES
            && read_volatile(&raw const (*flow).edge.ahead) == 0
    }
}

/// # Safety
/// `http` must be a value of the map.
#[inline(always)]
unsafe fn try_claim<const DIRECTION: usize>(http: *mut Http) -> bool {
    let one = share::<DIRECTION>();
    // SAFETY: by the contract.
    unsafe {
        let busy = &raw mut (*http).busy;
        if globals::is_strongly_ordered() == 1 {
            // Of two that add at once the later sees both, whoever it is.
            add(busy, one);
            let alone = read_volatile(busy) >> (DIRECTION * 16) & 0xffff == 1;
            if !alone {
                add(busy, one.wrapping_neg());
            }
            return alone;
        }
        bpf_spin_lock(&raw mut (*http).lock);
        let free = read_volatile(busy) >> (DIRECTION * 16) & 0xffff == 0;
        if free {
            add(busy, one);
        }
        bpf_spin_unlock(&raw mut (*http).lock);
        free
    }
}

#[inline(always)]
pub fn release<const DIRECTION: usize>(http: *mut Http) {
    let one = share::<DIRECTION>();
    // SAFETY: a value of the map; the lock is its own.
    unsafe {
        let busy = &raw mut (*http).busy;
        if globals::is_strongly_ordered() == 1 {
            add(busy, one.wrapping_neg());
            return;
        }
        bpf_spin_lock(&raw mut (*http).lock);
        add(busy, one.wrapping_neg());
        bpf_spin_unlock(&raw mut (*http).lock);
    }
}

/// Adds to a word that another CPU may be adding to. Without fetching: kernels before
/// 5.12 know no other way.
///
/// # Safety
/// `place` must be an aligned word of a map's value.
#[inline(always)]
unsafe fn add(place: *mut u32, value: u32) {
    // SAFETY: by the contract.
    unsafe {
        core::arch::asm!(
            "lock *(u32 *)({place} + 0) += {value}",
            place = in(reg) place,
            value = in(reg) u64::from(value),
            options(nostack),
        );
    }
}
