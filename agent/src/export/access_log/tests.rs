//! Tests of access log.

use opentelemetry::trace::{SpanId, TraceId};
use serde_json::{Value, json};

use super::*;
use crate::export::sample::{CONTEXT, call};
use crate::protocol::exchange::{Cause, UNKNOWN};
use crate::protocol::{Protocol, Rpc};

const CLOCK: Clock = Clock { unix_minus_monotonic: 1_700_000_000_000_000_000 };

fn line(settings: AccessLogSettings, call: &Call, format: Format) -> String {
    let mut out = Vec::new();
    AccessLog::new(settings).line(call, CLOCK, format, &mut out);
    let line = String::from_utf8(out).unwrap();
    assert_eq!(line.matches('\n').count(), 1, "{line:?}");
    assert!(line.ends_with('\n'));
    line
}

fn traced() -> Call {
    let mut call = call(Side::Server);
    call.exchange.trace = Some(CONTEXT);
    call
}

#[test]
fn a_json_line_says_everything() {
    let line = line(AccessLogSettings::default(), &traced(), Format::Json);
    let end = |name, address, port, pid| {
        json!({"name": name, "namespace": "shop", "kind": "container",
               "address": address, "port": port, "pid": pid})
    };
    assert_eq!(
        serde_json::from_str::<Value>(&line).unwrap(),
        json!({
            "time": "2023-11-14T22:13:21.000000Z",
            "side": "server",
            "client": end("web", "10.0.0.1", 5000, 11),
            "server": end("cart", "10.0.0.2", 8080, 22),
            "protocol": "http/1.1",
            "method": "GET",
            "host": "cart.shop:8080",
            "path": "/orders/7",
            "route": "/orders/{id}",
            "status": 200,
            "http_status": 200,
            "error": null,
            "duration_us": 3000,
            "first_byte_us": 2000,
            "request_bytes": 0,
            "response_bytes": 512,
            "request_messages": null,
            "response_messages": null,
            "rtt_us": 80,
            "retransmits": 0,
            "tcp_bytes_acked": 612,
            "tcp_bytes_received": 97,
            "user_agent": "library",
            "weight": 1,
            "cut": false,
            "request_id": "req-1",
            "trace_id": "0af7651916cd43dd8448eb211c80319c",
            "span_id": "b7ad6b7169203331",
        })
    );
}

#[test]
fn what_is_not_known_is_null() {
    let mut call = call(Side::Server);
    let exchange = &mut call.exchange;
    exchange.method = "".into();
    exchange.path = "".into();
    exchange.authority = "".into();
    (exchange.status, exchange.request_id) = (None, None);
    call.route = "".into();
    let written = line(AccessLogSettings::default(), &call, Format::Json);
    let read: Value = serde_json::from_str(&written).unwrap();
    for field in ["method", "host", "path", "route", "status", "error", "request_id", "trace_id"] {
        assert_eq!(read.get(field), Some(&Value::Null), "{field}");
    }
    let log = AccessLog::new(AccessLogSettings::default());
    let record = log.record(&call, CLOCK, None);
    let absent = ["url.path", "http.route", "http.request.method_original"];
    assert!(record.attributes_iter().all(|(key, _)| !absent.contains(&key.as_str())));
}

#[test]
fn a_text_line_is_compact_and_shows_the_unusual() {
    let mut call = call(Side::Client);
    call.exchange.request_id = None;
    assert_eq!(
        line(AccessLogSettings::default(), &call, Format::Text),
        "2023-11-14T22:13:21.000000Z client web -> cart \
         \"GET cart.shop:8080/orders/7\" 200 3.000ms 0B/512B\n"
    );
    call.exchange.status = None;
    call.exchange.error = Some(Cause::Timeout);
    call.exchange.retransmits = 4;
    call.exchange.weight = 8;
    call.exchange.cut = true;
    let line = line(AccessLogSettings::default(), &call, Format::Text);
    assert!(
        line.ends_with("\" - 3.000ms 0B/512B error=timeout retransmits=4 weight=8 cut\n"),
        "{line}"
    );
}

#[test]
fn headers_and_user_information_stay_inside_unless_allowed() {
    let headers = AllowedHeaders { request_id: false, trace: false };
    let settings = AccessLogSettings { headers, ..AccessLogSettings::default() };
    let mut call = traced();
    call.exchange.authority = "user:secret@cart.shop".into();
    for format in [Format::Json, Format::Text] {
        let line = line(settings, &call, format);
        for hidden in ["req-1", "0af7651916cd43dd", "b7ad6b7169203331", "secret", "user:"] {
            assert!(!line.contains(hidden), "{hidden} in {line}");
        }
    }
    let record = AccessLog::new(settings).record(&call, CLOCK, None);
    let all = format!("{record:?}");
    assert!(!all.contains("req-1") && !all.contains("secret"), "{all}");
}

