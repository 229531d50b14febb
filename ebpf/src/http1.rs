//! HTTP/1 line by line: which lines are start lines, what a header line says of
//! the body. Decides over bytes; knows nothing of packets.

use crate::event;
use crate::flow::{
    CLASS_CLOSED, CLASS_CONNECT, CLASS_HEAD, CLASS_PLAIN, Flow, MARK_CHUNKED, MARK_ENCODED,
    MARK_HTTP10, MARK_INVALID, MARK_LENGTH, mode,
};

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;
const SPACES: u64 = 0x2020_2020_2020_2020;
/// Longest method that is recognised, with its space: a multiple of eight.
const METHOD: usize = 24;

/// [`begin_line`]: no such line may stand here.
pub const LINE_INVALID: u8 = 0;
/// It may.
pub const LINE_FINE: u8 = 1;
/// It is `Transfer-Encoding`: its end must be looked at, too.
pub const LINE_ENCODING: u8 = 2;

const fn word(bytes: [u8; 8]) -> u64 {
    u64::from_le_bytes(bytes)
}

/// The high bit of every byte that is no newline.
#[inline(always)]
#[must_use]
pub const fn no_newlines(word: u64) -> u64 {
    let zeroed = word ^ (ONES * b'\n' as u64);
    ((zeroed & !HIGHS).wrapping_add(!HIGHS) | zeroed) & HIGHS
}

/// Eight rows of eight bits, one a byte, with rows and columns exchanged: bit 8·r + c
/// becomes bit 8·c + r.
#[inline(always)]
#[must_use]
pub const fn transposed(bits: u64) -> u64 {
    // Hacker's Delight, 7-3: pairs, then fours, then halves change places.
    let pairs = (bits ^ (bits >> 7)) & 0x00aa_00aa_00aa_00aa;
    let bits = bits ^ pairs ^ (pairs << 7);
    let fours = (bits ^ (bits >> 14)) & 0x0000_cccc_0000_cccc;
    let bits = bits ^ fours ^ (fours << 14);
    let halves = (bits ^ (bits >> 28)) & 0x0000_0000_f0f0_f0f0;
    bits ^ halves ^ (halves << 28)
}

/// Number of the lowest bit that is set; `bits` must not be zero.
#[inline(always)]
#[must_use]
pub const fn lowest(bits: u64) -> u32 {
    const PAIRS: u64 = 0x5555_5555_5555_5555;
    const FOURS: u64 = 0x3333_3333_3333_3333;
    const EIGHTS: u64 = 0x0f0f_0f0f_0f0f_0f0f;
    // The machine has no instruction for it: counts the bits below.
    let below = (bits & bits.wrapping_neg()).wrapping_sub(1);
    let pairs = below - ((below >> 1) & PAIRS);
    let fours = (pairs & FOURS) + ((pairs >> 2) & FOURS);
    ((((fours + (fours >> 4)) & EIGHTS).wrapping_mul(ONES)) >> 56) as u32
}

/// The high bit of every byte that equals `byte`; above the first one there may be false ones.
#[inline(always)]
const fn find(word: u64, byte: u8) -> u64 {
    let zeroed = word ^ (ONES * byte as u64);
    zeroed.wrapping_sub(ONES) & !zeroed & HIGHS
}

/// How many bytes stand before the lowest one whose high bit is set; 8: none is.
#[inline(always)]
const fn bytes_before(highs: u64) -> u32 {
    if highs == 0 {
        return 8;
    }
    let below = (highs & highs.wrapping_neg()).wrapping_sub(1);
    ((below & ONES).wrapping_mul(ONES) >> 56) as u32 - 1
}

