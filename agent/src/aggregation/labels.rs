//! Label sets: which facts of a call, connection or loss become which labels.
//!
//! Runs once per label set, never per call.

mod rpc;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use ahash::AHashMap;

use super::definition::LabelDefinition;
use super::definition::label::{
    ADDRESS, CLIENT, CLIENT_NAMESPACE, CONNECTION_TYPE, DESTINATION_PRINCIPAL, DIRECTION, ERROR,
    MESH, METHOD, PEER_NAME, PEER_NAMESPACE, POLICY, PORT, REASON, ROLE, ROUTE, SCHEME, SERVER,
    SERVER_NAMESPACE, SOURCE_PRINCIPAL, STATUS, VERSION,
};
use super::snapshot::Label;
use super::summary::CallFacts;
use crate::attribution::Identity;
use crate::protocol::{Side, Text};

/// Labels of a series, sorted by name; shared by the metrics that have the same ones.
pub(super) type Labels = Arc<[(&'static str, Label)]>;

/// Attributes that tell instances of a workload apart, best first; the one that an
/// identity has is a label in Prometheus.
pub const INSTANCE_ATTRIBUTES: [&str; 2] = ["service.instance.id", "container.id"];

/// The attribute that tells this instance of its workload apart, if any.
#[must_use]
pub fn instance(identity: &Identity) -> Option<(&'static str, &Arc<str>)> {
    INSTANCE_ATTRIBUTES.iter().find_map(|wanted| {
        let (name, value) = identity.attributes.iter().find(|(name, _)| name == wanted)?;
        Some((*name, value))
    })
}

/// A workload as a part of a series' key: name, namespace and instance. Identities that
/// differ only in what no exposition shows as a label are the same workload.
#[derive(Clone, Debug)]
pub(super) struct Workload(Arc<Identity>);

impl Workload {
    pub(super) fn of(identity: &Arc<Identity>) -> Self {
        Self(Arc::clone(identity))
    }

    fn parts(&self) -> (&str, &str, Option<(&'static str, &Arc<str>)>) {
        (&self.0.name, &self.0.namespace, instance(&self.0))
    }

    pub(super) fn identity(&self) -> &Arc<Identity> {
        &self.0
    }
}

impl PartialEq for Workload {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.parts() == other.parts()
    }
}

impl Eq for Workload {}

impl Hash for Workload {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

/// Words that recur as label values, each allocated once.
#[derive(Debug, Default)]
pub(super) struct Words {
    fixed: AHashMap<&'static str, Arc<str>>,
    codes: AHashMap<u16, Arc<str>>,
}

impl Words {
    fn fixed(&mut self, word: &'static str) -> Label {
        Label::Text(Arc::clone(self.fixed.entry(word).or_insert_with(|| word.into())))
    }

    fn code(&mut self, code: u16) -> Label {
        let text = self.codes.entry(code).or_insert_with(|| code.to_string().into());
        Label::Text(Arc::clone(text))
    }

    /// Labels of the HTTP metrics, for either side.
    pub(super) fn http(&mut self, facts: &CallFacts<'_>) -> Labels {
        let mut labels = Set::default();
        if let Some(cause) = facts.error {
            labels.push(&ERROR, self.fixed(cause.name()));
        } else if let Some(status) = facts.status.filter(|status| facts.is_error(*status)) {
            labels.push(&ERROR, self.code(status));
        }
        labels.push(&METHOD, self.fixed(facts.method.name()));
        if let Some(status) = facts.status {
            labels.push(&STATUS, Label::Integer(i64::from(status)));
        }
        labels.text(&ROUTE, facts.route);
        labels.push(&VERSION, self.fixed(facts.protocol.version()));
        labels.asked(facts);
        labels.peer(facts.peer());
        if facts.side == Side::Server {
            labels.push(&SCHEME, self.fixed("http"));
        }
        labels.0.into()
    }

    /// Labels of the service graph.
    pub(super) fn graph(&mut self, facts: &CallFacts<'_>) -> Labels {
        let (client, server) = (&facts.client.identity, &facts.server.identity);
        let mut labels = Set::default();
        labels.text(&CLIENT, &client.name);
        labels.text(&CLIENT_NAMESPACE, &client.namespace);
        let passage = facts.passage.map(|passage| &**passage);
        if let Some(policy) = passage.and_then(|passage| passage.policy) {
            labels.push(&POLICY, self.fixed(policy.name()));
        }
        if !facts.peer_observed {
            labels.push(&CONNECTION_TYPE, self.fixed("virtual_node"));
        }
        let principal = |text: &Option<Text>| text.as_ref().map(|text| text.as_str().into());
        if let Some(server) = passage.and_then(|passage| principal(&passage.server_principal)) {
            labels.text(&DESTINATION_PRINCIPAL, &server);
        }
        if let Some(passage) = passage {
            labels.push(&MESH, self.fixed(passage.mesh.name()));
        }
        labels.text(&SERVER, &server.name);
        labels.text(&SERVER_NAMESPACE, &server.namespace);
        if let Some(client) = passage.and_then(|passage| principal(&passage.client_principal)) {
            labels.text(&SOURCE_PRINCIPAL, &client);
        }
        labels.0.into()
    }

    /// Labels of what lies between two ends in a mesh.
    pub(super) fn between(&mut self, facts: &CallFacts<'_>) -> Labels {
        let (client, server) = (&facts.client.identity, &facts.server.identity);
        let mut labels = Set::default();
        labels.text(&CLIENT, &client.name);
        labels.text(&CLIENT_NAMESPACE, &client.namespace);
        if let Some(passage) = facts.passage {
            labels.push(&MESH, self.fixed(passage.mesh.name()));
        }
        labels.text(&SERVER, &server.name);
        labels.text(&SERVER_NAMESPACE, &server.namespace);
        labels.0.into()
    }

    /// Labels of calls that were lost.
    pub(super) fn lost(
        &mut self,
        parties: Option<(&Identity, &Identity)>,
        reason: &'static str,
    ) -> Labels {
        let mut labels = Set::default();
        if let Some((client, _)) = parties {
            labels.text(&CLIENT, &client.name);
            labels.text(&CLIENT_NAMESPACE, &client.namespace);
        }
        labels.push(&REASON, self.fixed(reason));
        if let Some((_, server)) = parties {
            labels.text(&SERVER, &server.name);
            labels.text(&SERVER_NAMESPACE, &server.namespace);
        }
        labels.0.into()
    }

    /// Labels of the TCP metrics; `more` is a direction or a reason, and sorts first.
    pub(super) fn tcp(&mut self, side: Side, peer: &Identity, more: Option<Facet>) -> Labels {
        let mut labels = Set::default();
        match more {
            Some(Facet::Direction(word)) => labels.push(&DIRECTION, self.fixed(word)),
            Some(Facet::Reason(word)) => labels.push(&REASON, self.fixed(word)),
            None => {}
        }
        labels.push(&ROLE, self.role(side));
        labels.peer(peer);
        labels.0.into()
    }

    fn role(&mut self, side: Side) -> Label {
        self.fixed(match side {
            Side::Client => "client",
            Side::Server => "server",
        })
    }
}

/// What splits a TCP metric beside its edge.
#[derive(Clone, Copy, Debug)]
pub(super) enum Facet {
    Direction(&'static str),
    Reason(&'static str),
}

#[derive(Default)]
struct Set(Vec<(&'static str, Label)>);

impl Set {
    fn push(&mut self, label: &LabelDefinition, value: Label) {
        self.0.push((label.name, value));
    }

    // An empty label would be the same series in Prometheus as an absent one.
    fn text(&mut self, label: &LabelDefinition, value: &Arc<str>) {
        if !value.is_empty() {
            self.push(label, Label::Text(Arc::clone(value)));
        }
    }

    /// What the client asked for: no label of the server's side.
    fn asked(&mut self, facts: &CallFacts<'_>) {
        if facts.side == Side::Client {
            self.text(&ADDRESS, facts.server_address);
            if facts.server_port != 0 {
                self.push(&PORT, Label::Integer(i64::from(facts.server_port)));
            }
        }
    }

    fn peer(&mut self, peer: &Identity) {
        self.text(&PEER_NAME, &peer.name);
        self.text(&PEER_NAMESPACE, &peer.namespace);
    }
}
