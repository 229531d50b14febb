//! Giving up, for good: neither the calling thread, nor a thread or program that it starts,
//! gets anything back.

use caps::{CapSet, Capability, CapsHashSet};
use rustix::process::{Gid, Uid};

use super::{Holder, Need, PrivilegeError};

/// What a thread keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Of the capabilities that it holds, these.
    pub capabilities: CapsHashSet,
    /// The user that it becomes where it is root and may; `None`: it stays.
    pub user: Option<u32>,
}

impl Kept {
    /// By the thread that reads the kernel's records; `reads_maps`: this kernel asks for
    /// [`Need::ReadMaps`].
    #[must_use]
    pub fn by_reader(user: Option<u32>, reads_maps: bool) -> Self {
        Self::of(user, |need| {
            need.holder() != Holder::Nobody && (reads_maps || need != Need::ReadMaps)
        })
    }

    /// By every other thread.
    #[must_use]
    pub fn by_others(user: Option<u32>) -> Self {
        Self::of(user, |need| need.holder() == Holder::Everyone)
    }

    fn of(user: Option<u32>, stays: impl Fn(Need) -> bool) -> Self {
        let narrowest = |need: Need| need.alternatives().first().into_iter().copied().flatten();
        let needs = Need::ALL.into_iter().filter(|need| stays(*need));
        Self { capabilities: needs.flat_map(narrowest).copied().collect(), user }
    }
}

/// Gives up everything of the calling thread that is not in `kept`: capabilities of all of
/// its sets, root, and that a program may be more than who starts it.
///
/// Root goes only where the files that root may read stay readable (`CAP_DAC_READ_SEARCH`),
/// and where the capabilities for it are held. Call it before other threads start, or in
/// each of them.
///
/// # Errors
/// [`PrivilegeError`]; some may have been given up by then, none was gained.
pub fn give_up(kept: &Kept) -> Result<(), PrivilegeError> {
    let held = caps::read(None, CapSet::Permitted).map_err(failed("read the permitted"))?;
    let keeps: CapsHashSet = kept.capabilities.intersection(&held).copied().collect();
    // First the bounding set: shrinking it takes CAP_SETPCAP, which goes with the rest.
    if held.contains(&Capability::CAP_SETPCAP) {
        let bounding = caps::read(None, CapSet::Bounding).map_err(failed("read the bounding"))?;
        for one in bounding.difference(&keeps) {
            caps::drop(None, CapSet::Bounding, *one)
                .map_err(failed("drop from the bounding set of"))?;
        }
    }
    if let Some(user) = kept.user.filter(|_| may_leave_root(&held)) {
        become_user(user).map_err(|source| PrivilegeError::User { user, source })?;
    }
    set(&keeps)?;
    rustix::thread::set_no_new_privs(true)
        .map_err(|error| PrivilegeError::NoNewPrivileges(error.into()))
}

/// Whether something works without capabilities that are held; they are held again afterwards.
///
/// # Errors
/// [`PrivilegeError`].
pub fn works_without(need: Need, works: impl FnOnce() -> bool) -> Result<bool, PrivilegeError> {
    let held = caps::read(None, CapSet::Effective).map_err(failed("read the effective"))?;
    let any = need.alternatives().iter().copied().flatten();
    let without = held.difference(&any.copied().collect()).copied().collect();
    caps::set(None, CapSet::Effective, &without).map_err(failed("drop the effective"))?;
    let works = works();
    caps::set(None, CapSet::Effective, &held).map_err(failed("raise the effective"))?;
    Ok(works)
}

fn failed(action: &'static str) -> impl Fn(caps::errors::CapsError) -> PrivilegeError {
    move |source| PrivilegeError::Capabilities { action, source }
}

fn set(kept: &CapsHashSet) -> Result<(), PrivilegeError> {
    caps::clear(None, CapSet::Ambient).map_err(failed("clear the ambient"))?;
    caps::set(None, CapSet::Effective, kept).map_err(failed("drop the effective"))?;
    caps::set(None, CapSet::Permitted, kept).map_err(failed("drop the permitted"))?;
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new())
        .map_err(failed("drop the inheritable"))
}

fn may_leave_root(held: &CapsHashSet) -> bool {
    use Capability as C;
    let needed = [C::CAP_SETUID, C::CAP_SETGID, C::CAP_DAC_READ_SEARCH];
    rustix::process::geteuid().is_root() && needed.iter().all(|one| held.contains(one))
}

/// Becomes a user, and a group of the same number, and a member of no other; what is permitted
/// stays so. Of the calling thread: the kernel knows no users of processes.
fn become_user(user: u32) -> std::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    rustix::thread::set_keep_capabilities(true)?;
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    rustix::thread::set_keep_capabilities(false)?;
    Ok(())
}
