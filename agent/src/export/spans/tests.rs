//! Tests of spans.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use opentelemetry::Value;

use super::*;
use crate::aggregation::RpcNames;
use crate::attribution::mesh::{JoinedBy, Mesh, Passage, Through, Times};
use crate::attribution::{Identity, IdentityKind};
use crate::export::sample::{CONTEXT, call};
use crate::protocol::exchange::{Cause, TraceContext, UNKNOWN};
use crate::protocol::{Protocol, Rpc, RpcSystem};

const CLOCK: Clock = Clock { unix_minus_monotonic: 1_700_000_000_000_000_000 };

fn spans(ratio: f64) -> Spans {
    let settings = SpanSettings { ratio, ..SpanSettings::default() };
    Spans::new(settings, Secret::fixed([1, 2, 3, 4]))
}

fn carrying(side: Side, context: TraceContext) -> Call {
    let mut call = call(side);
    call.exchange.trace = Some(context);
    call
}

fn paired(side: Side, pair: u64) -> Call {
    let mut call = call(side);
    // What the two ends see differs in everything but the pair.
    call.exchange.socket = if side == Side::Client { 5 } else { 6 };
    call.exchange.start_ns += pair + u64::from(side == Side::Server);
    call.peer_observed = true;
    call.pair = pair;
    call
}

fn attribute(span: &SpanData, name: &str) -> Option<Value> {
    let mut found = span.attributes.iter().filter(|pair| pair.key.as_str() == name);
    let value = found.next().map(|pair| pair.value.clone());
    assert!(found.next().is_none(), "{name} twice");
    value
}

fn text(span: &SpanData, name: &str) -> Option<String> {
    attribute(span, name).map(|value| value.as_str().into_owned())
}

#[test]
fn what_lies_between_two_ends_is_told_at_the_second() {
    let spans = spans(1.0);
    let mut call = carrying(Side::Client, CONTEXT);
    call.passage = Some(Arc::new(Passage {
        mesh: Mesh::Istio,
        policy: None,
        client_principal: None,
        server_principal: None,
    }));
    let names = ["between_us", "client_proxy_us", "server_proxy_us", "joined_by"]
        .map(|name| format!("meshtap.mesh.{name}"));
    let span = spans.span(&call, CLOCK).unwrap();
    assert!(names.iter().all(|name| attribute(&span, name).is_none()));
    let ids = spans.ids(&call);
    call.through = Some(Box::new(Through {
        number: 2,
        other: Some(1),
        tried: Vec::new(),
        by: Some(JoinedBy::TraceContext),
        times: Times {
            between_ns: Some(1_500_000),
            client_proxy_ns: None,
            server_proxy_ns: Some(200_999),
        },
        waypoint: None,
    }));
    let span = spans.span(&call, CLOCK).unwrap();
    let told = names.map(|name| attribute(&span, &name));
    let by = Value::from("trace_context");
    assert_eq!(told, [Some(Value::I64(1_500)), None, Some(Value::I64(200)), Some(by)]);
    assert_eq!(spans.ids(&call), ids, "the ids are those on the wire");
}

#[test]
fn both_sides_are_children_of_the_context_on_the_wire_with_ids_of_their_own() {
    let spans = spans(0.0);
    let server = spans.span(&carrying(Side::Server, CONTEXT), CLOCK).unwrap();
    let client = spans.span(&carrying(Side::Client, CONTEXT), CLOCK).unwrap();
    let wire = SpanId::from(CONTEXT.span_id);
    for span in [&server, &client] {
        assert_eq!(span.span_context.trace_id(), TraceId::from(CONTEXT.trace_id));
        assert_eq!(span.parent_span_id, wire);
        assert_ne!(span.span_context.span_id(), wire);
        assert!(span.span_context.is_sampled() && span.span_context.is_valid());
    }
    assert_ne!(server.span_context.span_id(), client.span_context.span_id());
    assert_eq!((server.span_kind, client.span_kind), (SpanKind::Server, SpanKind::Client));
    assert!(server.parent_span_is_remote && !client.parent_span_is_remote);
}

#[test]
fn two_calls_under_one_context_are_two_spans() {
    let spans = spans(0.0);
    let first = carrying(Side::Client, CONTEXT);
    let mut second = first.clone();
    second.exchange.sequence += 100;
    second.exchange.start_ns += 5;
    assert_ne!(spans.ids(&first).span, spans.ids(&second).span);
}

