//! Whether traffic can be seen: the kernel, the privileges and the hooks.

use super::{Check, Group, SEE_ABOVE, State};
use crate::kernel::attach;
use crate::kernel::attached::{self, Attached};
use crate::kernel::bpf::AttachType as At;
use crate::kernel::cgroup::{CgroupError, CgroupRoot};
use crate::kernel::features::{Features, Jit, Lockdown, Support};
use crate::kernel::privilege::{Need, Privileges};

/// Bytes that the ring and the maps take, about; before 5.11 they count as locked.
const LOCKED_BYTES: u64 = 64 << 20;
const NEWER_KERNEL: &str = "a newer kernel";

/// The kernel's own checks.
pub(super) fn kernel(features: &Features, privileges: Option<&Privileges>) -> Vec<Check> {
    let mut checks = vec![self::privileges(privileges), lockdown(features), jit(features)];
    checks.push(memory_lock(features));
    checks.push(Check::new(
        Group::Kernel,
        "kprobes",
        match features.kprobes.is_present() {
            true => "present; meshtap does not need them",
            false => "not there; meshtap does not need them",
        },
    ));
    let unprivileged = match features.unprivileged_bpf_disabled {
        Some(0) => "any user may load programs (kernel.unprivileged_bpf_disabled is 0)",
        Some(_) => "only privileged users may load programs",
        None => "kernel.unprivileged_bpf_disabled is not readable here",
    };
    checks.push(Check::new(Group::Kernel, "unprivileged eBPF", unprivileged));
    checks
}

fn privileges(held: Option<&Privileges>) -> Check {
    let Some(held) = held else {
        return Check::new(Group::Kernel, "privileges", "capabilities cannot be read");
    };
    let lacking: Vec<_> = Need::ALL.into_iter().filter(|need| !held.meets(*need)).collect();
    let check = |detail: String| Check::new(Group::Kernel, "privileges", detail);
    if lacking.is_empty() {
        return check("all that meshtap uses".into());
    }
    let essential =
        lacking.iter().any(|need| matches!(need, Need::LoadPrograms | Need::AttachToCgroup));
    let mut names: Vec<_> = Vec::new();
    for name in lacking.iter().map(|need| need.remedy()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let lost: Vec<_> = lacking.iter().filter_map(|need| without(*need)).collect();
    let mut check = check(format!("not held: {}", names.join(", ")));
    check.essential = essential;
    check.failed(
        lost.join("; "),
        format!("run as root, or grant {} (in a container: securityContext.capabilities.add, --cap-add)", names.join(", ")),
    )
}

/// What is lost beside what other needs lose already.
fn without(need: Need) -> Option<&'static str> {
    Some(match need {
        Need::LoadPrograms => "everything: no program can be loaded",
        Need::AttachToCgroup => "everything: no program can be attached to the cgroup root",
        Need::Trace => {
            "names of programs that end at once, ends of connections older than the agent, the \
             host's drops, resets and retransmissions"
        }
        Need::ReadProcesses => "names of other users' programs",
        Need::AskNetwork => "names behind addresses that the node translates",
        Need::ReadMaps | Need::ReadTokens => return None,
        Need::GiveUp => {
            "nothing of what is shown, but the running agent cannot become an unprivileged user \
             nor bound what it may do"
        }
        Need::EnterNamespaces => {
            "owners of connections older than the agent in other network namespaces"
        }
    })
}

fn lockdown(features: &Features) -> Check {
    let check = |detail: &str| Check::new(Group::Kernel, "lockdown", detail);
    match features.lockdown {
        Lockdown::None => check("off"),
        Lockdown::Integrity => check("integrity: meshtap works under it"),
        Lockdown::Unknown => check("not readable here"),
        // bpf_probe_read_kernel and its kind are withheld, and with them what reads an event.
        Lockdown::Confidentiality => check("confidentiality: programs may not read events").failed(
            "names of programs that end at once, ends of connections older than the agent, \
                 the host's drops",
            "boot with lockdown=integrity",
        ),
    }
}

fn jit(features: &Features) -> Check {
    let check = |detail: &str| Check::new(Group::Kernel, "compiler", detail);
    match features.jit {
        Jit::On => check("programs run as machine code"),
        Jit::Unknown => check("net.core.bpf_jit_enable is not readable here"),
        Jit::Off => check("programs are interpreted (net.core.bpf_jit_enable is 0)").failed(
            "several times the processor time per packet",
            "sysctl -w net.core.bpf_jit_enable=1",
        ),
    }
}

