//! `cgroup_skb`: every packet of every socket, both ways.
//!
//! The way of a packet: no payload, FIN or RST: done; no interesting socket: one
//! look-up; else its bytes are walked (`meshtap_ebpf::walk`). **Always returns 1.**

use core::ffi::c_void;
use core::mem::offset_of;

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use aya_ebpf::helpers::generated::{
    bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_jiffies64, bpf_ktime_get_ns,
    bpf_ringbuf_reserve, bpf_ringbuf_submit, bpf_sk_fullsock, bpf_skb_cgroup_id,
    bpf_skb_load_bytes, bpf_spin_lock, bpf_spin_unlock,
};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use aya_log_ebpf::{debug, warn};
use meshtap_ebpf::event::{
    self, CLOSE_NONE, EGRESS, Endpoint, Head, Header, INGRESS, Kind, Loss, NameAnswer, Opened,
    ROLE_SERVER, Redirected, Shut,
};
use meshtap_ebpf::flow::{Flow, WINDOW, WINDOW_START, opaque};
use meshtap_ebpf::limits::NAME_ANSWER;
use meshtap_ebpf::walk::{Peer, Port, Shared, VERDICT_OPAQUE, Walk};

use super::emit::{self, Wake};
use super::globals;
use super::held;
use super::segment::{self, FIN, Packet, RESET, Segment};
use super::state::{self, Connection, EGRESS_PARTS, Http, INGRESS_PARTS, RING};

/// Steps that one program takes before it tail-calls its next part. Verified within
/// the kernel's bound of a million instructions on 5.10 … 7.x.
pub const STEPS: u32 = 128;
/// How often a program waits for the other CPU's packet of the same direction.
const CLAIMS: u32 = 128;
const TCP_LISTEN: u32 = 10;
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
pub fn ingress_part(ctx: SkBuffContext) -> i32 {
    part::<{ INGRESS as usize }>(&ctx);
    1
}

