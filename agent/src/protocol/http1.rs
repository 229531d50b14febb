//! The head of an HTTP/1 request, whole or cut: what leaves this file is all that is ever kept of it.
//!
//! Refuses to judge: the kernel half has framed the message, so whatever can be read
//! is read and what cannot is missing. **No query, fragment, user information or
//! header value other than those of [`RequestHead`] leaves this file, and no control
//! character**: [`text`] is the one place where bytes of the wire become [`Text`].

use std::mem::MaybeUninit;
use std::sync::Arc;

use httparse::{EMPTY_HEADER, Header, ParserConfig, Request, Status};

use super::agent_class;
use super::exchange::{AgentClass, Text};
use super::relayed::Relayed;
use super::rpc::Content;
use super::trace_context::Carrier;

/// Longest `x-request-id` that is kept; a longer one is left out, since a part of an id is another id.
pub const REQUEST_ID_MAX: usize = 128;
/// Longest authority that is kept: a DNS name, a colon, a port. A longer one is no authority.
pub const AUTHORITY_MAX: usize = 253 + 1 + 5;

/// Headers of a whole head that are read without further ado.
const HEADERS: usize = 48;
/// Headers that are read at the most; those behind them are missing and the head counts as cut.
const HEADERS_MAX: usize = 256;

/// What is kept of a request's head, still in the bytes it was read from.
#[derive(Clone, Debug, Default)]
pub struct RequestHead<'a> {
    /// Empty where even the start line's first word is missing.
    pub method: &'a [u8],
    /// Without query and fragment. `host:port` for CONNECT, `*` for an asterisk target.
    pub path: &'a [u8],
    /// Of an absolute-form target or of CONNECT, else `Host`; may be empty.
    pub authority: &'a [u8],
    /// `x-request-id`.
    pub request_id: Option<&'a [u8]>,
    /// What a mesh's proxy says of it.
    pub relayed: Relayed,
    /// Headers with trace context.
    pub carrier: Carrier<'a>,
    /// By `User-Agent`.
    pub agent: AgentClass,
    /// By `Content-Type`.
    pub content: Content,
    /// It has a `Connect-Protocol-Version`.
    pub connect: bool,
    /// It asks for HTTP/2 by `Upgrade: h2c`.
    pub h2c: bool,
    /// Not everything up to the empty line could be read.
    pub cut: bool,
}

/// Reads what stands in `bytes`, the beginning of a request.
#[must_use]
pub fn parse(bytes: &[u8]) -> RequestHead<'_> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS];
    let mut request = Request::new(&mut []);
    let parsed = config().parse_request_with_uninit_headers(&mut request, bytes, &mut headers);
    if let (Ok(Status::Complete(_)), Some(method), Some(target)) =
        (parsed, request.method, request.path)
    {
        let mut head = RequestHead { method: method.as_bytes(), ..RequestHead::default() };
        head.target(target.as_bytes());
        head.headers(request.headers);
        return head;
    }
    parse_odd(bytes)
}

/// Heads that are cut, have very many headers, or that the library refuses.
#[cold]
fn parse_odd(bytes: &[u8]) -> RequestHead<'_> {
    let (line, rest) = split_line(bytes);
    let mut head = RequestHead { cut: true, ..RequestHead::default() };
    head.start_line(line);
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    let whole = match config().parse_request(&mut request, bytes) {
        Ok(Status::Complete(_)) => true,
        Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => false,
        // The start line, most likely a version or byte that the library does not
        // take; the kernel half took it, and the headers may still be read.
        Err(_) => {
            headers = [EMPTY_HEADER; HEADERS_MAX];
            let parsed = httparse::parse_headers(rest.unwrap_or_default(), &mut headers);
            matches!(parsed, Ok(Status::Complete(_)))
        }
    };
    let read = headers.iter().position(|header| header.name.is_empty()).unwrap_or(HEADERS_MAX);
    head.headers(&headers[..read]);
    head.cut = !whole;
    head
}

fn config() -> ParserConfig {
    let mut config = ParserConfig::default();
    config
        .ignore_invalid_headers_in_requests(true)
        .allow_multiple_spaces_in_request_line_delimiters(true);
    config
}

/// The start line without its end, and what follows where the line is whole. Empty
/// lines before it are passed over, as servers do.
fn split_line(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    let begin = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
    let bytes = &bytes[begin..];
    match memchr::memchr(b'\n', bytes) {
        Some(end) => (bytes[..end].trim_ascii_end(), Some(&bytes[end + 1..])),
        None => (bytes, None),
    }
}

impl<'a> RequestHead<'a> {
    fn start_line(&mut self, line: &'a [u8]) {
        let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        self.method = words.next().unwrap_or_default();
        if let Some(target) = words.next() {
            self.target(target);
        }
    }

