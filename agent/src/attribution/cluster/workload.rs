//! [`Workload`]: what a pod is an instance of, by the rules of OpenTelemetry and of Istio.
//!
//! The two differ and both are kept: `service.name` after OpenTelemetry's non-normative
//! "Kubernetes attributes", `canonical` after Istio's application requirements. The owner
//! is read off the pod alone, as both projects do: no other object is asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Keys of labels and annotations.
const WORKLOAD_NAME: &str = "service.istio.io/workload-name";
const CANONICAL_NAME: &str = "service.istio.io/canonical-name";
const CANONICAL_REVISION: &str = "service.istio.io/canonical-revision";
const INSTANCE: &str = "app.kubernetes.io/instance";
const NAME: &str = "app.kubernetes.io/name";
const VERSION: &str = "app.kubernetes.io/version";
const OTEL: &str = "resource.opentelemetry.io/";
const TEMPLATE_HASH: &str = "pod-template-hash";
const ROLLOUTS_HASH: &str = "rollouts-pod-template-hash";
/// Labels of pods that a proxy is alone in: Istio's gateways and waypoints.
const GATEWAYS: [&str; 3] =
    ["gateway.networking.k8s.io/gateway-name", "istio.io/gateway-name", "gateway.istio.io/managed"];
/// Digits of a minute since 1970 that a CronJob puts behind its name.
const CRON_DIGITS: std::ops::RangeInclusive<usize> = 8..=10;

/// Kind of what controls a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WorkloadKind {
    /// `Deployment`.
    Deployment,
    /// `ReplicaSet`, of no deployment.
    ReplicaSet,
    /// `StatefulSet`.
    StatefulSet,
    /// `DaemonSet`.
    DaemonSet,
    /// `CronJob`.
    CronJob,
    /// `Job`, of no cron job.
    Job,
    /// Another controller, such as a `Rollout`.
    Other,
    /// None: the pod stands for itself.
    Pod,
}

impl WorkloadKind {
    fn of(kind: &str) -> Self {
        match kind {
            "Deployment" => Self::Deployment,
            "ReplicaSet" => Self::ReplicaSet,
            "StatefulSet" => Self::StatefulSet,
            "DaemonSet" => Self::DaemonSet,
            "CronJob" => Self::CronJob,
            "Job" => Self::Job,
            _ => Self::Other,
        }
    }

    /// OpenTelemetry's resource attribute with the workload's name, where there is one.
    #[must_use]
    pub fn attribute(self) -> Option<&'static str> {
        match self {
            Self::Deployment => Some("k8s.deployment.name"),
            Self::ReplicaSet => Some("k8s.replicaset.name"),
            Self::StatefulSet => Some("k8s.statefulset.name"),
            Self::DaemonSet => Some("k8s.daemonset.name"),
            Self::CronJob => Some("k8s.cronjob.name"),
            Self::Job => Some("k8s.job.name"),
            Self::Other | Self::Pod => None,
        }
    }
}

/// Which mesh proxy stands in a pod beside its application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sidecar {
    /// None.
    #[default]
    None,
    /// Istio's.
    Istio,
    /// Linkerd's.
    Linkerd,
    /// The pod is nothing but a proxy: a gateway or a waypoint, a node of its own.
    Gateway,
}

/// What pods are instances of. Shared by all pods of which it is true.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Workload {
    /// Kubernetes namespace.
    pub namespace: Arc<str>,
    /// Kind of the controller.
    pub kind: WorkloadKind,
    /// Name of the controller, by Istio's rule: `source_workload`, `destination_workload`.
    pub name: Arc<str>,
    /// OpenTelemetry's `service.name`.
    pub service: Arc<str>,
    /// OpenTelemetry's `service.namespace`.
    pub service_namespace: Arc<str>,
    /// OpenTelemetry's `service.version`; empty where nothing says it.
    pub version: Arc<str>,
    /// Istio's canonical service.
    pub canonical: Arc<str>,
    /// Istio's canonical revision.
    pub revision: Arc<str>,
    /// What Istio calls the application; empty where no label says it.
    pub app: Arc<str>,
    /// What Istio calls its version; empty where no label says it.
    pub app_version: Arc<str>,
    /// Service account, by which certificates of meshes name it.
    pub account: Arc<str>,
    /// Mesh proxy beside the application.
    pub sidecar: Sidecar,
}

