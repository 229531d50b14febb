//! What is asked to be counted, and what comes of it.

use std::sync::Arc;

use meshtap_ebpf::event::{self, EGRESS, Endpoint, Head, Header, INGRESS, Opened, Statistics};
use parking_lot::Mutex;

use super::*;
use crate::attribution::{AttributionSettings, Attributor};
use crate::kernel::repeats::Keys;
use crate::protocol::{ProtocolSettings, Protocols, RouteSettings, Routes};

const SECOND: u64 = 1_000_000_000;
const COOKIE: u64 = 7;
const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";

/// A table of one slot.
#[derive(Clone, Debug, Default)]
struct Slot(Arc<Mutex<(Control, Counts)>>);

impl Table for Slot {
    fn free(&self, _: u64) -> Option<u32> {
        (self.0.lock().0.tag == 0).then_some(0)
    }

    fn write(&mut self, _: u32, control: Control) -> bool {
        self.0.lock().0 = control;
        true
    }

    fn mark(&mut self, _: u64, _: bool) -> bool {
        true
    }

    fn expect(&mut self, _: u32, _: &Expected) -> bool {
        true
    }

    fn counts(&self, _: u32) -> Option<Counts> {
        Some(self.0.lock().1)
    }
}

/// The stages, and a connection of a client of this host.
struct World {
    stages: Stages,
    repeated: Repeated,
    slot: Slot,
    found: Vec<Found>,
    number: u32,
    now_ns: u64,
    /// What the connection stands for, as an exponent of two.
    weight: u16,
}

impl World {
    fn new() -> Self {
        let settings = ProtocolSettings { keys: Some(Keys::draw()), ..ProtocolSettings::default() };
        let stages = Stages::new(
            Protocols::new(settings),
            Attributor::new(AttributionSettings::default()),
            Routes::new(RouteSettings::default()),
            true,
        );
        let slot = Slot::default();
        let repeated = Repeated::new(slot.clone());
        let mut world = Self {
            stages,
            repeated,
            slot,
            found: Vec::new(),
            number: 0,
            now_ns: SECOND,
            weight: 0,
        };
        let end = |last, port| Endpoint {
            address: std::net::Ipv4Addr::new(10, 0, 0, last).to_ipv6_mapped().octets(),
            port,
            pad: 0,
        };
        let (local, remote) = (end(1, 4_000), end(2, 80));
        let header = world.header(EGRESS, 0, &[]);
        let role = event::ROLE_CLIENT;
        world.see(&Event::Opened(&Opened { header, local, remote, role, ..Opened::default() }));
        world
    }

    fn header(&mut self, direction: u8, flags: u16, bytes: &[u8]) -> Header {
        self.now_ns += 1_000_000;
        let length = bytes.len() as u16;
        Header {
            cookie: COOKIE,
            time_ns: self.now_ns,
            direction,
            flags,
            length,
            ..Header::default()
        }
    }

    fn see(&mut self, event: &Event<'_>) {
        self.repeated.event(event);
        self.stages.event(event, &mut self.found);
    }

    /// A call that is told, and what the table is to count afterwards.
    fn call(&mut self, head: &[u8], status: u16) -> Control {
        let alone = event::HEAD_FIRST | event::HEAD_COMPLETE | event::HEAD_ENDED;
        let alone = alone | self.weight << event::WEIGHT_SHIFT;
        let header = self.header(EGRESS, alone, head);
        let record = Head {
            header,
            number: self.number,
            first_ns: header.time_ns,
            sequence: self.number * 100,
            framing: event::FRAMING_NONE,
            ..Head::default()
        };
        self.see(&Event::Head(&record, head));
        let header = self.header(INGRESS, alone | event::HEAD_RESPONSE, &[]);
        let answer = Head { header, status, body_bytes: 5, ..record };
        self.see(&Event::Head(&Head { framing: event::FRAMING_LENGTH, ..answer }, &[]));
        self.number += 1;
        self.take();
        self.slot.0.lock().0
    }

    fn take(&mut self) {
        let Self { stages, repeated, found, now_ns, .. } = self;
        repeated.take(stages, found, *now_ns);
    }

    /// The kernel half counts a call of so many milliseconds.
    fn count(&mut self, milliseconds: u64) {
        let nanoseconds = milliseconds * 1_000_000;
        let now_ns = self.now_ns;
        let answer = meshtap_ebpf::repeat::Answer { now_ns, nanoseconds, body: 5, status: 200 };
        self.slot.0.lock().1.add(&answer);
    }

    /// What has been counted: calls, nanoseconds and bytes.
    fn summaries(&mut self) -> Vec<(u64, u64, u64)> {
        let found = std::mem::take(&mut self.found);
        let summary = |found: &Found| match found {
            Found::Repeated(summary, _) => {
                assert_eq!(summary.response_bytes.count(), summary.durations.count());
                assert_eq!((&*summary.route, summary.status), ("/a", Some(200)));
                let (durations, bytes) = (&summary.durations, summary.response_bytes.sum);
                Some((durations.count(), durations.sum, bytes))
            }
            _ => None,
        };
        found.iter().filter_map(summary).collect()
    }

