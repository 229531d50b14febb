//! Who called whom: names of short-lived processes, scripts, units and containers, and
//! the two ends of a call found to be one through translation and equal addresses.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use meshtap_tests::agent::{Agent, Observer};
use meshtap_tests::call::{CallLine, Calls};
use meshtap_tests::cgroup::{self, Cgroup};
use meshtap_tests::kubernetes::far::Far;
use meshtap_tests::netns::{CLIENT, Netns, Place, SERVER};
use meshtap_tests::process::{Running, fixture, free_port, output, run};
use meshtap_tests::requirement::program;
use meshtap_tests::scrape::Scrape;
use meshtap_tests::workload::{Apache, Keeper, Language, Nginx, Server, curl, load};
use meshtap_tests::{require, skip};

/// The only call for `path`, wherever it went.
fn only<'a>(calls: &'a Calls, path: &str) -> &'a CallLine {
    let seen: Vec<&CallLine> = calls.calls.iter().filter(|call| call.path == path).collect();
    let [call] = seen.as_slice() else { panic!("one line for {path}, not {seen:#?}") };
    call
}

/// The names on both ends, and that both were seen.
fn edge(call: &CallLine) -> (&str, &str) {
    assert!(call.both_ends(), "both ends are on this host: {call:?}");
    (&call.client.name, &call.server.name)
}

/// `unknown` is allowed once in a thousand; another name never.
fn all_are_curl(calls: &Calls, port: u16, made: usize) {
    let seen = calls.to_port(port);
    assert_eq!(seen.len(), made, "calls seen");
    let others: Vec<&&CallLine> = seen.iter().filter(|call| call.client.name != "curl").collect();
    assert!(others.iter().all(|call| call.client.name == "unknown"), "wrong names: {others:#?}");
    assert!(others.len() * 1000 <= made, "without a name: {others:#?}");
    assert!(seen.iter().all(|call| call.server.name == "nginx"));
}

#[test]
fn a_thousand_curls_in_a_row() {
    require!("curl", "nginx", "ss");
    let nginx = Nginx::start().expect("starts");
    let observer = Observer::start().expect("observes");
    let line = format!(
        "i=0; while [ $i -lt 1000 ]; do curl -q -s --noproxy '*' -o /dev/null http://127.0.0.1:{}/ok || exit 1; i=$((i+1)); done",
        nginx.port()
    );
    output(Command::new("/bin/sh").arg("-c").arg(line)).expect("all are answered");
    let calls = observer.finish().expect("ends well");
    all_are_curl(&calls, nginx.port(), 1000);
}

#[test]
fn a_hundred_curls_at_once() {
    require!("curl", "nginx", "ss");
    let nginx = Nginx::start().expect("starts");
    let observer = Observer::start().expect("observes");
    let line = format!(
        "i=0; while [ $i -lt 100 ]; do curl -q -s --noproxy '*' -o /dev/null http://127.0.0.1:{}/ok & i=$((i+1)); done; wait",
        nginx.port()
    );
    output(Command::new("/bin/sh").arg("-c").arg(line)).expect("all are answered");
    let calls = observer.finish().expect("ends well");
    all_are_curl(&calls, nginx.port(), 100);
}

#[test]
fn modules_and_jars() {
    require!("curl", "python3", "ss");
    let folder = tempfile::tempdir().expect("is made");
    let port = free_port();
    let mut command = Place::HERE.inside("python3").expect("is installed");
    command.args(["-m", "http.server", &port.to_string()]).current_dir(folder.path());
    let mut module = Running::start(&mut command).expect("starts");
    module.wait_for_listener(&Place::HERE, port).expect("listens");
    let jar = jar(folder.path());
    let observer = Observer::start().expect("observes");
    curl(&[&format!("http://127.0.0.1:{port}/by-module")]).expect("answers");
    if let Some((_, port)) = &jar {
        curl(&[&format!("http://127.0.0.1:{port}/by-jar")]).expect("answers");
    }
    let calls = observer.finish().expect("ends well");
    assert_eq!(edge(only(&calls, "/by-module")), ("curl", "http.server"));
    match jar {
        Some(_) => assert_eq!(edge(only(&calls, "/by-jar")), ("curl", "warehouse")),
        None => skip!("not installed: java, javac, jar"),
    }
}

