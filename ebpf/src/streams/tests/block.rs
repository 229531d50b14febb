//! Which blocks leave the table, and what they are known by.

extern crate std;

use std::vec;
use std::vec::Vec;

use proptest::collection::vec as many;
use proptest::prelude::*;

use super::agent::tag;
use crate::event::{FLAG_END_HEADERS, FLAG_END_STREAM, FLAG_PADDED, FLAG_PRIORITY};
use crate::flow::Flow;
use crate::frames::{HEADER_BYTES, ITEMS, ITEMS_AT};
use crate::streams::block::{self, FIELDS, LONGEST, leaves, leaves_table, shape};

/// The same by the book.
fn reads(block: &[u8]) -> bool {
    let (mut rest, mut fields) = (block, 0);
    while let [first, behind @ ..] = rest {
        let behind = match first {
            0x81..=0xfe => Some(behind),
            0x00..=0x1f => literal(first & 0xf, behind),
            _ => None,
        };
        let Some(behind) = behind else { return false };
        (rest, fields) = (behind, fields + 1);
    }
    fields <= FIELDS && block.len() <= LONGEST as usize
}

fn literal(index: u8, bytes: &[u8]) -> Option<&[u8]> {
    let value = match index {
        0 => string(bytes)?,
        15 => match bytes {
            [0..=127, value @ ..] => value,
            _ => return None,
        },
        _ => bytes,
    };
    string(value)
}

fn string(bytes: &[u8]) -> Option<&[u8]> {
    let (length, bytes) = bytes.split_first()?;
    let length = usize::from(length & 127);
    if length == 127 { None } else { bytes.get(length..) }
}

/// What [`leaves_table`] says of a block at `begin`, among other bytes.
fn leaves_at(block: &[u8], begin: usize, around: u8) -> bool {
    // SAFETY: all zero is the state of a new flow.
    let mut flow: Flow = unsafe { core::mem::zeroed() };
    flow.buffer.fill(around);
    flow.buffer[begin..begin + block.len()].copy_from_slice(block);
    flow.at = u32::from(around);
    leaves_table(&mut flow, begin as u32, block.len() as u32) == 1
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    (many(any::<u8>(), 0..40), prop_oneof![Just(0u8), Just(0x80)])
        .prop_map(|(bytes, huffman)| [&[bytes.len() as u8 | huffman], &*bytes].concat())
}

/// A header that leaves the table.
fn field() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![Just(0u8), Just(0x10)];
    prop_oneof![
        4 => (1u8..127).prop_map(|index| vec![0x80 | index]),
        1 => (first.clone(), 1u8..15, text()).prop_map(|(first, index, value)| [&[first | index], &*value].concat()),
        1 => (first.clone(), 0u8..128, text())
            .prop_map(|(first, index, value)| [&[first | 15, index], &*value].concat()),
        1 => (first, text(), text()).prop_map(|(first, name, value)| [&[first], &*name, &value].concat()),
    ]
}

/// One that changes it, or is not looked at.
fn other() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (0x40u8..0x80, text()).prop_map(|(first, value)| [&[first], &*value].concat()),
        (0x20u8..0x40).prop_map(|size| vec![size]),
        Just(vec![0x80]),
        (0u8..128).prop_map(|more| vec![0xff, more]),
        (128u8..=255, text()).prop_map(|(more, value)| [&[15, more, 1], &*value].concat()),
        Just([&[4, 127, 0][..], &[b'x'; 127]].concat()),
        Just([&[0, 0xff, 0][..], &[b'x'; 127], &[1, b'v']].concat()),
    ]
}

fn fields() -> impl Strategy<Value = Vec<Vec<u8>>> {
    many(field(), 0..40).prop_map(|mut fields| {
        let mut length = 0;
        fields.retain(|field| {
            length += field.len();
            length <= LONGEST as usize + 2
        });
        fields
    })
}

#[test]
fn headers_that_are_named_or_spelt_out_leave_the_table() {
    let named: &[u8] = &[0x0f, 16, 2, b'o', b'k'];
    for block in [&[][..], &[0x82, 0xfe], &[4, 1, b'/'], &[0x14, 1, b'/'], named, &[0, 1, b'a', 0]]
    {
        assert!(leaves(block) && reads(block) && leaves_at(block, 57, 0xff), "{block:02x?}");
    }
    for block in [
        &[0x80][..],
        &[0xff, 0],
        &[0x44, 1, b'/'],
        &[0x40, 1, b'a', 1, b'b'],
        &[0x3f, 0xe1, 0x1f],
        &[0x20],
        &[0x0f, 0x80, 1, 1, b'a'],
        &[0x82, 4, 2, b'/'],
        &[0x82, 4],
        &[0],
    ] {
        assert!(!leaves(block) && !reads(block) && !leaves_at(block, 57, 0), "{block:02x?}");
    }
}

