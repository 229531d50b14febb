//! HTTP/2 by hand (RFC 9113, RFC 7541): bytes of frames and of header blocks, legal or not.

/// What a client sends first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Flag of DATA and HEADERS: the sender's half ends.
pub const END_STREAM: u8 = 0x1;
/// Flag of HEADERS, CONTINUATION and PUSH_PROMISE: the header block ends.
pub const END_HEADERS: u8 = 0x4;
/// Flag: there is padding.
pub const PADDED: u8 = 0x8;
/// Flag of HEADERS: there is a priority.
pub const PRIORITY: u8 = 0x20;

/// HEADERS that are the whole of a message.
pub const WHOLE: u8 = END_STREAM | END_HEADERS;

/// A frame of any kind.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// DATA.
#[must_use]
pub fn data(stream: u32, flags: u8, body: &[u8]) -> Vec<u8> {
    frame(0, flags, stream, body)
}

/// DATA with `padding` zero bytes behind the body.
#[must_use]
pub fn padded_data(stream: u32, flags: u8, body: &[u8], padding: u8) -> Vec<u8> {
    data(stream, flags | PADDED, &padded(body, padding))
}

/// A payload between its padding's length and its padding.
#[must_use]
pub fn padded(payload: &[u8], padding: u8) -> Vec<u8> {
    let mut bytes = vec![padding];
    bytes.extend(payload);
    bytes.resize(bytes.len() + usize::from(padding), 0);
    bytes
}

/// HEADERS.
#[must_use]
pub fn headers(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(1, flags, stream, block)
}

/// PRIORITY.
#[must_use]
pub fn priority(stream: u32, depends_on: u32) -> Vec<u8> {
    let mut payload = depends_on.to_be_bytes().to_vec();
    payload.push(15);
    frame(2, 0, stream, &payload)
}

/// RST_STREAM.
#[must_use]
pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(3, 0, stream, &code.to_be_bytes())
}

/// SETTINGS.
#[must_use]
pub fn settings(entries: &[(u16, u32)]) -> Vec<u8> {
    let entry = |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(4, 0, 0, &entries.iter().flat_map(entry).collect::<Vec<u8>>())
}

/// The acknowledgement of SETTINGS.
#[must_use]
pub fn settings_ack() -> Vec<u8> {
    frame(4, 1, 0, &[])
}

/// PUSH_PROMISE with a whole header block.
#[must_use]
pub fn push_promise(stream: u32, promised: u32, block: &[u8]) -> Vec<u8> {
    frame(5, END_HEADERS, stream, &[&promised.to_be_bytes(), block].concat())
}

/// PING.
#[must_use]
pub fn ping(number: u64) -> Vec<u8> {
    frame(6, 0, 0, &number.to_be_bytes())
}

/// GOAWAY.
#[must_use]
pub fn goaway(last: u32, code: u32) -> Vec<u8> {
    frame(7, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

/// WINDOW_UPDATE.
#[must_use]
pub fn window_update(stream: u32, by: u32) -> Vec<u8> {
    frame(8, 0, stream, &by.to_be_bytes())
}

/// CONTINUATION.
#[must_use]
pub fn continuation(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(9, flags, stream, block)
}

/// An integer of RFC 7541, 5.1, in a byte whose upper bits are `pattern`.
fn integer(pattern: u8, bits: u8, value: usize) -> Vec<u8> {
    let most = (1_usize << bits) - 1;
    let byte = |value: usize| u8::try_from(value).unwrap_or(u8::MAX);
    if value < most {
        return vec![pattern | byte(value)];
    }
    let mut bytes = vec![pattern | byte(most)];
    let mut rest = value - most;
    while rest >= 128 {
        bytes.push(byte(rest % 128) | 128);
        rest /= 128;
    }
    bytes.push(byte(rest));
    bytes
}

fn string(text: &str) -> Vec<u8> {
    let mut bytes = integer(0, 7, text.len());
    bytes.extend(text.as_bytes());
    bytes
}

fn field(first: Vec<u8>, name: &str, value: &str) -> Vec<u8> {
    [first, string(name), string(value)].concat()
}

/// A field that no table keeps.
#[must_use]
pub fn literal(name: &str, value: &str) -> Vec<u8> {
    field(vec![0], name, value)
}

/// A field that no table may keep, on no way.
#[must_use]
pub fn never(name: &str, value: &str) -> Vec<u8> {
    field(vec![0x10], name, value)
}

/// A field that the dynamic table keeps.
#[must_use]
pub fn kept(name: &str, value: &str) -> Vec<u8> {
    field(vec![0x40], name, value)
}

/// A field that the dynamic table keeps, with its name by index.
#[must_use]
pub fn kept_by(index: usize, value: &str) -> Vec<u8> {
    [integer(0x40, 6, index), string(value)].concat()
}

/// A field by its index: up to 61 in the static table, from 62 on in the dynamic one.
#[must_use]
pub fn indexed(index: usize) -> Vec<u8> {
    integer(0x80, 7, index)
}

/// A field with its name by index and a value that is Huffman-coded already.
#[must_use]
pub fn huffman(index: usize, coded: &[u8]) -> Vec<u8> {
    [integer(0x40, 6, index), integer(0x80, 7, coded.len()), coded.to_vec()].concat()
}

/// A change of the dynamic table's size.
#[must_use]
pub fn resize(size: usize) -> Vec<u8> {
    integer(0x20, 5, size)
}

/// The header block of a request without a body, that no table keeps.
#[must_use]
pub fn request(method: &str, path: &str) -> Vec<u8> {
    [
        literal(":method", method),
        literal(":scheme", "http"),
        literal(":path", path),
        literal(":authority", "a.test"),
    ]
    .concat()
}

/// The header block of an answer.
#[must_use]
pub fn status(code: u16) -> Vec<u8> {
    literal(":status", &code.to_string())
}

/// The header block of a call by gRPC.
#[must_use]
pub fn call(method: &str) -> Vec<u8> {
    let more = [literal("content-type", "application/grpc"), literal("te", "trailers")];
    [request("POST", &format!("/{method}")), more.concat()].concat()
}

/// A message of gRPC, as a part of a body.
#[must_use]
pub fn message(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    [&[0][..], &length.to_be_bytes(), content].concat()
}

#[cfg(test)]
mod tests {
    use super::{data, indexed, integer, kept, padded_data, resize};

    /// The examples of RFC 7541, C.1 and C.2.
    #[test]
    fn blocks_are_those_of_the_standard() {
        assert_eq!(integer(0, 5, 10), [10]);
        assert_eq!(integer(0, 5, 1337), [31, 154, 10]);
        assert_eq!(integer(0, 8, 42), [42]);
        let example = b"\x40\x0acustom-key\x0dcustom-header";
        assert_eq!(kept("custom-key", "custom-header"), example);
        assert_eq!((indexed(2), resize(0)), (vec![0x82], vec![0x20]));
    }

    #[test]
    fn frames_are_those_of_the_standard() {
        assert_eq!(data(1, 1, b"ok"), b"\0\0\x02\0\x01\0\0\0\x01ok");
        assert_eq!(padded_data(3, 0, b"ok", 2), b"\0\0\x05\0\x08\0\0\0\x03\x02ok\0\0");
    }
}
