//! Sockets that ordinary programs do not make: behind a redirection, marked, and under an
//! address that is another's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result};
use meshtap_tests::mesh::relay::{Backend, Orders, Route};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Listens on a port of both families, on the loopback alone or everywhere.
pub fn listen(port: u16, on_loopback: bool) -> Result<Vec<TcpListener>> {
    let addresses: [IpAddr; 2] = match on_loopback {
        true => [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        false => [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
    };
    let mut listeners = Vec::new();
    for address in addresses {
        let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        // Where there is no IPv6, IPv4 has to do.
        let Ok(socket) = Socket::new(domain, Type::STREAM, None) else { continue };
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        if socket.bind(&SocketAddr::new(address, port).into()).is_err() && address.is_ipv6() {
            continue;
        }
        socket.listen(1024)?;
        listeners.push(TcpListener::from_std(socket.into())?);
    }
    Ok(listeners)
}

/// Where a connection was going before it was redirected.
pub fn original(stream: &TcpStream) -> Result<SocketAddr> {
    let local = stream.local_addr()?;
    let socket = SockRef::from(stream);
    let original =
        if local.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    // Nothing was translated: it was going here.
    let original = original.ok().and_then(|address| address.as_socket());
    Ok(original.unwrap_or(local))
}

/// Connects with a mark, and from an address of somebody else's where one is given.
pub async fn connect(to: SocketAddr, mark: Option<u32>, from: Option<IpAddr>) -> Result<TcpStream> {
    let domain = if to.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if let Some(mark) = mark {
        socket.set_mark(mark)?;
    }
    if let Some(from) = from {
        match from {
            IpAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
            IpAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
        }
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    let stream = TcpSocket::from_std_stream(socket.into()).connect(to).await;
    let stream = stream.with_context(|| format!("{to} from {from:?}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The service that has this address; `None`: none has it.
pub fn route(orders: &Orders, to: SocketAddr) -> Option<&Route> {
    orders.routes.iter().find(|route| route.port == to.port() && route.addresses.contains(&to.ip()))
}

/// The pod of the mesh that has this address; `None`: none has it.
pub fn backend(orders: &Orders, to: SocketAddr) -> Option<&Backend> {
    let backends = orders.routes.iter().flat_map(|route| &route.backends);
    backends
        .filter(|backend| backend.name.is_some())
        .find(|backend| backend.port == to.port() && backend.addresses.contains(&to.ip()))
}

/// Where a backend is reached from an address of this family.
pub fn address(backend: &Backend, like: IpAddr) -> Result<IpAddr> {
    let same = backend.addresses.iter().find(|address| address.is_ipv4() == like.is_ipv4());
    same.copied().context("a backend has no address of this family")
}
