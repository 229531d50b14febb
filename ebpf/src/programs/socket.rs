//! The life of a connection (`sock_ops`) and the process behind it
//! (`sock_create`, `connect`, `post_bind`, `getpeername`, `getsockname`).
//!
//! **Every program returns 1; none writes a `sock_ops` reply**: returning 0 there
//! cancels what another program answered.

use core::ffi::c_void;
use core::mem::offset_of;

use aya_ebpf::bindings::{
    BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB,
    BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB, bpf_sock, bpf_sock_addr, bpf_sock_ops,
};
use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid,
    bpf_get_current_uid_gid, bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_ns,
    bpf_sock_ops_cb_flags_set,
};
use aya_ebpf::macros::{cgroup_sock, cgroup_sock_addr, sock_ops};
use aya_ebpf::programs::{SockAddrContext, SockContext, SockOpsContext};
use meshtap_ebpf::event::{
    self, CLOSE_FIN, CLOSE_REFUSED, CLOSE_RESET_RECEIVED, CLOSE_RESET_SENT, CLOSE_TIMEOUT,
    CLOSE_UNANSWERED, Endpoint, Header, Kind, Loss, Owner, OwnerChanged, ROLE_CLIENT, ROLE_SERVER,
};

use super::emit::{self, Wake};
use super::follow;
use super::globals;
use super::opened::{send_opened, word, words as words_to_bytes};
use super::segment::mapped;
use super::state::{self, Connection, Holder};

const TCP_SYN_SENT: u32 = 2;
const TCP_CLOSE: u32 = 7;
const SOCK_STREAM: u32 = 1;

#[sock_ops]
pub fn lifecycle(ctx: SockOpsContext) -> u32 {
    let _ = callback(ctx.ops);
    1
}

#[cgroup_sock(sock_create)]
pub fn create(ctx: SockContext) -> i32 {
    // SAFETY: the context of the program.
    if unsafe { (*ctx.sock).type_ } == SOCK_STREAM {
        hold(ctx.sock.cast());
    }
    1
}

#[cgroup_sock(post_bind4)]
pub fn bind4(ctx: SockContext) -> i32 {
    hold(ctx.sock.cast());
    1
}

#[cgroup_sock(post_bind6)]
pub fn bind6(ctx: SockContext) -> i32 {
    hold(ctx.sock.cast());
    1
}

#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    // SAFETY: the context of the program.
    let address = unsafe { mapped((*ctx.sock_addr).user_ip4) };
    asked(ctx.sock_addr, address);
    1
}

#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    let base = ctx.sock_addr;
    // SAFETY: the context of the program.
    let words = unsafe {
        [
            word::<{ offset_of!(bpf_sock_addr, user_ip6) }>(base.cast()),
            word::<{ offset_of!(bpf_sock_addr, user_ip6) + 4 }>(base.cast()),
            word::<{ offset_of!(bpf_sock_addr, user_ip6) + 8 }>(base.cast()),
            word::<{ offset_of!(bpf_sock_addr, user_ip6) + 12 }>(base.cast()),
        ]
    };
    asked(ctx.sock_addr, words_to_bytes(words));
    1
}

#[cgroup_sock_addr(getpeername4)]
pub fn accept4(ctx: SockAddrContext) -> i32 {
    accepted(ctx.sock_addr);
    1
}

#[cgroup_sock_addr(getpeername6)]
pub fn accept6(ctx: SockAddrContext) -> i32 {
    accepted(ctx.sock_addr);
    1
}

#[cgroup_sock_addr(getsockname4)]
pub fn named4(ctx: SockAddrContext) -> i32 {
    accepted(ctx.sock_addr);
    1
}

#[cgroup_sock_addr(getsockname6)]
pub fn named6(ctx: SockAddrContext) -> i32 {
    accepted(ctx.sock_addr);
    1
}

/// The process that runs the hook.
#[inline(always)]
pub fn current() -> Owner {
    let mut owner = Owner::default();
    // SAFETY: the helper writes the array it is given.
    unsafe {
        owner.pid = (bpf_get_current_pid_tgid() >> 32) as u32;
        owner.uid = bpf_get_current_uid_gid() as u32;
        let _ = bpf_get_current_comm(owner.comm.as_mut_ptr().cast(), 16);
    }
    owner
}

