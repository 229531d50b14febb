//! [`Ledger`]: how often each (method, path, status) happened, from the server's own log, from
//! lines or from metrics, and where two of them differ.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::call::CallLine;
use crate::scrape::Scrape;

/// Method, path (or route) and status; the status is empty where no answer was sent. Of a
/// remote procedure call: method, its messages both ways, and status.
pub type Key = (String, String, String);

/// Codes that nginx writes to its log and never to the wire: there the agent has a call
/// without an answer.
///
/// | code | what happened |
/// |---|---|
/// | 499 | the client closed before the answer |
/// | 408 | the client did not finish its request in time |
pub const NEVER_SENT: [u16; 2] = [499, 408];

/// Counts per key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    counts: BTreeMap<Key, u64>,
}

impl Ledger {
    /// Adds to a key.
    pub fn add(&mut self, method: &str, path: &str, status: Option<u16>, count: u64) {
        let status = status.map(|status| status.to_string()).unwrap_or_default();
        *self.counts.entry((method.to_owned(), path.to_owned(), status)).or_default() += count;
    }

    /// Adds to the key of a remote procedure call. Messages: `None` leaves them out of the
    /// key, one that is `None` was not counted.
    pub fn add_rpc(
        &mut self,
        method: &str,
        messages: Option<(Option<u64>, Option<u64>)>,
        status: Option<&str>,
        count: u64,
    ) {
        let text = |number: Option<u64>| number.map_or("?".to_owned(), |number| number.to_string());
        let messages =
            messages.map(|(sent, received)| format!("{}>{}", text(sent), text(received)));
        let key = (
            method.to_owned(),
            messages.unwrap_or_default(),
            status.unwrap_or_default().to_owned(),
        );
        *self.counts.entry(key).or_default() += count;
    }

    /// Remote procedure calls from lines of `observe`, with their messages.
    #[must_use]
    pub fn from_rpc_calls(calls: &[&CallLine]) -> Self {
        let mut ledger = Self::default();
        for call in calls {
            let messages = (call.request_messages, call.response_messages);
            ledger.add_rpc(&call.method, Some(messages), call.code.as_deref(), 1);
        }
        ledger
    }

    /// Remote procedure calls from a histogram's `_count`, without their messages.
    #[must_use]
    pub fn from_rpc_metrics(scrape: &Scrape, name: &str, labels: &[(&str, &str)]) -> Self {
        let mut ledger = Self::default();
        for (key, count) in scrape.by(name, &["rpc_method", "rpc_status_code"], labels) {
            if let [method, status] = key.as_slice() {
                let status = (!status.is_empty()).then_some(status.as_str());
                ledger.add_rpc(method, None, status, count);
            }
        }
        ledger
    }

    /// Adds all that another one has.
    pub fn add_all(&mut self, other: &Self) {
        for (key, count) in &other.counts {
            *self.counts.entry(key.clone()).or_default() += count;
        }
    }

    /// The same calls of which the messages are not told.
    #[must_use]
    pub fn without_messages(&self) -> Self {
        let mut ledger = Self::default();
        for ((method, _, status), count) in &self.counts {
            ledger.add_rpc(method, None, Some(status), *count);
        }
        ledger
    }

    /// From an access log whose lines begin with method, target and status.
    pub fn from_log(path: &Path) -> Result<Self> {
        Self::parse_log(&std::fs::read_to_string(path)?)
    }

    fn parse_log(text: &str) -> Result<Self> {
        let mut ledger = Self::default();
        for line in text.lines() {
            let mut words = line.split(' ');
            let mut next = || words.next().with_context(|| format!("not a log line: {line}"));
            let (method, target, status) = (next()?, next()?, next()?);
            // A connection that closed without a request, or one that was refused at once.
            if method == "-" || method.is_empty() {
                continue;
            }
            let path = target.split('?').next().unwrap_or(target);
            let status = status.parse().with_context(|| format!("no status: {line}"))?;
            let sent = (!NEVER_SENT.contains(&status)).then_some(status);
            ledger.add(method, path, sent, 1);
        }
        Ok(ledger)
    }

    /// From lines of `observe`.
    #[must_use]
    pub fn from_calls(calls: &[&CallLine]) -> Self {
        let mut ledger = Self::default();
        for call in calls {
            ledger.add(&call.method, &call.path, call.status, 1);
        }
        ledger
    }

    /// From a histogram's `_count` in metrics, by route; `labels` select the series.
    #[must_use]
    pub fn from_metrics(scrape: &Scrape, name: &str, labels: &[(&str, &str)]) -> Self {
        let by = ["http_request_method", "http_route", "http_response_status_code"];
        let mut ledger = Self::default();
        for (key, count) in scrape.by(name, &by, labels) {
            if let [method, route, status] = key.as_slice() {
                ledger.add(method, route, status.parse().ok(), count);
            }
        }
        ledger
    }

    /// The count of one key.
    #[must_use]
    pub fn count(&self, method: &str, path: &str, status: Option<u16>) -> u64 {
        let status = status.map(|status| status.to_string()).unwrap_or_default();
        let key = (method.to_owned(), path.to_owned(), status);
        self.counts.get(&key).copied().unwrap_or_default()
    }

    /// All calls.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Every key and its count.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, u64)> {
        self.counts.iter().map(|(key, count)| (key, *count))
    }

    /// Per key what `self` has more of than `other`, and how many that are.
    #[must_use]
    pub fn excess(&self, other: &Self) -> (u64, Vec<String>) {
        let mut total = 0;
        let mut lines = Vec::new();
        for (key, count) in &self.counts {
            let there = other.counts.get(key).copied().unwrap_or_default();
            if *count > there {
                total += count - there;
                let (method, path, status) = key;
                lines.push(format!("{method} {path} {status}: {count} against {there}"));
            }
        }
        (total, lines)
    }
}

#[cfg(test)]
mod tests {
    use super::Ledger;
    use crate::scrape::Scrape;

    #[test]
    fn log_and_metrics_are_compared_by_key() {
        let log = "GET /a?x=1 200 5 0.000\nGET /a 200 5 0.000\nGET /b 499 0 1.000\n- - 400 0 0.0\n";
        let log = Ledger::parse_log(log).expect("parses");
        assert_eq!(log.total(), 3);
        let text = "x_count{http_request_method=\"GET\",http_route=\"/a\",http_response_status_code=\"200\"} 2\n\
                    x_count{http_request_method=\"GET\",http_route=\"/b\",error_type=\"abandoned\"} 2\n";
        let metrics = Ledger::from_metrics(&Scrape::parse(text).expect("parses"), "x_count", &[]);
        assert_eq!(log.excess(&metrics).0, 0);
        assert_eq!(metrics.excess(&log), (1, vec!["GET /b : 2 against 1".to_owned()]));
    }
}
