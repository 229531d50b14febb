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

/// A server whose name no other program of this host has.
#[derive(Debug)]
pub struct Books {
    kind: Kind,
    name: String,
    port: String,
    cgroup: Option<String>,
}

impl Books {
    /// Of the server that listens on `port`.
    #[must_use]
    pub fn new(kind: Kind, port: u16) -> Self {
        Self { kind, name: format!("shop-{port}"), port: port.to_string(), cgroup: None }
    }

    /// Of one that shares `port` with others, each in a cgroup of its own (a path from the
    /// root of the hierarchy).
    #[must_use]
    pub fn in_cgroup(kind: Kind, port: u16, name: &str, cgroup: &str) -> Self {
        let cgroup = Some(cgroup.to_owned());
        Self { kind, name: name.to_owned(), port: port.to_string(), cgroup }
    }

    /// What the agent is to be told, so that it calls the server by that name.
    #[must_use]
    pub fn configuration(&self) -> String {
        format!("names:\n{}", self.rule())
    }

    /// One entry of `names`.
    #[must_use]
    pub fn rule(&self) -> String {
        let cgroup = self.cgroup.as_ref().map(|path| format!(", cgroup: \"**{path}\""));
        let cgroup = cgroup.unwrap_or_default();
        format!("  - name: {}\n    match: {{ port: {}{cgroup} }}\n", self.name, self.port)
    }

    /// The server's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Calls of `client` as they were counted at the server.
    #[must_use]
    pub fn at_server(&self, scrape: &Scrape, client: &str) -> Ledger {
        let labels = [("service_name", self.name.as_str()), ("service_peer_name", client)];
        self.ledger(scrape, "server", &labels)
    }

    /// Calls of `client` as they were counted there.
    #[must_use]
    pub fn at_client(&self, scrape: &Scrape, client: &str) -> Ledger {
        let labels = [
            ("service_name", client),
            ("service_peer_name", self.name.as_str()),
            ("server_port", self.port.as_str()),
        ];
        self.ledger(scrape, "client", &labels)
    }

    /// Calls of `client` as they were counted at the server, and there.
    #[must_use]
    pub fn sides(&self, scrape: &Scrape, client: &str) -> [Ledger; 2] {
        [self.at_server(scrape, client), self.at_client(scrape, client)]
    }

    /// Ends of calls that were counted under other names, or as calls of HTTP where they are
    /// remote procedure calls: what would have said so went by unseen.
    #[must_use]
    pub fn unrecognised(&self, scrape: &Scrape, client: &str) -> u64 {
        let count = |name: &str, label: &str, value: &str| scrape.count(name, &[(label, value)]);
        let mut all = 0;
        for protocol in ["http", "rpc"] {
            let of = |side| match protocol {
                "http" => format!("http_{side}_request_duration_seconds_count"),
                _ => format!("rpc_{side}_call_duration_seconds_count"),
            };
            all += count(&of("server"), "service_name", &self.name);
            all += count(&of("server"), "service_name", "unknown");
            all += count(&of("client"), "server_port", &self.port);
        }
        let recognised =
            self.at_server(scrape, client).total() + self.at_client(scrape, client).total();
        all.saturating_sub(recognised)
    }

    fn ledger(&self, scrape: &Scrape, side: &str, labels: &[(&str, &str)]) -> Ledger {
        match self.kind {
            Kind::Http => {
                let name = format!("http_{side}_request_duration_seconds_count");
                Ledger::from_metrics(scrape, &name, labels)
            }
            Kind::Rpc => {
                let name = format!("rpc_{side}_call_duration_seconds_count");
                Ledger::from_rpc_metrics(scrape, &name, labels)
            }
        }
    }

    /// Reads the metrics when both ends of `total` calls were seen or declared lost, or when
    /// patience ends.
    pub fn settle(&self, agent: &Agent, client: &str, total: u64) -> Result<Scrape> {
        agent.scrape_until(|scrape| {
            let lost = lost_of(scrape, &[&self.name]);
            let unrecognised = self.unrecognised(scrape, client);
            let both = self.at_server(scrape, client).total()
                + self.at_client(scrape, client).total()
                + unrecognised
                + lost;
            both >= 2 * total
        })
    }
}

/// Ends of calls that the agent declares lost; not those of whom it knows that they are
/// calls to others than `servers`, for whoever else works on this host.
#[must_use]
pub fn lost_of(scrape: &Scrape, servers: &[&str]) -> u64 {
    let by = scrape.by("meshtap_calls_lost_total", &["server"], &[]);
    let is_meant = |server: &str| servers.contains(&server) || ["", "unknown"].contains(&server);
    by.iter().filter(|(key, _)| key.iter().all(|server| is_meant(server))).map(|(_, it)| it).sum()
}

/// Ends of calls that the agent declares lost.
#[must_use]
pub fn lost(scrape: &Scrape) -> u64 {
    scrape.count("meshtap_calls_lost_total", &[])
}
