//! Does each thing once and reports how it went.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use super::{Features, Helpers, Hook, Jit, Lockdown, Support, Tracepoint};
use crate::kernel::attached;
use crate::kernel::bpf::{self, AttachType, Instruction, LoadError, ProgramType};
use crate::kernel::cgroup::{self, CgroupError, CgroupRoot};
use crate::kernel::events::{self, TRACEPOINTS};
use crate::kernel::format::{FormatError, Tracefs};
use crate::kernel::mount;
use crate::kernel::privilege::{self, Need, Privileges};

/// `bpf_get_current_pid_tgid`
const CURRENT_PID_TGID: i32 = 14;
/// `bpf_get_current_comm`
const CURRENT_COMM: i32 = 16;
/// `bpf_probe_read_kernel_str`
const PROBE_READ_KERNEL_STR: i32 = 115;
/// `bpf_get_netns_cookie`
const NETNS_COOKIE: i32 = 122;
/// `bpf_ktime_get_coarse_ns`, which came with the accounting by memory cgroup (5.11).
const KTIME_COARSE: i32 = 160;
/// `bpf_loop`
const LOOP: i32 = 181;
/// Accepted sockets inherit what is stored in their listener.
const CLONE: u32 = 1 << 9;

/// Bytes of the ring that is tried: a multiple of every page size in use.
const RING_PROBE: u32 = 64 << 10;

/// How the verifier says that a kind of program may not call a helper.
const NO_SUCH_HELPER: [&str; 3] =
    ["unknown func", "invalid func", "program of this type cannot use helper"];

/// Tries everything.
pub(super) fn probe() -> Features {
    let memory_lock = privilege::raise_memory_lock();
    let privileges = Privileges::held().ok();
    let prober = Prober {
        may_load: privileges.as_ref().is_none_or(|held| held.meets(Need::LoadPrograms)),
        may_attach: privileges.as_ref().is_none_or(|held| held.meets(Need::AttachToCgroup)),
        may_trace: privileges.as_ref().is_none_or(|held| held.meets(Need::Trace)),
        locked: memory_lock.bytes,
        root: cgroup::find(),
        tracefs: Tracefs::open(),
    };
    let hooks = AttachType::ALL.map(|attach_type| prober.hook(attach_type)).to_vec();
    let links = links(&hooks);
    Features {
        release: release(),
        tracepoints: prober.tracepoints(),
        helpers: prober.helpers(),
        ring_buffer: prober.map(bpf::create_ring_buffer(RING_PROBE)),
        socket_storage: prober.map(bpf::create_socket_storage(CLONE)),
        links,
        hooks,
        memory_lock,
        memory_lock_counts: prober.memory_lock_counts(),
        lockdown: lockdown(),
        jit: jit(),
        kprobes: event_source("kprobe"),
        uprobes: event_source("uprobe"),
        unprivileged_bpf_disabled: number("/proc/sys/kernel/unprivileged_bpf_disabled"),
        optmem_max: number("/proc/sys/net/core/optmem_max"),
    }
}

/// What trying takes.
struct Prober {
    may_load: bool,
    may_attach: bool,
    may_trace: bool,
    /// The limit on locked memory, where there is one.
    locked: Option<u64>,
    root: Result<CgroupRoot, CgroupError>,
    tracefs: Result<Tracefs, FormatError>,
}

impl Prober {
    fn hook(&self, attach_type: AttachType) -> Hook {
        match bpf::load(attach_type.program_type(), Some(attach_type), &bpf::PASS) {
            Ok(program) => {
                let attach = self.attach(&program, attach_type);
                Hook { attach_type, load: Support::Present, attach }
            }
            Err(error) => {
                let load = self.refused(&error);
                let attach = match &load {
                    Support::Unknown(reason) => Support::Unknown(reason.clone()),
                    _ => Support::Absent("no program for it loads".to_owned()),
                };
                Hook { attach_type, load, attach }
            }
        }
    }

