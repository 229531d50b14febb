//! A laboratory with a real Kubernetes node on this machine: etcd, the control plane,
//! containerd, kubelet, a bridge for pods, kube-proxy.
//!
//! There is one at a time. All it has lies below [`ROOT`], and all that it changes elsewhere
//! is put back by [`sweep`]: also after its starter died, when the next one starts.

mod ask;
mod before;
pub mod binaries;
pub mod certificates;
mod control_plane;
pub mod definition;
mod dns;
mod fake;
mod families;
pub mod far;
mod image;
mod installed;
pub mod istio;
pub mod object;
pub mod service;
mod sweep;
pub mod town;
mod worker;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};

use crate::part::Part;
use crate::process::run;
use crate::requirement::program;
use before::Before;
use binaries::Binary;
use certificates::{Authority, signing_key};
use service::Services;

pub use ask::{Pod, Right};
pub use families::lacks_ipv6;
pub use image::Image;
pub use installed::Installed;
pub use sweep::{remains, sweep, unmount_below};
pub use town::Town;

/// Where everything of the laboratory lies.
pub const ROOT: &str = "/var/lib/meshtap-lab";
/// The node's name.
pub const NAME: &str = "lab";
/// The node's address, on the bridge of its pods.
pub const ADDRESS: &str = "10.244.0.1";
/// Its other one, where the machine has IPv6: see [`lacks_ipv6`].
pub const ADDRESS_6: &str = "fd00:10:244::1";
/// The API server's port there.
pub const API_PORT: u16 = 16443;
/// The bridge.
const BRIDGE: &str = "meshtap-lab0";
/// Addresses of pods.
const PODS: &str = "10.244.0.0/24";
const PODS_6: &str = "fd00:10:244::/64";
/// Addresses of pods of all nodes, of those, too, that are not there.
const ALL_PODS: &str = "10.244.0.0/16";
const ALL_PODS_6: &str = "fd00:10:244::/56";
/// Addresses of Services.
const SERVICES: &str = "10.96.0.0/16";
const SERVICES_6: &str = "fd00:10:96::/112";
/// The name server's among them.
const DNS: &str = "10.96.0.10";
/// How long anything in the laboratory may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// Set by whoever wants what is being waited for to end.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// How kube-proxy leads a Service's address to its pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proxy {
    /// By rules of iptables.
    #[default]
    Iptables,
    /// By rules of nftables.
    Nftables,
}

/// A running laboratory; it ends when dropped, unless it was left running before
/// ([`Node::keep`]).
#[derive(Debug)]
pub struct Node {
    services: Services,
    is_kept: bool,
    // Last, so that everything is gone when the next one has its turn.
    _turn: Turn,
}

/// The right to have the laboratory.
#[derive(Debug)]
struct Turn {
    _lock: File,
}

impl Turn {
    fn take() -> Result<Self> {
        let path = std::env::temp_dir().join("meshtap-lab.lock");
        let lock = File::options().create(true).truncate(false).write(true).open(path)?;
        let mut told = false;
        wait("another laboratory ends", Duration::from_secs(3600), || {
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                return Ok(Some(()));
            }
            if !std::mem::replace(&mut told, true) {
                tell("waiting for another laboratory to end");
            }
            Ok(None)
        })?;
        Ok(Self { _lock: lock })
    }
}

impl Node {
    /// Why there can be no node here; `None`: there can. What a build needs is fetched, where
    /// the programs are not built yet and tests that take minutes were asked for.
    #[must_use]
    pub fn missing() -> Option<String> {
        Self::lacking().or_else(|| Part::Kubernetes.missing())
    }

    /// [`Node::missing`] without a look at what is built here.
    #[must_use]
    pub fn lacking() -> Option<String> {
        lacks(&["containerd", "runc", "ctr", "iptables", "ip", "ss", "curl", "busybox"])
            .or_else(worker::missing)
    }

    /// Why there can be no control plane with fake nodes here; `None`: there can.
    #[must_use]
    pub fn control_plane_missing() -> Option<String> {
        lacks(&["ip", "curl"])
            .or_else(|| Part::Kubernetes.missing())
            .or_else(|| Part::Kwok.missing())
    }

    /// A node that is ready to run pods. One that was left running is taken as it stands,
    /// and left running again.
    ///
    /// An agent attached by the same test is started after it, never before: two tests that
    /// take their turns the other way round would wait for each other.
    pub fn up() -> Result<Self> {
        Self::up_with(Proxy::default())
    }

    /// [`Node::up`] with another kind of kube-proxy.
    pub fn up_with(proxy: Proxy) -> Result<Self> {
        let turn = Turn::take()?;
        if left_running() && services().runs("kubelet") {
            tell("using the laboratory that was left running");
            return Ok(Self { services: services(), is_kept: true, _turn: turn });
        }
        let node = Self::ground(turn, &Binary::NODE)?;
        node.start_containers()?;
        node.start_control_plane()?;
        node.start_worker(proxy)?;
        node.start_dns()?;
        Ok(node)
    }

