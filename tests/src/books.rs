//! [`Books`]: what an agent counted of the calls to one server, at each of their ends.

use anyhow::Result;

use crate::agent::Agent;
use crate::ledger::Ledger;
use crate::scrape::Scrape;

/// Which metrics count the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Those of HTTP.
    Http,
    /// Those of remote procedure calls.
    Rpc,
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Server,
    Client,
}

/// A server whose name no other program of this host has.
#[derive(Debug)]
pub struct Books {
    kind: Kind,
    name: String,
    port: String,
}

impl Books {
    /// Of the server that listens on `port`.
    #[must_use]
    pub fn new(kind: Kind, port: u16) -> Self {
        Self { kind, name: format!("shop-{port}"), port: port.to_string() }
    }

    /// What the agent is to be told, so that it calls the server by that name.
    #[must_use]
    pub fn configuration(&self) -> String {
        format!("names:\n  - name: {}\n    match: {{ port: {} }}\n", self.name, self.port)
    }

    /// The server's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Calls of `client` as they were counted at the server.
    #[must_use]
    pub fn at_server(&self, scrape: &Scrape, client: &str) -> Ledger {
        self.ledger(self.kind, scrape, Side::Server, client)
    }

    /// Calls of `client` as they were counted there.
    #[must_use]
    pub fn at_client(&self, scrape: &Scrape, client: &str) -> Ledger {
        self.ledger(self.kind, scrape, Side::Client, client)
    }

    /// Ends of remote procedure calls of which not even that is known: what said so went by
    /// unseen, and they are counted as calls of HTTP.
    #[must_use]
    pub fn unrecognised(&self, scrape: &Scrape, client: &str) -> u64 {
        let total = |side| self.ledger(Kind::Http, scrape, side, client).total();
        if self.kind == Kind::Rpc { total(Side::Server) + total(Side::Client) } else { 0 }
    }

    fn ledger(&self, kind: Kind, scrape: &Scrape, side: Side, client: &str) -> Ledger {
        let (name, port) = (self.name.as_str(), self.port.as_str());
        let (side, labels) = match side {
            Side::Server => ("server", vec![("service_name", name), ("service_peer_name", client)]),
            Side::Client => (
                "client",
                vec![("service_name", client), ("service_peer_name", name), ("server_port", port)],
            ),
        };
        match kind {
            Kind::Http => {
                let name = format!("http_{side}_request_duration_seconds_count");
                Ledger::from_metrics(scrape, &name, &labels)
            }
            Kind::Rpc => {
                let name = format!("rpc_{side}_call_duration_seconds_count");
                Ledger::from_rpc_metrics(scrape, &name, &labels)
            }
        }
    }

    /// Reads the metrics when both ends of `total` calls were seen or declared lost, or when
    /// patience ends.
    pub fn settle(&self, agent: &Agent, client: &str, total: u64) -> Result<Scrape> {
        agent.scrape_until(|scrape| {
            let lost = lost(scrape);
            let unrecognised = self.unrecognised(scrape, client);
            let both = self.at_server(scrape, client).total()
                + self.at_client(scrape, client).total()
                + unrecognised
                + lost;
            both >= 2 * total
        })
    }
}

/// Ends of calls that the agent declares lost.
#[must_use]
pub fn lost(scrape: &Scrape) -> u64 {
    scrape.count("meshtap_calls_lost_total", &[])
}
