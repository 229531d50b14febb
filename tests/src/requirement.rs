//! What a test needs from the machine, and how it says that something is missing.

use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The path of an installed program, if any. Names with a `/` are taken as they are.
#[must_use]
pub fn program(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Path::new(name).exists().then(|| PathBuf::from(name));
    }
    // The interpreters of the system come first: a version switcher's shell script in
    // front of one would be the process that is started, and seen.
    let system = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    system
        .into_iter()
        .chain(env::split_paths(&path).collect::<Vec<_>>())
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

/// Whether this kernel is of a version or newer: for what it does otherwise and does not tell.
#[must_use]
pub fn kernel_since(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().ok());
    let mut next = || numbers.next().flatten().unwrap_or(0_u32);
    (next(), next()) >= (major, minor)
}

/// Whether the kernel keeps its events to itself (lockdown=confidentiality): whatever is told
/// by a tracepoint is lost then.
#[must_use]
pub fn keeps_events() -> bool {
    std::fs::read_to_string("/sys/kernel/security/lockdown")
        .is_ok_and(|text| text.contains("[confidentiality]"))
}

/// Why a test that needs root and `programs` cannot run here; `None`: it can.
#[must_use]
pub fn missing(programs: &[&str]) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root: only root may load the agent's programs".to_owned());
    }
    if let Err(error) = crate::agent::binary() {
        return Some(format!("{error:#}"));
    }
    let absent: Vec<&str> =
        programs.iter().copied().filter(|name| program(name).is_none()).collect();
    (!absent.is_empty()).then(|| format!("not installed: {}", absent.join(", ")))
}

/// Whether the tests that take minutes to prepare were asked for (`MESHTAP_FULL=1`).
#[must_use]
pub fn full() -> bool {
    env::var_os("MESHTAP_FULL").is_some_and(|value| value == "1")
}

/// Prints `SKIP <test>: <reason>` past the capture of the test harness, which would
/// swallow it for a test that passes.
pub fn skipped(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("?");
    // A closed standard error is no reason to fail.
    drop(writeln!(std::io::stderr(), "SKIP {test}: {reason}"));
}
