//! Attaches to a tracepoint by its number alone.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Attaches a program to the tracepoint of this number (see
/// [`crate::kernel::format::Format::id`]) for as long as the descriptor is held.
/// Needs no mounted tracefs, as aya's own way does.
///
/// # Errors
/// `EACCES` or `EPERM` without `CAP_PERFMON`, `ENOENT` where there is no such number.
pub fn attach_tracepoint(program: BorrowedFd<'_>, id: u32) -> io::Result<OwnedFd> {
    const TRACEPOINT: u32 = 2;
    const CLOSE_ON_EXEC: libc::c_ulong = 8;
    const SET_BPF: libc::c_ulong = 0x4004_2408;
    const ENABLE: libc::c_ulong = 0x2400;
    // type, size, config; then a period of 1. The first version of the structure is enough.
    let mut attributes = [0_u8; 64];
    attributes[..4].copy_from_slice(&TRACEPOINT.to_ne_bytes());
    attributes[4..8].copy_from_slice(&64_u32.to_ne_bytes());
    attributes[8..16].copy_from_slice(&u64::from(id).to_ne_bytes());
    attributes[16..24].copy_from_slice(&1_u64.to_ne_bytes());
    // One processor is enough: the kernel runs the program wherever the event happens.
    let (every_process, one_processor, no_group) = (-1, 0, -1);
    // SAFETY: the attributes are borrowed for the call and state their own size.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            attributes.as_ptr(),
            every_process,
            one_processor,
            no_group,
            CLOSE_ON_EXEC,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us alone.
    let event = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    for (request, value) in [(SET_BPF, program.as_raw_fd()), (ENABLE, 0)] {
        // SAFETY: both requests take a plain number, no memory.
        if unsafe { libc::ioctl(event.as_raw_fd(), request as _, value) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(event)
}
