//! Tests of attribution.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use meshtap_ebpf::event::{Endpoint, Head, Header, Opened, Owner, Redirected, Statistics};
use zerocopy::IntoBytes as _;

use super::container::ContainerName;
use super::host::ProcessRecord;
use super::*;
use crate::protocol::exchange::AgentClass;
use crate::protocol::{Exchange, Protocol, RouteSettings, Routes, Text};

const MS: u64 = 1_000_000;
const ID: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// A host whose processes, cgroups and containers the test decides.
#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Facts>>);

#[derive(Default)]
struct Facts {
    processes: HashMap<u32, ProcessRecord>,
    cgroups: Vec<(u64, String)>,
    containers: HashMap<String, ContainerName>,
    holders: Vec<u32>,
    walks: usize,
    /// Entries of the node's connection tracking.
    entries: Vec<Translation>,
    lookups: usize,
}

impl Host for Fake {
    fn process(&self, pid: u32) -> Option<ProcessRecord> {
        self.0.lock().unwrap().processes.get(&pid).cloned()
    }

    fn cgroups(&self, bound: usize) -> Vec<(u64, String)> {
        let mut facts = self.0.lock().unwrap();
        facts.walks += 1;
        facts.cgroups.iter().take(bound).cloned().collect()
    }

    fn container_name(&self, id: &str) -> Option<ContainerName> {
        self.0.lock().unwrap().containers.get(id).cloned()
    }

    fn listener_holders(&self, _: SocketAddr) -> Vec<u32> {
        self.0.lock().unwrap().holders.clone()
    }

    fn translation(&self, local: SocketAddr, remote: SocketAddr) -> Option<Translation> {
        let mut facts = self.0.lock().unwrap();
        facts.lookups += 1;
        let has = |entry: &&Translation| [entry.original, entry.reply].contains(&(local, remote));
        facts.entries.iter().find(has).copied()
    }
}

/// An attributor on such a host, fed by hand.
struct World {
    host: Fake,
    attributor: Attributor,
    now: u64,
    reports: Vec<ConnectionReport>,
}

impl World {
    fn new() -> Self {
        Self::with(AttributionSettings::default())
    }

    fn with(settings: AttributionSettings) -> Self {
        let host = Fake::default();
        let attributor = Attributor::with_host(settings, Box::new(host.clone()));
        Self { host, attributor, now: 1_000 * MS, reports: Vec::new() }
    }

    fn process(&mut self, pid: u32, line: &[&str], cgroups: &[&str]) {
        let record = ProcessRecord {
            started_ns: 0,
            read_ns: self.now,
            comm: program::base_name(line[0]).to_owned(),
            executable: Some(line[0].to_owned()),
            arguments: line.iter().map(|word| (*word).to_owned()).collect(),
            cgroups: cgroups.iter().map(|path| (*path).to_owned()).collect(),
            cgroup_id: 0,
        };
        self.host.0.lock().unwrap().processes.insert(pid, record);
    }

    fn see(&mut self, event: &Event<'_>) {
        self.attributor.observe(event, &mut self.reports);
    }

    fn open(&mut self, mut record: Opened) {
        self.now += MS;
        record.header.time_ns = self.now;
        self.see(&Event::Opened(&record));
    }

    /// A request's head passes a socket.
    fn request(&mut self, cookie: u64, sends: bool, sequence: u32, bytes: &[u8]) {
        self.now += MS;
        let direction = if sends { event::EGRESS } else { event::INGRESS };
        let header = Header {
            time_ns: self.now,
            cookie,
            direction,
            flags: event::HEAD_FIRST,
            ..Header::default()
        };
        let head = Head { header, sequence, acknowledgement: !sequence, ..Head::default() };
        self.see(&Event::Head(&head, bytes));
    }

    /// HEADERS of HTTP/2 pass a socket, `flags` (`FRAMES_*`) with them.
    fn headers(&mut self, cookie: u64, sends: bool, flags: u16, sequence: u32, stream: u32) {
        self.now += MS;
        let direction = if sends { event::EGRESS } else { event::INGRESS };
        let header = Header { time_ns: self.now, cookie, direction, flags, ..Header::default() };
        let record =
            event::Frames { header, acknowledgement: !sequence, ..event::Frames::default() };
        let block = stream.to_be_bytes();
        let item = event::Item {
            sequence,
            stream,
            length: 4,
            kind: event::FRAME_HEADERS,
            bytes: 4,
            ..event::Item::default()
        };
        let settings = event::Item { kind: event::FRAME_SETTINGS, ..event::Item::default() };
        let bytes = [settings.as_bytes(), item.as_bytes(), &block, &[0; 4]].concat();
        self.see(&Event::Frames(&record, &bytes));
    }

    fn redirect(&mut self, cookie: u64, local: &str, remote: &str) {
        let header = Header { time_ns: self.now, cookie, ..Header::default() };
        let record = Redirected { header, local: endpoint(local), remote: endpoint(remote) };
        self.see(&Event::Redirected(&record));
    }

    fn close(&mut self, cookie: u64, figures: Statistics) {
        self.now += MS;
        let header = Header { time_ns: self.now, cookie, ..Header::default() };
        self.see(&Event::Closed(&Statistics { header, ..figures }));
    }

    fn statistics(&mut self, cookie: u64, bytes_received: u64) {
        self.now += MS;
        let header = Header { time_ns: self.now, cookie, ..Header::default() };
        let record = Statistics { header, bytes_received, srtt_us: 50, ..Statistics::default() };
        self.see(&Event::Statistics(&record));
    }

    fn call(&mut self, socket: u64, side: Side, sequence: u32) -> Call {
        self.asked(socket, side, sequence, "")
    }

    fn asked(&mut self, socket: u64, side: Side, sequence: u32, authority: &str) -> Call {
        let mut exchange = self.exchange(socket, side);
        exchange.authority = Text::from(authority.to_owned());
        (exchange.sequence, exchange.acknowledgement) = (sequence, !sequence);
        let mut routes = Routes::new(RouteSettings::default());
        self.attributor.resolve(exchange, &mut routes).expect("no hop's socket")
    }

    fn exchange(&self, socket: u64, side: Side) -> Box<Exchange> {
        Box::new(Exchange {
            socket,
            side,
            protocol: Protocol::Http11,
            method: Text::from("GET"),
            path: Text::from("/"),
            authority: Text::default(),
            request_id: None,
            relayed: None,
            trace: None,
            trace_state: None,
            agent: AgentClass::None,
            cut: false,
            status: Some(200),
            error: None,
            start_ns: self.now,
            request_end_ns: Some(self.now),
            first_byte_ns: Some(self.now),
            end_ns: self.now,
            request_bytes: 0,
            response_bytes: 0,
            rtt_us: None,
            retransmits: 0,
            sequence: 0,
            acknowledgement: 0,
            tag: None,
            weight: 1,
            rpc: None,
        })
    }

    fn sweep(&mut self) {
        self.attributor.sweep(self.now, &mut self.reports);
    }
}

