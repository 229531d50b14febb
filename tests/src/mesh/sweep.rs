//! Taking away whatever a laboratory made, in whatever state it was left.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::host::{Before, folder};
use super::{firewall, sandbox};
use crate::cgroup;
use crate::cluster::Marked;
use crate::process::output;
use crate::requirement::program;

/// Takes everything away. Other laboratories are kept out by the caller.
pub(super) fn sweep() -> Result<()> {
    let folder = folder();
    let before = Before::read(&folder)?;
    if let Some(root) = cgroup::root() {
        for pod in pods(&root) {
            cgroup::clear(&pod)?;
        }
    }
    for name in netns()? {
        output(ip()?.args(["netns", "del", &name]))?;
    }
    for device in devices()? {
        output(ip()?.args(["link", "del", &device]))?;
    }
    firewall::remove()?;
    // Inner ones first. One that somebody else uses by now stays.
    for path in before.cgroups.iter().rev() {
        drop(std::fs::remove_dir(path));
    }
    for (path, value) in &before.parameters {
        std::fs::write(path, value).with_context(|| path.display().to_string())?;
    }
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(())
}

/// Cgroups of pods of the tests, by how their uids begin.
fn pods(root: &Path) -> Vec<PathBuf> {
    let folders = |path: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    };
    let classes = ["kubepods", "kubepods.slice"].map(|name| root.join(name));
    let classes = classes.into_iter().flat_map(|top| {
        let inner = folders(&top);
        std::iter::once(top).chain(inner)
    });
    let marked = format!("pod{}", Marked::UID);
    let is_own = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().contains(&marked))
    };
    let mut found: Vec<PathBuf> =
        classes.flat_map(|class| folders(&class)).filter(is_own).collect();
    found.sort();
    found.dedup();
    found
}

fn netns() -> Result<Vec<String>> {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return Ok(Vec::new()) };
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names: Vec<String> = names.collect::<Result<_>>()?;
    Ok(names.into_iter().filter(|name| name.starts_with(sandbox::NETNS)).collect())
}

/// Devices of pods whose namespace is still there, or going.
fn devices() -> Result<Vec<String>> {
    let own = || -> Result<Vec<String>> {
        let names = std::fs::read_dir("/sys/class/net")?;
        let names = names.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let names: Vec<String> = names.collect::<Result<_>>()?;
        Ok(names.into_iter().filter(|name| name.starts_with(sandbox::DEVICE)).collect())
    };
    // A namespace takes its devices along, a moment after it is deleted.
    for _ in 0..100 {
        if own()?.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    own()
}

fn ip() -> Result<Command> {
    let path = program("ip");
    ensure!(path.is_some(), "ip is not installed");
    Ok(Command::new(path.unwrap_or_default()))
}
