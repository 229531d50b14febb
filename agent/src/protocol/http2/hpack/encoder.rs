//! An encoder for tests: obeys the standard, in whatever way it is told to.

use std::collections::VecDeque;

use super::{fixed, huffman};

/// How a header is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol) enum Manner {
    /// By its index where it has one, else inserted.
    Usual,
    /// Inserted, even if it is there.
    Insert,
    /// Not inserted.
    Plain,
    /// Never to be inserted.
    Never,
}

/// One direction's encoder.
#[derive(Clone, Debug)]
pub(in crate::protocol) struct Encoder {
    /// The newest is the first.
    table: VecDeque<(Vec<u8>, Vec<u8>)>,
    size: usize,
    limit: usize,
    /// Whether strings are Huffman-coded.
    pub(in crate::protocol) coded: bool,
}

impl Encoder {
    pub(in crate::protocol) fn new() -> Self {
        Self { table: VecDeque::new(), size: 0, limit: 4_096, coded: true }
    }

    /// A block of headers in the usual manner.
    pub(in crate::protocol) fn block(&mut self, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in headers {
            self.field(&mut block, name.as_bytes(), value.as_bytes(), Manner::Usual);
        }
        block
    }

    pub(in crate::protocol) fn resize(&mut self, block: &mut Vec<u8>, limit: usize) {
        integer(block, 0x20, 5, limit);
        self.limit = limit;
        self.evict(0);
    }

    pub(in crate::protocol) fn field(
        &mut self,
        block: &mut Vec<u8>,
        name: &[u8],
        value: &[u8],
        manner: Manner,
    ) {
        let fixed = fixed::TABLE.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let own = self.table.iter().map(|(name, value)| (&name[..], &value[..]));
        let all: Vec<_> = fixed.chain(own).collect();
        let whole = all.iter().position(|header| *header == (name, value));
        if let (Some(index), Manner::Usual) = (whole, manner) {
            integer(block, 0x80, 7, index + 1);
            return;
        }
        let index = all.iter().position(|header| header.0 == name).map_or(0, |index| index + 1);
        let (first, prefix) = match manner {
            Manner::Usual | Manner::Insert => (0x40, 6),
            Manner::Plain => (0, 4),
            Manner::Never => (0x10, 4),
        };
        integer(block, first, prefix, index);
        if index == 0 {
            self.string(block, name);
        }
        self.string(block, value);
        if first == 0x40 {
            let size = name.len() + value.len() + 32;
            self.evict(size);
            if size <= self.limit {
                self.size += size;
                self.table.push_front((name.to_vec(), value.to_vec()));
            }
        }
    }

    fn evict(&mut self, room: usize) {
        while self.size + room > self.limit {
            let Some((name, value)) = self.table.pop_back() else { break };
            self.size -= name.len() + value.len() + 32;
        }
    }

    fn string(&self, block: &mut Vec<u8>, text: &[u8]) {
        if self.coded {
            let coded = huffman::tests::encode(text);
            integer(block, 0x80, 7, coded.len());
            block.extend(coded);
        } else {
            integer(block, 0, 7, text.len());
            block.extend_from_slice(text);
        }
    }
}

fn integer(block: &mut Vec<u8>, first: u8, prefix: u32, value: usize) {
    let most = (1 << prefix) - 1;
    if value < most {
        block.push(first | u8::try_from(value).unwrap());
        return;
    }
    block.push(first | u8::try_from(most).unwrap());
    let mut rest = value - most;
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}
