//! [`Guard`]: keeps the agent within its limits. Decides from measurements, once a second, and
//! measures nothing itself: time is data.
//!
//! Beyond a limit fewer connections are followed, by steps of a half down to 1 in 64, and each
//! that is stands for so many more; with room to spare, by steps up again. The steps up are
//! slower than those down, and only taken where the limit would hold with twice the work: so
//! it does not swing. Where not even the last step is enough, the agent leaves the kernel.

mod measure;

use std::fmt;

use meshtap_ebpf::sample::SMALLEST;

pub use measure::measure;

/// What may be used; `None`: any amount.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Seconds of processor time a second: of the process, and of the kernel half where the
    /// kernel measures that.
    pub cpu: Option<f64>,
    /// Bytes of resident memory.
    pub memory: Option<u64>,
}

/// What is used at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measurement {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub now_ns: u64,
    /// Processor time since the start, nanoseconds.
    pub cpu_ns: u64,
    /// Resident bytes.
    pub memory: u64,
}

/// A limit that does not hold, whatever is left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Beyond {
    /// Processor time a second, and the limit.
    Cpu(f64, f64),
    /// Bytes, and the limit.
    Memory(u64, u64),
}

impl fmt::Display for Beyond {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu(used, limit) => write!(
                formatter,
                "the agent used {used:.2} of a core and `limits.cpu` is {limit}, though it \
                 followed no more than 1 in 64 connections"
            ),
            Self::Memory(used, limit) => write!(
                formatter,
                "the agent used {} MiB of memory and `limits.memory` is {} MiB",
                used >> 20,
                limit >> 20
            ),
        }
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Nothing.
    Keep,
    /// Follow 1 in 2^n connections.
    Follow(u32),
    /// Leave the kernel.
    Leave(Beyond),
}

/// Seconds beyond the limit before a step is taken; a burst is none.
const HOT: u32 = 2;
/// Seconds with room before a step back is taken.
const CALM: u32 = 10;
/// Seconds beyond the limit with the smallest share before the agent leaves.
const PATIENCE: u32 = 30;
/// Of the limit: with less than this used there is room for twice the work.
const ROOM: f64 = 0.4;
/// Of the limit on memory, in tenths: beyond it the smallest share holds.
const TIGHT: u64 = 9;
/// Of the limit on memory, in tenths: below it there is room.
const LOOSE: u64 = 8;

/// The state of the decision.
#[derive(Clone, Copy, Debug, Default)]
pub struct Guard {
    limits: Limits,
    /// The share is 1 in 2^`share`.
    share: u32,
    last: Option<Measurement>,
    hot: u32,
    calm: u32,
    /// Memory is, or was, short, and is not yet well below.
    tight: bool,
}

impl Guard {
    /// Nothing is left out yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Whether there is a limit to be kept.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.limits != Limits::default()
    }

    /// The share that is followed, as an exponent: 1 in 2^n.
    #[must_use]
    pub fn share(&self) -> u32 {
        self.share
    }

    /// Whether memory is so short that what can be given back should be.
    #[must_use]
    pub fn is_tight(&self) -> bool {
        self.tight
    }

    /// Takes a measurement, about one a second.
    pub fn take(&mut self, now: Measurement) -> Verdict {
        let Some(last) = self.last.replace(now) else { return Verdict::Keep };
        if let Some(limit) = self.limits.memory {
            if now.memory >= limit {
                return Verdict::Leave(Beyond::Memory(now.memory, limit));
            }
            let tenths = |part: u64| limit / 10 * part;
            let least = if self.tight { LOOSE } else { TIGHT };
            self.tight = now.memory >= tenths(least);
            if self.tight {
                return self.follow(SMALLEST);
            }
        }
        self.heed(load(last, now))
    }

    /// Compares a second's processor time with the limit.
    fn heed(&mut self, load: f64) -> Verdict {
        let limit = self.limits.cpu.unwrap_or(f64::INFINITY);
        if load > limit {
            return self.heat(load, limit);
        }
        self.hot = 0;
        self.calm = if load < limit * ROOM { self.calm + 1 } else { 0 };
        if self.calm < CALM {
            return Verdict::Keep;
        }
        self.calm = 0;
        self.follow(self.share.saturating_sub(1))
    }

    fn heat(&mut self, load: f64, limit: f64) -> Verdict {
        self.calm = 0;
        self.hot += 1;
        if self.share == SMALLEST {
            let beyond = Beyond::Cpu(load, limit);
            return if self.hot >= PATIENCE { Verdict::Leave(beyond) } else { Verdict::Keep };
        }
        if self.hot < HOT {
            return Verdict::Keep;
        }
        self.hot = 0;
        // As many halves as the load asks for.
        let mut steps = 1;
        while steps < SMALLEST && load / f64::from(1_u32 << steps) > limit {
            steps += 1;
        }
        self.follow((self.share + steps).min(SMALLEST))
    }

    fn follow(&mut self, share: u32) -> Verdict {
        if share == self.share {
            return Verdict::Keep;
        }
        self.share = share;
        Verdict::Follow(share)
    }
}

/// Processor time a second between two measurements.
fn load(last: Measurement, now: Measurement) -> f64 {
    let passed = now.now_ns.saturating_sub(last.now_ns).max(1);
    now.cpu_ns.saturating_sub(last.cpu_ns) as f64 / passed as f64
}

#[cfg(test)]
mod tests;
