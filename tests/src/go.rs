//! What tests build with Go, from modules whose versions and checksums lie in the fixtures.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::cache::lay_out;
use crate::netns::Place;
use crate::process::output;

/// Go in a folder, without a C compiler and without flags of the user's own.
pub fn go(folder: &Path) -> Result<Command> {
    let mut command = Place::HERE.inside("go")?;
    command.current_dir(folder).env("CGO_ENABLED", "0").env("GOFLAGS", "");
    Ok(command)
}

/// How many packages a program consists of, once all are fetched; `package`: flags and the
/// package itself, as `go build` takes them.
pub fn fetch(folder: &Path, package: &[&str]) -> Result<usize> {
    let list = output(go(folder)?.args(["list", "-mod=mod", "-deps"]).args(package))?;
    Ok(list.lines().count())
}

/// Why a program cannot be built here: no Go, one that is too old, or modules that are not to
/// be had. `None`: it can. Fetches its modules.
#[must_use]
pub fn lacking(name: &str, source: &Path, package: &[&str]) -> Option<String> {
    let look = || {
        let folder = tempfile::tempdir()?;
        lay_out(source, folder.path())?;
        fetch(folder.path(), package)
    };
    look().err().map(|error| format!("{name} cannot be built: {error:#}"))
}
