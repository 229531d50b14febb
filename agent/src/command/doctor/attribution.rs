//! Whether what is seen can be given names.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::system::Processes;
use super::{Check, Group};
use crate::attribution::HostPaths;
use crate::attribution::host::conntrack;
use crate::kubernetes::{self, Refusal, WatchSettings};

/// What a runtime's place gives away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Readable,
    Closed,
    Absent,
}

/// All checks of this group.
pub(super) fn checks(
    processes: &Processes,
    paths: &HostPaths,
    kubernetes: Option<&WatchSettings>,
) -> Vec<Check> {
    let places: Vec<_> =
        runtimes(paths).into_iter().map(|(name, path)| (name, place(&path))).collect();
    let translation = translation(conntrack::probe(), processes.own_net_namespace);
    let answer = kubernetes.map(kubernetes::ask);
    let kubernetes = self::kubernetes(answer, runs_kubelet(&paths.proc));
    let systemd = systemd(&paths.proc);
    let containers = containers(processes, &places);
    vec![self::processes(processes), containers, kubernetes, systemd, translation]
}

/// Whether a process of the host is kubelet, or what stands for it.
fn runs_kubelet(proc: &Path) -> bool {
    let is_kubelet = |name: &str| {
        ["kubelet", "k3s", "k3s-server", "k3s-agent", "rke2", "k0s"].contains(&name.trim())
    };
    let processes = fs::read_dir(proc).into_iter().flatten().flatten();
    processes
        .filter_map(|process| fs::read_to_string(process.path().join("comm")).ok())
        .any(|name| is_kubelet(&name))
}

/// Whether Kubernetes can be asked: `answer` is what its API said, `None` where the
/// configuration names none; `is_node`: this host is a node of a cluster.
pub(super) fn kubernetes(answer: Option<Result<String, Refusal>>, is_node: bool) -> Check {
    let check = |detail: String| Check::new(Group::Attribution, "Kubernetes", detail);
    let lost = "names of pods, workloads and services of Kubernetes, and of what runs at other \
                nodes; containers have the names that their runtime knows";
    match answer {
        Some(Ok(server)) => check(format!("the API server answers ({server})")),
        Some(Err(Refusal { why, remedy })) => check(why).failed(lost, remedy),
        None if is_node => check("this host is a node, and no API server is configured".into())
            .failed(lost, kubernetes::UNCONFIGURED),
        None => check("no API server is configured, and this host is no node of a cluster".into()),
    }
}

/// Where each runtime keeps what names its containers.
fn runtimes(paths: &HostPaths) -> Vec<(&'static str, PathBuf)> {
    let below = |roots: &[PathBuf], name, folder: &str| -> Vec<_> {
        roots.iter().map(|root| (name, root.join(folder))).collect()
    };
    let mut all = below(&paths.docker, "docker", "containers");
    all.extend(paths.bundles.iter().map(|root| ("containerd", root.clone())));
    all.extend(below(&paths.storage, "podman or CRI-O", "overlay-containers"));
    all
}

/// Whether the programs behind sockets can be looked at.
pub(super) fn processes(found: &Processes) -> Check {
    let check = |detail: String| Check::new(Group::Attribution, "processes", detail);
    if found.own_pid_namespace {
        return check("this process is in a pid namespace of its own: it sees few others".into())
            .failed(
                "programs outside of this container are named by their cgroup alone",
                "mount the host's /proc read-only and name its place in host.proc (the Helm chart \
                 does), or share its processes: hostPID: true, docker --pid=host",
            );
    }
    if !found.first_visible {
        return check("/proc hides the processes of other users (hidepid)".into()).failed(
            "programs of other users have no name",
            "run as root (CAP_SYS_PTRACE), or mount -o remount,hidepid=0 /proc",
        );
    }
    if found.closed > 0 {
        let detail = format!(
            "the executables of {} of {} programs cannot be read",
            found.closed, found.seen
        );
        return check(detail).failed(
            "those programs have the name of their thread instead of their executable or script",
            if found.may_look {
                "run with all of root's capabilities: these programs hold some that meshtap lacks, \
                 or a security module guards them"
            } else {
                "run as root (CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH)"
            },
        );
    }
    check(format!("all {} programs can be looked at", found.seen))
}

/// Whether containers have names.
pub(super) fn containers(found: &Processes, places: &[(&str, Place)]) -> Check {
    let of = |state: Place| {
        let mut names: Vec<_> =
            places.iter().filter(|(_, place)| *place == state).map(|(name, ..)| *name).collect();
        names.dedup();
        names
    };
    let (readable, closed) = (of(Place::Readable), of(Place::Closed));
    let inside = found.in_containers;
    let runtimes = if readable.is_empty() { "none".to_owned() } else { readable.join(", ") };
    let check = Check::new(
        Group::Attribution,
        "containers",
        format!("runtimes found: {runtimes}; programs in containers: {inside}"),
    );
    let unreadable: Vec<_> =
        closed.iter().filter(|name| !readable.contains(name)).copied().collect();
    if !unreadable.is_empty() {
        return check.failed(
            format!("containers of {} are shown by their identifiers", unreadable.join(", ")),
            "run as root (CAP_DAC_READ_SEARCH, and for what is below /proc/1/root CAP_SYS_PTRACE)",
        );
    }
    if readable.is_empty() && inside > 0 {
        return check.failed(
            "containers are shown by their identifiers",
            "name the runtime's directory in containers.docker, containers.storage or \
             containers.bundles; for an agent in a container it is below /proc/1/root of the \
             host's /proc",
        );
    }
    check
}

fn systemd(proc: &Path) -> Check {
    let mark = "run/systemd/system";
    // Seen from a container, it is below the host's first process.
    let runs = Path::new("/").join(mark).exists() || proc.join("1/root").join(mark).exists();
    let detail = if runs {
        "runs: services have the names of their units"
    } else {
        "does not run here (or the host's /run is out of reach): units are known by their cgroups alone"
    };
    Check::new(Group::Attribution, "systemd", detail)
}

/// Whether addresses that the node translates can be followed: `found` says whether it
/// tracks connections, `apart` whether this is another network namespace than the node's.
pub(super) fn translation(found: io::Result<bool>, apart: bool) -> Check {
    let check = |detail: String| Check::new(Group::Attribution, "address translation", detail);
    let lost = "the backend behind a Service's address, and the client behind the node's, where \
                the other end is on another host or the connection carries no request that \
                can be read";
    if apart {
        return check("this process is in another network namespace than the node".into()).failed(
            lost,
            "in Kubernetes set hostNetwork: true, with docker or podman use --network=host",
        );
    }
    match found {
        Ok(true) => check("the connection tracking of the kernel can be asked".into()),
        Ok(false) => check(
            "the kernel tracks no connections here (nf_conntrack), so it translates none".into(),
        ),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            check(format!("the connection tracking of the kernel cannot be asked: {error}"))
                .failed(lost, "run as root, or grant CAP_NET_ADMIN")
        }
        Err(error) => {
            check(format!("the connection tracking of the kernel does not answer: {error}"))
                .failed(lost, "modprobe nf_conntrack_netlink (CONFIG_NF_CT_NETLINK)")
        }
    }
}

fn place(path: &Path) -> Place {
    match fs::read_dir(path) {
        Ok(_) => Place::Readable,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Place::Closed,
        Err(_) => Place::Absent,
    }
}
