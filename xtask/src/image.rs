//! An image of a container with the agent alone: no shell, no distribution, no daemon to
//! build it. deploy/Containerfile says the same to those who have one.
//!
//! **The same program gives the same bytes**: nothing of the machine or the time is in it.

mod archive;

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::standalone::{self, Architecture};

/// Builds the agent and writes the image.
pub fn write(output: &Path, architecture: Architecture, debug: bool) -> Result<()> {
    let program = std::fs::read(standalone::build(architecture, debug)?)?;
    let image = archive::Image { program: &program, architecture: architecture.name() };
    std::fs::write(output, image.archive()?)
        .with_context(|| format!("cannot write {}", output.display()))?;
    println!("{}: {} for {}", output.display(), archive::name(), architecture.name());
    Ok(())
}
