//! One pass over the host's `/proc`: what runs here, as far as the checks care.

use std::fs;
use std::io;
use std::path::Path;

use crate::kernel::privilege::{Need, Privileges};

/// No report needs more examples than this of one kind.
const EXAMPLES: usize = 5;
/// The number behind `/proc/<pid>/ns/pid` of the namespace that boots.
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// What was found in one pass over `/proc`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Processes {
    /// Programs seen (kernel threads have no executable and do not count).
    pub(super) seen: usize,
    /// Of those, the ones whose executable could not be read.
    pub(super) closed: usize,
    /// Of those, the ones inside of a container.
    pub(super) in_containers: usize,
    /// Sandboxes with a network stack of their own, as `runsc (pid 7)`.
    pub(super) sandboxes: Vec<String>,
    /// `/proc` shows the processes of a container: none of the host's is among them.
    pub(super) own_pid_namespace: bool,
    /// The first process of the host is in another network namespace.
    pub(super) own_net_namespace: bool,
    /// The capabilities for looking at others' processes are held.
    pub(super) may_look: bool,
    /// The first process of the host is visible.
    pub(super) first_visible: bool,
}

/// A process's network namespace.
fn net(proc: &Path, process: &str) -> Option<std::path::PathBuf> {
    fs::read_link(proc.join(process).join("ns/net")).ok()
}

impl Processes {
    /// Looks at every process below `proc` once. What ends meanwhile is left out.
    pub(super) fn scan(proc: &Path, privileges: Option<&Privileges>) -> Self {
        let mut found = Self {
            may_look: privileges.is_some_and(|held| held.meets(Need::ReadProcesses)),
            own_pid_namespace: true,
            own_net_namespace: net(proc, "1")
                .is_some_and(|host| net(Path::new("/proc"), "self") != Some(host)),
            first_visible: proc.join("1/stat").exists(),
            ..Self::default()
        };
        for entry in fs::read_dir(proc).into_iter().flatten().flatten() {
            if let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                found.look_at(pid, &entry.path());
            }
        }
        found
    }

    fn look_at(&mut self, pid: u32, directory: &Path) {
        // One is enough, and none has to be readable but our own.
        if self.own_pid_namespace
            && fs::read_link(directory.join("ns/pid"))
                .is_ok_and(|link| link == Path::new(FIRST_PID_NAMESPACE))
        {
            self.own_pid_namespace = false;
        }
        let text = |name| fs::read_to_string(directory.join(name)).unwrap_or_default();
        match fs::read_link(directory.join("exe")) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => self.closed += 1,
            // A kernel thread, or a process that has just ended.
            Err(_) => return,
            Ok(_) => {}
        }
        self.seen += 1;
        if is_in_container(&text("cgroup")) {
            self.in_containers += 1;
        }
        if let Some(kind) = sandbox(text("comm").trim(), &text("cmdline"))
            && self.sandboxes.len() < EXAMPLES
        {
            self.sandboxes.push(format!("{kind} (pid {pid})"));
        }
    }
}

/// A container's identifier is 64 hexadecimal digits, whatever the runtime.
pub(super) fn is_in_container(cgroup: &str) -> bool {
    cgroup
        .split(|c: char| !c.is_ascii_alphanumeric())
        .any(|word| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// What a process of this name and command line is the sandbox of.
pub(super) fn sandbox(comm: &str, command_line: &str) -> Option<&'static str> {
    let program = command_line.split('\0').next().unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or_default();
    match () {
        () if comm.starts_with("runsc") || program.starts_with("runsc") => Some("gVisor"),
        () if comm.starts_with("containerd-shim-kata") || program.starts_with("kata-") => {
            Some("Kata Containers")
        }
        () if program.starts_with("containerd-shim-kata") => Some("Kata Containers"),
        () if program == "firecracker" => Some("Firecracker"),
        () if program == "cloud-hypervisor" => Some("Cloud Hypervisor"),
        () if program.starts_with("qemu-system-") => Some("QEMU"),
        () => None,
    }
}
