//! The programs of others that the end-to-end tests put traffic through.

use std::collections::BTreeSet;

use crate::packages;
use crate::workspace::has;

/// A program that tests start, and Debian's package of it.
const NEEDED: [(&str, &str); 34] = [
    ("nginx", "nginx-light"),
    ("apache2", "apache2"),
    ("docker-proxy", "docker.io"),
    ("dockerd", "docker.io"),
    ("docker", "docker.io"),
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("podman", "podman"),
    ("conmon", "conmon"),
    ("busybox", "busybox-static"),
    ("openssl", "openssl"),
    ("haproxy", "haproxy"),
    ("wrk", "wrk"),
    ("h2load", "nghttp2-client"),
    ("nghttpd", "nghttp2-server"),
    ("ab", "apache2-utils"),
    ("curl", "curl"),
    ("iptables", "iptables"),
    ("nft", "nftables"),
    ("ipvsadm", "ipvsadm"),
    ("ip", "iproute2"),
    ("ss", "iproute2"),
    ("tcpdump", "tcpdump"),
    ("python3", "python3"),
    ("pip3", "python3-pip"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("javac", "default-jdk-headless"),
    ("mvn", "maven"),
    ("go", "golang-go"),
    ("timeout", "coreutils"),
    ("setpriv", "util-linux"),
    ("bpftool", "bpftool"),
    ("systemd-analyze", "systemd"),
];

/// What a Kubernetes node is made of, beside what is built from source.
const NODE: [(&str, &str); 8] = [
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("busybox", "busybox-static"),
    ("iptables", "iptables"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("curl", "curl"),
];

/// Installs what is missing; where that fails, the tests that need it skip and say so.
pub fn programs() {
    install(&NEEDED);
}

/// The same for a Kubernetes node.
pub fn node() {
    install(&NODE);
}

fn install(needed: &[(&str, &str)]) {
    let missing: BTreeSet<&str> =
        needed.iter().filter(|(program, _)| !has(program)).map(|&(_, package)| package).collect();
    if missing.is_empty() {
        return;
    }
    let missing: Vec<&str> = missing.into_iter().collect();
    if let Err(error) = packages::install(&missing) {
        eprintln!("could not install {}: {error:#}", missing.join(" "));
    }
}
