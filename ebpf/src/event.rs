//! The records that cross the ring buffer, byte for byte as the kernel writes them.
//!
//! Every record begins with a [`Header`]; [`Header::kind`] says which of the other
//! types stands there and [`Header::length`] how many loose bytes follow it (a
//! message's head, an answer of the name service, a file name).
//! **No record holds an implicit padding byte**: what is not set is zero, never
//! kernel memory. Times are nanoseconds of `CLOCK_MONOTONIC`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

mod frames;
mod message;

pub use frames::*;
pub use message::*;

/// What a record is; the values are part of the contract between both halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// [`Opened`]: a connection was established, or first seen by a late agent.
    Opened = 1,
    /// [`Redirected`]: packets of the connection carry other addresses than its socket.
    Redirected = 2,
    /// [`OwnerChanged`]: another process accepted or took over the socket.
    OwnerChanged = 3,
    /// [`Statistics`] of a connection that goes on.
    Statistics = 4,
    /// [`Statistics`] at a connection's end; [`Statistics::reason`] says how it ended.
    Closed = 5,
    /// [`Head`]: the head of a message, or a piece of it.
    Head = 6,
    /// [`End`]: the last byte of a message whose head ended in an earlier packet.
    End = 7,
    /// [`Shut`]: a FIN or RST passed in [`Header::direction`].
    Shut = 8,
    /// [`Desynchronised`]: message boundaries were lost; open messages will not be completed.
    Desynchronised = 9,
    /// [`Exec`]: a process became another program; the loose bytes are its file name.
    Exec = 10,
    /// [`Exit`]: a process ended.
    Exit = 11,
    /// [`NameAnswer`]: the loose bytes are a DNS message that a local socket received.
    NameAnswer = 12,
    /// [`Frames`]: frames of HTTP/2.
    Frames = 13,
    /// [`Waited`]: a stream of HTTP/2 that would have been counted in the kernel.
    Waited = 14,
}

impl Kind {
    /// The kind that `value` stands for, if any.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::Opened,
            2 => Self::Redirected,
            3 => Self::OwnerChanged,
            4 => Self::Statistics,
            5 => Self::Closed,
            6 => Self::Head,
            7 => Self::End,
            8 => Self::Shut,
            9 => Self::Desynchronised,
            10 => Self::Exec,
            11 => Self::Exit,
            12 => Self::NameAnswer,
            13 => Self::Frames,
            14 => Self::Waited,
            _ => return None,
        })
    }
}

/// [`Header::direction`]: the socket receives.
pub const INGRESS: u8 = 0;
/// [`Header::direction`]: the socket sends.
pub const EGRESS: u8 = 1;

/// What every record begins with.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// When the hook ran.
    pub time_ns: u64,
    /// The kernel's socket cookie: unique until reboot, in every network namespace. 0 where no socket is meant.
    pub cookie: u64,
    /// A [`Kind`].
    pub kind: u8,
    /// [`INGRESS`] or [`EGRESS`], where the record concerns packets.
    pub direction: u8,
    /// `HEAD_*` for [`Head`], `FRAMES_*` for [`Frames`], `SHUT_*` for [`Shut`], `OPENED_*` for [`Opened`].
    pub flags: u16,
    /// Records of this connection that found no room in the ring since its last one.
    pub lost: u16,
    /// Loose bytes behind the record's fixed part.
    pub length: u16,
}

/// Where [`Header::flags`] of [`Head`] and [`Frames`] say how many connections this one stands
/// for: the upper four bits are an exponent of two, see [`crate::sample`].
pub const WEIGHT_SHIFT: u32 = 12;

impl Header {
    /// How many connections this one stands for, as an exponent of two; of [`Head`] and
    /// [`Frames`].
    #[inline(always)]
    #[must_use]
    pub const fn weight(&self) -> u8 {
        (self.flags >> WEIGHT_SHIFT) as u8
    }
}

/// An address and port; IPv4 as IPv4-mapped IPv6 (`::ffff:a.b.c.d`). All zero: unknown.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Endpoint {
    /// In network byte order.
    pub address: [u8; 16],
    /// In host byte order.
    pub port: u16,
    /// Zero.
    pub pad: u16,
}

/// The process behind a socket, as the hook saw it. All zero: unknown.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Owner {
    /// Thread group id in the initial pid namespace.
    pub pid: u32,
    /// User id in the initial user namespace.
    pub uid: u32,
    /// Name of the task, NUL-padded.
    pub comm: [u8; 16],
}

/// [`Header::flags`] of [`Opened`]: the connection is older than the agent.
pub const OPENED_LATE: u16 = 1;
/// [`Header::flags`] of [`Opened`]: never established; [`Statistics::reason`] of the `Closed` record that follows says why.
pub const OPENED_FAILED: u16 = 2;

/// [`Opened::role`]: not known (a connection older than the agent).
pub const ROLE_UNKNOWN: u8 = 0;
/// [`Opened::role`]: this socket connected.
pub const ROLE_CLIENT: u8 = 1;
/// [`Opened::role`]: this socket was accepted.
pub const ROLE_SERVER: u8 = 2;

