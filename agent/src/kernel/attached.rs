//! Whose programs are at a cgroup already: an attach that is refused can name the
//! program in the way.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;

use aya::maps::{MapType, loaded_maps};
use aya::programs::loaded_programs;
use serde::Serialize;

use crate::kernel::bpf::{self, AttachType};

/// `BPF_PROG_TYPE_SK_SKB`
const SK_SKB: u32 = 14;
/// `BPF_PROG_TYPE_SK_MSG`
const SK_MSG: u32 = 16;

/// How a program was attached, and so what may be attached beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// Nothing else can be attached here or below.
    Exclusive,
    /// A program attached below replaces it there; beside it there is no room.
    Overridable,
    /// Others run beside it.
    Shared,
}

/// A program that is attached to a cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attached {
    /// Where.
    pub attach_type: AttachType,
    /// The number that `bpftool prog show id` takes.
    pub id: u32,
    /// The first 15 bytes of its name; empty where it has none or it is out of sight.
    pub name: String,
    /// What may be beside it.
    pub flags: Sharing,
}

impl Attached {
    /// Whether it keeps another program from being attached.
    #[must_use]
    pub fn is_in_the_way(&self) -> bool {
        self.flags != Sharing::Shared
    }
}

impl fmt::Display for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.name.is_empty() { "without a name" } else { &self.name };
        write!(f, "program {} ({name}) at {}", self.id, self.attach_type.name())
    }
}

/// All programs that are attached to this very cgroup, at any place the agent uses.
///
/// # Errors
/// Where the kernel does not tell (`CAP_NET_ADMIN` is needed). Places that this
/// kernel does not have are left out.
pub fn attached(cgroup: BorrowedFd<'_>) -> io::Result<Vec<Attached>> {
    let mut all = Vec::new();
    for attach_type in AttachType::ALL {
        match bpf::query(cgroup, attach_type) {
            Ok((ids, flags)) => all.extend(ids.into_iter().map(|id| Attached {
                attach_type,
                id,
                name: String::new(),
                flags: sharing(flags),
            })),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => return Err(error),
        }
    }
    if !all.is_empty() {
        let names = names();
        for one in &mut all {
            one.name = names.get(&one.id).cloned().unwrap_or_default();
        }
    }
    Ok(all)
}

/// The program that keeps this place from others, if that is why attaching failed.
#[must_use]
pub fn in_the_way(cgroup: BorrowedFd<'_>, attach_type: AttachType) -> Option<Attached> {
    let all = attached(cgroup).ok()?;
    all.into_iter().find(|one| one.attach_type == attach_type && one.is_in_the_way())
}

/// What on this host hands bytes from one socket to another inside the kernel,
/// past every packet hook: programs on `sk_msg` and `sk_skb`, maps of sockets.
///
/// # Errors
/// Where the kernel does not list programs and maps (`CAP_SYS_ADMIN` is needed).
pub fn redirectors() -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for program in loaded_programs() {
        let program = program.map_err(whole)?;
        if matches!(program.program_type() as u32, SK_SKB | SK_MSG) {
            found.push(named("program", program.id(), program.name()));
        }
    }
    for map in loaded_maps() {
        let map = map.map_err(whole)?;
        if matches!(map.map_type(), Ok(MapType::SockMap | MapType::SockHash)) {
            found.push(named("map", map.id(), map.name()));
        }
    }
    Ok(found)
}

/// The error with all of its causes, for its own text names only the call.
fn whole(error: impl std::error::Error) -> io::Error {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    io::Error::other(text)
}

fn named(what: &str, id: u32, name: &[u8]) -> String {
    format!("{what} {id} ({})", String::from_utf8_lossy(name))
}

fn sharing(flags: u32) -> Sharing {
    match flags & 3 {
        0 => Sharing::Exclusive,
        1 => Sharing::Overridable,
        _ => Sharing::Shared,
    }
}

fn names() -> HashMap<u32, String> {
    // A program may end while the list is walked; the others still have names.
    loaded_programs()
        .filter_map(Result::ok)
        .map(|program| (program.id(), String::from_utf8_lossy(program.name()).into_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};

    use rustix::fs::{AtFlags, Mode, OFlags};

    use super::*;
    use crate::kernel::cgroup::{self, CgroupRoot};

    #[test]
    fn only_shared_places_have_room() {
        let at = |flags| Attached {
            attach_type: AttachType::Egress,
            id: 7,
            name: "guard".into(),
            flags: sharing(flags),
        };
        assert!(at(0).is_in_the_way() && at(1).is_in_the_way() && !at(2).is_in_the_way());
        assert_eq!(at(0).to_string(), "program 7 (guard) at cgroup_skb/egress");
    }

    /// A cgroup of the test's own below the root, removed at the end.
    struct Group {
        root: CgroupRoot,
        name: String,
        directory: OwnedFd,
    }

    impl Group {
        fn new(name: &str) -> Option<Self> {
            let root = cgroup::find().ok()?;
            let name = format!("meshtap-test-{name}-{}", std::process::id());
            rustix::fs::mkdirat(&root.directory, &name, Mode::RWXU).ok()?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory =
                rustix::fs::openat(&root.directory, &name, flags, Mode::empty()).ok()?;
            Some(Self { root, name, directory })
        }
    }

    impl Drop for Group {
        fn drop(&mut self) {
            let _ = rustix::fs::unlinkat(&self.root.directory, &self.name, AtFlags::REMOVEDIR);
        }
    }

    const PLACE: AttachType = AttachType::Getpeername6;

    fn program() -> Option<OwnedFd> {
        bpf::load(PLACE.program_type(), Some(PLACE), &bpf::PASS).ok()
    }

    #[test]
    fn a_program_that_is_attached_is_listed_and_gone_with_its_link() {
        let (Some(group), Some(program)) = (Group::new("shared"), program()) else {
            crate::requirement::skipped("making a cgroup and loading programs takes root");
            return;
        };
        let cgroup = group.directory.as_fd();
        let link = bpf::link(program.as_fd(), cgroup, PLACE).expect("there is room");
        let during = attached(cgroup).expect("privileged");
        assert_eq!(during.len(), 1, "{during:?}");
        assert_eq!((during[0].attach_type, during[0].flags), (PLACE, Sharing::Shared));
        assert_eq!(in_the_way(cgroup, PLACE), None);
        drop(link);
        assert_eq!(attached(cgroup).expect("privileged"), []);
    }

    #[test]
    fn a_program_that_leaves_no_room_is_named() {
        let (Some(group), Some(program)) = (Group::new("alone"), program()) else {
            crate::requirement::skipped("making a cgroup and loading programs takes root");
            return;
        };
        let cgroup = group.directory.as_fd();
        bpf::attach_exclusively(program.as_fd(), cgroup, PLACE).expect("there is room");
        let error = bpf::link(program.as_fd(), cgroup, PLACE).expect_err("there is none left");
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        let other = in_the_way(cgroup, PLACE).expect("it is there");
        assert_eq!(other.flags, Sharing::Exclusive);
        assert!(other.to_string().contains("at cgroup/getpeername6"), "{other}");
        assert_eq!(in_the_way(cgroup, AttachType::Connect4), None);
    }
}
