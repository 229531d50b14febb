//! The agent from outside: [`Agent`] is `meshtap run`, [`Observer`] is `meshtap observe --json`.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use crate::call::Calls;
use crate::http;
use crate::process::{PATIENCE, Running, free_port};
use crate::scrape::Scrape;
use crate::wire::Sentinel;

/// Keeps variables that are the harness' own from an agent, which takes every variable of this
/// prefix for a key of its own.
pub fn keep_ours(command: &mut Command) -> &mut Command {
    for name in ["MESHTAP_BIN", "MESHTAP_FULL", "MESHTAP_IMAGE", "MESHTAP_UNBUILT"] {
        command.env_remove(name);
    }
    command
}

/// The agent's binary: `MESHTAP_BIN`, else the newer of this workspace's two builds.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("MESHTAP_BIN") {
        let path = PathBuf::from(path);
        ensure!(path.is_file(), "MESHTAP_BIN names {}, which is no file", path.display());
        return Ok(path);
    }
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let builds = ["release/meshtap", "debug/meshtap"].map(|build| target.join(build));
    let built = builds.into_iter().filter_map(|path| {
        let time = path.metadata().and_then(|metadata| metadata.modified()).ok()?;
        Some((time, path))
    });
    let newest =
        built.max().context("the agent is not built: run cargo build --package meshtap")?;
    Ok(newest.1)
}

/// The right to attach an agent: one test at a time has it, over all test binaries.
#[derive(Debug)]
pub struct Turn {
    _lock: File,
}

impl Turn {
    /// Waits until no other test has it.
    pub fn take() -> Result<Self> {
        let path = std::env::temp_dir().join("meshtap-tests.lock");
        let lock = File::options().create(true).truncate(false).write(true).open(path)?;
        flock(&lock, FlockOperation::LockExclusive)?;
        Ok(Self { _lock: lock })
    }
}

/// `meshtap run`, ready.
#[derive(Debug)]
pub struct Agent {
    running: Running,
    address: SocketAddr,
    _config: tempfile::NamedTempFile,
    // Last, so that the agent is gone when the next test has its turn.
    _turn: Option<Turn>,
}

impl Agent {
    /// Starts it with further lines of configuration (YAML) and waits for `/readyz`.
    pub fn start(config: &str) -> Result<Self> {
        let turn = Turn::take()?;
        let mut agent = Self::start_beside(config)?;
        agent._turn = Some(turn);
        Ok(agent)
    }

    /// [`Agent::start`] by a program that is given the agent's command line behind its own.
    pub fn start_by(launcher: &[&str], config: &str) -> Result<Self> {
        let turn = Turn::take()?;
        let mut agent = Self::launch(launcher, config)?;
        agent._turn = Some(turn);
        Ok(agent)
    }

    /// [`Agent::start`] in a test that has its [`Turn`] already.
    pub fn start_beside(config: &str) -> Result<Self> {
        Self::launch(&[], config)
    }

