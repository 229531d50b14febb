//! Judges connections while only a share of them is followed.

use aya_ebpf::bindings::bpf_sock;
use meshtap_ebpf::sample::{self, SMALLEST};

use super::segment::Segment;
use super::state::{self, Connection, SHARE};
use super::{emit, globals};

/// Judges a connection by the packet with its first bytes: it stands for others like it from
/// here on, or is never looked at again.
///
/// # Safety
/// `sk` must be a full socket.
#[inline(never)]
pub unsafe fn judge(sk: *mut bpf_sock, connection: &mut Connection, segment: &Segment) -> u32 {
    connection.marks |= state::JUDGED;
    let Some(share) = SHARE.get(0) else { return 0 };
    let share = *share;
    if share == 0 || share > SMALLEST {
        return 0;
    }
    // Of a connection older than the agent both ends are first seen with the same packet.
    // SAFETY: by the contract.
    let tcp = unsafe { emit::tcp(sk) };
    let is_late = connection.marks & state::LATE != 0;
    let received = tcp.map_or(0, |tcp| if is_late { 0 } else { tcp.bytes_received as u32 });
    let key = sample::key(segment.sequence, segment.acknowledgement, received);
    if sample::takes(key, [globals::repeat_key(0), globals::repeat_key(1)], share) {
        connection.weight = (share << 4) as u8;
    } else {
        connection.marks |= state::OPAQUE;
        state::count_left_out();
    }
    0
}
