//! One gRPC service and its clients, in the libraries of five languages, and what they say
//! themselves of the calls that they made. The programs: `fixtures/grpc`, `programs`.

mod script;

pub use script::{CANCELLED, SCRIPT, Step, TOO_SLOW, cancelled, too_slow};

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::cache::prepared;
use crate::ledger::Ledger;
use crate::netns::Place;
use crate::process::{Running, fixture, free_port, output, own};
use crate::requirement::program;

/// What a client did in one step, or how often it did the same.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Bought {
    /// `shop.Cart/Get`
    pub method: String,
    /// The status code's name, as the client's library gave it.
    pub status: String,
    /// Messages.
    pub sent: u64,
    /// Messages.
    pub received: u64,
    /// Bytes of the server's metadata.
    pub metadata: u64,
    /// How often.
    #[serde(default = "once")]
    pub count: u64,
}

fn once() -> u64 {
    1
}

/// Parses what a client printed; an empty line ends a round.
pub(crate) fn rounds(text: &str) -> Result<Vec<Vec<Bought>>> {
    let mut rounds = vec![Vec::new()];
    for line in text.lines() {
        if line.is_empty() {
            rounds.push(Vec::new());
        } else if let Some(round) = rounds.last_mut() {
            let bought = serde_json::from_str(line);
            round.push(bought.with_context(|| format!("not a call: {line}"))?);
        }
    }
    Ok(rounds)
}

/// The calls by method, messages and status.
#[must_use]
pub fn ledger(bought: &[Bought]) -> Ledger {
    let mut ledger = Ledger::default();
    for Bought { method, status, sent, received, count, .. } in bought {
        ledger.add_rpc(method, Some((Some(*sent), Some(*received))), Some(status), *count);
    }
    ledger
}

/// A library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grpc {
    /// grpc-go.
    Go,
    /// grpcio: the C++ core.
    Python,
    /// `@grpc/grpc-js`.
    Node,
    /// grpc-java, over Netty.
    Java,
    /// tonic.
    Rust,
}

