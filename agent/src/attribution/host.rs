//! The outside world as this stage sees it: processes, cgroups and runtimes' files.
//!
//! The stage itself reads nothing; it asks a [`Host`] and only on an event. The real
//! one is [`real::RealHost`], tests bring their own.

pub mod conntrack;
pub mod real;

use std::io;
use std::net::SocketAddr;

use netlink_packet_core::ErrorMessage;

use super::container::ContainerName;
use super::translation::Translation;

/// What `/proc/<pid>` tells of a process that lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessRecord {
    /// When the process was forked, `CLOCK_MONOTONIC`, rounded down to [`START_TICK_NS`].
    pub started_ns: u64,
    /// When this was read, `CLOCK_MONOTONIC`.
    pub read_ns: u64,
    /// Name of its main task.
    pub comm: String,
    /// Path of its executable. `None`: it ended already, or has none (a kernel thread).
    pub executable: Option<String>,
    /// Its command line, bounded.
    pub arguments: Vec<String>,
    /// Its cgroup paths, that of v2 first, `/` left out.
    pub cgroups: Vec<String>,
    /// Id of its v2 cgroup; 0: not known.
    pub cgroup_id: u64,
}

/// What the kernel refused, by a message of netlink. Any number may stand there; the library's
/// own reading of it panics at the lowest.
pub(super) fn refusal(message: &ErrorMessage) -> io::Error {
    io::Error::from_raw_os_error(message.raw_code().saturating_abs())
}

/// Precision of [`ProcessRecord::started_ns`].
pub const START_TICK_NS: u64 = 10_000_000;

/// Facts about the host, read when an event asks for them.
pub trait Host: Send {
    /// The process that has `pid` now.
    fn process(&self, pid: u32) -> Option<ProcessRecord>;

    /// Every cgroup of the v2 hierarchy, id and path, at most `bound`.
    fn cgroups(&self, bound: usize) -> Vec<(u64, String)>;

    /// What the runtimes' files call container `id`.
    fn container_name(&self, id: &str) -> Option<ContainerName>;

    /// The processes that hold a listener on `local`.
    fn listener_holders(&self, local: SocketAddr) -> Vec<u32>;

    /// What this node's connection tracking holds of a TCP connection whose packets it sees
    /// go from `local` to `remote`, whichever of the two connected; `None` where it holds
    /// nothing, or cannot be asked. To be answered at once.
    fn translation(&self, local: SocketAddr, remote: SocketAddr) -> Option<Translation> {
        let _ = (local, remote);
        None
    }
}
