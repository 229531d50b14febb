//! [`OtlpSettings`]: where OTLP goes and how hard it is tried; reads no environment
//! itself, only through the look-up it is given.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::export::queue::{BatchLimits, Bounds};

/// What is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Series.
    Metrics,
    /// Spans.
    Traces,
    /// Access log.
    Logs,
}

impl Signal {
    /// Every signal.
    pub const ALL: [Self; 3] = [Self::Metrics, Self::Traces, Self::Logs];

    /// `metrics`, `traces`, `logs`: as in a URL's path and in the agent's own metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Traces => "traces",
            Self::Logs => "logs",
        }
    }
}

/// The wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC over HTTP/2; customary port 4317.
    Grpc,
    /// `http/protobuf`; customary port 4318.
    HttpProtobuf,
}

/// Compression of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    None,
    /// gzip.
    Gzip,
}

/// Where one signal goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `http://host:4317` for gRPC; the whole URL (`http://host:4318/v1/traces`) for HTTP.
    pub endpoint: String,
    /// gRPC or HTTP.
    pub protocol: Protocol,
    /// Sent with every request; they may hold credentials and are never logged.
    pub headers: Vec<(String, String)>,
    /// Of requests.
    pub compression: Compression,
    /// Of one attempt.
    pub timeout: Duration,
    /// A PEM file of authorities to trust instead of the system's.
    pub certificate: Option<PathBuf>,
}

/// How what may be retried is retried: exponential backoff with jitter, or what the
/// collector asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// First delay.
    pub initial: Duration,
    /// Longest delay, also of what a collector may ask for.
    pub longest: Duration,
    /// Drop a batch after trying for so long. `None`: keep trying; the queue's bounds
    /// alone decide what is lost.
    pub give_up_after: Option<Duration>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(500),
            longest: Duration::from_secs(30),
            give_up_after: None,
        }
    }
}

/// All of it. The default exports nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpSettings {
    /// Series; `None`: not exported.
    pub metrics: Option<Target>,
    /// Spans; `None`: not exported.
    pub traces: Option<Target>,
    /// Access log; `None`: not exported. The access log itself is off by default.
    pub logs: Option<Target>,
    /// Time between two exports of metrics.
    pub metric_interval: Duration,
    /// Of what may be retried.
    pub retry: Retry,
    /// Of spans and of logs, each.
    pub queue: Bounds,
    /// When a batch of spans or logs is sent.
    pub batch: BatchLimits,
}

impl Default for OtlpSettings {
    fn default() -> Self {
        Self {
            metrics: None,
            traces: None,
            logs: None,
            metric_interval: Duration::from_secs(60),
            retry: Retry::default(),
            queue: Bounds::default(),
            batch: BatchLimits::default(),
        }
    }
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{name}: {value:?} {reason}; {remedy}")]
pub struct SettingError {
    /// The environment variable or key.
    pub name: String,
    /// What it holds; empty for what may be secret.
    pub value: String,
    /// Why it cannot be used.
    pub reason: &'static str,
    /// What to write instead.
    pub remedy: &'static str,
}

impl Target {
    /// `signal` at `base` (a collector's address without a path of its own), with defaults.
    #[must_use]
    pub fn new(base: &str, protocol: Protocol, signal: Signal) -> Self {
        Self {
            endpoint: match protocol {
                Protocol::Grpc => base.to_owned(),
                Protocol::HttpProtobuf => {
                    format!("{}/v1/{}", base.trim_end_matches('/'), signal.name())
                }
            },
            protocol,
            headers: Vec::new(),
            compression: Compression::None,
            timeout: Duration::from_secs(10),
            certificate: None,
        }
    }
}

impl OtlpSettings {
    /// All signals to one collector, with defaults.
    #[must_use]
    pub fn to(base: &str, protocol: Protocol) -> Self {
        let target = |signal| Some(Target::new(base, protocol, signal));
        Self {
            metrics: target(Signal::Metrics),
            traces: target(Signal::Traces),
            logs: target(Signal::Logs),
            ..Self::default()
        }
    }

    /// Where `signal` goes.
    #[must_use]
    pub fn target(&self, signal: Signal) -> Option<&Target> {
        match signal {
            Signal::Metrics => self.metrics.as_ref(),
            Signal::Traces => self.traces.as_ref(),
            Signal::Logs => self.logs.as_ref(),
        }
    }