fn endpoint(text: &str) -> Endpoint {
    if text.is_empty() {
        return Endpoint::default();
    }
    let at: SocketAddr = text.parse().unwrap();
    let address = match at.ip() {
        std::net::IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(address) => address.octets(),
    };
    Endpoint { address, port: at.port(), pad: 0 }
}

fn owner(pid: u32, name: &str) -> Owner {
    let mut comm = [0; 16];
    comm[..name.len()].copy_from_slice(name.as_bytes());
    Owner { pid, uid: 0, comm }
}

fn socket(cookie: u64, role: u8, local: &str, remote: &str, owner: Owner) -> Opened {
    Opened {
        header: Header { cookie, ..Header::default() },
        cgroup: 1,
        local: endpoint(local),
        remote: endpoint(remote),
        owner,
        role,
        ..Opened::default()
    }
}

fn client(cookie: u64, local: &str, remote: &str, owner: Owner) -> Opened {
    Opened { asked: endpoint(remote), ..socket(cookie, event::ROLE_CLIENT, local, remote, owner) }
}

fn server(cookie: u64, local: &str, remote: &str, owner: Owner) -> Opened {
    socket(cookie, event::ROLE_SERVER, local, remote, owner)
}

fn names(call: &Call) -> (&str, &str) {
    (&call.client.identity.name, &call.server.identity.name)
}

const CURL: u32 = 100;
const NGINX: u32 = 200;

fn curl() -> Owner {
    owner(CURL, "curl")
}

fn nginx() -> Owner {
    owner(NGINX, "nginx")
}

mod joining;
mod kubernetes;
mod mesh;
mod translations;

mod identities {
    use super::*;

    /// The server's identity for a listener of `pid` with the socket in `cgroup`.
    fn identity(world: &mut World, cgroup: u64, owner: Owner) -> Arc<Identity> {
        let record = Opened { cgroup, ..server(9, "10.0.0.1:80", "10.9.9.9:4000", owner) };
        world.open(record);
        world.call(9, Side::Server, 1).server.identity
    }

    #[test]
    fn the_best_known_fact_wins() {
        let rules =
            serde_norway::from_str::<Vec<NameRule>>("[{name: shop, namespace: eu, port: 81}]")
                .unwrap();
        let mut world = World::with(AttributionSettings {
            names: rules,
            host_name: "h".into(),
            ..AttributionSettings::default()
        });
        world.process(
            NGINX,
            &["/usr/sbin/nginx"],
            &["/system.slice/web.service", &format!("/docker/{ID}")],
        );
        let found = identity(&mut world, 1, nginx());
        assert_eq!((&*found.name, found.kind), (&ID[..12], IdentityKind::Container));
        assert_eq!(
            found.attributes,
            [("container.id", Arc::from(ID)), ("host.name", Arc::from("h"))]
        );

        world.process(NGINX + 1, &["/usr/sbin/nginx"], &["/system.slice/web.service"]);
        let found = identity(&mut world, 1, owner(NGINX + 1, "nginx"));
        assert_eq!((&*found.name, found.kind), ("web", IdentityKind::Unit));
        assert_eq!(found.attributes[1], ("systemd.unit", Arc::from("web.service")));

        world.process(
            NGINX + 2,
            &["/usr/bin/python3.11", "api.py"],
            &["/user.slice/session-1.scope"],
        );
        let found = identity(&mut world, 1, owner(NGINX + 2, "python3"));
        assert_eq!((&*found.name, found.kind), ("api", IdentityKind::Process));
        let keys: Vec<_> =
            found.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(
            keys,
            [
                "host.name=h",
                "process.executable.name=python3.11",
                "process.executable.path=/usr/bin/python3.11"
            ]
        );

        world.open(server(10, "10.0.0.1:81", "10.9.9.9:4000", nginx()));
        let found = world.call(10, Side::Server, 1).server.identity;
        assert_eq!(
            (&*found.name, &*found.namespace, found.kind),
            ("shop", "eu", IdentityKind::Configured)
        );
    }

    #[test]
    fn the_sockets_own_cgroup_names_it_though_its_process_is_gone() {
        let mut world = World::new();
        {
            let mut facts = world.host.0.lock().unwrap();
            facts.cgroups = vec![
                (77, format!("/system.slice/docker-{ID}.scope")),
                (78, "/system.slice/a.service".into()),
            ];
            facts.containers.insert(
                ID.into(),
                ContainerName { name: "cart".into(), namespace: "eu".into(), pod: None },
            );
        }
        let found = identity(&mut world, 77, curl());
        assert_eq!((&*found.name, &*found.namespace), ("cart", "eu"));
        assert!(found.attributes.contains(&("container.name", Arc::from("cart"))));
        assert_eq!(&*identity(&mut world, 78, curl()).name, "a", "learnt in the same walk");
        assert_eq!(world.host.0.lock().unwrap().walks, 1);
        assert_eq!(&*identity(&mut world, 79, curl()).name, "curl", "gone, and the walk rests");
        assert_eq!(world.host.0.lock().unwrap().walks, 1);
        assert_eq!(&*identity(&mut world, 0, owner(0, "")).name, "unknown");
    }

    #[test]
    fn equal_identities_are_one_allocation() {
        let mut world = World::new();
        world.process(NGINX, &["/usr/sbin/nginx"], &[]);
        world.process(NGINX + 1, &["/usr/sbin/nginx"], &[]);
        let one = identity(&mut world, 1, nginx());
        let other = identity(&mut world, 1, owner(NGINX + 1, "nginx"));
        assert!(Arc::ptr_eq(&one, &other));
    }

    #[test]
    fn identities_are_bounded_and_those_in_use_stay() {
        let mut world =
            World::with(AttributionSettings { identities: 2, ..AttributionSettings::default() });
        let kept: Vec<_> = ["a", "b"]
            .map(|name| {
                world.open(client(5, "10.0.0.1:4000", "", owner(7, name)));
                world.call(5, Side::Client, 1).client.identity
            })
            .into();
        world.open(client(6, "10.0.0.1:4001", "", owner(7, "c")));
        assert_eq!(world.call(6, Side::Client, 1).client.identity.kind, IdentityKind::Unknown);
        assert_eq!(&*kept[0].name, "a");
        drop(kept);
        world.sweep();
        world.open(client(5, "10.0.0.1:4000", "", owner(7, "a")));
        world.open(client(6, "10.0.0.1:4001", "", owner(7, "c")));
        assert_eq!(&*world.call(6, Side::Client, 1).client.identity.name, "c");
        let identities =
            world.attributor.occupancy().into_iter().find(|one| one.cache == "identities").unwrap();
        assert!(identities.used <= 2 && identities.evicted > 0, "{identities:?}");
    }

