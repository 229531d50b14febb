//! What the laboratory changes on the host itself, noted so that it can be undone.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::sweep::sweep;
use crate::cgroup;
use crate::process::write;

/// What was there before, by which a later run undoes what this one cannot.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Before {
    /// Values of the kernel's parameters, by their files.
    pub parameters: BTreeMap<PathBuf, String>,
    /// cgroups that were not there, the outer ones first.
    pub cgroups: Vec<PathBuf>,
}

/// The cgroups that kubelet makes before any pod, for either driver.
const CGROUPS: [&str; 6] = [
    "kubepods",
    "kubepods/besteffort",
    "kubepods/burstable",
    "kubepods.slice",
    "kubepods.slice/kubepods-besteffort.slice",
    "kubepods.slice/kubepods-burstable.slice",
];

/// The host, prepared, in the hands of one laboratory at a time.
#[derive(Debug)]
pub(super) struct Host {
    folder: PathBuf,
    pub has_v6: bool,
    _lock: File,
}

/// Where the laboratory keeps its files.
pub(super) fn folder() -> PathBuf {
    std::env::temp_dir().join("meshtap-mesh")
}

/// The right to have a laboratory of any kind: one with a kubelet has the same lock.
fn lock() -> Result<File> {
    let path = std::env::temp_dir().join("meshtap-lab.lock");
    let lock = File::options().create(true).truncate(false).write(true).open(path)?;
    flock(&lock, FlockOperation::LockExclusive)?;
    Ok(lock)
}

fn has_kubelet() -> bool {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut names = entries.map(|entry| std::fs::read_to_string(entry.path().join("comm")));
    names.any(|name| name.is_ok_and(|name| name.trim() == "kubelet"))
}

/// Whether somebody else's kubelet is here, once no other laboratory is.
pub(super) fn is_taken() -> bool {
    let lock = lock();
    lock.is_err() || has_kubelet()
}

impl Host {
    /// Waits until no other laboratory is there, takes away what the last one left, and
    /// prepares.
    pub fn take() -> Result<Self> {
        let lock = lock()?;
        ensure!(!has_kubelet(), "a kubelet runs here: it takes away pods that it does not know");
        sweep().context("what an earlier laboratory left")?;
        let folder = folder();
        std::fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        // Proxies that are not root read their configuration there.
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755))?;
        let has_v6 = Path::new("/proc/net/if_inet6").exists();
        let host = Self { folder, has_v6, _lock: lock };
        host.prepare()?;
        Ok(host)
    }

    /// A folder for the laboratory's files, readable by everyone.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn prepare(&self) -> Result<()> {
        let root = cgroup::root().context("cgroup v2 is not mounted")?;
        // Each cable of a pod forwards for itself, where the kernel has that for IPv6.
        let has_own = Path::new("/proc/sys/net/ipv6/conf/all/force_forwarding").exists();
        let mut parameters = Vec::new();
        if self.has_v6 && !has_own {
            parameters.push("/proc/sys/net/ipv6/conf/all/forwarding");
        }
        let mut before = Before::default();
        for parameter in &parameters {
            let value = std::fs::read_to_string(parameter)?.trim().to_owned();
            before.parameters.insert(parameter.into(), value);
        }
        let missing = CGROUPS.map(|path| root.join(path)).into_iter().filter(|path| !path.exists());
        before.cgroups = missing.collect();
        // First noted, then done.
        write(&self.folder.join("before.json"), &serde_json::to_string(&before)?)?;
        for parameter in parameters {
            std::fs::write(parameter, "1").with_context(|| parameter.to_owned())?;
        }
        for path in before.cgroups {
            std::fs::create_dir(&path).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }
}

impl Before {
    /// What the laboratory in `folder` noted; nothing where there is none.
    pub fn read(folder: &Path) -> Result<Self> {
        match std::fs::read_to_string(folder.join("before.json")) {
            Ok(text) => Ok(serde_json::from_str(&text)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => bail!(error),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Err(error) = sweep() {
            eprintln!("the laboratory leaves something behind: {error:#}");
        }
    }
}
