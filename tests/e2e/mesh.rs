//! Through the proxies of meshes: what passes, what the proxies count, and what an agent
//! beside them counts of it: each request once per side, between the two applications.

use meshtap_tests::agent::{Agent, Observer};
use meshtap_tests::call::CallLine;
use meshtap_tests::cluster::{Driver, Resource, Service};
use meshtap_tests::mesh::ambient::USE_WAYPOINT;
use meshtap_tests::mesh::lab::authority;
use meshtap_tests::mesh::shop::{BUYER, CART, GRPC, HTTP, NAMESPACE, Seen};
use meshtap_tests::mesh::{Mesh, Shop, istio, sidecar};
use meshtap_tests::scrape::Scrape;
use meshtap_tests::skip;
use meshtap_tests::workload::grpc::ledger;
use meshtap_tests::workload::{Grpc, Nginx, load, shop};

/// Paths that a server answers by different statuses, none of which is tried again.
const PATHS: [&str; 3] = ["/ok", "/nothing", "/teapot"];

const BUYER_PRINCIPAL: &str = "spiffe://cluster.local/ns/shop/sa/buyer";
const CART_PRINCIPAL: &str = "spiffe://cluster.local/ns/shop/sa/cart";

fn open(mesh: Mesh, servers: usize, clients: usize) -> Option<Shop> {
    if let Some(reason) = Shop::missing(mesh) {
        meshtap_tests::requirement::skipped(&reason);
        return None;
    }
    Some(Shop::open(mesh, servers, clients, Driver::Cgroupfs).expect("opens"))
}

/// Makes `count` calls from one client, on connections that are kept.
fn load(shop: &Shop, client: usize, count: u64) {
    let address = shop.address(HTTP).expect("has one");
    let place = shop.client(client).expect("is there");
    load::h2load(place, &address, &PATHS, 4, count).expect("is answered");
}

/// Makes `count` calls from each client, on connections that are kept.
fn visit(shop: &Shop, count: u64) {
    for number in 0..shop.clients.len() {
        load(shop, number, count);
    }
}

fn served(shop: &Shop) -> u64 {
    shop.nginx.iter().map(|nginx| nginx.ledger().expect("is there").total()).sum()
}

/// Requests that all sidecars of one side sent on.
fn passed(sidecars: &[sidecar::Sidecar], cluster: &str) -> u64 {
    let count = |one: &sidecar::Sidecar| one.counter(cluster, "upstream_rq_total");
    sidecars.iter().map(|one| count(one).expect("counts")).sum()
}

#[test]
fn sidecars_and_servers_count_alike() {
    let Some(shop) = open(Mesh::Istio, 2, 2) else { return };
    visit(&shop, 3000);
    assert_eq!(served(&shop), 6000);
    for sidecar in &shop.outbound {
        let cluster = sidecar::outbound(&shop.service, HTTP);
        sidecar.wait_for(&cluster, "upstream_rq_total", 3000).expect("counts");
        sidecar.wait_for(&cluster, "upstream_rq_retry", 0).expect("counts");
        // By mutual TLS, every one of its connections.
        let connections = sidecar.counter(&cluster, "upstream_cx_total").expect("counts");
        let shaken = sidecar.counter(&cluster, "ssl.handshake").expect("counts");
        assert!(connections > 0 && connections == shaken, "{connections} {shaken}");
    }
    assert_eq!(passed(&shop.inbound, &sidecar::inbound(shop.port())), 6000);
    let seen = shop.seen(shop.client(0).expect("is there")).expect("is answered");
    assert_eq!((seen.address.as_str(), seen.attempt.as_str()), ("127.0.0.6", "1"));
    assert_eq!(seen.request.len(), 36, "{seen:?}");
    assert!(seen.certificate.contains(&format!("By={CART_PRINCIPAL};Hash=")), "{seen:?}");
    assert!(seen.certificate.ends_with(&format!("URI={BUYER_PRINCIPAL}")), "{seen:?}");
}

#[test]
fn a_sidecar_tries_again() {
    let Some(shop) = open(Mesh::Istio, 1, 1) else { return };
    let place = shop.client(0).expect("is there");
    for _ in 0..20 {
        assert_eq!(shop.ask(place, "/flaky").expect("is answered at last"), "at last\n");
    }
    let cluster = sidecar::outbound(&shop.service, HTTP);
    shop.outbound[0].wait_for(&cluster, "upstream_rq_total", 40).expect("counts");
    shop.outbound[0].wait_for(&cluster, "upstream_rq_retry", 20).expect("counts");
    let answers = [503, 200].map(|status| shop.served("/flaky", status).expect("is logged"));
    assert_eq!(answers, [20, 20]);
}

