//! What makes counting hard.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use meshtap_tests::limit::Resource;
use meshtap_tests::link::{Impairment, Link};
use meshtap_tests::netns::{Netns, Place, SERVER};
use meshtap_tests::requirement::program;
use rustix::process::{Pid, Signal, kill_process};

use crate::lane::Watch;
use crate::load::Load;

/// What the agent may have of one processor, in hundredths, where it has a quota.
const QUOTA: u32 = 5;
/// How long the agent is kept from its work where it is starved.
const STARVED: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// One host, nothing in the way.
    Quiet,
    /// Two milliseconds each way.
    Delay,
    /// One packet in a hundred does not arrive.
    Loss,
    /// Three in a hundred arrive behind their successors.
    Reordering,
    /// Three in a hundred arrive twice.
    Duplication,
    /// The longest packet changes while calls are made.
    PacketSize,
    /// A connection for a call, or for a few.
    Churn,
    /// The agent is stopped for a while, and its buffer is small.
    Starvation,
    /// The agent has a twentieth of one processor.
    Quota,
    /// Servers that answer otherwise take turns at one address and port.
    Reuse,
    /// The agent is killed while calls are made, and started anew.
    Restart,
}

impl Condition {
    pub const ALL: [Self; 11] = [
        Self::Quiet,
        Self::Delay,
        Self::Loss,
        Self::Reordering,
        Self::Duplication,
        Self::PacketSize,
        Self::Churn,
        Self::Starvation,
        Self::Quota,
        Self::Reuse,
        Self::Restart,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Delay => "delay",
            Self::Loss => "loss",
            Self::Reordering => "reordering",
            Self::Duplication => "duplication",
            Self::PacketSize => "packet size",
            Self::Churn => "churn",
            Self::Starvation => "starvation",
            Self::Quota => "cpu quota",
            Self::Reuse => "address reuse",
            Self::Restart => "agent restart",
        }
    }

    /// Why it cannot be made here; `None`: it can.
    pub fn missing(self, load: Load) -> Option<String> {
        if load == Load::Grpc && matches!(self, Self::Reuse | Self::Restart) {
            return Some("only nginx answers otherwise, or logs the time".to_owned());
        }
        if self == Self::Quota
            && let Some(reason) = Resource::Cpu(QUOTA).missing()
        {
            return Some(reason);
        }
        let needed: &[&str] = match self {
            Self::Quiet | Self::Churn | Self::Starvation | Self::Quota | Self::Restart => &["ss"],
            Self::Loss => &["ss", "ip", "iptables"],
            Self::PacketSize | Self::Reuse => &["ss", "ip"],
            Self::Delay | Self::Reordering | Self::Duplication => &["ss", "ip", "python3"],
        };
        let absent = needed.iter().find(|name| program(name).is_none())?;
        Some(format!("{absent} is not installed"))
    }

    /// Size of the agent's buffer.
    pub fn ring(self) -> &'static str {
        if self == Self::Starvation { "256 KiB" } else { "4 MiB" }
    }

    /// Calls, and connections with streams on each.
    pub fn size(self, load: Load) -> (u64, (u32, u32)) {
        match (self, load) {
            (Self::Quiet | Self::Quota, _) => (50_000, (8, 16)),
            // Connections go on when the agent does: only then it can count what it missed.
            (Self::Starvation, _) => (200_000, (8, 16)),
            (Self::Churn, Load::Grpc) => (2_000, (200, 2)),
            (Self::Churn, _) => (4_000, (400, 4)),
            _ => (10_000, (8, 16)),
        }
    }

    fn impairment(self) -> Option<Impairment> {
        let none = Impairment {
            delay: Duration::from_micros(300),
            reorder: 0.0,
            duplicate: 0.0,
            loss: 0.0,
            seed: 5,
        };
        match self {
            Self::Delay => Some(Impairment { delay: Duration::from_millis(2), ..none }),
            Self::Reordering => Some(Impairment { reorder: 0.03, ..none }),
            Self::Duplication => Some(Impairment { duplicate: 0.03, ..none }),
            _ => None,
        }
    }
}

/// Where client and server are, and what lies between them.
#[derive(Debug)]
pub struct Ground {
    condition: Condition,
    // The line goes before the namespaces that it joins.
    _line: Option<Link>,
    ends: Option<(Netns, Netns)>,
}

impl Ground {
    pub fn lay(condition: Condition) -> Result<Self> {
        if let Some(impairment) = condition.impairment() {
            let ends = (Netns::create()?, Netns::create()?);
            let line = Link::lay(&ends.0, &ends.1, impairment)?;
            return Ok(Self { condition, _line: Some(line), ends: Some(ends) });
        }
        let ends = match condition {
            Condition::Loss | Condition::PacketSize => Some(Netns::pair()?),
            _ => None,
        };
        for netns in ends.iter().flat_map(|(client, server)| [client, server]) {
            if condition == Condition::Loss {
                const DROP: &str = "-m statistic --mode random --probability 0.01 -j DROP";
                netns.run(&format!("iptables -A INPUT {DROP}"))?;
            }
        }
        Ok(Self { condition, _line: None, ends })
    }

    pub fn client(&self) -> Place<'_> {
        self.ends.as_ref().map_or(Place::HERE, |(client, _)| Place::netns(client))
    }

    pub fn server(&self) -> Place<'_> {
        self.ends.as_ref().map_or(Place::HERE, |(_, server)| Place::netns(server))
    }

    /// Where the client finds the server.
    pub fn address(&self) -> &'static str {
        if self.ends.is_some() { SERVER } else { "127.0.0.1" }
    }

    /// Does what is done while calls are made.
    pub fn disturb<T>(&self, watch: &mut Watch, calls: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.condition == Condition::Quota {
            watch.hold_back(QUOTA)?;
        }
        let watch = &*watch;
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let disturber = scope.spawn(|| match self.condition {
                Condition::PacketSize => self.change_packet_size(&over),
                Condition::Starvation => starve(watch),
                _ => Ok(()),
            });
            let result = calls();
            over.store(true, Ordering::Relaxed);
            let disturbed = disturber.join();
            disturbed.map_err(|_| anyhow::anyhow!("the disturber panicked"))??;
            result
        })
    }

    fn change_packet_size(&self, over: &AtomicBool) -> Result<()> {
        let Some((client, server)) = &self.ends else { return Ok(()) };
        for size in [600, 1500, 900, 9000].iter().cycle() {
            if over.load(Ordering::Relaxed) {
                break;
            }
            for netns in [client, server] {
                netns.run(&format!("ip link set eth0 mtu {size}"))?;
            }
            sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// Keeps the agents from their work.
fn starve(watch: &Watch) -> Result<()> {
    let tell = |signal| {
        watch.each().try_for_each(|(_, agent)| {
            let pid = i32::try_from(agent.pid()).ok().and_then(Pid::from_raw);
            let pid = pid.ok_or_else(|| anyhow::anyhow!("no process id"))?;
            Ok::<_, anyhow::Error>(kill_process(pid, signal)?)
        })
    };
    sleep(Duration::from_millis(500));
    tell(Signal::STOP)?;
    sleep(STARVED);
    tell(Signal::CONT)
}
