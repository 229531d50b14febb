//! Blocks of headers (RFC 7541, section 6): whether one leaves the table as it was, and what
//! it is known by.

use core::ptr::{read_volatile, write_volatile};

use crate::event::{FLAG_END_HEADERS, FLAG_PADDED, FLAG_PRIORITY};
use crate::flow::{Flow, opaque};
use crate::repeat::{self, WORDS};

/// Longest block of headers that is looked at.
pub const LONGEST: u32 = 120;
/// Headers of a block that are looked at.
pub const FIELDS: u32 = 32;
/// Where a block may stand in a flow's buffer.
const REACH: usize = 256;
/// Beyond the end of any block.
const NEVER: u32 = 1 << 16;

/// Where the header that follows the one at `at` begins; beyond any block where it would
/// change the table, or is longer than what is looked at.
///
/// In numbers: the verifier would follow each answer to a question through all headers.
#[inline(always)]
#[must_use]
pub fn next(at: u32, byte: impl Fn(u32) -> u8) -> u32 {
    let first = u32::from(byte(at));
    let at = at.wrapping_add(1);
    let indexed = first >> 7;
    // The index of a header: one of 127 or more goes on, 0 is none. The first two bits of a
    // literal say that it is to be inserted, or a size.
    let wrong = is(first, 0x80) | is(first, 0xff) | ((1 ^ indexed) & (first >> 5 | first >> 6) & 1);
    let (index, second) = (first & 0xf, u32::from(byte(at)));
    let long = is(index, 0xf);
    let (name, unnamed) = (at.wrapping_add(long), is(index, 0));
    let value = name.wrapping_add(unnamed.wrapping_mul(string(name, &byte)));
    let behind = value.wrapping_add(string(value, &byte));
    let behind = behind.wrapping_add((long & second >> 7).wrapping_mul(NEVER));
    let behind = at.wrapping_add((1 ^ indexed).wrapping_mul(behind.wrapping_sub(at)));
    behind.wrapping_add(wrong.wrapping_mul(NEVER))
}

/// Bytes of a string with its length; those of 127 or more are longer than what is looked at.
#[inline(always)]
fn string(at: u32, byte: &impl Fn(u32) -> u8) -> u32 {
    let length = u32::from(byte(at)) & 0x7f;
    length.wrapping_add(1).wrapping_add(is(length, 0x7f).wrapping_mul(NEVER))
}

/// 1 where two small numbers are the same.
#[inline(always)]
fn is(a: u32, b: u32) -> u32 {
    let differs = opaque((a ^ b) as usize) as u32;
    opaque((differs.wrapping_sub(1) >> 31) as usize) as u32
}

/// 1 where the `length` bytes at `begin` of the flow's buffer leave the table as it was, as far as
/// that can be told. Where the next header stands is kept in memory, of which the verifier
/// remembers nothing: it would follow every length.
#[inline(always)]
#[must_use]
pub fn leaves_table(flow: &mut Flow, begin: u32, length: u32) -> u32 {
    flow.at = 0;
    let mut fields = 0;
    while fields < FIELDS {
        // SAFETY: a field of the flow.
        let at = unsafe { read_volatile(&raw const flow.at) };
        if at >= length {
            break;
        }
        let next = next(at, |at| flow.buffer[opaque(begin.wrapping_add(at) as usize) % REACH]);
        // SAFETY: as above.
        unsafe { write_volatile(&raw mut flow.at, next) };
        fields += 1;
    }
    // SAFETY: as above.
    is(unsafe { read_volatile(&raw const flow.at) }, length)
}

/// The same of a block by itself.
#[must_use]
pub fn leaves(block: &[u8]) -> bool {
    let mut at = 0;
    for _ in 0..FIELDS {
        if at as usize >= block.len() {
            break;
        }
        at = next(at, |at| block.get(at as usize).copied().unwrap_or_default());
    }
    at as usize == block.len() && block.len() <= LONGEST as usize
}

/// 0 where the flags are those of a frame that is a block and nothing else.
#[inline(always)]
#[must_use]
pub const fn shape(flags: u8) -> u32 {
    (flags & (FLAG_END_HEADERS | FLAG_PADDED | FLAG_PRIORITY) ^ FLAG_END_HEADERS) as u32
}

/// What a block is known by that leaves the table, which is of this version, in this
/// direction.
#[inline(always)]
#[must_use]
pub fn tag(
    length: u32,
    cookie: u64,
    (version, direction): (u32, u8),
    word: impl Fn(usize) -> u64,
    key: impl Fn(usize) -> u64,
) -> u64 {
    let table = (version as u64) << 1 | direction as u64;
    let table = table.wrapping_add(1).wrapping_mul(key(WORDS + 2) | 1);
    let tag = repeat::tag(length, cookie, word, key).wrapping_add(table);
    if tag == 0 { 1 } else { tag }
}