    fn sweep(&mut self) -> Vec<(u64, u64, u64)> {
        self.found.clear();
        let Self { stages, repeated, found, now_ns, .. } = self;
        repeated.take_all(stages, found, *now_ns);
        self.summaries()
    }
}

/// A world in which the slot counts.
fn counting() -> World {
    let mut world = World::new();
    for _ in 0..6 {
        world.call(GET, 200);
    }
    assert_ne!(world.slot.0.lock().0.tag, 0);
    world
}

#[test]
fn a_call_is_counted_once_it_came_again_and_its_connection_is_known() {
    let mut world = World::new();
    // Nobody answers to the first few requests as their other end.
    for _ in 0..3 {
        assert_eq!(world.call(GET, 200), Control::default());
    }
    world.call(GET, 200);
    let control = world.call(GET, 200);
    assert_eq!((control.status, control.least, control.most), (200, 1, 128));
    assert_eq!(world.repeated.occupancy(), (1, SLOTS as usize, 0));
    assert_eq!(world.call(GET, 404), control, "the head has its slot");
}

#[test]
fn what_was_counted_is_a_summary_of_as_many_calls() {
    let mut world = counting();
    assert!(world.sweep().is_empty());
    world.count(1);
    world.count(700);
    assert_eq!(world.sweep(), [(2, 701_000_000, 10)]);
    world.count(3);
    assert_eq!(world.sweep(), [(1, 3_000_000, 5)]);
    assert!(world.sweep().is_empty());
    assert_eq!(world.repeated.calls(), 3);
}

#[test]
fn a_slot_that_is_idle_is_given_back_with_what_came_last() {
    let mut world = counting();
    world.now_ns += IDLE_NS + SECOND;
    assert!(world.sweep().is_empty());
    assert_eq!(world.slot.0.lock().0.tag, 0);
    world.count(1);
    assert_eq!(world.sweep(), [(1, 1_000_000, 5)], "it had been let wait before");
    assert_eq!(world.repeated.occupancy().0, 0);
    assert!(world.repeated.sockets.is_empty());
}

#[test]
fn a_kind_of_which_most_is_told_all_the_same_is_given_up() {
    for counted in [0, 2 * IN_VAIN] {
        let mut world = counting();
        for _ in 0..IN_VAIN {
            world.found.clear();
            world.call(GET, 404);
        }
        for _ in 0..counted {
            world.count(1);
        }
        world.sweep();
        let is_counted = world.slot.0.lock().0.tag != 0;
        assert_eq!(is_counted, counted > 0);
        for _ in 0..3 {
            world.call(GET, 200);
        }
        world.sweep();
        assert_eq!(world.slot.0.lock().0.tag != 0, counted > 0, "and is not asked for again");
    }
}

#[test]
fn a_connection_that_ends_gives_its_counts_at_once() {
    let mut world = counting();
    world.count(1);
    world.found.clear();
    let header = world.header(EGRESS, 0, &[]);
    let reason = event::CLOSE_FIN;
    world.see(&Event::Closed(&Statistics { header, reason, ..Statistics::default() }));
    world.take();
    assert_eq!(world.summaries(), [(1, 1_000_000, 5)]);
    assert_eq!(world.slot.0.lock().0.tag, 0);
    assert_eq!(world.repeated.occupancy().0, 0);
}

#[test]
fn what_says_more_than_its_series_is_told() {
    let ids = b"GET /a HTTP/1.1\r\nx-request-id: 1\r\n\r\n".as_slice();
    let traced = b"GET /a HTTP/1.1\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n";
    let long = [GET, &[b'x'; 200]].concat();
    for head in [ids, traced, b"HEAD /a HTTP/1.1\r\n\r\n", &long] {
        let mut world = World::new();
        for _ in 0..10 {
            assert_eq!(world.call(head, 200), Control::default());
        }
    }
}

#[test]
fn what_is_counted_stands_for_as_many_as_its_connection_and_begins_anew_with_another_share() {
    let mut world = counting();
    world.count(3);
    world.found.clear();
    world.repeated.begin_anew();
    assert_eq!(world.slot.0.lock().0.tag, 0, "each call is told again");
    // An answer that was on its way.
    world.count(3);
    assert_eq!(world.sweep(), [(2, 6_000_000, 10)]);
    world.weight = 2;
    for _ in 0..3 {
        world.call(GET, 200);
    }
    assert_ne!(world.slot.0.lock().0.tag, 0);
    world.count(3);
    world.count(5);
    assert_eq!(world.sweep(), [(8, 32_000_000, 40)]);
}
