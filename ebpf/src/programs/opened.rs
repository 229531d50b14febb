//! The first record of a connection: its addresses, its owner, and whether its packets
//! carry other addresses than its socket.

use core::ffi::c_void;
use core::mem::offset_of;

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use aya_ebpf::helpers::generated::{
    bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_ns, bpf_skb_cgroup_id,
};
use meshtap_ebpf::event::{self, EGRESS, Endpoint, Header, Kind, Opened, Redirected};

use super::emit::{self, Wake};
use super::state::{self, Connection};
use super::{globals, segment};

/// Sends the connection's `Opened` record. A subprogram: it has a stack of its own.
#[inline(never)]
pub fn open(skb: *mut __sk_buff, sk: *mut bpf_sock, connection: &mut Connection) {
    connection.marks |= state::OPENED;
    let established_ns = core::mem::replace(&mut connection.due, 0);
    // SAFETY: helpers on the context of the program.
    let (now_ns, cookie, cgroup) =
        unsafe { (bpf_ktime_get_ns(), bpf_get_socket_cookie(skb.cast()), bpf_skb_cgroup_id(skb)) };
    let time_ns = if established_ns == 0 { now_ns } else { established_ns };
    let netns = if globals::packet_netns() == 1 {
        // SAFETY: the loader found the helper.
        unsafe { bpf_get_netns_cookie(skb.cast()) }
    } else {
        0
    };
    let header = Header {
        time_ns,
        cookie,
        kind: Kind::Opened as u8,
        flags: if connection.marks & state::LATE != 0 { event::OPENED_LATE } else { 0 },
        lost: connection.lost,
        ..Header::default()
    };
    let sent = send_opened(sk, connection, header, cgroup, netns, 0);
    emit::note(connection, sent);
}

/// Sends an `Opened` record of the socket.
#[inline(always)]
pub fn send_opened(
    sk: *mut bpf_sock,
    connection: &Connection,
    header: Header,
    cgroup: u64,
    netns: u64,
    connect_ns: u64,
) -> bool {
    // SAFETY: a socket that the hook was given; null is excluded.
    let holder = unsafe { state::holder(sk.cast(), false).as_ref() };
    emit::send::<Opened>(Wake::Behind, |place| {
        // SAFETY: the place of a record; written whole, then corrected in place.
        let record = unsafe {
            place.write(Opened { header, cgroup, netns, connect_ns, ..Opened::default() });
            &mut *place
        };
        (record.local, record.remote) = addresses(sk);
        record.asked = connection.asked;
        record.role = connection.role;
        if let Some(holder) = holder {
            record.owner = holder.owner;
            if cgroup == 0 {
                record.cgroup = holder.cgroup;
            }
        }
    })
}

/// This side and the other side, as the socket knows them.
#[inline(always)]
pub fn addresses(sk: *mut bpf_sock) -> (Endpoint, Endpoint) {
    const AF_INET6: u32 = 10;
    let mut local = Endpoint::default();
    let mut remote = Endpoint::default();
    // SAFETY: a full socket; every field is read as the verifier wants it, word by word.
    unsafe {
        local.port = (*sk).src_port as u16;
        remote.port = u16::from_be((*sk).dst_port);
        if (*sk).family == AF_INET6 {
            local.address = words([
                word::<{ offset_of!(bpf_sock, src_ip6) }>(sk.cast()),
                word::<{ offset_of!(bpf_sock, src_ip6) + 4 }>(sk.cast()),
                word::<{ offset_of!(bpf_sock, src_ip6) + 8 }>(sk.cast()),
                word::<{ offset_of!(bpf_sock, src_ip6) + 12 }>(sk.cast()),
            ]);
            remote.address = words([
                word::<{ offset_of!(bpf_sock, dst_ip6) }>(sk.cast()),
                word::<{ offset_of!(bpf_sock, dst_ip6) + 4 }>(sk.cast()),
                word::<{ offset_of!(bpf_sock, dst_ip6) + 8 }>(sk.cast()),
                word::<{ offset_of!(bpf_sock, dst_ip6) + 12 }>(sk.cast()),
            ]);
        } else {
            local.address = segment::mapped((*sk).src_ip4);
            remote.address = segment::mapped((*sk).dst_ip4);
        }
    }
    (local, remote)
}

/// A word of a structure that the verifier translates: it allows no pointer into it,
/// only loads at a constant distance, which LLVM would not keep.
///
/// # Safety
/// `base` must be such a structure, `OFFSET` a word of it.
#[inline(always)]
pub unsafe fn word<const OFFSET: usize>(base: *const c_void) -> u32 {
    let value: u64;
    // SAFETY: by the contract.
    unsafe {
        core::arch::asm!(
            "{value} = *(u32 *)({base} + {offset})",
            value = out(reg) value,
            base = in(reg) base,
            offset = const OFFSET,
            options(readonly, nostack),
        );
    }
    value as u32
}

/// Sixteen bytes of an address from the words that hold them in memory's order.
#[inline(always)]
pub fn words(words: [u32; 4]) -> [u8; 16] {
    // SAFETY: the same size, and every byte is valid.
    unsafe { core::mem::transmute::<[u32; 4], [u8; 16]>(words) }
}

/// Compares the first packet's addresses with the socket's: a translation shows.
/// A subprogram: it has a stack of its own.
#[inline(never)]
pub fn compare(
    skb: *mut __sk_buff,
    sk: *mut bpf_sock,
    connection: &mut Connection,
    header: u32,
    direction: u8,
) {
    connection.marks |= state::COMPARED;
    let Some((source, destination)) = segment::endpoints(skb, header) else { return };
    let (local, remote) =
        if direction == EGRESS { (source, destination) } else { (destination, source) };
    let (own, other) = addresses(sk);
    if same(&own, &local) && same(&other, &remote) {
        return;
    }
    // SAFETY: helpers on the context of the program.
    let (time_ns, cookie) = unsafe { (bpf_ktime_get_ns(), bpf_get_socket_cookie(skb.cast())) };
    let header = Header {
        time_ns,
        cookie,
        kind: Kind::Redirected as u8,
        direction,
        lost: connection.lost,
        ..Header::default()
    };
    let sent = emit::send::<Redirected>(Wake::Behind, |place| {
        // SAFETY: the place of a record.
        unsafe { place.write(Redirected { header, local, remote }) };
    });
    emit::note(connection, sent);
}

#[inline(always)]
fn same(left: &Endpoint, right: &Endpoint) -> bool {
    // SAFETY: the same size, and every word is valid.
    let [a, b] = unsafe {
        [left.address, right.address]
            .map(|address| core::mem::transmute::<[u8; 16], [u64; 2]>(address))
    };
    a[0] == b[0] && a[1] == b[1] && left.port == right.port
}
