//! A Rust file as the rules see it: without comments, strings and inline tests.

use std::path::{Path, PathBuf};

/// A Rust file.
#[derive(Debug)]
pub struct Source {
    /// From the repository's top folder.
    pub file: PathBuf,
    /// The lines as written.
    pub lines: Vec<String>,
    /// The same lines, with comments and the insides of strings blank.
    pub code: Vec<String>,
    /// Which lines belong to inline tests, or all of them in a file of tests.
    pub is_test: Vec<bool>,
}

impl Source {
    /// Prepares a file's text.
    pub fn read(file: &Path, text: &str) -> Self {
        let code: Vec<String> = blank(text).lines().map(str::to_owned).collect();
        let is_test = if is_test_file(file) { vec![true; code.len()] } else { tests(&code) };
        Self {
            file: file.to_owned(),
            lines: text.lines().map(str::to_owned).collect(),
            code,
            is_test,
        }
    }

    /// Lines of code proper, with their numbers from 1.
    pub fn proper(&self) -> impl Iterator<Item = (usize, &str)> {
        let numbered = self.code.iter().enumerate().zip(&self.is_test);
        numbered.filter(|(_, is_test)| !**is_test).map(|((index, line), _)| (index + 1, &**line))
    }
}

fn is_test_file(file: &Path) -> bool {
    let is_tests = file.file_stem().is_some_and(|stem| stem == "tests");
    is_tests
        || file.starts_with("tests/e2e")
        || file.components().skip(1).any(|part| {
            ["tests", "benches", "examples"].iter().any(|name| part.as_os_str() == *name)
        })
}

/// Marks `#[cfg(test)]` and the block behind it, as rustfmt lays it out.
fn tests(code: &[String]) -> Vec<bool> {
    let mut marks = vec![false; code.len()];
    let mut index = 0;
    while index < code.len() {
        let line = &code[index];
        let indent = line.len() - line.trim_start().len();
        if !line.trim_start().starts_with("#[cfg(test)]") {
            index += 1;
            continue;
        }
        let closing = format!("{}}}", " ".repeat(indent));
        let opens = code[index..].iter().position(|line| line.trim_end().ends_with('{'));
        let ends = code[index..].iter().position(|line| line.trim_end().ends_with(';'));
        let length = match (opens, ends) {
            (Some(opens), ends) if ends.is_none_or(|ends| opens < ends) => {
                let block =
                    code[index + opens..].iter().position(|line| line.starts_with(&closing));
                opens + block.unwrap_or(code.len())
            }
            (_, Some(ends)) => ends,
            _ => 0,
        };
        let last = (index + length).min(code.len() - 1);
        marks[index..=last].fill(true);
        index = last + 1;
    }
    marks
}

/// The text with comments and the insides of strings and characters as spaces; lines stay.
fn blank(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < characters.len() {
        let end = match characters[at] {
            '/' if characters.get(at + 1) == Some(&'/') => until(&characters, at, "\n", false),
            '/' if characters.get(at + 1) == Some(&'*') => until(&characters, at + 2, "*/", false),
            '"' => until(&characters, at + 1, "\"", true),
            'r' if !follows_name(&characters, at) => raw_end(&characters, at).unwrap_or(at),
            '\'' => character_end(&characters, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            out.push(characters[at]);
            at += 1;
            continue;
        }
        for &character in &characters[at..end.min(characters.len())] {
            out.push(if character == '\n' { '\n' } else { ' ' });
        }
        at = end;
    }
    out
}

fn follows_name(characters: &[char], at: usize) -> bool {
    let before = at.checked_sub(1).map(|before| characters[before]);
    // `br"…"` is a string too.
    before.is_some_and(|before| before != 'b' && (before.is_alphanumeric() || before == '_'))
}

/// Just behind the first `mark` from `at` on; a line's end itself stays.
fn until(characters: &[char], mut at: usize, mark: &str, has_escapes: bool) -> usize {
    let mark: Vec<char> = mark.chars().collect();
    while at < characters.len() {
        if has_escapes && characters[at] == '\\' {
            at += 2;
        } else if characters[at..].starts_with(&mark) {
            return if mark == ['\n'] { at } else { at + mark.len() };
        } else {
            at += 1;
        }
    }
    characters.len()
}

fn raw_end(characters: &[char], at: usize) -> Option<usize> {
    let hashes = characters[at + 1..].iter().take_while(|&&character| character == '#').count();
    if characters.get(at + 1 + hashes) != Some(&'"') {
        return None;
    }
    let mark = format!("\"{}", "#".repeat(hashes));
    Some(until(characters, at + 2 + hashes, &mark, false))
}

/// Behind a character literal; `None` for a lifetime.
fn character_end(characters: &[char], at: usize) -> Option<usize> {
    match characters.get(at + 1)? {
        '\\' => Some(until(characters, at + 3, "'", false)),
        _ => (characters.get(at + 2) == Some(&'\'')).then_some(at + 3),
    }
}
