//! OTLP by HTTP: protocol buffers in POST requests.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, bail};
use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;

use super::Received;

/// The server's thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Listens at `address`.
    pub fn start(address: SocketAddr, received: Arc<Mutex<Received>>) -> Result<Self> {
        let listener = TcpListener::bind(address)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let received = Arc::clone(&received);
                std::thread::spawn(move || {
                    // A client that goes away, or that sends what is no OTLP, is answered
                    // by the connection's end; the test sees that nothing came.
                    drop(serve(&stream, &received));
                });
            }
        });
        Ok(Self { address, stop, thread: Some(thread) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn serve(stream: &TcpStream, received: &Mutex<Received>) -> Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).context("a request line")?.to_owned();
        let (mut length, mut compressed) = (0, false);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let line = line.trim().to_ascii_lowercase();
            match line.split_once(':') {
                Some(("content-length", value)) => length = value.trim().parse()?,
                Some(("content-encoding", value)) => compressed = value.trim() == "gzip",
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        if compressed {
            let mut plain = Vec::new();
            GzDecoder::new(body.as_slice()).read_to_end(&mut plain)?;
            body = plain;
        }
        keep(&path, &body, compressed, received)?;
        let mut stream = stream;
        stream.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n",
        )?;
    }
}

fn keep(path: &str, body: &[u8], compressed: bool, received: &Mutex<Received>) -> Result<()> {
    let Ok(mut received) = received.lock() else { bail!("another thread failed") };
    match path {
        "/v1/traces" => {
            received.spans.extend(ExportTraceServiceRequest::decode(body)?.resource_spans);
        }
        "/v1/metrics" => {
            received.metrics.extend(ExportMetricsServiceRequest::decode(body)?.resource_metrics);
        }
        "/v1/logs" => {
            received.logs.extend(ExportLogsServiceRequest::decode(body)?.resource_logs);
        }
        other => bail!("{other} is no path of OTLP"),
    }
    received.compressed += u64::from(compressed);
    Ok(())
}
