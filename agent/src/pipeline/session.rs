//! [`Agent`]: what the commands ask of the stages, answered by the real ones.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::capture::{Blind, Capture, Source, monotonic_ns};
use super::counting::{Counted, Counting};
use super::guard::{Guard, Limits};
use super::repeated::Repeated;
use super::starter::Starter;
use super::watching::Watching;
use super::{Sink, Stages, settings};
use crate::aggregation::{Aggregator, definition};
use crate::attribution::cluster::Change;
use crate::attribution::inventory::{self, Bounds};
use crate::attribution::{AttributionSettings, Attributor};
use crate::command::observe::Observer;
use crate::command::run::Stop;
use crate::command::{Exit, Failure, Layers, Output, Session, doctor};
use crate::config::Config;
use crate::export::clock::{SharedClock, monotonic_now_ns};
use crate::export::prometheus::{Format, render};
use crate::export::server::{Readiness, Server};
use crate::export::stop::Stopper;
use crate::export::{Exporters, Stats};
use crate::kernel::cgroup;
use crate::kernel::features::Features;
use crate::kernel::load::{Kernel, LoadError, LoadSettings};
use crate::kernel::privilege::{self, Kept};
use crate::kubernetes::{self, WatchSettings};
use crate::protocol::{ProtocolSettings, Protocols, RouteSettings, Routes};
use crate::ring_buffer::Reader;
use crate::telemetry::AgentTelemetry;

/// The part of the agent that readiness speaks of.
const CAPTURE: &str = "capture";

/// Every stage of this build.
#[derive(Debug, Default)]
pub struct Agent {
    /// The thread that may do what the others gave up.
    starter: Mutex<Option<Starter>>,
}

impl Agent {
    fn starter(&self) -> Result<Starter, Failure> {
        let prepared = self.starter.lock().take();
        prepared.map_or_else(|| Starter::start().map_err(|error| no_thread(&error)), Ok)
    }
}

impl Session for Agent {
    fn prepare(&self, config: &Config) -> Result<(), Failure> {
        *self.starter.lock() = Some(Starter::start().map_err(|error| no_thread(&error))?);
        give_up(&Kept::by_others(settings::user(config)));
        Ok(())
    }

    async fn run(&self, config: Config, stop: Stop) -> Result<(), Failure> {
        run(self.starter()?, config, stop).await
    }

    async fn observe(
        &self,
        config: Config,
        observer: Observer<Output>,
        stop: Stop,
    ) -> Result<(), Failure> {
        observe(self.starter()?, config, observer, stop).await
    }

    fn doctor(&self, json: bool) -> Result<(), Failure> {
        // Where the configuration is wrong, `meshtap config` says so better.
        let config =
            Layers::default().load().map_or_else(|_| Config::default(), |(config, _)| config);
        let (paths, watch) = (settings::paths(&config), settings::kubernetes(&config));
        let exit = doctor::run(json, config.listen, &paths, watch.as_ref()).map_err(|error| {
            Failure::new(Exit::Failed, format!("standard output cannot be written: {error}"))
        })?;
        if exit == doctor::EXIT_NOT_ALLOWED {
            let text = "this host does not allow meshtap to see traffic; each line above that is missing says why and how to get it";
            return Err(Failure::new(Exit::NotAllowed, text));
        }
        Ok(())
    }

    fn metrics_reference(&self) -> String {
        definition::reference()
    }
}

/// Everything that a capture begins with, checked before anything is started.
struct Plan {
    load: LoadSettings,
    protocol: ProtocolSettings,
    routes: RouteSettings,
    attribution: AttributionSettings,
    learns_names: bool,
    interval: Duration,
    kubernetes: Option<WatchSettings>,
    changes: Option<mpsc::Receiver<Change>>,
    user: Option<u32>,
    limits: Limits,
}

impl Plan {
    fn of(config: &Config) -> Result<Self, Failure> {
        let usage = |error: settings::RuleError| Failure::new(Exit::Usage, error);
        Ok(Self {
            load: settings::load(config),
            protocol: settings::protocol(config),
            routes: settings::routes(config).map_err(usage)?,
            attribution: settings::attribution(config).map_err(usage)?,
            learns_names: config.dns.learn,
            interval: config.capture.drain_interval,
            kubernetes: settings::kubernetes(config),
            changes: None,
            user: settings::user(config),
            limits: settings::limits(config),
        })
    }

    /// Has calls that repeat counted in the kernel: nobody wants each of them.
    fn count_in_kernel(&mut self) {
        self.load.repeats = true;
        self.protocol.keys = Some(self.load.keys);
    }

