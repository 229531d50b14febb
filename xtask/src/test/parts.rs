//! [`Parts`]: what tests are made of that takes minutes to build, built beside everything that
//! comes before the end-to-end tests, and no longer than the run's time allows.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result};

use super::budget::Budget;
use crate::tally::Tally;
use crate::workspace::{cargo, line, privileged, run, target};

/// A build that goes on. It ends when this is dropped: with its standard input.
#[derive(Debug)]
pub struct Parts {
    builder: Child,
}

impl Parts {
    /// Begins, behind what else is done; as whoever runs the tests, who has the cache.
    pub fn build(budget: &Budget) -> Result<Self> {
        run(cargo().args(["build", "--locked", "--package", "meshtap-tests", "--bin", "lab"]))?;
        let seconds = budget.for_builds().as_secs().max(1).to_string();
        // `env`, because sudo looks for programs by rules of its own.
        let mut command = privileged(Path::new("env"))?;
        command.args(["nice", "-n", "10"]);
        command.arg(target().join("debug/lab")).args(["build", &seconds]);
        eprintln!("$ {} &", line(&command));
        let builder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        Ok(Self { builder: builder.with_context(|| line(&command))? })
    }

    /// Waits until it has built what it can; counts builds that failed, and gives a line
    /// `name: reason` for each part that is not there.
    pub fn wait(mut self, tally: &mut Tally) -> Result<String> {
        eprintln!("\n── what the tests are made of");
        let mut said = String::new();
        self.builder.stdout.take().context("is piped")?.read_to_string(&mut said)?;
        self.builder.wait()?;
        Ok(unbuilt(&said, tally))
    }
}

/// What tests are told of what the builder said.
fn unbuilt(said: &str, tally: &mut Tally) -> String {
    let mut unbuilt = String::new();
    for line in said.lines() {
        eprintln!("{line}");
        let Some((name, outcome)) = line.split_once(' ') else { continue };
        let reason = match outcome.split_once(' ') {
            Some(("lacks", reason)) => reason,
            Some(("failed", reason)) => {
                tally.count(&format!("build of {name}"), Err(anyhow::anyhow!("{reason}")));
                "its build failed"
            }
            _ => continue,
        };
        unbuilt.push_str(&format!("{name}: {reason}\n"));
    }
    // It says something of all of them when it is not ended before.
    unbuilt.push_str("*: the run's time for builds was over\n");
    unbuilt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_told_why_something_is_not_there() {
        let mut tally = Tally::default();
        let said = "helm built\nkubernetes lacks go is not installed\njaeger failed exit 1\n";
        let told = unbuilt(said, &mut tally);
        assert_eq!(
            told,
            "kubernetes: go is not installed\njaeger: its build failed\n\
             *: the run's time for builds was over\n"
        );
        assert_eq!(tally.failed, ["build of jaeger"]);
    }
}
