//! The load: nginx or a gRPC server on the first processor, its client on the second.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::workspace::{cargo, read, run, target};

/// Ticks of a second in `/proc` (`USER_HZ`, fixed by the kernel's interface).
const TICKS: f64 = 100.0;
/// Connections of a round.
const CONNECTIONS: &str = "32";
/// Of [`Kind::Many`].
const MANY: &str = "10000";
/// Connections and streams of each, over HTTP/2.
const MULTIPLEXED: [&str; 2] = ["4", "32"];
/// Bytes of a large answer.
const LARGE: u64 = 16 << 20;
/// What a call of gRPC asks with: a message of three bytes behind its prefix.
const MESSAGE: &[u8] = b"\0\0\0\0\x03tea";
/// Where it is kept for the client.
const MESSAGE_FILE: &str = "message";
/// What asks for a path that was never asked for.
const SCRIPT: &str = "local n = 0\nrequest = function()\n  n = n + 1\n  \
    return wrk.format(nil, '/item/' .. n)\nend\n";
/// Where it is kept for wrk.
const SCRIPT_FILE: &str = "unique.lua";

/// What is asked for, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// wrk, 32 connections that are kept.
    Http1,
    /// The same, of which the agent has every call told by a record.
    Told,
    /// wrk, of which no path ever comes again.
    Unique,
    /// wrk, 10,000 connections.
    Many,
    /// wrk, a connection for each request.
    Churn,
    /// wrk to nginx by TLS, whose connections are left alone.
    Tls,
    /// wrk, answers of 16 MiB.
    Large,
    /// h2load, 4 connections with 32 streams each.
    Http2,
    /// h2load, likewise, with unary calls of gRPC.
    Grpc,
    /// wrk; instead of the agent tcpdump.
    Capture,
    /// wrk; instead of the agent Envoy, in between.
    Proxy,
}

/// nginx with one worker, and a gRPC server of tonic; both end with this value.
#[derive(Debug)]
pub struct Server {
    children: Vec<Child>,
    port: u16,
    /// Speaks HTTP/2.
    multiplexed: u16,
    /// Speaks TLS.
    tls: u16,
    /// Speaks gRPC.
    shop: u16,
    folder: PathBuf,
}

/// Builds the gRPC server.
pub fn build_shop() -> Result<PathBuf> {
    const BUILD: &str = "build --release --locked --package meshtap-tests --bin rustcart";
    run(cargo().args(BUILD.split(' ')))?;
    Ok(target().join("release/rustcart"))
}

impl Server {
    /// Starts nginx and the program `shop`, and waits until both listen.
    pub fn start(shop_program: &Path) -> Result<Self> {
        let [port, multiplexed, tls, shop] =
            [free_port()?, free_port()?, free_port()?, free_port()?];
        let folder = target().join("bench");
        fs::create_dir_all(&folder)?;
        let configuration = folder.join("nginx.conf");
        fs::write(folder.join(MESSAGE_FILE), MESSAGE)?;
        fs::write(folder.join(SCRIPT_FILE), SCRIPT)?;
        fs::File::create(folder.join("large"))?.set_len(LARGE)?;
        certificate(&folder)?;
        fs::write(&configuration, text([port, multiplexed, tls]))?;
        let mut nginx = Command::new("taskset");
        nginx.args(["-c", "0", "nginx", "-p"]).arg(&folder);
        nginx.arg("-c").arg(&configuration).args(["-e", "nginx.log"]).stdin(Stdio::null());
        let mut server = Self { children: Vec::new(), port, multiplexed, tls, shop, folder };
        server.children.push(nginx.spawn().context("cannot start nginx")?);
        let mut shop = Command::new("taskset");
        shop.args(["-c", "0"]).arg(shop_program).arg(server.shop.to_string());
        let started = shop.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        server.children.push(started.context("cannot start the gRPC server")?);
        wait_for(port)
            .with_context(|| format!("see {}", server.folder.join("nginx.log").display()))?;
        wait_for(server.shop)?;
        Ok(server)
    }

    /// Where nginx speaks HTTP/1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// One run of the client: requests and seconds.
    pub fn load(&self, seconds: u32, kind: Kind) -> Result<(f64, f64)> {
        self.load_at(self.port, seconds, kind)
    }

    /// The same, where HTTP/1 is at another port.
    pub fn load_at(&self, port: u16, seconds: u32, kind: Kind) -> Result<(f64, f64)> {
        if matches!(kind, Kind::Http2 | Kind::Grpc) {
            return self.load_multiplexed(seconds, kind);
        }
        let connections = if kind == Kind::Many { MANY } else { CONNECTIONS };
        let mut wrk = Command::new("sh");
        // As many descriptors as are allowed.
        wrk.args(["-c", "ulimit -n $(ulimit -H -n) && exec \"$@\"", "sh", "taskset", "-c", "1"]);
        wrk.args(["wrk", "-t1", "-c", connections, "-d", &format!("{seconds}s")]);
        if kind == Kind::Churn {
            wrk.args(["-H", "Connection: close"]);
        }
        if kind == Kind::Unique {
            wrk.arg("-s").arg(self.folder.join(SCRIPT_FILE));
        }
        wrk.arg(match kind {
            Kind::Tls => format!("https://127.0.0.1:{}/ok", self.tls),
            Kind::Large => format!("http://127.0.0.1:{port}/large"),
            _ => format!("http://127.0.0.1:{port}/ok"),
        });
        let text = read(&mut wrk)?;
        counts(&text).with_context(|| format!("wrk printed no count:\n{text}"))
    }

