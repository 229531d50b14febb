//! [`Name`]: the headers that say something here, told apart once and then by a number.

/// A header's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Name {
    /// Not known: it went by before the agent came, or was lost.
    #[default]
    Unknown,
    /// Says nothing here.
    Other,
    Method,
    Scheme,
    Path,
    Authority,
    Protocol,
    Status,
    Host,
    UserAgent,
    RequestId,
    ContentType,
    ConnectVersion,
    GrpcStatus,
    GrpcTimeout,
    ForwardedCertificate,
    Attempt,
    LinkerdClient,
    /// One of those that carry trace context.
    Trace(&'static str),
}

impl Name {
    /// Of the bytes on the wire, which are lower case.
    pub(super) fn of(name: &[u8]) -> Self {
        match name {
            b":method" => Self::Method,
            b":scheme" => Self::Scheme,
            b":path" => Self::Path,
            b":authority" => Self::Authority,
            b":protocol" => Self::Protocol,
            b":status" => Self::Status,
            b"host" => Self::Host,
            b"user-agent" => Self::UserAgent,
            b"x-request-id" => Self::RequestId,
            b"content-type" => Self::ContentType,
            b"connect-protocol-version" => Self::ConnectVersion,
            b"grpc-status" => Self::GrpcStatus,
            b"grpc-timeout" => Self::GrpcTimeout,
            b"x-forwarded-client-cert" => Self::ForwardedCertificate,
            b"x-envoy-attempt-count" => Self::Attempt,
            b"l5d-client-id" => Self::LinkerdClient,
            b"traceparent" => Self::Trace("traceparent"),
            b"tracestate" => Self::Trace("tracestate"),
            b"b3" => Self::Trace("b3"),
            b"x-b3-traceid" => Self::Trace("x-b3-traceid"),
            b"x-b3-spanid" => Self::Trace("x-b3-spanid"),
            b"x-b3-sampled" => Self::Trace("x-b3-sampled"),
            b"x-b3-flags" => Self::Trace("x-b3-flags"),
            _ => Self::Other,
        }
    }
}
