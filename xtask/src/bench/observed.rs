//! The agent under measurement, seen from outside through `/proc`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::floor::Floor;
use super::load::{Kind, free_port};
use crate::workspace::target;

/// Makes the kernel measure every run of every eBPF program, which costs time itself.
const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";
/// `BPF_PROG_TYPE_CGROUP_SKB`.
const CGROUP_SKB: u64 = 8;
/// The descriptors of this program.
const OWN: &str = "/proc/self/fdinfo";
/// How long the agent may take to start or stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running agent; ends with this value.
#[derive(Debug)]
pub struct Observed {
    child: Child,
    port: u16,
}

/// Nanoseconds in the kernel under one load.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KernelTime {
    /// Of a run of one of the agent's programs on packets.
    pub per_packet: f64,
    /// Of a run of an empty program, on the same packets.
    pub floor: f64,
    /// Of all of the agent's programs, per request.
    pub per_request: f64,
}

/// Runs and nanoseconds of programs since they were loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Runs {
    packets: f64,
    packet_time: f64,
    time: f64,
}

impl Observed {
    /// Starts `meshtap run` on a port of its own, with its defaults but for what a kind of load
    /// asks for, and waits until it is ready.
    pub fn start(agent: &Path, kind: Kind) -> Result<Self> {
        let port = free_port()?;
        let configuration = target().join("bench-agent.yaml");
        let told = if kind == Kind::Told { "capture: { count_in_kernel: false }\n" } else { "" };
        fs::write(&configuration, format!("listen: \"127.0.0.1:{port}\"\n{told}"))?;
        let log = fs::File::create(target().join("bench-agent.log"))?;
        let child = Command::new(agent)
            .args(["run", "--config"])
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", agent.display()))?;
        let mut observed = Self { child, port };
        observed.wait_until_ready()?;
        Ok(observed)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let start = Instant::now();
        let log = target().join("bench-agent.log");
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                bail!("the agent ended at once ({status}); see {}", log.display());
            }
            if is_ready(self.port) {
                return Ok(());
            }
            sleep(Duration::from_millis(50));
        }
        bail!("the agent does not become ready; see {}", log.display())
    }

    fn process(&self, file: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(file)
    }

    /// Seconds of processor time of its threads so far, user and kernel. In nanoseconds as
    /// the scheduler counts: what wakes with the clock's tick is not sampled by that tick.
    pub fn processor_time(&self) -> Result<f64> {
        let mut nanoseconds = 0.0;
        for thread in fs::read_dir(self.process("task"))? {
            // A thread may end meanwhile.
            let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
            let first = text.split_whitespace().next();
            nanoseconds += first.and_then(|word| word.parse::<f64>().ok()).unwrap_or_default();
        }
        ensure!(nanoseconds > 0.0, "the kernel does not tell the agent's processor time");
        Ok(nanoseconds / 1e9)
    }

    /// Resident bytes.
    pub fn resident(&self) -> Result<u64> {
        let text = fs::read_to_string(self.process("status"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes =
            line.and_then(|line| line.trim().strip_suffix(" kB")).context("no VmRSS")?;
        Ok(kilobytes.trim().parse::<u64>()? * 1024)
    }

    /// What programs take in the kernel while `load` runs; `None` where it does not measure.
    pub fn kernel_time(
        &self,
        load: impl FnOnce() -> Result<(f64, f64)>,
    ) -> Result<Option<KernelTime>> {
        let floor = Floor::attach()?;
        let earlier = fs::read_to_string(STATISTICS).unwrap_or_default();
        if fs::write(STATISTICS, "1").is_err() {
            return Ok(None);
        }
        let all = || Ok::<_, anyhow::Error>((runs(&self.process("fdinfo"))?, runs(OWN.as_ref())?));
        let before = all();
        let loaded = load();
        let after = all();
        drop(floor);
        fs::write(STATISTICS, earlier.trim())?;
        let ((requests, _), (agent, empty), (agent_now, empty_now)) = (loaded?, before?, after?);
        let ((per_packet, time), (floor, _)) = (agent.until(agent_now)?, empty.until(empty_now)?);
        Ok(Some(KernelTime { per_packet, floor, per_request: time / requests }))
    }

    /// Asks it to end and waits for that.
    pub fn stop(mut self) -> Result<()> {
        let status = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status()?;
        ensure!(status.success(), "the agent was gone before it was stopped");
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the agent ended with {status}");
                return Ok(());
            }
            sleep(Duration::from_millis(20));
        }
        bail!("the agent did not end within {} s", PATIENCE.as_secs())
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        // After `stop` there is nothing left to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Runs {
    /// Nanoseconds per packet between two readings, and of all programs.
    fn until(self, later: Self) -> Result<(f64, f64)> {
        let packets = later.packets - self.packets;
        ensure!(packets > 0.0, "no program on packets ran under load");
        Ok(((later.packet_time - self.packet_time) / packets, later.time - self.time))
    }
}

/// Of the programs that a process holds, by its `descriptors`.
fn runs(descriptors: &Path) -> Result<Runs> {
    let mut runs = Runs::default();
    let mut seen = BTreeSet::new();
    for entry in fs::read_dir(descriptors)? {
        // A descriptor may close meanwhile.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        let field = |name: &str| -> Option<u64> {
            text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        };
        // Links say `prog_id` too, but count no runs; a program may have two descriptors.
        let (Some(kind), Some(id)) = (field("prog_type:"), field("prog_id:")) else { continue };
        let (Some(time), Some(count)) = (field("run_time_ns:"), field("run_cnt:")) else {
            continue;
        };
        if seen.insert(id) {
            let (time, count) = (time as f64, count as f64);
            runs.time += time;
            if kind == CGROUP_SKB {
                runs.packet_time += time;
                runs.packets += count;
            }
        }
    }
    Ok(runs)
}

fn is_ready(port: u16) -> bool {
    let answer = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    answer().is_ok_and(|text| text.split(' ').nth(1) == Some("200"))
}