/// `java -jar warehouse-2.1.jar`, running.
fn jar(folder: &std::path::Path) -> Option<(Running, u16)> {
    if Language::Java.missing().is_some() {
        return None;
    }
    let name = Language::Java.server_name();
    let source = fixture("java").join(format!("{name}.java"));
    output(Command::new(program("javac")?).arg("-d").arg(folder).arg(source)).expect("compiles");
    let file = folder.join("warehouse-2.1.jar");
    let mut command = Command::new(program("jar")?);
    command.arg("cfe").arg(&file).arg(name).arg("-C").arg(folder).arg(".");
    output(&mut command).expect("is packed");
    let port = free_port();
    let mut command = Command::new(program("java")?);
    let mut running =
        Running::start(command.arg("-jar").arg(file).arg(port.to_string())).expect("starts");
    running.wait_for_listener(&Place::HERE, port).expect("listens");
    Some((running, port))
}

/// The process that accepted is the one that is shown, not the one that opened the listener.
#[test]
fn prefork_servers() {
    require!("curl", "nginx", "apache2", "ss");
    let nginx = Nginx::start_in(Place::HERE, 4, "").expect("starts");
    let apache = Apache::start().expect("starts");
    let observer = Observer::start().expect("observes");
    for _ in 0..8 {
        curl(&[&format!("http://127.0.0.1:{}/ok", nginx.port())]).expect("answers");
        curl(&[&format!("http://127.0.0.1:{}/hello.txt", apache.port())]).expect("answers");
    }
    let calls = observer.finish().expect("ends well");
    for (port, name, master) in
        [(nginx.port(), "nginx", nginx.pid()), (apache.port(), "apache2", apache.pid())]
    {
        let seen = calls.to_port(port);
        assert_eq!(seen.len(), 8);
        for call in seen {
            assert_eq!(edge(call), ("curl", name));
            let pid = call.server.pid.expect("is local");
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
            let parent = format!("PPid:\t{master}\n");
            assert!(status.is_ok_and(|text| text.contains(&parent)), "not a worker: {call:?}");
        }
    }
}

const ID: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9";

#[test]
fn units_and_containers() {
    require!("curl", "python3", "ss");
    if cgroup::root().is_none() {
        skip!("cgroup v2 is not mounted");
    }
    // A container's id has to be one that no test has used: names may be remembered.
    let id = |first: char| format!("{first}{:07x}{}", std::process::id() % 0xfff_ffff, &ID[8..]);
    let (docker, podman) = (id('d'), id('f'));
    let places = [
        ("/by-unit", "meshtap.slice/meshtap-store.service".to_owned(), "unit", "meshtap-store"),
        ("/by-socket", "meshtap.slice/meshtap-gate.socket".to_owned(), "unit", "meshtap-gate"),
        ("/by-docker", format!("docker/{docker}"), "container", &docker[..12]),
        ("/by-scope", format!("meshtap.slice/libpod-{podman}.scope"), "container", &podman[..12]),
    ];
    let cgroups = places.each_ref().map(|(_, path, ..)| Cgroup::create(path).expect("is made"));
    let servers = cgroups
        .each_ref()
        .map(|cgroup| Server::start(Language::Python, Place::cgroup(cgroup)).expect("starts"));
    let observer = Observer::start().expect("observes");
    // Each asks the next one, from its own cgroup.
    for (index, (path, ..)) in places.iter().enumerate() {
        let mut command = load::curl_in(Place::cgroup(&cgroups[index])).expect("is installed");
        let port = servers[(index + 1) % servers.len()].port();
        output(command.arg(format!("http://127.0.0.1:{port}{path}"))).expect("answers");
    }
    let calls = observer.finish().expect("ends well");
    for (index, (path, _, kind, name)) in places.iter().enumerate() {
        let (_, _, next_kind, next) = &places[(index + 1) % places.len()];
        let call = only(&calls, path);
        assert_eq!(edge(call), (*name, *next), "{call:?}");
        assert_eq!((call.client.kind.as_str(), call.server.kind.as_str()), (*kind, *next_kind));
    }
}

