//! One JSON object a line, safe to show on a terminal.

use std::io;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter};

use super::render::is_hostile;

/// Appends `line` and a line feed.
pub fn write<T: Serialize>(line: &T, out: &mut Vec<u8>) {
    let before = out.len();
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, Escaping);
    if line.serialize(&mut serializer).is_err() {
        // A vector takes every byte and no field can fail; half a line must not stay all the same.
        out.truncate(before);
        return;
    }
    out.push(b'\n');
}

/// Escapes what JSON would let through and a terminal would obey.
struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut clean = 0;
        for (index, character) in fragment.char_indices().filter(|(_, c)| is_hostile(*c)) {
            writer.write_all(&fragment.as_bytes()[clean..index])?;
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            clean = index + character.len_utf8();
        }
        CompactFormatter.write_string_fragment(writer, &fragment[clean..])
    }
}