    fn attach(&self, program: &OwnedFd, attach_type: AttachType) -> Support {
        let root = match &self.root {
            Ok(root) => root,
            Err(error) => return Support::Unknown(error.to_string()),
        };
        match bpf::link(program.as_fd(), root.as_fd(), attach_type) {
            Ok(_detached_when_dropped) => Support::Present,
            Err(error) if is_denied(&error) => {
                match attached::in_the_way(root.as_fd(), attach_type) {
                    Some(other) => Support::Absent(format!(
                        "{other} is attached exclusively and leaves no room"
                    )),
                    None if self.may_attach => Support::Absent(format!("attaching: {error}")),
                    None => lacking(Need::AttachToCgroup),
                }
            }
            Err(error) => Support::Absent(format!("attaching: {error}")),
        }
    }

    fn tracepoints(&self) -> Vec<Tracepoint> {
        let program = bpf::load(ProgramType::Tracepoint, None, &bpf::PASS);
        TRACEPOINTS
            .iter()
            .map(|tracepoint| {
                let attach = match &program {
                    Ok(program) => self.tracepoint(program, tracepoint),
                    Err(error) => self.refused(error),
                };
                Tracepoint { category: tracepoint.category, name: tracepoint.name, attach }
            })
            .collect()
    }

    fn tracepoint(&self, program: &OwnedFd, tracepoint: &events::Tracepoint) -> Support {
        let tracefs = match &self.tracefs {
            Ok(tracefs) => tracefs,
            Err(error) => return Support::Unknown(error.to_string()),
        };
        let format = match tracepoint.locate(tracefs) {
            Ok((format, _)) => format,
            Err(reason) => return Support::Absent(reason),
        };
        match bpf::attach_tracepoint(program.as_fd(), format.id) {
            Ok(_detached_when_dropped) => Support::Present,
            Err(_) if !self.may_trace => lacking(Need::Trace),
            Err(error) => Support::Absent(format!("attaching: {error}")),
        }
    }

    fn helpers(&self) -> Helpers {
        use AttachType as A;
        let task = [&[bpf::call(CURRENT_PID_TGID)][..], &bpf::PASS].concat();
        let cookie = [&[bpf::call(NETNS_COOKIE)][..], &bpf::PASS].concat();
        let comm = with_buffer(CURRENT_COMM);
        let at = |attach: A, body: &[Instruction]| {
            self.helper(bpf::load(attach.program_type(), Some(attach), body))
        };
        Helpers {
            packet_netns_cookie: at(A::Egress, &cookie),
            packet_current_task: at(A::Egress, &task),
            sock_ops_netns_cookie: at(A::SockOps, &cookie),
            sock_ops_current_task: at(A::SockOps, &task),
            socket_current_task: at(A::SockCreate, &task),
            socket_comm: at(A::SockCreate, &comm),
            address_current_task: at(A::Connect4, &task),
            address_comm: at(A::Connect4, &comm),
            tracepoint_text: self.helper(bpf::load(
                ProgramType::Tracepoint,
                None,
                &with_buffer(PROBE_READ_KERNEL_STR),
            )),
            packet_loop: self.known(bpf::load(
                ProgramType::CgroupSkb,
                Some(A::Egress),
                &[&[bpf::call(LOOP)][..], &bpf::PASS].concat(),
            )),
        }
    }

    /// A helper is there when a valid call of it loads.
    fn helper(&self, loaded: Result<OwnedFd, LoadError>) -> Support {
        match loaded {
            Ok(_) => Support::Present,
            Err(error) => self.refused(&error),
        }
    }

    /// A helper is there when an invalid call of it is not refused as unknown: for
    /// helpers whose valid call takes a description of types.
    fn known(&self, loaded: Result<OwnedFd, LoadError>) -> Support {
        match loaded {
            Ok(_) => Support::Present,
            Err(error) if error.log.is_empty() => self.refused(&error),
            Err(error) if lacks_helper(&error) => Support::Absent(error.log),
            Err(_) => Support::Present,
        }
    }

    /// The helper came with the change that ended the counting; see libbpf's own probe.
    fn memory_lock_counts(&self) -> Option<bool> {
        let body = [&[bpf::call(KTIME_COARSE)][..], &bpf::PASS].concat();
        match bpf::load(ProgramType::SocketFilter, None, &body) {
            Ok(_) => Some(false),
            Err(error) if lacks_helper(&error) => Some(true),
            // Even this program found no room.
            Err(error) if is_denied(&error.error) && self.may_load => Some(self.locked.is_some()),
            Err(_) => None,
        }
    }

