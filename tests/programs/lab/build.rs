//! Builds one [`Part`] after the other, as far as the time is enough, and says of each what became
//! of it in a line: `helm built`, `jaeger lacks REASON`, `kwok failed REASON`. It ends when the
//! time is over, or when its standard input does: with whoever started it.

use std::io::Read as _;
use std::num::NonZero;
use std::thread::{available_parallelism, sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::Result;
use meshtap_tests::cache::free;
use meshtap_tests::part::Part;
use rustix::process::{Signal, getpgrp, getpid, kill_current_process_group, setpgid};

/// By how much a build may take longer than on cores that do nothing else.
const SHARED: f64 = 1.5;

/// Bytes that must be free before a build begins: the largest leaves some five gigabytes in Go's
/// caches.
const DISK: u64 = 6_000_000_000;

/// Builds what is not there yet and may be there in time.
pub(crate) fn all(limit: Duration) -> Result<()> {
    let end = Instant::now() + limit;
    // What it starts ends with it.
    setpgid(None, None)?;
    spawn(move || {
        sleep(limit);
        stop();
    });
    spawn(|| {
        // Nothing is ever written there.
        drop(std::io::stdin().read_to_end(&mut Vec::new()));
        stop();
    });
    for part in Part::ALL {
        let outcome = one(part, end);
        println!("{} {}", part.name(), outcome.replace('\n', " "));
    }
    Ok(())
}

/// Ends this program and all that it has started.
fn stop() {
    if getpgrp() == getpid() {
        // There is nobody left who could do more.
        let _ = kill_current_process_group(Signal::KILL);
    }
}

fn one(part: Part, end: Instant) -> String {
    if part.is_built() {
        return "built".to_owned();
    }
    match free() {
        Ok(free) if free < DISK => return format!("lacks only {free} bytes of disk are free"),
        Ok(_) => {}
        Err(error) => return format!("failed {error:#}"),
    }
    if let Some(reason) = part.lacking() {
        return format!("lacks {reason}");
    }
    let (left, needed) = (end.saturating_duration_since(Instant::now()), needed(part));
    if left < needed {
        let [left, needed] = [left, needed].map(|time| time.as_secs());
        return format!("lacks it takes about {needed} s, and {left} s were left");
    }
    let began = Instant::now();
    match part.build() {
        Ok(()) => {
            eprintln!("{}: built in {} s", part.name(), began.elapsed().as_secs());
            "built".to_owned()
        }
        Err(error) => format!("failed {error:#}"),
    }
}

/// What it takes on the cores of this machine.
fn needed(part: Part) -> Duration {
    let cores = available_parallelism().map_or(1, NonZero::get);
    let cores = f64::from(u32::try_from(cores).unwrap_or(u32::MAX));
    Duration::from_secs(part.cost()).mul_f64(SHARED / cores)
}
