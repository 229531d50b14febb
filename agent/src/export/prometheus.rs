//! The Prometheus and OpenMetrics text of a snapshot.
//!
//! Refuses to serve it: that is the server's. **The same snapshot gives the same text**,
//! in the order of the families and, within one, of the label text.

mod pieces;

use std::fmt::Write;
use std::ops::Range;

use crate::aggregation::definition::PrometheusName;
use crate::aggregation::labels::instance;
use crate::aggregation::{Family, Label, Metric, Series, Snapshot, Value};

pub use pieces::Pieces;

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text, version 0.0.4.
    Text,
    /// OpenMetrics text, version 1.0.0: units and start times too.
    OpenMetrics,
}

impl Format {
    /// The value of `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The format that an `Accept` header prefers; [`Format::Text`] where it names none.
    #[must_use]
    pub fn negotiate(accept: Option<&str>) -> Self {
        let (mut open, mut text) = (0.0_f32, 0.0_f32);
        for range in accept.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let mut weight: f32 = 1.0;
            let mut is_known_version = true;
            for part in parts {
                let (name, value) = part.split_once('=').unwrap_or((part, ""));
                let (name, value) = (name.trim(), value.trim().trim_matches('"'));
                if name.eq_ignore_ascii_case("q") {
                    weight = value.parse().unwrap_or(0.0);
                } else if name.eq_ignore_ascii_case("version") {
                    is_known_version = matches!(value, "1.0.0" | "0.0.1" | "0.0.4");
                }
            }
            match media.as_str() {
                "application/openmetrics-text" if is_known_version => open = weight.max(open),
                "text/plain" | "text/*" | "*/*" => text = weight.max(text),
                _ => {}
            }
        }
        // At equal weight the format that says more; a wildcard never means it.
        if open > 0.0 && open >= text { Self::OpenMetrics } else { Self::Text }
    }
}

/// Appends the whole exposition to `out`. At the full budget of series that is some 40 MB:
/// a server sends [`Pieces`].
pub fn render(snapshot: &Snapshot, format: Format, out: &mut String) {
    render_target(format, out);
    for family in &snapshot.families {
        render_family(family, format, out);
    }
    render_end(format, out);
}

/// Appends `target_info`, with which an exposition begins: who exposes.
pub fn render_target(format: Format, out: &mut String) {
    let family = if format == Format::OpenMetrics { "target" } else { "target_info" };
    let kind = if format == Format::OpenMetrics { "info" } else { "gauge" };
    let version = env!("CARGO_PKG_VERSION");
    let _ = writeln!(out, "# HELP {family} The agent that observes.");
    let _ = writeln!(out, "# TYPE {family} {kind}");
    let _ =
        writeln!(out, "target_info{{service_name=\"meshtap\",service_version=\"{version}\"}} 1");
}

/// Appends one family.
pub fn render_family(family: &Family, format: Format, out: &mut String) {
    let mut opened = OpenFamily::of(family, format, out);
    while opened.render_next(family, format, out) {}
}

/// A family whose header stands and whose series follow one by one.
#[derive(Debug)]
struct OpenFamily {
    name: PrometheusName,
    labels: String,
    // Where a series' labels stand, and its place in the family.
    order: std::vec::IntoIter<(Range<usize>, usize)>,
}

impl OpenFamily {
    fn of(family: &Family, format: Format, out: &mut String) -> Self {
        let name = PrometheusName::of(family);
        render_header(family, &name, format, out);
        let mut labels = String::new();
        let mut order = Vec::with_capacity(family.series.len());
        for (place, series) in family.series.iter().enumerate() {
            let start = labels.len();
            render_labels(series, &mut labels);
            order.push((start..labels.len(), place));
        }
        order.sort_by(|(a, _), (b, _)| labels[a.clone()].cmp(&labels[b.clone()]));
        Self { name, labels, order: order.into_iter() }
    }

    /// Appends the next series; `false`: there is none.
    fn render_next(&mut self, family: &Family, format: Format, out: &mut String) -> bool {
        let Some((labels, place)) = self.order.next() else { return false };
        let mut writer = Writer { name: &self.name, format, metric: family.metric, out };
        if let Some(series) = family.series.get(place) {
            writer.series(&self.labels[labels], series);
        }
        true
    }
}

/// Appends what ends an exposition.
pub fn render_end(format: Format, out: &mut String) {
    if format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
}

