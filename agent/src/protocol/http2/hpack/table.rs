//! The dynamic table (RFC 7541, section 2.3), which may be known only in part.
//!
//! Indices count from the newest entry on, so what was inserted since the agent listens
//! has the same index for it as for the peers, whatever stands below.

use std::collections::VecDeque;
use std::hash::Hash;
use std::ops::Range;
use std::sync::LazyLock;

use super::budget::{Budget, Share};
use super::{Fact, Name};

/// What an entry counts for beyond its bytes.
const OVERHEAD: usize = 32;
/// A table's size until its encoder says otherwise.
const USUAL: usize = 4_096;
/// The most that is held of a table, whatever its encoder says.
pub(super) const HELD: usize = 65_536;

/// One header that may come again by its index.
#[derive(Debug)]
struct Entry {
    /// Where its bytes begin, counted from the table's first ever.
    at: usize,
    /// Bytes of the name; none where it is not known.
    name: usize,
    /// Bytes of the value, behind it.
    value: usize,
    kind: Name,
    fact: Fact,
}

impl Entry {
    /// What it counts for; at least, where the name is not known.
    fn size(&self) -> usize {
        self.name + self.value + OVERHEAD
    }
}

/// Stands for what is in a table, by 128 bits of hash over all that made it so: tables with
/// the same history hold the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::protocol::http2) struct State(u64, u64);

/// Nothing is known.
const UNKNOWN: State = State(0, 0);
/// Nothing is in it.
const EMPTY: State = State(1, 1);

/// Under keys that are drawn at start.
static HASHERS: LazyLock<[ahash::RandomState; 2]> =
    LazyLock::new(|| [ahash::RandomState::new(), ahash::RandomState::new()]);

impl State {
    /// Of a table that was in this state and is changed by `change`.
    fn after(self, change: impl Hash) -> Self {
        let [one, other] = &*HASHERS;
        Self(one.hash_one((self.0, &change)), other.hash_one((self.1, &change)))
    }
}

/// One direction's table. Holds at most [`HELD`], by the standard's way of counting.
#[derive(Debug)]
pub(super) struct Table {
    /// The newest is the last.
    entries: VecDeque<Entry>,
    /// Names and values one behind the other; their order is that of the entries.
    bytes: Vec<u8>,
    /// Bytes that stood before and are gone.
    gone: usize,
    /// Sum of the entries' sizes.
    size: usize,
    /// Its maximum, once known.
    limit: Option<usize>,
    /// There is nothing below what is held.
    whole: bool,
    state: State,
    /// What it holds, of what all tables may.
    share: Share,
}

/// A resolved index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolved<'a> {
    pub(super) kind: Name,
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) fact: &'a Fact,
}

impl Table {
    /// Of a direction that begins.
    pub(super) fn whole(budget: &Budget) -> Self {
        Self { limit: Some(USUAL), whole: true, state: EMPTY, ..Self::unknown(budget) }
    }

    /// Of a direction that goes on.
    pub(super) fn unknown(budget: &Budget) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: Vec::new(),
            gone: 0,
            size: 0,
            limit: None,
            whole: false,
            state: UNKNOWN,
            share: Share::new(budget),
        }
    }

    /// Nothing of it is known any more.
    pub(super) fn forget(&mut self) {
        *self = Self::unknown(self.share.budget());
    }

    /// Whether everything in it is known.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// What stands for all that is in it.
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Sum of the sizes of what is held, and bytes that this takes.
    #[cfg(test)]
    pub(super) fn held_now(&self) -> (usize, usize) {
        (self.size, self.bytes.capacity())
    }

    /// The entry of an index, 0 the newest. `None`: it is not known.
    pub(super) fn get(&self, index: usize) -> Option<Resolved<'_>> {
        let entry = self.entries.get(self.entries.len().checked_sub(index + 1)?)?;
        let begin = entry.at - self.gone;
        let (name, rest) = self.bytes.get(begin..)?.split_at_checked(entry.name)?;
        let value = rest.get(..entry.value)?;
        Some(Resolved { kind: entry.kind, name, value, fact: &entry.fact })
    }

    /// The encoder said how large the table may be from now on.
    pub(super) fn resize(&mut self, limit: usize) {
        self.limit = Some(limit);
        self.state = self.state.after(limit);
        self.evict(0);
        // Not even an empty header has room: whatever was below is gone, too.
        self.whole |= limit < OVERHEAD;
        self.share.hold(self.size);
    }

    /// Inserts a header; `name` may be a place in the table.
    pub(super) fn insert(&mut self, kind: Name, name: NameBytes<'_>, value: &[u8], fact: Fact) {
        let at = self.bytes.len();
        match name {
            NameBytes::Unknown => {}
            NameBytes::Here(bytes) => self.bytes.extend_from_slice(bytes),
            NameBytes::Entry(index) => {
                if let Some(place) = self.place_of_name(index) {
                    self.bytes.extend_from_within(place);
                }
            }
        }
        let name = self.bytes.len() - at;
        self.bytes.extend_from_slice(value);
        self.state = self.state.after((kind, name, &self.bytes[at..]));
        let entry = Entry { at: at + self.gone, name, value: value.len(), kind, fact };
        let size = entry.size();
        self.evict(size);
        if size <= self.held() {
            self.size += size;
            self.entries.push_back(entry);
        } else {
            // It empties the table and is not in it, or is larger than what is held: then
            // it is the first of the entries that are not known.
            self.whole = self.limit.is_some_and(|limit| size > limit);
        }
        self.compact();
        if !self.share.hold(self.size) {
            self.forget();
        }
    }

    /// The bytes of a name; empty where it is not known.
    pub(super) fn name<'a>(&'a self, name: NameBytes<'a>) -> &'a [u8] {
        match name {
            NameBytes::Unknown => b"",
            NameBytes::Here(bytes) => bytes,
            NameBytes::Entry(index) => self.get(index).map_or(b"", |found| found.name),
        }
    }

    fn place_of_name(&self, index: usize) -> Option<Range<usize>> {
        let entry = self.entries.get(self.entries.len().checked_sub(index + 1)?)?;
        let begin = entry.at - self.gone;
        Some(begin..begin + entry.name)
    }

    /// The most that may be held now.
    fn held(&self) -> usize {
        self.limit.unwrap_or(HELD).min(HELD)
    }

    /// Drops the oldest entries until there is room for `size`.
    fn evict(&mut self, size: usize) {
        let room = self.held().saturating_sub(size);
        let truly = self.limit.is_some_and(|limit| limit <= HELD);
        while self.size > room {
            let Some(entry) = self.entries.pop_front() else { break };
            self.size -= entry.size();
            self.whole &= truly;
        }
    }

    /// Gives back the bytes of evicted entries, once they are more than what is left.
    fn compact(&mut self) {
        let end = self.gone + self.bytes.len();
        let begin = self.entries.front().map_or(end, |entry| entry.at);
        let dead = begin - self.gone;
        if dead > self.bytes.len() / 2 {
            self.bytes.drain(..dead);
            self.gone = begin;
        }
    }
}

/// Where the name of an inserted header stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum NameBytes<'a> {
    Unknown,
    Here(&'a [u8]),
    /// That of another entry, 0 the newest.
    Entry(usize),
}
