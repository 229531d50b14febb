//! From the configuration to what each stage may be told. Reads nothing itself, but the
//! host's name where none is given.

use std::sync::Arc;
use std::time::Duration;

use super::guard::Limits;
use crate::aggregation::{AggregationSettings, RpcNames};
use crate::attribution::names::{self, Glob, NameError, Network};
use crate::attribution::{AttributionSettings, HostPaths};
use crate::config::{self, Config, Level, RpcSemantics, Scope, SignalKind, Watch};
use crate::export::access_log::{AccessLogSettings, Format};
use crate::export::otlp::{self, Compression, OtlpSettings, Protocol, Retry, Target};
use crate::export::queue::{BatchLimits, Bounds};
use crate::export::spans::traced::TracedSettings;
use crate::export::spans::{ParentDecision, SpanSettings};
use crate::export::{ExportSettings, server::ServerSettings};
use crate::kernel::load::LoadSettings;
use crate::kubernetes::{self, WatchSettings};
use crate::protocol::route::{PatternError, RoutePattern};
use crate::protocol::{ProtocolSettings, RouteSettings};

/// A rule that its stage does not take.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// Of `names`.
    #[error("names: {0}")]
    Name(#[from] NameError),
    /// Of `routes.patterns`.
    #[error("routes.patterns: {0}")]
    Route(#[from] PatternError),
    /// Of `traces.traced_elsewhere`.
    #[error("traces.traced_elsewhere: {0}")]
    Traced(#[source] NameError),
    /// Of `mesh.proxies`.
    #[error("mesh.proxies: {0}")]
    Proxy(#[source] NameError),
    /// A header's value that is no text.
    #[error("otlp.headers: the value of `{0}` is no text; write it in visible ASCII")]
    Header(String),
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn bytes(size: config::Size) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}

/// For the kernel half.
#[must_use]
pub fn load(config: &Config) -> LoadSettings {
    let small = |size: config::Size| u32::try_from(size.0).unwrap_or(u32::MAX);
    LoadSettings {
        ring_bytes: small(config.capture.ring_bytes),
        head_prefix: small(config.capture.head_prefix),
        log_level: match config.log.kernel {
            Level::Off => 0,
            Level::Error => 1,
            Level::Warn => 2,
            Level::Info => 3,
            Level::Debug => 4,
        },
        report_ms: u32::try_from(config.capture.report_interval.as_millis()).unwrap_or(u32::MAX),
        ..LoadSettings::default()
    }
}

/// For the protocol stage.
#[must_use]
pub fn protocol(config: &Config) -> ProtocolSettings {
    ProtocolSettings {
        connections: config.protocol.connections,
        requests: config.protocol.requests,
        requests_per_connection: config.protocol.requests_per_connection,
        head_bytes: bytes(config.capture.head_prefix),
        report_ns: nanos(config.capture.report_interval),
        ..ProtocolSettings::default()
    }
}

/// For routes.
///
/// # Errors
/// A pattern that cannot be used.
pub fn routes(config: &Config) -> Result<RouteSettings, RuleError> {
    let pattern = |rule: &config::RouteRule| {
        RoutePattern::new(rule.service.as_deref().unwrap_or("*"), &rule.pattern)
    };
    Ok(RouteSettings {
        patterns: config.routes.patterns.iter().map(pattern).collect::<Result<_, _>>()?,
        learns: config.routes.learn,
        routes_per_service: config.routes.per_service,
        ..RouteSettings::default()
    })
}

/// For attribution.
///
/// # Errors
/// A name rule that cannot be used.
pub fn attribution(config: &Config) -> Result<AttributionSettings, RuleError> {
    Ok(AttributionSettings {
        names: config.names.iter().map(name_rule).collect::<Result<_, _>>()?,
        host_name: host(config).name,
        connections: config.protocol.connections,
        dns_addresses: config.dns.addresses,
        dns_floor_ns: nanos(config.dns.floor),
        dns_ceiling_ns: nanos(config.dns.ceiling),
        proxies: proxies(config).map_err(RuleError::Proxy)?,
        watches_kubernetes: watches_kubernetes(config),
        whole_cluster: config.kubernetes.scope == Scope::Cluster,
        watches_namespaces: watches_kubernetes(config) && config.mesh.istio_metrics,
        objects: config.kubernetes.objects,
        name_wait_ns: nanos(config.kubernetes.wait),
        cluster_name: config.kubernetes.cluster.as_deref().unwrap_or_default().into(),
        paths: paths(config),
        ..AttributionSettings::default()
    })
}

fn proxies(config: &Config) -> Result<Vec<Glob>, NameError> {
    config.mesh.proxies.iter().map(|name| name.0.parse()).collect()
}

/// Whether changes of Kubernetes' objects are to be had.
fn watches_kubernetes(config: &Config) -> bool {
    match config.kubernetes.watch {
        Watch::Always => true,
        Watch::Never => false,
        Watch::Auto => config.kubernetes.kubeconfig.is_some() || kubernetes::has_service_account(),
    }
}

/// For the watch of Kubernetes' objects; `None` where they are not watched.
#[must_use]
pub fn kubernetes(config: &Config) -> Option<WatchSettings> {
    let keys = &config.kubernetes;
    let node = || keys.node.clone().unwrap_or_else(|| host(config).name.to_string());
    watches_kubernetes(config).then(|| WatchSettings {
        kubeconfig: keys.kubeconfig.clone(),
        only_node: (keys.scope == Scope::Node).then(node),
        well_known_labels: keys.well_known_labels,
        namespaces: config.mesh.istio_metrics,
    })
}

/// What the agent may use.
#[must_use]
pub fn limits(config: &Config) -> Limits {
    let Config { limits, .. } = config;
    Limits { cpu: limits.cpu, memory: limits.memory.map(|size| size.0) }
}

/// The user that a running agent becomes where it is root; `None`: it stays. What a kubeconfig
/// names to be run (`exec`) belongs to the user that wrote it.
#[must_use]
pub fn user(config: &Config) -> Option<u32> {
    let runs_others = config.kubernetes.kubeconfig.is_some() && watches_kubernetes(config);
    u32::try_from(config.privileges.user).ok().filter(|user| *user != 0 && !runs_others)
}

/// Where the host's facts are read.
#[must_use]
pub fn paths(config: &Config) -> HostPaths {
    HostPaths {
        proc: config.host.proc.clone(),
        cgroup: config.host.cgroup.clone(),
        docker: config.containers.docker.clone(),
        storage: config.containers.storage.clone(),
        bundles: config.containers.bundles.clone(),
    }
}

fn name_rule(rule: &config::NameRule) -> Result<names::NameRule, NameError> {
    let glob = |text: &Option<String>| text.as_deref().map(str::parse::<Glob>).transpose();
    let matches = &rule.matches;
    let address = matches.address.map(|net| net.to_string().parse::<Network>()).transpose()?;
    Ok(names::NameRule {
        name: rule.name.clone(),
        namespace: rule.namespace.clone().unwrap_or_default(),
        port: matches.port,
        executable: glob(&matches.executable)?,
        unit: glob(&matches.unit)?,
        cgroup: glob(&matches.cgroup)?,
        address,
    })
}

/// The host as everything that leaves the process calls it.
#[must_use]
pub fn host(config: &Config) -> otlp::Host {
    let mut host = otlp::Host::read(&config.host.proc);
    if let Some(name) = &config.host.name {
        host.name = Arc::from(name.as_str());
    }
    host
}

/// For aggregation.
#[must_use]
pub fn aggregation(config: &Config) -> AggregationSettings {
    AggregationSettings {
        series_limit: config.series.limit,
        idle_ns: nanos(config.series.idle),
        connection_limit: config.protocol.connections,
        cluster: config.kubernetes.cluster.as_deref().unwrap_or_default().into(),
        istio: config.mesh.istio_metrics,
        rpc_names: rpc_names(config),
    }
}

fn rpc_names(config: &Config) -> RpcNames {
    match config.semantics.rpc {
        RpcSemantics::New => RpcNames::Stable,
        RpcSemantics::Both => RpcNames::Both,
        RpcSemantics::Old => RpcNames::Deprecated,
    }
}

/// For the HTTP server.
#[must_use]
pub fn server(config: &Config) -> ServerSettings {
    ServerSettings { address: config.listen, ..ServerSettings::default() }
}

/// For everything that is sent or written.
///
/// # Errors
/// A header that cannot be sent.
pub fn export(config: &Config) -> Result<ExportSettings, RuleError> {
    let parent =
        if config.traces.follow_parent { ParentDecision::Follow } else { ParentDecision::Ignore };
    Ok(ExportSettings {
        otlp: otlp_settings(config)?,
        spans: SpanSettings {
            parent,
            ratio: config.traces.sample_ratio,
            rpc_names: rpc_names(config),
        },
        traced: traced(config).map_err(RuleError::Traced)?,
        access_log: AccessLogSettings {
            stdout: match config.access_log.stdout {
                config::LogFormat::Off => None,
                config::LogFormat::Text => Some(Format::Text),
                config::LogFormat::Json => Some(Format::Json),
            },
            otlp: config.access_log.otlp,
            rpc_names: rpc_names(config),
            ..AccessLogSettings::default()
        },
    })
}

fn traced(config: &Config) -> Result<TracedSettings, NameError> {
    let traces = &config.traces;
    let services = traces.traced_elsewhere.iter().map(|name| name.0.parse());
    Ok(TracedSettings {
        services: services.collect::<Result<_, _>>()?,
        detects: traces.detect_traced,
    })
}

fn otlp_settings(config: &Config) -> Result<OtlpSettings, RuleError> {
    let target = |kind| config.destination(kind).map(target).transpose();
    let otlp = &config.otlp;
    Ok(OtlpSettings {
        metrics: target(SignalKind::Metrics)?,
        traces: target(SignalKind::Traces)?,
        logs: target(SignalKind::Logs)?,
        metric_interval: otlp.interval,
        retry: Retry { give_up_after: otlp.give_up_after, ..Retry::default() },
        queue: Bounds { items: otlp.queue, bytes: bytes(otlp.queue_bytes) },
        batch: BatchLimits {
            items: otlp.batch,
            bytes: bytes(otlp.batch_bytes),
            delay: otlp.batch_delay,
        },
    })
}

fn target(destination: config::Destination) -> Result<Target, RuleError> {
    let header = |(name, value): &(axum::http::HeaderName, axum::http::HeaderValue)| {
        let text = value.to_str().map_err(|_| RuleError::Header(name.to_string()))?;
        Ok((name.to_string(), text.to_owned()))
    };
    Ok(Target {
        endpoint: destination.endpoint.url().to_string(),
        protocol: match destination.protocol {
            config::OtlpProtocol::Grpc => Protocol::Grpc,
            config::OtlpProtocol::HttpProtobuf => Protocol::HttpProtobuf,
        },
        headers: destination.headers.0.iter().map(header).collect::<Result<_, RuleError>>()?,
        compression: match destination.compression {
            config::Compression::None => Compression::None,
            config::Compression::Gzip => Compression::Gzip,
        },
        timeout: destination.timeout,
        certificate: destination.certificate,
    })
}
