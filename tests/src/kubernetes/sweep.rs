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
    let cgroups = pods(root);
    kill_containers(&cgroups)?;
    unmount_below(root)?;
    for cgroup in &cgroups {
        remove_cgroups(cgroup)?;
    }
    for hierarchy in hierarchies() {
        // Of pods that went before, and those above; some may be others'.
        remove_empty(&hierarchy.path.join("kubepods"));
    }
    for tool in ["iptables", "ip6tables"] {
        filter_rules(tool)?;
    }
    for table in tables() {
        run(&format!("nft delete {table}"))?;
    }
    if Path::new("/sys/class/net").join(BRIDGE).exists() {
        run(&format!("ip link del {BRIDGE}"))?;
    }
    Before::read(&root.join("before.json")).restore()?;
    fs::remove_dir_all(root).with_context(|| ROOT.to_owned())
}

/// Whether a kubelet runs: once the laboratory is down, one that is none of its.
#[must_use]
pub fn kubelet_runs() -> bool {
    // One without a command line is dead.
    let lives = |pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty());
    processes().any(|pid| name(pid) == "kubelet" && lives(pid))
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
    // Other tests lay cgroups out as kubelet does, but only by the newer version.
    let all = hierarchies();
    let has_older = all.iter().any(|hierarchy| !hierarchy.is_newer);
    let own = all.iter().filter(|hierarchy| !(has_older && hierarchy.is_newer));
    let cgroups = own.map(|hierarchy| hierarchy.path.join("kubepods"));
    found.extend(cgroups.filter(|path| path.exists()).map(|path| format!("{path:?} is there")));
    found.extend(tables());
    for tool in ["iptables", "ip6tables"] {
        let rules = saved(tool)?;
        found.extend(
            rules.lines().filter(|line| is_ours(line)).map(|line| format!("{tool}: {line}")),
        );
    }
    Ok(found)
}

/// The cgroups of the pods that kubelet has folders for.
fn pods(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in folders(&root.join("kubelet/pods")) {
        let pod = format!("pod{}", folder.file_name().unwrap_or_default().display());
        for hierarchy in hierarchies() {
            let above = hierarchy.path.join("kubepods");
            let classes = [above.join("besteffort"), above.join("burstable"), above];
            found
                .extend(classes.map(|class| class.join(&pod)).into_iter().filter(|at| at.exists()));
        }
    }
    found
}

/// Kills the processes of pods, and those that hold containers: until there are none.
fn kill_containers(cgroups: &[PathBuf]) -> Result<()> {
    let deadline = Instant::now() + END;
    loop {
        let mut pids = shims();
        for cgroup in cgroups {
            collect(cgroup, &mut pids);
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
    const STARTS: [&str; 6] = ["containerd", "coredns", "etcd", "kube", "kwok", "runc"];
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    processes()
        .filter(|&pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            // Not whoever looks at a log there.
            let is_helper = STARTS.iter().any(|start| name(pid).starts_with(start));
            pid != own && is_helper && String::from_utf8_lossy(&line).contains(ROOT)
        })
        .collect()
}

fn processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn name(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

fn collect(cgroup: &Path, pids: &mut Vec<i32>) {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for folder in folders(cgroup) {
        collect(&folder, pids);
    }
}

fn remove_cgroups(cgroup: &Path) -> Result<()> {
    let deadline = Instant::now() + END;
    while cgroup.exists() {
        // The kernel takes a moment to let go of the last process.
        remove_empty(cgroup);
        if Instant::now() > deadline {
            bail!("the cgroup {} cannot be removed", cgroup.display());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Removes a cgroup and those below, but for such as have processes.
fn remove_empty(cgroup: &Path) {
    for folder in folders(cgroup) {
        remove_empty(&folder);
    }
    let _ = fs::remove_dir(cgroup);
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

struct Hierarchy {
    path: PathBuf,
    is_newer: bool,
}

/// Where cgroup hierarchies of both versions are mounted.
fn hierarchies() -> Vec<Hierarchy> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let hierarchy = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind) = (fields.next()?, fields.next()?);
        let is_newer = kind == "cgroup2";
        (is_newer || kind == "cgroup").then(|| Hierarchy { path: path.into(), is_newer })
    };
    mounts.lines().filter_map(hierarchy).collect()
}

/// Unmounts whatever is mounted below a folder.
pub fn unmount_below(root: &Path) -> Result<()> {
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

/// kube-proxy's own tables of nftables, as `nft` lists them.
pub(super) fn tables() -> Vec<String> {
    // Where there is no nft, kube-proxy has made none.
    let all = run("nft list tables").unwrap_or_default();
    all.lines().filter(|line| line.ends_with(" kube-proxy")).map(str::to_owned).collect()
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
