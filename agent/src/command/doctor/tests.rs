//! Tests of doctor.

use std::io;

use super::attribution::Place;
use super::print::wrap;
use super::system::{Processes, is_in_container, sandbox};
use super::*;
use crate::kernel::attached::{Attached, Sharing};
use crate::kernel::bpf::AttachType;
use crate::kernel::cgroup::CgroupError;
use crate::kernel::events::TRACEPOINTS;
use crate::kernel::features::{Helpers, Hook, Jit, Lockdown, Support, Tracepoint};
use crate::kernel::privilege::MemoryLock;

/// A kernel that has everything.
fn everything() -> Features {
    let present = || Support::Present;
    Features {
        release: "9.9.9".into(),
        hooks: AttachType::ALL
            .map(|attach_type| Hook { attach_type, load: present(), attach: present() })
            .to_vec(),
        tracepoints: TRACEPOINTS
            .map(|one| Tracepoint { category: one.category, name: one.name, attach: present() })
            .to_vec(),
        helpers: Helpers {
            packet_netns_cookie: present(),
            packet_current_task: present(),
            sock_ops_netns_cookie: present(),
            sock_ops_current_task: present(),
            socket_current_task: present(),
            socket_comm: present(),
            address_current_task: present(),
            address_comm: present(),
            tracepoint_text: present(),
            packet_loop: present(),
        },
        ring_buffer: present(),
        socket_storage: present(),
        links: present(),
        memory_lock: MemoryLock { bytes: Some(8 << 20), unlimited: false },
        memory_lock_counts: Some(false),
        lockdown: Lockdown::None,
        jit: Jit::On,
        kprobes: present(),
        uprobes: present(),
        unprivileged_bpf_disabled: Some(2),
        optmem_max: Some(131_072),
    }
}

fn no_root() -> Result<cgroup::CgroupRoot, CgroupError> {
    Err(CgroupError::Subtree { seen: "/sys/fs/cgroup".into(), namespaced: true })
}

fn by_name<'a>(checks: &'a [Check], name: &str) -> &'a Check {
    checks.iter().find(|check| check.name == name).expect(name)
}

#[test]
fn a_kernel_that_has_everything_fails_nothing() {
    let features = everything();
    let mut checks = capture::kernel(&features, None);
    checks.extend(capture::capture(&features, &no_root()));
    let failed: Vec<_> =
        checks.iter().filter(|check| check.state != State::Ok).map(|check| check.name).collect();
    assert_eq!(failed, ["cgroup v2 root"]);
    assert_eq!(verdict(&checks), Verdict::Blind);
    checks.retain(|check| check.name != "cgroup v2 root");
    assert_eq!(verdict(&checks), Verdict::Ready);
}

#[test]
fn an_unreachable_root_says_why_and_what_to_do() {
    let checks = capture::capture(&everything(), &no_root());
    let check = by_name(&checks, "cgroup v2 root");
    assert_eq!(check.state, State::Missing);
    assert!(check.detail.ends_with("would be missed"), "{}", check.detail);
    assert!(check.remedy.as_deref().is_some_and(|text| text.contains("--cgroupns=host")));
}

#[test]
fn what_is_essential_stops_the_job_and_what_is_not_limits_it() {
    let mut features = everything();
    features.helpers.packet_netns_cookie = Support::Absent("unknown func".into());
    let drops = features.tracepoints.iter_mut().find(|one| one.name == "kfree_skb");
    drops.expect("is read").attach = Support::Absent("no field reason".into());
    let checks = capture::capture(&features, &no_root());
    assert_eq!(by_name(&checks, "network namespace").state, State::Degraded);
    let drops = by_name(&checks, "kfree_skb");
    assert_eq!(drops.remedy.as_deref(), Some("a kernel from 5.17 on"), "{drops:?}");
    features.ring_buffer = Support::Absent("Invalid argument".into());
    features.hooks[1].attach = Support::Absent(
        "program 7 (guard) at cgroup_skb/egress is attached exclusively and leaves no room".into(),
    );
    let checks = capture::capture(&features, &no_root());
    assert_eq!(by_name(&checks, "ring buffer").state, State::Missing);
    let packets = by_name(&checks, "packets");
    assert_eq!(packets.state, State::Missing);
    assert!(packets.detail.contains("program 7 (guard)"), "{}", packets.detail);
    assert!(packets.remedy.as_deref().is_some_and(|text| text.contains("BPF_F_ALLOW_MULTI")));
}

