//! Watches Kubernetes' objects for attribution: pods, services, endpoint slices, nodes, and
//! namespaces where it matters what they say of waypoints.
//!
//! What is not needed is left out when an object is read; nothing is kept here. Lists come
//! in pages, watches go on from where they were after an interruption, and a list is asked
//! for again only where the interface says that it has forgotten that place. Attempts after
//! a failure are spread at random and become rarer.
//!
//! Rights: list and watch of pods, services and nodes, of endpointslices in
//! `discovery.k8s.io`, and of namespaces where they are watched.

mod ask;
pub mod object;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::sync::mpsc;

pub use ask::{Refusal, UNCONFIGURED, ask};

use crate::attribution::cluster::Change;

/// Changes that wait for the reading thread; the watches wait when it is full.
const CHANGES: usize = 4_096;
/// Watches of many agents that start at once are spread over this time.
const SPREAD: Duration = Duration::from_secs(1);
/// The interface is given so long to take a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Where Kubernetes mounts the token of a pod.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// How Kubernetes is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchSettings {
    /// A kubeconfig; `None`: the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// Only pods of this node.
    pub only_node: Option<String>,
    /// Whether `app.kubernetes.io/*` labels name a service.
    pub well_known_labels: bool,
    /// Whether namespaces are watched: those that say something of waypoints.
    pub namespaces: bool,
}

/// Why Kubernetes cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The kubeconfig cannot be used.
    #[error(
        "kubernetes.kubeconfig: {0} cannot be used ({1}); name a kubeconfig with a current context"
    )]
    Kubeconfig(PathBuf, Box<kube::config::KubeconfigError>),
    /// There is no service account.
    #[error(
        "kubernetes.watch: there is no service account of a pod here ({0}); set `kubernetes.kubeconfig`, or `kubernetes.watch: never`"
    )]
    ServiceAccount(Box<kube::config::InClusterError>),
    /// The client cannot be made.
    #[error("Kubernetes cannot be asked ({0}); see whether its certificates can be read")]
    Client(Box<kube::Error>),
}

/// Whether this process has a pod's service account.
#[must_use]
pub fn has_service_account() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() && std::path::Path::new(TOKEN).exists()
}

/// Starts to watch; changes come out of the receiver until it is dropped.
///
/// # Errors
/// [`WatchError`] where nothing can be asked at all. An interface that does not answer is
/// none: it is asked again.
pub async fn start(settings: WatchSettings) -> Result<mpsc::Receiver<Change>, WatchError> {
    let client = client(&settings).await?;
    let (sender, receiver) = mpsc::channel(CHANGES);
    watch::spawn(&client, &settings, &sender);
    Ok(receiver)
}

async fn client(settings: &WatchSettings) -> Result<kube::Client, WatchError> {
    let mut config = match &settings.kubeconfig {
        Some(path) => {
            let wrong = |error| WatchError::Kubeconfig(path.clone(), Box::new(error));
            let file = Kubeconfig::read_from(path).map_err(wrong)?;
            let options = KubeConfigOptions::default();
            kube::Config::from_custom_kubeconfig(file, &options).await.map_err(wrong)?
        }
        None => kube::Config::incluster()
            .map_err(|error| WatchError::ServiceAccount(Box::new(error)))?,
    };
    config.connect_timeout = Some(CONNECT);
    // It asks an interface that has too much to do again within milliseconds, and unseen; the
    // watches have pauses of their own.
    config.default_retry = false;
    kube::Client::try_from(config).map_err(|error| WatchError::Client(Box::new(error)))
}

/// A time within [`SPREAD`].
fn spread() -> Duration {
    SPREAD.mul_f64(rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::{SPREAD, spread};

    #[test]
    fn starts_are_spread_over_a_time_and_not_beyond() {
        let mut times: Vec<_> = (0..1_000).map(|_| spread()).collect();
        assert!(times.iter().all(|time| *time < SPREAD), "{times:?}");
        times.sort_unstable();
        times.dedup();
        assert!(times.len() > 900, "{} different ones", times.len());
        // Over all of it: each quarter has some of them.
        for quarter in 0..4 {
            let within = SPREAD * quarter / 4..SPREAD * (quarter + 1) / 4;
            let count = times.iter().filter(|time| within.contains(time)).count();
            assert!(count > 100, "{count} within {within:?}");
        }
    }
}
