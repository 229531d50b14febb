//! Service addresses that the node translates, as kube-proxy has it done by iptables, nftables
//! and IPVS: who is behind them, though no end's own socket says so.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use anyhow::Result;
use meshtap_tests::agent::{Agent, Observer, Turn};
use meshtap_tests::call::{CallLine, Calls};
use meshtap_tests::cgroup;
use meshtap_tests::netns::{Netns, Place};
use meshtap_tests::process::{PATIENCE, Running, fixture, free_port, output, run};
use meshtap_tests::requirement::program;
use meshtap_tests::scrape::Scrape;
use meshtap_tests::workload::{Language, Server, load};
use meshtap_tests::{require, skip};

const SERVICE: &str = "10.96.0.10";
const CLIENT: &str = "10.88.1.2";
const SERVER: &str = "10.88.2.2";
/// A host beyond the node, and the node's address on the way there.
const DISTANT: &str = "10.88.9.2";
const NODE: &str = "10.88.9.1";

/// Two pods and the node between them, which forwards; the agent's place is the node.
struct Host {
    client: Netns,
    node: Netns,
    server: Netns,
}

impl Host {
    fn create() -> Result<Self> {
        let (client, node, server) = (Netns::create()?, Netns::create()?, Netns::create()?);
        client.join(&node, "left", CLIENT, "10.88.1.1")?;
        server.join(&node, "right", SERVER, "10.88.2.1")?;
        client.run("ip route add default via 10.88.1.1")?;
        server.run("ip route add default via 10.88.2.1")?;
        node.run("sysctl -qw net.ipv4.ip_forward=1")?;
        Ok(Self { client, node, server })
    }

    /// The distant host, which answers everything or asks one thing.
    fn distant(&self, arguments: &[&str]) -> Result<Running> {
        let mut command = Place::netns(&self.node).inside("python3")?;
        command.arg(fixture("python").join("distant.py")).args([DISTANT, NODE]).args(arguments);
        let mut running = Running::start(&mut command)?;
        running.wait_for_text("ready")?;
        Ok(running)
    }
}

/// What translates.
#[derive(Clone, Copy, Debug)]
enum Translator {
    Iptables,
    Nftables,
    Ipvs,
}

impl Translator {
    /// Why it cannot here.
    fn missing(self) -> Option<String> {
        let needed = match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nft",
            Self::Ipvs => "ipvsadm",
        };
        if let Some(needed) = [needed, "iptables"].into_iter().find(|name| program(name).is_none())
        {
            return Some(format!("not installed: {needed}"));
        }
        // The module, where it is one, is loaded by whoever asks first.
        drop(run("modprobe ip_vs"));
        let lacks = matches!(self, Self::Ipvs) && !Path::new("/proc/net/ip_vs").exists();
        lacks.then(|| "this kernel has no IPVS".to_owned())
    }

    /// Sends what comes for a port of an address to a backend's.
    fn translate(self, node: &Netns, service: (&str, u16), backend: (&str, u16)) -> Result<()> {
        let ((asked, asked_port), (backend, port)) = (service, backend);
        let lines = match self {
            Self::Iptables => vec![format!(
                "iptables -t nat -A PREROUTING -d {asked} -p tcp --dport {asked_port} \
                 -j DNAT --to {backend}:{port}"
            )],
            Self::Nftables => vec![
                "nft add table ip shop".to_owned(),
                "nft add chain ip shop in { type nat hook prerouting priority -100 ; }".to_owned(),
                format!(
                    "nft add rule ip shop in ip daddr {asked} tcp dport {asked_port} \
                     dnat to {backend}:{port}"
                ),
            ],
            // As kube-proxy: the node has the address itself, and connections are tracked, for
            // which there has to be a rule that needs it.
            Self::Ipvs => vec![
                "iptables -t nat -A POSTROUTING -m mark --mark 0x4000 -j MASQUERADE".to_owned(),
                format!("ip address add {asked}/32 dev lo"),
                format!("ipvsadm -A -t {asked}:{asked_port} -s rr"),
                format!("ipvsadm -a -t {asked}:{asked_port} -r {backend}:{port} -m"),
                "sysctl -qw net.ipv4.vs.conntrack=1".to_owned(),
            ],
        };
        lines.iter().try_for_each(|line| node.run(line).map(drop))
    }
}

/// The only call for `path`.
fn only<'a>(calls: &'a Calls, path: &str) -> &'a CallLine {
    let seen: Vec<&CallLine> = calls.calls.iter().filter(|call| call.path == path).collect();
    let [call] = seen.as_slice() else { panic!("one line for {path}, not {seen:#?}") };
    call
}

