//! Paths become routes: configured patterns first, then what the paths of a service teach.
//!
//! Every name that leaves this file is one of a bounded set per service
//! ([`RouteSettings::routes_per_service`] learnt ones, the patterns, and the constants
//! here). **The route of a path is stable**; it changes only
//! - once, from its own name to one with `{param}`, when a position turns out to have
//!   more than [`RouteSettings::children`] names (never back);
//! - from [`OTHER`] to a route of its own, when such a change made room;
//! - when a service was forgotten ([`RouteSettings::services`]) and is learnt anew.

mod learner;
mod method;
mod pairs;
pub mod pattern;
pub mod segment;

use std::sync::Arc;

use lru::LruCache;

use super::{Exchange, Text, exchange};
use learner::{Learner, Learnt};
use method::Methods;
use pairs::Pairs;
pub use pattern::{PatternError, RoutePattern};

/// The route of paths for which a service has no room left.
pub const OTHER: &str = "other";
/// The route of a path that is not known: a head cut before it.
pub const UNKNOWN: &str = "unknown";
/// The route of a target that is no path: `host:port` of CONNECT.
pub const AUTHORITY: &str = "{authority}";
/// The route of the target `*`.
pub const ASTERISK: &str = "*";
/// The name of remote procedures that a service is not known to have, or has no room for:
/// OpenTelemetry's word.
pub const OTHER_METHOD: &str = "_OTHER";

/// Longest path that is remembered by its text; longer ones are learnt anew each time.
const REMEMBERED: usize = 256;

/// Patterns and bounds of [`Routes`].
#[derive(Clone, Debug)]
pub struct RouteSettings {
    /// In order of precedence: the first that fits is the route.
    pub patterns: Vec<RoutePattern>,
    /// What fits no pattern teaches a route; else it has none, which is the empty text.
    pub learns: bool,
    /// Learnt routes of one service that stand at one time; further paths are [`OTHER`].
    pub routes_per_service: usize,
    /// Different names at one position of a path above which it becomes `{param}`.
    pub children: usize,
    /// Services with learnt routes; beyond it the one not asked for longest is forgotten.
    pub services: usize,
    /// Paths remembered with their routes, rounded up to a power of two; a newer path takes the place of an older.
    pub remembered: usize,
}

impl Default for RouteSettings {
    fn default() -> Self {
        Self {
            patterns: Vec::new(),
            learns: true,
            routes_per_service: 256,
            children: 64,
            services: 1_024,
            remembered: 4_096,
        }
    }
}

/// State of [`Routes`]; the counters only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteOccupancy {
    /// Services with learnt routes.
    pub services: usize,
    /// Learnt routes that stand, of all services.
    pub routes: usize,
    /// Paths that were answered from memory.
    pub remembered: u64,
    /// Paths that had to be matched or learnt.
    pub resolved: u64,
    /// Of those, how many found no room and became [`OTHER`].
    pub other: u64,
    /// Positions that became `{param}`.
    pub collapsed: u64,
    /// Services that were forgotten.
    pub services_evicted: u64,
    /// Names of remote procedures that stand, of all services.
    pub methods: usize,
    /// Calls of proven methods that found no room and became [`OTHER_METHOD`].
    pub methods_other: u64,
}

/// A path and its route. Direct-mapped: one slot per hash, the newer wins.
#[derive(Debug, Default)]
struct Slot {
    /// Of [`Routes::generation`]; 0: empty.
    generation: u64,
    service: String,
    path: String,
    route: Option<Arc<str>>,
}

/// Turns paths into routes.
#[derive(Debug)]
pub struct Routes {
    settings: RouteSettings,
    services: LruCache<Arc<str>, Learner, ahash::RandomState>,
    slots: Vec<Slot>,
    pairs: Pairs,
    methods: Methods,
    method_pairs: Pairs,
    /// Of [`Routes::method_pairs`], likewise.
    method_generation: u64,
    hasher: ahash::RandomState,
    /// Grows when a route may have changed: what was remembered before does not count.
    generation: u64,
    occupancy: RouteOccupancy,
    other: Arc<str>,
    other_method: Arc<str>,
    unknown_method: Arc<str>,
    unknown: Arc<str>,
    authority: Arc<str>,
    asterisk: Arc<str>,
    none: Arc<str>,
}

impl Routes {
    /// Knows nothing but the patterns yet.
    #[must_use]
    pub fn new(settings: RouteSettings) -> Self {
        let slots = settings.remembered.max(1).next_power_of_two();
        Self {
            settings,
            services: LruCache::unbounded_with_hasher(ahash::RandomState::new()),
            slots: std::iter::repeat_with(Slot::default).take(slots).collect(),
            pairs: Pairs::new(),
            methods: Methods::new(),
            method_pairs: Pairs::new(),
            method_generation: 1,
            hasher: ahash::RandomState::new(),
            generation: 1,
            occupancy: RouteOccupancy::default(),
            other: Arc::from(OTHER),
            other_method: Arc::from(OTHER_METHOD),
            unknown_method: Arc::from(exchange::UNKNOWN),
            unknown: Arc::from(UNKNOWN),
            authority: Arc::from(AUTHORITY),
            asterisk: Arc::from(ASTERISK),
            none: Arc::from(""),
        }
    }

