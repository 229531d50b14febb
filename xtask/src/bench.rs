//! `cargo xtask bench`: what the agent costs, measured beside the same load without it.
//!
//! nginx (one worker) or a gRPC server on the first processor, and wrk or h2load on the second,
//! saturate two cores;
//! rounds with and without the agent alternate in one run and are compared in pairs, so
//! that what drifts on the machine cancels. **It reports and never gates.**

mod floor;
mod instead;
mod load;
mod observed;
mod report;
mod stages;

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::agent;
use crate::workspace::{has, is_root, privileged, run};
use floor::Floor;
use instead::Instead;
use load::{Kind, Server, busy};
use observed::{KernelTime, Observed};

/// Says where the agent is when this program starts itself as root.
const AGENT: &str = "MESHTAP_BIN";
/// Says where the gRPC server is, likewise.
const SHOP: &str = "MESHTAP_BENCH_SHOP";

/// How much to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Pairs of rounds.
    pub rounds: usize,
    /// Seconds of one round.
    pub seconds: u32,
    /// Seconds without load.
    pub idle: u32,
}

impl Effort {
    /// Enough to tell two percent.
    pub const WHOLE: Self = Self { rounds: 9, seconds: 2, idle: 20 };
    /// Enough to see that it works.
    pub const QUICK: Self = Self { rounds: 3, seconds: 1, idle: 3 };
}

/// Requests and processor time of one round.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Round {
    /// Requests that wrk counted.
    pub requests: f64,
    /// Seconds.
    pub seconds: f64,
    /// Seconds in which some processor was not idle.
    pub busy: f64,
    /// Seconds of the agent's own processor time; 0 without it.
    pub agent: f64,
}

/// A round without the agent and the one beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pair {
    /// Without.
    pub bare: Round,
    /// With.
    pub observed: Round,
}

/// Everything that was measured under load.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Results {
    /// Of each kind of load, in the order of measuring.
    pub pairs: Vec<(Kind, Pair)>,
    /// What the kernel takes for packets of each kind of load, where it measures that.
    pub kernel: Vec<(Kind, KernelTime)>,
    /// Resident bytes at rest, with 10,000 connections, after churn.
    pub memory: [u64; 3],
    /// Share of one core without load.
    pub idle: f64,
}

/// Measures, prints, and writes `docs/performance.md` unless the effort was small.
pub fn measure(effort: Effort) -> Result<()> {
    for program in ["nginx", "wrk", "h2load", "openssl", "tcpdump", "taskset"] {
        ensure!(has(program), "{program} is not installed; `cargo xtask test` installs it");
    }
    let given = |name| std::env::var_os(name).map(PathBuf::from);
    if let (Some(agent), Some(shop)) = (given(AGENT), given(SHOP)) {
        return beside_bare_runs(&agent, &shop, effort);
    }
    let (agent, shop) = (agent::build()?, load::build_shop()?);
    if is_root()? {
        beside_bare_runs(&agent, &shop, effort)?;
    } else {
        let this = std::env::current_exe()?;
        let mut again = privileged(Path::new("env"))?;
        again
            .arg(format!("{AGENT}={}", agent.display()))
            .arg(format!("{SHOP}={}", shop.display()))
            .arg(this)
            .args(std::env::args_os().skip(1));
        run(&mut again)?;
    }
    stages::measure(effort)
}

fn beside_bare_runs(agent: &Path, shop: &Path, effort: Effort) -> Result<()> {
    // What is needed last is missed first.
    drop(Floor::attach()?);
    let server = Server::start(shop)?;
    let mut results = Results::default();
    server.load(1, Kind::Http1)?;
    for number in 1..=effort.rounds {
        for kind in report::COMPARED.map(|(kind, _)| kind) {
            if kind == Kind::Proxy && instead::envoy().is_none() {
                continue;
            }
            let pair = pair(&server, agent, effort, kind, number % 2 == 0)?;
            let ratio = report::rate(pair.observed) / report::rate(pair.bare);
            let bare = report::rate(pair.bare);
            println!("round {number}, {kind:?}: {ratio:.3} of {bare:.0} requests/s");
            results.pairs.push((kind, pair));
        }
    }
    alone(&server, agent, effort, &mut results)?;
    report::publish(effort, "", &report::text(&results, effort))
}

fn pair(
    server: &Server,
    agent: &Path,
    effort: Effort,
    kind: Kind,
    agent_first: bool,
) -> Result<Pair> {
    let bare = |pair: &mut Pair| -> Result<()> {
        pair.bare = round(server, None, effort, kind, None)?;
        Ok(())
    };
    let observed = |pair: &mut Pair| -> Result<()> {
        if matches!(kind, Kind::Capture | Kind::Proxy) {
            let instead = Instead::start(kind, server.port(), server.folder())?;
            pair.observed = round(server, instead.port, effort, kind, None)?;
            return Ok(());
        }
        let agent = Observed::start(agent, kind)?;
        pair.observed = round(server, None, effort, kind, Some(&agent))?;
        agent.stop()
    };
    let mut pair = Pair::default();
    if agent_first {
        observed(&mut pair)?;
        bare(&mut pair)?;
    } else {
        bare(&mut pair)?;
        observed(&mut pair)?;
    }
    Ok(pair)
}

fn round(
    server: &Server,
    port: Option<u16>,
    effort: Effort,
    kind: Kind,
    agent: Option<&Observed>,
) -> Result<Round> {
    let own = |agent: Option<&Observed>| agent.map_or(Ok(0.0), Observed::processor_time);
    let (before, own_before) = (busy()?, own(agent)?);
    let port = port.unwrap_or(server.port());
    let (requests, seconds) = server.load_at(port, effort.seconds, kind)?;
    Ok(Round { requests, seconds, busy: busy()? - before, agent: own(agent)? - own_before })
}

/// What needs one agent for longer: time in the kernel, memory, rest.
fn alone(server: &Server, agent: &Path, effort: Effort, results: &mut Results) -> Result<()> {
    let agent = Observed::start(agent, Kind::Http1)?;
    // Threads that only started it end after ten seconds, and take their time with them.
    sleep(Duration::from_secs(12));
    let before = agent.processor_time()?;
    sleep(Duration::from_secs(effort.idle.into()));
    results.idle = (agent.processor_time()? - before) / f64::from(effort.idle);
    results.memory[0] = agent.resident()?;
    results.memory[1] = server.with_connections(10_000, || agent.resident())?;
    server.load(effort.seconds * 3, Kind::Churn)?;
    results.memory[2] = agent.resident()?;
    for kind in [Kind::Http1, Kind::Many, Kind::Tls, Kind::Large] {
        // Many connections take seconds to come about.
        let seconds = if kind == Kind::Many { effort.seconds * 4 } else { effort.seconds };
        let time = agent.kernel_time(|| server.load(seconds, kind))?;
        results.kernel.extend(time.map(|time| (kind, time)));
    }
    agent.stop()
}
