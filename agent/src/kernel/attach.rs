//! Verifies every program and attaches it to its hook.

use std::num::NonZeroUsize;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Mutex;
use std::thread;

use aya::Ebpf;
use aya::programs::{
    CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, Program, ProgramError, TracePoint,
};

use super::bpf::{self, AttachType};
use super::cgroup::CgroupRoot;
use super::load;

/// Why a program that the main job needs does not run.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The object and this agent do not fit each other.
    #[error("the object holds no {0}; remedy: rebuild it with `cargo xtask ebpf`")]
    Absent(&'static str),
    /// The verifier or the hook refused it.
    #[error(
        "{program} could not be {step}: {reason}; remedy: run as root (CAP_BPF and CAP_NET_ADMIN), and see `meshtap doctor`"
    )]
    Refused {
        /// The program.
        program: &'static str,
        /// `verified` or `attached`.
        step: &'static str,
        /// What the kernel said.
        reason: String,
    },
}

/// Programs at the cgroup root, in the order of attachment: who opened a socket is noted before
/// its packets are looked at. The flag says whether calls could not be seen without it.
const CGROUP_PROGRAMS: [(&str, bool); 12] = [
    ("create", false),
    ("bind4", false),
    ("bind6", false),
    ("connect4", false),
    ("connect6", false),
    ("accept4", false),
    ("accept6", false),
    ("named4", false),
    ("named6", false),
    ("lifecycle", true),
    ("ingress", true),
    ("egress", true),
];

/// Whether a program of this object that is attached to the cgroup root is called so.
#[must_use]
pub fn is_named_so(name: &str) -> bool {
    CGROUP_PROGRAMS.iter().any(|(own, _)| *own == name)
}

/// The programs without which nothing is seen, as the kernel knows them at the cgroup root.
#[derive(Debug)]
pub struct Watch {
    root: CgroupRoot,
    programs: Vec<(&'static str, AttachType, u32)>,
}

impl Watch {
    /// Notes them, once they are attached.
    pub fn new(programs: &Ebpf, root: CgroupRoot) -> Self {
        let noted = NECESSARY.into_iter().filter_map(|(name, place)| {
            let info = programs.program(name)?.info().ok()?;
            Some((name, place, info.id()))
        });
        Self { root, programs: noted.collect() }
    }

    /// A program that somebody detached meanwhile. `None` also where the kernel does not tell.
    pub fn detached(&self) -> Option<&'static str> {
        let gone = |(_, place, id): &&(&str, AttachType, u32)| {
            bpf::query(self.root.directory.as_fd(), *place).is_ok_and(|(ids, _)| !ids.contains(id))
        };
        self.programs.iter().find(gone).map(|(name, ..)| *name)
    }
}

/// Those of [`CGROUP_PROGRAMS`] that are necessary, and where they are attached.
const NECESSARY: [(&str, AttachType); 3] = [
    ("lifecycle", AttachType::SockOps),
    ("ingress", AttachType::Ingress),
    ("egress", AttachType::Egress),
];

/// The parts of the packet programs, by their place in their tail-call map.
const PARTS: [(&str, &[&str]); 2] = [
    (
        "INGRESS_PARTS",
        &[
            "ingress_lines",
            "ingress_frames",
            "ingress_join",
            "ingress_held",
            "ingress",
            "ingress_held_lines",
            "ingress_held_frames",
            "ingress_repeat",
            "ingress_streams",
            "ingress_aside_lines",
            "ingress_aside_frames",
        ],
    ),
    (
        "EGRESS_PARTS",
        &[
            "egress_lines",
            "egress_frames",
            "egress_join",
            "egress_held",
            "egress",
            "egress_held_lines",
            "egress_held_frames",
            "egress_repeat",
            "egress_streams",
        ],
    ),
];

