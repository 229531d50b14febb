//! cgroups by id and by path, with the container and the unit that their paths name.
//!
//! An id is learnt from its processes; one that no process told is looked for once, in
//! a walk over the hierarchy that happens at most every `WALK_EVERY_NS`.

use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use super::container::{self, Container};
use super::host::Host;
use super::unit::{self, Unit};

/// The least time between two walks.
const WALK_EVERY_NS: u64 = 500_000_000;
/// Id of the hierarchy's root: it says nothing about a socket.
pub const ROOT: u64 = 1;

/// A cgroup path and what it tells.
#[derive(Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// From the hierarchy's root.
    pub path: Box<str>,
    /// The innermost container.
    pub container: Option<Container>,
    /// The innermost service.
    pub unit: Option<Unit>,
}

/// Bounded memory of cgroups.
#[derive(Debug)]
pub struct Cgroups {
    by_id: LruCache<u64, Arc<Cgroup>, ahash::RandomState>,
    by_path: LruCache<Box<str>, Arc<Cgroup>, ahash::RandomState>,
    walked_ns: Option<u64>,
    evicted: u64,
}

impl Cgroups {
    /// At most `bound` ids and as many paths.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        let bound = NonZeroUsize::new(bound).unwrap_or(NonZeroUsize::MIN);
        Self {
            by_id: LruCache::with_hasher(bound, ahash::RandomState::new()),
            by_path: LruCache::with_hasher(bound, ahash::RandomState::new()),
            walked_ns: None,
            evicted: 0,
        }
    }

    /// What `path` tells.
    pub fn of_path(&mut self, path: &str) -> Arc<Cgroup> {
        if let Some(known) = self.by_path.get(path) {
            return Arc::clone(known);
        }
        let cgroup = Arc::new(Cgroup {
            path: path.into(),
            container: container::from_cgroup(path),
            unit: unit::from_cgroup(path),
        });
        if self.by_path.push(path.into(), Arc::clone(&cgroup)).is_some() {
            self.evicted += 1;
        }
        cgroup
    }

    /// Remembers that `id` is `path`.
    pub fn learn(&mut self, id: u64, path: &str) {
        if id <= ROOT || self.by_id.get(&id).is_some() {
            return;
        }
        let cgroup = self.of_path(path);
        if self.by_id.push(id, cgroup).is_some_and(|(old, _)| old != id) {
            self.evicted += 1;
        }
    }

    /// What the cgroup `id` tells; `None` for the root and for one that is gone.
    pub fn of_id(&mut self, id: u64, now_ns: u64, host: &dyn Host) -> Option<Arc<Cgroup>> {
        if id <= ROOT {
            return None;
        }
        if let Some(known) = self.by_id.get(&id) {
            return Some(Arc::clone(known));
        }
        let rested = self.walked_ns.is_none_or(|last| now_ns >= last.saturating_add(WALK_EVERY_NS));
        if !rested {
            return None;
        }
        self.walked_ns = Some(now_ns);
        let mut sought = None;
        for (found, path) in host.cgroups(self.by_id.cap().get()) {
            self.learn(found, &path);
            if found == id {
                sought = Some(path);
            }
        }
        sought.map(|path| self.of_path(&path))
    }

    /// Ids held, and the bound.
    #[must_use]
    pub fn occupancy(&self) -> (usize, usize) {
        (self.by_id.len(), self.by_id.cap().get())
    }

    /// Entries forgotten for want of room.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}
