//! What makes an HTTP request a remote procedure call: its content type, and a few headers.

use super::exchange::rpc::Traffic;
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
