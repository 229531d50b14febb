//! Where Envoy sends things to: the clusters of its configuration.

use serde_json::{Value, json};

use super::{Upstream, inbound};
use crate::mesh::certificates::Credentials;
use crate::mesh::istio;

/// The prefix of every type's address.
const TYPES: &str = "type.googleapis.com/envoy";

/// A file, as Envoy is told of one.
pub(super) fn file(path: &std::path::Path) -> Value {
    json!({ "filename": path.display().to_string() })
}

/// An address, as Envoy is told of one.
pub(super) fn address(host: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": host, "port_value": port } })
}

/// What both sides of TLS are told: who one is, and who may be at the other end.
pub(super) fn tls(own: &Credentials, other: &Value) -> Value {
    json!({
        "tls_certificates": [{
            "certificate_chain": file(&own.certificate), "private_key": file(&own.key)
        }],
        "validation_context": {
            "trusted_ca": file(&own.authority),
            "match_typed_subject_alt_names": [{ "san_type": "URI", "matcher": other }]
        }
    })
}

/// HTTP of the version that the request came by.
pub(super) fn same_version() -> Value {
    json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": format!("{TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions"),
        "use_downstream_protocol_config": { "http2_protocol_options": {} }
    } })
}

/// To where the connection was going before it was redirected.
fn original(name: &str) -> Value {
    json!({
        "name": name, "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": "10s"
    })
}

/// Mutual TLS to one of this account, who is called by a name in the handshake.
pub(super) fn secure(own: &Credentials, account: &str, name: &str) -> Value {
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": format!("{TYPES}.extensions.transport_sockets.tls.v3.UpstreamTlsContext"),
            "common_tls_context": tls(own, &json!({ "exact": account })),
            "sni": name
        }
    })
}

/// To the pods of a service, by mutual TLS where they have sidecars.
fn to_service(own: &Credentials, upstream: &Upstream) -> Value {
    let endpoints: Vec<Value> = upstream
        .endpoints()
        .iter()
        .map(|at| json!({ "endpoint": { "address": address(&at.ip().to_string(), at.port()) } }))
        .collect();
    let name = upstream.name();
    let mut cluster = json!({
        "name": name, "type": "STATIC", "lb_policy": "LEAST_REQUEST", "connect_timeout": "10s",
        "load_assignment": {
            "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }]
        },
        "typed_extension_protocol_options": same_version(),
        "circuit_breakers": { "thresholds": [{
            "max_connections": 100_000, "max_pending_requests": 100_000,
            "max_requests": 100_000, "max_retries": 100_000
        }] }
    });
    let has_sidecars =
        !upstream.backends.is_empty() && upstream.backends.iter().all(istio::is_injected);
    if has_sidecars {
        // One account: what a service's pods have in common.
        let account = upstream.backends.first().map(|pod| pod.principal()).unwrap_or_default();
        cluster["transport_socket"] = secure(own, &account, &upstream.server_name());
    }
    cluster
}

/// To the application in the same pod, from an address by which it is not redirected again.
fn to_application(port: u16, has_v6: bool) -> Value {
    let mut cluster = original(&inbound(port));
    cluster["typed_extension_protocol_options"] = same_version();
    cluster["upstream_bind_config"] = json!({
        "source_address": { "address": "127.0.0.6", "port_value": 0 }
    });
    if has_v6 {
        cluster["upstream_bind_config"]["extra_source_addresses"] =
            json!([{ "address": { "address": "::6", "port_value": 0 } }]);
    }
    cluster
}

/// All of them.
pub(super) fn all(
    own: &Credentials,
    ports: &[u16],
    upstreams: &[Upstream],
    has_v6: bool,
) -> Vec<Value> {
    let mut clusters: Vec<Value> =
        upstreams.iter().map(|upstream| to_service(own, upstream)).collect();
    clusters.extend(ports.iter().map(|port| to_application(*port, has_v6)));
    clusters.push(original("PassthroughCluster"));
    clusters.push(original("InboundPassthroughCluster"));
    clusters.push(json!({
        "name": "BlackHoleCluster", "type": "STATIC", "connect_timeout": "1s",
        "load_assignment": { "cluster_name": "BlackHoleCluster" }
    }));
    clusters
}
