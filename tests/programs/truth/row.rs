//! [`Row`]: what became of the calls of one condition on one lane, and whether that is the truth.

use meshtap_tests::books::{Books, lost_of};
use meshtap_tests::ledger::Ledger;
use meshtap_tests::scrape::Scrape;

use crate::lane::Lane;

/// Ends of calls, by what became of them.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub lane: Option<Lane>,
    pub made: u64,
    pub seen: u64,
    pub declared: u64,
    pub unknown: u64,
    /// Fell into the time without an agent.
    pub blind: u64,
    pub wrong: u64,
    /// What else is not the truth.
    pub fault: Option<String>,
    /// What was counted at the server and at the client, where lanes are compared.
    pub sides: [Ledger; 2],
}

impl Row {
    pub const HEADER: &str = "     made      seen  declared  unknown  blind  wrong";

    /// Of one server's books.
    pub fn compare(record: &Ledger, books: &Books, scrape: &Scrape, client: &str) -> Self {
        let unknown = books.unrecognised(scrape, client);
        let (made, declared) = (2 * record.total(), lost_of(scrape, &[books.name()]));
        let mut row = Self { made, seen: unknown, declared, unknown, ..Self::default() };
        row.sides = [books.at_server(scrape, client), books.at_client(scrape, client)];
        for side in row.sides.clone() {
            row.add(&side, record);
        }
        row
    }

    /// Adds what was seen at one side of calls of which `record` has all.
    pub fn add(&mut self, side: &Ledger, record: &Ledger) {
        let unknown = side.iter().filter(|(key, _)| is_unknown(key));
        let unknown: u64 = unknown.map(|(_, count)| count).sum();
        self.seen += side.total();
        self.unknown += unknown;
        self.wrong += side.excess(record).0.saturating_sub(unknown);
    }

    /// Why this is not the truth; `None`: it is.
    pub fn fault(&self) -> Option<String> {
        if self.wrong > 0 {
            Some("WRONG".to_owned())
        } else if self.seen + self.declared + self.blind != self.made {
            Some("the sum does not come out".to_owned())
        } else {
            self.fault.clone()
        }
    }

    pub fn line(&self) -> String {
        let Self { made, seen, declared, unknown, blind, wrong, .. } = self;
        let lane = self.lane.map(Lane::name).unwrap_or_default();
        let fault = self.fault().unwrap_or_default();
        format!("{lane:8} {made:9} {seen:9} {declared:9} {unknown:8} {blind:6} {wrong:6} {fault}")
    }
}

/// Lanes that have lost nothing have counted the same.
pub fn compare_lanes(rows: &mut [Row]) {
    let [one, other] = rows else { return };
    let lossless = [&*one, &*other].iter().all(|row| row.declared == 0 && row.unknown == 0);
    if lossless && one.sides != other.sides {
        other.fault = Some("the lanes differ".to_owned());
    }
}

/// Whether something of the key is not known.
fn is_unknown((method, path, status): &(String, String, String)) -> bool {
    [method, path].iter().any(|name| name.contains("unknown")) || status.is_empty()
}
