//! The two ends of one call through proxies: when they are one, and when that is not certain.

use super::mesh::{POD, envoy, world};
use super::*;
use crate::attribution::mesh::{JoinedBy, Through, Times};
use crate::protocol::exchange::TraceContext;
use crate::protocol::relayed::Relayed;

const WEB: &str = "10.244.1.1";
const NEAR: u32 = 310;
const ID: &str = "0ad3f6a1-19e5-4c4a-b2dc-01a7b1a54bfa";

/// The application of the client, the sockets of its proxy, and the same of the server.
const ASKS: u64 = 1;
const NEAR_IN: u64 = 2;
const NEAR_OUT: u64 = 3;
const FAR_IN: u64 = 4;
const FAR_OUT: u64 = 100;
const ANSWERS: u64 = 101;

fn near() -> Owner {
    Owner { uid: 1337, ..owner(NEAR, "envoy") }
}

/// `web` asks `cart`, through a sidecar on either side.
fn shop() -> World {
    let mut world = world(&[("job", "job", "10.244.1.2")]);
    let at = |container: char| format!("/kubepods/pod{}/{}", super::ID, of(container));
    world.process(CURL, &["/usr/bin/curl"], &[&at('c')]);
    world.process(NEAR, &["/usr/local/bin/envoy"], &[&at('d')]);
    world.peer("web", "web", WEB, &[('c', "app"), ('d', "istio-proxy")]);
    let (from, onwards) = (format!("{WEB}:4000"), format!("{WEB}:5000"));
    world.open(client(ASKS, &from, &format!("{POD}:8080"), curl()));
    world.redirect(ASKS, &from, "127.0.0.1:15001");
    world.open(server(NEAR_IN, "127.0.0.1:15001", &from, near()));
    world.open(client(NEAR_OUT, &onwards, &format!("{POD}:8080"), near()));
    world.open(server(FAR_IN, &format!("{POD}:15006"), &onwards, envoy()));
    world.reach(envoy());
    world
}

fn of(container: char) -> String {
    container.to_string().repeat(64)
}

/// A request at a socket, from one millisecond to another.
#[derive(Clone, Copy)]
struct Said {
    id: Option<&'static str>,
    span: Option<u64>,
    attempt: Option<u32>,
    status: u16,
    error: Option<crate::protocol::Cause>,
    path: &'static str,
}

const PLAIN: Said =
    Said { id: None, span: None, attempt: None, status: 200, error: None, path: "/" };
const WITH_ID: Said = Said { id: Some(ID), ..PLAIN };

impl World {
    fn ended(&mut self, socket: u64, time: (u64, u64), said: Said) -> Option<Call> {
        let exchange = self.said(socket, time, said);
        self.attributor.resolve(exchange, &mut Routes::new(RouteSettings::default()))
    }

    fn said(&self, socket: u64, (start, end): (u64, u64), said: Said) -> Box<Exchange> {
        let side = match socket {
            ASKS | NEAR_OUT | FAR_OUT => Side::Client,
            _ => Side::Server,
        };
        let mut exchange = self.exchange(socket, side);
        let span = said.span.map(|span_id| TraceContext { trace_id: 7, span_id, sampled: None });
        (exchange.start_ns, exchange.end_ns) =
            (self.now + start * 1_000_000, self.now + end * 1_000_000);
        exchange.request_id = said.id.map(Text::from);
        exchange.trace = span;
        exchange.path = Text::from(said.path);
        exchange.error = said.error;
        exchange.status = Some(said.status).filter(|_| said.error.is_none());
        exchange.relayed = said
            .attempt
            .map(|attempt| Box::new(Relayed { attempt: Some(attempt), ..Relayed::default() }));
        exchange
    }

    fn through(&mut self, socket: u64, time: (u64, u64), said: Said) -> Through {
        let call = self.ended(socket, time, said).expect("an application's");
        *call.through.expect("it has an id")
    }
}

fn between(ms: u64) -> Times {
    Times { between_ns: Some(ms * MS), ..Times::default() }
}

