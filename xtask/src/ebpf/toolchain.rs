//! What the kernel object is compiled with: found, installed where it is missing, named.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::recipe;
use crate::packages;
use crate::workspace::{cargo, has, read, run};

/// Versions that decide the object's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// As `rustc --version` says.
    pub rustc: String,
    /// Version of bpf-linker.
    pub linker: String,
    /// Version of the LLVM that the linker is built against.
    pub llvm: String,
    /// The compiler's own folder.
    pub sysroot: PathBuf,
}

impl Toolchain {
    /// Looks without installing anything; says what is missing.
    pub fn find() -> Result<Self> {
        let sysroot =
            PathBuf::from(read(Command::new("rustc").args(["--print", "sysroot"]))?.trim());
        ensure!(
            sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file(),
            "the sources of Rust's core library (rust-src) are not installed"
        );
        let config = Path::new(recipe::LLVM).join("bin/llvm-config");
        ensure!(config.is_file(), "{} is not installed", recipe::PACKAGES.join(" and "));
        let linker = linker_version().context("bpf-linker is not installed")?;
        ensure!(linker == recipe::LINKER, "bpf-linker is {linker}, wanted is {}", recipe::LINKER);
        Ok(Self {
            rustc: rustc()?,
            linker,
            llvm: read(Command::new(config).arg("--version"))?.trim().to_owned(),
            sysroot,
        })
    }

    /// Installs what is missing, and says what that is.
    pub fn install() -> Result<Self> {
        let sysroot =
            PathBuf::from(read(Command::new("rustc").args(["--print", "sysroot"]))?.trim());
        if !sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file() {
            eprintln!("rust-src is missing: the kernel half compiles Rust's core library itself");
            ensure!(has("rustup"), "rust-src is missing and rustup, which brings it, is not there");
            run(Command::new("rustup").args(["component", "add", "rust-src"]))?;
        }
        if !Path::new(recipe::LLVM).join("bin/llvm-config").is_file() {
            eprintln!("LLVM is missing: bpf-linker is built against Debian's");
            packages::install(&recipe::PACKAGES)?;
        }
        if linker_version().as_deref() != Some(recipe::LINKER) {
            eprintln!("bpf-linker {} is missing: building it (a minute or two)", recipe::LINKER);
            run(cargo()
                .args(["install", "bpf-linker", "--version", recipe::LINKER, "--locked"])
                .args(["--no-default-features", "--features", "llvm-22"])
                .env("LLVM_PREFIX", recipe::LLVM)
                .env("PATH", path()?))?;
        }
        Self::find()
    }
}

/// As `rustc --version` says.
pub fn rustc() -> Result<String> {
    let version = read(Command::new("rustc").arg("--version"))?;
    Ok(version.trim().trim_start_matches("rustc ").to_owned())
}

/// The search path with LLVM's programs first.
pub fn path() -> Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let first = Path::new(recipe::LLVM).join("bin");
    let mut folders = vec![first];
    folders.extend(std::env::split_paths(&path));
    // `cargo install` puts programs there, whether the caller's path says so or not.
    folders.push(cargo_home()?.join("bin"));
    Ok(std::env::join_paths(folders)?)
}

/// Where cargo keeps registries and installed programs.
pub fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = std::env::var_os("CARGO_HOME") {
        return Ok(home.into());
    }
    let home = std::env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cargo"))
}

fn linker_version() -> Option<String> {
    let mut linker = Command::new("bpf-linker");
    let version = read(linker.arg("--version").env("PATH", path().ok()?)).ok()?;
    version.split_whitespace().nth(1).map(str::to_owned)
}
