//! What this kernel can do, learned by doing it: programs are loaded and attached,
//! maps made, files read, and all of it taken back.
//!
//! **Never concluded from a version number:** distributions move features both ways.

mod probe;

use std::fmt;

use serde::Serialize;

use crate::kernel::bpf::AttachType;
use crate::kernel::privilege::MemoryLock;

/// Whether something is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "reason", rename_all = "snake_case")]
pub enum Support {
    /// It worked.
    Present,
    /// The kernel does not have it, or refuses it whoever asks.
    Absent(String),
    /// It could not be tried; the reason says what is missing to try.
    Unknown(String),
}

impl Support {
    /// Whether it can be relied on: unknown is no.
    #[must_use]
    pub fn is_present(&self) -> bool {
        *self == Self::Present
    }

    /// Why not; nothing where it is there.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Present => None,
            Self::Absent(reason) | Self::Unknown(reason) => Some(reason),
        }
    }
}

impl fmt::Display for Support {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present => f.write_str("present"),
            Self::Absent(reason) => write!(f, "absent: {reason}"),
            Self::Unknown(reason) => write!(f, "unknown: {reason}"),
        }
    }
}

/// What this kernel can do, and what it does not let this process do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Features {
    /// The kernel's release, as `6.1.0-50-cloud-amd64`.
    pub release: String,
    /// Each place at the cgroup root, in the order of [`AttachType::ALL`].
    pub hooks: Vec<Hook>,
    /// Each tracepoint that the agent reads, in the order of [`TRACEPOINTS`](super::events::TRACEPOINTS).
    pub tracepoints: Vec<Tracepoint>,
    /// Helpers that not every kernel gives to every kind of program.
    pub helpers: Helpers,
    /// The ring that records cross (5.8).
    pub ring_buffer: Support,
    /// Storage in sockets that accepted sockets inherit (5.2).
    pub socket_storage: Support,
    /// Programs whose attachment ends with their owner (5.7).
    pub links: Support,
    /// The limit on locked memory.
    pub memory_lock: MemoryLock,
    /// eBPF objects count against that limit (before 5.11); `None` where it could not be tried.
    pub memory_lock_counts: Option<bool>,
    /// What the kernel keeps even from root.
    pub lockdown: Lockdown,
    /// How programs run.
    pub jit: Jit,
    /// Programs on arbitrary kernel functions; nothing here needs them.
    pub kprobes: Support,
    /// Programs on functions of libraries, for encrypted traffic.
    pub uprobes: Support,
    /// `kernel.unprivileged_bpf_disabled`: 0 allowed, 1 and 2 not; `None` where hidden.
    pub unprivileged_bpf_disabled: Option<u8>,
    /// `net.core.optmem_max` in bytes: socket storage draws on it; `None` where hidden.
    pub optmem_max: Option<u32>,
}

/// One place at the cgroup root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hook {
    /// Which.
    pub attach_type: AttachType,
    /// A program for it loads.
    pub load: Support,
    /// It attaches at the root.
    pub attach: Support,
}

/// One tracepoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tracepoint {
    /// As `tcp`.
    pub category: &'static str,
    /// As `tcp_destroy_sock`.
    pub name: &'static str,
    /// Its format has the field that is read, and a program attaches.
    pub attach: Support,
}

/// Helpers that not every kernel gives to every kind of program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Helpers {
    /// `bpf_get_netns_cookie` in `cgroup_skb`.
    pub packet_netns_cookie: Support,
    /// `bpf_get_current_pid_tgid` in `cgroup_skb` (6.12): the sender of a segment.
    pub packet_current_task: Support,
    /// `bpf_get_netns_cookie` in `sock_ops` (5.15).
    pub sock_ops_netns_cookie: Support,
    /// `bpf_get_current_pid_tgid` in `sock_ops` (6.12).
    pub sock_ops_current_task: Support,
    /// `bpf_get_current_pid_tgid` in `cgroup/sock` programs.
    pub socket_current_task: Support,
    /// `bpf_get_current_comm` in `cgroup/sock` programs (5.7).
    pub socket_comm: Support,
    /// `bpf_get_current_pid_tgid` in `cgroup/connect` and its like.
    pub address_current_task: Support,
    /// `bpf_get_current_comm` in `cgroup/connect` and its like (5.7).
    pub address_comm: Support,
    /// `bpf_probe_read_kernel_str` in tracepoints: an event's text of variable length.
    pub tracepoint_text: Support,
    /// `bpf_loop` in `cgroup_skb` (5.17).
    pub packet_loop: Support,
}

/// What the kernel keeps even from root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lockdown {
    /// Nothing, or the kernel was built without lockdown.
    None,
    /// Changing the kernel.
    Integrity,
    /// Reading the kernel's memory, too: event texts of variable length are lost.
    Confidentiality,
    /// It was not readable.
    Unknown,
}

/// How programs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Jit {
    /// Interpreted: several times slower.
    Off,
    /// Compiled to machine code.
    On,
    /// It was not readable (not root, or not the host's network namespace).
    Unknown,
}

/// What the loader freezes into the programs, so that the verifier prunes every
/// branch that this kernel cannot run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Switches {
    /// `cgroup_skb` may ask for the network namespace's cookie.
    pub netns_cookie: bool,
    /// `sock_ops` may ask for the network namespace's cookie.
    pub sock_ops_netns_cookie: bool,
    /// `cgroup_skb` may ask for the current task.
    pub skb_current_task: bool,
    /// `sock_ops` may ask for the current task.
    pub sock_ops_current_task: bool,
    /// `cgroup/sock`, `cgroup/connect` and their like may ask for the task's name.
    pub socket_comm: bool,
    /// Tracepoints may copy texts of variable length.
    pub tracepoint_text: bool,
    /// `cgroup_skb` may call `bpf_loop`.
    pub packet_loop: bool,
}

impl Features {
    /// Tries everything. Takes some tenths of a second; attaches programs that let
    /// everything pass to the cgroup root for an instant each.
    ///
    /// Also lifts the limit on locked memory, without which nothing can be tried
    /// before 5.11.
    #[must_use]
    pub fn probe() -> Self {
        probe::probe()
    }

    /// What the loader freezes into the programs. What is unknown is off.
    #[must_use]
    pub fn switches(&self) -> Switches {
        let helpers = &self.helpers;
        Switches {
            netns_cookie: helpers.packet_netns_cookie.is_present(),
            sock_ops_netns_cookie: helpers.sock_ops_netns_cookie.is_present(),
            skb_current_task: helpers.packet_current_task.is_present(),
            sock_ops_current_task: helpers.sock_ops_current_task.is_present(),
            socket_comm: helpers.socket_comm.is_present() && helpers.address_comm.is_present(),
            tracepoint_text: helpers.tracepoint_text.is_present(),
            packet_loop: helpers.packet_loop.is_present(),
        }
    }

    /// What was found at one place.
    #[must_use]
    pub fn hook(&self, attach_type: AttachType) -> Option<&Hook> {
        self.hooks.iter().find(|hook| hook.attach_type == attach_type)
    }

    /// What was found of one tracepoint.
    #[must_use]
    pub fn tracepoint(&self, name: &str) -> Option<&Tracepoint> {
        self.tracepoints.iter().find(|tracepoint| tracepoint.name == name)
    }
}

#[cfg(test)]
mod tests;