#[test]
fn one_request_id_on_both_sides_is_one_call() {
    let mut world = shop();
    let there = world.through(ANSWERS, (2, 8), WITH_ID);
    assert_eq!((there.other, there.by), (None, None), "who asks has not got the answer yet");
    let here = world.through(ASKS, (0, 10), WITH_ID);
    assert_eq!((here.other, here.by), (Some(there.number), Some(JoinedBy::RequestId)));
    assert_eq!(here.times, between(4));
    // Another request of the same client, under the same id, later.
    let again = world.through(ANSWERS, (12, 13), WITH_ID);
    assert_eq!(world.through(ASKS, (11, 14), WITH_ID).other, Some(again.number));
}

#[test]
fn whichever_end_comes_first() {
    let mut world = shop();
    let here = world.through(ASKS, (0, 10), WITH_ID);
    let there = world.through(ANSWERS, (2, 8), WITH_ID);
    assert_eq!((there.other, there.times), (Some(here.number), between(4)));
}

#[test]
fn one_span_on_both_sides_is_one_call_whatever_proxies_add() {
    let mut world = shop();
    let spanned = Said { span: Some(5), ..PLAIN };
    let there = world.through(ANSWERS, (2, 8), Said { span: Some(5), ..WITH_ID });
    let here = world.through(ASKS, (0, 10), spanned);
    assert_eq!((here.other, here.by), (Some(there.number), Some(JoinedBy::TraceContext)));
    // A proxy that traces writes its own span.
    world.through(ANSWERS, (12, 13), Said { span: Some(6), ..WITH_ID });
    assert_eq!(world.through(ASKS, (11, 14), spanned).other, None);
    // The application's own id says that it is another request of the span.
    world.through(ANSWERS, (22, 23), spanned);
    assert_eq!(world.through(ASKS, (21, 24), Said { span: Some(5), ..WITH_ID }).other, None);
}

#[test]
fn without_an_id_nothing_is_joined() {
    let mut world = shop();
    for said in [PLAIN, Said { id: Some("17"), ..PLAIN }] {
        assert_eq!(world.ended(ANSWERS, (2, 8), said).unwrap().through, None);
        let here = world.ended(ASKS, (0, 10), said).unwrap();
        assert_eq!(names(&here), ("web", "cart"));
        assert_eq!(here.through, None);
    }
}

#[test]
fn the_servers_time_lies_within_the_clients() {
    let mut world = shop();
    world.through(ANSWERS, (2, 8), WITH_ID);
    assert_eq!(world.through(ASKS, (3, 10), WITH_ID).other, None);
    let mut world = shop();
    world.through(ANSWERS, (2, 11), WITH_ID);
    assert_eq!(world.through(ASKS, (0, 10), WITH_ID).other, None);
    // Who gives up does not see the end, and nothing is known of times.
    let mut world = shop();
    let gave_up = Said { error: Some(crate::protocol::Cause::Abandoned), ..WITH_ID };
    let here = world.through(ASKS, (0, 10), gave_up);
    let there = world.through(ANSWERS, (2, 11), WITH_ID);
    assert_eq!((there.other, there.times), (Some(here.number), Times::default()));
    // What was answered before was not what it waited for.
    let there = world.through(ANSWERS, (22, 25), WITH_ID);
    let here = world.through(ASKS, (20, 30), gave_up);
    assert_eq!((here.other, here.tried.as_slice()), (None, &[there.number][..]));
}

#[test]
fn another_request_under_the_id_is_another_call() {
    let mut world = shop();
    world.through(ANSWERS, (2, 8), WITH_ID);
    assert_eq!(world.through(ASKS, (0, 10), Said { path: "/other", ..WITH_ID }).other, None);
}

#[test]
fn names_that_contradict_join_nothing() {
    let mut world = shop();
    // To somebody else than who answers.
    world.open(client(7, &format!("{WEB}:4001"), "10.244.1.2:80", curl()));
    world.redirect(7, &format!("{WEB}:4001"), "127.0.0.1:15001");
    world.open(server(8, "127.0.0.1:15001", &format!("{WEB}:4001"), near()));
    world.through(ANSWERS, (2, 8), WITH_ID);
    let mut exchange = world.exchange(7, Side::Client);
    (exchange.start_ns, exchange.end_ns) = (world.now, world.now + 10 * MS);
    exchange.request_id = Some(Text::from(ID));
    let mut routes = Routes::new(RouteSettings::default());
    let call = world.attributor.resolve(exchange, &mut routes).unwrap();
    assert_eq!(names(&call), ("web", "job"));
    assert_eq!(call.through.unwrap().other, None);
}