#[test]
fn grpc_goes_through_sidecars() {
    if let Some(reason) = Grpc::Go.missing() {
        skip!(reason);
    }
    let Some(shop) = open(Mesh::Istio, 1, 1) else { return };
    let address = shop.address(GRPC).expect("has one");
    let place = shop.client(0).expect("is there");
    let bought = self::shop(place, &address, 2000, (2, 10)).expect("shops");
    assert_eq!(ledger(&bought).total(), 2000);
    let cluster = sidecar::outbound(&shop.service, GRPC);
    let again = shop.outbound[0].counter(&cluster, "upstream_rq_retry").expect("counts");
    assert!(again > 0, "UNAVAILABLE is tried again");
    shop.outbound[0].wait_for(&cluster, "upstream_rq_total", 2000 + again).expect("counts");
    let inbound = sidecar::inbound(shop.grpc[0].port());
    shop.inbound[0].wait_for(&inbound, "upstream_rq_total", 2000 + again).expect("counts");
}

/// The application sees who really calls, and nothing was added to what it was sent.
#[test]
fn ztunnel_keeps_the_clients_address() {
    let Some(shop) = open(Mesh::Ambient, 2, 2) else { return };
    visit(&shop, 3000);
    assert_eq!(served(&shop), 6000);
    for (number, client) in shop.clients.iter().enumerate() {
        let seen = shop.seen(shop.client(number).expect("is there")).expect("is answered");
        let own = client.address(false).expect("has one").to_string();
        let nothing = Seen { address: own, ..Seen::default() };
        assert_eq!(seen, nothing);
        let sockets = client.netns().expect("has one").run("ss -tnHp state established");
        let sockets = sockets.expect("lists");
        let tunnel = sockets.lines().find(|line| line.contains(":15008"));
        assert!(tunnel.is_some_and(|line| line.contains("\"ztunnel\"")), "{sockets}");
    }
    // Not by the service, and from outside of the mesh.
    let stranger = shop.stranger("stranger").expect("runs");
    let seen = shop.seen(stranger.place("app").expect("has one")).expect("is answered");
    assert_eq!(seen.address, stranger.address(false).expect("has one").to_string());
}

#[test]
fn grpc_goes_through_ztunnel() {
    if let Some(reason) = Grpc::Go.missing() {
        skip!(reason);
    }
    let Some(shop) = open(Mesh::Ambient, 1, 1) else { return };
    let address = shop.address(GRPC).expect("has one");
    let bought = self::shop(shop.client(0).expect("is there"), &address, 2000, (2, 10));
    assert_eq!(ledger(&bought.expect("shops")).total(), 2000);
}

/// A waypoint is who calls, as far as the server can see.
#[test]
fn a_waypoint_stands_between() {
    let Some(shop) = open(Mesh::Waypoint, 2, 2) else { return };
    visit(&shop, 3000);
    assert_eq!(served(&shop), 6000);
    let cluster = format!("inbound-vip|{HTTP}|http|{}", shop.service.host());
    shop.inbound[0].wait_for(&cluster, "upstream_rq_total", 6000).expect("counts");
    let seen = shop.seen(shop.client(0).expect("is there")).expect("is answered");
    let waypoint = shop.waypoint.as_ref().expect("has one").address(false).expect("has one");
    assert_eq!((seen.address, seen.attempt.as_str()), (waypoint.to_string(), "1"));
    let place = shop.client(1).expect("is there");
    assert_eq!(shop.ask(place, "/flaky").expect("is answered at last"), "at last\n");
}

/// A gateway is a client of the mesh, and a server to those outside.
#[test]
fn a_gateway_leads_in() {
    let Some(shop) = open(Mesh::Istio, 1, 0) else { return };
    let gateway = shop.lab.run(istio::gateway("shop", "gateway")).expect("runs");
    let to = (&shop.service, HTTP);
    let envoy = sidecar::Sidecar::gateway(&shop.lab, &gateway, 8080, to).expect("starts");
    let stranger = shop.stranger("stranger").expect("runs");
    let address = authority(gateway.address(false).expect("has one"), 8080);
    let place = stranger.place("app").expect("has one");
    load::h2load(place, &address, &PATHS, 4, 3000).expect("is answered");
    envoy
        .wait_for(&sidecar::outbound(&shop.service, HTTP), "upstream_rq_total", 3000)
        .expect("counts");
    assert_eq!(served(&shop), 3000);
    let seen = shop.seen_by(place, &address).expect("is answered");
    assert_eq!(seen.address, "127.0.0.6");
    assert!(
        seen.certificate.ends_with("URI=spiffe://cluster.local/ns/shop/sa/gateway"),
        "{seen:?}"
    );
}

#[test]
fn linkerd_tells_the_clients_identity() {
    let Some(shop) = open(Mesh::Linkerd, 2, 2) else { return };
    visit(&shop, 3000);
    assert_eq!(served(&shop), 6000);
    let own: Vec<String> = shop
        .servers
        .iter()
        .map(|server| server.address(false).expect("has one").to_string())
        .collect();
    let seen = shop.seen(shop.client(0).expect("is there")).expect("is answered");
    assert!(own.contains(&seen.address), "{seen:?}");
    let identity = "buyer.shop.serviceaccount.identity.linkerd.cluster.local";
    assert_eq!(seen.client, identity, "{seen:?}");
    let stranger = shop.stranger("stranger").expect("runs");
    let seen = shop.seen(stranger.place("app").expect("has one")).expect("is answered");
    assert_eq!(seen.client, "", "{seen:?}");
}

