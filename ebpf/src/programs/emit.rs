//! Sends records, or counts that they were lost.

use core::ffi::c_void;
use core::mem::size_of;

use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, bpf_sock, bpf_tcp_sock};
use aya_ebpf::helpers::generated::{
    bpf_ringbuf_output, bpf_ringbuf_reserve, bpf_ringbuf_submit, bpf_tcp_sock,
};
use meshtap_ebpf::event::{Ended, Header, Kind, Loss, Statistics};
use meshtap_ebpf::walk::{VERDICT_HTTP1, VERDICT_HTTP2};

use super::state::{self, Connection, Http, RING};

/// When the reader is to be told.
#[derive(Clone, Copy)]
#[repr(u64)]
pub enum Wake {
    /// If it has read all before this record. It pauses after each emptying: of the records
    /// that come meanwhile one wakes it, since a wake-up costs more than a record.
    Behind = 0,
    /// At once: what the record speaks of may vanish.
    Now = BPF_RB_FORCE_WAKEUP as u64,
}

/// Sends `length` bytes from `record` on; false: there was no room, and it was counted.
///
/// # Safety
/// `record` must point to `length` initialised bytes that the verifier can follow.
#[inline(always)]
pub unsafe fn send_bytes(record: *const c_void, length: u64, wake: Wake) -> bool {
    // SAFETY: by the contract.
    let status = unsafe {
        bpf_ringbuf_output(
            (&raw const RING).cast_mut().cast(),
            record.cast_mut(),
            length,
            wake as u64,
        )
    };
    if status != 0 {
        state::count(Loss::RingFull);
    }
    status == 0
}

/// Has a whole record written where it leaves from: on the programs' small stack there
/// is no room for it. `fill` must write all of it.
#[inline(always)]
pub fn send<T: zerocopy::IntoBytes>(wake: Wake, fill: impl FnOnce(*mut T)) -> bool {
    // SAFETY: the ring lends `T`'s size, aligned to eight bytes.
    unsafe {
        let ring = (&raw const RING).cast_mut().cast();
        let place = bpf_ringbuf_reserve(ring, size_of::<T>() as u64, 0);
        if place.is_null() {
            state::count(Loss::RingFull);
            return false;
        }
        fill(place.cast());
        bpf_ringbuf_submit(place, wake as u64);
    }
    true
}

/// The TCP figures of a full socket.
///
/// # Safety
/// `sk` must be a socket that the verifier knows.
#[inline(always)]
pub unsafe fn tcp<'a>(sk: *mut bpf_sock) -> Option<&'a bpf_tcp_sock> {
    // SAFETY: by the contract.
    unsafe { bpf_tcp_sock(sk).as_ref() }
}

/// The kernel keeps the smoothed time in eighths of a microsecond.
#[inline(always)]
pub fn smoothed(tcp: &bpf_tcp_sock) -> u32 {
    tcp.srtt_us >> 3
}

/// Sends the connection's figures, at its end with a reason.
///
/// # Safety
/// As for [`tcp`].
#[inline(never)]
pub unsafe fn send_statistics(
    sk: *mut bpf_sock,
    connection: &mut Connection,
    time_ns: u64,
    cookie: u64,
    reason: u8,
) {
    let closed = reason != meshtap_ebpf::event::CLOSE_NONE;
    // No option: 5.10 refuses to copy the part of one that was never written.
    // SAFETY: by the contract.
    let ended = if closed { unsafe { ended(sk) } } else { Ended::default() };
    let lost = connection.lost.saturating_add(ended.lost);
    let header = Header {
        time_ns,
        cookie,
        kind: if closed { Kind::Closed } else { Kind::Statistics } as u8,
        lost,
        ..Header::default()
    };
    // SAFETY: by the contract.
    let tcp = unsafe { tcp(sk) };
    let sent = send::<Statistics>(Wake::Behind, |place| {
        // SAFETY: the place of a record.
        unsafe { place.write(Statistics { header, reason, ended, ..Statistics::default() }) };
        let Some(tcp) = tcp else { return };
        // SAFETY: as above.
        let record = unsafe { &mut *place };
        record.bytes_received = tcp.bytes_received;
        record.bytes_acked = tcp.bytes_acked;
        record.segments_in = tcp.segs_in;
        record.segments_out = tcp.segs_out;
        record.retransmits = tcp.total_retrans;
        record.srtt_us = smoothed(tcp);
        // `~0` stands for no sample.
        record.min_rtt_us = if tcp.rtt_min == u32::MAX { 0 } else { tcp.rtt_min };
    });
    note(connection, sent);
    if !sent && ended.version != 0 {
        let _ = state::ENDED.insert(&cookie, &ended, 0);
    }
}

/// What the socket's connection had begun; of version 0: it did not speak HTTP.
///
/// # Safety
/// As for [`tcp`].
#[inline(always)]
unsafe fn ended(sk: *mut bpf_sock) -> Ended {
    // SAFETY: by the contract; the storage lives as long as the program runs.
    let http = unsafe { state::http(sk.cast(), false).as_ref() };
    let Some(http) = http else { return Ended::default() };
    let shared = &http.shared;
    let (requests, told, version) = match shared.verdict {
        VERDICT_HTTP1 if shared.requests_epoch == shared.epoch as u16 => {
            (shared.begun, shared.told, 1)
        }
        VERDICT_HTTP1 => (0, 0, 1),
        // SAFETY: by the contract.
        VERDICT_HTTP2 => (last_stream(http).div_ceil(2), unsafe { counted(sk) }, 2),
        _ => return Ended::default(),
    };
    let (epoch, lost) = (shared.epoch, shared.lost);
    Ended { requests, epoch, told, lost, version, ..Ended::default() }
}

/// How many streams were counted.
///
/// # Safety
/// As for [`tcp`].
#[inline(always)]
unsafe fn counted(sk: *mut bpf_sock) -> u32 {
    // SAFETY: by the contract; the storage lives as long as the program runs.
    unsafe {
        let streams = state::streams(sk, false);
        if streams.is_null() { 0 } else { (*streams).decided.wrapping_sub((*streams).told) }
    }
}

/// The highest stream that a client has begun.
#[inline(always)]
fn last_stream(http: &Http) -> u32 {
    let [one, other] = &http.flows;
    if one.number > other.number { one.number } else { other.number }
}

/// Remembers whether the connection's record found room.
#[inline(always)]
pub fn note(connection: &mut Connection, sent: bool) {
    connection.lost = if sent { 0 } else { connection.lost.saturating_add(1) };
}