/// Notes the current process as the socket's holder; true: it is another than before.
#[inline(always)]
fn hold(sk: *mut c_void) -> bool {
    // SAFETY: a socket that the hook was given.
    let Some(holder) = (unsafe { state::holder(sk, true).as_mut() }) else {
        state::count(Loss::Storage);
        return false;
    };
    let owner = current();
    let other = holder.owner.pid != owner.pid;
    *holder = Holder {
        owner,
        // SAFETY: no arguments.
        cgroup: unsafe { bpf_get_current_cgroup_id() },
    };
    other
}

/// `connect()`: who asks for which address.
#[inline(always)]
fn asked(ctx: *mut bpf_sock_addr, address: [u8; 16]) {
    // SAFETY: the context of the program.
    let (sk, kind, port) = unsafe {
        ((*ctx).__bindgen_anon_1.sk, (*ctx).type_, u16::from_be((*ctx).user_port as u16))
    };
    if kind != SOCK_STREAM || sk.is_null() {
        return;
    }
    hold(sk.cast());
    if !state::is_attached() {
        return;
    }
    // SAFETY: the hook's socket.
    let Some(connection) = (unsafe { state::connection(sk.cast(), true) }) else {
        state::count(Loss::Storage);
        return;
    };
    connection.asked = Endpoint { address, port, pad: 0 };
    connection.role = ROLE_CLIENT;
}

/// `accept()` that asks for the peer's address, `getpeername()`, or `getsockname()`: what
/// a process asks that was handed a connection by another.
#[inline(always)]
fn accepted(ctx: *mut bpf_sock_addr) {
    // SAFETY: the context of the program.
    let (sk, kind) = unsafe { ((*ctx).__bindgen_anon_1.sk, (*ctx).type_) };
    if kind != SOCK_STREAM || sk.is_null() {
        return;
    }
    // A client that asks for its peer holds the socket already.
    // SAFETY: the hook's socket.
    let Some(connection) = (unsafe { state::connection(sk.cast(), false) }) else { return };
    if connection.role == ROLE_CLIENT || !hold(sk.cast()) {
        return;
    }
    if connection.marks & state::OPENED == 0 {
        return;
    }
    let header = Header {
        // SAFETY: helpers on the context of the program.
        time_ns: unsafe { bpf_ktime_get_ns() },
        // SAFETY: as above.
        cookie: unsafe { bpf_get_socket_cookie(ctx.cast()) },
        kind: Kind::OwnerChanged as u8,
        lost: connection.lost,
        ..Header::default()
    };
    let sent = emit::send::<OwnerChanged>(Wake::Behind, |place| {
        // SAFETY: the place of a record.
        unsafe { place.write(OwnerChanged { header, owner: current() }) };
    });
    emit::note(connection, sent);
}

#[inline(always)]
fn callback(ops: *mut bpf_sock_ops) -> Option<()> {
    // SAFETY: the context of the program.
    let (op, sk) = unsafe { ((*ops).op, (*ops).__bindgen_anon_2.sk) };
    let known = matches!(
        op,
        BPF_SOCK_OPS_TCP_CONNECT_CB
            | BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB
            | BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB
            | BPF_SOCK_OPS_STATE_CB
    );
    if !known || sk.is_null() || !state::is_attached() {
        return None;
    }
    // SAFETY: the hook's socket.
    let connection = unsafe { state::connection(sk.cast(), op != BPF_SOCK_OPS_STATE_CB) };
    let Some(connection) = connection else {
        if op != BPF_SOCK_OPS_STATE_CB {
            state::count(Loss::Storage);
        }
        return None;
    };
    // SAFETY: helpers on the context of the program.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    if op == BPF_SOCK_OPS_STATE_CB {
        return changed(ops, sk, connection, now_ns);
    }
    // SAFETY: as above.
    unsafe { bpf_sock_ops_cb_flags_set(ops, BPF_SOCK_OPS_STATE_CB_FLAG as i32) };
    if connection.marks & state::LATE != 0 {
        // Its first packet was one of the handshake, which began before the agent.
        connection.marks &= !state::LATE;
        // SAFETY: helper on the context of the program.
        let _ = state::LATE_CONNECTIONS.remove(unsafe { bpf_get_socket_cookie(ops.cast()) });
    }
    if op == BPF_SOCK_OPS_TCP_CONNECT_CB {
        connection.due = now_ns;
        connection.role = ROLE_CLIENT;
        // No packet of the handshake announces the connection: it is established or fails.
        connection.marks |= state::OPENED | state::COMPARED;
        return None;
    }
    if op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB {
        connection.marks &= !(state::OPENED | state::COMPARED);
    }
    connection.role =
        if op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB { ROLE_CLIENT } else { ROLE_SERVER };
    let waited = core::mem::replace(&mut connection.due, 0);
    let connect_ns = if waited == 0 { 0 } else { now_ns.wrapping_sub(waited) };
    open(ops, sk, connection, now_ns, connect_ns, 0);
    Some(())
}

