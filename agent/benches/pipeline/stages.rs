//! The stages one after the other, on the same records.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use meshtap::aggregation::{AggregationSettings, Aggregator, Value};
use meshtap::attribution::{AttributionSettings, Attributor, Call};
use meshtap::pipeline::{Found, Stages};
use meshtap::protocol::{Output, ProtocolSettings, Protocols, RouteSettings, Routes};
use meshtap::ring_buffer::Event;
use meshtap::ring_buffer::decode::decode;

use crate::load::{CALLS, ENDS, Load, Processes, Record, Rounds, STEADY, beginnings};

/// Rounds between two hand-overs to the sink, as many as fit a batch of the reader.
const ROUNDS: u32 = 8;

/// The last stage that is run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Last {
    RingBuffer,
    Protocol,
    Attribution,
    Aggregation,
}

/// Everything between the ring and the series.
pub struct Pipeline {
    stages: Stages,
    aggregator: Aggregator,
    found: Vec<Found>,
    output: Output,
    rounds: Rounds,
    last: Last,
}

pub fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stages");
    group.throughput(Throughput::Elements(ENDS));
    for (name, last) in [
        ("ring_buffer", Last::RingBuffer),
        ("protocol", Last::Protocol),
        ("attribution", Last::Attribution),
        ("aggregation", Last::Aggregation),
    ] {
        let mut pipeline = Pipeline::new(STEADY, last);
        group.bench_function(name, |bencher| bencher.iter(|| pipeline.round()));
        pipeline.check();
    }
    group.finish();
}

impl Pipeline {
    pub fn new(load: Load, last: Last) -> Self {
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
            aggregator: Aggregator::new(AggregationSettings::default(), 0, 0),
            found: Vec::new(),
            output: Output::default(),
            rounds: Rounds::new(load),
            last,
        };
        for record in beginnings(load) {
            pipeline.stages.event(&event(&record), &mut pipeline.found);
        }
        while pipeline.stages.report_beginnings(2_000_000_000, &mut pipeline.found) {}
        pipeline.stages.sweep(2_000_000_000, &mut pipeline.found);
        pipeline.count();
        pipeline
    }

    /// The next connections have a call each.
    pub fn round(&mut self) {
        let Self { stages, found, output, rounds, last, .. } = self;
        rounds.next(|record| {
            let event = event(record);
            match last {
                Last::RingBuffer => drop(black_box(event)),
                Last::Protocol => stages.protocols.feed(&event, output),
                Last::Attribution | Last::Aggregation => stages.event(&event, found),
            }
        });
        if self.rounds.number.is_multiple_of(ROUNDS) {
            self.count();
        }
    }

    /// Calls of the next round.
    pub fn calls(&mut self) -> Vec<Call> {
        self.round();
        let calls = self.found.iter().filter_map(|found| match found {
            Found::Call(call) => Some(call.clone()),
            _ => None,
        });
        calls.collect()
    }

    /// What the sink does with a batch where only series are asked for.
    fn count(&mut self) {
        for exchange in self.output.exchanges.drain(..) {
            self.stages.protocols.reuse(exchange);
        }
        for found in &self.found {
            match found {
                Found::Call(call) if self.last == Last::Aggregation => {
                    self.aggregator.record(call, call.exchange.end_ns);
                }
                Found::Call(_) => {}
                Found::Connection(report, time_ns) => self.aggregator.connection(report, *time_ns),
                Found::Progress(call, gains) => {
                    self.aggregator.progress(call, gains, call.exchange.end_ns);
                }
                Found::Repeated(..) | Found::Lost(_) => panic!("the bench loses nothing"),
            }
        }
        self.stages.reuse(&mut self.found);
    }

    /// That every call was counted once, which keeps the bench honest.
    pub fn check(&self) {
        let rounds = self.rounds.number - self.rounds.number % ROUNDS;
        let made = f64::from(rounds) * f64::from(CALLS);
        let snapshot = self.aggregator.snapshot(self.rounds.now_ns);
        let mut families = snapshot.families.iter();
        let total = families.find(|family| family.name == "traces_service_graph_request_total");
        let counted =
            total.map_or(0.0, |family| family.series.iter().map(|one| number(&one.value)).sum());
        let expected = if self.last == Last::Aggregation { made } else { 0.0 };
        assert!(counted == expected, "{counted} calls of {expected} were counted");
    }
}

fn event(record: &Record) -> Event<'_> {
    decode(black_box(record.bytes())).expect("the bench writes whole records")
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Number(number) => *number,
        Value::Histogram { .. } => 0.0,
    }
}