    /// From the standard `OTEL_*` variables as `look_up` knows them. A signal is exported
    /// where an endpoint is named for it or for all; empty values count as unset.
    ///
    /// # Errors
    ///
    /// A variable with a value that cannot be used.
    pub fn from_environment(
        look_up: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingError> {
        let environment = Environment { look_up };
        let mut settings = Self::default();
        if environment.boolean("OTEL_SDK_DISABLED")? {
            return Ok(settings);
        }
        settings.metrics = environment.target(Signal::Metrics)?;
        settings.traces = environment.target(Signal::Traces)?;
        settings.logs = environment.target(Signal::Logs)?;
        if let Some(interval) = environment.milliseconds("OTEL_METRIC_EXPORT_INTERVAL")? {
            settings.metric_interval = interval;
        }
        if let Some(delay) = environment.milliseconds("OTEL_BSP_SCHEDULE_DELAY")? {
            settings.batch.delay = delay;
        }
        if let Some(items) = environment.count("OTEL_BSP_MAX_QUEUE_SIZE")? {
            settings.queue.items = items;
        }
        if let Some(items) = environment.count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE")? {
            settings.batch.items = items;
        }
        Ok(settings)
    }
}

/// The variables, read as what they must be.
struct Environment<F> {
    look_up: F,
}

impl<F: Fn(&str) -> Option<String>> Environment<F> {
    fn get(&self, name: &str) -> Option<String> {
        (self.look_up)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// The signal's own variable, else the one for all; with the name that it was found under.
    fn either(&self, signal: Signal, key: &str) -> Option<(String, String)> {
        let own = format!("OTEL_EXPORTER_OTLP_{}_{key}", signal.name().to_uppercase());
        let common = format!("OTEL_EXPORTER_OTLP_{key}");
        [own, common].into_iter().find_map(|name| self.get(&name).map(|value| (name, value)))
    }

    fn target(&self, signal: Signal) -> Result<Option<Target>, SettingError> {
        let exporter = format!("OTEL_{}_EXPORTER", signal.name().to_uppercase());
        match self.get(&exporter) {
            Some(value) if value.eq_ignore_ascii_case("none") => return Ok(None),
            Some(value) if !value.split(',').any(|name| name.trim() == "otlp") => {
                return refuse(
                    &exporter,
                    &value,
                    "is not an exporter of meshtap",
                    "write otlp or none",
                );
            }
            _ => {}
        }
        let Some((name, endpoint)) = self.either(signal, "ENDPOINT") else { return Ok(None) };
        let protocol = self.protocol(signal)?;
        let own = name != "OTEL_EXPORTER_OTLP_ENDPOINT";
        let endpoint = match protocol {
            Protocol::Grpc if !endpoint.contains("://") => {
                let insecure = self.either(signal, "INSECURE");
                let plain = insecure.is_some_and(|(_, value)| value.eq_ignore_ascii_case("true"));
                format!("{}://{endpoint}", if plain { "http" } else { "https" })
            }
            _ => endpoint,
        };
        let mut target = Target::new(&endpoint, protocol, signal);
        if own {
            target.endpoint = endpoint;
        }
        target.headers = self.headers(signal)?;
        target.compression = self.compression(signal)?;
        if let Some((name, _)) = self.either(signal, "TIMEOUT") {
            target.timeout = self.milliseconds(&name)?.unwrap_or(target.timeout);
        }
        target.certificate =
            self.either(signal, "CERTIFICATE").map(|(_, path)| PathBuf::from(path));
        Ok(Some(target))
    }

    fn protocol(&self, signal: Signal) -> Result<Protocol, SettingError> {
        match self.either(signal, "PROTOCOL") {
            None => Ok(Protocol::HttpProtobuf),
            Some((_, value)) if value == "http/protobuf" => Ok(Protocol::HttpProtobuf),
            Some((_, value)) if value == "grpc" => Ok(Protocol::Grpc),
            Some((name, value)) => {
                refuse(&name, &value, "is not supported", "write grpc or http/protobuf")
            }
        }
    }

    fn compression(&self, signal: Signal) -> Result<Compression, SettingError> {
        match self.either(signal, "COMPRESSION") {
            None => Ok(Compression::None),
            Some((_, value)) if value == "none" => Ok(Compression::None),
            Some((_, value)) if value == "gzip" => Ok(Compression::Gzip),
            Some((name, value)) => refuse(&name, &value, "is not supported", "write gzip or none"),
        }
    }

    /// `key=value,key=value`, percent-encoded like W3C baggage. The value is not repeated in the error.
    fn headers(&self, signal: Signal) -> Result<Vec<(String, String)>, SettingError> {
        let Some((name, list)) = self.either(signal, "HEADERS") else { return Ok(Vec::new()) };
        list.split(',')
            .filter(|pair| !pair.trim().is_empty())
            .map(|pair| {
                let (key, value) = pair.split_once('=')?;
                let key = key.trim().to_ascii_lowercase();
                (!key.is_empty()).then_some(())?;
                Some((key, percent_decoded(value.trim())?))
            })
            .collect::<Option<Vec<_>>>()
            .map_or_else(
                || refuse(&name, "", "is not a list of headers", "write key=value,key=value"),
                Ok,
            )
    }

    fn milliseconds(&self, name: &str) -> Result<Option<Duration>, SettingError> {
        let count = self.count(name)?;
        Ok(count.map(|count| Duration::from_millis(u64::try_from(count).unwrap_or(u64::MAX))))
    }

    fn count(&self, name: &str) -> Result<Option<usize>, SettingError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.parse() {
            Ok(count) if count > 0 => Ok(Some(count)),
            _ => refuse(name, &value, "is not a whole number above 0", "write one, like 10000"),
        }
    }

