//! OTLP by HTTP with protobuf bodies, through reqwest.

use std::io::Write;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use flate2::write::GzEncoder;
use prost::Message;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use tonic_types::pb::Status as ErrorBody;

use super::super::settings::{Compression, Signal, Target};
use super::{Outcome, TransportError, USER_AGENT, chain, checked_headers, clipped, tls};

/// More of an answer is not read: it holds a count and a sentence.
const LONGEST_ANSWER: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Http {
    client: Client,
    url: Url,
    compression: Compression,
}

impl Http {
    pub(super) fn new(target: &Target, signal: Signal) -> Result<Self, TransportError> {
        let refuse = |reason: String| TransportError::Endpoint {
            endpoint: target.endpoint.clone(),
            signal: signal.name(),
            reason,
            example: "http://collector:4318/v1/traces",
        };
        let url = Url::parse(&target.endpoint).map_err(|error| refuse(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refuse("its scheme is neither http nor https".to_owned()));
        }
        let mut builder = Client::builder()
            .user_agent(USER_AGENT)
            .default_headers(checked_headers(target, signal)?)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(target.timeout)
            .pool_max_idle_per_host(1);
        builder = builder.tls_backend_preconfigured(tls::http(target, url.scheme() == "https")?);
        let client = builder.build().map_err(|source| TransportError::Client {
            endpoint: target.endpoint.clone(),
            source,
        })?;
        Ok(Self { client, url, compression: target.compression })
    }

    /// The encoded answer, or what to do instead.
    pub(super) async fn send(&self, request: Bytes) -> Result<Bytes, Outcome> {
        let mut post =
            self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/x-protobuf");
        let body = match self.compression {
            Compression::None => request,
            Compression::Gzip => {
                post = post.header(CONTENT_ENCODING, "gzip");
                gzip(&request)
            }
        };
        let response = post.body(body).send().await.map_err(|error| broken(&error))?;
        let status = response.status();
        let after = retry_after(response.headers(), SystemTime::now());
        let answer = read(response).await?;
        if status.is_success() {
            return Ok(answer);
        }
        let reason = reason(status, &answer);
        Err(match status.as_u16() {
            429 | 502 | 503 | 504 => Outcome::Retry { after, reason },
            _ => Outcome::Refused { reason },
        })
    }
}

/// A request without an answer. Only one that could not even be made is hopeless.
fn broken(error: &reqwest::Error) -> Outcome {
    let reason = clipped(&chain(error));
    if error.is_builder() {
        Outcome::Refused { reason }
    } else {
        Outcome::Retry { after: None, reason }
    }
}

async fn read(mut response: Response) -> Result<Bytes, Outcome> {
    let mut answer = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| broken(&error))? {
        let room = LONGEST_ANSWER - answer.len();
        answer.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() >= room {
            break;
        }
    }
    Ok(answer.freeze())
}

/// Errors carry a protobuf `Status` by specification, and text in practice.
fn reason(status: StatusCode, answer: &[u8]) -> String {
    let message = ErrorBody::decode(answer)
        .map(|body| body.message)
        .ok()
        .filter(|message| !message.is_empty())
        .unwrap_or_else(|| String::from_utf8_lossy(answer).into_owned());
    clipped(format!("{status} {message}").trim_end())
}

/// Seconds, or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

fn gzip(request: &[u8]) -> Bytes {
    let mut encoder =
        GzEncoder::new(Vec::with_capacity(request.len() / 4), flate2::Compression::fast());
    let written = encoder.write_all(request).and_then(|()| encoder.finish());
    Bytes::from(written.expect("invariant: writing into memory cannot fail"))
}