    #[test]
    fn workers_and_passed_descriptors_go_by_who_accepted() {
        let mut world = World::new();
        world.process(NGINX, &["/usr/sbin/broker"], &[]);
        world.process(NGINX + 1, &["/usr/sbin/worker"], &[]);
        world.open(server(9, "10.0.0.1:80", "10.9.9.9:4000", nginx()));
        let changed = |cookie| event::OwnerChanged {
            header: Header { cookie, time_ns: 2_000 * MS, ..Header::default() },
            owner: owner(NGINX + 1, "worker"),
        };
        world.see(&Event::OwnerChanged(&changed(9)));
        let call = world.call(9, Side::Server, 1);
        assert_eq!((names(&call).1, call.server.pid), ("worker", NGINX + 1));
        // A client's child that asks for the peer did not connect.
        world.open(client(10, "10.0.0.1:4001", "10.9.9.9:80", nginx()));
        world.see(&Event::OwnerChanged(&changed(10)));
        assert_eq!(names(&world.call(10, Side::Client, 1)).0, "broker");
        world.see(&Event::OwnerChanged(&changed(11)));
        assert_eq!(world.attributor.strangers(), 1);
    }

    #[test]
    fn a_socket_activated_service_is_the_service() {
        let mut world = World::new();
        world.process(1, &["/usr/lib/systemd/systemd"], &["/init.scope"]);
        world.process(NGINX, &["/usr/bin/web"], &["/system.slice/web.service"]);
        world.host.0.lock().unwrap().cgroups =
            vec![(50, "/init.scope".into()), (51, "/system.slice/web.socket".into())];
        assert_eq!(
            &*identity(&mut world, 51, owner(1, "systemd")).name,
            "web",
            "by the socket's cgroup"
        );
        assert_eq!(
            &*identity(&mut world, 50, owner(1, "systemd")).name,
            "unknown",
            "nobody but the manager holds it"
        );
        world.host.0.lock().unwrap().holders = vec![1, NGINX];
        world.now += 3_000 * MS;
        assert_eq!(
            &*identity(&mut world, 50, owner(1, "systemd")).name,
            "web",
            "by the other holder"
        );
        world.host.0.lock().unwrap().holders.clear();
        let mut world = World::new();
        world.process(1, &["/usr/lib/systemd/systemd"], &["/init.scope"]);
        world.process(NGINX, &["/usr/bin/web"], &["/system.slice/web.service"]);
        world.open(server(9, "10.0.0.1:80", "10.9.9.9:4000", owner(1, "systemd")));
        let header = Header { cookie: 9, time_ns: world.now, ..Header::default() };
        world.see(&Event::OwnerChanged(&event::OwnerChanged { header, owner: nginx() }));
        assert_eq!(names(&world.call(9, Side::Server, 1)).1, "web", "by who accepted");
    }

    #[test]
    fn a_name_given_too_early_is_taken_back() {
        let mut world = World::new();
        // /proc shows the second program already when the first one's record is read.
        world.process(CURL, &["/usr/bin/curl"], &[]);
        let exec = |name: &str, time_ns| event::Exec {
            header: Header { time_ns, ..Header::default() },
            owner: owner(CURL, name),
        };
        let first = exec("fetch", world.now);
        world.host.0.lock().unwrap().processes.get_mut(&CURL).unwrap().read_ns =
            world.now + 10 * MS;
        world.see(&Event::Exec(&first, b"/opt/fetch"));
        world.open(client(5, "10.0.0.1:4000", "10.9.9.9:80", owner(CURL, "fetch")));
        assert_eq!(names(&world.call(5, Side::Client, 1)).0, "curl");
        let second = exec("curl", world.now + MS);
        world.see(&Event::Exec(&second, b"/usr/bin/curl"));
        assert_eq!(names(&world.call(5, Side::Client, 1)).0, "fetch");
    }
}

mod remotes {
    use super::*;
    use hickory_proto::op::{Message, OpCode, Query};
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{Name, RData, Record, RecordType};

    pub(super) fn answer(world: &mut World, asked: &str, address: [u8; 4]) {
        let name = Name::from_ascii(asked).unwrap();
        let mut message = Message::response(7, OpCode::Query);
        message.add_query(Query::query(name.clone(), RecordType::A));
        message.add_answer(Record::from_rdata(name, 300, RData::A(A(address.into()))));
        let bytes = message.to_vec().unwrap();
        let header = Header { time_ns: world.now, ..Header::default() };
        world.see(&Event::NameAnswer(&event::NameAnswer { header, cgroup: 1 }, &bytes));
    }

    #[test]
    fn configured_then_dns_then_address() {
        let rules = serde_norway::from_str::<Vec<NameRule>>(
            "[{name: db, address: 192.0.2.9, port: 5432}, {name: lan, address: 198.51.100.0/24}]",
        );
        let mut world = World::with(AttributionSettings {
            names: rules.unwrap(),
            ..AttributionSettings::default()
        });
        answer(&mut world, "api.example.org.", [192, 0, 2, 1]);
        answer(&mut world, "other.example.org.", [192, 0, 2, 9]);
        for (remote, name, kind) in [
            ("192.0.2.9:5432", "db", IdentityKind::Configured),
            ("192.0.2.9:80", "other.example.org", IdentityKind::Dns),
            ("198.51.100.7:80", "lan", IdentityKind::Configured),
            ("192.0.2.1:443", "api.example.org", IdentityKind::Dns),
            ("192.0.2.2:443", "192.0.2.2", IdentityKind::Address),
            ("[2001:db8::1]:443", "2001:db8::1", IdentityKind::Address),
        ] {
            world.open(client(5, "10.0.0.1:4000", remote, curl()));
            let call = world.call(5, Side::Client, 1);
            assert_eq!((names(&call).1, call.server.identity.kind), (name, kind), "{remote}");
            assert_eq!(call.server.endpoint, Some(remote.parse().unwrap()));
            assert!(!call.peer_observed && call.pair == 0 && call.server.pid == 0);
        }
        // The port that a remote client was lent names nobody.
        world.open(server(6, "10.0.0.1:80", "192.0.2.9:5432", nginx()));
        assert_eq!(names(&world.call(6, Side::Server, 1)).0, "other.example.org");
    }

    #[test]
    fn an_answer_that_comes_late_names_what_had_only_an_address() {
        let mut world = World::new();
        world.open(Opened {
            header: Header { cookie: 5, flags: event::OPENED_LATE, ..Header::default() },
            ..client(5, "10.0.0.1:4000", "192.0.2.1:80", curl())
        });
        assert_eq!(names(&world.call(5, Side::Client, 1)).1, "192.0.2.1");
        answer(&mut world, "api.example.org.", [192, 0, 2, 1]);
        assert_eq!(names(&world.call(5, Side::Client, 1)).1, "api.example.org");
    }

