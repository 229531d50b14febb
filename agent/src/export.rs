//! Stage 5: series, spans and lines leave the process. [`Exporters`] is the pipeline's
//! front: everything on it returns at once, and what does not fit is counted.

pub mod access_log;
pub mod clock;
pub mod otlp;
pub mod prometheus;
pub mod queue;
pub mod server;
pub mod spans;
pub mod stop;

mod lines;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::logs::SdkLogRecord;
use opentelemetry_sdk::trace::SpanData;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::aggregation::Snapshot;
use crate::attribution::Call;
use access_log::{AccessLog, AccessLogSettings, Format};
use clock::{Clock, SharedClock};
use otlp::delivery::{Counters, Delivery};
use otlp::encode::{Item, LogEncoder, SpanEncoder};
use otlp::transport::{Transport, TransportError};
use otlp::{Host, OtlpSettings, Signal, worker};
use queue::{Bounds, Occupancy, Sender};
use spans::traced::{Traced, TracedSettings, TracedStats};
use spans::{Ids, Secret, SpanSettings, Spans};
use stop::Stopper;

/// Time between two looks at the wall clock.
const RESAMPLE: Duration = Duration::from_secs(10);

/// Everything that leaves the process but what is scraped from it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExportSettings {
    /// By OTLP.
    pub otlp: OtlpSettings,
    /// Which calls become spans.
    pub spans: SpanSettings,
    /// Whose calls somebody else makes spans of.
    pub traced: TracedSettings,
    /// Lines and log records.
    pub access_log: AccessLogSettings,
}

/// Why export cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A target cannot be used.
    #[error(transparent)]
    Target(#[from] TransportError),
    /// The exporters read `OTEL_EXPORTER_OTLP_*` themselves and refuse something there.
    #[error(
        "OTLP environment cannot be used: {0}; correct or unset the OTEL_EXPORTER_OTLP_ variable it names"
    )]
    Environment(#[from] ExporterBuildError),
    /// No thread for standard output.
    #[error(
        "cannot start the thread that writes the access log: {0}; raise the limit on processes (ulimit -u, TasksMax)"
    )]
    Thread(#[from] std::io::Error),
}

/// What one signal did since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalStats {
    /// Whether it is exported at all.
    pub enabled: bool,
    /// Its queue; all zero for metrics, which have none.
    pub queue: Occupancy,
    /// Items that the receiver took.
    pub exported: u64,
    /// Items that the receiver refused inside requests that it took.
    pub rejected: u64,
    /// Items in requests that were refused.
    pub failed: u64,
    /// Items that did not fit the queue or were given up. For metrics: data points that the
    /// next interval replaces, so that nothing is lost by them.
    pub dropped: u64,
    /// Attempts after the first.
    pub retries: u64,
}

/// What every signal did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Series by OTLP; items are data points.
    pub metrics: SignalStats,
    /// Spans by OTLP.
    pub traces: SignalStats,
    /// Access log by OTLP.
    pub logs: SignalStats,
    /// Access log on standard output.
    pub lines: SignalStats,
    /// Spans that were left out because somebody else makes them.
    pub traced: TracedStats,
}

/// The pipeline's front. Shared by reference; [`Exporters::shutdown`] ends it.
#[derive(Debug)]
pub struct Exporters {
    runtime: Handle,
    clock: SharedClock,
    stopper: Stopper,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    host: Host,
    metric_interval: Duration,
    metrics: Mutex<Option<Delivery>>,
    counters: [Arc<Counters>; 4],
    metrics_enabled: bool,
    spans: Spans,
    traced: Traced,
    access_log: AccessLog,
    format: Option<Format>,
    traces: Option<Sender<Item<SpanData>>>,
    logs: Option<Sender<Item<SdkLogRecord>>>,
    lines: Option<Sender<Vec<u8>>>,
}

const METRICS: usize = 0;
const TRACES: usize = 1;
const LOGS: usize = 2;
const LINES: usize = 3;

impl Exporters {
    /// Checks every setting and starts the tasks on `runtime`. Connects to nothing yet: a
    /// collector may come later.
    ///
    /// # Errors
    ///
    /// A setting that cannot work.
    pub fn start(settings: &ExportSettings, runtime: &Handle) -> Result<Self, StartError> {
        Self::start_with(
            settings,
            runtime,
            Host::read("/proc".as_ref()),
            Box::new(std::io::stdout()),
        )
    }

