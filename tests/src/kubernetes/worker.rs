//! What makes the machine a node: containerd, kubelet, kube-proxy, and how they are told.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::binaries::Binary;
use super::families::{both, each};
use super::{
    ADDRESS, ADDRESS_6, ALL_PODS, ALL_PODS_6, BRIDGE, DNS, Image, NAME, Node, PATIENCE, PODS,
    PODS_6, Proxy, ROOT, binary, wait,
};
use crate::netns::Place;
use crate::process::{output, run, write};

/// Where distributions put the plugins that wire pods.
const PLUGINS: [&str; 3] = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];
/// What the plugins call the network of pods.
const NETWORK: &str = "meshtap-lab";
/// Numbers of programs that were run past kubelet.
static BESIDE: AtomicU32 = AtomicU32::new(0);
/// The image of the process that holds a pod's namespaces.
const PAUSE: &str = "lab.local/pause:1";

/// Why pods cannot run here; `None`: they can.
pub(super) fn missing() -> Option<String> {
    plugins().is_none().then(|| "not installed: the CNI plugin bridge".to_owned())
}

fn plugins() -> Option<PathBuf> {
    PLUGINS.iter().map(PathBuf::from).find(|folder| folder.join("bridge").exists())
}

impl Node {
    /// Starts containerd, with the images that every laboratory has.
    pub(super) fn start_containers(&self) -> Result<()> {
        let root = Path::new(ROOT);
        fs::create_dir_all(root.join("cni"))?;
        write(&root.join("cni/10-lab.conflist"), &network().to_string())?;
        write(&root.join("containerd.toml"), &containerd()?)?;
        let mut command = Place::HERE.inside("containerd")?;
        self.services
            .start("containerd", command.arg("--config").arg(root.join("containerd.toml")))?;
        wait("containerd answers", PATIENCE, || {
            self.services.demand("containerd")?;
            Ok(output(ctr()?.arg("version")).is_ok().then_some(()))
        })?;
        self.load(&Image::pause(PAUSE)?)?;
        self.load(&Image::web()?)
    }

    /// Gives the node's containerd an image.
    pub fn load(&self, image: &Image) -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        image.write(file.as_file())?;
        self.import(file.path())
    }

    /// The same with one that is in a file.
    pub fn import(&self, file: &Path) -> Result<()> {
        output(ctr()?.args(["images", "import"]).arg(file)).map(drop)
    }

    /// Where containerd keeps what it was told of its containers.
    #[must_use]
    pub fn bundles(&self) -> PathBuf {
        Path::new(ROOT).join("containerd/state/io.containerd.runtime.v2.task")
    }

    /// Runs a program in a container by its id, past the API server and kubelet, and gives
    /// what it printed.
    pub fn exec_beside(&self, container: &str, words: &[&str]) -> Result<String> {
        let id = format!("beside-{}", BESIDE.fetch_add(1, Ordering::Relaxed));
        output(ctr()?.args(["tasks", "exec", "--exec-id", &id, container]).args(words))
    }

    /// Has the next pod on the bridge get `address`, if nobody has it.
    pub fn next_address(&self, address: Ipv4Addr) -> Result<()> {
        let last = Ipv4Addr::from(u32::from(address).saturating_sub(1));
        let file = Path::new(ROOT).join("addresses").join(NETWORK).join("last_reserved_ip.0");
        write(&file, &last.to_string())
    }

    /// Starts kubelet and kube-proxy and waits until the node is ready.
    pub(super) fn start_worker(&self, proxy: Proxy) -> Result<()> {
        let root = Path::new(ROOT);
        // Where it is a module, traffic between two pods of one bridge is translated only
        // with it; where it is built in, there is nothing to load.
        drop(run("modprobe br_netfilter"));
        for chain in ["-i", "-o"] {
            // Others may have forbidden forwarding, as Docker does.
            for tool in each("iptables", "ip6tables") {
                run(&format!("{tool} -I FORWARD {chain} {BRIDGE} -j ACCEPT"))?;
            }
        }
        write(&root.join("kubelet.yaml"), &kubelet().to_string())?;
        let mut command = Command::new(binary(Binary::Kubelet));
        command
            .arg(format!("--config={ROOT}/kubelet.yaml"))
            .arg(format!("--kubeconfig={ROOT}/kubelet.kubeconfig"))
            .arg(format!("--root-dir={ROOT}/kubelet"))
            .arg(format!("--cert-dir={ROOT}/certificates"))
            .arg(format!("--hostname-override={NAME}"))
            .arg(format!("--node-ip={}", both(ADDRESS, ADDRESS_6)));
        self.services.start("kubelet", &mut command)?;
        self.start_proxy(proxy)?;
        wait("the node is ready", PATIENCE, || {
            self.demand()?;
            let what = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
            let ready = self.kubectl(&["get", "node", NAME, "-o", what]);
            Ok(ready.is_ok_and(|status| status == "True").then_some(()))
        })
    }

    /// Has another kind of kube-proxy lead to Services from now on, and waits until the rules
    /// of the other one are gone.
    pub fn lead_by(&self, proxy: Proxy) -> Result<()> {
        self.services.stop("kube-proxy")?;
        self.start_proxy(proxy)?;
        wait("kube-proxy has put its own rules in the other's place", PATIENCE, || {
            self.services.demand("kube-proxy")?;
            let (rules, tables) = (has_rules()?, super::sweep::tables().len());
            let are_its = match proxy {
                Proxy::Iptables => rules && tables == 0,
                Proxy::Nftables => !rules && tables == each((), ()).len(),
            };
            Ok(are_its.then_some(()))
        })
    }

    fn start_proxy(&self, proxy: Proxy) -> Result<()> {
        write(&Path::new(ROOT).join("kube-proxy.yaml"), &kube_proxy(proxy).to_string())?;
        let mut command = Command::new(binary(Binary::Proxy));
        self.services.start("kube-proxy", command.arg(format!("--config={ROOT}/kube-proxy.yaml")))
    }

    /// Has kubelet run a pod by itself, from a file; without `yaml` no more. Kubelet takes what
    /// begins with a brace for JSON.
    pub fn static_pod(&self, name: &str, yaml: Option<&str>) -> Result<()> {
        let file = Path::new(ROOT).join("static").join(format!("{name}.yaml"));
        match yaml {
            Some(yaml) => write(&file, yaml),
            None => fs::remove_file(&file).with_context(|| file.display().to_string()),
        }
    }
}