#[test]
fn locked_memory_matters_only_where_it_counts() {
    let mut features = everything();
    let state =
        |features: &Features| by_name(&capture::kernel(features, None), "locked memory").state;
    assert_eq!(state(&features), State::Ok);
    features.memory_lock_counts = Some(true);
    assert_eq!(state(&features), State::Missing);
    features.memory_lock = MemoryLock { bytes: None, unlimited: true };
    assert_eq!(state(&features), State::Ok);
}

#[test]
fn one_cause_is_told_once() {
    let mut features = everything();
    features.ring_buffer = Support::Unknown("not permitted".into());
    let checks = capture::capture(&features, &no_root());
    let check = by_name(&checks, "ring buffer").clone();
    assert_eq!((check.state, check.remedy.as_deref()), (State::Missing, Some(SEE_ABOVE)));
    let mut text = Vec::new();
    print::report(&mut text, &Report::new(features, vec![check])).expect("memory is writable");
    let text = String::from_utf8(text).expect("text");
    assert!(text.contains("unknown: not permitted\n") && !text.contains("lost:"), "{text}");
}

#[test]
fn lacking_privileges_names_each() {
    let held = Privileges { effective: caps::CapsHashSet::new(), root: false };
    let checks = capture::kernel(&everything(), Some(&held));
    let check = by_name(&checks, "privileges");
    assert_eq!((check.state, check.essential), (State::Missing, true));
    for name in ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON", "CAP_SYS_PTRACE"] {
        assert!(check.remedy.as_deref().is_some_and(|text| text.contains(name)), "{name}");
    }
    let most = [caps::Capability::CAP_SYS_ADMIN].into_iter().collect();
    let checks = capture::kernel(&everything(), Some(&Privileges { effective: most, root: false }));
    assert_eq!(by_name(&checks, "privileges").state, State::Degraded);
}

#[test]
fn neighbours_are_named_and_judged_by_what_they_leave() {
    let at = |attach_type, flags| Attached { attach_type, id: 9, name: "cil".into(), flags };
    assert_eq!(capture::neighbours(&[]).state, State::Ok);
    let beside = capture::neighbours(&[at(AttachType::Egress, Sharing::Shared)]);
    assert_eq!(beside.state, State::Ok);
    assert!(beside.detail.contains("program 9 (cil)"), "{}", beside.detail);
    let first = capture::neighbours(&[at(AttachType::Connect4, Sharing::Shared)]);
    assert_eq!(first.state, State::Degraded);
    assert!(first.lost.is_some_and(|text| text.contains("translate")));
    let named = |attach_type, name: &str| Attached {
        name: name.into(),
        ..at(attach_type, Sharing::Shared)
    };
    let own = [named(AttachType::SockOps, "lifecycle"), named(AttachType::Connect4, "connect4")];
    let beside_itself = capture::neighbours(&own);
    assert_eq!(
        (beside_itself.state, beside_itself.detail.as_str()),
        (State::Ok, "a running meshtap")
    );
    let stranger = capture::neighbours(&own[1..]);
    assert_eq!(stranger.state, State::Degraded, "the name alone proves nothing");
    assert_eq!(
        capture::neighbours(&[at(AttachType::Egress, Sharing::Exclusive)]).state,
        State::Degraded
    );
}

#[test]
fn processes_are_hidden_in_three_ways() {
    let all = Processes { seen: 40, first_visible: true, ..Processes::default() };
    assert_eq!(attribution::processes(&all).state, State::Ok);
    let apart = attribution::processes(&Processes { own_pid_namespace: true, ..all.clone() });
    assert!(apart.remedy.is_some_and(|text| text.contains("host.proc")));
    let hidden = attribution::processes(&Processes { first_visible: false, ..all.clone() });
    assert!(hidden.detail.contains("hidepid"));
    let closed = attribution::processes(&Processes { closed: 3, ..all.clone() });
    assert!(closed.detail.contains("3 of 40"), "{}", closed.detail);
    assert!(closed.remedy.is_some_and(|text| text.starts_with("run as root")));
    let guarded = attribution::processes(&Processes { closed: 3, may_look: true, ..all });
    assert!(guarded.remedy.is_some_and(|text| text.contains("all of root's capabilities")));
}

