//! `cargo xtask`: every command that a person or CI types for meshtap.

mod bytecode;
mod ebpf;
mod packages;
mod tally;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Every command that a person or CI types for meshtap.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Rebuild the committed kernel object and its digest.
    Ebpf {
        /// Change nothing: check that it is fresh, proven, and the same when built here.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    match dispatch(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode> {
    match command {
        Command::Ebpf { check: false } => ebpf::renew()?,
        Command::Ebpf { check: true } => {
            let mut tally = tally::Tally::default();
            ebpf::check(&mut tally);
            tally.finish()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
