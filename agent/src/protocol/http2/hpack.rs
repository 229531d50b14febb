//! Header compression (RFC 7541) for somebody who may have come late.
//!
//! A library decodes what it has seen from the first byte on, and has to give up
//! otherwise. Here an index that points below what is known is *unknown*, nothing more:
//! indices count from the newest entry on, so what was inserted since is resolved
//! exactly. **Nothing is ever resolved to what it is not.** Two things see to that:
//! - A valid encoder names only entries that are in the table. Eviction takes the oldest
//!   ones and shifts no index; an entry too large to be kept empties the table, so that
//!   nothing below it can be named any more. Where the maximum is known all this is
//!   done as the standard says; where it is not, entries are kept for longer than they
//!   are in the true table, which nobody can notice.
//! - Whoever misses a header block, or a piece of one, has to call [`Decoder::forget`].
//!
//! Bounded: tables of at most 64 KiB and all of them by a [`Budget`], beyond which a table is
//! forgotten; strings by the block that they stand in (Huffman
//! coding makes them eight fifths as long at the most), integers below 2^32.

mod budget;
#[cfg(test)]
pub(super) mod encoder;
mod fixed;
mod huffman;
mod integer;
mod table;

use std::sync::LazyLock;

pub(crate) use budget::Budget;
pub(super) use budget::Share;

use super::fact::{Fact, Words};
use super::names::Name;
pub(super) use table::State;
use table::{NameBytes, Table};

/// Bytes that are no header block, or name an entry that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no header block")]
pub(super) struct Malformed;

/// A header of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    /// Which it is; [`Name::Unknown`] where its index is not known.
    pub(super) kind: Name,
    /// Empty where it is not known.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests compare it"))]
    pub(super) name: &'a [u8],
    /// `None`: not known.
    pub(super) value: Option<&'a [u8]>,
    /// What it says.
    pub(super) fact: &'a Fact,
}

/// Memory for strings while a block is read, and facts that were read before.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    words: Words,
    name: Vec<u8>,
    value: Vec<u8>,
}

/// What the static table says, from index 1 on.
static FIXED: LazyLock<Vec<(Name, Fact)>> = LazyLock::new(|| {
    let read = |(name, value): &(&str, &str)| {
        let name = Name::of(name.as_bytes());
        (name, Fact::read(name, value.as_bytes()))
    };
    fixed::TABLE.iter().map(read).collect()
});

/// One direction's decoder.
#[derive(Debug)]
pub(super) struct Decoder {
    table: Table,
}

impl Decoder {
    /// For a direction that is seen from its first byte on.
    pub(super) fn whole(budget: &Budget) -> Self {
        Self { table: Table::whole(budget) }
    }

    /// For a direction that goes on.
    pub(super) fn unknown(budget: &Budget) -> Self {
        Self { table: Table::unknown(budget) }
    }

    /// What stands for all that is in the table.
    pub(super) fn state(&self) -> State {
        self.table.state()
    }

    /// Something was missed: what is in the table is not known any more.
    pub(super) fn forget(&mut self) {
        self.table.forget();
    }

    /// Reads a whole block and hands every header to `take`.
    ///
    /// # Errors
    /// [`Malformed`]: what came up to there was handed on, and the table is forgotten.
    pub(super) fn decode(
        &mut self,
        block: &[u8],
        scratch: &mut Scratch,
        mut take: impl FnMut(Field<'_>),
    ) -> Result<(), Malformed> {
        let read = self.fields(block, scratch, &mut take);
        if read.is_err() {
            self.forget();
        }
        read
    }

    fn fields(
        &mut self,
        mut block: &[u8],
        scratch: &mut Scratch,
        take: &mut impl FnMut(Field<'_>),
    ) -> Result<(), Malformed> {
        let mut begins = true;
        while let Some(first) = block.first() {
            if first & 0x80 != 0 {
                let index = integer::decode(&mut block, 7)?;
                take(self.indexed(index)?);
            } else if first & 0xe0 == 0x20 {
                // Only at the beginning of a block.
                if !begins {
                    return Err(Malformed);
                }
                let size = integer::decode(&mut block, 5)?;
                self.table.resize(size);
                continue;
            } else if first & 0x40 != 0 {
                self.literal(&mut block, 6, true, scratch, take)?;
            } else {
                self.literal(&mut block, 4, false, scratch, take)?;
            }
            begins = false;
        }
        Ok(())
    }

    /// The header of an index.
    fn indexed(&self, index: usize) -> Result<Field<'_>, Malformed> {
        let below = index.checked_sub(1).ok_or(Malformed)?;
        if let (Some((kind, fact)), Some((name, value))) =
            (FIXED.get(below), fixed::TABLE.get(below))
        {
            let (name, value) = (name.as_bytes(), Some(value.as_bytes()));
            return Ok(Field { kind: *kind, name, value, fact });
        }
        let index = below - fixed::TABLE.len();
        match self.table.get(index) {
            Some(found) => {
                let table::Resolved { kind, name, value, fact } = found;
                Ok(Field { kind, name, value: Some(value), fact })
            }
            None if self.table.is_whole() => Err(Malformed),
            None => Ok(Field { kind: Name::Unknown, name: b"", value: None, fact: &Fact::Nothing }),
        }
    }

    /// A header with its value, and its name or the index of one.
    fn literal(
        &mut self,
        block: &mut &[u8],
        prefix: u32,
        insert: bool,
        scratch: &mut Scratch,
        take: &mut impl FnMut(Field<'_>),
    ) -> Result<(), Malformed> {
        let Scratch { words, name, value } = scratch;
        let index = integer::decode(block, prefix)?;
        let (kind, name) = match index.checked_sub(1 + fixed::TABLE.len()) {
            None if index == 0 => {
                let name = string(block, name)?;
                (Name::of(name), NameBytes::Here(name))
            }
            None => {
                let field = self.indexed(index)?;
                (field.kind, NameBytes::Here(fixed::TABLE[index - 1].0.as_bytes()))
            }
            Some(entry) => match self.indexed(index)?.kind {
                Name::Unknown => (Name::Unknown, NameBytes::Unknown),
                kind => (kind, NameBytes::Entry(entry)),
            },
        };
        let value = string(block, value)?;
        let fact = words.read(kind, value);
        take(Field { kind, name: self.table.name(name), value: Some(value), fact: &fact });
        if insert {
            self.table.insert(kind, name, value, fact);
        }
        Ok(())
    }
}

/// A string, decoded into `memory` where it is Huffman-coded.
fn string<'a, 'b: 'a>(
    block: &mut &'b [u8],
    memory: &'a mut Vec<u8>,
) -> Result<&'a [u8], Malformed> {
    let is_coded = block.first().is_some_and(|first| first & 0x80 != 0);
    let length = integer::decode(block, 7)?;
    let (bytes, rest) = block.split_at_checked(length).ok_or(Malformed)?;
    *block = rest;
    if !is_coded {
        return Ok(bytes);
    }
    memory.clear();
    huffman::decode(bytes, memory)?;
    Ok(memory)
}

#[cfg(test)]
mod tests;