fn memory_lock(features: &Features) -> Check {
    let name = "locked memory";
    match features.memory_lock_counts {
        Some(true) => {}
        Some(false) => {
            return Check::new(Group::Kernel, name, "maps do not count against the limit");
        }
        None => return Check::new(Group::Kernel, name, "whether maps count could not be tried"),
    }
    match features.memory_lock.bytes {
        None => Check::new(Group::Kernel, name, "no limit"),
        Some(bytes) if bytes >= LOCKED_BYTES => {
            Check::new(Group::Kernel, name, format!("up to {bytes} bytes"))
        }
        Some(bytes) => Check::new(
            Group::Kernel,
            name,
            format!("maps count against the limit of {bytes} bytes, and it cannot be raised"),
        )
        .essential()
        .failed(
            "everything: the maps do not fit",
            "ulimit -l unlimited, LimitMEMLOCK=infinity in a unit, or CAP_SYS_RESOURCE",
        ),
    }
}

/// The hooks and what they stand on.
pub(super) fn capture(features: &Features, root: &Result<CgroupRoot, CgroupError>) -> Vec<Check> {
    let mut checks = vec![cgroup(root)];
    checks.extend(hooks(features));
    checks.push(essential(
        "ring buffer",
        &features.ring_buffer,
        "everything",
        "a kernel from 5.8 on",
    ));
    checks.push(essential(
        "socket storage",
        &features.socket_storage,
        "everything",
        "a kernel from 5.8 on",
    ));
    checks.push(essential("links", &features.links, "everything", "a kernel from 5.8 on"));
    checks.extend(helpers(features));
    checks.extend(tracepoints(features));
    if let Ok(root) = root
        && let Ok(others) = attached::attached(std::os::fd::AsFd::as_fd(root))
    {
        checks.push(neighbours(&others));
    }
    checks
}

fn cgroup(root: &Result<CgroupRoot, CgroupError>) -> Check {
    let check = |detail: String| Check::new(Group::Capture, "cgroup v2 root", detail).essential();
    match root {
        Err(error) => {
            let text = error.to_string();
            let remedy = error.remedy();
            let reason = text.strip_suffix(remedy).unwrap_or(&text).trim_end_matches("; ");
            check(reason.to_owned()).failed("everything: there is no place to attach to", remedy)
        }
        Ok(CgroupRoot { path: Some(path), .. }) => check(path.display().to_string()),
        Ok(CgroupRoot { mounted_by_us: true, .. }) => {
            let mut check = check("mounted nowhere; meshtap opens it for itself alone".into());
            check.essential = false;
            check.failed(
                "containers and units come from processes, not from sockets: some of short-lived \
                 programs are lost",
                "mount cgroup v2 and let the runtimes use it (systemd.unified_cgroup_hierarchy=1)",
            )
        }
        Ok(_) => check("out of reach by path; meshtap opens it for itself alone".into()),
    }
}

/// (name, places, essential, what is lost, where it is to be had)
type HookGroup = (&'static str, &'static [At], bool, &'static str, &'static str);

const HOOKS: [HookGroup; 5] = [
    ("packets", &[At::Ingress, At::Egress], true, "everything", NEWER_KERNEL),
    ("connections", &[At::SockOps], true, "connects, failures and round-trip times", NEWER_KERNEL),
    (
        "socket owners",
        &[At::SockCreate, At::PostBind4, At::PostBind6],
        false,
        "the program behind a socket until it connects or accepts",
        NEWER_KERNEL,
    ),
    (
        "requested addresses",
        &[At::Connect4, At::Connect6],
        false,
        "the address that a program asked for, where the kernel translates it",
        NEWER_KERNEL,
    ),
    (
        "accepting programs",
        &[At::Getpeername4, At::Getpeername6, At::Getsockname4, At::Getsockname6],
        false,
        "which worker of a prefork server accepted; its parent is shown",
        "a kernel from 5.8 on",
    ),
];

fn hooks(features: &Features) -> Vec<Check> {
    HOOKS
        .iter()
        .map(|&(name, places, needed, lost, remedy)| {
            let names: Vec<_> = places.iter().map(|place| place.name()).collect();
            let failed = places.iter().find_map(|place| match features.hook(*place) {
                None => Some((place, Support::Unknown("it was not tried".to_owned()))),
                Some(hook) if hook.attach.is_present() => None,
                // Where the program does not load, that is the reason.
                Some(hook) if hook.load.is_present() => Some((place, hook.attach.clone())),
                Some(hook) => Some((place, hook.load.clone())),
            });
            let mut check = Check::new(Group::Capture, name, names.join(", "));
            check.essential = needed;
            match failed {
                None => check,
                Some((place, support)) => {
                    check.detail = format!("{}: {support}", place.name());
                    check.failed(lost, remedy_for(&support, remedy))
                }
            }
        })
        .collect()
}

