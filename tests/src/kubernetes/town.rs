//! [`Town`]: a node with pods of one namespace, the agent installed on it, and what the agent
//! says of calls between the pods.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{Installed, Node, Pod, Right};
use crate::helm::Helm;
use crate::receiver::{Receiver, Transport};
use crate::requirement::missing;
use crate::scrape::Scrape;

/// Calls by own name and namespace, and those of the other end.
pub type Edges = BTreeMap<Vec<String>, u64>;

/// A node with pods and an agent.
pub struct Town {
    /// The node.
    pub node: Node,
    /// What takes the agent's OTLP.
    pub receiver: Receiver,
    /// The agent.
    // Behind the node, which ends it.
    pub agent: Installed,
    namespace: &'static str,
}

/// What a metric of calls is called at one side: `client` or `server`.
#[must_use]
pub fn metric(side: &str) -> String {
    format!("http_{side}_request_duration_seconds_count")
}

impl Town {
    /// Why there can be none here; `Ok`: the helm by which the agent is installed.
    pub fn helm() -> Result<Helm, String> {
        match Node::missing().or_else(|| missing(&["ldd"])) {
            Some(reason) => Err(reason),
            None => Helm::at_hand(),
        }
    }

    /// Brings up a node, has `settle` put pods into `namespace`, which is made before, and
    /// installs the agent when they are there.
    pub fn found(
        helm: &Helm,
        namespace: &'static str,
        settle: impl FnOnce(&Node) -> Result<()>,
    ) -> Result<Self> {
        Self::found_with(helm, namespace, &json!({}), settle)
    }

    /// [`Town::found`] with more of the agent's configuration: sections that its own has not.
    pub fn found_with(
        helm: &Helm,
        namespace: &'static str,
        more: &Value,
        settle: impl FnOnce(&Node) -> Result<()>,
    ) -> Result<Self> {
        let node = Node::up()?;
        node.namespace(namespace)?;
        settle(&node)?;
        let receiver = Receiver::start(Transport::Grpc)?;
        let mut config = json!({
            "otlp": {"endpoint": receiver.endpoint(), "protocol": "grpc", "interval": "1s"},
            "kubernetes": {"cluster": "lab-cluster"},
        });
        for (section, value) in more.as_object().into_iter().flatten() {
            config[section] = value.clone();
        }
        let agent = Installed::by(helm, &node, &config)?;
        Ok(Self { node, receiver, agent, namespace })
    }

    /// The agent may list and watch endpoint slices and these resources, may do nothing else
    /// that not everybody may, and has done all of it.
    pub fn has_its_rights(&self, resources: &[&str]) -> Result<()> {
        let slices = [("discovery.k8s.io", "endpointslices")];
        let of_core = resources.iter().map(|resource| ("", *resource));
        let wanted: BTreeSet<Right> = of_core
            .chain(slices)
            .flat_map(|(group, resource)| {
                ["list", "watch"].map(|verb| [verb, group, resource].map(str::to_owned))
            })
            .collect();
        let (granted, used) = (self.agent.granted(&self.node)?, self.agent.used()?);
        ensure!(granted == wanted, "it may {granted:#?} instead of {wanted:#?}");
        ensure!(used == wanted, "it used {used:#?} of {wanted:#?}");
        Ok(())
    }

    /// The pods with the label `app`, once they are so many and all ready.
    pub fn pods(&self, app: &str, count: usize) -> Result<Vec<Pod>> {
        self.node.wait_for_pods(self.namespace, &format!("app={app}"), count)
    }

    /// The only one.
    pub fn one(&self, app: &str) -> Result<Pod> {
        self.pods(app, 1)?.pop().context("there is one")
    }

    /// What a scrape says of the namespace's workloads at one side, `client` or `server`.
    #[must_use]
    pub fn edges(&self, scrape: &Scrape, side: &str) -> Edges {
        let labels =
            ["service_name", "service_namespace", "service_peer_name", "service_peer_namespace"];
        scrape.by(&metric(side), &labels, &[("service_namespace", self.namespace)])
    }

    /// Edges of (client, server, calls) inside the namespace, as one side sees them.
    #[must_use]
    pub fn wanted(&self, calls: &[(&str, &str, u64)], side: &str) -> Edges {
        let edge = |&(client, server, count): &(&str, &str, u64)| {
            let (own, peer) = if side == "client" { (client, server) } else { (server, client) };
            ([own, self.namespace, peer, self.namespace].map(str::to_owned).to_vec(), count)
        };
        calls.iter().map(edge).collect()
    }

    /// What `act` has the pods do is these calls, (client, server, calls), at both sides, and
    /// nothing else; the scrape that says so.
    pub fn expect(&self, calls: &[(&str, &str, u64)], act: impl FnOnce()) -> Result<Scrape> {
        let wanted = ["client", "server"].map(|side| self.wanted(calls, side));
        self.expect_sides(&wanted, act)
    }

    /// [`Town::expect`] where the sides differ, the client's first.
    pub fn expect_sides(&self, wanted: &[Edges; 2], act: impl FnOnce()) -> Result<Scrape> {
        let before = self.agent.scrape_until(|_| true)?;
        act();
        let gain = |scrape: &Scrape| {
            ["client", "server"]
                .map(|side| added(&self.edges(&before, side), self.edges(scrape, side)))
        };
        let sums = |sides: &[Edges; 2]| sides.each_ref().map(|side| side.values().sum::<u64>());
        let [at_client, at_server] = sums(wanted);
        let scrape = self.agent.scrape_until(|scrape| {
            let [client, server] = sums(&gain(scrape));
            client >= at_client && server >= at_server
        })?;
        let found = gain(&scrape);
        for ((side, found), wanted) in ["client", "server"].into_iter().zip(&found).zip(wanted) {
            ensure!(found == wanted, "at the {side}: {found:#?} instead of {wanted:#?}");
        }
        Ok(scrape)
    }
}

/// What came to the edges since an earlier look.
fn added(before: &Edges, after: Edges) -> Edges {
    let gain = |(edge, count): (Vec<String>, u64)| {
        let gain = count.saturating_sub(before.get(&edge).copied().unwrap_or(0));
        (gain > 0).then_some((edge, gain))
    };
    after.into_iter().filter_map(gain).collect()
}
