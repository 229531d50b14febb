//! What a person types: one file per command.
//!
//! Here is only what all commands share: the arguments, the exit codes, and the
//! [`Session`] through which a command reaches the stages.

pub mod config;
pub mod docs;
pub mod doctor;
pub mod observe;
pub mod run;
pub mod verify;

use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::io::Write;
use std::path::PathBuf;
use std::sync::LazyLock;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};

use crate::config::environment::FILE;
use crate::config::{Config, Environment, Error, Given, Level, Origin, RawConfig, Read};
use observe::Observer;
use run::Stop;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All went well.
    Done = 0,
    /// A failure while running.
    Failed = 1,
    /// Wrong usage or configuration; nothing was started.
    Usage = 2,
    /// The host does not allow it.
    NotAllowed = 3,
    /// Stopped, but not everything that was counted could be sent.
    Incomplete = 4,
    /// A limit of what the agent may use does not hold.
    Limits = 5,
}

impl Exit {
    /// Every code.
    pub const ALL: [Self; 6] =
        [Self::Done, Self::Failed, Self::Usage, Self::NotAllowed, Self::Incomplete, Self::Limits];

    /// The number that the shell sees.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// When it is used.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done; also after a signal, and when the reader of the output went away",
            Self::Failed => "failed while running",
            Self::Usage => "wrong usage or configuration; nothing was started",
            Self::NotAllowed => {
                "the host does not allow it: privileges or kernel; `meshtap doctor` says more"
            }
            Self::Limits => {
                "left the kernel: a limit of `limits` did not hold, whatever was left out"
            }
            Self::Incomplete => {
                "stopped, but the deadline passed or a second signal came before all was sent"
            }
        }
    }

    /// All codes, one on each line.
    #[must_use]
    pub fn help() -> String {
        let lines = Self::ALL.map(|exit| format!("  {}  {}", exit.code(), exit.meaning()));
        format!("Exit codes:\n{}", lines.join("\n"))
    }
}

/// Why a command ended before it was done.
#[derive(Debug)]
pub struct Failure {
    /// What the shell is told.
    pub exit: Exit,
    /// What the person is told: the thing, the reason, the remedy.
    pub error: Box<dyn std::error::Error + Send + Sync>,
}

impl Failure {
    /// Of any error.
    pub fn new(exit: Exit, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { exit, error: error.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.error)?;
        let mut source = self.error.source();
        while let Some(error) = source {
            let text = error.to_string();
            // Many errors repeat their source in their own text.
            if !self.error.to_string().contains(&text) {
                write!(formatter, ": {text}")?;
            }
            source = error.source();
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(Exit::Usage, error)
    }
}

/// Where `observe` writes.
pub type Output = Box<dyn Write + Send>;

/// What the commands ask of the stages.
pub trait Session {
    /// Called before the first thread of a command that captures is started: what those need
    /// not hold is given up here.
    ///
    /// # Errors
    /// Nothing can be started then.
    fn prepare(&self, _config: &Config) -> Result<(), Failure> {
        Ok(())
    }

    /// Captures and exports until `stop` is requested, then sends what is left. It has
    /// `config.stop_within` for that; what takes longer is cut off by the caller.
    fn run(&self, config: Config, stop: Stop) -> impl Future<Output = Result<(), Failure>>;

    /// Captures and hands every call and every loss to `observer`, and the time at least ten
    /// times a second, until it says [`observe::Flow::Stop`] or `stop` is requested; then
    /// calls [`Observer::finish`].
    fn observe(
        &self,
        config: Config,
        observer: Observer<Output>,
        stop: Stop,
    ) -> impl Future<Output = Result<(), Failure>>;

    /// Prints what this kernel and this set of privileges allow.
    ///
    /// # Errors
    /// With [`Exit::NotAllowed`] where meshtap cannot run here at all.
    fn doctor(&self, json: bool) -> Result<(), Failure>;

    /// `docs/metrics.md`, from where the metrics are defined.
    fn metrics_reference(&self) -> String;
}

static VERSION: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{} (commit {}, {} {}, {} build)",
        env!("CARGO_PKG_VERSION"),
        option_env!("MESHTAP_COMMIT").unwrap_or("unknown"),
        std::env::consts::ARCH,
        std::env::consts::OS,
        if cfg!(debug_assertions) { "debug" } else { "release" },
    )
});
static EXIT_CODES: LazyLock<String> = LazyLock::new(Exit::help);

