//! [`Methods`]: names of remote procedures, of which a service has a bounded number.
//!
//! Names come from whoever calls, so **a name counts only once an answer showed that the
//! service has it**: who asks for names that he made up teaches nothing.

use std::collections::HashMap;
use std::sync::Arc;

use lru::LruCache;

/// Longest name that is learnt.
const LONGEST: usize = 256;

type Names = HashMap<Box<str>, Arc<str>, ahash::RandomState>;

/// The methods of all services.
#[derive(Debug)]
pub(super) struct Methods {
    services: LruCache<Arc<str>, Names, ahash::RandomState>,
    names: usize,
}

impl Methods {
    pub(super) fn new() -> Self {
        let services = LruCache::unbounded_with_hasher(ahash::RandomState::new());
        Self { services, names: 0 }
    }

    /// How many names stand.
    pub(super) fn len(&self) -> usize {
        self.names
    }

    /// The name as it is counted; `None`: the service is not known to have it.
    pub(super) fn known(&mut self, service: &str, method: &str) -> Option<Arc<str>> {
        self.services.get(service)?.get(method).cloned()
    }

    /// Takes up a name that the service has, unless it has `room` names already.
    pub(super) fn learn(&mut self, service: &str, method: &str, room: usize) -> Option<Arc<str>> {
        if method.len() > LONGEST {
            return None;
        }
        if !self.services.contains(service) {
            self.services.put(Arc::from(service), Names::default());
        }
        let names = self.services.get_mut(service)?;
        if names.len() >= room {
            return None;
        }
        let name: Arc<str> = Arc::from(method);
        if names.insert(Box::from(method), Arc::clone(&name)).is_none() {
            self.names += 1;
        }
        Some(name)
    }

    /// Forgets the services beyond `bound`, those not asked for longest first: how many.
    pub(super) fn forget_beyond(&mut self, bound: usize) -> u64 {
        let mut forgotten = 0;
        while self.services.len() > bound.max(1) {
            let Some((_, names)) = self.services.pop_lru() else { break };
            self.names -= names.len();
            forgotten += 1;
        }
        forgotten
    }
}