/// Client, server and their connection are older than the agent.
#[test]
fn older_than_the_agent() {
    require!("python3", "ss");
    let server = Server::start(Language::Python, Place::HERE).expect("starts");
    let mut keeper = Keeper::start(Place::HERE, "127.0.0.1", server.port(), None).expect("starts");
    assert_eq!(keeper.ask("/before").expect("answers"), 404);
    let observer = Observer::start().expect("observes");
    for path in ["/hello", "/chunked", "/empty", "/later"] {
        keeper.ask(path).expect("answers");
    }
    let calls = observer.finish().expect("ends well");
    let seen = calls.to_port(server.port());
    let shown: Vec<String> = seen.iter().map(|call| call.summary()).collect();
    assert_eq!(shown, ["GET /hello 200", "GET /chunked 200", "GET /empty 204", "GET /later 404"]);
    for call in seen {
        assert_eq!(edge(call), ("keeper", "shelf"), "{call:?}");
        let pids = (call.client.pid, call.server.pid);
        assert_eq!(pids, (Some(keeper.pid()), Some(server.pid())), "{call:?}");
    }
}

/// Two connections with the same addresses and ports at the same time, in namespaces that
/// know nothing of each other.
#[test]
fn equal_tuples_in_two_namespaces() {
    require!("python3", "ip", "ss");
    if cgroup::root().is_none() {
        skip!("cgroup v2 is not mounted");
    }
    let pairs = [Netns::pair().expect("a pair"), Netns::pair().expect("a pair")];
    let cgroup = |name: &str| Cgroup::create(&format!("meshtap.slice/{name}.service"));
    let names = [("buyer-east", "store-east"), ("buyer-west", "store-west")];
    let cgroups = names.map(|(client, server)| {
        (cgroup(client).expect("is made"), cgroup(server).expect("is made"))
    });
    let (port, source) = (free_port(), free_port());
    let mut clients = Vec::new();
    let mut servers = Vec::new();
    for ((client, server), (buyer, store)) in pairs.iter().zip(&cgroups) {
        let place = Place { netns: Some(server), cgroup: Some(store) };
        servers.push(Server::start_at(Language::Python, place, port).expect("starts"));
        let place = Place { netns: Some(client), cgroup: Some(buyer) };
        clients.push(Keeper::start(place, SERVER, port, Some(source)).expect("starts"));
    }
    let observer = Observer::start().expect("observes");
    let mut expected = Vec::new();
    for round in ["one", "two", "three"] {
        for (client, names) in clients.iter_mut().zip(&names) {
            let path = format!("/{}/{round}", names.0);
            assert_eq!(client.ask(&path).expect("answers"), 404);
            expected.push((path, *names));
        }
    }
    let calls = observer.finish().expect("ends well");
    assert_eq!(calls.to_port(port).len(), expected.len());
    for (path, names) in expected {
        let call = only(&calls, &path);
        assert_eq!(edge(call), names, "{call:?}");
        let address = |text: &Option<String>| text.clone().unwrap_or_default();
        assert_eq!(
            (address(&call.client.address).as_str(), call.client.port, call.server.port),
            (CLIENT, Some(source), Some(port))
        );
    }
}

/// A service address that a router translates to a server: from another namespace, and
/// from the server's own, which needs the source translated too (hairpin).
#[test]
fn translated_with_hairpin() {
    require!("curl", "python3", "ip", "iptables", "ss");
    let [client, router, server] = [(); 3].map(|()| Netns::create().expect("is made"));
    client.join(&router, "left", "10.88.1.2", "10.88.1.1").expect("is joined");
    server.join(&router, "right", "10.88.2.2", "10.88.2.1").expect("is joined");
    client.run("ip route add default via 10.88.1.1").expect("is set");
    server.run("ip route add default via 10.88.2.1").expect("is set");
    router.run("sysctl -qw net.ipv4.ip_forward=1").expect("is set");
    let running = Server::start(Language::Python, Place::netns(&server)).expect("starts");
    let translate = format!(
        "iptables -t nat -A PREROUTING -d 10.96.0.10 -p tcp --dport 80 -j DNAT --to 10.88.2.2:{}",
        running.port()
    );
    router.run(&translate).expect("is set");
    router.run("iptables -t nat -A POSTROUTING -j MASQUERADE").expect("is set");
    let observer = Observer::start().expect("observes");
    for (netns, path) in [(&client, "/from-elsewhere"), (&server, "/from-itself")] {
        let mut command = load::curl_in(Place::netns(netns)).expect("is installed");
        let body = output(command.arg(format!("http://10.96.0.10{path}"))).expect("answers");
        assert_eq!(body, "nothing\n");
    }
    let calls = observer.finish().expect("ends well");
    for path in ["/from-elsewhere", "/from-itself"] {
        let call = only(&calls, path);
        assert_eq!(edge(call), ("curl", "shelf"), "{call:?}");
        assert_eq!((call.status, call.response_bytes), (Some(404), 8));
        assert_eq!(call.server.pid, Some(running.pid()), "{call:?}");
    }
}

