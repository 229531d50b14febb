//! The two lanes on which the agent comes to know of calls, and an agent for each of them.

use anyhow::{Context as _, Result};
use meshtap_tests::agent::{Agent, Turn};
use meshtap_tests::limit::{Limit, Resource};

/// Whether the kernel counts calls that repeat, or has each of them told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    Counted,
    Told,
}

impl Lane {
    const ALL: [Self; 2] = [Self::Counted, Self::Told];

    pub fn name(self) -> &'static str {
        match self {
            Self::Counted => "counted",
            Self::Told => "told",
        }
    }

    fn configuration(self, ring: &str) -> String {
        let counts = self == Self::Counted;
        format!("capture:\n  count_in_kernel: {counts}\n  ring_bytes: {ring}\n")
    }
}

/// Agents side by side that watch the same calls, one for each lane.
#[derive(Debug)]
pub struct Watch {
    agents: Vec<(Lane, Agent)>,
    // Behind the agents, which have to be gone first.
    limits: Vec<Limit>,
    _turn: Option<Turn>,
}

impl Watch {
    pub fn start(names: &str, ring: &str) -> Result<Self> {
        let turn = Turn::take()?;
        Self::start_within(Some(turn), names, ring)
    }

    fn start_within(turn: Option<Turn>, names: &str, ring: &str) -> Result<Self> {
        let mut agents = Vec::new();
        for lane in Lane::ALL {
            let configuration = format!("{names}{}", lane.configuration(ring));
            agents.push((lane, Agent::start_beside(&configuration)?));
        }
        Ok(Self { agents, limits: Vec::new(), _turn: turn })
    }

    /// Ends the agents without a warning and starts others in their place.
    pub fn restart(self, names: &str, ring: &str) -> Result<Self> {
        for (_, agent) in self.agents {
            drop(agent.kill()?);
        }
        Self::start_within(self._turn, names, ring)
    }

    /// Leaves each agent so many hundredths of a processor from here on.
    pub fn hold_back(&mut self, share: u32) -> Result<()> {
        for (_, agent) in &self.agents {
            let limit = Limit::new(Resource::Cpu(share))?;
            limit.take(agent.pid())?;
            self.limits.push(limit);
        }
        Ok(())
    }

    pub fn each(&self) -> impl Iterator<Item = (Lane, &Agent)> {
        self.agents.iter().map(|(lane, agent)| (*lane, agent))
    }

    /// Asks each to stop, and demands that it ends well.
    pub fn stop(self) -> Result<()> {
        for (lane, agent) in self.agents {
            agent.stop().with_context(|| format!("the agent of the lane {}", lane.name()))?;
        }
        Ok(())
    }
}
