//! The house rules that neither the compiler nor clippy knows.
//!
//! Each rule reads text alone and says file, line and remedy. It looks only at files
//! that belong to the repository.

mod budget;
mod layers;
mod source;
mod words;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::workspace::{read, root};
use source::Source;

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// From the repository's top folder.
    pub file: PathBuf,
    /// From 1; 0 where the whole file is meant.
    pub line: usize,
    /// What, and what to do instead.
    pub what: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, line, what } = self;
        match line {
            0 => write!(formatter, "{}: {what}", file.display()),
            line => write!(formatter, "{}:{line}: {what}", file.display()),
        }
    }
}

/// Checks every file of the repository.
pub fn check() -> Result<()> {
    let mut findings = Vec::new();
    for file in files()? {
        let Ok(text) = std::fs::read_to_string(root().join(&file)) else { continue };
        inspect(&file, &text, &mut findings);
    }
    if findings.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    bail!("{} findings\n{}", findings.len(), lines.join("\n"));
}

fn inspect(file: &Path, text: &str, findings: &mut Vec<Finding>) {
    let mut note = |line: usize, what: String| {
        findings.push(Finding { file: file.to_owned(), line, what });
    };
    words::everywhere(text, &mut note);
    if file.extension().is_none_or(|kind| kind != "rs") {
        return;
    }
    let source = Source::read(file, text);
    words::rust(&source, &mut note);
    budget::check(&source, &mut note);
    layers::check(&source, &mut note);
}

/// Files that git knows or would add; deleted ones are left out.
fn files() -> Result<Vec<PathBuf>> {
    let list = read(
        Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
            .current_dir(root()),
    )?;
    let mut files: Vec<PathBuf> =
        list.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect();
    files.sort();
    files.dedup();
    Ok(files)
}

#[cfg(test)]
mod tests;
