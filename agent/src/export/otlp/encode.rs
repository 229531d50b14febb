//! Finished spans and log records become requests: the OpenTelemetry exporters encode,
//! and their HTTP client is a `Tray` that keeps the bytes for [`super::delivery`].
//!
//! The exporters' own transports neither tell what may be retried nor how much of a
//! request was rejected, and send one request per resource; on a tray, requests of many
//! resources merge into one, because encoded messages with repeated fields concatenate.

use std::collections::HashMap;
use std::io::Read;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use opentelemetry::InstrumentationScope;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    ExporterBuildError, LogExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::logs::{LogBatch, LogExporter as _, SdkLogRecord};
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use parking_lot::Mutex;

use super::delivery::Payload;
use super::metrics::SCOPE;
use super::resource::{self, Host};
use crate::attribution::Identity;

/// Never resolved, never connected to: the tray stands before it.
const NOWHERE: &str = "http://tray.invalid/";

/// Something about a workload.
#[derive(Debug)]
pub struct Item<T> {
    /// Whom it is about: its resource.
    pub identity: Arc<Identity>,
    /// The span or log record.
    pub content: T,
}

/// Turns items into a request.
pub trait Encode<T>: Send {
    /// One request that holds all of `items`.
    fn encode(
        &mut self,
        items: Vec<Item<T>>,
    ) -> impl Future<Output = Result<Payload, OTelSdkError>> + Send;
}

/// Keeps what an exporter would send.
#[derive(Clone, Debug, Default)]
struct Tray(Arc<Mutex<Vec<u8>>>);

impl Tray {
    fn put(&self, request: &Request<Bytes>) -> Result<(), HttpError> {
        // The exporters also read the environment, and may compress because of it.
        let compressed = request
            .headers()
            .get("content-encoding")
            .is_some_and(|encoding| encoding.as_bytes() == b"gzip");
        let mut kept = self.0.lock();
        if compressed {
            MultiGzDecoder::new(&request.body()[..]).read_to_end(&mut kept)?;
        } else {
            kept.extend_from_slice(request.body());
        }
        Ok(())
    }

    fn take(&self) -> Bytes {
        std::mem::take(&mut *self.0.lock()).into()
    }
}

impl HttpClient for Tray {
    fn send_bytes<'life, 'future>(
        &'life self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'future>>
    where
        'life: 'future,
        Self: 'future,
    {
        let kept = self.put(&request).map(|()| Response::new(Bytes::new()));
        Box::pin(std::future::ready(kept))
    }
}

/// Encodes spans.
#[derive(Debug)]
pub struct SpanEncoder {
    exporter: SpanExporter,
    tray: Tray,
    host: Host,
}

impl SpanEncoder {
    /// An encoder for the workloads of `host`.
    ///
    /// # Errors
    ///
    /// Where the environment holds OTLP settings that the exporter refuses.
    pub fn new(host: Host) -> Result<Self, ExporterBuildError> {
        let tray = Tray::default();
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(NOWHERE)
            .with_http_client(tray.clone())
            .build()?;
        Ok(Self { exporter, tray, host })
    }
}

impl Encode<SpanData> for SpanEncoder {
    async fn encode(&mut self, items: Vec<Item<SpanData>>) -> Result<Payload, OTelSdkError> {
        let count = items.len() as u64;
        for (identity, spans) in by_identity(items) {
            let attributes = resource::attributes(Some(&identity), &self.host);
            self.exporter.set_resource(&resource::sdk(&attributes));
            if let Err(error) = self.exporter.export(spans).await {
                drop(self.tray.take());
                return Err(error);
            }
        }
        Ok(Payload { request: self.tray.take(), items: count })
    }
}

/// Encodes log records.
#[derive(Debug)]
pub struct LogEncoder {
    exporter: LogExporter,
    tray: Tray,
    host: Host,
    scope: InstrumentationScope,
}

impl LogEncoder {
    /// An encoder for the workloads of `host`.
    ///
    /// # Errors
    ///
    /// Where the environment holds OTLP settings that the exporter refuses.
    pub fn new(host: Host) -> Result<Self, ExporterBuildError> {
        let tray = Tray::default();
        let exporter = LogExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(NOWHERE)
            .with_http_client(tray.clone())
            .build()?;
        Ok(Self { exporter, tray, host, scope: scope() })
    }
}

impl Encode<SdkLogRecord> for LogEncoder {
    async fn encode(&mut self, items: Vec<Item<SdkLogRecord>>) -> Result<Payload, OTelSdkError> {
        let count = items.len() as u64;
        for (identity, records) in by_identity(items) {
            let attributes = resource::attributes(Some(&identity), &self.host);
            self.exporter.set_resource(&resource::sdk(&attributes));
            let batch: Vec<_> = records.iter().map(|record| (record, &self.scope)).collect();
            if let Err(error) = self.exporter.export(LogBatch::new(&batch)).await {
                drop(self.tray.take());
                return Err(error);
            }
        }
        Ok(Payload { request: self.tray.take(), items: count })
    }
}

/// The scope of everything that leaves the agent.
#[must_use]
pub fn scope() -> InstrumentationScope {
    InstrumentationScope::builder(SCOPE)
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url(resource::SCHEMA_URL)
        .build()
}

/// Items by whom they are about, in order of first appearance.
fn by_identity<T>(items: Vec<Item<T>>) -> Vec<(Arc<Identity>, Vec<T>)> {
    let mut places: HashMap<Arc<Identity>, usize> = HashMap::new();
    let mut groups: Vec<(Arc<Identity>, Vec<T>)> = Vec::new();
    for item in items {
        let place = *places.entry(item.identity).or_insert_with_key(|identity| {
            groups.push((Arc::clone(identity), Vec::new()));
            groups.len() - 1
        });
        groups[place].1.push(item.content);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_tray_keeps_plain_and_compressed_bodies_alike() {
        let tray = Tray::default();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(b"two").unwrap();
        let plain = Request::post(NOWHERE).body(Bytes::from_static(b"one,")).unwrap();
        let packed = Request::post(NOWHERE)
            .header("content-encoding", "gzip")
            .body(encoder.finish().unwrap().into())
            .unwrap();
        tray.put(&plain).unwrap();
        tray.put(&packed).unwrap();
        assert_eq!(&tray.take()[..], b"one,two");
        assert!(tray.take().is_empty());
    }
}
