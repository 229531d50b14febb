//! From rounds to figures, and the section of `docs/performance.md` that holds them.

use std::fs;

use anyhow::{Context as _, Result};

use super::load::Kind;
use super::observed::KernelTime;
use super::{Effort, Pair, Results, Round};
use crate::workspace::root;

const PAGE: &str = "docs/performance.md";
const END: &str = "<!-- end -->";
const COMPARISON: &str = "| | median | range |\n|---|---|---|\n";

/// What is compared with runs without it, in turn, and what stands above its table; the first
/// one's stands above all.
pub const COMPARED: [(Kind, &str); 7] = [
    (Kind::Http1, ""),
    (
        Kind::Told,
        "The same where every call is told by a record (`capture.count_in_kernel: false`, as for \
         calls that do not repeat, or with spans), in turn with those rounds.",
    ),
    (
        Kind::Unique,
        "The same with paths of which none ever comes again, in turn with those rounds; wrk writes \
         each of them by a script, without the agent, too.",
    ),
    (
        Kind::Http2,
        "The same with HTTP/2, in turn with those rounds: h2load, 4 connections of 32 streams.",
    ),
    (Kind::Grpc, "The same with unary calls of gRPC, by h2load as before, to a server of tonic."),
    (
        Kind::Capture,
        "Instead of the agent, in turn with those rounds: `tcpdump -s 256 -w /dev/null`, which looks \
         at no packet.",
    ),
    (
        Kind::Proxy,
        "Instead of the agent, in turn with those rounds: Envoy between wrk and nginx, as a sidecar \
         of the server is, with its default statistics; two workers on the same two cores.",
    ),
];

/// Requests per second.
#[must_use]
pub fn rate(round: Round) -> f64 {
    round.requests / round.seconds
}

/// Microseconds of processor time per request that the agent adds.
fn added(pair: &Pair) -> f64 {
    let each = |round: Round| round.busy / round.requests * 1e6;
    each(pair.observed) - each(pair.bare)
}

fn over(pairs: &[Pair], figure: impl Fn(&Pair) -> f64) -> (f64, f64, f64) {
    let mut values: Vec<f64> = pairs.iter().map(figure).filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let first = values.first().copied().unwrap_or(f64::NAN);
    let last = values.last().copied().unwrap_or(f64::NAN);
    (median(&values), first, last)
}

