//! The package, installed and purged: it puts everything into place, and leaves nothing.
//!
//! **No file of this machine changes**: what is written lies in memory over them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{FILES, write};
use crate::packages;
use crate::standalone::{Architecture, toolchain};
use crate::tally::Tally;
use crate::test::budget::Budget;
use crate::tools;
use crate::workspace::{has, privileged, read, target};

/// How long two cores take to build what puts packages together, and the agent without any
/// library of the system.
const USUAL: Duration = Duration::from_secs(300);
/// What only an installation makes: the service is enabled.
const ENABLED: &str = "etc/systemd/system/multi-user.target.wants/meshtap.service";

/// Tries it, and counts what came of it; skips where the package cannot be built here.
pub fn attempt(budget: Option<&Budget>, tally: &mut Tally) {
    const NAME: &str = "package";
    match lacking(budget) {
        Some(reason) => tally.skip(NAME, reason),
        None => tally.count(NAME, install_and_purge()),
    }
}

fn lacking(budget: Option<&Budget>) -> Option<String> {
    if !has("dpkg") || !has("deb-systemd-helper") {
        return Some("this is no system with dpkg and systemd's helpers for it".to_owned());
    }
    if Path::new("/var/lib/dpkg/info/meshtap.list").exists() {
        return Some("the package is installed here".to_owned());
    }
    let mut left = budget.map(|budget| budget.for_program(USUAL));
    if let Some(Err(reason)) = left.take() {
        return Some(reason);
    }
    let missing = [("dpkg-deb", "dpkg"), ("unshare", "util-linux")];
    let missing: Vec<_> =
        missing.iter().filter(|(program, _)| !has(program)).map(|(_, package)| *package).collect();
    if !missing.is_empty()
        && let Err(error) = packages::install(&missing)
    {
        return Some(format!("{error:#}"));
    }
    let tool = tools::cargo_deb().map(drop).and_then(|()| toolchain(Architecture::NATIVE));
    tool.err().map(|error| format!("{error:#}"))
}

fn install_and_purge() -> Result<()> {
    let package = target().join("tests.deb");
    write(&package, Architecture::NATIVE, true)?;
    let folder = target().join("trial");
    std::fs::create_dir_all(&folder)?;
    let script = folder.with_extension("sh");
    std::fs::write(&script, include_str!("trial.sh"))?;
    let mut command = privileged(Path::new("unshare"))?;
    command.args(["--mount", "--propagation", "private", "/bin/sh"]);
    command.arg(script).arg(&folder).arg(package.canonicalize()?);
    judge(&read(&mut command)?)
}

/// What the script printed, against what there has to be.
fn judge(output: &str) -> Result<()> {
    let of = |word: &'static str| {
        output.lines().filter_map(move |line| line.strip_prefix(word)?.strip_prefix(' '))
    };
    ensure!(output.lines().last() == Some("done"), "it did not come to its end: {output}");
    for path in FILES.iter().chain(&[ENABLED]) {
        ensure!(of("installed").any(|found| found == *path), "{path} was not installed: {output}");
    }
    let version = of("version").next().context("what was installed does not say its version")?;
    ensure!(version.contains(env!("CARGO_PKG_VERSION")), "it is of version {version}");
    let left: Vec<&str> = of("left").collect();
    ensure!(left.is_empty(), "`dpkg --purge` leaves {left:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told() {
        let installed: String =
            FILES.iter().chain(&[ENABLED]).map(|path| format!("installed {path}\n")).collect();
        let version = format!("version meshtap {}\n", env!("CARGO_PKG_VERSION"));
        judge(&format!("{installed}{version}done\n")).unwrap();
        let left = format!("{installed}{version}left etc/meshtap\ndone\n");
        let refused = judge(&left).unwrap_err().to_string();
        assert!(refused.contains("leaves [\"etc/meshtap\"]"), "{refused}");
        judge(&format!("{installed}{version}")).unwrap_err();
        judge(&format!("{version}done\n")).unwrap_err();
    }
}
