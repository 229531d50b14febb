//! Real telemetry back ends, built from source once and kept outside of the clone:
//! the OpenTelemetry Collector, Jaeger and Prometheus.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::cache::{has, prepared};
use crate::go::{go, lacking};
use crate::http;
use crate::netns::Place;
use crate::process::{PATIENCE, Running, fixture, free_port, output, write};
use crate::scrape::{Sample, Scrape};

/// A program that is built here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// OTLP in; OTLP and a Prometheus page out.
    Collector,
    /// OTLP in, traces by its own interface.
    Jaeger,
    /// Scrapes, and takes OTLP.
    Prometheus,
}

impl Component {
    fn name(self) -> &'static str {
        match self {
            Self::Collector => "otelcol",
            Self::Jaeger => "jaeger",
            Self::Prometheus => "prometheus",
        }
    }

    fn package(self) -> &'static [&'static str] {
        match self {
            Self::Collector => &["."],
            Self::Jaeger => &["github.com/jaegertracing/jaeger/cmd/all-in-one"],
            // Without service discovery, most of what there is to compile goes.
            Self::Prometheus => {
                &["-tags", "remove_all_sd", "github.com/prometheus/prometheus/cmd/prometheus"]
            }
        }
    }

    fn source(self) -> PathBuf {
        fixture("components").join(self.name())
    }

    /// Whether nothing needs to be built.
    #[must_use]
    pub fn is_built(self) -> bool {
        has(self.name(), &self.source(), self.name())
    }

    /// Why it cannot be built here; `None`: it can. Fetches its modules.
    #[must_use]
    pub fn lacking(self) -> Option<String> {
        lacking(self.name(), &self.source(), self.package())
    }

    /// Builds it, unless that was done before, and gives its path.
    pub fn build(self) -> Result<PathBuf> {
        let folder = prepared(self.name(), &self.source(), self.name(), |folder| {
            let made = folder.join("unfinished");
            let mut command = go(folder)?;
            command.args(["build", "-mod=mod", "-o"]).arg(&made).args(self.package());
            output(&mut command)?;
            Ok(std::fs::rename(&made, folder.join(self.name()))?)
        })?;
        Ok(folder.join(self.name()))
    }
}

/// A running component.
#[derive(Debug)]
pub struct Backend {
    running: Running,
    _folder: tempfile::TempDir,
    /// Where it takes OTLP by gRPC; 0: nowhere.
    pub grpc: u16,
    /// Where it is asked, and takes OTLP by HTTP if it is Prometheus.
    pub web: u16,
}

impl Backend {
    /// A Prometheus that takes OTLP and scrapes `targets` (ports) every second.
    pub fn prometheus(targets: &[u16]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let targets: Vec<String> = targets.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let configuration = folder.path().join("prometheus.yaml");
        write(
            &configuration,
            &format!(
                "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n  \
                 - job_name: meshtap\n    honor_labels: true\n    static_configs: [{{targets: {targets:?}}}]\n"
            ),
        )?;
        let web = free_port();
        let mut command = Command::new(Component::Prometheus.build()?);
        command
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("store").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{web}"))
            .arg("--web.enable-otlp-receiver");
        Self::start(&mut command, folder, 0, web)
    }

