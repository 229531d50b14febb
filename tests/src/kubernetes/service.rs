//! Programs that outlive whoever started them: each is known by a file with its process id.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// How long the kernel may take to end a process that was killed.
const END: Duration = Duration::from_secs(10);

/// The programs of one folder: `NAME.pid` and `NAME.log` of each.
#[derive(Clone, Debug)]
pub struct Services {
    folder: PathBuf,
}

/// A process, told from a later one with the same id by when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    /// Clock ticks since boot.
    start: u64,
}

impl Services {
    /// Those of a folder, which may be missing.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Starts a program in a process group of its own, so that no terminal interrupts it.
    pub fn start(&self, name: &str, command: &mut Command) -> Result<()> {
        fs::create_dir_all(&self.folder)?;
        let log = File::options().create(true).append(true).open(self.log(name))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("{name} does not start"))?;
        let pid = i32::try_from(child.id())?;
        let (start, _) = look(pid).with_context(|| format!("{name} is gone already"))?;
        Ok(fs::write(self.file(name), format!("{pid} {start}"))?)
    }

    /// Whether it runs.
    #[must_use]
    pub fn runs(&self, name: &str) -> bool {
        self.process(name).is_some_and(Process::runs)
    }

    /// Fails, with the end of its log, where it does not run.
    pub fn demand(&self, name: &str) -> Result<()> {
        if !self.runs(name) {
            bail!("{name} ended:\n{}", self.tail(name));
        }
        Ok(())
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self, name: &str) -> Option<u32> {
        let process = self.process(name).filter(|process| process.runs())?;
        u32::try_from(process.pid).ok()
    }

    /// Kills it, if it runs: none of them has anything to bring home.
    pub fn stop(&self, name: &str) -> Result<()> {
        if let Some(process) = self.process(name) {
            process.end()?;
            fs::remove_file(self.file(name))?;
        }
        Ok(())
    }

    /// The names of all that were started and not stopped.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".pid")?.to_owned()))
            .collect()
    }

    /// Where its output goes.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    /// The last lines of its output.
    #[must_use]
    pub fn tail(&self, name: &str) -> String {
        let text = fs::read(self.log(name)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.pid"))
    }

    fn process(&self, name: &str) -> Option<Process> {
        let text = fs::read_to_string(self.file(name)).ok()?;
        let (pid, start) = text.split_once(' ')?;
        Some(Process { pid: pid.parse().ok()?, start: start.parse().ok()? })
    }
}

impl Process {
    fn runs(self) -> bool {
        look(self.pid).is_some_and(|(start, state)| start == self.start && state != 'Z')
    }

    fn end(self) -> Result<()> {
        let pid = Pid::from_raw(self.pid).context("a process has an id")?;
        if self.runs() {
            // It may end by itself in this moment.
            let _ = kill_process(pid, Signal::KILL);
        }
        let deadline = Instant::now() + END;
        loop {
            // Where it is a child of this process, it waits to be asked; else this is an error.
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
            if !self.runs() && !self.has_threads() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("process {} does not end", self.pid);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether threads of it are left beside the first, which may be dead before them.
    fn has_threads(self) -> bool {
        let is_it = look(self.pid).is_some_and(|(start, _)| start == self.start);
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid));
        is_it && threads.is_ok_and(|threads| threads.count() > 1)
    }
}

/// When a process started, and its state; `None`: it is not there.
fn look(pid: i32) -> Option<(u64, char)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may hold blanks and brackets.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((fields.nth(18)?.parse().ok()?, state))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::Services;

    #[test]
    fn a_program_is_found_again_and_ended() {
        let folder = tempfile::tempdir().expect("a folder");
        let services = Services::of(folder.path());
        services.start("sleeper", Command::new("sleep").arg("60")).expect("starts");
        let again = Services::of(folder.path());
        assert!(again.runs("sleeper"));
        assert_eq!(again.names(), ["sleeper"]);
        again.stop("sleeper").expect("ends");
        assert!(!again.runs("sleeper") && again.names().is_empty());
        services.demand("sleeper").expect_err("is gone");
    }

    #[test]
    fn a_later_process_with_the_same_id_is_not_meant() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = format!("{} 1", std::process::id());
        std::fs::write(folder.path().join("other.pid"), own).expect("is written");
        let services = Services::of(folder.path());
        assert!(!services.runs("other"));
        services.stop("other").expect("nothing is killed");
    }
}