/// A connection that the client's own namespace sends to a local port instead.
#[test]
fn redirected() {
    require!("curl", "nginx", "ip", "iptables", "ss");
    let (client, _server) = Netns::pair().expect("a pair");
    let nginx = Nginx::start_in(Place::netns(&client), 1, "").expect("starts");
    client.run(&format!("ip route add 10.96.0.0/16 via {SERVER}")).expect("is set");
    let redirect = format!(
        "iptables -t nat -A OUTPUT -d 10.96.0.10 -p tcp --dport 80 -j REDIRECT --to-ports {}",
        nginx.port()
    );
    client.run(&redirect).expect("is set");
    let observer = Observer::start().expect("observes");
    let mut command = load::curl_in(Place::netns(&client)).expect("is installed");
    command.args(["http://10.96.0.10/ok", "http://10.96.0.10/teapot"]);
    output(&mut command).expect("answers");
    let calls = observer.finish().expect("ends well");
    for (path, status) in [("/ok", 200), ("/teapot", 418)] {
        let call = only(&calls, path);
        assert_eq!((edge(call), call.status), (("curl", "nginx"), Some(status)), "{call:?}");
    }
}

/// docker's userland proxy between a published port and the container: one call, between
/// the two programs behind it.
#[test]
fn through_dockers_userland_proxy() {
    require!("curl", "nginx", "docker-proxy", "ss");
    let nginx = Nginx::start().expect("starts");
    let port = free_port();
    // It reports on the descriptor that docker gives it.
    let line = format!(
        "exec docker-proxy -proto tcp -host-ip 127.0.0.1 -host-port {port} \
         -container-ip 127.0.0.1 -container-port {} 3>/dev/null",
        nginx.port()
    );
    let mut proxy = Running::start(Command::new("/bin/sh").arg("-c").arg(line)).expect("starts");
    proxy.wait_for_listener(&Place::HERE, port).expect("listens");
    let observer = Observer::start().expect("observes");
    for path in ["/ok", "/teapot"] {
        curl(&[&format!("http://127.0.0.1:{port}{path}")]).expect("answers");
    }
    let calls = observer.finish().expect("ends well");
    for (path, status) in [("/ok", 200), ("/teapot", 418)] {
        let call = only(&calls, path);
        assert_eq!((edge(call), call.status), (("curl", "nginx"), Some(status)), "{call:?}");
    }
}

/// A listener, or an accepted connection, handed to another process: that one serves.
#[test]
fn passed_descriptors() {
    require!("curl", "python3", "ss");
    let started = ["listener", "connection"].map(|what| {
        let port = free_port();
        let mut command = Language::Python.command("doorman", Place::HERE).expect("is there");
        command.args([&port.to_string(), what]).arg(fixture("python").join("waiter.py"));
        let mut running = Running::start(&mut command).expect("starts");
        running.wait_for_listener(&Place::HERE, port).expect("listens");
        (what, port, running)
    });
    let observer = Observer::start().expect("observes");
    for (what, port, _) in &started {
        for turn in ["first", "second"] {
            curl(&[&format!("http://127.0.0.1:{port}/{what}/{turn}")]).expect("answers");
        }
    }
    let calls = observer.finish().expect("ends well");
    for (what, ..) in &started {
        for turn in ["first", "second"] {
            let call = only(&calls, &format!("/{what}/{turn}"));
            assert_eq!(edge(call), ("curl", "waiter"), "{call:?}");
        }
    }
}

