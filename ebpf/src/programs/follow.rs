//! Follows the messages of a connection: claims a direction, walks its packet, sends
//! what the walk found.

use core::ffi::c_void;
use core::ptr::read_volatile;

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use aya_ebpf::helpers::generated::{
    bpf_get_socket_cookie, bpf_ktime_get_ns, bpf_skb_load_bytes, bpf_spin_lock, bpf_spin_unlock,
};
use aya_ebpf::programs::SkBuffContext;
use aya_log_ebpf::{debug, warn};
use meshtap_ebpf::event::{self, EGRESS, Head, Header, INGRESS, Kind, Loss, Shut};
use meshtap_ebpf::flow::{Flow, WINDOW, WINDOW_START, opaque};
use meshtap_ebpf::walk::{Port, Shared, VERDICT_OPAQUE, Walk};

use super::emit::{self, Wake};
use super::globals;
use super::packet::socket;
use super::segment::{FIN, RESET, Segment};
use super::state::{self, EGRESS_PARTS, Http, INGRESS_PARTS};

/// Steps that one program takes before it tail-calls its next part. Verified within
/// the kernel's bound of a million instructions on 5.10 … 7.x.
pub const STEPS: u32 = 96;
/// How often a program waits for the other CPU's packet of the same direction.
const CLAIMS: u32 = 128;

/// What one program at work on the flow of this direction adds to [`Http::busy`].
const fn share<const DIRECTION: usize>() -> u32 {
    1 << (DIRECTION * 16)
}

/// Takes the flow, so that no other CPU works on it; false: it took too long.
#[inline(always)]
pub fn claim<const DIRECTION: usize>(http: *mut Http) -> bool {
    let mut attempts = 0;
    while attempts < CLAIMS {
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

/// A walk over the flow of this direction.
///
/// # Safety
/// `http` must be a value of the map, its flow claimed.
#[inline(always)]
pub unsafe fn walk<'a, const DIRECTION: usize, P: Port>(
    http: *mut Http,
    outlet: &'a mut P,
) -> Walk<'a, P> {
    // SAFETY: by the contract.
    unsafe {
        Walk {
            flow: &mut (*http).flows[DIRECTION],
            shared: &mut (*http).shared,
            port: outlet,
            direction: DIRECTION as u8,
        }
    }
}

#[inline(always)]
pub fn follow<const DIRECTION: usize>(
    ctx: &SkBuffContext,
    sk: *mut bpf_sock,
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
    // SAFETY: no arguments.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    let mut outlet = Outlet { skb, sk };
    // SAFETY: the flow is claimed.
    let mut walk = unsafe { walk::<DIRECTION, _>(http, &mut outlet) };
    arrive::<DIRECTION>(walk.flow, skb, sk, segment, now_ns);
    if segment.length > 0 && walk.enter() {
        // The walk is a program of its own: here the verifier would follow it once for
        // every way that leads to this line.
        go_on::<DIRECTION>(ctx);
        state::count(Loss::TailCall);
        walk.exhaust();
    }
    finish::<DIRECTION>(ctx, walk, http, segment.flags);
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
pub fn part<const DIRECTION: usize>(ctx: &SkBuffContext) {
    let skb = ctx.skb.skb;
    let sk = socket(skb);
    if sk.is_null() {
        return;
    }
    // SAFETY: a socket.
    let http = unsafe { state::http(sk.cast(), false) };
    if http.is_null() {
        return;
    }
    let mut outlet = Outlet { skb, sk };
    // SAFETY: the flow was claimed by the first part.
    let mut walk = unsafe { walk::<DIRECTION, _>(http, &mut outlet) };
    let done = steps(&mut walk);
    if !done {
        go_on::<DIRECTION>(ctx);
        walk.exhaust();
    } else {
        walk.leave();
    }
    let flags = walk.flow.flags;
    finish::<DIRECTION>(ctx, walk, http, flags);
}

/// Walks at most [`STEPS`] steps; true: the packet is done.
#[inline(always)]
pub fn steps<P: Port>(walk: &mut Walk<'_, P>) -> bool {
    let mut steps = 0;
    while steps < STEPS {
        if !walk.step() {
            return true;
        }
        steps += 1;
    }
    false
}

/// Tells the flow of the segment.
#[inline(always)]
fn arrive<const DIRECTION: usize>(
    flow: &mut Flow,
    skb: *mut __sk_buff,
    sk: *mut bpf_sock,
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
        // SAFETY: helper on the context of the program.
        flow.cookie = unsafe { bpf_get_socket_cookie(skb.cast()) };
    } else if DIRECTION == INGRESS as usize {
        flow.catch_up(known);
    }
}

