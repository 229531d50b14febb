//! [`Relay`]: a proxy of the tests' own in the shape of one that cannot be had here. It goes
//! by the name of the real one; the program is in `programs/relay`.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::certificates::public;
use super::lab::Lab;
use crate::cluster::Pod;
use crate::netns::Place;
use crate::process::{Running, own};

/// Whose shape it has.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum Shape {
    /// ztunnel of Istio's ambient mode: one process for the pods of a node, with sockets in
    /// their network namespaces.
    Ztunnel,
    /// Linkerd's proxy: one process a pod.
    Linkerd,
}

/// What a relay is told.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Orders {
    /// Whose shape it has.
    pub shape: Shape,
    /// The authority's certificate.
    pub authority: PathBuf,
    /// Whom it serves.
    pub wards: Vec<Ward>,
    /// The services that there are.
    pub routes: Vec<Route>,
}

/// A pod that a relay serves.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Ward {
    /// The file of its network namespace; `None`: the relay is in it.
    pub netns: Option<PathBuf>,
    /// The pod's certificate.
    pub certificate: PathBuf,
    /// The key to it.
    pub key: PathBuf,
}

/// A port of a service.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Route {
    /// The service's full name.
    pub host: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The port.
    pub port: u16,
    /// Who answers.
    pub backends: Vec<Backend>,
    /// The waypoint that all of it goes through; its port is of no account.
    pub waypoint: Option<Backend>,
}

/// A pod behind a service.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Backend {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its port.
    pub port: u16,
    /// The name in its certificate; `None`: it is not in the mesh.
    pub name: Option<String>,
}

/// A running one.
#[derive(Debug)]
pub struct Relay {
    running: Running,
}

impl Relay {
    /// Starts one somewhere, under the name of a program, as a user where one is given.
    pub fn start(
        lab: &Lab,
        place: Place<'_>,
        name: &str,
        user: Option<u32>,
        orders: &Orders,
    ) -> Result<Self> {
        let first = orders.wards.first().context("nobody to serve")?;
        let file = first.certificate.with_extension("orders.json");
        public(&file, &serde_json::to_string(orders)?)?;
        let program = named(lab.folder(), name)?;
        let mut command = match user {
            Some(user) => {
                let mut command = place.inside("setpriv")?;
                command.arg(format!("--reuid={user}")).arg(format!("--regid={user}"));
                command.args(["--clear-groups", "--"]).arg(program);
                command
            }
            None => place.inside(&program.display().to_string())?,
        };
        let mut running = Running::start(command.arg(file))?;
        running.wait_for_text("it relays")?;
        Ok(Self { running })
    }

    /// What it printed.
    #[must_use]
    pub fn output(&self) -> String {
        self.running.output()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }
}

/// The program under another name, where a user that is not root can start it.
fn named(folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    if !path.exists() {
        std::fs::copy(own("relay")?, &path)?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
    }
    Ok(path)
}

/// The name of DNS by which a relay knows a pod, as Linkerd forms it.
#[must_use]
pub fn identity(pod: &Pod) -> String {
    let Pod { account, namespace, .. } = pod;
    format!("{account}.{namespace}.serviceaccount.identity.linkerd.cluster.local")
}

/// Every service of the laboratory; `is_meshed` says of a pod whether it is in the mesh.
pub(super) fn routes(lab: &Lab, is_meshed: impl Fn(&Pod) -> bool) -> Vec<Route> {
    let mut routes = Vec::new();
    for (service, pods) in lab.services() {
        for port in &service.ports {
            let backend = |pod: &Pod| Backend {
                addresses: pod.addresses.clone(),
                port: port.target,
                name: is_meshed(pod).then(|| identity(pod)),
            };
            routes.push(Route {
                host: service.host(),
                addresses: service.addresses.clone(),
                port: port.number,
                backends: pods.iter().map(backend).collect(),
                waypoint: None,
            });
        }
    }
    routes
}
