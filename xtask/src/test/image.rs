//! The agent's own image, for the tests that start it in a cluster.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::Options;
use crate::image;
use crate::standalone::{self, Architecture};
use crate::workspace::{has, target};

/// How long two cores build it where nothing is built yet, beside the tests' other builds.
const USUAL: Duration = Duration::from_secs(240);

/// Writes it where all tests are asked for, or says why not. It is of a debug build, which is
/// there sooner; fails where that does not compile.
pub fn write(options: &Options) -> Result<Result<PathBuf, String>> {
    let architecture = Architecture::NATIVE;
    let is_asked_for = options.full || options.budget.is_some();
    if !is_asked_for {
        return Ok(Err("the image takes minutes to build: --full asks for it".to_owned()));
    }
    if let Some(budget) = options.budget
        && let Err(reason) = budget.for_program(USUAL)
    {
        return Ok(Err(reason));
    }
    if let Err(error) = standalone::toolchain(architecture) {
        return Ok(Err(format!("{error:#}")));
    }
    let file = target().join("tests.tar");
    match image::write(&file, architecture, true) {
        Ok(()) => Ok(Ok(file)),
        // Nobody can say whether the other C library's Rust is there.
        Err(error) if !has("rustup") => Ok(Err(format!("{error:#}"))),
        Err(error) => Err(error),
    }
}