/// After the walk: the end of the connection, the verdict, the claim.
#[inline(always)]
fn finish<const DIRECTION: usize>(
    ctx: &SkBuffContext,
    mut walk: Walk<'_, Outlet>,
    http: *mut Http,
    flags: u8,
) {
    let reset = flags & RESET != 0;
    if walk.reaches_fin(flags & FIN != 0) || reset {
        walk.shut(reset);
        send_shut::<DIRECTION>(&mut walk, flags);
    }
    let opaque = walk.shared.verdict == VERDICT_OPAQUE;
    let sk = walk.port.sk;
    release::<DIRECTION>(http);
    if opaque {
        debug!(ctx, "no more HTTP on port {}: left alone", unsafe { (*sk).src_port });
        // SAFETY: a socket.
        unsafe {
            if let Some(connection) = state::connection(sk.cast(), false) {
                connection.marks |= state::OPAQUE;
            }
            state::forget_http(sk.cast());
        }
    }
}

/// The socket ended: tells how far the messages came that are open. A program that closes
/// by reset changes the socket's state before the packet leaves that says so.
///
/// # Safety
/// `sk` must be a socket that the verifier knows.
#[inline(never)]
pub unsafe fn end(sk: *mut bpf_sock, now_ns: u64, reset: bool) {
    // SAFETY: by the contract.
    let http = unsafe { state::http(sk.cast(), false) };
    if http.is_null() {
        return;
    }
    let mut outlet = Outlet { skb: core::ptr::null_mut(), sk };
    let reason = if reset { event::END_RESET } else { event::END_GONE };
    end_flow::<{ INGRESS as usize }>(http, &mut outlet, now_ns, reason);
    end_flow::<{ EGRESS as usize }>(http, &mut outlet, now_ns, reason);
}

#[inline(always)]
fn end_flow<const DIRECTION: usize>(http: *mut Http, outlet: &mut Outlet, now_ns: u64, reason: u8) {
    if !claim::<DIRECTION>(http) {
        return;
    }
    // SAFETY: the flow is claimed.
    let mut walk = unsafe { walk::<DIRECTION, _>(http, outlet) };
    walk.flow.now_ns = now_ns;
    // SAFETY: a socket, by the contract of `end`.
    let tcp = unsafe { emit::tcp(walk.port.sk) };
    if let Some(tcp) = tcp.filter(|_| DIRECTION == INGRESS as usize && walk.flow.placed != 0) {
        walk.flow.catch_up(tcp.rcv_nxt);
    }
    walk.break_off(reason);
    release::<DIRECTION>(http);
}

#[inline(always)]
fn send_shut<const DIRECTION: usize>(walk: &mut Walk<'_, Outlet>, flags: u8) {
    if walk.shared.verdict != meshtap_ebpf::walk::VERDICT_HTTP1 {
        return;
    }
    let reset = flags & RESET != 0;
    let header = Header {
        time_ns: walk.flow.now_ns,
        cookie: walk.flow.cookie,
        kind: Kind::Shut as u8,
        direction: DIRECTION as u8,
        flags: if reset { event::SHUT_RESET } else { event::SHUT_FIN },
        lost: walk.shared.lost,
        length: 0,
    };
    let sent = emit::send::<Shut>(Wake::Behind, |place| {
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
    /// Its socket.
    pub sk: *mut bpf_sock,
}

impl Port for Outlet {
    #[inline(always)]
    fn load(&mut self, flow: &mut Flow, offset: u32, length: u32) -> bool {
        // VERIFIER(6.1): the least length must be seen to be one, so one is added last.
        let rest = opaque((length as usize).wrapping_sub(1));
        if rest >= WINDOW {
            return false;
        }
        let length = rest as u32 + 1;
        // SAFETY: the window has room for `length` bytes, as just checked.
        unsafe {
            let window = flow.buffer.as_mut_ptr().add(WINDOW_START);
            bpf_skb_load_bytes(self.skb.cast(), offset, window.cast(), length) == 0
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
            emit::send_bytes(record, length as u64, Wake::Behind)
        };
        note(shared, sent);
    }

    #[inline(always)]
    fn send<T: zerocopy::IntoBytes>(&mut self, shared: &mut Shared, fill: impl FnOnce(*mut T)) {
        note(shared, emit::send(Wake::Behind, fill));
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
}
