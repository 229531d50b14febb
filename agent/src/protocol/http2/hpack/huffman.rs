//! Huffman-coded strings (RFC 7541, section 5.2 and appendix B).
//!
//! The code is canonical: the lengths of its words say everything, so the tables are
//! made of them when this is compiled.

use super::Malformed;

/// The end of a string, which must not stand in one.
const END: usize = 256;
/// Longest word of the code, in bits.
const LONGEST: usize = 30;

/// Bits of each symbol's word, the end of a string last.
const LENGTHS: [u8; END + 1] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// What the lengths say.
struct Code {
    /// Symbols by length and value.
    symbols: [u16; END + 1],
    /// For each length: its first word, and how many there are.
    first: [u32; LONGEST + 1],
    count: [u32; LONGEST + 1],
    /// For each length: where its symbols begin.
    begin: [usize; LONGEST + 1],
    /// By the next eight bits: symbol and length of a word that is no longer; else 0.
    short: [(u8, u8); 256],
}

static CODE: Code = code();

#[expect(clippy::cast_possible_truncation, reason = "symbols below 256 are bytes")]
const fn code() -> Code {
    let mut code = Code {
        symbols: [0; END + 1],
        first: [0; LONGEST + 1],
        count: [0; LONGEST + 1],
        begin: [0; LONGEST + 1],
        short: [(0, 0); 256],
    };
    let (mut length, mut place, mut word) = (1, 0, 0_u32);
    while length <= LONGEST {
        word <<= 1;
        code.first[length] = word;
        code.begin[length] = place;
        let mut symbol = 0;
        while symbol <= END {
            if LENGTHS[symbol] as usize == length {
                code.symbols[place] = symbol as u16;
                place += 1;
                if length <= 8 {
                    let (mut at, behind) = ((word as usize) << (8 - length), 1 << (8 - length));
                    let end = at + behind;
                    while at < end {
                        code.short[at] = (symbol as u8, length as u8);
                        at += 1;
                    }
                }
                word += 1;
            }
            symbol += 1;
        }
        code.count[length] = word - code.first[length];
        length += 1;
    }
    code
}

/// Appends what `coded` stands for to `into`: at most eight fifths of its bytes.
///
/// # Errors
/// [`Malformed`]: the end of a string within it, or padding that is not its beginning.
pub(super) fn decode(coded: &[u8], into: &mut Vec<u8>) -> Result<(), Malformed> {
    into.reserve(coded.len() * 8 / 5 + 1);
    let mut rest = coded.iter();
    // Bits that were read and not understood yet, from the left.
    let (mut window, mut bits) = (0_u64, 0_u32);
    loop {
        while bits <= 56 {
            let Some(byte) = rest.next() else { break };
            window |= u64::from(*byte) << (56 - bits);
            bits += 8;
        }
        let (symbol, length) = word(window);
        if length > bits {
            break;
        }
        into.push(u8::try_from(symbol).map_err(|_| Malformed)?);
        window <<= length;
        bits -= length;
    }
    // What is left is the beginning of the end's word, which is all ones.
    let padding = bits < 8 && window == !(u64::MAX >> bits);
    if padding { Ok(()) } else { Err(Malformed) }
}

/// The word that `window` begins with: symbol and length.
#[inline]
fn word(window: u64) -> (u16, u32) {
    let (symbol, length) = CODE.short[(window >> 56) as usize];
    if length > 0 { (u16::from(symbol), u32::from(length)) } else { long_word(window) }
}

fn long_word(window: u64) -> (u16, u32) {
    for length in 9..=LONGEST {
        let word = u32::try_from(window >> (64 - length)).unwrap_or(u32::MAX);
        let place = word.wrapping_sub(CODE.first[length]);
        if place < CODE.count[length] {
            return (CODE.symbols[CODE.begin[length] + place as usize], length as u32);
        }
    }
    // The code is complete: there is no such word.
    (END as u16, LONGEST as u32)
}

#[cfg(test)]
pub(super) mod tests;
