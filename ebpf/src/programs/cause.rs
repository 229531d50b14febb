//! Tracepoints: the end of connections that no `sock_ops` callback follows, and
//! processes that come and go. Fields are found by the offsets that the loader read
//! from the event's `format` file.
//!
//! **Every program returns 1**: 0 would hide the event from everybody who watches it
//! with perf. aya's macro returns 0, so the sections are written out.

use core::ffi::c_void;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::{
    bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_kernel, bpf_probe_read_kernel_str,
    bpf_ringbuf_reserve, bpf_ringbuf_submit,
};
use aya_ebpf::programs::TracePointContext;
use meshtap_ebpf::event::{CLOSE_UNKNOWN, Exec, Exit, Header, Kind, Loss, Statistics};
use meshtap_ebpf::limits::FILE_NAME;

use super::emit::{self, Wake};
use super::globals;
use super::socket::current;
use super::state::{self, LATE_CONNECTIONS, RING};

#[unsafe(link_section = "tracepoint")]
#[unsafe(no_mangle)]
pub fn destroy_socket(ctx: *mut c_void) -> u32 {
    let ctx = TracePointContext::new(ctx);
    let Some(cookie) = read::<u64>(&ctx, globals::destroy_cookie()) else { return 1 };
    if LATE_CONNECTIONS.get_ptr(cookie).is_none() {
        return 1;
    }
    let _ = LATE_CONNECTIONS.remove(cookie);
    let header = Header {
        // SAFETY: no arguments.
        time_ns: unsafe { bpf_ktime_get_ns() },
        cookie,
        kind: Kind::Closed as u8,
        ..Header::default()
    };
    emit::send::<Statistics>(Wake::Behind, |place| {
        let record = Statistics { header, reason: CLOSE_UNKNOWN, ..Statistics::default() };
        // SAFETY: the place of a record.
        unsafe { place.write(record) };
    });
    1
}

#[unsafe(link_section = "tracepoint")]
#[unsafe(no_mangle)]
pub fn process_exit(_: *mut c_void) -> u32 {
    // SAFETY: no arguments.
    let id = unsafe { bpf_get_current_pid_tgid() };
    let (process, thread) = ((id >> 32) as u32, id as u32);
    if process != thread {
        return 1;
    }
    let header = Header {
        // SAFETY: no arguments.
        time_ns: unsafe { bpf_ktime_get_ns() },
        kind: Kind::Exit as u8,
        ..Header::default()
    };
    emit::send::<Exit>(Wake::Behind, |place| {
        // SAFETY: the place of a record.
        unsafe { place.write(Exit { header, pid: process, pad: 0 }) };
    });
    1
}

/// Room for an [`Exec`] with its file name.
const EXEC_RECORD: u64 = (size_of::<Exec>() + FILE_NAME) as u64;

#[unsafe(link_section = "tracepoint")]
#[unsafe(no_mangle)]
pub fn process_exec(ctx: *mut c_void) -> u32 {
    let ctx = TracePointContext::new(ctx);
    // `__data_loc`: the low half is the place of the text in the event.
    let place = read::<u32>(&ctx, globals::exec_file_name()).unwrap_or(0) & 0xffff;
    // SAFETY: the reservation is written whole before it is submitted: the fixed part
    // here, the name by the helper; bytes behind the name are not announced.
    unsafe {
        let record = bpf_ringbuf_reserve((&raw const RING).cast_mut().cast(), EXEC_RECORD, 0);
        if record.is_null() {
            state::count(Loss::RingFull);
            return 1;
        }
        let name = record.cast::<u8>().add(size_of::<Exec>());
        let source = ctx.as_ptr().cast::<u8>().add(place as usize);
        let length = bpf_probe_read_kernel_str(name.cast(), FILE_NAME as u32, source.cast());
        let length = if length > 1 { length - 1 } else { 0 };
        record.cast::<Exec>().write(Exec {
            header: Header {
                time_ns: bpf_ktime_get_ns(),
                kind: Kind::Exec as u8,
                length: length as u16,
                ..Header::default()
            },
            owner: current(),
        });
        // At once: the reader looks at `/proc` while the process lives.
        bpf_ringbuf_submit(record, Wake::Now as u64);
    }
    1
}

/// A field of the event.
#[inline(always)]
pub fn read<T: Default>(ctx: &TracePointContext, offset: u32) -> Option<T> {
    let mut value = T::default();
    // SAFETY: the helper writes `T`'s bytes, and any bytes are a `T` (integers only here).
    let status = unsafe {
        let source = ctx.as_ptr().cast::<u8>().add(offset as usize);
        bpf_probe_read_kernel((&raw mut value).cast(), size_of::<T>() as u32, source.cast())
    };
    (status == 0).then_some(value)
}