/// Whether a kube-proxy has rules of iptables here, of any family.
fn has_rules() -> Result<bool> {
    for tool in each("iptables-save", "ip6tables-save") {
        if run(&format!("{tool} -t nat"))?.contains(":KUBE-SERVICES ") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// containerd's command line, where kubelet's containers are.
pub(super) fn ctr() -> Result<Command> {
    let mut command = Place::HERE.inside("ctr")?;
    command.arg("--address").arg(socket()).args(["--namespace", "k8s.io"]);
    Ok(command)
}

fn socket() -> PathBuf {
    Path::new(ROOT).join("containerd/containerd.sock")
}

fn network() -> serde_json::Value {
    json!({"cniVersion": "0.4.0", "name": NETWORK, "plugins": [{
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": true,
        "hairpinMode": true,
        "ipam": {
            "type": "host-local",
            "ranges": each(json!([{"subnet": PODS}]), json!([{"subnet": PODS_6}])),
            "routes": each(json!({"dst": "0.0.0.0/0"}), json!({"dst": "::/0"})),
            "dataDir": format!("{ROOT}/addresses"),
        },
    }]})
}

fn containerd() -> Result<String> {
    let plugins = plugins().context("not installed: the CNI plugin bridge")?;
    let cri = "plugins.\"io.containerd.grpc.v1.cri\"";
    Ok(format!(
        r#"version = 2
root = "{ROOT}/containerd/root"
state = "{ROOT}/containerd/state"
[grpc]
  address = "{socket}"
[{cri}]
  sandbox_image = "{PAUSE}"
  # Below `state`, where they are found again.
  netns_mounts_under_state_dir = true
  # Not every root may give itself a better score.
  restrict_oom_score_adj = true
[{cri}.cni]
  bin_dir = "{plugins}"
  conf_dir = "{ROOT}/cni"
"#,
        socket = socket().display(),
        plugins = plugins.display(),
    ))
}

fn kubelet() -> serde_json::Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": ADDRESS,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": format!("{ROOT}/certificates/authority.crt")},
        },
        "authorization": {"mode": "Webhook"},
        // A driver that needs no systemd, and cgroups of either version.
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": false,
        "failSwapOn": false,
        "enforceNodeAllocatable": [],
        "localStorageCapacityIsolation": false,
        // A full disk of a developer's is no reason to run no pods.
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
        "containerRuntimeEndpoint": format!("unix://{}", socket().display()),
        "clusterDNS": [DNS],
        "clusterDomain": "cluster.local",
        "podLogsDir": format!("{ROOT}/logs"),
        "staticPodPath": format!("{ROOT}/static"),
        "fileCheckFrequency": "1s",
        "volumePluginDir": format!("{ROOT}/volume-plugins"),
        "tlsCertFile": format!("{ROOT}/certificates/kubelet.crt"),
        "tlsPrivateKeyFile": format!("{ROOT}/certificates/kubelet.key"),
        "healthzPort": 0,
        "readOnlyPort": 0,
    })
}

fn kube_proxy(proxy: Proxy) -> serde_json::Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": match proxy {
            Proxy::Iptables => "iptables",
            Proxy::Nftables => "nftables",
        },
        "clientConnection": {"kubeconfig": format!("{ROOT}/admin.kubeconfig")},
        "clusterCIDR": both(ALL_PODS, ALL_PODS_6),
        "hostnameOverride": NAME,
        "bindAddress": ADDRESS,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        // The table's size is the machine's own affair.
        "conntrack": {"maxPerCore": 0},
    })
}
