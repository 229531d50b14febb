//! `cgroup_skb`: every packet of every socket, both ways.
//!
//! The way of a packet: no payload, FIN or RST: done; no interesting socket: one
//! look-up; else its bytes are walked (`meshtap_ebpf::walk`). **Always returns 1.**

use core::ffi::c_void;

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use aya_ebpf::helpers::generated::{
    bpf_get_socket_cookie, bpf_jiffies64, bpf_ktime_get_ns, bpf_ringbuf_reserve,
    bpf_ringbuf_submit, bpf_sk_fullsock, bpf_skb_cgroup_id, bpf_skb_load_bytes,
};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use aya_log_ebpf::debug;
use meshtap_ebpf::event::{
    CLOSE_NONE, EGRESS, Header, INGRESS, Kind, Loss, NameAnswer, ROLE_SERVER,
};
use meshtap_ebpf::flow::opaque;
use meshtap_ebpf::limits::NAME_ANSWER;
use meshtap_ebpf::walk::LATE;

use super::emit::{self, Wake};
use super::follow::{follow, walk_on};
use super::opened::{compare, open};
use super::segment::{self, FIN, Packet, RESET, Segment};
use super::state::{self, Connection, RING};
use super::{frames, globals, held, part, sample};

const TCP_LISTEN: u32 = 10;
const TCP_SYN_SENT: u32 = 2;
const SOCK_STREAM: u32 = 1;

#[cgroup_skb(ingress)]
pub fn ingress(ctx: SkBuffContext) -> i32 {
    packet::<{ INGRESS as usize }>(&ctx);
    1
}

#[cgroup_skb(egress)]
pub fn egress(ctx: SkBuffContext) -> i32 {
    packet::<{ EGRESS as usize }>(&ctx);
    1
}

#[cgroup_skb(ingress)]
pub fn ingress_lines(ctx: SkBuffContext) -> i32 {
    walk_on::<{ INGRESS as usize }>(&ctx);
    1
}

#[cgroup_skb(egress)]
pub fn egress_lines(ctx: SkBuffContext) -> i32 {
    walk_on::<{ EGRESS as usize }>(&ctx);
    1
}

#[cgroup_skb(ingress)]
pub fn ingress_frames(ctx: SkBuffContext) -> i32 {
    frames::walk_on::<{ INGRESS as usize }>(&ctx);
    1
}

#[cgroup_skb(egress)]
pub fn egress_frames(ctx: SkBuffContext) -> i32 {
    frames::walk_on::<{ EGRESS as usize }>(&ctx);
    1
}

#[cgroup_skb(ingress)]
pub fn ingress_join(ctx: SkBuffContext) -> i32 {
    frames::join::<{ INGRESS as usize }>(&ctx);
    1
}

#[cgroup_skb(egress)]
pub fn egress_join(ctx: SkBuffContext) -> i32 {
    frames::join::<{ EGRESS as usize }>(&ctx);
    1
}

#[inline(always)]
fn packet<const DIRECTION: usize>(ctx: &SkBuffContext) {
    let skb = ctx.skb.skb;
    match segment::read(skb) {
        Packet::Segment(segment) => {
            let _ = inspect::<DIRECTION>(ctx, &segment);
        }
        Packet::NameAnswer(payload) if DIRECTION == INGRESS as usize => name_answer(skb, payload),
        _ => {}
    }
}

/// The full socket of a packet; none for listeners, handshakes and TIME-WAIT.
#[inline(always)]
pub fn socket(skb: *mut __sk_buff) -> *mut bpf_sock {
    // SAFETY: the context of the program; the helper checks what the pointer is.
    unsafe {
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() { sk } else { bpf_sk_fullsock(sk) }
    }
}

#[inline(always)]
fn inspect<const DIRECTION: usize>(ctx: &SkBuffContext, segment: &Segment) -> Option<()> {
    let skb = ctx.skb.skb;
    let sk = socket(skb);
    // The kernel sends resets of its own from a raw socket, which is nobody's.
    // SAFETY: null was excluded first.
    if sk.is_null() || unsafe { (*sk).type_ } != SOCK_STREAM {
        return None;
    }
    // SAFETY: as above.
    if unsafe { (*sk).state } == TCP_LISTEN {
        if DIRECTION == INGRESS as usize && segment.length > 0 {
            held::hold(skb, segment);
        }
        return None;
    }
    // SAFETY: a full socket.
    let connection = match unsafe { state::connection(sk.cast(), false) } {
        Some(connection) => connection,
        None if !state::is_attached() => return None,
        None => {
            debug!(ctx, "a connection older than the agent: port {}", unsafe { (*sk).src_port });
            late(skb, sk)?
        }
    };
    announce(skb, sk, connection);
    if connection.marks & state::COMPARED == 0 {
        compare(skb, sk, connection, segment.header, DIRECTION as u8);
    }
    if segment.length > 0 && sample::is_due(connection, state::share()) {
        // SAFETY: a full socket.
        unsafe { sample::judge(skb, sk, connection, segment) };
    }
    if segment.length > 0 && begins(connection) {
        // It comes back to this program.
        part::go_on::<DIRECTION>(ctx, part::HELD);
    }
    report(skb, sk, connection);
    if segment.flags & (FIN | RESET) != 0 {
        mark_end::<DIRECTION>(connection, segment.flags);
    }
    if connection.marks & state::OPAQUE != 0 {
        return None;
    }
    // SAFETY: a full socket.
    let http = unsafe { state::http(sk.cast(), segment.length > 0) };
    if http.is_null() {
        if segment.length > 0 {
            state::count(Loss::Storage);
        }
        return None;
    }
    let is_late = if connection.marks & state::LATE != 0 { LATE } else { 0 };
    if is_late | connection.weight != 0 {
        // SAFETY: a value of the map; nothing else is ever written there.
        unsafe { (*http).shared.late = is_late | connection.weight };
    }
    follow::<DIRECTION>(ctx, sk, http, segment);
    Some(())
}