    /// A control plane without a node: for nodes that are not there ([`Node::fake_nodes`]).
    pub fn control_plane() -> Result<Self> {
        let turn = Turn::take()?;
        let node = Self::ground(turn, &[])?;
        node.start_control_plane()?;
        Ok(node)
    }

    /// Leaves it running when it is dropped.
    pub fn keep(&mut self) -> Result<()> {
        self.is_kept = true;
        Ok(fs::write(Path::new(ROOT).join("kept"), "")?)
    }

    /// Whether it stays when it is dropped.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Ends one that was left running.
    pub fn down() -> Result<()> {
        let _turn = Turn::take()?;
        sweep()
    }

    /// Fails where one of its programs ended by itself.
    pub fn demand(&self) -> Result<()> {
        self.services.names().iter().try_for_each(|name| self.services.demand(name))
    }

    /// Where the output of one of its programs goes: `kubelet`, `apiserver`, `containerd`.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.services.log(name)
    }

    /// For whoever may do anything.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        Path::new(ROOT).join("admin.kubeconfig")
    }

    /// The command line.
    #[must_use]
    pub fn kubectl_program(&self) -> PathBuf {
        binary(Binary::Kubectl)
    }

    /// Folders, programs, certificates and the bridge; what an earlier one left is taken away.
    fn ground(turn: Turn, more: &[Binary]) -> Result<Self> {
        ensure!(
            !left_running(),
            "a laboratory was left running: cargo xtask lab kubernetes --down ends it"
        );
        sweep()?;
        ensure!(!sweep::kubelet_runs(), "a kubelet that is not of this laboratory runs here");
        let routes = run("ip -4 -o route show")?;
        ensure!(
            !routes.contains(" 10.244.") && !routes.starts_with("10.244."),
            "10.244.0.0/16 is in use here"
        );
        let taken = run("ip -6 -o route show").is_ok_and(|routes| routes.contains("fd00:10:244:"));
        ensure!(!taken, "{ALL_PODS_6} is in use here");
        let root = Path::new(ROOT);
        for folder in ["bin", "certificates", "run", "static"] {
            fs::create_dir_all(root.join(folder))?;
        }
        // From here on, whatever fails is taken away again.
        let node = Self { services: services(), is_kept: false, _turn: turn };
        Before::note(&root.join("before.json"))?;
        for binary in Binary::CONTROL_PLANE.iter().chain(more) {
            binary.link()?;
        }
        identities(root)?;
        run(&format!("ip link add {BRIDGE} type bridge"))?;
        run(&format!("ip addr add {ADDRESS}/24 dev {BRIDGE}"))?;
        if lacks_ipv6().is_none() {
            // Nobody is there who could have it already.
            run(&format!("ip addr add {ADDRESS_6}/64 dev {BRIDGE} nodad"))?;
        }
        run(&format!("ip link set {BRIDGE} up"))?;
        Ok(node)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        if let Err(error) = sweep() {
            tell(&format!("the laboratory is not taken away: {error:#}"));
        }
    }
}

/// Whoever takes part, and the kubeconfigs of those who ask.
fn identities(root: &Path) -> Result<()> {
    let folder = root.join("certificates");
    let authority = Authority::create()?;
    crate::process::write(&folder.join("authority.crt"), authority.certificate())?;
    signing_key(&folder, "tokens")?;
    let server = format!("https://{ADDRESS}:{API_PORT}");
    let api_names = [
        ADDRESS,
        "10.96.0.1",
        "127.0.0.1",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
    ];
    let kubelet = format!("system:node:{NAME}");
    for (name, group, user, hosts) in [
        ("apiserver", "", "kube-apiserver", api_names.as_slice()),
        ("admin", "system:masters", "admin", &[]),
        ("kubelet", "system:nodes", kubelet.as_str(), &[NAME, ADDRESS]),
    ] {
        let identity = authority.issue(group, user, hosts)?;
        identity.write(&folder, name)?;
        let file = root.join(format!("{name}.kubeconfig"));
        crate::process::write(&file, &identity.kubeconfig(&server, &authority))?;
    }
    Ok(())
}

/// Whether there is one that runs and is meant to.
#[must_use]
pub fn left_running() -> bool {
    Path::new(ROOT).join("kept").exists() && services().runs("etcd")
}

fn services() -> Services {
    Services::of(&Path::new(ROOT).join("run"))
}

fn binary(binary: Binary) -> PathBuf {
    Path::new(ROOT).join("bin").join(binary.name())
}

fn lacks(programs: &[&str]) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    let absent: Vec<&str> =
        programs.iter().copied().filter(|name| program(name).is_none()).collect();
    (!absent.is_empty()).then(|| format!("not installed: {}", absent.join(", ")))
}

/// Ends what is being waited for, everywhere in the laboratory, with an error.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Whether [`interrupt`] was called.
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Asks `look` until it finds something.
fn wait<T>(
    what: &str,
    patience: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if is_interrupted() {
            bail!("interrupted");
        }
        if Instant::now() > deadline {
            bail!("waited {patience:?} until {what}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Prints past the capture of the test harness: what takes minutes says so.
fn tell(text: &str) {
    // A closed standard error is no reason to fail.
    drop(writeln!(std::io::stderr(), "{text}"));
}
