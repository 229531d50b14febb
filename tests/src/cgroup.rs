//! cgroups of the tests' own, in the cgroup v2 hierarchy, gone when dropped.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

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

impl Cgroup {
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
            if std::fs::remove_dir(&self.path).is_ok() {
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
