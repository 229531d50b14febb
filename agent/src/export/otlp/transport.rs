//! [`Transport`]: one encoded request to a collector and its answer in one vocabulary,
//! whichever of the two protocols carries it; it never retries.

mod grpc;
mod http;
mod tls;

use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceResponse, metrics::v1::ExportMetricsServiceResponse,
    trace::v1::ExportTraceServiceResponse,
};
use prost::Message;
use thiserror::Error;

use super::settings::{Protocol, Signal, Target};

/// How the agent calls itself.
pub(crate) const USER_AGENT: &str = concat!("meshtap/", env!("CARGO_PKG_VERSION"));

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Taken; of its items `rejected` were refused, with the collector's explanation.
    Accepted {
        /// Spans, data points or log records.
        rejected: u64,
        /// Empty where there was none.
        message: String,
    },
    /// Not taken; the same request may succeed later.
    Retry {
        /// When the collector asks to be left alone for so long.
        after: Option<Duration>,
        /// For the log.
        reason: String,
    },
    /// Not taken, and never will be.
    Refused {
        /// For the log.
        reason: String,
    },
}

/// A target that cannot be used at all.
#[derive(Debug, Error)]
pub enum TransportError {
    /// The endpoint is no URL of the right form.
    #[error(
        "OTLP endpoint {endpoint:?} of {signal} cannot be used: {reason}; write it like {example}"
    )]
    Endpoint {
        /// As configured.
        endpoint: String,
        /// Of which signal.
        signal: &'static str,
        /// Why.
        reason: String,
        /// What one looks like.
        example: &'static str,
    },
    /// A header's name or value is not allowed in HTTP. Its value is not repeated.
    #[error(
        "OTLP header {name:?} of {signal} cannot be sent: {reason}; names are lower-case tokens, values printable ASCII"
    )]
    Header {
        /// Its name.
        name: String,
        /// Of which signal.
        signal: &'static str,
        /// Which half.
        reason: &'static str,
    },
    /// No authority to check the collector's certificate with.
    #[error(
        "cannot trust any certificate for {endpoint:?}: {reason}; install the system's CA certificates or name a PEM file (OTEL_EXPORTER_OTLP_CERTIFICATE)"
    )]
    Trust {
        /// As configured.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// The HTTP client could not be made.
    #[error(
        "cannot make an HTTP client for {endpoint:?}: {source}; check the endpoint and the certificate file"
    )]
    Client {
        /// As configured.
        endpoint: String,
        /// Why.
        source: reqwest::Error,
    },
}

/// A way to a collector. Connects when first used and again when broken.
#[derive(Debug)]
pub struct Transport {
    signal: Signal,
    timeout: Duration,
    carrier: Carrier,
}

#[derive(Debug)]
enum Carrier {
    Grpc(Box<grpc::Grpc>),
    Http(http::Http),
}

impl Transport {
    /// Checks all of `target`; does not connect. Needs a Tokio runtime around it.
    ///
    /// # Errors
    ///
    /// What is wrong with the target.
    pub fn new(target: &Target, signal: Signal) -> Result<Self, TransportError> {
        let carrier = match target.protocol {
            Protocol::Grpc => Carrier::Grpc(Box::new(grpc::Grpc::new(target, signal)?)),
            Protocol::HttpProtobuf => Carrier::Http(http::Http::new(target, signal)?),
        };
        Ok(Self { signal, timeout: target.timeout, carrier })
    }

    /// Sends one encoded `Export…ServiceRequest`, within the target's timeout or `limit`.
    pub async fn send(&self, request: Bytes, limit: Duration) -> Outcome {
        let limit = limit.min(self.timeout);
        let attempt = async {
            match &self.carrier {
                Carrier::Grpc(grpc) => grpc.send(request).await,
                Carrier::Http(http) => http.send(request).await,
            }
        };
        match tokio::time::timeout(limit, attempt).await {
            Ok(Ok(answer)) => accepted(self.signal, &answer),
            Ok(Err(outcome)) => outcome,
            Err(_) => Outcome::Retry {
                after: None,
                reason: format!("no answer within {} ms", limit.as_millis()),
            },
        }
    }
}

/// Reads the partial success out of an answer. An answer that cannot be read was still a
/// success: the specification says so of empty ones.
fn accepted(signal: Signal, answer: &[u8]) -> Outcome {
    let partial = match signal {
        Signal::Metrics => ExportMetricsServiceResponse::decode(answer)
            .ok()
            .and_then(|answer| answer.partial_success)
            .map(|partial| (partial.rejected_data_points, partial.error_message)),
        Signal::Traces => ExportTraceServiceResponse::decode(answer)
            .ok()
            .and_then(|answer| answer.partial_success)
            .map(|partial| (partial.rejected_spans, partial.error_message)),
        Signal::Logs => ExportLogsServiceResponse::decode(answer)
            .ok()
            .and_then(|answer| answer.partial_success)
            .map(|partial| (partial.rejected_log_records, partial.error_message)),
    };
    let (rejected, message) = partial.unwrap_or_default();
    Outcome::Accepted { rejected: u64::try_from(rejected).unwrap_or(0), message }
}

/// Header names and values, checked once at start.
fn checked_headers(
    target: &Target,
    signal: Signal,
) -> Result<reqwest::header::HeaderMap, TransportError> {
    use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

    let mut headers = HeaderMap::new();
    for (name, value) in &target.headers {
        let refuse =
            |reason| TransportError::Header { name: name.clone(), signal: signal.name(), reason };
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refuse("its name"))?;
        let mut value = HeaderValue::from_str(value).map_err(|_| refuse("its value"))?;
        value.set_sensitive(true);
        headers.append(key, value);
    }
    Ok(headers)
}

/// An error with its causes in one line; the outermost often says nothing.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

/// At most so much of a collector's words goes into the log.
fn clipped(text: &str) -> String {
    const LONGEST: usize = 300;
    text.chars().filter(|letter| !letter.is_control()).take(LONGEST).collect()
}
