//! The Prometheus name of a metric, by OpenTelemetry's compatibility rules.

use super::super::snapshot::{Family, Metric};

/// A family's name in Prometheus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrometheusName {
    /// Without `_total`: `http_server_request_duration_seconds`.
    pub family: String,
    /// Word of the unit, where the name ends in it: `seconds`.
    pub unit: Option<&'static str>,
    /// Whether samples end in `_total`.
    pub is_counter: bool,
}

impl PrometheusName {
    /// The name of a family. A name with dots gets its unit as a suffix; one without is
    /// a Prometheus name already.
    #[must_use]
    pub fn of(family: &Family) -> Self {
        let is_counter = family.metric == Metric::Counter;
        let word = unit_word(family.unit);
        let mut name = family.name.replace('.', "_");
        if is_counter && let Some(stem) = name.strip_suffix("_total") {
            name.truncate(stem.len());
        }
        let mut unit = word.filter(|word| ends_in(&name, word));
        if let Some(word) = word
            && unit.is_none()
            && family.name.contains('.')
        {
            name.push('_');
            name.push_str(word);
            unit = Some(word);
        }
        Self { family: name, unit, is_counter }
    }

    /// What a counter's or gauge's samples are called.
    #[must_use]
    pub fn sample(&self) -> String {
        if self.is_counter { format!("{}_total", self.family) } else { self.family.clone() }
    }
}

fn ends_in(name: &str, word: &str) -> bool {
    name.strip_suffix(word).is_some_and(|stem| stem.ends_with('_'))
}

fn unit_word(unit: &str) -> Option<&'static str> {
    match unit {
        "s" => Some("seconds"),
        "ms" => Some("milliseconds"),
        "By" => Some("bytes"),
        // `{connection}` is an annotation, not a unit.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(
        name: &'static str,
        unit: &'static str,
        metric: Metric,
    ) -> (String, Option<&'static str>) {
        let family = Family { name, help: "", unit, metric, series: Vec::new() };
        let name = PrometheusName::of(&family);
        (name.sample(), name.unit)
    }

    #[test]
    fn units_and_total_become_suffixes() {
        let histogram = Metric::Histogram(&[]);
        let cases = [
            (
                name("http.server.request.duration", "s", histogram),
                "http_server_request_duration_seconds",
                Some("seconds"),
            ),
            (
                name("rpc.server.duration", "ms", histogram),
                "rpc_server_duration_milliseconds",
                Some("milliseconds"),
            ),
            (
                name("meshtap.tcp.io", "By", Metric::Counter),
                "meshtap_tcp_io_bytes_total",
                Some("bytes"),
            ),
            (
                name("meshtap.tcp.resets", "{reset}", Metric::Counter),
                "meshtap_tcp_resets_total",
                None,
            ),
            (name("a.bytes", "By", Metric::Gauge), "a_bytes", Some("bytes")),
            (name("a.megabytes", "By", Metric::Gauge), "a_megabytes_bytes", Some("bytes")),
        ];
        for ((sample, unit), expected, expected_unit) in cases {
            assert_eq!(sample, expected);
            assert_eq!(unit, expected_unit);
        }
    }

    #[test]
    fn names_without_dots_stay() {
        assert_eq!(
            name("process_cpu_seconds_total", "s", Metric::Counter),
            ("process_cpu_seconds_total".into(), Some("seconds"))
        );
        assert_eq!(
            name("traces_service_graph_request_total", "", Metric::Counter),
            ("traces_service_graph_request_total".into(), None)
        );
    }
}
