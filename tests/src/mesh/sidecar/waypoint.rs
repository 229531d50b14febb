//! Envoy as a waypoint of ambient mode: connections come in tunnels, their requests are routed
//! one by one, and go on in tunnels. Between the steps there are no sockets.

use serde_json::{Value, json};

use super::clusters::{address, same_version, secure, tls};
use super::listeners::{everywhere, requests};
use super::{Upstream, retried};
use crate::mesh::certificates::Credentials;

/// Where tunnels end.
pub(super) const TUNNEL: u16 = 15008;
/// The prefix of every extension's type.
const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// Listeners and clusters.
pub(super) fn resources(own: &Credentials, upstreams: &[Upstream], has_v6: bool) -> Value {
    let mut listeners = vec![terminate(own, upstreams, has_v6)];
    let mut clusters = Vec::new();
    for upstream in upstreams {
        let number = upstream.port.number;
        let routes = format!("main_internal_{number}");
        let name = format!("inbound-vip|{number}|http|{}", upstream.service.host());
        let mut host = json!({
            "name": name, "domains": ["*"], "include_request_attempt_count": true
        });
        host["routes"] = json!([retried(&name)]);
        let filter = requests(&format!("inbound_{number}"), &host, &json!({}));
        listeners.push(json!({
            "name": routes, "internal_listener": {}, "filter_chains": [{ "filters": [filter] }]
        }));
        clusters.push(inside(&routes, std::slice::from_ref(&routes), &json!({})));
        let mut ends = Vec::new();
        for (at, pod) in upstream.endpoints().iter().zip(&upstream.backends) {
            let end = format!("connect_originate_{at}");
            listeners.push(json!({
                "name": end, "internal_listener": {},
                "filter_chains": [{ "filters": [{
                    "name": "envoy.filters.network.tcp_proxy",
                    "typed_config": {
                        "@type": format!("{TYPES}.filters.network.tcp_proxy.v3.TcpProxy"),
                        "stat_prefix": end, "cluster": format!("tunnel_{at}"),
                        "tunneling_config": { "hostname": at.to_string() }
                    }
                }] }]
            }));
            clusters.push(tunnel(
                own,
                &format!("tunnel_{at}"),
                &at.ip().to_string(),
                &pod.principal(),
            ));
            ends.push(end);
        }
        clusters.push(inside(&name, &ends, &same_version()));
    }
    json!({ "listeners": listeners, "clusters": clusters })
}

/// Ends tunnels: each of their connections goes to the routes of the service's port that it
/// is for.
fn terminate(own: &Credentials, upstreams: &[Upstream], has_v6: bool) -> Value {
    let hosts: Vec<Value> = upstreams
        .iter()
        .map(|upstream| {
            let number = upstream.port.number;
            let domains: Vec<String> = upstream
                .service
                .addresses
                .iter()
                .map(|ip| std::net::SocketAddr::new(*ip, number).to_string())
                .collect();
            json!({
                "name": format!("{number}"),
                "domains": domains,
                "routes": [{ "match": { "connect_matcher": {} }, "route": {
                    "cluster": format!("main_internal_{number}"),
                    "timeout": "0s",
                    "upgrade_configs": [{ "upgrade_type": "CONNECT", "connect_config": {} }]
                } }]
            })
        })
        .collect();
    let more = json!({
        "http2_protocol_options": { "allow_connect": true },
        "upgrade_configs": [{ "upgrade_type": "CONNECT" }],
        "route_config": { "virtual_hosts": hosts, "validate_clusters": false }
    });
    let mut common = tls(own, &json!({ "prefix": "spiffe://cluster.local/" }));
    common["alpn_protocols"] = json!(["h2"]);
    let mut listener = everywhere("connect_terminate", TUNNEL, has_v6);
    listener["filter_chains"] = json!([{
        "filters": [requests("connect_terminate", &json!({}), &more)],
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": format!("{TYPES}.transport_sockets.tls.v3.DownstreamTlsContext"),
                "common_tls_context": common,
                "require_client_certificate": true
            }
        }
    }]);
    listener
}

/// A cluster of listeners in the same process.
fn inside(name: &str, listeners: &[String], options: &Value) -> Value {
    let endpoints: Vec<Value> = listeners
        .iter()
        .map(|listener| {
            json!({ "endpoint": { "address": { "envoy_internal_address": {
                "server_listener_name": listener
            } } } })
        })
        .collect();
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "10s",
        "typed_extension_protocol_options": options,
        "load_assignment": {
            "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }]
        }
    })
}

/// A tunnel to the pod with this address and account.
fn tunnel(own: &Credentials, name: &str, ip: &str, account: &str) -> Value {
    let mut cluster = json!({
        "name": name, "type": "STATIC", "connect_timeout": "10s",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [
            { "endpoint": { "address": address(ip, TUNNEL) } }
        ] }] },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": format!("{TYPES}.upstreams.http.v3.HttpProtocolOptions"),
                "explicit_http_config": { "http2_protocol_options": {} }
            }
        }
    });
    cluster["transport_socket"] = secure(own, account, ip);
    cluster
}
