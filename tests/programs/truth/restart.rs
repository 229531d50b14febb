//! Agents that are killed while calls are made, and started anew: what both have seen is all
//! but what fell between them, and the data say from when they hold.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, anyhow};
use meshtap_tests::agent::Agent;
use meshtap_tests::books::{Books, lost_of};
use meshtap_tests::http;
use meshtap_tests::ledger::Ledger;
use meshtap_tests::netns::Place;
use meshtap_tests::scrape::Scrape;

use crate::lane::Watch;
use crate::load::{Load, Speaker};
use crate::row::Row;

/// How long calls are made before the end of one agent, and after the beginning of the next.
const LIFE: Duration = Duration::from_secs(3);
/// Calls a second on each of eight connections, and in one run of the client: connections
/// begin and end throughout.
const PACE: u32 = 250;
const RUN: u64 = 4_000;
/// A call may be in the series a second after its end: so long it is with the kernel.
const LATE: f64 = 1.5;
/// How exactly the log of the server knows the time.
const BLUR: f64 = 0.05;

/// When a call took place, in seconds since 1970.
struct Span {
    begin: f64,
    end: f64,
}

/// What the agent of one lane had seen when it was killed.
struct Before {
    scrape: Scrape,
    /// When it was asked, and when that was answered.
    asked: f64,
    answered: f64,
}

/// What the one that came after it had seen.
struct After {
    scrape: Scrape,
    ready: f64,
    /// From when its counts hold.
    created: f64,
}

pub fn examine(load: Load) -> Result<Vec<Row>> {
    let server = Speaker::start(load, Place::HERE)?;
    let books = Books::new(load.kind(), server.port());
    let names = books.configuration();
    let watch = Watch::start(&names, "4 MiB")?;
    let over = AtomicBool::new(false);
    let (watch, before, ready) = std::thread::scope(|scope| {
        let caller = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                server.call_at_pace(Place::HERE, RUN, PACE)?;
            }
            Ok::<_, anyhow::Error>(())
        });
        let disturbed = interrupt(watch, &names);
        over.store(true, Ordering::Relaxed);
        caller.join().map_err(|_| anyhow!("the caller panicked"))??;
        disturbed
    })?;
    let calls = spans(&server)?;
    let record = server.nginx()?.ledger()?;
    let mut rows = Vec::new();
    for ((lane, agent), before) in watch.each().zip(&before) {
        let sure = count(&calls, |call| call.begin > ready + BLUR);
        let enough =
            |scrape: &Scrape| seen(&books, scrape, load) + lost_of(scrape, &[books.name()]);
        let scrape = agent.scrape_until(|scrape| enough(scrape) >= 2 * sure)?;
        // What is with the kernel still; there may be more than is sure.
        sleep(Duration::from_secs_f64(LATE));
        let created = beginning(agent, &scrape)?;
        let after = After { scrape: agent.scrape()?, ready, created };
        let row = compare(&calls, (&record, &books, load.client()), before, &after);
        rows.push(Row { lane: Some(lane), ..row });
    }
    watch.stop()?;
    Ok(rows)
}

fn compare(
    calls: &[Span],
    (record, books, client): (&Ledger, &Books, &str),
    before: &Before,
    after: &After,
) -> Row {
    let one = Row::compare(record, books, &before.scrape, client);
    let two = Row::compare(record, books, &after.scrape, client);
    let mut row = Row { made: one.made, ..Row::default() };
    row.seen = one.seen + two.seen;
    row.declared = one.declared + two.declared;
    row.unknown = one.unknown + two.unknown;
    for (first, second) in one.sides.iter().zip(&two.sides) {
        let mut both = first.clone();
        both.add_all(second);
        row.wrong += both.excess(record).0.saturating_sub(row.unknown);
    }
    let asked = before.asked - LATE;
    let first = [
        count(calls, |call| call.end < asked),
        count(calls, |call| call.begin < before.answered + BLUR),
    ];
    let second = [
        count(calls, |call| call.begin > after.ready + BLUR),
        count(calls, |call| call.end > after.created - BLUR),
    ];
    row.fault = doubt("first", &one, first).or(doubt("second", &two, second));
    let gap = count(calls, |call| call.end >= asked && call.begin <= after.ready + BLUR);
    row.blind = row.made.saturating_sub(row.seen + row.declared).min(2 * gap);
    row
}

/// Why an agent cannot have seen what it says: it has not all calls that took place within
/// its life, or more than there were in its life and at its edges.
fn doubt(who: &str, row: &Row, [least, most]: [u64; 2]) -> Option<String> {
    let ends = row.seen + row.declared;
    let is_true = ends >= 2 * least && row.seen <= 2 * most;
    let text = format!("the {who} agent: {ends} ends, not {} to {}", 2 * least, 2 * most);
    (!is_true).then_some(text)
}

fn count(calls: &[Span], is_meant: impl Fn(&Span) -> bool) -> u64 {
    calls.iter().filter(|call| is_meant(call)).count() as u64
}

/// Lets the agents live, kills them, starts others, and lets those live. Gives when they
/// were ready, too.
fn interrupt(watch: Watch, names: &str) -> Result<(Watch, Vec<Before>, f64)> {
    sleep(LIFE);
    let mut before = Vec::new();
    for (_, agent) in watch.each() {
        let asked = now();
        let scrape = agent.scrape()?;
        before.push(Before { scrape, asked, answered: now() });
    }
    let watch = watch.restart(names, "4 MiB")?;
    let ready = now();
    sleep(LIFE);
    Ok((watch, before, ready))
}

fn now() -> f64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0.0, |time| time.as_secs_f64())
}

fn seen(books: &Books, scrape: &Scrape, load: Load) -> u64 {
    books.at_server(scrape, load.client()).total()
        + books.at_client(scrape, load.client()).total()
        + books.unrecognised(scrape, load.client())
}

/// From when the agent's counts hold: the earliest start of a series of calls, which is not
/// before the start of the agent.
fn beginning(agent: &Agent, scrape: &Scrape) -> Result<f64> {
    let accept = "Accept: application/openmetrics-text; version=1.0.0\r\n";
    let text = http::get_with(agent.address(), "/metrics", accept)?.body;
    let open = Scrape::parse(&text)?;
    let created = ["server", "client"].map(|side| {
        let name = format!("http_{side}_request_duration_seconds_created");
        let starts = open.select(&name, &[]).map(|sample| sample.value).collect::<Vec<_>>();
        starts.into_iter().fold(f64::INFINITY, f64::min)
    });
    let created = created[0].min(created[1]);
    let start = scrape.sum("process_start_time_seconds", &[]);
    anyhow::ensure!(start > 0.0 && created >= start - BLUR, "from {created}, but from {start}");
    Ok(created)
}

/// When the server says that calls took place.
fn spans(server: &Speaker) -> Result<Vec<Span>> {
    let log = server.nginx()?.log()?;
    let line = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let end: f64 = words.get(7)?.parse().ok()?;
        let took: f64 = words.get(4)?.parse().ok()?;
        Some(Span { begin: end - took, end })
    };
    log.lines().map(|text| line(text).with_context(|| format!("not a log line: {text}"))).collect()
}
