//! [`Waypoints`]: which namespaces say that traffic to what is in them passes a waypoint.

use std::collections::HashMap;
use std::sync::Arc;

use super::object::Namespace;

type Map<K, V> = HashMap<K, V, ahash::RandomState>;

/// What namespaces say of waypoints. **Bounded**: what finds no place is as if it passed one.
#[derive(Debug)]
pub struct Waypoints {
    by_uid: Map<Arc<str>, Namespace>,
    by_name: Map<Arc<str>, bool>,
    is_watched: bool,
    is_listed: bool,
    is_full: bool,
    bound: usize,
    revision: u64,
}

impl Waypoints {
    /// At most `bound` namespaces. `is_watched`: whether they are told of at all; where they
    /// are not, they say nothing.
    pub fn new(bound: usize, is_watched: bool) -> Self {
        Self {
            by_uid: Map::default(),
            by_name: Map::default(),
            is_watched,
            is_listed: false,
            is_full: false,
            bound,
            revision: 0,
        }
    }

    /// Takes a namespace, or its new state.
    pub fn apply(&mut self, namespace: Namespace) {
        self.delete(&Arc::clone(&namespace.uid));
        if self.by_uid.len() >= self.bound {
            self.is_full = true;
            return;
        }
        self.by_name.insert(Arc::clone(&namespace.name), namespace.waypoint);
        self.by_uid.insert(Arc::clone(&namespace.uid), namespace);
    }

    /// The namespace is gone, or says nothing any more.
    pub fn delete(&mut self, uid: &Arc<str>) {
        self.revision += 1;
        let Some(gone) = self.by_uid.remove(uid) else { return };
        // One of the same name that came since stays.
        if !self.by_uid.values().any(|other| other.name == gone.name) {
            self.by_name.remove(&gone.name);
        }
    }

    /// All that say something have been told of.
    pub fn listed(&mut self) {
        self.revision += 1;
        self.is_listed = true;
    }

    /// A Service or a pod says something else itself.
    pub fn relabelled(&mut self) {
        self.revision += 1;
    }

    /// Whether traffic to something passes a waypoint, by what it says itself and where it is.
    /// As long as it is not known what namespaces say it does: the waypoint reports it then.
    pub fn lead(&self, own: Option<bool>, namespace: &str) -> bool {
        own.unwrap_or_else(|| {
            let said = self.by_name.get(namespace).copied();
            self.is_watched && said.unwrap_or(!self.is_listed || self.is_full)
        })
    }

    /// Uids of all namespaces that say something.
    pub fn uids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_uid.keys()
    }

    /// Grows with every change.
    pub fn revision(&self) -> u64 {
        self.revision
    }
}
