//! `cargo xtask vm`: the agent on Debian's own kernels, booted here.
//!
//! Each guest has the host's files (read-only, with memory laid over them for what is
//! written), so the programs that were built here run there as they are. In it: what
//! `meshtap doctor` finds, every program verified under every combination of the loader's
//! switches, and end-to-end tests. `docs/kernel-support.md` holds what came of it.

mod apt;
mod examine;
mod guest;
mod image;
mod kernels;
mod plan;
mod report;

use anyhow::{Result, ensure};

use crate::agent;
use crate::packages;
use crate::tally::Tally;
use crate::test;
use crate::workspace::has;
use examine::Examined;
pub use kernels::Choice;

/// What to boot and what to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which kernels.
    pub kernel: Choice,
    /// Look for newer ones.
    pub fetch: bool,
    /// Only tests whose name contains one of these; the short list where there are none.
    pub filters: Vec<String>,
}

/// What the command itself needs, and Debian's package of it.
const NEEDED: [(&str, &str); 6] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("modprobe", "kmod"),
    ("cpio", "cpio"),
    ("xz", "xz-utils"),
    ("dpkg-deb", "dpkg"),
];

/// Tests that are quick where a processor is emulated, and touch each part of the kernel half.
const SHORT: [&str; 6] = [
    "curl_and_nginx",
    "segments",
    "upgrades",
    "older_connections",
    "causes_of_the_host",
    "programs_that_somebody_detaches",
];

/// Boots, examines, prints, and writes the page where all kernels were asked for and came up.
pub fn run(options: &Options) -> Result<()> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "the guests are x86-64, and so must this machine be: they run its programs"
    );
    install()?;
    test::setup::programs();
    let agent = agent::build()?;
    let filters = match options.filters.as_slice() {
        [] => SHORT.map(str::to_owned).to_vec(),
        given => given.to_vec(),
    };
    let tests = examine::tests(&filters)?;
    let plan = plan::plan()?;
    let script = examine::Script { agent: &agent, plan: &plan, tests: &tests, filters: &filters };
    let mut tally = Tally::default();
    let mut examined = Vec::new();
    let chosen = kernels::chosen(options.kernel);
    for guest in chosen {
        match one(guest, &script, options.fetch) {
            Ok(found) => {
                tally.add(found.tally(&plan));
                examined.push(found);
            }
            Err(error) => tally.count(guest.name, Err(error)),
        }
    }
    let text = report::text(&examined, &plan, &filters);
    println!("\n{text}");
    let is_whole = options.kernel == Choice::All && examined.len() == chosen.len();
    if is_whole && options.filters.is_empty() {
        report::write(&text)?;
    }
    tally.finish()
}

fn one(
    guest: &'static kernels::Guest,
    script: &examine::Script<'_>,
    fetch: bool,
) -> Result<Examined> {
    eprintln!("\n── {}", guest.name);
    let image = match guest.kernel {
        Some(kernel) => Some(image::Image::ready(kernel, fetch)?),
        None => None,
    };
    let output = guest::run(guest, image.as_ref(), &script.text())?;
    Examined::read(guest.name, &output, script.tests)
}

fn install() -> Result<()> {
    let missing: Vec<&str> =
        NEEDED.iter().filter(|(program, _)| !has(program)).map(|&(_, package)| package).collect();
    if !missing.is_empty() {
        packages::install(&missing)?;
    }
    if guest::file_server().is_none() {
        // Older releases of Debian ship it with QEMU.
        packages::install(&["virtiofsd"])?;
    }
    Ok(())
}
