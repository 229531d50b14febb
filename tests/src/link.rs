//! [`Link`]: a line between two network namespaces that delays, reorders, doubles and
//! loses packets by a seeded chance, where the kernel has no queueing discipline for it.
//!
//! The ends are TUN devices; what one namespace sends is read here and written to the
//! other one's device when it is due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::BufRead as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::netns::{CLIENT, Netns, SERVER};
use crate::process::run;
use crate::requirement::program;

/// What happens to packets, in both directions alike. Probabilities are per packet.
#[derive(Clone, Copy, Debug)]
pub struct Impairment {
    /// How long every packet takes.
    pub delay: Duration,
    /// Probability of being late by up to four more delays, behind its successors.
    pub reorder: f64,
    /// Probability of arriving twice.
    pub duplicate: f64,
    /// Probability of not arriving.
    pub loss: f64,
    /// Equal seeds draw equal chances.
    pub seed: u64,
}

impl Impairment {
    /// A link on which packets are late, doubled and lost.
    pub const BAD: Self = Self {
        delay: Duration::from_micros(300),
        reorder: 0.03,
        duplicate: 0.03,
        loss: 0.002,
        seed: 11,
    };
}

/// What happened so far.
#[derive(Debug, Default)]
pub struct Tally {
    /// Packets that arrived, duplicates included.
    pub delivered: AtomicU64,
    /// Packets that were late.
    pub reordered: AtomicU64,
    /// Packets that arrived twice.
    pub duplicated: AtomicU64,
    /// Packets that did not arrive.
    pub lost: AtomicU64,
}

/// A line between two namespaces, with the addresses [`CLIENT`] and [`SERVER`].
#[derive(Debug)]
pub struct Link {
    tally: Arc<Tally>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

// Only the two calls that make TUN devices need it; their descriptors are fetched from it.
const MAKER: &str = r#"
import fcntl, os, struct, sys
for name in sys.argv[1:]:
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, 0x400454ca, struct.pack("16sH22x", name.encode(), 0x1001))
    print(tun, flush=True)
sys.stdin.read()
"#;

impl Link {
    /// Lays the line.
    pub fn lay(client: &Netns, server: &Netns, impairment: Impairment) -> Result<Self> {
        let tag = std::process::id() % 100_000;
        let names = [format!("mtc{tag}"), format!("mts{tag}")];
        let [near, far] = devices(&names)?;
        for (netns, name, mine, peer) in
            [(client, &names[0], CLIENT, SERVER), (server, &names[1], SERVER, CLIENT)]
        {
            run(&format!("ip link set {name} netns {}", netns.name()))?;
            netns.run(&format!("ip addr add {mine} peer {peer} dev {name}"))?;
            netns.run(&format!("ip link set {name} up"))?;
        }
        let tally = Arc::new(Tally::default());
        let stop = Arc::new(AtomicBool::new(false));
        let (near, far) = (Arc::new(near), Arc::new(far));
        let mut threads = Vec::new();
        for (from, to, salt) in [(&near, &far, 0), (&far, &near, 1)] {
            let direction = Direction {
                from: Arc::clone(from),
                to: Arc::clone(to),
                impairment,
                chance: StdRng::seed_from_u64(impairment.seed * 2 + salt),
                tally: Arc::clone(&tally),
                underway: BinaryHeap::new(),
                number: 0,
            };
            let stop = Arc::clone(&stop);
            threads.push(std::thread::spawn(move || direction.forward(&stop)));
        }
        Ok(Self { tally, stop, threads })
    }

