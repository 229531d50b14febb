//! What an observed end of a call costs user space, from the bytes of its two records to
//! its series.
//!
//! The load is that of nginx under wrk: 32 connections that live on, both ends of each on
//! this host. `cargo bench --bench pipeline -- --rounds N` only runs N rounds of 32 calls,
//! so that instructions can be counted: those of 2 N rounds without those of N.
//! `-- growth` shows what a call costs where there are more of everything: connections,
//! services, series, and connections on which nothing happens.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};

use criterion::{BenchmarkId, Criterion, Throughput};
use meshtap::aggregation::{AggregationSettings, Aggregator, Value};
use meshtap::attribution::container::ContainerName;
use meshtap::attribution::host::{Host, ProcessRecord};
use meshtap::attribution::{AttributionSettings, Attributor};
use meshtap::pipeline::{Found, Stages};
use meshtap::protocol::{ProtocolSettings, Protocols, RouteSettings, Routes};
use meshtap::ring_buffer::decode::decode;
use meshtap_ebpf::event::{
    EGRESS, Endpoint, FRAMING_LENGTH, FRAMING_NONE, HEAD_COMPLETE, HEAD_ENDED, HEAD_FIRST,
    HEAD_RESPONSE, Head, Header, INGRESS, Kind, Opened, Owner, ROLE_CLIENT, ROLE_SERVER,
};
use zerocopy::{FromBytes as _, IntoBytes as _};

/// Calls in a round, each on another connection.
const CALLS: u32 = 32;
/// Ends of calls in a round.
const ENDS: u64 = 2 * CALLS as u64;
/// Rounds between two hand-overs to the sink, as many as fit a batch of the reader.
const ROUNDS: u32 = 8;
const WRK: u32 = 100;
const NGINX: u32 = 200;

/// How much there is of everything.
#[derive(Clone, Copy)]
struct Load {
    /// Connections that are asked in turn.
    connections: u32,
    /// Connections on which nothing happens.
    silent: u32,
    /// Services that answer, each with connections of its own.
    services: u32,
    /// Routes of each service that are asked for.
    routes: u32,
}

/// wrk and nginx.
const STEADY: Load = Load { connections: CALLS, silent: 0, services: 1, routes: 1 };

/// wrk, and services that are called nginx, nginx1, …
struct Processes;

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
struct Record {
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

    fn bytes(&self) -> &[u8] {
        &self.words.as_bytes()[..self.bytes]
    }
}

/// Everything between the ring and the series.
struct Pipeline {
    stages: Stages,
    aggregator: Aggregator,
    found: Vec<Found>,
    /// Records of the rounds until every connection has had a call, in their order.
    turns: Vec<Vec<Record>>,
    rounds: u32,
    now_ns: u64,
}

impl Pipeline {
    fn new(load: Load) -> Self {
        let connections = 2 * (load.connections + load.silent).max(CALLS) as usize;
        let (protocol, attribution) = (ProtocolSettings::default(), AttributionSettings::default());
        let stages = Stages::new(
            Protocols::new(ProtocolSettings {
                connections: connections.max(protocol.connections),
                ..protocol
            }),
            Attributor::with_host(
                AttributionSettings {
                    connections: connections.max(attribution.connections),
                    ..attribution
                },
                Box::new(Processes),
            ),
            Routes::new(RouteSettings::default()),
            true,
        );
        let mut pipeline = Self {
            stages,
            aggregator: Aggregator::new(AggregationSettings::default(), 0),
            found: Vec::new(),
            turns: (0..load.connections).step_by(CALLS as usize).map(|at| turn(load, at)).collect(),
            rounds: 0,
            now_ns: 1_000_000_000,
        };
        for connection in 0..load.connections + load.silent {
            for role in [ROLE_CLIENT, ROLE_SERVER] {
                let record = opened(load, connection, role);
                pipeline.event(&Record::new(record.as_bytes(), &[]));
            }
        }
        while pipeline.stages.report_beginnings(2_000_000_000, &mut pipeline.found) {}
        pipeline.stages.sweep(2_000_000_000, &mut pipeline.found);
        pipeline.count();
        pipeline.now_ns = 2_000_000_000;
        pipeline
    }

