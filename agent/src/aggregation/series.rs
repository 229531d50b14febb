//! [`SeriesTable`]: every series, its state, and the budget that bounds them.
//!
//! **One label set of one metric is one series**, however it was come by: equality is by
//! content here; pointers serve only the shortcuts of the stage's front.

use std::sync::Arc;

use ahash::AHashMap;

use super::definition::{DEFINITIONS, Definition, Kind, MetricId, label};
use super::histogram::Distribution;
use super::labels::{Labels, Workload};
use super::snapshot::{Family, Label, Series, Value};
use crate::attribution::Identity;

/// A series' place in the table; good until the series expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotId(u32);

/// What a series has come to.
#[derive(Debug)]
enum State {
    Counter(u64),
    Gauge(i64),
    Histogram(Distribution),
}

/// When counting began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub(super) ns: u64,
    /// By the wall clock, as it stood then.
    pub(super) unix_ns: u64,
}

#[derive(Debug)]
struct Slot {
    metric: MetricId,
    state: State,
    last_ns: u64,
    start: Start,
    // `None`: an overflow series.
    key: Option<SeriesKey>,
    is_permanent: bool,
}

/// What makes a series itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct SeriesKey {
    metric: MetricId,
    workload: Option<Workload>,
    labels: Labels,
}

impl SeriesKey {
    fn resource(&self) -> Option<Arc<Identity>> {
        self.workload.as_ref().map(|workload| Arc::clone(workload.identity()))
    }
}

/// All series.
#[derive(Debug)]
pub(super) struct SeriesTable {
    slots: Vec<Option<Slot>>,
    vacant: Vec<u32>,
    index: AHashMap<SeriesKey, SlotId>,
    overflow: [Option<SlotId>; OVERFLOWS],
    overflow_labels: Labels,
    room: usize,
    overflowed: u64,
    expired: u64,
    /// How many observations each one stands for.
    weight: u64,
    /// Nanoseconds of the wall clock's time before the monotonic one's zero.
    unix_minus_monotonic: i64,
}

/// Overflow series that there can be: one per budgeted metric.
pub(super) const OVERFLOWS: usize = MetricId::CallsLost as usize + 1;

impl SeriesTable {
    /// A table that never holds more than `limit` series, overflow series included
    /// ([`OVERFLOWS`] at the least: totals have to go somewhere).
    pub(super) fn new(limit: usize, unix_minus_monotonic: i64) -> Self {
        Self {
            slots: Vec::new(),
            vacant: Vec::new(),
            index: AHashMap::new(),
            overflow: [None; OVERFLOWS],
            overflow_labels: Arc::from([(label::OVERFLOW.name, Label::Text("true".into()))]),
            room: limit.saturating_sub(OVERFLOWS),
            overflowed: 0,
            expired: 0,
            weight: 1,
            unix_minus_monotonic,
        }
    }

    /// The wall clock's time of a monotonic one.
    pub(super) fn unix_ns(&self, time_ns: u64) -> u64 {
        time_ns.saturating_add_signed(self.unix_minus_monotonic)
    }

    /// What begins at a monotonic time.
    pub(super) fn start(&self, ns: u64) -> Start {
        Start { ns, unix_ns: self.unix_ns(ns) }
    }

    /// Sets the wall clock. Of the series and `agent`, those that begin in the future by it,
    /// because it was put back, begin as long ago as they did.
    pub(super) fn follow_clock(&mut self, unix_minus_monotonic: i64, now: u64, agent: &mut Start) {
        let is_put_back = unix_minus_monotonic < self.unix_minus_monotonic;
        self.unix_minus_monotonic = unix_minus_monotonic;
        if !is_put_back {
            return;
        }
        let now = self.unix_ns(now);
        let starts = self.slots.iter_mut().flatten().map(|slot| &mut slot.start);
        for start in starts.chain([agent]).filter(|start| start.unix_ns > now) {
            start.unix_ns = start.ns.saturating_add_signed(unix_minus_monotonic);
        }
    }

    /// The series of this label set: found, made, or the metric's overflow series where
    /// the budget is spent.
    pub(super) fn slot(
        &mut self,
        metric: MetricId,
        resource: Option<&Arc<Identity>>,
        labels: &Labels,
        time_ns: u64,
    ) -> SlotId {
        let key =
            SeriesKey { metric, workload: resource.map(Workload::of), labels: Arc::clone(labels) };
        if let Some(found) = self.index.get(&key) {
            return *found;
        }
        if self.index.len() >= self.room {
            return self.overflow_slot(metric, time_ns);
        }
        let slot = self.insert(metric, Some(key.clone()), time_ns);
        self.index.insert(key, slot);
        slot
    }

    fn overflow_slot(&mut self, metric: MetricId, time_ns: u64) -> SlotId {
        if let Some(slot) = self.overflow[metric as usize] {
            return slot;
        }
        let slot = self.insert(metric, None, time_ns);
        if let Some(slot) = self.get_mut(slot) {
            slot.is_permanent = true;
        }
        self.overflow[metric as usize] = Some(slot);
        slot
    }