#[cgroup_skb(egress)]
pub fn egress_part(ctx: SkBuffContext) -> i32 {
    part::<{ EGRESS as usize }>(&ctx);
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
        None => {
            debug!(ctx, "a connection older than the agent: port {}", unsafe { (*sk).src_port });
            late(skb, sk)?
        }
    };
    if connection.marks & state::OPENED == 0 {
        open(skb, sk, connection);
    }
    if connection.marks & state::COMPARED == 0 {
        compare(skb, sk, connection, segment.header, DIRECTION as u8);
        let answers_first =
            DIRECTION == EGRESS as usize && connection.role == ROLE_SERVER && segment.length > 0;
        if answers_first {
            // SAFETY: the context of the program. It comes back to `egress`.
            unsafe { EGRESS_PARTS.tail_call(ctx, 1) };
        }
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
    follow::<DIRECTION>(ctx, sk, connection, http, segment);
    Some(())
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

/// Sends the connection's `Opened` record. A subprogram: it has a stack of its own.
#[inline(never)]
fn open(skb: *mut __sk_buff, sk: *mut bpf_sock, connection: &mut Connection) {
    connection.marks |= state::OPENED;
    // SAFETY: helpers on the context of the program.
    let (time_ns, cookie, cgroup) =
        unsafe { (bpf_ktime_get_ns(), bpf_get_socket_cookie(skb.cast()), bpf_skb_cgroup_id(skb)) };
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
    emit::send::<Opened>(Wake::Timer, |place| {
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
fn compare(
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
    let sent = emit::send::<Redirected>(Wake::Timer, |place| {
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

/// Takes the flow, so that no other CPU works on it; false: it took too long.
#[inline(always)]
pub fn claim<const DIRECTION: usize>(http: *mut Http) -> bool {
    let mut attempts = 0;
    while attempts < CLAIMS {
        // SAFETY: the map's value; the lock is its own.
        let taken = unsafe {
            bpf_spin_lock(&raw mut (*http).lock);
            let busy = (*http).flows[DIRECTION].busy;
            (*http).flows[DIRECTION].busy = 1;
            bpf_spin_unlock(&raw mut (*http).lock);
            busy == 0
        };
        if taken {
            return true;
        }
        attempts += 1;
    }
    false
}

#[inline(always)]
pub fn release<const DIRECTION: usize>(http: *mut Http) {
    // SAFETY: as in `claim`.
    unsafe {
        bpf_spin_lock(&raw mut (*http).lock);
        (*http).flows[DIRECTION].busy = 0;
        bpf_spin_unlock(&raw mut (*http).lock);
    }
}

/// A walk over the flow of this direction.
///
/// # Safety
/// `http` must be a value of the map, its flow claimed.
#[inline(always)]
pub unsafe fn walk<'a, const DIRECTION: usize, P: Port>(
    http: *mut Http,
    outlet: &'a mut P,
) -> Walk<'a, P> {
    // SAFETY: by the contract; the other flow is only read, word by word.
    unsafe {
        Walk {
            flow: &mut (*http).flows[DIRECTION],
            peer: Peer::new(&raw const (*http).flows[1 - DIRECTION]),
            shared: &mut (*http).shared,
            port: outlet,
            direction: DIRECTION as u8,
        }
    }
}

#[inline(always)]
fn follow<const DIRECTION: usize>(
    ctx: &SkBuffContext,
    sk: *mut bpf_sock,
    connection: &mut Connection,
    http: *mut Http,
    segment: &Segment,
) {
    let skb = ctx.skb.skb;
    if !claim::<DIRECTION>(http) {
        warn!(ctx, "two packets of one direction at once: the later is not looked at");
        // Its bytes are unseen: the kernel's own count shows the hole to the next packet.
        state::count(Loss::Unreadable);
        return;
    }
    // SAFETY: helpers on the context of the program.
    let (now_ns, cookie) = unsafe { (bpf_ktime_get_ns(), bpf_get_socket_cookie(skb.cast())) };
    let mut outlet = Outlet { skb, sk, cookie };
    // SAFETY: the flow is claimed.
    let mut walk = unsafe { walk::<DIRECTION, _>(http, &mut outlet) };
    arrive::<DIRECTION>(walk.flow, walk.shared, sk, connection, segment, now_ns);
    if segment.length > 0 && walk.enter() {
        // The walk is a program of its own: here the verifier would follow it once for
        // every way that leads to this line.
        go_on::<DIRECTION>(ctx);
        state::count(Loss::TailCall);
        walk.exhaust();
    }
    finish::<DIRECTION>(ctx, walk, connection, http, segment.flags);
}

/// Tail-calls the next part; returns if the kernel's bound on tail calls is reached.
#[inline(always)]
fn go_on<const DIRECTION: usize>(ctx: &SkBuffContext) {
    // SAFETY: the context of the program.
    unsafe {
        if DIRECTION == INGRESS as usize {
            INGRESS_PARTS.tail_call(ctx, 0);
        } else {
            EGRESS_PARTS.tail_call(ctx, 0);
        }
    }
}

/// Begins anew with the packet that leaves, after [`held`] told of an earlier one.
#[inline(always)]
pub fn again(ctx: &SkBuffContext) {
    // SAFETY: the context of the program.
    unsafe { EGRESS_PARTS.tail_call(ctx, 2) };
}

/// Walks a packet, or the next part of a long one.
#[inline(always)]
fn part<const DIRECTION: usize>(ctx: &SkBuffContext) {
    let skb = ctx.skb.skb;
    let sk = socket(skb);
    if sk.is_null() {
        return;
    }
    // SAFETY: a full socket.
    let (connection, http) =
        unsafe { (state::connection(sk.cast(), false), state::http(sk.cast(), false)) };
    let Some(connection) = connection else { return };
    if http.is_null() {
        return;
    }
    // SAFETY: helpers on the context of the program.
    let cookie = unsafe { bpf_get_socket_cookie(skb.cast()) };
    let mut outlet = Outlet { skb, sk, cookie };
    // SAFETY: the flow was claimed by the first part.
    let mut walk = unsafe { walk::<DIRECTION, _>(http, &mut outlet) };
    let mut done = false;
    let mut steps = 0;
    while steps < STEPS {
        if step(&mut walk) == 0 {
            done = true;
            break;
        }
        steps += 1;
    }
    if !done {
        go_on::<DIRECTION>(ctx);
        walk.exhaust();
    } else {
        walk.leave();
    }
    let flags = walk.flow.flags;
    finish::<DIRECTION>(ctx, walk, connection, http, flags);
}

/// One step. A subprogram: what it knew in passing is forgotten when it returns, so
/// that the verifier finds each step alike and does not multiply their paths.
#[inline(never)]
pub fn step<P: Port>(walk: &mut Walk<'_, P>) -> u32 {
    u32::from(walk.step())
}

/// Tells the flow of the segment.
#[inline(always)]
fn arrive<const DIRECTION: usize>(
    flow: &mut Flow,
    shared: &mut Shared,
    sk: *mut bpf_sock,
    connection: &Connection,
    segment: &Segment,
    now_ns: u64,
) {
    flow.now_ns = now_ns;
    flow.segment_start = segment.sequence;
    flow.segment_end = segment.sequence.wrapping_add(segment.length);
    flow.segment_ack = segment.acknowledgement;
    flow.payload = segment.payload;
    flow.flags = segment.flags;
    let settled = flow.placed != 0 && flow.edge.ahead == 0 && segment.sequence == flow.edge.end;
    if settled {
        return;
    }
    // SAFETY: a full socket.
    let Some(tcp) = (unsafe { emit::tcp(sk) }) else { return };
    let known = if DIRECTION == INGRESS as usize { tcp.rcv_nxt } else { tcp.snd_nxt };
    if flow.placed == 0 {
        flow.place(known);
        if connection.marks & state::LATE != 0 {
            // The first turn of an old connection may begin anywhere.
            shared.turn = DIRECTION as u8 + 1;
        }
    } else if DIRECTION == INGRESS as usize {
        flow.catch_up(known);
    }
}

/// After the walk: the end of the connection, the verdict, the claim.
#[inline(always)]
fn finish<const DIRECTION: usize>(
    ctx: &SkBuffContext,
    mut walk: Walk<'_, Outlet>,
    connection: &mut Connection,
    http: *mut Http,
    flags: u8,
) {
    if flags & (FIN | RESET) != 0 {
        walk.shut(flags & RESET != 0);
        send_shut::<DIRECTION>(&mut walk, flags);
    }
    let opaque = walk.shared.verdict == VERDICT_OPAQUE;
    let sk = walk.port.sk;
    release::<DIRECTION>(http);
    if opaque {
        debug!(ctx, "no more HTTP on port {}: left alone", unsafe { (*sk).src_port });
        connection.marks |= state::OPAQUE;
        // SAFETY: a full socket.
        unsafe { state::forget_http(sk.cast()) };
    }
}

#[inline(always)]
fn send_shut<const DIRECTION: usize>(walk: &mut Walk<'_, Outlet>, flags: u8) {
    if walk.shared.verdict != meshtap_ebpf::walk::VERDICT_HTTP1 {
        return;
    }
    let reset = flags & RESET != 0;
    let header = Header {
        time_ns: walk.flow.now_ns,
        cookie: walk.port.cookie,
        kind: Kind::Shut as u8,
        direction: DIRECTION as u8,
        flags: if reset { event::SHUT_RESET } else { event::SHUT_FIN },
        lost: walk.shared.lost,
        length: 0,
    };
    let sent = emit::send::<Shut>(Wake::Timer, |place| {
        // SAFETY: the place of a record.
        unsafe { place.write(Shut { header }) };
    });
    note(walk.shared, sent);
}

#[inline(always)]
fn note(shared: &mut Shared, sent: bool) {
    shared.lost = if sent { 0 } else { shared.lost.saturating_add(1) };
}

/// The walk's surroundings in the kernel.
pub struct Outlet {
    /// The packet.
    pub skb: *mut __sk_buff,
    /// Its full socket.
    pub sk: *mut bpf_sock,
    /// The socket's cookie.
    pub cookie: u64,
}

impl Port for Outlet {
    #[inline(always)]
    fn load(&mut self, flow: &mut Flow, offset: u32, length: u32) -> bool {
        let length = opaque(length as usize);
        if length == 0 || length > WINDOW {
            return false;
        }
        // SAFETY: the window has room for `length` bytes, as just checked.
        unsafe {
            let window = flow.buffer.as_mut_ptr().add(WINDOW_START);
            bpf_skb_load_bytes(self.skb.cast(), offset, window.cast(), length as u32) == 0
        }
    }

    #[inline(always)]
    fn send_head(&mut self, flow: &mut Flow, shared: &mut Shared, length: u32) {
        let length = opaque(length as usize);
        if length < WINDOW_START || length > WINDOW_START + WINDOW {
            return;
        }
        // SAFETY: the buffer has `length` bytes, as just checked.
        let sent = unsafe {
            let record: *const c_void = flow.buffer.as_ptr().cast();
            emit::send_bytes(record, length as u64, Wake::Timer)
        };
        note(shared, sent);
    }

    #[inline(always)]
    fn send<T: zerocopy::IntoBytes>(&mut self, shared: &mut Shared, fill: impl FnOnce(*mut T)) {
        note(shared, emit::send(Wake::Timer, fill));
    }

    #[inline(always)]
    fn measure(&mut self, record: &mut Head) {
        // SAFETY: a full socket.
        if let Some(tcp) = unsafe { emit::tcp(self.sk) } {
            record.bytes_acked = tcp.bytes_acked;
            record.bytes_received = tcp.bytes_received;
            record.srtt_us = emit::smoothed(tcp);
            record.retransmits = tcp.total_retrans;
        }
    }

    #[inline(always)]
    fn prefix(&self) -> u32 {
        globals::head_prefix()
    }

    #[inline(always)]
    fn cookie(&self) -> u64 {
        self.cookie
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
        let length = opaque(if length > NAME_ANSWER { NAME_ANSWER } else { length });
        if length == 0 || length > NAME_ANSWER {
            return;
        }
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
        bpf_ringbuf_submit(place, Wake::Timer as u64);
    }
}