/// Sends the connection's `Opened` record, where that was not done. No packet of the handshake
/// announces it, whatever was attached when it began.
#[inline(always)]
fn announce(skb: *mut __sk_buff, sk: *mut bpf_sock, connection: &mut Connection) {
    // SAFETY: a full socket.
    if connection.marks & state::OPENED == 0 && unsafe { (*sk).state } != TCP_SYN_SENT {
        open(skb, sk, connection);
    }
}

/// Whether these are the first bytes of an accepted connection: those before may have come
/// to the listener.
#[inline(always)]
fn begins(connection: &mut Connection) -> bool {
    if connection.role != ROLE_SERVER || connection.marks & (state::BEGUN | state::OPAQUE) != 0 {
        return false;
    }
    connection.marks |= state::BEGUN;
    true
}

/// A socket that no `sock_ops` callback announced is older than the agent.
#[inline(always)]
fn late(skb: *mut __sk_buff, sk: *mut bpf_sock) -> Option<&'static mut Connection> {
    // SAFETY: a full socket.
    let Some(connection) = (unsafe { state::connection(sk.cast(), true) }) else {
        state::count(Loss::Storage);
        return None;
    };
    connection.marks = state::LATE;
    // SAFETY: the context of the program.
    let cookie = unsafe { bpf_get_socket_cookie(skb.cast()) };
    let _ = state::LATE_CONNECTIONS.insert(cookie, 1, 0);
    Some(connection)
}

/// Sends the connection's figures when they are due. The jiffies are read inline:
/// a packet of a socket that is not due pays nothing for it.
#[inline(always)]
fn report(skb: *mut __sk_buff, sk: *mut bpf_sock, connection: &mut Connection) {
    // SAFETY: no arguments.
    let now = unsafe { bpf_jiffies64() };
    if now < connection.due {
        return;
    }
    let first = connection.due == 0;
    connection.due = now.wrapping_add(globals::report_jiffies());
    if first {
        return;
    }
    // SAFETY: helpers on the context of the program, and a full socket.
    unsafe {
        let cookie = bpf_get_socket_cookie(skb.cast());
        emit::send_statistics(sk, connection, bpf_ktime_get_ns(), cookie, CLOSE_NONE);
    }
}

#[inline(always)]
fn mark_end<const DIRECTION: usize>(connection: &mut Connection, flags: u8) {
    let ingress = DIRECTION == INGRESS as usize;
    if flags & FIN != 0 {
        connection.marks |= if ingress { state::FIN_IN } else { state::FIN_OUT };
    }
    if flags & RESET != 0 {
        connection.marks |= if ingress { state::RESET_IN } else { state::RESET_OUT };
    }
}

/// Room for a [`NameAnswer`] with its bytes.
const NAME_RECORD: u64 = (size_of::<NameAnswer>() + NAME_ANSWER) as u64;

/// Sends a DNS message that came from port 53.
#[inline(never)]
fn name_answer(skb: *mut __sk_buff, payload: u32) {
    // SAFETY: the context of the program; the reservation is written whole before it
    // is submitted: fixed part here, bytes by the helper, the rest is not announced.
    unsafe {
        let length = (*skb).len.wrapping_sub(payload) as usize;
        let length = if length > NAME_ANSWER { NAME_ANSWER } else { length };
        // VERIFIER(6.1): the least length must be seen to be one, so one is added last.
        let rest = opaque(length.wrapping_sub(1));
        if rest >= NAME_ANSWER {
            return;
        }
        let length = rest + 1;
        let ring: *mut c_void = (&raw const RING).cast_mut().cast();
        let place = bpf_ringbuf_reserve(ring, NAME_RECORD, 0);
        if place.is_null() {
            state::count(Loss::RingFull);
            return;
        }
        let record = place.cast::<NameAnswer>();
        let bytes = place.cast::<u8>().add(size_of::<NameAnswer>());
        let loaded = bpf_skb_load_bytes(skb.cast(), payload, bytes.cast(), length as u32) == 0;
        record.write(NameAnswer {
            header: Header {
                time_ns: bpf_ktime_get_ns(),
                cookie: 0,
                kind: Kind::NameAnswer as u8,
                direction: INGRESS,
                flags: 0,
                lost: 0,
                length: if loaded { length as u16 } else { 0 },
            },
            cgroup: bpf_skb_cgroup_id(skb),
        });
        bpf_ringbuf_submit(place, Wake::Behind as u64);
    }
}
