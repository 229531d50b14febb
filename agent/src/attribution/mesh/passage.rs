//! How one call went through a mesh, and who is on the other side of the proxy.

use std::sync::Arc;

use super::{Mesh, Passage, Policy, account};
use crate::attribution::call::{Identity, IdentityKind};
use crate::attribution::connection::Connection;
use crate::attribution::{Attributor, join};
use crate::protocol::{Exchange, Side, Text};

/// Where ztunnel takes what other ztunnels bring, encrypted; and what comes in plain text.
const AMBIENT_TUNNEL: u16 = 15_008;
const AMBIENT_PLAIN: u16 = 15_006;

/// The clients that a proxy's connection has brought so far.
#[derive(Clone, Debug, Default)]
pub enum Behind {
    /// None that is known.
    #[default]
    Nobody,
    /// Always the same one.
    One(Arc<Identity>),
    /// Several: what the connection as a whole does is nobody's alone.
    Several,
}

impl Behind {
    fn add(&mut self, client: &Arc<Identity>) {
        *self = match std::mem::take(self) {
            Self::Nobody => Self::One(Arc::clone(client)),
            Self::One(known) if Arc::ptr_eq(&known, client) => Self::One(known),
            Self::One(_) | Self::Several => Self::Several,
        };
    }

    /// The only one.
    pub fn only(&self) -> Option<&Arc<Identity>> {
        match self {
            Self::One(client) => Some(client),
            Self::Nobody | Self::Several => None,
        }
    }
}

/// What a proxy at the other end makes of a call.
#[derive(Debug)]
pub enum Passed {
    /// The proxy's own question, and no application's.
    Probe,
    /// An application's call.
    Call {
        /// How it went.
        passage: Arc<Passage>,
        /// Who asked, where the connection hides it.
        client: Option<Arc<Identity>>,
        /// The proxy's socket, and the proxy's process.
        beside: (u64, u32),
    },
}

impl Attributor {
    /// What is known of an exchange's way, where a proxy is at the other end of its socket.
    pub(in crate::attribution) fn passed(&mut self, exchange: &Exchange) -> Option<Passed> {
        let connection = self.connections.get(exchange.socket)?;
        let peer = join::peer(&self.connections, exchange.socket, connection)?;
        let seen = self.connections.get(peer)?;
        let proxy = seen.proxy?;
        let beside = (peer, seen.owner.pid);
        if exchange.side == Side::Client {
            let passage = Passage {
                mesh: proxy.mesh,
                policy: None,
                client_principal: None,
                server_principal: None,
            };
            return Some(Passed::Call { passage: self.passage(passage), client: None, beside });
        }
        if proxy.probes {
            return Some(Passed::Probe);
        }
        let pid = seen.owner.pid;
        let said = exchange.relayed.as_deref().map(|relayed| proxy.mesh.says(relayed));
        let said = said.unwrap_or_default();
        let hides = hides_client(connection);
        let relayed = exchange.relayed.as_deref();
        let lacks = exchange.cut || relayed.is_some_and(|relayed| relayed.incomplete);
        let client = hides.then(|| {
            if lacks && said.client.is_none() {
                // That no certificate was seen does not mean that there was none.
                return self.identities.unknown();
            }
            self.client_behind(pid, said.client.as_ref())
        });
        let policy = match proxy.mesh {
            _ if said.client.is_some() => Some(Policy::MutualTls),
            Mesh::Ambient => self.ambient_policy(pid, exchange.socket),
            // A client in plain text that is known as such.
            _ if client.as_ref().is_some_and(|client| is_known(client)) => Some(Policy::None),
            _ => None,
        };
        if let (Some(client), Some(connection)) =
            (&client, self.connections.peek_mut(exchange.socket))
        {
            connection.behind.add(client);
        }
        let passage = Passage {
            mesh: proxy.mesh,
            policy,
            client_principal: said.client,
            server_principal: said.server,
        };
        Some(Passed::Call { passage: self.passage(passage), client, beside })
    }

    /// Whose proxy is at the other end of a connection.
    pub(in crate::attribution) fn mesh_of(&self, cookie: u64, of: &Connection) -> Option<Mesh> {
        let peer = join::peer(&self.connections, cookie, of)?;
        Some(self.connections.get(peer)?.proxy?.mesh)
    }

    fn passage(&mut self, passage: Passage) -> Arc<Passage> {
        if let Some((known, ())) = self.passages.get_key_value(&passage) {
            return Arc::clone(known);
        }
        let passage = Arc::new(passage);
        self.passages.push(Arc::clone(&passage), ());
        passage
    }

    /// Who spoke to the proxy: the only one who may have, else the only workload under the
    /// certificate's account, else nobody known, of the certificate's namespace.
    fn client_behind(&mut self, pid: u32, principal: Option<&Text>) -> Arc<Identity> {
        let revision = self.cluster.revision();
        if self.inbound.answer(pid, principal, revision).is_none() {
            for cookie in self.inbound.of(pid) {
                self.refresh(cookie, self.now_ns);
            }
        }
        let only = self.inbound.client(pid, principal, revision, &self.connections);
        let Some((namespace, account)) = principal.and_then(|text| account(text.as_str())) else {
            return only.unwrap_or_else(|| self.identities.unknown());
        };
        if let Some(only) = only {
            return only;
        }
        // Another node may run another one under the same account.
        let known = self.settings.whole_cluster;
        let workload = self.cluster.of_account(namespace, account).filter(|_| known);
        match workload.map(Arc::clone) {
            Some(workload) => self.identities.workload(workload),
            None => self.identities.somebody_of(namespace),
        }
    }

    /// By the ports at which the node's proxy took what it brings to this pod.
    fn ambient_policy(&self, pid: u32, socket: u64) -> Option<Policy> {
        let connection = self.connections.get(socket)?;
        match *self.inbound.ports(pid, connection, &self.connections) {
            [AMBIENT_TUNNEL] => Some(Policy::MutualTls),
            [AMBIENT_PLAIN] => Some(Policy::None),
            _ => None,
        }
    }
}

/// Whether a proxy speaks to the application from an address that is not the client's:
/// one of the loopback, or the pod's own.
pub(in crate::attribution) fn hides_client(connection: &Connection) -> bool {
    let local = connection.local().map(|local| local.ip());
    connection.remotes().all(|remote| remote.ip().is_loopback() || Some(remote.ip()) == local)
}

fn is_known(identity: &Identity) -> bool {
    identity.kind != IdentityKind::Unknown
}
