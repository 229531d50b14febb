//! Claims on a flow: both directions of one socket run at the same time on two CPUs, and
//! so may two packets of one direction.

use core::ptr::read_volatile;

use aya_ebpf::helpers::generated::{bpf_spin_lock, bpf_spin_unlock};

use super::globals;
use super::state::Http;

/// How often a program waits for the other CPU's packet of the same direction.
const CLAIMS: u32 = 128;
/// The same for a packet whose bytes would be lost: some hundred microseconds, if the other
/// CPU was taken away for that long.
const PATIENT: u32 = 4_096;

/// What one program at work on the flow of this direction adds to [`Http::busy`].
const fn share<const DIRECTION: usize>() -> u32 {
    1 << (DIRECTION * 16)
}

/// Takes the flow, so that no other CPU works on it; false: it took too long.
#[inline(always)]
pub fn claim<const DIRECTION: usize>(http: *mut Http) -> bool {
    attempt::<DIRECTION, CLAIMS>(http)
}

/// The same with more patience.
#[inline(always)]
pub fn claim_patiently<const DIRECTION: usize>(http: *mut Http) -> bool {
    attempt::<DIRECTION, PATIENT>(http)
}

#[inline(always)]
fn attempt<const DIRECTION: usize, const ATTEMPTS: u32>(http: *mut Http) -> bool {
    let mut attempts = 0;
    while attempts < ATTEMPTS {
        // SAFETY: a value of the map.
        if unsafe { try_claim::<DIRECTION>(http) } {
            return true;
        }
        attempts += 1;
    }
    false
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