/// Sends the connection's `Opened` record.
#[inline(always)]
fn open(
    ops: *mut bpf_sock_ops,
    sk: *mut bpf_sock,
    connection: &mut Connection,
    time_ns: u64,
    connect_ns: u64,
    flags: u16,
) {
    // SAFETY: the hook's socket.
    let held = unsafe { !state::holder(sk.cast(), false).is_null() };
    if !held && flags == 0 && connect_ns == 0 {
        // The first packet with payload tells the cgroup: it sends the record.
        connection.due = time_ns;
        return;
    }
    connection.marks |= state::OPENED;
    let netns = if globals::socket_netns() == 1 {
        // SAFETY: the loader found the helper.
        unsafe { bpf_get_netns_cookie(ops.cast()) }
    } else {
        0
    };
    let header = Header {
        time_ns,
        // SAFETY: helper on the context of the program.
        cookie: unsafe { bpf_get_socket_cookie(ops.cast()) },
        kind: Kind::Opened as u8,
        flags,
        lost: connection.lost,
        ..Header::default()
    };
    let sent = send_opened(sk, connection, header, 0, netns, connect_ns);
    emit::note(connection, sent);
}

/// The connection's TCP state changed.
#[inline(always)]
fn changed(
    ops: *mut bpf_sock_ops,
    sk: *mut bpf_sock,
    connection: &mut Connection,
    now_ns: u64,
) -> Option<()> {
    // SAFETY: the context of the program; the callback's arguments are the states.
    let (old, new) = unsafe { ((*ops).__bindgen_anon_1.args[0], (*ops).__bindgen_anon_1.args[1]) };
    if new != TCP_CLOSE {
        return None;
    }
    let marks = connection.marks;
    let reason = if old == TCP_SYN_SENT {
        if marks & state::RESET_IN != 0 { CLOSE_REFUSED } else { CLOSE_UNANSWERED }
    } else if marks & state::RESET_IN != 0 {
        CLOSE_RESET_RECEIVED
    } else if marks & state::RESET_OUT != 0 {
        CLOSE_RESET_SENT
    } else if marks & (state::FIN_IN | state::FIN_OUT) != 0 {
        CLOSE_FIN
    } else if has_losses(sk) {
        CLOSE_TIMEOUT
    } else {
        // A program closes by reset; the state changes before the packet leaves.
        CLOSE_RESET_SENT
    };
    if old == TCP_SYN_SENT {
        open(ops, sk, connection, now_ns, 0, event::OPENED_FAILED);
    } else if marks & state::OPENED == 0 {
        open(ops, sk, connection, now_ns, 1, 0);
    }
    // SAFETY: helper on the context of the program, and the hook's socket.
    unsafe {
        let cookie = bpf_get_socket_cookie(ops.cast());
        let reset = matches!(reason, CLOSE_RESET_RECEIVED | CLOSE_RESET_SENT);
        follow::end(sk, now_ns, reset);
        emit::send_statistics(sk, connection, now_ns, cookie, reason);
    }
    Some(())
}

/// Whether segments are taken for lost: where they are, a sudden end is the kernel giving up.
#[inline(always)]
fn has_losses(sk: *mut bpf_sock) -> bool {
    // SAFETY: the hook's socket.
    unsafe { emit::tcp(sk) }.is_some_and(|tcp| tcp.lost_out != 0 || tcp.retrans_out != 0)
}
