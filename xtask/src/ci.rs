//! `cargo xtask ci`: every gate, then every test, and one line that counts both.
//!
//! All gates run even where one fails, and all builds share the workspace's target folder. The
//! tests are all that there are: what they are made of and takes minutes to build is built
//! beside the gates. **It ends in time**: what the time is not enough for is skipped, with the
//! reason.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::tally::Tally;
use crate::test::budget::Budget;
use crate::test::parts::Parts;
use crate::workspace::{cargo, has, root, run};
use crate::{agent, deb, docs, ebpf, fuzz, licences, test, tidy, tools};

/// How long two cores build cargo-deny.
const CARGO_DENY: Duration = Duration::from_secs(180);
/// How long they build the fuzzer's targets and run them.
const FUZZ: Duration = Duration::from_secs(330);

/// Runs everything that there is time for since the run `began`, in seconds after 1970, or
/// now; `full`: however long it takes.
pub fn run_all(full: bool, began: Option<u64>) -> Result<()> {
    let budget = (!full).then(|| Budget::since(began));
    let mut tally = Tally::default();
    for name in ["rustfmt", "clippy"] {
        component(name)?;
    }
    tally.count("format", run(cargo().args(["fmt", "--all", "--check"])));
    tally.count("tidy", tidy::check());
    tally.count("licences", licences::check());
    match tools::typos() {
        Ok(typos) => tally.count("spelling", run(Command::new(typos).current_dir(root()))),
        Err(error) => tally.skip("spelling", format!("{error:#}")),
    }
    let parts = budget.and_then(|budget| build(&budget, &mut tally));
    ebpf::check(&mut tally);
    tally.count(
        "clippy",
        run(cargo()
            .args(["clippy", "--workspace", "--all-targets", "--locked"])
            .args(["--", "-D", "warnings"])),
    );
    tally.count(
        "rustdoc",
        run(cargo()
            .args(["doc", "--workspace", "--no-deps", "--locked"])
            .env("RUSTDOCFLAGS", "-D warnings")),
    );
    let references = agent::build().and_then(|agent| docs::check(&agent));
    tally.count("references", references.context("docs/ is not what the agent prints"));
    deb::attempt(budget.as_ref(), &mut tally);
    let options = test::Options { full, filters: Vec::new(), budget };
    match test::run(&options, parts) {
        Ok(tests) => tally.add(tests),
        Err(error) => tally.count("tests", Err(error)),
    }
    match budget.map_or(Ok(()), |budget| in_time(budget, FUZZ)) {
        Ok(()) => {
            if let Err(error) = fuzz::run_all(&[], fuzz::Effort::Gate, &mut tally) {
                tally.count("fuzz", Err(error));
            }
        }
        Err(reason) => tally.skip("fuzz", reason),
    }
    // Last, since it is built for minutes and says of the dependencies only what their licences
    // have not said above.
    match budget.map_or(Ok(()), dependencies_in_time) {
        Ok(()) => tally.count("dependencies", licences::deny()),
        Err(reason) => tally.skip("dependencies", reason),
    }
    println!();
    tally.finish()
}

/// Begins to build what tests are made of.
fn build(budget: &Budget, tally: &mut Tally) -> Option<Parts> {
    test::setup::programs();
    test::setup::node();
    match Parts::build(budget) {
        Ok(parts) => Some(parts),
        Err(error) => {
            // Where it does not compile, that is counted by those who compile all of it.
            tally.skip("what tests are made of", format!("{error:#}"));
            None
        }
    }
}

fn component(name: &str) -> Result<()> {
    let program = if name == "clippy" { "cargo-clippy" } else { name };
    if has(program) || !has("rustup") {
        return Ok(());
    }
    run(Command::new("rustup").args(["component", "add", name]))
}

/// Whether something that took `usual` before can be done in time.
fn in_time(budget: Budget, usual: Duration) -> Result<(), String> {
    budget.for_program(usual).map(|_| ())
}

/// Whether what checks the dependencies is there, or can be built in time.
fn dependencies_in_time(budget: Budget) -> Result<(), String> {
    if tools::has_cargo_deny() {
        return Ok(());
    }
    in_time(budget, CARGO_DENY)
}
