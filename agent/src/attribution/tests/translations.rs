//! Tests of what the node's connection tracking tells: who is asked about, and what it names.

use super::*;

const POD: &str = "10.1.0.7:4000";
const SERVICE: &str = "10.96.0.10:80";
const BACKEND: &str = "10.1.0.5:8080";
/// The node's own address and a port of its choice, in place of the client's.
const MASQUERADE: &str = "10.1.0.1:61000";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// An entry for a client's address and what it asked for, and the server's and what it sees.
fn entry(client: &str, asked: &str, server: &str, seen: &str) -> Translation {
    Translation { original: (at(client), at(asked)), reply: (at(server), at(seen)) }
}

impl World {
    fn tracks(&mut self, entry: Translation) {
        self.host.0.lock().unwrap().entries.push(entry);
    }

    fn lookups(&self) -> usize {
        self.host.0.lock().unwrap().lookups
    }
}

#[test]
fn each_end_learns_how_the_other_knows_the_connection() {
    let both = entry(POD, SERVICE, BACKEND, MASQUERADE);
    assert_eq!(both.beyond(at(POD), at(SERVICE)), Some((at(MASQUERADE), at(BACKEND))));
    assert_eq!(both.beyond(at(BACKEND), at(MASQUERADE)), Some((at(SERVICE), at(POD))));
    assert_eq!(both.beyond(at(POD), at(BACKEND)), None, "the entry of another connection");
    let plain = entry(POD, BACKEND, BACKEND, POD);
    assert_eq!(plain.beyond(at(POD), at(BACKEND)), None, "nothing is translated");
    assert_eq!(plain.beyond(at(BACKEND), at(POD)), None);
}

#[test]
fn a_backend_on_another_host_is_where_the_call_went() {
    let mut world = World::new();
    world.tracks(entry(POD, SERVICE, BACKEND, POD));
    world.open(client(1, POD, SERVICE, curl()));
    let call = world.call(1, Side::Client, 1);
    assert_eq!(names(&call), ("curl", "10.96.0.10"), "the Service's name comes first");
    assert_eq!(call.server.endpoint, Some(at(BACKEND)));
    assert_eq!((&*call.server_address, call.server_port), ("10.96.0.10", 80));
    assert!(!call.peer_observed);
    for sequence in 2..50 {
        world.call(1, Side::Client, sequence);
    }
    assert_eq!(world.lookups(), 1, "a connection is asked about once");
}

#[test]
fn a_configured_name_of_the_backend_names_it() {
    let rules = serde_norway::from_str::<Vec<NameRule>>("[{name: shop, address: 10.1.0.5}]");
    let mut world = World::with(AttributionSettings {
        names: rules.unwrap(),
        ..AttributionSettings::default()
    });
    world.tracks(entry(POD, SERVICE, BACKEND, POD));
    world.open(client(1, POD, SERVICE, curl()));
    assert_eq!(names(&world.call(1, Side::Client, 1)), ("curl", "shop"));
}

#[test]
fn a_client_behind_the_nodes_address_is_itself() {
    let mut world = World::new();
    world.tracks(entry("192.0.2.7:5000", "10.1.0.1:30080", BACKEND, MASQUERADE));
    world.open(server(2, BACKEND, MASQUERADE, nginx()));
    let call = world.call(2, Side::Server, 1);
    assert_eq!(names(&call), ("192.0.2.7", "nginx"));
    assert_eq!(call.client.endpoint, Some(at("192.0.2.7:5000")));
    assert_eq!(call.server.endpoint, Some(at(BACKEND)), "its own socket's");
}

/// No request is ever read on these: TLS, or a protocol that is not known.
#[test]
fn connections_without_a_request_are_one_edge_whoever_asks_first() {
    for seen in [POD, MASQUERADE] {
        for order in [[1, 2], [2, 1]] {
            let mut world = World::new();
            world.tracks(entry(POD, SERVICE, BACKEND, seen));
            world.open(client(1, POD, SERVICE, curl()));
            world.open(server(2, BACKEND, seen, nginx()));
            for cookie in order {
                world.statistics(cookie, 0);
            }
            let edges: Vec<_> = world
                .reports
                .iter()
                .map(|report| (&*report.client.identity.name, &*report.server.identity.name))
                .collect();
            assert_eq!(edges, [("curl", "nginx"); 2], "{seen} {order:?}");
            let endpoints =
                world.reports.iter().map(|report| (report.client.endpoint, report.server.endpoint));
            assert!(endpoints.clone().all(|ends| ends == (Some(at(POD)), Some(at(BACKEND)))));
            assert_eq!(world.lookups(), 1, "one end tells for both");
        }
    }
}