    /// What a call is counted under at the service that answers it: the route of its path,
    /// of a remote procedure call the name of the method: `package.Service/Method` where an answer
    /// showed that the service has it, else [`OTHER_METHOD`]; [`exchange::UNKNOWN`] stays.
    #[inline]
    pub fn of_call(&mut self, service: &Arc<str>, exchange: &Exchange) -> Arc<str> {
        match exchange.rpc_method() {
            None => self.of(service, &exchange.path),
            Some(method) => self.method(service, method, exchange),
        }
    }

    /// [`Routes::resolve`] for texts that may be the very ones of calls before.
    pub fn of(&mut self, service: &Arc<str>, path: &Text) -> Arc<str> {
        if let Some(route) = self.pairs.get(self.generation, service, path) {
            self.occupancy.remembered += 1;
            return Arc::clone(route);
        }
        let route = self.resolve(service, path.as_str());
        if path.as_str().len() <= REMEMBERED {
            self.pairs.put(self.generation, service, path, &route);
        }
        route
    }

    /// `package.Service/Method` where an answer showed that the service has it, else
    /// [`OTHER_METHOD`]; at most [`RouteSettings::routes_per_service`] different names at one
    /// service. [`exchange::UNKNOWN`] stays what it is.
    fn method(&mut self, service: &Arc<str>, method: &str, exchange: &Exchange) -> Arc<str> {
        if method == exchange::UNKNOWN {
            return Arc::clone(&self.unknown_method);
        }
        let generation = self.method_generation;
        if let Some(name) = self.method_pairs.get(generation, service, &exchange.path) {
            return Arc::clone(name);
        }
        let name = match self.methods.known(service, method) {
            Some(name) => name,
            None if !exchange.proves_rpc_method() => return Arc::clone(&self.other_method),
            None => match self.learn_method(service, method) {
                Some(name) => name,
                None => return Arc::clone(&self.other_method),
            },
        };
        self.method_pairs.put(self.method_generation, service, &exchange.path, &name);
        name
    }

    #[cold]
    fn learn_method(&mut self, service: &str, method: &str) -> Option<Arc<str>> {
        let name = self.methods.learn(service, method, self.settings.routes_per_service);
        if self.methods.forget_beyond(self.settings.services) > 0 {
            self.method_generation += 1;
        }
        self.occupancy.methods_other += u64::from(name.is_none());
        name
    }

    /// The route of `path` (without query, as in [`super::Exchange::path`]) at the
    /// service that answers it.
    pub fn resolve(&mut self, service: &str, path: &str) -> Arc<str> {
        let hash = self.hasher.hash_one((service, path));
        let index = usize::try_from(hash & (self.slots.len() as u64 - 1)).unwrap_or(0);
        let slot = &self.slots[index];
        if slot.generation == self.generation
            && slot.path == path
            && slot.service == service
            && let Some(route) = &slot.route
        {
            self.occupancy.remembered += 1;
            return Arc::clone(route);
        }
        self.occupancy.resolved += 1;
        let route = self.find(service, path);
        if path.len() <= REMEMBERED {
            self.remember(index, service, path, &route);
        }
        route
    }

    /// Patterns and bounds.
    #[must_use]
    pub fn settings(&self) -> &RouteSettings {
        &self.settings
    }

    /// Counters and how much is held.
    #[must_use]
    pub fn occupancy(&self) -> RouteOccupancy {
        let (services, methods) = (self.services.len(), self.methods.len());
        RouteOccupancy { services, methods, ..self.occupancy }
    }

    fn find(&mut self, service: &str, path: &str) -> Arc<str> {
        if let Some(pattern) =
            self.settings.patterns.iter().find(|pattern| pattern.fits(service, path))
        {
            return pattern.route();
        }
        match path.as_bytes().first() {
            None => Arc::clone(&self.unknown),
            Some(_) if path == exchange::UNKNOWN => Arc::clone(&self.unknown),
            Some(b'/') if self.settings.learns => self.learn(service, path),
            Some(b'/') => Arc::clone(&self.none),
            Some(_) if path == ASTERISK => Arc::clone(&self.asterisk),
            Some(_) => Arc::clone(&self.authority),
        }
    }

    fn learn(&mut self, service: &str, path: &str) -> Arc<str> {
        if !self.services.contains(service) {
            self.services.put(Arc::from(service), Learner::default());
            self.forget_beyond_bound();
        }
        let Some(learner) = self.services.get_mut(service) else { return Arc::clone(&self.other) };
        let before = learner.routes();
        let learnt = learner.learn(path, self.settings.routes_per_service, self.settings.children);
        self.occupancy.routes = self.occupancy.routes + learner.routes() - before;
        let route = match learnt {
            Learnt::Route(route) => Some(route),
            Learnt::Changed(route) => {
                self.occupancy.collapsed += 1;
                self.generation += 1;
                route
            }
            Learnt::NoRoom => None,
        };
        route.unwrap_or_else(|| {
            self.occupancy.other += 1;
            Arc::clone(&self.other)
        })
    }

    fn forget_beyond_bound(&mut self) {
        while self.services.len() > self.settings.services.max(1) {
            let Some((_, learner)) = self.services.pop_lru() else { return };
            self.occupancy.routes -= learner.routes();
            self.occupancy.services_evicted += 1;
            self.generation += 1;
        }
    }

    fn remember(&mut self, index: usize, service: &str, path: &str, route: &Arc<str>) {
        let slot = &mut self.slots[index];
        slot.generation = self.generation;
        slot.service.clear();
        slot.service.push_str(service);
        slot.path.clear();
        slot.path.push_str(path);
        slot.route = Some(Arc::clone(route));
    }
}

#[cfg(test)]
mod tests;