    #[test]
    fn the_server_address_is_what_the_client_asked_for() {
        let mut world = World::new();
        let record = Opened {
            asked: endpoint("10.96.0.10:8080"),
            ..client(5, "10.0.0.1:4000", "10.0.0.7:80", curl())
        };
        world.open(record);
        let at = |world: &mut World, authority| {
            let call = world.asked(5, Side::Client, 1, authority);
            (call.server_address.to_string(), call.server_port)
        };
        assert_eq!(at(&mut world, "Shop:81"), ("shop".into(), 81));
        assert_eq!(at(&mut world, "shop"), ("shop".into(), 80));
        assert_eq!(at(&mut world, ""), ("10.96.0.10".into(), 8080));
        assert_eq!(at(&mut world, "not an authority"), ("10.96.0.10".into(), 8080));
        world.open(server(6, "10.0.0.1:80", "10.9.9.9:5000", nginx()));
        let call = world.asked(6, Side::Server, 1, "");
        assert_eq!((&*call.server_address, call.server_port), ("10.0.0.1", 80));
        // One allocation for all who ask: it is a key to their series.
        let again = world.asked(5, Side::Client, 2, "Shop").server_address;
        world.open(client(7, "10.0.0.1:4001", "10.0.0.7:80", curl()));
        let other = world.asked(7, Side::Client, 1, "shop:81").server_address;
        assert!(Arc::ptr_eq(&again, &other));
        let stranger = world.asked(99, Side::Server, 1, "shop:81");
        assert_eq!((&*stranger.server_address, stranger.server_port), ("shop", 81));
        assert_eq!(names(&stranger), ("unknown", "unknown"));
        assert_eq!(stranger.client.endpoint, None);
    }
}

mod joins {
    use super::*;

    const A: &str = "10.0.0.1:4000";
    const B: &str = "10.0.0.2:80";

    /// Both observations of one call name the same two parties under the same pair.
    fn assert_one_edge(
        world: &mut World,
        client: u64,
        server: u64,
        sequence: u32,
        expected: (&str, &str),
    ) {
        let seen = world.call(client, Side::Client, sequence);
        let served = world.call(server, Side::Server, sequence);
        assert_eq!(names(&seen), expected);
        assert_eq!(names(&served), expected);
        assert!(seen.peer_observed && served.peer_observed);
        assert_ne!(seen.pair, 0);
        assert_eq!(seen.pair, served.pair);
        let next = world.call(client, Side::Client, sequence.wrapping_add(100));
        assert_ne!(next.pair, seen.pair, "another call of the same connection");
    }

    #[test]
    fn both_ends_on_this_host_are_one_edge() {
        let mut world = World::new();
        world.open(client(1, A, B, curl()));
        world.open(server(2, B, A, nginx()));
        assert_one_edge(&mut world, 1, 2, 7, ("curl", "nginx"));
        let call = world.call(1, Side::Client, 7);
        assert_eq!((call.client.pid, call.server.pid), (CURL, NGINX));
        assert_eq!(call.server.endpoint, Some(B.parse().unwrap()));
        let (role, from, to) = world.attributor.edge(2).unwrap();
        assert_eq!(
            (role, &*from.identity.name, &*to.identity.name),
            (Some(Side::Server), "curl", "nginx")
        );
        assert!(world.attributor.edge(3).is_none());
    }

    #[test]
    fn ipv4_is_ipv4_on_whatever_socket() {
        let mut world = World::new();
        world.open(client(1, "127.0.0.1:4000", "127.0.0.1:80", curl()));
        world.open(server(2, "[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]:4000", nginx()));
        assert_one_edge(&mut world, 1, 2, 7, ("curl", "nginx"));
        assert_eq!(
            world.call(2, Side::Server, 7).server.endpoint,
            Some("127.0.0.1:80".parse().unwrap())
        );
    }

    #[test]
    fn equal_tuples_in_two_namespaces_wait_for_the_sequence() {
        // In the order in which a join by addresses alone goes wrong, and in others.
        for order in [[0, 3, 2, 1], [0, 2, 1, 3], [0, 1, 2, 3], [3, 0, 1, 2]] {
            let mut world = World::new();
            let sockets = [
                client(1, "127.0.0.1:4000", "127.0.0.1:80", owner(1, "curl-a")),
                server(2, "127.0.0.1:80", "127.0.0.1:4000", owner(2, "web-a")),
                client(3, "127.0.0.1:4000", "127.0.0.1:80", owner(3, "curl-b")),
                server(4, "127.0.0.1:80", "127.0.0.1:4000", owner(4, "web-b")),
            ];
            for index in order {
                world.open(sockets[index]);
            }
            let before = world.call(1, Side::Client, 70);
            assert!(!before.peer_observed, "{order:?}: ambiguous, so not joined");
            for (cookie, sends, sequence) in
                [(1, true, 70), (3, true, 90), (4, false, 90), (2, false, 70)]
            {
                world.request(cookie, sends, sequence, b"GET / HTTP/1.1");
            }
            assert_one_edge(&mut world, 1, 2, 70, ("curl-a", "web-a"));
            assert_one_edge(&mut world, 3, 4, 90, ("curl-b", "web-b"));
        }
    }

    #[test]
    fn a_lone_pair_that_the_first_request_contradicts_is_none() {
        let mut world = World::new();
        world.open(client(1, A, B, owner(1, "curl-a")));
        world.open(server(4, B, A, owner(4, "web-b")));
        world.request(1, true, 70, b"GET");
        world.request(4, false, 90, b"GET");
        assert!(!world.call(1, Side::Client, 70).peer_observed);
        assert_eq!(names(&world.call(4, Side::Server, 90)), ("10.0.0.1", "web-b"));
    }

    #[test]
    fn known_namespaces_tell_loopbacks_apart_without_a_request() {
        let mut world = World::new();
        let within = |netns, record: Opened| Opened { netns, ..record };
        world.open(within(1, client(1, "127.0.0.1:4000", "127.0.0.1:80", owner(1, "curl-a"))));
        world.open(within(2, server(4, "127.0.0.1:80", "127.0.0.1:4000", owner(4, "web-b"))));
        assert!(!world.call(1, Side::Client, 1).peer_observed, "another namespace's loopback");
        world.open(within(2, client(3, "127.0.0.1:4000", "127.0.0.1:80", owner(3, "curl-b"))));
        world.open(within(1, server(2, "127.0.0.1:80", "127.0.0.1:4000", owner(2, "web-a"))));
        assert_one_edge(&mut world, 1, 2, 70, ("curl-a", "web-a"));
        assert_one_edge(&mut world, 3, 4, 90, ("curl-b", "web-b"));
    }

    #[test]
    fn translated_addresses_are_joined_by_the_sequence() {
        let mut world = World::new();
        // DNAT and SNAT in another namespace: no address is the same at both ends.
        world.open(client(1, A, "10.96.0.10:80", curl()));
        world.open(server(2, "10.1.0.5:8080", "10.1.0.1:61000", nginx()));
        assert!(!world.call(1, Side::Client, 70).peer_observed);
        world.request(1, true, 70, b"GET");
        world.request(2, false, 70, b"GET");
        assert_one_edge(&mut world, 1, 2, 70, ("curl", "nginx"));
        let call = world.call(1, Side::Client, 70);
        assert_eq!(call.server.endpoint, Some("10.1.0.5:8080".parse().unwrap()));
        assert_eq!((&*call.server_address, call.server_port), ("10.96.0.10", 80));
    }

