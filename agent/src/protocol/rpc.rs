//! What makes an HTTP request a remote procedure call: its content type, and a few headers.

use std::io::Read as _;

use flate2::read::GzDecoder;
use meshtap_ebpf::event;
use serde_json::{Map, Value};

use super::exchange::rpc::{CODES, Traffic};
use super::{Rpc, RpcSystem};

/// What a content type says about calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Content {
    /// Nothing, or there is none.
    #[default]
    Other,
    /// `application/grpc`
    Grpc,
    /// `application/grpc-web`; its messages may be base64.
    GrpcWeb,
    /// `application/connect+…`: a stream.
    ConnectStream,
    /// `application/proto` or `application/json`: a call of Connect if another header says so.
    Unary,
}

impl Content {
    /// Of the value of `content-type`.
    #[must_use]
    pub fn of(value: &[u8]) -> Self {
        let value = value.trim_ascii();
        let end = value.iter().position(|byte| matches!(byte, b';' | b' ')).unwrap_or(value.len());
        let Some(kind) = strip(&value[..end], b"application/") else { return Self::Other };
        let is = |name: &[u8]| {
            strip(kind, name).is_some_and(|rest| matches!(rest.first(), None | Some(b'+')))
        };
        if is(b"grpc") {
            Self::Grpc
        } else if is(b"grpc-web") || is(b"grpc-web-text") {
            Self::GrpcWeb
        } else if is(b"connect") {
            Self::ConnectStream
        } else if kind.eq_ignore_ascii_case(b"proto") || kind.eq_ignore_ascii_case(b"json") {
            Self::Unary
        } else {
            Self::Other
        }
    }

    /// The system of a request with it; `connect`: it has a `connect-protocol-version`.
    #[must_use]
    pub fn system(self, connect: bool) -> Option<RpcSystem> {
        match self {
            Self::Grpc => Some(RpcSystem::Grpc),
            Self::GrpcWeb => Some(RpcSystem::GrpcWeb),
            Self::ConnectStream => Some(RpcSystem::Connect),
            Self::Unary | Self::Other => connect.then_some(RpcSystem::Connect),
        }
    }
}

impl Rpc {
    /// Of which only the kind is known.
    #[must_use]
    pub fn new(system: RpcSystem) -> Self {
        Self {
            system,
            status: None,
            request_messages: None,
            response_messages: None,
            timeout_ns: None,
            reported: Traffic::default(),
        }
    }
}

/// What begins everything that gzip packs.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Most bytes that are unpacked of a message which closes an answer.
const UNPACKED: u64 = 8 << 10;

/// gRPC's status in the message that closes an answer: of gRPC-Web a block of trailers, of
/// Connect JSON, which names an error if there was one. Either may be packed by gzip.
#[must_use]
pub fn closing_status(system: RpcSystem, words: &[u8]) -> Option<u32> {
    let mut unpacked = Vec::new();
    let words = if words.starts_with(&GZIP) {
        GzDecoder::new(words).take(UNPACKED).read_to_end(&mut unpacked).ok()?;
        &unpacked
    } else {
        words
    };
    match system {
        RpcSystem::Grpc => None,
        RpcSystem::GrpcWeb => trailer_status(words),
        RpcSystem::Connect => {
            let end: Map<String, Value> = serde_json::from_slice(words).ok()?;
            end.get("error").map_or(Some(0), |error| connect_code(error.get("code")?.as_str()?))
        }
    }
}

/// gRPC's status in bytes of a body by HTTP/1, as they are on the wire: in a message of the
/// kind that closes an answer, if it is whole and in one chunk.
#[must_use]
pub fn tail_status(system: RpcSystem, bytes: &[u8]) -> Option<u32> {
    let flag = match system {
        RpcSystem::Grpc => return None,
        RpcSystem::GrpcWeb => event::MESSAGE_CLOSING_WEB,
        RpcSystem::Connect => event::MESSAGE_CLOSING_CONNECT,
    };
    // The prefix of a message: a flag and the length.
    (0..bytes.len()).rev().find_map(|at| {
        let (first, rest) = bytes.get(at..)?.split_first()?;
        let (length, message) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (message, behind) = message.split_at_checked(length)?;
        // The body ends behind it, or the chunk.
        let ends = behind.is_empty() || behind.starts_with(b"\r\n");
        let closes = first & !event::MESSAGE_COMPRESSED == flag;
        if ends && closes { closing_status(system, message) } else { None }
    })
}

fn trailer_status(trailers: &[u8]) -> Option<u32> {
    trailers.split(|byte| *byte == b'\n').find_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        let (name, value) = line.split_at(colon);
        let is_status = name.trim_ascii().eq_ignore_ascii_case(b"grpc-status");
        if is_status { decimal(value.get(1..)?.trim_ascii()) } else { None }
    })
}

/// Connect has gRPC's codes under names of its own.
fn connect_code(name: &str) -> Option<u32> {
    let name = if name == "canceled" { "cancelled" } else { name };
    let code = CODES.iter().position(|code| code.eq_ignore_ascii_case(name))?;
    u32::try_from(code).ok()
}

/// Nanoseconds of a `grpc-timeout`: up to eight digits and a unit.
#[must_use]
pub fn timeout(value: &[u8]) -> Option<u64> {
    let (unit, digits) = value.split_last()?;
    let unit_ns = match unit {
        b'H' => 3_600_000_000_000,
        b'M' => 60_000_000_000,
        b'S' => 1_000_000_000,
        b'm' => 1_000_000,
        b'u' => 1_000,
        b'n' => 1,
        _ => return None,
    };
    let count = if digits.len() <= 8 { decimal(digits)? } else { return None };
    Some(u64::from(count).saturating_mul(unit_ns))
}

