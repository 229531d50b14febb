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

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::process::Command;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::super::{
        PASS, ProgramType, add, call, copy, create_ring_buffer, instruction, load, set,
    };
    use super::*;
    use crate::kernel::format::Tracefs;

    const RINGBUF_OUTPUT: i32 = 130;

    /// Sends eight zeroes to the ring at every event.
    fn program(ring: BorrowedFd<'_>) -> Option<OwnedFd> {
        let body = [
            instruction(0x7a, 10, 0, -8, 0),
            instruction(0x18, 1, 1, 0, ring.as_raw_fd()),
            instruction(0, 0, 0, 0, 0),
            copy(2, 10),
            add(2, -8),
            set(3, 8),
            set(4, 0),
            call(RINGBUF_OUTPUT),
        ];
        load(ProgramType::Tracepoint, None, &[&body[..], &PASS].concat()).ok()
    }

    #[test]
    fn a_program_attached_by_number_runs() {
        let (Ok(ring), Ok(tracefs)) = (create_ring_buffer(64 << 10), Tracefs::open()) else {
            crate::requirement::skipped("maps and tracefs take root");
            return;
        };
        let Some(program) = program(ring.as_fd()) else {
            crate::requirement::skipped("loading programs takes privileges");
            return;
        };
        let format = tracefs.event("sched", "sched_process_exit").expect("since 2.6");
        let event = attach_tracepoint(program.as_fd(), format.id).expect("privileged");
        let mut wait = [PollFd::new(&ring, PollFlags::IN)];
        Command::new("true").status().expect("true(1) is everywhere");
        let limit = Timespec { tv_sec: 5, tv_nsec: 0 };
        assert_eq!(poll(&mut wait, Some(&limit)).expect("it can be waited for"), 1);
        drop(event);
        assert!(attach_tracepoint(program.as_fd(), u32::MAX).is_err());
    }
}