/// What of a pod says what it is an instance of.
#[derive(Clone, Copy, Debug)]
pub struct PodFacts<'a> {
    /// Namespace.
    pub namespace: &'a str,
    /// Name.
    pub name: &'a str,
    /// Whether `metadata.generateName` is set: made from a template.
    pub is_generated: bool,
    /// Kind and name of the controlling owner.
    pub owner: Option<(&'a str, &'a str)>,
    /// Labels.
    pub labels: &'a BTreeMap<String, String>,
    /// Annotations.
    pub annotations: &'a BTreeMap<String, String>,
    /// Service account.
    pub account: &'a str,
    /// Names of its containers, and of those that start before and stay.
    pub containers: &'a [&'a str],
    /// Whether `app.kubernetes.io/*` labels name a service.
    pub well_known_labels: bool,
}

impl PodFacts<'_> {
    fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn said(&self, attribute: &str) -> Option<&str> {
        let key = format!("{OTEL}{attribute}");
        self.annotations.get(&key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// `service.instance.id` as an annotation says it.
    #[must_use]
    pub fn instance(&self) -> Option<&str> {
        self.said("service.instance.id")
    }

    fn well_known(&self, key: &str) -> Option<&str> {
        self.label(key).filter(|_| self.well_known_labels)
    }

    /// Kind and name of what controls the pod.
    fn controller(&self) -> (WorkloadKind, &str) {
        let Some((kind, name)) = self.owner else { return (WorkloadKind::Pod, self.name) };
        // The mirror of a static pod is owned by its node, and no instance of it.
        if kind == "Node" || !(self.is_generated || kind == "StatefulSet") {
            return (WorkloadKind::Pod, self.name);
        }
        match kind {
            "ReplicaSet" => {
                let deployment = self.label(TEMPLATE_HASH).and_then(|hash| stem(name, hash));
                let rollout = self.label(ROLLOUTS_HASH).and_then(|hash| stem(name, hash));
                match (rollout, deployment) {
                    (Some(name), _) => (WorkloadKind::Other, name),
                    (None, Some(name)) => (WorkloadKind::Deployment, name),
                    (None, None) => (WorkloadKind::ReplicaSet, name),
                }
            }
            "ReplicationController" => {
                (WorkloadKind::Other, self.label("deploymentconfig").unwrap_or(name))
            }
            "Job" => match name.rsplit_once('-') {
                Some((cron, minute)) if is_minute(minute) => (WorkloadKind::CronJob, cron),
                _ => (WorkloadKind::Job, name),
            },
            _ => (WorkloadKind::of(kind), name),
        }
    }

    fn sidecar(&self) -> Sidecar {
        let has = |name: &str| self.containers.contains(&name);
        let alone = self.containers.len() == 1;
        if GATEWAYS.iter().any(|key| self.label(key).is_some()) || (has("istio-proxy") && alone) {
            Sidecar::Gateway
        } else if has("istio-proxy") {
            Sidecar::Istio
        } else if has("linkerd-proxy") {
            Sidecar::Linkerd
        } else {
            Sidecar::None
        }
    }

    /// What the pod is an instance of.
    #[must_use]
    pub fn workload(&self) -> Workload {
        let (kind, controller) = self.controller();
        let name = self.label(WORKLOAD_NAME).unwrap_or(controller);
        let service = self
            .said("service.name")
            .or_else(|| self.well_known(INSTANCE))
            .or_else(|| self.well_known(NAME))
            .unwrap_or(controller);
        let version =
            self.said("service.version").or_else(|| self.well_known(VERSION)).unwrap_or("");
        let first =
            |keys: [&str; 2]| keys.into_iter().find_map(|key| self.label(key)).unwrap_or("");
        let canonical = [CANONICAL_NAME, NAME, "app"].iter().find_map(|key| self.label(key));
        let revision = [CANONICAL_REVISION, VERSION, "version"];
        let revision = revision.iter().find_map(|key| self.label(key));
        Workload {
            namespace: self.namespace.into(),
            kind,
            name: name.into(),
            service: service.into(),
            service_namespace: self.said("service.namespace").unwrap_or(self.namespace).into(),
            version: version.into(),
            canonical: canonical.unwrap_or(name).into(),
            revision: revision.unwrap_or("latest").into(),
            app: first([NAME, "app"]).into(),
            app_version: first([VERSION, "version"]).into(),
            account: self.account.into(),
            sidecar: self.sidecar(),
        }
    }
}

/// `name` without `-suffix`.
fn stem<'a>(name: &'a str, suffix: &str) -> Option<&'a str> {
    name.strip_suffix(suffix)?.strip_suffix('-').filter(|stem| !stem.is_empty())
}

