//! Calls for tests.

use std::net::SocketAddr;
use std::sync::Arc;

use super::line::Lost;
use crate::attribution::mesh::{JoinedBy, Through, Times};
use crate::attribution::{Call, Identity, IdentityKind, Party};
use crate::protocol::exchange::{AgentClass, TraceContext};
use crate::protocol::{ConnectionBytes, Exchange, Protocol, Rpc, Side};

pub fn party(name: &str, namespace: &str, endpoint: &str, pid: u32) -> Party {
    let kind = if name == "unknown" { IdentityKind::Unknown } else { IdentityKind::Process };
    let identity = Identity {
        name: Arc::from(name),
        namespace: Arc::from(namespace),
        kind,
        attributes: Vec::new(),
        workload: None,
    };
    let endpoint: Option<SocketAddr> = endpoint.parse().ok();
    Party { identity: Arc::new(identity), endpoint, pid }
}

/// `curl` asks `shop/checkout`; seen at one end, 1.5 ms at the client, 1 ms at the server.
pub fn call(side: Side) -> Call {
    let at_client = side == Side::Client;
    let start_ns = if at_client { 1_000_000 } else { 1_250_000 };
    Call {
        exchange: Box::new(Exchange {
            method: "GET".into(),
            path: "/users/42".into(),
            authority: "shop.example:8080".into(),
            trace: Some(TraceContext { trace_id: 0xabc, span_id: 1, sampled: Some(true) }),
            agent: AgentClass::Tool,
            status: Some(200),
            request_end_ns: Some(start_ns),
            first_byte_ns: Some(start_ns + 700_000),
            end_ns: start_ns + if at_client { 1_500_000 } else { 1_000_000 },
            response_bytes: 1234,
            rtt_us: at_client.then_some(42),
            connection_bytes: Some(ConnectionBytes { acked: 412, received: 1_630 }),
            retransmits: if at_client { 1 } else { 2 },
            sequence: 1,
            acknowledgement: 2,
            ..Exchange::begun(7, side, Protocol::Http11, start_ns)
        }),
        client: party("curl", "", "127.0.0.1:40000", if at_client { 11 } else { 0 }),
        server: party("checkout", "shop", "127.0.0.1:8080", if at_client { 0 } else { 22 }),
        route: Arc::from("/users/{id}"),
        server_address: Arc::from("shop.example"),
        server_port: 8080,
        peer_observed: true,
        pair: 9,
        service: None,
        passes_waypoint: false,
        passage: None,
        through: None,
    }
}

/// The same through proxies, as the end with a number; `other` came before it.
pub fn through(call: Call, number: u64, other: Option<u64>) -> Call {
    let by = other.map(|_| JoinedBy::RequestId);
    let times = Times {
        between_ns: other.map(|_| 500_000),
        client_proxy_ns: other.map(|_| 120_000),
        server_proxy_ns: other.map(|_| 130_000),
    };
    let through = Through { number, other, tried: Vec::new(), by, times, waypoint: None };
    Call { peer_observed: false, pair: number, through: Some(Box::new(through)), ..call }
}

/// `curl` calls `shop.Users/Get` of `shop/checkout`: 2 messages there, 3 back, as both saw it.
pub fn grpc(side: Side, status: Option<u32>) -> Call {
    let mut call = call(side);
    call.exchange.protocol = Protocol::Http2;
    call.exchange.method = "POST".into();
    call.exchange.path = "/shop.Users/Get".into();
    call.exchange.rpc = Some(Box::new(Rpc {
        request_messages: Some(2),
        response_messages: Some(3),
        ..*Rpc::sample(status)
    }));
    call.route = Arc::from("shop.Users/Get");
    call
}

pub fn lost() -> Lost {
    Lost {
        time_ns: 5_000_000,
        count: 3,
        reason: "ring_full",
        client: None,
        server: Some(party("checkout", "shop", "127.0.0.1:8080", 22)),
    }
}
