//! From what was written to a configuration that is valid by construction.
//!
//! [`RawConfig`] is what stands in a file, the environment and the flags;
//! [`Config::read`] makes a [`Config`] of it or says everything that is wrong. No
//! stage reads variables or files of its own.

pub mod destination;
pub mod document;
pub mod environment;
pub mod guard;
mod kubernetes;
pub mod otlp;
pub mod problem;
pub mod reader;
pub mod reference;
pub mod rule;
pub mod scalar;
pub mod schema;
pub mod settings;
pub mod value;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use destination::{Endpoint, Headers};
pub use environment::Environment;
pub use guard::{Limits, Privileges};
pub use kubernetes::{Kubernetes, Mesh, Scope, Watch};
pub use otlp::{Compression, Destination, Otlp, OtlpProtocol, Signal, SignalKind};
pub use problem::{Error, Origin, Problem};
pub use reader::{Given, RawConfig, Read};
pub use rule::{NameMatch, NameRule, RouteRule, ServiceName};
pub use scalar::Size;
pub use settings::{
    AccessLog, Capture, Containers, Dns, Host, Level, Log, LogFormat, Prometheus, Protocol, Routes,
    RpcSemantics, Semantics, Series, Traces,
};

use reader::Reader;

/// Everything that can be configured; every value is within its range.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    pub listen: SocketAddr,
    /// How long a stop may take.
    pub stop_within: Duration,
    /// What the agent says about itself.
    pub log: Log,
    /// What leaves the kernel.
    pub capture: Capture,
    /// Bounds of what is remembered of connections.
    pub protocol: Protocol,
    /// How paths become routes.
    pub routes: Routes,
    /// Names for workloads.
    pub names: Vec<NameRule>,
    /// Where the facts of the host are.
    pub host: Host,
    /// Where container runtimes keep their state.
    pub containers: Containers,
    /// What is learnt from DNS.
    pub dns: Dns,
    /// `kubernetes`
    pub kubernetes: Kubernetes,
    /// `mesh`
    pub mesh: Mesh,
    /// What the agent may do once it runs.
    pub privileges: Privileges,
    /// What the agent may use.
    pub limits: Limits,
    /// Bounds of the metrics.
    pub series: Series,
    /// Which calls become spans.
    pub traces: Traces,
    /// One line for each call.
    pub access_log: AccessLog,
    /// Metrics for Prometheus.
    pub prometheus: Prometheus,
    /// Which semantic conventions are followed.
    pub semantics: Semantics,
    /// Telemetry by OTLP, for all signals.
    pub otlp: Otlp,
    /// What is different for metrics.
    pub otlp_metrics: Signal,
    /// What is different for traces.
    pub otlp_traces: Signal,
    /// What is different for logs.
    pub otlp_logs: Signal,
}

impl Config {
    /// Checks what was written; also says what was read, key by key.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of files, variables, flags.
    pub fn read(raw: &RawConfig) -> Result<(Self, Vec<Read>), Error> {
        let mut reader = Reader::new(raw);
        let config = Self::of(&mut reader);
        config.check_together(&mut reader);
        let read = reader.finish().map_err(Error::Invalid)?;
        Ok((config, read))
    }

    /// Where a signal goes; `None`: it is not sent.
    #[must_use]
    pub fn destination(&self, kind: SignalKind) -> Option<Destination> {
        let signal = match kind {
            SignalKind::Metrics => &self.otlp_metrics,
            SignalKind::Traces => &self.otlp_traces,
            SignalKind::Logs => &self.otlp_logs,
        };
        self.otlp.destination(kind, signal)
    }

    fn of(reader: &mut Reader<'_>) -> Self {
        Self {
            listen: settings::listen(reader),
            stop_within: settings::stop_within(reader),
            names: settings::names(reader),
            log: Log::read(reader),
            capture: Capture::read(reader),
            protocol: Protocol::read(reader),
            routes: Routes::read(reader),
            host: Host::read(reader),
            containers: Containers::read(reader),
            dns: Dns::read(reader),
            kubernetes: Kubernetes::read(reader),
            mesh: Mesh::read(reader),
            privileges: Privileges::read(reader),
            limits: Limits::read(reader),
            series: Series::read(reader),
            traces: Traces::read(reader),
            access_log: AccessLog::read(reader),
            prometheus: Prometheus::read(reader),
            semantics: Semantics::read(reader),
            otlp: Otlp::read(reader),
            otlp_metrics: Signal::read(reader, SignalKind::Metrics),
            otlp_traces: Signal::read(reader, SignalKind::Traces),
            otlp_logs: Signal::read(reader, SignalKind::Logs),
        }
    }

    /// What no key can know alone.
    fn check_together(&self, reader: &mut Reader<'_>) {
        if self.otlp.batch > self.otlp.queue {
            let fault = format!(
                "a message of {} does not fit into `otlp.queue`, which holds {}",
                self.otlp.batch, self.otlp.queue
            );
            reader.refuse("otlp.batch", &fault, "make `otlp.queue` at least as large");
        }
        if self.dns.floor > self.dns.ceiling {
            let fault = "the least time that a name counts is longer than the most";
            reader.refuse("dns.floor", fault, "make `dns.ceiling` at least as long");
        }
        if self.access_log.otlp && self.destination(SignalKind::Logs).is_none() {
            let fault = "there is no collector to send log records to";
            let remedy = "give `otlp.endpoint`, or `otlp.logs.endpoint`, and leave it enabled";
            reader.refuse("access_log.otlp", fault, remedy);
        }
    }
}

impl Default for Config {
    /// What applies where nothing is given.
    fn default() -> Self {
        Self::of(&mut Reader::new(&RawConfig::default()))
    }
}

impl RawConfig {
    /// Takes the text of a file, which is called `name` in messages.
    ///
    /// # Errors
    /// The text is not a document.
    pub fn with_text(mut self, name: &str, text: &str) -> Result<Self, Error> {
        let name: Arc<str> = Arc::from(name);
        let root = document::parse(text).map_err(|refused| {
            let problems = refused.into_iter().map(|refused| Problem::of_text(&name, refused));
            Error::Invalid(problems.collect())
        })?;
        self.file = root.map(|root| (name, root));
        Ok(self)
    }

    /// Takes a file.
    ///
    /// # Errors
    /// It cannot be read, or is not a document.
    pub fn with_file(self, path: &Path) -> Result<Self, Error> {
        let bytes = std::fs::read(path)
            .map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let offset = error.utf8_error().valid_up_to();
            Error::NotText { path: path.to_owned(), offset }
        })?;
        self.with_text(&path.display().to_string(), &text)
    }
}

#[cfg(test)]
mod tests;
