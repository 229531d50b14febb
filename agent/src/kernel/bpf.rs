//! The `bpf(2)` calls that aya does not offer: hand-assembled probes, attached
//! programs by cgroup, tracepoints by number.
//!
//! Refuses to hold any policy: callers decide what an error means. **Every program
//! assembled here returns 1**, which lets traffic pass wherever it is attached.

mod instruction;
mod tracepoint;

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use serde::Serialize;

pub use instruction::{Instruction, PASS, add, call, copy, instruction, set};
pub use tracepoint::attach_tracepoint;

/// Kinds of programs, numbered as the kernel's `enum bpf_prog_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u32)]
pub enum ProgramType {
    /// Sees what an unprivileged program might: the yardstick of the probes.
    SocketFilter = 1,
    /// Runs at a static tracepoint.
    Tracepoint = 5,
    /// Sees the packets of a cgroup's sockets.
    CgroupSkb = 8,
    /// Runs when a socket is made or bound.
    CgroupSock = 9,
    /// Runs at the life events of a connection.
    SockOps = 13,
    /// Runs when a program names an address.
    CgroupSockAddr = 18,
}

/// Where programs are attached to a cgroup, numbered as `enum bpf_attach_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u32)]
pub enum AttachType {
    /// Packets that arrive at a socket.
    Ingress = 0,
    /// Packets that leave a socket.
    Egress = 1,
    /// `socket(2)`.
    SockCreate = 2,
    /// The life of a connection.
    SockOps = 3,
    /// `connect(2)` over IPv4.
    Connect4 = 10,
    /// `connect(2)` over IPv6.
    Connect6 = 11,
    /// The end of `bind(2)` over IPv4.
    PostBind4 = 12,
    /// The end of `bind(2)` over IPv6.
    PostBind6 = 13,
    /// `getpeername(2)` and `accept(2)` over IPv4 (5.8).
    Getpeername4 = 29,
    /// `getpeername(2)` and `accept(2)` over IPv6 (5.8).
    Getpeername6 = 30,
    /// `getsockname(2)` over IPv4 (5.8).
    Getsockname4 = 31,
    /// `getsockname(2)` over IPv6 (5.8).
    Getsockname6 = 32,
}

impl AttachType {
    /// All that the agent attaches to.
    pub const ALL: [Self; 12] = [
        Self::Ingress,
        Self::Egress,
        Self::SockOps,
        Self::SockCreate,
        Self::PostBind4,
        Self::PostBind6,
        Self::Connect4,
        Self::Connect6,
        Self::Getpeername4,
        Self::Getpeername6,
        Self::Getsockname4,
        Self::Getsockname6,
    ];

    /// The kind of program that goes there.
    #[must_use]
    pub fn program_type(self) -> ProgramType {
        match self {
            Self::Ingress | Self::Egress => ProgramType::CgroupSkb,
            Self::SockOps => ProgramType::SockOps,
            Self::SockCreate | Self::PostBind4 | Self::PostBind6 => ProgramType::CgroupSock,
            Self::Connect4
            | Self::Connect6
            | Self::Getpeername4
            | Self::Getpeername6
            | Self::Getsockname4
            | Self::Getsockname6 => ProgramType::CgroupSockAddr,
        }
    }

    /// As the kernel's own tools write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingress => "cgroup_skb/ingress",
            Self::Egress => "cgroup_skb/egress",
            Self::SockOps => "sock_ops",
            Self::SockCreate => "cgroup/sock_create",
            Self::PostBind4 => "cgroup/post_bind4",
            Self::PostBind6 => "cgroup/post_bind6",
            Self::Connect4 => "cgroup/connect4",
            Self::Connect6 => "cgroup/connect6",
            Self::Getpeername4 => "cgroup/getpeername4",
            Self::Getpeername6 => "cgroup/getpeername6",
            Self::Getsockname4 => "cgroup/getsockname4",
            Self::Getsockname6 => "cgroup/getsockname6",
        }
    }
}

/// Kinds of maps that are probed, numbered as `enum bpf_map_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MapType {
    /// Storage in each socket.
    SocketStorage = 24,
    /// The ring that records cross.
    RingBuffer = 27,
}

/// A load that was refused, with what the verifier said.
#[derive(Debug, thiserror::Error)]
#[error("{error}{}{log}", if log.is_empty() { "" } else { ": " })]
pub struct LoadError {
    /// What the call returned.
    #[source]
    pub error: io::Error,
    /// The verifier's words, without the instructions; empty where it was not reached.
    pub log: String,
}

/// The kernel's `union bpf_attr`: zero wherever nothing was put.
#[repr(C, align(8))]
struct Attributes([u8; 144]);

impl Attributes {
    fn new() -> Self {
        Self([0; 144])
    }