    #[test]
    fn streams_join_as_requests_do() {
        for late in [false, true] {
            let mut world = World::new();
            let opened = |mut record: Opened| {
                if late {
                    (record.header.flags, record.role) = (event::OPENED_LATE, event::ROLE_UNKNOWN);
                }
                record
            };
            world.open(opened(client(1, A, "10.96.0.10:80", curl())));
            world.open(opened(server(2, "10.1.0.5:8080", "10.1.0.1:61000", nginx())));
            let flags = if late { event::FRAMES_JOINED } else { event::FRAMES_PREFACE };
            // An answer is offered only where it is not known to be one.
            world.headers(2, true, 0, 50, 1);
            world.headers(1, true, flags, 70, 1);
            assert!(!world.call(1, Side::Client, 70).peer_observed);
            world.headers(2, false, flags, 70, 1);
            assert_one_edge(&mut world, 1, 2, 70, ("curl", "nginx"));
        }
    }

    #[test]
    fn a_preface_says_which_end_a_socket_is() {
        let mut world = World::new();
        for (cookie, sends, side) in [(1, true, Side::Client), (2, false, Side::Server)] {
            let record = client(cookie, A, B, curl());
            world.open(Opened { role: event::ROLE_UNKNOWN, ..record });
            assert_eq!(world.attributor.edge(cookie).unwrap().0, None);
            world.headers(cookie, sends, event::FRAMES_PREFACE, 70, 1);
            assert_eq!(world.attributor.edge(cookie).unwrap().0, Some(side));
        }
    }

    #[test]
    fn redirected_packets_join_without_a_request() {
        let mut world = World::new();
        world.open(client(1, A, "10.96.0.10:80", curl()));
        world.open(server(2, "127.0.0.1:15001", A, nginx()));
        assert!(!world.call(1, Side::Client, 70).peer_observed);
        world.redirect(1, A, "127.0.0.1:15001");
        world.redirect(2, "10.96.0.10:80", A);
        assert_one_edge(&mut world, 1, 2, 70, ("curl", "nginx"));
    }

    #[test]
    fn a_port_used_again_belongs_to_the_living() {
        let mut world = World::new();
        world.open(client(1, A, B, owner(1, "old")));
        world.open(server(2, B, A, nginx()));
        world.close(1, Statistics::default());
        world.close(2, Statistics::default());
        world.open(client(3, A, B, owner(3, "new")));
        world.open(server(4, B, A, nginx()));
        assert_one_edge(&mut world, 3, 4, 70, ("new", "nginx"));
        assert_one_edge(&mut world, 1, 2, 70, ("old", "nginx"));
        world.now += 60_000 * MS;
        world.sweep();
        assert!(world.attributor.edge(1).is_none() && world.attributor.edge(3).is_some());
    }

    #[test]
    fn an_old_socket_with_the_same_addresses_is_not_the_peer() {
        let mut world = World::new();
        world.open(server(2, B, A, nginx()));
        world.now += 60_000 * MS;
        world.open(client(1, A, B, curl()));
        assert!(!world.call(1, Side::Client, 70).peer_observed);
    }

    #[test]
    fn ends_older_than_the_agent_are_joined_however_far_apart_they_show() {
        let mut world = World::new();
        let late = |record: Opened| {
            let header = Header { flags: event::OPENED_LATE, ..record.header };
            Opened { header, role: event::ROLE_UNKNOWN, ..record }
        };
        world.open(late(client(1, A, B, curl())));
        world.now += 60_000 * MS;
        world.open(late(server(2, B, A, nginx())));
        assert_one_edge(&mut world, 1, 2, 70, ("curl", "nginx"));
    }

    #[test]
    fn requests_of_one_connection_are_offered_a_few_times_only() {
        let mut world = World::new();
        world.open(client(1, A, "192.0.2.1:80", curl()));
        for sequence in 0..100 {
            world.request(1, true, sequence, b"GET");
        }
        let occupancy = world.attributor.occupancy();
        let waiting = occupancy.iter().find(|one| one.cache == "unmatched_requests").unwrap();
        assert_eq!(waiting.used, usize::from(join::OFFERS));
    }

    #[test]
    fn two_clients_or_a_failed_connection_are_no_pair() {
        let mut world = World::new();
        world.open(client(1, A, B, curl()));
        world.open(client(2, B, A, nginx()));
        assert!(!world.call(1, Side::Client, 70).peer_observed);
        let mut world = World::new();
        let mut failed = client(1, A, B, curl());
        failed.header.flags = event::OPENED_FAILED;
        world.open(failed);
        world.open(server(2, B, A, nginx()));
        assert!(!world.call(2, Side::Server, 70).peer_observed);
    }
}

mod hops {
    use super::*;

    const PROXY: u32 = 300;
    const LINE: [&str; 9] = [
        "/usr/bin/docker-proxy",
        "-proto",
        "tcp",
        "-host-ip",
        "127.0.0.1",
        "-container-ip",
        "172.17.0.2",
        "-container-port",
        "80",
    ];

    fn proxy() -> Owner {
        owner(PROXY, "docker-proxy")
    }

    fn world() -> World {
        let mut world = World::new();
        world.process(PROXY, &LINE, &["/system.slice/docker.service"]);
        world.process(NGINX, &["/usr/sbin/nginx"], &[&format!("/docker/{ID}")]);
        world
            .host
            .0
            .lock()
            .unwrap()
            .containers
            .insert(ID.into(), ContainerName { name: "web".into(), ..ContainerName::default() });
        world
    }

    /// Client, proxy's two sockets, container's: cookies 10n+1 to 10n+4.
    fn connect(world: &mut World, n: u16, name: &str) {
        let base = u64::from(n) * 10;
        let (from, onwards) =
            (format!("127.0.0.1:{}", 4000 + n), format!("172.17.0.1:{}", 6000 + n));
        world.open(client(base + 1, &from, "127.0.0.1:8080", owner(u32::from(n) + 1_000, name)));
        world.open(server(base + 2, "127.0.0.1:8080", &from, proxy()));
        world.open(client(base + 3, &onwards, "172.17.0.2:80", proxy()));
        world.open(server(base + 4, "172.17.0.2:80", &onwards, nginx()));
    }

    #[test]
    fn both_ends_of_dockers_proxy_are_folded_away() {
        let mut world = world();
        connect(&mut world, 0, "curl");
        for (cookie, sends, sequence) in
            [(1, true, 70), (2, false, 70), (3, true, 900), (4, false, 900)]
        {
            world.request(cookie, sends, sequence, b"GET / HTTP/1.1");
        }
        let (seen, served) = (world.call(1, Side::Client, 170), world.call(4, Side::Server, 1000));
        assert_eq!(names(&seen), ("curl", "web"));
        assert_eq!(names(&served), ("curl", "web"));
        assert!(seen.peer_observed && served.peer_observed);
        assert_eq!(seen.pair, served.pair, "the same offset in the stream");
        assert_ne!(world.call(1, Side::Client, 171).pair, seen.pair);
        assert_eq!(seen.server.endpoint, Some("172.17.0.2:80".parse().unwrap()));
        assert_eq!(served.client.endpoint, Some("127.0.0.1:4000".parse().unwrap()));
        assert_eq!((&*seen.server_address, seen.server_port), ("127.0.0.1", 8080));
        let hops: Vec<bool> = (1..=4).map(|cookie| world.attributor.is_passed_on(cookie)).collect();
        assert_eq!(hops, [false, true, true, false]);
        world.now += 1_000 * MS;
        world.sweep();
        let edges: Vec<_> = world
            .reports
            .iter()
            .map(|report| (&*report.client.identity.name, &*report.server.identity.name))
            .collect();
        assert_eq!(edges, [("curl", "web"); 2], "the proxy's own connections are nobody's edge");
    }