#[test]
fn grpc_goes_through_linkerd() {
    if let Some(reason) = Grpc::Go.missing() {
        skip!(reason);
    }
    let Some(shop) = open(Mesh::Linkerd, 1, 1) else { return };
    let address = shop.address(GRPC).expect("has one");
    let bought = self::shop(shop.client(0).expect("is there"), &address, 2000, (2, 10));
    assert_eq!(ledger(&bought.expect("shops")).total(), 2000);
}

#[test]
fn every_mesh_has_ipv6() {
    for mesh in Mesh::ALL {
        let Some(shop) = open(mesh, 1, 1) else { return };
        let Some(address) = shop.service.addresses.iter().find(|address| address.is_ipv6()) else {
            skip!("no IPv6");
        };
        let address = authority(*address, HTTP);
        let seen = shop.seen_by(shop.client(0).expect("is there"), &address);
        let seen = seen.expect("is answered");
        let client = shop.clients[0].address(true).expect("has one").to_string();
        let server = shop.servers[0].address(true).expect("has one").to_string();
        match mesh {
            Mesh::None | Mesh::Ambient => assert_eq!(seen.address, client, "{mesh:?}"),
            Mesh::Linkerd => assert_eq!(seen.address, server, "{mesh:?}"),
            Mesh::Waypoint => {
                let waypoint = shop.waypoint.as_ref().expect("has one");
                assert_eq!(seen.address, waypoint.address(false).expect("has one").to_string());
            }
            // From there on by the first of the server's addresses.
            Mesh::Istio | Mesh::Other => assert_eq!(seen.address, "127.0.0.6", "{mesh:?}"),
        }
    }
}

/// Somebody without a sidecar gets in all the same, unknown and by no TLS.
#[test]
fn a_stranger_calls_a_meshed_server() {
    let Some(shop) = open(Mesh::Istio, 1, 0) else { return };
    let stranger = shop.stranger("stranger").expect("runs");
    let seen = shop.seen(stranger.place("app").expect("has one")).expect("is answered");
    assert_eq!((seen.address.as_str(), seen.certificate.as_str()), ("127.0.0.6", ""));
    // The mesh's own agent asks the application beside the sidecar.
    assert_eq!(shop.probe(0, "/ok").expect("is answered"), "fine\n");
    let inbound = sidecar::inbound(shop.port());
    shop.inbound[0].wait_for(&inbound, "upstream_rq_total", 1).expect("counts");
    let log = shop.nginx[0].log().expect("is there");
    assert!(log.lines().all(|line| line.contains(" 127.0.0.6 ")), "{log}");
    assert_eq!(log.lines().count(), 2);
}

/// What an agent's metrics say of calls between the applications of a shop.
struct Edges<'a>(&'a Scrape);

impl Edges<'_> {
    /// Calls of the buyer to the cart as they were counted at one side: `client` or `server`.
    fn between(&self, protocol: &str, side: &str) -> u64 {
        self.from(BUYER, protocol, side)
    }

    /// The same of another client.
    fn from(&self, client: &str, protocol: &str, side: &str) -> u64 {
        let (own, peer) = if side == "client" { (client, CART) } else { (CART, client) };
        let labels = [
            ("service_name", own),
            ("service_namespace", NAMESPACE),
            ("service_peer_name", peer),
            ("service_peer_namespace", NAMESPACE),
        ];
        self.0.count(&series(protocol, side), &labels)
    }

    /// Both sides, the client's first.
    fn both(&self, protocol: &str) -> [u64; 2] {
        ["client", "server"].map(|side| self.between(protocol, side))
    }

    /// Calls of the namespace that were counted for anybody.
    fn of_anybody(&self, protocol: &str) -> [u64; 2] {
        let labels = [("service_namespace", NAMESPACE)];
        ["client", "server"].map(|side| self.0.count(&series(protocol, side), &labels))
    }

    /// Series that have a proxy at one of their ends.
    fn of_proxies(&self) -> Vec<String> {
        const PROXIES: [&str; 9] = [
            "envoy",
            "gate",
            "shop-gate",
            "istio-proxy",
            "pilot-agent",
            "ztunnel",
            "linkerd-proxy",
            "linkerd2-proxy",
            "waypoint",
        ];
        let is_proxy = |name: &str| PROXIES.contains(&name);
        let calls =
            self.0.samples.iter().filter(|sample| {
                sample.name.starts_with("http_") || sample.name.starts_with("rpc_")
            });
        calls
            .filter(|sample| {
                ["service_name", "service_peer_name"].iter().any(|end| is_proxy(sample.label(end)))
            })
            .map(|sample| format!("{sample:?}"))
            .collect()
    }
}

fn series(protocol: &str, side: &str) -> String {
    match protocol {
        "rpc" => format!("rpc_{side}_call_duration_seconds_count"),
        _ => format!("http_{side}_request_duration_seconds_count"),
    }
}

/// Starts an agent that gets its names from the laboratory.
fn agent(shop: &Shop) -> Agent {
    Agent::start(&shop.lab.configuration()).expect("starts")
}

