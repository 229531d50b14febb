//! The references below `docs/`, each printed by the agent from where its things are defined,
//! and with them what of the chart is.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::chart;
use crate::workspace::{read, root};

/// File below `docs/`, and the page of `meshtap docs` that it holds.
const PAGES: [(&str, &str); 3] = [
    ("metrics.md", "metrics"),
    ("configuration.md", "configuration"),
    ("observe.md", "observe-schema"),
];

/// Writes the references anew.
pub fn write(agent: &Path) -> Result<()> {
    for (file, page) in PAGES {
        let path = root().join("docs").join(file);
        fs::write(&path, print(agent, page)?)?;
        println!("docs/{file}");
    }
    chart::write(agent)
}

/// Fails where a committed reference is not what the agent prints.
pub fn check(agent: &Path) -> Result<()> {
    let mut stale = Vec::new();
    for (file, page) in PAGES {
        let committed = fs::read_to_string(root().join("docs").join(file)).unwrap_or_default();
        if committed != print(agent, page)? {
            stale.push(format!("docs/{file}"));
        }
    }
    ensure!(
        stale.is_empty(),
        "{} differ from what the agent prints; renew them: cargo xtask docs",
        stale.join(", ")
    );
    chart::check(agent)
}

fn print(agent: &Path, page: &str) -> Result<String> {
    let text = read(Command::new(agent).args(["docs", page]))
        .with_context(|| format!("this agent cannot print its reference `{page}`"))?;
    ensure!(!text.trim().is_empty(), "`meshtap docs {page}` printed nothing");
    Ok(text)
}