/// Has the parts verified, as many at a time as there are processors: it is what starting
/// takes longest for.
pub fn verify_parts(programs: &mut Ebpf) -> Result<(), AttachError> {
    let names = || PARTS.iter().flat_map(|(_, names)| *names);
    let waiting: Vec<(&'static str, &mut CgroupSkb)> = programs
        .programs_mut()
        .filter_map(|(name, program)| {
            let name = names().find(|part| **part == name)?;
            Some((*name, program.try_into().ok()?))
        })
        .collect();
    let (workers, waiting) = (processors().min(waiting.len()), Mutex::new(waiting.into_iter()));
    let verify = || -> Result<(), AttachError> {
        loop {
            let next = waiting.lock().ok().and_then(|mut waiting| waiting.next());
            let Some((name, program)) = next else { return Ok(()) };
            program.load().map_err(|error| refused(name, "verified", &error))?;
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(verify)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or(Ok(())))
    })
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Puts the parts into their maps.
pub fn link_parts(programs: &mut Ebpf) -> Result<(), AttachError> {
    for (map, names) in PARTS {
        let mut parts = load::parts(programs, map)?;
        for (index, name) in (0..).zip(names.iter().copied()) {
            let program: &mut CgroupSkb = find(programs, name)?;
            let descriptor = program.fd().map_err(|error| refused(name, "verified", &error))?;
            parts.set(index, descriptor, 0).map_err(|error| AttachError::Refused {
                program: name,
                step: "linked",
                reason: error.to_string(),
            })?;
        }
        // The entries last as long as somebody holds the map open.
        std::mem::forget(parts);
    }
    Ok(())
}

/// Attaches programs to the tracepoints of these numbers; they stay for as long as the
/// descriptors are held. aya's own way would need a mounted tracefs.
pub fn tracepoints(
    programs: &mut Ebpf,
    numbers: &[(&'static str, u32)],
    missing: &mut Vec<(String, String)>,
) -> Vec<OwnedFd> {
    let mut attached = Vec::new();
    for &(name, number) in numbers {
        match attach_tracepoint(programs, name, number) {
            Ok(descriptor) => attached.push(descriptor),
            Err(error) => missing.push((name.to_owned(), error.to_string())),
        }
    }
    attached
}

fn attach_tracepoint(
    programs: &mut Ebpf,
    name: &'static str,
    number: u32,
) -> Result<OwnedFd, AttachError> {
    let program: &mut TracePoint = find(programs, name)?;
    program.load().map_err(|error| refused(name, "verified", &error))?;
    let descriptor = program.fd().map_err(|error| refused(name, "verified", &error))?;
    bpf::attach_tracepoint(descriptor.as_fd(), number).map_err(|error| AttachError::Refused {
        program: name,
        step: "attached",
        reason: error.to_string(),
    })
}

/// Attaches the programs of the cgroup root; what is not necessary and was refused goes
/// to `missing`, with the reason.
pub fn cgroup_programs(
    programs: &mut Ebpf,
    root: &CgroupRoot,
    missing: &mut Vec<(String, String)>,
) -> Result<(), AttachError> {
    for (name, necessary) in CGROUP_PROGRAMS {
        match attach_cgroup(programs, name, root) {
            Err(error) if necessary => return Err(error),
            Err(error) => missing.push((name.to_owned(), error.to_string())),
            Ok(()) => {}
        }
    }
    Ok(())
}

fn attach_cgroup(
    programs: &mut Ebpf,
    name: &'static str,
    root: &CgroupRoot,
) -> Result<(), AttachError> {
    // Links are shared by nature; the mode for several is refused for them by the kernel.
    let mode = CgroupAttachMode::Single;
    let directory = root.directory.as_fd();
    let program = programs.program_mut(name).ok_or(AttachError::Absent(name))?;
    // Those that are linked as parts are verified before.
    let verified = if program.fd().is_ok() { Ok(()) } else { load_program(program) };
    verified.map_err(|error| refused(name, "verified", &error))?;
    let attached = match program {
        Program::CgroupSkb(program) => attach_packets(program, name, directory, mode),
        Program::SockOps(program) => program.attach(directory, mode).map(drop),
        Program::CgroupSock(program) => program.attach(directory, mode).map(drop),
        Program::CgroupSockAddr(program) => program.attach(directory, mode).map(drop),
        _ => return Err(AttachError::Absent(name)),
    };
    attached.map_err(|error| refused(name, "attached", &error))
}

/// Has a program verified, of whatever kind the object holds.
pub(super) fn load_program(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::CgroupSkb(program) => program.load(),
        Program::SockOps(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        Program::TracePoint(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn attach_packets(
    program: &mut CgroupSkb,
    name: &str,
    directory: std::os::fd::BorrowedFd<'_>,
    mode: CgroupAttachMode,
) -> Result<(), ProgramError> {
    let direction =
        if name == "ingress" { CgroupSkbAttachType::Ingress } else { CgroupSkbAttachType::Egress };
    program.attach(directory, direction, mode).map(drop)
}

fn find<'a, P>(programs: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, AttachError>
where
    &'a mut P: TryFrom<&'a mut Program>,
{
    programs
        .program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or(AttachError::Absent(name))
}

fn refused(program: &'static str, step: &'static str, error: &ProgramError) -> AttachError {
    AttachError::Refused { program, step, reason: reason(error) }
}

/// The whole chain of an error, shortened.
pub(super) fn reason(error: &ProgramError) -> String {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        reason = format!("{reason}: {inner}");
        source = inner.source();
    }
    shorten(reason)
}

/// A verifier's log may have megabytes: its end says why.
fn shorten(reason: String) -> String {
    const KEPT: usize = 2000;
    if reason.len() <= KEPT {
        return reason;
    }
    let tail: String = reason.chars().skip(reason.chars().count().saturating_sub(KEPT)).collect();
    format!("… {tail}")
}
