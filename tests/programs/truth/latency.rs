//! `truth latency`: durations that the agent tells of calls, against a capture of the wire at
//! either end of it, from the first byte of the request to the last byte of the answer.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use meshtap_tests::agent::Observer;
use meshtap_tests::call::CallLine;
use meshtap_tests::netns::{Netns, Place, SERVER};
use meshtap_tests::workload::{Nginx, h2load_with};

use crate::capture::{Capture, Exchange};
use crate::load::Load;

/// What 99 of 100 durations should be exact to, in microseconds.
const AIM: f64 = 100.0;
const CALLS: u64 = 8_000;
/// The last one takes several packets.
const PATHS: [&str; 5] = ["/ok", "/nothing", "/moved", "/empty", "/files/large"];
const LARGE: u64 = 100_000;

/// How fast calls are made.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// A thousand a second.
    Calm,
    /// As fast as it goes.
    Full,
}

impl Pace {
    pub const ALL: [Self; 2] = [Self::Calm, Self::Full];

    pub fn name(self) -> &'static str {
        match self {
            Self::Calm => "1000/s",
            Self::Full => "full pace",
        }
    }

    fn arguments(self) -> Vec<String> {
        match self {
            Self::Calm => vec!["-c4".to_owned(), "--rps=250".to_owned()],
            Self::Full => vec!["-c4".to_owned()],
        }
    }
}

/// Differences of one duration from the capture, in microseconds.
#[derive(Debug, Default)]
struct Errors {
    all: Vec<f64>,
}

impl Errors {
    fn note(&mut self, told: Option<f64>, nanoseconds: u64) {
        // Below 2^53.
        let captured = nanoseconds as f64 / 1_000.0;
        self.all.extend(told.map(|told| (told - captured).abs()));
    }

    fn line(&mut self, name: &str) -> String {
        self.all.sort_by(f64::total_cmp);
        let last = self.all.len().saturating_sub(1);
        let at = |share: usize| self.all.get(last * share / 100).copied().unwrap_or(f64::NAN);
        let remark = if at(99) < AIM { "" } else { "  above the aim of 100" };
        format!(
            "{name:15} {:6} durations, error in µs: p50 {:.1}, p90 {:.1}, p99 {:.1}, max {:.1}{remark}",
            self.all.len(),
            at(50),
            at(90),
            at(99),
            at(100),
        )
    }
}

/// Lines to print.
pub fn measure(load: Load, pace: Pace) -> Result<Vec<String>> {
    let (client, server) = Netns::pair()?;
    let place = Place::netns(&server);
    let nginx = match load {
        Load::Http2 => Nginx::http2_in(place, "")?,
        _ => Nginx::start_in(place, 1, "")?,
    };
    nginx.file("large", LARGE)?;
    let mut observer = Observer::start()?;
    let captures = (Capture::start(&client, nginx.port())?, Capture::start(&server, nginx.port())?);
    let mut arguments = pace.arguments();
    arguments.push(if load == Load::Http2 { "-m1".to_owned() } else { "--h1".to_owned() });
    let address = format!("{SERVER}:{}", nginx.port());
    h2load_with(Place::netns(&client), &address, &PATHS, &arguments, CALLS)?;
    let (near, far) = (captures.0.finish()?, captures.1.finish()?);
    observer.settle()?;
    let calls = observer.finish()?;
    compare(&calls.to_port(nginx.port()), &near, &far)
}

fn compare(
    calls: &[&CallLine],
    near: &BTreeMap<u16, Vec<Exchange>>,
    far: &BTreeMap<u16, Vec<Exchange>>,
) -> Result<Vec<String>> {
    let mut by_port: BTreeMap<u16, Vec<&CallLine>> = BTreeMap::new();
    for call in calls {
        by_port.entry(call.client.port.unwrap_or_default()).or_default().push(call);
    }
    let mut errors = [const { Errors { all: Vec::new() } }; 3];
    for (port, calls) in &mut by_port {
        // One after the other on a connection.
        calls.sort_by_key(|call| call.time.as_str().unwrap_or_default().to_owned());
        let (near, far) = (near.get(port), far.get(port));
        let (near, far) = (near.map_or(&[][..], Vec::as_slice), far.map_or(&[][..], Vec::as_slice));
        let counts = [calls.len(), near.len(), far.len()];
        ensure!(
            counts.iter().all(|count| *count == calls.len()),
            "the agent, the client's wire and the server's have {counts:?} calls of port {port}"
        );
        for ((call, near), far) in calls.iter().zip(near).zip(far) {
            let [client, server, first] = &mut errors;
            client.note(call.client_duration_us, near.last - near.asked);
            server.note(call.server_duration_us, far.last - far.asked);
            first.note(call.first_byte_us, near.first - near.asked);
        }
    }
    let count = calls.len() as u64;
    ensure!(count == CALLS, "the agent told of {count} calls, not of {CALLS}");
    let names = ["client duration", "server duration", "first byte"];
    Ok(errors.iter_mut().zip(names).map(|(errors, name)| errors.line(name)).collect())
}
