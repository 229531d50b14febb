//! `cargo xtask`: every command that a person or CI types for meshtap.

mod agent;
mod bench;
mod bytecode;
mod chart;
mod ci;
mod deb;
mod docs;
mod ebpf;
mod fuzz;
mod image;
mod install;
mod lab;
mod licences;
mod manifests;
mod packages;
mod standalone;
mod tally;
mod test;
mod tidy;
mod tools;
mod vm;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use standalone::Architecture;

/// Every command that a person or CI types for meshtap.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the agent in release mode and start `meshtap run`, asking for root where needed.
    Run {
        /// For `meshtap run`, behind `--`.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Build the agent, install it as a service of this host and start it.
    Install {
        /// Top of the file system to install below, as for an image; nothing is started there.
        #[arg(long, default_value = "/")]
        root: PathBuf,
        /// Do not start it.
        #[arg(long)]
        no_start: bool,
    },
    /// Stop the service and remove what `install` put into place.
    Uninstall {
        /// Top of the file system that it was installed below.
        #[arg(long, default_value = "/")]
        root: PathBuf,
        /// Remove /etc/meshtap, too.
        #[arg(long)]
        purge: bool,
    },
    /// Set up what the tests need and run what takes a few minutes.
    Test {
        /// All that this machine can, also what takes long to build or run.
        #[arg(long)]
        full: bool,
        /// Only tests whose name contains one of these, however long they take.
        filters: Vec<String>,
    },
    /// Build the agent without any library of the system, and write a package of Debian.
    Deb {
        /// Where to; target/meshtap.deb unless given.
        #[arg(long)]
        output: Option<PathBuf>,
        /// For which processors.
        #[arg(long, value_enum, default_value_t = Architecture::NATIVE)]
        architecture: Architecture,
        /// A debug build, which is there sooner.
        #[arg(long)]
        debug: bool,
        /// Install and purge one over this machine's files, which stay as they are, and fail
        /// where it leaves anything.
        #[arg(long, conflicts_with_all = ["output", "architecture", "debug"])]
        trial: bool,
    },
    /// Rebuild the committed kernel object and its digest.
    Ebpf {
        /// Change nothing: check that it is fresh, proven, and the same when built here.
        #[arg(long)]
        check: bool,
    },
    /// Check the house rules that neither the compiler nor clippy knows.
    Tidy,
    /// Write the references below docs/ and the chart's values from where they are defined.
    Docs {
        /// Change nothing: fail where they differ.
        #[arg(long)]
        check: bool,
        /// Ask a debug build of the agent, which is there sooner.
        #[arg(long)]
        debug: bool,
    },
    /// Write deploy/kubernetes/meshtap.yaml from the chart, with the real helm.
    Manifests {
        /// Change nothing: fail where it differs.
        #[arg(long)]
        check: bool,
    },
    /// Build the agent without any library of the system, and write an image of it that
    /// `docker load`, `podman load` and `ctr images import` take.
    Image {
        /// Where to; target/meshtap.tar unless given.
        #[arg(long)]
        output: Option<PathBuf>,
        /// For which processors.
        #[arg(long, value_enum, default_value_t = Architecture::NATIVE)]
        architecture: Architecture,
        /// A debug build, which is there sooner.
        #[arg(long)]
        debug: bool,
    },
    /// Measure what the agent costs, and write it into docs/performance.md.
    Bench {
        /// Fewer and shorter rounds; writes nothing.
        #[arg(long)]
        quick: bool,
    },
    /// Feed every parser of bytes from outside by a fuzzer: `cargo xtask fuzz --seconds 600 route`.
    Fuzz {
        /// How long each target runs.
        #[arg(long, default_value_t = 20)]
        seconds: u32,
        /// Only these; the names are those of the files in agent/fuzz/fuzz_targets.
        targets: Vec<String>,
    },
    /// Make calls that are hard to count, and print how many of them the agent saw, declared
    /// lost and got wrong.
    Truth {
        /// Only conditions and protocols whose name contains one of these: `loss`, `grpc`.
        filters: Vec<String>,
    },
    /// Start a laboratory on this machine, until Ctrl-C.
    Lab {
        #[command(subcommand)]
        laboratory: lab::Laboratory,
    },
    /// Boot Debian's kernels, verify every program on each, run end-to-end tests inside, and
    /// write docs/kernel-support.md.
    Vm {
        /// Which.
        #[arg(long, value_enum, default_value = "all")]
        kernel: vm::Choice,
        /// Fetch kernels that are cached, too: there may be newer ones.
        #[arg(long)]
        fetch: bool,
        /// Go on with a run that was interrupted: guests that came to their end with the same
        /// programs are not booted again.
        #[arg(long, conflicts_with = "fetch")]
        resume: bool,
        /// Only the systemd unit with all that it asks for, under systemd itself, on Debian 12's.
        #[arg(long, conflicts_with_all = ["kernel", "resume", "filters"])]
        unit: bool,
        /// Only tests whose name contains one of these, behind `--`, and nothing is verified; a
        /// short list without.
        #[arg(last = true)]
        filters: Vec<String>,
    },
    /// Run every gate and every test, those that take long, too, in at most 84 minutes: what
    /// there is no time for is skipped.
    Ci {
        /// However long it takes.
        #[arg(long)]
        full: bool,
        /// When the run began, in seconds after 1970; now unless given.
        #[arg(long, value_name = "SECONDS")]
        began: Option<u64>,
    },
}

