//! `cargo xtask lab`: laboratories to look around in, set up as the tests set them up.

use std::convert::Infallible;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::{Subcommand, ValueEnum};

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
    /// Pods without a cluster, and the proxies of a mesh between them; calls go on all the time.
    Mesh {
        /// Which.
        #[arg(value_enum, default_value = "istio")]
        mesh: Mesh,
        /// Lay cgroups out as kubelet does with systemd.
        #[arg(long)]
        systemd: bool,
    },
}

/// What lies between client and server.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Mesh {
    /// Nothing.
    None,
    /// Envoy as Istio's sidecar.
    Istio,
    /// A proxy for all pods of the node, in the shape of ztunnel.
    Ambient,
    /// The same with a waypoint: Envoy in a pod of its own.
    Waypoint,
    /// A proxy a pod, in the shape of Linkerd's.
    Linkerd,
}

/// Installs and builds what is missing, and becomes the laboratory, as root.
///
/// **This process is replaced**, so that Ctrl-C reaches the laboratory, which takes itself away.
pub fn start(laboratory: &Laboratory) -> Result<Infallible> {
    let mut command = match laboratory {
        Laboratory::Kubernetes { fake, keep, down, record } => {
            if !down {
                setup::node();
            }
            let mut command = program("lab")?;
            command.arg("kubernetes");
            if let Some(pods) = fake {
                command.arg("--fake").arg(pods.to_string());
            }
            let flags = [("--keep", keep), ("--down", down), ("--record", record)];
            command.args(flags.into_iter().filter(|(_, given)| **given).map(|(flag, _)| flag));
            command
        }
        Laboratory::Mesh { mesh, systemd } => {
            setup::programs();
            let mut command = program("meshlab")?;
            command.args(mesh.to_possible_value().map(|value| value.get_name().to_owned()));
            if *systemd {
                command.arg("--systemd");
            }
            command
        }
    };
    eprintln!("$ {}", line(&command));
    Err(command.exec()).with_context(|| format!("cannot start {}", line(&command)))
}

/// A program of the tests, built, as root.
fn program(name: &str) -> Result<Command> {
    run(cargo().args(["build", "--locked", "--package", "meshtap-tests", "--bins"]))?;
    // `env`, because sudo looks for programs by rules of its own.
    let mut command = privileged(Path::new("env"))?;
    command.arg(target().join("debug").join(name));
    Ok(command)
}