/// Whether the byte may stand in a method (RFC 9110 `tchar`).
#[inline(always)]
#[must_use]
pub const fn is_token(byte: u8) -> bool {
    // One bit per ASCII character, two words: a table in memory would need a map.
    const LOW: u64 = 0x03ff_6cfa_0000_0000;
    const HIGH: u64 = 0x57ff_ffff_c7ff_fffe;
    let bit = 1u64 << (byte & 63);
    match byte >> 6 {
        0 => LOW & bit != 0,
        1 => HIGH & bit != 0,
        _ => false,
    }
}

/// Looks at the beginning of a line, once per line, when either the whole line or
/// its first [`crate::flow::CARRY`] bytes stand in the buffer at `start`.
///
/// Returns one of the `LINE_*`.
#[inline(always)]
pub fn begin_line(flow: &mut Flow, start: usize, response: bool) -> u8 {
    let valid = match flow.mode {
        mode::START if response => begin_status_line(flow, start),
        mode::START => begin_request_line(flow, start),
        mode::HEADERS => return begin_header(flow, start),
        mode::CHUNK => begin_chunk(flow, start),
        _ => true,
    };
    if valid { LINE_FINE } else { LINE_INVALID }
}

/// Looks at the end of a start line, `end` being just behind its newline.
#[inline(always)]
pub fn end_start_line(flow: &mut Flow, end: usize, response: bool) -> bool {
    if response {
        return true;
    }
    let end = before_newline(flow, end);
    // "… HTTP/1.x": nine bytes with the space before them.
    let Some(start) = end.checked_sub(9) else { return false };
    let version = flow.word(start.wrapping_add(1));
    if flow.byte(start) != b' ' || version << 8 != word(*b"HTTP/1.\0") << 8 {
        return false;
    }
    version_digit(flow, (version >> 56) as u8)
}

/// Where a line ends without its newline and carriage return.
#[inline(always)]
fn before_newline(flow: &Flow, end: usize) -> usize {
    let end = end.wrapping_sub(1);
    if flow.byte(end.wrapping_sub(1)) == b'\r' { end.wrapping_sub(1) } else { end }
}

#[inline(always)]
fn version_digit(flow: &mut Flow, digit: u8) -> bool {
    if digit == b'0' {
        flow.marks |= MARK_HTTP10;
    }
    digit == b'0' || digit == b'1'
}

#[inline(always)]
fn begin_request_line(flow: &mut Flow, start: usize) -> bool {
    let first = flow.word(start);
    flow.class = if first == word(*b"CONNECT ") {
        CLASS_CONNECT
    } else if first << 24 == word(*b"HEAD \0\0\0") << 24 {
        CLASS_HEAD
    } else {
        CLASS_PLAIN
    };
    is_token(first as u8) && has_space(flow, start)
}

/// Whether a space stands among the first bytes of a request line. The rest of the
/// line is judged by its end, and the whole head once more in user space.
#[inline(always)]
fn has_space(flow: &Flow, start: usize) -> bool {
    let mut index = 0;
    while index < METHOD {
        if find(flow.word(start.wrapping_add(index)), b' ') != 0 {
            return true;
        }
        index += 8;
    }
    false
}

#[inline(always)]
fn begin_status_line(flow: &mut Flow, start: usize) -> bool {
    let first = flow.word(start);
    if first << 8 != word(*b"HTTP/1.\0") << 8 || !version_digit(flow, (first >> 56) as u8) {
        return false;
    }
    let second = flow.word(start.wrapping_add(8));
    let hundreds = ((second >> 8) as u8).wrapping_sub(b'0');
    let tens = ((second >> 16) as u8).wrapping_sub(b'0');
    let units = ((second >> 24) as u8).wrapping_sub(b'0');
    let after = (second >> 32) as u8;
    if second as u8 != b' ' || hundreds == 0 || hundreds > 9 || tens > 9 || units > 9 {
        return false;
    }
    flow.status = u16::from(hundreds) * 100 + u16::from(tens) * 10 + u16::from(units);
    after == b' ' || after == b'\r' || after == b'\n'
}

