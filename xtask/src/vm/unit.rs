//! The systemd unit under systemd: with everything that it asks for in force, the agent starts,
//! sees calls and ends.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::guest;
use super::image::Image;
use super::kernels::{BOOKWORM, Guest};
use crate::workspace::root;

/// Begins the lines that count.
const MARK: &str = "@@unit ";
/// The unit.
const UNIT: &str = "deploy/systemd/meshtap.service";

/// Whether it is a guest that the unit is tried on.
pub fn is_tried_on(guest: &Guest) -> bool {
    guest.kernel == Some(&BOOKWORM)
}

/// Boots, starts, calls, and fails where anything is not as the unit says.
pub fn attempt(agent: &Path, fetch: bool) -> Result<()> {
    let image = Image::ready(&BOOKWORM, fetch)?;
    let agent = agent.canonicalize()?;
    let unit = root().join(UNIT).canonicalize()?;
    let words = format!("set -- {} {}\n", agent.display(), unit.display());
    let output = guest::run_by_systemd(&image, &format!("{words}{}", include_str!("unit.sh")))?;
    println!("{output}");
    judge(&output, &std::fs::read_to_string(unit)?)
}

/// What the guest printed, against what the unit asks for.
fn judge(output: &str, unit: &str) -> Result<()> {
    let said = |word: &str| -> Result<&str> {
        let mut lines = output.lines().filter_map(|line| line.strip_prefix(MARK));
        let value = lines.find_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
        value.map(str::trim).with_context(|| format!("nothing is said of {word}: {output}"))
    };
    let expect = |word: &str, wanted: &str| -> Result<()> {
        let found = said(word)?;
        ensure!(found == wanted, "{word} is {found}, not {wanted}: {output}");
        Ok(())
    };
    expect("started", "yes")?;
    expect("ready", "yes")?;
    // Of the kernel: a filter of system calls, nothing to be gained, files of its own.
    expect("NoNewPrivs", "1")?;
    expect("Seccomp", "2")?;
    expect("mounts", "own")?;
    expect("root", "ro")?;
    ensure!(!said("devices")?.contains("kmsg"), "{output}");
    // Of systemd: each switch as it is written.
    for line in unit.lines() {
        let Some((key, value)) = line.split_once('=') else { continue };
        let is_switch = key.starts_with("Protect") && key != "ProtectProc"
            || key.starts_with("Private")
            || matches!(key, "MemoryDenyWriteExecute" | "LockPersonality")
            || matches!(key, "RestrictRealtime" | "RestrictSUIDSGID" | "RestrictNamespaces");
        if is_switch {
            expect(key, value)?;
        }
    }
    expect("counted", "3")?;
    expect("stopped", "success")
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: &str = "[Service]\nProtectSystem=strict\nRestartSec=5s\n";
    const GOOD: [&str; 9] = [
        "started yes",
        "ready yes",
        "NoNewPrivs 1",
        "Seccomp 2",
        "mounts own",
        "root ro",
        "devices null zero ",
        "ProtectSystem strict",
        "counted 3",
    ];

    fn output(lines: &[&str]) -> String {
        lines.iter().chain(&["stopped success"]).map(|line| format!("{MARK}{line}\n")).collect()
    }

    #[test]
    fn what_is_not_in_force_is_told() {
        judge(&output(&GOOD), UNIT).unwrap();
        for number in 0..GOOD.len() {
            let mut lines = GOOD;
            lines[number] = "devices kmsg";
            judge(&output(&lines), UNIT).unwrap_err();
        }
    }
}