    fn insert(&mut self, metric: MetricId, key: Option<SeriesKey>, time_ns: u64) -> SlotId {
        let state = match metric.definition().kind {
            Kind::Counter => State::Counter(0),
            Kind::Gauge => State::Gauge(0),
            Kind::Histogram(bounds) => State::Histogram(Distribution::new(bounds)),
        };
        let start = self.start(time_ns);
        let slot = Slot { metric, state, last_ns: time_ns, start, key, is_permanent: false };
        if let Some(place) = self.vacant.pop() {
            self.slots[place as usize] = Some(slot);
            return SlotId(place);
        }
        let place = u32::try_from(self.slots.len())
            .expect("invariant: the budget is far below four thousand million series");
        self.slots.push(Some(slot));
        SlotId(place)
    }

    #[inline]
    fn get_mut(&mut self, slot: SlotId) -> Option<&mut Slot> {
        self.slots.get_mut(slot.0 as usize)?.as_mut()
    }

    #[inline]
    fn touch(&mut self, slot: SlotId, time_ns: u64, weight: u64) -> Option<&mut State> {
        let slot = self.slots.get_mut(slot.0 as usize)?.as_mut()?;
        slot.last_ns = slot.last_ns.max(time_ns);
        if slot.key.is_none() {
            self.overflowed += weight;
        }
        Some(&mut slot.state)
    }

    /// Has each observation stand for `weight` of its kind, until it is set again.
    #[inline]
    pub(super) fn weigh(&mut self, weight: u32) {
        self.weight = u64::from(weight);
    }

    /// Adds to a counter; adding nothing keeps it from expiring.
    #[inline]
    pub(super) fn add(&mut self, slot: SlotId, amount: u64, time_ns: u64) {
        let amount = amount.saturating_mul(self.weight);
        let weight = u64::from(amount > 0);
        if let Some(State::Counter(count)) = self.touch(slot, time_ns, weight) {
            *count = count.saturating_add(amount);
        }
    }

    /// Moves a gauge.
    pub(super) fn shift(&mut self, slot: SlotId, by: i64, time_ns: u64) {
        let weight = u64::from(by != 0);
        if let Some(State::Gauge(value)) = self.touch(slot, time_ns, weight) {
            *value += by;
        }
    }

    /// One observation of a histogram.
    #[inline]
    pub(super) fn observe(&mut self, slot: SlotId, observation: u64, time_ns: u64) {
        let weight = self.weight;
        if let Some(State::Histogram(distribution)) = self.touch(slot, time_ns, weight) {
            distribution.observe(observation, weight);
        }
    }

    /// Many observations of a histogram.
    pub(super) fn merge(&mut self, slot: SlotId, buckets: &[u64], sum: u64, time_ns: u64) {
        let weight = buckets.iter().sum();
        if let Some(State::Histogram(distribution)) = self.touch(slot, time_ns, weight) {
            distribution.merge(buckets, sum);
        }
    }

    /// Exempts a series from expiry.
    pub(super) fn keep(&mut self, slot: SlotId) {
        if let Some(slot) = self.get_mut(slot) {
            slot.is_permanent = true;
        }
    }

    /// Drops what nothing touched since `deadline_ns`; returns how many there were.
    /// A gauge that stands above zero speaks of something that lives: it stays.
    pub(super) fn expire(&mut self, deadline_ns: u64) -> usize {
        let mut count = 0;
        for (place, entry) in (0_u32..).zip(self.slots.iter_mut()) {
            let Some(slot) = entry else { continue };
            let is_standing = matches!(slot.state, State::Gauge(value) if value != 0);
            if slot.is_permanent || is_standing || slot.last_ns >= deadline_ns {
                continue;
            }
            if let Some(key) = entry.take().and_then(|slot| slot.key) {
                self.index.remove(&key);
            }
            self.vacant.push(place);
            count += 1;
        }
        self.expired += count as u64;
        count
    }

    /// Whether the series stands, and is not an overflow series.
    pub(super) fn is_own(&self, slot: SlotId) -> bool {
        self.slots
            .get(slot.0 as usize)
            .and_then(Option::as_ref)
            .is_some_and(|slot| slot.key.is_some())
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.vacant.len()
    }

    pub(super) fn overflowed(&self) -> u64 {
        self.overflowed
    }

    pub(super) fn expired(&self) -> u64 {
        self.expired
    }

    /// The families that have series, in the order of the definitions.
    pub(super) fn families(&self) -> Vec<Family> {
        let mut families: Vec<Family> =
            DEFINITIONS[..OVERFLOWS].iter().map(Definition::family).collect();
        for slot in self.slots.iter().flatten() {
            let labels = slot.key.as_ref().map_or(&self.overflow_labels, |key| &key.labels);
            families[slot.metric as usize].series.push(Series {
                resource: slot.key.as_ref().and_then(SeriesKey::resource),
                labels: labels.to_vec(),
                start_unix_ns: slot.start.unix_ns,
                value: slot.state.value(),
            });
        }
        families.retain(|family| !family.series.is_empty());
        families
    }
}

impl State {
    #[expect(clippy::cast_precision_loss, reason = "numbers are exposed as floats")]
    fn value(&self) -> Value {
        match self {
            Self::Counter(count) => Value::Number(*count as f64),
            Self::Gauge(value) => Value::Number(*value as f64),
            Self::Histogram(distribution) => Value::Histogram {
                buckets: distribution.buckets().to_vec(),
                sum: distribution.sum(),
            },
        }
    }
}
