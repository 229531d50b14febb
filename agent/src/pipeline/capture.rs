//! [`Capture`]: the kernel half attached, and the thread that reads it.
//!
//! The thread owns the ring and all state up to the sink. It ends when it is asked to,
//! when the sink wants no more, when somebody detached a program without which nothing
//! is seen, or by a defect; whoever waits for it is told in any case.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use meshtap_ebpf::event::Ended;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{mpsc, oneshot};

use super::guard::{self, Beyond, Guard, Verdict};
use super::pulse::{KINDS, Pulse, kind};
use super::repeated::Repeated;
use super::{Found, Sink, Stages};
use crate::attribution::cluster::Change;
use crate::command::observe::Flow;
use crate::kernel::load::{Kernel, give_back_memory};
use crate::kernel::share::Share;
use crate::ring_buffer::Reader;

/// Events that are handed on at once.
const BATCH: usize = 1_024;
/// Changes of Kubernetes' objects that are taken between two emptyings of the ring.
const CHANGES: usize = 4_096;
/// Longest wait for a record. Whoever watches is told the time as often.
const LONGEST_WAIT: Duration = Duration::from_millis(250);
/// Time between two pulses.
const PULSE_NS: u64 = 1_000_000_000;
/// Longest time that what is left in the ring is read for at the end.
const LAST_DRAIN_NS: u64 = 2_000_000_000;

/// Asks the thread to end.
#[derive(Clone, Debug, Default)]
pub struct End(Arc<AtomicBool>);

impl End {
    /// Asks.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The thread.
#[derive(Debug)]
pub struct Capture<S> {
    end: End,
    sink: oneshot::Receiver<Result<S, Blind>>,
}

/// Nothing is read any more, and nobody asked for that.
#[derive(Debug, thiserror::Error)]
pub enum Blind {
    /// The thread ended.
    #[error(
        "the thread that reads the kernel's records ended by a defect of meshtap, nothing is counted any more; its message stands above: please report it, and start meshtap again"
    )]
    Defect,
    /// A program is gone from the cgroup root.
    #[error(
        "the program {0} is no longer attached to the cgroup root, nothing is seen any more; somebody detached it (bpftool, or another agent that cleans up): see to that, and start meshtap again"
    )]
    Detached(&'static str),
    /// A limit does not hold.
    #[error(
        "{0}: the agent leaves the kernel, nothing is seen any more; raise the limit, or see in `meshtap_events_total` what there is so much of"
    )]
    Beyond(Beyond),
}

/// What the thread begins with.
pub struct Source {
    /// Attached; detached when the thread ends.
    pub kernel: Kernel,
    /// Of its ring.
    pub reader: Reader,
    /// Size of the ring.
    pub ring_bytes: u64,
    /// Pause after an emptying of the ring that found something.
    pub interval: Duration,
    /// Changes of Kubernetes' objects, where they are watched.
    pub changes: Option<mpsc::Receiver<Change>>,
    /// Calls that the kernel half counts, where it does.
    pub repeated: Option<Repeated>,
    /// What keeps the agent within its limits.
    pub guard: Guard,
    /// Where it writes what it decides.
    pub share: Option<Share>,
}

impl<S: Sink + 'static> Capture<S> {
    /// Starts the thread.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(source: Source, stages: Stages, sink: S) -> std::io::Result<Self> {
        let end = End::default();
        let (sender, receiver) = oneshot::channel();
        let mut reading = Reading {
            source,
            stages,
            sink,
            end: end.clone(),
            found: Vec::new(),
            events: [0; KINDS.len()],
            ring_used: 0,
            last_bytes: 0,
            next_pulse_ns: 0,
            ended: Vec::new(),
            blind: None,
        };
        std::thread::Builder::new().name("meshtap-reader".to_owned()).spawn(move || {
            reading.run();
            // Where nobody waits any more the sink is not missed.
            let _ = sender.send(match reading.blind {
                Some(blind) => Err(blind),
                None => Ok(reading.sink),
            });
        })?;
        Ok(Self { end, sink: receiver })
    }

    /// What asks the thread to end.
    #[must_use]
    pub fn end(&self) -> End {
        self.end.clone()
    }

    /// Waits for the end of the thread; gives back the sink, with all that was read in it.
    /// Safe to cancel.
    ///
    /// # Errors
    /// [`Blind`] where it ended unasked.
    pub async fn ended(&mut self) -> Result<S, Blind> {
        (&mut self.sink).await.unwrap_or(Err(Blind::Defect))
    }
}

struct Reading<S> {
    source: Source,
    stages: Stages,
    sink: S,
    end: End,
    found: Vec<Found>,
    events: [u64; KINDS.len()],
    ring_used: u64,
    /// What the last emptying read.
    last_bytes: u64,
    next_pulse_ns: u64,
    /// Ends of connections that found no room in the ring: what it holds of theirs is read
    /// first.
    ended: Vec<(u64, Ended)>,
    /// Why nothing is to be seen any more.
    blind: Option<Blind>,
}