fn is_minute(text: &str) -> bool {
    CRON_DIGITS.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn of(
        name: &str,
        owner: Option<(&str, &str)>,
        labels: &[(&str, &str)],
        annotations: &[(&str, &str)],
        well_known_labels: bool,
    ) -> Workload {
        PodFacts {
            namespace: "shop",
            name,
            is_generated: owner.is_some_and(|(kind, _)| kind != "Node"),
            owner,
            labels: &map(labels),
            annotations: &map(annotations),
            account: "default",
            containers: &["app"],
            well_known_labels,
        }
        .workload()
    }

    #[test]
    fn controllers_are_read_off_the_pod() {
        use WorkloadKind::{
            CronJob, DaemonSet, Deployment, Job, Other, Pod, ReplicaSet, StatefulSet,
        };
        let hash: &[(&str, &str)] = &[("pod-template-hash", "7d9f")];
        for (name, owner, labels, kind, workload) in [
            ("cart-7d9f-x", Some(("ReplicaSet", "cart-7d9f")), hash, Deployment, "cart"),
            ("cart-x", Some(("ReplicaSet", "cart")), hash, ReplicaSet, "cart"),
            (
                "cart-7d9f-x",
                Some(("ReplicaSet", "cart-7d9f")),
                &[("rollouts-pod-template-hash", "7d9f")][..],
                Other,
                "cart",
            ),
            ("db-0", Some(("StatefulSet", "db")), &[], StatefulSet, "db"),
            ("log-x", Some(("DaemonSet", "log")), &[], DaemonSet, "log"),
            ("report-28000000-x", Some(("Job", "report-28000000")), &[], CronJob, "report"),
            ("report-1-x", Some(("Job", "report-1")), &[], Job, "report-1"),
            ("solo", None, &[], Pod, "solo"),
            ("etcd-node1", Some(("Node", "node1")), &[], Pod, "etcd-node1"),
        ] {
            let found = of(name, owner, labels, &[], false);
            assert_eq!((found.kind, &*found.name), (kind, workload), "{name}");
            assert_eq!((&*found.service, &*found.canonical), (workload, workload), "{name}");
            assert_eq!(&*found.service_namespace, "shop");
        }
    }

    #[test]
    fn opentelemetry_and_istio_name_by_their_own_rules() {
        let labels: &[(&str, &str)] = &[
            ("app", "a"),
            ("app.kubernetes.io/name", "n"),
            ("app.kubernetes.io/instance", "i"),
            ("app.kubernetes.io/version", "3"),
        ];
        let found = of("solo", None, labels, &[], true);
        assert_eq!((&*found.service, &*found.canonical), ("i", "n"));
        assert_eq!((&*found.version, &*found.revision), ("3", "3"));
        let found = of("solo", None, labels, &[], false);
        assert_eq!((&*found.service, &*found.canonical), ("solo", "n"), "labels only where asked");
        assert_eq!((&*found.version, &*found.revision), ("", "3"));
        let said: &[(&str, &str)] = &[
            ("resource.opentelemetry.io/service.name", "told"),
            ("resource.opentelemetry.io/service.namespace", "team"),
            ("resource.opentelemetry.io/service.version", "9"),
        ];
        let found = of("solo", None, labels, said, true);
        assert_eq!(
            (&*found.service, &*found.service_namespace, &*found.version),
            ("told", "team", "9")
        );
        let found = of("solo", None, &[("app", "a")], &[], true);
        assert_eq!((&*found.canonical, &*found.revision), ("a", "latest"));
        let found = of("solo", None, &[("service.istio.io/workload-name", "w")], &[], false);
        assert_eq!((&*found.name, &*found.canonical, &*found.service), ("w", "w", "solo"));
    }

    #[test]
    fn a_proxy_beside_an_application_is_no_node_of_its_own() {
        let empty = BTreeMap::new();
        let facts = PodFacts {
            namespace: "shop",
            name: "solo",
            is_generated: false,
            owner: None,
            labels: &empty,
            annotations: &empty,
            account: "",
            containers: &[],
            well_known_labels: false,
        };
        for (containers, sidecar) in [
            (&["app"][..], Sidecar::None),
            (&["app", "istio-proxy"], Sidecar::Istio),
            (&["linkerd-proxy", "app"], Sidecar::Linkerd),
            (&["istio-proxy"], Sidecar::Gateway),
        ] {
            assert_eq!(PodFacts { containers, ..facts }.workload().sidecar, sidecar);
        }
        let labels = map(&[("gateway.networking.k8s.io/gateway-name", "waypoint")]);
        let gateway = PodFacts { labels: &labels, containers: &["istio-proxy", "x"], ..facts };
        assert_eq!(gateway.workload().sidecar, Sidecar::Gateway);
    }
}