    #[test]
    fn a_remote_client_behind_the_proxy_is_its_address() {
        let mut world = world();
        world.open(server(2, "10.0.0.1:8080", "192.0.2.7:5000", proxy()));
        world.open(client(3, "172.17.0.1:6000", "172.17.0.2:80", proxy()));
        world.open(server(4, "172.17.0.2:80", "172.17.0.1:6000", nginx()));
        let call = world.call(4, Side::Server, 1);
        assert_eq!(names(&call), ("192.0.2.7", "web"));
        assert_eq!(call.client.endpoint, Some("192.0.2.7:5000".parse().unwrap()));
        assert!(!call.peer_observed);
    }

    #[test]
    fn several_at_once_are_told_apart_by_their_first_bytes() {
        let mut world = world();
        let opened = |world: &mut World, records: &[Opened]| {
            records.iter().for_each(|record| world.open(*record));
        };
        opened(
            &mut world,
            &[
                client(11, "127.0.0.1:4001", "127.0.0.1:8080", owner(1_001, "a")),
                client(21, "127.0.0.1:4002", "127.0.0.1:8080", owner(1_002, "b")),
                server(12, "127.0.0.1:8080", "127.0.0.1:4001", proxy()),
                server(22, "127.0.0.1:8080", "127.0.0.1:4002", proxy()),
                client(23, "172.17.0.1:6002", "172.17.0.2:80", proxy()),
                client(13, "172.17.0.1:6001", "172.17.0.2:80", proxy()),
                server(24, "172.17.0.2:80", "172.17.0.1:6002", nginx()),
                server(14, "172.17.0.2:80", "172.17.0.1:6001", nginx()),
            ],
        );
        assert_eq!(names(&world.call(14, Side::Server, 1)), ("unknown", "web"), "not known yet");
        assert_eq!(
            names(&world.call(11, Side::Client, 1)),
            ("a", "web"),
            "the target is known at once"
        );
        world.request(12, false, 1, b"GET /a");
        world.headers(22, false, event::FRAMES_PREFACE, 2, 5);
        world.request(13, true, 3, b"GET /a");
        world.headers(23, true, event::FRAMES_PREFACE, 4, 5);
        assert_eq!(names(&world.call(14, Side::Server, 1)), ("a", "web"));
        assert_eq!(names(&world.call(24, Side::Server, 1)), ("b", "web"));
        assert_eq!(world.attributor.hops.occupancy().0, 0);
    }

    #[test]
    fn of_equal_clients_at_once_the_workload_is_known_though_not_the_connection() {
        let mut world = world();
        for base in [10, 20] {
            let from = format!("127.0.0.1:{}", 4000 + base);
            world.open(client(base + 1, &from, "127.0.0.1:8080", curl()));
            world.open(server(base + 2, "127.0.0.1:8080", &from, proxy()));
        }
        for base in [10, 20] {
            let onwards = format!("172.17.0.1:{}", 6000 + base);
            world.open(client(base + 3, &onwards, "172.17.0.2:80", proxy()));
            world.open(server(base + 4, "172.17.0.2:80", &onwards, nginx()));
        }
        let call = world.call(14, Side::Server, 1);
        assert_eq!(names(&call), ("curl", "web"));
        assert_eq!((call.client.endpoint, call.client.pid), (None, 0));
    }

    #[test]
    fn a_hop_whose_listener_another_process_made_is_one() {
        let mut world = world();
        world.process(PROXY + 1, &["/usr/bin/dockerd"], &["/system.slice/docker.service"]);
        world.open(client(1, "127.0.0.1:4000", "127.0.0.1:8080", curl()));
        world.open(server(2, "127.0.0.1:8080", "127.0.0.1:4000", owner(PROXY + 1, "dockerd")));
        assert_eq!(names(&world.call(1, Side::Client, 1)), ("curl", "docker"));
        let header = Header { cookie: 2, time_ns: world.now, ..Header::default() };
        world.see(&Event::OwnerChanged(&event::OwnerChanged { header, owner: proxy() }));
        world.open(client(3, "172.17.0.1:6000", "172.17.0.2:80", proxy()));
        world.open(server(4, "172.17.0.2:80", "172.17.0.1:6000", nginx()));
        assert_eq!(names(&world.call(1, Side::Client, 1)), ("curl", "web"));
        assert_eq!(names(&world.call(4, Side::Server, 1)), ("curl", "web"));
    }

    #[test]
    fn bytes_that_the_hop_cut_elsewhere_are_the_same_bytes() {
        let mut world = world();
        for (cookie, from) in [(12, "192.0.2.1:4001"), (22, "192.0.2.2:4002")] {
            world.open(server(cookie, "10.0.0.1:8080", from, proxy()));
        }
        for (base, onwards) in [(20, "172.17.0.1:6002"), (10, "172.17.0.1:6001")] {
            world.open(client(base + 3, onwards, "172.17.0.2:80", proxy()));
            world.open(server(base + 4, "172.17.0.2:80", onwards, nginx()));
        }
        world.request(12, false, 1, b"GET /a HTTP/1.1\r\n");
        world.request(22, false, 2, b"GET /b HTTP/1.1\r\nhost: x\r\n");
        world.request(23, true, 3, b"GET /b HTTP/1.1\r\n");
        world.request(13, true, 4, b"GET /a HTTP/1.1\r\nhost: x\r\n");
        assert_eq!(names(&world.call(14, Side::Server, 1)).0, "192.0.2.1");
        assert_eq!(names(&world.call(24, Side::Server, 1)).0, "192.0.2.2");
    }

    #[test]
    fn a_proxy_that_does_not_say_where_it_leads_is_still_nobodys_server() {
        let mut world = world();
        world.process(PROXY, &["/usr/bin/docker-proxy"], &[]);
        world.open(client(1, "127.0.0.1:4000", "127.0.0.1:8080", curl()));
        world.open(server(2, "127.0.0.1:8080", "127.0.0.1:4000", proxy()));
        assert_eq!(names(&world.call(1, Side::Client, 1)), ("curl", "unknown"));
    }
}

mod reports {
    use super::*;

    fn shape(report: &ConnectionReport) -> (bool, bool, Option<u8>, Option<u8>, u64) {
        (report.opened, report.late, report.closed, report.failed, report.bytes_received)
    }