    fn put(mut self, offset: usize, value: u32) -> Self {
        self.0[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn put_fd(self, offset: usize, fd: BorrowedFd<'_>) -> Self {
        // An open descriptor is not negative.
        self.put(offset, fd.as_raw_fd().cast_unsigned())
    }

    fn put_pointer<T: ?Sized>(mut self, offset: usize, to: *const T) -> Self {
        let address = to.cast::<c_void>().expose_provenance() as u64;
        self.0[offset..offset + 8].copy_from_slice(&address.to_ne_bytes());
        self
    }

    fn get(&self, offset: usize) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.0[offset..offset + 4]);
        u32::from_ne_bytes(bytes)
    }
}

/// The commands of `bpf(2)` that are used here.
#[derive(Clone, Copy)]
#[repr(i32)]
enum Command {
    MapCreate = 0,
    ProgLoad = 5,
    #[cfg(test)]
    ProgAttach = 8,
    ProgQuery = 16,
    BtfLoad = 18,
    LinkCreate = 28,
}

/// # Safety
/// Every pointer in `attributes` must be valid for the length that stands beside
/// it, for writing where the command writes, until the call returns.
unsafe fn bpf(command: Command, attributes: &mut Attributes) -> io::Result<i32> {
    // SAFETY: the kernel reads and writes at most the size given of `attributes`, which
    // is borrowed for the call; the caller vouches for the pointers inside.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as i32,
            std::ptr::from_mut(attributes),
            size_of::<Attributes>(),
        )
    };
    // The kernel returns an int; the wrapper widens it.
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

/// # Safety
/// As for [`bpf`]; and the command must be one that returns a new descriptor.
unsafe fn bpf_fd(command: Command, attributes: &mut Attributes) -> io::Result<OwnedFd> {
    // SAFETY: passed on to the caller.
    let fd = unsafe { bpf(command, attributes) }?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Loads a program. `attach` narrows the kind where the kernel asks for it.
///
/// # Errors
/// [`LoadError`], with the verifier's words where it was reached.
pub fn load(
    kind: ProgramType,
    attach: Option<AttachType>,
    instructions: &[Instruction],
) -> Result<OwnedFd, LoadError> {
    let mut log = vec![0_u8; 16 << 10];
    let first = load_once(kind, attach, instructions, None);
    match first {
        Ok(program) => Ok(program),
        // Only a refusal is worth the log, which costs a second verification.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOMEM)) => {
            Err(LoadError { error, log: String::new() })
        }
        Err(_) => load_once(kind, attach, instructions, Some(&mut log))
            .map_err(|error| LoadError { error, log: verdict(&log) }),
    }
}

fn load_once(
    kind: ProgramType,
    attach: Option<AttachType>,
    instructions: &[Instruction],
    log: Option<&mut [u8]>,
) -> io::Result<OwnedFd> {
    let count = u32::try_from(instructions.len()).map_err(io::Error::other)?;
    let mut attributes = Attributes::new()
        .put(0, kind as u32)
        .put(4, count)
        .put_pointer(8, instructions.as_ptr())
        .put_pointer(16, c"GPL".as_ptr())
        .put(68, attach.map_or(0, |attach| attach as u32));
    if let Some(log) = log {
        let length = u32::try_from(log.len()).map_err(io::Error::other)?;
        attributes = attributes.put(24, 1).put(28, length).put_pointer(32, log.as_mut_ptr());
    }
    // SAFETY: instructions and log are borrowed beyond the call, with their lengths in
    // bytes 4 and 28; the licence is a static string that ends with zero.
    unsafe { bpf_fd(Command::ProgLoad, &mut attributes) }
}

/// The lines of the verifier's log that are neither instructions nor states.
fn verdict(log: &[u8]) -> String {
    let text = log.split(|&byte| byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    let said = |line: &&str| {
        let first = line.bytes().next();
        first.is_some_and(|byte| byte.is_ascii_alphabetic())
            && !line.starts_with("processed ")
            && !line.starts_with("func#")
            && !is_state(line)
    };
    text.lines().map(str::trim).filter(said).collect::<Vec<_>>().join("; ")
}

/// `R1=ctx(id=0,off=0,imm=0) R10=fp0`
fn is_state(line: &str) -> bool {
    line.strip_prefix('R').is_some_and(|rest| {
        rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '_' || c == 'w')
            .starts_with('=')
    })
}

/// Makes a map that needs no description of its types.
///
/// # Errors
/// What the kernel says.
pub fn create_ring_buffer(bytes: u32) -> io::Result<OwnedFd> {
    let mut attributes = Attributes::new().put(0, MapType::RingBuffer as u32).put(12, bytes);
    // SAFETY: there is no pointer in these attributes.
    unsafe { bpf_fd(Command::MapCreate, &mut attributes) }
}