/// Both sides of `count` calls were counted, between the two applications and nobody else.
fn expect_edge(agent: &Agent, protocol: &str, [client, server]: [u64; 2]) {
    let enough = |scrape: &Scrape| Edges(scrape).of_anybody(protocol) >= [client, server];
    let scrape = agent.scrape_until(enough).expect("is scraped");
    let edges = Edges(&scrape);
    assert_eq!(edges.both(protocol), [client, server], "the edge of the two applications");
    assert_eq!(edges.of_anybody(protocol), [client, server], "other edges");
    assert_eq!(edges.of_proxies(), Vec::<String>::new());
}

/// The lines for a path, whichever side they are of.
fn lines<'a>(calls: &'a [CallLine], path: &str) -> Vec<&'a CallLine> {
    calls.iter().filter(|call| call.path == path).collect()
}

/// The ends of a call are the two applications by their names in Kubernetes.
fn expect_names(call: &CallLine) {
    for (end, name) in [(&call.client, BUYER), (&call.server, CART)] {
        let found = (end.name.as_str(), end.namespace.as_str(), end.kind.as_str());
        assert_eq!(found, (name, NAMESPACE, "workload"), "{call:?}");
    }
}

/// What `observe` says of a mesh, of calls whose server's end was seen.
fn expect_mesh(call: &CallLine, mesh: &str, has_principals: bool) {
    assert_eq!(call.mesh.as_deref(), Some(mesh), "{call:?}");
    assert_eq!(call.security_policy.as_deref(), Some("mutual_tls"), "{call:?}");
    if has_principals {
        assert_eq!(call.client_principal.as_deref(), Some(BUYER_PRINCIPAL), "{call:?}");
        assert_eq!(call.server_principal.as_deref(), Some(CART_PRINCIPAL), "{call:?}");
    }
}

/// An observer that gets its names from the laboratory.
fn observer(shop: &Shop) -> (tempfile::NamedTempFile, Observer) {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("is made");
    std::fs::write(file.path(), shop.lab.configuration()).expect("is written");
    let path = file.path().display().to_string();
    let observer = Observer::start_with(&["--config", &path]).expect("observes");
    (file, observer)
}

#[test]

fn without_a_mesh_the_edge_is_of_the_workloads() {
    let Some(shop) = open(Mesh::None, 2, 2) else { return };
    let agent = agent(&shop);
    visit(&shop, 3000);
    expect_edge(&agent, "http", [6000, 6000]);
}

/// What runs is found by its cgroups, also where systemd lays them out.
#[test]
fn systemds_slices_and_scopes_are_pods_and_containers() {
    for mesh in [Mesh::None, Mesh::Istio] {
        if let Some(reason) = Shop::missing(mesh) {
            skip!(reason);
        }
        let shop = Shop::open(mesh, 1, 1, Driver::Systemd).expect("opens");
        let agent = agent(&shop);
        visit(&shop, 300);
        expect_edge(&agent, "http", [300, 300]);
    }
}

/// Addresses that are none of the cluster's are a Service's as it says; by the pod behind them
/// it could be either of two.
#[test]
fn a_balancers_and_an_external_address_are_their_services() {
    let Some(shop) = open(Mesh::None, 1, 1) else { return };
    let mut door = Service::new(NAMESPACE, "door").port("http", HTTP, shop.port());
    door.balancer.push([192, 0, 2, 10].into());
    door.external.push([198, 51, 100, 10].into());
    let door = shop.lab.serve(door, &[&shop.servers[0]]).expect("is served");
    let config = format!("{}mesh:\n  istio_metrics: true\n", shop.lab.configuration());
    let agent = Agent::start(&config).expect("starts");
    for address in [door.balancer[0], door.external[0], door.addresses[0]] {
        let place = shop.client(0).expect("is there");
        load::h2load(place, &authority(address, HTTP), &PATHS, 4, 300).expect("is answered");
    }
    visit(&shop, 100);
    expect_edge(&agent, "http", [1000, 1000]);
    let scrape = agent.scrape_until(|_| true).expect("is scraped");
    let asked = scrape.by(
        "istio_requests_total",
        &["destination_service", "source_workload", "destination_workload"],
        &[("reporter", "source")],
    );
    let edge = |service: &str| {
        let service = format!("{service}.{NAMESPACE}.svc.cluster.local");
        vec![service, BUYER.to_owned(), CART.to_owned()]
    };
    assert_eq!(asked, [(edge("door"), 900), (edge(CART), 100)].into());
}

#[test]

fn through_sidecars_each_call_counts_once_per_side() {
    let Some(shop) = open(Mesh::Istio, 2, 2) else { return };
    let agent = agent(&shop);
    visit(&shop, 3000);
    expect_edge(&agent, "http", [6000, 6000]);
    assert_eq!(passed(&shop.inbound, &sidecar::inbound(shop.port())), 6000);
}

