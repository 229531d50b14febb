//! TCP per edge, whatever is spoken on it: opened, closed, failed, active, bytes, resets,
//! retransmissions; the error of a call whose connection times out; and what the kernel
//! tells of the whole host.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use meshtap_tests::agent::{Agent, Observer};
use meshtap_tests::netns::{Netns, Place, SERVER};
use meshtap_tests::process::{free_port, run};
use meshtap_tests::requirement::{keeps_events, kernel_since};
use meshtap_tests::scrape::Scrape;
use meshtap_tests::wire::{Wire, pause};
use meshtap_tests::workload::{Nginx, curl, h2load};
use meshtap_tests::{require, skip};

const OPENED: &str = "meshtap_tcp_connections_opened_total";
const CLOSED: &str = "meshtap_tcp_connections_closed_total";
const FAILED: &str = "meshtap_tcp_connections_failed_total";
const ACTIVE: &str = "meshtap_tcp_connections_active";
const BYTES: &str = "meshtap_tcp_io_bytes_total";
const RESETS: &str = "meshtap_tcp_resets_total";
const HOST_DROPPED: &str = "meshtap_host_packets_dropped_total";
const HOST_RESETS: &str = "meshtap_host_resets_total";
const HOST_RETRANSMITS: &str = "meshtap_host_retransmits_total";

/// Milliseconds after which a connection that goes on is reported again.
const REPORT: u64 = 1_000;

/// An agent that calls what listens on the port `vault-…`, and this program `dialer-…`.
struct Bank {
    agent: Agent,
    vault: String,
    dialer: String,
}

impl Bank {
    fn open(port: u16) -> Self {
        let (vault, dialer) = (format!("vault-{port}"), format!("dialer-{port}"));
        let agent = Agent::start(&format!(
            "capture:\n  report_interval: 500ms\nnames:\n  - name: {vault}\n    match: {{ port: {port} }}\n  \
             - name: {dialer}\n    match: {{ executable: \"connections-*\" }}\n"
        ))
        .expect("is ready");
        Self { agent, vault, dialer }
    }

    fn at_vault<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let mut labels = vec![
            ("service_name", self.vault.as_str()),
            ("service_peer_name", self.dialer.as_str()),
            ("role", "server"),
        ];
        labels.extend(more);
        labels
    }

    fn at_dialer<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let mut labels = vec![("service_name", self.dialer.as_str()), ("role", "client")];
        labels.extend(more);
        labels
    }

    fn scrape_until(&self, enough: impl Fn(&Scrape) -> bool) -> Scrape {
        self.agent.scrape_until(enough).expect("is served")
    }
}

/// What follows an accepted CONNECT or an upgrade is no call, and its bytes count.
#[test]
fn bytes_of_a_tunnel() {
    require!("ss");
    let mut wire = Wire::open().expect("opens");
    let bank = Bank::open(wire.port());
    wire.again().expect("opens");
    wire.request("CONNECT b.test:443 HTTP/1.1\r\nHost: b.test:443\r\n\r\n").expect("crosses");
    wire.answer("HTTP/1.1 200 OK\r\n\r\n").expect("crosses");
    let (there, back) = ("x".repeat(7_000), "y".repeat(40_000));
    wire.request(&there).expect("crosses");
    wire.answer(&back).expect("crosses");
    wire.close().expect("closes");
    let both = [("receive", 7_000..8_000), ("transmit", 40_000..41_000)];
    let bytes = |scrape: &Scrape, direction| {
        scrape.count(BYTES, &bank.at_vault(&[("network_io_direction", direction)]))
    };
    let scrape = bank
        .scrape_until(|scrape| both.iter().all(|(way, range)| range.contains(&bytes(scrape, way))));
    for (way, range) in &both {
        assert!(range.contains(&bytes(&scrape, way)), "{way}: {}", bytes(&scrape, way));
    }
    bank.agent.stop().expect("ends well");
}

/// The kernel half says what it does where it is asked to, and else nothing.
#[test]
fn what_the_kernel_half_logs() {
    require!("ss");
    const LINE: &str = "a connection older than the agent";
    for (level, says) in [("debug", true), ("off", false)] {
        let mut wire = Wire::open().expect("opens");
        let agent = Agent::start(&format!("log:\n  kernel: {level}\n")).expect("is ready");
        wire.request("something").expect("crosses");
        for _ in 0..50 {
            if agent.output().contains(LINE) {
                break;
            }
            pause(20);
        }
        let output = agent.stop().expect("ends well");
        assert_eq!(output.contains(LINE), says, "{level}: {output}");
    }
}

