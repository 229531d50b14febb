//! Both ends of a TCP connection in one hand, so that a test says byte by byte what
//! crosses it, in which segments and in which order.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::net::sockopt;

use crate::netns::{Netns, SERVER};
use crate::process::free_port;

/// A connection whose two ends the test plays.
#[derive(Debug)]
pub struct Wire {
    /// Connected.
    pub client: End,
    /// Accepted.
    pub server: End,
    listener: TcpListener,
}

/// One end. Writes are not delayed: each is a segment of its own.
#[derive(Debug)]
pub struct End {
    stream: Option<TcpStream>,
}

impl Wire {
    /// Opens a connection on the IPv4 loopback, to a port of its own.
    pub fn open() -> Result<Self> {
        Self::open_at(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// Opens a connection to a local address, on a port of its own.
    pub fn open_at(address: IpAddr) -> Result<Self> {
        Self::through(TcpListener::bind((address, free_port()))?, &address.to_string())
    }

    /// Opens a connection to a listener's port at `address`.
    pub fn through(listener: TcpListener, address: &str) -> Result<Self> {
        let client = TcpStream::connect((address, listener.local_addr()?.port()))?;
        let (server, _) = listener.accept()?;
        Ok(Self { client: End::new(client)?, server: End::new(server)?, listener })
    }

    /// Opens a connection from one network namespace to another.
    pub fn between(client: &Netns, server: &Netns) -> Result<Self> {
        let port = free_port();
        let listener = server.enter(|| TcpListener::bind((SERVER, port)))??;
        let client = client.enter(|| TcpStream::connect((SERVER, port)))??;
        let (server, _) = listener.accept()?;
        Ok(Self { client: End::new(client)?, server: End::new(server)?, listener })
    }

    /// Opens one more connection to the same port.
    pub fn again(&mut self) -> Result<()> {
        self.client = End::new(TcpStream::connect(self.listener.local_addr()?)?)?;
        self.server = End::new(self.listener.accept()?.0)?;
        Ok(())
    }

    /// The port of the server.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.listener.local_addr().map_or(0, |address| address.port())
    }

    /// The client sends in one segment, and the server has received it.
    pub fn request(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        transfer(&mut self.client, &mut self.server, bytes.as_ref(), usize::MAX)
    }

    /// The server sends in one segment, and the client has received it.
    pub fn answer(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        transfer(&mut self.server, &mut self.client, bytes.as_ref(), usize::MAX)
    }

    /// [`Wire::request`] in segments of `size` bytes.
    pub fn request_split(&mut self, bytes: impl AsRef<[u8]>, size: usize) -> Result<()> {
        transfer(&mut self.client, &mut self.server, bytes.as_ref(), size)
    }

    /// [`Wire::answer`] in segments of `size` bytes.
    pub fn answer_split(&mut self, bytes: impl AsRef<[u8]>, size: usize) -> Result<()> {
        transfer(&mut self.server, &mut self.client, bytes.as_ref(), size)
    }

    /// The client sends one segment per piece.
    pub fn request_pieces(&mut self, pieces: &[&[u8]]) -> Result<()> {
        pieces.iter().try_for_each(|piece| self.request(piece))
    }

    /// The server sends one segment per piece.
    pub fn answer_pieces(&mut self, pieces: &[&[u8]]) -> Result<()> {
        pieces.iter().try_for_each(|piece| self.answer(piece))
    }

    /// Both ends close, the client first, each by FIN.
    pub fn close(&mut self) -> Result<()> {
        self.client.close();
        self.server.expect_end()?;
        self.server.close();
        Ok(())
    }
}

/// Sends `bytes` in segments of at most `size`, each received before the next is sent:
/// otherwise the kernel would join what waits in its queue.
fn transfer(from: &mut End, to: &mut End, bytes: &[u8], size: usize) -> Result<()> {
    // What exceeds the socket buffers has to be read while it is written.
    const AT_ONCE: usize = 32 * 1024;
    for piece in bytes.chunks(size.min(AT_ONCE)) {
        from.send(piece)?;
        to.expect(piece)?;
    }
    Ok(())
}

impl End {
    fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.set_write_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self { stream: Some(stream) })
    }

    fn stream(&mut self) -> Result<&mut TcpStream> {
        self.stream.as_mut().context("this end is closed")
    }

    /// This end's address.
    pub fn address(&mut self) -> Result<SocketAddr> {
        Ok(self.stream()?.local_addr()?)
    }

    /// Sends without waiting for the other end.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream()?.write_all(bytes)?)
    }

    /// Receives exactly these bytes.
    pub fn expect(&mut self, bytes: &[u8]) -> Result<()> {
        let mut received = vec![0; bytes.len()];
        let stream = self.stream()?;
        stream.read_exact(&mut received)?;
        // Acknowledges at once: the sender's window stays open, so that small segments
        // are sent as they are.
        sockopt::set_tcp_quickack(&*stream, true)?;
        ensure!(received == bytes, "received {:?}", String::from_utf8_lossy(&received));
        Ok(())
    }

    /// Waits for the other end's FIN.
    pub fn expect_end(&mut self) -> Result<()> {
        match self.stream()?.read(&mut [0; 64])? {
            0 => Ok(()),
            more => bail!("{more} bytes instead of an end"),
        }
    }

    /// Waits for the other end's RST.
    pub fn expect_reset(&mut self) -> Result<()> {
        match self.stream()?.read(&mut [0; 64]) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
            other => bail!("{other:?} instead of a reset"),
        }
    }

    /// Lets TCP give up when nothing is acknowledged for so long.
    pub fn give_up_after(&mut self, patience: Duration) -> Result<()> {
        let milliseconds = u32::try_from(patience.as_millis())?;
        Ok(sockopt::set_tcp_user_timeout(&*self.stream()?, milliseconds)?)
    }

    /// Waits until TCP has given up.
    pub fn expect_timeout(&mut self) -> Result<()> {
        match self.stream()?.read(&mut [0; 64]) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(()),
            other => bail!("{other:?} instead of a timeout"),
        }
    }

    /// Sends FIN and goes on receiving.
    pub fn shut(&mut self) -> Result<()> {
        Ok(self.stream()?.shutdown(Shutdown::Write)?)
    }

    /// Closes: FIN, or RST where something was not read.
    pub fn close(&mut self) {
        self.stream = None;
    }

    /// Closes by RST.
    pub fn reset(&mut self) -> Result<()> {
        sockopt::set_socket_linger(&*self.stream()?, Some(Duration::ZERO))?;
        self.stream = None;
        Ok(())
    }
}

