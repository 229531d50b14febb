//! Judges connections while only a share of them is followed: by their first bytes, and again
//! when the share becomes smaller. A connection that stays then stands for more of its kind,
//! so what is counted is right in the mean at any time.

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_ktime_get_ns};
use meshtap_ebpf::event::{Desynchronised, Header, Kind, LOST_LIMITS};
use meshtap_ebpf::sample::{self, SMALLEST};
use meshtap_ebpf::walk::{VERDICT_HTTP1, VERDICT_HTTP2};

use super::emit::{self, Wake};
use super::globals;
use super::segment::Segment;
use super::state::{self, Connection};

/// Whether a connection is to be judged.
#[inline(always)]
pub fn is_due(connection: &Connection, share: u32) -> bool {
    let open = connection.marks & state::OPAQUE == 0;
    let first = connection.marks & state::JUDGED == 0;
    open & (first | (share > u32::from(connection.weight >> 4)))
}

/// Judges a connection by a packet with bytes of it: it stands for others like it from here
/// on, or is never looked at again.
///
/// # Safety
/// `sk` must be a full socket, `skb` the context of the program.
#[inline(never)]
pub unsafe fn judge(
    skb: *mut __sk_buff,
    sk: *mut bpf_sock,
    connection: &mut Connection,
    segment: &Segment,
) -> u32 {
    if connection.marks & state::JUDGED == 0 {
        connection.marks |= state::JUDGED;
        // Of a connection older than the agent both ends are first seen with the same packet.
        // SAFETY: by the contract.
        let tcp = unsafe { emit::tcp(sk) };
        let is_late = connection.marks & state::LATE != 0;
        let received = tcp.map_or(0, |tcp| if is_late { 0 } else { tcp.bytes_received as u32 });
        connection.key = sample::key(segment.sequence, segment.acknowledgement, received);
    }
    let share = state::share();
    if share == 0 || share > SMALLEST {
        return 0;
    }
    let secret = [globals::repeat_key(0), globals::repeat_key(1)];
    if sample::takes(connection.key, secret, share) {
        connection.weight = (share << 4) as u8;
        return 0;
    }
    connection.marks |= state::OPAQUE;
    state::count_left_out();
    // SAFETY: by the contract.
    unsafe { leave(skb, sk) };
    0
}

/// Tells that a connection is followed no more, if it was; what is open on it is lost.
///
/// # Safety
/// As for [`judge`].
#[inline(always)]
unsafe fn leave(skb: *mut __sk_buff, sk: *mut bpf_sock) {
    // SAFETY: by the contract; the storage lives as long as the program runs.
    let Some(http) = (unsafe { state::http(sk.cast(), false).as_ref() }) else { return };
    let shared = &http.shared;
    if shared.verdict == VERDICT_HTTP1 || shared.verdict == VERDICT_HTTP2 {
        let (epoch, lost) = (shared.epoch, shared.lost);
        let unanswered = u32::from(shared.waiting != 0);
        // SAFETY: helpers on the context of the program.
        let (time_ns, cookie) = unsafe { (bpf_ktime_get_ns(), bpf_get_socket_cookie(skb.cast())) };
        let kind = Kind::Desynchronised as u8;
        let header = Header { time_ns, cookie, kind, lost, ..Header::default() };
        emit::send::<Desynchronised>(Wake::Behind, |place| {
            let reason = LOST_LIMITS;
            let record =
                Desynchronised { header, epoch, unanswered, reason, ..Desynchronised::default() };
            // SAFETY: the place of a record.
            unsafe { place.write(record) };
        });
    }
    // SAFETY: by the contract; a program at work on it keeps it until it ends.
    unsafe { state::forget_http(sk.cast()) };
}
