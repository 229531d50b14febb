//! Attributes of a span by the stable semantic conventions. No query, no user information
//! and no header value but the host enters one.

use std::net::IpAddr;
use std::sync::Arc;

use opentelemetry::{KeyValue, StringValue, Value};

use super::rpc;
use crate::aggregation::RpcNames;
use crate::attribution::{Call, IdentityKind};
use crate::protocol::exchange::UNKNOWN;
use crate::protocol::{Rpc, Side};

/// The method, where the conventions know it; another is `_OTHER` (`HTTP` in names).
#[must_use]
pub fn known_method(method: &str) -> Option<&'static str> {
    const KNOWN: [&str; 10] =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"];
    KNOWN.into_iter().find(|known| *known == method)
}

/// `error.type`: why there was no whole answer, else the status where it is an error for
/// the side that saw it. A remote procedure call's status comes first.
pub(crate) fn error_type(call: &Call) -> Option<Value> {
    if call.exchange.rpc.is_some() {
        return Some(call.exchange.rpc_fault(call.side())?.text().into_owned().into());
    }
    if let Some(cause) = call.exchange.error {
        return Some(Value::from(cause.name()));
    }
    let status = call.exchange.status?;
    let failed = match call.side() {
        Side::Client => status >= 400,
        Side::Server => status >= 500,
    };
    failed.then(|| Value::from(status.to_string()))
}

/// All attributes of a call's span.
pub(super) fn of(call: &Call, names: RpcNames) -> Vec<KeyValue> {
    let mut list = Vec::with_capacity(20);
    match call.exchange.rpc.as_deref() {
        Some(called) => procedure(call, called, names, &mut list),
        None => http(call, &mut list),
    }
    peer(call, &mut list);
    passage(call, &mut list);
    connection(call, &mut list);
    if call.exchange.weight > 1 {
        list.push(KeyValue::new("meshtap.weight", i64::from(call.exchange.weight)));
    }
    list
}

fn http(call: &Call, list: &mut Vec<KeyValue>) {
    request(call, list);
    answer(call, list);
    match call.side() {
        Side::Client => client(call, list),
        Side::Server => server(call, list),
    }
}

fn procedure(call: &Call, called: &Rpc, names: RpcNames, list: &mut Vec<KeyValue>) {
    let said = rpc::attributes(call, called, names).into_iter();
    list.extend(said.map(|(name, value)| KeyValue::new(name, value)));
    carried(call, list);
    outcome(call, list);
}

fn request(call: &Call, list: &mut Vec<KeyValue>) {
    let exchange = &call.exchange;
    let method = exchange.method.as_str();
    match known_method(method) {
        Some(known) => list.push(KeyValue::new("http.request.method", known)),
        None => {
            list.push(KeyValue::new("http.request.method", "_OTHER"));
            if method != UNKNOWN {
                list.push(KeyValue::new("http.request.method_original", method.to_owned()));
            }
        }
    }
    list.push(KeyValue::new("url.scheme", "http"));
    carried(call, list);
    list.push(KeyValue::new("http.request.body.size", integer(exchange.request_bytes)));
}

/// By which protocol, and where to.
fn carried(call: &Call, list: &mut Vec<KeyValue>) {
    list.push(KeyValue::new("network.protocol.version", call.exchange.protocol.version()));
    list.push(KeyValue::new("server.address", text(&call.server_address)));
    if call.server_port != 0 {
        list.push(KeyValue::new("server.port", i64::from(call.server_port)));
    }
}

fn answer(call: &Call, list: &mut Vec<KeyValue>) {
    let exchange = &call.exchange;
    if let Some(status) = exchange.status {
        list.push(KeyValue::new("http.response.status_code", i64::from(status)));
        list.push(KeyValue::new("http.response.body.size", integer(exchange.response_bytes)));
    }
    outcome(call, list);
}

fn outcome(call: &Call, list: &mut Vec<KeyValue>) {
    let exchange = &call.exchange;
    if let Some(error) = error_type(call) {
        list.push(KeyValue::new("error.type", error));
    }
    if let Some(first) = exchange.first_byte_ns {
        let waited = first.saturating_sub(exchange.start_ns) / 1_000;
        list.push(KeyValue::new("meshtap.first_byte_us", integer(waited)));
    }
}

fn client(call: &Call, list: &mut Vec<KeyValue>) {
    list.push(KeyValue::new("url.full", full_url(call)));
    if !call.route.is_empty() {
        list.push(KeyValue::new("url.template", text(&call.route)));
    }
}

fn server(call: &Call, list: &mut Vec<KeyValue>) {
    let path = call.exchange.path.as_str();
    if path != UNKNOWN {
        list.push(KeyValue::new("url.path", path.to_owned()));
    }
    if !call.route.is_empty() {
        list.push(KeyValue::new("http.route", text(&call.route)));
    }
    if let Some(endpoint) = call.client.endpoint {
        list.push(KeyValue::new("client.address", canonical(endpoint.ip())));
        list.push(KeyValue::new("client.port", i64::from(endpoint.port())));
    }
}

