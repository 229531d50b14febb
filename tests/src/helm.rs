//! The real helm, built from source once and kept outside of the clone, and what it makes of
//! the chart.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail, ensure};

use crate::cache::prepared;
use crate::netns::Place;
use crate::process::{fixture, output};
use crate::requirement;

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

/// A helm that can be started.
#[derive(Clone, Debug)]
pub struct Helm(PathBuf);

impl Helm {
    /// Builds it, unless that was done before.
    pub fn build() -> Result<Self> {
        Self::with(|folder| {
            let made = folder.join("unfinished");
            let mut command = Place::HERE.inside("go")?;
            command.args(["build", "-mod=mod", "-trimpath", "-o"]).arg(&made).arg(PACKAGE);
            command.current_dir(folder).env("CGO_ENABLED", "0").env("GOFLAGS", "");
            output(&mut command)?;
            Ok(std::fs::rename(&made, folder.join(NAME))?)
        })
    }

    /// Why it is not to be had without being asked for minutes of building; `Ok`: here it is.
    pub fn at_hand() -> Result<Self, String> {
        if requirement::program("go").is_none() {
            return Err("helm is built with Go, which is not installed: golang-go".to_owned());
        }
        if requirement::full() {
            return Self::build().map_err(|error| format!("{error:#}"));
        }
        Self::with(|_| bail!("not built")).map_err(|_| {
            "helm takes minutes to build: MESHTAP_FULL=1 or `cargo xtask manifests` builds it"
                .to_owned()
        })
    }

    fn with(make: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        let source = fixture("components").join(NAME);
        Ok(Self(prepared(NAME, &source, NAME, make)?.join(NAME)))
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
