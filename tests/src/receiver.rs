//! [`Receiver`]: takes OTLP by gRPC or HTTP and keeps it, in the messages of the protocol itself.

mod grpc;
mod http;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{HistogramDataPoint, ResourceMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};

use crate::process::free_port;

/// How OTLP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// gRPC.
    Grpc,
    /// Protocol buffers over HTTP.
    Http,
}

impl Transport {
    /// As in `otlp.protocol`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http/protobuf",
        }
    }
}

/// Everything that came.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Messages of metrics, in order.
    pub metrics: Vec<ResourceMetrics>,
    /// Messages of spans, in order.
    pub spans: Vec<ResourceSpans>,
    /// Messages of logs, in order.
    pub logs: Vec<ResourceLogs>,
    /// Requests whose body was compressed.
    pub compressed: u64,
}

/// A span and the workload that it is of.
#[derive(Clone, Debug)]
pub struct OwnedSpan {
    /// `service.name`.
    pub service: String,
    /// The span.
    pub span: Span,
}

impl Received {
    /// The last histogram points of `metric` per workload and attributes, whose attributes
    /// and resource satisfy `wanted`.
    #[must_use]
    pub fn points(&self, metric: &str, wanted: &[(&str, &str)]) -> Vec<HistogramDataPoint> {
        let mut last = std::collections::BTreeMap::new();
        for message in &self.metrics {
            let resource = message.resource.clone().unwrap_or_default().attributes;
            let metrics = message.scope_metrics.iter().flat_map(|scope| &scope.metrics);
            for found in metrics.filter(|found| found.name == metric) {
                let Some(Data::Histogram(histogram)) = &found.data else { continue };
                for point in &histogram.data_points {
                    let matches = wanted.iter().all(|(key, value)| {
                        attribute(&point.attributes, key)
                            .or_else(|| attribute(&resource, key))
                            .is_some_and(|found| found == *value)
                    });
                    if matches {
                        let key = format!("{resource:?}{:?}", point.attributes);
                        last.insert(key, point.clone());
                    }
                }
            }
        }
        last.into_values().collect()
    }

    /// Sum of the counts of [`Received::points`].
    #[must_use]
    pub fn count(&self, metric: &str, wanted: &[(&str, &str)]) -> u64 {
        self.points(metric, wanted).iter().map(|point| point.count).sum()
    }

    /// Every span of the trace (32 hexadecimal digits; empty: of every trace).
    #[must_use]
    pub fn trace(&self, id: &str) -> Vec<OwnedSpan> {
        let mut spans = Vec::new();
        for message in &self.spans {
            let service = service(message.resource.as_ref());
            for span in message.scope_spans.iter().flat_map(|scope| &scope.spans) {
                if id.is_empty() || hexadecimal(&span.trace_id) == id {
                    spans.push(OwnedSpan { service: service.clone(), span: span.clone() });
                }
            }
        }
        spans
    }

    /// Every log record.
    #[must_use]
    pub fn records(&self) -> Vec<LogRecord> {
        let scopes = self.logs.iter().flat_map(|message| &message.scope_logs);
        scopes.flat_map(|scope| scope.log_records.clone()).collect()
    }
}

/// An attribute's value as text.
#[must_use]
pub fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    attributes.iter().find(|found| found.key == key).and_then(|found| text(found.value.as_ref()))
}

fn text(value: Option<&AnyValue>) -> Option<String> {
    match value?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        Value::BoolValue(truth) => Some(truth.to_string()),
        Value::DoubleValue(number) => Some(number.to_string()),
        _ => None,
    }
}

fn service(resource: Option<&Resource>) -> String {
    resource
        .and_then(|resource| attribute(&resource.attributes, "service.name"))
        .unwrap_or_default()
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A running receiver.
#[derive(Debug)]
pub struct Receiver {
    port: u16,
    received: Arc<Mutex<Received>>,
    _server: Server,
}

#[derive(Debug)]
enum Server {
    Grpc { _running: grpc::Running },
    Http { _running: http::Running },
}

impl Receiver {
    /// Starts it on a port of its own.
    pub fn start(transport: Transport) -> Result<Self> {
        Self::start_at(transport, free_port())
    }

    /// Starts it on a port that is known to be free.
    pub fn start_at(transport: Transport, port: u16) -> Result<Self> {
        let received = Arc::new(Mutex::new(Received::default()));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let sink = Arc::clone(&received);
        let server = match transport {
            Transport::Grpc => Server::Grpc { _running: grpc::Running::start(address, sink)? },
            Transport::Http => Server::Http { _running: http::Running::start(address, sink)? },
        };
        Ok(Self { port, received, _server: server })
    }

    /// The endpoint, for `otlp.endpoint`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What came so far.
    #[must_use]
    pub fn received(&self) -> Received {
        self.received.lock().map(|received| received.clone()).unwrap_or_default()
    }

    /// Waits until `enough` is true of what came; what there is when patience ends is
    /// given all the same.
    pub fn wait(&self, enough: impl Fn(&Received) -> bool) -> Received {
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            let received = self.received();
            if enough(&received) || Instant::now() > deadline {
                return received;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpStream;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    use prost::Message as _;

    use super::{Receiver, Transport};

    fn message() -> ExportTraceServiceRequest {
        let span = Span { trace_id: vec![0xab; 16], ..Span::default() };
        let scope = ScopeSpans { spans: vec![span], ..ScopeSpans::default() };
        let spans = ResourceSpans { scope_spans: vec![scope], ..ResourceSpans::default() };
        ExportTraceServiceRequest { resource_spans: vec![spans] }
    }

    #[test]
    fn a_span_arrives_by_grpc() {
        let receiver = Receiver::start(Transport::Grpc).expect("listens");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("starts").block_on(async {
            let client = TraceServiceClient::connect(receiver.endpoint()).await;
            let mut client = client.expect("connects");
            client.export(message()).await.expect("is taken");
        });
        assert_eq!(receiver.received().trace(&"ab".repeat(16)).len(), 1);
        assert_eq!(receiver.received().trace(&"cd".repeat(16)).len(), 0);
    }

    #[test]
    fn a_compressed_span_arrives_by_http() {
        let receiver = Receiver::start(Transport::Http).expect("listens");
        let mut body = GzEncoder::new(Vec::new(), Compression::fast());
        body.write_all(&message().encode_to_vec()).expect("is packed");
        let body = body.finish().expect("is packed");
        let mut stream = TcpStream::connect(("127.0.0.1", receiver.port)).expect("connects");
        let length = body.len();
        write!(
            stream,
            "POST /v1/traces HTTP/1.1\r\ncontent-length: {length}\r\nContent-Encoding: gzip\r\n\r\n"
        )
        .expect("is sent");
        stream.write_all(&body).expect("is sent");
        let received = receiver.wait(|received| !received.spans.is_empty());
        assert_eq!((received.trace("").len(), received.compressed), (1, 1));
    }
}
