//! [`Far`]: servers on other nodes, which nobody on this machine can look into: what answers
//! at their addresses is no socket of this kernel's.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, anyhow};
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{Medium, TunTapInterface, wait};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpCidr};

use crate::process::run;

/// The device behind which they stand; it goes with whoever holds it.
const DEVICE: &str = "meshtap-far0";
/// Its own address, which nobody asks.
const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
/// Connections at a time.
const CONNECTIONS: usize = 16;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";

/// Web servers that say `ok`, until this is dropped.
#[derive(Debug)]
pub struct Far {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Far {
    /// At these addresses and this port.
    pub fn serve(addresses: &[Ipv4Addr], port: u16) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let (told, found) = mpsc::channel();
        // The device stays with the thread that made it.
        let thread = std::thread::spawn(move || match Servers::new(port) {
            Ok(servers) => {
                drop(told.send(Ok(())));
                servers.run(&is_over);
            }
            Err(error) => drop(told.send(Err(error))),
        });
        let far = Self { stop, thread: Some(thread) };
        found.recv().context("the servers' thread ended")??;
        run(&format!("ip link set {DEVICE} up"))?;
        for address in addresses {
            run(&format!("ip route add {address}/32 dev {DEVICE}"))?;
        }
        Ok(far)
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

struct Servers {
    device: TunTapInterface,
    interface: Interface,
    sockets: SocketSet<'static>,
    port: u16,
}

impl Servers {
    fn new(port: u16) -> Result<Self> {
        let mut device = TunTapInterface::new(DEVICE, Medium::Ip).context(DEVICE)?;
        let config = Config::new(HardwareAddress::Ip);
        let mut interface = Interface::new(config, &mut device, Instant::now());
        let own = IpCidr::new(OWN.into(), 32);
        let mut pushed = Ok(());
        interface.update_ip_addrs(|all| pushed = all.push(own));
        pushed.map_err(|own| anyhow!("{own} finds no place"))?;
        // Whatever comes here is for somebody here.
        interface.set_any_ip(true);
        let route = interface.routes_mut().add_default_ipv4_route(OWN);
        route.map_err(|full| anyhow!("{full:?}"))?;
        let mut sockets = SocketSet::new(Vec::new());
        let buffer = || tcp::SocketBuffer::new(vec![0; 4_096]);
        for _ in 0..CONNECTIONS {
            sockets.add(tcp::Socket::new(buffer(), buffer()));
        }
        Ok(Self { device, interface, sockets, port })
    }

    fn run(mut self, is_over: &AtomicBool) {
        while !is_over.load(Ordering::Relaxed) {
            self.interface.poll(Instant::now(), &mut self.device, &mut self.sockets);
            for (_, socket) in self.sockets.iter_mut() {
                let smoltcp::socket::Socket::Tcp(socket) = socket;
                answer(socket, self.port);
            }
            self.interface.poll(Instant::now(), &mut self.device, &mut self.sockets);
            let now = Instant::now();
            let longest = Duration::from_millis(50);
            let next = self.interface.poll_delay(now, &self.sockets).unwrap_or(longest);
            // An interrupted wait is as good as one that ended.
            drop(wait(self.device.as_raw_fd(), Some(next.min(longest))));
        }
    }
}

/// One request a segment, one answer a request; the client closes first.
fn answer(socket: &mut tcp::Socket<'_>, port: u16) {
    if !socket.is_open() {
        // Fails only where it is open already.
        let _ = socket.listen(port);
    }
    let asked = socket.can_recv()
        && socket.recv(|bytes| (bytes.len(), bytes.ends_with(b"\r\n\r\n"))).unwrap_or(false);
    if asked {
        // Fails only where the client is gone.
        let _ = socket.send_slice(ANSWER);
    } else if socket.state() == tcp::State::CloseWait {
        socket.close();
    }
}
