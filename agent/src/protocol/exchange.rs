//! [`Exchange`]: one request and its answer, seen at one socket.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Text that came over the wire: always UTF-8 (what was not was replaced), cheap to clone.
#[derive(Clone)]
pub struct Text(Held);

/// Where a text is: usual words are part of the program and count no holders.
#[derive(Clone)]
enum Held {
    Word(&'static str),
    Shared(Arc<str>),
}

impl Text {
    /// The text.
    #[inline]
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Held::Word(word) => word,
            Held::Shared(text) => text,
        }
    }

    /// Whether both are the same text in the same place.
    #[inline]
    pub(super) fn is_same(&self, other: &Self) -> bool {
        std::ptr::eq(self.as_str(), other.as_str())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.as_str().is_empty()
    }
}

impl Default for Text {
    fn default() -> Self {
        Self::from("")
    }
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Self {
        Self(Held::Word(text))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(Held::Shared(text.into()))
    }
}

impl From<Arc<str>> for Text {
    fn from(text: Arc<str>) -> Self {
        Self(Held::Shared(text))
    }
}

impl PartialEq for Text {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other) || self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), formatter)
    }
}

/// Which end of a call a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The socket sent the request.
    Client,
    /// The socket received the request.
    Server,
}

/// The application protocol of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

impl Protocol {
    /// As in `observe --json` and in an access log: `http/1.1`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Http10 => "http/1.0",
            Self::Http11 => "http/1.1",
        }
    }

    /// `network.protocol.version` of OpenTelemetry: `1.1`.
    #[must_use]
    pub fn version(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
        }
    }
}

/// Why a call has no whole answer. A cause is never a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// The other side closed before the answer, or before its end.
    Closed,
    /// This side closed before the answer, or before its end.
    Abandoned,
    /// A reset arrived.
    ResetReceived,
    /// A reset was sent.
    ResetSent,
    /// TCP gave up: retransmissions or keep-alives ran out.
    Timeout,
    /// The connection vanished; how is not known.
    Vanished,
}

impl Cause {
    /// The value of `error.type` and of `error` in `observe --json`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "connection_closed",
            Self::Abandoned => "abandoned",
            Self::ResetReceived => "connection_reset",
            Self::ResetSent => "reset_sent",
            Self::Timeout => "timeout",
            Self::Vanished => "vanished",
        }
    }
}

/// W3C or b3 context that the request carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// Never zero. 64-bit b3 ids are extended with zeros on the left.
    pub trace_id: u128,
    /// The sender's span. Never zero.
    pub span_id: u64,
    /// `None`: the header leaves the decision to the receiver (b3 only).
    pub sampled: Option<bool>,
}

/// Coarse kind of the client, by its `User-Agent`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AgentClass {
    /// No header.
    #[default]
    None,
    /// A browser.
    Browser,
    /// A crawler.
    Bot,
    /// A health probe (kubelet, load balancers).
    Probe,
    /// A command-line tool (curl, wget).
    Tool,
    /// A library (Go, Java, Python, Node clients).
    Library,
    /// Anything else.
    Other,
}

/// One request and its answer, as one socket saw them.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The kernel's socket cookie.
    pub socket: u64,
    /// Which end the socket is.
    pub side: Side,
    /// As the request's start line said.
    pub protocol: Protocol,
    /// Any token. Empty only where [`Exchange::cut`] took even that.
    pub method: Text,
    /// Path of the target without query and fragment (they may hold secrets);
    /// `host:port` for CONNECT, `*` for an asterisk target.
    pub path: Text,
    /// Authority that the client asked for: absolute-form target, else `Host`. May be empty.
    pub authority: Text,
    /// `x-request-id`, if any.
    pub request_id: Option<Text>,
    /// Trace context, if any.
    pub trace: Option<TraceContext>,
    /// `tracestate`, where [`Exchange::trace`] came from `traceparent`.
    pub trace_state: Option<Text>,
    /// By `User-Agent`.
    pub agent: AgentClass,
    /// The head was longer than the captured prefix: header facts may be missing.
    pub cut: bool,
    /// `None`: no final answer was seen.
    pub status: Option<u16>,
    /// `None`: the answer was seen to its end.
    pub error: Option<Cause>,
    /// First byte of the request at this socket.
    pub start_ns: u64,
    /// Last byte of the request. `None`: it never ended.
    pub request_end_ns: Option<u64>,
    /// First byte of the final answer. `None`: there was none.
    pub first_byte_ns: Option<u64>,
    /// Last byte of the answer, or when the error struck.
    pub end_ns: u64,
    /// Body bytes of the request, without chunk framing.
    pub request_bytes: u64,
    /// Body bytes of the answer, without chunk framing.
    pub response_bytes: u64,
    /// Smoothed round-trip time of the connection at the end; `None`: no sample.
    pub rtt_us: Option<u32>,
    /// Segments that the connection sent again during the call.
    pub retransmits: u32,
    /// TCP sequence number of the request's first byte: both ends see the same one, also through NAT.
    pub sequence: u32,
    /// Acknowledgement number beside it.
    pub acknowledgement: u32,
}

impl Exchange {
    /// From the first byte of the request to the last of the answer.
    #[must_use]
    pub fn duration_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }
}