/// A proxy that is nobody's whom the agent knows, by name, container or user: it is one because
/// the configuration says so, and an application like others where it does not.
#[test]
fn a_proxy_that_is_configured_is_one() {
    let Some(shop) = open(Mesh::Other, 1, 1) else { return };
    let place = shop.client(0).expect("is there");
    let config = shop.lab.configuration();
    let agent = Agent::start(&format!("{config}mesh:\n  proxies: [shop-gate]\n")).expect("starts");
    visit(&shop, 300);
    expect_edge(&agent, "http", [300, 300]);
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("is made");
    let by_path = format!("{config}mesh:\n  proxies: [\"/**/shop-g?te\"]\n");
    std::fs::write(file.path(), by_path).expect("is written");
    let path = file.path().display().to_string();
    let observer = Observer::start_beside(&["--config", &path]).expect("observes");
    shop.ask_each(place, "/ok", &[request_id(1)], 1).expect("is answered");
    let calls = observer.finish().expect("ends well").calls;
    let [call] = lines(&calls, "/ok")[..] else { panic!("one line, not {calls:#?}") };
    expect_joined(call, "request_id");
    assert_eq!(call.mesh.as_deref(), Some("other"), "{call:?}");
    assert_eq!((&call.client_principal, &call.server_principal), (&None, &None), "{call:?}");
    agent.stop().expect("ends well");

    // Unconfigured, its own requests are calls, too.
    let agent = Agent::start(&config).expect("starts");
    visit(&shop, 300);
    let enough = |scrape: &Scrape| Edges(scrape).of_anybody("http")[0] >= 600;
    let scrape = agent.scrape_until(enough).expect("is scraped");
    assert!(Edges(&scrape).of_anybody("http")[0] >= 600, "a hop more at least");
}

#[test]

fn grpc_and_http_through_sidecars() {
    if let Some(reason) = Grpc::Go.missing() {
        skip!(reason);
    }
    let Some(shop) = open(Mesh::Istio, 1, 1) else { return };
    let agent = agent(&shop);
    let address = shop.address(GRPC).expect("has one");
    self::shop(shop.client(0).expect("is there"), &address, 2000, (2, 10)).expect("shops");
    visit(&shop, 2000);
    let cluster = sidecar::outbound(&shop.service, GRPC);
    let again = shop.outbound[0].counter(&cluster, "upstream_rq_retry").expect("counts");
    expect_edge(&agent, "http", [2000, 2000]);
    expect_edge(&agent, "rpc", [2000, 2000 + again]);
}

/// Both protocols at the same time, over the same two sidecars.
#[test]
fn grpc_and_http_at_once_through_sidecars() {
    if let Some(reason) = Grpc::Go.missing() {
        skip!(reason);
    }
    let Some(shop) = open(Mesh::Istio, 1, 1) else { return };
    let agent = agent(&shop);
    let address = shop.address(GRPC).expect("has one");
    std::thread::scope(|scope| {
        let place = shop.client(0).expect("is there");
        let address = &address;
        scope.spawn(move || self::shop(place, address, 2000, (2, 10)).expect("shops"));
        scope.spawn(|| visit(&shop, 4000));
    });
    let cluster = sidecar::outbound(&shop.service, GRPC);
    let again = shop.outbound[0].counter(&cluster, "upstream_rq_retry").expect("counts");
    expect_edge(&agent, "http", [4000, 4000]);
    expect_edge(&agent, "rpc", [2000, 2000 + again]);
}

/// The server's sidecar keeps a few connections to the application, on which the requests of
/// both clients follow each other: only what it says of each tells whose it is.
#[test]
fn clients_that_share_a_sidecars_connections_keep_their_own_calls() {
    const AUDITOR: &str = "auditor";
    let Some(mut shop) = open(Mesh::Istio, 1, 1) else { return };
    shop.add_client(Mesh::Istio, AUDITOR).expect("runs");
    let agent = agent(&shop);
    std::thread::scope(|scope| {
        scope.spawn(|| load(&shop, 0, 3000));
        scope.spawn(|| load(&shop, 1, 2000));
    });
    let enough = |scrape: &Scrape| Edges(scrape).of_anybody("http") >= [5000, 5000];
    let scrape = agent.scrape_until(enough).expect("is scraped");
    let edges = Edges(&scrape);
    let from = |client| ["client", "server"].map(|side| edges.from(client, "http", side));
    assert_eq!([from(BUYER), from(AUDITOR)], [[3000; 2], [2000; 2]]);
    assert_eq!(edges.of_anybody("http"), [5000, 5000]);
    assert_eq!(edges.of_proxies(), Vec::<String>::new());
    let inbound = sidecar::inbound(shop.port());
    let count = |name| shop.inbound[0].counter(&inbound, name).expect("counts");
    let (connections, requests) = (count("upstream_cx_total"), count("upstream_rq_total"));
    assert_eq!(requests, 5000);
    // Of eight that came in, each with one client's requests.
    assert!(connections < 50, "{connections} connections for {requests} requests");
}

#[test]

fn a_call_tried_again_is_one_at_the_client() {
    let Some(shop) = open(Mesh::Istio, 1, 1) else { return };
    let (_file, observer) = observer(&shop);
    let place = shop.client(0).expect("is there");
    for _ in 0..10 {
        shop.ask(place, "/flaky").expect("is answered at last");
    }
    let calls = observer.finish().expect("ends well").calls;
    let calls = lines(&calls, "/flaky");
    let at_client = calls.iter().filter(|call| call.client_duration_us.is_some());
    assert_eq!(at_client.count(), 10);
    let mut attempts: Vec<(Option<u32>, Option<u16>)> = calls
        .iter()
        .filter(|call| call.server_duration_us.is_some())
        .map(|call| (call.attempt, call.status))
        .collect();
    attempts.sort();
    let wanted = [[(Some(1), Some(503)); 10], [(Some(2), Some(200)); 10]].concat();
    assert_eq!(attempts, wanted);
    calls.iter().for_each(|call| expect_names(call));
}

