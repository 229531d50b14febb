//! `cargo xtask fuzz`: every parser of bytes from outside, fed by a fuzzer that follows what
//! it covers.
//!
//! The stable compiler is enough: libFuzzer needs the coverage that LLVM's own pass counts, and
//! no sanitizer, since nothing but the kernel edge is unsafe. What is found is kept below
//! `target/fuzz` and goes on from there the next time.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::packages;
use crate::tally::Tally;
use crate::workspace::{cargo, has, line, read, root, run, target};

/// What the compiler counts for the fuzzer. Checks of arithmetic and of assertions stay in.
const FLAGS: [&str; 8] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "-Coverflow-checks",
];
/// Longest that one input may take, in seconds, and megabytes that the process may hold.
const BOUNDS: [&str; 2] = ["-timeout=10", "-rss_limit_mb=1024"];

/// How much a target is given.
#[derive(Clone, Copy, Debug)]
pub enum Effort {
    /// So many seconds, and other inputs each time.
    Seconds(u32),
    /// A gate's: the same inputs each time, so that it says something of a change.
    Gate,
}

impl Effort {
    fn arguments(self) -> Vec<String> {
        match self {
            Self::Seconds(seconds) => vec![format!("-max_total_time={seconds}")],
            Self::Gate => ["-seed=1", "-runs=3000", "-max_total_time=8"].map(str::to_owned).into(),
        }
    }
}

/// Builds the targets, all unless some are named, runs each, and counts
/// each; without a compiler of C++ they are skipped together.
///
/// # Errors
/// A target is named that is none, or they do not compile.
pub fn run_all(names: &[String], effort: Effort, tally: &mut Tally) -> Result<()> {
    let known = targets()?;
    if let Some(stranger) = names.iter().find(|name| !known.contains(name)) {
        bail!("there is no target {stranger}; there are: {}", known.join(", "));
    }
    let chosen = if names.is_empty() { known } else { names.to_vec() };
    // libFuzzer itself is C++.
    if !has("c++")
        && let Err(error) = packages::install(&["g++"])
    {
        tally.skip("fuzz", format!("libFuzzer needs a C++ compiler, `c++`: {error:#}"));
        return Ok(());
    }
    let programs = build(&chosen)?;
    for name in &chosen {
        tally.count(&format!("fuzz {name}"), one(&programs.join(name), name, effort));
    }
    Ok(())
}

/// Files of `agent/fuzz/fuzz_targets`, each a target.
fn targets() -> Result<Vec<String>> {
    let folder = root().join("agent/fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

fn build(names: &[String]) -> Result<PathBuf> {
    // Named, so that the flags are for the targets and not for what builds them.
    let host = read(Command::new("rustc").args(["--print", "host-tuple"]))?;
    let folder = target().join("fuzz");
    let mut command = cargo();
    command.args(["build", "--locked", "--manifest-path", "agent/fuzz/Cargo.toml"]);
    command.args(names.iter().flat_map(|name| ["--bin", name]));
    command.args(["--target", host.trim(), "--target-dir"]).arg(&folder);
    run(command.env("RUSTFLAGS", FLAGS.join(" ")))
        .context("the targets in agent/fuzz do not compile")?;
    Ok(folder.join(host.trim()).join("debug"))
}

fn one(program: &Path, name: &str, effort: Effort) -> Result<()> {
    let folder = target().join("fuzz");
    // What was found before would make a gate's inputs others.
    let corpus = if matches!(effort, Effort::Gate) { "gate" } else { "corpus" };
    if corpus == "gate" {
        let _ = std::fs::remove_dir_all(folder.join(corpus).join(name));
    }
    let [corpus, found] = [corpus, "found"].map(|part| folder.join(part).join(name));
    for folder in [&corpus, &found] {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let mut command = Command::new(program);
    command
        .args(BOUNDS)
        .args(effort.arguments())
        .arg(format!("-artifact_prefix={}/", found.display()))
        .arg("-print_final_stats=1")
        .arg(&corpus);
    // Read and never written: what is new goes into the first folder.
    let seeds = root().join("agent/fuzz/seeds").join(name);
    command.args(seeds.is_dir().then_some(&seeds));
    eprintln!("$ {}", line(&command));
    let output = command.output().with_context(|| format!("cannot start {}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let (program, folder) = (program.display(), found.display());
        let remedy = match kept(&said) {
            Some(file) => format!("`{program} {file}` shows it again"),
            None => format!("see what is kept in {folder}"),
        };
        bail!(
            "an input ends it ({}); {remedy}; make a unit test of it, then mend it\n{}",
            output.status,
            last(&said)
        );
    }
    let runs = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let runs = runs.context("it did not say how often it ran")?.trim();
    ensure!(runs != "0", "it ran no input");
    let covered = said.lines().rev().find_map(|line| line.split("cov: ").nth(1));
    let covered = covered.and_then(|rest| rest.split(' ').next()).unwrap_or("?");
    println!("{name}: {runs} inputs, {covered} places reached, no fault");
    Ok(())
}

/// The file that an input was kept in.
fn kept(said: &str) -> Option<&str> {
    said.lines().find_map(|line| line.split_once("Test unit written to ")).map(|(_, file)| file)
}

/// The last lines, where the fault is told.
fn last(said: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_declared() {
        let manifest = root().join("agent/fuzz/Cargo.toml");
        let manifest = std::fs::read_to_string(manifest).expect("is there");
        let targets = targets().expect("are there");
        assert!(targets.len() > 5, "{targets:?}");
        for name in targets {
            let path = format!("path = \"fuzz_targets/{name}.rs\"");
            assert!(manifest.contains(&path), "{name} is not built: {path} is missing");
        }
    }

    #[test]
    fn the_input_of_a_fault_is_named() {
        let said = "x\nartifact_prefix='/f/'; Test unit written to /f/crash-0a1b\nBase64: AA==\n";
        assert_eq!(kept(said), Some("/f/crash-0a1b"));
        assert_eq!(kept("no fault"), None);
    }

    #[test]
    fn seeds_are_of_targets() {
        let targets = targets().expect("are there");
        for entry in std::fs::read_dir(root().join("agent/fuzz/seeds")).expect("is there") {
            let name = entry.expect("can be listed").file_name().to_string_lossy().into_owned();
            assert!(targets.contains(&name), "{name} is no target");
        }
    }

    #[test]
    fn the_fault_is_at_the_end() {
        let said = (0..100).map(|number| format!("{number}\n")).collect::<String>();
        assert!(last(&said).starts_with("60\n") && last(&said).ends_with("\n99"));
    }
}
