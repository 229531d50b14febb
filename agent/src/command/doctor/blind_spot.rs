//! What no hook of the agent can see on this host, as far as it can be told.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use super::system::Processes;
use super::{Check, Group};
use crate::kernel::attached;
use crate::kernel::features::Features;

/// No check names more examples than this.
const EXAMPLES: usize = 5;
/// Below this a socket's storage is refused beside what applications take: the
/// default of the kernels that have the least.
const LEAST_OPTMEM: u32 = 20_480;
/// Unix sockets of the system itself, which carry no HTTP.
const SYSTEM_SOCKETS: [&str; 8] = [
    "/run/systemd/",
    "/run/dbus/",
    "/run/udev/",
    "/run/user/",
    "/var/run/dbus/",
    "/run/lvm/",
    "/run/lock/",
    "/tmp/.X11-unix/",
];

/// All checks of this group.
pub(super) fn checks(features: &Features, processes: &Processes) -> Vec<Check> {
    vec![
        encryption(),
        unix_sockets(&fs::read_to_string("/proc/net/unix").unwrap_or_default()),
        redirection(attached::redirectors()),
        sandboxes(&processes.sandboxes),
        option_memory(features.optmem_max),
    ]
}

fn encryption() -> Check {
    Check::new(
        Group::BlindSpots,
        "encrypted traffic",
        "what is encrypted cannot be read on the wire",
    )
    .failed(
        "requests inside of TLS; their connections are edges with TCP figures",
        "none on the wire; where a proxy of this host ends TLS, its plain side is seen",
    )
}

/// `/proc/net/unix` of the agent's own network namespace.
pub(super) fn unix_sockets(table: &str) -> Check {
    let listeners: BTreeSet<_> = table.lines().skip(1).filter_map(listener).collect();
    let check = |detail: String| Check::new(Group::BlindSpots, "Unix sockets", detail);
    if listeners.is_empty() {
        return check("no service listens on one (besides the system's own)".into());
    }
    let named: Vec<_> = listeners.iter().take(EXAMPLES).copied().collect();
    let more = match listeners.len().saturating_sub(EXAMPLES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    check(format!("services listen on {}{more}", named.join(", "))).failed(
        "calls over Unix sockets",
        "let the service listen on 127.0.0.1 where its calls matter",
    )
}

/// The path or name of a stream socket that listens, unless the system owns it.
fn listener(line: &str) -> Option<&str> {
    const ACCEPTS: u32 = 1 << 16;
    // Num RefCount Protocol Flags Type St Inode Path
    let mut words = line.split_whitespace();
    let flags = u32::from_str_radix(words.nth(3)?, 16).ok()?;
    let stream = words.next()? == "0001";
    let path = words.nth(2)?;
    let system = SYSTEM_SOCKETS.iter().any(|prefix| path.starts_with(prefix));
    (flags & ACCEPTS != 0 && stream && !system).then_some(path)
}

/// Programs that hand bytes from socket to socket inside the kernel.
pub(super) fn redirection(found: io::Result<Vec<String>>) -> Check {
    let check = |detail: String| Check::new(Group::BlindSpots, "socket redirection", detail);
    let lost = "calls that a socket map hands over inside the kernel pass no packet hook";
    match found {
        Ok(found) if found.is_empty() => {
            check("no program redirects between sockets (sockmap)".into())
        }
        Ok(found) => {
            let more = found.len().saturating_sub(EXAMPLES);
            let mut text = found.into_iter().take(EXAMPLES).collect::<Vec<_>>().join(", ");
            if more > 0 {
                text += &format!(" and {more} more");
            }
            check(format!("loaded on this host: {text}")).failed(
                lost,
                "switch the acceleration off where calls are missing (Cilium: \
                 sockops-enable, Istio and others: their eBPF acceleration)",
            )
        }
        Err(error) => check(format!("loaded programs cannot be listed: {error}"))
            .failed(format!("whether {lost}"), "run as root (CAP_SYS_ADMIN)"),
    }
}

/// Programs that bring a network stack of their own.
pub(super) fn sandboxes(found: &[String]) -> Check {
    let check = |detail: String| Check::new(Group::BlindSpots, "sandboxes", detail);
    if found.is_empty() {
        return check("no virtual machine and no sandbox with its own network stack runs".into());
    }
    check(format!("run here: {}", found.join(", "))).failed(
        "calls made inside of them; their peers on this host are seen",
        "run meshtap inside of a virtual machine; for gVisor use --network=host",
    )
}

/// Socket storage draws on the memory that applications use for options.
pub(super) fn option_memory(optmem_max: Option<u32>) -> Check {
    let name = "socket option memory";
    match optmem_max {
        None => Check::new(
            Group::BlindSpots,
            name,
            "net.core.optmem_max is not readable here (not the host's network namespace)",
        ),
        Some(bytes) if bytes < LEAST_OPTMEM => Check::new(
            Group::BlindSpots,
            name,
            format!("net.core.optmem_max is {bytes} bytes, little for storage in sockets"),
        )
        .failed(
            "connections whose application uses the memory itself (zero copy)",
            format!("sysctl -w net.core.optmem_max={LEAST_OPTMEM} or more"),
        ),
        Some(bytes) => {
            Check::new(Group::BlindSpots, name, format!("net.core.optmem_max is {bytes} bytes"))
        }
    }
}
