//! Which calls wait for the end of a client behind a waypoint, and for how long.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use meshtap_ebpf::event::{self, Endpoint, Header, Opened, Owner};

use super::*;
use crate::attribution::cluster::{Change, Object, Pod, PodFacts};
use crate::attribution::container::ContainerName;
use crate::attribution::host::{Host, ProcessRecord};
use crate::attribution::{AttributionSettings, Translation};
use crate::protocol::exchange::AgentClass;
use crate::protocol::{Protocol, RouteSettings, Routes, Side, Text};
use crate::ring_buffer::Event;

const MS: u64 = 1_000_000;
const ZTUNNEL: u32 = 9;

/// A host on which every process is called by its number, but one is ztunnel.
#[derive(Debug)]
struct Processes;

impl Host for Processes {
    fn process(&self, pid: u32) -> Option<ProcessRecord> {
        let name = name(pid);
        Some(ProcessRecord {
            started_ns: 0,
            read_ns: 0,
            comm: name.clone(),
            executable: Some(format!("/bin/{name}")),
            arguments: Vec::new(),
            cgroups: Vec::new(),
            cgroup_id: 0,
        })
    }

    fn cgroups(&self, _: usize) -> Vec<(u64, String)> {
        Vec::new()
    }

    fn container_name(&self, _: &str) -> Option<ContainerName> {
        None
    }

    fn listener_holders(&self, _: SocketAddr) -> Vec<u32> {
        Vec::new()
    }

    fn translation(&self, _: SocketAddr, _: SocketAddr) -> Option<Translation> {
        None
    }
}

fn name(pid: u32) -> String {
    if pid == ZTUNNEL { "ztunnel".to_owned() } else { pid.to_string() }
}

/// A client (socket 1) asks a server (socket 4) by ztunnel and a waypoint.
fn world() -> Attributor {
    let settings = AttributionSettings { watches_kubernetes: true, ..Default::default() };
    let mut attributor = Attributor::with_host(settings, Box::new(Processes));
    waypoint(&mut attributor);
    let mut open = |cookie, role, local, remote, pid| {
        let header = Header { cookie, time_ns: MS, ..Header::default() };
        let mut comm = [0; 16];
        let name = name(pid);
        comm[..name.len()].copy_from_slice(name.as_bytes());
        let owner = Owner { pid, comm, ..Owner::default() };
        let (local, remote) = (endpoint(local), endpoint(remote));
        let record = Opened { header, cgroup: 1, local, remote, owner, role, ..Opened::default() };
        attributor.observe(&Event::Opened(&record), &mut Vec::new());
    };
    open(1, event::ROLE_CLIENT, "10.244.1.1:4000", "10.244.1.1:15001", 1);
    open(2, event::ROLE_SERVER, "10.244.1.1:15001", "10.244.1.1:4000", ZTUNNEL);
    open(3, event::ROLE_CLIENT, "10.244.1.7:6000", "10.244.0.5:80", ZTUNNEL);
    open(4, event::ROLE_SERVER, "10.244.0.5:80", "10.244.1.7:6000", 4);
    attributor
}

fn waypoint(attributor: &mut Attributor) {
    let none = BTreeMap::new();
    let facts = PodFacts {
        namespace: "shop",
        name: "waypoint",
        is_generated: false,
        owner: None,
        labels: &none,
        annotations: &none,
        account: "waypoint",
        containers: &["istio-proxy"],
        well_known_labels: false,
    };
    attributor.change(Change::Applied(Box::new(Object::Pod(Pod {
        uid: "waypoint".into(),
        static_uid: None,
        name: "waypoint".into(),
        node: "".into(),
        workload: Arc::new(facts.workload()),
        instance: None,
        addresses: vec![[10, 244, 1, 7].into()],
        since_ns: 0,
        until_ns: None,
        containers: vec![],
    }))));
}

fn endpoint(text: &str) -> Endpoint {
    let at: SocketAddr = text.parse().unwrap();
    let std::net::IpAddr::V4(address) = at.ip() else { panic!("IPv4 only") };
    Endpoint { address: address.to_ipv6_mapped().octets(), port: at.port(), pad: 0 }
}

fn exchange(socket: u64, side: Side, (start, end): (u64, u64), id: Option<usize>) -> Box<Exchange> {
    Box::new(Exchange {
        socket,
        side,
        protocol: Protocol::Http11,
        method: Text::from("GET"),
        path: Text::from("/"),
        authority: Text::default(),
        request_id: id.map(|id| Text::from(format!("{id:032}"))),
        relayed: None,
        trace: None,
        trace_state: None,
        agent: AgentClass::None,
        cut: false,
        status: Some(200),
        error: None,
        start_ns: start * MS,
        request_end_ns: None,
        first_byte_ns: None,
        end_ns: end * MS,
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

fn answered(id: Option<usize>) -> Box<Exchange> {
    exchange(4, Side::Server, (12, 18), id)
}

#[test]
fn what_has_no_id_or_no_waypoint_does_not_wait() {
    let (mut hidden, attributor) = (Hidden::default(), world());
    assert!(hidden.keep(answered(None), &attributor).is_some());
    let asked = exchange(1, Side::Client, (10, 20), Some(1));
    assert!(hidden.keep(asked, &attributor).is_some());
    assert!(hidden.keep(exchange(77, Side::Server, (12, 18), Some(1)), &attributor).is_some());
    assert_eq!(hidden.len(), 0);
}

#[test]
fn it_goes_on_as_soon_as_the_client_has_shown_itself() {
    let (mut hidden, mut attributor) = (Hidden::default(), world());
    for id in [1, 2] {
        assert!(hidden.keep(answered(Some(id)), &attributor).is_none());
    }
    assert!(hidden.due(19 * MS, &attributor).is_empty());
    let mut routes = Routes::new(RouteSettings::default());
    let asked = exchange(1, Side::Client, (10, 20), Some(2));
    attributor.resolve(asked, &mut routes).expect("an application's");
    let mut due = hidden.due(21 * MS, &attributor);
    assert_eq!(due.len(), 1);
    let due = due.pop_front().expect("one of them");
    let call = attributor.resolve(due, &mut routes).expect("an application's");
    assert_eq!((&*call.client.identity.name, call.client.pid), ("1", 1));
    assert_eq!(hidden.len(), 1);
}

#[test]
fn it_waits_no_longer_than_it_may_and_in_no_greater_number() {
    let (mut hidden, attributor) = (Hidden::default(), world());
    for id in 0..BOUND {
        assert!(hidden.keep(answered(Some(id)), &attributor).is_none());
    }
    assert!(hidden.keep(answered(Some(BOUND)), &attributor).is_some());
    assert!(hidden.due(518 * MS - 1, &attributor).is_empty());
    assert_eq!(hidden.due(518 * MS, &attributor).len(), BOUND);
}
