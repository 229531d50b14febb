//! [`Sidecar`]: Envoy in a pod, configured the way Istio does, and what it counted by itself.

mod clusters;
mod listeners;
mod waypoint;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::certificates::{Credentials, public};
use super::istio;
use super::lab::Lab;
use super::relay::identity;
use super::sandbox::Sandbox;
use crate::cluster::{Pod, Port, Service};
use crate::http;
use crate::netns::enter;
use crate::process::Running;
use crate::workload::{Envoy, envoy};

/// A running sidecar.
#[derive(Debug)]
pub struct Sidecar {
    running: Running,
    /// The file that stands for its network namespace.
    netns: PathBuf,
}

/// A port of a service, and who answers there.
#[derive(Clone, Debug)]
struct Upstream {
    service: Service,
    port: Port,
    backends: Vec<Pod>,
}

impl Upstream {
    /// As Istio calls the cluster, and the route to it.
    fn name(&self) -> String {
        outbound(&self.service, self.port.number)
    }

    /// By which the other side recognises it in the handshake.
    fn server_name(&self) -> String {
        format!("outbound_.{}_._.{}", self.port.number, self.service.host())
    }

    fn endpoints(&self) -> Vec<SocketAddr> {
        let first = self.backends.iter().filter_map(|pod| pod.addresses.first());
        first.map(|address| SocketAddr::new(*address, self.port.target)).collect()
    }
}

/// How the cluster for a port of a service is called in [`Sidecar::counter`].
#[must_use]
pub fn outbound(service: &Service, port: u16) -> String {
    format!("outbound|{port}||{}", service.host())
}

/// How the cluster for an application's port is called.
#[must_use]
pub fn inbound(port: u16) -> String {
    format!("inbound|{port}||")
}

/// Whom a sidecar is taken for.
#[derive(Clone, Copy, Debug)]
pub struct Guise {
    /// Its container.
    pub container: &'static str,
    /// Its user and group.
    pub user: u32,
    /// Its executable.
    pub program: &'static str,
}

impl Guise {
    /// Istio's.
    pub const ISTIO: Self =
        Self { container: istio::CONTAINER, user: istio::USER, program: "envoy" };
    /// One of nobody whom the agent knows.
    pub const OTHER: Self = Self { container: "gate", user: 4242, program: "shop-gate" };
}

impl Sidecar {
    /// Why there can be none here; `None`: there can.
    #[must_use]
    pub fn missing() -> Option<String> {
        Lab::missing().or_else(Envoy::missing)
    }

    /// Starts one in a pod that was [`istio::injected`], with the rules that lead through
    /// it, for the application's `ports` and every service that the laboratory has now.
    pub fn start(lab: &Lab, sandbox: &Sandbox, guise: Guise, ports: &[u16]) -> Result<Self> {
        let own = lab.authority().issue(&sandbox.pod, &[])?;
        let has_v6 = lab.has_v6();
        let configuration = configuration(&sandbox.pod, &own, ports, &lab.services(), has_v6);
        let listening = [istio::OUTBOUND, istio::INBOUND];
        let started = Self::launch(lab, sandbox, guise, &configuration, &listening)?;
        istio::redirect(sandbox, guise.user, has_v6)?;
        Ok(started)
    }

    /// Starts Envoy as a gateway: a pod of its own, whose `port` leads to a port of a service.
    pub fn gateway(
        lab: &Lab,
        sandbox: &Sandbox,
        port: u16,
        (service, number): (&Service, u16),
    ) -> Result<Self> {
        let own = lab.authority().issue(&sandbox.pod, &[])?;
        let mut services = lab.services();
        services.retain(|(found, _)| found.key() == service.key());
        let (service, pods) = services.first().context("there is no such service")?;
        let to = (service, number, pods.as_slice());
        let configuration = gateway(&sandbox.pod, &own, port, to)?;
        Self::launch(lab, sandbox, Guise::ISTIO, &configuration, &[port])
    }

    /// Starts Envoy as the waypoint of a service: a pod of its own, to which ztunnel sends
    /// what is for the service.
    pub fn waypoint(lab: &Lab, sandbox: &Sandbox, service: &Service) -> Result<Self> {
        let own = lab.authority().issue(&sandbox.pod, &[identity(&sandbox.pod)])?;
        let mut upstreams = upstreams(&lab.services());
        upstreams.retain(|found| found.service.key() == service.key());
        let resources = waypoint::resources(&own, &upstreams, lab.has_v6());
        let configuration = bootstrap(&sandbox.pod, &resources);
        Self::launch(lab, sandbox, Guise::ISTIO, &configuration, &[waypoint::TUNNEL])
    }

    fn launch(
        lab: &Lab,
        sandbox: &Sandbox,
        guise: Guise,
        configuration: &Value,
        ports: &[u16],
    ) -> Result<Self> {
        let file = lab.folder().join(format!("{}.json", sandbox.pod.uid));
        public(&file, &configuration.to_string())?;
        let mut command = sandbox.place(guise.container)?.inside("setpriv")?;
        command.arg(format!("--reuid={}", guise.user)).arg(format!("--regid={}", guise.user));
        command.args(["--clear-groups", "--"]).arg(program(lab.folder(), guise.program)?);
        command.args(["--concurrency", "2", "--disable-hot-restart", "-l", "warning", "-c"]);
        let mut running = Running::start(command.arg(&file))?;
        for port in ports.iter().chain(&[istio::ADMINISTRATION]) {
            running.wait_for_listener(&sandbox.place(guise.container)?, *port)?;
        }
        Ok(Self { running, netns: sandbox.netns()?.path() })
    }

