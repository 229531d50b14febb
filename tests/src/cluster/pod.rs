//! [`Pod`], as the controllers of each kind of workload make it.

mod object;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use super::container::{Container, Role};
use super::kubelet::{Quality, Runtime};
use super::names::{digits, suffix, uid};
use super::owner::Owner;

/// A pod. Every field may be changed; [`Pod::object`] is what the API server has of it then.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `metadata.generateName`; empty: it was created by its name.
    pub generate_name: String,
    /// Uid.
    pub uid: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// The controller.
    pub owner: Option<Owner>,
    /// Name of its node; empty: not scheduled yet.
    pub node: String,
    /// Address of its node.
    pub host: IpAddr,
    /// Whether it uses the node's network: its addresses are the node's then.
    pub host_network: bool,
    /// Its addresses, of each family at most one; none: not given yet.
    pub addresses: Vec<IpAddr>,
    /// Service account.
    pub account: String,
    /// Containers of every role.
    pub containers: Vec<Container>,
    /// `Pending`, `Running`, `Succeeded` or `Failed`.
    pub phase: &'static str,
    /// Whether it is being deleted.
    pub is_terminating: bool,
    /// Class of service.
    pub quality: Quality,
    /// What runs its containers.
    pub runtime: Runtime,
}

impl Pod {
    /// A pod that nobody controls, with the container `app`, on the node `node-1`.
    #[must_use]
    pub fn bare(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            generate_name: String::new(),
            uid: uid(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            owner: None,
            node: "node-1".to_owned(),
            host: Ipv4Addr::new(10, 250, 0, 1).into(),
            host_network: false,
            addresses: Vec::new(),
            account: "default".to_owned(),
            containers: vec![Container::new("app", Role::Application)],
            phase: "Running",
            is_terminating: false,
            quality: Quality::BestEffort,
            runtime: Runtime::Containerd,
        }
    }

    fn generated(namespace: &str, base: &str, owner: Owner) -> Self {
        let mut pod = Self::bare(namespace, &format!("{base}{}", suffix(5)));
        pod.generate_name = base.to_owned();
        pod.owner = Some(owner);
        pod
    }

    /// Of a Deployment, with the label `app`, as most have it.
    #[must_use]
    pub fn of_deployment(namespace: &str, deployment: &str) -> Self {
        let hash = suffix(10);
        let set = format!("{deployment}-{hash}");
        Self::generated(namespace, &format!("{set}-"), Owner::new("apps/v1", "ReplicaSet", &set))
            .label("app", deployment)
            .label("pod-template-hash", &hash)
    }

    /// Of a ReplicaSet that belongs to no Deployment.
    #[must_use]
    pub fn of_replica_set(namespace: &str, set: &str) -> Self {
        Self::generated(namespace, &format!("{set}-"), Owner::new("apps/v1", "ReplicaSet", set))
            .label("app", set)
    }

    /// Of an Argo Rollout.
    #[must_use]
    pub fn of_rollout(namespace: &str, rollout: &str) -> Self {
        let hash = suffix(10);
        let set = format!("{rollout}-{hash}");
        Self::generated(namespace, &format!("{set}-"), Owner::new("apps/v1", "ReplicaSet", &set))
            .label("app", rollout)
            .label("rollouts-pod-template-hash", &hash)
    }

    /// Of a StatefulSet, by its number.
    #[must_use]
    pub fn of_stateful_set(namespace: &str, set: &str, number: u32) -> Self {
        let mut pod = Self::generated(
            namespace,
            &format!("{set}-"),
            Owner::new("apps/v1", "StatefulSet", set),
        );
        pod.name = format!("{set}-{number}");
        let name = pod.name.clone();
        pod.label("app", set)
            .label("apps.kubernetes.io/pod-index", &number.to_string())
            .label("controller-revision-hash", &format!("{set}-{}", suffix(10)))
            .label("statefulset.kubernetes.io/pod-name", &name)
    }