#[test]
fn both_observations_of_a_call_are_a_pair() {
    let mut world = World::new();
    world.tracks(entry(POD, SERVICE, BACKEND, MASQUERADE));
    world.open(client(1, POD, SERVICE, curl()));
    world.open(server(2, BACKEND, MASQUERADE, nginx()));
    // Nothing of its bytes was offered to the join: the server's end is read first.
    let served = world.call(2, Side::Server, 7);
    let seen = world.call(1, Side::Client, 7);
    assert!(seen.peer_observed && served.peer_observed && seen.pair != 0);
    assert_eq!(seen.pair, served.pair);
    assert_eq!((names(&seen), names(&served)), (("curl", "nginx"), ("curl", "nginx")));
}

/// A process of the node that asks for one of the node's own addresses.
#[test]
fn the_nodes_own_address_stands_for_a_server_in_another_namespace() {
    let (own, port) = ("10.0.0.1:4000", "10.0.0.1:30080");
    for order in [[1, 2], [2, 1]] {
        let mut world = World::new();
        world.tracks(entry(own, port, BACKEND, MASQUERADE));
        world.open(Opened { netns: 1, ..client(1, own, port, curl()) });
        world.open(Opened { netns: 2, ..server(2, BACKEND, MASQUERADE, nginx()) });
        for cookie in order {
            world.statistics(cookie, 0);
        }
        for report in &world.reports {
            let edge = (&*report.client.identity.name, &*report.server.identity.name);
            assert_eq!(edge, ("curl", "nginx"), "{order:?}");
        }
    }
}

#[test]
fn backends_of_one_service_are_told_apart() {
    let mut world = World::new();
    let other = "10.1.0.6:8080";
    world.tracks(entry(POD, SERVICE, BACKEND, POD));
    world.tracks(entry("10.1.0.7:4001", SERVICE, other, "10.1.0.7:4001"));
    world.open(client(1, POD, SERVICE, curl()));
    world.open(client(3, "10.1.0.7:4001", SERVICE, curl()));
    world.open(server(4, other, "10.1.0.7:4001", owner(4, "second")));
    world.open(server(2, BACKEND, POD, owner(2, "first")));
    for (cookie, name) in [(1, "first"), (3, "second")] {
        world.statistics(cookie, 0);
        assert_eq!(&*world.reports.last().unwrap().server.identity.name, name);
    }
}

#[test]
fn what_has_its_other_end_here_or_stays_in_its_namespace_is_not_asked_about() {
    let mut world = World::new();
    world.open(client(1, POD, BACKEND, curl()));
    world.open(server(2, BACKEND, POD, nginx()));
    world.open(client(3, "127.0.0.1:4000", "127.0.0.1:80", curl()));
    world.open(client(5, "[fe80::1]:4000", "[fe80::2]:80", curl()));
    // A sidecar takes it over: its packets go to a loopback address.
    world.open(client(7, "10.1.0.7:4001", SERVICE, curl()));
    world.redirect(7, "10.1.0.7:4001", "127.0.0.1:15001");
    world.open(client(9, "10.1.0.7:4002", "", curl()));
    for cookie in [1, 2, 3, 5, 7, 9] {
        world.statistics(cookie, 0);
    }
    assert_eq!(world.lookups(), 0);
}

/// Two namespaces have the same addresses, and only one of them lies behind the node.
#[test]
fn an_entry_that_may_belong_to_another_is_of_nobody() {
    let mut world = World::new();
    world.tracks(entry(POD, SERVICE, BACKEND, POD));
    world.open(client(1, POD, SERVICE, owner(1, "one")));
    world.open(client(3, POD, SERVICE, owner(3, "other")));
    for cookie in [1, 3] {
        world.statistics(cookie, 0);
        assert_eq!(world.reports.last().unwrap().server.endpoint, Some(at(SERVICE)));
    }
    assert_eq!(world.lookups(), 0);
}