/// Lets time pass, so that a duration can be told from none.
pub fn pause(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// A port for calls that the harness makes only to see whether the agent shows them.
#[derive(Debug)]
pub struct Sentinel {
    listener: TcpListener,
}

impl Sentinel {
    /// Opens the port.
    pub fn start() -> Result<Self> {
        Ok(Self { listener: TcpListener::bind((Ipv4Addr::LOCALHOST, free_port()))? })
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.listener.local_addr().map_or(0, |address| address.port())
    }

    /// Makes one whole call and gives its path, which no other call has. The path has
    /// letters only, so that no learner of routes takes it for an id.
    pub fn call(&self) -> Result<String> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut path = "/sentinel/".to_owned();
        for _ in 0..6 {
            path.push(char::from(b'g' + u8::try_from(number % 16)?));
            number /= 16;
        }
        let mut client = End::new(TcpStream::connect(self.listener.local_addr()?)?)?;
        let mut server = End::new(self.listener.accept()?.0)?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: sentinel\r\n\r\n");
        transfer(&mut client, &mut server, request.as_bytes(), usize::MAX)?;
        let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
        transfer(&mut server, &mut client, answer, usize::MAX)?;
        client.close();
        server.expect_end()?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::Wire;
    use crate::process;

    #[test]
    fn a_split_request_crosses_in_that_many_segments() {
        let mut wire = Wire::open().expect("opens");
        let request = "GET /one-by-one HTTP/1.1\r\nHost: a\r\n\r\n";
        wire.request_split(request, 1).expect("crosses");
        let port = wire.client.address().expect("is open").port();
        let report = process::run(&format!("ss -tinH sport = :{port}")).expect("ss reports");
        let sent = report
            .split_whitespace()
            .find_map(|word| word.strip_prefix("data_segs_out:"))
            .and_then(|count| count.parse::<usize>().ok());
        assert_eq!(sent, Some(request.len()), "{report}");
    }

    #[test]
    fn a_reset_is_told_from_an_end() {
        let mut wire = Wire::open().expect("opens");
        wire.server.reset().expect("resets");
        wire.client.expect_reset().expect("is a reset");
        wire.again().expect("opens");
        wire.server.close();
        wire.client.expect_end().expect("is an end");
    }
}
