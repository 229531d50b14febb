//! [`Host`] over `/proc`, the cgroup v2 mount and the runtimes' files.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use procfs::process::Process;
use rustix::time::{ClockId, clock_gettime};

use super::conntrack::Tracking;
use super::{Host, ProcessRecord};
use crate::attribution::container::{self, ContainerName};
use crate::attribution::inventory;
use crate::attribution::settings::HostPaths;
use crate::attribution::translation::Translation;
use crate::kernel::cgroup;

/// Bytes of a command line that are read; names stand at its beginning.
const COMMAND_LINE: u64 = 16 << 10;
/// Bytes of a runtime's file that are read.
const RUNTIME_FILE: u64 = 4 << 20;
/// Where podman has containers' names: in the second, since 4.4, those of containers that are
/// removed when they end (`--rm`).
const PODMANS_LISTS: [&str; 2] = ["containers.json", "volatile-containers.json"];

/// This host.
#[derive(Debug)]
pub struct RealHost {
    paths: HostPaths,
    cgroup_root: Option<PathBuf>,
    ticks_per_second: u64,
    tracking: RefCell<Tracking>,
}

impl RealHost {
    /// Finds the cgroup v2 mount; everything else is read when asked for.
    #[must_use]
    pub fn new(paths: HostPaths) -> Self {
        let cgroup_root = paths.cgroup.clone().or_else(cgroup::mounted);
        let tracking = RefCell::default();
        Self { paths, cgroup_root, ticks_per_second: procfs::ticks_per_second().max(1), tracking }
    }

    fn open(&self, pid: u32) -> Option<Process> {
        let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0)?;
        Process::new_with_root(self.paths.proc.join(pid.to_string())).ok()
    }

    fn cgroups_of(&self, process: &Process) -> (Vec<String>, u64) {
        let Ok(groups) = process.cgroups() else { return (Vec::new(), 0) };
        let (v2, v1): (Vec<_>, Vec<_>) =
            groups.0.into_iter().partition(|group| group.hierarchy == 0);
        let id = v2
            .first()
            // From a cgroup namespace of our own, others' paths climb out of it: `/../x`.
            .filter(|group| !group.pathname.split('/').any(|part| part == ".."))
            .zip(self.cgroup_root.as_ref())
            .and_then(|(group, root)| {
                fs::metadata(root.join(group.pathname.trim_start_matches('/'))).ok()
            })
            .map_or(0, |directory| directory.ino());
        let mut paths: Vec<String> = Vec::new();
        for group in v2.into_iter().chain(v1) {
            if group.pathname != "/" && !paths.contains(&group.pathname) {
                paths.push(group.pathname);
            }
        }
        (paths, id)
    }
}

impl Host for RealHost {
    fn process(&self, pid: u32) -> Option<ProcessRecord> {
        let process = self.open(pid)?;
        let stat = process.stat().ok()?;
        let (cgroups, cgroup_id) = self.cgroups_of(&process);
        let arguments = process.open_relative("cmdline").map(command_line).unwrap_or_default();
        let executable = process.exe().ok().map(|path| path.to_string_lossy().into_owned());
        // Since boot, suspended time included, while events carry time without it.
        let since_boot =
            u128::from(stat.starttime) * 1_000_000_000 / u128::from(self.ticks_per_second);
        let running = clock(ClockId::Monotonic);
        let suspended = clock(ClockId::Boottime).saturating_sub(running);
        Some(ProcessRecord {
            started_ns: u64::try_from(since_boot).unwrap_or(u64::MAX).saturating_sub(suspended),
            comm: stat.comm,
            executable,
            arguments,
            cgroups,
            cgroup_id,
            // Last, so that nothing above is younger than it says.
            read_ns: clock(ClockId::Monotonic),
        })
    }

    fn cgroups(&self, bound: usize) -> Vec<(u64, String)> {
        let Some(root) = &self.cgroup_root else { return Vec::new() };
        let mut found = Vec::new();
        let mut open = vec![(root.clone(), String::new())];
        while let Some((directory, path)) = open.pop() {
            if found.len() >= bound {
                break;
            }
            let Ok(own) = fs::metadata(&directory) else { continue };
            found.push((own.ino(), if path.is_empty() { "/".to_owned() } else { path.clone() }));
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            for entry in entries.flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    let name = entry.file_name().to_string_lossy().into_owned();
                    open.push((entry.path(), format!("{path}/{name}")));
                }
            }
        }
        found
    }

    fn container_name(&self, id: &str) -> Option<ContainerName> {
        // An id becomes part of a path: nothing that climbs.
        if id.is_empty() || id.contains('/') || id.starts_with('.') {
            return None;
        }
        let docker = self.paths.docker.iter().find_map(|root| {
            container::docker_name(&text(&root.join("containers").join(id).join("config.v2.json"))?)
        });
        docker
            .or_else(|| {
                self.paths.storage.iter().find_map(|root| {
                    let containers = root.join("overlay-containers");
                    let bundle = containers.join(id).join("userdata/config.json");
                    PODMANS_LISTS
                        .iter()
                        .find_map(|list| container::podman_name(&text(&containers.join(list))?, id))
                        .filter(|named| !named.name.starts_with("k8s_"))
                        .or_else(|| container::bundle_name(&text(&bundle)?))
                })
            })
            .or_else(|| {
                self.paths.bundles.iter().find_map(|root| {
                    fs::read_dir(root).ok()?.flatten().find_map(|namespace| {
                        container::bundle_name(&text(
                            &namespace.path().join(id).join("config.json"),
                        )?)
                    })
                })
            })
    }

    fn listener_holders(&self, local: SocketAddr) -> Vec<u32> {
        inventory::listener_holders(&self.paths.proc, local)
    }

    fn translation(&self, local: SocketAddr, remote: SocketAddr) -> Option<Translation> {
        self.tracking.borrow_mut().lookup(local, remote)
    }
}

