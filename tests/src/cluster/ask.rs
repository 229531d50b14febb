//! What a request asks for, and which objects it selects.

use std::collections::BTreeMap;

use serde_json::Value;

use super::store::{Key, Resource};

/// What is done with a resource, as rules of RBAC name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// One object.
    Get,
    /// All that there is.
    List,
    /// All that happens.
    Watch,
}

/// A request that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What was to be done.
    pub verb: Verb,
    /// With what.
    pub resource: Resource,
    /// Only there; empty: in all namespaces.
    pub namespace: String,
    /// The query's parameters.
    pub query: BTreeMap<String, String>,
    /// `User-Agent`.
    pub agent: String,
    /// HTTP's status of the answer.
    pub status: u16,
}

impl Asked {
    /// A parameter of the query; empty where there is none.
    #[must_use]
    pub fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }
}

/// A request, taken apart.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub verb: Verb,
    pub resource: Resource,
    pub namespace: String,
    /// Of the one object; empty: of all.
    pub name: String,
    pub query: BTreeMap<String, String>,
    fields: Vec<Term>,
    labels: Vec<Term>,
}

/// `name=value`, `name!=value`, `name`, `!name`.
#[derive(Clone, Debug)]
struct Term {
    name: String,
    /// `None`: any.
    value: Option<String>,
    is_negative: bool,
}

impl Ask {
    /// Takes a path and a query apart; `None`: nothing that is served.
    pub fn parse(path: &str, query: BTreeMap<String, String>) -> Option<Self> {
        let rest = Resource::ALL.into_iter().find_map(|resource| {
            let rest = path.strip_prefix(resource.prefix())?;
            let (namespace, rest) = match rest.strip_prefix("namespaces/") {
                Some(rest) => rest.split_once('/')?,
                None => ("", rest),
            };
            let name = match rest.strip_prefix(resource.name())? {
                "" => "",
                name => name.strip_prefix('/')?,
            };
            (!name.contains('/')).then(|| (resource, namespace.to_owned(), name.to_owned()))
        });
        let (resource, namespace, name) = rest?;
        let is_watch = query.get("watch").is_some_and(|value| value == "1" || value == "true");
        let verb = match (name.is_empty(), is_watch) {
            (false, _) => Verb::Get,
            (true, true) => Verb::Watch,
            (true, false) => Verb::List,
        };
        let terms = |name: &str| query.get(name).map_or_else(Vec::new, |text| terms(text));
        let (fields, labels) = (terms("fieldSelector"), terms("labelSelector"));
        Some(Self { verb, resource, namespace, name, query, fields, labels })
    }

    /// A parameter that is a number; `None`: it is not given, or none.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.query.get(name)?.parse().ok()
    }

    /// Whether a parameter is `true`.
    pub fn says(&self, name: &str) -> bool {
        self.query.get(name).is_some_and(|value| value == "true" || value == "1")
    }

    /// Whether an object belongs to what is asked for.
    pub fn selects(&self, object: &Value) -> bool {
        let Ok(key) = Key::of(object) else { return false };
        let is_there = self.namespace.is_empty() || self.namespace == key.namespace;
        let fields = self.fields.iter().all(|term| {
            // What an object does not have is as if empty.
            let path = format!("/{}", term.name.replace('.', "/"));
            term.holds(Some(object.pointer(&path).map(text).unwrap_or_default()))
        });
        let labels = &object["metadata"]["labels"];
        let labels = self.labels.iter().all(|term| term.holds(labels.get(&term.name).map(text)));
        key.resource == self.resource && is_there && fields && labels
    }
}

impl Term {
    fn holds(&self, found: Option<String>) -> bool {
        let matches = match (&self.value, found) {
            (Some(value), Some(found)) => *value == found,
            (None, found) => found.is_some(),
            (Some(_), None) => false,
        };
        matches != self.is_negative
    }
}

fn terms(text: &str) -> Vec<Term> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value, is_negative) = if let Some((name, value)) = part.split_once("!=") {
                (name, Some(value), true)
            } else if let Some((name, value)) = part.split_once('=') {
                (name, Some(value.trim_start_matches('=')), false)
            } else if let Some(name) = part.strip_prefix('!') {
                (name, None, true)
            } else {
                (part, None, false)
            };
            let value = value.map(|value| value.trim().to_owned());
            Term { name: name.trim().to_owned(), value, is_negative }
        })
        .collect()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
