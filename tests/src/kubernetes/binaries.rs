//! The programs of a node, built from Go modules once and kept outside of the clone.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::{binary, tell};
use crate::cache::{has, prepared};
use crate::go::{fetch, go, lacking};
use crate::process::{fixture, output};

/// Beside kwok in the cache: what it makes of the objects it looks after.
pub const STAGES: &str = "stages.yaml";
/// How often a build says how far it is.
const REPORT: Duration = Duration::from_secs(20);

/// A program that is built here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// Where the API server keeps everything.
    Etcd,
    /// What all others talk to.
    ApiServer,
    /// Makes pods of Deployments, slices of Services, and so on.
    ControllerManager,
    /// Gives each pod its node.
    Scheduler,
    /// Runs the pods of a node.
    Kubelet,
    /// Lets a Service's address lead to its pods.
    Proxy,
    /// The command line.
    Kubectl,
    /// Knows the addresses of Services and of pods by their names.
    Dns,
    /// Plays the kubelets of nodes that are not there.
    Kwok,
}

impl Binary {
    /// Those of a control plane.
    pub const CONTROL_PLANE: [Self; 5] =
        [Self::Etcd, Self::Kubectl, Self::Scheduler, Self::ControllerManager, Self::ApiServer];
    /// Those of a node, beside a control plane's.
    pub const NODE: [Self; 3] = [Self::Proxy, Self::Kubelet, Self::Dns];

    /// The program's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kubelet => "kubelet",
            Self::Proxy => "kube-proxy",
            Self::Kubectl => "kubectl",
            Self::Dns => "coredns",
            Self::Kwok => "kwok",
        }
    }

    /// The folder of fixtures with its modules' versions, and of the cache.
    fn set(self) -> &'static str {
        match self {
            Self::Dns | Self::Kwok => self.name(),
            _ => "kubernetes",
        }
    }

    fn package(self) -> String {
        match self {
            Self::Etcd => "go.etcd.io/etcd/server/v3".to_owned(),
            Self::Dns => ".".to_owned(),
            Self::Kwok => "sigs.k8s.io/kwok/cmd/kwok".to_owned(),
            other => format!("k8s.io/kubernetes/cmd/{}", other.name()),
        }
    }

    fn source(self) -> PathBuf {
        fixture("components").join(self.set())
    }

    /// Whether nothing needs to be built.
    #[must_use]
    pub fn is_cached(self) -> bool {
        has(self.set(), &self.source(), self.name())
    }

    /// Builds it, unless that was done before, and gives its path.
    pub fn build(self) -> Result<PathBuf> {
        let folder =
            prepared(self.set(), &self.source(), self.name(), |folder| self.compile(folder))?;
        Ok(folder.join(self.name()))
    }

    /// Builds it, unless that was done before, and puts it among the laboratory's programs.
    pub(super) fn link(self) -> Result<()> {
        let (built, at) = (self.build()?, binary(self));
        if at.symlink_metadata().is_err() {
            std::os::unix::fs::symlink(built, at)?;
        }
        Ok(())
    }

    /// Why it cannot be built here: no Go, one that is too old, or modules that are not to be
    /// had. `None`: it can, or is built already. Fetches its modules.
    #[must_use]
    pub fn missing(self) -> Option<String> {
        if self.is_cached() {
            return None;
        }
        lacking(self.name(), &self.source(), &[&self.package()])
    }

    fn compile(self, folder: &Path) -> Result<()> {
        let name = self.name();
        tell(&format!("{name}: fetching modules"));
        let all = fetch(folder, &[&self.package()])?;
        let made = folder.join(format!("{name}.unfinished"));
        let mut command = go(folder)?;
        command.args(["build", "-v", "-mod=mod", "-trimpath", "-ldflags", &self.flags(folder)?]);
        command.arg("-o").arg(&made).arg(self.package());
        let began = Instant::now();
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stderr.take().context("is piped")?).lines();
        let (mut compiled, mut told, mut said) = (0, began, String::new());
        for line in lines.map_while(Result::ok) {
            // Names of packages, and whatever went wrong.
            compiled += usize::from(!line.contains(' '));
            said.push_str(&line);
            said.push('\n');
            if told.elapsed() > REPORT {
                told = Instant::now();
                let seconds = began.elapsed().as_secs();
                tell(&format!("{name}: {compiled} of {all} packages after {seconds} s"));
            }
        }
        let status = child.wait()?;
        ensure!(status.success(), "go build ended with {status}: {said}");
        tell(&format!("{name}: built in {} s", began.elapsed().as_secs()));
        if self == Self::Kwok {
            stages(folder)?;
        }
        Ok(std::fs::rename(&made, folder.join(name))?)
    }

    /// The linker's: Kubernetes' programs do not start without knowing their version.
    fn flags(self, folder: &Path) -> Result<String> {
        let mut flags = "-s -w".to_owned();
        if self.set() == "kubernetes" {
            let mut list = go(folder)?;
            list.args(["list", "-mod=mod", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes"]);
            let version = output(&mut list)?.trim().to_owned();
            let mut numbers = version.trim_start_matches('v').split('.');
            for (name, value) in [
                ("gitVersion", version.as_str()),
                ("gitMajor", numbers.next().unwrap_or_default()),
                ("gitMinor", numbers.next().unwrap_or_default()),
            ] {
                flags.push_str(&format!(" -X k8s.io/component-base/version.{name}={value}"));
            }
        }
        Ok(flags)
    }
}

/// What kwok makes of nodes and pods lies beside its sources: all of it in one file.
fn stages(folder: &Path) -> Result<()> {
    let mut list = go(folder)?;
    list.args(["list", "-mod=mod", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kwok"]);
    let all = Path::new(output(&mut list)?.trim()).join("kustomize/stage");
    let mut text = String::new();
    for file in [
        "node/fast/node-initialize",
        "node/heartbeat-with-lease/node-heartbeat-with-lease",
        "pod/fast/pod-ready",
        "pod/fast/pod-complete",
        "pod/fast/pod-delete",
    ] {
        text.push_str(&std::fs::read_to_string(all.join(file).with_extension("yaml"))?);
        text.push_str("\n---\n");
    }
    Ok(std::fs::write(folder.join(STAGES), text)?)
}
