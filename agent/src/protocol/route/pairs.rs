//! [`Pairs`]: what two texts lead to, found by their addresses where they come together again.

use std::sync::Arc;

use super::super::Text;

/// Pairs that are at hand.
const PAIRS: usize = 256;

/// A text of a service and one of a path that came together before, and their name. Holds
/// both, so that neither address can come to mean another text.
#[derive(Debug)]
struct Pair {
    generation: u64,
    service: Arc<str>,
    path: Text,
    name: Arc<str>,
}

/// By the addresses of both texts: most come from memory themselves.
#[derive(Debug)]
pub(super) struct Pairs(Vec<Option<Pair>>);

impl Pairs {
    pub(super) fn new() -> Self {
        Self(std::iter::repeat_with(|| None).take(PAIRS).collect())
    }

    /// What was put under these very texts in this generation.
    #[inline]
    pub(super) fn get(
        &self,
        generation: u64,
        service: &Arc<str>,
        path: &Text,
    ) -> Option<&Arc<str>> {
        let pair = self.0.get(place(service, path))?.as_ref()?;
        let is_it = pair.generation == generation
            && Arc::ptr_eq(&pair.service, service)
            && pair.path.is_same(path);
        is_it.then_some(&pair.name)
    }

    pub(super) fn put(
        &mut self,
        generation: u64,
        service: &Arc<str>,
        path: &Text,
        name: &Arc<str>,
    ) {
        if let Some(slot) = self.0.get_mut(place(service, path)) {
            let (service, name) = (Arc::clone(service), Arc::clone(name));
            *slot = Some(Pair { generation, service, path: path.clone(), name });
        }
    }
}

#[inline]
fn place(service: &Arc<str>, path: &Text) -> usize {
    let addresses =
        (Arc::as_ptr(service).cast::<u8>().addr() >> 4) ^ (path.as_str().as_ptr().addr() >> 4);
    addresses % PAIRS
}
