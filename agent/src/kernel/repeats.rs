//! [`Repeats`]: the table of calls that the kernel half counts by itself, as user space
//! writes and reads it.

use std::fmt;
use std::num::NonZeroU64;

use aya::Ebpf;
use aya::maps::{Array, MapData};
use meshtap_ebpf::repeat::{self, Control, Counts, KEYS, LONGEST, SLOTS};
use meshtap_ebpf::streams::{self, Expected, block};
use zerocopy::{FromBytes as _, IntoBytes as _};

/// A pair of slots as the map holds it.
type Pair = [u64; 2 * size_of::<Control>() / 8];
/// What is expected, as the map holds it.
type Terms = [u64; size_of::<Expected>() / 8];
/// Counts as the map holds them.
type Row = [u64; size_of::<Counts>() / 8];

/// Secret words that heads are hashed with, drawn anew for every start.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Keys([u64; KEYS]);

impl fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Keys")
    }
}

impl Keys {
    /// Draws them.
    #[must_use]
    pub fn draw() -> Self {
        Self(rand::random())
    }

    pub(super) fn words(&self) -> &[u64] {
        &self.0
    }

    /// What the kernel half knows a request by whose packet is this head, on the connection
    /// of this cookie; `None`: it is too long.
    #[must_use]
    pub fn tag(&self, head: &[u8], cookie: u64) -> Option<NonZeroU64> {
        let length = u32::try_from(head.len()).ok().filter(|_| head.len() <= LONGEST)?;
        NonZeroU64::new(repeat::tag(
            length,
            cookie,
            |index| word(head, index),
            |index| self.key(index),
        ))
    }

    /// The same of a block of headers that leaves the table as it is: its version, and the
    /// direction.
    #[must_use]
    pub fn block(&self, block: &[u8], cookie: u64, table: (u32, u8)) -> Option<NonZeroU64> {
        let length = u32::try_from(block.len()).ok().filter(|length| *length <= block::LONGEST)?;
        let word = |index| word(block, index);
        NonZeroU64::new(block::tag(length, cookie, table, word, |index| self.key(index)))
    }

    fn key(&self, index: usize) -> u64 {
        self.0.get(index).copied().unwrap_or_default()
    }
}

/// Eight bytes, with zeros behind the last one.
fn word(bytes: &[u8], index: usize) -> u64 {
    let rest = bytes.get(index * 8..).unwrap_or_default();
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(rest) {
        *to = *from;
    }
    u64::from_le_bytes(word)
}

/// The table.
pub struct Repeats {
    controls: Array<MapData, Pair>,
    counts: Array<MapData, Row>,
    expected: Array<MapData, Terms>,
    marks: Array<MapData, u32>,
    /// What was written last.
    written: Vec<[Control; 2]>,
    marked: Vec<u32>,
}

impl fmt::Debug for Repeats {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Repeats")
    }
}

impl Repeats {
    /// Takes the table out of the loaded object; `None` where it has none.
    pub fn take(programs: &mut Ebpf) -> Option<Self> {
        Some(Self {
            controls: Array::try_from(programs.take_map("CONTROLS")?).ok()?,
            counts: Array::try_from(programs.take_map("COUNTS")?).ok()?,
            expected: Array::try_from(programs.take_map("EXPECTED")?).ok()?,
            marks: Array::try_from(programs.take_map("MARKS")?).ok()?,
            written: vec![[Control::default(); 2]; SLOTS as usize / 2],
            marked: vec![0; streams::MARKED as usize],
        })
    }

    /// A free slot for a tag, if there is one.
    #[must_use]
    pub fn free(&self, tag: u64) -> Option<u32> {
        let pair = repeat::pair(tag);
        let controls = self.written.get(pair as usize)?;
        let place = controls.iter().position(|control| control.tag == 0)?;
        Some(pair * 2 + u32::try_from(place).ok()?)
    }

    /// What a slot counts from now on; the kernel half takes no notice of one without a tag.
    /// False: it could not be written.
    pub fn write(&mut self, slot: u32, control: Control) -> bool {
        // The tag last: nobody is to find it with what belonged to another one.
        let untagged = Control { tag: 0, ..control };
        self.put(slot, untagged) && (control.tag == 0 || self.put(slot, control))
    }

    /// What is expected of calls of HTTP/2 in a slot, which has no tag. False: as above.
    pub fn expect(&mut self, slot: u32, expected: &Expected) -> bool {
        let Ok(row) = Terms::read_from_bytes(expected.as_bytes()) else { return false };
        self.expected.set(slot, row, 0).is_ok()
    }

    /// Marks a connection on which calls of HTTP/2 are counted, before the first slot of such is
    /// written, or takes the mark back. False: it could not be written.
    pub fn mark(&mut self, cookie: u64, is_counted: bool) -> bool {
        let place = streams::mark(cookie);
        let Some(connections) = self.marked.get_mut(place as usize) else { return false };
        let now = if is_counted { *connections + 1 } else { connections.saturating_sub(1) };
        let is_written = self.marks.set(place, now, 0).is_ok();
        if is_written {
            *connections = now;
        }
        is_written
    }

    fn put(&mut self, slot: u32, control: Control) -> bool {
        let Some(pair) = self.written.get_mut(slot as usize / 2) else { return false };
        let [first, second] = pair;
        *(if slot & 1 == 0 { first } else { second }) = control;
        let Ok(row) = Pair::read_from_bytes(pair.as_bytes()) else { return false };
        self.controls.set(slot / 2, row, 0).is_ok()
    }

    /// What was counted in a slot since the start, by all that it belonged to.
    #[must_use]
    pub fn counts(&self, slot: u32) -> Option<Counts> {
        let row = self.counts.get(&slot, 0).ok()?;
        Counts::read_from_bytes(row.as_bytes()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_known_by_its_bytes_its_length_and_its_connection() {
        let keys = Keys::draw();
        let tag = |head: &[u8], cookie| keys.tag(head, cookie).unwrap();
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(tag(head, 7), tag(head, 7));
        assert_ne!(tag(head, 7), tag(head, 8));
        assert_ne!(tag(head, 7), Keys::draw().tag(head, 7).unwrap());
        let mut other = *head;
        for index in 0..head.len() {
            other[index] ^= 0x80;
            assert_ne!(tag(head, 7), tag(&other, 7), "byte {index}");
            other[index] = head[index];
        }
        // Zero bytes at the end are bytes.
        assert_ne!(tag(b"a", 7), tag(b"a\0", 7));
        assert_eq!(keys.tag(&[b'a'; LONGEST + 1], 7), None);
        assert!(keys.tag(&[b'a'; LONGEST], 7).is_some());
    }

    #[test]
    fn buckets_are_those_of_the_histograms() {
        for bound in crate::aggregation::histogram::DURATION.exact {
            for nanoseconds in [bound - 1, *bound, bound + 1] {
                let wanted = crate::aggregation::histogram::DURATION.bucket(nanoseconds);
                assert_eq!(repeat::bucket(nanoseconds), wanted, "{nanoseconds}");
            }
        }
        assert_eq!(repeat::BUCKETS, crate::aggregation::histogram::DURATION_BUCKETS);
    }
}
