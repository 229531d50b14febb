//! What people would pick instead: a proxy beside the server, or a capture of its packets.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::load::{Kind, free_port, wait_for};
use crate::vm;

/// Something that runs beside the load; ends with this value.
#[derive(Debug)]
pub struct Instead {
    child: Child,
    /// Where the load is to go instead of the server.
    pub port: Option<u16>,
}

impl Instead {
    /// Starts what `kind` measures, for a server at `port`; its files go into `folder`.
    pub fn start(kind: Kind, port: u16, folder: &Path) -> Result<Self> {
        if kind == Kind::Capture {
            let filter = format!("tcp port {port}");
            let arguments = ["-i", "lo", "-s", "256", "-w", "/dev/null", filter.as_str()];
            let child = spawn(Command::new("tcpdump").args(arguments))?;
            sleep(Duration::from_millis(500));
            return Ok(Self { child, port: None });
        }
        let own = free_port()?;
        let file = folder.join("envoy.yaml");
        fs::write(&file, configuration(own, port))?;
        let mut envoy = Command::new(envoy().context("Envoy is not there")?);
        envoy.args(["--concurrency", "2", "--disable-hot-restart", "-l", "warning", "-c"]);
        let proxy = Self { child: spawn(envoy.arg(file))?, port: Some(own) };
        wait_for(own)?;
        Ok(proxy)
    }
}

impl Drop for Instead {
    fn drop(&mut self) {
        // Each is its only process; what cannot be killed has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Envoy, where the end-to-end tests have fetched it.
pub fn envoy() -> Option<PathBuf> {
    let cache = vm::cache().ok()?.parent()?.to_owned();
    let folders = fs::read_dir(cache).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    folders.map(|folder| folder.join("packages/envoy/_bin/envoy")).find(|file| file.is_file())
}

fn spawn(command: &mut Command) -> Result<Child> {
    let name = command.get_program().display().to_string();
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.spawn().with_context(|| format!("cannot start {name}"))
}

/// As a sidecar passes HTTP on.
fn configuration(port: u16, backend: u16) -> String {
    format!(
        r#"
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: server
          route_config:
            virtual_hosts:
            - name: server
              domains: ["*"]
              routes: [{{ match: {{ prefix: "/" }}, route: {{ cluster: server }} }}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: server
    type: STATIC
    load_assignment:
      cluster_name: server
      endpoints:
      - lb_endpoints:
        - endpoint:
            address: {{ socket_address: {{ address: 127.0.0.1, port_value: {backend} }} }}
"#
    )
}