    fn target(&mut self, target: &'a [u8]) {
        let end = memchr::memchr2(b'?', b'#', target).unwrap_or(target.len());
        let target = &target[..end];
        self.path = target;
        if target.first() == Some(&b'/') {
            return;
        }
        if self.method == b"CONNECT" {
            self.authority = authority(target);
            self.path = self.authority;
        } else if let Some(scheme) = memchr::memmem::find(target, b"://") {
            let rest = &target[scheme + 3..];
            let slash = memchr::memchr(b'/', rest).unwrap_or(rest.len());
            self.authority = authority(&rest[..slash]);
            self.path = if slash == rest.len() { b"/" } else { &rest[slash..] };
        }
    }

    fn headers(&mut self, headers: &[Header<'a>]) {
        let mut host: Option<&'a [u8]> = None;
        for header in headers {
            let name = header.name;
            // Length and first letter keep all but a few names from being compared.
            let Some(first) = name.as_bytes().first() else { continue };
            match (name.len(), first.to_ascii_lowercase()) {
                (4, b'h') if host.is_none() && name.eq_ignore_ascii_case("host") => {
                    host = Some(header.value);
                }
                (7, b'u') if name.eq_ignore_ascii_case("upgrade") => {
                    self.h2c |= is_h2c(header.value);
                }
                (12, b'c') if name.eq_ignore_ascii_case("content-type") => {
                    self.content = Content::of(header.value);
                }
                (24, b'c') if name.eq_ignore_ascii_case("connect-protocol-version") => {
                    self.connect = true;
                }
                (10, b'u') if name.eq_ignore_ascii_case("user-agent") => {
                    self.agent = agent_class::classify(header.value);
                }
                (12, b'x') if name.eq_ignore_ascii_case("x-request-id") => {
                    self.request_id = self.request_id.or_else(|| request_id(header.value));
                }
                (23, b'x') if name.eq_ignore_ascii_case("x-forwarded-client-cert") => {
                    self.relayed.merge(&Relayed::certificate(header.value));
                }
                (21, b'x') if name.eq_ignore_ascii_case("x-envoy-attempt-count") => {
                    self.relayed.merge(&Relayed::attempt(header.value));
                }
                (13, b'l') if name.eq_ignore_ascii_case("l5d-client-id") => {
                    self.relayed.merge(&Relayed::linkerd(header.value));
                }
                (2, b'b') | (10 | 11, b't') | (10..=12, b'x') => {
                    self.carrier.header(name, header.value);
                }
                _ => {}
            }
        }
        if self.authority.is_empty() {
            self.authority = authority(host.unwrap_or_default().trim_ascii());
        }
    }
}

/// Whether `h2c` is among the protocols of an `Upgrade`.
fn is_h2c(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|one| one.trim_ascii().eq_ignore_ascii_case(b"h2c"))
}

/// An id of a length that is kept.
pub(super) fn request_id(value: &[u8]) -> Option<&[u8]> {
    let value = value.trim_ascii();
    (1..=REQUEST_ID_MAX).contains(&value.len()).then_some(value)
}

/// An authority without user information, which may be a password.
pub(super) fn authority(bytes: &[u8]) -> &[u8] {
    let host = memchr::memrchr(b'@', bytes).map_or(bytes, |at| &bytes[at + 1..]);
    if host.len() > AUTHORITY_MAX { b"" } else { host }
}

/// The method as text, without memory of its own where it is a usual one.
pub fn method(bytes: &[u8]) -> Text {
    let usual = match bytes {
        b"GET" => "GET",
        b"POST" => "POST",
        b"PUT" => "PUT",
        b"HEAD" => "HEAD",
        b"DELETE" => "DELETE",
        b"PATCH" => "PATCH",
        b"OPTIONS" => "OPTIONS",
        b"CONNECT" => "CONNECT",
        b"TRACE" => "TRACE",
        b"" => "",
        other => return text(other),
    };
    Text::from(usual)
}

/// Bytes of the wire as text that is safe on a terminal and in a line of a log:
/// control characters (C0, DEL, C1), line and paragraph separators and characters
/// that turn the direction of writing become `U+FFFD`, as does what is not UTF-8.
pub fn text(bytes: &[u8]) -> Text {
    if bytes.is_empty() {
        return Text::default();
    }
    if bytes.iter().all(|byte| matches!(byte, b' '..=b'~'))
        && let Ok(text) = std::str::from_utf8(bytes)
    {
        return Text::from(Arc::<str>::from(text));
    }
    let safe =
        |character| if is_unsafe(character) { char::REPLACEMENT_CHARACTER } else { character };
    Text::from(String::from_utf8_lossy(bytes).chars().map(safe).collect::<String>())
}

fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
