//! Rules in the host's tables, all of them in chains of the laboratory's own.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::translation::{Entry, translate};
use crate::process::{output, words};
use crate::requirement::program;

/// How every chain of the laboratory begins.
pub(super) const PREFIX: &str = "MESHTAP-";

/// Both families: the programs' prefix, and whether it is IPv6.
const FAMILIES: [(&str, bool); 2] = [("iptables", false), ("ip6tables", true)];

/// From which chain of the kernel into which of the laboratory, per table.
const ENTRIES: [(&str, &str, &str); 4] = [
    ("nat", "PREROUTING", "SERVICES"),
    ("nat", "OUTPUT", "SERVICES"),
    ("nat", "POSTROUTING", "POSTROUTING"),
    ("filter", "FORWARD", "FORWARD"),
];

/// Puts the rules for these services in place of what was there.
pub(super) fn install(entries: &[Entry], has_v6: bool) -> Result<()> {
    for (family, is_v6) in FAMILIES.into_iter().filter(|(_, is_v6)| has_v6 || !is_v6) {
        restore(family, &translate(entries, is_v6))?;
        for (table, from, to) in ENTRIES {
            let rule = format!("-t {table} -C {from} -j {PREFIX}{to}");
            if output(&mut words(&format!("{family} -w {rule}"))?).is_err() {
                let rule = rule.replace("-C", "-I");
                output(&mut words(&format!("{family} -w {rule}"))?)?;
            }
        }
    }
    Ok(())
}

/// Removes every rule and chain of the laboratory.
pub(super) fn remove() -> Result<()> {
    for (family, is_v6) in FAMILIES {
        // Nothing was made where there is nothing to make it by.
        if program(family).is_none() {
            continue;
        }
        for table in ["nat", "filter"] {
            let Ok(rules) = output(&mut words(&format!("{family}-save -t {table}"))?) else {
                if is_v6 {
                    continue;
                }
                bail!("the table {table} cannot be read");
            };
            let text = removal(table, &rules);
            if !text.is_empty() {
                restore(family, &text)?;
            }
        }
    }
    Ok(())
}

/// What removes the laboratory's chains from a table as it was saved.
fn removal(table: &str, rules: &str) -> String {
    let own = |name: &str| name.starts_with(PREFIX);
    let chains: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.strip_prefix(':')?.split(' ').next())
        .filter(|name| own(name))
        .collect();
    if chains.is_empty() {
        return String::new();
    }
    let mut text = format!("*{table}\n");
    for line in rules.lines() {
        let Some((chain, rule)) = line.strip_prefix("-A ").and_then(|rule| rule.split_once(' '))
        else {
            continue;
        };
        if !own(chain) && rule.split(' ').any(own) {
            text += &format!("-D {chain} {rule}\n");
        }
    }
    for action in ["-F", "-X"] {
        for chain in &chains {
            text += &format!("{action} {chain}\n");
        }
    }
    text + "COMMIT\n"
}

/// Applies a text of `iptables-save`, all of it or nothing, beside what is there.
fn restore(family: &str, text: &str) -> Result<()> {
    let name = format!("{family}-restore");
    let path = program(&name).with_context(|| format!("{name} is not installed"))?;
    let mut child = Command::new(path)
        .args(["-w", "--noflush"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("standard input is piped")?.write_all(text.as_bytes())?;
    let ended = child.wait_with_output()?;
    if !ended.status.success() {
        bail!("{name} refused: {}\n{text}", String::from_utf8_lossy(&ended.stderr));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::removal;

    #[test]
    fn only_what_is_its_own_is_removed() {
        let rules = "*nat\n:PREROUTING ACCEPT [0:0]\n:MESHTAP-A - [0:0]\n:DOCKER - [0:0]\n\
                     -A PREROUTING -j MESHTAP-A\n-A PREROUTING -j DOCKER\n-A MESHTAP-A -j RETURN\n\
                     COMMIT\n";
        assert_eq!(
            removal("nat", rules),
            "*nat\n-D PREROUTING -j MESHTAP-A\n-F MESHTAP-A\n-X MESHTAP-A\nCOMMIT\n"
        );
        assert_eq!(removal("nat", &rules.replace("MESHTAP", "OTHER")), "");
    }
}