#[test]
fn the_sampled_bit_is_honoured_both_ways() {
    let decided = |sampled| TraceContext { sampled: Some(sampled), ..CONTEXT };
    assert!(spans(1.0).span(&carrying(Side::Server, decided(false)), CLOCK).is_none());
    assert!(spans(0.0).span(&carrying(Side::Server, decided(true)), CLOCK).is_some());
    let ignoring = |ratio| {
        let settings =
            SpanSettings { parent: ParentDecision::Ignore, ratio, ..SpanSettings::default() };
        Spans::new(settings, Secret::draw())
    };
    assert!(ignoring(1.0).span(&carrying(Side::Server, decided(false)), CLOCK).is_some());
    assert!(ignoring(0.0).span(&carrying(Side::Server, decided(true)), CLOCK).is_none());
}

#[test]
fn without_a_decision_both_ends_decide_alike_by_trace_id() {
    // Two agents with different secrets, as on two hosts.
    let (here, there) = (
        spans(0.5),
        Spans::new(SpanSettings { ratio: 0.5, ..SpanSettings::default() }, Secret::draw()),
    );
    let mut taken = 0;
    for number in 1..=1_000_u128 {
        let trace_id = number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let context = TraceContext { trace_id, sampled: None, ..CONTEXT };
        let sampled = here.ids(&carrying(Side::Client, context)).sampled;
        assert_eq!(sampled, there.ids(&carrying(Side::Server, context)).sampled);
        taken += u32::from(sampled);
    }
    assert!((400..600).contains(&taken), "{taken}");
}

#[test]
fn a_pair_shares_a_trace_and_the_server_is_the_clients_child() {
    let spans = spans(1.0);
    let client = spans.span(&paired(Side::Client, 77), CLOCK).unwrap();
    let server = spans.span(&paired(Side::Server, 77), CLOCK).unwrap();
    assert_eq!(client.span_context.trace_id(), server.span_context.trace_id());
    assert_eq!(server.parent_span_id, client.span_context.span_id());
    assert_eq!(client.parent_span_id, SpanId::INVALID);
    assert_ne!(server.span_context.span_id(), client.span_context.span_id());
    assert!(server.parent_span_is_remote);
}

#[test]
fn pairs_differ_from_each_other_and_under_another_secret() {
    let (one, other) = (spans(1.0), Spans::new(SpanSettings::default(), Secret::draw()));
    let mut seen = HashSet::new();
    for pair in 0..1_000 {
        let ids = one.ids(&paired(Side::Client, pair));
        assert!(seen.insert(ids.trace));
        assert_ne!(ids.trace, other.ids(&paired(Side::Client, pair)).trace);
        assert_eq!(ids, one.ids(&paired(Side::Client, pair)), "the same each time");
    }
}

#[test]
fn the_default_takes_one_percent_of_what_has_no_context_and_whole_pairs() {
    let spans = Spans::new(SpanSettings::default(), Secret::fixed([9, 8, 7, 6]));
    let mut taken = 0;
    for pair in 0..50_000 {
        let client = spans.ids(&paired(Side::Client, pair)).sampled;
        assert_eq!(client, spans.ids(&paired(Side::Server, pair)).sampled);
        taken += u32::from(client);
    }
    assert!((350..650).contains(&taken), "{taken} of 50000");
    let mut lone = call(Side::Server);
    let roots = (0..50_000)
        .filter(|start| {
            lone.exchange.start_ns = 1_000_000_000 + start * 1_000;
            spans.ids(&lone).sampled
        })
        .count();
    assert!((350..650).contains(&roots), "{roots} of 50000");
}

