//! As ztunnel: connections as they are, from pod to pod in tunnels by mutual TLS, and at the
//! end from the address of the client.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use meshtap_tests::mesh::relay::{Backend, Orders};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::socket::{address, backend, connect, listen, original, route};
use crate::tls::Tls;

const OUTBOUND: u16 = 15001;
const INBOUND: u16 = 15006;
const TUNNEL: u16 = 15008;
const MARK: u32 = 0x539;

type Tunnel = SendRequest<Empty<Bytes>>;

/// One pod's.
struct Ztunnel {
    orders: Arc<Orders>,
    tls: Tls,
    /// One for each pod, for all connections there.
    tunnels: Mutex<HashMap<SocketAddr, Tunnel>>,
    /// Backends take turns.
    turn: Cell<usize>,
}

/// Serves a pod, inside whose network namespace this thread is.
pub async fn serve(orders: Arc<Orders>, tls: Tls, ready: &Sender<()>) -> Result<()> {
    let own = Ztunnel { orders, tls, tunnels: Mutex::default(), turn: Cell::new(0) };
    let own = Rc::new(own);
    let local = tokio::task::LocalSet::new();
    for port in [OUTBOUND, INBOUND, TUNNEL] {
        for listener in listen(port, false)? {
            let own = Rc::clone(&own);
            local.spawn_local(async move {
                while let Ok((stream, from)) = listener.accept().await {
                    let own = Rc::clone(&own);
                    tokio::task::spawn_local(async move {
                        let ended = match port {
                            OUTBOUND => own.outbound(stream).await,
                            INBOUND => own.inbound(stream, from.ip()).await,
                            _ => own.tunnel(stream, from.ip()).await,
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
    local.await;
    Ok(())
}

impl Ztunnel {
    /// From the application in the pod.
    async fn outbound(&self, mut stream: TcpStream) -> Result<()> {
        let to = original(&stream)?;
        ensure!(to.port() != OUTBOUND, "it was not redirected");
        let through = route(&self.orders, to).and_then(|route| route.waypoint.as_ref());
        if let Some(waypoint) = through {
            // It chooses: the tunnel is for the service.
            return self.through(stream, waypoint, to).await;
        }
        let chosen = match route(&self.orders, to) {
            Some(route) => {
                let turn = self.turn.replace(self.turn.get().wrapping_add(1));
                let count = route.backends.len().max(1);
                Some(route.backends.get(turn % count).context("nobody is behind the service")?)
            }
            None => backend(&self.orders, to),
        };
        let Some(chosen) = chosen else {
            // Somewhere outside.
            let mut other = connect(to, Some(MARK), None).await?;
            copy_bidirectional(&mut stream, &mut other).await?;
            return Ok(());
        };
        let at = address(chosen, to.ip())?;
        let to = SocketAddr::new(at, chosen.port);
        if chosen.name.is_some() {
            return self.through(stream, chosen, to).await;
        }
        let mut other = connect(to, Some(MARK), None).await?;
        copy_bidirectional(&mut stream, &mut other).await?;
        Ok(())
    }

    /// A connection in the tunnel to a pod.
    async fn through(&self, mut stream: TcpStream, pod: &Backend, to: SocketAddr) -> Result<()> {
        let name = pod.name.as_deref().context("it is not in the mesh")?;
        let at = SocketAddr::new(address(pod, to.ip())?, TUNNEL);
        let mut sender = self.to(at, name).await?;
        let request =
            Request::builder().method(Method::CONNECT).uri(to.to_string()).body(Empty::new())?;
        let response = sender.send_request(request).await?;
        ensure!(response.status().is_success(), "the other side says {}", response.status());
        let mut other = TokioIo::new(hyper::upgrade::on(response).await?);
        copy_bidirectional(&mut stream, &mut other).await?;
        Ok(())
    }

    /// The tunnel to a pod, made unless there is one.
    async fn to(&self, at: SocketAddr, name: &str) -> Result<Tunnel> {
        let mut tunnels = self.tunnels.lock().await;
        if let Some(tunnel) = tunnels.get(&at).filter(|tunnel| !tunnel.is_closed()) {
            return Ok(tunnel.clone());
        }
        let stream = self.tls.connect(connect(at, Some(MARK), None).await?, name).await?;
        let io = TokioIo::new(stream);
        let (tunnel, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        tunnels.insert(at, tunnel.clone());
        Ok(tunnel)
    }

    /// From another ztunnel: each request is a connection to the application.
    async fn tunnel(&self, stream: TcpStream, from: IpAddr) -> Result<()> {
        let io = TokioIo::new(self.tls.accept(stream).await?);
        let service = service_fn(move |request| arrive(request, from));
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(io, service)
            .await?;
        Ok(())
    }

    /// From outside of the mesh.
    async fn inbound(&self, mut stream: TcpStream, from: IpAddr) -> Result<()> {
        let to = original(&stream)?;
        ensure!(to.port() != INBOUND, "it was not redirected");
        let mut other = connect(to, Some(MARK), Some(from)).await?;
        copy_bidirectional(&mut stream, &mut other).await?;
        Ok(())
    }
}

async fn arrive(request: Request<Incoming>, from: IpAddr) -> Result<Response<Empty<Bytes>>> {
    let refused = |status| {
        let mut response = Response::new(Empty::new());
        *response.status_mut() = status;
        Ok(response)
    };
    let to = request.uri().authority().and_then(|to| to.as_str().parse::<SocketAddr>().ok());
    let (true, Some(to)) = (request.method() == Method::CONNECT, to) else {
        return refused(StatusCode::BAD_REQUEST);
    };
    let Ok(mut other) = connect(to, Some(MARK), Some(from)).await else {
        return refused(StatusCode::SERVICE_UNAVAILABLE);
    };
    tokio::spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            drop(copy_bidirectional(&mut TokioIo::new(upgraded), &mut other).await);
        }
    });
    refused(StatusCode::OK)
}
