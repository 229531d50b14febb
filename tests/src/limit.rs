//! [`Limit`]: how much of the processors or of the memory a process may have, by a cgroup of
//! its own, in whichever hierarchy this host has the controller; gone when dropped.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::cgroup;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// In hundredths of one processor.
    Cpu(u32),
    /// In bytes.
    Memory(u64),
}

/// A cgroup that limits what is in it.
#[derive(Debug)]
pub struct Limit {
    folder: PathBuf,
}

impl Resource {
    fn controller(self) -> &'static str {
        match self {
            Self::Cpu(_) => "cpu",
            Self::Memory(_) => "memory",
        }
    }

    /// Why it cannot be limited here; `None`: it can.
    #[must_use]
    pub fn missing(self) -> Option<String> {
        let name = self.controller();
        hierarchy(name).is_none().then(|| format!("no hierarchy of cgroups has {name}"))
    }
}

/// Where the controller is, and whether that is cgroup v2.
fn hierarchy(controller: &str) -> Option<(PathBuf, bool)> {
    let has = |list: &str| list.split([' ', ',', '\n']).any(|name| name == controller);
    if let Some(root) = cgroup::root() {
        let offered = std::fs::read_to_string(root.join("cgroup.controllers"));
        if offered.is_ok_and(|offered| has(&offered)) {
            return Some((root, true));
        }
    }
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounts.lines().find_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let [_, path, "cgroup", options, ..] = words.as_slice() else { return None };
        has(options).then(|| (PathBuf::from(path), false))
    })
}

impl Limit {
    /// Makes it, with nobody inside.
    pub fn new(resource: Resource) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let controller = resource.controller();
        let (root, unified) = hierarchy(controller).context("the controller is nowhere")?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = root.join(format!("meshtap-limit-{}-{number}", std::process::id()));
        if unified {
            std::fs::write(root.join("cgroup.subtree_control"), format!("+{controller}"))?;
        }
        std::fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        let limit = Self { folder };
        const PERIOD: u64 = 100_000;
        let files = match (resource, unified) {
            (Resource::Cpu(share), true) => {
                vec![("cpu.max", format!("{} {PERIOD}", u64::from(share) * PERIOD / 100))]
            }
            (Resource::Cpu(share), false) => vec![
                ("cpu.cfs_period_us", PERIOD.to_string()),
                ("cpu.cfs_quota_us", (u64::from(share) * PERIOD / 100).to_string()),
            ],
            (Resource::Memory(bytes), true) => vec![("memory.max", bytes.to_string())],
            (Resource::Memory(bytes), false) => vec![("memory.limit_in_bytes", bytes.to_string())],
        };
        for (file, text) in files {
            std::fs::write(limit.folder.join(file), text).with_context(|| file.to_owned())?;
        }
        Ok(limit)
    }

    /// Puts a running process inside.
    pub fn take(&self, pid: u32) -> Result<()> {
        std::fs::write(self.folder.join("cgroup.procs"), pid.to_string())
            .with_context(|| format!("{pid} cannot be limited"))
    }

    /// What a program is started by, so that it is inside from its beginning: this command
    /// line before its own.
    #[must_use]
    pub fn launcher(&self) -> [String; 4] {
        let script = "echo $$ > \"$0/cgroup.procs\" && exec \"$@\"".to_owned();
        ["/bin/sh".to_owned(), "-c".to_owned(), script, self.folder.display().to_string()]
    }

    /// How often those inside had to wait for their next share of processors.
    #[must_use]
    pub fn throttled(&self) -> u64 {
        self.figure("cpu.stat", "nr_throttled ").unwrap_or_default()
    }

    /// How often somebody inside was ended for want of memory.
    #[must_use]
    pub fn killed(&self) -> u64 {
        let unified = self.figure("memory.events", "oom_kill ");
        unified.or_else(|| self.figure("memory.oom_control", "oom_kill ")).unwrap_or_default()
    }

    fn figure(&self, file: &str, name: &str) -> Option<u64> {
        let text = std::fs::read_to_string(self.folder.join(file)).ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        // Who was inside and has just ended leaves it a moment later.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.folder).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Limit, Resource};
    use crate::process::output;

    #[test]
    fn a_program_is_held_back() {
        let resource = Resource::Cpu(5);
        if !rustix::process::geteuid().is_root() || resource.missing().is_some() {
            crate::skip!("needs root and the controller of processors");
        }
        let limit = Limit::new(resource).expect("is made");
        let launcher = limit.launcher();
        let mut command = std::process::Command::new(&launcher[0]);
        command.args(&launcher[1..]).args(["/bin/sh", "-c"]);
        command.arg("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done");
        output(&mut command).expect("runs");
        assert!(limit.throttled() > 0);
        let folder = limit.path().to_owned();
        drop(limit);
        assert!(!folder.exists());
    }
}
