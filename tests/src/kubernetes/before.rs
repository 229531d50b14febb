//! What stood on this machine before the laboratory, so that it stands again afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::process::write;

/// Kernel settings that kubelet, kube-proxy and the bridge's plugin change.
const SETTINGS: [&str; 15] = [
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "net/bridge/bridge-nf-call-ip6tables",
    "net/bridge/bridge-nf-call-iptables",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv4/ip_forward",
    "net/ipv4/vs/conntrack",
    "net/ipv6/conf/all/forwarding",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_tcp_timeout_close_wait",
    "net/netfilter/nf_conntrack_tcp_timeout_established",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
];

/// Folders that they make at places which cannot be chosen.
const FOLDERS: [&str; 8] = [
    "/opt/cni",
    "/etc/cni",
    "/run/containerd",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
    "/etc/containerd",
];

/// What stood before.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Before {
    settings: BTreeMap<String, String>,
    /// Folders that were not there.
    absent: Vec<PathBuf>,
}

impl Before {
    /// Looks, and writes it to a file.
    pub fn note(file: &Path) -> Result<()> {
        let setting =
            |name: &&str| Some(((*name).to_owned(), fs::read_to_string(path(name)).ok()?));
        let absent = FOLDERS.iter().map(PathBuf::from).filter(|folder| !folder.exists());
        let before = Self {
            settings: SETTINGS.iter().filter_map(setting).collect(),
            absent: absent.collect(),
        };
        write(file, &serde_json::to_string(&before)?)
    }

    /// Reads what was noted; nothing where there is no such file.
    #[must_use]
    pub fn read(file: &Path) -> Self {
        let text = fs::read_to_string(file).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Puts it back.
    pub fn restore(&self) -> Result<()> {
        for (name, value) in &self.settings {
            let path = path(name);
            if fs::read_to_string(&path).is_ok_and(|now| now != *value) {
                fs::write(&path, value).with_context(|| path.display().to_string())?;
            }
        }
        for folder in &self.absent {
            if folder.exists() {
                fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
            }
        }
        Ok(())
    }
}

fn path(setting: &str) -> PathBuf {
    Path::new("/proc/sys").join(setting)
}