#[test]
fn a_server_span_has_the_attributes_of_the_conventions() {
    let mut call = carrying(Side::Server, CONTEXT);
    call.exchange.trace_state = Some("vendor=abc".into());
    call.exchange.retransmits = 2;
    let span = spans(0.0).span(&call, CLOCK).unwrap();
    assert_eq!(span.name, "GET /orders/{id}");
    assert_eq!(span.status, Status::Unset);
    assert_eq!(span.span_context.trace_state().get("vendor"), Some("abc"));
    let all: Vec<(String, Value)> =
        span.attributes.iter().map(|pair| (pair.key.to_string(), pair.value.clone())).collect();
    let expected = [
        ("http.request.method", Value::from("GET")),
        ("url.scheme", Value::from("http")),
        ("network.protocol.version", Value::from("1.1")),
        ("server.address", Value::from("cart.shop")),
        ("server.port", Value::I64(8080)),
        ("http.request.body.size", Value::I64(0)),
        ("http.response.status_code", Value::I64(200)),
        ("http.response.body.size", Value::I64(512)),
        ("meshtap.first_byte_us", Value::I64(2_000)),
        ("url.path", Value::from("/orders/7")),
        ("http.route", Value::from("/orders/{id}")),
        ("client.address", Value::from("10.0.0.1")),
        ("client.port", Value::I64(5000)),
        ("network.peer.address", Value::from("10.0.0.1")),
        ("network.peer.port", Value::I64(5000)),
        ("service.peer.name", Value::from("web")),
        ("service.peer.namespace", Value::from("shop")),
        ("meshtap.peer.kind", Value::from("container")),
        ("meshtap.user_agent.class", Value::from("library")),
        ("meshtap.tcp.rtt_us", Value::I64(80)),
        ("meshtap.tcp.retransmits", Value::I64(2)),
        ("meshtap.tcp.bytes_acked", Value::I64(612)),
        ("meshtap.tcp.bytes_received", Value::I64(97)),
    ];
    assert_eq!(all, expected.map(|(name, value)| (name.to_owned(), value)));
    let start = UNIX_EPOCH + Duration::from_nanos(1_700_000_001_000_000_000);
    assert_eq!(span.start_time, start);
    assert_eq!(span.end_time, start + Duration::from_millis(3));
}

#[test]
fn a_client_span_says_the_url_without_user_information() {
    let mut call = carrying(Side::Client, CONTEXT);
    call.exchange.authority = "user:secret@cart.shop:8080".into();
    let span = spans(0.0).span(&call, CLOCK).unwrap();
    assert_eq!(text(&span, "url.full").unwrap(), "http://cart.shop:8080/orders/7");
    assert_eq!(text(&span, "url.template").unwrap(), "/orders/{id}");
    assert_eq!(text(&span, "network.peer.address").unwrap(), "10.0.0.2");
    assert_eq!(text(&span, "service.peer.name").unwrap(), "cart");
    assert_eq!(text(&span, "url.path"), None);
    assert_eq!(text(&span, "http.route"), None);
    assert_eq!(text(&span, "client.address"), None);
}

#[test]
fn urls_of_calls_without_authority_or_path() {
    let full = |authority: &str, address: &str, path: &str| {
        let mut call = carrying(Side::Client, CONTEXT);
        call.exchange.authority = authority.to_owned().into();
        call.exchange.path = path.to_owned().into();
        call.server_address = address.into();
        text(&spans(0.0).span(&call, CLOCK).unwrap(), "url.full").unwrap()
    };
    assert_eq!(full("", "10.0.0.2", "/a"), "http://10.0.0.2:8080/a");
    assert_eq!(full("", "fd00::1", "/a"), "http://[fd00::1]:8080/a");
    assert_eq!(full("h:1", "h", "*"), "http://h:1");
    assert_eq!(full("x.example:443", "x.example", "x.example:443"), "http://x.example:443");
}

#[test]
fn unknown_methods_and_routes_keep_names_few() {
    let mut call = carrying(Side::Server, CONTEXT);
    call.exchange.method = "PURGE".into();
    let span = spans(0.0).span(&call, CLOCK).unwrap();
    assert_eq!(span.name, "HTTP /orders/{id}");
    assert_eq!(text(&span, "http.request.method").unwrap(), "_OTHER");
    assert_eq!(text(&span, "http.request.method_original").unwrap(), "PURGE");
    call.route = "".into();
    call.exchange.method = "POST".into();
    let span = spans(0.0).span(&call, CLOCK).unwrap();
    assert_eq!(span.name, "POST");
    assert_eq!(text(&span, "http.route"), None);
}