#[test]

fn sidecars_are_known_by_name_and_policy() {
    let Some(shop) = open(Mesh::Istio, 1, 1) else { return };
    let stranger = shop.stranger("stranger").expect("runs");
    let (_file, observer) = observer(&shop);
    shop.ask(shop.client(0).expect("is there"), "/ok").expect("is answered");
    shop.ask(stranger.place("app").expect("has one"), "/teapot").expect_err("418");
    let calls = observer.finish().expect("ends well").calls;
    let meshed = lines(&calls, "/ok");
    assert!(meshed.iter().any(|call| call.server_duration_us.is_some()), "{calls:#?}");
    for call in meshed {
        expect_names(call);
        if call.server_duration_us.is_some() {
            expect_mesh(call, "istio", true);
        }
    }
    for call in
        lines(&calls, "/teapot").into_iter().filter(|call| call.server_duration_us.is_some())
    {
        assert_eq!(
            (call.server.name.as_str(), call.security_policy.as_deref()),
            (CART, Some("none"))
        );
        assert_eq!(call.client_principal, None, "{call:?}");
    }
}

#[test]
fn through_ztunnel_each_call_counts_once_per_side() {
    let Some(shop) = open(Mesh::Ambient, 2, 2) else { return };
    let agent = agent(&shop);
    visit(&shop, 3000);
    expect_edge(&agent, "http", [6000, 6000]);
}

#[test]
fn through_linkerd_each_call_counts_once_per_side() {
    let Some(shop) = open(Mesh::Linkerd, 2, 2) else { return };
    let agent = agent(&shop);
    visit(&shop, 3000);
    expect_edge(&agent, "http", [6000, 6000]);
}

#[test]
fn ztunnel_and_linkerd_are_known_by_name_and_policy() {
    // Whose identity is told where: by ztunnel nowhere, by Linkerd to the server.
    for (mesh, name) in [(Mesh::Ambient, "ambient"), (Mesh::Linkerd, "linkerd")] {
        let Some(shop) = open(mesh, 1, 1) else { return };
        let (_file, observer) = observer(&shop);
        shop.ask(shop.client(0).expect("is there"), "/ok").expect("is answered");
        let calls = observer.finish().expect("ends well").calls;
        let calls = lines(&calls, "/ok");
        assert!(calls.iter().any(|call| call.server_duration_us.is_some()), "{calls:#?}");
        for call in calls {
            expect_names(call);
            if call.server_duration_us.is_some() {
                expect_mesh(call, name, false);
            }
        }
    }
}

/// An id as Envoy makes them.
fn request_id(number: usize) -> Vec<String> {
    vec![format!("x-request-id: 0ad3f6a1-19e5-4c4a-b2dc-{number:012x}")]
}

fn trace_context(number: usize) -> Vec<String> {
    vec![format!("traceparent: 00-0af7651916cd43dd8448eb211c80319c-{:016x}-00", number + 1)]
}

/// One line has both ends of the call, and what lies between them.
fn expect_joined(call: &CallLine, by: &str) {
    expect_names(call);
    assert_eq!(call.joined_by.as_deref(), Some(by), "{call:?}");
    let (Some(client), Some(server), Some(between)) =
        (call.client_duration_us, call.server_duration_us, call.between_us)
    else {
        panic!("an end is missing: {call:?}");
    };
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a test")]
    let difference = (client - server - between as f64).abs();
    assert!(difference <= 2.0, "{call:?}");
}

#[test]
fn an_id_on_both_sides_makes_two_ends_one_line() {
    for mesh in [Mesh::Istio, Mesh::Ambient, Mesh::Waypoint, Mesh::Linkerd] {
        let Some(shop) = open(mesh, 1, 1) else { return };
        let (_file, observer) = observer(&shop);
        let place = shop.client(0).expect("is there");
        let rows = [request_id(1), trace_context(1), Vec::new()];
        shop.ask_each(place, "/ok", &rows, 1).expect("are answered");
        let mut calls = observer.finish().expect("ends well").calls;
        calls.sort_by_key(|call| call.time.to_string());
        let calls = lines(&calls, "/ok");
        let [first, second, rest @ ..] = calls.as_slice() else { panic!("{mesh:?} {calls:#?}") };
        expect_joined(first, "request_id");
        expect_joined(second, "trace_context");
        // Between the sidecars it is encrypted; ztunnel is one process on both sides.
        for call in [first, second] {
            assert_eq!(call.client_proxy_us, None, "{call:?}");
            assert_eq!(call.server_proxy_us.is_some(), mesh == Mesh::Ambient, "{call:?}");
            let waypoint = (mesh == Mesh::Waypoint).then_some("waypoint");
            assert_eq!(call.waypoint.as_deref(), waypoint, "{call:?}");
        }
        // Without an id nothing says that the two are one call's.
        let ends: Vec<[bool; 2]> = rest
            .iter()
            .map(|call| [call.client_duration_us.is_some(), call.server_duration_us.is_some()])
            .collect();
        assert_eq!(ends, [[true, false], [false, true]], "{mesh:?} {rest:#?}");
        assert!(rest.iter().all(|call| call.joined_by.is_none()), "{rest:#?}");
    }
}

