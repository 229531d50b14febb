//! [`Part`]: what tests build from source over minutes, and whether it is there.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::component::Component;
use crate::helm::Helm;
use crate::kubernetes::binaries::Binary;
use crate::requirement::full;

/// Set by whoever has built what it could before the tests: a line `name: reason` for each
/// part that is not there, `*` for those that are not named.
const UNBUILT: &str = "MESHTAP_UNBUILT";

/// Something that is built from source once, and kept outside of the clone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What renders the chart.
    Helm,
    /// Everything that a Kubernetes node consists of.
    Kubernetes,
    /// What plays the kubelets of nodes that are not there.
    Kwok,
    /// A telemetry back end.
    Prometheus,
    /// Another one.
    Collector,
    /// Another one.
    Jaeger,
}

impl Part {
    /// All of them; those that most tests need come first.
    pub const ALL: [Self; 6] =
        [Self::Helm, Self::Kubernetes, Self::Kwok, Self::Prometheus, Self::Collector, Self::Jaeger];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Helm => "helm",
            Self::Kubernetes => "kubernetes",
            Self::Prometheus => "prometheus",
            Self::Collector => "otelcol",
            Self::Jaeger => "jaeger",
            Self::Kwok => "kwok",
        }
    }

    /// What it costs to fetch and build it where nothing is cached, after those that stand
    /// before it in [`Part::ALL`], whose packages it shares: seconds of one core, as measured
    /// with Go 1.26. All of them are 1833 s and leave 11 GB in Go's caches.
    #[must_use]
    pub fn cost(self) -> u64 {
        match self {
            Self::Helm => 172,
            Self::Kubernetes => 910,
            Self::Kwok => 130,
            Self::Prometheus => 233,
            Self::Collector => 116,
            Self::Jaeger => 272,
        }
    }

    /// Whether nothing needs to be built.
    #[must_use]
    pub fn is_built(self) -> bool {
        match self {
            Self::Helm => Helm::is_built(),
            Self::Kubernetes => node().all(Binary::is_cached),
            Self::Kwok => Binary::Kwok.is_cached(),
            _ => self.back_end().is_some_and(Component::is_built),
        }
    }

    /// Why it cannot be built here; `None`: it can, or is built already. Fetches its modules.
    #[must_use]
    pub fn lacking(self) -> Option<String> {
        if self.is_built() {
            return None;
        }
        match self {
            Self::Helm => Helm::lacking(),
            Self::Kubernetes => node().find_map(Binary::missing),
            Self::Kwok => Binary::Kwok.missing(),
            _ => self.back_end().and_then(Component::lacking),
        }
    }

    /// Builds it, unless that was done before.
    pub fn build(self) -> Result<()> {
        match self {
            Self::Helm => Helm::build().map(drop),
            Self::Kubernetes => node().try_for_each(|binary| binary.build().map(drop)),
            Self::Kwok => Binary::Kwok.build().map(drop),
            _ => match self.back_end() {
                Some(component) => component.build().map(drop),
                None => bail!("there is nothing to build"),
            },
        }
    }

    /// Why a test cannot have it; `None`: it can. Where tests that take minutes were asked for
    /// (`MESHTAP_FULL=1`), it is built when it is used.
    #[must_use]
    pub fn missing(self) -> Option<String> {
        if self.is_built() {
            return None;
        }
        if full() {
            return self.lacking();
        }
        let name = self.name();
        Some(match unbuilt(name).or_else(|| unbuilt("*")) {
            Some(reason) => format!("{name} is not built: {reason}"),
            None => format!("{name} takes minutes to build: MESHTAP_FULL=1 asks for it"),
        })
    }

    fn back_end(self) -> Option<Component> {
        match self {
            Self::Prometheus => Some(Component::Prometheus),
            Self::Collector => Some(Component::Collector),
            Self::Jaeger => Some(Component::Jaeger),
            Self::Helm | Self::Kubernetes | Self::Kwok => None,
        }
    }
}

/// The agent's own image, as `cargo xtask image` writes it: `MESHTAP_IMAGE`. It is made by whoever
/// starts the tests, since only they may build the product.
pub fn image() -> Result<PathBuf, String> {
    match std::env::var_os("MESHTAP_IMAGE") {
        Some(path) if Path::new(&path).is_file() => Ok(path.into()),
        Some(path) => Err(format!("MESHTAP_IMAGE names {}, which is no file", path.display())),
        None => Err(unbuilt("image").map_or_else(
            || "no MESHTAP_IMAGE: cargo xtask image --debug --output writes one".to_owned(),
            |reason| format!("the image is not built: {reason}"),
        )),
    }
}

/// What was said of something that is not built.
fn unbuilt(name: &str) -> Option<String> {
    let said = std::env::var(UNBUILT).unwrap_or_default();
    let mut reasons = said.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    reasons.next().map(str::to_owned)
}

/// The programs of a node.
fn node() -> impl Iterator<Item = Binary> {
    Binary::CONTROL_PLANE.into_iter().chain(Binary::NODE)
}