impl Grpc {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Go, Self::Python, Self::Node, Self::Java, Self::Rust];

    /// Why it cannot be used here; `None`: it can. Fetches it.
    #[must_use]
    pub fn missing(self) -> Option<String> {
        let needed: &[&str] = match self {
            Self::Go => &["go"],
            Self::Python => &["python3", "pip3"],
            Self::Node => &["node", "npm"],
            Self::Java => &["java", "javac", "mvn"],
            Self::Rust => &[],
        };
        let absent: Vec<&str> =
            needed.iter().copied().filter(|name| program(name).is_none()).collect();
        if !absent.is_empty() {
            return Some(format!("not installed: {}", absent.join(", ")));
        }
        let fetched = self.fetched().err()?;
        Some(format!("the libraries of {self:?} cannot be fetched: {}", fetched.root_cause()))
    }

    /// What its server is to be called.
    #[must_use]
    pub fn server_name(self) -> &'static str {
        match self {
            Self::Go => "gocart",
            Self::Python => "pycart",
            Self::Node => "nodecart",
            Self::Java => "JavaCart",
            Self::Rust => "rustcart",
        }
    }

    /// What its client is to be called.
    #[must_use]
    pub fn client_name(self) -> &'static str {
        match self {
            Self::Go => "gobuyer",
            Self::Python => "pybuyer",
            Self::Node => "nodebuyer",
            Self::Java => "JavaBuyer",
            Self::Rust => "rustbuyer",
        }
    }

    /// Lets its client take steps at `address`, and gives what it did.
    pub fn buy(self, address: &str, steps: &[&str]) -> Result<Vec<Bought>> {
        self.buy_in(Place::HERE, address, steps)
    }

    /// [`Grpc::buy`] somewhere.
    pub fn buy_in(self, place: Place<'_>, address: &str, steps: &[&str]) -> Result<Vec<Bought>> {
        let mut command = self.command(self.client_name(), place)?;
        command.arg(address).args(steps);
        let text = output(&mut command)?;
        Ok(rounds(&text)?.swap_remove(0))
    }

    /// A program somewhere, ready to be given arguments.
    pub(crate) fn command(self, name: &str, place: Place<'_>) -> Result<Command> {
        let folder = self.fetched()?;
        let path = |file: String| folder.join(file);
        match self {
            Self::Go => place.inside(&compiled(&folder, name)?.display().to_string()),
            Self::Python => {
                let mut command = place.inside("python3")?;
                command.arg(path(format!("{name}.py"))).env("PYTHONPATH", folder.join("packages"));
                Ok(command)
            }
            Self::Node => {
                let mut command = place.inside("node")?;
                command.arg(path(format!("{name}.js")));
                Ok(command)
            }
            Self::Java => {
                let classes = classes(&folder)?;
                let lib = folder.join("lib");
                let mut command = place.inside("java")?;
                let search = format!("{}:{}/*", classes.display(), lib.display());
                command.arg("-Xshare:auto").arg("-cp").arg(search).arg(name);
                Ok(command)
            }
            Self::Rust => place.inside(&own(name)?.display().to_string()),
        }
    }

    /// The folder with its sources and the libraries that they need.
    fn fetched(self) -> Result<PathBuf> {
        let (name, done) = match self {
            Self::Go => ("go", "fetched"),
            Self::Python => ("python", "fetched"),
            Self::Node => ("node", "fetched"),
            Self::Java => ("java", "fetched"),
            Self::Rust => return Ok(PathBuf::new()),
        };
        let source = fixture("grpc").join(name);
        prepared(&format!("grpc-{name}"), &source, done, |folder| {
            let mut command = match self {
                Self::Go => {
                    // Only what is compiled: not what the modules' own tests would need.
                    let mut command = go(folder)?;
                    command.args([
                        "list",
                        "-mod=mod",
                        "-deps",
                        "gobuyer.go",
                        "gocart.go",
                        "raw.go",
                    ]);
                    command
                }
                Self::Python | Self::Rust => pip(folder)?,
                Self::Node => {
                    let mut command = Place::HERE.inside("npm")?;
                    command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
                    command
                }
                Self::Java => {
                    let mut command = Place::HERE.inside("mvn")?;
                    command.args(["-q", "-B", "dependency:copy-dependencies"]);
                    command.args(["-DincludeScope=runtime", "-DoutputDirectory=lib"]);
                    command
                }
            };
            output(command.current_dir(folder))?;
            crate::process::write(&folder.join(done), "")
        })
    }
}

/// Installs what `requirements.txt` names into the folder `packages`, from wheels alone.
pub(crate) fn pip(folder: &Path) -> Result<Command> {
    let mut command = Place::HERE.inside("python3")?;
    command.args(["-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input"]);
    command.args(["--only-binary", ":all:", "--no-deps", "--upgrade", "--target", "packages"]);
    command.args(["-r", "requirements.txt"]).current_dir(folder);
    Ok(command)
}

pub(crate) fn go(folder: &Path) -> Result<Command> {
    let mut command = Place::HERE.inside("go")?;
    command.current_dir(folder).env("CGO_ENABLED", "0").env("GOFLAGS", "");
    Ok(command)
}

/// Compilers run one at a time.
static COMPILER: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn compiled(folder: &Path, name: &str) -> Result<PathBuf> {
    let _one = COMPILER.lock();
    let made = folder.join(name);
    if !made.exists() {
        let unfinished = folder.join("unfinished");
        let mut command = go(folder)?;
        command.args(["build", "-mod=mod", "-o"]).arg(&unfinished);
        output(command.arg(format!("{name}.go")).arg("raw.go"))?;
        std::fs::rename(unfinished, &made)?;
    }
    Ok(made)
}