/// A connection, once per socket, before any other record of it.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Opened {
    /// See [`Header`]; flags `OPENED_*`.
    pub header: Header,
    /// cgroup v2 id of the socket (the inode of its directory). 0: unknown.
    pub cgroup: u64,
    /// Network namespace cookie. 0: the kernel does not tell here.
    pub netns: u64,
    /// From SYN to established, on the connecting side. 0: unknown.
    pub connect_ns: u64,
    /// This side of the socket.
    pub local: Endpoint,
    /// The other side as the socket knows it.
    pub remote: Endpoint,
    /// What the program asked for in `connect()`, before any translation.
    pub asked: Endpoint,
    /// The process that made the socket, or whose listener accepted it.
    pub owner: Owner,
    /// `ROLE_*`.
    pub role: u8,
    /// Zero.
    pub pad: [u8; 3],
}

/// Packets of the connection carry these addresses, seen from this socket.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Redirected {
    /// See [`Header`].
    pub header: Header,
    /// The socket's side in the packet.
    pub local: Endpoint,
    /// The other side in the packet.
    pub remote: Endpoint,
}

/// The process that holds the socket from now on.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct OwnerChanged {
    /// See [`Header`].
    pub header: Header,
    /// The process.
    pub owner: Owner,
}

/// [`Statistics::reason`]: the connection goes on.
pub const CLOSE_NONE: u8 = 0;
/// Both sides closed in order.
pub const CLOSE_FIN: u8 = 1;
/// A reset arrived.
pub const CLOSE_RESET_RECEIVED: u8 = 2;
/// A reset was sent.
pub const CLOSE_RESET_SENT: u8 = 3;
/// Nothing came: retransmissions or keep-alives ran out.
pub const CLOSE_TIMEOUT: u8 = 4;
/// `connect()` was answered by a reset.
pub const CLOSE_REFUSED: u8 = 5;
/// `connect()` was not answered, or given up.
pub const CLOSE_UNANSWERED: u8 = 6;
/// The socket vanished; how is not known.
pub const CLOSE_UNKNOWN: u8 = 7;

/// TCP figures since the connection began, from `bpf_tcp_sock`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Statistics {
    /// See [`Header`].
    pub header: Header,
    /// Payload bytes received in order.
    pub bytes_received: u64,
    /// Payload bytes that the other side acknowledged.
    pub bytes_acked: u64,
    /// Segments received.
    pub segments_in: u32,
    /// Segments sent.
    pub segments_out: u32,
    /// Segments sent again.
    pub retransmits: u32,
    /// Smoothed round-trip time, microseconds. 0: no sample.
    pub srtt_us: u32,
    /// Smallest round-trip time of the kernel's window, microseconds. 0: no sample.
    pub min_rtt_us: u32,
    /// `CLOSE_*`.
    pub reason: u8,
    /// Zero.
    pub pad: [u8; 3],
    /// Of a `Closed` record.
    pub ended: Ended,
}

/// What a connection had begun when it ended, as far as it spoke HTTP. Where not even this
/// finds room in the ring it waits in a map for the agent to fetch it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Ended {
    /// Requests that began: of HTTP/1 in the epoch, of HTTP/2 by the number of the last
    /// stream.
    pub requests: u32,
    /// See [`Head::epoch`].
    pub epoch: u32,
    /// How many of them records told of, the earlier ones of each included. Of HTTP/2: how
    /// many were counted in the kernel ([`crate::streams`]).
    pub told: u32,
    /// Records of the messages that found no room since the last one that did.
    pub lost: u16,
    /// Of HTTP: 1 or 2.
    pub version: u8,
    /// Zero.
    pub pad: u8,
}

/// A process became another program.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Exec {
    /// See [`Header`]; the loose bytes are the file name as given to `execve`.
    pub header: Header,
    /// The process.
    pub owner: Owner,
}

/// A process ended.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Exit {
    /// See [`Header`].
    pub header: Header,
    /// Thread group id.
    pub pid: u32,
    /// Zero.
    pub pad: u32,
}

/// A DNS message that arrived at a local socket from port 53.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NameAnswer {
    /// See [`Header`]; the loose bytes are the message, cut at [`crate::limits::NAME_ANSWER`].
    pub header: Header,
    /// cgroup v2 id of the socket that asked.
    pub cgroup: u64,
}

/// Why a record, or what it would have said, is missing: an index of the kernel's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Loss {
    /// The ring had no room.
    RingFull = 0,
    /// No socket storage could be had (memory, `optmem_max`).
    Storage = 1,
    /// A packet could not be read.
    Unreadable = 2,
    /// The tail call to the next part of a packet failed.
    TailCall = 3,
    /// A first request that came to the listener found no room to wait in.
    Held = 4,
}

/// How many [`Loss`] causes there are.
pub const LOSSES: u32 = 5;
