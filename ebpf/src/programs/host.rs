//! Tracepoints that name no connection: packets that the kernel dropped, resets, and
//! packets that were sent again, counted for the host as a whole.
//!
//! **Every program returns 1**, as those of `cause.rs` do and for the same reason.

use core::ffi::c_void;

use aya_ebpf::programs::TracePointContext;
use meshtap_ebpf::host::{DROP_REASONS, OTHER_DROPS, RESETS_RECEIVED, RESETS_SENT, RETRANSMITS};

use super::cause::read;
use super::globals;
use super::state;

#[unsafe(link_section = "tracepoint")]
#[unsafe(no_mangle)]
pub fn packet_dropped(ctx: *mut c_void) -> u32 {
    let ctx = TracePointContext::new(ctx);
    let reason = read::<u32>(&ctx, globals::drop_reason()).unwrap_or(OTHER_DROPS);
    state::count_for_host(if reason < DROP_REASONS { reason } else { OTHER_DROPS });
    1
}

#[unsafe(link_section = "tracepoint")]
#[unsafe(no_mangle)]
pub fn reset_sent(_: *mut c_void) -> u32 {
    state::count_for_host(RESETS_SENT);
    1
}

#[unsafe(link_section = "tracepoint")]
#[unsafe(no_mangle)]
pub fn reset_received(_: *mut c_void) -> u32 {
    state::count_for_host(RESETS_RECEIVED);
    1
}

#[unsafe(link_section = "tracepoint")]
#[unsafe(no_mangle)]
pub fn packet_sent_again(ctx: *mut c_void) -> u32 {
    let place = globals::retransmit_error();
    // Where the event tells how it went (6.18, not 6.12), it also tells of failed attempts.
    if place != 0 && read::<i32>(&TracePointContext::new(ctx), place) != Some(0) {
        return 1;
    }
    state::count_for_host(RETRANSMITS);
    1
}