/// A connection that speaks nothing known is an edge with its figures, while it lives and after.
#[test]
fn an_unknown_protocol() {
    require!("ss");
    // The port is known before the listener is there.
    let port = free_port();
    let bank = Bank::open(port);
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("binds");
    let mut wire = Wire::through(listener, "127.0.0.1").expect("opens");
    wire.request("*1\r\n$4\r\nPING\r\n").expect("crosses");
    wire.answer(format!("${}\r\n{}\r\n", 20_000, "p".repeat(20_000))).expect("crosses");
    let (received, sent) = (14, 20_010);
    // Figures ride on packets: the first that comes when a report is due tells what was before.
    pause(REPORT);
    wire.request("+").expect("crosses");
    let to = [("network_io_direction", "receive")];
    let from = [("network_io_direction", "transmit")];
    let scrape = bank.scrape_until(|scrape| {
        scrape.count(BYTES, &bank.at_vault(&to)) >= received
            && scrape.count(BYTES, &bank.at_vault(&from)) >= sent
    });
    assert_eq!(scrape.count(BYTES, &bank.at_vault(&to)), received, "while it is open");
    assert_eq!(scrape.count(BYTES, &bank.at_vault(&from)), sent, "while it is open");
    assert_eq!(scrape.count(OPENED, &bank.at_vault(&[])), 1);
    assert_eq!(scrape.count(ACTIVE, &bank.at_vault(&[])), 1);
    assert_eq!(scrape.count(ACTIVE, &bank.at_dialer(&[("service_peer_name", &bank.vault)])), 1);
    wire.close().expect("closes");
    let reason = bank.at_vault(&[("reason", "fin")]);
    let scrape = bank.scrape_until(|scrape| scrape.count(CLOSED, &reason) == 1);
    assert_eq!(scrape.count(CLOSED, &reason), 1);
    assert_eq!(scrape.count(ACTIVE, &bank.at_vault(&[])), 0);
    assert_eq!(scrape.count(BYTES, &bank.at_vault(&to)), received + 1, "counted once");
    let http = "http_server_request_duration_seconds_count";
    assert_eq!(scrape.count(http, &[("service_name", &bank.vault)]), 0);
    assert!(scrape.sum("meshtap_tcp_rtt_seconds_count", &bank.at_vault(&[])) >= 1.0);
    bank.agent.stop().expect("ends well");
}

/// TLS of programs that others wrote: an edge with its figures, of which no call is told.
#[test]
fn tls() {
    require!("nginx", "curl", "openssl", "ss");
    const CALLS: u64 = 5;
    let folder = tempfile::tempdir().expect("is made");
    let [key, certificate] =
        ["key", "certificate"].map(|name| folder.path().join(name).display().to_string());
    let request = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=vault.test";
    run(&format!("{request} -keyout {key} -out {certificate}")).expect("is signed");
    let port = free_port();
    let bank = Bank::open(port);
    let secure = format!(
        "listen 127.0.0.1:{port} ssl;\nssl_certificate {certificate};\n\
         ssl_certificate_key {key};"
    );
    let nginx = Nginx::start_in(Place::HERE, 1, &secure).expect("starts");
    nginx.file("page", 100_000).expect("is made");
    for _ in 0..CALLS {
        let url = format!("https://127.0.0.1:{port}/files/page");
        assert_eq!(curl(&["-k", &url]).expect("answers").len(), 100_000);
    }
    let vault = |more: &[(&'static str, &'static str)]| {
        let mut labels = vec![("service_name", bank.vault.clone()), ("role", "server".to_owned())];
        labels.push(("service_peer_name", "curl".to_owned()));
        labels.extend(more.iter().map(|&(name, value)| (name, value.to_owned())));
        labels
    };
    let count = |scrape: &Scrape, metric: &str, more: &[(&'static str, &'static str)]| {
        let labels = vault(more);
        let labels: Vec<_> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        scrape.count(metric, &labels)
    };
    let scrape = bank.scrape_until(|scrape| count(scrape, CLOSED, &[]) == CALLS);
    assert_eq!(count(&scrape, OPENED, &[]), CALLS);
    assert_eq!(count(&scrape, CLOSED, &[]), CALLS);
    assert_eq!(count(&scrape, ACTIVE, &[]), 0);
    let sent = count(&scrape, BYTES, &[("network_io_direction", "transmit")]);
    // What TLS adds: certificates, and some bytes to each record.
    assert!((CALLS * 100_000..CALLS * 110_000).contains(&sent), "{sent}");
    assert!(count(&scrape, BYTES, &[("network_io_direction", "receive")]) > CALLS * 300);
    let http = "http_server_request_duration_seconds_count";
    assert_eq!(scrape.count(http, &[("service_name", &bank.vault)]), 0, "nothing was read");
    bank.agent.stop().expect("ends well");
}