fn clock(id: ClockId) -> u64 {
    let time = clock_gettime(id);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

fn command_line(file: File) -> Vec<String> {
    let mut bytes = Vec::new();
    if file.take(COMMAND_LINE).read_to_end(&mut bytes).is_err() {
        return Vec::new();
    }
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(&bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

fn text(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(RUNTIME_FILE).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_read_as_it_is() {
        let host = RealHost::new(HostPaths::default());
        let own = host.process(std::process::id()).unwrap();
        assert_eq!(own.arguments, std::env::args().collect::<Vec<_>>());
        assert_eq!(
            own.executable,
            std::env::current_exe().ok().map(|path| path.to_string_lossy().into_owned())
        );
        assert!(own.started_ns < own.read_ns, "{own:?}");
        assert!(
            own.read_ns - own.started_ns < 3_600_000_000_000,
            "started within the hour: {own:?}"
        );
        assert!(host.process(0).is_none());
        assert!(host.process(u32::MAX).is_none());
    }

    #[test]
    fn a_start_is_known_on_the_clock_of_the_records() {
        let host = RealHost::new(HostPaths::default());
        let before = clock(ClockId::Monotonic);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let after = clock(ClockId::Monotonic);
        let read = host.process(child.id());
        child.kill().unwrap();
        let zombie = host.process(child.id());
        child.wait().unwrap();
        let read = read.unwrap();
        assert!(
            read.started_ns + crate::attribution::host::START_TICK_NS > before,
            "{read:?} {before}"
        );
        assert!(read.started_ns <= after, "{read:?} {after}");
        assert!(read.read_ns >= after);
        // A process that is being taken down shows all of its command line or none.
        let words = zombie.map_or(0, |zombie| zombie.arguments.len());
        assert!(matches!(words, 0 | 2), "{words} words");
        assert_eq!(host.process(child.id()), None);
    }

    #[test]
    fn the_root_cgroup_is_found_by_its_id() {
        let host = RealHost::new(HostPaths::default());
        let Some(root) = host.cgroup_root.clone() else {
            println!("skipped: no cgroup v2 hierarchy is mounted here");
            return;
        };
        let id = fs::metadata(root).unwrap().ino();
        assert!(host.cgroups(10_000).contains(&(id, "/".to_owned())));
        assert_eq!(host.cgroups(1).len(), 1);
    }

    #[test]
    fn names_are_read_where_the_runtimes_keep_them() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("docker/containers/aa/config.v2.json", r#"{"Name":"/web"}"#);
        put(
            "storage/overlay-containers/containers.json",
            r#"[{"id":"bb","names":["db"]},{"id":"cc","names":["k8s_x"]}]"#,
        );
        put(
            "storage/overlay-containers/volatile-containers.json",
            r#"[{"id":"ff","names":["batch"]}]"#,
        );
        put(
            "storage/overlay-containers/cc/userdata/config.json",
            r#"{"annotations":{"io.kubernetes.container.name":"api"}}"#,
        );
        put(
            "bundles/k8s.io/dd/config.json",
            r#"{"annotations":{"io.kubernetes.cri.container-name":"job"}}"#,
        );
        let host = RealHost::new(HostPaths {
            docker: vec![root.path().join("docker")],
            storage: vec![root.path().join("storage")],
            bundles: vec![root.path().join("bundles")],
            ..HostPaths::default()
        });
        for (id, name) in
            [("aa", "web"), ("bb", "db"), ("cc", "api"), ("dd", "job"), ("ff", "batch")]
        {
            assert_eq!(
                host.container_name(id).map(|named| named.name.to_string()).as_deref(),
                Some(name)
            );
        }
        for id in ["", "ee", "../docker/containers/aa", ".."] {
            assert_eq!(host.container_name(id), None, "{id}");
        }
    }
}
