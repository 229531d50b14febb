//! [`Joining`]: the ends of calls that passed proxies, by the ids that their requests carry,
//! until the other end of the same call comes.
//!
//! An id alone joins nothing: applications hand on the ids that they are given. Two ends are
//! one call's where the ids are the same, the requests are, the server's time lies within the
//! client's, no name that is known of one end contradicts the other, and **nothing else on
//! this node may be meant**. Where two equal requests under one id were under way at a time,
//! the id joins nothing any more.

mod end;
mod id;
mod known;

use std::collections::VecDeque;
use std::num::NonZeroUsize;

use lru::LruCache;

pub use end::{Application, End, is_gateway};
pub use id::Ids;

use end::Seen;
use id::Id;
use known::{Known, Pick};

use super::through::{JoinedBy, Times};
use crate::attribution::call::Party;
use crate::protocol::Side;

/// Ends that are remembered; a call through two proxies has up to six.
const ENDS: usize = 16_384;
/// Ids that are remembered; an end has up to two.
const IDS: NonZeroUsize = NonZeroUsize::new(2 * ENDS).expect("invariant: not zero");
/// How long an end is remembered: the client's comes soon after the server's, unless the proxy
/// asks again.
const KEPT_NS: u64 = 5_000_000_000;
/// Ends under one id; one that has more is no single request's.
const ENDS_PER_ID: usize = 32;

/// What came before an end and is the same call's.
#[derive(Debug, Default)]
pub struct Found {
    /// The other end.
    pub other: Option<u64>,
    /// Ends of servers that were asked in vain.
    pub tried: Vec<u64>,
    /// Who asked, where the other end is the client's.
    pub client: Option<Party>,
    /// How it is known.
    pub by: Option<JoinedBy>,
    /// What lies between.
    pub times: Times,
}

#[derive(Debug, Default)]
struct Group {
    numbers: Vec<u64>,
    /// It stands for several equal requests at a time.
    is_doubtful: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Joining {
    ends: VecDeque<Seen>,
    /// Number of the first of them.
    first: u64,
    groups: LruCache<Id, Group, ahash::RandomState>,
    /// Ends of clients that came so far.
    clients: u64,
    evicted: u64,
}

impl Default for Joining {
    fn default() -> Self {
        let groups = LruCache::unbounded_with_hasher(ahash::RandomState::new());
        // Numbers begin at one.
        Self { ends: VecDeque::new(), first: 1, groups, clients: 0, evicted: 0 }
    }
}

impl Joining {
    /// Takes an end: an application's, beside the proxy `pid`, or that proxy's own. Gives its
    /// number, and what came before of the same call.
    pub fn offer(
        &mut self,
        end: End,
        application: Option<Box<Application>>,
        pid: u32,
    ) -> (u64, Option<Found>) {
        let is_applications = application.is_some();
        self.clients += u64::from(is_applications && end.side == Side::Client);
        let mut seen = Seen { end, application, pid, is_taken: false };
        let found = if is_applications { self.find(&seen) } else { None };
        seen.is_taken = found.as_ref().is_some_and(|found| found.other.is_some());
        (self.remember(seen), found)
    }

    /// Ends of clients that came so far.
    #[must_use]
    pub fn clients(&self) -> u64 {
        self.clients
    }

    /// Whether a client's end has come that may be the other one of a server's.
    #[must_use]
    pub fn has_client(&self, server: &End) -> bool {
        server.ids.all().any(|id| {
            let Some(group) = self.groups.peek(&id) else { return false };
            let known = Known { ends: &self.ends, first: self.first, numbers: &group.numbers };
            known.has_client(server)
        })
    }

    /// Forgets what is too old to have its other end come.
    pub fn sweep(&mut self, now_ns: u64) {
        let before_ns = now_ns.saturating_sub(KEPT_NS);
        while self.ends.front().is_some_and(|seen| seen.end.end_ns < before_ns) {
            self.ends.pop_front();
            self.first += 1;
        }
        if self.ends.is_empty() {
            self.groups.clear();
        }
    }

    /// Ends held, and the bound.
    #[must_use]
    pub fn occupancy(&self) -> (usize, usize) {
        (self.ends.len(), ENDS)
    }

    /// Ends that had to go before the other one could come.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    fn remember(&mut self, seen: Seen) -> u64 {
        let number = self.first + self.ends.len() as u64;
        for id in seen.end.ids.all() {
            if let Some(group) = self.groups.get_mut(&id) {
                group.add(number, self.first);
                continue;
            }
            self.groups.push(id, Group { numbers: vec![number], is_doubtful: false });
            if self.groups.len() > IDS.get() {
                self.groups.pop_lru();
            }
        }
        self.ends.push_back(seen);
        if self.ends.len() > ENDS {
            let old = self.ends.pop_front();
            self.first += 1;
            self.evicted += u64::from(old.is_some_and(|old| !old.is_taken));
        }
        number
    }

    /// The ends of the call that `new` is one of.
    fn find(&mut self, new: &Seen) -> Option<Found> {
        // A client's request is known by one id; what a proxy has added is at the server's only.
        let ids = new.end.ids.all();
        let ids = ids.take(if new.end.side == Side::Client { 1 } else { 2 });
        for id in ids {
            let Some(group) = self.groups.get_mut(&id) else { continue };
            if group.is_doubtful {
                return None;
            }
            let known = Known { ends: &self.ends, first: self.first, numbers: &group.numbers };
            let picked = match known.pick(new, &id) {
                Pick::Nothing => continue,
                Pick::Doubt => {
                    *group = Group { numbers: Vec::new(), is_doubtful: true };
                    return None;
                }
                Pick::Ends(picked) => picked,
            };
            let mut found = known.tell(new, picked);
            let is_joined = found.other.is_some() || !found.tried.is_empty();
            found.by = is_joined.then(|| id.joins_by());
            for number in found.other.iter().chain(&found.tried) {
                let place = usize::try_from(number - self.first).ok();
                if let Some(seen) = place.and_then(|place| self.ends.get_mut(place)) {
                    seen.is_taken = true;
                }
            }
            return Some(found);
        }
        None
    }
}

impl Group {
    fn add(&mut self, number: u64, first: u64) {
        if self.is_doubtful {
            return;
        }
        self.numbers.retain(|number| *number >= first);
        self.numbers.push(number);
        if self.numbers.len() > ENDS_PER_ID {
            *self = Self { numbers: Vec::new(), is_doubtful: true };
        }
    }
}

#[cfg(test)]
mod tests;
