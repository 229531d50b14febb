//! The `meshtap` program: arguments in, exit code out.

use std::process::ExitCode;

use meshtap::command::execute;
use meshtap::pipeline::Agent;

fn main() -> ExitCode {
    ExitCode::from(execute(std::env::args_os(), &Agent::default()).code())
}
