//! What this process uses.

use std::fs;

use rustix::param::page_size;
use rustix::time::{ClockId, clock_gettime};

use super::Measurement;

/// What is used at `now_ns`; `kernel_ns`: processor time of the kernel half, where it is known.
#[must_use]
pub fn measure(now_ns: u64, kernel_ns: u64) -> Measurement {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let process_ns = seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or_default();
    Measurement { now_ns, cpu_ns: process_ns.saturating_add(kernel_ns), memory: resident() }
}

/// Resident bytes; 0 where the kernel does not tell.
fn resident() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0).saturating_mul(page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::measure;

    #[test]
    fn a_process_uses_something() {
        let first = measure(1, 0);
        assert!(first.memory > 1 << 20, "{first:?}");
        let second = measure(2, 5_000_000_000);
        assert!(second.cpu_ns >= first.cpu_ns + 5_000_000_000, "{second:?}");
    }
}