    /// Of a DaemonSet.
    #[must_use]
    pub fn of_daemon_set(namespace: &str, set: &str) -> Self {
        Self::generated(namespace, &format!("{set}-"), Owner::new("apps/v1", "DaemonSet", set))
            .label("app", set)
            .label("controller-revision-hash", &suffix(10))
            .label("pod-template-generation", "1")
    }

    /// Of a Job.
    #[must_use]
    pub fn of_job(namespace: &str, job: &str) -> Self {
        let owner = Owner::new("batch/v1", "Job", job);
        let controller = owner.uid.clone();
        Self::generated(namespace, &format!("{job}-"), owner)
            .label("batch.kubernetes.io/controller-uid", &controller)
            .label("batch.kubernetes.io/job-name", job)
            .label("controller-uid", &controller)
            .label("job-name", job)
    }

    /// Of a `CronJob`: its Job has the minute in its name.
    #[must_use]
    pub fn of_cron_job(namespace: &str, cron_job: &str, minute: u32) -> Self {
        Self::of_job(namespace, &format!("{cron_job}-{minute:08}"))
    }

    /// The API server's copy of a pod that a node has by a file (`etcd-node-1`): it has
    /// another uid than the one that kubelet uses.
    #[must_use]
    pub fn mirror(namespace: &str, name: &str, node: &str) -> Self {
        let mut pod = Self::bare(namespace, &format!("{name}-{node}"));
        pod.owner = Some(Owner::new("v1", "Node", node));
        pod.node = node.to_owned();
        pod.host_network = true;
        let hash = digits(32);
        pod.annotation("kubernetes.io/config.hash", &hash)
            .annotation("kubernetes.io/config.mirror", &hash)
            .annotation("kubernetes.io/config.seen", "2026-01-01T00:00:00.000000000Z")
            .annotation("kubernetes.io/config.source", "file")
            .label("component", name)
            .label("tier", "control-plane")
    }

    /// With a label.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    /// With an annotation.
    #[must_use]
    pub fn annotation(mut self, name: &str, value: &str) -> Self {
        self.annotations.insert(name.to_owned(), value.to_owned());
        self
    }

    /// With an address more.
    #[must_use]
    pub fn address(mut self, address: impl Into<IpAddr>) -> Self {
        self.addresses.push(address.into());
        self
    }

    /// With another service account.
    #[must_use]
    pub fn account(mut self, account: &str) -> Self {
        account.clone_into(&mut self.account);
        self
    }

    /// On a node.
    #[must_use]
    pub fn on(mut self, node: &str, host: impl Into<IpAddr>) -> Self {
        node.clone_into(&mut self.node);
        self.host = host.into();
        self
    }

    /// In the network of its node.
    #[must_use]
    pub fn in_host_network(mut self) -> Self {
        self.host_network = true;
        self
    }

    /// With a container more.
    #[must_use]
    pub fn with(mut self, name: &str, role: Role) -> Self {
        self.containers.push(Container::new(name, role));
        self
    }

    /// With another class of service.
    #[must_use]
    pub fn quality(mut self, quality: Quality) -> Self {
        self.quality = quality;
        self
    }

    /// With another runtime.
    #[must_use]
    pub fn runtime(mut self, runtime: Runtime) -> Self {
        self.runtime = runtime;
        self
    }

    /// As it is a moment after it was created: on a node, without an address, its
    /// containers not started.
    #[must_use]
    pub fn pending(&self) -> Self {
        let mut pod = self.clone();
        pod.phase = "Pending";
        pod.addresses.clear();
        pod
    }

    /// A container by its name.
    #[must_use]
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// The uid by which kubelet calls its cgroup.
    #[must_use]
    pub fn cgroup_uid(&self) -> &str {
        self.annotations.get("kubernetes.io/config.hash").unwrap_or(&self.uid)
    }

    /// The identity that a mesh gives it.
    #[must_use]
    pub fn principal(&self) -> String {
        format!("spiffe://cluster.local/ns/{}/sa/{}", self.namespace, self.account)
    }
}