    /// What it printed.
    #[must_use]
    pub fn output(&self) -> String {
        self.running.output()
    }

    /// Its counters and gauges whose name contains `part`.
    pub fn counters(&self, part: &str) -> Result<BTreeMap<String, u64>> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, istio::ADMINISTRATION));
        let answer = enter(&self.netns, || http::get(address, STATISTICS))??;
        counters(&answer.body, part)
    }

    /// A counter of a cluster, as `upstream_rq_total`; 0 before it first counts.
    pub fn counter(&self, cluster: &str, name: &str) -> Result<u64> {
        let name = format!("cluster.{cluster}.{name}");
        Ok(self.counters(&name)?.get(&name).copied().unwrap_or_default())
    }

    /// Waits until a counter has a value: it is counted a moment after the answer.
    pub fn wait_for(&self, cluster: &str, name: &str, value: u64) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let found = self.counter(cluster, name)?;
            if found == value {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{name} of {cluster} is {found}, not {value}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// What is asked of the administration for everything that was counted.
pub const STATISTICS: &str = "/stats?format=json&histogram_buckets=none";

/// Counters and gauges whose name contains `part`, of what was answered to [`STATISTICS`].
pub fn counters(answer: &str, part: &str) -> Result<BTreeMap<String, u64>> {
    let stats: Value = serde_json::from_str(answer).context("/stats")?;
    let stats = stats["stats"].as_array().context("/stats without stats")?;
    let named = stats.iter().filter_map(|stat| {
        let name = stat["name"].as_str().filter(|name| name.contains(part))?;
        Some((name.to_owned(), stat["value"].as_u64()?))
    });
    Ok(named.collect())
}

/// What Envoy is told as the sidecar of a pod, for the application's `ports` and for services
/// with the pods behind them.
#[must_use]
pub fn configuration(
    pod: &Pod,
    own: &Credentials,
    ports: &[u16],
    services: &[(Service, Vec<Pod>)],
    has_v6: bool,
) -> Value {
    let upstreams = upstreams(services);
    let resources = json!({
        "listeners": listeners::all(own, ports, &upstreams, has_v6),
        "clusters": clusters::all(own, ports, &upstreams, has_v6)
    });
    bootstrap(pod, &resources)
}

/// What it is told as a pod of its own, whose `port` leads to a port of a service with these
/// pods behind it: by mutual TLS, where they have sidecars.
pub fn gateway(
    pod: &Pod,
    own: &Credentials,
    port: u16,
    (service, number, backends): (&Service, u16, &[Pod]),
) -> Result<Value> {
    let mut upstreams = upstreams(&[(service.clone(), backends.to_vec())]);
    upstreams.retain(|found| found.port.number == number);
    let upstream = upstreams.first().context("the service has no such port")?;
    let resources = json!({
        "listeners": [listeners::gateway(upstream, port)],
        "clusters": clusters::all(own, &[], &upstreams, false)
    });
    Ok(bootstrap(pod, &resources))
}

/// Every port of every service.
fn upstreams(services: &[(Service, Vec<Pod>)]) -> Vec<Upstream> {
    let mut upstreams = Vec::new();
    for (service, backends) in services {
        for port in service.ports.clone() {
            let (service, backends) = (service.clone(), backends.clone());
            upstreams.push(Upstream { service, port, backends });
        }
    }
    upstreams
}

/// The route to a cluster for everything, with Istio's attempts unless it is told otherwise.
fn retried(cluster: &str) -> Value {
    json!({
        "match": { "prefix": "/" },
        "route": { "cluster": cluster, "timeout": "0s", "retry_policy": {
            "retry_on":
                "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
            "retriable_status_codes": [503],
            "num_retries": 2,
            "host_selection_retry_max_attempts": 5,
            "retry_host_predicate": [{
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": { "@type":
                    "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                }
            }]
        } }
    })
}

/// Envoy where a user that is not root can start it.
fn program(folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    if !path.exists() {
        let binary = envoy::binary()?;
        // Another name of the file costs nothing; on another device it takes a copy.
        std::fs::hard_link(&binary, &path)
            .or_else(|_| std::fs::copy(&binary, &path).map(drop))
            .with_context(|| binary.display().to_string())?;
    }
    Ok(path)
}

fn bootstrap(pod: &Pod, resources: &Value) -> Value {
    let address = pod.addresses.first().map(ToString::to_string).unwrap_or_default();
    let domain = format!("{}.svc.cluster.local", pod.namespace);
    let own = pod.labels.get("app").map_or("app", String::as_str);
    json!({
        "node": {
            "id": format!("sidecar~{address}~{}.{}~{domain}", pod.name, pod.namespace),
            "cluster": format!("{own}.{}", pod.namespace)
        },
        "bootstrap_extensions": [{
            "name": "envoy.bootstrap.internal_listener",
            "typed_config": { "@type":
                "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener"
            }
        }],
        "admin": { "address": clusters::address("127.0.0.1", istio::ADMINISTRATION) },
        "static_resources": resources
    })
}
