//! Calls for the tests of this stage.

use std::sync::Arc;

use crate::attribution::{Call, Identity, IdentityKind, Party};
use crate::protocol::exchange::{AgentClass, TraceContext};
use crate::protocol::{ConnectionBytes, Exchange, Protocol, Side};

/// The context of [`call`] where it carries one.
pub(super) const CONTEXT: TraceContext = TraceContext {
    trace_id: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c,
    span_id: 0xb7ad_6b71_6920_3331,
    sampled: Some(true),
};

pub(super) fn identity(name: &str) -> Arc<Identity> {
    Arc::new(Identity {
        name: name.into(),
        namespace: "shop".into(),
        kind: IdentityKind::Container,
        attributes: vec![("container.id", format!("{name}-1").into())],
        workload: None,
    })
}

fn party(name: &str, endpoint: &str, pid: u32) -> Party {
    Party { identity: identity(name), endpoint: endpoint.parse().ok(), pid }
}

/// `GET /orders/7` from web to cart, answered 200 after 3 ms; no context on the wire.
pub(super) fn call(side: Side) -> Call {
    Call {
        exchange: Box::new(Exchange {
            method: "GET".into(),
            path: "/orders/7".into(),
            authority: "cart.shop:8080".into(),
            request_id: Some("req-1".into()),
            status: Some(200),
            request_end_ns: Some(1_000_100_000),
            first_byte_ns: Some(1_002_000_000),
            end_ns: 1_003_000_000,
            response_bytes: 512,
            agent: AgentClass::Library,
            rtt_us: Some(80),
            connection_bytes: Some(ConnectionBytes { acked: 612, received: 97 }),
            sequence: 1,
            acknowledgement: 2,
            ..Exchange::begun(42, side, Protocol::Http11, 1_000_000_000)
        }),
        client: party("web", "10.0.0.1:5000", 11),
        server: party("cart", "10.0.0.2:8080", 22),
        route: "/orders/{id}".into(),
        server_address: "cart.shop".into(),
        server_port: 8080,
        peer_observed: false,
        pair: 0,
        service: None,
        passes_waypoint: false,
        passage: None,
        through: None,
    }
}