    fn launch(launcher: &[&str], config: &str) -> Result<Self> {
        // The configuration may say itself where it listens.
        let own = config.lines().find_map(|line| line.strip_prefix("listen: "));
        let own = own.and_then(|text| text.trim_matches('"').parse().ok());
        let address = own.unwrap_or((Ipv4Addr::LOCALHOST, free_port()).into());
        let listen = if own.is_some() { String::new() } else { format!("listen: \"{address}\"\n") };
        let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
        crate::process::write(file.path(), &format!("{listen}{config}"))?;
        let binary = binary()?;
        let mut command = match launcher.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(binary);
                command
            }
            None => Command::new(binary),
        };
        keep_ours(&mut command).arg("run").arg("--config").arg(file.path());
        let running = Running::start(&mut command)?;
        let mut agent = Self { running, address, _config: file, _turn: None };
        agent.wait_until_ready()?;
        Ok(agent)
    }

    /// Where it serves `/metrics`.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// What it printed.
    #[must_use]
    pub fn output(&self) -> String {
        self.running.output()
    }

    /// Reads `/metrics`.
    pub fn scrape(&self) -> Result<Scrape> {
        Scrape::fetch(self.address)
    }

    /// Reads `/metrics` until `enough` says so. What there is when patience ends is
    /// given all the same: the test's own comparison says best what is missing.
    pub fn scrape_until(&self, enough: impl Fn(&Scrape) -> bool) -> Result<Scrape> {
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            let scrape = self.scrape()?;
            if enough(&scrape) || Instant::now() > deadline {
                return Ok(scrape);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Asks it to stop and demands that it ends with success.
    pub fn stop(mut self) -> Result<String> {
        let status = self.end()?;
        ensure!(status.success(), "the agent ended with {status}: {}", self.running.output());
        Ok(self.running.output())
    }

    /// Ends it without a warning (SIGKILL). Its [`Turn`] is given back, for the one that
    /// comes after it.
    pub fn kill(mut self) -> Result<Option<Turn>> {
        self.running.signal(Signal::KILL)?;
        self.running.wait(PATIENCE)?;
        Ok(self._turn.take())
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        kilobytes.map(|size: u64| size * 1024).context("VmRSS is not told")
    }

    /// Asks it to stop and gives its status.
    pub fn terminate(mut self) -> Result<ExitStatus> {
        self.end()
    }

    /// Waits until it ends by itself, and gives its status and what it printed.
    pub fn ended(mut self) -> Result<(ExitStatus, String)> {
        let status = self.running.wait(PATIENCE)?;
        Ok((status, self.running.output()))
    }

    fn end(&mut self) -> Result<ExitStatus> {
        self.running.signal(Signal::TERM)?;
        self.running.wait(PATIENCE)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if http::get(self.address, "/readyz").is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if let Ok(status) = self.running.wait(Duration::ZERO) {
                bail!("the agent ended with {status}: {}", self.running.output());
            }
            if Instant::now() > deadline {
                bail!("the agent is not ready: {}", self.running.output());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// `meshtap observe --json`, attached: whatever happens from now on is in its lines.
#[derive(Debug)]
pub struct Observer {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
    errors: tempfile::NamedTempFile,
    sentinel: Sentinel,
    _turn: Option<Turn>,
}

impl Observer {
    /// Starts it when no other test has an agent, and waits until it sees calls.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// [`Observer::start`] with further arguments.
    pub fn start_with(arguments: &[&str]) -> Result<Self> {
        let turn = Turn::take()?;
        let mut observer = Self::start_beside(arguments)?;
        observer._turn = Some(turn);
        Ok(observer)
    }

    /// Starts it with further arguments in a test that has its [`Turn`] already (or an
    /// [`Agent`]). Filters that hide the harness' own calls to `/sentinel/…` would make
    /// it wait in vain.
    pub fn start_beside(arguments: &[&str]) -> Result<Self> {
        let sentinel = Sentinel::start()?;
        let errors = tempfile::NamedTempFile::new()?;
        let mut child = keep_ours(&mut Command::new(binary()?))
            .args(["observe", "--json"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors.reopen()?)
            .process_group(0)
            .spawn()?;
        let output = child.stdout.take().context("standard output is piped")?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Ok(mut lines) = sink.lock() {
                    lines.push(line);
                }
            }
        });
        let mut observer =
            Self { child, lines, reader: Some(reader), errors, sentinel, _turn: None };
        observer.settle().context("observe shows no call")?;
        Ok(observer)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard error.
    #[must_use]
    pub fn errors(&self) -> String {
        std::fs::read_to_string(self.errors.path()).unwrap_or_default()
    }

    /// The lines so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().map(|lines| lines.clone()).unwrap_or_default()
    }

    /// What it printed so far, without the harness' own calls.
    pub fn calls(&self) -> Result<Calls> {
        let lines = self.lines();
        let mut calls = Calls::parse(lines.iter().map(String::as_str))?;
        let own = self.sentinel.port();
        calls.calls.retain(|call| call.server.port != Some(own));
        Ok(calls)
    }

    /// Waits until a call made now is shown: what ended before it has been worked through.
    pub fn settle(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut paths = Vec::new();
        loop {
            // A call may be made before the agent is attached, so more than one is needed.
            paths.push(self.sentinel.call()?);
            let patience = Instant::now() + Duration::from_millis(500);
            while Instant::now() < patience {
                if let Some(status) = self.child.try_wait()? {
                    bail!("observe ended with {status}: {}", self.errors());
                }
                if self.shows(&paths) {
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            if Instant::now() > deadline {
                bail!("no line for {} calls in {PATIENCE:?}: {}", paths.len(), self.errors());
            }
        }
    }

    /// Waits until `enough` is true of the calls so far; what there is when `patience`
    /// ends is given all the same.
    pub fn wait(&mut self, patience: Duration, enough: impl Fn(&Calls) -> bool) -> Result<Calls> {
        let deadline = Instant::now() + patience;
        loop {
            let calls = self.calls()?;
            if enough(&calls) || Instant::now() > deadline {
                return Ok(calls);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Asks it to stop, demands that it ends with success, and gives everything it printed.
    pub fn finish(mut self) -> Result<Calls> {
        self.settle()?;
        let status = self.stop(Signal::TERM)?;
        ensure!(status.success(), "observe ended with {status}: {}", self.errors());
        self.calls()
    }

    /// Sends a signal and waits for its end.
    pub fn stop(&mut self, signal: Signal) -> Result<ExitStatus> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).context("a process id")?;
        kill_process(pid, signal)?;
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                bail!("observe does not end on {signal:?}: {}", self.errors());
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
        Ok(status)
    }

    fn shows(&self, paths: &[String]) -> bool {
        let own = format!("\"port\":{}", self.sentinel.port());
        self.lines.lock().is_ok_and(|lines| {
            let recent = lines.iter().rev().take(10_000);
            recent
                .filter(|line| line.contains(&own) || line.contains("/sentinel/"))
                .any(|line| paths.iter().any(|path| line.contains(&format!("\"{path}\""))))
        })
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
    }
}