#[test]
fn translation_is_followed_where_the_node_tracks_connections_and_may_be_asked() {
    let check = attribution::translation;
    assert_eq!(check(Ok(true), false).state, State::Ok);
    let nothing = check(Ok(false), false);
    assert_eq!((nothing.state, nothing.lost), (State::Ok, None), "nothing is translated");
    let refused = check(Err(io::ErrorKind::PermissionDenied.into()), false);
    assert_eq!((refused.state, refused.essential), (State::Degraded, false));
    assert!(refused.remedy.is_some_and(|text| text.contains("CAP_NET_ADMIN")));
    let silent = check(Err(io::ErrorKind::InvalidInput.into()), false);
    assert!(silent.remedy.is_some_and(|text| text.contains("nf_conntrack_netlink")));
    let apart = check(Ok(true), true);
    assert!(apart.remedy.is_some_and(|text| text.contains("hostNetwork")));
    assert!(apart.lost.is_some_and(|text| text.contains("Service")));
}

#[test]
fn containers_need_a_runtime_that_can_be_read() {
    let some = Processes { in_containers: 4, ..Processes::default() };
    let readable = [("docker", Place::Readable), ("docker", Place::Closed)];
    let check = attribution::containers(&some, &readable);
    assert_eq!(check.state, State::Ok, "one of docker's places is enough");
    assert!(check.detail.contains("docker") && check.detail.contains('4'), "{}", check.detail);
    let closed = attribution::containers(&some, &[("podman", Place::Closed)]);
    assert!(closed.lost.is_some_and(|text| text.contains("podman")));
    let absent = [("cri-o", Place::Absent)];
    assert_eq!(attribution::containers(&some, &absent).state, State::Degraded);
    assert_eq!(attribution::containers(&Processes::default(), &absent).state, State::Ok);
}

#[test]
fn containers_are_told_by_their_identifiers() {
    let id = "4f".repeat(32);
    assert!(is_in_container(&format!("0::/docker/{id}\n")));
    assert!(is_in_container(&format!("0::/system.slice/docker-{id}.scope")));
    assert!(is_in_container(&format!("1:cpu:/x\n0::/kubepods/pod1/cri-containerd-{id}.scope")));
    assert!(!is_in_container(&format!("0::/docker/{id}a")), "65 digits are no identifier");
    assert!(!is_in_container("0::/system.slice/nginx.service"));
    assert!(!is_in_container(&"z".repeat(64)));
}

#[test]
fn sandboxes_are_told_by_their_programs() {
    assert_eq!(sandbox("exe", "runsc-sandbox\0--root=/x\0"), Some("gVisor"));
    assert_eq!(sandbox("runsc-gofer", ""), Some("gVisor"));
    assert_eq!(
        sandbox("containerd-shim", "/usr/bin/containerd-shim-kata-v2\0"),
        Some("Kata Containers")
    );
    assert_eq!(sandbox("qemu-system-x86", "/usr/bin/qemu-system-x86_64\0-m\x001G"), Some("QEMU"));
    assert_eq!(sandbox("sh", "sh\0-c\0runsc\0"), None);
    assert_eq!(sandbox("", ""), None);
    assert_eq!(blind_spot::sandboxes(&[]).state, State::Ok);
    assert_eq!(blind_spot::sandboxes(&["gVisor (pid 7)".into()]).state, State::Degraded);
}

#[test]
fn unix_sockets_count_when_a_service_listens() {
    let table = "\
Num       RefCount Protocol Flags    Type St Inode Path
00000000: 00000002 00000000 00010000 0001 01 100 /run/php/php-fpm.sock
00000000: 00000002 00000000 00010000 0001 01 101 /run/systemd/private
00000000: 00000003 00000000 00000000 0001 03 102 /run/connected.sock
00000000: 00000002 00000000 00010000 0005 01 103 /run/sequenced.sock
00000000: 00000002 00000000 00010000 0001 01 104
nonsense
00000000: 00000002 00000000 00010000 0001 01 105 @abstract
";
    let check = blind_spot::unix_sockets(table);
    assert_eq!(check.detail, "services listen on /run/php/php-fpm.sock, @abstract");
    assert_eq!(check.state, State::Degraded);
    assert_eq!(blind_spot::unix_sockets("").state, State::Ok);
}

