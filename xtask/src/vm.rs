//! `cargo xtask vm`: the agent on Debian's own kernels, booted here.
//!
//! Each guest has the host's files (read-only, with memory laid over them for what is
//! written), so the programs that were built here run there as they are; in one of another
//! architecture that architecture's programs lie between. In it: what
//! `meshtap doctor` finds, every program verified under every combination of the loader's
//! switches, and end-to-end tests. `docs/kernel-support.md` holds what came of it.

mod apt;
mod examine;
mod guest;
mod image;
mod kernels;
mod machine;
mod plan;
mod report;
mod unit;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::agent;
use crate::packages;
use crate::standalone::{self, Architecture};
use crate::tally::Tally;
use crate::test::{self, Program};
use crate::workspace::has;
use examine::Examined;
pub use image::cache;
pub use kernels::Choice;
use kernels::Guest;

/// What to boot and what to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which kernels.
    pub kernel: Choice,
    /// Look for newer ones.
    pub fetch: bool,
    /// Take what earlier runs of the same programs printed, where they came to their end.
    pub resume: bool,
    /// Only tests whose name contains one of these; the short list where there are none.
    pub filters: Vec<String>,
}

/// What the command itself needs, and Debian's package of it.
const NEEDED: [(&str, &str); 5] = [
    ("busybox", "busybox-static"),
    ("modprobe", "kmod"),
    ("cpio", "cpio"),
    ("xz", "xz-utils"),
    ("dpkg-deb", "dpkg"),
];

/// Tests that are quick where a processor is emulated, and touch each part of the kernel half.
const SHORT: [&str; 10] = [
    "curl_and_nginx",
    "segments",
    "upgrades",
    "older_connections",
    "causes_of_the_host",
    "programs_that_somebody_detaches",
    // What the kernel of the machine that asks may not have.
    "behind_ipvs",
    "emulated_network",
    "unusual_packets",
    // What nobody does to the machine that asks.
    "steps_of_the_clock",
];

/// Runs the unit under systemd, in the guest that has a systemd of its own age.
pub fn run_unit(fetch: bool) -> Result<()> {
    install(kernels::chosen(Choice::Bookworm))?;
    test::setup::programs();
    let mut tally = Tally::default();
    tally.count("the unit under systemd", unit::attempt(&agent::build_debug()?, fetch));
    tally.finish()
}

/// Boots, examines, prints, and writes the page where all kernels were asked for and came up.
pub fn run(options: &Options) -> Result<()> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "the guests are x86-64, and so must this machine be: they run its programs"
    );
    let chosen = kernels::chosen(options.kernel);
    install(chosen)?;
    test::setup::programs();
    let filters = match options.filters.as_slice() {
        [] => SHORT.map(str::to_owned).to_vec(),
        given => given.to_vec(),
    };
    // Who names tests wants these: to verify everything takes longer than most of them.
    let plan = if options.filters.is_empty() { plan::plan()? } else { plan::plan()?.of_nothing() };
    let built = built(chosen, &filters)?;
    let mut tally = Tally::default();
    let mut examined = Vec::new();
    for guest in chosen {
        let Built { agent, tests } = &built[guest.architecture().name()];
        let script = examine::Script { agent, plan: &plan, tests, filters: &filters };
        let found = options.resume.then(|| earlier(guest, &script)).flatten();
        match found.map_or_else(|| one(guest, &script, options.fetch), Ok) {
            Ok(found) => {
                tally.add(found.tally(&plan));
                examined.push(found);
            }
            Err(error) => tally.count(guest.name, Err(error)),
        }
    }
    if options.filters.is_empty() && chosen.iter().any(unit::is_tried_on) {
        let agent = &built[Architecture::NATIVE.name()].agent;
        tally.count("the unit under systemd", unit::attempt(agent, options.fetch));
    }
    let text = report::text(&examined, &plan, &filters);
    println!("\n{text}");
    let is_whole = options.kernel == Choice::All && examined.len() == chosen.len();
    if is_whole && options.filters.is_empty() {
        report::write(&text)?;
    }
    tally.finish()
}

fn one(guest: &'static Guest, script: &examine::Script<'_>, fetch: bool) -> Result<Examined> {
    eprintln!("\n── {}", guest.name);
    let image = match guest.kernel {
        Some(kernel) => Some(image::Image::ready(kernel, fetch)?),
        None => None,
    };
    let output = guest::run(guest, image.as_ref(), &script.text())?;
    Examined::read(guest, &output, script.tests)
}

/// What was found before with the same script and the same programs.
fn earlier(guest: &'static Guest, script: &examine::Script<'_>) -> Option<Examined> {
    let output = guest::earlier(guest, &script.text(), script.newest()?)?;
    let found = Examined::read(guest, &output, script.tests).ok()?;
    found.is_whole().then(|| {
        eprintln!("\n── {}: as it was examined before", guest.name);
        found
    })
}

/// What runs in guests of one architecture.
struct Built {
    agent: PathBuf,
    tests: Vec<Program>,
}

/// By architecture, whatever the chosen guests run: the agent, and the test programs that hold
/// a test of these names.
fn built(chosen: &[Guest], filters: &[String]) -> Result<BTreeMap<&'static str, Built>> {
    let own = examine::tests(filters)?;
    let mut built = BTreeMap::new();
    for architecture in chosen.iter().map(Guest::architecture) {
        if built.contains_key(architecture.name()) {
            continue;
        }
        let (agent, tests) = if architecture == Architecture::NATIVE {
            (agent::build()?, own.clone())
        } else {
            let agent = standalone::build(architecture, false)?;
            (agent, examine::tests_for(architecture, &own)?)
        };
        built.insert(architecture.name(), Built { agent, tests });
    }
    Ok(built)
}

fn install(chosen: &[Guest]) -> Result<()> {
    let guests = chosen.iter().filter(|guest| guest.kernel.is_some());
    let emulators = guests.map(|guest| machine::emulator(guest.architecture()));
    let mut missing: Vec<&str> = NEEDED
        .into_iter()
        .chain(emulators)
        .filter(|(program, _)| !has(program))
        .map(|(_, package)| package)
        .collect();
    missing.dedup();
    if !missing.is_empty() {
        packages::install(&missing)?;
    }
    if guest::file_server().is_none() {
        // Older releases of Debian ship it with QEMU.
        packages::install(&["virtiofsd"])?;
    }
    Ok(())
}
