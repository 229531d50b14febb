//! OTLP by gRPC: already encoded requests through tonic's channel.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use tonic::client::Grpc as Client;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use super::super::settings::{Compression, Signal, Target};
use super::{Outcome, TransportError, USER_AGENT, chain, checked_headers, clipped, tls};

/// No answer of a collector is longer; it holds a count and a sentence.
const LONGEST_ANSWER: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Grpc {
    client: Client<Channel>,
    path: PathAndQuery,
    headers: MetadataMap,
}

impl Grpc {
    pub(super) fn new(target: &Target, signal: Signal) -> Result<Self, TransportError> {
        let refuse = |reason: String| TransportError::Endpoint {
            endpoint: target.endpoint.clone(),
            signal: signal.name(),
            reason,
            example: "http://collector:4317",
        };
        let endpoint = Endpoint::from_shared(target.endpoint.clone())
            .map_err(|error| refuse(chain(&error)))?;
        let secure = match endpoint.uri().scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(refuse("its scheme is neither http nor https".to_owned())),
        };
        if endpoint.uri().host().is_none_or(str::is_empty) {
            return Err(refuse("it names no host".to_owned()));
        }
        let mut endpoint = endpoint
            .user_agent(USER_AGENT)
            .map_err(|error| refuse(chain(&error)))?
            .connect_timeout(target.timeout)
            .http2_keep_alive_interval(Duration::from_secs(60))
            .keep_alive_timeout(Duration::from_secs(20));
        if secure {
            endpoint =
                endpoint.tls_config(tls::grpc(target)?).map_err(|error| refuse(chain(&error)))?;
        }
        let mut client =
            Client::new(endpoint.connect_lazy()).max_decoding_message_size(LONGEST_ANSWER);
        if target.compression == Compression::Gzip {
            client = client.send_compressed(CompressionEncoding::Gzip);
        }
        client = client.accept_compressed(CompressionEncoding::Gzip);
        let headers = MetadataMap::from_headers(checked_headers(target, signal)?);
        Ok(Self { client, path: PathAndQuery::from_static(method(signal)), headers })
    }

    /// The encoded answer, or what to do instead.
    pub(super) async fn send(&self, request: Bytes) -> Result<Bytes, Outcome> {
        let mut client = self.client.clone();
        client
            .ready()
            .await
            .map_err(|error| Outcome::Retry { after: None, reason: clipped(&chain(&error)) })?;
        let mut message = Request::new(request);
        *message.metadata_mut() = self.headers.clone();
        match client.unary(message, self.path.clone(), Encoded).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => Err(outcome(&status)),
        }
    }
}

fn method(signal: Signal) -> &'static str {
    match signal {
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    }
}

/// What the OTLP specification says of each code. A status with a cause was made on this
/// side, by a connection that broke: that may always be tried again.
fn outcome(status: &Status) -> Outcome {
    let after = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let broken = std::error::Error::source(status).is_some();
    let retry = match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::ResourceExhausted => after.is_some(),
        _ => broken,
    };
    let cause = std::error::Error::source(status).map(chain).unwrap_or_default();
    let reason = clipped(&format!("{:?}: {} {cause}", status.code(), status.message()));
    if retry { Outcome::Retry { after, reason } } else { Outcome::Refused { reason } }
}

/// Messages are encoded before they are queued, so that a retry costs no second encoding.
#[derive(Clone, Copy, Debug)]
struct Encoded;

impl Codec for Encoded {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(length)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn codes_follow_the_specification() {
        let retried = |code| matches!(outcome(&Status::new(code, "")), Outcome::Retry { .. });
        for code in [Code::Unavailable, Code::Aborted, Code::DataLoss, Code::DeadlineExceeded] {
            assert!(retried(code), "{code:?}");
        }
        for code in [
            Code::InvalidArgument,
            Code::Unauthenticated,
            Code::Unimplemented,
            Code::Internal,
            Code::Unknown,
            Code::ResourceExhausted,
        ] {
            assert!(!retried(code), "{code:?}");
        }
    }

    #[test]
    fn exhausted_with_a_delay_may_be_retried_after_it() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(7)));
        let status = Status::with_error_details(Code::ResourceExhausted, "slow", details);
        let Outcome::Retry { after, .. } = outcome(&status) else { panic!("{status:?}") };
        assert_eq!(after, Some(Duration::from_secs(7)));
    }

    #[test]
    fn a_broken_connection_is_retried_whatever_its_code() {
        let broken = std::io::Error::new(std::io::ErrorKind::BrokenPipe, "pipe");
        let status = Status::from_error(Box::new(broken));
        assert!(matches!(outcome(&status), Outcome::Retry { .. }), "{status:?}");
    }
}
