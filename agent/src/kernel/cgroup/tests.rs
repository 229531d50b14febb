//! Tests of cgroup.

use std::os::fd::AsRawFd;
use std::process::Command;

use super::*;

const UNIFIED: &str = "\
24 1 0:22 / /sys rw,nosuid - sysfs sysfs rw
30 24 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate
";
const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
const LEGACY: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
";
/// A container with a cgroup namespace of its own.
const NAMESPACED: &str = "\
612 611 0:26 /../../.. /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw
";
/// The same, and the host's hierarchy bound beside it.
const BOUND: &str = "\
612 611 0:26 /docker/4f /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw
613 611 0:26 / /host/sys/fs/cgroup ro,relatime - cgroup2 cgroup2 rw
";

/// What is said to be where: (path, inode).
fn choose_among(text: &str, inodes: &[(&str, u64)]) -> (Option<PathBuf>, Option<PathBuf>) {
    let (found, subtree) = choose(&mount::parse(text.as_bytes()), |path| {
        inodes
            .iter()
            .find(|(known, _)| Path::new(known) == path)
            .map(|(_, inode)| ((), *inode))
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    });
    (found.map(|((), path)| path), subtree)
}

fn directory() -> OwnedFd {
    mount::open_directory(Path::new("/")).expect("the root opens")
}

fn denied() -> io::Error {
    io::Error::from_raw_os_error(libc::EPERM)
}

#[test]
fn takes_the_unified_hierarchy() {
    let (found, _) = choose_among(UNIFIED, &[("/sys/fs/cgroup", 1)]);
    assert_eq!(found, Some("/sys/fs/cgroup".into()));
}

#[test]
fn takes_version_2_beside_version_1() {
    let everywhere_1 = [
        ("/sys/fs/cgroup", 1),
        ("/sys/fs/cgroup/cpu", 1),
        ("/sys/fs/cgroup/systemd", 1),
        ("/sys/fs/cgroup/unified", 1),
    ];
    let (found, _) = choose_among(HYBRID, &everywhere_1);
    assert_eq!(found, Some("/sys/fs/cgroup/unified".into()));
}

#[test]
fn mounts_privately_where_only_version_1_is() {
    let (found, subtree) = choose_among(LEGACY, &[("/sys/fs/cgroup/cpu", 1)]);
    assert_eq!((found, subtree.clone()), (None, None));
    let root = conclude(Ok((directory(), 1)), subtree, false).expect("the private mount serves");
    assert!(root.mounted_by_us);
    assert_eq!(root.path, None);
}

#[test]
fn refuses_a_cgroup_namespace_and_names_the_remedy() {
    let (found, subtree) = choose_among(NAMESPACED, &[("/sys/fs/cgroup", 4321)]);
    assert_eq!(found, None);
    for private in [Ok((directory(), 4321)), Err(denied())] {
        let error = conclude(private, subtree.clone(), true).expect_err("a part is not the whole");
        let text = error.to_string();
        for word in ["/sys/fs/cgroup", "cgroup namespace", "hostPath", "--cgroupns=host"] {
            assert!(text.contains(word), "{word} is not in: {text}");
        }
    }
}

#[test]
fn refuses_a_private_mount_inside_a_namespace() {
    let error = conclude(Ok((directory(), 77)), None, true).expect_err("a part is not the whole");
    assert!(matches!(error, CgroupError::Subtree { namespaced: true, .. }), "{error}");
}

#[test]
fn prefers_the_host_mount_over_the_containers() {
    let inodes = [("/sys/fs/cgroup", 4321), ("/host/sys/fs/cgroup", 1)];
    let (found, _) = choose_among(BOUND, &inodes);
    assert_eq!(found, Some("/host/sys/fs/cgroup".into()));
}

#[test]
fn a_part_that_was_bound_outside_of_a_namespace_gives_way_to_the_private_mount() {
    let (_, subtree) = choose_among(BOUND, &[("/sys/fs/cgroup", 4321)]);
    let root = conclude(Ok((directory(), 1)), subtree, false).expect("the private mount serves");
    assert!(!root.mounted_by_us, "the hierarchy is in use: owners are in their cgroups");
}

#[test]
fn says_why_it_is_not_there() {
    let denied = conclude(Err(denied()), None, false).expect_err("nothing to attach to");
    assert!(denied.to_string().contains("CAP_SYS_ADMIN"), "{denied}");
    let absent = io::Error::from_raw_os_error(libc::ENODEV);
    let absent = conclude(Err(absent), None, false).expect_err("nothing to attach to");
    assert!(absent.to_string().contains("CONFIG_CGROUP_BPF"), "{absent}");
}