#[test]
fn status_follows_the_side_that_saw_it() {
    let outcome = |side, status: Option<u16>, error: Option<Cause>| {
        let mut call = carrying(side, CONTEXT);
        call.exchange.status = status;
        call.exchange.error = error;
        let span = spans(0.0).span(&call, CLOCK).unwrap();
        (span.status.clone(), text(&span, "error.type"))
    };
    let error = |kind: &str| (Status::error(""), Some(kind.to_owned()));
    assert_eq!(outcome(Side::Server, Some(404), None), (Status::Unset, None));
    assert_eq!(outcome(Side::Client, Some(404), None), error("404"));
    assert_eq!(outcome(Side::Server, Some(503), None), error("503"));
    assert_eq!(outcome(Side::Client, Some(302), None), (Status::Unset, None));
    let reset = (Status::error("connection_reset"), Some("connection_reset".to_owned()));
    assert_eq!(outcome(Side::Client, None, Some(Cause::ResetReceived)), reset);
    assert_eq!(outcome(Side::Client, Some(200), Some(Cause::ResetReceived)), reset);
}

#[test]
fn what_is_not_known_is_left_out() {
    let mut call = carrying(Side::Server, CONTEXT);
    call.exchange.status = None;
    call.exchange.first_byte_ns = None;
    call.exchange.rtt_us = None;
    call.exchange.connection_bytes = None;
    call.server_port = 0;
    call.client.endpoint = "[::ffff:10.1.2.3]:9".parse().ok();
    call.client.identity = Arc::new(Identity {
        name: "unknown".into(),
        namespace: "".into(),
        kind: IdentityKind::Unknown,
        attributes: Vec::new(),
        workload: None,
    });
    let span = spans(0.0).span(&call, CLOCK).unwrap();
    for name in [
        "http.response.status_code",
        "http.response.body.size",
        "meshtap.first_byte_us",
        "meshtap.tcp.rtt_us",
        "meshtap.tcp.retransmits",
        "meshtap.tcp.bytes_acked",
        "meshtap.tcp.bytes_received",
        "server.port",
        "service.peer.name",
        "error.type",
    ] {
        assert_eq!(attribute(&span, name), None, "{name}");
    }
    assert_eq!(text(&span, "client.address").unwrap(), "10.1.2.3");
}

#[test]
fn a_heavier_span_weighs_more() {
    let mut call = carrying(Side::Server, CONTEXT);
    let light = weight(&spans(0.0).span(&call, CLOCK).unwrap());
    call.exchange.path = format!("/{}", "x".repeat(5_000)).into();
    let heavy = weight(&spans(0.0).span(&call, CLOCK).unwrap());
    assert!((4_900..5_100).contains(&(heavy - light)), "{light} {heavy}");
}

/// `shop.Cart/Add` with this status, one message each way.
fn grpc(side: Side, status: Option<u32>) -> Call {
    let mut call = carrying(side, CONTEXT);
    call.exchange.protocol = Protocol::Http2;
    call.exchange.path = "/shop.Cart/Add".into();
    call.exchange.rpc = Some(Rpc::sample(status));
    call.route = "shop.Cart/Add".into();
    call
}

#[test]
fn a_grpc_span_has_the_attributes_of_the_rpc_conventions() {
    let span = spans(0.0).span(&grpc(Side::Server, Some(14)), CLOCK).unwrap();
    assert_eq!((&*span.name, &span.span_kind), ("shop.Cart/Add", &SpanKind::Server));
    assert_eq!(span.status, Status::error(""));
    let all: Vec<(String, Value)> =
        span.attributes.iter().map(|pair| (pair.key.to_string(), pair.value.clone())).collect();
    let expected = [
        ("rpc.system.name", Value::from("grpc")),
        ("rpc.method", Value::from("shop.Cart/Add")),
        ("rpc.status_code", Value::from("UNAVAILABLE")),
        ("meshtap.rpc.request_messages", Value::I64(1)),
        ("meshtap.rpc.response_messages", Value::I64(1)),
        ("network.protocol.version", Value::from("2")),
        ("server.address", Value::from("cart.shop")),
        ("server.port", Value::I64(8080)),
        ("error.type", Value::from("UNAVAILABLE")),
        ("meshtap.first_byte_us", Value::I64(2_000)),
        ("network.peer.address", Value::from("10.0.0.1")),
        ("network.peer.port", Value::I64(5000)),
        ("service.peer.name", Value::from("web")),
        ("service.peer.namespace", Value::from("shop")),
        ("meshtap.peer.kind", Value::from("container")),
        ("meshtap.user_agent.class", Value::from("library")),
        ("meshtap.tcp.rtt_us", Value::I64(80)),
        ("meshtap.tcp.bytes_acked", Value::I64(612)),
        ("meshtap.tcp.bytes_received", Value::I64(97)),
    ];
    assert_eq!(all, expected.map(|(name, value)| (name.to_owned(), value)));
    let span = spans(0.0).span(&grpc(Side::Client, Some(0)), CLOCK).unwrap();
    assert_eq!((span.span_kind, span.status), (SpanKind::Client, Status::Unset));
}

