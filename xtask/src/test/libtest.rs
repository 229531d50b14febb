//! What Rust's test harness prints, and the `SKIP` lines of the end-to-end tests.

use std::process::ExitStatus;

use crate::tally::{Skip, Tally};

const SKIP: &str = "SKIP ";
const TEST: &str = "test ";
const RESULT: &str = "test result: ";

/// Whether a line has to be kept.
#[must_use]
pub fn counts(line: &str) -> bool {
    line.starts_with(SKIP) || line.starts_with(TEST)
}

/// What one test program printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transcript {
    passed: usize,
    failed: usize,
    /// Names of failed tests.
    failures: Vec<String>,
    skips: Vec<Skip>,
    /// Whether a result line was there: without one the program did not end by itself.
    has_result: bool,
}

impl Transcript {
    /// Reads the lines, in any order between standard output and standard error.
    pub fn read<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut transcript = Self::default();
        for line in lines {
            if let Some(counts) = line.strip_prefix(RESULT) {
                transcript.has_result = true;
                transcript.passed += number_before(counts, " passed");
                transcript.failed += number_before(counts, " failed");
            } else if let Some(skip) = line.strip_prefix(SKIP) {
                let (what, reason) = skip.split_once(": ").unwrap_or((skip, "no reason given"));
                transcript.skips.push(Skip::one(what, reason));
            } else if let Some((name, outcome)) =
                line.strip_prefix(TEST).and_then(|rest| rest.rsplit_once(" ... "))
            {
                transcript.note(name, outcome);
            }
        }
        transcript
    }

    fn note(&mut self, name: &str, outcome: &str) {
        if outcome == "FAILED" {
            self.failures.push(name.to_owned());
        } else if let Some(reason) = outcome.strip_prefix("ignored") {
            let reason = reason.trim_start_matches([',', ' ']);
            let reason = if reason.is_empty() { "ignored in the source" } else { reason };
            self.skips.push(Skip::one(name, reason));
            // Not among those that passed, so nothing has to be taken off for it.
            self.passed += 1;
        }
    }

    /// Counts it; a program that did not end as its tests did is a failure of its own.
    #[must_use]
    pub fn tally(mut self, program: &str, ended: ExitStatus, limit: u32) -> Tally {
        self.skips.retain(|skip| !self.failures.contains(&skip.what));
        let mut failed: Vec<String> =
            self.failures.iter().map(|name| format!("{program} {name}")).collect();
        while failed.len() < self.failed {
            failed.push(format!("{program} (a test whose name was not seen)"));
        }
        if !ended.success() && failed.is_empty() {
            // What `timeout` answers.
            let reason = if ended.code() == Some(124) {
                format!("ended after {limit} s")
            } else {
                format!("{ended}")
            };
            failed.push(format!("{program} ({reason})"));
        } else if !self.has_result && failed.is_empty() {
            failed.push(format!("{program} (printed no result)"));
        }
        Tally { passed: self.passed.saturating_sub(self.skips.len()), failed, skipped: self.skips }
    }
}

fn number_before(text: &str, unit: &str) -> usize {
    text.split(';')
        .find_map(|part| part.trim().strip_suffix(unit.trim_start()).map(str::trim))
        .and_then(|part| part.rsplit(' ').next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn tally(text: &str, code: i32) -> Tally {
        // As wait(2) encodes it.
        let ended = ExitStatus::from_raw(code << 8);
        Transcript::read(text.lines()).tally("http1", ended, 60)
    }

    #[test]
    fn skips_are_taken_off_what_passed() {
        let counted = tally(
            "running 4 tests\n\
             SKIP pipelined: not installed: nginx, wrk\n\
             test pipelined ... ok\n\
             test keep_alive ... ok\n\
             test slow ... ignored, takes an hour\n\
             test chunked ... FAILED\n\
             test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.1s\n",
            101,
        );
        assert_eq!(counted.passed, 1);
        assert_eq!(counted.failed, ["http1 chunked"]);
        let skipped: Vec<_> =
            counted.skipped.iter().map(|skip| (skip.what.as_str(), skip.reason.as_str())).collect();
        assert_eq!(
            skipped,
            [("pipelined", "not installed: nginx, wrk"), ("slow", "takes an hour")]
        );
    }

    #[test]
    fn a_test_that_skips_and_fails_has_failed() {
        let counted = tally(
            "SKIP a: x\ntest a ... FAILED\ntest result: FAILED. 0 passed; 1 failed; 0 ignored\n",
            101,
        );
        assert_eq!((counted.passed, counted.failed.len(), counted.skipped.len()), (0, 1, 0));
    }

    #[test]
    fn results_add_up() {
        let two = "test result: ok. 12 passed; 0 failed; 0 ignored\n".repeat(2);
        assert_eq!(tally(&two, 0).passed, 24);
    }

    #[test]
    fn a_program_that_dies_or_hangs_has_failed() {
        assert_eq!(tally("running 4 tests\ntest a ... ok\n", 134).failed.len(), 1);
        assert_eq!(tally("running 4 tests\n", 124).failed, ["http1 (ended after 60 s)"]);
        assert_eq!(tally("", 0).failed, ["http1 (printed no result)"]);
    }
}