#[test]
fn refused_and_reset() {
    require!("ss");
    let port = free_port();
    let bank = Bank::open(port);
    for _ in 0..3 {
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "nobody listens");
    }
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("binds");
    let mut wire = Wire::through(listener, "127.0.0.1").expect("opens");
    wire.request("hello").expect("crosses");
    wire.server.reset().expect("resets");
    wire.client.expect_reset().expect("is a reset");
    wire.client.close();
    let refused = bank.at_dialer(&[("reason", "refused")]);
    let sent = bank.at_vault(&[("reason", "reset_sent")]);
    let received =
        bank.at_dialer(&[("reason", "reset_received"), ("service_peer_name", &bank.vault)]);
    let scrape = bank.scrape_until(|scrape| {
        scrape.count(FAILED, &refused) >= 3
            && scrape.count(CLOSED, &sent) >= 1
            && scrape.count(CLOSED, &received) >= 1
    });
    assert_eq!(scrape.count(FAILED, &refused), 3);
    assert_eq!(scrape.count(CLOSED, &sent), 1);
    assert_eq!(scrape.count(CLOSED, &received), 1);
    let direction = bank.at_vault(&[("network_io_direction", "transmit")]);
    assert_eq!(scrape.count(RESETS, &direction), 1);
    bank.agent.stop().expect("ends well");
}

/// What the agent counts as sent again is what the kernel of the namespace counts. A SYN-ACK
/// that is sent again is the later connection's too (`tcp_create_openreq_child`).
#[test]
fn retransmissions() {
    const CLIENTS: u32 = 8;
    require!("nginx", "h2load", "iptables", "ip", "nstat", "ss");
    let (client, server) = Netns::pair().expect("a pair");
    client
        .run("iptables -A INPUT -m statistic --mode random --probability 0.02 -j DROP")
        .expect("is set");
    let nginx = Nginx::start_in(Place::netns(&server), 1, "").expect("starts");
    nginx.file("page", 100_000).expect("is made");
    let bank = Bank::open(nginx.port());
    let before = bank.agent.scrape().expect("is served").count(HOST_RETRANSMITS, &[]);
    let address = format!("{SERVER}:{}", nginx.port());
    h2load(Place::netns(&client), &address, &["/files/page"], CLIENTS, 500).expect("runs");
    let labels = [("service_name", bank.vault.as_str()), ("role", "server")];
    // Until a connection's end its kernel may send again: a FIN that was lost is the last.
    let ended = |scrape: &Scrape| {
        [OPENED, CLOSED].iter().all(|name| scrape.count(name, &labels) == u64::from(CLIENTS))
    };
    let scrape = bank.scrape_until(ended);
    assert!(ended(&scrape), "a connection did not end");
    let counted = server.run("nstat -asz TcpRetransSegs").expect("is told");
    let counted = counted
        .lines()
        .find_map(|line| line.strip_prefix("TcpRetransSegs"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .expect("is a number");
    assert!(counted > 10, "the link lost segments: {counted}");
    assert_eq!(scrape.count("meshtap_tcp_retransmits_total", &labels), counted);
    // The host's figure counts packets, which may hold several segments.
    let enough = |scrape: &Scrape| scrape.count(HOST_RETRANSMITS, &[]) > before + 10;
    assert!(enough(&bank.scrape_until(enough)), "of {counted}");
    bank.agent.stop().expect("ends well");
}

/// What names no connection is counted for the whole host, by the kernel's own names: once
/// each. Others on this host may add something, but not as much as the test.
#[test]
fn causes_of_the_host() {
    const TIMES: u64 = 200;
    require!("iptables", "ip", "ss");
    if keeps_events() {
        skip!("this kernel keeps its events to itself (lockdown=confidentiality)");
    }
    let (client, server) = Netns::pair().expect("a pair");
    server.run("iptables -A INPUT -p udp -j DROP").expect("is set");
    let port = free_port();
    let bank = Bank::open(port);
    let mut figures = vec![(HOST_RESETS, ("network_io_direction", "receive"))];
    // Older kernels do not say why they drop, or not that they reset what has no socket.
    if kernel_since(5, 17) {
        figures.push((HOST_DROPPED, ("reason", "NO_SOCKET")));
        figures.push((HOST_DROPPED, ("reason", "NETFILTER_DROP")));
    }
    if kernel_since(6, 10) {
        figures.push((HOST_RESETS, ("network_io_direction", "transmit")));
    }
    let read = |scrape: &Scrape| -> Vec<u64> {
        figures.iter().map(|&(name, label)| scrape.count(name, &[label])).collect()
    };
    let before = read(&bank.agent.scrape().expect("is served"));
    for _ in 0..TIMES {
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "nobody listens");
    }
    let sent = client.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        (0..TIMES).try_for_each(|_| socket.send_to(b"lost", (SERVER, 9)).map(drop))
    });
    sent.expect("enters").expect("leaves");
    let since = |scrape: &Scrape| -> Vec<u64> {
        read(scrape).iter().zip(&before).map(|(now, before)| now - before).collect()
    };
    let scrape = bank.scrape_until(|scrape| since(scrape).iter().all(|count| *count >= TIMES));
    for (count, figure) in since(&scrape).into_iter().zip(&figures) {
        assert!((TIMES..2 * TIMES).contains(&count), "{count} of {TIMES}: {figure:?}");
    }
    bank.agent.stop().expect("ends well");
}