    /// [`Exporters::start`] for another host or another output.
    ///
    /// # Errors
    ///
    /// A setting that cannot work.
    pub fn start_with(
        settings: &ExportSettings,
        runtime: &Handle,
        host: Host,
        output: Box<dyn Write + Send>,
    ) -> Result<Self, StartError> {
        let _context = runtime.enter();
        let otlp = &settings.otlp;
        let mut exporters = Self {
            runtime: runtime.clone(),
            clock: SharedClock::new(Clock::sample()),
            stopper: Stopper::new(),
            tasks: Mutex::default(),
            metric_interval: otlp.metric_interval,
            metrics: Mutex::default(),
            counters: Default::default(),
            metrics_enabled: otlp.metrics.is_some(),
            spans: Spans::new(settings.spans, Secret::draw()),
            traced: Traced::new(settings.traced.clone()),
            access_log: AccessLog::new(settings.access_log),
            format: settings.access_log.stdout,
            traces: None,
            logs: None,
            lines: None,
            host,
        };
        *exporters.metrics.lock() = exporters.delivery(otlp, Signal::Metrics)?;
        let traces = exporters.delivery(otlp, Signal::Traces)?;
        let logs = exporters.delivery(otlp, Signal::Logs)?;
        if let Some(delivery) = traces {
            exporters.start_traces(otlp, delivery)?;
        }
        if let Some(delivery) = logs.filter(|_| settings.access_log.otlp) {
            exporters.start_logs(otlp, delivery)?;
        }
        if exporters.format.is_some() {
            exporters.start_lines(otlp.queue, output)?;
        }
        exporters.start_clock();
        Ok(exporters)
    }

    fn delivery(
        &self,
        settings: &OtlpSettings,
        signal: Signal,
    ) -> Result<Option<Delivery>, StartError> {
        let Some(target) = settings.target(signal) else { return Ok(None) };
        let transport = Transport::new(target, signal)?;
        let counters = match signal {
            Signal::Metrics => METRICS,
            Signal::Traces => TRACES,
            Signal::Logs => LOGS,
        };
        let counters = Arc::clone(&self.counters[counters]);
        Ok(Some(Delivery::new(signal, transport, settings.retry, counters)))
    }

    fn start_traces(
        &mut self,
        settings: &OtlpSettings,
        delivery: Delivery,
    ) -> Result<(), StartError> {
        let (sender, receiver) = queue::bounded(settings.queue);
        let encoder = SpanEncoder::new(self.host.clone())?;
        let counters = Arc::clone(&self.counters[TRACES]);
        let stop = self.stopper.stop();
        self.spawn(worker::forward(receiver, settings.batch, encoder, delivery, counters, stop));
        self.traces = Some(sender);
        Ok(())
    }

    fn start_logs(
        &mut self,
        settings: &OtlpSettings,
        delivery: Delivery,
    ) -> Result<(), StartError> {
        let (sender, receiver) = queue::bounded(settings.queue);
        let encoder = LogEncoder::new(self.host.clone())?;
        let counters = Arc::clone(&self.counters[LOGS]);
        let stop = self.stopper.stop();
        self.spawn(worker::forward(receiver, settings.batch, encoder, delivery, counters, stop));
        self.logs = Some(sender);
        Ok(())
    }

    fn start_lines(
        &mut self,
        bounds: Bounds,
        output: Box<dyn Write + Send>,
    ) -> Result<(), StartError> {
        let (sender, receiver) = queue::bounded(bounds);
        let counters = Arc::clone(&self.counters[LINES]);
        let written = lines::start(&self.runtime, receiver, output, counters, self.stopper.stop())?;
        self.spawn(async move {
            // The thread is gone either way once this resolves.
            let _ = written.await;
        });
        self.lines = Some(sender);
        Ok(())
    }

    fn start_clock(&self) {
        let (clock, mut stop) = (self.clock.clone(), self.stopper.stop());
        self.spawn(async move {
            let mut ticks = tokio::time::interval(RESAMPLE);
            loop {
                tokio::select! {
                    _ = ticks.tick() => clock.resample(),
                    _ = stop.requested() => return,
                }
            }
        });
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().push(self.runtime.spawn(task));
    }

