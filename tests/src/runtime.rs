//! [`Runtime`]: docker, podman or containerd with everything of its own: data, sockets, a network
//! namespace. It is gone with its containers when dropped, and so is what it left elsewhere.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::kubernetes::{Image, unmount_below};
use crate::netns::Netns;
use crate::process::{Running, output, words, write};
use crate::requirement::missing;

/// The image that [`Image::web`] makes.
const IMAGE: &str = "lab.local/web:1";
/// How long a runtime may take to answer.
const START: Duration = Duration::from_secs(30);
/// How long it may take to end.
const END: Duration = Duration::from_secs(60);
/// What runtimes leave empty where no option leads them elsewhere; the inner ones first.
const LEFT: [&str; 10] = [
    "/run/docker/plugins",
    "/run/docker",
    "/run/containerd/fifo",
    "/run/containerd/s",
    "/run/containerd/runc/moby",
    "/run/containerd/runc/default",
    "/run/containerd/runc",
    "/run/containerd",
    "/run/runc",
    "/run/libpod",
];
/// What podman remembers of images, wherever its own data are.
const CACHE: &str = "/var/lib/containers";

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// docker's daemon over a containerd of its own.
    Docker,
    /// podman, which has no daemon.
    Podman,
    /// containerd alone, by its own command line.
    Containerd,
}

/// One that runs.
#[derive(Debug)]
pub struct Runtime {
    kind: Kind,
    services: Vec<Running>,
    had_cache: bool,
    folder: TempDir,
    netns: Netns,
}

impl Runtime {
    /// Why it cannot run here; `None`: nothing that it needs is missing.
    #[must_use]
    pub fn missing(kind: Kind) -> Option<String> {
        let own: &[&str] = match kind {
            Kind::Docker => &["docker", "dockerd", "containerd", "iptables"],
            Kind::Podman => &["podman", "conmon"],
            Kind::Containerd => &["containerd", "ctr"],
        };
        missing(&[own, &["runc", "busybox", "ip", "nsenter"]].concat())
    }

