//! What there is, and every change since the history was last cut.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::names::{now, uid};

/// A kind of objects that the server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// `/api/v1/pods`
    Pods,
    /// `/api/v1/services`
    Services,
    /// `/api/v1/nodes`
    Nodes,
    /// `/apis/discovery.k8s.io/v1/endpointslices`
    EndpointSlices,
    /// `/api/v1/namespaces`
    Namespaces,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Pods, Self::Services, Self::Nodes, Self::EndpointSlices, Self::Namespaces];

    /// As in a path and in rules of RBAC.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Services => "services",
            Self::Nodes => "nodes",
            Self::EndpointSlices => "endpointslices",
            Self::Namespaces => "namespaces",
        }
    }

    /// `kind` of an object.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Pods => "Pod",
            Self::Services => "Service",
            Self::Nodes => "Node",
            Self::EndpointSlices => "EndpointSlice",
            Self::Namespaces => "Namespace",
        }
    }

    /// `apiVersion` of an object.
    #[must_use]
    pub fn version(self) -> &'static str {
        match self {
            Self::EndpointSlices => "discovery.k8s.io/v1",
            _ => "v1",
        }
    }

    /// What the path to it begins with.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::EndpointSlices => "/apis/discovery.k8s.io/v1/",
            _ => "/api/v1/",
        }
    }
}

/// What names an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Its kind.
    pub resource: Resource,
    /// Empty of a node, and of a namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// The key of an object, which has to have `kind` and `metadata.name`.
    pub fn of(object: &Value) -> Result<Self> {
        let kind = object["kind"].as_str().context("an object without a kind")?;
        let resource = Resource::ALL.into_iter().find(|resource| resource.kind() == kind);
        let resource = resource.with_context(|| format!("{kind} is not served"))?;
        let metadata = &object["metadata"];
        let name = metadata["name"].as_str().context("an object without a name")?.to_owned();
        let namespace = metadata["namespace"].as_str().unwrap_or_default().to_owned();
        Ok(Self { resource, namespace, name })
    }
}

/// An object that came, changed or went.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub version: u64,
    pub at: Instant,
    pub resource: Resource,
    /// `None`: it came.
    pub before: Option<Arc<Value>>,
    /// `None`: it went.
    pub after: Option<Arc<Value>>,
}

#[derive(Debug)]
pub(super) struct Store {
    /// Of the last change; what `resourceVersion` of a list is.
    pub version: u64,
    /// Changes up to this one are forgotten.
    pub forgotten: u64,
    pub objects: BTreeMap<Key, Arc<Value>>,
    changes: Vec<Change>,
}

impl Default for Store {
    fn default() -> Self {
        // As in a cluster that has been running: the first versions are long gone.
        Self { version: 1000, forgotten: 999, objects: BTreeMap::new(), changes: Vec::new() }
    }
}

impl Store {
    /// Creates or replaces an object. What the server itself fills in is filled in.
    pub fn apply(&mut self, mut object: Value) -> Result<Key> {
        let key = Key::of(&object)?;
        let before = self.objects.get(&key).cloned();
        let old = before.as_deref().map(|object| &object["metadata"]);
        self.version += 1;
        let metadata = &mut object["metadata"];
        for (field, new) in [("uid", uid as fn() -> String), ("creationTimestamp", now)] {
            if metadata[field].is_null() {
                metadata[field] = match old.map(|old| &old[field]) {
                    Some(value) if !value.is_null() => value.clone(),
                    _ => new().into(),
                };
            }
        }
        metadata["resourceVersion"] = self.version.to_string().into();
        let after = Arc::new(object);
        self.objects.insert(key.clone(), Arc::clone(&after));
        self.note(key.resource, before, Some(after));
        Ok(key)
    }

    /// Deletes an object; `false`: there was none.
    pub fn delete(&mut self, key: &Key) -> bool {
        let Some(before) = self.objects.remove(key) else { return false };
        self.version += 1;
        self.note(key.resource, Some(before), None);
        true
    }

    fn note(&mut self, resource: Resource, before: Option<Arc<Value>>, after: Option<Arc<Value>>) {
        let (version, at) = (self.version, Instant::now());
        self.changes.push(Change { version, at, resource, before, after });
    }

    /// Forgets every change: who comes and wants to go on from before has to list again.
    /// Watches that are there go on.
    pub fn forget(&mut self) {
        // A version of its own, so that what was listed a moment ago is too old as well.
        self.version += 1;
        self.forgotten = self.version;
    }

    /// The changes behind a version, in order.
    pub fn since(&self, version: u64) -> &[Change] {
        let first = self.changes.partition_point(|change| change.version <= version);
        self.changes.get(first..).unwrap_or_default()
    }
}
