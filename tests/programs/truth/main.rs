//! `truth [FILTER…]`: makes calls of which the caller keeps its own record, under conditions
//! that make counting hard, and prints what the agent saw of them.
//!
//! A call has two ends, and each is seen, declared lost, or missing. **Nothing may be wrong**
//! (an end with a method, path or status that no call had) **and the sum must come out**:
//! whatever was made was seen or declared, or fell into a time without an agent. Ends whose
//! name the agent calls unknown are counted as seen, and beside it. Two agents watch the calls
//! side by side, one of each lane; where neither declares a loss, both must have counted the same.
//!
//! Durations of calls are compared with a capture of the wire (`latency`). Of them the error
//! is printed, and nothing fails by it: it depends on what else the machine does.

mod capture;
mod condition;
mod lane;
mod latency;
mod load;
mod restart;
mod reuse;
mod row;

use std::process::ExitCode;

use anyhow::Result;
use meshtap_tests::books::Books;
use meshtap_tests::requirement::program;

use condition::{Condition, Ground};
use lane::Watch;
use latency::Pace;
use load::{Load, Speaker};
use row::{Row, compare_lanes};

fn main() -> ExitCode {
    let filters: Vec<String> = std::env::args().skip(1).collect();
    println!("{:14} {:8} {:8} {}", "condition", "protocol", "lane", Row::HEADER);
    let (mut faults, mut skips, mut count) = (0, 0, 0);
    for condition in Condition::ALL {
        for load in Load::ALL {
            let name = format!("{condition:?} {load:?}").to_lowercase();
            if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter)) {
                continue;
            }
            let head = format!("{:14} {:8}", condition.name(), load.name());
            if let Some(reason) = load.missing().or_else(|| condition.missing(load)) {
                println!("{head} skipped: {reason}");
                skips += 1;
                continue;
            }
            match examine(condition, load) {
                Ok(rows) => {
                    for row in rows {
                        println!("{head} {}", row.line());
                        count += 1;
                        faults += u32::from(row.fault().is_some());
                    }
                }
                Err(error) => {
                    println!("{head} failed: {error:#}");
                    faults += 1;
                }
            }
        }
    }
    for load in [Load::Http1, Load::Http2] {
        for pace in Pace::ALL {
            let name = format!("latency {load:?} {pace:?}").to_lowercase();
            if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter)) {
                continue;
            }
            let head = format!("{:14} {:8} {:9}", "latency", load.name(), pace.name());
            let absent = ["tcpdump", "ip", "ss"].iter().find(|name| program(name).is_none());
            if let Some(reason) =
                absent.map(|name| format!("{name} is not installed")).or_else(|| load.missing())
            {
                println!("{head} skipped: {reason}");
                skips += 1;
                continue;
            }
            count += 1;
            match latency::measure(load, pace) {
                Ok(lines) => lines.iter().for_each(|line| println!("{head} {line}")),
                Err(error) => {
                    println!("{head} failed: {error:#}");
                    faults += 1;
                }
            }
        }
    }
    println!("{count} rows, {faults} not the truth, {skips} skipped");
    if faults == 0 && count > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn examine(condition: Condition, load: Load) -> Result<Vec<Row>> {
    let mut rows = match condition {
        Condition::Reuse => reuse::examine(load)?,
        Condition::Restart => restart::examine(load)?,
        _ => examine_calls(condition, load)?,
    };
    compare_lanes(&mut rows);
    Ok(rows)
}

fn examine_calls(condition: Condition, load: Load) -> Result<Vec<Row>> {
    let ground = Ground::lay(condition)?;
    let server = Speaker::start(load, ground.server())?;
    let books = Books::new(load.kind(), server.port());
    let mut watch = Watch::start(&books.configuration(), condition.ring())?;
    let address = format!("{}:{}", ground.address(), server.port());
    let (calls, hands) = condition.size(load);
    let record =
        ground.disturb(&mut watch, || server.call(ground.client(), &address, calls, hands))?;
    let mut rows = Vec::new();
    for (lane, agent) in watch.each() {
        let scrape = books.settle(agent, load.client(), record.total())?;
        let row = Row::compare(&record, &books, &scrape, load.client());
        rows.push(Row { lane: Some(lane), ..row });
    }
    watch.stop()?;
    Ok(rows)
}
