//! Who controls a pod.

use serde_json::{Value, json};

use super::names::uid;

/// An entry of `metadata.ownerReferences` with `controller: true`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `apps/v1`, `batch/v1`, `v1`, …
    pub version: String,
    /// `ReplicaSet`, `StatefulSet`, …
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl Owner {
    /// One with a uid of its own.
    #[must_use]
    pub fn new(version: &str, kind: &str, name: &str) -> Self {
        let (version, kind, name) = (version.to_owned(), kind.to_owned(), name.to_owned());
        Self { version, kind, name, uid: uid() }
    }

    /// As in an object.
    #[must_use]
    pub fn object(&self) -> Value {
        let Self { version, kind, name, uid } = self;
        json!({
            "apiVersion": version, "kind": kind, "name": name, "uid": uid,
            "controller": true, "blockOwnerDeletion": true
        })
    }
}
