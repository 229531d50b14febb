//! `meshtap run`, and what every command that captures needs: logging, a runtime,
//! signals, and an end that comes in time.

use std::future::Future;
use std::io::IsTerminal;
use std::sync::LazyLock;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use super::{Exit, Failure, Layers, Session};
use crate::config::{Config, Level};

pub(super) static EXAMPLES: LazyLock<String> = LazyLock::new(|| {
    super::examples(&[
        ("sudo meshtap run", "metrics on http://127.0.0.1:9990/metrics, nothing else needed"),
        ("sudo meshtap run --config /etc/meshtap.yaml", "with a configuration"),
        (
            "sudo OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 meshtap run",
            "also to an OpenTelemetry collector",
        ),
        ("sudo meshtap run --set series.limit=50000 --log-level debug", "try something out"),
    ])
});

/// Whether it is time to stop; clones see the same.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// A stop and what requests it. Dropping the sender requests it too.
    #[must_use]
    pub fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Returns once it is time to stop.
    pub async fn requested(&mut self) {
        // An error means that the sender is gone: nobody is left to want more.
        let _ = self.0.wait_for(|stop| *stop).await;
    }

    /// Whether it is time to stop, for code that does not wait.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

/// Runs `meshtap run`.
///
/// # Errors
/// Of the configuration, of the session, or [`Exit::Incomplete`].
pub fn run(layers: &Layers, session: &impl Session) -> Result<(), Failure> {
    let (config, _) = layers.load()?;
    log_to_standard_error(&config);
    session.prepare(&config)?;
    let within = config.stop_within;
    until_stopped(within, |stop| session.run(config, stop))
}

/// Sends log lines to standard error: our own and the kernel half's as configured, those
/// of libraries from warnings on.
pub(super) fn log_to_standard_error(config: &Config) {
    let others = config.log.level.min(Level::Warn);
    // Those of Kubernetes' client come with every attempt and every end of a watch; that it is
    // away we say ourselves, once.
    let filter = format!(
        "{},kube_client::client=off,kube_runtime::watcher=off,meshtap={},meshtap_ebpf={}",
        others.word(),
        config.log.level.word(),
        config.log.kernel.word()
    );
    let colour = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .finish();
    // Takes the lines of the `log` crate too, which aya-log speaks. Only a second call in
    // one process can fail, and then lines already go somewhere.
    let _ = subscriber.try_init();
}

/// Runs `work` on a runtime until it ends. The first SIGINT or SIGTERM asks it to end,
/// which it has to do `within` a time; the second ends it at once.
pub(super) fn until_stopped<F>(
    within: Duration,
    work: impl FnOnce(Stop) -> F,
) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("meshtap")
        .build()
        .map_err(|error| failed("the runtime cannot be started", &error))?;
    let result = runtime.block_on(async {
        let mut signals = Signals::new()?;
        let (sender, stop) = Stop::new();
        let work = work(stop);
        tokio::pin!(work);
        tokio::select! {
            result = &mut work => return result,
            name = signals.next() => tracing::info!("{name}: stopping within {within:?}"),
        }
        let _ = sender.send(true);
        tokio::select! {
            result = &mut work => result,
            () = tokio::time::sleep(within) => Err(incomplete(&format!(
                "stopping took longer than {}",
                humantime::format_duration(within)
            ))),
            name = signals.next() => Err(incomplete(&format!("{name} came while stopping"))),
        }
    });
    // Threads that still block must not hold up the end.
    runtime.shutdown_background();
    result
}

fn incomplete(why: &str) -> Failure {
    let text = format!(
        "{why}: what was not sent by then is lost\n  remedy: see whether the collector answers, \
         or give it more time with `stop_within`"
    );
    Failure::new(Exit::Incomplete, text)
}

fn failed(what: &str, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("{what}: {error}"))
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind, name: &str| {
            signal(kind).map_err(|error| failed(&format!("{name} cannot be awaited"), &error))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt(), "SIGINT")?,
            terminate: listen(SignalKind::terminate(), "SIGTERM")?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
