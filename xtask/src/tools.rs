//! Checkers that no package of Debian has: those that are installed, else set up below
//! `target/tools` in versions of the project's own choice.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::packages;
use crate::workspace::{cargo, has, run, target};

/// Of PyPI, which has it as it is built for this machine.
const TYPOS: &str = "typos==1.52.0";
/// Of crates.io.
const CARGO_DENY: &str = "0.20.2";
/// Of crates.io, too.
const CARGO_DEB: &str = "3.8.0";

/// The spelling checker.
pub fn typos() -> Result<PathBuf> {
    if has("typos") {
        return Ok("typos".into());
    }
    let folder = target().join("tools/typos");
    let program = folder.join("bin/typos");
    if !program.is_file() {
        if !has("pip3") {
            packages::install(&["python3-pip"])?;
        }
        let pip = ["install", "--quiet", "--no-deps", "--root-user-action=ignore", "--target"];
        run(Command::new("pip3").args(pip).arg(&folder).arg(TYPOS))?;
    }
    Ok(program)
}

/// What checks dependencies; builds it for some minutes where it was not built before.
pub fn cargo_deny() -> Result<PathBuf> {
    of_cargo("cargo-deny", CARGO_DENY)
}

/// What puts a package of Debian together, likewise.
pub fn cargo_deb() -> Result<PathBuf> {
    of_cargo("cargo-deb", CARGO_DEB)
}

/// A subcommand of cargo.
fn of_cargo(name: &str, version: &str) -> Result<PathBuf> {
    if has(name) {
        return Ok(name.into());
    }
    let folder = target().join("tools");
    let program = folder.join("bin").join(name);
    if !program.is_file() {
        let what = ["install", name, "--version", version, "--locked", "--debug"];
        run(cargo().args(what).arg("--root").arg(&folder))?;
    }
    Ok(program)
}

/// Whether [`cargo_deny`] has nothing to build.
#[must_use]
pub fn has_cargo_deny() -> bool {
    has("cargo-deny") || target().join("tools/bin/cargo-deny").is_file()
}
