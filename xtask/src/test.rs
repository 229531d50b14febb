//! `cargo xtask test`: what the tests need, all tests, one count over all of them.
//!
//! **Nothing is skipped in silence**: a test that cannot run prints why, is taken out
//! of those that passed, and stands in the list at the end.

pub mod budget;
mod image;
pub mod libtest;
pub mod parts;
mod quick;
pub mod setup;

use std::io::{BufRead as _, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::agent;
use crate::tally::Tally;
use crate::workspace::{cargo, has, is_root, line, privileged, root};
use budget::Budget;
use libtest::Transcript;
use parts::Parts;

/// Package with the tests that need root.
pub const END_TO_END: &str = "meshtap-tests";
/// Seconds after which a test program is ended, so that one that hangs is a failure.
const LIMIT: u32 = 1500;
/// The same with `--full`.
const LIMIT_FULL: u32 = 5400;

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Also what takes long to build or run.
    pub full: bool,
    /// Only tests whose name contains one of these; where there are none, what is quick.
    pub filters: Vec<String>,
    /// How long it may take altogether; `None`: as long as it takes.
    pub budget: Option<Budget>,
}

/// A compiled test program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// As cargo calls it.
    pub name: String,
    package: String,
    /// Of its package.
    pub folder: PathBuf,
    /// What to start.
    pub executable: PathBuf,
}

/// What only the harness of the end-to-end tests knows.
struct Variables {
    agent: PathBuf,
    /// The agent's own image, or why there is none; `None`: it does not compile.
    image: Option<Result<PathBuf, String>>,
    /// What is not built, and why, in lines.
    unbuilt: Option<String>,
}

impl Variables {
    fn lines(&self, full: bool) -> Vec<String> {
        let mut lines = vec![format!("MESHTAP_BIN={}", self.agent.display())];
        let mut unbuilt = String::new();
        match &self.image {
            Some(Ok(image)) => lines.push(format!("MESHTAP_IMAGE={}", image.display())),
            Some(Err(reason)) => unbuilt = format!("image: {}\n", reason.replace('\n', " ")),
            None => unbuilt = "image: its build failed\n".to_owned(),
        }
        unbuilt.push_str(self.unbuilt.as_deref().unwrap_or_default());
        if !unbuilt.is_empty() {
            lines.push(format!("MESHTAP_UNBUILT={unbuilt}"));
        }
        lines.extend(full.then(|| "MESHTAP_FULL=1".to_owned()));
        lines
    }
}

impl Options {
    /// Whether nobody asked for more than what takes minutes.
    fn is_quick(&self) -> bool {
        !self.full && self.filters.is_empty() && self.budget.is_none()
    }

    /// Seconds after which a test program is ended, or why it is not begun.
    fn limit(&self, program: &str) -> Result<u32, String> {
        let limit = if self.full { LIMIT_FULL } else { LIMIT };
        let Some(budget) = self.budget else { return Ok(limit) };
        let left = budget.for_program(usual(program))?.as_secs();
        Ok(u32::try_from(left).map_or(limit, |left| left.min(limit)))
    }
}

#[cfg(test)]
impl Program {
    /// One that is only talked about.
    pub fn named(name: &str) -> Self {
        let (package, folder, executable) = Default::default();
        Self { name: name.to_owned(), package, folder, executable }
    }
}

/// Sets up, builds and runs; the tally holds what happened. The end-to-end tests begin when
/// `parts` are built: they know what time it is, and builds would take it from them.
pub fn run(options: &Options, mut parts: Option<Parts>) -> Result<Tally> {
    let mut tally = Tally::default();
    setup::programs();
    if options.full {
        setup::node();
    }
    let agent = agent::build()?;
    let programs = programs(&["--workspace", "--lib", "--bins", "--tests"], &[])?;
    ensure!(!programs.is_empty(), "cargo built no test program");
    let mut variables = Variables { agent, image: None, unbuilt: None };
    match image::write(options) {
        Ok(image) => variables.image = Some(image),
        Err(error) => tally.count("image", Err(error)),
    }
    for program in &programs {
        let is_end_to_end = program.package == END_TO_END;
        if let Some(parts) = parts.take_if(|_| is_end_to_end) {
            variables.unbuilt = Some(parts.wait(&mut tally)?);
        }
        execute(program, &variables, options, &mut tally)?;
    }
    documentation(options, &mut tally)?;
    Ok(tally)
}