#[test]
fn equal_requests_at_a_time_under_one_id_are_not_told_apart() {
    let mut world = shop();
    world.through(ANSWERS, (2, 8), WITH_ID);
    world.through(ANSWERS, (3, 7), WITH_ID);
    assert_eq!(world.through(ASKS, (0, 10), WITH_ID).other, None);
    // From then on the id means nothing.
    world.through(ANSWERS, (12, 13), WITH_ID);
    assert_eq!(world.through(ASKS, (11, 14), WITH_ID).other, None);
    let mut world = shop();
    world.through(ASKS, (0, 10), WITH_ID);
    world.through(ASKS, (1, 11), WITH_ID);
    assert_eq!(world.through(ANSWERS, (2, 8), WITH_ID).other, None);
}

#[test]
fn the_answer_is_the_last_attempts() {
    let mut world = shop();
    let attempt = |attempt, status| Said { attempt: Some(attempt), status, ..WITH_ID };
    let first = world.through(ANSWERS, (1, 5), attempt(1, 503));
    let second = world.through(ANSWERS, (4, 8), attempt(2, 200));
    let here = world.through(ASKS, (0, 10), WITH_ID);
    assert_eq!((here.other, here.tried.as_slice()), (Some(second.number), &[first.number][..]));
    assert_eq!(here.times, between(6));
    // The proxy answers itself in the end.
    let mut world = shop();
    let first = world.through(ANSWERS, (1, 5), attempt(1, 503));
    let here = world.through(ASKS, (0, 10), Said { status: 504, ..WITH_ID });
    assert_eq!((here.other, here.tried.as_slice()), (None, &[first.number][..]));
    assert_eq!(here.by, Some(JoinedBy::RequestId));
}

#[test]
fn the_time_in_a_proxy_is_known_where_both_of_its_sockets_speak() {
    let mut world = shop();
    for (socket, time) in
        [(FAR_OUT, (4, 16)), (FAR_IN, (3, 18)), (NEAR_OUT, (2, 19)), (NEAR_IN, (0, 20))]
    {
        assert!(world.ended(socket, time, WITH_ID).is_none(), "a proxy's own");
    }
    world.through(ANSWERS, (5, 15), WITH_ID);
    let times = world.through(ASKS, (0, 21), WITH_ID).times;
    let known = Times {
        between_ns: Some(11 * MS),
        client_proxy_ns: Some(3 * MS),
        server_proxy_ns: Some(3 * MS),
    };
    assert_eq!(times, known);
    // Encrypted between the proxies.
    world.ended(FAR_OUT, (34, 46), WITH_ID);
    world.ended(NEAR_IN, (30, 50), WITH_ID);
    world.through(ANSWERS, (35, 45), WITH_ID);
    assert_eq!(world.through(ASKS, (30, 51), WITH_ID).times, between(11));
}

#[test]
fn one_proxy_beside_both_ends_is_told_as_the_servers() {
    let mut world = shop();
    // Not by its own sidecar: plainly to the server's.
    world.open(client(7, &format!("{WEB}:4001"), &format!("{POD}:15006"), curl()));
    world.open(server(8, &format!("{POD}:15006"), &format!("{WEB}:4001"), envoy()));
    world.ended(FAR_OUT, (4, 16), WITH_ID);
    world.ended(8, (2, 19), WITH_ID);
    world.through(ANSWERS, (5, 15), WITH_ID);
    let mut exchange = world.exchange(7, Side::Client);
    (exchange.start_ns, exchange.end_ns) = (world.now, world.now + 20 * MS);
    exchange.request_id = Some(Text::from(ID));
    let mut routes = Routes::new(RouteSettings::default());
    let call = world.attributor.resolve(exchange, &mut routes).unwrap();
    let times = call.through.unwrap().times;
    assert_eq!((times.between_ns, times.client_proxy_ns), (Some(10 * MS), None));
    assert_eq!(times.server_proxy_ns, Some(5 * MS));
}

