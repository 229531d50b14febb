//! [`Repeated`]: which calls the kernel half counts by itself, and what comes of its counts.
//!
//! A call that was told twice on one connection, with the same head and an answer of the same
//! status, is asked to be counted from there on. What was counted becomes a summary under the
//! names that its ends have at that moment, in the same series as if each call had been told.
//! Of HTTP/2 the blocks of headers have to be the same, of the answer, too, and what they refer
//! to; of gRPC the numbers of messages as well.

use std::fmt;

use ahash::AHashMap;
use meshtap_ebpf::repeat::{BUCKETS, Control, Counts, SLOTS, pair};
use meshtap_ebpf::streams::Expected;

use super::{Found, Stages};
use crate::aggregation::histogram::SIZE;
use crate::aggregation::{CallSummary, Tally};
use crate::attribution::Call;
use crate::kernel::repeats::Repeats;
use crate::protocol::{Exchange, Protocol};
use crate::ring_buffer::Event;

/// Calls of a kind that are told although it has a slot, and fewer counted meanwhile: what it
/// costs to look at them is in vain.
const IN_VAIN: u32 = 64;
/// Time without a call after which a slot is given back.
const IDLE_NS: u64 = 10_000_000_000;

/// The kernel half's table, in which each tag has a few slots that it may be in.
pub trait Table: fmt::Debug + Send {
    /// A slot for the tag that is free.
    fn free(&self, tag: u64) -> Option<u32>;
    /// Has a slot count this from now on, and nothing where it has no tag; false: it could
    /// not be written.
    fn write(&mut self, slot: u32, control: Control) -> bool;
    /// What a slot expects of calls of HTTP/2, before it is written; false: as above.
    fn expect(&mut self, slot: u32, expected: &Expected) -> bool;
    /// Marks the connection that a slot for HTTP/2 belongs to, before it is written, or takes one
    /// mark back; false: as above.
    fn mark(&mut self, cookie: u64, is_counted: bool) -> bool;
    /// What was ever counted in a slot.
    fn counts(&self, slot: u32) -> Option<Counts>;
}

impl Table for Repeats {
    fn free(&self, tag: u64) -> Option<u32> {
        self.free(tag)
    }

    fn write(&mut self, slot: u32, control: Control) -> bool {
        self.write(slot, control)
    }

    fn expect(&mut self, slot: u32, expected: &Expected) -> bool {
        self.expect(slot, expected)
    }

    fn mark(&mut self, cookie: u64, is_counted: bool) -> bool {
        self.mark(cookie, is_counted)
    }

    fn counts(&self, slot: u32) -> Option<Counts> {
        self.counts(slot)
    }
}

/// A kind of call that is counted.
#[derive(Debug)]
struct Kind {
    /// The call that was told last; what it says of time is not used.
    exchange: Box<Exchange>,
    control: Control,
    /// Of which everything was taken.
    counts: Counts,
    /// Nothing more is to be counted; what was counted meanwhile is taken with the next reading.
    ends: bool,
    /// When the last call was.
    used_ns: u64,
    /// Calls since the last reading that were told all the same: they had other answers.
    told: u32,
    /// They were most of them, until then.
    in_vain: bool,
}

/// The kinds of calls that are counted, by slot.
#[derive(Debug)]
pub struct Repeated {
    table: Box<dyn Table>,
    kinds: AHashMap<u32, Kind>,
    /// Slots of a connection.
    sockets: AHashMap<u64, Vec<u32>>,
    /// Tags that were told once: one place for two slots, the newer tag takes it.
    told: Vec<u64>,
    /// Connections that have ended.
    ended: Vec<u64>,
    calls: u64,
    refused: u64,
}

impl Repeated {
    /// Counts nothing yet.
    #[must_use]
    pub fn new(table: impl Table + 'static) -> Self {
        Self {
            table: Box::new(table),
            kinds: AHashMap::new(),
            sockets: AHashMap::new(),
            told: vec![0; SLOTS as usize / 2],
            ended: Vec::new(),
            calls: 0,
            refused: 0,
        }
    }

    /// Calls that the kernel half counted.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// Slots in use, the bound, and how often there was none.
    #[must_use]
    pub fn occupancy(&self) -> (usize, usize, u64) {
        (self.kinds.len(), SLOTS as usize, self.refused)
    }

    /// Takes note of the end of a connection.
    pub fn event(&mut self, event: &Event<'_>) {
        if let Event::Closed(record) = event
            && self.sockets.contains_key(&record.header.cookie)
        {
            self.ended.push(record.header.cookie);
        }
    }

    /// Looks which of the calls that were found are to be counted from now on, and adds to
    /// them what has been counted on connections that have ended.
    pub fn take(&mut self, stages: &mut Stages, found: &mut Vec<Found>, now_ns: u64) {
        for found in found.iter() {
            if let Found::Call(call) = found {
                self.told(call, stages, now_ns);
            }
        }
        while let Some(cookie) = self.ended.pop() {
            for slot in self.sockets.remove(&cookie).unwrap_or_default() {
                self.end(slot);
                self.read(slot, stages, found);
                self.remove(slot);
            }
        }
    }

