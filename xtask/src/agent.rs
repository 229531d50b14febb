//! The agent: built, and started the way a person starts it.

use std::convert::Infallible;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::workspace::{cargo, line, privileged, run, target};

/// Builds the agent in release mode.
pub fn build() -> Result<PathBuf> {
    run(cargo().args(["build", "--release", "--locked", "--package", "meshtap"]))?;
    Ok(target().join("release/meshtap"))
}

/// Builds it in debug mode: there sooner, and enough to ask it for what it prints.
pub fn build_debug() -> Result<PathBuf> {
    run(cargo().args(["build", "--locked", "--package", "meshtap"]))?;
    Ok(target().join("debug/meshtap"))
}

/// Builds it with the program `truth` of the tests, and starts that as root.
pub fn examine(filters: &[String]) -> Result<()> {
    let agent = build()?;
    run(cargo().args(["build", "--locked", "--package", "meshtap-tests", "--bin", "truth"]))?;
    let mut truth = privileged(Path::new("env"))?;
    truth.arg(format!("MESHTAP_BIN={}", agent.display()));
    run(truth.arg(target().join("debug/truth")).args(filters))
}

/// Builds it as whoever calls and becomes `meshtap run`, as root.
///
/// **This process is replaced**, by the agent or by sudo, which hands signals on: so
/// signals and exit code are the agent's own.
pub fn start(arguments: &[String]) -> Result<Infallible> {
    let agent = build()?;
    let mut command = privileged(&agent)?;
    command.arg("run").args(arguments);
    eprintln!("$ {}", line(&command));
    Err(command.exec()).with_context(|| format!("cannot start {}", line(&command)))
}
