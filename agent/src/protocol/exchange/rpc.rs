//! [`Rpc`]: the remote procedure call that an HTTP exchange carried, and what gRPC's
//! conventions say of its outcome.

use std::borrow::Cow;

use super::{Cause, Exchange, Side, UNKNOWN};

/// The remote procedure call that an HTTP exchange carried; its method is the path:
/// `/package.Service/Method`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rpc {
    /// Which kind.
    pub system: RpcSystem,
    /// gRPC's status code as it stood in a trailer or in the only head of an answer.
    /// `None`: none was seen.
    pub status: Option<u32>,
    /// Messages that the client sent. `None`: they could not be counted.
    pub request_messages: Option<u64>,
    /// Messages that the server sent, likewise.
    pub response_messages: Option<u64>,
    /// `grpc-timeout`: how long the client waits from the start of the call on.
    pub timeout_ns: Option<u64>,
    /// What of the call was reported while it ran: the sum of [`Progress::gains`].
    pub reported: Traffic,
}

/// A way of calling procedures over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RpcSystem {
    /// gRPC over HTTP/2.
    Grpc,
    /// gRPC-Web: the trailers stand in the body.
    GrpcWeb,
    /// Connect, told apart by its headers.
    Connect,
}

impl RpcSystem {
    /// As in `observe --json`.
    #[must_use]
    pub fn protocol(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::GrpcWeb => "grpc-web",
            Self::Connect => "connect",
        }
    }

    /// `rpc.system.name` of OpenTelemetry, to which gRPC-Web is gRPC.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Grpc | Self::GrpcWeb => "grpc",
            Self::Connect => "connectrpc",
        }
    }

    /// `rpc.system`, its deprecated forerunner.
    #[must_use]
    pub fn deprecated_name(self) -> &'static str {
        match self {
            Self::Grpc | Self::GrpcWeb => "grpc",
            Self::Connect => "connect_rpc",
        }
    }
}

/// What both ends of a call sent each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages that the client sent; 0 too where they could not be counted.
    pub request_messages: u64,
    /// Messages that the server sent, likewise.
    pub response_messages: u64,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the answer's body.
    pub response_bytes: u64,
}

/// What a call that goes on did since its last report, so that counters follow a stream
/// that lasts for hours.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The call so far; [`Exchange::end_ns`] is when the report was made. Its gains are a
    /// part of [`Rpc::reported`], here and at its end.
    pub exchange: Box<Exchange>,
    /// What came since the last report.
    pub gains: Traffic,
}

/// gRPC's status codes by their numbers.
pub const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

const OK: u32 = 0;
const PERMISSION_DENIED: u32 = 7;
const UNIMPLEMENTED: u32 = 12;
const UNAUTHENTICATED: u32 = 16;
/// What a server answers for is a client's error, but not its own.
const NOT_THE_SERVERS: [u32; 11] =
    [OK, 1, 3, 5, 6, PERMISSION_DENIED, 8, 9, 10, 11, UNAUTHENTICATED];

/// The name of a status code; `None`: gRPC knows none of that number.
#[inline]
#[must_use]
pub fn code_name(code: u32) -> Option<&'static str> {
    CODES.get(usize::try_from(code).ok()?).copied()
}

/// The name of a status code, or its number where gRPC knows none.
#[must_use]
pub fn code_text(code: u32) -> Cow<'static, str> {
    code_name(code).map_or_else(|| code.to_string().into(), Cow::Borrowed)
}

/// Why a remote procedure call is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// gRPC's status code.
    Code(u32),
    /// There was no whole answer.
    Cause(Cause),
    /// The answer was not gRPC's: its HTTP status.
    Http(u16),
}

impl Fault {
    /// Why a call is an error to `side`, if it is. To a client every status is but OK; to a
    /// server those that it answers for: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED,
    /// INTERNAL, UNAVAILABLE, DATA_LOSS, and numbers without a name, which gRPC takes for
    /// UNKNOWN. Where there was none, HTTP's status counts likewise.
    #[must_use]
    pub fn of(
        side: Side,
        code: Option<u32>,
        http: Option<u16>,
        cause: Option<Cause>,
    ) -> Option<Self> {
        let at_client = side == Side::Client;
        let is_error = |code: &u32| {
            if at_client { *code != OK } else { !NOT_THE_SERVERS.contains(code) }
        };
        let is_refusal = |http: &u16| if at_client { *http != 200 } else { *http >= 500 };
        let by_code = code.filter(is_error).map(Self::Code);
        let by_http = http.filter(|http| code.is_none() && is_refusal(http)).map(Self::Http);
        by_code.or(cause.map(Self::Cause)).or(by_http)
    }

    /// As `error.type` says it.
    #[must_use]
    pub fn text(self) -> Cow<'static, str> {
        match self {
            Self::Code(code) => code_text(code),
            Self::Cause(cause) => Cow::Borrowed(cause.name()),
            Self::Http(status) => status.to_string().into(),
        }
    }
}

/// `package.Service` and `Method`; the first is empty where the name has no slash.
#[must_use]
pub fn split_method(method: &str) -> (&str, &str) {
    method.rsplit_once('/').unwrap_or(("", method))
}