#[inline(always)]
fn begin_header(flow: &mut Flow, start: usize) -> u8 {
    let first = flow.word(start) | SPACES;
    if first == word(*b"content-") {
        let second = flow.word(start.wrapping_add(8)) | SPACES;
        if second << 8 == word(*b"length:\0") << 8 {
            read_length(flow, start.wrapping_add(15));
        } else if second << 24 == word(*b"type:\0\0\0") << 24 {
            read_type(flow, start.wrapping_add(13));
        }
    } else if first == word(*b"grpc-sta") {
        read_grpc_status(flow, start.wrapping_add(8));
    } else if first == word(*b"transfer") {
        let second = flow.word(start.wrapping_add(8)) | SPACES;
        let third = flow.word(start.wrapping_add(16)) | SPACES;
        if second == word(*b"-encodin") && third as u16 == u16::from_le_bytes(*b"g:") {
            flow.marks |= MARK_ENCODED;
            return LINE_ENCODING;
        }
    }
    LINE_FINE
}

/// Reads the value of `Content-Type`, as far as it tells how bodies end.
#[inline(always)]
fn read_type(flow: &mut Flow, start: usize) {
    let start = start.wrapping_add(usize::from(flow.byte(start) == b' '));
    let kind = flow.word(start.wrapping_add(8)) | SPACES;
    let rest = (flow.word(start.wrapping_add(16)) | SPACES) as u32;
    let web = kind == word(*b"ion/grpc") && rest == u32::from_le_bytes(*b"-web");
    let connect = kind == word(*b"ion/conn") && rest == u32::from_le_bytes(*b"ect+");
    let application = flow.word(start) | SPACES == word(*b"applicat");
    if application && (web || connect) && flow.class == CLASS_PLAIN {
        flow.class = CLASS_CLOSED;
    }
}

/// Reads `grpc-status`, of which the name's end stands at `start`: one or two digits.
#[inline(always)]
fn read_grpc_status(flow: &mut Flow, start: usize) {
    let rest = flow.word(start);
    if (rest | SPACES) as u32 != u32::from_le_bytes(*b"tus:") {
        return;
    }
    let value = if (rest >> 32) as u8 == b' ' { rest >> 40 } else { rest >> 32 };
    let (first, second) = ((value as u8).wrapping_sub(b'0'), (value >> 8) as u8);
    let single = second == b'\r' || second == b'\n';
    let second = second.wrapping_sub(b'0');
    let behind = (value >> 16) as u8;
    if first <= 9 && single {
        flow.grpc_status = first + 1;
    } else if first <= 9 && second <= 9 && (behind == b'\r' || behind == b'\n') {
        flow.grpc_status = first * 10 + second + 1;
    }
}

/// Reads `Content-Length`; anything but one number marks the head invalid.
///
/// No loop over the digits: every path through one would be verified for every step.
#[inline(always)]
fn read_length(flow: &mut Flow, start: usize) {
    let blanks = blanks_at(flow, start);
    let start = start.wrapping_add(blanks as usize);
    let (high, low) = (flow.word(start), flow.word(start.wrapping_add(8)));
    let (upper, lower) = (digits(high), digits(low));
    let (value, count) = if upper < 8 {
        (number(high, upper), upper)
    } else {
        (number(high, 8).wrapping_mul(power(lower)).wrapping_add(number(low, lower)), 8 + lower)
    };
    let behind = start.wrapping_add(count as usize);
    let after = flow.byte(behind.wrapping_add(blanks_at(flow, behind) as usize));
    let ended = after == b'\r' || after == b'\n';
    let again = flow.marked(MARK_LENGTH) && flow.length != value;
    if !ended || count == 0 || count > 15 || blanks > 7 || again {
        flow.marks |= MARK_INVALID;
    }
    flow.length = value;
    flow.marks |= MARK_LENGTH;
}