#[test]
fn as_many_headers_and_bytes_are_looked_at_as_is_said() {
    let (most, longest) = (FIELDS as usize, LONGEST as usize);
    let value = |length: usize| [&[4, length as u8][..], &vec![b'/'; length]].concat();
    assert!(leaves(&vec![0x82; most]) && leaves_at(&vec![0x82; most], 57, 0));
    assert!(!leaves(&vec![0x82; most + 1]) && !leaves_at(&vec![0x82; most + 1], 57, 0));
    assert!(leaves(&value(longest - 2)) && leaves_at(&value(longest - 2), 57, 0));
    assert!(!leaves(&value(longest - 1)));
}

#[test]
fn a_block_is_known_by_all_that_its_meaning_depends_on() {
    let block = [0x82, 4, 3, b'/', b'a', b'b', 0x86, 0x87, 0x88, 0x89];
    let known = tag(&block, 3, 0);
    assert_eq!(known, tag(&block, 3, 0));
    for length in 0..block.len() {
        assert_ne!(known, tag(&block[..length], 3, 0), "{length} bytes");
        let mut other = block;
        other[length] ^= 1;
        assert_ne!(known, tag(&other, 3, 0), "but for byte {length}");
    }
    for (version, direction) in [(2, 0), (4, 0), (3, 1), (0, 0), (7, 1), (u32::MAX, 0)] {
        assert_ne!(known, tag(&block, version, direction), "{version}, {direction}");
    }
    let word = |_: usize| 0x82;
    let of = |cookie| block::tag(1, cookie, (3, 0), word, super::recorder::key);
    assert_ne!(of(1), of(2), "of another connection");
}

#[test]
fn only_whole_blocks_without_anything_beside_them_have_the_shape() {
    assert_eq!(shape(FLAG_END_HEADERS), 0);
    assert_eq!(shape(FLAG_END_HEADERS | FLAG_END_STREAM), 0);
    for flags in
        [0, FLAG_END_STREAM, FLAG_END_HEADERS | FLAG_PADDED, FLAG_END_HEADERS | FLAG_PRIORITY]
    {
        assert_ne!(shape(flags), 0, "{flags}");
    }
}

/// Where the walks have a block in the buffer.
fn places() -> impl Strategy<Value = usize> {
    let most = ITEMS_AT + ITEMS - LONGEST as usize;
    prop_oneof![Just(ITEMS_AT + HEADER_BYTES as usize), ITEMS_AT..=most]
}

proptest! {
    #[test]
    fn blocks_are_read_by_the_book(fields in fields(), place in places(), around in any::<u8>()) {
        let block = fields.concat();
        prop_assert_eq!(leaves(&block), reads(&block));
        prop_assert_eq!(reads(&block), fields.len() <= 32 && block.len() <= 120);
        if block.len() <= LONGEST as usize {
            prop_assert_eq!(leaves_at(&block, place, around), reads(&block));
        }
    }

    #[test]
    fn one_header_that_changes_the_table_is_enough(
        before in many(field(), 0..4),
        other in other(),
        behind in many(field(), 0..4),
        place in places(),
        around in any::<u8>(),
    ) {
        let block = [before.concat(), other, behind.concat()].concat();
        prop_assert!(!leaves(&block) && !reads(&block), "{:02x?}", block);
        if block.len() <= LONGEST as usize {
            prop_assert!(!leaves_at(&block, place, around));
        }
    }

    #[test]
    fn blocks_that_break_off_are_read_by_the_book(
        fields in fields(), cut in any::<prop::sample::Index>(), place in places(), around in any::<u8>(),
    ) {
        let block = fields.concat();
        let block = &block[..cut.index(block.len() + 1)];
        prop_assert_eq!(leaves(block), reads(block));
        if block.len() <= LONGEST as usize {
            prop_assert_eq!(leaves_at(block, place, around), reads(block));
        }
    }

    #[test]
    fn any_bytes_are_read_by_the_book(
        bytes in many(prop_oneof![any::<u8>(), 0u8..32, 0x80u8..0xff], 0..=LONGEST as usize),
        place in places(),
        around in any::<u8>(),
    ) {
        prop_assert_eq!(leaves(&bytes), reads(&bytes));
        prop_assert_eq!(leaves_at(&bytes, place, around), reads(&bytes));
    }
}