    fn map(&self, made: io::Result<OwnedFd>) -> Support {
        match made {
            Ok(_) => Support::Present,
            Err(error) if is_denied(&error) => self.denied(&error, Need::LoadPrograms),
            Err(error) => Support::Absent(error.to_string()),
        }
    }

    fn refused(&self, error: &LoadError) -> Support {
        if is_denied(&error.error) {
            let need = if self.may_load { Need::AttachToCgroup } else { Need::LoadPrograms };
            return self.denied(&error.error, need);
        }
        match error.log.is_empty() {
            true => Support::Absent(error.to_string()),
            false => Support::Absent(error.log.clone()),
        }
    }

    /// `EPERM`: a capability is lacking, the locked memory is used up (before 5.11),
    /// or the kernel refuses whoever asks.
    fn denied(&self, error: &io::Error, need: Need) -> Support {
        let held = match need {
            Need::LoadPrograms => self.may_load,
            _ => self.may_attach,
        };
        match (held, self.locked) {
            (false, _) => lacking(need),
            (true, Some(bytes)) if self.memory_lock_counts() == Some(true) => {
                Support::Unknown(format!("the limit of {bytes} bytes on locked memory is used up"))
            }
            _ => Support::Absent(error.to_string()),
        }
    }
}

fn is_denied(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EPERM)
}

fn lacks_helper(error: &LoadError) -> bool {
    NO_SUCH_HELPER.iter().any(|words| error.log.contains(words))
}

/// `helper(stack - 16, 16, 0)`
fn with_buffer(helper: i32) -> Vec<Instruction> {
    let prepare =
        [bpf::copy(1, 10), bpf::add(1, -16), bpf::set(2, 16), bpf::set(3, 0), bpf::call(helper)];
    [&prepare[..], &bpf::PASS].concat()
}

fn lacking(need: Need) -> Support {
    Support::Unknown(format!("not permitted: it takes {} (or root)", need.remedy()))
}

/// Links are there when any program attached, for attaching here makes one.
fn links(hooks: &[Hook]) -> Support {
    let mut others = hooks.iter().map(|hook| &hook.attach);
    match others.clone().find(|attach| attach.is_present()) {
        Some(present) => present.clone(),
        None => others.next().cloned().unwrap_or(Support::Unknown("nothing was tried".to_owned())),
    }
}

fn release() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    text.trim().to_owned()
}

/// `/sys/kernel/security/lockdown`, mounted or not: `none [integrity] confidentiality`.
fn lockdown() -> Lockdown {
    let text = fs::read_to_string("/sys/kernel/security/lockdown").or_else(|_| {
        let directory = mount::detached("securityfs")?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&directory, "lockdown", flags, Mode::empty())?;
        let mut text = String::new();
        File::from(file).take(4096).read_to_string(&mut text)?;
        Ok::<_, io::Error>(text)
    });
    match text {
        Ok(text) => lockdown_from(&text),
        // The file system could be opened, the file is not there: no lockdown built in.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Lockdown::None,
        Err(_) => Lockdown::Unknown,
    }
}

pub(super) fn lockdown_from(text: &str) -> Lockdown {
    let chosen = text.split('[').nth(1).and_then(|rest| rest.split(']').next());
    match chosen {
        Some("none") => Lockdown::None,
        Some("integrity") => Lockdown::Integrity,
        Some("confidentiality") => Lockdown::Confidentiality,
        _ => Lockdown::Unknown,
    }
}

fn jit() -> Jit {
    match number::<u8>("/proc/sys/net/core/bpf_jit_enable") {
        Some(0) => Jit::Off,
        Some(_) => Jit::On,
        None => Jit::Unknown,
    }
}

/// The kernel lists each kind of probe among the sources of events.
fn event_source(name: &str) -> Support {
    let path = format!("/sys/bus/event_source/devices/{name}/type");
    match fs::metadata(&path) {
        Ok(_) => Support::Present,
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Support::Unknown(format!("{path}: {error}"))
        }
        Err(_) if fs::metadata("/sys/bus/event_source").is_err() => {
            Support::Unknown("/sys is not mounted".to_owned())
        }
        Err(_) => Support::Absent(format!("this kernel was built without {name}s")),
    }
}

fn number<T: std::str::FromStr>(path: &str) -> Option<T> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