fn classes(folder: &Path) -> Result<PathBuf> {
    let _one = COMPILER.lock();
    let made = folder.join("classes");
    if !made.exists() {
        let unfinished = folder.join("unfinished");
        let mut command = Place::HERE.inside("javac")?;
        command.current_dir(folder).args(["-cp", "lib/*", "-d"]).arg(&unfinished);
        output(command.args(["Shop.java", "JavaCart.java", "JavaBuyer.java"]))?;
        std::fs::rename(unfinished, &made)?;
    }
    Ok(made)
}

/// A running server.
#[derive(Debug)]
pub struct Cart {
    running: Running,
    port: u16,
}

impl Cart {
    /// Starts it.
    pub fn start(library: Grpc) -> Result<Self> {
        Self::start_in(library, Place::HERE, &[])
    }

    /// Starts it somewhere, with arguments behind its port.
    pub fn start_in(library: Grpc, place: Place<'_>, arguments: &[&str]) -> Result<Self> {
        Self::start_at(library, place, free_port(), arguments)
    }

    /// [`Cart::start_in`] on a port that is known to be free there.
    pub fn start_at(
        library: Grpc,
        place: Place<'_>,
        port: u16,
        arguments: &[&str],
    ) -> Result<Self> {
        let mut command = library.command(library.server_name(), place)?;
        command.arg(port.to_string()).args(arguments);
        let mut running = Running::start(&mut command)?;
        running.wait_for_listener(&place, port)?;
        Ok(Self { running, port })
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address on the loopback.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Asks it to stop: it takes no more calls, ends those underway and is gone.
    pub fn stop(&mut self) -> Result<()> {
        self.running.signal(rustix::process::Signal::TERM)?;
        self.running.succeed(Duration::from_secs(30)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::{Bought, CANCELLED, Cart, Grpc, SCRIPT, TOO_SLOW};

    fn agree(server: Grpc, client: Grpc) {
        if let Some(reason) = server.missing().or_else(|| client.missing()) {
            crate::skip!(reason);
        }
        let cart = Cart::start(server).expect("starts");
        let mut steps = SCRIPT.map(|step| step.word).to_vec();
        steps.extend([CANCELLED, TOO_SLOW, "Get:1:1:x:0:0:0:0"]);
        let bought = client.buy(&cart.address(), &steps).expect("buys");
        let short = |bought: &Bought| {
            // Some servers and tonic's client call a call whose time is over cancelled.
            let is_late = bought.method.ends_with("Slow") && bought.status == "CANCELLED";
            let status = if is_late { "DEADLINE_EXCEEDED" } else { &bought.status };
            (bought.method.clone(), status.to_owned(), (bought.sent, bought.received))
        };
        let mut wanted: Vec<_> = SCRIPT
            .iter()
            .map(|step| {
                (super::script::full_name(step.method()), step.status.to_owned(), step.messages)
            })
            .collect();
        wanted.push(("shop.Cart/Watch".to_owned(), "CANCELLED".to_owned(), (1, 3)));
        wanted.push(("shop.Cart/Slow".to_owned(), "DEADLINE_EXCEEDED".to_owned(), (1, 0)));
        wanted.push(("shop.Cart/Get".to_owned(), "OK".to_owned(), (1, 1)));
        assert_eq!(bought.iter().map(short).collect::<Vec<_>>(), wanted);
        let metadata: u64 = bought.iter().map(|bought| bought.metadata).sum();
        assert_eq!(metadata, 30_000);
    }

    #[test]
    fn go() {
        agree(Grpc::Go, Grpc::Go);
    }

    #[test]
    fn python() {
        agree(Grpc::Python, Grpc::Go);
        agree(Grpc::Go, Grpc::Python);
    }

    #[test]
    fn node() {
        agree(Grpc::Node, Grpc::Go);
        agree(Grpc::Go, Grpc::Node);
    }

    #[test]
    fn java() {
        agree(Grpc::Java, Grpc::Go);
        agree(Grpc::Go, Grpc::Java);
    }

    #[test]
    fn rust() {
        agree(Grpc::Rust, Grpc::Go);
        agree(Grpc::Go, Grpc::Rust);
    }
}