    /// Adds everything that has been counted. To be called about every second.
    pub fn take_all(&mut self, stages: &mut Stages, found: &mut Vec<Found>, now_ns: u64) {
        let slots: Vec<u32> = self.kinds.keys().copied().collect();
        for slot in slots {
            let Some(kind) = self.read(slot, stages, found) else { continue };
            let (ends, cookie, in_vain) = (kind.ends, kind.exchange.socket, kind.in_vain);
            if in_vain && !ends {
                self.give_up(slot);
            } else if ends {
                self.remove(slot);
                self.leave(cookie, slot);
            } else if now_ns.saturating_sub(kind.used_ns) > IDLE_NS {
                self.end(slot);
            }
        }
    }

    /// Has each call told again, for what connections stand for is about to change; what was
    /// counted until now is added with the next reading.
    pub fn begin_anew(&mut self) {
        let slots: Vec<u32> = self.kinds.keys().copied().collect();
        slots.iter().for_each(|slot| self.end(*slot));
    }

    /// A call was told: the second time it gets a slot.
    fn told(&mut self, call: &Call, stages: &Stages, now_ns: u64) {
        let Some(tag) = call.exchange.tag else { return };
        if !may_repeat(call) || !stages.attributor.knows_enough(call.exchange.socket) {
            return;
        }
        let place = pair(tag.get()) as usize;
        let Some(told) = self.told.get_mut(place) else { return };
        if *told == !tag.get() {
            return;
        }
        if *told != tag.get() {
            *told = tag.get();
            return;
        }
        let Some(control) = control(tag.get(), &call.exchange) else { return };
        self.count(control, call, now_ns);
    }

    fn count(&mut self, control: Control, call: &Call, now_ns: u64) {
        if let Some(slot) = self.slot(control.tag, call.exchange.socket) {
            if let Some(kind) = self.kinds.get_mut(&slot) {
                kind.told += 1;
            }
            return;
        }
        let free = self.table.free(control.tag).filter(|slot| !self.kinds.contains_key(slot));
        let Some(slot) = free else {
            self.refused += 1;
            return;
        };
        let Some(counts) = self.table.counts(slot) else { return };
        if call.exchange.protocol == Protocol::Http2 {
            let Some(expected) = expected(&call.exchange) else { return };
            if !self.table.expect(slot, &expected) || !self.table.mark(call.exchange.socket, true) {
                return;
            }
        }
        // Where it cannot be written, nothing takes the mark back: it costs a look.
        if !self.table.write(slot, control) {
            return;
        }
        let exchange = call.exchange.clone();
        self.sockets.entry(exchange.socket).or_default().push(slot);
        let (ends, told, in_vain) = (false, 0, false);
        let kind = Kind { exchange, control, counts, ends, used_ns: now_ns, told, in_vain };
        self.kinds.insert(slot, kind);
    }

    /// The slot that the tag has already.
    fn slot(&self, tag: u64, cookie: u64) -> Option<u32> {
        let slots = self.sockets.get(&cookie)?;
        let has_tag =
            |slot: &&u32| self.kinds.get(slot).is_some_and(|kind| kind.control.tag == tag);
        slots.iter().find(has_tag).copied()
    }

    /// Has nothing more counted of a kind; the place of its tag says so until another one takes
    /// it.
    fn give_up(&mut self, slot: u32) {
        let Some(tag) = self.kinds.get(&slot).map(|kind| kind.control.tag) else { return };
        self.end(slot);
        if let Some(place) = self.told.get_mut(pair(tag) as usize) {
            *place = !tag;
        }
    }

    /// Has nothing more counted in a slot.
    fn end(&mut self, slot: u32) {
        // Where it cannot be written it counts on, and is read on.
        if self.table.write(slot, Control::default())
            && let Some(kind) = self.kinds.get_mut(&slot)
        {
            kind.ends = true;
        }
    }

    fn remove(&mut self, slot: u32) {
        let Some(kind) = self.kinds.remove(&slot) else { return };
        if kind.exchange.protocol == Protocol::Http2 {
            self.table.mark(kind.exchange.socket, false);
        }
    }

    fn leave(&mut self, cookie: u64, slot: u32) {
        let Some(slots) = self.sockets.get_mut(&cookie) else { return };
        slots.retain(|other| *other != slot);
        if slots.is_empty() {
            self.sockets.remove(&cookie);
        }
    }

