//! Taking the laboratory away: one way for one that ran, one that stands half, and one whose
//! starter died.
//!
//! Nothing is asked of Kubernetes, which may not answer. All processes are killed, and then
//! what they left is removed: mounts, cgroups, packet filter rules, the bridge, files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

use super::before::Before;
use super::service::Services;
use super::{BRIDGE, ROOT};
use crate::process::run;
use crate::requirement::program;

/// How long processes may take to end, and cgroups to be empty.
const END: Duration = Duration::from_secs(20);

/// Removes whatever is there of a laboratory; nothing happens where there is nothing.
pub fn sweep() -> Result<()> {
    let root = Path::new(ROOT);
    if !root.exists() {
        return Ok(());
    }
    let services = Services::of(&root.join("run"));
    // Kubelet would start again what is killed below, and its API server would hear of it.
    let names = services.names();
    let (first, rest): (Vec<_>, Vec<_>) = names.iter().partition(|name| *name == "kubelet");
    for name in first.into_iter().chain(rest) {
        services.stop(name)?;
    }
    kill_containers()?;
    unmount_below(root)?;
    for hierarchy in hierarchies() {
        remove_cgroups(&hierarchy.join("kubepods"))?;
    }
    for tool in ["iptables", "ip6tables"] {
        filter_rules(tool)?;
    }
    drop(run("nft delete table ip kube-proxy"));
    drop(run("nft delete table ip6 kube-proxy"));
    if Path::new("/sys/class/net").join(BRIDGE).exists() {
        run(&format!("ip link del {BRIDGE}"))?;
    }
    Before::read(&root.join("before.json")).restore()?;
    fs::remove_dir_all(root).with_context(|| ROOT.to_owned())
}

/// Whether a kubelet's cgroups are here: the laboratory's, or those of a node that is none.
#[must_use]
pub fn has_pods() -> bool {
    hierarchies()
        .iter()
        .any(|folder| ["kubepods", "kubepods.slice"].iter().any(|name| folder.join(name).exists()))
}

/// What is left of a laboratory on this machine, in words: nothing, once it is down.
pub fn remains() -> Result<Vec<String>> {
    let mut found = Vec::new();
    if Path::new(ROOT).exists() {
        found.push(format!("{ROOT} is there"));
    }
    if Path::new("/sys/class/net").join(BRIDGE).exists() {
        found.push(format!("the bridge {BRIDGE} is there"));
    }
    found.extend(mounts_below(Path::new(ROOT))?.iter().map(|at| format!("{at:?} is mounted")));
    found.extend(shims().iter().map(|pid| format!("process {pid} runs")));
    if has_pods() {
        found.push("cgroups of pods are there".to_owned());
    }
    for tool in ["iptables", "ip6tables"] {
        let rules = saved(tool)?;
        found.extend(
            rules.lines().filter(|line| is_ours(line)).map(|line| format!("{tool}: {line}")),
        );
    }
    Ok(found)
}

/// Kills the processes of pods, and those that hold containers: until there are none.
fn kill_containers() -> Result<()> {
    let deadline = Instant::now() + END;
    loop {
        let mut pids = shims();
        for hierarchy in hierarchies() {
            collect(&hierarchy.join("kubepods"), &mut pids);
        }
        if pids.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("these processes of containers do not end: {pids:?}");
        }
        for pid in pids.into_iter().filter_map(Pid::from_raw) {
            // It may have ended meanwhile.
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Every program that was given a path of the laboratory: containerd's helpers, plugins.
fn shims() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    pids.filter(|&pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        // Not whoever looks at a log there.
        let is_helper = ["containerd", "runc", "kube", "etcd", "kwok"]
            .iter()
            .any(|start| name.starts_with(start));
        pid != own && is_helper && String::from_utf8_lossy(&line).contains(ROOT)
    })
    .collect()
}

fn collect(cgroup: &Path, pids: &mut Vec<i32>) {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for folder in folders(cgroup) {
        collect(&folder, pids);
    }
}

fn remove_cgroups(cgroup: &Path) -> Result<()> {
    for folder in folders(cgroup) {
        remove_cgroups(&folder)?;
    }
    let deadline = Instant::now() + END;
    while cgroup.exists() {
        // The kernel takes a moment to let go of the last process.
        if fs::remove_dir(cgroup).is_err() && Instant::now() > deadline {
            bail!("the cgroup {} cannot be removed", cgroup.display());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// Where cgroup hierarchies of both versions are mounted.
fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let found = fields.filter(|fields| matches!(fields.get(2), Some(&("cgroup" | "cgroup2"))));
    found.filter_map(|fields| fields.get(1).map(PathBuf::from)).collect()
}

fn unmount_below(root: &Path) -> Result<()> {
    // Those on top of others come last in the list.
    for at in mounts_below(root)?.iter().rev() {
        unmount(at, UnmountFlags::DETACH).with_context(|| format!("{} stays", at.display()))?;
    }
    Ok(())
}

fn mounts_below(root: &Path) -> Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    // The paths of the laboratory hold nothing that the kernel would escape.
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    Ok(points.filter(|point| point.starts_with(root)).collect())
}

/// A line of `iptables-save` that a kubelet, a kube-proxy or this laboratory put there.
fn is_ours(line: &str) -> bool {
    line.contains("KUBE-") || line.contains(BRIDGE)
}

fn filter_rules(tool: &str) -> Result<()> {
    let before = saved(tool)?;
    if !before.lines().any(is_ours) {
        return Ok(());
    }
    let after: Vec<&str> = before.lines().filter(|line| !is_ours(line)).collect();
    let restore = program(&format!("{tool}-restore")).context("iptables is not installed")?;
    let mut child = Command::new(restore).stdin(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().context("is piped")?;
    std::io::Write::write_all(&mut input, (after.join("\n") + "\n").as_bytes())?;
    drop(input);
    if !child.wait()?.success() {
        bail!("{tool}-restore does not take back what {tool}-save gave");
    }
    Ok(())
}

fn saved(tool: &str) -> Result<String> {
    let save = format!("{tool}-save");
    let lacks_ipv6 = tool == "ip6tables" && !Path::new("/proc/net/if_inet6").exists();
    if lacks_ipv6 || program(&save).is_none() {
        return Ok(String::new());
    }
    run(&save)
}
