//! The tables of `docs/kernel-support.md`.

use std::fs;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::examine::Examined;
use super::plan::Plan;
use crate::workspace::root;

const PAGE: &str = "docs/kernel-support.md";
const BEGIN: &str = "<!-- written by `cargo xtask vm` -->";
const END: &str = "<!-- end -->";

/// Everything, as it stands in the page.
pub fn text(examined: &[Examined], plan: &Plan, filters: &[String]) -> String {
    let mut text = String::from("## Kernels\n\n");
    text.push_str(&summary(examined));
    text.push_str(&format!("\nThe tests: {}.\n", filters.join(", ")));
    text.push_str("\n## Features\n\n`–`: the kernel does not have it, or keeps it to itself.\n\n");
    text.push_str(&table(examined, "", &features(examined)));
    text.push_str(
        "\n## Instructions verified\n\nOf a million that the verifier walks at most.\n\n",
    );
    text.push_str(&table(
        examined,
        "program",
        &programs(examined, plan, |found| {
            found.instructions.map_or("not told".to_owned(), grouped)
        }),
    ));
    text.push_str("\n## Sizes\n\nBytes as the kernel keeps the program, and of machine code.\n\n");
    text.push_str(&table(
        examined,
        "program",
        &programs(examined, plan, |found| {
            format!("{} / {}", grouped(found.translated), grouped(found.jitted))
        }),
    ));
    text
}

/// A row: what it is about, and a cell for each kernel.
type Row = (String, Vec<String>);

fn table(examined: &[Examined], corner: &str, rows: &[Row]) -> String {
    let names: Vec<&str> = examined.iter().map(|found| found.name).collect();
    let mut text = format!("| {corner} | {} |\n", names.join(" | "));
    text.push_str(&format!("|---|{}\n", "---|".repeat(names.len())));
    for (what, cells) in rows {
        text.push_str(&format!("| {what} | {} |\n", cells.join(" | ")));
    }
    text
}

fn summary(examined: &[Examined]) -> String {
    let row = |what: &str, cell: &dyn Fn(&Examined) -> String| {
        (what.to_owned(), examined.iter().map(cell).collect())
    };
    table(
        examined,
        "",
        &[
            row("Linux", &|found| word(&found.doctor["features"]["release"])),
            row("verdict of `meshtap doctor`", &|found| word(&found.doctor["verdict"])),
            row("programs verified, over all combinations of switches", &|found| {
                found.counts().0.to_string()
            }),
            row("of these refused, for a helper that is absent", &|found| {
                found.counts().1.to_string()
            }),
            row("end-to-end tests passed, failed, skipped", &|found| {
                let tests = found.tests();
                format!("{}, {}, {}", tests.passed, tests.failed.len(), tests.skipped.len())
            }),
            row("tests that failed", &|found| match found.tests().failed.join(", ") {
                none if none.is_empty() => "none".to_owned(),
                names => names,
            }),
        ],
    )
}

/// Everything that doctor tried, and what it read.
fn features(examined: &[Examined]) -> Vec<Row> {
    let mut rows = Vec::new();
    let Some(first) = examined.first() else { return rows };
    let mut row = |what: String, at: &dyn Fn(&Value) -> Value| {
        let cells = examined.iter().map(|found| cell(&at(&found.doctor["features"]))).collect();
        rows.push((what, cells));
    };
    let features = &first.doctor["features"];
    for (index, hook) in features["hooks"].as_array().into_iter().flatten().enumerate() {
        row(format!("hook `{}`", word(&hook["attach_type"])), &|features| {
            features["hooks"][index]["attach"].clone()
        });
    }
    for (index, point) in features["tracepoints"].as_array().into_iter().flatten().enumerate() {
        let name = format!("tracepoint `{}:{}`", word(&point["category"]), word(&point["name"]));
        row(name, &|features| features["tracepoints"][index]["attach"].clone());
    }
    for name in features["helpers"].as_object().into_iter().flat_map(|helpers| helpers.keys()) {
        row(format!("helper `{name}`"), &|features| features["helpers"][name].clone());
    }
    for (name, what) in [
        ("ring_buffer", "ring buffer"),
        ("socket_storage", "storage in sockets"),
        ("links", "links"),
        ("memory_lock_counts", "maps count as locked memory"),
        ("lockdown", "lockdown"),
        ("jit", "compiled to machine code"),
        ("kprobes", "kprobes (not needed)"),
        ("uprobes", "uprobes (not needed)"),
    ] {
        row(what.to_owned(), &|features| features[name].clone());
    }
    rows
}

fn programs(
    examined: &[Examined],
    plan: &Plan,
    cell: impl Fn(&super::examine::Verified) -> String,
) -> Vec<Row> {
    let row = |program: &str| {
        let cells = examined.iter().map(|found| match found.program(plan, program) {
            Some(verified) if verified.refused.is_none() => cell(verified),
            Some(_) => "refused".to_owned(),
            None => "?".to_owned(),
        });
        (format!("`{program}`"), cells.collect())
    };
    plan.programs().map(row).collect()
}

/// `{"state": "present"}`, a word, a number or a truth value, for people.
fn cell(value: &Value) -> String {
    match value["state"].as_str() {
        Some("present") => "yes".to_owned(),
        Some("absent") => "–".to_owned(),
        Some(other) => other.to_owned(),
        None => word(value),
    }
}

fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Null => "?".to_owned(),
        other => other.to_string(),
    }
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Puts the tables into the page, in place of the earlier ones.
pub fn write(text: &str) -> Result<()> {
    let path = root().join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("{PAGE} is missing"))?;
    let (before, rest) =
        page.split_once(BEGIN).with_context(|| format!("{PAGE} has no line {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("{PAGE} has no line {END}"))?;
    fs::write(&path, format!("{before}{BEGIN}\n{text}{END}{after}"))?;
    println!("{PAGE}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([grouped(7), grouped(1000), grouped(1_234_567)], ["7", "1,000", "1,234,567"]);
    }

    #[test]
    fn what_was_tried_is_said_in_a_word() {
        let cells = [
            serde_json::json!({"state": "present"}),
            serde_json::json!({"state": "absent", "reason": "x"}),
            serde_json::json!({"state": "unknown", "reason": "x"}),
            serde_json::json!("integrity"),
            serde_json::json!(null),
        ]
        .map(|value| cell(&value));
        assert_eq!(cells, ["yes", "–", "unknown", "integrity", "?"]);
    }
}
