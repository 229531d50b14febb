//! How long files and functions may be.

use super::source::Source;

/// Lines of a file, without its tests.
const FILE: usize = 400;
/// Lines of a function, between its braces.
const FUNCTION: usize = 60;
/// Lines of inline tests; more move to a file of their own.
const INLINE_TESTS: usize = 200;

/// Notes what is longer.
pub fn check(source: &Source, note: &mut impl FnMut(usize, String)) {
    let proper = source.is_test.iter().filter(|is_test| !**is_test).count();
    let tests = source.is_test.len() - proper;
    if proper > FILE {
        note(
            0,
            format!("{proper} lines without tests, {FILE} is the most: split it by what it owns"),
        );
    }
    if proper > 0 && tests > INLINE_TESTS {
        note(0, format!("{tests} lines of inline tests: move them to tests.rs in its folder"));
    }
    for (start, length) in functions(source) {
        if length > FUNCTION {
            note(start, format!("a function of {length} lines, {FUNCTION} is the most"));
        }
    }
}

/// Line and length of every function proper, found by rustfmt's indentation.
fn functions(source: &Source) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let lines: Vec<(usize, &str)> = source.proper().collect();
    for (position, &(number, line)) in lines.iter().enumerate() {
        if !is_function(line) {
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let closing = format!("{}}}", " ".repeat(indent));
        let rest = &lines[position..];
        let opens = rest.iter().position(|(_, line)| line.trim_end().ends_with('{'));
        let closes = rest.iter().position(|(_, line)| *line == closing);
        // A trait's function without a body ends before any brace.
        let ends = rest.iter().position(|(_, line)| line.trim_end().ends_with(';'));
        if let (Some(opens), Some(ends)) = (opens, ends)
            && ends < opens
        {
            continue;
        }
        if let (Some(opens), Some(closes)) = (opens, closes)
            && opens < closes
        {
            found.push((number, closes - opens - 1));
        }
    }
    found
}

fn is_function(line: &str) -> bool {
    let mut words = line.split_whitespace();
    loop {
        match words.next() {
            Some("fn") => return true,
            Some("const" | "async" | "unsafe" | "extern") => {}
            Some(word) if word.starts_with("pub") || word.starts_with('"') => {}
            Some(word) if word.starts_with("in") || word.ends_with(')') => {}
            _ => return false,
        }
    }
}