/// The request never reaches the server, and TCP gives up.
#[test]
fn a_call_that_times_out() {
    require!("iptables", "ip", "ss");
    let (client, server) = Netns::pair().expect("a pair");
    let observer = Observer::start().expect("observes");
    let mut wire = Wire::between(&client, &server).expect("opens");
    let exchange = "GET /heard HTTP/1.1\r\nHost: a\r\n\r\n";
    wire.request(exchange).expect("crosses");
    wire.answer("HTTP/1.1 204 No Content\r\n\r\n").expect("crosses");
    server.run("iptables -A INPUT -p tcp -j DROP").expect("is set");
    wire.client.give_up_after(Duration::from_millis(1500)).expect("is set");
    wire.client.send(b"GET /unheard HTTP/1.1\r\nHost: a\r\n\r\n").expect("leaves");
    wire.client.expect_timeout().expect("is a timeout");
    wire.client.close();
    let port = wire.port();
    let calls = observer.finish().expect("ends well");
    let seen = calls.to_port(port);
    let shown: Vec<String> = seen.iter().map(|call| call.summary()).collect();
    assert_eq!(shown, ["GET /heard 204", "GET /unheard timeout"]);
    assert_eq!(seen[1].client_error.as_deref(), Some("timeout"), "{:?}", seen[1]);
    assert_eq!(seen[1].server_duration_us, None, "the server never saw it");
    assert!(seen[1].retransmits > 0, "{:?}", seen[1]);
}

/// Connections that are older than the agent are active, and were not opened.
#[test]
fn older_connections() {
    require!("ss");
    let mut wires: Vec<Wire> = (0..5).map(|_| Wire::open().expect("opens")).collect();
    let port = wires[0].port();
    let bank = Bank::open(port);
    wires[0].request("something").expect("crosses");
    let scrape = bank.scrape_until(|scrape| scrape.count(ACTIVE, &bank.at_vault(&[])) == 1);
    assert_eq!(scrape.count(ACTIVE, &bank.at_vault(&[])), 1);
    assert_eq!(scrape.count(OPENED, &bank.at_vault(&[])), 0);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    assert_eq!(wires[0].server.address().expect("is open"), address);
    bank.agent.stop().expect("ends well");
}