/// Makes a map of storage in sockets, its value 4 bytes; `flags` beyond the
/// mandatory `BPF_F_NO_PREALLOC`.
///
/// # Errors
/// What the kernel says, of the map or of the description of its types.
pub fn create_socket_storage(flags: u32) -> io::Result<OwnedFd> {
    const NO_PREALLOC: u32 = 1;
    let btf = load_btf(&integer_btf())?;
    let mut attributes = Attributes::new()
        .put(0, MapType::SocketStorage as u32)
        .put(4, 4)
        .put(8, 4)
        .put(16, NO_PREALLOC | flags)
        .put_fd(48, std::os::fd::AsFd::as_fd(&btf))
        .put(52, 1)
        .put(56, 1);
    // SAFETY: there is no pointer in these attributes.
    unsafe { bpf_fd(Command::MapCreate, &mut attributes) }
}

fn load_btf(description: &[u8]) -> io::Result<OwnedFd> {
    let length = u32::try_from(description.len()).map_err(io::Error::other)?;
    let mut attributes = Attributes::new().put_pointer(0, description.as_ptr()).put(16, length);
    // SAFETY: the description is borrowed beyond the call, its length in byte 16.
    unsafe { bpf_fd(Command::BtfLoad, &mut attributes) }
}

/// BTF with a single type: `int`, 32 bits, signed.
fn integer_btf() -> Vec<u8> {
    const STRINGS: &[u8] = b"\0int\0";
    let integer: [u32; 4] = [1, 1 << 24, 4, 1 << 24 | 32];
    let mut bytes = Vec::with_capacity(45);
    bytes.extend(0xeb9f_u16.to_ne_bytes());
    bytes.extend([1, 0]);
    for word in [24, 0, 16, 16, STRINGS.len() as u32].into_iter().chain(integer) {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(STRINGS);
    bytes
}

/// Attaches a program to a cgroup for as long as the link is held.
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN` or where another program is attached exclusively,
/// `EINVAL` before 5.7.
pub fn link(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    to: AttachType,
) -> io::Result<OwnedFd> {
    let mut attributes = Attributes::new().put_fd(0, program).put_fd(4, cgroup).put(8, to as u32);
    // SAFETY: there is no pointer in these attributes.
    unsafe { bpf_fd(Command::LinkCreate, &mut attributes) }
}

/// Attaches a program to a cgroup in the old way, alone (flags 0) and until the
/// cgroup goes: what others do and the agent has to explain.
#[cfg(test)]
pub(crate) fn attach_exclusively(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    to: AttachType,
) -> io::Result<()> {
    let mut attributes = Attributes::new().put_fd(0, cgroup).put_fd(4, program).put(8, to as u32);
    // SAFETY: there is no pointer in these attributes.
    unsafe { bpf(Command::ProgAttach, &mut attributes) }.map(|_| ())
}

/// The numbers of the programs attached to this very cgroup, and how
/// (`BPF_F_ALLOW_OVERRIDE` 1, `BPF_F_ALLOW_MULTI` 2).
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN`, `EINVAL` where the kernel has no such place.
pub fn query(cgroup: BorrowedFd<'_>, at: AttachType) -> io::Result<(Vec<u32>, u32)> {
    // The kernel allows 64 programs at one place of one cgroup.
    let mut ids = [0_u32; 64];
    let mut attributes = Attributes::new()
        .put_fd(0, cgroup)
        .put(4, at as u32)
        .put_pointer(16, ids.as_mut_ptr())
        .put(24, 64);
    // SAFETY: `ids` lives beyond the call and holds the 64 numbers that byte 24 states.
    unsafe { bpf(Command::ProgQuery, &mut attributes) }?;
    let count = (attributes.get(24) as usize).min(ids.len());
    Ok((ids[..count].to_vec(), attributes.get(12)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_leaves_instructions_and_states_out() {
        let log = b"func#0 @0\n0: R1=ctx(id=0,off=0,imm=0) R10=fp0\n0: (85) call unknown#122\n\
            R1=ctx() R10=fp0\nunknown func bpf_get_netns_cookie#122\n\
            processed 1 insns (limit 1000000) max_states_per_insn 0\n\0garbage";
        assert_eq!(verdict(log), "unknown func bpf_get_netns_cookie#122");
        assert_eq!(verdict(b""), "");
        assert_eq!(verdict(b"R0 !read_ok\n"), "R0 !read_ok");
    }

    #[test]
    fn the_verifier_judges_what_is_loaded() {
        match load(ProgramType::CgroupSkb, Some(AttachType::Egress), &PASS) {
            Err(refused) if refused.error.raw_os_error() == Some(libc::EPERM) => {
                crate::requirement::skipped("loading programs takes privileges");
                return;
            }
            loaded => drop(loaded.expect("return 1 is a valid program")),
        }
        let exit_alone = &PASS[1..];
        let refused = load(ProgramType::CgroupSkb, Some(AttachType::Egress), exit_alone)
            .expect_err("a program without a result is refused");
        assert!(refused.log.contains("R0 !read_ok"), "{refused}");
        create_ring_buffer(4096).expect("since 5.8");
        create_socket_storage(0).expect("since 5.2");
    }
}
