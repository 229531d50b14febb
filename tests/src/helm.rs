//! The real helm, built from source once and kept outside of the clone, and what it makes of
//! the chart.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};

use crate::cache::{has, prepared};
use crate::go::{go, lacking};
use crate::part::Part;
use crate::process::{fixture, output};

const NAME: &str = "helm";
const PACKAGE: &str = "helm.sh/helm/v3/cmd/helm";
/// Rendered for, where nothing else is said: helm takes the oldest that its sources name.
const KUBERNETES: [&str; 2] = ["--kube-version", "v1.34.0"];

/// The chart.
#[must_use]
pub fn chart() -> PathBuf {
    repository().join("deploy/helm/meshtap")
}

/// The plain manifests, as they are committed.
#[must_use]
pub fn committed() -> PathBuf {
    repository().join("deploy/kubernetes/meshtap.yaml")
}

fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}

fn source() -> PathBuf {
    fixture("components").join(NAME)
}

/// A helm that can be started.
#[derive(Clone, Debug)]
pub struct Helm(PathBuf);

impl Helm {
    /// Builds it, unless that was done before.
    pub fn build() -> Result<Self> {
        Self::with(|folder| {
            let made = folder.join("unfinished");
            let mut command = go(folder)?;
            command.args(["build", "-mod=mod", "-trimpath", "-o"]).arg(&made).arg(PACKAGE);
            output(&mut command)?;
            Ok(std::fs::rename(&made, folder.join(NAME))?)
        })
    }

    /// Why it is not to be had without being asked for minutes of building; `Ok`: here it is.
    pub fn at_hand() -> Result<Self, String> {
        match Part::Helm.missing() {
            Some(reason) => Err(reason),
            None => Self::build().map_err(|error| format!("{error:#}")),
        }
    }

    /// Whether nothing needs to be built.
    #[must_use]
    pub fn is_built() -> bool {
        has(NAME, &source(), NAME)
    }

    /// Why it cannot be built here; `None`: it can. Fetches its modules.
    #[must_use]
    pub fn lacking() -> Option<String> {
        lacking(NAME, &source(), &[PACKAGE])
    }

    fn with(make: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        Ok(Self(prepared(NAME, &source(), NAME, make)?.join(NAME)))
    }

    /// Renders the chart as release `meshtap` with more arguments; what helm said where it
    /// refused.
    pub fn template(&self, arguments: &[&str]) -> Result<Result<String, String>> {
        let command = ["template", "meshtap", "--namespace", "meshtap"];
        let ended = self.run(&[&command, &KUBERNETES, arguments])?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(if ended.status.success() { Ok(text(ended.stdout)) } else { Err(text(ended.stderr)) })
    }

    /// What helm itself finds wrong with the chart.
    pub fn lint(&self) -> Result<()> {
        let ended = self.run(&[&["lint", "--strict"], &KUBERNETES])?;
        ensure!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
        Ok(())
    }

    fn run(&self, arguments: &[&[&str]]) -> Result<Output> {
        let home = tempfile::tempdir()?;
        let mut command = Command::new(&self.0);
        command.args(arguments.concat()).arg(chart());
        // Nothing of whoever calls: neither plug-ins nor a cluster.
        command.env_clear().env("HOME", home.path());
        command.output().with_context(|| format!("cannot start {}", self.0.display()))
    }

    /// The plain manifests, for those who apply them without helm.
    pub fn manifests(&self) -> Result<String> {
        let rendered = self.template(&["--set", "createNamespace=true"])?;
        let rendered = rendered.map_err(|refused| anyhow::anyhow!("{refused}"))?;
        let mut text = HEAD.to_owned();
        // Helm does not manage what kubectl applies.
        for line in rendered.lines().filter(|line| !line.ends_with("managed-by: Helm")) {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        Ok(text)
    }
}

const HEAD: &str = "\
# meshtap on every node, without helm:
#
#   kubectl apply -f meshtap.yaml
#
# Written from deploy/helm/meshtap with its default values by `cargo xtask manifests`. The
# image is published nowhere: import it on every node (`cargo xtask image`), or put it into a
# registry and name it below. Written for Kubernetes 1.30 and later; the chart knows older
# ones. What each privilege is for is in docs/deploy.md.
";