    /// A Jaeger that takes OTLP.
    pub fn jaeger() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let [grpc, web, http, admin, query] = [(); 5].map(|()| free_port());
        let mut command = Command::new(Component::Jaeger.build()?);
        command
            .arg(format!("--collector.otlp.grpc.host-port=127.0.0.1:{grpc}"))
            .arg(format!("--collector.otlp.http.host-port=127.0.0.1:{http}"))
            .arg(format!("--query.http-server.host-port=127.0.0.1:{web}"))
            .arg(format!("--query.grpc-server.host-port=127.0.0.1:{query}"))
            .arg(format!("--admin.http.host-port=127.0.0.1:{admin}"))
            .arg(format!("--collector.grpc-server.host-port=127.0.0.1:{}", free_port()))
            .arg(format!("--collector.http-server.host-port=127.0.0.1:{}", free_port()));
        command.env("COLLECTOR_OTLP_ENABLED", "true");
        Self::start(&mut command, folder, grpc, web)
    }

    /// A Collector that sends traces to an OTLP port and serves metrics as a Prometheus page.
    pub fn collector(traces: u16) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let [grpc, web] = [(); 2].map(|()| free_port());
        let configuration = folder.path().join("collector.yaml");
        write(
            &configuration,
            &format!(
                "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{grpc}'}}}}}}}}\n\
                 processors: {{batch: {{timeout: 200ms}}}}\n\
                 exporters:\n  otlp: {{endpoint: '127.0.0.1:{traces}', tls: {{insecure: true}}}}\n  \
                 prometheus: {{endpoint: '127.0.0.1:{web}', resource_to_telemetry_conversion: {{enabled: true}}}}\n\
                 service:\n  telemetry: {{metrics: {{level: none}}}}\n  pipelines:\n    \
                 traces: {{receivers: [otlp], processors: [batch], exporters: [otlp]}}\n    \
                 metrics: {{receivers: [otlp], processors: [batch], exporters: [prometheus]}}\n"
            ),
        )?;
        let mut command = Command::new(Component::Collector.build()?);
        command.arg(format!("--config=file:{}", configuration.display()));
        Self::start(&mut command, folder, grpc, web)
    }

    fn start(
        command: &mut Command,
        folder: tempfile::TempDir,
        grpc: u16,
        web: u16,
    ) -> Result<Self> {
        let mut running = Running::start(command)?;
        running.wait_for_listener(&Place::HERE, web)?;
        if grpc != 0 {
            running.wait_for_listener(&Place::HERE, grpc)?;
        }
        Ok(Self { running, _folder: folder, grpc, web })
    }

    /// Asks its web interface and parses the JSON that comes.
    pub fn ask(&self, path: &str) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = http::get(([127, 0, 0, 1], self.web).into(), path)?;
            // It listens a moment before it is ready, and says so until then.
            if answer.status != 503 {
                return serde_json::from_str(&answer.body)
                    .with_context(|| format!("{path}: {}", answer.body));
            }
            if Instant::now() > deadline {
                bail!("a back end is not ready: {}", self.running.output());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What a PromQL expression selects now, as if it stood on one page.
    pub fn read(&self, expression: &str) -> Result<Scrape> {
        let escaped: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.ask(&format!("/api/v1/query?query={escaped}"))?;
        let Some(found) = answer["data"]["result"].as_array() else {
            bail!("{expression}: {answer}");
        };
        let samples = found.iter().map(sample).collect::<Option<_>>();
        Ok(Scrape { samples: samples.with_context(|| format!("{expression}: {answer}"))? })
    }

    /// [`Backend::read`] until `enough` says so; what there is when patience ends is given
    /// all the same.
    pub fn read_until(&self, expression: &str, enough: impl Fn(&Scrape) -> bool) -> Result<Scrape> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let scrape = self.read(expression)?;
            if enough(&scrape) || Instant::now() > deadline {
                return Ok(scrape);
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

/// `{"metric": {"__name__": …, label: value, …}, "value": [time, "value"]}`
fn sample(found: &Value) -> Option<Sample> {
    let mut labels = BTreeMap::new();
    for (label, value) in found["metric"].as_object()? {
        labels.insert(label.clone(), value.as_str()?.to_owned());
    }
    let name = labels.remove("__name__").unwrap_or_default();
    Some(Sample { name, labels, value: found["value"][1].as_str()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::Backend;
    use crate::part::Part;

    #[test]
    fn back_ends_are_built_and_answer() {
        let parts = [Part::Prometheus, Part::Jaeger, Part::Collector];
        if let Some(reason) = parts.into_iter().find_map(Part::missing) {
            crate::skip!(reason);
        }
        let prometheus = Backend::prometheus(&[]).expect("starts");
        assert_eq!(prometheus.read("vector(3)").expect("answers").count("", &[]), 3);
        let jaeger = Backend::jaeger().expect("starts");
        assert!(jaeger.ask("/api/services").expect("answers").is_object());
        Backend::collector(jaeger.grpc).expect("starts");
    }
}