#[test]
fn a_grpc_span_may_have_the_deprecated_attributes() {
    let of = |rpc_names, call: &Call| {
        let settings = SpanSettings { rpc_names, ..SpanSettings::default() };
        Spans::new(settings, Secret::draw()).span(call, CLOCK).unwrap()
    };
    let old = of(RpcNames::Deprecated, &grpc(Side::Server, Some(5)));
    let both = of(RpcNames::Both, &grpc(Side::Server, Some(5)));
    for span in [&old, &both] {
        assert_eq!(span.name, "shop.Cart/Add");
        assert_eq!(text(span, "rpc.system").unwrap(), "grpc");
        assert_eq!(text(span, "rpc.service").unwrap(), "shop.Cart");
        assert_eq!(attribute(span, "rpc.grpc.status_code"), Some(Value::I64(5)));
    }
    assert_eq!(text(&old, "rpc.method").unwrap(), "Add");
    assert_eq!((text(&old, "rpc.system.name"), text(&old, "rpc.status_code")), (None, None));
    assert_eq!(text(&both, "rpc.method").unwrap(), "shop.Cart/Add");
    assert_eq!(text(&both, "rpc.status_code").unwrap(), "NOT_FOUND");
}

#[test]
fn methods_that_nothing_proves_keep_names_few() {
    let mut call = grpc(Side::Server, Some(12));
    call.route = "_OTHER".into();
    let span = spans(0.0).span(&call, CLOCK).unwrap();
    assert_eq!(span.name, "grpc");
    assert_eq!(text(&span, "rpc.method").unwrap(), "_OTHER");
    assert_eq!(text(&span, "rpc.method_original").unwrap(), "shop.Cart/Add");
    (call.route, call.exchange.path) = (UNKNOWN.into(), UNKNOWN.into());
    call.exchange.rpc = Some(Box::new(Rpc { system: RpcSystem::Connect, ..*Rpc::sample(None) }));
    let span = spans(0.0).span(&call, CLOCK).unwrap();
    assert_eq!(span.name, "connectrpc");
    assert_eq!(text(&span, "rpc.method").unwrap(), UNKNOWN);
    assert_eq!(text(&span, "rpc.method_original"), None);
}

#[test]
fn a_grpc_call_fails_by_its_status_its_cause_or_an_answer_of_http() {
    let outcome = |side, status, http, error: Option<Cause>| {
        let mut call = grpc(side, status);
        (call.exchange.status, call.exchange.error) = (http, error);
        let span = spans(0.0).span(&call, CLOCK).unwrap();
        let http = attribute(&span, "http.response.status_code");
        (span.status.clone(), text(&span, "error.type"), http)
    };
    let failed = |kind: &str| Some(kind.to_owned());
    let error = Status::error("");
    assert_eq!(outcome(Side::Server, Some(5), Some(200), None), (Status::Unset, None, None));
    assert_eq!(
        outcome(Side::Client, Some(5), Some(200), None),
        (error.clone(), failed("NOT_FOUND"), None)
    );
    assert_eq!(
        outcome(Side::Client, None, None, Some(Cause::DeadlineExceeded)),
        (Status::error("deadline_exceeded"), failed("deadline_exceeded"), None)
    );
    assert_eq!(
        outcome(Side::Server, None, Some(502), None),
        (error, failed("502"), Some(Value::I64(502)))
    );
}

#[test]
fn what_went_by_before_the_agent_came_is_left_out() {
    let mut call = carrying(Side::Server, CONTEXT);
    (call.exchange.method, call.exchange.path) = (UNKNOWN.into(), UNKNOWN.into());
    let span = spans(0.0).span(&call, CLOCK).unwrap();
    assert_eq!(text(&span, "http.request.method").unwrap(), "_OTHER");
    assert_eq!(text(&span, "http.request.method_original"), None);
    assert_eq!(text(&span, "url.path"), None);
}
