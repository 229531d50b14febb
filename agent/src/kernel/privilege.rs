//! What this process may do, what the work takes, and how to give up the rest.
//!
//! Capabilities belong to **threads**: raising and dropping act on the calling
//! thread and on those that it starts afterwards. So does the user, as far as the kernel
//! is concerned.

mod drop;

use std::io;

use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet};
pub use drop::{Kept, give_up, works_without};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

/// Which threads of a running agent still hold what something takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// None: it is done once, at the start.
    Nobody,
    /// The one that reads the kernel's records, and no other.
    Reader,
    /// All.
    Everyone,
}

/// Something the agent does that needs a capability. **The one table of privileges**: what
/// is asked for at the start, what is kept, the unit and the chart all follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// Create maps and load programs.
    LoadPrograms,
    /// Attach programs to a cgroup, and load those that see packets.
    AttachToCgroup,
    /// Attach to tracepoints and uprobes.
    Trace,
    /// Look at the executables, arguments and descriptors of other users' processes, and at
    /// the container runtimes' files.
    ReadProcesses,
    /// Ask the connection tracking who stands behind an address, and whether the programs
    /// are still attached.
    AskNetwork,
    /// Look into maps, where the kernel asks for it even of who has them open (before 5.19,
    /// unless any user may load programs).
    ReadMaps,
    /// Read the token of a service account again when it is renewed.
    ReadTokens,
    /// Enter other network namespaces, mount privately, list loaded programs.
    EnterNamespaces,
    /// Give up the rest: become another user, empty the bounding set.
    GiveUp,
}

impl Need {
    /// All of them, the indispensable first.
    pub const ALL: [Self; 9] = [
        Self::LoadPrograms,
        Self::AttachToCgroup,
        Self::Trace,
        Self::ReadProcesses,
        Self::AskNetwork,
        Self::ReadMaps,
        Self::ReadTokens,
        Self::EnterNamespaces,
        Self::GiveUp,
    ];

    /// Who holds it once the agent runs.
    #[must_use]
    pub fn holder(self) -> Holder {
        match self {
            Self::LoadPrograms
            | Self::AttachToCgroup
            | Self::Trace
            | Self::EnterNamespaces
            | Self::GiveUp => Holder::Nobody,
            Self::ReadProcesses | Self::AskNetwork | Self::ReadMaps => Holder::Reader,
            Self::ReadTokens => Holder::Everyone,
        }
    }

    /// The capabilities that it takes: all of one of these sets.
    #[must_use]
    pub fn alternatives(self) -> &'static [&'static [Capability]] {
        use Capability as C;
        match self {
            // CAP_SYS_ADMIN stood for both before 5.8 and still does.
            Self::LoadPrograms | Self::ReadMaps => &[&[C::CAP_BPF], &[C::CAP_SYS_ADMIN]],
            Self::AttachToCgroup => &[&[C::CAP_NET_ADMIN], &[C::CAP_SYS_ADMIN]],
            Self::AskNetwork => &[&[C::CAP_NET_ADMIN]],
            Self::ReadTokens => &[&[C::CAP_DAC_READ_SEARCH]],
            Self::Trace => &[&[C::CAP_PERFMON], &[C::CAP_SYS_ADMIN]],
            Self::ReadProcesses => &[&[C::CAP_SYS_PTRACE, C::CAP_DAC_READ_SEARCH]],
            Self::EnterNamespaces => &[&[C::CAP_SYS_ADMIN]],
            Self::GiveUp => &[&[C::CAP_SETUID, C::CAP_SETGID, C::CAP_SETPCAP]],
        }
    }

    /// Whether a set of capabilities is enough.
    #[must_use]
    pub fn is_met_by(self, held: &CapsHashSet) -> bool {
        self.alternatives().iter().any(|set| set.iter().all(|one| held.contains(one)))
    }

    /// The narrowest capabilities that are enough, as they are written in a unit or a pod.
    #[must_use]
    pub fn remedy(self) -> String {
        let names: Vec<_> = self
            .alternatives()
            .first()
            .into_iter()
            .flat_map(|set| set.iter().map(ToString::to_string))
            .collect();
        names.join(" and ")
    }
}

/// What this process holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Privileges {
    /// The calling thread's effective capabilities.
    pub effective: CapsHashSet,
    /// The calling thread's effective user is root.
    pub root: bool,
}

/// A limit on locked memory, after raising it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryLock {
    /// Bytes that may be locked; `None` for no limit.
    pub bytes: Option<u64>,
    /// What was wanted was granted.
    pub unlimited: bool,
}

/// Why privileges are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// The kernel did not tell or did not take capabilities.
    #[error("cannot {action} capabilities: {source}")]
    Capabilities {
        /// `read the effective`, `drop from the bounding set`, ...
        action: &'static str,
        /// What the system call said.
        source: CapsError,
    },
    /// The flag that forbids gaining privileges was refused.
    #[error("cannot forbid new privileges (PR_SET_NO_NEW_PRIVS): {0}")]
    NoNewPrivileges(#[source] io::Error),
    /// Another user was refused.
    #[error("cannot become user {user}: {source}")]
    User {
        /// Which.
        user: u32,
        /// What the system call said.
        source: io::Error,
    },
}

impl Privileges {
    /// Those of the calling thread.
    ///
    /// # Errors
    /// Where the kernel has no capabilities or hides them.
    pub fn held() -> Result<Self, PrivilegeError> {
        let effective = caps::read(None, CapSet::Effective).map_err(|source| {
            PrivilegeError::Capabilities { action: "read the effective", source }
        })?;
        Ok(Self { effective, root: rustix::process::geteuid().is_root() })
    }

    /// Whether this is enough for one thing.
    #[must_use]
    pub fn meets(&self, need: Need) -> bool {
        need.is_met_by(&self.effective)
    }
}

/// Lifts the limit on locked memory that eBPF objects are counted against before
/// 5.11; without `CAP_SYS_RESOURCE` only up to the hard limit.
#[must_use]
pub fn raise_memory_lock() -> MemoryLock {
    let unlimited = Rlimit { current: None, maximum: None };
    if setrlimit(Resource::Memlock, unlimited).is_err() {
        let limit = getrlimit(Resource::Memlock);
        // Refused only where the kernel refuses everything: what then holds is read below.
        let _ = setrlimit(Resource::Memlock, Rlimit { current: limit.maximum, ..limit });
    }
    let bytes = getrlimit(Resource::Memlock).current;
    MemoryLock { bytes, unlimited: bytes.is_none() }
}

#[cfg(test)]
mod tests;
