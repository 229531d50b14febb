//! What the attribution stage may be told: names, bounds, graces, and where files lie.

use std::path::PathBuf;
use std::sync::Arc;

use super::names::{Glob, NameRule};

const SECOND: u64 = 1_000_000_000;

/// Settings of [`super::Attributor`]; the defaults suit a host of any size.
#[derive(Clone, Debug)]
pub struct AttributionSettings {
    /// Names given by the operator, first match wins.
    pub names: Vec<NameRule>,
    /// `host.name` of every local identity; empty: left out.
    pub host_name: Arc<str>,
    /// Connections remembered; beyond it the longest silent one is forgotten.
    pub connections: usize,
    /// Processes remembered, those that ended a moment ago included.
    pub processes: usize,
    /// cgroups remembered.
    pub cgroups: usize,
    /// Containers whose names are remembered.
    pub containers: usize,
    /// Distinct identities alive at one time; beyond it: `unknown`.
    pub identities: usize,
    /// Addresses with a name from the host's DNS answers.
    pub dns_addresses: usize,
    /// Executables of further mesh proxies.
    pub proxies: Vec<Glob>,
    /// Whether changes of Kubernetes' objects come in.
    pub watches_kubernetes: bool,
    /// Whether they are those of the whole cluster, not of this node alone.
    pub whole_cluster: bool,
    /// Whether namespaces are among them, and it is to be known what passes a waypoint.
    pub watches_namespaces: bool,
    /// `k8s.cluster.name` of every pod; empty: left out.
    pub cluster_name: Arc<str>,
    /// Pods of Kubernetes remembered, and as many services and slices of endpoints.
    pub objects: usize,
    /// How long a call waits for Kubernetes to tell of its ends.
    pub name_wait_ns: u64,
    /// First requests waiting for the other end's observation.
    pub unmatched_requests: usize,
    /// Questions a second about addresses that the node may have translated.
    pub translations: usize,
    /// How long a closed connection still resolves.
    pub closed_grace_ns: u64,
    /// How long an ended process still names its connections.
    pub exited_grace_ns: u64,
    /// A DNS answer counts for at least this long, whatever its TTL.
    pub dns_floor_ns: u64,
    /// And at most this long.
    pub dns_ceiling_ns: u64,
    /// Where the host's files lie.
    pub paths: HostPaths,
}

impl Default for AttributionSettings {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            host_name: Arc::from(""),
            connections: 65_536,
            processes: 16_384,
            cgroups: 4_096,
            containers: 2_048,
            identities: 16_384,
            dns_addresses: 8_192,
            proxies: Vec::new(),
            watches_kubernetes: false,
            whole_cluster: true,
            watches_namespaces: false,
            cluster_name: Arc::from(""),
            objects: 40_000,
            name_wait_ns: 2 * SECOND,
            unmatched_requests: 8_192,
            translations: 20_000,
            closed_grace_ns: 5 * SECOND,
            exited_grace_ns: 30 * SECOND,
            dns_floor_ns: 60 * SECOND,
            dns_ceiling_ns: 24 * 3_600 * SECOND,
            paths: HostPaths::default(),
        }
    }
}

/// Where the host's facts are read; an agent in a container mounts them elsewhere.
#[derive(Clone, Debug)]
pub struct HostPaths {
    /// The host's `/proc`.
    pub proc: PathBuf,
    /// Root of the cgroup v2 hierarchy; `None`: wherever it is mounted.
    pub cgroup: Option<PathBuf>,
    /// docker's data roots.
    pub docker: Vec<PathBuf>,
    /// podman's and CRI-O's storage roots.
    pub storage: Vec<PathBuf>,
    /// Directories with a directory per containerd namespace, then per container, with an OCI bundle.
    pub bundles: Vec<PathBuf>,
}

impl Default for HostPaths {
    fn default() -> Self {
        Self {
            proc: "/proc".into(),
            cgroup: None,
            docker: vec!["/var/lib/docker".into()],
            storage: vec!["/var/lib/containers/storage".into(), "/run/containers/storage".into()],
            bundles: vec!["/run/containerd/io.containerd.runtime.v2.task".into()],
        }
    }
}
