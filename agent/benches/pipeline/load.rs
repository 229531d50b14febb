//! The load: nginx under wrk as the kernel half tells of it, connections that live on with
//! both ends on this host.

use std::net::{Ipv4Addr, SocketAddr};

use meshtap::attribution::container::ContainerName;
use meshtap::attribution::host::{Host, ProcessRecord};
use meshtap_ebpf::event::{
    EGRESS, Endpoint, FRAMING_LENGTH, FRAMING_NONE, HEAD_COMPLETE, HEAD_ENDED, HEAD_FIRST,
    HEAD_RESPONSE, Head, Header, INGRESS, Kind, Opened, Owner, ROLE_CLIENT, ROLE_SERVER,
};
use zerocopy::{FromBytes as _, IntoBytes as _};

/// Calls in a round, each on another connection.
pub const CALLS: u32 = 32;
/// Ends of calls in a round.
pub const ENDS: u64 = 2 * CALLS as u64;

const WRK: u32 = 100;
const NGINX: u32 = 200;

/// How much there is of everything.
#[derive(Clone, Copy)]
pub struct Load {
    /// Connections that are asked in turn.
    pub connections: u32,
    /// Connections on which nothing happens.
    pub silent: u32,
    /// Services that answer, each with connections of its own.
    pub services: u32,
    /// Routes of each service that are asked for.
    pub routes: u32,
}

/// wrk and nginx.
pub const STEADY: Load = Load { connections: CALLS, silent: 0, services: 1, routes: 1 };

/// wrk, and services that are called nginx, nginx1, …
pub struct Processes;

impl Host for Processes {
    fn process(&self, pid: u32) -> Option<ProcessRecord> {
        let number = pid.saturating_sub(NGINX);
        let number = if number == 0 { String::new() } else { number.to_string() };
        let (path, cgroup) = if pid == WRK {
            ("/usr/bin/wrk".to_owned(), "/user.slice/a.scope".to_owned())
        } else {
            ("/usr/sbin/nginx".to_owned(), format!("/system.slice/nginx{number}.service"))
        };
        Some(ProcessRecord {
            executable: Some(path.clone()),
            arguments: vec![path],
            cgroups: vec![cgroup],
            ..ProcessRecord::default()
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
}

/// A record as it lies in the ring.
pub struct Record {
    // Of eight bytes each: the ring aligns its records.
    words: Vec<u64>,
    bytes: usize,
}

impl Record {
    fn new(fixed: &[u8], loose: &[u8]) -> Self {
        let bytes = fixed.len() + loose.len();
        let mut words = vec![0; bytes.div_ceil(8)];
        let into = words.as_mut_bytes();
        into[..fixed.len()].copy_from_slice(fixed);
        into[fixed.len()..bytes].copy_from_slice(loose);
        Self { words, bytes }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.words.as_bytes()[..self.bytes]
    }
}

/// Calls on the connections in turn, as records.
pub struct Rounds {
    /// Records of the rounds until every connection has had a call, in their order.
    turns: Vec<Vec<Record>>,
    /// Rounds so far.
    pub number: u32,
    pub now_ns: u64,
}

impl Rounds {
    pub fn new(load: Load) -> Self {
        let turns = (0..load.connections).step_by(CALLS as usize).map(|at| turn(load, at));
        Self { turns: turns.collect(), number: 0, now_ns: 2_000_000_000 }
    }

    /// The next connections have a call each.
    pub fn next(&mut self, each: impl FnMut(&Record)) {
        let turns = u32::try_from(self.turns.len()).unwrap_or(u32::MAX);
        let (number, turn) = (self.number / turns, (self.number % turns) as usize);
        for record in &mut self.turns[turn] {
            self.now_ns += 10_000;
            let (head, _) =
                Head::mut_from_prefix(record.words.as_mut_bytes()).expect("a round has heads only");
            head.header.time_ns = self.now_ns;
            head.first_ns = self.now_ns;
            head.number = number;
            head.sequence = head.sequence.wrapping_add(44);
            head.acknowledgement = head.acknowledgement.wrapping_add(238);
        }
        self.turns[turn].iter().for_each(each);
        self.number = self.number.wrapping_add(1);
    }
}

/// The beginnings of all connections, at both ends.
pub fn beginnings(load: Load) -> impl Iterator<Item = Record> {
    let ends = |connection| [ROLE_CLIENT, ROLE_SERVER].map(|role| (connection, role));
    (0..load.connections + load.silent)
        .flat_map(ends)
        .map(move |(connection, role)| Record::new(opened(load, connection, role).as_bytes(), &[]))
}

fn client_socket(connection: u32) -> u64 {
    0x10_000 + 2 * u64::from(connection)
}

fn endpoint(address: Ipv4Addr, port: u32) -> Endpoint {
    let port = u16::try_from(port).expect("the bench counts ports within their bounds");
    Endpoint { address: address.to_ipv6_mapped().octets(), port, pad: 0 }
}

fn opened(load: Load, connection: u32, role: u8) -> Opened {
    let server = NGINX + connection % load.services;
    let host = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + connection / 20_000);
    let port = endpoint(host, 40_000 + connection % 20_000);
    let service = endpoint(Ipv4Addr::LOCALHOST, 8_000 + connection % load.services);
    let is_client = role == ROLE_CLIENT;
    let mut comm = [0; 16];
    comm[..3].copy_from_slice(if is_client { b"wrk" } else { b"ngx" });
    Opened {
        header: Header {
            time_ns: 1_000_000_000,
            cookie: client_socket(connection) + u64::from(!is_client),
            kind: Kind::Opened as u8,
            ..Header::default()
        },
        cgroup: 1,
        local: if is_client { port } else { service },
        remote: if is_client { service } else { port },
        asked: if is_client { service } else { Endpoint::default() },
        owner: Owner { pid: if is_client { WRK } else { server }, uid: 0, comm },
        role,
        ..Opened::default()
    }
}

/// Calls on some connections from `first` on: the requests leave, and arrive; the answers
/// leave, and arrive.
fn turn(load: Load, first: u32) -> Vec<Record> {
    let steps = [(0, EGRESS, false), (1, INGRESS, false), (1, EGRESS, true), (0, INGRESS, true)];
    let mut records = Vec::new();
    for (socket, direction, answers) in steps {
        for connection in first..first + CALLS {
            let request = request(connection / load.services % load.routes);
            let loose = if answers { &[][..] } else { request.as_bytes() };
            let flags = HEAD_FIRST | HEAD_COMPLETE | HEAD_ENDED;
            let header = Header {
                cookie: client_socket(connection) + socket,
                kind: Kind::Head as u8,
                direction,
                flags: flags | if answers { HEAD_RESPONSE } else { 0 },
                length: u16::try_from(loose.len()).unwrap_or(0),
                ..Header::default()
            };
            let head = Head {
                header,
                body_bytes: if answers { 3 } else { 0 },
                sequence: connection << 20,
                acknowledgement: connection << 19,
                srtt_us: 50,
                status: if answers { 200 } else { 0 },
                framing: if answers { FRAMING_LENGTH } else { FRAMING_NONE },
                ..Head::default()
            };
            records.push(Record::new(head.as_bytes(), loose));
        }
    }
    records
}

/// What wrk sends.
fn request(route: u32) -> String {
    let path = if route == 0 { "/ok".to_owned() } else { format!("/ok/{}", word(route)) };
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n")
}

/// A word that no learner of routes takes for a parameter.
fn word(number: u32) -> String {
    number.to_string().bytes().map(|digit| char::from(digit - b'0' + b'k')).collect()
}
