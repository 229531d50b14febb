//! Filters that a person types for `observe`: refused, or as a simple matching says.
//!
//! The input is lines: a name, a pattern for it, and what is typed behind another option.
#![no_main]

use std::sync::LazyLock;

use clap::{Args as _, Command, FromArgMatches as _};
use libfuzzer_sys::fuzz_target;
use meshtap::command::observe::filter::{Filter, duration};
use meshtap::command::observe::line::{End, LostLine, Time};

const OPTIONS: [&str; 7] =
    ["--from", "--path", "--method", "--status", "--min-latency", "--port", "--to"];

/// Longer patterns are compiled for long, and nobody types them.
const LONGEST: usize = 64;

static COMMAND: LazyLock<Command> = LazyLock::new(|| {
    let mut command = Filter::augment_args(Command::new("filters").no_binary_name(true));
    command.build();
    command
});

fn filter(words: &[&str]) -> Option<Filter> {
    let matches = COMMAND.clone().try_get_matches_from(words).ok()?;
    Filter::from_arg_matches(&matches).ok()
}

/// `*` is any text and `?` any one character.
fn matches(pattern: &[char], text: &[char]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some(('*', rest)), _) => (0..=text.len()).any(|at| matches(rest, &text[at..])),
        (Some((first, rest)), Some((letter, behind))) => {
            (*first == '?' || first == letter) && matches(rest, behind)
        }
        _ => false,
    }
}

fuzz_target!(|text: &str| {
    let mut lines = text.lines();
    let (Some(name), Some(pattern)) = (lines.next(), lines.next()) else { return };
    if name.len() > LONGEST || pattern.len() > LONGEST || pattern.matches('*').count() > 4 {
        return;
    }
    // One of the others, which its first letter chooses.
    if let Some(value) = lines.next().filter(|value| value.len() <= LONGEST) {
        let first = value.bytes().next().unwrap_or_default();
        let _ = filter(&[&format!("{}={value}", OPTIONS[usize::from(first) % OPTIONS.len()])]);
        let _ = duration(value);
    }
    let end = End { name, namespace: None, kind: "unit", address: None, port: None, pid: None };
    let lost = LostLine { time: Time(0), lost: 1, reason: "", client: Some(end), server: None };
    let words = format!("--from={pattern}");
    let Some(wanted) = filter(&[&words]) else {
        assert!(pattern.is_empty(), "any other text is a name or a pattern");
        return;
    };
    let [letters, of] = [pattern, name].map(|text| text.chars().collect::<Vec<char>>());
    let expected = matches(&letters, &of);
    assert_eq!(wanted.shows_lost(&lost), expected);
    let unwanted = filter(&["--not", &words]).expect("turned around");
    assert_eq!(unwanted.shows_lost(&lost), !expected);
});