fn main() -> ExitCode {
    match dispatch(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<()> {
    match command {
        Command::Run { arguments } => match agent::start(&arguments)? {},
        Command::Install { root, no_start } => {
            install::install(&install::Options { root, start: !no_start })
        }
        Command::Uninstall { root, purge } => {
            install::uninstall(&install::Options { root, start: false }, purge)
        }
        Command::Test { full, filters } => {
            test::run(&test::Options { full, filters, budget: None }, None)?.finish()
        }
        Command::Ebpf { check: false } => ebpf::renew(),
        Command::Ebpf { check: true } => {
            let mut tally = tally::Tally::default();
            ebpf::check(&mut tally);
            tally.finish()
        }
        Command::Tidy => tidy::check(),
        Command::Docs { check, debug } => {
            let agent = if debug { agent::build_debug()? } else { agent::build()? };
            if check { docs::check(&agent) } else { docs::write(&agent) }
        }
        Command::Manifests { check: true } => manifests::check(),
        Command::Manifests { check: false } => manifests::write(),
        Command::Deb { trial: true, .. } => {
            let mut tally = tally::Tally::default();
            deb::attempt(None, &mut tally);
            tally.finish()
        }
        Command::Deb { output, architecture, debug, trial: false } => {
            let output = output.unwrap_or_else(|| workspace::target().join("meshtap.deb"));
            deb::write(&output, architecture, debug)
        }
        Command::Image { output, architecture, debug } => {
            let output = output.unwrap_or_else(|| workspace::target().join("meshtap.tar"));
            image::write(&output, architecture, debug)
        }
        Command::Bench { quick } => {
            bench::measure(if quick { bench::Effort::QUICK } else { bench::Effort::WHOLE })
        }
        Command::Fuzz { seconds, targets } => {
            let mut tally = tally::Tally::default();
            fuzz::run_all(&targets, fuzz::Effort::Seconds(seconds), &mut tally)?;
            tally.finish()
        }
        Command::Truth { filters } => agent::examine(&filters),
        Command::Lab { laboratory } => match lab::start(&laboratory)? {},
        Command::Vm { fetch, unit: true, .. } => vm::run_unit(fetch),
        Command::Vm { kernel, fetch, resume, unit: false, filters } => {
            vm::run(&vm::Options { kernel, fetch, resume, filters })
        }
        Command::Ci { full, began } => ci::run_all(full, began),
    }
}
