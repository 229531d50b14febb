//! What this process may do, what the work takes, and how to give up the rest.
//!
//! Capabilities belong to **threads**: raising and dropping act on the calling
//! thread and on those that it starts afterwards.

use std::fs;
use std::io;

use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

/// Something the agent does that needs a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// Create maps and load programs.
    LoadPrograms,
    /// Attach programs to a cgroup, and load those that see packets.
    AttachToCgroup,
    /// Attach to tracepoints and uprobes.
    Trace,
    /// Look at the executables, arguments and descriptors of other users' processes.
    ReadProcesses,
    /// Enter other network namespaces, mount privately, list loaded programs.
    EnterNamespaces,
}

impl Need {
    /// All of them, the indispensable first.
    pub const ALL: [Self; 5] = [
        Self::LoadPrograms,
        Self::AttachToCgroup,
        Self::Trace,
        Self::ReadProcesses,
        Self::EnterNamespaces,
    ];

    /// The capabilities that it takes: all of one of these sets.
    #[must_use]
    pub fn alternatives(self) -> &'static [&'static [Capability]] {
        use Capability as C;
        match self {
            // CAP_SYS_ADMIN stood for both before 5.8 and still does.
            Self::LoadPrograms => &[&[C::CAP_BPF], &[C::CAP_SYS_ADMIN]],
            Self::AttachToCgroup => &[&[C::CAP_NET_ADMIN], &[C::CAP_SYS_ADMIN]],
            Self::Trace => &[&[C::CAP_PERFMON], &[C::CAP_SYS_ADMIN]],
            Self::ReadProcesses => &[&[C::CAP_SYS_PTRACE, C::CAP_DAC_READ_SEARCH]],
            Self::EnterNamespaces => &[&[C::CAP_SYS_ADMIN]],
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
    #[error("cannot {action} capabilities: {source}; start without dropping them")]
    Capabilities {
        /// `read the effective`, `drop from the bounding set`, ...
        action: &'static str,
        /// What the system call said.
        source: CapsError,
    },
    /// The flag that forbids gaining privileges was refused.
    #[error("cannot forbid new privileges (PR_SET_NO_NEW_PRIVS): {0}")]
    NoNewPrivileges(#[source] io::Error),
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

/// Threads of this process. More than one means that [`drop_to`] reaches not all.
#[must_use]
pub fn threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
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

/// Gives up every capability of the calling thread that is not in `kept`, for good:
/// neither this thread, nor a thread or program that it starts, can get them back.
///
/// Call it before other threads start (or in each of them as it starts).
///
/// # Errors
/// [`PrivilegeError`]; some may have been dropped by then, none was gained.
pub fn drop_to(kept: &[Capability]) -> Result<(), PrivilegeError> {
    let failed = |action| move |source| PrivilegeError::Capabilities { action, source };
    let held = caps::read(None, CapSet::Permitted).map_err(failed("read the permitted"))?;
    let kept: CapsHashSet = kept.iter().copied().filter(|one| held.contains(one)).collect();
    // First the bounding set: shrinking it takes CAP_SETPCAP, which goes with the rest.
    if held.contains(&Capability::CAP_SETPCAP) {
        let bounding = caps::read(None, CapSet::Bounding).map_err(failed("read the bounding"))?;
        for one in bounding.difference(&kept) {
            caps::drop(None, CapSet::Bounding, *one)
                .map_err(failed("drop from the bounding set of"))?;
        }
    }
    caps::clear(None, CapSet::Ambient).map_err(failed("clear the ambient"))?;
    caps::set(None, CapSet::Effective, &kept).map_err(failed("drop the effective"))?;
    caps::set(None, CapSet::Permitted, &kept).map_err(failed("drop the permitted"))?;
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new())
        .map_err(failed("drop the inheritable"))?;
    rustix::thread::set_no_new_privs(true)
        .map_err(|error| PrivilegeError::NoNewPrivileges(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_need_is_met_by_any_of_its_sets_and_by_nothing_less() {
        let set = |list: &[Capability]| list.iter().copied().collect::<CapsHashSet>();
        assert!(Need::Trace.is_met_by(&set(&[Capability::CAP_PERFMON])));
        assert!(Need::Trace.is_met_by(&set(&[Capability::CAP_SYS_ADMIN])));
        assert!(!Need::Trace.is_met_by(&set(&[Capability::CAP_BPF])));
        assert!(!Need::ReadProcesses.is_met_by(&set(&[Capability::CAP_SYS_PTRACE])));
        assert!(Need::ALL.iter().all(|need| !need.is_met_by(&CapsHashSet::new())));
        assert_eq!(Need::ReadProcesses.remedy(), "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH");
    }

    #[test]
    fn the_unit_grants_what_is_needed_and_nothing_else() {
        let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/systemd/meshtap.service");
        let unit = fs::read_to_string(unit).expect("the unit is part of the repository");
        let granted: Vec<_> =
            unit.lines().filter_map(|line| line.strip_prefix("CapabilityBoundingSet=")).collect();
        let [granted] = granted.as_slice() else { panic!("one set is granted: {granted:?}") };
        let granted: CapsHashSet =
            granted.split(' ').map(|name| name.parse().expect("a capability")).collect();
        assert_eq!(granted, needed());
    }

    fn needed() -> CapsHashSet {
        let narrowest = |need: Need| need.alternatives().first().into_iter().copied().flatten();
        Need::ALL.into_iter().flat_map(narrowest).copied().collect()
    }

    #[test]
    fn the_chart_grants_what_is_needed_and_nothing_else() {
        let schema =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/helm/meshtap/values.schema.json");
        let schema = fs::read_to_string(schema).expect("the chart is part of the repository");
        let schema: serde_json::Value = serde_json::from_str(&schema).expect("is JSON");
        let granted = &schema["properties"]["capabilities"]["default"];
        let granted = granted.as_array().expect("a list").iter();
        let named = |name: &serde_json::Value| format!("CAP_{}", name.as_str().unwrap_or_default());
        let granted: CapsHashSet =
            granted.map(|name| named(name).parse().expect("a capability")).collect();
        assert_eq!(granted, needed());
    }

    #[test]
    fn the_limit_on_locked_memory_never_falls() {
        let before = getrlimit(Resource::Memlock).current;
        let after = raise_memory_lock();
        assert!(after.unlimited || after.bytes >= before, "{before:?} became {after:?}");
    }

    #[test]
    fn dropping_leaves_what_was_kept_and_nothing_else() {
        let held = Privileges::held().expect("Linux has capabilities");
        if !held.effective.contains(&Capability::CAP_NET_ADMIN) {
            eprintln!("skipped: dropping capabilities takes having some");
            return;
        }
        // A thread of its own: the others keep what they have.
        let dropped = std::thread::spawn(|| {
            drop_to(&[Capability::CAP_NET_ADMIN]).expect("giving up is allowed");
            let sets =
                [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable, CapSet::Bounding]
                    .map(|set| caps::read(None, set).expect("readable"));
            let again = caps::raise(None, CapSet::Permitted, Capability::CAP_SYS_ADMIN);
            (sets, again.is_err())
        });
        let ([effective, permitted, inheritable, bounding], refused) =
            dropped.join().expect("the thread ends");
        let kept: CapsHashSet = [Capability::CAP_NET_ADMIN].into_iter().collect();
        assert_eq!((&effective, &permitted), (&kept, &kept));
        assert!(inheritable.is_empty() && refused);
        if held.effective.contains(&Capability::CAP_SETPCAP) {
            assert_eq!(bounding, kept);
        }
        assert_eq!(Privileges::held().expect("still"), held, "other threads keep theirs");
    }
}
