//! `truth [FILTER…]`: makes calls of which the caller keeps its own record, under conditions
//! that make counting hard, and prints what the agent saw of them.
//!
//! A call has two ends, and each is seen, declared lost, or missing. **Nothing may be wrong**
//! (an end with a method, path or status that no call had) **and the sum must come out**:
//! whatever was made was seen or declared. Ends whose name the agent calls unknown are
//! counted as seen, and beside it.

mod condition;
mod load;

use std::process::ExitCode;

use anyhow::Result;
use meshtap_tests::agent::Agent;
use meshtap_tests::books::{Books, lost};
use meshtap_tests::ledger::Ledger;
use meshtap_tests::scrape::Scrape;

use condition::{Condition, Ground};
use load::{Load, Speaker};

/// What became of the calls of one condition.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// Ends of calls that were made.
    made: u64,
    seen: u64,
    declared: u64,
    unknown: u64,
    wrong: u64,
}

impl Row {
    /// Why this is not the truth; `None`: it is.
    fn fault(&self) -> Option<&'static str> {
        if self.wrong > 0 {
            Some("WRONG")
        } else if self.seen + self.declared != self.made {
            Some("the sum does not come out")
        } else {
            None
        }
    }
}

fn main() -> ExitCode {
    let filters: Vec<String> = std::env::args().skip(1).collect();
    println!(
        "{:14} {:8} {:>9} {:>9} {:>9} {:>8} {:>6}",
        "condition", "protocol", "ends made", "seen", "declared", "unknown", "wrong"
    );
    let (mut faults, mut skips, mut rows) = (0, 0, 0);
    for condition in Condition::ALL {
        for load in Load::ALL {
            let name = format!("{condition:?} {load:?}").to_lowercase();
            if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter)) {
                continue;
            }
            let (condition_name, load_name) = (condition.name(), load.name());
            if let Some(reason) = condition.missing().or_else(|| load.missing()) {
                println!("{condition_name:14} {load_name:8} skipped: {reason}");
                skips += 1;
                continue;
            }
            let (text, is_true) = match examine(condition, load) {
                Ok(row) => (line(&row), row.fault().is_none()),
                Err(error) => (format!("failed: {error:#}"), false),
            };
            println!("{condition_name:14} {load_name:8} {text}");
            rows += 1;
            faults += u32::from(!is_true);
        }
    }
    println!("{rows} examined, {faults} not the truth, {skips} skipped");
    if faults == 0 && rows > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn line(row: &Row) -> String {
    let Row { made, seen, declared, unknown, wrong } = row;
    let fault = row.fault().unwrap_or_default();
    format!("{made:9} {seen:9} {declared:9} {unknown:8} {wrong:6} {fault}")
}

fn examine(condition: Condition, load: Load) -> Result<Row> {
    let ground = Ground::lay(condition)?;
    let server = Speaker::start(load, ground.server())?;
    let books = Books::new(load.kind(), server.port());
    let agent = Agent::start(&format!("{}{}", books.configuration(), condition.configuration()))?;
    let address = format!("{}:{}", ground.address(), server.port());
    let (calls, hands) = condition.size(load);
    let record = ground.disturb(&agent, || server.call(ground.client(), &address, calls, hands))?;
    let scrape = books.settle(&agent, load.client(), record.total())?;
    let row = compare(&record, &books, &scrape, load.client());
    drop(agent.stop()?);
    Ok(row)
}

fn compare(record: &Ledger, books: &Books, scrape: &Scrape, client: &str) -> Row {
    let unknown = books.unrecognised(scrape, client);
    let (made, declared) = (2 * record.total(), lost(scrape));
    let mut row = Row { made, seen: unknown, declared, unknown, wrong: 0 };
    for side in [books.at_server(scrape, client), books.at_client(scrape, client)] {
        let unknown: u64 =
            side.iter().filter(|(key, _)| is_unknown(key)).map(|(_, count)| count).sum();
        row.seen += side.total();
        row.unknown += unknown;
        row.wrong += side.excess(record).0.saturating_sub(unknown);
    }
    row
}

/// Whether something of the key is not known.
fn is_unknown((method, path, status): &(String, String, String)) -> bool {
    [method, path].iter().any(|name| name.contains("unknown")) || status.is_empty()
}
