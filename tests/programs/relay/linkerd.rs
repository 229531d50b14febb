//! As Linkerd's proxy: requests one by one, from proxy to proxy by HTTP/2 in mutual TLS, and
//! at the end with the identity of the client in a header.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

use anyhow::{Context as _, Result};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::header::{HOST, HeaderValue};
use hyper::http::uri::{Authority, Scheme, Uri};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use meshtap_tests::mesh::relay::{Backend, Orders, Route};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::socket::{address, connect, listen, original, route};
use crate::tls::{Tls, client_name};

const OUTBOUND: u16 = 4140;
const INBOUND: u16 = 4143;
/// By which version of HTTP a request came to the client's proxy.
const ORIGINAL: &str = "l5d-orig-proto";

type Sender2 = SendRequest<Incoming>;

struct Linkerd {
    orders: Arc<Orders>,
    tls: Tls,
    /// To other proxies by address and port of the application; to the own one without TLS.
    connections: Mutex<HashMap<SocketAddr, Sender2>>,
    /// To the own application by HTTP/1.
    application: Client<HttpConnector, Incoming>,
    turn: AtomicUsize,
}

/// Serves the pod that this process is in.
pub async fn serve(orders: Arc<Orders>, tls: Tls, ready: &Sender<()>) -> Result<()> {
    let own = Arc::new(Linkerd {
        orders,
        tls,
        connections: Mutex::default(),
        application: Client::builder(TokioExecutor::new()).build_http(),
        turn: AtomicUsize::new(0),
    });
    let mut tasks = tokio::task::JoinSet::new();
    for port in [OUTBOUND, INBOUND] {
        for listener in listen(port, port == OUTBOUND)? {
            let own = Arc::clone(&own);
            tasks.spawn(async move {
                while let Ok((stream, from)) = listener.accept().await {
                    let own = Arc::clone(&own);
                    tokio::spawn(async move {
                        let ended = match port {
                            OUTBOUND => own.outbound(stream).await,
                            _ => own.inbound(stream).await,
                        };
                        if let Err(error) = ended {
                            eprintln!("from {from} to port {port}: {error:#}");
                        }
                    });
                }
            });
        }
    }
    ready.send(())?;
    while tasks.join_next().await.is_some() {}
    Ok(())
}

impl Linkerd {
    /// From the application in the pod.
    async fn outbound(self: Arc<Self>, stream: TcpStream) -> Result<()> {
        let to = original(&stream)?;
        anyhow::ensure!(to.port() != OUTBOUND, "it was not redirected");
        match route(&self.orders, to).cloned() {
            Some(route) if route.backends.iter().all(|backend| backend.name.is_some()) => {
                let route = Arc::new(route);
                serve_requests(TokioIo::new(stream), move |request| {
                    let (own, route) = (Arc::clone(&self), Arc::clone(&route));
                    async move { own.send(request, &route, to).await }
                })
                .await
            }
            // To where there is no proxy.
            Some(route) => {
                let backend = self.choose(&route)?;
                let to = SocketAddr::new(address(backend, to.ip())?, backend.port);
                pass(stream, to).await
            }
            None => pass(stream, to).await,
        }
    }

