//! [`Sandbox`]: what runs a pod's containers: a network namespace, and a cgroup for each.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::lab::{NODE_V4, NODE_V6};
use crate::cgroup::{self, Cgroup};
use crate::cluster::{Driver, Pod, kubelet};
use crate::netns::{Netns, Place};
use crate::process::run;

/// How the name of every pod's network namespace begins.
pub(super) const NETNS: &str = "mtmesh-";

/// How the name of the host's end of every pod's cable begins.
pub(super) const DEVICE: &str = "mtmesh";

/// A pod that is there. What runs in it ends when it is dropped.
#[derive(Debug)]
pub struct Sandbox {
    /// As the API server has it.
    pub pod: Pod,
    containers: BTreeMap<String, Cgroup>,
    // Behind its containers: it is removed when they are gone.
    outer: Cgroup,
    /// `None`: it uses the host's network.
    netns: Option<Netns>,
}

impl Sandbox {
    /// Makes namespace, cable and cgroups of a pod whose addresses are given.
    pub(super) fn create(driver: Driver, pod: Pod, number: u16) -> Result<Self> {
        let netns = match pod.host_network {
            true => None,
            false => Some(wired(&pod.addresses, number)?),
        };
        let outer = Cgroup::create(&kubelet::pod(driver, &pod))?;
        let mut sandbox = Self { pod, containers: BTreeMap::new(), outer, netns };
        for container in &sandbox.pod.containers {
            let cgroup = Cgroup::create(&kubelet::container(driver, &sandbox.pod, container))?;
            sandbox.containers.insert(container.name.clone(), cgroup);
        }
        Ok(sandbox)
    }

    /// Where a program of a container runs.
    pub fn place(&self, container: &str) -> Result<Place<'_>> {
        let cgroup = self.containers.get(container);
        let cgroup =
            cgroup.with_context(|| format!("{} has no container {container}", self.pod.name))?;
        Ok(Place { netns: self.netns.as_ref(), cgroup: Some(cgroup) })
    }

    /// Its network namespace.
    pub fn netns(&self) -> Result<&Netns> {
        self.netns.as_ref().context("it uses the host's network")
    }

    /// Its address in IPv4, or in IPv6.
    pub fn address(&self, is_v6: bool) -> Result<IpAddr> {
        let own = self.pod.addresses.iter().find(|address| address.is_ipv6() == is_v6);
        own.copied().with_context(|| format!("{} has no such address", self.pod.name))
    }

    /// Starts a container again, as kubelet does after it failed: what ran in it ends, and
    /// what runs from now on has another id.
    pub fn restart(&mut self, driver: Driver, container: &str) -> Result<()> {
        let old = self.containers.remove(container);
        let old = old.with_context(|| format!("{} has no container {container}", self.pod.name))?;
        cgroup::clear(old.path())?;
        drop(old);
        let found = self.pod.containers.iter_mut().find(|found| found.name == container);
        let found = found.context("it is one of the pod's")?;
        found.restart();
        let found = found.clone();
        let cgroup = Cgroup::create(&kubelet::container(driver, &self.pod, &found))?;
        self.containers.insert(container.to_owned(), cgroup);
        Ok(())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // What does not end in time is left to the sweep at the end.
        drop(cgroup::clear(self.outer.path()));
    }
}

/// A namespace with a cable to the host, whose end there has the node's address: whatever
/// leaves the pod is routed by the host, as with the `ptp` plugin.
fn wired(addresses: &[IpAddr], number: u16) -> Result<Netns> {
    let netns = Netns::named(&format!("{NETNS}{number}"))?;
    let (device, name) = (format!("{DEVICE}{number}"), netns.name().to_owned());
    run(&format!("ip link add {device} type veth peer name eth0 netns {name}"))?;
    netns.run("ip link set eth0 up")?;
    run(&format!("ip link set {device} up"))?;
    forward(&device)?;
    for address in addresses {
        let (family, length, node, dad) = match address {
            IpAddr::V4(_) => ("-4", 32, NODE_V4.to_string(), ""),
            // Nobody else has them: waiting to find that out would take a second.
            IpAddr::V6(_) => ("-6", 128, NODE_V6.to_string(), "nodad"),
        };
        run(&format!("ip {family} addr add {node}/{length} dev {device} {dad}"))?;
        run(&format!("ip {family} route add {address}/{length} dev {device}"))?;
        netns.run(&format!("ip {family} addr add {address}/{length} dev eth0 {dad}"))?;
        netns.run(&format!("ip {family} route add {node}/{length} dev eth0"))?;
        netns.run(&format!("ip {family} route add default via {node} dev eth0"))?;
    }
    Ok(netns)
}

/// Lets what comes from a device go on to others, without turning the whole host into a router.
fn forward(device: &str) -> Result<()> {
    std::fs::write(format!("/proc/sys/net/ipv4/conf/{device}/forwarding"), "1")?;
    // Older kernels have one switch for all of IPv6: it is set already.
    let own = format!("/proc/sys/net/ipv6/conf/{device}/force_forwarding");
    if Path::new(&own).exists() {
        std::fs::write(own, "1")?;
    }
    Ok(())
}