    #[test]
    fn a_connection_reports_differences_from_beginning_to_end() {
        let mut world = World::new();
        let record =
            Opened { connect_ns: 400, ..client(1, "10.0.0.1:4000", "192.0.2.1:443", curl()) };
        world.open(record);
        world.sweep();
        assert!(world.reports.is_empty(), "the other end may still show itself");
        world.now += 400 * MS;
        world.sweep();
        world.statistics(1, 100);
        world.statistics(1, 250);
        world.close(
            1,
            Statistics {
                bytes_received: 301,
                bytes_acked: 42,
                retransmits: 2,
                reason: event::CLOSE_FIN,
                ..Statistics::default()
            },
        );
        let shapes: Vec<_> = world.reports.iter().map(shape).collect();
        assert_eq!(
            shapes,
            [
                (true, false, None, None, 0),
                (false, false, None, None, 100),
                (false, false, None, None, 150),
                (false, false, Some(event::CLOSE_FIN), None, 50),
            ]
        );
        let [first, second, _, last] = &world.reports[..] else { panic!("four reports") };
        assert_eq!((first.connect_ns, second.connect_ns), (Some(400), None));
        assert_eq!((first.rtt_us, second.rtt_us), (None, Some(50)));
        assert_eq!((last.bytes_sent, last.retransmits), (40, 2));
        assert_eq!(
            (&*last.client.identity.name, &*last.server.identity.name),
            ("curl", "192.0.2.1")
        );
        assert_eq!(last.side, Side::Client);
        world.close(1, Statistics::default());
        assert_eq!(world.reports.len(), 4, "an end is told once");
        assert_eq!(
            &*world.call(1, Side::Client, 1).client.identity.name,
            "curl",
            "and still resolves"
        );
    }

    #[test]
    fn a_short_connection_is_one_report() {
        let mut world = World::new();
        world.open(server(1, "10.0.0.1:80", "192.0.2.1:4000", nginx()));
        world.close(
            1,
            Statistics {
                bytes_received: 9,
                reason: event::CLOSE_RESET_RECEIVED,
                ..Statistics::default()
            },
        );
        world.now += 1_000 * MS;
        world.sweep();
        let shapes: Vec<_> = world.reports.iter().map(shape).collect();
        assert_eq!(shapes, [(true, false, Some(event::CLOSE_RESET_RECEIVED), None, 9)]);
    }

    #[test]
    fn a_failed_connection_was_never_opened() {
        let mut world = World::new();
        let mut record = client(1, "10.0.0.1:4000", "192.0.2.1:443", curl());
        record.header.flags = event::OPENED_FAILED;
        world.open(record);
        world.now += 1_000 * MS;
        world.sweep();
        world.close(1, Statistics { reason: event::CLOSE_REFUSED, ..Statistics::default() });
        let shapes: Vec<_> = world.reports.iter().map(shape).collect();
        assert_eq!(shapes, [(false, false, None, Some(event::CLOSE_REFUSED), 0)]);
    }

    #[test]
    fn a_late_connection_counts_from_what_is_seen_first() {
        let mut world = World::new();
        let mut record =
            socket(1, event::ROLE_UNKNOWN, "10.0.0.1:80", "192.0.2.1:4000", Owner::default());
        record.header.flags = event::OPENED_LATE;
        world.process(NGINX, &["/usr/sbin/nginx"], &[]);
        let seed = inventory::LocalSocket {
            cookie: 1,
            cgroup: 0,
            namespace: 1,
            local: "10.0.0.1:80".parse().unwrap(),
            remote: "192.0.2.1:4000".parse().unwrap(),
            pid: NGINX,
            uid: 33,
            role: Some(Side::Server),
        };
        let taken_ns = world.now;
        world.attributor.seed(Inventory { taken_ns, sockets: vec![seed], ..Inventory::default() });
        // The process is gone, and its pid another's, when the next packet comes.
        world.now += 60_000 * MS;
        world.process(NGINX, &["/usr/bin/other"], &[]);
        world.host.0.lock().unwrap().processes.get_mut(&NGINX).unwrap().started_ns = world.now;
        world.open(record);
        world.statistics(1, 5_000);
        world.statistics(1, 5_100);
        let shapes: Vec<_> = world.reports.iter().map(shape).collect();
        assert_eq!(shapes, [(true, true, None, None, 0), (false, true, None, None, 100)]);
        let report = &world.reports[0];
        assert_eq!(
            (report.side, &*report.server.identity.name, report.server.pid),
            (Side::Server, "nginx", NGINX)
        );
    }

    /// As of a server that never asks who connects (Node), and that is older than the agent.
    #[test]
    fn what_a_listener_from_before_the_agent_accepts_is_its_holders() {
        let mut world = World::new();
        world.process(NGINX, &["/usr/bin/node", "/srv/counter.js"], &[]);
        let listener = inventory::Listener {
            namespace: 1,
            cgroup: 1,
            local: "0.0.0.0:80".parse().unwrap(),
            holders: vec![NGINX],
        };
        let inventory =
            Inventory { taken_ns: world.now, listeners: vec![listener], ..Inventory::default() };
        world.attributor.seed(inventory);
        world.open(server(1, "10.0.0.1:80", "192.0.2.1:4000", Owner::default()));
        let call = world.call(1, Side::Server, 1);
        assert_eq!((&*call.server.identity.name, call.server.pid), ("counter", NGINX));
        // Another port, another cgroup: not that listener.
        world.open(server(2, "10.0.0.1:81", "192.0.2.1:4001", Owner::default()));
        assert_eq!(&*world.call(2, Side::Server, 1).server.identity.name, "unknown");
        let elsewhere = server(3, "10.0.0.1:80", "192.0.2.1:4002", Owner::default());
        world.open(Opened { cgroup: 7, ..elsewhere });
        assert_eq!(&*world.call(3, Side::Server, 1).server.identity.name, "unknown");
        // Its holder is gone and the pid another's: the listener cannot be the old one.
        let header = Header { time_ns: world.now, ..Header::default() };
        world.see(&Event::Exit(&event::Exit { header, pid: NGINX, ..event::Exit::default() }));
        world.now += MS;
        world.process(NGINX, &["/usr/bin/other"], &[]);
        world.host.0.lock().unwrap().processes.get_mut(&NGINX).unwrap().started_ns = world.now;
        world.now += 100 * MS;
        world.open(server(4, "10.0.0.1:80", "192.0.2.1:4003", Owner::default()));
        assert_eq!(&*world.call(4, Side::Server, 1).server.identity.name, "unknown");
    }

    #[test]
    fn without_any_record_of_it_a_role_follows_the_evidence() {
        let mut world = World::new();
        let late = |cookie, local, remote| {
            let mut record = socket(cookie, event::ROLE_UNKNOWN, local, remote, nginx());
            record.header.flags = event::OPENED_LATE;
            record
        };
        world.open(server(1, "10.0.0.1:50000", "192.0.2.1:4000", nginx()));
        for (record, side) in [
            (late(2, "10.0.0.1:50000", "192.0.2.1:4001"), Side::Server),
            (late(3, "192.0.2.1:4002", "10.0.0.1:50000"), Side::Client),
            (late(4, "10.0.0.1:80", "192.0.2.1:4003"), Side::Server),
            (late(5, "10.0.0.1:4004", "192.0.2.1:443"), Side::Client),
        ] {
            let cookie = record.header.cookie;
            world.open(record);
            world.statistics(cookie, 0);
            assert_eq!(world.reports.last().unwrap().side, side, "{cookie}");
            assert_eq!(world.attributor.edge(cookie).unwrap().0, None, "evidence is not knowledge");
        }
        // A message's direction is.
        world.request(5, false, 7, b"GET");
        assert_eq!(world.attributor.edge(5).unwrap().0, Some(Side::Server));
    }