/// A listener that someone else opened and that a program inherits.
#[test]
fn socket_activation() {
    require!("curl", "python3", "ss");
    let python = program("python3").expect("is installed").display().to_string();
    let shelf = fixture("python").join("shelf.py").display().to_string();
    let port = free_port();
    let mut command = Language::Python.command("opener", Place::HERE).expect("is there");
    command.args([&port.to_string(), &python, &shelf, "0", "3"]);
    let mut opened = Running::start(&mut command).expect("starts");
    opened.wait_for_listener(&Place::HERE, port).expect("listens");
    let activated = program("systemd-socket-activate").map(|activate| {
        let port = free_port();
        let mut command = Command::new(activate);
        command.args(["-l", &format!("127.0.0.1:{port}"), &python, &shelf, "0", "3"]);
        let mut running = Running::start(&mut command).expect("starts");
        running.wait_for_listener(&Place::HERE, port).expect("listens");
        (running, port)
    });
    let observer = Observer::start().expect("observes");
    curl(&[&format!("http://127.0.0.1:{port}/inherited")]).expect("answers");
    if let Some((_, port)) = &activated {
        // The first connection starts the program, before it accepts it.
        curl(&[&format!("http://127.0.0.1:{port}/activated")]).expect("answers");
        curl(&[&format!("http://127.0.0.1:{port}/active")]).expect("answers");
    }
    let calls = observer.finish().expect("ends well");
    assert_eq!(edge(only(&calls, "/inherited")), ("curl", "shelf"));
    if activated.is_some() {
        assert_eq!(edge(only(&calls, "/activated")), ("curl", "shelf"));
        assert_eq!(edge(only(&calls, "/active")), ("curl", "shelf"));
    } else {
        skip!("not installed: systemd-socket-activate (the inherited listener was tested)");
    }
}

/// Names of the configuration come before all others, on both sides.
#[test]
fn configured_names() {
    require!("curl", "python3", "nginx", "ss");
    let nginx = Nginx::start().expect("starts");
    let python = Server::start(Language::Python, Place::HERE).expect("starts");
    let agent = Agent::start(&format!(
        "names:\n  - name: till\n    namespace: market\n    match: {{ port: {} }}\n  \
         - name: hawker\n    match: {{ executable: curl }}\n  \
         - name: loopback-nine\n    match: {{ address: 127.0.0.9 }}\n",
        nginx.port()
    ))
    .expect("is ready");
    curl(&[&format!("http://127.0.0.1:{}/ok", nginx.port())]).expect("answers");
    curl(&["--interface", "127.0.0.9", &format!("http://127.0.0.1:{}/hello", python.port())])
        .expect("answers");
    let market = [("client", "hawker"), ("server", "till")];
    let name = "traces_service_graph_request_total";
    let hawked = [("client", "hawker"), ("server", "shelf")];
    let both = |scrape: &Scrape| [market, hawked].iter().all(|edge| scrape.count(name, edge) == 1);
    let scrape = agent.scrape_until(both).expect("is served");
    assert_eq!(scrape.count(name, &market), 1);
    let labels = [
        ("service_name", "till"),
        ("service_namespace", "market"),
        ("service_peer_name", "hawker"),
        ("http_route", "/ok"),
    ];
    assert_eq!(scrape.count("http_server_request_duration_seconds_count", &labels), 1);
    // Rules are tried in their order: curl is the hawker, whatever address it calls from.
    assert_eq!(scrape.count(name, &hawked), 1);
    agent.stop().expect("ends well");
}

