//! `meshtap doctor`: what this kernel and these privileges allow, why not, what is
//! lost without it and how to get it.
//!
//! Refuses to change anything: whatever is tried is taken back before it returns.

mod attribution;
mod blind_spot;
mod capture;
mod export;
mod print;
mod system;

use std::io::{self, Write};
use std::net::SocketAddr;

use serde::Serialize;

use crate::attribution::HostPaths;
use crate::kernel::cgroup;
use crate::kernel::features::Features;
use crate::kernel::privilege::Privileges;
use crate::kubernetes::WatchSettings;

/// The main job can run.
pub const EXIT_READY: u8 = 0;
/// The host does not allow the main job: privileges or kernel.
pub const EXIT_NOT_ALLOWED: u8 = 3;
/// The version of the JSON object; it grows when a field changes its meaning.
const SCHEMA: u32 = 1;

/// The remedy of what could not be tried: another check has failed, and names its own.
const SEE_ABOVE: &str = "remove what is in the way of trying it (see above)";

/// How one thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// All there.
    Ok,
    /// Something is lost without it, or could not be tried.
    Degraded,
    /// It is not there.
    Missing,
}

/// What a check is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// The kernel and what it lets this process do.
    Kernel,
    /// Seeing traffic.
    Capture,
    /// Naming who it belongs to.
    Attribution,
    /// What no hook can see on this host.
    BlindSpots,
    /// Getting it out.
    Export,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What, in a few words; unique and stable.
    pub name: &'static str,
    /// What it is about.
    pub group: Group,
    /// How it stands.
    pub state: State,
    /// Without it the main job cannot run.
    pub essential: bool,
    /// What was found.
    pub detail: String,
    /// What meshtap does not show because of it.
    pub lost: Option<String>,
    /// How to get it.
    pub remedy: Option<String>,
}

impl Check {
    fn new(group: Group, name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            group,
            state: State::Ok,
            essential: false,
            detail: detail.into(),
            lost: None,
            remedy: None,
        }
    }

    fn essential(mut self) -> Self {
        self.essential = true;
        self
    }

    /// What is essential is missing, the rest degrades what is shown.
    fn failed(mut self, lost: impl Into<String>, remedy: impl Into<String>) -> Self {
        self.state = if self.essential { State::Missing } else { State::Degraded };
        self.lost = Some(lost.into());
        self.remedy = Some(remedy.into());
        self
    }
}

/// What it comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The main job can run, and nothing is lost.
    Ready,
    /// The main job can run; some of what it could show is lost.
    Limited,
    /// The main job cannot run.
    Blind,
}

/// Everything that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The version of this object.
    pub schema: u32,
    /// The version of meshtap.
    pub version: &'static str,
    /// What it comes to.
    pub verdict: Verdict,
    /// One by one, group by group.
    pub checks: Vec<Check>,
    /// The facts about the kernel behind them.
    pub features: Features,
}

impl Report {
    /// Looks at everything. `listen` is where `/metrics` would be served, `paths` say where the
    /// host's facts are, `watch` how Kubernetes would be watched.
    #[must_use]
    pub fn gather(listen: SocketAddr, paths: &HostPaths, watch: Option<&WatchSettings>) -> Self {
        let features = Features::probe();
        let privileges = Privileges::held().ok();
        let root = cgroup::find();
        let processes = system::Processes::scan(&paths.proc, privileges.as_ref());
        let mut checks = capture::kernel(&features, privileges.as_ref());
        checks.extend(capture::capture(&features, &root));
        checks.extend(attribution::checks(&processes, paths, watch));
        checks.extend(blind_spot::checks(&features, &processes));
        checks.push(export::listen(listen));
        Self::new(features, checks)
    }

    fn new(features: Features, checks: Vec<Check>) -> Self {
        let verdict = verdict(&checks);
        Self { schema: SCHEMA, version: env!("CARGO_PKG_VERSION"), verdict, checks, features }
    }

    /// What the shell is told.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.verdict {
            Verdict::Ready | Verdict::Limited => EXIT_READY,
            Verdict::Blind => EXIT_NOT_ALLOWED,
        }
    }
}

fn verdict(checks: &[Check]) -> Verdict {
    if checks.iter().any(|check| check.essential && check.state == State::Missing) {
        Verdict::Blind
    } else if checks.iter().any(|check| check.state != State::Ok) {
        Verdict::Limited
    } else {
        Verdict::Ready
    }
}

/// Looks at everything and writes it to standard output; returns what the shell is
/// to be told ([`EXIT_READY`] or [`EXIT_NOT_ALLOWED`]).
///
/// # Errors
/// Where standard output cannot be written; a reader that went away is no error.
pub fn run(
    json: bool,
    listen: SocketAddr,
    paths: &HostPaths,
    watch: Option<&WatchSettings>,
) -> io::Result<u8> {
    let report = Report::gather(listen, paths, watch);
    let mut output = anstream::stdout().lock();
    let written = if json {
        serde_json::to_writer_pretty(&mut output, &report)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(output))
    } else {
        print::report(&mut output, &report)
    };
    match written.and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(report.exit_code()),
    }
}

#[cfg(test)]
mod tests;
