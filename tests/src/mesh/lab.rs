//! [`Lab`]: a node without a cluster, and what is on it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, ensure};
use rand::Rng as _;

use super::certificates::Authority;
use super::firewall;
use super::host::{self, Host};
use super::sandbox::Sandbox;
use super::translation::Entry;
use crate::cgroup;
use crate::cluster::{Api, Driver, EndpointSlice, Key, Node, Pod, Service};
use crate::requirement::program;

/// The node's address.
pub const NODE_V4: Ipv4Addr = Ipv4Addr::new(10, 250, 0, 1);
/// The node's address.
pub const NODE_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x250, 0, 0, 0, 0, 0, 1);
/// Network of the pods.
pub const PODS_V4: &str = "10.250.0.0/16";
/// Network of the pods.
pub const PODS_V6: &str = "fd00:250::/64";
/// The node's name.
pub const NODE: &str = "node-1";

/// A node on this host: one at a time, over all programs that make one.
#[derive(Debug)]
pub struct Lab {
    driver: Driver,
    api: Api,
    authority: Authority,
    inside: Mutex<Inside>,
    // Last: it takes away what is left.
    host: Host,
}

#[derive(Debug)]
struct Inside {
    /// The third number of every address, so that none is soon used again.
    third: u8,
    /// How many addresses of pods and of services were given.
    pods: u16,
    services: u16,
    entries: Vec<Entry>,
    /// The slices of each service.
    slices: Vec<(Key, Key)>,
}

impl Lab {
    /// Why there can be none here; `None`: there can.
    #[must_use]
    pub fn missing() -> Option<String> {
        let needed = ["ip", "ss", "iptables", "iptables-restore", "ip6tables", "setpriv"];
        let absent: Vec<&str> = needed.into_iter().filter(|name| program(name).is_none()).collect();
        if !rustix::process::geteuid().is_root() {
            Some("needs root".to_owned())
        } else if !absent.is_empty() {
            Some(format!("not installed: {}", absent.join(", ")))
        } else if cgroup::root().is_none() {
            Some("cgroup v2 is not mounted".to_owned())
        } else {
            host::is_taken().then(|| "a kubelet runs here".to_owned())
        }
    }

    /// Where its files are: what else is put there goes with them, also after a crash.
    #[must_use]
    pub fn files() -> PathBuf {
        host::folder()
    }

    /// Waits until no other one is there, takes away what an earlier one left behind, and
    /// makes a node without pods.
    pub fn start(driver: Driver) -> Result<Self> {
        let host = Host::take()?;
        let api = Api::start()?;
        let mut node = Node::new(NODE, NODE_V4);
        node.pod_networks.push(PODS_V4.to_owned());
        if host.has_v6 {
            node.addresses.push(NODE_V6.into());
            node.pod_networks.push(PODS_V6.to_owned());
        }
        api.apply(node.object())?;
        let authority = Authority::create(host.folder())?;
        let third = rand::rng().random_range(1..=250);
        let (entries, slices) = (Vec::new(), Vec::new());
        let inside = Mutex::new(Inside { third, pods: 0, services: 0, entries, slices });
        firewall::install(&[], host.has_v6)?;
        Ok(Self { driver, api, authority, inside, host })
    }

    /// The API server that knows all of it.
    #[must_use]
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// The API server, to stop it and let it come back.
    pub fn api_mut(&mut self) -> &mut Api {
        &mut self.api
    }

    /// Who signs the certificates.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// How its cgroups are laid out.
    #[must_use]
    pub fn driver(&self) -> Driver {
        self.driver
    }

