//! The keys of `kubernetes` and `mesh`.

use std::path::PathBuf;
use std::time::Duration;

use super::reader::{Bounds, Key, Reader};
use super::rule::ServiceName;
use super::settings::{seconds, section};
use super::value::choice;

choice! {
    /// Whether Kubernetes is watched.
    Watch, "a choice" {
        /// Where it can be asked.
        Auto = "auto",
        /// In any case.
        Always = "always",
        /// Not at all.
        Never = "never",
    }
}

choice! {
    /// Which pods are watched.
    Scope, "a scope" {
        /// All of the cluster.
        Cluster = "cluster",
        /// Those of this node.
        Node = "node",
    }
}

section! {
    /// Names from Kubernetes: of pods, their workloads, services and nodes. It needs the right to
    /// list and watch `pods`, `services`, `nodes`, and `endpointslices` of `discovery.k8s.io`,
    /// and `namespaces` for `mesh.istio_metrics`.
    Kubernetes = "kubernetes" {
        /// `auto`: where there is a pod's service account or a kubeconfig; `always`: without
        /// either it is an error; `never`.
        watch: Watch = Watch::Auto, Bounds::any();
        /// A kubeconfig whose current context is used; `null`: the pod's service account.
        kubeconfig: Option<PathBuf> = None, Bounds::any();
        /// `cluster`: all pods are watched, so that those at other nodes have names, too; `node`:
        /// only those of this node, for clusters where all are too many: what runs at others is
        /// called by the Service or the name that was asked for then, else by its address.
        /// Services and their endpoints are watched in either case.
        scope: Scope = Scope::Cluster, Bounds::any();
        /// Name of this node, for `scope: node`; `null`: the host's name.
        node: Option<String> = None, Bounds::any();
        /// Name of the cluster: `k8s.cluster.name` of what runs in it; `null`: left out.
        cluster: Option<String> = None, Bounds::any();
        /// A call waits at most so long for Kubernetes to tell of a pod that has just begun.
        wait: Duration = seconds(2), Bounds::between(Duration::ZERO, seconds(10));
        /// Labels `app.kubernetes.io/instance` and `app.kubernetes.io/name` name a service,
        /// before its workload does, and `app.kubernetes.io/version` says its version.
        well_known_labels: bool = false, Bounds::any();
        /// Pods that are remembered, and services, and slices of endpoints; further ones are
        /// left out and counted. A pod takes about 4 KB, a service 6 KB: for more, the agent
        /// needs a higher limit of memory than the chart's, too.
        objects: usize = 40_000, Bounds::between(100, 10_000_000);
    }
}

section! {
    /// Proxies of meshes: what passes them is counted where the applications stand.
    Mesh = "mesh" {
        /// Executables of further proxies, beside those of Istio and Linkerd, which are known: a
        /// pattern of a path, or of a name without slashes, such as `cilium-envoy`.
        proxies: Vec<ServiceName> = Vec::new(), Bounds::any();
        /// Metrics in Istio's shape (`istio_requests_total`, …) for edges of which no proxy of
        /// Istio's reports either end: unmeshed workloads, and ambient ones without a waypoint.
        /// Kiali and Istio's dashboards draw them then, and none twice. Whether there is a
        /// waypoint is said by the label `istio.io/use-waypoint` of a service, a pod or its
        /// namespace: without the right to list and watch `namespaces` there may always be one.
        /// `kubernetes.cluster` has to be the mesh's name of the cluster then, or nothing.
        istio_metrics: bool = false, Bounds::any();
    }
}