fn a_backend_on_another_host(translator: Translator) {
    require!("curl", "python3", "ip");
    if let Some(reason) = translator.missing() {
        skip!(reason);
    }
    if !Path::new("/dev/net/tun").exists() {
        skip!("needs /dev/net/tun");
    }
    let host = Host::create().expect("is made");
    translator.translate(&host.node, (SERVICE, 80), (DISTANT, 8080)).expect("is set");
    let _distant = host.distant(&[]).expect("is there");
    let calls = host.node.enter(|| {
        let observer = Observer::start()?;
        let mut command = load::curl_in(Place::netns(&host.client))?;
        output(command.arg(format!("http://{SERVICE}/far")))?;
        observer.finish()
    });
    let calls = calls.expect("enters").expect("is observed");
    let call = only(&calls, "/far");
    assert!(!call.both_ends(), "the server is none of this host's: {call:?}");
    assert_eq!((call.client.name.as_str(), call.status), ("curl", Some(204)), "{call:?}");
    assert_eq!(call.client.address.as_deref(), Some(CLIENT), "{call:?}");
    let server = (call.server.address.as_deref(), call.server.port);
    assert_eq!(server, (Some(DISTANT), Some(8080)), "the backend, not the Service: {call:?}");
}

#[test]
fn a_backend_on_another_host_behind_iptables() {
    a_backend_on_another_host(Translator::Iptables);
}

#[test]
fn a_backend_on_another_host_behind_nftables() {
    a_backend_on_another_host(Translator::Nftables);
}

#[test]
fn a_backend_on_another_host_behind_ipvs() {
    a_backend_on_another_host(Translator::Ipvs);
}

/// From outside, by a port of the node: the server's socket sees the node's address.
#[test]
fn a_client_on_another_host_behind_a_masquerade() {
    require!("python3", "ip", "iptables", "ss");
    if !Path::new("/dev/net/tun").exists() {
        skip!("needs /dev/net/tun");
    }
    let host = Host::create().expect("is made");
    let server = Server::start(Language::Python, Place::netns(&host.server)).expect("starts");
    Translator::Iptables
        .translate(&host.node, (NODE, 30_080), (SERVER, server.port()))
        .expect("is set");
    host.node.run("iptables -t nat -A POSTROUTING -j MASQUERADE").expect("is set");
    let calls = host.node.enter(|| {
        let observer = Observer::start()?;
        let mut distant = host.distant(&[NODE, "30080", "/hello"])?;
        assert!(distant.succeed(PATIENCE)?.contains("HTTP/1.1 200"));
        observer.finish()
    });
    let calls = calls.expect("enters").expect("is observed");
    let call = only(&calls, "/hello");
    assert_eq!((call.server.name.as_str(), call.status), ("shelf", Some(200)), "{call:?}");
    assert_eq!(call.client.address.as_deref(), Some(DISTANT), "not the node: {call:?}");
    assert_eq!((call.client.name.as_str(), call.client.port), (DISTANT, Some(50_000)), "{call:?}");
}

/// Nothing of it can be read, so that no request tells the two ends: TLS, or what is unknown.
#[test]
fn connections_that_carry_no_request_are_one_edge() {
    require!("ip", "iptables");
    let host = Host::create().expect("is made");
    let port = free_port();
    Translator::Iptables.translate(&host.node, (SERVICE, 443), (SERVER, port)).expect("is set");
    host.node.run("iptables -t nat -A POSTROUTING -j MASQUERADE").expect("is set");
    let (vault, dialer) = (format!("vault-{port}"), format!("dialer-{port}"));
    let config = format!(
        "capture:\n  report_interval: 500ms\nnames:\n  - name: {vault}\n    match: {{ port: {port} }}\n  \
         - name: {dialer}\n    match: {{ executable: \"translation-*\" }}\n"
    );
    let opened = "meshtap_tcp_connections_opened_total";
    let at_vault = [("service_name", &*vault), ("service_peer_name", &*dialer), ("role", "server")];
    let at_dialer =
        [("service_name", &*dialer), ("service_peer_name", &*vault), ("role", "client")];
    let seen = host.node.enter(|| -> Result<_> {
        let agent = Agent::start(&config)?;
        for _ in 0..3 {
            talk(&host, port)?;
        }
        let scrape = agent.scrape_until(|scrape| {
            [at_vault, at_dialer].iter().all(|labels| scrape.count(opened, labels) >= 3)
        })?;
        let counts = (scrape.count(opened, &at_vault), scrape.count(opened, &at_dialer));
        let all = scrape.count(opened, &[("service_name", &vault)]);
        let service = [("service_name", &*dialer), ("service_peer_name", SERVICE)];
        let unnamed = scrape.count(opened, &service);
        agent.stop()?;
        Ok((counts, all, unnamed))
    });
    let (counts, all, unnamed) = seen.expect("enters").expect("is seen");
    assert_eq!(counts, (3, 3), "each end names the other");
    assert_eq!((all, unnamed), (3, 0), "and nobody else");
}