    /// Starts to watch Kubernetes, where it is to be watched.
    async fn watch(&mut self) -> Result<(), Failure> {
        if let Some(settings) = self.kubernetes.take() {
            let changes = kubernetes::start(settings).await;
            self.changes = Some(changes.map_err(|error| Failure::new(Exit::Usage, error))?);
        }
        Ok(())
    }

    /// Attaches the kernel half, takes the inventory and starts the reading thread. Blocks.
    fn start<S: Sink + 'static>(self, features: &Features, sink: S) -> Result<Capture<S>, Failure> {
        let proc = self.attribution.paths.proc.clone();
        // Before other threads start: they stay where this one is.
        if let Err(error) = cgroup::enter_host_namespace(&proc) {
            tracing::warn!(
                "cgroups of processes are not known from the root: {error}; grant CAP_SYS_ADMIN \
                 and CAP_SYS_PTRACE, or share the host's cgroup namespace"
            );
        }
        let mut kernel = Kernel::start(self.load, features).map_err(not_allowed)?;
        let complete_ns = monotonic_ns();
        for (what, why) in &kernel.missing {
            tracing::warn!("{what} cannot be used: {why}; `meshtap doctor` says what is lost");
        }
        let repeated = kernel.take_repeats().map(Repeated::new);
        let share = kernel.take_share();
        let ring = kernel.take_ring().ok_or_else(|| failed("the kernel half gave no ring"))?;
        let mut attributor = Attributor::new(self.attribution);
        // After attaching: what is opened in between is in the ring, and nothing is missed.
        seed(&mut attributor, &proc);
        let stages = Stages::new(
            Protocols::new(ProtocolSettings { complete_ns, ..self.protocol }),
            attributor,
            Routes::new(self.routes),
            self.learns_names,
        );
        let source = Source {
            kernel,
            reader: Reader::new(ring),
            ring_bytes: u64::from(self.load.ring_bytes),
            interval: self.interval,
            changes: self.changes,
            repeated,
            guard: Guard::new(self.limits),
            share,
        };
        let is_open = source.kernel.is_readable_without_privileges();
        give_up(&Kept::by_reader(self.user, !is_open));
        Capture::start(source, stages, sink).map_err(|error| no_thread(&error))
    }
}

/// Gives up what this thread needs no more. Where that is refused the agent does its work all
/// the same, with more than it needs.
fn give_up(kept: &Kept) {
    if let Err(error) = privilege::give_up(kept) {
        tracing::warn!("privileges that are not needed any more are kept: {error}");
    }
}

fn no_thread(error: &io::Error) -> Failure {
    failed(&format!("a thread cannot be started: {error}; raise the limit of tasks"))
}

fn seed(attributor: &mut Attributor, proc: &Path) {
    match inventory::take(proc, Bounds::default()) {
        Ok(inventory) => {
            for unreadable in &inventory.unreadable {
                tracing::warn!("connections from before the start are not named: {unreadable}");
            }
            if inventory.left_out > 0 {
                tracing::warn!(
                    "{} connections from before the start are not named: there are too many",
                    inventory.left_out
                );
            }
            attributor.seed(inventory);
        }
        Err(error) => tracing::warn!("connections from before the start are not named: {error}"),
    }
}

fn not_allowed(error: LoadError) -> Failure {
    Failure::new(Exit::NotAllowed, error)
}

fn failed(text: &str) -> Failure {
    Failure::new(Exit::Failed, text)
}

/// Runs what takes privileges, and may block.
async fn privileged<T: Send + 'static>(
    starter: &Starter,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let defect = || failed("starting failed by a defect of meshtap; its message stands above");
    starter.run(work).await.ok_or_else(defect)?
}

/// Starts, unless a stop is asked for first; nobody waits then for what has begun.
async fn started<S: Sink + 'static>(
    starter: Starter,
    plan: Plan,
    features: Option<Features>,
    sink: S,
    stop: &mut Stop,
) -> Result<Option<Capture<S>>, Failure> {
    let start = move || plan.start(&features.unwrap_or_else(Features::probe), sink);
    tokio::select! {
        capture = privileged(&starter, start) => capture.map(Some),
        () = stop.requested() => Ok(None),
    }
}

/// Waits until the capture ends, by itself or because a stop is asked for.
async fn until_ended<S: Sink + 'static>(
    capture: &mut Capture<S>,
    stop: &mut Stop,
) -> Result<S, Failure> {
    let end = capture.end();
    let ended = tokio::select! {
        ended = capture.ended() => ended,
        () = stop.requested() => {
            end.request();
            capture.ended().await
        }
    };
    ended.map_err(|blind| {
        let exit = if let Blind::Beyond(_) = blind { Exit::Limits } else { Exit::Failed };
        Failure::new(exit, blind)
    })
}

