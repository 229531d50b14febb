//! The parts of the packet programs, by their place in the maps of both directions: what
//! one program cannot do within the verifier's bounds, or not without leading it along
//! too many ways.

use aya_ebpf::programs::SkBuffContext;
use meshtap_ebpf::event::INGRESS;

use super::state::{EGRESS_PARTS, INGRESS_PARTS};

/// Walks lines of HTTP/1.
pub const LINES: u32 = 0;
/// Walks frames of HTTP/2.
pub const FRAMES: u32 = 1;
/// Sees whether what is no HTTP/1 is HTTP/2.
pub const JOIN: u32 = 2;
/// Looks for what waited at the listener.
pub const HELD: u32 = 3;
/// The program itself, from the beginning.
pub const WHOLE: u32 = 4;
/// Walks lines of what waited.
pub const HELD_LINES: u32 = 5;
/// Walks frames of what waited.
pub const HELD_FRAMES: u32 = 6;
/// Sees whether a request is one that is counted, or another one waits.
pub const REPEAT: u32 = 7;
/// Looks at frames of HTTP/2 for calls that are counted.
pub const STREAMS: u32 = 8;
/// Walks lines of what was set aside; only of what arrives.
pub const ASIDE_LINES: u32 = 9;
/// Walks frames of what was set aside; likewise.
pub const ASIDE_FRAMES: u32 = 10;

/// Tail-calls a part; returns if the kernel's bound on tail calls is reached.
#[inline(always)]
pub fn go_on<const DIRECTION: usize>(ctx: &SkBuffContext, part: u32) {
    // SAFETY: the context of the program.
    unsafe {
        if DIRECTION == INGRESS as usize {
            INGRESS_PARTS.tail_call(ctx, part);
        } else {
            EGRESS_PARTS.tail_call(ctx, part);
        }
    }
}