/// Compiles the test programs that cargo's arguments name, with these variables.
pub fn programs(arguments: &[&str], variables: &[(String, &str)]) -> Result<Vec<Program>> {
    let mut command = cargo();
    command.arg("test").args(arguments).envs(variables.iter().cloned());
    command.args(["--no-run", "--locked"]);
    command.args(["--message-format", "json-render-diagnostics"]);
    eprintln!("$ {}", line(&command));
    let output = command.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "the tests do not compile");
    let mut programs = Vec::new();
    for message in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(message) else { continue };
        if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
            continue;
        }
        let Some(executable) = message["executable"].as_str() else { continue };
        let manifest = Path::new(message["manifest_path"].as_str().unwrap_or_default());
        let folder = manifest.parent().context("a package without a folder")?;
        programs.push(Program {
            name: message["target"]["name"].as_str().unwrap_or("?").to_owned(),
            package: package(folder).to_owned(),
            folder: folder.to_owned(),
            executable: executable.into(),
        });
    }
    // The quick ones first: what is wrong at the bottom is seen before what follows from it.
    // The longest last: should the time be over before them, everything else has run.
    programs.sort_by_key(|program| {
        (program.package == END_TO_END, usual(&program.name), program.executable.clone())
    });
    Ok(programs)
}

fn package(folder: &Path) -> &'static str {
    if folder == root().join("tests") { END_TO_END } else { "" }
}

/// How long a test program takes where it takes minutes, as measured on two cores.
fn usual(program: &str) -> Duration {
    Duration::from_secs(match program {
        "dashboards" | "kubernetes_mesh" | "kubernetes_kubelet" | "kubernetes_scope" => 80,
        "accuracy" | "awkward" | "connections" | "containers" | "grpc_accuracy" | "limits"
        | "kubernetes_api" | "kubernetes_lab" | "kubernetes_network" | "repeats_http2"
        | "translation" => 130,
        "http1" | "http2" | "repeats" | "telemetry" => 150,
        "attribution" | "awkward_http2" | "operation" => 200,
        "faults" | "grpc" => 300,
        "kubernetes" | "mesh" => 400,
        _ => 0,
    })
}

fn execute(
    program: &Program,
    variables: &Variables,
    options: &Options,
    tally: &mut Tally,
) -> Result<()> {
    let is_end_to_end = program.package == END_TO_END;
    let mut filters = options.filters.clone();
    if is_end_to_end && options.is_quick() {
        filters = quick::chosen(program, tally)?;
        if filters.is_empty() {
            return Ok(());
        }
        filters.push("--exact".to_owned());
    }
    let limit = match options.limit(&program.name) {
        Ok(limit) => limit,
        Err(reason) => {
            tally.skip(&program.name, reason);
            return Ok(());
        }
    };
    let may_be_root = is_root()? || has("sudo") || has("doas");
    // Without any way to root they run all the same, and say for themselves what they miss.
    let mut command = if is_end_to_end && may_be_root {
        privileged(Path::new("env"))?
    } else {
        Command::new("env")
    };
    // As arguments: sudo passes on only the variables that its rules name.
    command.arg(format!("CARGO_MANIFEST_DIR={}", program.folder.display()));
    // Only the harness knows these; the agent refuses variables that it does not know.
    if is_end_to_end {
        command.args(variables.lines(options.full));
    }
    command.args(["timeout", "--kill-after=30", &limit.to_string()]);
    command.arg(&program.executable).args(&filters).current_dir(&program.folder);
    eprintln!(
        "\n── {} ({})",
        program.name,
        program.folder.file_name().unwrap_or_default().display()
    );
    let (transcript, ended) = follow(&mut command)?;
    tally.add(transcript.tally(&program.name, ended, limit));
    Ok(())
}

/// Examples in the documentation, which only cargo can run.
fn documentation(options: &Options, tally: &mut Tally) -> Result<()> {
    let mut command = cargo();
    command.args(["test", "--doc", "--workspace", "--locked", "--"]).args(&options.filters);
    eprintln!("\n── examples in the documentation");
    let (transcript, ended) = follow(&mut command)?;
    tally.add(transcript.tally("documentation", ended, LIMIT_FULL));
    Ok(())
}

/// Runs a command, shows what it prints, and keeps the lines that count.
fn follow(command: &mut Command) -> Result<(Transcript, std::process::ExitStatus)> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    let out = child.stdout.take().context("no standard output")?;
    let err = child.stderr.take().context("no standard error")?;
    let errors = std::thread::spawn(move || copy(err, &mut std::io::stderr()));
    let mut lines = copy(out, &mut std::io::stdout());
    // A thread that only copies lines has nothing to panic over.
    lines.extend(errors.join().unwrap_or_default());
    let status = child.wait()?;
    Ok((Transcript::read(lines.iter().map(String::as_str)), status))
}

fn copy(from: impl Read, to: &mut impl Write) -> Vec<String> {
    let mut kept = Vec::new();
    let mut reader = BufReader::new(from);
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes).is_ok_and(|length| length > 0) {
        // A closed terminal is no reason to stop counting.
        let _ = to.write_all(&bytes);
        let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        if libtest::counts(&text) {
            kept.push(text);
        }
        bytes.clear();
    }
    kept
}
