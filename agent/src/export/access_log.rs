//! [`AccessLog`]: a call as one line for people or machines, and as an OpenTelemetry log
//! record. Off by default. **No query, no body, no header but those on the allow-list.**
//!
//! Fields of a JSON line, all always present, `null` where not known:
//!
//! | field | meaning |
//! |---|---|
//! | `time` | first byte of the request, RFC 3339, UTC, microseconds |
//! | `side` | `client` or `server`: which end saw it |
//! | `client`, `server` | `{name, namespace, kind, address, port, pid}` |
//! | `protocol` | `http/1.1`, …; of remote procedure calls `grpc`, `grpc-web` or `connect` |
//! | `method`, `host`, `path`, `route` | of the request, without query and user information; of a remote procedure call the method is `package.Service/Method`, and it has no route |
//! | `status` | number; of a remote procedure call its name (`UNAVAILABLE`); `null`: none was seen |
//! | `http_status` | number: of HTTP, whatever it carried |
//! | `error` | why there was no whole answer |
//! | `duration_us`, `first_byte_us` | to the last and to the first byte of the answer |
//! | `request_bytes`, `response_bytes` | of the bodies |
//! | `request_messages`, `response_messages` | of a remote procedure call |
//! | `rtt_us`, `retransmits` | of the connection, at this end |
//! | `tcp_bytes_acked`, `tcp_bytes_received` | on the whole connection so far, as `ss -i` counts them |
//! | `user_agent` | what kind of client the request says it is from |
//! | `weight` | how many calls it stands for (`limits.cpu`) |
//! | `cut` | the head was longer than what is captured: facts of its headers may be missing |
//! | `request_id`, `trace_id`, `span_id` | where the request carried them and they are allowed |

mod line;

use opentelemetry::logs::{AnyValue, LogRecord as _, Logger, LoggerProvider, Severity};
use opentelemetry::trace::TraceFlags;
use opentelemetry_sdk::logs::{SdkLogRecord, SdkLogger, SdkLoggerProvider};

use super::clock::Clock;
use super::otlp::metrics::SCOPE;
use super::spans::Ids;
use crate::aggregation::RpcNames;
use crate::attribution::Call;
use crate::protocol::Side;

/// Form of the lines on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One object a line.
    Json,
    /// Compact text.
    Text,
}

/// What may be logged of a request's headers. Nothing else ever is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowedHeaders {
    /// `x-request-id`.
    pub request_id: bool,
    /// Trace and span id of `traceparent` or b3.
    pub trace: bool,
}

/// The default logs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessLogSettings {
    /// Lines on standard output; `None`: none.
    pub stdout: Option<Format>,
    /// Records by OTLP, where a target for logs is set.
    pub otlp: bool,
    /// A call whose two ends are both on this host is one line, seen from its server; here
    /// its client's view becomes another.
    pub both_ends: bool,
    /// Headers.
    pub headers: AllowedHeaders,
    /// How records describe remote procedure calls.
    pub rpc_names: RpcNames,
}

impl Default for AccessLogSettings {
    fn default() -> Self {
        Self {
            stdout: None,
            otlp: false,
            both_ends: false,
            headers: AllowedHeaders { request_id: true, trace: true },
            rpc_names: RpcNames::default(),
        }
    }
}

/// Makes lines and records out of calls.
#[derive(Debug)]
pub struct AccessLog {
    settings: AccessLogSettings,
    logger: SdkLogger,
}

impl AccessLog {
    /// An access log of `settings`.
    #[must_use]
    pub fn new(settings: AccessLogSettings) -> Self {
        // The provider has no processor: records are taken from the logger, not emitted.
        let logger = SdkLoggerProvider::builder().build().logger(SCOPE);
        Self { settings, logger }
    }

    /// Whether this end's view of the call is logged.
    #[must_use]
    pub fn wants(&self, call: &Call) -> bool {
        self.settings.both_ends || !call.peer_observed || call.side() == Side::Server
    }

    /// Appends the line of a call, newline included.
    pub fn line(&self, call: &Call, clock: Clock, format: Format, out: &mut Vec<u8>) {
        let view = line::Line::new(call, clock, self.settings.headers);
        match format {
            Format::Json => view.json(out),
            Format::Text => view.text(out),
        }
    }

    /// The record of a call; its body is the text line, its attributes follow the
    /// conventions of HTTP or RPC. `ids` link it to the call's span.
    #[must_use]
    pub fn record(&self, call: &Call, clock: Clock, ids: Option<Ids>) -> SdkLogRecord {
        let exchange = &call.exchange;
        let mut record = self.logger.create_log_record();
        let ended = clock.system_time(exchange.end_ns);
        record.set_timestamp(clock.system_time(exchange.start_ns));
        record.set_observed_timestamp(ended);
        record.set_event_name("meshtap.access");
        let failed = super::spans::error_type(call).is_some();
        record.set_severity_number(if failed { Severity::Error } else { Severity::Info });
        record.set_severity_text(if failed { "ERROR" } else { "INFO" });
        let view = line::Line::new(call, clock, self.settings.headers);
        let mut body = Vec::with_capacity(160);
        view.text(&mut body);
        body.pop();
        record.set_body(AnyValue::from(String::from_utf8_lossy(&body).into_owned()));
        record.add_attributes(view.attributes(call, self.settings.rpc_names));
        if let Some(ids) = ids.filter(|ids| ids.sampled) {
            record.set_trace_context(ids.trace, ids.span, Some(TraceFlags::SAMPLED));
        }
        record
    }
}

/// Bytes of memory that a record takes in a queue, about.
#[must_use]
pub fn weight(record: &SdkLogRecord) -> usize {
    let length = |value: &AnyValue| match value {
        AnyValue::String(text) => text.as_str().len(),
        _ => 0,
    };
    let attributes: usize = record.attributes_iter().map(|(_, value)| 64 + length(value)).sum();
    size_of::<SdkLogRecord>() + record.body().map_or(0, length) + attributes
}

#[cfg(test)]
mod tests;
