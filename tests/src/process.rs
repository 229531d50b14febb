//! [`Running`]: a program started for a test, with its output in a file, gone when dropped.

use std::ffi::OsStr;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::netns::Place;
use crate::requirement::program;

/// How long anything may take to start or stop on a busy machine, or on an emulated one,
/// whose kernel takes a minute or more to verify the programs.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// A process and whatever it started, in a process group of its own.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    log: tempfile::NamedTempFile,
}

impl Running {
    /// Starts `command`; its standard output and error go to a file of its own.
    pub fn start(command: &mut Command) -> Result<Self> {
        let name = Path::new(command.get_program())
            .file_name()
            .unwrap_or_else(|| OsStr::new("?"))
            .to_string_lossy()
            .into_owned();
        let log = tempfile::NamedTempFile::new()?;
        // One that two streams share, and that neither overwrites.
        let shared = File::options().append(true).open(log.path())?;
        let child = command
            .stdin(Stdio::null())
            .stdout(shared.try_clone()?)
            .stderr(shared)
            .process_group(0)
            .spawn()
            .with_context(|| format!("{name} does not start"))?;
        Ok(Self { name, child, log })
    }

    /// Process id of the program.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read(self.log.path())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Waits until something listens on `port` in the network namespace `place`, without
    /// touching it: a probing connection would be one more that the agent sees.
    pub fn wait_for_listener(&mut self, place: &Place<'_>, port: u16) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let filter = format!("sport = :{port}");
        loop {
            let listeners = output(place.inside("ss")?.args(["-ltnH", filter.as_str()]))?;
            if !listeners.trim().is_empty() {
                return Ok(());
            }
            self.still_runs()?;
            if Instant::now() > deadline {
                bail!("{} does not listen on port {port}: {}", self.name, self.output());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until it printed `text`. For servers that must not be probed by a connection.
    pub fn wait_for_text(&mut self, text: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.output().contains(text) {
            self.still_runs()?;
            if Instant::now() > deadline {
                bail!("{} did not print {text:?}: {}", self.name, self.output());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits for its end and gives its status; fails after `patience`.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} did not end within {patience:?}: {}", self.name, self.output());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for its end and demands success.
    pub fn succeed(&mut self, patience: Duration) -> Result<String> {
        let status = self.wait(patience)?;
        let output = self.output();
        if !status.success() {
            bail!("{} ended with {status}: {output}", self.name);
        }
        Ok(output)
    }

    /// Sends it (not its group) a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(pid_of(&self.child)?, signal)
            .with_context(|| format!("{} cannot be signalled", self.name))
    }

    fn still_runs(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended with {status}: {}", self.name, self.output());
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(pid) = pid_of(&self.child) {
            // The group may be empty already; nothing is left to do then.
            let _ = kill_process_group(pid, Signal::KILL);
        }
        drop(self.child.wait());
    }
}

fn pid_of(child: &Child) -> Result<Pid> {
    Pid::from_raw(i32::try_from(child.id())?).context("a child has a process id")
}

/// Runs a command to its end, demands success and gives its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let text = format!("{command:?}");
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("{text} does not start"))?;
    if !output.status.success() {
        bail!("{text} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// [`output`] of a line of words separated by blanks.
pub fn run(line: &str) -> Result<String> {
    output(&mut words(line)?)
}

/// A line of words separated by blanks as a command.
pub fn words(line: &str) -> Result<Command> {
    let mut words = line.split_whitespace();
    let name = words.next().context("an empty command line")?;
    let path = program(name).with_context(|| format!("{name} is not installed"))?;
    let mut command = Command::new(path);
    command.args(words);
    Ok(command)
}

/// A program of this package, which cargo puts beside its other programs, and above its tests.
pub fn own(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let folders = this.ancestors().skip(1).take(2);
    let mut paths = folders.map(|folder| folder.join(name));
    paths
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not built: run cargo build --package meshtap-tests"))
}

/// Where the tests' own scripts, sources and configuration lie.
#[must_use]
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// A file that appears at `path` in full or not at all.
pub fn write(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    let mut file = File::create(path).with_context(|| format!("{} not written", path.display()))?;
    file.write_all(text.as_bytes())?;
    Ok(())
}

/// A port that nothing listens on, below the range that the kernel hands out by itself.
///
/// Each process of the test suite begins somewhere else, so that a port is not used
/// again while connections of an earlier test are still in `TIME_WAIT`.
#[must_use]
pub fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() * 97 % u32::from(COUNT)).unwrap_or_default();
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (start + step) % COUNT;
        let free = |ip: IpAddr| is_free(SocketAddr::new(ip, port));
        if free(Ipv4Addr::UNSPECIFIED.into()) && free(Ipv6Addr::LOCALHOST.into()) {
            return port;
        }
    }
}

/// Whether nothing listens on `address`.
///
/// Looks by a socket that does not listen itself: a process that another thread starts in
/// this moment keeps the socket until its `exec`, and would hold the port against the
/// test.
fn is_free(address: SocketAddr) -> bool {
    let probe = || -> rustix::io::Result<()> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        net::bind(&socket, &address)
    };
    probe().is_ok()
}
