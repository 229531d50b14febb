//! The agent's HTTP server: `/metrics`, `/healthz`, `/readyz` and a short index. Small and
//! bounded: **no client, however slow, keeps a connection, a thread or a page for long.**

mod readiness;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

pub use readiness::Readiness;

use super::stop::Stop;

/// Gives a page of metrics for an `Accept` header: its content type and its text. Called on
/// a thread that may block.
pub type Render = dyn Fn(&str) -> (String, String) + Send + Sync;

/// The server's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Where it listens.
    pub address: SocketAddr,
    /// Connections at once; more wait to be accepted.
    pub connections: usize,
    /// Pages of metrics made at once; more wait, then get 503.
    pub renders: usize,
    /// How long a scrape waits for its turn before it gets 503.
    pub turn: Duration,
    /// For a request's head to arrive, and for an idle connection to be used again.
    pub head: Duration,
    /// For a whole connection; it ends politely after the answer it is at.
    pub connection: Duration,
    /// For the last answer to be read once a connection has to end.
    pub last_answer: Duration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 9990)),
            connections: 64,
            renders: 2,
            turn: Duration::from_secs(5),
            head: Duration::from_secs(30),
            connection: Duration::from_secs(300),
            last_answer: Duration::from_secs(10),
        }
    }
}

/// A request's head is at most so long.
const HEAD_BYTES: usize = 16 << 10;

/// A page shorter than this is not worth compressing.
const SMALL_PAGE: usize = 1_024;

/// Why the server cannot run.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address} for /metrics and /healthz: {source}; {remedy}")]
    Bind {
        /// As configured.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
        /// What to do.
        remedy: &'static str,
    },
}

/// A server that listens, and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    settings: ServerSettings,
}

struct Shared {
    render: Box<Render>,
    readiness: Readiness,
    turns: Semaphore,
    turn: Duration,
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    ///
    /// Where the address is taken, not this host's, or privileged.
    pub async fn bind(settings: ServerSettings) -> Result<Self, ServerError> {
        let refuse = |source: std::io::Error| ServerError::Bind {
            address: settings.address,
            remedy: remedy(source.kind()),
            source,
        };
        let listener = TcpListener::bind(settings.address).await.map_err(refuse)?;
        let address = listener.local_addr().map_err(refuse)?;
        Ok(Self { listener, address, settings })
    }

    /// Where it listens; the port is the real one also where 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until a stop is asked for.
    pub async fn serve(
        self,
        render: impl Fn(&str) -> (String, String) + Send + Sync + 'static,
        readiness: Readiness,
        mut stop: Stop,
    ) {
        let shared = Arc::new(Shared {
            render: Box::new(render),
            readiness,
            turns: Semaphore::new(self.settings.renders.max(1)),
            turn: self.settings.turn,
        });
        let router = router(shared);
        let places = Arc::new(Semaphore::new(self.settings.connections.max(1)));
        loop {
            let accepted = tokio::select! {
                accepted = accept(&self.listener, &places) => accepted,
                _ = stop.requested() => return,
            };
            let Some((stream, place)) = accepted else { continue };
            let (router, stop, settings) = (router.clone(), stop.clone(), self.settings);
            tokio::spawn(async move {
                connection(stream, router, settings, stop).await;
                drop(place);
            });
        }
    }
}

fn remedy(kind: std::io::ErrorKind) -> &'static str {
    match kind {
        std::io::ErrorKind::AddrInUse => {
            "stop the program that listens there (ss -ltnp shows it), or set another address"
        }
        std::io::ErrorKind::AddrNotAvailable => "set an address that this host has",
        std::io::ErrorKind::PermissionDenied => "set a port from 1024 up, or run as root",
        _ => "set another address",
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            // Out of descriptors, most likely: others must close first.
            tracing::warn!("cannot accept a connection: {error}");
            sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

async fn connection(stream: TcpStream, router: Router, settings: ServerSettings, mut stop: Stop) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.head)
        .max_headers(64)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut served = std::pin::pin!(served);
    tokio::select! {
        // How a client's connection ends is the client's business.
        _ = served.as_mut() => return,
        () = sleep(settings.connection) => {}
        _ = stop.requested() => {}
    }
    served.as_mut().graceful_shutdown();
    let _ = timeout(settings.last_answer, served).await;
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(shared)
}

async fn index() -> &'static str {
    concat!(
        "meshtap ",
        env!("CARGO_PKG_VERSION"),
        "\n\n/metrics  series for Prometheus (text or OpenMetrics)\n",
        "/healthz  200 while the agent lives\n",
        "/readyz   200 while it sees traffic, else 503 and why not\n"
    )
}

async fn ready(State(shared): State<Arc<Shared>>) -> (StatusCode, String) {
    match shared.readiness.obstacles() {
        Some(reasons) => (StatusCode::SERVICE_UNAVAILABLE, reasons),
        None => (StatusCode::OK, "ready\n".to_owned()),
    }
}

async fn metrics(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let accept = text(header::ACCEPT).to_owned();
    let packed = accepts_gzip(text(header::ACCEPT_ENCODING));
    let Ok(Ok(_turn)) = timeout(shared.turn, shared.turns.acquire()).await else {
        let busy = "too many scrapes at once; scrape less often or from fewer places\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], busy)
            .into_response();
    };
    let renderer = Arc::clone(&shared);
    let page = tokio::task::spawn_blocking(move || {
        let (kind, page) = (renderer.render)(&accept);
        let packed = packed && page.len() >= SMALL_PAGE;
        let body = if packed { gzip(page.as_bytes()) } else { page.into_bytes() };
        (kind, packed, body)
    });
    let Ok((kind, packed, body)) = page.await else {
        return (StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be rendered\n")
            .into_response();
    };
    let answer = Response::builder().header(header::CONTENT_TYPE, kind);
    let answer = if packed { answer.header(header::CONTENT_ENCODING, "gzip") } else { answer };
    answer
        .header(header::VARY, "Accept, Accept-Encoding")
        .body(Body::from(body))
        .unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

fn gzip(page: &[u8]) -> Vec<u8> {
    let room = Vec::with_capacity(page.len() / 8);
    let mut encoder = flate2::write::GzEncoder::new(room, flate2::Compression::fast());
    let written = encoder.write_all(page).and_then(|()| encoder.finish());
    written.expect("invariant: writing into memory cannot fail")
}

/// Whether `Accept-Encoding` takes gzip; `q=0` refuses it.
fn accepts_gzip(header: &str) -> bool {
    header.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        named && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

#[cfg(test)]
mod tests;