fn essential(name: &'static str, support: &Support, lost: &str, remedy: &str) -> Check {
    supported(name, support, lost, remedy, true)
}

fn supported(
    name: &'static str,
    support: &Support,
    lost: &str,
    remedy: &str,
    needed: bool,
) -> Check {
    let mut check = Check::new(Group::Capture, name, support.to_string());
    check.essential = needed;
    if support.is_present() {
        return check;
    }
    check.failed(lost, remedy_for(support, remedy))
}

/// What could not be tried may well be there: the remedy is to be allowed to try.
fn remedy_for(support: &Support, remedy: &str) -> String {
    match support {
        Support::Unknown(_) => SEE_ABOVE.to_owned(),
        Support::Absent(reason) if reason.contains("exclusively") => {
            "stop the program that owns it, or have it attach with BPF_F_ALLOW_MULTI".to_owned()
        }
        _ => remedy.to_owned(),
    }
}

fn helpers(features: &Features) -> Vec<Check> {
    let helpers = &features.helpers;
    let comm = if helpers.address_comm.is_present() {
        &helpers.socket_comm
    } else {
        &helpers.address_comm
    };
    [
        (
            "network namespace",
            &helpers.packet_netns_cookie,
            "equal addresses in two namespaces are told apart by sequence numbers alone",
            NEWER_KERNEL,
        ),
        (
            "name at the socket",
            comm,
            "the programs behind sockets: what notes them does not load",
            "a kernel from 5.8 on",
        ),
        (
            "texts in events",
            &helpers.tracepoint_text,
            "names of programs that end at once",
            "boot without lockdown=confidentiality",
        ),
    ]
    .map(|(name, support, lost, remedy)| supported(name, support, lost, remedy, false))
    .to_vec()
}

fn tracepoints(features: &Features) -> Vec<Check> {
    features
        .tracepoints
        .iter()
        .map(|one| {
            let (lost, remedy) = match one.name {
                "tcp_destroy_sock" => ("the end of connections older than meshtap", NEWER_KERNEL),
                "tcp_retransmit_skb" => {
                    ("the host's sum of retransmissions; those of connections remain", NEWER_KERNEL)
                }
                "tcp_send_reset" => {
                    ("the host's sum of resets sent; those of connections remain", NEWER_KERNEL)
                }
                "tcp_receive_reset" => {
                    ("the host's sum of resets received; those of connections remain", NEWER_KERNEL)
                }
                "kfree_skb" => ("the host's packet drops by reason", "a kernel from 5.17 on"),
                "sched_process_exec" => ("names of programs that end at once", NEWER_KERNEL),
                _ => ("the end of programs, until their place is needed", NEWER_KERNEL),
            };
            supported(one.name, &one.attach, lost, remedy, false)
        })
        .collect()
}

/// Other programs at the root: they run beside the agent's, or leave no room.
pub(super) fn neighbours(others: &[Attached]) -> Check {
    let name = "other programs";
    // Another meshtap translates nothing and leaves room. Its names alone are common words.
    let runs = others.iter().any(|one| one.attach_type == At::SockOps && one.name == "lifecycle");
    let is_own = |one: &&Attached| runs && !one.is_in_the_way() && attach::is_named_so(&one.name);
    let mut text = if runs { vec!["a running meshtap".to_owned()] } else { Vec::new() };
    let others: Vec<&Attached> = others.iter().filter(|one| !is_own(one)).collect();
    text.extend(others.iter().map(ToString::to_string));
    if text.is_empty() {
        return Check::new(Group::Capture, name, "none at the cgroup root");
    }
    let mut check = Check::new(Group::Capture, name, text.join(", "));
    if others.iter().any(|one| one.is_in_the_way()) {
        return check.failed(
            "what would be attached at the same place",
            "stop the program that owns it, or have it attach with BPF_F_ALLOW_MULTI",
        );
    }
    if others.iter().any(|one| matches!(one.attach_type, At::Connect4 | At::Connect6)) {
        check.state = State::Degraded;
        check.lost = Some(
            "addresses that these programs translate before meshtap sees them are shown translated"
                .to_owned(),
        );
        check.remedy = Some("start meshtap before them".to_owned());
    }
    check
}