/// Digits only, at least one.
#[must_use]
pub fn decimal(digits: &[u8]) -> Option<u32> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u32::from(byte - b'0'));
    let add = |number: u32, byte| number.checked_mul(10)?.checked_add(digit(byte)?);
    if digits.is_empty() { None } else { digits.iter().try_fold(0, add) }
}

fn strip<'a>(bytes: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (begin, rest) = bytes.split_at_checked(prefix.len())?;
    begin.eq_ignore_ascii_case(prefix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::read::GzEncoder;

    use super::*;

    #[test]
    fn content_types() {
        for (value, content) in [
            ("application/grpc", Content::Grpc),
            ("application/grpc+proto", Content::Grpc),
            ("Application/GRPC;charset=utf-8", Content::Grpc),
            ("application/grpc-web+proto", Content::GrpcWeb),
            ("application/grpc-web-text", Content::GrpcWeb),
            ("application/connect+json", Content::ConnectStream),
            ("application/json; charset=utf-8", Content::Unary),
            ("application/proto", Content::Unary),
            ("application/grpcx", Content::Other),
            ("application/json-patch+json", Content::Other),
            ("text/html", Content::Other),
            ("", Content::Other),
        ] {
            assert_eq!(Content::of(value.as_bytes()), content, "{value}");
        }
        assert_eq!(Content::Unary.system(false), None);
        assert_eq!(Content::Other.system(true), Some(RpcSystem::Connect));
    }

    #[test]
    fn how_answers_end() {
        let web = |words: &str| closing_status(RpcSystem::GrpcWeb, words.as_bytes());
        assert_eq!(web("grpc-status:0\r\ngrpc-message:\r\n"), Some(0));
        assert_eq!(web("x: 1\r\nGrpc-Status: 14 \r\n"), Some(14));
        for wrong in ["", "grpc-status", "grpc-status:", "grpc-status:x", "xgrpc-status:1", "\n:"] {
            assert_eq!(web(wrong), None, "{wrong}");
        }
        let connect = |words: &str| closing_status(RpcSystem::Connect, words.as_bytes());
        assert_eq!(connect("{}"), Some(0));
        assert_eq!(connect(r#"{"metadata":{"a":["b"]}}"#), Some(0));
        assert_eq!(connect(r#"{"error":{"message":"a\"b","code":"canceled"}}"#), Some(1));
        assert_eq!(connect(r#"{"error":{"code":"failed_precondition"}}"#), Some(9));
        for wrong in [
            "",
            "{",
            r#"{"error":{"code":"odd"}}"#,
            r#"{"error":{}}"#,
            r#"{"error":null}"#,
            "[]",
            "7",
        ] {
            assert_eq!(connect(wrong), None, "{wrong}");
        }
        assert_eq!(closing_status(RpcSystem::Grpc, b"grpc-status:0"), None);
    }

    #[test]
    fn tails_of_bodies() {
        let message = |flag: u8, words: &str| {
            let length = u32::try_from(words.len()).expect("short").to_be_bytes();
            [&[flag], &length[..], words.as_bytes()].concat()
        };
        let end = message(0x80, "grpc-status:7\r\n");
        let web = |bytes: &[u8]| tail_status(RpcSystem::GrpcWeb, bytes);
        let before = [b"\r\n\r\n".to_vec(), message(0, "grpc-status:1")].concat();
        assert_eq!(web(&[&*before, &*end].concat()), Some(7));
        assert_eq!(web(&before), None, "a message like any other");
        assert_eq!(web(&end[1..]), None, "begins before what is seen");
        assert_eq!(web(&end[..end.len() - 1]), None, "ends behind it");
        assert_eq!(web(&[b"14\r\n", &*end, b"\r\n0;x=y\r\n"].concat()), Some(7));
        assert_eq!(web(&[&*end, b"x"].concat()), None, "more follows");
        for wrong in [&b""[..], b"0\r\n", b"\r\n0\r\n", b"\x80", b"\x80\0\0\0\0"] {
            assert_eq!(web(wrong), None);
        }
        let connect = |bytes: &[u8]| tail_status(RpcSystem::Connect, bytes);
        assert_eq!(connect(&message(2, "{}")), Some(0));
        assert_eq!(connect(&end), None);
    }

    #[test]
    fn packed_ends() {
        let pack = |words: &[u8]| {
            let mut packed = GzEncoder::new(words, Compression::best());
            let mut bytes = Vec::new();
            packed.read_to_end(&mut bytes).expect("packs");
            bytes
        };
        let connect = |bytes: &[u8]| closing_status(RpcSystem::Connect, bytes);
        let packed = pack(br#"{"error":{"code":"unavailable"}}"#);
        assert_eq!(connect(&packed), Some(14));
        assert_eq!(connect(&packed[..packed.len() - 1]), None, "not whole");
        let bomb = [b"{".to_vec(), vec![b' '; 1 << 20], b"}".to_vec()].concat();
        assert_eq!(connect(&pack(&bomb)), None, "no more than its beginning is unpacked");
    }

    #[test]
    fn timeouts() {
        assert_eq!(timeout(b"1S"), Some(1_000_000_000));
        assert_eq!(timeout(b"99999999H"), Some(u64::MAX));
        assert_eq!(timeout(b"20u"), Some(20_000));
        for wrong in ["", "S", "1", "123456789m", "-1S", "1s", "1.5S"] {
            assert_eq!(timeout(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn decimals() {
        assert_eq!(decimal(b"16"), Some(16));
        for wrong in ["", "4294967296", "1a", "+1"] {
            assert_eq!(decimal(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