/// A proxy's socket says its own port, the packets that come in the one that was asked for.
#[test]
fn packets_that_the_pod_redirects_pass_the_node_as_they_were() {
    let mut world = World::new();
    world.tracks(entry("192.0.2.7:5000", "10.1.0.1:30080", BACKEND, MASQUERADE));
    world.open(server(2, "10.1.0.5:15006", MASQUERADE, nginx()));
    world.redirect(2, BACKEND, MASQUERADE);
    let call = world.call(2, Side::Server, 1);
    assert_eq!(call.client.endpoint, Some(at("192.0.2.7:5000")));
}

#[test]
fn a_young_connection_that_nothing_is_known_of_is_asked_about_twice() {
    let mut world = World::new();
    world.open(client(1, POD, SERVICE, curl()));
    world.statistics(1, 0);
    world.tracks(entry(POD, SERVICE, BACKEND, POD));
    world.statistics(1, 0);
    assert_eq!(world.lookups(), 2);
    let server = |world: &World| world.reports.last().unwrap().server.endpoint;
    assert_eq!(server(&world), Some(at(BACKEND)));
    world.open(client(3, "10.1.0.7:4001", SERVICE, curl()));
    world.now += 2_000 * MS;
    for _ in 0..5 {
        world.statistics(3, 0);
    }
    assert_eq!(world.lookups(), 3, "an old one once");
    assert_eq!(server(&world), Some(at(SERVICE)));
}

#[test]
fn an_ended_connection_is_asked_about_at_its_end_and_not_later() {
    let mut world = World::new();
    world.tracks(entry(POD, SERVICE, BACKEND, POD));
    world.open(client(1, POD, SERVICE, curl()));
    world.close(1, Statistics::default());
    assert_eq!(world.reports.last().unwrap().server.endpoint, Some(at(BACKEND)));
    let mut world = World::new();
    world.open(client(1, POD, SERVICE, curl()));
    world.close(1, Statistics::default());
    // The same addresses, used again.
    world.tracks(entry(POD, SERVICE, BACKEND, POD));
    let call = world.call(1, Side::Client, 1);
    assert_eq!((call.server.endpoint, world.lookups()), (Some(at(SERVICE)), 1));
}

#[test]
fn questions_are_bounded_and_what_was_refused_is_asked_later() {
    let mut world =
        World::with(AttributionSettings { translations: 3, ..AttributionSettings::default() });
    for cookie in 1..=5 {
        world.open(client(cookie, &format!("10.1.0.7:400{cookie}"), SERVICE, curl()));
    }
    for cookie in 1..=5 {
        world.statistics(cookie, 0);
    }
    let translations = |world: &World| {
        let found = world.attributor.occupancy();
        let found = found.into_iter().find(|one| one.cache == "translations").unwrap();
        (found.used, found.bound, found.evicted)
    };
    assert_eq!((world.lookups(), translations(&world)), (3, (3, 3, 2)));
    world.tracks(entry("10.1.0.7:4005", SERVICE, BACKEND, "10.1.0.7:4005"));
    world.now += 1_000 * MS;
    world.statistics(5, 0);
    assert_eq!(world.reports.last().unwrap().server.endpoint, Some(at(BACKEND)));
    assert_eq!(translations(&world), (1, 3, 2));
    world.now += 1_000 * MS;
    world.sweep();
    assert_eq!(translations(&world), (0, 3, 2));
}

#[test]
fn a_forgotten_connection_leaves_no_addresses_behind() {
    let mut world = World::new();
    world.tracks(entry(POD, SERVICE, BACKEND, MASQUERADE));
    world.open(client(1, POD, SERVICE, curl()));
    world.close(1, Statistics::default());
    let seen = (endpoint(MASQUERADE), endpoint(BACKEND));
    assert_eq!(world.attributor.connections.known_by(&seen), [1]);
    world.now += 60_000 * MS;
    world.sweep();
    assert!(world.attributor.connections.known_by(&seen).is_empty());
}