    fn load_multiplexed(&self, seconds: u32, kind: Kind) -> Result<(f64, f64)> {
        let [connections, streams] = MULTIPLEXED;
        let mut client = Command::new("taskset");
        client.args(["-c", "1", "h2load", "-t1", "-c", connections, "-m", streams]);
        client.args(["-D", &seconds.to_string()]);
        if kind == Kind::Grpc {
            client.args(["-H", "content-type: application/grpc", "-H", "te: trailers", "-d"]);
            client.arg(self.folder.join(MESSAGE_FILE));
            client.arg(format!("http://127.0.0.1:{}/shop.Cart/Get", self.shop));
        } else {
            client.arg(format!("http://127.0.0.1:{}/ok", self.multiplexed));
        }
        let text = read(&mut client)?;
        let requests = counts_of_h2load(&text)
            .with_context(|| format!("h2load printed no count, or failed requests:\n{text}"))?;
        Ok((requests, f64::from(seconds)))
    }

    /// Holds `number` connections open while `then` runs.
    pub fn with_connections<T>(&self, number: u32, then: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut wrk = Command::new("sh")
            .arg("-c")
            .arg(format!(
                "ulimit -n $(ulimit -H -n) && exec taskset -c 1 wrk -t1 -c{number} -d8s http://127.0.0.1:{}/ok",
                self.port
            ))
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start wrk")?;
        sleep(Duration::from_secs(6));
        let result = then();
        let status = wrk.wait()?;
        ensure!(status.success(), "wrk with {number} connections failed: {status}");
        result
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for child in &mut self.children {
            // Each is its only process; what cannot be killed has ended.
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// nginx's configuration; the ports of HTTP/1, HTTP/2 and TLS.
fn text([port, multiplexed, tls]: [u16; 3]) -> String {
    format!(
        "daemon off;\nmaster_process off;\nworker_rlimit_nofile 30000;\npid nginx.pid;\n\
         events {{ worker_connections 20000; }}\n\
         http {{\n  access_log off;\n  keepalive_requests 1000000000;\n  sendfile on;\n  \
         ssl_certificate certificate;\n  ssl_certificate_key key;\n  \
         server {{ listen 127.0.0.1:{port} backlog=16384; listen 127.0.0.1:{multiplexed} http2; \
         listen 127.0.0.1:{tls} ssl; root .; \
         location / {{ return 200 \"ok\"; }} location = /large {{ }} }}\n}}\n"
    )
}

/// A certificate that nobody has to believe, and its key.
fn certificate(folder: &Path) -> Result<()> {
    const ASKED: &str = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key -out certificate";
    read(Command::new("openssl").args(ASKED.split(' ')).current_dir(folder)).map(drop)
}

/// Requests and seconds in what wrk printed: `123 requests in 2.00s, 4MB read`.
fn counts(text: &str) -> Option<(f64, f64)> {
    let line = text.lines().find(|line| line.contains(" requests in "))?;
    let (requests, rest) = line.trim().split_once(" requests in ")?;
    let seconds = rest.split(',').next()?;
    let (number, unit) = seconds.split_at(seconds.find(|letter: char| letter.is_alphabetic())?);
    let scale = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        _ => return None,
    };
    Some((requests.parse().ok()?, number.parse::<f64>().ok()? * scale))
}

/// Requests in what h2load printed, where all succeeded: `requests: 9 total, 9 started, 9
/// done, 9 succeeded, 0 failed, …`.
fn counts_of_h2load(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("requests: "))?;
    let figure = |name: &str| -> Option<f64> {
        let part = line.split(", ").find_map(|part| part.strip_suffix(name))?;
        part.trim().parse().ok()
    };
    (figure(" failed")? == 0.0).then(|| figure(" succeeded"))?
}

/// Seconds in which processors were not idle, over all of them, since boot.
pub fn busy() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    let first = text.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<f64> =
        first.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    ensure!(ticks.len() >= 8, "/proc/stat has too few fields");
    // user nice system idle iowait irq softirq steal
    Ok([0, 1, 2, 5, 6].iter().map(|&field| ticks[field]).sum::<f64>() / TICKS)
}

/// A port that nobody listens on.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Waits until something listens there.
pub fn wait_for(port: u16) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(());
        }
        sleep(Duration::from_millis(20));
    }
    bail!("nothing listens on port {port}")
}

#[cfg(test)]
mod tests {
    use super::{counts, counts_of_h2load};

    #[test]
    fn counts_of_h2load_are_read() {
        let line =
            "requests: 90 total, 92 started, 90 done, 90 succeeded, 0 failed, 0 errored, 0 timeout";
        assert_eq!(counts_of_h2load(&format!("finished in 2s\n{line}\nstatus")), Some(90.0));
        assert_eq!(counts_of_h2load(&line.replace("0 failed", "1 failed")), None);
    }

    #[test]
    fn counts_of_wrk_are_read() {
        let text = "Running 2s test\n  261234 requests in 2.10s, 40.1MB read\nRequests/sec: 1\n";
        assert_eq!(counts(text), Some((261_234.0, 2.1)));
        assert_eq!(counts("  9 requests in 900.00ms, 1KB read"), Some((9.0, 0.9)));
        assert_eq!(counts("unable to connect"), None);
    }
}
