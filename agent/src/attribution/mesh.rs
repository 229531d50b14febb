//! Proxies of meshes: which sockets are theirs, and who is behind them.
//!
//! A proxy is told by its owner: by the container's name, then by the executable, then by
//! the user. Its sockets are no application's: what passes them is counted where the
//! applications stand, and they only tell who is behind. A pod that is nothing but a proxy
//! (a gateway, a waypoint) is a node of its own and none of these.

mod inbound;
mod joining;
pub(in crate::attribution) mod passage;
mod through;

use std::sync::Arc;

pub use inbound::Inbound;
pub use joining::{Joining, is_gateway};
pub use through::{JoinedBy, Through, Times};

use super::call::Identity;
use super::cluster::Sidecar;
use super::names::Glob;
use super::program::base_name;
use crate::protocol::Text;
use crate::protocol::relayed::Relayed;

/// Users that injectors give to sidecars; they mean nothing by themselves.
const ISTIO_USER: u32 = 1337;
const LINKERD_USER: u32 = 2102;

/// What a proxy belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mesh {
    /// Istio, a sidecar.
    Istio,
    /// Istio's ambient mode.
    Ambient,
    /// Linkerd.
    Linkerd,
    /// A proxy that the configuration names.
    Other,
}

impl Mesh {
    /// As in labels and lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Istio => "istio",
            Self::Ambient => "ambient",
            Self::Linkerd => "linkerd",
            Self::Other => "other",
        }
    }
}

/// A process that only passes on what applications say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Whose it is.
    pub mesh: Mesh,
    /// It asks applications on its own account, how they are and for their metrics.
    pub probes: bool,
}

/// Whether the connection between two proxies was secured, as far as the end that is seen
/// can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Policy {
    /// Both sides showed certificates.
    MutualTls,
    /// Plain text.
    None,
}

impl Policy {
    /// As in labels and lines, which are Istio's.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MutualTls => "mutual_tls",
            Self::None => "none",
        }
    }
}

/// How a call went through a mesh. Interned: equal ones are mostly the same allocation, so
/// that the pointer may serve as a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Passage {
    /// The mesh of the proxy beside the application that is seen.
    pub mesh: Mesh,
    /// How the connection between the proxies was secured; `None`: not known.
    pub policy: Option<Policy>,
    /// Whom the client's certificate names.
    pub client_principal: Option<Text>,
    /// Whom the server's certificate names.
    pub server_principal: Option<Text>,
}

impl Mesh {
    /// What the proxy beside a server says of a request; headers of other meshes' are the
    /// client's own.
    fn says(self, relayed: &Relayed) -> Said {
        match self {
            Self::Istio | Self::Other => Said {
                client: relayed.client.clone(),
                server: relayed.server.clone(),
                attempt: relayed.attempt,
            },
            Self::Linkerd => Said { client: relayed.linkerd_client.clone(), ..Said::default() },
            Self::Ambient => Said::default(),
        }
    }

    /// How often the client's proxy has tried.
    pub(in crate::attribution) fn attempt(self, relayed: &Relayed) -> Option<u32> {
        self.says(relayed).attempt
    }
}

/// What a proxy says of a request.
#[derive(Debug, Default)]
struct Said {
    client: Option<Text>,
    server: Option<Text>,
    attempt: Option<u32>,
}

/// The owner of a socket, as far as it tells whether that is a proxy.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// Who it is.
    pub identity: &'a Identity,
    /// Path or name of its executable.
    pub executable: Option<&'a str>,
    /// User.
    pub uid: u32,
}

