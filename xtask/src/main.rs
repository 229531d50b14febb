//! `cargo xtask`: every command that a person or CI types for meshtap.

mod agent;
mod bench;
mod bytecode;
mod ci;
mod docs;
mod ebpf;
mod install;
mod lab;
mod licences;
mod packages;
mod tally;
mod test;
mod tidy;
mod vm;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

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
    /// Set up what the tests need and run all that this machine can.
    Test {
        /// Also what takes long to build or run.
        #[arg(long)]
        full: bool,
        /// Only tests whose name contains one of these.
        filters: Vec<String>,
    },
    /// Rebuild the committed kernel object and its digest.
    Ebpf {
        /// Change nothing: check that it is fresh, proven, and the same when built here.
        #[arg(long)]
        check: bool,
    },
    /// Check the house rules that neither the compiler nor clippy knows.
    Tidy,
    /// Write the references below docs/ from where their things are defined.
    Docs {
        /// Change nothing: fail where they differ.
        #[arg(long)]
        check: bool,
    },
    /// Measure what the agent costs, and write it into docs/performance.md.
    Bench {
        /// Fewer and shorter rounds; writes nothing.
        #[arg(long)]
        quick: bool,
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
        /// Only tests whose name contains one of these, behind `--`; a short list without.
        #[arg(last = true)]
        filters: Vec<String>,
    },
    /// Run every gate and every test.
    Ci {
        /// Also what takes long to build or run.
        #[arg(long)]
        full: bool,
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
        Command::Test { full, filters } => test::run(&test::Options { full, filters })?.finish(),
        Command::Ebpf { check: false } => ebpf::renew(),
        Command::Ebpf { check: true } => {
            let mut tally = tally::Tally::default();
            ebpf::check(&mut tally);
            tally.finish()
        }
        Command::Tidy => tidy::check(),
        Command::Docs { check: true } => docs::check(&agent::build()?),
        Command::Docs { check: false } => docs::write(&agent::build()?),
        Command::Bench { quick } => {
            bench::measure(if quick { bench::Effort::QUICK } else { bench::Effort::WHOLE })
        }
        Command::Truth { filters } => agent::examine(&filters),
        Command::Lab { laboratory } => match lab::start(&laboratory)? {},
        Command::Vm { kernel, fetch, filters } => vm::run(&vm::Options { kernel, fetch, filters }),
        Command::Ci { full } => ci::run_all(full),
    }
}
