//! Debian packages: installed only where missing, without starting their services.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::workspace::{has, privileged, run};

/// Asked by Debian's packages before they start a service; 101 forbids it.
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// Where the host's own policy waits meanwhile.
const ASIDE: &str = "/usr/sbin/policy-rc.d.before-meshtap";

/// Installs packages as root or through sudo; services that they bring stay stopped.
pub fn install(names: &[&str]) -> Result<()> {
    ensure!(
        has("apt-get"),
        "{} are missing, and this system has no apt-get to install them with",
        names.join(", ")
    );
    eprintln!("installing {}", names.join(" "));
    let _stopped = Stopped::new()?;
    let attempt = || run(apt()?.args(["install", "-y", "--no-install-recommends"]).args(names));
    if attempt().is_err() {
        // The lists of packages may be older than what the mirror still has.
        run(apt()?.arg("update"))?;
        attempt()?;
    }
    Ok(())
}

fn apt() -> Result<Command> {
    // `env`, because sudo passes on only what its own rules name.
    let mut command = privileged(Path::new("env"))?;
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]);
    Ok(command)
}

/// While it lives, packages start no services; then the host's own policy is back.
struct Stopped {
    earlier: bool,
}

impl Stopped {
    fn new() -> Result<Self> {
        ensure!(
            !Path::new(ASIDE).exists(),
            "{ASIDE} is left from an interrupted run: move it back to {POLICY} first"
        );
        let earlier = Path::new(POLICY).exists();
        if earlier {
            run(privileged(Path::new("mv"))?.args([POLICY, ASIDE]))?;
        }
        let stopped = Self { earlier };
        let write = format!("printf '#!/bin/sh\\nexit 101\\n' > {POLICY} && chmod 755 {POLICY}");
        run(privileged(Path::new("sh"))?.args(["-c", &write]))?;
        Ok(stopped)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let restored = if self.earlier {
            privileged(Path::new("mv")).and_then(|mut command| run(command.args([ASIDE, POLICY])))
        } else {
            privileged(Path::new("rm")).and_then(|mut command| run(command.args(["-f", POLICY])))
        };
        if let Err(error) = restored {
            eprintln!("{POLICY} could not be put back: {error:#}");
        }
    }
}
