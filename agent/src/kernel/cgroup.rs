//! Finds the true root of the cgroup v2 hierarchy: the only place whose programs
//! see every socket of the host.
//!
//! **Never attaches to a subtree unknowingly:** a directory is believed to be the
//! root when its inode is 1, not because of where it is mounted.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::kernel::mount::{self, Mount};

/// The inode that the kernel gives to the root of every hierarchy, and to nothing else.
const ROOT_INODE: u64 = 1;
/// The file system type of version 2.
const CGROUP2: &str = "cgroup2";
/// The number behind `/proc/<pid>/ns/cgroup` of the namespace that boots.
const FIRST_NAMESPACE: &str = "cgroup:[4026531835]";

/// The root of the cgroup v2 hierarchy, open.
#[derive(Debug)]
pub struct CgroupRoot {
    /// What programs are attached to; closing it ends nothing that a link holds.
    pub directory: OwnedFd,
    /// Where it is mounted; `None` where only this process has it.
    pub path: Option<PathBuf>,
    /// The hierarchy was mounted nowhere, so every process sits in its root: owners
    /// of sockets then come from processes, not from cgroups.
    pub mounted_by_us: bool,
}

impl AsFd for CgroupRoot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// Why there is no root to attach to, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// `/proc` does not tell what is mounted.
    #[error("cannot read /proc/thread-self/mountinfo: {0}; {remedy}", remedy = self.remedy())]
    Mounts(#[source] io::Error),
    /// All that is reachable is a part of the hierarchy.
    #[error(
        "cgroup v2 is reachable only from {seen} downwards{}, so sockets outside of it would be \
         missed; {}", if *namespaced { " (cgroup namespace)" } else { "" }, self.remedy()
    )]
    Subtree {
        /// The directory that was taken for the root, or `a private mount`.
        seen: String,
        /// This process is in a cgroup namespace.
        namespaced: bool,
    },
    /// It is mounted nowhere, and this process may not mount it.
    #[error("cgroup v2 is not mounted and mounting it failed: {0}; {remedy}", remedy = self.remedy())]
    NotMounted(#[source] io::Error),
    /// The kernel was built without it.
    #[error("this kernel has no cgroup v2: {0}; {remedy}", remedy = self.remedy())]
    NoKernelSupport(#[source] io::Error),
}

impl CgroupError {
    /// What to do about it; a part of the error's own text.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Mounts(_) => "mount /proc where the agent runs",
            Self::Subtree { .. } => {
                "give the agent the host's hierarchy: in Kubernetes mount the hostPath \
                 /sys/fs/cgroup, with docker or podman use --cgroupns=host (or -v \
                 /sys/fs/cgroup:/host/sys/fs/cgroup:ro)"
            }
            Self::NotMounted(_) => {
                "run as root (CAP_SYS_ADMIN), or mount it once: mkdir -p /run/cgroup2 && mount -t \
                 cgroup2 none /run/cgroup2"
            }
            Self::NoKernelSupport(_) => {
                "use a kernel with CONFIG_CGROUPS and CONFIG_CGROUP_BPF, as every distribution's is"
            }
        }
    }
}

/// Finds the root wherever it is mounted, or mounts it where nobody else sees it.
///
/// # Errors
/// [`CgroupError`]; each names its remedy.
pub fn find() -> Result<CgroupRoot, CgroupError> {
    let mounts = mount::mounts().map_err(CgroupError::Mounts)?;
    let (found, subtree) = choose(&mounts, open_with_inode);
    if let Some((directory, path)) = found {
        return Ok(CgroupRoot { directory, path: Some(path), mounted_by_us: false });
    }
    let private = mount::detached(CGROUP2)
        .and_then(|directory| inode(&directory).map(|number| (directory, number)));
    conclude(private, subtree, namespaced())
}

/// Where the root is mounted, if anywhere within reach.
#[must_use]
pub fn mounted() -> Option<PathBuf> {
    let (found, _) = choose(&mount::mounts().ok()?, open_with_inode);
    found.map(|(_, path)| path)
}

/// Leaves a container's cgroup namespace for that of the first process in `proc`, so that
/// `/proc/<pid>/cgroup` gives paths from the root; otherwise it gives them from the
/// container's own cgroup. Holds for the **calling thread** and for those that it starts
/// afterwards. Does nothing where there is nothing to leave.
///
/// # Errors
/// Without `CAP_SYS_ADMIN`, or where that process may not be looked at (`CAP_SYS_PTRACE`).
pub fn enter_host_namespace(proc: &Path) -> io::Result<()> {
    // Most hosts: asking for leave to look at their first process is not needed then.
    if !namespaced() {
        return Ok(());
    }
    let own = fs::metadata("/proc/thread-self/ns/cgroup")?;
    let host = fs::File::open(proc.join("1/ns/cgroup"))?;
    if host.metadata()?.ino() == own.ino() {
        return Ok(());
    }
    move_into_link_name_space(host.as_fd(), Some(LinkNameSpaceType::ControlGroup))?;
    Ok(())
}

/// Says whether this process is in a cgroup namespace of its own. Unknown counts as no.
#[must_use]
pub fn namespaced() -> bool {
    fs::read_link("/proc/thread-self/ns/cgroup")
        .is_ok_and(|link| link != Path::new(FIRST_NAMESPACE))
}

/// The first mount that is the root, or else the first that is a part of it.
fn choose<D>(
    mounts: &[Mount],
    open: impl Fn(&Path) -> io::Result<(D, u64)>,
) -> (Option<(D, PathBuf)>, Option<PathBuf>) {
    let mut subtree = None;
    for mount in mounts.iter().filter(|mount| mount.kind == CGROUP2) {
        // A mount that another one hides opens as something else, and one that is
        // out of reach does not open: the next may serve.
        match open(&mount.point) {
            Ok((directory, ROOT_INODE)) => return (Some((directory, mount.point.clone())), None),
            Ok(_) => subtree = subtree.or_else(|| Some(mount.point.clone())),
            Err(_) => {}
        }
    }
    (None, subtree)
}

/// What follows where no mount was the root: the private one may be.
fn conclude(
    private: io::Result<(OwnedFd, u64)>,
    subtree: Option<PathBuf>,
    namespaced: bool,
) -> Result<CgroupRoot, CgroupError> {
    match (private, subtree) {
        (Ok((directory, ROOT_INODE)), subtree) => {
            Ok(CgroupRoot { directory, path: None, mounted_by_us: subtree.is_none() })
        }
        (_, Some(path)) => {
            Err(CgroupError::Subtree { seen: path.display().to_string(), namespaced })
        }
        (Ok(_), None) => {
            Err(CgroupError::Subtree { seen: "a private mount".to_owned(), namespaced })
        }
        (Err(error), None) => Err(match error.raw_os_error() {
            Some(libc::ENODEV) => CgroupError::NoKernelSupport(error),
            _ => CgroupError::NotMounted(error),
        }),
    }
}

fn open_with_inode(path: &Path) -> io::Result<(OwnedFd, u64)> {
    let directory = mount::open_directory(path)?;
    // Where another file system is mounted over this one, the path leads there:
    // its root has inode 1 as well, on some.
    let magic = rustix::fs::fstatfs(&directory)?.f_type;
    if magic != libc::CGROUP2_SUPER_MAGIC {
        return Err(io::Error::new(io::ErrorKind::NotFound, "hidden by another mount"));
    }
    let number = inode(&directory)?;
    Ok((directory, number))
}

fn inode(directory: &OwnedFd) -> io::Result<u64> {
    Ok(rustix::fs::fstat(directory)?.st_ino)
}

#[cfg(test)]
mod tests;
