//! The meaning of every field of `observe --json`, and `docs/observe.md`.

use crate::protocol::{Cause, StreamError};

/// A field: its name, its type in JSON, its meaning.
pub type Field = (&'static str, &'static str, &'static str);

/// Of a call.
pub const CALL: &[Field] = &[
    (
        "time",
        "string",
        "When the request's first byte passed, RFC 3339 with nanoseconds, UTC; at the client's end where that was seen, else at the server's",
    ),
    ("client", "end", "Who asked"),
    ("server", "end", "Who was asked"),
    (
        "protocol",
        "string",
        "`http/1.0`, `http/1.1` or `http/2`; of a remote procedure call `grpc`, `grpc-web` or `connect`",
    ),
    (
        "method",
        "string or null",
        "As in the request, of a remote procedure call `package.Service/Method`; null where it was not seen: the head was cut before it, or named it by what went by before the agent came",
    ),
    (
        "path",
        "string or null",
        "Path without query and fragment; `host:port` for CONNECT, `*` for an asterisk; null where it was not seen",
    ),
    (
        "route",
        "string or null",
        "Path as a route; null where there is none, and of a remote procedure call",
    ),
    ("server_address", "string", "Host that the client asked for, else the server's address"),
    ("server_port", "number", "Port that the client asked for, else the server's"),
    (
        "status",
        "number, string or null",
        "As the server sent it, else as the client got it; of a remote procedure call gRPC's status by name, as `\"UNAVAILABLE\"` (a number that has none in digits); null where none was seen. gRPC-Web, and Connect for streams, put it into the body: it is read there unless it is longer than 1,024 bytes, over HTTP/1 than about 170, or coded in base64; of a unary call of Connect the success alone is known",
    ),
    (
        "http_status",
        "number or null",
        "HTTP's status of the answer, which of a remote procedure call is that of what carried it; null where no answer was seen",
    ),
    (
        "error",
        "string or null",
        "Why there was no whole answer: the client's cause, else the server's; null where the answer was whole. A status, of HTTP or gRPC, is no error here",
    ),
    (
        "client_error",
        "string or null",
        "The cause at the client's end; null where there was none or that end was not seen",
    ),
    (
        "server_error",
        "string or null",
        "The cause at the server's end, likewise: the two may rightly differ",
    ),
    (
        "client_duration_us",
        "number or null",
        "Microseconds from the request's first byte to the answer's last byte, or to the error, at the client's end; null where that end was not seen",
    ),
    ("server_duration_us", "number or null", "The same at the server's end"),
    (
        "first_byte_us",
        "number or null",
        "Microseconds from the request's first byte to the answer's first byte, at the client's end where that was seen, else at the server's; null where no answer was seen",
    ),
    (
        "request_bytes",
        "number",
        "Bytes of the request's body, without chunk framing; at the server's end where that was seen, else at the client's",
    ),
    ("response_bytes", "number", "Bytes of the answer's body, likewise"),
    (
        "request_messages",
        "number or null",
        "Messages that the client of a remote procedure call sent; at the server's end where they were counted there, else at the client's; null where neither could, as of gRPC-Web and Connect over HTTP/1, and of other calls",
    ),
    ("response_messages", "number or null", "Messages that the server sent, likewise"),
    (
        "rtt_us",
        "number or null",
        "Smoothed round-trip time of the connection in microseconds; at the client's end where that has one, else at the server's",
    ),
    (
        "retransmits",
        "number",
        "Segments sent again during the call, at the ends that were seen, together",
    ),
    (
        "tcp_bytes_acked",
        "number or null",
        "Bytes that the client's end had sent and had acknowledged since its connection began, as of the latest head on it or of its end, as `ss -i` counts them (a SYN is one); at the server's end where only that was seen; null for HTTP/2, whose streams share a connection",
    ),
    ("tcp_bytes_received", "number or null", "Bytes received on the connection, likewise"),
    (
        "user_agent",
        "string or null",
        "What kind of client the request says it is from (`User-Agent`): `browser`, `bot`, `probe`, `tool`, `library` or `other`; null where it says nothing",
    ),
    (
        "trace_id",
        "string or null",
        "32 hexadecimal digits, where the request carried W3C or b3 context",
    ),
    (
        "mesh",
        "string or null",
        "Whose proxies the call passed: `istio` (sidecars), `ambient` (Istio without them), `linkerd`, `other` (`mesh.proxies`); null where none was seen beside an end",
    ),
    (
        "security_policy",
        "string or null",
        "`mutual_tls` or `none`: how the connection between the proxies was secured, by what the server's proxy says; null where that is not known",
    ),
    (
        "client_principal",
        "string or null",
        "Whom the client's certificate names, as `spiffe://cluster.local/ns/shop/sa/cart`",
    ),
    ("server_principal", "string or null", "Whom the server's certificate names"),
    (
        "attempt",
        "number or null",
        "How often the client's proxy has tried, from 1: one call of the client's is then several of the server's. The last one, whose answer the client got, is joined with it; those before are lines of their own",
    ),
    (
        "waypoint",
        "string or null",
        "Name of the waypoint that stands between the two ends and hides the client from the server; null where none does, or where the client is not known",
    ),
    (
        "joined_by",
        "string or null",
        "By what an end with a proxy beside it is known to be the same call's as another one on this host: `request_id` (`x-request-id`) or `trace_context` (trace id and span id), which both ends carry. Null where no proxy stands between, or that is not certain: then the ends are lines of their own",
    ),
    (
        "between_us",
        "number or null",
        "Microseconds that the call took at the client's end and not at the server's: in the proxies and on the network between them. Null where the ends were not joined, and where the call failed",
    ),
    (
        "client_proxy_us",
        "number or null",
        "Microseconds of these in the proxy beside the client: what the call took on the connection that it accepted and not on the one onwards. Null unless requests can be read off both, which encryption between the proxies prevents",
    ),
    (
        "server_proxy_us",
        "number or null",
        "The same of the proxy beside the server; where one process is beside both, its time is here",
    ),
    (
        "weight",
        "number",
        "Calls that this one stands for: 1, or a power of two where the connection was chosen because only a share of them is followed, see `limits.cpu` and `limits.memory`",
    ),
    (
        "cut",
        "boolean",
        "The head was longer than `capture.head_prefix`: facts from headers may be missing",
    ),
    (
        "late_half",
        "boolean",
        "The other end of this call went by before in a line of its own, because this one came too late: do not count it again",
    ),
];

/// Of an end.
pub const END: &[Field] = &[
    ("name", "string", "`unknown` where nothing is known"),
    ("namespace", "string or null", "Of the name"),
    (
        "kind",
        "string",
        "How the name is known: `configured`, `workload` (of Kubernetes), `container`, `unit`, `process`, `service` (of Kubernetes: which of several workloads behind it is not known), `external` (a service of Kubernetes for what is outside of the cluster), `node`, `dns`, `address` or `unknown`",
    ),
    ("address", "string or null", "IP address, as this end sees itself where it was seen"),
    ("port", "number or null", "Port, likewise"),
    ("pid", "number or null", "Process on this host"),
];

/// Of a loss.
pub const LOST: &[Field] = &[
    ("time", "string", "When the loss was declared, RFC 3339 with nanoseconds, UTC"),
    (
        "lost",
        "number",
        "Calls that happened and cannot be shown; a line is a loss if and only if it has this field",
    ),
    ("reason", "string", "As in `meshtap_calls_lost_total{reason}`"),
    ("client", "end or null", "Who asked, where that is known"),
    ("server", "end or null", "Who was asked, where that is known"),
];

const INTRODUCTION: &str = "\
# meshtap observe

<!-- Generated from the definitions in agent/src/command/observe by `meshtap docs observe-schema`. -->

Shows calls as they happen. A call whose two ends are on this host is one line: the end
that is seen first waits for the other for 0.5 seconds, 2 seconds where it failed. The same
is true of a call through the proxies of a mesh whose request has an `x-request-id` of 16
characters or more, or a trace context, that the proxies leave as it is: the two ends are
one line where the id, the method and the path are the same, the server's time lies within
the client's, what is known of one end's names does not contradict the other's, and no
equal request was under way under that id at the time; otherwise they are two lines. Lines
come in the order in which calls are complete, and are flushed as they come. On a
terminal there are colours, unless `NO_COLOR` is set or `--color never` is given; long
cells are shortened. A gRPC call has its method in the place of the path; behind the row
stand its status, unless that is `OK`, and how many messages were sent and received,
unless that is one each way. Behind the row of a call whose two ends were found on either
side of proxies stands what it took in between.

The program ends with exit code 0 after `--count` calls, after `--duration`, on SIGINT or
SIGTERM, or when the reader of its output goes away, and says on standard error how many
calls it showed, filtered out and lost. Of itself it says warnings and errors only,
unless `log.level` is given.

## Filters

| Filter | Shows calls |
|---|---|
| `--from WHO` | whose client is WHO: a name, `namespace/name`, an address, `address:port`, or a network |
| `--to WHO` | whose server is WHO |
| `--service WHO` | one of whose ends is WHO |
| `--path GLOB` | whose path matches |
| `--method GET,POST` | with one of the methods; of a gRPC call that is `package.Service/Method` |
| `--status 404,5xx,UNAVAILABLE` | with one of the status codes of HTTP, or of gRPC by name in capitals or not; calls without an answer have none. A gRPC call has HTTP's status only where there is none of gRPC |
| `--min-latency 10ms` | that took at least so long, at the end where they took longer |
| `--port PORT` | to that port, the server's own or the one that the client asked for |
| `--errors` | that failed: a status from 500 on, or one of gRPC that the server answers for (`UNKNOWN`, `DEADLINE_EXCEEDED`, `UNIMPLEMENTED`, `INTERNAL`, `UNAVAILABLE`, `DATA_LOSS`), or no whole answer |

`*` stands for any text, slashes included, `?` for any one character; without them the
whole text has to be equal. Filters of different kinds all have to hold; of several of one
kind one suffices. `--not` turns the one filter that follows it around: what that matches
is never shown. So `--to shop --not --path /healthz --not --status 2xx` shows the calls to
`shop` that are neither health checks nor successful.

A loss is shown unless the ends are known and `--from`, `--to`, `--service` or `--port`
exclude them.

## JSON

`--json` writes one object a line: a call or a loss. Every field is always there. Fields
may be added; none will change its meaning. Control characters, invisible ones and those
that turn text around are escaped.
";

/// `docs/observe.md`.
#[must_use]
pub fn markdown() -> String {
    let sections = [("A call", CALL), ("An end", END), ("A loss", LOST)];
    let mut text = INTRODUCTION.to_owned();
    for (title, fields) in sections {
        text.push_str(&format!("\n### {title}\n\n| Field | Type | Meaning |\n|---|---|---|\n"));
        for (name, kind, meaning) in fields {
            text.push_str(&format!("| `{name}` | {kind} | {meaning} |\n"));
        }
    }
    text.push_str("\n### Causes\n\n| Cause | Meaning |\n|---|---|\n");
    for (cause, meaning) in CAUSES {
        text.push_str(&format!("| `{}` | {meaning} |\n", cause.name()));
    }
    text
}

/// Every name once.
const CAUSES: [(Cause, &str); 22] = [
    (Cause::Closed, "the other end closed before the answer, or before its end"),
    (Cause::Abandoned, "this end closed before the answer, or before its end"),
    (Cause::ResetReceived, "a reset arrived"),
    (Cause::ResetSent, "a reset was sent"),
    (Cause::Timeout, "TCP gave up: retransmissions or keep-alives ran out"),
    (Cause::Vanished, "the connection vanished; how is not known"),
    (Cause::Cancelled, "HTTP/2: the client gave up the stream"),
    (
        Cause::DeadlineExceeded,
        "HTTP/2: the client gave up the stream once the time was over that it had announced (`grpc-timeout`)",
    ),
    (
        Cause::Refused,
        "HTTP/2: the server refused the stream unprocessed, also by a GOAWAY before it",
    ),
    (stream(StreamError::NoError), "HTTP/2: the stream was reset with NO_ERROR"),
    (stream(StreamError::ProtocolError), "HTTP/2: it was reset with PROTOCOL_ERROR"),
    (stream(StreamError::InternalError), "HTTP/2: it was reset with INTERNAL_ERROR"),
    (stream(StreamError::FlowControlError), "HTTP/2: it was reset with FLOW_CONTROL_ERROR"),
    (stream(StreamError::SettingsTimeout), "HTTP/2: it was reset with SETTINGS_TIMEOUT"),
    (stream(StreamError::StreamClosed), "HTTP/2: it was reset with STREAM_CLOSED"),
    (stream(StreamError::FrameSizeError), "HTTP/2: it was reset with FRAME_SIZE_ERROR"),
    (stream(StreamError::CompressionError), "HTTP/2: it was reset with COMPRESSION_ERROR"),
    (stream(StreamError::ConnectError), "HTTP/2: it was reset with CONNECT_ERROR"),
    (stream(StreamError::EnhanceYourCalm), "HTTP/2: it was reset with ENHANCE_YOUR_CALM"),
    (stream(StreamError::InadequateSecurity), "HTTP/2: it was reset with INADEQUATE_SECURITY"),
    (stream(StreamError::Http11Required), "HTTP/2: it was reset with HTTP_1_1_REQUIRED"),
    (
        stream(StreamError::Other),
        "HTTP/2: it was reset with a code that the standard does not know",
    ),
];

const fn stream(error: StreamError) -> Cause {
    Cause::StreamReset(error)
}

#[cfg(test)]
mod tests {
    use super::super::examples::{call, lost};
    use super::super::line::Line;
    use super::super::merge::Merge;
    use super::*;
    use crate::protocol::Side;

    fn names(value: &serde_json::Value) -> Vec<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    fn sorted(fields: &[Field]) -> Vec<&'static str> {
        let mut names: Vec<&str> = fields.iter().map(|(name, ..)| *name).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn what_is_documented_is_what_is_written() {
        let mut ready = Vec::new();
        let mut merge = Merge::default();
        merge.put(call(Side::Client), &mut ready);
        merge.drain(&mut ready);
        let line = serde_json::to_value(Line::of(&ready[0], 0)).unwrap();
        assert_eq!(names(&line), sorted(CALL));
        assert_eq!(names(&line["client"]), sorted(END));
        let lost = lost();
        let lost = serde_json::to_value(lost.line(0)).unwrap();
        assert_eq!(names(&lost), sorted(LOST));
    }

    #[test]
    fn every_cause_is_documented_once() {
        let named: Vec<&str> = CAUSES.iter().map(|(cause, _)| cause.name()).collect();
        for code in 0..=u32::from(u8::MAX) {
            let name = Cause::StreamReset(StreamError::of(code)).name();
            assert_eq!(named.iter().filter(|known| **known == name).count(), 1, "{name}");
        }
        let distinct: std::collections::BTreeSet<_> = named.iter().collect();
        assert_eq!(distinct.len(), named.len());
    }
}
