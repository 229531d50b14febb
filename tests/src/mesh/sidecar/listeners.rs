//! Where Envoy takes things from: the listeners of its configuration.

use serde_json::{Value, json};

use super::clusters::{address, tls};
use super::{Upstream, inbound, retried};
use crate::mesh::certificates::Credentials;
use crate::mesh::istio;

/// The prefix of every extension's type.
const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// One on every address, of both families.
pub(super) fn everywhere(name: &str, port: u16, has_v6: bool) -> Value {
    let mut listener = json!({ "name": name, "address": address("0.0.0.0", port) });
    if has_v6 {
        listener["additional_addresses"] = json!([{ "address": address("::", port) }]);
    }
    listener
}

/// Bytes, passed on as they are.
fn pass(cluster: &str) -> Value {
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": format!("{TYPES}.filters.network.tcp_proxy.v3.TcpProxy"),
            "stat_prefix": cluster, "cluster": cluster
        }
    })
}

/// Requests, passed on as a route says.
pub(super) fn requests(prefix: &str, host: &Value, more: &Value) -> Value {
    let mut settings = json!({
        "@type": format!(
            "{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"
        ),
        "stat_prefix": prefix,
        "codec_type": "AUTO",
        "use_remote_address": false,
        "normalize_path": true,
        "route_config": { "virtual_hosts": [host], "validate_clusters": false },
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": { "@type": format!("{TYPES}.filters.http.router.v3.Router") }
        }]
    });
    if let (Some(settings), Some(more)) = (settings.as_object_mut(), more.as_object()) {
        settings.extend(more.clone());
    }
    json!({ "name": "envoy.filters.network.http_connection_manager", "typed_config": settings })
}

/// What the application sends: to a service by HTTP, or anywhere else as it is.
fn outbound(upstreams: &[Upstream], has_v6: bool) -> Vec<Value> {
    let mut virtual_one = everywhere("virtualOutbound", istio::OUTBOUND, has_v6);
    // Connections go on to the listener of their original destination, if there is one.
    virtual_one["use_original_dst"] = true.into();
    virtual_one["traffic_direction"] = "OUTBOUND".into();
    virtual_one["filter_chains"] = json!([
        { "filter_chain_match": { "destination_port": istio::OUTBOUND },
          "filters": [pass("BlackHoleCluster")] },
        { "filters": [pass("PassthroughCluster")] }
    ]);
    let mut listeners = vec![virtual_one];
    for upstream in upstreams {
        let (name, number) = (upstream.name(), upstream.port.number);
        let host = json!({
            "name": format!("{}:{number}", upstream.service.host()),
            "domains": ["*"],
            "include_request_attempt_count": true,
            "routes": [retried(&name)]
        });
        for own in upstream.service.addresses.iter().map(ToString::to_string) {
            let prefix = format!("outbound_{number}");
            listeners.push(json!({
                "name": format!("{own}_{number}"),
                "address": address(&own, number),
                "bind_to_port": false,
                "traffic_direction": "OUTBOUND",
                "filter_chains": [{ "filters": [requests(&prefix, &host, &json!({}))] }]
            }));
        }
    }
    listeners
}

/// What arrives for the application: by mutual TLS, or plainly from where there is no mesh.
fn virtual_inbound(own: &Credentials, ports: &[u16], has_v6: bool) -> Value {
    let mut chains = Vec::new();
    for port in ports {
        let host = json!({
            "name": format!("inbound|http|{port}"),
            "domains": ["*"],
            "routes": [{
                "match": { "prefix": "/" },
                "route": { "cluster": inbound(*port), "timeout": "0s" }
            }]
        });
        let more = json!({
            "server_name": "istio-envoy",
            "forward_client_cert_details": "APPEND_FORWARD",
            "set_current_client_cert_details": { "subject": true, "dns": true, "uri": true }
        });
        let filter = requests(&format!("inbound_0.0.0.0_{port}"), &host, &more);
        let mut common = tls(own, &json!({ "prefix": "spiffe://cluster.local/" }));
        common["alpn_protocols"] = json!(["h2", "http/1.1"]);
        chains.push(json!({
            "filter_chain_match": { "destination_port": port, "transport_protocol": "tls" },
            "filters": [filter],
            "transport_socket": {
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": format!("{TYPES}.transport_sockets.tls.v3.DownstreamTlsContext"),
                    "common_tls_context": common,
                    "require_client_certificate": true
                }
            }
        }));
        chains.push(json!({
            "filter_chain_match": { "destination_port": port, "transport_protocol": "raw_buffer" },
            "filters": [filter]
        }));
    }
    let mut listener = everywhere("virtualInbound", istio::INBOUND, has_v6);
    listener["traffic_direction"] = "INBOUND".into();
    listener["listener_filters"] = ["original_dst.v3.OriginalDst", "tls_inspector.v3.TlsInspector"]
        .map(|kind| {
            let name = kind.split('.').next().unwrap_or_default();
            json!({
                "name": format!("envoy.filters.listener.{name}"),
                "typed_config": { "@type": format!("{TYPES}.filters.listener.{kind}") }
            })
        })
        .into_iter()
        .collect();
    listener["filter_chains"] = chains.into();
    listener["default_filter_chain"] = json!({ "filters": [pass("InboundPassthroughCluster")] });
    listener
}

/// All of them.
pub(super) fn all(
    own: &Credentials,
    ports: &[u16],
    upstreams: &[Upstream],
    has_v6: bool,
) -> Vec<Value> {
    let mut listeners = outbound(upstreams, has_v6);
    listeners.push(virtual_inbound(own, ports, has_v6));
    listeners
}

/// A gateway's: requests from outside to a port of a service.
pub(super) fn gateway(upstream: &Upstream, port: u16) -> Value {
    let host = json!({
        "name": format!("*:{port}"),
        "domains": ["*"],
        "include_request_attempt_count": true,
        "routes": [retried(&upstream.name())]
    });
    let more = json!({
        "server_name": "istio-envoy",
        "use_remote_address": true,
        "forward_client_cert_details": "SANITIZE_SET",
        "set_current_client_cert_details": { "subject": true, "dns": true, "uri": true }
    });
    let prefix = format!("outbound_0.0.0.0_{port}");
    json!({
        "name": format!("0.0.0.0_{port}"),
        "address": address("0.0.0.0", port),
        "traffic_direction": "OUTBOUND",
        "filter_chains": [{ "filters": [requests(&prefix, &host, &more)] }]
    })
}