async fn observe(
    starter: Starter,
    config: Config,
    observer: Observer<Output>,
    mut stop: Stop,
) -> Result<(), Failure> {
    let mut plan = Plan::of(&config)?;
    plan.watch().await?;
    let sink = Watching::new(observer);
    let Some(mut capture) = started(starter, plan, None, sink, &mut stop).await? else {
        return Ok(());
    };
    let sink = until_ended(&mut capture, &mut stop).await?;
    sink.observer.finish()
}

async fn run(starter: Starter, config: Config, mut stop: Stop) -> Result<(), Failure> {
    let mut plan = Plan::of(&config)?;
    let export = settings::export(&config).map_err(|error| Failure::new(Exit::Usage, error))?;
    let server = bind(&starter, &config).await?;
    let features = privileged(&starter, || Ok(Features::probe())).await?;
    let output = Box::new(io::stdout());
    let exporters =
        Exporters::start_with(&export, &Handle::current(), settings::host(&config), output)
            .map_err(|error| Failure::new(Exit::Usage, error))?;
    let exporters = Arc::new(exporters);
    if config.capture.count_in_kernel && !exporters.wants_calls() && !config.mesh.istio_metrics {
        plan.count_in_kernel();
    }
    let counted = counted(&config, &features, exporters.clock());
    let source = counted.clone();
    exporters.metrics(move || source.snapshot());

    let (readiness, stopper) = (Readiness::new(), Stopper::new());
    readiness.expect(CAPTURE);
    tracing::info!("http://{}/metrics, /healthz and /readyz are served", server.address());
    let page = page(counted.clone(), config.prometheus.enabled);
    let served = tokio::spawn(server.serve(page, readiness.clone(), stopper.stop()));

    plan.watch().await?;
    let sink = Counting::new(counted, Arc::clone(&exporters));
    let Some(mut capture) = started(starter, plan, Some(features), sink, &mut stop).await? else {
        return Ok(());
    };
    readiness.works(CAPTURE);
    tracing::info!("capturing");
    let ended = until_ended(&mut capture, &mut stop).await;
    readiness.obstructed(CAPTURE, "meshtap ends; start it again");
    let result = close(&exporters, &config).await;
    stopper.request(tokio::time::Instant::now());
    // Clients that still read are not worth waiting for.
    served.abort();
    ended.map(drop).and(result)
}

/// Listens; on a port below 1024, too.
async fn bind(starter: &Starter, config: &Config) -> Result<Server, Failure> {
    let (runtime, settings) = (Handle::current(), settings::server(config));
    let bind = move || runtime.block_on(Server::bind(settings));
    privileged(starter, move || bind().map_err(|error| Failure::new(Exit::Failed, error))).await
}

fn counted(config: &Config, features: &Features, clock: SharedClock) -> Counted {
    let telemetry = Arc::new(AgentTelemetry::new(&features.release));
    let (settings, offset) = (settings::aggregation(config), clock.get().unix_minus_monotonic);
    let aggregator = Aggregator::new(settings, monotonic_now_ns(), offset);
    Counted::new(aggregator, telemetry, clock)
}

/// Makes the page of `/metrics`.
fn page(
    counted: Counted,
    is_enabled: bool,
) -> impl Fn(&str) -> (String, String) + Send + Sync + 'static {
    move |accept| {
        let format = Format::negotiate(Some(accept));
        let mut text = String::new();
        if is_enabled {
            render(&counted.snapshot(), format, &mut text);
        } else if format == Format::OpenMetrics {
            text.push_str("# EOF\n");
        }
        (format.content_type().to_owned(), text)
    }
}

/// Sends what is held, as long as the stop may take.
async fn close(exporters: &Exporters, config: &Config) -> Result<(), Failure> {
    let begun = Instant::now();
    let before = exporters.stats();
    // The rest is for the ends of connections and threads.
    exporters.shutdown(config.stop_within.mul_f64(0.8)).await;
    let lost = unsent(&exporters.stats()).saturating_sub(unsent(&before));
    if lost == 0 {
        return Ok(());
    }
    let text = format!(
        "{lost} data points, spans and lines could not be sent within {:?} of stopping and are lost\n  remedy: see whether the collector answers, or give it more time with `stop_within`",
        begun.elapsed()
    );
    Err(Failure::new(Exit::Incomplete, text))
}

fn unsent(stats: &Stats) -> u64 {
    [stats.metrics, stats.traces, stats.logs, stats.lines]
        .iter()
        .map(|signal| signal.dropped + signal.failed)
        .sum()
}