    fn boolean(&self, name: &str) -> Result<bool, SettingError> {
        match self.get(name) {
            None => Ok(false),
            Some(value) if value.eq_ignore_ascii_case("false") => Ok(false),
            Some(value) if value.eq_ignore_ascii_case("true") => Ok(true),
            Some(value) => refuse(name, &value, "is not a truth value", "write true or false"),
        }
    }
}

fn refuse<T>(
    name: &str,
    value: &str,
    reason: &'static str,
    remedy: &'static str,
) -> Result<T, SettingError> {
    Err(SettingError { name: name.to_owned(), value: value.to_owned(), reason, remedy })
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = tail;
            continue;
        }
        // Digits alone: a sign would be read as part of a number.
        let digits = tail.get(..2).filter(|hex| hex.iter().all(u8::is_ascii_hexdigit))?;
        let digits = std::str::from_utf8(digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<OtlpSettings, SettingError> {
        OtlpSettings::from_environment(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_named_exports_nothing() {
        assert_eq!(read(&[]), Ok(OtlpSettings::default()));
        assert_eq!(read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]), Ok(OtlpSettings::default()));
        let disabled =
            [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"), ("OTEL_SDK_DISABLED", "TRUE")];
        assert_eq!(read(&disabled), Ok(OtlpSettings::default()));
    }

    #[test]
    fn the_common_endpoint_gets_the_signals_path_and_an_own_one_does_not() {
        let settings = read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/base/"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:1/own"),
            ("OTEL_LOGS_EXPORTER", "none"),
        ])
        .unwrap();
        assert_eq!(settings.metrics.unwrap().endpoint, "http://c:4318/base/v1/metrics");
        assert_eq!(settings.traces.unwrap().endpoint, "http://t:1/own");
        assert_eq!(settings.logs, None);
    }

    #[test]
    fn a_signals_own_variable_wins() {
        let settings = read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "none"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Basic%20a%3D%3D, x-scope = 1"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "5000"),
        ])
        .unwrap();
        let (metrics, traces) = (settings.metrics.unwrap(), settings.traces.unwrap());
        assert_eq!(metrics.protocol, Protocol::Grpc);
        assert_eq!(metrics.endpoint, "http://c:4317");
        assert_eq!(metrics.compression, Compression::Gzip);
        assert_eq!(traces.compression, Compression::None);
        assert_eq!(traces.timeout, Duration::from_millis(1_500));
        assert_eq!(traces.certificate, Some(PathBuf::from("/ca.pem")));
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(traces.headers, [header("authorization", "Basic a=="), header("x-scope", "1")]);
        assert_eq!(settings.logs.unwrap().protocol, Protocol::HttpProtobuf);
        assert_eq!(settings.metric_interval, Duration::from_secs(5));
    }

    #[test]
    fn a_grpc_endpoint_without_a_scheme_follows_insecure() {
        let base = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4317"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_INSECURE", "true"),
        ];
        let settings = read(&base).unwrap();
        assert_eq!(settings.metrics.unwrap().endpoint, "https://c:4317");
        assert_eq!(settings.traces.unwrap().endpoint, "http://c:4317");
    }

    #[test]
    fn impossible_values_name_variable_reason_and_remedy() {
        let refused = |name: &'static str, value: &'static str| {
            let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
            read(&[endpoint, (name, value)]).unwrap_err().to_string()
        };
        assert_eq!(
            refused("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            "OTEL_EXPORTER_OTLP_PROTOCOL: \"http/json\" is not supported; write grpc or http/protobuf"
        );
        assert!(refused("OTEL_EXPORTER_OTLP_TIMEOUT", "0").contains("above 0"));
        assert!(refused("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd").contains("gzip or none"));
        assert!(refused("OTEL_TRACES_EXPORTER", "zipkin").contains("otlp or none"));
        assert!(refused("OTEL_METRIC_EXPORT_INTERVAL", "60s").contains("whole number"));
        let secret = refused("OTEL_EXPORTER_OTLP_HEADERS", "secret-token");
        assert!(!secret.contains("secret-token"), "{secret}");
        assert!(refused("OTEL_EXPORTER_OTLP_HEADERS", "a=%zz").contains("list of headers"));
        assert!(refused("OTEL_EXPORTER_OTLP_HEADERS", "a=%+f").contains("list of headers"));
    }
}
