//! The report for a person: aligned, coloured where the writer lets colours through.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use super::{Check, Group, Report, SEE_ABOVE, State, Verdict};

/// Columns of the state and of the name.
const STATE: usize = 10;
const NAME: usize = 24;
/// Columns of a line; the terminal's own width would make the output depend on it.
const LINE: usize = 110;

/// Writes it all; the last line is the verdict.
pub(super) fn report(output: &mut impl Write, report: &Report) -> io::Result<()> {
    let bold = Style::new().bold();
    writeln!(output, "meshtap {} on Linux {}", report.version, report.features.release)?;
    let groups =
        [Group::Kernel, Group::Capture, Group::Attribution, Group::BlindSpots, Group::Export];
    for group in groups {
        writeln!(output, "\n{bold}{}{bold:#}", title(group))?;
        for one in report.checks.iter().filter(|check| check.group == group) {
            check(output, one)?;
        }
    }
    let (style, text) = verdict(report);
    writeln!(output, "\n{style}{text}{style:#}")
}

fn title(group: Group) -> &'static str {
    match group {
        Group::Kernel => "kernel",
        Group::Capture => "capture",
        Group::Attribution => "attribution",
        Group::BlindSpots => "blind spots",
        Group::Export => "export",
    }
}

fn check(output: &mut impl Write, check: &Check) -> io::Result<()> {
    let (style, word) = match check.state {
        State::Ok => (AnsiColor::Green.on_default(), "ok"),
        State::Degraded => (AnsiColor::Yellow.on_default(), "degraded"),
        State::Missing => (AnsiColor::Red.on_default().bold(), "missing"),
    };
    let indent = 2 + STATE + NAME;
    write!(output, "  {style}{word:STATE$}{style:#}{:NAME$}", check.name)?;
    block(output, &check.detail, indent)?;
    if check.remedy.as_deref() == Some(SEE_ABOVE) {
        // One cause, named once: without privileges everything here would repeat it.
        return Ok(());
    }
    for (label, text) in [("lost:   ", &check.lost), ("remedy: ", &check.remedy)] {
        if let Some(text) = text {
            write!(output, "{:indent$}{label}", "")?;
            block(output, text, indent + label.len())?;
        }
    }
    Ok(())
}

/// The text, broken between words; the first line is where the cursor is.
fn block(output: &mut impl Write, text: &str, indent: usize) -> io::Result<()> {
    let mut lines = wrap(text, LINE.saturating_sub(indent)).into_iter();
    writeln!(output, "{}", lines.next().unwrap_or_default())?;
    lines.try_for_each(|line| writeln!(output, "{:indent$}{line}", ""))
}

pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn verdict(report: &Report) -> (Style, String) {
    let names = |of: &dyn Fn(&Check) -> bool| {
        let names: Vec<_> =
            report.checks.iter().filter(|one| of(one)).map(|one| one.name).collect();
        names.join(", ")
    };
    match report.verdict {
        Verdict::Ready => (
            AnsiColor::Green.on_default().bold(),
            "ready: meshtap can run here and nothing is lost".to_owned(),
        ),
        Verdict::Limited => (
            AnsiColor::Yellow.on_default().bold(),
            format!(
                "ready, with limits: meshtap can run here; see {}",
                names(&|one| one.state != State::Ok)
            ),
        ),
        Verdict::Blind => (
            AnsiColor::Red.on_default().bold(),
            format!(
                "not ready: meshtap cannot see traffic here; it needs {}",
                names(&|one| one.essential && one.state == State::Missing)
            ),
        ),
    }
}