#[test]
fn many_calls_at_a_time_are_told_apart_by_their_ids() {
    let Some(shop) = open(Mesh::Istio, 2, 1) else { return };
    let (_file, observer) = observer(&shop);
    let rows: Vec<Vec<String>> = (0..200).map(request_id).collect();
    shop.ask_each(shop.client(0).expect("is there"), "/ok", &rows, 8).expect("are answered");
    // One id for all of them is no call's.
    let one = vec![request_id(1000); 200];
    shop.ask_each(shop.client(0).expect("is there"), "/nothing", &one, 8).expect("are answered");
    let calls = observer.finish().expect("ends well").calls;
    let joined = lines(&calls, "/ok");
    assert_eq!(joined.len(), 200);
    joined.iter().for_each(|call| expect_joined(call, "request_id"));
    let ends = lines(&calls, "/nothing");
    let count = |has: fn(&CallLine) -> bool| ends.iter().filter(|call| has(call)).count();
    assert_eq!(count(|call| call.client_duration_us.is_some()), 200);
    assert_eq!(count(|call| call.server_duration_us.is_some()), 200);
    assert!(count(CallLine::both_ends) < 20, "{}", count(CallLine::both_ends));
}

#[test]
fn a_call_tried_again_is_joined_with_the_attempt_that_was_answered() {
    let Some(shop) = open(Mesh::Istio, 1, 1) else { return };
    let (_file, observer) = observer(&shop);
    let rows: Vec<Vec<String>> = (0..10).map(request_id).collect();
    shop.ask_each(shop.client(0).expect("is there"), "/flaky", &rows, 1).expect("are answered");
    let calls = observer.finish().expect("ends well").calls;
    let (joined, tried): (Vec<&CallLine>, Vec<&CallLine>) =
        lines(&calls, "/flaky").into_iter().partition(|call| call.both_ends());
    assert_eq!((joined.len(), tried.len()), (10, 10), "{calls:#?}");
    for call in joined {
        expect_joined(call, "request_id");
        assert_eq!((call.attempt, call.status), (Some(2), Some(200)));
    }
    for call in tried {
        assert_eq!(call.client_duration_us, None, "{call:?}");
        assert_eq!((call.attempt, call.status), (Some(1), Some(503)));
    }
}

/// In plain text the requests can be read off both sockets of the server's sidecar.
#[test]
fn the_time_in_a_sidecar_is_known_where_nothing_is_encrypted() {
    let Some(shop) = open(Mesh::Istio, 1, 0) else { return };
    let stranger = shop.stranger("stranger").expect("runs");
    let (_file, observer) = observer(&shop);
    let place = stranger.place("app").expect("has one");
    let rows: Vec<Vec<String>> = (0..10).map(request_id).collect();
    shop.ask_each(place, "/ok", &rows, 1).expect("are answered");
    let calls = observer.finish().expect("ends well").calls;
    let calls = lines(&calls, "/ok");
    assert_eq!(calls.len(), 10, "{calls:#?}");
    for call in calls {
        assert_eq!(call.joined_by.as_deref(), Some("request_id"), "{call:?}");
        assert_eq!((call.client.name.as_str(), call.client_proxy_us), ("stranger", None));
        let within = call.server_proxy_us.zip(call.between_us);
        assert!(within.is_some_and(|(proxy, between)| proxy <= between), "{call:?}");
    }
}

#[test]
fn joined_calls_count_once_per_side_and_their_time_between_once() {
    let Some(shop) = open(Mesh::Istio, 2, 2) else { return };
    let agent = agent(&shop);
    for number in 0..2 {
        let rows: Vec<Vec<String>> = (0..100).map(|row| request_id(100 * number + row)).collect();
        shop.ask_each(shop.client(number).expect("is there"), "/ok", &rows, 4).expect("answered");
    }
    expect_edge(&agent, "http", [200, 200]);
    let scrape = agent.scrape_until(|_| true).expect("is scraped");
    let edge = [("client", BUYER), ("server", CART), ("mesh", "istio")];
    assert_eq!(scrape.count("meshtap_mesh_between_seconds_count", &edge), 200);
}

/// A waypoint stands between: where both ends are here and have ids it is neither's other end.
#[test]
fn through_a_waypoint_each_call_counts_once_per_side() {
    let Some(shop) = open(Mesh::Waypoint, 2, 2) else { return };
    let agent = agent(&shop);
    for number in 0..2 {
        let rows: Vec<Vec<String>> = (0..100).map(|row| request_id(100 * number + row)).collect();
        shop.ask_each(shop.client(number).expect("is there"), "/ok", &rows, 4).expect("answered");
    }
    expect_edge(&agent, "http", [200, 200]);
    // Without ids the server knows nobody else who may have asked.
    visit(&shop, 100);
    let enough = |scrape: &Scrape| Edges(scrape).of_anybody("http") >= [400, 400];
    let scrape = agent.scrape_until(enough).expect("is scraped");
    assert_eq!(Edges(&scrape).of_anybody("http"), [400, 400]);
    assert_eq!(Edges(&scrape).both("http"), [400, 200]);
    let asked = [("service_name", CART), ("service_peer_name", "waypoint")];
    assert_eq!(scrape.count(&series("http", "server"), &asked), 200);
}