/// How many blanks stand at `start`; more than eight are not counted.
#[inline(always)]
fn blanks_at(flow: &Flow, start: usize) -> u32 {
    let word = flow.word(start);
    bytes_before(!(find(word, b' ') | find(word, b'\t')) & HIGHS)
}

/// How many of a word's first bytes are decimal digits.
#[inline(always)]
const fn digits(word: u64) -> u32 {
    let shifted = word ^ (ONES * 0x30);
    // A byte above 9 reaches its high bit when 0x76 is added; a carry from the byte
    // below can only come from one that is no digit itself.
    let others = (shifted & !HIGHS).wrapping_add(ONES * 0x76) | shifted;
    bytes_before(others & HIGHS)
}

/// The number that a word's first `count` digits write.
#[inline(always)]
const fn number(word: u64, count: u32) -> u64 {
    if count == 0 {
        return 0;
    }
    let aligned = (word ^ (ONES * 0x30)) << (64 - count * 8);
    let pairs = aligned.wrapping_mul(10).wrapping_add(aligned >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_ffff_0000_ffff;
    fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xffff_ffff
}

/// Ten to the power of `exponent`, up to 8.
#[inline(always)]
const fn power(exponent: u32) -> u64 {
    let mut value = 1;
    if exponent & 1 != 0 {
        value = 10;
    }
    if exponent & 2 != 0 {
        value *= 100;
    }
    if exponent & 4 != 0 {
        value *= 10_000;
    }
    if exponent & 8 != 0 {
        value *= 100_000_000;
    }
    value
}

/// Looks at the end of a header line that named `Transfer-Encoding`: chunked must stand last.
#[inline(always)]
pub fn end_encoding(flow: &mut Flow, end: usize) {
    let end = before_newline(flow, end);
    // ':' or a separator, then "chunked": eight bytes.
    let last = flow.word(end.wrapping_sub(8));
    let separator = last as u8;
    let named = (last | SPACES) >> 8 == word(*b"chunked\0");
    if named && matches!(separator, b' ' | b':' | b',' | b'\t') {
        flow.marks |= MARK_CHUNKED;
    } else {
        flow.marks &= !MARK_CHUNKED;
    }
}

/// Reads a chunk's size: up to eight digits.
#[inline(always)]
fn begin_chunk(flow: &mut Flow, start: usize) -> bool {
    let (value, count) = hexadecimal(flow.word(start));
    flow.length = value;
    let after = flow.byte(start.wrapping_add(count as usize));
    count > 0 && matches!(after, b'\r' | b'\n' | b';' | b' ' | b'\t')
}

/// The number that a word's leading hexadecimal digits write, and how many they are.
///
/// No loop over the digits: every path through one would be verified for every step.
#[inline(always)]
const fn hexadecimal(word: u64) -> (u64, u32) {
    let digits = word ^ (ONES * 0x30);
    let no_digit = (digits & !HIGHS).wrapping_add(ONES * 0x76) | digits;
    // a to f become 1 to 6.
    let letters = (word | SPACES) ^ (ONES * 0x60);
    let above = (letters & !HIGHS).wrapping_add(ONES * 0x79) | letters;
    let below = !((letters & !HIGHS).wrapping_add(!HIGHS) | letters);
    let no_letter = (above | below) & HIGHS;
    let count = bytes_before(no_digit & no_letter);
    if count == 0 {
        return (0, 0);
    }
    let is_letter = ((no_letter ^ HIGHS) >> 7).wrapping_mul(0xff);
    let values =
        ((digits & !is_letter) | ((letters & is_letter) + ((ONES * 9) & is_letter))) & (ONES * 15);
    let aligned = values << (64 - count * 8);
    let pairs = ((aligned << 4) | (aligned >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = ((pairs << 8) | (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    (((fours << 16) | (fours >> 32)) & 0xffff_ffff, count)
}

/// How the body of the message whose head has just ended is framed (RFC 9112 §6.3).
///
/// `answered` is the class of the request that a response answers.
#[inline(always)]
#[must_use]
pub fn framing(flow: &Flow, response: bool, answered: u8) -> u8 {
    if response {
        let status = flow.status;
        let tunnel = status == 101 || (answered == CLASS_CONNECT && status / 100 == 2);
        if tunnel {
            return event::FRAMING_TUNNEL;
        }
        if answered == CLASS_HEAD || status < 200 || status == 204 || status == 304 {
            return event::FRAMING_NONE;
        }
    }
    if flow.marked(MARK_CHUNKED) {
        event::FRAMING_CHUNKED
    } else if flow.marked(MARK_ENCODED) {
        // Another coding stands last: a response lasts until close, a request cannot be read.
        if response { event::FRAMING_CLOSE } else { event::FRAMING_UNKNOWN }
    } else if flow.marked(MARK_INVALID) {
        event::FRAMING_UNKNOWN
    } else if flow.marked(MARK_LENGTH) {
        if flow.length == 0 { event::FRAMING_NONE } else { event::FRAMING_LENGTH }
    } else if response {
        event::FRAMING_CLOSE
    } else {
        event::FRAMING_NONE
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::format;

    use super::*;
    use crate::flow::WINDOW_START;

    fn flow_of(bytes: &[u8], mode: u8) -> Flow {
        let mut flow = crate::walk::tests::new_flow();
        flow.buffer[WINDOW_START..WINDOW_START + bytes.len()].copy_from_slice(bytes);
        flow.mode = mode;
        flow
    }

    #[test]
    fn tokens_are_those_of_the_standard() {
        for byte in 0..=255u8 {
            let expected = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            assert_eq!(is_token(byte), expected, "{byte}");
        }
    }

    #[test]
    fn newlines_are_found_at_every_place() {
        for places in (0..64).map(|place| 1u64 << place).chain([0, u64::MAX, 0x8001_4002_2004_1008])
        {
            for other in [0x0b, 0x09, 0x00, 0x8a, 0xff] {
                let mut flow = crate::walk::tests::new_flow();
                for place in 0..64 {
                    let is_newline = places & (1 << place) != 0;
                    flow.buffer[WINDOW_START + place] = if is_newline { b'\n' } else { other };
                }
                assert_eq!(flow.newlines_from(WINDOW_START), places, "{other:#x}");
            }
        }
    }

    #[test]
    fn the_lowest_bit_is_numbered() {
        for number in 0..64 {
            assert_eq!(lowest(1 << number), number);
            assert_eq!(lowest(u64::MAX << number), number);
        }
    }

    #[test]
    fn request_lines() {
        for (line, valid, class) in [
            (&b"GET / HTTP/1.1\r\n"[..], true, CLASS_PLAIN),
            (b"HEAD /x HTTP/1.0\n", true, CLASS_HEAD),
            (b"CONNECT a:1 HTTP/1.1\r\n", true, CLASS_CONNECT),
            (b"M-SEARCH * HTTP/1.1\r\n", true, CLASS_PLAIN),
            (b"GET /\r\n", false, CLASS_PLAIN),
            (b"GET / HTTP/2.0\r\n", false, CLASS_PLAIN),
            (b"GET / HTTP/1.2\r\n", false, CLASS_PLAIN),
            (b"\x16\x03\x01 HTTP/1.1\r\n", false, CLASS_PLAIN),
            (b" / HTTP/1.1\r\n", false, CLASS_PLAIN),
        ] {
            let mut flow = flow_of(line, mode::START);
            let begun = begin_line(&mut flow, WINDOW_START, false) == LINE_FINE;
            let ended = end_start_line(&mut flow, WINDOW_START + line.len(), false);
            assert_eq!(begun && ended, valid, "{line:?}");
            assert_eq!(flow.class, class, "{line:?}");
        }
    }

    #[test]
    fn status_lines() {
        for (line, status) in [
            (&b"HTTP/1.1 200 OK\r\n"[..], Some(200)),
            (b"HTTP/1.0 404\r\n", Some(404)),
            (b"HTTP/1.1 099 No\r\n", None),
            (b"HTTP/1.1 20 OK\r\n", None),
            (b"HTTP/1.1 2000 OK\r\n", None),
            (b"HTTP/1.1  200 OK\r\n", None),
            (b"HTTP/2.0 200 OK\r\n", None),
        ] {
            let mut flow = flow_of(line, mode::START);
            let valid = begin_line(&mut flow, WINDOW_START, true) == LINE_FINE;
            assert_eq!(valid.then_some(flow.status), status, "{line:?}");
        }
    }

    #[test]
    fn lengths() {
        for (line, length) in [
            (&b"Content-Length: 42\r\n"[..], Some(42)),
            (b"CONTENT-LENGTH:0\r\n", Some(0)),
            (b"content-length:  7 \r\n", Some(7)),
            (b"content-length: 12345678\r\n", Some(12_345_678)),
            (b"content-length:\t1234567890123\n", Some(1_234_567_890_123)),
            (b"content-length: 7a\r\n", None),
            (b"content-length: 7 7\r\n", None),
            (b"content-length: -1\r\n", None),
            (b"content-length: 5, 5\r\n", None),
            (b"content-length: \r\n", None),
            (b"content-length: 1234567890123456\r\n", None),
        ] {
            let mut flow = flow_of(line, mode::HEADERS);
            begin_line(&mut flow, WINDOW_START, false);
            assert!(flow.marked(MARK_LENGTH));
            let read = (!flow.marked(MARK_INVALID)).then_some(flow.length);
            assert_eq!(read, length, "{line:?}");
        }
    }

    #[test]
    fn encodings() {
        for (line, chunked) in [
            (&b"Transfer-Encoding: chunked\r\n"[..], true),
            (b"transfer-encoding:CHUNKED\n", true),
            (b"transfer-encoding: gzip, chunked\r\n", true),
            (b"transfer-encoding: chunked, gzip\r\n", false),
            (b"transfer-encoding: xchunked\r\n", false),
        ] {
            let mut flow = flow_of(line, mode::HEADERS);
            begin_line(&mut flow, WINDOW_START, false);
            assert!(flow.marked(MARK_ENCODED), "{line:?}");
            end_encoding(&mut flow, WINDOW_START + line.len());
            assert_eq!(flow.marked(MARK_CHUNKED), chunked, "{line:?}");
        }
    }

    #[test]
    fn hexadecimal_numbers_are_read() {
        for number in (0..0x1_0000u64).chain([0xffff_ffff, 0x1234_abcd, 0x8000_0000]) {
            for text in [format!("{number:x}"), format!("{number:X}"), format!("{number:08x}")] {
                for end in [b'\r', b';', b'g', b'@', b'`', b'/', b':', 0, 0xb1] {
                    let mut bytes = [end; 8];
                    bytes[..text.len()].copy_from_slice(text.as_bytes());
                    let (value, count) = hexadecimal(u64::from_le_bytes(bytes));
                    assert_eq!((value, count as usize), (number, text.len()), "{bytes:?}");
                }
            }
        }
        assert_eq!(hexadecimal(word(*b"xyz 1234")).1, 0);
    }

    #[test]
    fn chunk_sizes() {
        for (line, size) in [
            (&b"0\r\n"[..], Some(0)),
            (b"1aF;x=y\r\n", Some(0x1af)),
            (b"10 \r\n", Some(16)),
            (b"fFFFfffe\r\n", Some(0xffff_fffe)),
            (b"\r\n", None),
            (b"g\r\n", None),
            (b"111111111\r\n", None),
        ] {
            let mut flow = flow_of(line, mode::CHUNK);
            let valid = begin_line(&mut flow, WINDOW_START, false) == LINE_FINE;
            assert_eq!(valid.then_some(flow.length), size, "{line:?}");
        }
    }
}