impl<S: Sink> Reading<S> {
    fn run(&mut self) {
        while !self.end.is_requested() {
            self.source.reader.wait(LONGEST_WAIT);
            if self.empty(u64::MAX) == Flow::Stop || self.blind.is_some() {
                return;
            }
            if self.last_bytes > 0 {
                // What comes meanwhile is read at once.
                std::thread::sleep(self.source.interval);
            }
        }
        // What was in the ring when the end was asked for still counts.
        let deadline_ns = monotonic_ns().saturating_add(LAST_DRAIN_NS);
        self.ended.extend(self.source.kernel.ended());
        self.empty(deadline_ns);
        if let Some(repeated) = &mut self.source.repeated {
            repeated.take_all(&mut self.stages, &mut self.found, monotonic_ns());
        }
        self.stages.release_all(&mut self.found);
        self.sink.take(&mut self.found, monotonic_ns());
        self.beat(monotonic_ns());
    }

    /// Reads until the ring is empty, or to the end of time.
    fn empty(&mut self, deadline_ns: u64) -> Flow {
        let before = self.source.reader.bytes();
        let ended = std::mem::take(&mut self.ended);
        self.change();
        loop {
            let read = self.batch();
            let now_ns = monotonic_ns();
            let is_last = read < BATCH || now_ns >= deadline_ns;
            if is_last {
                self.stages.ended(&ended, now_ns, &mut self.found);
                self.stages.release(now_ns, &mut self.found);
            }
            if let Some(repeated) = &mut self.source.repeated {
                repeated.take(&mut self.stages, &mut self.found, now_ns);
            }
            if now_ns >= self.next_pulse_ns {
                self.sweep(now_ns);
            }
            // Also without anything found: it tells the sink the time.
            let flow = self.sink.take(&mut self.found, now_ns);
            self.stages.reuse(&mut self.found);
            self.last_bytes = self.source.reader.bytes() - before;
            self.ring_used = self.ring_used.max(self.last_bytes);
            if now_ns >= self.next_pulse_ns {
                self.beat(now_ns);
            }
            let is_over = deadline_ns == u64::MAX && self.end.is_requested();
            if flow == Flow::Stop || is_last || is_over {
                return flow;
            }
        }
    }

    fn sweep(&mut self, now_ns: u64) {
        while self.stages.report_beginnings(now_ns, &mut self.found) {
            // Where it wants no more it says so again.
            let _ = self.sink.take(&mut self.found, now_ns);
            self.stages.reuse(&mut self.found);
        }
        self.stages.sweep(now_ns, &mut self.found);
        if let Some(repeated) = &mut self.source.repeated {
            repeated.take_all(&mut self.stages, &mut self.found, now_ns);
        }
    }

    /// Takes what changed among Kubernetes' objects.
    fn change(&mut self) {
        let Some(changes) = &mut self.source.changes else { return };
        for _ in 0..CHANGES {
            let Ok(change) = changes.try_recv() else { return };
            self.stages.attributor.change(change);
        }
    }

    fn batch(&mut self) -> usize {
        let Self { source, stages, found, events, .. } = self;
        let Source { kernel, reader, repeated, .. } = source;
        kernel.flush_log();
        reader.drain(BATCH, |event| {
            events[kind(&event)] += 1;
            if let Some(repeated) = repeated {
                repeated.event(&event);
            }
            stages.event(&event, found);
        })
    }

    /// Keeps within the limits.
    fn guard(&mut self, now_ns: u64) {
        if !self.source.guard.is_set() || self.end.is_requested() {
            return;
        }
        let measurement = guard::measure(now_ns, self.source.kernel.run_time_ns());
        match self.source.guard.take(measurement) {
            Verdict::Keep => {}
            Verdict::Follow(share) => self.follow(share),
            Verdict::Leave(beyond) => self.blind = Some(Blind::Beyond(beyond)),
        }
        if self.source.guard.is_tight() {
            give_back_memory();
        }
    }

    /// Has 1 in 2^`share` connections followed.
    fn follow(&mut self, share: u32) {
        // What was counted in the kernel is added with what it stood for.
        if let Some(repeated) = &mut self.source.repeated {
            repeated.begin_anew();
        }
        let is_set = self.source.share.as_mut().is_some_and(|map| map.set(share));
        if is_set {
            tracing::info!("to keep within `limits`, 1 in {} connections is followed", 1 << share);
        } else {
            tracing::warn!("`limits` cannot be kept: the kernel half takes no share");
        }
    }

    fn beat(&mut self, now_ns: u64) {
        self.next_pulse_ns = now_ns.saturating_add(PULSE_NS);
        let losses = self.source.kernel.losses();
        self.blind = self.source.kernel.detached().map(Blind::Detached);
        self.guard(now_ns);
        self.ended.extend(self.source.kernel.ended());
        self.sink.pulse(&Pulse {
            now_ns,
            events: &self.events,
            losses: &losses,
            host: &self.source.kernel.host(),
            tables: &self.source.kernel.tables(),
            undecodable: self.source.reader.undecodable(),
            ring_used: std::mem::take(&mut self.ring_used).min(self.source.ring_bytes),
            ring_bytes: self.source.ring_bytes,
            repeated: self.source.repeated.as_ref(),
            share: (
                self.source.guard.share(),
                self.source.share.as_ref().map_or(0, Share::left_out),
            ),
            stages: &self.stages,
        });
    }
}

/// `CLOCK_MONOTONIC`, as in the kernel's records.
pub(super) fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or_default()
}