/// One connection from the client's namespace to the Service, with what looks like TLS.
fn talk(host: &Host, port: u16) -> Result<()> {
    let listener = host.server.enter(|| TcpListener::bind((SERVER, port)))??;
    let mut client = host.client.enter(|| TcpStream::connect((SERVICE, 443)))??;
    let (mut server, peer) = listener.accept()?;
    assert_eq!(peer.ip().to_string(), "10.88.2.1", "the node's address, not the client's");
    let record = [0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0];
    client.write_all(&record)?;
    server.read_exact(&mut [0; 10])?;
    server.write_all(&record)?;
    client.read_exact(&mut [0; 10])?;
    Ok(())
}

/// Balanced at the socket, as by Cilium, whichever of the two programs comes first: nothing is
/// translated on the way, so there is nothing to join. The request says whom it asked for, and
/// both sockets say who the backend is.
fn balanced_at_the_socket(is_agent_first: bool) {
    require!("curl", "python3", "ip", "ss");
    let Some(root) = cgroup::root() else { skip!("cgroup v2 is not mounted") };
    // The program is the whole machine's: an address and a port that no other test has.
    let (service, asked_port) = ("10.96.211.7", free_port());
    let host = Host::create().expect("is made");
    let server = Server::start(Language::Python, Place::netns(&host.server)).expect("starts");
    let port = server.port();
    let name = format!("stall-{port}");
    let config = format!("names:\n  - name: {name}\n    match: {{ port: {port} }}\n");
    let balance = || {
        let mut command = Place::HERE.inside("python3").expect("is installed");
        command.arg(fixture("python").join("balancer.py")).arg(&root);
        command.args([service, &asked_port.to_string(), SERVER, &port.to_string()]);
        let mut running = Running::start(&mut command).expect("starts");
        running.wait_for_text("ready").expect("is attached");
        running
    };
    let turn = Turn::take().expect("is free");
    let before = (!is_agent_first).then(balance);
    let agent = Agent::start_beside(&config).expect("is ready");
    let observer = Observer::start_beside(&[]).expect("observes");
    let after = is_agent_first.then(balance);
    for _ in 0..3 {
        let mut command = load::curl_in(Place::netns(&host.client)).expect("is installed");
        output(command.arg(format!("http://{service}:{asked_port}/hello"))).expect("is answered");
    }
    let calls = observer.finish().expect("ends well");
    let calls: Vec<&CallLine> =
        calls.calls.iter().filter(|call| call.server.port == Some(port)).collect();
    assert_eq!(calls.len(), 3, "{calls:#?}");
    for call in calls {
        assert!(call.both_ends(), "one line has both ends: {call:?}");
        assert_eq!(call.client.address.as_deref(), Some(CLIENT), "{call:?}");
        assert_eq!(call.server.address.as_deref(), Some(SERVER), "the backend: {call:?}");
    }
    let asked_port = asked_port.to_string();
    let at_client = [
        ("service_name", "curl"),
        ("service_peer_name", name.as_str()),
        ("server_address", service),
        ("server_port", asked_port.as_str()),
    ];
    let at_server = [("service_name", name.as_str()), ("service_peer_name", "curl")];
    let counts = |scrape: &Scrape| {
        [("client", at_client.as_slice()), ("server", &at_server)].map(|(side, labels)| {
            scrape.count(&format!("http_{side}_request_duration_seconds_count"), labels)
        })
    };
    let scrape = agent.scrape_until(|scrape| counts(scrape) == [3, 3]).expect("is scraped");
    let series = scrape.samples.iter().filter(|sample| {
        sample.name.ends_with("request_duration_seconds_count")
            && [sample.label("service_name"), sample.label("service_peer_name")].contains(&&*name)
    });
    let series: Vec<_> = series.collect();
    assert_eq!(counts(&scrape), [3, 3], "by what was asked for, and at the backend: {series:#?}");
    agent.stop().expect("ends well");
    drop((before, after, turn));
}

#[test]
fn balanced_at_the_socket_after_the_agent() {
    balanced_at_the_socket(true);
}

#[test]
fn balanced_at_the_socket_before_the_agent() {
    balanced_at_the_socket(false);
}
