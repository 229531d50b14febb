//! A collector inside the test: takes OTLP by gRPC or HTTP, answers as the test's script
//! says, and remembers what it took. Dropping it breaks every connection at once.

use std::collections::VecDeque;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::*;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::*;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::*;
use parking_lot::Mutex;
use prost::Message;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::codec::CompressionEncoding;
use tonic::transport::{Identity, ServerTlsConfig};
use tonic::{Code, Request, Response as Answer, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::export::otlp::Protocol;

/// What the collector does with one request.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// Takes it after a while.
    After(Duration),
    /// Takes it but for so many items.
    Partial(i64),
    /// Not now; with seconds to wait, if any.
    Busy(Option<u64>),
    /// Never.
    Refuse,
}

#[derive(Debug, Default)]
pub(super) struct Taken {
    pub traces: Vec<ExportTraceServiceRequest>,
    pub metrics: Vec<ExportMetricsServiceRequest>,
    pub logs: Vec<ExportLogsServiceRequest>,
    /// When each request came, taken or not, with its `x-scope` header and compression.
    pub attempts: Vec<(Instant, String, bool)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    pub taken: Arc<Mutex<Taken>>,
    pub script: Arc<Mutex<VecDeque<Reply>>>,
}

pub(super) struct Collector {
    pub address: SocketAddr,
    pub log: Log,
    runtime: Option<Runtime>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Collector {
    pub(super) fn start(protocol: Protocol) -> Self {
        Self::at(protocol, SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// One that speaks only TLS, under the authority in `tls/ca.pem`, as `localhost`.
    pub(super) fn secure(protocol: Protocol) -> Self {
        Self::serving(SocketAddr::from(([127, 0, 0, 1], 0)), move |listener, log| async move {
            match protocol {
                Protocol::Grpc => grpc(listener, log, Some(identity())).await,
                Protocol::HttpProtobuf => https(listener, log).await,
            }
        })
    }

    pub(super) fn at(protocol: Protocol, address: SocketAddr) -> Self {
        Self::serving(address, move |listener, log| async move {
            match protocol {
                Protocol::Grpc => grpc(listener, log, None).await,
                Protocol::HttpProtobuf => http(listener, log).await,
            }
        })
    }

    fn serving<F: Future<Output = ()> + Send + 'static>(
        address: SocketAddr,
        serve: impl FnOnce(TcpListener, Log) -> F + Send + 'static,
    ) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let socket = bound(address);
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let log = Log::default();
        let serving = log.clone();
        runtime.spawn(async move {
            serve(TcpListener::from_std(socket).unwrap(), serving).await;
        });
        Self { address, log, runtime: Some(runtime) }
    }

    pub(super) fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn will(&self, replies: impl IntoIterator<Item = Reply>) {
        self.log.script.lock().extend(replies);
    }

    /// Names of all spans taken, sorted.
    pub(super) fn spans(&self) -> Vec<String> {
        let taken = self.log.taken.lock();
        let mut names: Vec<_> = taken
            .traces
            .iter()
            .flat_map(|request| &request.resource_spans)
            .flat_map(|resource| &resource.scope_spans)
            .flat_map(|scope| &scope.spans)
            .map(|span| span.name.clone())
            .collect();
        names.sort();
        names
    }
}

/// Binds; the last owner of the address may need a moment to let go of it.
fn bound(address: SocketAddr) -> std::net::TcpListener {
    let begun = Instant::now();
    loop {
        match std::net::TcpListener::bind(address) {
            Ok(socket) => return socket,
            Err(error) if begun.elapsed() > Duration::from_secs(5) => panic!("{address}: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

enum Verdict {
    Take(i64),
    Busy(Option<u64>),
    Refuse,
}

impl Log {
    async fn verdict(&self, scope: Option<&str>, compressed: bool) -> Verdict {
        let attempt = (Instant::now(), scope.unwrap_or("").to_owned(), compressed);
        self.taken.lock().attempts.push(attempt);
        let reply = self.script.lock().pop_front();
        match reply {
            None => Verdict::Take(0),
            Some(Reply::Partial(rejected)) => Verdict::Take(rejected),
            Some(Reply::Busy(seconds)) => Verdict::Busy(seconds),
            Some(Reply::Refuse) => Verdict::Refuse,
            Some(Reply::After(delay)) => {
                tokio::time::sleep(delay).await;
                Verdict::Take(0)
            }
        }
    }

    async fn by_grpc<T>(&self, request: &Request<T>) -> Result<i64, Status> {
        let metadata = request.metadata();
        let scope = metadata.get("x-scope").and_then(|value| value.to_str().ok());
        let compressed = metadata.get("grpc-encoding").is_some_and(|value| value == "gzip");
        match self.verdict(scope, compressed).await {
            Verdict::Take(rejected) => Ok(rejected),
            Verdict::Busy(None) => Err(Status::unavailable("busy")),
            Verdict::Busy(Some(seconds)) => {
                let delay = Some(Duration::from_secs(seconds));
                let details = ErrorDetails::with_retry_info(delay);
                Err(Status::with_error_details(Code::ResourceExhausted, "slow down", details))
            }
            Verdict::Refuse => Err(Status::invalid_argument("not like this")),
        }
    }
}

fn partial_traces(rejected_spans: i64) -> ExportTraceServiceResponse {
    let error_message = "full".to_owned();
    let partial = ExportTracePartialSuccess { rejected_spans, error_message };
    ExportTraceServiceResponse { partial_success: Some(partial).filter(|_| rejected_spans > 0) }
}

fn partial_metrics(rejected_data_points: i64) -> ExportMetricsServiceResponse {
    let error_message = "full".to_owned();
    let partial = ExportMetricsPartialSuccess { rejected_data_points, error_message };
    ExportMetricsServiceResponse {
        partial_success: Some(partial).filter(|_| rejected_data_points > 0),
    }
}

fn partial_logs(rejected_log_records: i64) -> ExportLogsServiceResponse {
    let error_message = "full".to_owned();
    let partial = ExportLogsPartialSuccess { rejected_log_records, error_message };
    ExportLogsServiceResponse {
        partial_success: Some(partial).filter(|_| rejected_log_records > 0),
    }
}

#[tonic::async_trait]
impl TraceService for Log {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Answer<ExportTraceServiceResponse>, Status> {
        let rejected = self.by_grpc(&request).await?;
        self.taken.lock().traces.push(request.into_inner());
        Ok(Answer::new(partial_traces(rejected)))
    }
}

#[tonic::async_trait]
impl MetricsService for Log {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Answer<ExportMetricsServiceResponse>, Status> {
        let rejected = self.by_grpc(&request).await?;
        self.taken.lock().metrics.push(request.into_inner());
        Ok(Answer::new(partial_metrics(rejected)))
    }
}

#[tonic::async_trait]
impl LogsService for Log {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Answer<ExportLogsServiceResponse>, Status> {
        let rejected = self.by_grpc(&request).await?;
        self.taken.lock().logs.push(request.into_inner());
        Ok(Answer::new(partial_logs(rejected)))
    }
}

const CERTIFICATE: &[u8] = include_bytes!("tls/server.pem");
const KEY: &[u8] = include_bytes!("tls/server.key");

fn identity() -> Identity {
    Identity::from_pem(CERTIFICATE, KEY)
}

async fn grpc(listener: TcpListener, log: Log, identity: Option<Identity>) {
    let gzip = CompressionEncoding::Gzip;
    let mut server = tonic::transport::Server::builder();
    if let Some(identity) = identity {
        server = server.tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
    }
    server
        .add_service(TraceServiceServer::new(log.clone()).accept_compressed(gzip))
        .add_service(MetricsServiceServer::new(log.clone()).accept_compressed(gzip))
        .add_service(LogsServiceServer::new(log).accept_compressed(gzip))
        .serve_with_incoming(tonic::transport::server::TcpIncoming::from(listener))
        .await
        .unwrap();
}

fn router(log: Log) -> Router {
    Router::new().route("/v1/{signal}", post(take)).with_state(log)
}

async fn http(listener: TcpListener, log: Log) {
    axum::serve(listener, router(log)).await.unwrap();
}

async fn https(listener: TcpListener, log: Log) {
    let chain = CertificateDer::pem_slice_iter(CERTIFICATE).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let router = router(log);
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, router) = (acceptor.clone(), router.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = hyper_util::service::TowerToHyperService::new(router);
            let io = hyper_util::rt::TokioIo::new(stream);
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
        });
    }
}

async fn take(
    State(log): State<Log>,
    Path(signal): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let scope = headers.get("x-scope").and_then(|value| value.to_str().ok());
    let compressed = headers.get("content-encoding").is_some_and(|value| value == "gzip");
    let rejected = match log.verdict(scope, compressed).await {
        Verdict::Take(rejected) => rejected,
        Verdict::Busy(None) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Verdict::Busy(Some(seconds)) => {
            let retry = [("retry-after", seconds.to_string())];
            return (StatusCode::TOO_MANY_REQUESTS, retry, "slow down").into_response();
        }
        Verdict::Refuse => return (StatusCode::BAD_REQUEST, "not like this").into_response(),
    };
    let mut plain = body.to_vec();
    if compressed {
        plain.clear();
        flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain).unwrap();
    }
    let mut taken = log.taken.lock();
    let answer = match &*signal {
        "traces" => {
            taken.traces.push(ExportTraceServiceRequest::decode(&plain[..]).unwrap());
            partial_traces(rejected).encode_to_vec()
        }
        "metrics" => {
            taken.metrics.push(ExportMetricsServiceRequest::decode(&plain[..]).unwrap());
            partial_metrics(rejected).encode_to_vec()
        }
        "logs" => {
            taken.logs.push(ExportLogsServiceRequest::decode(&plain[..]).unwrap());
            partial_logs(rejected).encode_to_vec()
        }
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    ([("content-type", "application/x-protobuf")], answer).into_response()
}