    /// A folder that everyone may read, gone at the end.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.host.folder()
    }

    /// Whether there is IPv6, too.
    #[must_use]
    pub fn has_v6(&self) -> bool {
        self.host.has_v6
    }

    /// The agent's configuration, by which it finds the names.
    #[must_use]
    pub fn configuration(&self) -> String {
        format!(
            "kubernetes:\n  watch: always\n  kubeconfig: {}\n  node: {NODE}\n",
            self.api.kubeconfig().display()
        )
    }

    /// Runs a pod: gives it addresses unless it has some, makes what it runs in, and tells
    /// the API server, first that it is pending and then that it runs.
    pub fn run(&self, mut pod: Pod) -> Result<Sandbox> {
        let number = {
            let mut inside = self.inside();
            inside.pods += 1;
            // The first ones are for whoever gives an address himself.
            let number = inside.pods + 9;
            ensure!(number < 250, "there are no addresses left");
            let last = u8::try_from(number)?;
            if pod.addresses.is_empty() && !pod.host_network {
                pod.addresses.push(Ipv4Addr::new(10, 250, inside.third, last).into());
                if self.host.has_v6 {
                    let (third, last) = (u16::from(inside.third), number);
                    let v6 = Ipv6Addr::new(0xfd00, 0x250, 0, 0, 0, 0, third, last);
                    pod.addresses.push(v6.into());
                }
            }
            number
        };
        NODE.clone_into(&mut pod.node);
        pod.host = NODE_V4.into();
        self.api.apply(pod.pending().object())?;
        let sandbox = Sandbox::create(self.driver, pod, number)
            .with_context(|| format!("pod {number} is not made"))?;
        self.api.apply(sandbox.pod.object())?;
        Ok(sandbox)
    }

    /// Ends a pod: it is gone from its services, then from the node, then from the API server.
    pub fn end(&self, sandbox: Sandbox) -> Result<()> {
        let mut pod = sandbox.pod.clone();
        pod.is_terminating = true;
        self.api.apply(pod.object())?;
        let mut services = Vec::new();
        for entry in &self.inside().entries {
            if entry.pods.iter().any(|found| found.uid == pod.uid) {
                let mut entry = entry.clone();
                entry.pods.retain(|found| found.uid != pod.uid);
                services.push(entry);
            }
        }
        for entry in services {
            self.put(&entry)?;
        }
        drop(sandbox);
        self.api.delete(&pod.key())
    }

    /// Starts a container of a pod again and tells the API server its new id.
    pub fn restart(&self, sandbox: &mut Sandbox, container: &str) -> Result<()> {
        sandbox.restart(self.driver, container)?;
        self.api.apply(sandbox.pod.object()).map(drop)
    }

    /// Makes a Service over pods, or puts it in place of the one of its name, with an address
    /// of each family unless it has one.
    pub fn serve(&self, mut service: Service, pods: &[&Sandbox]) -> Result<Service> {
        if service.addresses.is_empty() {
            let mut inside = self.inside();
            inside.services += 1;
            let last = u8::try_from(inside.services)?;
            service.addresses.push(Ipv4Addr::new(10, 96, inside.third, last).into());
            if self.host.has_v6 {
                let (third, last) = (u16::from(inside.third), u16::from(last));
                let v6 = Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, third, last);
                service.addresses.push(v6.into());
            }
        }
        self.serve_as_it_is(service, pods)
    }

    /// [`Lab::serve`] with the addresses that it has: without any it is headless.
    pub fn serve_as_it_is(&self, service: Service, pods: &[&Sandbox]) -> Result<Service> {
        let pods = pods.iter().map(|sandbox| sandbox.pod.clone()).collect();
        let entry = Entry { service: service.clone(), pods };
        self.put(&entry)?;
        Ok(service)
    }

    /// Every service and the pods behind it.
    pub fn services(&self) -> Vec<(Service, Vec<Pod>)> {
        let inside = self.inside();
        inside.entries.iter().map(|entry| (entry.service.clone(), entry.pods.clone())).collect()
    }

    fn put(&self, entry: &Entry) -> Result<()> {
        let mut inside = self.inside();
        let key = entry.service.key();
        inside.entries.retain(|found| found.service.key() != key);
        inside.entries.push(entry.clone());
        firewall::install(&inside.entries, self.host.has_v6)?;
        self.api.apply(entry.service.object())?;
        let (old, kept) =
            std::mem::take(&mut inside.slices).into_iter().partition(|(of, _)| *of == key);
        inside.slices = kept;
        for is_v6 in [false, true] {
            let has = |address: &IpAddr| address.is_ipv6() == is_v6;
            if !entry.service.addresses.is_empty() && !entry.service.addresses.iter().any(has) {
                continue;
            }
            let mut slice = EndpointSlice::new(&entry.service, is_v6, &entry.pods);
            let old: &Vec<(Key, Key)> = &old;
            // It keeps its name, as the controller of slices keeps it.
            let same = old.iter().find(|(_, slice)| self.is_v6(slice) == Some(is_v6));
            if let Some((_, same)) = same {
                slice.name.clone_from(&same.name);
            }
            inside.slices.push((key.clone(), self.api.apply(slice.object())?));
        }
        Ok(())
    }

    fn is_v6(&self, slice: &Key) -> Option<bool> {
        Some(self.api.object(slice)?["addressType"] == "IPv6")
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An address and a port as a URL has them.
#[must_use]
pub fn authority(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}
