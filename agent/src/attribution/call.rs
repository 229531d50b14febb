//! [`Call`]: an exchange with a name on both ends.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::cluster::{Service, Workload};
use super::mesh::{Mesh, Passage, Through};
use crate::protocol::{Exchange, Side};

/// How an identity is known, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IdentityKind {
    /// A name given in the configuration.
    Configured,
    /// A workload of Kubernetes.
    Workload,
    /// A container.
    Container,
    /// A systemd unit.
    Unit,
    /// An executable, script, module or jar.
    Process,
    /// A service of Kubernetes, where it is not known which of several workloads answers.
    Service,
    /// A service of Kubernetes for what is outside of the cluster.
    External,
    /// A node of Kubernetes.
    Node,
    /// A name that the host's DNS answers gave to the address.
    Dns,
    /// An address only.
    Address,
    /// Not known.
    Unknown,
}

impl IdentityKind {
    /// As in `observe --json` (`kind`): `container`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::Workload => "workload",
            Self::Container => "container",
            Self::Unit => "unit",
            Self::Process => "process",
            Self::Service => "service",
            Self::External => "external",
            Self::Node => "node",
            Self::Dns => "dns",
            Self::Address => "address",
            Self::Unknown => "unknown",
        }
    }
}

/// A workload. Interned: equal identities are the same allocation, so the pointer may serve as a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// `service.name`; `unknown` where nothing is known.
    pub name: Arc<str>,
    /// `service.namespace`; empty where there is none.
    pub namespace: Arc<str>,
    /// How it is known.
    pub kind: IdentityKind,
    /// Further resource attributes of the workload instance, in OpenTelemetry's names
    /// (`container.id`, `process.executable.name`, …); bounded, sorted by key.
    pub attributes: Vec<(&'static str, Arc<str>)>,
    /// The workload of Kubernetes that it is, with what meshes call it.
    pub workload: Option<Arc<Workload>>,
}

/// One end of a call or connection.
#[derive(Clone, Debug)]
pub struct Party {
    /// Who.
    pub identity: Arc<Identity>,
    /// Where; `None` where even that is unknown.
    pub endpoint: Option<SocketAddr>,
    /// Process id on this host; 0 where it is not local or not known.
    pub pid: u32,
}

/// One end's observation of a call.
#[derive(Clone, Debug)]
pub struct Call {
    /// What was seen at this end.
    pub exchange: Box<Exchange>,
    /// Who asked.
    pub client: Party,
    /// Who was asked.
    pub server: Party,
    /// Path as a route: configured patterns first, then learnt. Of a remote procedure call
    /// the method, `package.Service/Method`, `_OTHER` or `<unknown>`: see
    /// [`crate::protocol::Routes::of_call`].
    pub route: Arc<str>,
    /// `server.address`: the host of the authority that the client asked for, else the address.
    pub server_address: Arc<str>,
    /// `server.port`.
    pub server_port: u16,
    /// The socket of the other end is on this host and known, so it reports this call too.
    pub peer_observed: bool,
    /// Equal for both observations of one call on this host, where [`Call::peer_observed`].
    pub pair: u64,
    /// The service of Kubernetes that was asked for, where it is known.
    pub service: Option<Arc<Service>>,
    /// What was asked for is behind an Istio waypoint, as labels of Kubernetes' objects say: it
    /// reports calls of those who are in the mesh. `true` also as long as that is not known;
    /// `false` where nobody asks ([`super::AttributionSettings::watches_namespaces`]).
    pub passes_waypoint: bool,
    /// How it went through a mesh; `None`: no proxy of one was seen beside this end.
    pub passage: Option<Arc<Passage>>,
    /// The other end behind the proxies, as far as it is known; `None`: no proxy was seen
    /// beside this end, or the request has no id.
    pub through: Option<Box<Through>>,
}

impl Call {
    /// Which end observed it.
    #[must_use]
    pub fn side(&self) -> Side {
        self.exchange.side
    }

    /// The end that observed it.
    #[must_use]
    pub fn local(&self) -> &Party {
        match self.exchange.side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        }
    }

    /// How often the client's proxy has tried, as the proxy beside the server says.
    #[must_use]
    pub fn attempt(&self) -> Option<u32> {
        self.passage.as_ref()?.mesh.attempt(self.exchange.relayed.as_ref()?)
    }

    /// What it took between its two ends where proxies stand there, in nanoseconds, as far as
    /// this end was told: see [`Through`].
    #[inline]
    #[must_use]
    pub fn between_ns(&self) -> Option<u64> {
        self.through.as_ref()?.times.between_ns
    }

    /// The waypoint between its ends, where it hid the client: see [`Through`].
    #[inline]
    #[must_use]
    pub fn waypoint(&self) -> Option<&Arc<Identity>> {
        self.through.as_ref()?.waypoint.as_ref()
    }

    /// The other end.
    #[must_use]
    pub fn peer(&self) -> &Party {
        match self.exchange.side {
            Side::Client => &self.server,
            Side::Server => &self.client,
        }
    }
}

/// What changed on a connection since its last report: figures are differences, not totals.
#[derive(Clone, Debug)]
pub struct ConnectionReport {
    /// The kernel's socket cookie, the same in every report of the connection, whatever
    /// becomes known of its ends in between. 0: not known.
    pub socket: u64,
    /// Which end of the connection observed it.
    pub side: Side,
    /// Who connected.
    pub client: Party,
    /// Who accepted.
    pub server: Party,
    /// Established since the last report (also set in the first report of a connection older than the agent: see [`ConnectionReport::late`]).
    pub opened: bool,
    /// The connection is older than the agent: it counts as active, not as opened.
    pub late: bool,
    /// Ended since the last report, with a `meshtap_ebpf::event::CLOSE_*` reason.
    pub closed: Option<u8>,
    /// Never established, with a `meshtap_ebpf::event::CLOSE_*` reason.
    pub failed: Option<u8>,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Payload bytes sent and acknowledged.
    pub bytes_sent: u64,
    /// Segments sent again.
    pub retransmits: u32,
    /// A sample of the smoothed round-trip time, microseconds.
    pub rtt_us: Option<u32>,
    /// From SYN to established, on the connecting side.
    pub connect_ns: Option<u64>,
    /// The service of Kubernetes that was asked for, where it is known.
    pub service: Option<Arc<Service>>,
    /// Whose proxy was seen at the other end.
    pub mesh: Option<Mesh>,
    /// Calls were read off it.
    pub spoke: bool,
}

/// The address of a party, for `network.peer.address`.
#[must_use]
pub fn address(party: &Party) -> Option<IpAddr> {
    party.endpoint.map(|endpoint| endpoint.ip())
}