#[test]
fn bytes_from_the_wire_cannot_break_a_line_or_a_terminal() {
    let mut call = call(Side::Server);
    call.exchange.path = "/a\"b\u{1b}[31m\r\nGET /forged\u{9b}".into();
    let text = line(AccessLogSettings::default(), &call, Format::Text);
    assert!(text.contains(r#"/a\"b\u{1b}[31m\r\nGET /forged\u{9b}"#), "{text:?}");
    let json = line(AccessLogSettings::default(), &call, Format::Json);
    let read: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(read["path"], call.exchange.path.as_str());
}

#[test]
fn a_call_seen_at_both_ends_is_one_line_unless_both_are_wanted() {
    let wants = |both_ends, side, peer_observed| {
        let settings = AccessLogSettings { both_ends, ..AccessLogSettings::default() };
        let mut call = call(side);
        call.peer_observed = peer_observed;
        AccessLog::new(settings).wants(&call)
    };
    assert!(wants(false, Side::Server, true) && !wants(false, Side::Client, true));
    assert!(wants(false, Side::Client, false) && wants(false, Side::Server, false));
    assert!(wants(true, Side::Client, true));
}

#[test]
fn a_record_follows_the_conventions_and_links_its_span() {
    let log = AccessLog::new(AccessLogSettings::default());
    let mut call = call(Side::Server);
    call.exchange.status = Some(503);
    let ids = Ids {
        trace: TraceId::from(5_u128),
        span: SpanId::from(6_u64),
        parent: SpanId::INVALID,
        sampled: true,
    };
    let record = log.record(&call, CLOCK, Some(ids));
    let get = |name: &str| {
        record.attributes_iter().find(|(key, _)| key.as_str() == name).map(|(_, value)| value)
    };
    assert_eq!(get("http.response.status_code"), Some(&AnyValue::Int(503)));
    assert_eq!(get("error.type"), Some(&AnyValue::from("503")));
    assert_eq!(get("http.route"), Some(&AnyValue::from("/orders/{id}")));
    assert_eq!(get("server.address"), Some(&AnyValue::from("cart.shop")));
    assert_eq!(record.severity_number(), Some(Severity::Error));
    assert_eq!(record.trace_context().unwrap().span_id, ids.span);
    assert!(record.observed_timestamp().is_some(), "the exporter relies on it");
    let unsampled = log.record(&call, CLOCK, Some(Ids { sampled: false, ..ids }));
    assert!(unsampled.trace_context().is_none(), "no link to a span that does not exist");
}

/// `shop.Cart/Add` with this status: 3 messages there, one back.
fn grpc(side: Side, status: Option<u32>) -> Call {
    let mut call = call(side);
    call.exchange.protocol = Protocol::Http2;
    call.exchange.path = "/shop.Cart/Add".into();
    call.exchange.request_id = None;
    call.exchange.rpc = Some(Box::new(Rpc { request_messages: Some(3), ..*Rpc::sample(status) }));
    call.route = "shop.Cart/Add".into();
    call
}

#[test]
fn a_grpc_call_is_told_in_the_words_of_grpc() {
    let settings = AccessLogSettings::default();
    let read = |call: &Call| -> Value {
        serde_json::from_str(&line(settings, call, Format::Json)).unwrap()
    };
    let json = read(&grpc(Side::Client, Some(14)));
    for (field, expected) in [
        ("protocol", json!("grpc")),
        ("method", json!("shop.Cart/Add")),
        ("path", json!("/shop.Cart/Add")),
        ("route", json!(null)),
        ("status", json!("UNAVAILABLE")),
        ("http_status", json!(200)),
        ("request_messages", json!(3)),
        ("response_messages", json!(1)),
    ] {
        assert_eq!(json[field], expected, "{field}");
    }
    let start =
        "2023-11-14T22:13:21.000000Z client web -> cart \"grpc cart.shop:8080/shop.Cart/Add\"";
    assert_eq!(
        line(settings, &grpc(Side::Client, Some(14)), Format::Text),
        format!("{start} UNAVAILABLE 3.000ms 0B/512B request_messages=3\n")
    );
    let mut refused = grpc(Side::Client, None);
    refused.exchange.status = Some(503);
    assert_eq!(
        line(settings, &refused, Format::Text),
        format!("{start} - 3.000ms 0B/512B http_status=503 request_messages=3\n")
    );
    refused.exchange.path = UNKNOWN.into();
    let json = read(&refused);
    assert_eq!(
        (&json["status"], &json["method"], &json["path"]),
        (&json!(null), &json!(null), &json!(null))
    );
}

#[test]
fn a_record_of_a_grpc_call_follows_the_rpc_conventions() {
    let log = AccessLog::new(AccessLogSettings::default());
    let record = log.record(&grpc(Side::Server, Some(5)), CLOCK, None);
    let get = |name: &str| {
        record.attributes_iter().find(|(key, _)| key.as_str() == name).map(|(_, value)| value)
    };
    assert_eq!(get("rpc.system.name"), Some(&AnyValue::from("grpc")));
    assert_eq!(get("rpc.method"), Some(&AnyValue::from("shop.Cart/Add")));
    assert_eq!(get("rpc.status_code"), Some(&AnyValue::from("NOT_FOUND")));
    assert_eq!(get("meshtap.rpc.request_messages"), Some(&AnyValue::Int(3)));
    assert!(record.attributes_iter().all(|(key, _)| !key.as_str().starts_with("http.")));
    assert_eq!(record.severity_number(), Some(Severity::Info), "the client's error");
    let record = log.record(&grpc(Side::Server, Some(13)), CLOCK, None);
    assert_eq!(record.severity_number(), Some(Severity::Error));
}
