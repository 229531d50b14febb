//! What waits for names, for how long, and in which order it goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use meshtap_ebpf::event::{self, Endpoint, Header, Opened, Statistics};

use super::*;
use crate::attribution::AttributionSettings;
use crate::attribution::cluster::{Change, Object, Pod, PodFacts};
use crate::protocol::{Protocol, RouteSettings, Side, Text};
use crate::ring_buffer::Event;

const MS: u64 = 1_000_000;

/// A host beside whose connection to 10.244.1.9 pods are, none of them at that address.
struct World {
    attributor: Attributor,
    held: Held,
    now_ns: u64,
}

impl World {
    fn new() -> Self {
        let settings =
            AttributionSettings { watches_kubernetes: true, ..AttributionSettings::default() };
        let mut world =
            Self { attributor: Attributor::new(settings), held: Held::default(), now_ns: MS };
        world.attributor.change(Change::Reachable(true));
        world.pod("first", [10, 244, 1, 5]);
        world
    }

    fn pod(&mut self, name: &str, address: [u8; 4]) {
        let none = BTreeMap::new();
        let facts = PodFacts {
            namespace: "shop",
            name,
            is_generated: false,
            owner: None,
            labels: &none,
            annotations: &none,
            account: "",
            containers: &[],
            well_known_labels: false,
        };
        self.attributor.change(Change::Applied(Box::new(Object::Pod(Pod {
            uid: name.into(),
            static_uid: None,
            name: name.into(),
            node: "".into(),
            workload: Arc::new(facts.workload()),
            instance: None,
            addresses: vec![address.into()],
            since_ns: 0,
            waypoint: None,
            until_ns: None,
            containers: vec![],
        }))));
    }

    fn header(&mut self) -> Header {
        self.now_ns += MS;
        Header { cookie: 1, time_ns: self.now_ns, ..Header::default() }
    }

    fn end(address: [u8; 4], port: u16) -> Endpoint {
        let address = std::net::Ipv4Addr::from(address).to_ipv6_mapped().octets();
        Endpoint { address, port, pad: 0 }
    }

    /// Reports of a connection that is opened and reported as it stands.
    fn opened(&mut self) -> Vec<Unnamed> {
        let record = Opened {
            header: self.header(),
            local: Self::end([10, 0, 0, 1], 4000),
            remote: Self::end([10, 244, 1, 9], 80),
            role: event::ROLE_CLIENT,
            ..Opened::default()
        };
        self.see(&Event::Opened(&record));
        let record = Statistics { header: self.header(), ..Statistics::default() };
        self.see(&Event::Statistics(&record))
    }

    fn closed(&mut self) -> Vec<Unnamed> {
        let header = self.header();
        let reason = event::CLOSE_FIN;
        self.see(&Event::Closed(&Statistics { header, reason, ..Statistics::default() }))
    }

    fn see(&mut self, event: &Event<'_>) -> Vec<Unnamed> {
        let mut reports = Vec::new();
        self.attributor.observe(event, &mut reports);
        let time_ns = self.now_ns;
        let found = |report| Unnamed::Report(Box::new(report), time_ns);
        reports.into_iter().map(found).collect()
    }

    /// Whether everything was kept.
    fn keep(&mut self, found: Vec<Unnamed>) -> bool {
        assert!(!found.is_empty());
        found.into_iter().all(|found| self.held.keep(found, &mut self.attributor).is_none())
    }

    /// Whether each report that is due is of the beginning.
    fn due(&mut self) -> Vec<bool> {
        let due = self.held.due(self.now_ns, &mut self.attributor);
        due.iter()
            .map(|found| matches!(found, Unnamed::Report(report, _) if report.opened))
            .collect()
    }
}

#[test]
fn it_waits_for_a_name_and_goes_on_with_it() {
    let mut world = World::new();
    let opened = world.opened();
    assert!(world.keep(opened));
    assert!(world.due().is_empty());
    world.pod("late", [10, 244, 1, 9]);
    assert_eq!(world.due(), [true]);
    assert_eq!(world.held.occupancy().0, 0);
}

#[test]
fn it_waits_no_longer_than_it_may() {
    let mut world = World::new();
    let opened = world.opened();
    assert!(world.keep(opened));
    world.now_ns += 1_999 * MS;
    assert!(world.due().is_empty());
    world.now_ns += MS;
    assert_eq!(world.due(), [true]);
}

/// Else the end would find no beginning, and the beginning would never end.
#[test]
fn an_end_goes_behind_its_beginning() {
    let mut world = World::new();
    let opened = world.opened();
    assert!(world.keep(opened));
    world.pod("late", [10, 244, 1, 9]);
    let closed = world.closed();
    assert!(world.keep(closed), "though its name is known by now");
    assert_eq!(world.due(), [true, false]);
    assert!(world.held.reported.is_empty());
}

#[test]
fn what_needs_no_name_does_not_wait() {
    let mut world = World::new();
    world.pod("known", [10, 244, 1, 9]);
    let opened = world.opened();
    assert!(!world.keep(opened));
}

/// What finds no room goes on at once, by the names that are known; all else comes with its name.
#[test]
fn what_finds_no_room_goes_on_unnamed_and_nothing_is_dropped() {
    let mut world = World::new();
    assert!(!world.opened().is_empty());
    let call = |path: usize| {
        let mut exchange = Exchange::begun(1, Side::Client, Protocol::Http11, MS);
        exchange.path = Text::from(format!("/{path}"));
        exchange.end_ns = 2 * MS;
        Unnamed::Call(Box::new(exchange))
    };
    let path = |found: &Unnamed| match found {
        Unnamed::Call(exchange) => exchange.path.as_str().to_owned(),
        other => panic!("{other:?}"),
    };
    for number in 0..BOUND {
        assert!(world.held.keep(call(number), &mut world.attributor).is_none(), "{number}");
    }
    let beyond = world.held.keep(call(BOUND), &mut world.attributor).expect("there is no room");
    assert_eq!(path(&beyond), format!("/{BOUND}"));
    assert_eq!(world.held.occupancy().0, BOUND);
    let mut routes = Routes::new(RouteSettings::default());
    let mut server = |found: Unnamed, attributor: &mut Attributor| {
        let Some(Found::Call(call)) = found.name(attributor, &mut routes) else {
            panic!("it is a call");
        };
        call.server.identity.name.to_string()
    };
    assert_eq!(server(beyond, &mut world.attributor), "10.244.1.9");
    world.pod("late", [10, 244, 1, 9]);
    let due = world.held.due(world.now_ns, &mut world.attributor);
    let paths: Vec<String> = due.iter().map(path).collect();
    let wanted: Vec<String> = (0..BOUND).map(|number| format!("/{number}")).collect();
    assert!(paths == wanted, "{} of {BOUND}, in their order", paths.len());
    for found in due {
        assert_eq!(server(found, &mut world.attributor), "late");
    }
    assert_eq!(world.held.occupancy().0, 0);
}