fn peer(call: &Call, list: &mut Vec<KeyValue>) {
    let peer = call.peer();
    if let Some(endpoint) = peer.endpoint {
        list.push(KeyValue::new("network.peer.address", canonical(endpoint.ip())));
        list.push(KeyValue::new("network.peer.port", i64::from(endpoint.port())));
    }
    if !matches!(peer.identity.kind, IdentityKind::Unknown | IdentityKind::Address) {
        list.push(KeyValue::new("service.peer.name", text(&peer.identity.name)));
        if !peer.identity.namespace.is_empty() {
            list.push(KeyValue::new("service.peer.namespace", text(&peer.identity.namespace)));
        }
    }
}

/// How a call went through a mesh, and how the other end is known.
fn passage(call: &Call, list: &mut Vec<KeyValue>) {
    list.push(KeyValue::new("meshtap.peer.kind", call.peer().identity.kind.name()));
    let Some(passage) = &call.passage else { return };
    list.push(KeyValue::new("meshtap.mesh", passage.mesh.name()));
    if let Some(policy) = passage.policy {
        list.push(KeyValue::new("meshtap.mesh.security_policy", policy.name()));
    }
    for (name, principal) in [
        ("meshtap.mesh.client_principal", &passage.client_principal),
        ("meshtap.mesh.server_principal", &passage.server_principal),
    ] {
        list.extend(principal.as_ref().map(|text| KeyValue::new(name, text.as_str().to_owned())));
    }
    if let Some(attempt) = call.attempt() {
        list.push(KeyValue::new("meshtap.mesh.attempt", i64::from(attempt)));
    }
    between(call, list);
}

/// What lies between a call's two ends, at the one that was seen second.
fn between(call: &Call, list: &mut Vec<KeyValue>) {
    let Some(through) = &call.through else { return };
    let by = through.by.map(|by| KeyValue::new("meshtap.mesh.joined_by", by.name()));
    let times = [
        ("meshtap.mesh.between_us", through.times.between_ns),
        ("meshtap.mesh.client_proxy_us", through.times.client_proxy_ns),
        ("meshtap.mesh.server_proxy_us", through.times.server_proxy_ns),
    ];
    let times = times.into_iter().filter_map(|(name, ns)| Some((name, ns? / 1_000)));
    list.extend(by);
    let waypoint = through.waypoint.as_ref();
    list.extend(waypoint.map(|named| KeyValue::new("meshtap.mesh.waypoint", text(&named.name))));
    list.extend(times.map(|(name, us)| KeyValue::new(name, integer(us))));
}

fn connection(call: &Call, list: &mut Vec<KeyValue>) {
    if let Some(class) = call.exchange.agent.name() {
        list.push(KeyValue::new("meshtap.user_agent.class", class));
    }
    if let Some(rtt) = call.exchange.rtt_us {
        list.push(KeyValue::new("meshtap.tcp.rtt_us", i64::from(rtt)));
    }
    if call.exchange.retransmits > 0 {
        let again = i64::from(call.exchange.retransmits);
        list.push(KeyValue::new("meshtap.tcp.retransmits", again));
    }
    if let Some(bytes) = call.exchange.connection_bytes {
        list.push(KeyValue::new("meshtap.tcp.bytes_acked", integer(bytes.acked)));
        list.push(KeyValue::new("meshtap.tcp.bytes_received", integer(bytes.received)));
    }
    if call.exchange.cut {
        list.push(KeyValue::new("meshtap.head_cut", true));
    }
}

/// `http://host:port/path`: a path that is none (`*`, the target of CONNECT) is left out.
fn full_url(call: &Call) -> String {
    let path = call.exchange.path.as_str();
    let path = if path.starts_with('/') { path } else { "" };
    match url_host(call.exchange.authority.as_str()) {
        "" if call.server_address.contains(':') => {
            format!("http://[{}]:{}{path}", call.server_address, call.server_port)
        }
        "" => format!("http://{}:{}{path}", call.server_address, call.server_port),
        host => format!("http://{host}{path}"),
    }
}

/// An authority without user information, which may be a password.
pub(crate) fn url_host(authority: &str) -> &str {
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// IPv4 as itself also where a socket maps it into IPv6.
fn canonical(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

pub(super) fn text(text: &Arc<str>) -> StringValue {
    StringValue::from(Arc::clone(text))
}

fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Bytes of memory that an attribute takes, about; shared text counts in full.
pub(super) fn weight(attribute: &KeyValue) -> usize {
    let text = match &attribute.value {
        Value::String(text) => text.as_str().len(),
        _ => 0,
    };
    size_of::<KeyValue>() + text
}
