//! Servers and clients in four languages, each over its own standard library.
//!
//! Every server answers `/hello`, `/chunked`, `/echo` (POST), `/empty` and 404 for all
//! else; every client asks for [`ASKED`], in this order, and reads every answer.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::netns::Place;
use crate::process::{Running, fixture, free_port, output};
use crate::requirement::program;

/// Method, path, status, bytes of the request's body and of the answer's.
pub const ASKED: [(&str, &str, u16, u64, u64); 5] = [
    ("GET", "/hello", 200, 0, 6),
    ("GET", "/chunked", 200, 0, 11),
    ("POST", "/echo", 200, 1000, 1000),
    ("GET", "/empty", 204, 0, 0),
    ("GET", "/elsewhere", 404, 0, 8),
];

/// A language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// `http.server` and `http.client`.
    Python,
    /// `node:http`.
    Node,
    /// `net/http`.
    Go,
    /// `com.sun.net.httpserver` and `java.net.http`, which offers HTTP/2 first.
    Java,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Python, Self::Node, Self::Go, Self::Java];

    /// Why it cannot be used here; `None`: it can.
    #[must_use]
    pub fn missing(self) -> Option<String> {
        let needed: &[&str] = match self {
            Self::Python => &["python3"],
            Self::Node => &["node"],
            Self::Go => &["go"],
            Self::Java => &["java", "javac"],
        };
        let absent: Vec<&str> =
            needed.iter().copied().filter(|name| program(name).is_none()).collect();
        (!absent.is_empty()).then(|| format!("not installed: {}", absent.join(", ")))
    }

    /// What its server is to be called: script without its extension, main class or executable.
    #[must_use]
    pub fn server_name(self) -> &'static str {
        match self {
            Self::Python => "shelf",
            Self::Node => "counter",
            Self::Go => "goserver",
            Self::Java => "Storehouse",
        }
    }

    /// What its client is to be called.
    #[must_use]
    pub fn client_name(self) -> &'static str {
        match self {
            Self::Python => "reader",
            Self::Node => "visitor",
            Self::Go => "goclient",
            Self::Java => "Shopper",
        }
    }

    /// Starts its client for `http://127.0.0.1:<port>`.
    pub fn ask(self, port: u16) -> Result<()> {
        let mut command = self.command(self.client_name(), Place::HERE)?;
        command.arg(format!("http://127.0.0.1:{port}"));
        Running::start(&mut command)?.succeed(Duration::from_secs(60)).map(drop)
    }

    /// The program `name` somewhere, ready to be given arguments.
    pub fn command(self, name: &str, place: Place<'_>) -> Result<Command> {
        match self {
            Self::Python => {
                let mut command = place.inside("python3")?;
                command.arg(fixture("python").join(format!("{name}.py")));
                Ok(command)
            }
            Self::Node => {
                let mut command = place.inside("node")?;
                command.arg(fixture("node").join(format!("{name}.js")));
                Ok(command)
            }
            Self::Go => place.inside(&go(name)?.display().to_string()),
            Self::Java => {
                let mut command = place.inside("java")?;
                command.arg("-Xshare:auto").arg("-cp").arg(java()?).arg(name);
                Ok(command)
            }
        }
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    running: Running,
    port: u16,
}

impl Server {
    /// Starts it.
    pub fn start(language: Language, place: Place<'_>) -> Result<Self> {
        Self::start_at(language, place, free_port())
    }

    /// Starts it on a port that is known to be free there.
    pub fn start_at(language: Language, place: Place<'_>, port: u16) -> Result<Self> {
        let mut command = language.command(language.server_name(), place)?;
        command.arg(port.to_string());
        let mut running = Running::start(&mut command)?;
        running.wait_for_listener(&place, port)?;
        Ok(Self { running, port })
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }
}

/// A client that keeps one connection and asks when it is told to.
#[derive(Debug)]
pub struct Keeper {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Keeper {
    /// Starts it (`keeper`), from a port of its own where one is given; it connects with
    /// its first request.
    pub fn start(place: Place<'_>, host: &str, port: u16, source: Option<u16>) -> Result<Self> {
        let mut command = Language::Python.command("keeper", place)?;
        command.arg(host).arg(port.to_string());
        command.args(source.map(|source| source.to_string()));
        // Not in the group that a terminal interrupts: it ends when it is dropped.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn()?;
        let input = child.stdin.take().context("standard input is piped")?;
        let output = child.stdout.take().context("standard output is piped")?;
        Ok(Self { child, input, output: BufReader::new(output) })
    }

    /// Asks for a path and waits for the answer's end.
    pub fn ask(&mut self, path: &str) -> Result<u16> {
        writeln!(self.input, "{path}")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        line.trim().parse().with_context(|| format!("no answer to {path}: {line:?}"))
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Where what is compiled for the tests is kept between runs.
fn built(language: &str) -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/workload").join(language);
    std::fs::create_dir_all(&folder)?;
    Ok(folder.canonicalize()?)
}

/// Compilers run one at a time; what they made is newer than its source then.
static COMPILER: Mutex<()> = Mutex::new(());

fn stale(made: &Path, source: &Path) -> bool {
    let time = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    time(made).is_none_or(|made| time(source).is_none_or(|source| source > made))
}

fn go(name: &str) -> Result<PathBuf> {
    let _one = COMPILER.lock();
    let source = fixture("go").join(name).join("main.go");
    let made = built("go")?.join(name);
    if stale(&made, &source) {
        let mut command = Place::HERE.inside("go")?;
        command.args(["build", "-o"]).arg(&made).arg(&source);
        command.env("GO111MODULE", "off").env("CGO_ENABLED", "0").env("GOFLAGS", "");
        output(&mut command).context("the Go workload is not built")?;
    }
    Ok(made)
}

fn java() -> Result<PathBuf> {
    let _one = COMPILER.lock();
    let folder = built("java")?;
    for name in [Language::Java.server_name(), Language::Java.client_name()] {
        let source = fixture("java").join(format!("{name}.java"));
        if stale(&folder.join(format!("{name}.class")), &source) {
            let mut command = Place::HERE.inside("javac")?;
            output(command.arg("-d").arg(&folder).arg(&source))
                .context("the Java workload is not built")?;
        }
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::{Language, Server};
    use crate::netns::Place;

    fn answers(language: Language) {
        if let Some(reason) = language.missing() {
            crate::skip!(reason);
        }
        let server = Server::start(language, Place::HERE).expect("starts");
        language.ask(server.port()).expect("asks");
    }

    #[test]
    fn python_answers() {
        answers(Language::Python);
    }

    #[test]
    fn node_answers() {
        answers(Language::Node);
    }

    #[test]
    fn go_answers() {
        answers(Language::Go);
    }

    #[test]
    fn java_answers() {
        answers(Language::Java);
    }
}
