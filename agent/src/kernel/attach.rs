//! Verifies every program and attaches it to its hook.

use std::os::fd::AsFd as _;

use aya::Ebpf;
use aya::programs::{
    CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, Program,
    ProgramError, TracePoint,
};

use super::cgroup::CgroupRoot;
use super::load;

/// Why a program that the main job needs does not run.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The object and this agent do not fit each other.
    #[error("the object holds no {0}; remedy: rebuild it with `cargo xtask ebpf`")]
    Absent(&'static str),
    /// The verifier or the hook refused it.
    #[error("{program} could not be {step}: {reason}; remedy: run as root (CAP_BPF and CAP_NET_ADMIN), and see `meshtap doctor`")]
    Refused {
        /// The program.
        program: &'static str,
        /// `verified` or `attached`.
        step: &'static str,
        /// What the kernel said.
        reason: String,
    },
}

/// Programs at the cgroup root, in the order of attachment: who opened a socket is
/// noted before its packets are looked at. The flag says whether calls could not be
/// seen without it.
const CGROUP_PROGRAMS: [(&str, bool); 10] = [
    ("create", false),
    ("bind4", false),
    ("bind6", false),
    ("connect4", false),
    ("connect6", false),
    ("accept4", false),
    ("accept6", false),
    ("lifecycle", true),
    ("ingress", true),
    ("egress", true),
];

/// Tracepoints: program, category, event.
const TRACEPOINTS: [(&str, &str, &str); 3] = [
    ("destroy_socket", "tcp", "tcp_destroy_sock"),
    ("process_exec", "sched", "sched_process_exec"),
    ("process_exit", "sched", "sched_process_exit"),
];

/// Puts the parts that walk long packets into their tail-call map.
pub fn link_parts(programs: &mut Ebpf) -> Result<(), AttachError> {
    let mut parts = load::parts(programs)?;
    for (index, name) in [(0, "ingress_part"), (1, "egress_part")] {
        let program: &mut CgroupSkb = find(programs, name)?;
        program.load().map_err(|error| refused(name, "verified", &error))?;
        let descriptor = program.fd().map_err(|error| refused(name, "verified", &error))?;
        parts
            .set(index, descriptor, 0)
            .map_err(|error| AttachError::Refused { program: name, step: "linked", reason: error.to_string() })?;
    }
    // The map lives as long as a program uses it; its entries as long as somebody
    // holds it open, so it is given to the programs for good.
    std::mem::forget(parts);
    Ok(())
}

/// Attaches everything; returns what is not necessary and was refused, with the reason.
pub fn attach_all(
    programs: &mut Ebpf,
    root: &CgroupRoot,
    unusable: &[(&'static str, String)],
) -> Result<Vec<(String, String)>, AttachError> {
    let mut missing = Vec::new();
    for (name, category, event) in TRACEPOINTS {
        if let Some((_, reason)) = unusable.iter().find(|(unusable, _)| *unusable == event) {
            missing.push((name.to_owned(), reason.clone()));
        } else if let Err(error) = attach_tracepoint(programs, name, category, event) {
            missing.push((name.to_owned(), error.to_string()));
        }
    }
    for (name, necessary) in CGROUP_PROGRAMS {
        match attach_cgroup(programs, name, root) {
            Err(error) if necessary => return Err(error),
            Err(error) => missing.push((name.to_owned(), error.to_string())),
            Ok(()) => {}
        }
    }
    Ok(missing)
}

fn attach_tracepoint(
    programs: &mut Ebpf,
    name: &'static str,
    category: &str,
    event: &str,
) -> Result<(), AttachError> {
    let program: &mut TracePoint = find(programs, name)?;
    program.load().map_err(|error| refused(name, "verified", &error))?;
    program.attach(category, event).map_err(|error| refused(name, "attached", &error))?;
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
    let verified = match program {
        Program::CgroupSkb(program) => program.load(),
        Program::SockOps(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        _ => return Err(AttachError::Absent(name)),
    };
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
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        reason = format!("{reason}: {inner}");
        source = inner.source();
    }
    AttachError::Refused { program, step, reason: shorten(reason) }
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