impl Exchange {
    /// `package.Service/Method` where it carried a remote procedure call: the path without
    /// its leading slash, or [`UNKNOWN`].
    #[must_use]
    pub fn rpc_method(&self) -> Option<&str> {
        self.rpc.as_ref()?;
        let path = self.path.as_str();
        match path.strip_prefix('/').unwrap_or(path) {
            "" => Some(UNKNOWN),
            method => Some(method),
        }
    }

    /// Why the remote procedure call that it carried is an error to `side`.
    #[must_use]
    pub fn rpc_fault(&self, side: Side) -> Option<Fault> {
        let rpc = self.rpc.as_deref()?;
        Fault::of(side, rpc.status, self.status, self.error)
    }

    /// Whether the answer shows that the server has the method. Statuses that servers, and
    /// proxies before them, give for methods that they never heard of show nothing; nor do
    /// requests without an answer.
    #[must_use]
    pub(crate) fn proves_rpc_method(&self) -> bool {
        match self.rpc.as_deref().map(|rpc| rpc.status) {
            Some(Some(UNIMPLEMENTED | UNAUTHENTICATED | PERMISSION_DENIED)) | None => false,
            Some(Some(_)) => true,
            Some(None) => self.status == Some(200),
        }
    }
}

#[cfg(test)]
impl Rpc {
    /// One gRPC message each way.
    pub(crate) fn sample(status: Option<u32>) -> Box<Self> {
        Box::new(Self {
            system: RpcSystem::Grpc,
            status,
            request_messages: Some(1),
            response_messages: Some(1),
            timeout_ns: None,
            reported: Traffic::default(),
        })
    }
}

#[cfg(test)]
impl Exchange {
    /// A gRPC call as its server saw it.
    pub(crate) fn sample(path: &str, status: Option<u32>) -> Self {
        Self {
            socket: 1,
            side: Side::Server,
            protocol: super::Protocol::Http2,
            method: "POST".into(),
            path: path.to_owned().into(),
            authority: super::Text::default(),
            request_id: None,
            relayed: None,
            trace: None,
            trace_state: None,
            agent: super::AgentClass::Library,
            cut: false,
            status: Some(200),
            error: None,
            start_ns: 0,
            request_end_ns: Some(0),
            first_byte_ns: Some(0),
            end_ns: 0,
            request_bytes: 0,
            response_bytes: 0,
            rtt_us: None,
            retransmits: 0,
            sequence: 0,
            acknowledgement: 0,
            tag: None,
            weight: 1,
            rpc: Some(Rpc::sample(status)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_the_path_without_its_slash() {
        let method = |path| Exchange::sample(path, None).rpc_method().map(str::to_owned);
        assert_eq!(method("/shop.Cart/Add").as_deref(), Some("shop.Cart/Add"));
        assert_eq!(method(UNKNOWN).as_deref(), Some(UNKNOWN));
        assert_eq!(method("").as_deref(), Some(UNKNOWN), "a head cut before it");
        let http = Exchange { rpc: None, ..Exchange::sample("/shop.Cart/Add", None) };
        assert_eq!((http.rpc_method(), http.rpc_fault(Side::Server)), (None, None));
    }

    #[test]
    fn servers_answer_for_fewer_statuses_than_clients_see() {
        let errors = |side| {
            (0..17)
                .filter(|code| Fault::of(side, Some(*code), Some(200), None).is_some())
                .filter_map(code_name)
                .collect::<Vec<_>>()
        };
        assert_eq!(errors(Side::Client), CODES[1..]);
        assert_eq!(
            errors(Side::Server),
            [
                "UNKNOWN",
                "DEADLINE_EXCEEDED",
                "UNIMPLEMENTED",
                "INTERNAL",
                "UNAVAILABLE",
                "DATA_LOSS"
            ]
        );
    }

    #[test]
    fn a_fault_is_the_status_else_the_cause_else_http() {
        let of = |side, code, http, cause| Fault::of(side, code, http, cause);
        let cancelled = Some(Cause::Cancelled);
        assert_eq!(of(Side::Server, Some(13), None, cancelled), Some(Fault::Code(13)));
        assert_eq!(
            of(Side::Server, Some(0), None, cancelled),
            Some(Fault::Cause(Cause::Cancelled))
        );
        assert_eq!(of(Side::Client, None, Some(404), None), Some(Fault::Http(404)));
        assert_eq!(of(Side::Server, None, Some(404), None), None);
        assert_eq!(of(Side::Server, None, Some(503), None), Some(Fault::Http(503)));
        assert_eq!(of(Side::Client, Some(0), Some(503), None), None, "gRPC's status is the answer");
        assert_eq!(of(Side::Client, None, Some(200), None), None, "not known is no error");
        assert_eq!(of(Side::Client, None, None, None), None);
    }

    #[test]
    fn numbers_without_a_name_are_errors_and_stay_numbers() {
        assert_eq!((code_name(17), code_name(u32::MAX)), (None, None));
        let fault = Fault::of(Side::Server, Some(99), Some(200), None);
        assert_eq!(fault.map(Fault::text).as_deref(), Some("99"));
        assert_eq!(code_text(14), "UNAVAILABLE");
    }

    #[test]
    fn a_method_is_split_at_its_last_slash() {
        assert_eq!(split_method("shop.Cart/Add"), ("shop.Cart", "Add"));
        assert_eq!(split_method("api/shop.Cart/Add"), ("api/shop.Cart", "Add"));
        assert_eq!(split_method("<unknown>"), ("", "<unknown>"));
    }
}