impl Owner<'_> {
    /// Whether it is a mesh's proxy; `configured`: patterns of executables that are, too.
    #[must_use]
    pub fn proxy(&self, configured: &[Glob]) -> Option<Proxy> {
        let path = self.executable.unwrap_or_default();
        let program = base_name(path);
        let sidecar = self.identity.workload.as_ref().map(|workload| workload.sidecar);
        let of = |mesh| Some(Proxy { mesh, probes: false });
        // Its container is called like a sidecar's.
        if program == "ztunnel" {
            return of(Mesh::Ambient);
        }
        if program == "pilot-agent" {
            return Some(Proxy { mesh: Mesh::Istio, probes: true });
        }
        if sidecar == Some(Sidecar::Gateway) {
            return None;
        }
        match self.container() {
            // Whatever else runs in a proxy's container passes nothing on.
            Some("istio-proxy") => {
                return Some(Proxy { mesh: Mesh::Istio, probes: !matches!(program, "" | "envoy") });
            }
            Some("linkerd-proxy") => {
                let probes = !matches!(program, "" | "linkerd2-proxy");
                return Some(Proxy { mesh: Mesh::Linkerd, probes });
            }
            _ => {}
        }
        if program == "linkerd2-proxy" {
            return of(Mesh::Linkerd);
        }
        if program == "envoy" && self.uid == ISTIO_USER {
            return of(Mesh::Istio);
        }
        match (sidecar, self.uid) {
            (Some(Sidecar::Istio), ISTIO_USER) => return of(Mesh::Istio),
            (Some(Sidecar::Linkerd), LINKERD_USER) => return of(Mesh::Linkerd),
            _ => {}
        }
        let named = |pattern: &Glob| pattern.matches(path) || pattern.matches(program);
        configured.iter().any(named).then_some(Proxy { mesh: Mesh::Other, probes: false })
    }

    fn container(&self) -> Option<&str> {
        let is_name = |(key, _): &&(&str, Arc<str>)| *key == "container.name";
        self.identity.attributes.iter().find(is_name).map(|(_, name)| &**name)
    }
}

/// Namespace and service account of an identity in a certificate: `spiffe://…/ns/x/sa/y`,
/// or Linkerd's `y.x.serviceaccount.identity.…`.
#[must_use]
pub fn account(principal: &str) -> Option<(&str, &str)> {
    if let Some(rest) = principal.strip_prefix("spiffe://") {
        let mut parts = rest.split('/').skip(1);
        return match [parts.next(), parts.next(), parts.next(), parts.next(), parts.next()] {
            [Some("ns"), Some(namespace), Some("sa"), Some(account), None] => {
                Some((namespace, account))
            }
            _ => None,
        };
    }
    let (own, _) = principal.split_once(".serviceaccount.identity.")?;
    let (account, namespace) = own.rsplit_once('.')?;
    Some((namespace, account))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::IdentityKind;

    fn identity(container: &str) -> Identity {
        Identity {
            name: "x".into(),
            namespace: "".into(),
            kind: IdentityKind::Container,
            attributes: vec![("container.name", container.into())],
            workload: None,
        }
    }

    fn of(container: &str, executable: &str, uid: u32) -> Option<Mesh> {
        let identity = identity(container);
        let owner = Owner { identity: &identity, executable: Some(executable), uid };
        owner.proxy(&["cilium-envoy".parse().unwrap()]).map(|proxy| proxy.mesh)
    }

    #[test]
    fn proxies_are_told_by_container_executable_and_user() {
        assert_eq!(of("istio-proxy", "/usr/local/bin/envoy", 0), Some(Mesh::Istio));
        assert_eq!(of("istio-proxy", "/usr/local/bin/ztunnel", 0), Some(Mesh::Ambient));
        assert_eq!(of("linkerd-proxy", "", 0), Some(Mesh::Linkerd));
        assert_eq!(of("app", "/usr/lib/linkerd/linkerd2-proxy", 0), Some(Mesh::Linkerd));
        assert_eq!(of("app", "/usr/local/bin/envoy", 1337), Some(Mesh::Istio));
        assert_eq!(of("app", "/usr/local/bin/envoy", 101), None, "an Envoy of somebody's own");
        assert_eq!(of("app", "/usr/bin/cilium-envoy", 0), Some(Mesh::Other));
        assert_eq!(of("app", "/bin/app", 1337), None, "the user alone means nothing");
    }

    #[test]
    fn what_asks_for_itself_is_told_apart() {
        let identity = identity("istio-proxy");
        for (program, probes) in [("pilot-agent", true), ("curl", true), ("envoy", false)] {
            let owner = Owner { identity: &identity, executable: Some(program), uid: 1337 };
            let proxy = owner.proxy(&[]).expect("the container is a proxy's");
            assert_eq!(proxy.probes, probes, "{program}");
        }
    }

    #[test]
    fn certificates_name_namespace_and_account() {
        assert_eq!(account("spiffe://cluster.local/ns/shop/sa/cart"), Some(("shop", "cart")));
        assert_eq!(
            account("cart.shop.serviceaccount.identity.linkerd.cluster.local"),
            Some(("shop", "cart"))
        );
        for other in ["spiffe://t/workload/x", "spiffe://t/ns/a/sa/b/c", "cart", ""] {
            assert_eq!(account(other), None, "{other}");
        }
    }
}