    #[test]
    fn the_table_is_bounded_and_what_goes_is_reported_as_ended() {
        let mut world =
            World::with(AttributionSettings { connections: 8, ..AttributionSettings::default() });
        for cookie in 1..=20 {
            world.open(client(
                cookie,
                &format!("10.0.0.1:{}", 4000 + cookie),
                "192.0.2.1:80",
                curl(),
            ));
        }
        let connections = world.attributor.occupancy()[0];
        assert_eq!(
            (connections.cache, connections.used, connections.bound, connections.evicted),
            ("connections", 8, 8, 12)
        );
        world.now += 1_000 * MS;
        world.sweep();
        let opened = world.reports.iter().filter(|report| report.opened).count();
        let ended = world
            .reports
            .iter()
            .filter(|report| report.closed == Some(event::CLOSE_UNKNOWN))
            .count();
        assert_eq!((opened, ended), (20, 12));
        world.statistics(1, 10);
        assert_eq!(world.attributor.strangers(), 1);
        assert!(world.attributor.unreported.is_empty());
        for cookie in 13..=20 {
            world.close(cookie, Statistics::default());
        }
        world.now += 60_000 * MS;
        world.sweep();
        assert_eq!(world.attributor.occupancy()[0].used, 0);
        assert!(
            world
                .attributor
                .connections
                .known_by(&(endpoint("10.0.0.1:4020"), endpoint("192.0.2.1:80")))
                .is_empty()
        );
    }

    #[test]
    fn every_cache_stays_within_its_bound() {
        let small = AttributionSettings {
            connections: 4,
            processes: 4,
            cgroups: 4,
            containers: 2,
            identities: 4,
            dns_addresses: 4,
            unmatched_requests: 4,
            translations: 4,
            ..AttributionSettings::default()
        };
        let mut world = World::with(small);
        for turn in 0..200_u64 {
            let pid = 1_000 + u32::try_from(turn).unwrap();
            world.process(
                pid,
                &[&format!("/bin/p{turn}")],
                &[&format!("/docker/{turn:064x}"), &format!("/a/{turn}")],
            );
            let exec = event::Exec {
                header: Header { time_ns: world.now, ..Header::default() },
                owner: owner(pid, "p"),
            };
            world.see(&Event::Exec(&exec, b"/bin/p"));
            let from = format!("10.0.0.1:{}", 4_000 + turn);
            world.open(client(turn + 1, &from, "192.0.2.1:80", owner(pid, "p")));
            world.request(turn + 1, true, u32::try_from(turn).unwrap(), b"GET");
        }
        for cache in world.attributor.occupancy() {
            assert!(cache.used <= cache.bound, "{cache:?}");
            // What this test does not fill.
            let idle =
                ["hops", "dns_addresses", "proxied_connections", "proxied_calls", "translations"];
            if !idle.contains(&cache.cache) && !cache.cache.starts_with("kube") {
                assert!(cache.evicted > 0, "{cache:?}");
            }
        }
    }
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    /// Sockets of `namespaces` namespaces that all have the same two addresses: cookies
    /// 2n and 2n+1 are ends of one connection.
    fn twins(namespaces: u64, netns_known: bool) -> Vec<Opened> {
        let one = |n: u64| {
            let netns = if netns_known { n + 1 } else { 0 };
            let pid = u32::try_from(n).unwrap() * 2 + 1;
            let from = client(2 * n, "127.0.0.1:4000", "127.0.0.1:80", owner(pid, "c"));
            let to = server(2 * n + 1, "127.0.0.1:80", "127.0.0.1:4000", owner(pid + 1, "s"));
            [Opened { netns, ..from }, Opened { netns, ..to }]
        };
        (0..namespaces).flat_map(one).collect()
    }

    fn peer(world: &World, cookie: u64) -> Option<u64> {
        join::peer(
            &world.attributor.connections,
            cookie,
            world.attributor.connections.get(cookie).unwrap(),
        )
    }

    proptest! {
        #[test]
        fn equal_tuples_are_never_joined_wrongly(
            opens in Just(twins(4, false)).prop_shuffle(),
            heads in Just((0..8_u64).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let mut world = World::new();
            for record in opens {
                world.open(record);
            }
            for cookie in 0..8 {
                prop_assert_eq!(peer(&world, cookie), None);
            }
            for cookie in heads {
                world.request(cookie, cookie % 2 == 0, u32::try_from(cookie / 2).unwrap(), b"GET");
                for seen in 0..8 {
                    let found = peer(&world, seen);
                    prop_assert!(found.is_none() || found == Some(seen ^ 1), "{} is not {:?}'s", seen, found);
                }
            }
            for cookie in 0..8 {
                prop_assert_eq!(peer(&world, cookie), Some(cookie ^ 1));
            }
        }

        #[test]
        fn known_namespaces_are_never_mixed(opens in Just(twins(4, true)).prop_shuffle()) {
            let mut world = World::new();
            let mut open = Vec::new();
            for record in opens {
                world.open(record);
                open.push(record.header.cookie);
                for seen in &open {
                    let expected = open.contains(&(seen ^ 1)).then_some(seen ^ 1);
                    prop_assert_eq!(peer(&world, *seen), expected);
                }
            }
        }

        #[test]
        fn text_from_outside_is_taken_as_it_comes(text in ".{0,80}", words in prop::collection::vec("[-+@=:./a-zA-Z0-9 äß]{0,12}", 0..6)) {
            for executable in ["/usr/bin/python3", "java", "bash", "busybox", "php", &text] {
                prop_assert!(program::name(executable, &words).len() <= 4096);
                prop_assert!(program::file_name(&text).len() <= text.len());
                prop_assert!(hop::detect("docker-proxy", &words).is_some());
            }
            for path in [&text, &words.join("/")] {
                let unit = unit::from_cgroup(path);
                prop_assert!(unit.is_none_or(|unit| !unit.unit.is_empty()));
                let container = container::from_cgroup(path);
                prop_assert!(container.is_none_or(|container| !container.short_id().is_empty()));
            }
            if let Some((host, _)) = authority::split(&text) {
                prop_assert!(!host.contains(char::is_whitespace));
            }
        }

        #[test]
        fn dns_messages_of_any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let mut names = dns::Names::new(4, 0, 1);
            names.hear(&bytes, 1, 0);
            let mut response = bytes;
            if let Some(flags) = response.get_mut(2) {
                *flags |= 0x80;
            }
            names.hear(&response, 1, 0);
            prop_assert!(names.occupancy().0 <= 4);
        }
    }

    #[test]
    fn a_connection_is_small() {
        assert!(size_of::<Connection>() <= 448, "{}", size_of::<Connection>());
    }
}
