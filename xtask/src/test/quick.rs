//! What is run where nobody asks for more: a few minutes' worth of the end-to-end tests.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::Program;
use crate::tally::Tally;

/// Tests of each program that take seconds, and together touch every stage.
const QUICK: [(&str, &[&str]); 11] = [
    ("accuracy", &["pipelining"]),
    ("attribution", &["a_hundred_curls_at_once", "configured_names", "older_than_the_agent"]),
    ("awkward", &["framing", "segments", "what_is_not_http"]),
    ("connections", &["older_connections", "refused_and_reset", "tls"]),
    ("deploy", &["nothing_is_granted_but_what_is_said", "texts_say_what_is_granted"]),
    ("http1", &["curl_and_nginx", "trace_context", "uploads"]),
    ("http2", &["curl_and_nginx"]),
    (
        "operation",
        &[
            "doctor_examines_the_host",
            "faults_of_a_configuration",
            "help_has_examples_and_exit_codes",
            "metrics_in_both_formats",
            "observe_beside_run",
            "series_of_a_few_calls",
            "traffic_is_left_alone",
            "without_privileges",
        ],
    ),
    ("privileges", &["root_gives_up_what_it_does_not_need"]),
    ("repeats", &["both_lanes_have_the_same_series"]),
    ("telemetry", &["access_log", "metrics_by_grpc", "spans_by_http"]),
];

/// The tests of a program that are run; counts the others as skipped.
pub fn chosen(program: &Program, tally: &mut Tally) -> Result<Vec<String>> {
    let mut command = Command::new(&program.executable);
    let output = command.args(["--list", "--format", "terse"]).output();
    let output =
        output.with_context(|| format!("cannot start {}", program.executable.display()))?;
    let shown = program.executable.display();
    ensure!(output.status.success(), "{shown} does not list its tests: {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let quick = quick(&program.name);
    let all = text.lines().filter_map(|line| line.strip_suffix(": test"));
    let (run, left): (Vec<&str>, Vec<&str>) = all.partition(|name| quick.contains(name));
    tally.skip_many(
        &program.name,
        left.len(),
        "takes longer; `cargo xtask test --full` runs it, or its name behind `test`",
    );
    Ok(run.into_iter().map(str::to_owned).collect())
}

fn quick(program: &str) -> &'static [&'static str] {
    QUICK.iter().find(|(name, _)| *name == program).map_or(&[], |(_, tests)| tests)
}

#[cfg(test)]
mod tests {
    use super::QUICK;
    use crate::workspace::root;

    #[test]
    fn quick_tests_are_there() {
        for (program, tests) in QUICK {
            let source = root().join("tests/e2e").join(program).with_extension("rs");
            let source = std::fs::read_to_string(source).unwrap();
            for test in tests {
                assert!(source.contains(&format!("#[test]\nfn {test}()")), "{program} {test}");
            }
        }
    }
}