#[test]
fn finds_the_root_of_this_host() {
    match find() {
        Ok(root) => assert_eq!(inode(&root.directory).expect("it is open"), 1),
        Err(error) if !rustix::process::geteuid().is_root() => {
            crate::requirement::skipped(&format!("not root, and {error}"));
        }
        Err(error @ CgroupError::Subtree { .. }) => {
            crate::requirement::skipped(&format!("{error}"))
        }
        Err(error) => panic!("{error}"),
    }
}

/// Runs one ignored test of this binary where `prepare` (a shell script) leaves it.
fn in_namespaces(flags: &[&str], prepare: &str, test: &str) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        crate::requirement::skipped("namespaces take root");
        return None;
    }
    let binary = std::env::current_exe().expect("the test has a path");
    let script = format!("{prepare}; exec \"$0\" --exact --ignored --nocapture {test}");
    let output =
        Command::new("unshare").args(flags).args(["sh", "-c", &script]).arg(binary).output();
    let Ok(output) = output else {
        crate::requirement::skipped("unshare(1) is not installed");
        return None;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    Some(text)
}

#[test]
fn finds_the_root_where_nothing_is_mounted() {
    in_namespaces(
        &["--mount", "--propagation", "private"],
        "umount -a -t cgroup2 || true",
        "kernel::cgroup::tests::child_without_mount",
    );
}

#[test]
#[ignore = "run by finds_the_root_where_nothing_is_mounted in a mount namespace"]
fn child_without_mount() {
    let root = find().expect("mounted privately");
    assert!(root.mounted_by_us);
    assert_eq!(inode(&root.directory).expect("it is open"), 1);
    let text = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    assert!(!text.contains("cgroup2"), "the mount table must not change: {text}");
    assert!(root.directory.as_raw_fd() > 2);
}

#[test]
fn refuses_a_real_cgroup_namespace() {
    let Ok(root) = find() else {
        crate::requirement::skipped("this host's root is not reachable");
        return;
    };
    let Some(path) = root.path else {
        crate::requirement::skipped("cgroup v2 is not mounted here");
        return;
    };
    let group = path.join(format!("meshtap-test-{}", std::process::id()));
    if let Err(error) = fs::create_dir(&group) {
        crate::requirement::skipped(&format!("cannot make {}: {error}", group.display()));
        return;
    }
    let prepare = format!(
        "echo $$ > {}/cgroup.procs && exec unshare --cgroup sh -c 'umount -a -t cgroup2; \
         exec \"$0\" --exact --ignored --nocapture {}' \"$0\"",
        group.display(),
        "kernel::cgroup::tests::child_in_cgroup_namespace"
    );
    let flags = ["--mount", "--propagation", "private"];
    in_namespaces(&flags, &prepare, "unused");
    fs::remove_dir(&group).expect("the group is empty again");
}

#[test]
#[ignore = "run by refuses_a_real_cgroup_namespace in a cgroup namespace"]
fn child_in_cgroup_namespace() {
    assert!(namespaced());
    let error = find().expect_err("a part of the hierarchy must not pass for the root");
    assert!(matches!(error, CgroupError::Subtree { namespaced: true, .. }), "{error}");
}

#[test]
fn a_cgroup_namespace_is_left_for_that_of_the_first_process() {
    let namespace = || fs::read_link("/proc/thread-self/ns/cgroup").expect("is told");
    // The first process of a container that a test runs in may be closed to it.
    let proc = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink("/proc/self", proc.path().join("1")).expect("a link");
    let first = namespace();
    // A thread of its own: what it enters ends with it.
    let left = std::thread::spawn(move || {
        // SAFETY: it touches no memory, and only this thread's namespace.
        if unsafe { libc::unshare(libc::CLONE_NEWCGROUP) } != 0 {
            return None;
        }
        assert_ne!(namespace(), first);
        assert!(enter_host_namespace(Path::new("/nowhere")).is_err());
        enter_host_namespace(proc.path()).expect("root may");
        enter_host_namespace(proc.path()).expect("nothing is left to leave");
        Some(namespace() == first)
    });
    match left.join().expect("the thread ends") {
        Some(is_first) => assert!(is_first),
        None => crate::requirement::skipped("making a cgroup namespace takes root"),
    }
}