#[test]
fn redirection_is_seen_absent_or_unknown() {
    assert_eq!(blind_spot::redirection(Ok(vec![])).state, State::Ok);
    let many = (1..=7).map(|id| format!("map {id} (sock_hash)")).collect();
    let check = blind_spot::redirection(Ok(many));
    assert!(check.detail.ends_with("map 5 (sock_hash) and 2 more"), "{}", check.detail);
    let unknown = blind_spot::redirection(Err(io::Error::from_raw_os_error(libc::EPERM)));
    assert_eq!(unknown.state, State::Degraded);
    assert!(unknown.lost.is_some_and(|text| text.starts_with("whether ")));
}

#[test]
fn option_memory_is_judged_by_the_least_that_works() {
    let state = |bytes| blind_spot::option_memory(bytes).state;
    assert_eq!([state(None), state(Some(20_480))], [State::Ok, State::Ok]);
    assert_eq!(state(Some(20_479)), State::Degraded);
}

#[test]
fn text_is_aligned_and_ends_with_the_verdict() {
    let failed = Check::new(Group::Capture, "packets", "refused").essential().failed("all", "root");
    let report = Report::new(everything(), vec![failed]);
    let mut output = anstream::AutoStream::new(Vec::new(), anstream::ColorChoice::Never);
    print::report(&mut output, &report).expect("memory is writable");
    let text = String::from_utf8(output.into_inner()).expect("text");
    assert!(text.contains("  missing   packets                 refused\n"), "{text}");
    assert!(text.contains(&format!("{:36}lost:   all\n", "")), "{text}");
    assert_eq!(
        text.lines().last(),
        Some("not ready: meshtap cannot see traffic here; it needs packets")
    );
    assert!(!text.contains('\x1b'));
    assert_eq!(report.exit_code(), EXIT_NOT_ALLOWED);
    assert!(wrap("one two three", 7).iter().eq(["one two", "three"]));
}

#[test]
fn the_json_has_the_documented_fields() {
    let checks = capture::capture(&everything(), &no_root());
    let json = serde_json::to_value(Report::new(everything(), checks)).expect("plain data");
    assert_eq!((&json["schema"], &json["verdict"]), (&1.into(), &"blind".into()));
    let check = &json["checks"][0];
    let keys: Vec<_> = check.as_object().expect("an object").keys().cloned().collect();
    assert_eq!(keys.len(), 7, "{keys:?}");
    for key in ["name", "group", "state", "essential", "detail", "lost", "remedy"] {
        assert!(check.get(key).is_some(), "{key} is documented");
    }
    assert_eq!(check["state"], "missing");
    assert_eq!(json["features"]["ring_buffer"]["state"], "present");
}

#[test]
fn names_are_unique_on_this_host_and_root_can_run_the_main_job() {
    let report = Report::gather(SocketAddr::from(([127, 0, 0, 1], 0)), &HostPaths::default(), None);
    let mut names: Vec<_> = report.checks.iter().map(|check| check.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
    for check in &report.checks {
        let failed = check.state != State::Ok;
        assert_eq!((check.lost.is_some(), check.remedy.is_some()), (failed, failed), "{check:?}");
    }
    if rustix::process::geteuid().is_root() && report.features.ring_buffer.is_present() {
        assert_ne!(report.verdict, Verdict::Blind, "{:#?}", report.checks);
    } else {
        crate::requirement::skipped("the verdict of root, for this is not root");
    }
}

#[test]
fn kubernetes_is_asked_where_it_is_configured_and_missed_where_this_is_a_node() {
    use crate::kubernetes::Refusal;
    let check = attribution::kubernetes;
    assert_eq!(check(Some(Ok("v1.36.2".to_owned())), true).state, State::Ok);
    assert_eq!(check(None, false).state, State::Ok);
    let missed = check(None, true);
    assert_eq!(missed.state, State::Degraded);
    assert!(missed.remedy.is_some_and(|remedy| remedy.contains("kubernetes.kubeconfig")));
    let refusal = Refusal { why: "out of reach".to_owned(), remedy: "reach it".to_owned() };
    let refused = check(Some(Err(refusal)), true);
    assert!(refused.state == State::Degraded && refused.detail == "out of reach");
    assert!(refused.lost.is_some_and(|lost| lost.contains("pods")));
}
