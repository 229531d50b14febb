//! The agent without any library of the system: for images without a distribution, and for
//! packages that every release of one takes.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::packages;
use crate::workspace::{cargo, has, run, target};

/// What it runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// 64-bit ARM.
    Arm64,
}

impl Architecture {
    /// That of this machine; of one that is neither, the most common.
    pub const NATIVE: Self = if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::Amd64 };

    /// As images and Debian call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// As compilers call it.
    pub fn triple(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-musl",
            Self::Arm64 => "aarch64-unknown-linux-musl",
        }
    }

    /// The C compiler for the little C and assembly in dependencies, which links, too; and
    /// Debian's packages of it with its headers. Of the C library only types are used.
    fn compiler(self) -> (&'static str, [&'static str; 2]) {
        match self {
            _ if self == Self::NATIVE => ("cc", ["gcc", "libc6-dev"]),
            Self::Amd64 => {
                ("x86_64-linux-gnu-gcc", ["gcc-x86-64-linux-gnu", "libc6-dev-amd64-cross"])
            }
            Self::Arm64 => {
                ("aarch64-linux-gnu-gcc", ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"])
            }
        }
    }
}

/// Sets up what building for an architecture takes, and gives the variables that cargo needs
/// for it.
pub fn toolchain(architecture: Architecture) -> Result<Vec<(String, &'static str)>> {
    let triple = architecture.triple();
    let (compiler, needed) = architecture.compiler();
    if !has(compiler) {
        packages::install(&needed)?;
    }
    if has("rustup") {
        run(std::process::Command::new("rustup").args(["target", "add", triple]))?;
    }
    let variable = triple.replace('-', "_");
    let mut variables = vec![(format!("CC_{variable}"), compiler)];
    if architecture != Architecture::NATIVE {
        variables.push((format!("CARGO_TARGET_{}_LINKER", variable.to_uppercase()), compiler));
    }
    Ok(variables)
}

/// Builds it, and gives its path.
pub fn build(architecture: Architecture, debug: bool) -> Result<PathBuf> {
    let triple = architecture.triple();
    let mut command = cargo();
    command.args(["build", "--locked", "--package", "meshtap", "--target", triple]);
    command.envs(toolchain(architecture)?);
    if !debug {
        command.arg("--release");
    }
    run(&mut command)?;
    let folder = target().join(triple).join(if debug { "debug" } else { "release" });
    let program = folder.join("meshtap");
    let bytes =
        std::fs::read(&program).with_context(|| format!("{} was not built", program.display()))?;
    is_static(&bytes)?;
    Ok(program)
}

/// Fails where the program wants another one to load it: the image has none.
fn is_static(program: &[u8]) -> Result<()> {
    use object::read::elf::{ElfFile64, ProgramHeader as _};
    let file = ElfFile64::<object::Endianness>::parse(program).context("not a program")?;
    let interpreter = object::elf::PT_INTERP;
    if file.elf_program_headers().iter().any(|one| one.p_type(file.endian()) == interpreter) {
        bail!("the program was linked against the system's libraries, which may not be there");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This test runs on the system's libraries.
    #[test]
    fn a_program_that_needs_libraries_is_refused() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let refused = is_static(&own).unwrap_err().to_string();
        assert!(refused.contains("which may not be there"), "{refused}");
        assert!(is_static(b"#!/bin/sh\n").is_err());
    }
}
