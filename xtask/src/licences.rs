//! Licences of everything that the agent is built from, against the list in `deny.toml`.
//!
//! Needs nothing but cargo, so it runs everywhere; cargo-deny says more (versions, sources)
//! from the same file.

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::tools;
use crate::workspace::{cargo, read, root, run};

/// Checks every package that cargo would build.
pub fn check() -> Result<()> {
    let allowed = allowed(&std::fs::read_to_string(root().join("deny.toml"))?)?;
    let metadata = read(cargo().args(["metadata", "--format-version", "1", "--locked"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().context("cargo metadata named no packages")?;
    let mut refused = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or("?");
        let verdict = match package["license"].as_str() {
            Some(licence) => permits(licence, &allowed)
                .then_some(())
                .with_context(|| format!("{licence} is not on the list in deny.toml")),
            None => Err(anyhow::anyhow!("it states no licence")),
        };
        if let Err(error) = verdict {
            refused.push(format!("{name}: {error}"));
        }
    }
    if !refused.is_empty() {
        bail!("{}", refused.join("\n"));
    }
    Ok(())
}

/// What cargo-deny says of licences, versions and sources.
pub fn deny() -> Result<()> {
    let mut deny = Command::new(tools::cargo_deny()?);
    // Advisories need the network and change without us: they inform, they do not gate.
    run(deny.current_dir(root()).args(["check", "licenses", "bans", "sources"]))
}

/// The identifiers of `allow = [ … ]` below `[licenses]`.
fn allowed(deny: &str) -> Result<Vec<String>> {
    let section = deny.split_once("[licenses]").context("deny.toml has no [licenses]")?.1;
    let list = section.split_once("allow = [").context("deny.toml allows no licence")?.1;
    let list = list.split_once(']').context("deny.toml: the list does not end")?.0;
    let found: Vec<String> = list.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    ensure!(!found.is_empty(), "deny.toml allows no licence");
    Ok(found)
}

/// Whether an SPDX expression can be satisfied by the list; `/` is the old way to write OR.
fn permits(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let satisfied = either(&mut rest, allowed);
    satisfied && rest.is_empty()
}

fn either(words: &mut &[&str], allowed: &[String]) -> bool {
    let mut satisfied = both(words, allowed);
    while let Some((&"OR", rest)) = words.split_first() {
        *words = rest;
        satisfied |= both(words, allowed);
    }
    satisfied
}

fn both(words: &mut &[&str], allowed: &[String]) -> bool {
    let mut satisfied = single(words, allowed);
    while let Some((&"AND", rest)) = words.split_first() {
        *words = rest;
        satisfied &= single(words, allowed);
    }
    satisfied
}

fn single(words: &mut &[&str], allowed: &[String]) -> bool {
    let Some((&first, rest)) = words.split_first() else { return false };
    *words = rest;
    if first == "(" {
        let satisfied = either(words, allowed);
        let Some((&")", rest)) = words.split_first() else { return false };
        *words = rest;
        return satisfied;
    }
    let mut name = first.to_owned();
    if let Some((&"WITH", rest)) = words.split_first()
        && let Some((exception, rest)) = rest.split_first()
    {
        name = format!("{first} WITH {exception}");
        *words = rest;
    }
    allowed.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read_as_spdx_means_them() {
        let allowed = ["MIT", "Apache-2.0", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"];
        let allowed = allowed.map(str::to_owned);
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "Apache-2.0 / MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "MIT OR GPL-3.0-only",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
            "GPL-2.0 AND ISC OR MIT",
        ] {
            assert!(permits(good, &allowed), "{good}");
        }
        for bad in [
            "",
            "GPL-3.0-only",
            "MIT AND GPL-3.0-only",
            "(MIT OR Apache-2.0) AND ISC",
            "MIT WITH some-exception",
            "(MIT",
            "MIT MIT",
        ] {
            assert!(!permits(bad, &allowed), "{bad}");
        }
    }

    #[test]
    fn the_list_is_the_one_of_deny() {
        let deny = "[graph]\n[licenses]\nallow = [\n  \"MIT\", # best\n  \"ISC\",\n]\n";
        assert_eq!(allowed(deny).unwrap(), ["MIT", "ISC"]);
        assert!(allowed("[licenses]\nallow = []\n").is_err());
    }
}