/// Shows who calls whom on this host, how often, how fast and how it fails, from inside
/// the kernel and without a change to any workload.
#[derive(Debug, Parser)]
#[command(name = "meshtap", version = VERSION.as_str(), after_help = EXIT_CODES.as_str())]
#[command(disable_help_subcommand = true, subcommand_required = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Capture, and serve and send metrics, traces and lines until stopped.
    #[command(after_help = run::EXAMPLES.as_str())]
    Run(Layers),
    /// Show calls as they happen.
    #[command(after_help = observe::EXAMPLES.as_str())]
    Observe(Box<observe::Arguments>),
    /// Say what this kernel and these privileges allow, and how to get what they do not.
    #[command(after_help = DOCTOR_EXAMPLES.as_str())]
    Doctor {
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Show or check the configuration.
    #[command(after_help = config::EXAMPLES.as_str())]
    Config(config::Arguments),
    /// Print a generated reference.
    #[command(hide = true)]
    Docs {
        /// Which.
        #[arg(value_enum)]
        page: docs::Page,
    },
    /// Have this kernel's verifier look at every program, and attach none.
    #[command(hide = true)]
    Verify(verify::Arguments),
}

static DOCTOR_EXAMPLES: LazyLock<String> = LazyLock::new(|| {
    examples(&[
        ("meshtap doctor", "read it"),
        ("meshtap doctor --json | jq '.'", "let a program read it"),
    ])
});

/// Examples and exit codes, for the end of a command's help.
fn examples(examples: &[(&str, &str)]) -> String {
    let lines = examples.iter().map(|(line, why)| format!("  {line}\n      {why}\n"));
    format!("Examples:\n{}\n{}", lines.collect::<String>(), Exit::help())
}

/// The layers of the configuration that a command line gives.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Configuration")]
pub struct Layers {
    /// Configuration in YAML; without it the defaults apply [env: MESHTAP_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of /metrics, /healthz and /readyz [key: listen]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// How much the agent logs [key: log.level]
    #[arg(long, value_name = "LEVEL", value_parser = PossibleValuesParser::new(Level::WORDS))]
    log_level: Option<String>,
    /// How much the programs in the kernel log [key: log.kernel]
    #[arg(long, value_name = "LEVEL", value_parser = PossibleValuesParser::new(Level::WORDS))]
    kernel_log: Option<String>,
    /// Any key of the configuration; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.to_owned()))
        }
        _ => Err("write a key and its value, for example `series.limit=5000`".to_owned()),
    }
}

impl Layers {
    /// Reads the file, the process's variables and these flags.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load(&self) -> Result<(Config, Vec<Read>), Error> {
        Config::read(&self.raw(Environment::of_process())?)
    }

    fn raw(&self, environment: Environment) -> Result<RawConfig, Error> {
        let flags = self.given();
        let file = self.config.clone().or_else(|| environment.get(FILE).map(PathBuf::from));
        let raw = RawConfig { file: None, environment, flags };
        match file {
            Some(path) => raw.with_file(&path),
            None => Ok(raw),
        }
    }

    fn given(&self) -> Vec<Given> {
        let set = self.set.iter().map(|(path, text)| {
            let origin = Origin::Flag("--set".to_owned());
            Given { path: path.clone(), text: text.clone(), origin }
        });
        let named = [
            ("--listen", "listen", &self.listen),
            ("--log-level", "log.level", &self.log_level),
            ("--kernel-log", "log.kernel", &self.kernel_log),
        ];
        let named = named.into_iter().filter_map(|(flag, path, text)| {
            let (path, text) = (path.to_owned(), text.clone()?);
            Some(Given { path, text, origin: Origin::Flag(flag.to_owned()) })
        });
        set.chain(named).collect()
    }
}

/// Runs what `arguments` ask for; all that is to be said has been said when it returns.
pub fn execute(arguments: impl IntoIterator<Item = OsString>, session: &impl Session) -> Exit {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nobody is there to be told where even this cannot be written.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    let result = match arguments.command {
        Command::Run(layers) => run::run(&layers, session),
        Command::Observe(arguments) => observe::observe(*arguments, session),
        Command::Doctor { json } => session.doctor(json),
        Command::Config(arguments) => config::config(&arguments),
        Command::Docs { page } => docs::docs(page, session),
        Command::Verify(arguments) => verify::verify(&arguments),
    };
    match result {
        Ok(()) => Exit::Done,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "meshtap: {failure}");
            failure.exit
        }
    }
}

/// Writes a whole text to standard output; a reader that went away is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            let text = format!("standard output cannot be written: {error}");
            Err(Failure::new(Exit::Failed, text))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