/// `server.address` and `server.port` are what the client asked for, wherever it went.
#[test]
fn the_authority_that_was_asked_for() {
    require!("curl", "nginx", "ss");
    let nginx = Nginx::start().expect("starts");
    let agent = Agent::start(&format!(
        "names:\n  - name: asked-{0}\n    match: {{ port: {0} }}\n",
        nginx.port()
    ))
    .expect("is ready");
    let url = format!("http://127.0.0.1:{}/ok", nginx.port());
    for host in ["shop.test", "shop.test:8081", "[2001:db8::1]:8082"] {
        curl(&["-H", &format!("Host: {host}"), &url]).expect("answers");
    }
    let absolute = format!("127.0.0.1:{}", nginx.port());
    curl(&["--noproxy", "", "--proxy", &absolute, "http://proxied.test:99/ok"]).expect("answers");
    let name = "http_client_request_duration_seconds_count";
    let peer = format!("asked-{}", nginx.port());
    let labels = [("service_peer_name", peer.as_str())];
    let scrape = agent.scrape_until(|scrape| scrape.count(name, &labels) == 4).expect("is served");
    let asked = scrape.by(name, &["server_address", "server_port"], &labels);
    let asked: Vec<String> = asked.keys().map(|key| key.join(" ")).collect();
    // Without a port in the authority it is HTTP's own.
    assert_eq!(asked, ["2001:db8::1 8082", "proxied.test 99", "shop.test 80", "shop.test 8081"]);
    agent.stop().expect("ends well");
}

/// A process that has ended before anyone could look it up, seen through a wrapper that
/// the kernel knows only as a script.
#[test]
fn a_shell_script_that_calls_once() {
    require!("python3", "nginx", "ss");
    let nginx = Nginx::start().expect("starts");
    let folder = tempfile::tempdir().expect("is made");
    let script = folder.path().join("errand.py");
    let text = format!(
        "#!{}\nimport urllib.request\nurllib.request.urlopen('http://127.0.0.1:{}/ok').read()\n",
        program("python3").expect("is installed").display(),
        nginx.port()
    );
    std::fs::write(&script, text).expect("is written");
    run(&format!("chmod +x {}", script.display())).expect("is set");
    let observer = Observer::start().expect("observes");
    for _ in 0..5 {
        output(&mut Command::new(&script)).expect("is answered");
    }
    let mut observer = observer;
    let port = nginx.port();
    let enough = |calls: &Calls| calls.to_port(port).len() == 5;
    observer.wait(Duration::from_secs(5), enough).expect("parses");
    let calls = observer.finish().expect("ends well");
    let seen = calls.to_port(port);
    assert_eq!(seen.len(), 5);
    for call in seen {
        assert_eq!(edge(call), ("errand", "nginx"), "{call:?}");
    }
}

/// Where the server is that answers names, and a name with the address of what is no socket of
/// this host.
const NAME_SERVER: &str = "127.77.0.1:53";
const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
const FAR_NAME: &[&str] = &["stock", "example", "net"];

/// An answer to a question for [`FAR_NAME`] (RFC 1035).
fn name_answer() -> Vec<u8> {
    // An answer to a question, one of each.
    let mut bytes = vec![0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    for label in FAR_NAME {
        bytes.push(u8::try_from(label.len()).expect("is short"));
        bytes.extend(label.as_bytes());
    }
    // Its end, A, IN; the same name, A, IN, five minutes, four bytes.
    bytes.extend([0, 0, 1, 0, 1, 0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4]);
    bytes.extend(FAR.octets());
    bytes
}

/// An answer of DNS that a program of this host got names the address in it from then on.
#[test]
fn what_dns_answered_is_the_name_of_an_address() {
    require!("curl", "ip");
    let server = match UdpSocket::bind(NAME_SERVER) {
        Ok(server) => server,
        Err(error) => skip!(format!("{NAME_SERVER}: {error}")),
    };
    let _far = Far::serve(&[FAR], 8099).expect("serves");
    let observer = Observer::start().expect("observes");
    let ask = |path: &str| curl(&[&format!("http://{FAR}:8099{path}")]).expect("answers");
    ask("/before");
    let client = UdpSocket::bind("127.0.0.1:0").expect("is bound");
    client.send_to(b"a question", NAME_SERVER).expect("goes");
    let mut buffer = [0; 512];
    let (_, asked_by) = server.recv_from(&mut buffer).expect("comes");
    server.send_to(&name_answer(), asked_by).expect("goes");
    client.recv_from(&mut buffer).expect("comes");
    ask("/after");
    let calls = observer.finish().expect("ends well");
    let server = |path| {
        let server = &only(&calls, path).server;
        (server.name.clone(), server.kind.clone())
    };
    assert_eq!(server("/before"), (FAR.to_string(), "address".to_owned()));
    assert_eq!(server("/after"), (FAR_NAME.join("."), "dns".to_owned()));
}
