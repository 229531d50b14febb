//! [`Merge`]: the two observations of one call become one [`ObservedCall`].
//!
//! Pure: time comes with the calls and with [`Merge::expire`]. It holds the end that
//! comes first for a bounded time and in bounded number, and never drops one: what
//! cannot be held any longer goes on with one end.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use ahash::AHashMap;
use lru::LruCache;

use crate::attribution::Call;
use crate::protocol::Side;

/// How long the first end of a call waits for the second.
pub const WAIT_NS: u64 = 500_000_000;
/// How long it waits where it failed: the other end may learn of that later.
pub const WAIT_AFTER_ERROR_NS: u64 = 2_000_000_000;
/// Ends that wait at most; beyond it the one that waits for longest goes on alone.
pub const CAPACITY: usize = 16_384;
/// Calls that went on with one end and are remembered, in case that the other still comes.
const ALONE: NonZeroUsize = NonZeroUsize::new(16_384).expect("invariant: not zero");

/// The ends that saw a call.
#[derive(Clone, Debug)]
enum Ends {
    Client(Box<Call>),
    Server(Box<Call>),
    Both(Box<Call>, Box<Call>),
}

/// One call, as one end or both saw it.
#[derive(Clone, Debug)]
pub struct ObservedCall {
    ends: Ends,
    late: bool,
}

impl ObservedCall {
    fn one(call: Call, late: bool) -> Self {
        let ends = match call.side() {
            Side::Client => Ends::Client(Box::new(call)),
            Side::Server => Ends::Server(Box::new(call)),
        };
        Self { ends, late }
    }

    fn both(one: Call, other: Call) -> Self {
        let (client, server) = match one.side() {
            Side::Client => (one, other),
            Side::Server => (other, one),
        };
        Self { ends: Ends::Both(Box::new(client), Box::new(server)), late: false }
    }

    /// What the client's end saw.
    #[must_use]
    pub fn client(&self) -> Option<&Call> {
        match &self.ends {
            Ends::Client(call) | Ends::Both(call, _) => Some(call),
            Ends::Server(_) => None,
        }
    }

    /// What the server's end saw.
    #[must_use]
    pub fn server(&self) -> Option<&Call> {
        match &self.ends {
            Ends::Server(call) | Ends::Both(_, call) => Some(call),
            Ends::Client(_) => None,
        }
    }

    /// What the client's end saw, else what the server's saw.
    #[must_use]
    pub fn nearer_client(&self) -> &Call {
        match &self.ends {
            Ends::Client(call) | Ends::Server(call) | Ends::Both(call, _) => call,
        }
    }

    /// What the server's end saw, else what the client's saw.
    #[must_use]
    pub fn nearer_server(&self) -> &Call {
        match &self.ends {
            Ends::Client(call) | Ends::Server(call) | Ends::Both(_, call) => call,
        }
    }

    /// The other end of this call went on alone before: it is the same call again.
    #[must_use]
    pub fn is_late_half(&self) -> bool {
        self.late
    }
}

/// By what the two observations of one call find each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Key {
    /// [`Call::pair`]
    Pair(u64),
    /// Number of the end that came first, where proxies stand between.
    End(u64),
}

/// Joins observations by [`Call::pair`], and by [`Call::through`].
#[derive(Debug)]
pub struct Merge {
    now_ns: u64,
    capacity: usize,
    waiting: AHashMap<Key, (u64, Call)>,
    deadlines: BTreeSet<(u64, Key)>,
    alone: LruCache<Key, Side>,
}

impl Default for Merge {
    fn default() -> Self {
        Self::new(CAPACITY)
    }
}