    /// Adds what was counted in a slot since the last time.
    fn read(&mut self, slot: u32, stages: &mut Stages, found: &mut Vec<Found>) -> Option<&Kind> {
        let counts = self.table.counts(slot)?;
        let kind = self.kinds.get_mut(&slot)?;
        let gains = Gains::of(&kind.counts, &counts);
        let told = std::mem::take(&mut kind.told);
        kind.in_vain = told >= IN_VAIN && gains.calls < u64::from(told);
        // Sums may be one call ahead, or behind: they stand where its call does.
        if gains.calls > 0 {
            kind.counts = counts;
            kind.used_ns = counts.last_ns;
            self.calls += gains.calls;
            let mut exchange = kind.exchange.clone();
            exchange.end_ns = counts.last_ns;
            if let Some(call) = stages.resolve(exchange) {
                let summary = gains.summary(&call);
                found.push(Found::Repeated(Box::new(summary), counts.last_ns));
            }
        }
        self.kinds.get(&slot)
    }
}

/// Whether calls like this one may be counted: nobody is to miss one of them by itself, and
/// nothing of it is to tell more than the series say.
fn may_repeat(call: &Call) -> bool {
    let exchange = &call.exchange;
    let has_ids = exchange.trace.is_some() || exchange.request_id.is_some();
    let is_plain = exchange.relayed.is_none() && call.passage.is_none();
    let is_of_protocol = match exchange.protocol {
        Protocol::Http11 => {
            exchange.rpc.is_none()
                && !matches!(exchange.method.as_str(), "HEAD" | "CONNECT")
                && exchange.request_bytes == 0
        }
        // The rest was looked at where it was tagged.
        Protocol::Http2 => exchange.answer.head != 0,
        Protocol::Http10 => false,
    };
    is_of_protocol && exchange.error.is_none() && !exchange.cut && !has_ids && is_plain
}

/// What is expected of a call of HTTP/2 beside its head: bodies in the same buckets of sizes,
/// and as many messages.
fn expected(exchange: &Exchange) -> Option<Expected> {
    let [asked, answered] = match &exchange.rpc {
        None => [0, 0],
        Some(rpc) => [rpc.request_messages?, rpc.response_messages?],
    };
    let (least, most) = sizes(exchange.request_bytes)?;
    Some(Expected {
        head: exchange.answer.head,
        tail: exchange.answer.tail,
        least,
        most,
        framed: exchange.rpc.is_some().into(),
        asked: asked.try_into().ok()?,
        answered: answered.try_into().ok()?,
    })
}

/// The fewest and the most bytes in a bucket of sizes.
fn sizes(bytes: u64) -> Option<(u32, u32)> {
    let bucket = SIZE.bucket(bytes);
    let least = match bucket.checked_sub(1) {
        Some(below) => SIZE.exact.get(below)? + 1,
        None => 0,
    };
    let most = SIZE.exact.get(bucket).copied().unwrap_or(u64::MAX);
    Some((u32::try_from(least).ok()?, u32::try_from(most).unwrap_or(u32::MAX)))
}

/// What is counted with a call: answers of its status, in the same bucket of sizes.
fn control(tag: u64, exchange: &Exchange) -> Option<Control> {
    let (least, most) = sizes(exchange.response_bytes)?;
    Some(Control { tag, least, most, status: exchange.status?.into(), pad: 0 })
}

/// What was counted between two readings.
struct Gains {
    calls: u64,
    buckets: [u64; BUCKETS],
    nanoseconds: u64,
    bytes: u64,
    asked: u64,
}

impl Gains {
    fn of(before: &Counts, now: &Counts) -> Self {
        let mut buckets = [0; BUCKETS];
        for ((gain, now), before) in buckets.iter_mut().zip(now.calls).zip(before.calls) {
            *gain = u64::from(now.wrapping_sub(before));
        }
        Self {
            calls: buckets.iter().sum(),
            buckets,
            nanoseconds: now.nanoseconds.wrapping_sub(before.nanoseconds),
            bytes: now.bytes.wrapping_sub(before.bytes),
            asked: now.asked.wrapping_sub(before.asked),
        }
    }

    fn summary(&self, call: &Call) -> CallSummary {
        let weight = u64::from(call.exchange.weight);
        let sizes = |bytes: u64, sum: u64| {
            let mut tally = Tally::default();
            if let Some(bucket) = tally.buckets.get_mut(SIZE.bucket(bytes)) {
                *bucket = self.calls.saturating_mul(weight);
            }
            tally.sum = sum.saturating_mul(weight);
            tally
        };
        let mut summary = CallSummary::of(call);
        summary.durations = Tally {
            buckets: self.buckets.map(|calls| calls.saturating_mul(weight)),
            sum: self.nanoseconds.saturating_mul(weight),
        };
        summary.request_bytes = sizes(call.exchange.request_bytes, self.asked);
        summary.response_bytes = sizes(call.exchange.response_bytes, self.bytes);
        if let (Some(rpc), Some(one)) = (&mut summary.rpc, &call.exchange.rpc) {
            let calls = self.calls.saturating_mul(weight);
            let messages = |of: Option<u64>| of.map(|count| count.saturating_mul(calls));
            rpc.request_messages = messages(one.request_messages);
            rpc.response_messages = messages(one.response_messages);
            rpc.request_bytes = summary.request_bytes.sum;
            rpc.response_bytes = summary.response_bytes.sum;
        }
        summary
    }
}

#[cfg(test)]
mod tests;
