//! What cannot be seen at all on this host, for `doctor`: traffic that never passes a
//! socket's cgroup as TCP packets.

use std::fs;
use std::path::{Path, PathBuf};

use super::inventory;
use super::program::base_name;

/// Descriptors of BPF maps that are looked at; one is enough to say so.
const MAPS: usize = 65_536;
/// Network namespaces that are looked at.
const NAMESPACES: usize = 1_024;
/// Map types that redirect between sockets, as `fdinfo` numbers them: `SOCKMAP`, `SOCKHASH`.
const REDIRECTING: [&str; 2] = ["15", "18"];

/// A kind of traffic that goes unseen here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlindSpot {
    /// What is not seen.
    pub what: &'static str,
    /// Why.
    pub why: &'static str,
    /// What on this host says so.
    pub evidence: String,
}

/// Looks for what is known to escape; an empty list says that none of it was found.
/// `proc` is the host's `/proc`.
#[must_use]
pub fn blind_spots(proc: &Path) -> Vec<BlindSpot> {
    let processes = inventory::processes(proc).unwrap_or_default();
    let mut found = Vec::new();
    let (listeners, namespaces) = all_unix_listeners(proc);
    if listeners > 0 {
        found.push(BlindSpot {
            what: "HTTP over Unix sockets",
            why: "no IP packet is sent, so no hook sees a message; which of the sockets speak HTTP cannot be told",
            evidence: format!(
                "{listeners} Unix stream sockets listen in {namespaces} network namespaces"
            ),
        });
    }
    let mut executing = |what, why, names: &[&str]| {
        let pids = executing(&processes, names);
        if !pids.is_empty() {
            found.push(BlindSpot { what, why, evidence: format!("processes {}", list(&pids)) });
        }
    };
    executing(
        "connections inside gVisor sandboxes",
        "the sandbox has a network stack of its own",
        &["runsc", "runsc-sandbox"],
    );
    executing(
        "who is behind a user-mode network",
        "its connections leave as one process's own",
        &["slirp4netns", "passt", "passt.avx2", "pasta", "pasta.avx2"],
    );
    executing(
        "connections inside virtual machines",
        "the guest's kernel owns the sockets",
        &["qemu-system-x86_64", "qemu-system-aarch64", "firecracker", "cloud-hypervisor", "crosvm"],
    );
    let holders = processes.iter().filter(|(_, directory)| holds_socket_map(directory));
    let holders: Vec<u32> = holders.map(|(pid, _)| *pid).collect();
    if !holders.is_empty() {
        found.push(BlindSpot {
            what: "bytes that a sockmap redirects from socket to socket",
            why: "they never become packets; connections in such a map show no or few messages",
            evidence: format!("BPF socket maps are held by processes {}", list(&holders)),
        });
    }
    found
}

fn executing(processes: &[(u32, PathBuf)], names: &[&str]) -> Vec<u32> {
    let runs = |directory: &Path| {
        let path = fs::read_link(directory.join("exe")).ok()?;
        Some(names.contains(&base_name(&path.to_string_lossy())))
    };
    let found = processes.iter().filter(|(_, directory)| runs(directory) == Some(true));
    found.map(|(pid, _)| *pid).collect()
}

/// Listening Unix stream sockets of all network namespaces, and how many have any.
fn all_unix_listeners(proc: &Path) -> (usize, usize) {
    let directories = inventory::namespaces(proc).unwrap_or_default().into_values();
    let counts = directories.take(NAMESPACES).filter_map(|namespace| {
        let process = namespace.parent()?.parent()?;
        fs::read_to_string(process.join("net/unix")).ok().map(|text| unix_listeners(&text))
    });
    counts.filter(|count| *count > 0).fold((0, 0), |(sum, some), count| (sum + count, some + 1))
}

/// Listening stream sockets in the text of `/proc/net/unix`: type 1, flag `SO_ACCEPTCON`.
fn unix_listeners(text: &str) -> usize {
    let listens = |line: &&str| {
        let mut words = line.split_ascii_whitespace().skip(3);
        words.next() == Some("00010000") && words.next() == Some("0001")
    };
    text.lines().skip(1).filter(listens).count()
}

fn holds_socket_map(directory: &Path) -> bool {
    let Ok(descriptors) = fs::read_dir(directory.join("fd")) else { return false };
    descriptors.flatten().take(MAPS).any(|descriptor| {
        let is_map = fs::read_link(descriptor.path())
            .is_ok_and(|link| link.to_str() == Some("anon_inode:bpf-map"));
        is_map
            && fs::read_to_string(directory.join("fdinfo").join(descriptor.file_name()))
                .is_ok_and(|text| redirects(&text))
    })
}

fn redirects(fdinfo: &str) -> bool {
    fdinfo
        .lines()
        .filter_map(|line| line.strip_prefix("map_type:"))
        .any(|kind| REDIRECTING.contains(&kind.trim()))
}

fn list(pids: &[u32]) -> String {
    let shown: Vec<String> = pids.iter().take(8).map(u32::to_string).collect();
    let more = if pids.len() > shown.len() { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_stream_sockets_are_counted_and_no_others() {
        let text = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 11 /run/a.sock\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 12 /run/a.sock\n\
            0000000000000000: 00000002 00000000 00010000 0005 01 13 /run/b.seqpacket\n\
            0000000000000000: 00000002 00000000 00000000 0002 01 14 /run/log\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 15\n";
        assert_eq!(unix_listeners(text), 2);
        assert_eq!(unix_listeners(""), 0);
    }

    #[test]
    fn socket_maps_are_told_from_others() {
        assert!(redirects("pos:\t0\nflags:\t02\nmap_type:\t18\nkey_size:\t8\n"));
        assert!(redirects("map_type:\t15\n"));
        assert!(!redirects("map_type:\t1\nkey_size:\t18\n"));
    }

    #[test]
    fn an_own_listening_unix_socket_is_evidence() {
        let directory = tempfile::tempdir().unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(directory.path().join("s")).unwrap();
        let found = blind_spots(Path::new("/proc"));
        let unix = found.iter().find(|spot| spot.what == "HTTP over Unix sockets").unwrap();
        assert!(unix.evidence.contains("Unix stream sockets listen in"), "{unix:?}");
        assert_eq!(blind_spots(Path::new("/nowhere")), []);
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(list(&[1, 2]), "1, 2");
        assert_eq!(list(&(0..9).collect::<Vec<_>>()), "0, 1, 2, 3, 4, 5, 6, 7, …");
    }
}
