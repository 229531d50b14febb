//! The names of Services and pods: CoreDNS beside the node, and behind a Service's address
//! for pods, as everywhere.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::binaries::Binary;
use super::control_plane::admin;
use super::{ADDRESS, DNS, Node, PATIENCE, ROOT, binary, wait};
use crate::process::{run, write};

impl Node {
    /// Starts it and waits until it listens.
    pub(super) fn start_dns(&self) -> Result<()> {
        let file = Path::new(ROOT).join("Corefile");
        let kubeconfig = admin();
        write(
            &file,
            &format!(
                "cluster.local:53 {{\n  bind {ADDRESS}\n  errors\n  kubernetes cluster.local {{\n    \
                 kubeconfig {} lab\n  }}\n}}\n",
                kubeconfig.display()
            ),
        )?;
        let mut command = Command::new(binary(Binary::Dns));
        self.services.start("coredns", command.arg("-conf").arg(&file))?;
        self.apply(&service())?;
        wait("the name server listens", PATIENCE, || {
            self.services.demand("coredns")?;
            let listening = run(&format!("ss -lunH src {ADDRESS}:53"))?;
            Ok((!listening.trim().is_empty()).then_some(()))
        })
    }
}

/// A Service without pods, and the slice that says where it leads to.
fn service() -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: kube-dns, namespace: kube-system}}
spec:
  clusterIP: {DNS}
  ports: [{{name: dns, port: 53, protocol: UDP}}, {{name: dns-tcp, port: 53, protocol: TCP}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: kube-dns
  namespace: kube-system
  labels: {{kubernetes.io/service-name: kube-dns}}
addressType: IPv4
endpoints: [{{addresses: [\"{ADDRESS}\"]}}]
ports: [{{name: dns, port: 53, protocol: UDP}}, {{name: dns-tcp, port: 53, protocol: TCP}}]
"
    )
}
