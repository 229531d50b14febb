//! cgroups of the tests' own, in the cgroup v2 hierarchy, gone when dropped.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// A cgroup, with the folders above it that were made for it.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    made: Vec<PathBuf>,
}

/// Where cgroup v2 is mounted; `None`: nowhere.
#[must_use]
pub fn root() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    line.split(' ').nth(1).map(PathBuf::from)
}

/// Ends whatever runs in a cgroup or below, and removes all of them.
pub fn clear(path: &Path) -> Result<()> {
    for _ in 0..500 {
        let mut below = Vec::new();
        walk(path, &mut below);
        if below.is_empty() {
            return Ok(());
        }
        for folder in &below {
            end(folder);
            // Refused as long as it is not empty; a process is gone a moment after its end.
            drop(std::fs::remove_dir(folder));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    bail!("{} does not become empty", path.display())
}

/// A cgroup and those below it, the inner ones first.
fn walk(path: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(path) else { return };
    for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
        walk(&entry.path(), found);
    }
    found.push(path.to_owned());
}

fn end(path: &Path) {
    let processes = std::fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let pids = processes.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?));
    for pid in pids {
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::KILL);
    }
}

impl Cgroup {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the cgroup `path`, from the hierarchy's root, and what is missing above it.
    pub fn create(path: &str) -> Result<Self> {
        let mut folder = root().context("cgroup v2 is not mounted")?;
        let mut made = Vec::new();
        for part in Path::new(path) {
            folder.push(part);
            if !folder.exists() {
                std::fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
                made.push(folder.clone());
            }
        }
        Ok(Self { path: folder, made })
    }

    /// `command` as a process that enters the cgroup first.
    #[must_use]
    pub fn wrap(&self, command: &Command) -> Command {
        let mut wrapped = Command::new("/bin/sh");
        wrapped.arg("-c").arg("echo $$ > \"$0/cgroup.procs\" && exec \"$@\"").arg(&self.path);
        wrapped.arg(command.get_program()).args(command.get_args());
        wrapped
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A process that was just ended leaves its cgroup a moment later.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.path).is_ok() || !self.path.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // Folders above may be shared with other tests: the last one removes them.
        for folder in self.path.ancestors().skip(1) {
            let own = folder.file_name().is_some_and(|name| {
                name.to_string_lossy().starts_with("meshtap") || self.made.contains(&folder.into())
            });
            if !own || std::fs::remove_dir(folder).is_err() {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Cgroup, root};
    use crate::netns::Place;
    use crate::process::output;

    #[test]
    fn a_program_starts_inside() {
        if !rustix::process::geteuid().is_root() || root().is_none() {
            crate::skip!("needs root and cgroup v2");
        }
        let path = format!("meshtap-test-{}.slice/a.service", std::process::id());
        let cgroup = Cgroup::create(&path).expect("is made");
        let mut command = Place::cgroup(&cgroup).inside("cat").expect("is installed");
        let inside = output(command.arg("/proc/self/cgroup")).expect("runs");
        assert!(inside.contains(&format!("0::/{path}")), "{inside}");
        let folder = cgroup.path.clone();
        drop(cgroup);
        assert!(!folder.exists());
        assert!(folder.parent().is_some_and(|parent| !parent.exists()));
    }
}
