//! `meshtap config`: the configuration in force, and whether it is one.

use std::sync::LazyLock;

use clap::{Args, Subcommand};

use super::{Failure, Layers};
use crate::config::reference;

pub(super) static EXAMPLES: LazyLock<String> = LazyLock::new(|| {
    super::examples(&[
        ("meshtap config print --config meshtap.yaml", "every value and where it comes from"),
        ("MESHTAP_SERIES_LIMIT=5000 meshtap config print", "try out a variable"),
        ("meshtap config check --config meshtap.yaml", "before a rollout: exit code 0 or 2"),
    ])
});

/// Arguments of `meshtap config`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print every value in force and where it comes from, as YAML.
    #[command(after_help = EXAMPLES.as_str())]
    Print(Layers),
    /// Say what is wrong, if anything is.
    #[command(after_help = EXAMPLES.as_str())]
    Check(Layers),
}

/// Runs `meshtap config`.
///
/// # Errors
/// The configuration is wrong, or standard output cannot be written.
pub fn config(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.action {
        Action::Print(layers) => {
            let (_, read) = layers.load()?;
            super::print(&reference::print(&read))
        }
        Action::Check(layers) => {
            layers.load()?;
            super::print("the configuration is valid\n")
        }
    }
}