    /// Starts it in a network namespace of its own, and gives it the image of a web server.
    pub fn start(kind: Kind) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let had_cache = Path::new(CACHE).exists();
        let mut runtime =
            Self { kind, services: Vec::new(), had_cache, folder, netns: Netns::create()? };
        match kind {
            Kind::Docker => {
                runtime.start_containerd()?;
                runtime.start_docker()?;
            }
            Kind::Podman => runtime.configure_podman()?,
            Kind::Containerd => runtime.start_containerd()?,
        }
        let file = runtime.at("image.tar");
        Image::web()?.write(fs::File::create(&file)?)?;
        let load: &[&str] = match kind {
            Kind::Docker | Kind::Podman => &["load", "-i"],
            Kind::Containerd => &["images", "import"],
        };
        output(runtime.command()?.args(load).arg(file))?;
        Ok(runtime)
    }

    /// Where its containers' addresses are reached.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The lines of the agent's configuration that say where its data are.
    #[must_use]
    pub fn settings(&self) -> String {
        let (key, at) = match self.kind {
            Kind::Docker => ("docker", self.at("docker")),
            Kind::Podman => ("storage", self.at("storage")),
            Kind::Containerd => ("bundles", self.at("state/io.containerd.runtime.v2.task")),
        };
        format!("containers:\n  {key}: [{}]\n", at.display())
    }

    /// Starts a container with a web server on a port, and gives the id that the runtime has
    /// for it. docker publishes it at another port, if one is given. One of podman's is of those
    /// that are removed when they end (`--rm`).
    pub fn run(&self, name: &str, port: u16, at: Option<u16>) -> Result<String> {
        let mut command = self.command()?;
        command.args(["run", "-d"]);
        let (variable, ports) = (format!("PORT={port}"), at.map(|at| format!("{at}:{port}")));
        match self.kind {
            Kind::Docker => {
                command.args(["--name", name, "-e", &variable]);
                command.args(ports.iter().flat_map(|ports| ["-p", ports]));
                command.arg(IMAGE);
            }
            Kind::Podman => {
                command.args(["--rm", "--network", "host", "--name", name, "-e", &variable, IMAGE]);
            }
            Kind::Containerd => {
                // As nerdctl does it: an id of the same shape, and the name beside it.
                let id = format!("{:064x}", rand::random::<u128>());
                let name = format!("nerdctl/name={name}");
                command.args(["--net-host", "--env", &variable, "--annotation", &name]);
                output(command.args([IMAGE, &id]))?;
                return Ok(id);
            }
        }
        Ok(output(&mut command)?.trim().to_owned())
    }

    /// Where a container is reached from [`Runtime::netns`].
    pub fn address(&self, id: &str) -> Result<String> {
        self.told(id, "IPAddress")
    }

    /// Where a container reaches what runs in [`Runtime::netns`].
    pub fn gateway(&self, id: &str) -> Result<String> {
        self.told(id, "Gateway")
    }

    fn told(&self, id: &str, what: &str) -> Result<String> {
        if self.kind != Kind::Docker {
            // Without a network of their own.
            return Ok("127.0.0.1".to_owned());
        }
        let format = format!("{{{{.NetworkSettings.{what}}}}}");
        let address = output(self.command()?.args(["inspect", "-f", &format, id]))?;
        Ok(address.trim().to_owned())
    }

    /// Has a container ask for a URL, whatever the status is.
    pub fn ask(&self, id: &str, url: &str) -> Result<()> {
        let mut command = self.command()?;
        match self.kind {
            Kind::Docker | Kind::Podman => command.args(["exec", id]),
            Kind::Containerd => command.args(["tasks", "exec", "--exec-id", "asking", id]),
        };
        let line = format!("timeout 20 wget -q -O /dev/null {url} || true");
        output(command.args(["sh", "-c", &line])).map(drop)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program in the network namespace alone: what else `ip netns exec` does would hide
    /// the cgroups.
    fn inside(&self, name: &str) -> Result<Command> {
        let program = words(name)?;
        let mut command = words("nsenter")?;
        command.arg(format!("--net={}", self.netns.path().display())).arg(program.get_program());
        Ok(command)
    }

    /// Its command line.
    fn command(&self) -> Result<Command> {
        let name = match self.kind {
            Kind::Docker => "docker",
            Kind::Podman => "podman",
            Kind::Containerd => "ctr",
        };
        let mut command = self.inside(name)?;
        for variable in ["DOCKER_CONTEXT", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE"] {
            command.env_remove(variable);
        }
        match self.kind {
            Kind::Docker => {
                let socket = format!("unix://{}", self.at("docker.sock").display());
                command.env("DOCKER_HOST", socket).env("DOCKER_CONFIG", self.folder.path());
            }
            Kind::Podman => {
                command.env("CONTAINERS_CONF", self.at("containers.conf"));
                command.env("CONTAINERS_STORAGE_CONF", self.at("storage.conf"));
            }
            Kind::Containerd => {
                command.arg("--address").arg(self.at("containerd.sock"));
            }
        }
        Ok(command)
    }

    fn start_containerd(&mut self) -> Result<()> {
        let config = format!(
            "version = 2\nroot = \"{0}/root\"\nstate = \"{0}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\n  address = \"{0}/containerd.sock\"\n",
            self.folder.path().display()
        );
        let (file, socket) = (self.at("containerd.toml"), self.at("containerd.sock"));
        write(&file, &config)?;
        let mut command = self.inside("containerd")?;
        let service = Running::start(command.arg("--config").arg(file))?;
        self.services.push(service);
        let mut answers = words("ctr")?;
        answers.arg("--address").arg(socket).arg("version");
        self.wait(&mut answers)
    }

    fn start_docker(&mut self) -> Result<()> {
        let file = self.at("daemon.json");
        write(&file, "{}")?;
        let mut command = self.inside("dockerd")?;
        command.arg("--config-file").arg(file);
        command.arg("--data-root").arg(self.at("docker"));
        command.arg("--exec-root").arg(self.at("exec"));
        command.arg("--pidfile").arg(self.at("docker.pid"));
        command.arg("--containerd").arg(self.at("containerd.sock"));
        command.arg("--host").arg(format!("unix://{}", self.at("docker.sock").display()));
        let service = Running::start(&mut command)?;
        self.services.push(service);
        let mut answers = self.command()?;
        answers.arg("version");
        self.wait(&mut answers)
    }

    fn configure_podman(&self) -> Result<()> {
        let at = self.folder.path().display();
        // Not every root may raise its limits, and runc takes cgroups of either version.
        let engine = format!(
            "[containers]\ndefault_ulimits = [\"nofile=1000:1000\", \"nproc=1000:1000\"]\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nruntime = \"runc\"\n\
             events_logger = \"none\"\nlock_type = \"file\"\n\
             tmp_dir = \"{at}/tmp\"\nstatic_dir = \"{at}/static\"\nvolume_path = \"{at}/volumes\"\n"
        );
        write(&self.at("containers.conf"), &engine)?;
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{at}/storage\"\nrunroot = \"{at}/run\"\n"
        );
        write(&self.at("storage.conf"), &storage)?;
        output(self.command()?.arg("info")).map(drop)
    }

    fn wait(&mut self, answers: &mut Command) -> Result<()> {
        let deadline = Instant::now() + START;
        while let Err(error) = output(answers) {
            let service = self.services.last_mut().context("was started")?;
            if service.wait(Duration::ZERO).is_ok() || Instant::now() > deadline {
                let said = service.output();
                bail!("{error:#}: {}", said.lines().last().unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn remove_containers(&self) -> Result<()> {
        match self.kind {
            Kind::Docker => {
                let all = output(self.command()?.args(["ps", "-aq"]))?;
                for id in all.lines() {
                    output(self.command()?.args(["rm", "-f", id]))?;
                }
            }
            Kind::Podman => {
                output(self.command()?.args(["rm", "-a", "-f", "-t", "0"]))?;
            }
            Kind::Containerd => {
                let all = output(self.command()?.args(["containers", "ls", "-q"]))?;
                for id in all.lines() {
                    output(self.command()?.args(["tasks", "rm", "-f", id]))?;
                    output(self.command()?.args(["containers", "rm", id]))?;
                }
            }
        }
        Ok(())
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Err(error) = self.remove_containers() {
            eprintln!("containers stay: {error:#}");
        }
        while let Some(mut service) = self.services.pop() {
            drop(service.signal(Signal::TERM).and_then(|()| service.wait(END)));
        }
        drop(unmount_below(self.folder.path()));
        // Another runtime's are not empty as long as it runs.
        for name in ["docker", "libpod_parent", "default", "moby"] {
            let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
            for hierarchy in hierarchies.map(|entry| entry.path()) {
                drop(fs::remove_dir(hierarchy.join(name)));
            }
            drop(fs::remove_dir(Path::new("/sys/fs/cgroup").join(name)));
        }
        for folder in LEFT {
            drop(fs::remove_dir(folder));
        }
        if !self.had_cache {
            drop(fs::remove_dir_all(CACHE));
        }
    }
}
