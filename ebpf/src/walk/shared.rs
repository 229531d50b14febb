//! What both directions of a connection share.

use crate::flow::{Flow, opaque};

/// [`Shared::verdict`]: not judged yet.
pub const VERDICT_OPEN: u8 = 0;
/// Speaks HTTP/1.
pub const VERDICT_HTTP1: u8 = 1;
/// Speaks something else, or became a tunnel: never looked at again.
pub const VERDICT_OPAQUE: u8 = 2;
/// Speaks HTTP/2.
pub const VERDICT_HTTP2: u8 = 3;
/// Left HTTP/1 by a 101: HTTP/2 if it begins like it at once, else opaque.
pub const VERDICT_UPGRADED: u8 = 4;

/// [`Shared::requests`]: it is not known yet which direction carries the requests.
pub const REQUESTS_UNKNOWN: u8 = 0;

/// What both directions of a connection share: all of it, so that a packet touches one
/// cache line that the other direction's processor wrote, and no second one.
///
/// Each field that is named after requests or responses is written by their direction
/// alone, but for a request that waits and is told late; single words do not tear.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Shared {
    /// Requests: bit `number % 64` tells a HEAD request that waits for its answer.
    pub heads: u64,
    /// Requests: how many were begun in [`Shared::requests_epoch`] (their first byte was seen).
    pub begun: u32,
    /// Requests: the epoch that their numbers belong to, its lower half: a connection is given
    /// up after few of them.
    pub requests_epoch: u16,
    /// Responses: the epoch that the current or next one belongs to, likewise.
    pub responses_epoch: u16,
    /// Requests: sequence number of the latest one's first byte.
    pub sequence: u32,
    /// Requests: number of a CONNECT that waits for its answer, plus 1; 0: none.
    pub connect: u32,
    /// Responses: number of the current or next one.
    pub answered: u32,
    /// Grows with every loss of message boundaries.
    pub epoch: u32,
    /// Both directions: how many requests of the epoch user space knows to have begun.
    pub told: u32,
    /// Records that found no room since the last one that did.
    pub lost: u16,
    /// `VERDICT_*`.
    pub verdict: u8,
    /// Direction that carries the requests, plus one; [`REQUESTS_UNKNOWN`].
    pub requests: u8,
    /// Direction of the last payload, plus one.
    pub turn: u8,
    /// Attempts at recognition that are left, as used up.
    pub attempts: u8,
    /// 1: the requests' direction became known, and the answers' is to begin anew: what it
    /// carried before was taken for a request, too.
    pub settled: u8,
    /// Bit 0: the connection is older than the agent: it may speak HTTP/2 without having begun
    /// so. The upper four bits: how many connections it stands for, see [`crate::sample`].
    pub late: u8,
    /// Slot of a request that waits untold, plus one; 0: none does. The requests' direction
    /// lets it wait, the answers' decides: see [`crate::repeat`].
    pub waiting: u16,
    /// Bytes of its head.
    pub waiting_bytes: u8,
    /// Requests in a row that are none of those that are counted, at most. Of HTTP/2: 1 where
    /// streams may wait.
    pub misses: u8,
}

const _: () = assert!(size_of::<Shared>() == 48);

/// All bits where the number is below zero, else none.
#[inline(always)]
const fn all_or_none(number: usize) -> usize {
    (number.cast_signed() >> (usize::BITS - 1)).cast_unsigned()
}

/// [`Shared::late`]: the connection is older than the agent.
pub const LATE: u8 = 1;

impl Shared {
    /// A record of message `number` found room, or [`Shared::lost`] counts it.
    ///
    /// VERIFIER: without a branch, each of which would double the paths of a walk.
    #[inline(always)]
    pub fn tell(&mut self, number: u32) {
        let told = self.told as usize;
        let found_room = opaque(usize::from(self.lost).wrapping_sub(1));
        let known = (number as usize).wrapping_add(1) & all_or_none(found_room);
        let more = opaque(known.wrapping_sub(told));
        self.told = told.wrapping_add(more & !all_or_none(more)) as u32;
    }

    /// `flags` of a record with what the connection stands for.
    #[inline(always)]
    #[must_use]
    pub const fn weighed(&self, flags: u16) -> u16 {
        flags | (((self.late >> 4) as u16) << crate::event::WEIGHT_SHIFT)
    }
}

/// Has the compiler keep nothing of a walk's state in registers. It is in memory then, of
/// which the verifier remembers nothing: it finds each step alike and does not multiply
/// their paths.
#[inline(always)]
pub(crate) fn forget(flow: &mut &mut Flow, shared: &mut &mut Shared) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the registers are assigned to themselves, the references made anew.
    unsafe {
        let (mut of_flow, mut of_shared): (*mut Flow, *mut Shared) = (*flow, *shared);
        core::arch::asm!(
            "{0} = {0}",
            "{1} = {1}",
            inout(reg) of_flow,
            inout(reg) of_shared,
            options(nostack),
        );
        *flow = &mut *of_flow;
        *shared = &mut *of_shared;
    }
    #[cfg(not(target_arch = "bpf"))]
    let _ = (flow, shared);
}

#[cfg(test)]
mod tests {
    use super::Shared;

    #[test]
    fn what_found_room_is_told_and_never_less() {
        let mut shared = Shared::default();
        for (number, lost, told) in
            [(0, 0, 1), (1, 1, 1), (2, 2, 1), (2, 0, 3), (1, 0, 3), (9, u16::MAX, 3), (9, 0, 10)]
        {
            shared.lost = lost;
            shared.tell(number);
            assert_eq!(shared.told, told, "{number}, {lost} lost");
        }
    }
}
