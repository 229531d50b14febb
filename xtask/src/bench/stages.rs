//! What user space costs, stage by stage: the benches of the agent, as a table.

use std::fs;

use anyhow::{Context as _, Result};

use super::{Effort, report};
use crate::workspace::{cargo, run, target};

/// Ends of calls in an iteration, as the bench of the pipeline has them.
const ENDS: f64 = 64.0;
/// Series in an iteration of what is scraped.
const SERIES: f64 = 10_000.0;
/// The stages, in their order; each bench has all of those before it, too.
const STAGES: [(&str, &str); 4] = [
    ("ring_buffer", "a record is decoded"),
    ("protocol", "a head and its answer become an exchange"),
    ("attribution", "its ends get their names, the call its route"),
    ("aggregation", "the call is counted in its series"),
];
/// What is told of each call where that is asked for.
const EXPORTS: [(&str, &str); 2] =
    [("span", "a span of OTLP, encoded"), ("access_log", "a line of the access log, JSON")];

/// Runs the benches and publishes what they found.
pub fn measure(effort: Effort) -> Result<()> {
    let mut benches = cargo();
    benches
        .args("bench --locked --package meshtap --bench pipeline --bench aggregation".split(' '));
    benches.args(["--", "^(stages|export|render|snapshot|growth)/"]);
    if effort == Effort::QUICK {
        benches.arg("--quick");
    }
    run(&mut benches)?;
    report::publish(effort, ", stages", &text(&nanoseconds)?)?;
    report::publish(effort, ", growth", &growth(&nanoseconds)?)
}

/// How what a call costs grows, of what `nanoseconds` says about a bench's iteration.
fn growth(nanoseconds: &impl Fn(&str) -> Result<f64>) -> Result<String> {
    let mut text =
        String::from("| | 32 | 320 | 3,200 | 32,000 | 96,000 |\n|---|---|---|---|---|---|\n");
    for what in ["connections", "silent connections", "services", "routes"] {
        text.push_str(&format!("| {what}"));
        for number in [32, 320, 3_200, 32_000, 96_000] {
            let each = nanoseconds(&format!("growth/{what}/{number}"))? / ENDS;
            text.push_str(&format!(" | {each:.0} ns"));
        }
        text.push_str(" |\n");
    }
    Ok(text)
}

/// The table, of what `nanoseconds` says about a bench's iteration.
fn text(nanoseconds: &impl Fn(&str) -> Result<f64>) -> Result<String> {
    let mut rows = Vec::new();
    let mut before = 0.0;
    for (stage, what) in STAGES {
        let all = nanoseconds(&format!("stages/{stage}"))? / ENDS;
        rows.push(format!("| {stage}: {what} | {:.0} ns | {all:.0} ns |", all - before));
        before = all;
    }
    for (export, what) in EXPORTS {
        let each = nanoseconds(&format!("export/{export}"))? / ENDS;
        rows.push(format!("| export: {what} | {each:.0} ns | |"));
    }
    let snapshot = nanoseconds("snapshot_10,000 series")?;
    let page = (snapshot + nanoseconds("render_10,000 series, text")?) / SERIES;
    rows.push(format!("| export: a series, each time that Prometheus reads it | {page:.0} ns | |"));
    Ok(format!(
        "| | per observed end | with the stages before |\n|---|---|---|\n{}\n",
        rows.join("\n")
    ))
}

/// The median of an iteration of a bench, as the last run wrote it down.
fn nanoseconds(bench: &str) -> Result<f64> {
    let path = target().join("criterion").join(bench).join("new/estimates.json");
    let text = fs::read_to_string(&path)
        .with_context(|| format!("the bench left no {}", path.display()))?;
    let estimates: serde_json::Value = serde_json::from_str(&text)?;
    let median = estimates["median"]["point_estimate"].as_f64();
    median.with_context(|| format!("{} has no median", path.display()))
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn a_stage_is_what_its_bench_takes_more_than_the_one_before() {
        let table = text(&|bench| {
            Ok(match bench {
                "stages/ring_buffer" => 64.0,
                "stages/protocol" => 640.0,
                _ => 6_400.0,
            })
        });
        let table = table.unwrap();
        assert!(table.contains("exchange | 9 ns | 10 ns |"), "{table}");
        assert!(table.contains("names, the call its route | 90 ns | 100 ns |"), "{table}");
        assert!(table.contains("access log, JSON | 100 ns | |"), "{table}");
    }
}
