//! [`Share`]: how many of the connections the kernel half follows, and what its programs cost.

use std::fmt;

use aya::Ebpf;
use aya::maps::{Array, MapData, PerCpuArray};

/// There where the kernel says whether it measures programs.
const MEASURES: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// The share, as the kernel half reads it, and its count of what is left out.
pub struct Share {
    share: Array<MapData, u32>,
    left_out: PerCpuArray<MapData, u64>,
}

impl fmt::Debug for Share {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Share")
    }
}

impl Share {
    /// Takes it out of the loaded object; `None` where it has none.
    pub fn take(programs: &mut Ebpf) -> Option<Self> {
        Some(Self {
            share: Array::try_from(programs.take_map("SHARE")?).ok()?,
            left_out: PerCpuArray::try_from(programs.take_map("LEFT_OUT")?).ok()?,
        })
    }

    /// Has 1 in 2^`exponent` connections followed from now on; false: it could not be written.
    pub fn set(&mut self, exponent: u32) -> bool {
        self.share.set(0, exponent, 0).is_ok()
    }

    /// Connections that were left out so far.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out.get(&0, 0).map_or(0, |counts| counts.iter().sum())
    }
}

/// Nanoseconds that the programs have run, by all who sent or received; 0 where the kernel
/// does not measure that (`kernel.bpf_stats_enabled`).
#[must_use]
pub fn run_time_ns(programs: &Ebpf) -> u64 {
    let measures = std::fs::read_to_string(MEASURES).is_ok_and(|text| text.trim() != "0");
    if !measures {
        return 0;
    }
    let times = programs.programs().filter_map(|(_, program)| program.info().ok());
    times.map(|info| u64::try_from(info.run_time().as_nanos()).unwrap_or_default()).sum()
}
