//! [`Scrape`]: one reading of `/metrics`, and sums over it by label.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};

use crate::http;

/// One line of an exposition.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Metric name, with the suffix of its kind.
    pub name: String,
    /// Labels, unescaped.
    pub labels: BTreeMap<String, String>,
    /// Value.
    pub value: f64,
}

impl Sample {
    /// A label's value; empty where it is absent (which is the same to Prometheus).
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// Every sample of one exposition.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    /// In the order of the text.
    pub samples: Vec<Sample>,
}

impl Scrape {
    /// Fetches and parses `/metrics`.
    pub fn fetch(address: SocketAddr) -> Result<Self> {
        let answer = http::get(address, "/metrics")?;
        if answer.status != 200 {
            bail!("/metrics answered {}", answer.status);
        }
        Self::parse(&answer.body)
    }

    /// Parses the Prometheus text format. A line that is none is an error, and so is a
    /// series that stands there twice.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples: Vec<Sample> = lines
            .map(|line| sample(line).with_context(|| format!("not a sample: {line}")))
            .collect::<Result<_>>()?;
        let mut seen = std::collections::BTreeSet::new();
        for sample in &samples {
            let key = (&sample.name, &sample.labels);
            ensure!(seen.insert(key), "a series stands there twice: {sample:?}");
        }
        Ok(Self { samples })
    }

    /// The samples of `name` that carry all of `labels`.
    pub fn select<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| {
            sample.name == name && labels.iter().all(|(label, value)| sample.label(label) == *value)
        })
    }

    /// Sum over [`Scrape::select`]; 0 where there is none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        // `sum` of nothing would be minus zero.
        self.select(name, labels).fold(0.0, |sum, sample| sum + sample.value)
    }

    /// [`Scrape::sum`] of a counter as a whole number.
    #[must_use]
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        // A counter is whole and far below 2^53.
        format!("{:.0}", self.sum(name, labels)).parse().unwrap_or(u64::MAX)
    }

    /// Sums of `name` per combination of the values of `by`.
    #[must_use]
    pub fn by(
        &self,
        name: &str,
        by: &[&str],
        labels: &[(&str, &str)],
    ) -> BTreeMap<Vec<String>, u64> {
        let mut sums: BTreeMap<Vec<String>, f64> = BTreeMap::new();
        for sample in self.select(name, labels) {
            let key = by.iter().map(|label| sample.label(label).to_owned()).collect();
            *sums.entry(key).or_default() += sample.value;
        }
        let whole = |sum: f64| format!("{sum:.0}").parse().unwrap_or(u64::MAX);
        sums.into_iter().map(|(key, sum)| (key, whole(sum))).collect()
    }
}

fn sample(line: &str) -> Result<Sample> {
    let (name, mut rest) = match line.find(['{', ' ']) {
        Some(at) => line.split_at(at),
        None => bail!("no value"),
    };
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            rest = rest.trim_start_matches([',', ' ']);
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (label, quoted) = rest.split_once("=\"").context("a label without a value")?;
            let (value, after) = unquoted(quoted)?;
            let twice = labels.insert(label.to_owned(), value).is_some();
            ensure!(!twice, "label {label} stands there twice");
            rest = after;
        }
    }
    let value = rest.split_whitespace().next().context("no value")?;
    let value = value.parse().with_context(|| format!("value {value}"))?;
    Ok(Sample { name: name.to_owned(), labels, value })
}

/// A label's value up to its closing quote, and what follows.
fn unquoted(text: &str) -> Result<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match characters.next().map(|(_, escaped)| escaped) {
                Some('n') => value.push('\n'),
                Some(escaped) => value.push(escaped),
                None => break,
            },
            _ => value.push(character),
        }
    }
    bail!("a label's value without an end")
}

#[cfg(test)]
mod tests {
    use super::Scrape;

    const TEXT: &str = "# HELP a words\n# TYPE a counter\na{x=\"1\",y=\"p\\\"q\\\\\"} 3\na{x=\"2\",y=\"}\"} 4 1700\nb 1e3\n";

    #[test]
    fn sums_select_by_label() {
        let scrape = Scrape::parse(TEXT).expect("parses");
        assert_eq!(scrape.count("a", &[]), 7);
        assert_eq!(scrape.count("a", &[("x", "2"), ("y", "}")]), 4);
        assert_eq!(scrape.count("a", &[("y", "p\"q\\")]), 3);
        assert_eq!(scrape.count("b", &[]), 1000);
        assert_eq!(scrape.count("c", &[]), 0);
        assert_eq!(scrape.by("a", &["x"], &[])[&vec!["1".to_owned()]], 3);
    }

    #[test]
    fn what_is_no_sample_is_refused() {
        assert!(Scrape::parse("a{x=\"1} 3").is_err());
        assert!(Scrape::parse("a three").is_err());
        assert!(Scrape::parse("a").is_err());
        assert!(Scrape::parse("a{x=\"1\"} 1\na{x=\"1\"} 2").is_err());
    }
}