impl Merge {
    /// Holds at most `capacity` ends, at least one.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            now_ns: 0,
            capacity: capacity.max(1),
            waiting: AHashMap::new(),
            deadlines: BTreeSet::new(),
            alone: LruCache::new(ALONE),
        }
    }

    /// Takes one end of a call and appends to `ready` what is complete by it.
    pub fn put(&mut self, call: Call, ready: &mut Vec<ObservedCall>) {
        self.expire(call.exchange.end_ns, ready);
        let through = call.through.as_deref();
        let (first, own) = match (call.peer_observed, through) {
            (true, _) => (Some(Key::Pair(call.pair)), Key::Pair(call.pair)),
            (false, Some(through)) => (through.other.map(Key::End), Key::End(through.number)),
            (false, None) => {
                ready.push(ObservedCall::one(call, false));
                return;
            }
        };
        // Nothing more comes to what was tried in vain.
        for tried in through.iter().flat_map(|through| &through.tried) {
            if let Some(tried) = self.take(Key::End(*tried)) {
                ready.push(ObservedCall::one(tried, false));
            }
        }
        match first.and_then(|first| self.take(first)) {
            Some(first) if first.side() != call.side() => {
                ready.push(ObservedCall::both(first, call));
                return;
            }
            // The same end twice: the pair was used again, so the first stays alone.
            Some(first) => self.go_alone(own, first, ready),
            None => {}
        }
        let other = first.and_then(|first| self.alone.pop(&first));
        if other.is_some_and(|side| side != call.side()) {
            ready.push(ObservedCall::one(call, true));
            return;
        }
        self.wait(own, call, ready);
    }

    fn wait(&mut self, key: Key, call: Call, ready: &mut Vec<ObservedCall>) {
        if self.waiting.len() >= self.capacity
            && let Some((_, oldest)) = self.deadlines.first().copied()
            && let Some(call) = self.take(oldest)
        {
            self.go_alone(oldest, call, ready);
        }
        let wait = if call.exchange.error.is_some() { WAIT_AFTER_ERROR_NS } else { WAIT_NS };
        let deadline = self.now_ns.saturating_add(wait);
        self.deadlines.insert((deadline, key));
        self.waiting.insert(key, (deadline, call));
    }

    /// Appends to `ready` what has waited long enough at `now_ns`. Time never goes back.
    pub fn expire(&mut self, now_ns: u64, ready: &mut Vec<ObservedCall>) {
        self.now_ns = self.now_ns.max(now_ns);
        while let Some((deadline, key)) = self.deadlines.first().copied() {
            if deadline > self.now_ns {
                break;
            }
            if let Some(call) = self.take(key) {
                self.go_alone(key, call, ready);
            }
        }
    }

    /// Appends everything that still waits to `ready`.
    pub fn drain(&mut self, ready: &mut Vec<ObservedCall>) {
        self.expire(u64::MAX, ready);
    }

    fn take(&mut self, key: Key) -> Option<Call> {
        let (deadline, call) = self.waiting.remove(&key)?;
        self.deadlines.remove(&(deadline, key));
        Some(call)
    }

    fn go_alone(&mut self, key: Key, call: Call, ready: &mut Vec<ObservedCall>) {
        self.alone.put(key, call.side());
        ready.push(ObservedCall::one(call, false));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::examples::{call, through};
    use super::*;
    use crate::protocol::Cause;

    const MS: u64 = 1_000_000;

    fn end(side: Side, pair: u64, end_ns: u64) -> Call {
        let mut call = call(side);
        (call.pair, call.exchange.end_ns) = (pair, end_ns);
        call
    }

    /// `c`, `s` or `b` for each call, with `+` behind a late half, and its pair.
    fn seen(ready: &mut Vec<ObservedCall>) -> Vec<String> {
        let name = |call: ObservedCall| {
            let ends = match (call.client(), call.server()) {
                (Some(_), Some(_)) => "b",
                (Some(_), None) => "c",
                (None, Some(_)) => "s",
                (None, None) => panic!("a call that nobody saw"),
            };
            let late = if call.is_late_half() { "+" } else { "" };
            format!("{ends}{late}{}", call.nearer_client().pair)
        };
        ready.drain(..).map(name).collect()
    }

    #[test]
    fn both_ends_are_one_call_whichever_comes_first() {
        let (mut merge, mut ready) = (Merge::default(), Vec::new());
        merge.put(end(Side::Client, 1, 10), &mut ready);
        merge.put(end(Side::Server, 2, 10), &mut ready);
        assert!(ready.is_empty());
        merge.put(end(Side::Client, 2, 11), &mut ready);
        merge.put(end(Side::Server, 1, 12), &mut ready);
        assert_eq!(ready[0].client().unwrap().exchange.side, Side::Client);
        assert_eq!(ready[0].server().unwrap().exchange.side, Side::Server);
        assert_eq!(seen(&mut ready), ["b2", "b1"]);
        merge.drain(&mut ready);
        assert!(ready.is_empty());
    }

    #[test]
    fn a_call_whose_other_end_nobody_sees_does_not_wait() {
        let (mut merge, mut ready) = (Merge::default(), Vec::new());
        let mut remote = end(Side::Client, 0, 10);
        remote.peer_observed = false;
        merge.put(remote, &mut ready);
        assert_eq!(seen(&mut ready), ["c0"]);
    }

    #[test]
    fn the_second_end_that_never_comes_is_waited_for_no_longer_than_said() {
        let (mut merge, mut ready) = (Merge::default(), Vec::new());
        merge.put(end(Side::Client, 1, 100 * MS), &mut ready);
        merge.expire(600 * MS - 1, &mut ready);
        assert!(ready.is_empty());
        merge.expire(600 * MS, &mut ready);
        assert_eq!(seen(&mut ready), ["c1"]);
    }

    #[test]
    fn a_failed_end_waits_longer_because_the_other_may_learn_of_it_later() {
        let (mut merge, mut ready) = (Merge::default(), Vec::new());
        let mut failed = end(Side::Client, 1, 0);
        failed.exchange.error = Some(Cause::Abandoned);
        merge.put(failed, &mut ready);
        merge.expire(1_900 * MS, &mut ready);
        assert!(ready.is_empty());
        merge.put(end(Side::Server, 1, 1_950 * MS), &mut ready);
        assert_eq!(seen(&mut ready), ["b1"]);
    }

    #[test]
    fn a_second_end_that_comes_late_is_marked_once() {
        let (mut merge, mut ready) = (Merge::default(), Vec::new());
        merge.put(end(Side::Client, 1, 0), &mut ready);
        merge.put(end(Side::Server, 1, 5_000 * MS), &mut ready);
        assert_eq!(seen(&mut ready), ["c1", "s+1"]);
        merge.put(end(Side::Server, 1, 5_001 * MS), &mut ready);
        merge.drain(&mut ready);
        assert_eq!(seen(&mut ready), ["s1"]);
    }

    #[test]
    fn the_same_end_twice_is_two_calls() {
        let (mut merge, mut ready) = (Merge::default(), Vec::new());
        merge.put(end(Side::Client, 1, 0), &mut ready);
        merge.put(end(Side::Client, 1, 1), &mut ready);
        assert_eq!(seen(&mut ready), ["c1"]);
        merge.put(end(Side::Server, 1, 2), &mut ready);
        assert_eq!(seen(&mut ready), ["b1"]);
    }

    #[test]
    fn the_oldest_goes_on_alone_where_too_many_wait_and_none_is_dropped() {
        let (mut merge, mut ready) = (Merge::new(2), Vec::new());
        for pair in 1..=4 {
            merge.put(end(Side::Client, pair, pair), &mut ready);
        }
        assert_eq!(seen(&mut ready), ["c1", "c2"]);
        merge.drain(&mut ready);
        assert_eq!(seen(&mut ready), ["c3", "c4"]);
        assert!(merge.waiting.is_empty() && merge.deadlines.is_empty());
    }

    #[test]
    fn ends_with_proxies_between_find_each_other_by_number() {
        let (mut merge, mut ready) = (Merge::default(), Vec::new());
        let proxied = |side, number, other, tried: &[u64]| {
            let mut call = through(end(side, number, 10 * MS), number, other);
            if let Some(through) = &mut call.through {
                through.tried = tried.to_vec();
            }
            call
        };
        merge.put(proxied(Side::Server, 1, None, &[]), &mut ready);
        merge.put(proxied(Side::Server, 2, None, &[]), &mut ready);
        assert!(ready.is_empty(), "the client's end may still come");
        merge.put(proxied(Side::Client, 3, Some(2), &[1]), &mut ready);
        assert_eq!(seen(&mut ready), ["s1", "b3"]);
        merge.put(proxied(Side::Client, 4, None, &[]), &mut ready);
        merge.put(proxied(Side::Server, 5, None, &[]), &mut ready);
        merge.expire(510 * MS, &mut ready);
        assert_eq!(seen(&mut ready), ["c4", "s5"]);
        // It came too late to be one line.
        merge.put(proxied(Side::Server, 6, Some(4), &[]), &mut ready);
        assert_eq!(seen(&mut ready), ["s+6"]);
        assert!(merge.waiting.is_empty() && merge.deadlines.is_empty());
    }

    #[test]
    fn time_that_goes_back_holds_nothing_up() {
        let (mut merge, mut ready) = (Merge::default(), Vec::new());
        merge.expire(10_000 * MS, &mut ready);
        merge.put(end(Side::Client, 1, 5 * MS), &mut ready);
        merge.expire(10_500 * MS, &mut ready);
        assert_eq!(seen(&mut ready), ["c1"]);
    }

    proptest! {
        #[test]
        fn every_end_comes_out_exactly_once_and_no_more_are_held_than_said(
            ends in prop::collection::vec(
                (any::<bool>(), 0_u64..6, 0_u64..3_000, any::<bool>()), 0..80,
            ),
        ) {
            let (mut merge, mut ready) = (Merge::new(3), Vec::new());
            for (socket, (client, pair, at, observed)) in ends.iter().enumerate() {
                let side = if *client { Side::Client } else { Side::Server };
                let mut end = end(side, *pair, at * MS);
                (end.exchange.socket, end.peer_observed) = (socket as u64, *observed);
                merge.put(end, &mut ready);
                prop_assert!(merge.waiting.len() <= 3);
                prop_assert_eq!(merge.waiting.len(), merge.deadlines.len());
            }
            merge.drain(&mut ready);
            let mut sockets: Vec<u64> = ready
                .iter()
                .flat_map(|call| [call.client(), call.server()])
                .flatten()
                .map(|end| end.exchange.socket)
                .collect();
            sockets.sort_unstable();
            prop_assert_eq!(sockets, (0..ends.len() as u64).collect::<Vec<_>>());
        }
    }
}
