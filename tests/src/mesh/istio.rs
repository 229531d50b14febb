//! What Istio does to a pod that gets a sidecar: a container more, and rules in its network
//! namespace that send every connection through it.

use anyhow::Result;

use super::sandbox::Sandbox;
use crate::cluster::{Pod, Role};

/// The sidecar's user and group.
pub const USER: u32 = 1337;
/// Where connections of the application arrive at the sidecar.
pub const OUTBOUND: u16 = 15001;
/// Where connections to the application do.
pub const INBOUND: u16 = 15006;
/// The sidecar's administration, on the loopback.
pub const ADMINISTRATION: u16 = 15000;
/// Name of the sidecar's container.
pub const CONTAINER: &str = "istio-proxy";
/// Label of a pod whose sidecar takes mutual TLS.
pub const TLS_MODE: &str = "security.istio.io/tlsMode";

/// A pod as the injector changes it; `is_native`: the sidecar is among the init containers,
/// as since Kubernetes 1.29.
#[must_use]
pub fn injected(pod: Pod, is_native: bool) -> Pod {
    let name = pod.labels.get("app").cloned().unwrap_or_else(|| pod.name.clone());
    let role = if is_native { Role::Sidecar } else { Role::Application };
    pod.label(TLS_MODE, "istio")
        .label("service.istio.io/canonical-name", &name)
        .label("service.istio.io/canonical-revision", "latest")
        .annotation("sidecar.istio.io/status", r#"{"containers":["istio-proxy"]}"#)
        .annotation("kubectl.kubernetes.io/default-container", "app")
        .with("istio-init", Role::Init)
        .with(CONTAINER, role)
}

/// A gateway's pod: Envoy alone, to be reached from outside of the mesh.
#[must_use]
pub fn gateway(namespace: &str, name: &str) -> Pod {
    let mut pod = Pod::of_deployment(namespace, name).account(name).label("istio", name);
    for container in &mut pod.containers {
        CONTAINER.clone_into(&mut container.name);
    }
    pod
}

/// Whether a pod has a sidecar.
#[must_use]
pub fn is_injected(pod: &Pod) -> bool {
    pod.labels.contains_key(TLS_MODE)
}

/// Sets the rules in the pod's network namespace, for both families; `user` is the sidecar's.
pub fn redirect(sandbox: &Sandbox, user: u32, has_v6: bool) -> Result<()> {
    let netns = sandbox.netns()?;
    for rule in rules("127.0.0.1/32", "127.0.0.6/32", user) {
        netns.run(&format!("iptables -w -t nat {rule}"))?;
    }
    if has_v6 {
        // The address that the sidecar speaks from to the application.
        netns.run("ip -6 addr add ::6/128 dev lo")?;
        for rule in rules("::1/128", "::6/128", user) {
            netns.run(&format!("ip6tables -w -t nat {rule}"))?;
        }
    }
    Ok(())
}

/// A line of a shell that sets the rules in the network namespace in which it runs, of IPv4.
#[must_use]
pub fn redirection() -> String {
    let rules = rules("127.0.0.1/32", "127.0.0.6/32", USER);
    rules.iter().map(|rule| format!("iptables -w -t nat {rule}")).collect::<Vec<_>>().join(" && ")
}

/// The rules: what the sidecar sends to the pod itself goes to its inbound side, what it
/// sends elsewhere goes out, and what others send goes to its outbound side, except by the
/// loopback. What arrives goes to the inbound side.
fn rules(loopback: &str, sidecar: &str, user: u32) -> Vec<String> {
    let mut rules: Vec<String> = ["INBOUND", "REDIRECT", "IN_REDIRECT", "OUTPUT"]
        .map(|chain| format!("-N ISTIO_{chain}"))
        .into();
    rules.push(format!("-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports {OUTBOUND}"));
    rules.push(format!("-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports {INBOUND}"));
    rules.push("-A PREROUTING -p tcp -j ISTIO_INBOUND".to_owned());
    rules.push("-A OUTPUT -p tcp -j ISTIO_OUTPUT".to_owned());
    for port in [15008, 15090, 15021, 15020] {
        rules.push(format!("-A ISTIO_INBOUND -p tcp --dport {port} -j RETURN"));
    }
    rules.push("-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT".to_owned());
    rules.push(format!("-A ISTIO_OUTPUT -s {sidecar} -o lo -j RETURN"));
    for owner in ["--uid-owner", "--gid-owner"] {
        rules.push(format!(
            "-A ISTIO_OUTPUT ! -d {loopback} -o lo -p tcp ! --dport 15008 -m owner {owner} {user} -j ISTIO_IN_REDIRECT"
        ));
        rules.push(format!("-A ISTIO_OUTPUT -o lo -m owner ! {owner} {user} -j RETURN"));
        rules.push(format!("-A ISTIO_OUTPUT -m owner {owner} {user} -j RETURN"));
    }
    rules.push(format!("-A ISTIO_OUTPUT -d {loopback} -j RETURN"));
    rules.push("-A ISTIO_OUTPUT -j ISTIO_REDIRECT".to_owned());
    rules
}
