//! What a segment of a path is by its looks alone: a number, an id, a date, or a word.
//!
//! Refuses to be clever: words, versions (`v2`, `1.4.0`) and slugs stay what they are;
//! if there are too many of them, the learner sees that.

/// Segments longer than this are no names of anything.
const WORD_MAX: usize = 64;
/// Hexadecimal digits from which a mixture of letters and digits is a hash.
const HASH_MIN: usize = 8;
/// Characters from which a mixture of cases and digits is a token.
const TOKEN_MIN: usize = 10;
/// Characters from which letters interleaved with digits are a token.
const LONG_TOKEN_MIN: usize = 16;
/// Longest ending (`.json`) that is kept behind a parameter.
const ENDING_MAX: usize = 5;

/// The parameter that stands for this segment; `None`: it stands for itself.
#[must_use]
pub fn parameter(segment: &str) -> Option<&'static str> {
    let bytes = segment.as_bytes();
    let first = bytes.first()?;
    // Most segments are short lower-case words.
    if bytes.len() < HASH_MIN && first.is_ascii_alphabetic() && !bytes.contains(&b'@') {
        return None;
    }
    if bytes.iter().all(u8::is_ascii_digit) {
        return Some("{id}");
    }
    if is_uuid(bytes) {
        return Some("{uuid}");
    }
    if is_date(bytes) {
        return Some("{date}");
    }
    if is_email(segment) {
        return Some("{email}");
    }
    if segment.parse::<std::net::Ipv4Addr>().is_ok() {
        return Some("{ip}");
    }
    if is_hash(bytes) {
        return Some("{hash}");
    }
    if is_token(bytes) {
        return Some("{token}");
    }
    if bytes.len() > WORD_MAX {
        return Some("{param}");
    }
    None
}

/// Splits `123.json` into what may be a parameter and the ending, dot included.
#[must_use]
pub fn split_ending(segment: &str) -> (&str, &str) {
    let Some(dot) = segment.rfind('.').filter(|dot| *dot > 0) else { return (segment, "") };
    let (stem, ending) = segment.split_at(dot);
    let letters = &ending.as_bytes()[1..];
    let is_ending = (1..=ENDING_MAX).contains(&letters.len())
        && letters[0].is_ascii_alphabetic()
        && letters.iter().all(u8::is_ascii_alphanumeric);
    if is_ending && !stem.contains('@') { (stem, ending) } else { (segment, "") }
}

fn is_uuid(bytes: &[u8]) -> bool {
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// `2024-02-29`, with `/`-free separators, and ISO 8601 times that begin with it.
fn is_date(bytes: &[u8]) -> bool {
    let Some((date, rest)) = bytes.split_at_checked(10) else { return false };
    let shape = date.iter().enumerate().all(|(index, byte)| match index {
        4 | 7 => matches!(byte, b'-' | b'.' | b'_'),
        _ => byte.is_ascii_digit(),
    });
    let plausible = matches!(&date[5..7], [b'0', b'1'..=b'9'] | [b'1', b'0'..=b'2'])
        && matches!(&date[8..10], [b'0', b'1'..=b'9'] | [b'1' | b'2', _] | [b'3', b'0' | b'1']);
    shape && plausible && rest.first().is_none_or(|byte| matches!(byte, b'T' | b't' | b' ' | b'%'))
}

fn is_email(segment: &str) -> bool {
    let at = segment.find('@').map(|at| (at, 1));
    let at = at.or_else(|| segment.find("%40").map(|at| (at, 3)));
    at.is_some_and(|(at, width)| {
        let domain = &segment[at + width..];
        at > 0 && domain.contains('.') && !domain.starts_with('.') && !domain.ends_with('.')
    })
}

fn is_hash(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"0x").unwrap_or(bytes);
    bytes.len() >= HASH_MIN
        && bytes.iter().all(u8::is_ascii_hexdigit)
        && bytes.iter().any(u8::is_ascii_digit)
}

/// Base64 and its relatives: no word has letters and digits, or cases and digits, in such a mixture.
fn is_token(bytes: &[u8]) -> bool {
    let allowed = |byte: &u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'_' | b'+' | b'=' | b'~' | b'.' | b'%')
    };
    if bytes.len() < TOKEN_MIN || !bytes.iter().all(allowed) {
        return false;
    }
    let count = |is: fn(&u8) -> bool| bytes.iter().filter(|byte| is(byte)).count();
    let digits = count(u8::is_ascii_digit);
    let upper = count(u8::is_ascii_uppercase);
    let lower = count(u8::is_ascii_lowercase);
    let separators = bytes.len() - digits - upper - lower;
    // Runs of digits that touch a letter: `http2-and-http3` has two, a random text many.
    let changes = bytes
        .windows(2)
        .filter(|pair| {
            (pair[0].is_ascii_digit() && pair[1].is_ascii_alphabetic())
                || (pair[0].is_ascii_alphabetic() && pair[1].is_ascii_digit())
        })
        .count();
    let mixes_cases = upper >= 2 && lower >= 2 && digits >= 1 && changes >= 3 && separators <= 2;
    let is_long = bytes.len() >= LONG_TOKEN_MIN && digits >= 3 && changes >= 4;
    mixes_cases || is_long
}