    fn choose<'a>(&self, route: &'a Route) -> Result<&'a Backend> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = route.backends.len().max(1);
        route.backends.get(turn % count).context("nobody is behind the service")
    }

    /// One request to the proxy of a backend.
    async fn send(
        &self,
        mut request: Request<Incoming>,
        route: &Route,
        to: SocketAddr,
    ) -> Result<Response<Incoming>> {
        let backend = self.choose(route)?;
        let at = SocketAddr::new(address(backend, to.ip())?, backend.port);
        let version = request.version();
        if version < Version::HTTP_2 {
            let text = if version == Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" };
            request.headers_mut().insert(ORIGINAL, HeaderValue::from_static(text));
            absolute(&mut request, to)?;
        }
        let canonical = format!("{}:{}", route.host, route.port);
        request.headers_mut().insert("l5d-dst-canonical", canonical.parse()?);
        let name = backend.name.as_deref().context("it has no proxy")?;
        let mut sender = self.to(at, Some(name)).await?;
        let mut response = sender.send_request(request).await?;
        *response.version_mut() = version;
        Ok(response)
    }

    /// The connection for an application's port, made unless there is one: to its proxy
    /// (`Some` name), or, by the proxy, to the application itself.
    async fn to(&self, at: SocketAddr, name: Option<&str>) -> Result<Sender2> {
        let mut connections = self.connections.lock().await;
        if let Some(sender) = connections.get(&at).filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let executor = TokioExecutor::new();
        let sender = match name {
            Some(name) => {
                let proxy = connect(SocketAddr::new(at.ip(), INBOUND), None, None).await?;
                let mut stream = self.tls.connect(proxy, name).await?;
                // For whom the connection is: a header in front of it.
                stream.write_u16(at.port()).await?;
                let io = TokioIo::new(stream);
                let (sender, connection) =
                    hyper::client::conn::http2::handshake(executor, io).await?;
                tokio::spawn(connection);
                sender
            }
            None => {
                let io = TokioIo::new(connect(at, None, None).await?);
                let (sender, connection) =
                    hyper::client::conn::http2::handshake(executor, io).await?;
                tokio::spawn(connection);
                sender
            }
        };
        connections.insert(at, sender.clone());
        Ok(sender)
    }

    /// From other proxies, or, on any other port, from where there is no proxy.
    async fn inbound(self: Arc<Self>, stream: TcpStream) -> Result<()> {
        let to = original(&stream)?;
        if to.port() != INBOUND {
            return pass(stream, to).await;
        }
        let mut stream = self.tls.accept(stream).await?;
        let client = client_name(&stream)?;
        let at = SocketAddr::new(to.ip(), stream.read_u16().await?);
        serve_requests(TokioIo::new(stream), move |request| {
            let (own, client) = (Arc::clone(&self), client.clone());
            async move { own.deliver(request, at, &client).await }
        })
        .await
    }

    /// One request to the application.
    async fn deliver(
        &self,
        mut request: Request<Incoming>,
        at: SocketAddr,
        client: &str,
    ) -> Result<Response<Incoming>> {
        let headers = request.headers_mut();
        let is_old = headers.remove(ORIGINAL).is_some();
        headers.insert("l5d-client-id", client.parse()?);
        if !is_old {
            return Ok(self.to(at, None).await?.send_request(request).await?);
        }
        let host = request.uri().authority().context("no authority")?.as_str().parse()?;
        request.headers_mut().insert(HOST, host);
        *request.version_mut() = Version::HTTP_11;
        absolute(&mut request, at)?;
        let mut parts = request.uri().clone().into_parts();
        parts.authority = Some(at.to_string().parse()?);
        *request.uri_mut() = Uri::from_parts(parts)?;
        Ok(self.application.request(request).await?)
    }
}

/// Bytes as they are.
async fn pass(mut stream: TcpStream, to: SocketAddr) -> Result<()> {
    let mut other = connect(to, None, None).await?;
    copy_bidirectional(&mut stream, &mut other).await?;
    Ok(())
}

/// Answers requests by either version of HTTP. One that fails ends its stream.
async fn serve_requests<Io, Answer>(
    io: Io,
    answer: impl Fn(Request<Incoming>) -> Answer + Clone + Send + 'static,
) -> Result<()>
where
    Io: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    Answer: Future<Output = Result<Response<Incoming>>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = answer(request);
        async move {
            answer.await.map_err(|error| {
                eprintln!("a request fails: {error:#}");
                std::io::Error::other(error.to_string())
            })
        }
    });
    let builder = Builder::new(TokioExecutor::new());
    builder.serve_connection(io, service).await.map_err(|error| anyhow::anyhow!("{error}"))
}

/// A request by HTTP/1 names its server in a header, one by HTTP/2 in its address.
fn absolute(request: &mut Request<Incoming>, to: SocketAddr) -> Result<()> {
    let host = match request.uri().authority() {
        Some(authority) => Some(authority.clone()),
        None => {
            let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
            host.and_then(|host| host.parse::<Authority>().ok())
        }
    };
    let mut parts = request.uri().clone().into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(match host {
        Some(host) => host,
        None => to.to_string().parse()?,
    });
    *request.uri_mut() = Uri::from_parts(parts)?;
    if request.version() < Version::HTTP_2 {
        request.headers_mut().remove("connection");
    }
    Ok(())
}
