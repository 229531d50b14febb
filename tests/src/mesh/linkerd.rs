//! What Linkerd does to a pod: a container more, and rules in its network namespace.

use anyhow::Result;

use super::lab::Lab;
use super::relay::{Orders, Relay, Shape, Ward, identity, routes};
use super::sandbox::Sandbox;
use crate::cluster::{Pod, Role};

/// The proxy's user.
pub const USER: u32 = 2102;
/// Name of the proxy's container.
pub const CONTAINER: &str = "linkerd-proxy";
/// Label of a pod that has a proxy.
const LABEL: &str = "linkerd.io/control-plane-ns";

/// A pod as the injector changes it.
#[must_use]
pub fn injected(pod: Pod) -> Pod {
    let name = pod.labels.get("app").cloned().unwrap_or_else(|| pod.name.clone());
    pod.label(LABEL, "linkerd")
        .label("linkerd.io/proxy-deployment", &name)
        .annotation("linkerd.io/proxy-version", "edge")
        .with("linkerd-init", Role::Init)
        .with(CONTAINER, Role::Sidecar)
}

/// Whether a pod has a proxy.
#[must_use]
pub fn is_injected(pod: &Pod) -> bool {
    pod.labels.contains_key(LABEL)
}

/// Starts a pod's proxy, for every service that the laboratory has now.
pub fn start(lab: &Lab, of: &Sandbox) -> Result<Relay> {
    let own = lab.authority().issue(&of.pod, &[identity(&of.pod)])?;
    let orders = Orders {
        shape: Shape::Linkerd,
        authority: lab.authority().certificate(),
        wards: vec![Ward { netns: None, certificate: own.certificate, key: own.key }],
        routes: routes(lab, is_injected),
    };
    let relay = Relay::start(lab, of.place(CONTAINER)?, "linkerd2-proxy", Some(USER), &orders)?;
    let netns = of.netns()?;
    for rule in rules() {
        netns.run(&format!("iptables -w -t nat {rule}"))?;
        if lab.has_v6() {
            netns.run(&format!("ip6tables -w -t nat {rule}"))?;
        }
    }
    Ok(relay)
}

/// The rules: what arrives goes to the proxy's inbound side, except for its own ports; what
/// leaves goes to its outbound side, except for its own and what stays on the loopback.
fn rules() -> Vec<String> {
    let mut rules: Vec<String> =
        ["REDIRECT", "OUTPUT"].map(|chain| format!("-N PROXY_INIT_{chain}")).into();
    let more = [
        "-A PROXY_INIT_REDIRECT -p tcp -m multiport --dports 4190,4191 -j RETURN".to_owned(),
        "-A PROXY_INIT_REDIRECT -p tcp -j REDIRECT --to-port 4143".to_owned(),
        "-A PREROUTING -j PROXY_INIT_REDIRECT".to_owned(),
        format!("-A PROXY_INIT_OUTPUT -m owner --uid-owner {USER} -j RETURN"),
        "-A PROXY_INIT_OUTPUT -o lo -j RETURN".to_owned(),
        "-A PROXY_INIT_OUTPUT -p tcp -m multiport --dports 4190,4191 -j RETURN".to_owned(),
        "-A PROXY_INIT_OUTPUT -p tcp -j REDIRECT --to-port 4140".to_owned(),
        "-A OUTPUT -j PROXY_INIT_OUTPUT".to_owned(),
    ];
    rules.extend(more);
    rules
}
