//! [`Exchange`]: one request and its answer, seen at one socket.

pub mod rpc;
mod text;

use std::num::NonZeroU64;

use super::relayed::Relayed;

pub use rpc::{Rpc, RpcSystem};
pub use text::Text;

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
    /// HTTP/2
    Http2,
}

impl Protocol {
    /// As in `observe --json` and in an access log: `http/1.1`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Http10 => "http/1.0",
            Self::Http11 => "http/1.1",
            Self::Http2 => "http/2",
        }
    }

    /// `network.protocol.version` of OpenTelemetry: `1.1`.
    #[must_use]
    pub fn version(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }
}

/// What [`Exchange::path`] and [`Exchange::method`] are where the request named them by
/// something that went by before the agent came, or that was lost.
pub const UNKNOWN: &str = "<unknown>";

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
    /// The client gave up the stream (HTTP/2).
    Cancelled,
    /// It did so once the time was over that it had announced (`grpc-timeout`).
    DeadlineExceeded,
    /// The server refused the stream unprocessed: `REFUSED_STREAM`, or a stream beyond the
    /// last one of its GOAWAY.
    Refused,
    /// A stream was reset with another of HTTP/2's error codes.
    StreamReset(StreamError),
}

/// HTTP/2's error codes (RFC 9113, section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "they are the names of the standard")]
pub enum StreamError {
    NoError,
    ProtocolError,
    InternalError,
    FlowControlError,
    SettingsTimeout,
    StreamClosed,
    FrameSizeError,
    RefusedStream,
    Cancel,
    CompressionError,
    ConnectError,
    EnhanceYourCalm,
    InadequateSecurity,
    Http11Required,
    /// A code that the standard does not know.
    Other,
}

impl Cause {
    /// A number of its own, above zero: a part of keys.
    #[inline]
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Closed => 1,
            Self::Abandoned => 2,
            Self::ResetReceived => 3,
            Self::ResetSent => 4,
            Self::Timeout => 5,
            Self::Vanished => 6,
            Self::Cancelled => 7,
            Self::DeadlineExceeded => 8,
            Self::Refused => 9,
            Self::StreamReset(error) => 10 + error as u8,
        }
    }

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
            Self::Cancelled => "cancelled",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Refused => "refused_stream",
            Self::StreamReset(error) => error.cause(),
        }
    }
}

impl StreamError {
    /// The error of a code on the wire.
    #[must_use]
    pub fn of(code: u32) -> Self {
        match code {
            0 => Self::NoError,
            1 => Self::ProtocolError,
            2 => Self::InternalError,
            3 => Self::FlowControlError,
            4 => Self::SettingsTimeout,
            5 => Self::StreamClosed,
            6 => Self::FrameSizeError,
            7 => Self::RefusedStream,
            8 => Self::Cancel,
            9 => Self::CompressionError,
            10 => Self::ConnectError,
            11 => Self::EnhanceYourCalm,
            12 => Self::InadequateSecurity,
            13 => Self::Http11Required,
            _ => Self::Other,
        }
    }

    fn cause(self) -> &'static str {
        match self {
            Self::NoError => "stream_no_error",
            Self::ProtocolError => "stream_protocol_error",
            Self::InternalError => "stream_internal_error",
            Self::FlowControlError => "stream_flow_control_error",
            Self::SettingsTimeout => "stream_settings_timeout",
            Self::StreamClosed => "stream_closed",
            Self::FrameSizeError => "stream_frame_size_error",
            Self::RefusedStream => "refused_stream",
            Self::Cancel => "cancelled",
            Self::CompressionError => "stream_compression_error",
            Self::ConnectError => "stream_connect_error",
            Self::EnhanceYourCalm => "stream_enhance_your_calm",
            Self::InadequateSecurity => "stream_inadequate_security",
            Self::Http11Required => "stream_http_1_1_required",
            Self::Other => "stream_error",
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

impl AgentClass {
    /// As lines and spans have it; `None`: the request said nothing.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Browser => Some("browser"),
            Self::Bot => Some("bot"),
            Self::Probe => Some("probe"),
            Self::Tool => Some("tool"),
            Self::Library => Some("library"),
            Self::Other => Some("other"),
        }
    }
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
    /// What the connection had carried at the end; `None`: not known.
    pub connection_bytes: Option<ConnectionBytes>,
    /// TCP sequence number of the request's first byte: both ends see the same one, also through NAT.
    pub sequence: u32,
    /// Acknowledgement number beside it.
    pub acknowledgement: u32,
    /// What the kernel half knows calls by that are like this one, where it may count them.
    pub tag: Option<NonZeroU64>,
    /// What it knows their answers by, where they are HTTP/2.
    pub answer: AnswerTags,
    /// How many calls it stands for: more than one while only a share of the connections is
    /// followed, see [`meshtap_ebpf::sample`].
    pub weight: u32,
    /// What a mesh's proxy says of it.
    pub relayed: Option<Box<Relayed>>,
    /// What it was beyond HTTP.
    pub rpc: Option<Box<Rpc>>,
}

/// What the kernel half knows the headers of an answer by, see [`meshtap_ebpf::streams`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerTags {
    /// The head.
    pub head: u64,
    /// What stands behind its body; 0: nothing does.
    pub tail: u64,
}

/// Bytes of a whole connection so far, as the kernel counts them for `ss -i`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionBytes {
    /// Sent and acknowledged, a SYN counting as one.
    pub acked: u64,
    /// Received in order.
    pub received: u64,
}

impl Exchange {
    /// One that began at `start_ns`, and of which nothing else is known.
    #[inline(always)]
    #[must_use]
    pub fn begun(socket: u64, side: Side, protocol: Protocol, start_ns: u64) -> Self {
        Self {
            socket,
            side,
            protocol,
            method: Text::default(),
            path: Text::default(),
            authority: Text::default(),
            request_id: None,
            relayed: None,
            trace: None,
            trace_state: None,
            agent: AgentClass::None,
            cut: false,
            status: None,
            error: None,
            start_ns,
            request_end_ns: None,
            first_byte_ns: None,
            end_ns: 0,
            request_bytes: 0,
            response_bytes: 0,
            rtt_us: None,
            retransmits: 0,
            connection_bytes: None,
            sequence: 0,
            acknowledgement: 0,
            tag: None,
            answer: AnswerTags::default(),
            weight: 1,
            rpc: None,
        }
    }
}

impl Exchange {
    /// From the first byte of the request to the last of the answer.
    #[must_use]
    pub fn duration_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }
}