    /// What happened so far.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

/// Makes two TUN devices and gives their descriptors.
fn devices(names: &[String; 2]) -> Result<[OwnedFd; 2]> {
    let python = program("python3").context("python3 is not installed")?;
    let mut maker = Command::new(python)
        .arg("-c")
        .arg(MAKER)
        .args(names)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let descriptors = fetch(&mut maker);
    drop(maker.kill());
    drop(maker.wait());
    descriptors
}

fn fetch(maker: &mut Child) -> Result<[OwnedFd; 2]> {
    let pid = Pid::from_raw(i32::try_from(maker.id())?).context("a process id")?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let mut output = std::io::BufReader::new(maker.stdout.take().context("is piped")?);
    let mut next = || -> Result<OwnedFd> {
        let mut line = String::new();
        output.read_line(&mut line)?;
        ensure!(!line.is_empty(), "no TUN device could be made");
        Ok(pidfd_getfd(pidfd.as_fd(), line.trim().parse()?, PidfdGetfdFlags::empty())?)
    };
    Ok([next()?, next()?])
}

#[derive(Debug)]
struct Direction {
    from: Arc<OwnedFd>,
    to: Arc<OwnedFd>,
    impairment: Impairment,
    chance: StdRng,
    tally: Arc<Tally>,
    // Due time, then order of arrival, so that equal times keep their order.
    underway: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>>,
    number: u64,
}

impl Direction {
    fn forward(mut self, stop: &AtomicBool) {
        let mut buffer = vec![0; 65_536];
        while !stop.load(Ordering::Relaxed) {
            self.wait();
            while let Ok(length) = rustix::io::read(&*self.from, &mut buffer) {
                self.take(&buffer[..length]);
            }
            self.deliver(Instant::now());
        }
    }

    /// Until a packet comes or is due, at the most a little while.
    fn wait(&self) {
        let longest = Duration::from_millis(50);
        let next = self.underway.peek().map(|Reverse((due, ..))| *due);
        let patience = next.map_or(longest, |due| due.saturating_duration_since(Instant::now()));
        let patience = Timespec::try_from(patience.min(longest)).ok();
        // An interrupted wait is as good as one that ended.
        let _ = poll(&mut [PollFd::new(&*self.from, PollFlags::IN)], patience.as_ref());
    }

    fn take(&mut self, packet: &[u8]) {
        let Impairment { delay, reorder, duplicate, loss, .. } = self.impairment;
        if self.chance.random_bool(loss) {
            self.tally.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut due = Instant::now() + delay;
        if self.chance.random_bool(reorder) {
            due += delay.mul_f64(self.chance.random_range(1.0..4.0));
            self.tally.reordered.fetch_add(1, Ordering::Relaxed);
        }
        self.send(due, packet);
        if self.chance.random_bool(duplicate) {
            due += delay.mul_f64(self.chance.random_range(0.0..4.0));
            self.tally.duplicated.fetch_add(1, Ordering::Relaxed);
            self.send(due, packet);
        }
    }

    fn send(&mut self, due: Instant, packet: &[u8]) {
        self.number += 1;
        self.underway.push(Reverse((due, self.number, packet.to_vec())));
    }

    fn deliver(&mut self, now: Instant) {
        while self.underway.peek().is_some_and(|Reverse((due, ..))| *due <= now) {
            let Some(Reverse((_, _, packet))) = self.underway.pop() else { return };
            // A device that is down or full loses it, as a real one would.
            if rustix::io::write(&*self.to, &packet).is_ok() {
                self.tally.delivered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use super::{Impairment, Link};
    use crate::netns::{Netns, SERVER};

    #[test]
    fn a_stream_survives_and_every_impairment_happens() {
        let tun = std::path::Path::new("/dev/net/tun").exists();
        if !rustix::process::geteuid().is_root() || !tun {
            crate::skip!("needs root and /dev/net/tun");
        }
        let (client, server) = (Netns::create().expect("made"), Netns::create().expect("made"));
        let impairment = Impairment {
            delay: Duration::from_micros(500),
            reorder: 0.05,
            duplicate: 0.05,
            loss: 0.02,
            seed: 1,
        };
        let link = Link::lay(&client, &server, impairment).expect("is laid");
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|number| (number % 251) as u8).collect();
        let listener = server.enter(|| TcpListener::bind((SERVER, 8080))).expect("enters");
        let listener = listener.expect("binds");
        let received = std::thread::scope(|scope| {
            scope.spawn(|| {
                let stream = client.enter(|| TcpStream::connect((SERVER, 8080)));
                stream.expect("enters").expect("connects").write_all(&bytes).expect("is sent");
            });
            let mut received = Vec::new();
            let (mut stream, _) = listener.accept().expect("accepts");
            stream.read_to_end(&mut received).expect("is received");
            received
        });
        assert!(received == bytes, "{} bytes came", received.len());
        let tally = link.tally();
        for count in [&tally.delivered, &tally.reordered, &tally.duplicated, &tally.lost] {
            assert!(count.load(Ordering::Relaxed) > 0, "{tally:?}");
        }
    }
}