    fn event(&mut self, record: &Record) {
        let event = decode(black_box(record.bytes())).expect("the bench writes whole records");
        self.stages.event(&event, &mut self.found);
    }

    /// The next connections have a call each.
    fn round(&mut self) {
        let turns = u32::try_from(self.turns.len()).unwrap_or(u32::MAX);
        let (number, turn) = (self.rounds / turns, (self.rounds % turns) as usize);
        let mut round = std::mem::take(&mut self.turns[turn]);
        for record in &mut round {
            self.now_ns += 10_000;
            let (head, _) =
                Head::mut_from_prefix(record.words.as_mut_bytes()).expect("a round has heads only");
            head.header.time_ns = self.now_ns;
            head.first_ns = self.now_ns;
            head.number = number;
            head.sequence = head.sequence.wrapping_add(44);
            head.acknowledgement = head.acknowledgement.wrapping_add(238);
        }
        for record in &round {
            self.event(record);
        }
        self.turns[turn] = round;
        self.rounds = self.rounds.wrapping_add(1);
        if self.rounds.is_multiple_of(ROUNDS) {
            self.count();
        }
    }

    /// What the sink does with a batch where only series are asked for.
    fn count(&mut self) {
        for found in &self.found {
            match found {
                Found::Call(call) => self.aggregator.record(call, call.exchange.end_ns),
                Found::Connection(report, time_ns) => self.aggregator.connection(report, *time_ns),
                Found::Progress(call, gains) => {
                    self.aggregator.progress(call, gains, call.exchange.end_ns);
                }
                Found::Repeated(..) | Found::Lost(_) => panic!("the bench loses nothing"),
            }
        }
        self.stages.reuse(&mut self.found);
    }

    /// Calls that were counted, which keeps the bench honest.
    fn calls(&self) -> f64 {
        let snapshot = self.aggregator.snapshot(self.now_ns);
        let mut families = snapshot.families.iter();
        let total = families.find(|family| family.name == "traces_service_graph_request_total");
        total.map_or(0.0, |family| family.series.iter().map(|series| number(&series.value)).sum())
    }
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Number(number) => *number,
        Value::Histogram { .. } => 0.0,
    }
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

/// The same calls where there is more of one thing, ten times as much from step to step.
fn growth(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("growth");
    group.throughput(Throughput::Elements(ENDS));
    let many = |connections| Load { connections, ..STEADY };
    for number in [32, 320, 3_200, 32_000, 96_000] {
        let loads = [
            ("connections", many(number)),
            ("silent connections", Load { silent: number, ..STEADY }),
            ("services", Load { services: number.min(32_000), ..many(number) }),
            ("routes", Load { routes: number, ..many(number) }),
        ];
        for (what, load) in loads {
            let mut pipeline = Pipeline::new(load);
            let rounds = load.connections.div_ceil(CALLS);
            (0..2 * rounds).for_each(|_| pipeline.round());
            group.bench_function(BenchmarkId::new(what, number), |bencher| {
                bencher.iter(|| pipeline.round());
            });
        }
    }
    group.finish();
}

fn main() {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--rounds").skip(1);
    let rounds = arguments.next().and_then(|rounds| rounds.parse::<u32>().ok());
    let mut pipeline = Pipeline::new(STEADY);
    if let Some(rounds) = rounds {
        (0..rounds).for_each(|_| pipeline.round());
    } else {
        let mut criterion = Criterion::default().configure_from_args();
        let mut group = criterion.benchmark_group("pipeline");
        group.throughput(Throughput::Elements(ENDS));
        group.bench_function("round of 64 ends", |bencher| bencher.iter(|| pipeline.round()));
        group.finish();
        growth(&mut criterion);
        criterion.final_summary();
    }
    let whole = pipeline.rounds - pipeline.rounds % ROUNDS;
    assert!(
        pipeline.calls() == f64::from(whole) * f64::from(CALLS),
        "every call of the bench is counted once: {} of {whole} rounds",
        pipeline.calls()
    );
}