    /// Whether spans or lines are to be made of calls at all.
    #[must_use]
    pub fn wants_calls(&self) -> bool {
        self.traces.is_some() || self.logs.is_some() || self.lines.is_some()
    }

    /// Sends the span of a call, where it is sampled and nobody else makes it.
    pub fn span(&self, call: &Call) {
        let Some(queue) = &self.traces else { return };
        self.traced.observe(call);
        if !self.spans.ids(call).sampled {
            return;
        }
        if let Some(by) = self.traced.by(call) {
            self.traced.left_out(by);
            return;
        }
        if !queue.has_room() {
            return;
        }
        if let Some(span) = self.spans.span(call, self.clock.get()) {
            let weight = spans::weight(&span);
            queue.offer(
                Item { identity: Arc::clone(&call.local().identity), content: span },
                weight,
            );
        }
    }

    /// Writes and sends the log line of a call, where the access log is on.
    pub fn log(&self, call: &Call) {
        if (self.lines.is_none() && self.logs.is_none()) || !self.access_log.wants(call) {
            return;
        }
        if let (Some(queue), Some(format)) = (&self.lines, self.format)
            && queue.has_room()
        {
            let mut line = Vec::with_capacity(512);
            self.access_log.line(call, self.clock.get(), format, &mut line);
            let weight = line.capacity() + size_of::<Vec<u8>>();
            queue.offer(line, weight);
        }
        if let Some(queue) = &self.logs
            && queue.has_room()
        {
            let record = self.access_log.record(call, self.clock.get(), self.linked(call));
            let weight = access_log::weight(&record);
            queue.offer(
                Item { identity: Arc::clone(&call.local().identity), content: record },
                weight,
            );
        }
    }

    /// The span that the log record of a call belongs to: the call's own, and where somebody
    /// else makes that one, the span that the request came from.
    fn linked(&self, call: &Call) -> Option<Ids> {
        self.traces.as_ref()?;
        let ids = self.spans.ids(call);
        if self.traced.by(call).is_none() {
            return Some(ids);
        }
        call.exchange.trace.map(|_| Ids { span: ids.parent, ..ids })
    }

    /// Sends what `source` gives on every interval, and once more at the end. Does nothing
    /// where metrics have no target, or when called a second time.
    pub fn metrics(&self, source: impl Fn() -> Snapshot + Send + Sync + 'static) {
        let Some(delivery) = self.metrics.lock().take() else { return };
        let counters = Arc::clone(&self.counters[METRICS]);
        let (host, stop) = (self.host.clone(), self.stopper.stop());
        let interval = self.metric_interval;
        self.spawn(worker::sweep(source, interval, host, delivery, counters, stop));
    }

    /// The offset that leaves with everything: the live view shows the same times.
    #[must_use]
    pub fn clock(&self) -> SharedClock {
        self.clock.clone()
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let of = |place: usize, queue: Option<Occupancy>| {
            let counters: &Counters = &self.counters[place];
            let queue_now = queue.unwrap_or_default();
            SignalStats {
                enabled: queue.is_some(),
                queue: queue_now,
                exported: counters.exported.load(Ordering::Relaxed),
                rejected: counters.rejected.load(Ordering::Relaxed),
                failed: counters.failed.load(Ordering::Relaxed),
                dropped: queue_now.dropped + counters.dropped.load(Ordering::Relaxed),
                retries: counters.retries.load(Ordering::Relaxed),
            }
        };
        let metrics = self.metrics_enabled.then(Occupancy::default);
        Stats {
            metrics: of(METRICS, metrics),
            traces: of(TRACES, self.traces.as_ref().map(Sender::occupancy)),
            logs: of(LOGS, self.logs.as_ref().map(Sender::occupancy)),
            lines: of(LINES, self.lines.as_ref().map(Sender::occupancy)),
            traced: self.traced.stats(),
        }
    }

    /// Takes no more, sends what is held, and returns when that is done or `within` is
    /// over; what is left then is counted as dropped.
    pub async fn shutdown(&self, within: Duration) {
        let deadline = Instant::now() + within;
        self.stopper.request(deadline);
        let tasks = std::mem::take(&mut *self.tasks.lock());
        // Tasks keep the deadline themselves and then count what is left: a moment for that.
        let end = deadline + Duration::from_millis(500);
        for task in tasks {
            let abort = task.abort_handle();
            if timeout_at(end, task).await.is_err() {
                abort.abort();
            }
        }
    }
}

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
