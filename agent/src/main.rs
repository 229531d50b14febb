//! The `meshtap` program: arguments in, exit code out.

use std::future::Future;
use std::process::ExitCode;

use meshtap::command::observe::Observer;
use meshtap::command::run::Stop;
use meshtap::command::{Exit, Failure, Output, Session, execute};
use meshtap::config::Config;

/// The stages of this build: there is no capture in it yet.
struct NoCapture;

impl NoCapture {
    fn refuse() -> Failure {
        Failure::new(Exit::NotAllowed, "this build holds no programs for the kernel")
    }
}

impl Session for NoCapture {
    fn run(&self, _: Config, _: Stop) -> impl Future<Output = Result<(), Failure>> {
        std::future::ready(Err(Self::refuse()))
    }
    fn observe(
        &self,
        _: Config,
        _: Observer<Output>,
        _: Stop,
    ) -> impl Future<Output = Result<(), Failure>> {
        std::future::ready(Err(Self::refuse()))
    }
    fn doctor(&self, _: bool) -> Result<(), Failure> {
        Err(Self::refuse())
    }
    fn metrics_reference(&self) -> String {
        String::new()
    }
}

fn main() -> ExitCode {
    ExitCode::from(execute(std::env::args_os(), &NoCapture).code())
}
