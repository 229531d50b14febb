//! Istio's ambient mode: nothing is added to a pod but rules in its network namespace, and
//! sockets there that belong to the node's ztunnel.

use anyhow::Result;

use super::istio::CONTAINER;
use super::lab::Lab;
use super::relay::{Backend, Orders, Relay, Shape, Ward, identity, routes};
use super::sandbox::Sandbox;
use crate::cluster::Pod;

/// Label of a pod that is in the mesh.
const LABEL: &str = "istio.io/dataplane-mode";
/// Label of a service that has a waypoint.
pub const USE_WAYPOINT: &str = "istio.io/use-waypoint";
/// The mark of what ztunnel sends.
const MARK: &str = "0x539/0xfff";
/// The mark of the answers to it.
const ANSWER: &str = "0x111/0xfff";

/// A pod that is in the mesh.
#[must_use]
pub fn enrolled(pod: Pod) -> Pod {
    pod.label(LABEL, "ambient").annotation("ambient.istio.io/redirection", "enabled")
}

/// Whether a pod is in the mesh.
#[must_use]
pub fn is_enrolled(pod: &Pod) -> bool {
    pod.labels.contains_key(LABEL)
}

/// A waypoint: a pod of its own, with Envoy.
#[must_use]
pub fn waypoint(namespace: &str) -> Pod {
    let mut pod = Pod::of_deployment(namespace, "waypoint")
        .account("waypoint")
        .label("gateway.networking.k8s.io/gateway-name", "waypoint")
        .label("gateway.istio.io/managed", "istio.io-mesh-controller");
    only(&mut pod, CONTAINER);
    pod
}

/// With one container, which is called so.
fn only(pod: &mut Pod, name: &str) {
    for container in &mut pod.containers {
        name.clone_into(&mut container.name);
    }
}

/// A node's ztunnel: a pod of its own.
#[derive(Debug)]
pub struct Ztunnel {
    relay: Relay,
    // Behind what runs in it.
    sandbox: Sandbox,
}

impl Ztunnel {
    /// Starts one for these pods, and sets the rules there. What is for a service that says so
    /// goes through the waypoint.
    pub fn start(lab: &Lab, pods: &[&Sandbox], waypoint: Option<&Sandbox>) -> Result<Self> {
        let own = Pod::of_daemon_set("istio-system", "ztunnel").account("ztunnel");
        let mut own = own.label("app.kubernetes.io/name", "ztunnel");
        only(&mut own, CONTAINER);
        let sandbox = lab.run(own)?;
        let mut wards = Vec::new();
        for of in pods {
            let own = lab.authority().issue(&of.pod, &[identity(&of.pod)])?;
            wards.push(Ward {
                netns: Some(of.netns()?.path()),
                certificate: own.certificate,
                key: own.key,
            });
        }
        let mut routes = routes(lab, is_enrolled);
        for (service, _) in lab.services() {
            let named = service.labels.contains_key(USE_WAYPOINT);
            let waypoint = waypoint.filter(|_| named).map(|waypoint| Backend {
                addresses: waypoint.pod.addresses.clone(),
                port: 0,
                name: Some(identity(&waypoint.pod)),
            });
            let own = routes.iter_mut().filter(|route| route.host == service.host());
            own.for_each(|route| route.waypoint.clone_from(&waypoint));
        }
        let orders = Orders {
            shape: Shape::Ztunnel,
            authority: lab.authority().certificate(),
            wards,
            routes,
        };
        let relay = Relay::start(lab, sandbox.place(CONTAINER)?, "ztunnel", None, &orders)?;
        for of in pods {
            redirect(of, lab.has_v6())?;
        }
        Ok(Self { relay, sandbox })
    }

    /// The process.
    #[must_use]
    pub fn relay(&self) -> &Relay {
        &self.relay
    }

    /// Its pod.
    #[must_use]
    pub fn pod(&self) -> &Pod {
        &self.sandbox.pod
    }
}

fn redirect(of: &Sandbox, has_v6: bool) -> Result<()> {
    let netns = of.netns()?;
    let families = [
        ("iptables", "-4", "127.0.0.1/32", "169.254.7.127/32", "0.0.0.0/0"),
        ("ip6tables", "-6", "::1/128", "fd16:9254:7127:1337:ffff:ffff:ffff:ffff/128", "::/0"),
    ];
    for (program, family, loopback, probe, everything) in families {
        if family == "-6" && !has_v6 {
            continue;
        }
        for rule in rules(loopback, probe) {
            netns.run(&format!("{program} -w {rule}"))?;
        }
        // Answers to a client's address that ztunnel only borrows stay in the pod.
        netns.run(&format!("ip {family} rule add fwmark {ANSWER} pref 32764 lookup 100"))?;
        netns.run(&format!("ip {family} route add local {everything} dev lo table 100"))?;
    }
    Ok(())
}

/// The rules: ztunnel's own connections are marked, and so are the answers to them; what the
/// application sends goes to ztunnel's outbound side, what arrives plainly to its inbound
/// side, and what comes from the kubelet's probes to the application.
fn rules(loopback: &str, probe: &str) -> Vec<String> {
    let mut rules: Vec<String> = ["mangle", "nat"]
        .into_iter()
        .flat_map(|table| {
            ["PREROUTING", "OUTPUT"].into_iter().flat_map(move |hook| {
                let own = if hook == "OUTPUT" { "ISTIO_OUTPUT" } else { "ISTIO_PRERT" };
                [format!("-t {table} -N {own}"), format!("-t {table} -A {hook} -j {own}")]
            })
        })
        .collect();
    let more = [
        format!("mangle -A ISTIO_PRERT -m mark --mark {MARK} -j CONNMARK --set-xmark {ANSWER}"),
        format!(
            "mangle -A ISTIO_OUTPUT -m connmark --mark {ANSWER} -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff"
        ),
        format!("nat -A ISTIO_PRERT -s {probe} -p tcp -j ACCEPT"),
        format!(
            "nat -A ISTIO_PRERT ! -d {loopback} -p tcp ! --dport 15008 -m mark ! --mark {MARK} -j REDIRECT --to-ports 15006"
        ),
        format!("nat -A ISTIO_OUTPUT -d {probe} -p tcp -j ACCEPT"),
        format!("nat -A ISTIO_OUTPUT -p tcp -m mark --mark {ANSWER} -j ACCEPT"),
        format!("nat -A ISTIO_OUTPUT ! -d {loopback} -o lo -j ACCEPT"),
        format!(
            "nat -A ISTIO_OUTPUT ! -d {loopback} -p tcp -m mark ! --mark {MARK} -j REDIRECT --to-ports 15001"
        ),
    ];
    rules.extend(more.map(|rule| format!("-t {rule}")));
    rules
}
