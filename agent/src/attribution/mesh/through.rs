//! [`Through`]: what a call's two ends, with proxies between them, know of each other.

use std::sync::Arc;

use super::joining::{Application, End, Found, Ids, is_gateway};
use crate::attribution::{Attributor, Call, Identity, join};
use crate::protocol::{Exchange, Side};

/// By what the two ends of a call are known to be the same one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JoinedBy {
    /// Both carry the same `x-request-id`.
    RequestId,
    /// Both carry the same trace id and span id.
    TraceContext,
}

impl JoinedBy {
    /// As in lines and attributes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RequestId => "request_id",
            Self::TraceContext => "trace_context",
        }
    }
}

/// Times between the two ends of a call, `None`: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// What the call took at the client's end and not at the server's: the proxies and the
    /// network between them. Of a call that failed at neither.
    pub between_ns: Option<u64>,
    /// What it took at the accepted connection of the proxy beside the client and not at the
    /// one onwards, where requests can be read off both.
    pub client_proxy_ns: Option<u64>,
    /// The same of the proxy beside the server; also where one process is beside both.
    pub server_proxy_ns: Option<u64>,
}

/// One end of a call that passed a proxy, with an id by which the other may be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Through {
    /// This end, for the other one to refer to.
    pub number: u64,
    /// The other end, where that came before this one.
    pub other: Option<u64>,
    /// Ends of servers that a proxy asked in vain for the same call, and that came before.
    pub tried: Vec<u64>,
    /// How that is known.
    pub by: Option<JoinedBy>,
    /// What lies between the ends, told to the one that comes second.
    pub times: Times,
    /// The waypoint between, where it hid the client that the call is named after.
    pub waypoint: Option<Arc<Identity>>,
}

impl Attributor {
    /// Whether the client of a call that is over is hidden by a waypoint, and its own end may
    /// still come and tell who it is.
    #[must_use]
    pub fn awaits_client(&self, exchange: &Exchange) -> bool {
        if !self.has_proxies || !self.has_waypoints || exchange.side != Side::Server {
            return false;
        }
        let Some(connection) = self.connections.get(exchange.socket) else { return false };
        if connection.is_passed_on() || !is_gateway(&connection.remote) {
            return false;
        }
        let peer = join::peer(&self.connections, exchange.socket, connection);
        let peer = peer.and_then(|peer| self.connections.get(peer));
        let is_proxied = peer.is_some_and(|peer| peer.proxy.is_some());
        let ids = Ids::of(exchange).filter(|_| is_proxied);
        ids.is_some_and(|ids| !self.joining.has_client(&End::of(exchange, ids)))
    }

    /// Ends of clients beside proxies that came so far: each may be one that is awaited.
    #[must_use]
    pub fn client_ends(&self) -> u64 {
        self.joining.clients()
    }

    /// Remembers a request at a proxy's own socket, for the time that it spends there.
    pub(in crate::attribution) fn note_passing(&mut self, exchange: &Exchange, pid: u32) {
        if let Some(ids) = Ids::of(exchange) {
            self.joining.offer(End::of(exchange, ids), None, pid);
        }
    }

    /// Looks for the other end of a call that passed a proxy, by the ids that both carry.
    pub(in crate::attribution) fn join(&mut self, call: &mut Call, (socket, pid): (u64, u32)) {
        let Some(ids) = Ids::of(&call.exchange) else { return };
        let end = End::of(&call.exchange, ids);
        let application = Application {
            beside: socket,
            client: call.client.clone(),
            server: call.server.clone(),
            service: call.service.as_ref().map(Arc::clone),
            attempt: call.attempt(),
        };
        let (number, found) = self.joining.offer(end, Some(Box::new(application)), pid);
        let Found { other, tried, client, by, times } = found.unwrap_or_default();
        // A waypoint is no client: it stands between, like any proxy.
        let client = client.filter(|_| is_gateway(&call.client.identity));
        let hid = client.map(|client| std::mem::replace(&mut call.client, client));
        let waypoint = hid.map(|hid| hid.identity);
        call.through = Some(Box::new(Through { number, other, tried, by, times, waypoint }));
    }
}