/// Of sorted values.
fn median(values: &[f64]) -> f64 {
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

/// The figures as a table.
#[must_use]
pub fn text(results: &Results, effort: Effort) -> String {
    let mut rows = compared(&of(results, Kind::Http1));
    let mut single = |what: &str, value: String| rows.push(format!("| {what} | {value} | |"));
    let [rest, connections, churn] = results.memory.map(|bytes| bytes as f64 / 1e6);
    single("resident memory at rest, MB", format!("{rest:.1}"));
    single("resident memory with 10,000 connections, MB", format!("{connections:.1}"));
    single("resident memory after churn, MB", format!("{churn:.1}"));
    single("processor time without load, % of one core", format!("{:.3}", results.idle * 100.0));
    let (cpus, model, kernel) = machine();
    let Effort { rounds, seconds, .. } = effort;
    let mut text = format!(
        "`cargo xtask bench`: nginx (one worker) and wrk (32 connections) on a core each, both ends \
         of every call observed by the same two cores; {rounds} pairs of alternating rounds of \
         {seconds} s, figures compared within each pair. Linux {kernel}, {cpus} × {model}.\n\n\
         {COMPARISON}{}\n",
        rows.join("\n")
    );
    for (kind, what) in COMPARED.iter().filter(|(_, what)| !what.is_empty()) {
        let pairs = of(results, *kind);
        if !pairs.is_empty() {
            text.push_str(&format!("\n{what}\n\n{COMPARISON}{}\n", compared(&pairs).join("\n")));
        }
    }
    text.push_str(&format!(
        "\nNanoseconds in the kernel, as `kernel.bpf_stats_enabled` measures them, which takes most \
         of what an empty program shows; beside it on the same packets.\n\n\
         | | of a packet | an empty program | all programs, per request |\n|---|---|---|---|\n{}\n",
        in_the_kernel(results).join("\n")
    ));
    text
}

fn in_the_kernel(results: &Results) -> Vec<String> {
    let row = |(kind, time): &(Kind, KernelTime)| {
        let what = match kind {
            Kind::Many => "the same on 10,000 connections",
            Kind::Tls => "TLS, 32 connections, which are left alone",
            Kind::Large => "answers of 16 MiB: segments of a body and empty acknowledgements",
            _ => "HTTP/1, requests and short answers",
        };
        let KernelTime { per_packet, floor, per_request } = time;
        format!("| {what} | {per_packet:.0} | {floor:.0} | {per_request:.0} |")
    };
    results.kernel.iter().map(row).collect()
}

fn of(results: &Results, kind: Kind) -> Vec<Pair> {
    results.pairs.iter().filter(|(of, _)| *of == kind).map(|(_, pair)| *pair).collect()
}

/// What rounds with and without the agent tell.
fn compared(pairs: &[Pair]) -> Vec<String> {
    let mut rows = Vec::new();
    let mut row = |what: &str, (median, low, high): (f64, f64, f64), digits: usize| {
        rows.push(format!("| {what} | {median:.digits$} | {low:.digits$} to {high:.digits$} |"));
    };
    row(
        "throughput with it, of that without",
        over(pairs, |pair| rate(pair.observed) / rate(pair.bare)),
        3,
    );
    row("requests per second without", over(pairs, |pair| rate(pair.bare)), 0);
    row("processor time added per end of a call, µs", over(pairs, |pair| added(pair) / 2.0), 2);
    if pairs.iter().any(|pair| pair.observed.agent > 0.0) {
        row(
            "of that in the agent's process, µs",
            over(pairs, |pair| pair.observed.agent / pair.observed.requests * 1e6 / 2.0),
            2,
        );
    }
    rows
}

fn machine() -> (usize, String, String) {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let information = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = information
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    (cpus, model.to_owned(), kernel.trim().to_owned())
}

/// Prints figures and puts them into the page, in place of the earlier ones of that section,
/// unless they took little effort.
pub fn publish(effort: Effort, section: &str, text: &str) -> Result<()> {
    println!("\n{text}");
    if effort != Effort::WHOLE {
        return Ok(());
    }
    let path = root().join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("cannot read {PAGE}"))?;
    fs::write(&path, replaced(&page, section, text)?)?;
    println!("{PAGE}");
    Ok(())
}

fn replaced(page: &str, section: &str, text: &str) -> Result<String> {
    let begin = format!("<!-- written by `cargo xtask bench`{section} -->");
    let (before, rest) =
        page.split_once(&begin).with_context(|| format!("{PAGE} has no line {begin}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("{PAGE} has no line {END}"))?;
    Ok(format!("{before}{begin}\n{text}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(requests: f64, busy: f64) -> Round {
        Round { requests, seconds: 2.0, busy, agent: 0.4 }
    }

    #[test]
    fn pairs_are_compared_before_the_median_is_taken() {
        // A machine that runs at two speeds: each pair says 0.9.
        let pairs = [(100.0, 90.0), (200.0, 180.0), (150.0, 135.0)]
            .map(|(bare, with)| Pair { bare: round(bare, 4.0), observed: round(with, 4.0) });
        let (median, low, high) = over(&pairs, |pair| rate(pair.observed) / rate(pair.bare));
        for value in [median, low, high] {
            assert!((value - 0.9).abs() < 1e-9, "{value}");
        }
        assert!(over(&[], added).0.is_nan());
        assert!((super::median(&[1.0, 2.0, 4.0, 9.0]) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn the_page_keeps_what_people_wrote() {
        let begin = "<!-- written by `cargo xtask bench`, parts -->";
        let page = format!("# Title\n\nwords\n\n{begin}\nold\n{END}\nmore\n");
        let page = replaced(&page, ", parts", "new\n").unwrap();
        assert_eq!(page, format!("# Title\n\nwords\n\n{begin}\nnew\n{END}\nmore\n"));
        assert!(replaced(&page, "", "new").is_err());
    }
}