fn render_header(family: &Family, name: &PrometheusName, format: Format, out: &mut String) {
    let kind = match family.metric {
        Metric::Counter => "counter",
        Metric::Gauge => "gauge",
        Metric::Histogram(_) => "histogram",
    };
    // OpenMetrics names the family, the older format the samples.
    let shown = match format {
        Format::Text => name.sample(),
        Format::OpenMetrics => name.family.clone(),
    };
    let _ = write!(out, "# HELP {shown} ");
    escape(family.help, format == Format::OpenMetrics, out);
    let _ = write!(out, "\n# TYPE {shown} {kind}\n");
    if let (Format::OpenMetrics, Some(unit)) = (format, name.unit) {
        let _ = writeln!(out, "# UNIT {shown} {unit}");
    }
}

/// `name="value",` for each label, the workload's own first.
fn render_labels(series: &Series, out: &mut String) {
    if let Some(identity) = &series.resource {
        render_label("service.name", &identity.name, out);
        render_label("service.namespace", &identity.namespace, out);
        if let Some((name, value)) = instance(identity) {
            render_label(name, value, out);
        }
    }
    for (name, value) in &series.labels {
        match value {
            Label::Text(text) => render_label(name, text, out),
            Label::Integer(number) => {
                push_name(name, out);
                let _ = write!(out, "=\"{number}\",");
            }
        }
    }
}

fn render_label(name: &str, value: &str, out: &mut String) {
    if value.is_empty() {
        return;
    }
    push_name(name, out);
    out.push_str("=\"");
    escape(value, true, out);
    out.push_str("\",");
}

fn push_name(name: &str, out: &mut String) {
    out.extend(name.chars().map(|letter| if letter == '.' { '_' } else { letter }));
}

/// Escapes backslash and line feed, and quotes where the format wants it.
fn escape(text: &str, with_quotes: bool, out: &mut String) {
    if !text.contains(['\\', '\n', '"']) {
        out.push_str(text);
        return;
    }
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if with_quotes => out.push_str("\\\""),
            other => out.push(other),
        }
    }
}

/// Writes the samples of one family.
struct Writer<'a> {
    name: &'a PrometheusName,
    format: Format,
    metric: Metric,
    out: &'a mut String,
}

impl Writer<'_> {
    fn series(&mut self, labels: &str, series: &Series) {
        match (&series.value, self.metric) {
            (Value::Number(number), _) => {
                self.begin(if self.name.is_counter { "_total" } else { "" }, labels, None);
                self.end(*number);
            }
            (Value::Histogram { buckets, sum }, Metric::Histogram(bounds)) => {
                self.histogram(labels, bounds, buckets, *sum);
            }
            // A histogram without bounds cannot be shown; definitions do not make one.
            (Value::Histogram { .. }, _) => return,
        }
        if self.format == Format::OpenMetrics && self.metric != Metric::Gauge {
            self.begin("_created", labels, None);
            let (seconds, rest) =
                (series.start_unix_ns / 1_000_000_000, series.start_unix_ns % 1_000_000_000);
            // Not through a float: it holds no nanoseconds at this size.
            let _ = writeln!(self.out, " {seconds}.{rest:09}");
        }
    }

    fn histogram(&mut self, labels: &str, bounds: &[f64], buckets: &[u64], sum: f64) {
        let mut below = 0;
        for (place, count) in buckets.iter().enumerate() {
            below += count;
            self.begin("_bucket", labels, Some(bounds.get(place).copied()));
            let _ = writeln!(self.out, " {below}");
        }
        self.begin("_sum", labels, None);
        self.end(sum);
        self.begin("_count", labels, None);
        let _ = writeln!(self.out, " {below}");
    }

    /// Name and labels of a sample; `bound` for a bucket, `Some(None)` for the last.
    fn begin(&mut self, suffix: &str, labels: &str, bound: Option<Option<f64>>) {
        self.out.push_str(&self.name.family);
        self.out.push_str(suffix);
        let Some(bound) = bound else {
            if let Some(labels) = labels.strip_suffix(',') {
                self.out.push('{');
                self.out.push_str(labels);
                self.out.push('}');
            }
            return;
        };
        self.out.push('{');
        self.out.push_str(labels);
        let _ = match (bound, self.format) {
            (None, _) => write!(self.out, "le=\"+Inf\"}}"),
            // OpenMetrics wants bounds to be floats, Prometheus' own text has `1`.
            (Some(bound), Format::OpenMetrics) => write!(self.out, "le=\"{bound:?}\"}}"),
            (Some(bound), Format::Text) => write!(self.out, "le=\"{bound}\"}}"),
        };
    }

    fn end(&mut self, number: f64) {
        let _ = if number.is_nan() {
            writeln!(self.out, " NaN")
        } else if number.is_infinite() {
            writeln!(self.out, " {}Inf", if number > 0.0 { '+' } else { '-' })
        } else {
            writeln!(self.out, " {number}")
        };
    }
}

#[cfg(test)]
mod tests;
