//! What cannot be seen at all on this host, for `doctor`: traffic that never passes a
//! socket's cgroup as TCP packets.

use std::fs;
use std::path::Path;

use super::inventory;
use super::program::base_name;

/// Descriptors of BPF maps that are looked at; one is enough to say so.
const MAPS: usize = 65_536;
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
#[must_use]
pub fn blind_spots(proc: &Path) -> Vec<BlindSpot> {
    let processes = inventory::processes(proc).unwrap_or_default();
    let mut found = Vec::new();
    let listeners =
        unix_listeners(&fs::read_to_string(proc.join("self/net/unix")).unwrap_or_default());
    if listeners > 0 {
        found.push(BlindSpot {
            what: "HTTP over Unix sockets",
            why: "no IP packet is sent, so no hook sees a message; which of the sockets speak HTTP cannot be told",
            evidence: format!("{listeners} Unix stream sockets listen in this network namespace"),
        });
    }
    let named = |wanted: &dyn Fn(&str) -> bool| -> Vec<u32> {
        let name = |directory: &Path| {
            let path = fs::read_link(directory.join("exe")).ok()?;
            Some(base_name(&path.to_string_lossy()).to_owned())
        };
        processes
            .iter()
            .filter(|(_, directory)| name(directory).is_some_and(|name| wanted(&name)))
            .map(|(pid, _)| *pid)
            .collect()
    };
    let sandboxes = named(&|name| name == "runsc" || name == "runsc-sandbox");
    let stacks = named(&|name| {
        matches!(name, "slirp4netns" | "passt" | "pasta" | "pasta.avx2" | "passt.avx2")
    });
    let machines = named(&|name| {
        name.starts_with("qemu-system")
            || matches!(name, "firecracker" | "cloud-hypervisor" | "kvmtool" | "crosvm")
    });
    for (what, why, pids) in [
        (
            "connections inside gVisor sandboxes",
            "the sandbox has a network stack of its own",
            sandboxes,
        ),
        ("who is behind a user-mode network", "its connections leave as one process's own", stacks),
        ("connections inside virtual machines", "the guest's kernel owns the sockets", machines),
    ] {
        if !pids.is_empty() {
            found.push(BlindSpot { what, why, evidence: format!("processes {}", list(&pids)) });
        }
    }
    let redirecting: Vec<u32> = processes
        .iter()
        .filter(|(_, directory)| holds_socket_map(directory))
        .map(|(pid, _)| *pid)
        .collect();
    if !redirecting.is_empty() {
        found.push(BlindSpot {
            what: "bytes that a sockmap redirects from socket to socket",
            why: "they never become packets; connections that are in such a map show no or few messages",
            evidence: format!("BPF socket maps are held by processes {}", list(&redirecting)),
        });
    }
    found
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
        assert!(unix.evidence.ends_with("listen in this network namespace"), "{unix:?}");
        assert_eq!(blind_spots(Path::new("/nowhere")), []);
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(list(&[1, 2]), "1, 2");
        assert_eq!(list(&(0..9).collect::<Vec<_>>()), "0, 1, 2, 3, 4, 5, 6, 7, …");
    }
}
