//! `cargo xtask lab`: what the end-to-end tests run in, for whoever wants to look around.

use std::convert::Infallible;
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::Subcommand;

use crate::test::setup;
use crate::workspace::{cargo, line, privileged, run, target};

/// Which laboratory.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Laboratory {
    /// A real Kubernetes node: API server, containerd, kubelet, kube-proxy. The first time its
    /// programs are built, which takes minutes.
    Kubernetes {
        /// No node, but this many pods that are only objects, with nodes and Services for them.
        #[arg(long, value_name = "PODS", conflicts_with_all = ["down", "record"])]
        fake: Option<u32>,
        /// Leave it running.
        #[arg(long, conflicts_with = "down")]
        keep: bool,
        /// End one that was left running.
        #[arg(long)]
        down: bool,
        /// Record the API server's answers anew into tests/fixtures/kubernetes, and end.
        #[arg(long, conflicts_with_all = ["keep", "down"])]
        record: bool,
    },
}

/// Installs and builds what is missing, and becomes the laboratory, as root.
///
/// **This process is replaced**, so that Ctrl-C reaches the laboratory, which takes itself away.
pub fn start(laboratory: Laboratory) -> Result<Infallible> {
    let Laboratory::Kubernetes { fake, keep, down, record } = laboratory;
    if !down {
        setup::node();
    }
    run(cargo().args(["build", "--locked", "--package", "meshtap-tests", "--bin", "lab"]))?;
    // `env`, because sudo looks for programs by rules of its own.
    let mut command = privileged(Path::new("env"))?;
    command.arg(target().join("debug/lab")).arg("kubernetes");
    if let Some(pods) = fake {
        command.arg("--fake").arg(pods.to_string());
    }
    for (flag, is_given) in [("--keep", keep), ("--down", down), ("--record", record)] {
        if is_given {
            command.arg(flag);
        }
    }
    eprintln!("$ {}", line(&command));
    Err(command.exec()).with_context(|| format!("cannot start {}", line(&command)))
}
