//! Whether what is seen can be given names.

use std::fs;
use std::io;
use std::path::Path;

use super::system::Processes;
use super::{Check, Group};

/// Where a runtime keeps what names its containers.
const RUNTIMES: [(&str, &[&str]); 4] = [
    ("docker", &["/var/lib/docker/containers", "/run/docker.sock"]),
    (
        "containerd",
        &["/run/containerd/io.containerd.runtime.v2.task", "/run/containerd/containerd.sock"],
    ),
    ("cri-o", &["/run/crio/crio.sock", "/var/run/crio/crio.sock"]),
    ("podman", &["/var/lib/containers/storage", "/run/podman/podman.sock"]),
];

/// What a runtime's place gives away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Readable,
    Closed,
    Absent,
}

/// All checks of this group.
pub(super) fn checks(processes: &Processes) -> Vec<Check> {
    let places =
        RUNTIMES.map(|(runtime, paths)| (runtime, paths.iter().map(|at| (*at, place(at)))));
    let places: Vec<_> = places
        .into_iter()
        .flat_map(|(runtime, paths)| paths.map(move |(path, place)| (runtime, path, place)))
        .collect();
    vec![self::processes(processes), containers(processes, &places), systemd()]
}

/// Whether the programs behind sockets can be looked at.
pub(super) fn processes(found: &Processes) -> Check {
    let check = |detail: String| Check::new(Group::Attribution, "processes", detail);
    if found.own_pid_namespace {
        return check("this process is in a pid namespace of its own: it sees few others".into())
            .failed(
                "programs outside of this container are named by their cgroup alone",
                "in Kubernetes set hostPID: true, with docker or podman use --pid=host",
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
pub(super) fn containers(found: &Processes, places: &[(&str, &str, Place)]) -> Check {
    let of = |state: Place| {
        let mut names: Vec<_> =
            places.iter().filter(|(.., place)| *place == state).map(|(name, ..)| *name).collect();
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
            "run as root (CAP_DAC_READ_SEARCH)",
        );
    }
    if readable.is_empty() && inside > 0 {
        return check.failed(
            "containers are shown by their identifiers",
            "mount the runtime's directory where the agent runs, read-only: /var/lib/docker, \
             /run/containerd or /var/lib/containers",
        );
    }
    check
}

fn systemd() -> Check {
    let runs = Path::new("/run/systemd/system").exists();
    let detail = if runs {
        "runs: services have the names of their units"
    } else {
        "does not run here (or its /run is not mounted): units are known by their cgroups alone"
    };
    Check::new(Group::Attribution, "systemd", detail)
}

fn place(path: &str) -> Place {
    // A directory that can be listed, or a socket that can be seen.
    let seen = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::read_dir(path).map(|_| ()),
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    match seen {
        Ok(()) => Place::Readable,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Place::Closed,
        Err(_) => Place::Absent,
    }
}
