//! OTLP by gRPC.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::codec::CompressionEncoding::Gzip;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, async_trait};

use super::Received;

/// The server's threads; they end when this is dropped.
#[derive(Debug)]
pub struct Running {
    runtime: Option<Runtime>,
}

#[derive(Clone, Debug)]
struct Sink(Arc<Mutex<Received>>);

impl Running {
    /// Listens at `address`.
    pub fn start(address: SocketAddr, received: Arc<Mutex<Received>>) -> Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let incoming = TcpIncoming::from(runtime.block_on(TcpListener::bind(address))?);
        let sink = Sink(received);
        let server = Server::builder()
            .add_service(TraceServiceServer::new(sink.clone()).accept_compressed(Gzip))
            .add_service(MetricsServiceServer::new(sink.clone()).accept_compressed(Gzip))
            .add_service(LogsServiceServer::new(sink).accept_compressed(Gzip));
        runtime.spawn(server.serve_with_incoming(incoming));
        Ok(Self { runtime: Some(runtime) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Sink {
    fn take<T>(&self, request: Request<T>, put: impl FnOnce(&mut Received, T)) {
        // A layer in front of this has taken the compression off, but not its header.
        let compressed = request.metadata().get("grpc-encoding").is_some();
        if let Ok(mut received) = self.0.lock() {
            received.compressed += u64::from(compressed);
            put(&mut received, request.into_inner());
        }
    }
}

#[async_trait]
impl TraceService for Sink {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.take(request, |received, message| received.spans.extend(message.resource_spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[async_trait]
impl MetricsService for Sink {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.take(request, |received, message| received.metrics.extend(message.resource_metrics));
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[async_trait]
impl LogsService for Sink {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.take(request, |received, message| received.logs.extend(message.resource_logs));
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}