/// `web` asks `cart` by ztunnel, which sends it through a waypoint: the client's socket is 7,
/// the server's 10, ztunnel's are 8 and 9.
fn waypoint() -> World {
    let mut world = shop();
    let waypoint = "10.244.1.7";
    world.peer("waypoint", "waypoint", waypoint, &[('e', "istio-proxy")]);
    world.process(NEAR + 1, &["/usr/local/bin/ztunnel"], &[]);
    let ztunnel = owner(NEAR + 1, "ztunnel");
    let from = format!("{WEB}:4001");
    world.open(client(7, &from, &format!("{POD}:80"), curl()));
    world.redirect(7, &from, "127.0.0.1:15001");
    world.open(server(8, "127.0.0.1:15001", &from, ztunnel));
    let tunnel = format!("{waypoint}:6000");
    world.open(client(9, &tunnel, &format!("{POD}:80"), ztunnel));
    world.open(server(10, &format!("{POD}:80"), &tunnel, nginx()));
    world
}

#[test]
fn a_waypoint_between_is_no_client_and_its_time_is_not_that_of_the_proxy() {
    let mut world = waypoint();
    let at = |world: &mut World, socket, side, (start, end): (u64, u64)| {
        let mut exchange = world.exchange(socket, side);
        (exchange.start_ns, exchange.end_ns) = (world.now + start * MS, world.now + end * MS);
        exchange.request_id = Some(Text::from(ID));
        world.attributor.resolve(exchange, &mut Routes::new(RouteSettings::default()))
    };
    at(&mut world, 9, Side::Client, (4, 6));
    at(&mut world, 8, Side::Server, (1, 9));
    let there = at(&mut world, 10, Side::Server, (4, 6)).unwrap();
    assert_eq!(names(&there), ("waypoint", "cart"));
    let here = at(&mut world, 7, Side::Client, (0, 10)).unwrap().through.unwrap();
    assert_eq!(here.other, there.through.map(|through| through.number));
    assert_eq!(here.times, between(8));
    // Where the client's end comes first, it is the server's call's client.
    let mut asked = world.exchange(10, Side::Server);
    (asked.start_ns, asked.end_ns) = (world.now + 24 * MS, world.now + 26 * MS);
    assert!(!world.attributor.awaits_client(&asked), "it has no id");
    asked.request_id = Some(Text::from(ID));
    assert!(world.attributor.awaits_client(&asked));
    let clients = world.attributor.client_ends();
    let here = at(&mut world, 7, Side::Client, (20, 30)).unwrap();
    assert_eq!(world.attributor.client_ends(), clients + 1);
    assert!(!world.attributor.awaits_client(&asked));
    let there = world.attributor.resolve(asked, &mut Routes::new(RouteSettings::default()));
    let there = there.unwrap();
    assert_eq!(names(&there), ("web", "cart"));
    assert_eq!(
        (there.client.pid, there.waypoint().map(|named| &*named.name)),
        (CURL, Some("waypoint"))
    );
    assert_eq!(there.through.unwrap().other, here.through.map(|through| through.number));
}

#[test]
fn what_is_remembered_is_bounded_and_forgotten() {
    let mut world = shop();
    let used = |world: &World| {
        let all = world.attributor.occupancy();
        let found = all.into_iter().find(|one| one.cache == "proxied_calls").unwrap();
        (found.used, found.evicted)
    };
    let mut routes = Routes::new(RouteSettings::default());
    for number in 0..20_000 {
        let said = world.said(ANSWERS, (0, 1), Said { span: Some(number + 1), ..PLAIN });
        world.attributor.resolve(said, &mut routes);
    }
    assert_eq!(used(&world), (16_384, 20_000 - 16_384));
    world.now += 10_000 * MS;
    world.sweep();
    assert_eq!(used(&world).0, 0);
    let there = world.through(ANSWERS, (2, 8), WITH_ID);
    assert_eq!(world.through(ASKS, (0, 10), WITH_ID).other, Some(there.number));
}