/// What a waypoint reports is not in metrics of Istio's shape, whether the Service names it or
/// the namespace; without a label, which the agent goes by, there is none.
#[test]
fn a_waypoint_of_the_namespace_holds_istios_metrics_back() {
    let Some(shop) = open(Mesh::Waypoint, 1, 1) else { return };
    let config = format!("{}mesh:\n  istio_metrics: true\n", shop.lab.configuration());
    let agent = Agent::start(&config).expect("starts");
    let label = |object: &mut serde_json::Value, waypoint: Option<&str>| {
        let labels = object["metadata"]["labels"].as_object_mut().expect("labels");
        match waypoint {
            Some(name) => labels.insert(USE_WAYPOINT.to_owned(), name.into()),
            None => labels.remove(USE_WAYPOINT),
        };
        shop.lab.api().apply(object.clone()).expect("is applied");
    };
    let mut service = shop.service.object();
    let mut namespace = serde_json::json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {}},
    });
    let reported = |scrape: &Scrape| {
        let ours = [("reporter", "source"), ("source_workload", BUYER)];
        scrape.count("istio_requests_total", &ours)
    };
    let mut wanted = (0, 0);
    for (of_service, of_namespace, is_there) in [
        (Some("waypoint"), None, true),
        (None, Some("waypoint"), true),
        (Some("none"), Some("waypoint"), false),
        (None, Some("none"), false),
        (Some("waypoint"), Some("none"), true),
        (None, None, false),
    ] {
        label(&mut namespace, of_namespace);
        label(&mut service, of_service);
        // The agent is told within a moment.
        std::thread::sleep(std::time::Duration::from_secs(1));
        visit(&shop, 100);
        wanted.0 += 100;
        wanted.1 += if is_there { 0 } else { 100 };
        let enough = |scrape: &Scrape| Edges(scrape).of_anybody("http")[0] >= wanted.0;
        let scrape = agent.scrape_until(enough).expect("is scraped");
        let found = (Edges(&scrape).of_anybody("http")[0], reported(&scrape));
        assert_eq!(
            found, wanted,
            "{of_service:?} at the Service, {of_namespace:?} at its namespace"
        );
    }
    let asked = shop.lab.api().asked();
    let of_namespaces = asked.iter().filter(|asked| asked.resource == Resource::Namespaces);
    assert!(of_namespaces.clone().count() > 0);
    for asked in of_namespaces {
        assert_eq!(asked.parameter("labelSelector"), USE_WAYPOINT, "{asked:?}");
    }
}

/// A mesh's own agent asks the application whether it lives and for its metrics, and others ask
/// it: that is nobody's traffic.
#[test]
fn probes_and_scrapes_of_the_mesh_are_not_counted() {
    const STATUS: u16 = 15020;
    let Some(shop) = open(Mesh::Istio, 1, 1) else { return };
    // Stands for the agent, in whose name the kubelet and Prometheus ask at its own port.
    let beside = shop.servers[0].place(istio::CONTAINER).expect("has one");
    let own = Nginx::start_at(beside, STATUS, "").expect("starts");
    let agent = agent(&shop);
    for _ in 0..20 {
        shop.probe(0, "/ok").expect("is answered");
        assert_eq!(shop.scrape(0).expect("is answered"), "up 1\n");
    }
    let own_address = authority(shop.servers[0].address(false).expect("has one"), STATUS);
    let prometheus = shop.stranger("prometheus").expect("runs");
    load::h2load(prometheus.place("app").expect("has one"), &own_address, &["/ok"], 1, 10)
        .expect("is answered");
    visit(&shop, 100);
    let enough = |scrape: &Scrape| Edges(scrape).between("http", "server") >= 100;
    let scrape = agent.scrape_until(enough).expect("is scraped");
    let name = series("http", "server");
    let at_servers = scrape.by(&name, &["service_name", "service_peer_name"], &[]);
    let of_applications = [CART, BUYER].map(str::to_owned).to_vec();
    let ours: Vec<_> = at_servers.iter().filter(|(ends, _)| ends[0] != "meshtap").collect();
    assert_eq!(ours, [(&of_applications, &100)], "{at_servers:?}");
    assert_eq!(Edges(&scrape).between("http", "client"), 100);
    // Prometheus itself is an application, and its requests are its own.
    let of_prometheus = [("service_name", "prometheus")];
    let asked = scrape.count(&series("http", "client"), &of_prometheus);
    assert_eq!((asked, own.ledger().expect("is there").total()), (10, 10));
    assert_eq!(Edges(&scrape).of_anybody("http"), [110, 100]);
    assert_eq!(served(&shop), 140);
}
