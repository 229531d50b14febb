//! What the protocol stage costs a call, and a path its route.
//!
//! `call`: one head of the usual kind and its answer, fed and put out, on one of 1,000
//! connections. The other lines are its parts. `grpc`: a unary call in five frames, as a
//! client sends it that repeats its headers by their indices (`indexed`), and as one that
//! writes path and timeout anew each time (`literal`).

#![expect(missing_docs, reason = "the macros of criterion make public functions")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use meshtap::protocol::{Output, ProtocolSettings, Protocols, RouteSettings, Routes, http1};
use meshtap::ring_buffer::Event;
use meshtap_ebpf::event::{
    Data, EGRESS, FLAG_END_HEADERS, FLAG_END_STREAM, FRAME_DATA, FRAME_HEADERS, FRAMES_PREFACE,
    Frames, HEAD_COMPLETE, HEAD_ENDED, HEAD_FIRST, HEAD_RESPONSE, Head, Header, INGRESS, Item,
};
use zerocopy::IntoBytes as _;

/// What wrk sends.
const BARE: &[u8] = b"GET /api/items/42 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";
/// What a service sends that is traced.
const TRACED: &[u8] = b"POST /api/items/42?verbose=1 HTTP/1.1\r\nHost: items.shop.svc:8080\r\n\
    User-Agent: Go-http-client/1.1\r\nAccept: application/json\r\nAccept-Encoding: gzip\r\n\
    Content-Type: application/json\r\nContent-Length: 112\r\n\
    X-Request-Id: 2f1c8f6e-93ac-4f5c-9d1c-0d8a6a2f9b11\r\n\
    traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\
    tracestate: vendor=opaque\r\n\r\n";
/// What a browser sends.
const BROWSER: &[u8] = b"GET /assets/app.js?v=3 HTTP/1.1\r\nHost: shop.example\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36\r\n\
    Accept: */*\r\nAccept-Language: en-GB,en;q=0.9\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://shop.example/\r\nCookie: session=0123456789abcdef0123456789abcdef\r\n\
    Sec-Fetch-Dest: script\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Site: same-origin\r\n\
    Cache-Control: no-cache\r\nConnection: keep-alive\r\n\r\n";
const CONNECTIONS: u64 = 1_000;

fn head(cookie: u64, number: u32, direction: u8, flags: u16, status: u16) -> Head {
    let flags = flags | HEAD_FIRST | HEAD_COMPLETE | HEAD_ENDED;
    let time_ns = u64::from(number);
    let header = Header { time_ns, cookie, direction, flags, ..Header::default() };
    Head { header, number, status, srtt_us: 100, ..Head::default() }
}

fn calls(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("protocol");
    group.throughput(Throughput::Elements(1));
    for (name, bytes) in [("bare", BARE), ("traced", TRACED), ("browser", BROWSER)] {
        let mut protocols = Protocols::new(ProtocolSettings::default());
        let mut out = Output::default();
        let mut calls = 0_u64;
        group.bench_function(format!("call/{name}"), |bencher| {
            bencher.iter(|| {
                let cookie = calls % CONNECTIONS + 1;
                let number = u32::try_from(calls / CONNECTIONS).unwrap_or(0);
                calls += 1;
                let request = head(cookie, number, EGRESS, 0, 0);
                let answer = head(cookie, number, INGRESS, HEAD_RESPONSE, 200);
                protocols.feed(&Event::Head(black_box(&request), black_box(bytes)), &mut out);
                protocols.feed(&Event::Head(black_box(&answer), &[]), &mut out);
                if out.exchanges.len() >= 256 {
                    out.clear();
                }
            });
        });
        assert!(out.lost.is_empty(), "every call of the benchmark is told");
        group.bench_function(format!("head/{name}"), |bencher| {
            bencher.iter(|| http1::parse(black_box(bytes)));
        });
    }
    group.finish();
}

/// Inserts what follows into the table: `content-type`, `user-agent`, `:path`, `:authority`.
const INSERTED: &[u8] = b"\x83\x86\
    \x5f\x10application/grpc\x7a\x0egrpc-go/1.66.0\
    \x44\x15/shop.Cart/AddOneItem\x41\x0fitems.shop:8080";
/// The same by indices.
const INDEXED: &[u8] = b"\x83\x86\xc1\xc0\xbf\xbe";
/// With a path and a timeout that are written and not inserted.
const LITERAL: &[u8] = b"\x83\x86\xc1\xc0\x04\x15/shop.Cart/AddOneItem\xbe\
    \x00\x0cgrpc-timeout\x04999m";
const ANSWER: &[u8] = b"\x88\x5f\x10application/grpc";
const ANSWER_INDEXED: &[u8] = b"\x88\xbe";
const TRAILERS: &[u8] = b"\x00\x0bgrpc-status\x010";

fn item(into: &mut Vec<u8>, stream: u32, kind: u8, flags: u8, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(0);
    let bytes = u16::try_from(payload.len()).unwrap_or(0);
    let item = Item { stream, length, kind, flags, bytes, ..Item::default() };
    into.extend_from_slice(item.as_bytes());
    into.extend_from_slice(payload);
    into.resize(into.len().next_multiple_of(8), 0);
}

fn frames(time_ns: u64, cookie: u64, direction: u8, flags: u16) -> Frames {
    let header = Header { time_ns, cookie, direction, flags, ..Header::default() };
    Frames { header, srtt_us: 100, ..Frames::default() }
}

/// A call on a stream: the items of the request and those of its answer.
fn unary(stream: u32, request: &[u8], answer: &[u8], items: &mut [Vec<u8>; 2]) {
    let message = Data { messages: 1, ..Data::default() };
    let [asks, answers] = items;
    asks.clear();
    item(asks, stream, FRAME_HEADERS, FLAG_END_HEADERS, request);
    item(asks, stream, FRAME_DATA, FLAG_END_STREAM, message.as_bytes());
    answers.clear();
    item(answers, stream, FRAME_HEADERS, FLAG_END_HEADERS, answer);
    item(answers, stream, FRAME_DATA, 0, message.as_bytes());
    item(answers, stream, FRAME_HEADERS, FLAG_END_HEADERS | FLAG_END_STREAM, TRAILERS);
}

fn streams(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("protocol");
    group.throughput(Throughput::Elements(1));
    for (name, block) in [("indexed", INDEXED), ("literal", LITERAL)] {
        let mut protocols = Protocols::new(ProtocolSettings::default());
        let (mut out, mut items) = (Output::default(), [Vec::new(), Vec::new()]);
        let mut calls = 0_u64;
        let mut told = 0;
        group.bench_function(format!("grpc/{name}"), |bencher| {
            bencher.iter(|| {
                let cookie = calls % CONNECTIONS + 1;
                let number = u32::try_from(calls / CONNECTIONS).unwrap_or(0);
                let flags = if number == 0 { FRAMES_PREFACE } else { 0 };
                let (request, answer) =
                    if number == 0 { (INSERTED, ANSWER) } else { (block, ANSWER_INDEXED) };
                unary(number * 2 + 1, request, answer, &mut items);
                let record = frames(calls, cookie, EGRESS, flags);
                protocols.feed(&Event::Frames(black_box(&record), black_box(&items[0])), &mut out);
                let record = frames(calls, cookie, INGRESS, 0);
                protocols.feed(&Event::Frames(black_box(&record), black_box(&items[1])), &mut out);
                calls += 1;
                if out.exchanges.len() >= 256 {
                    told += out.exchanges.len() as u64;
                    out.exchanges.drain(..).for_each(|exchange| protocols.reuse(exchange));
                }
            });
        });
        told += out.exchanges.len() as u64;
        assert!(out.lost.is_empty() && told == calls, "every call of the benchmark is told");
        let path = out.exchanges.last().map(|exchange| exchange.path.as_str());
        assert!(path.is_none_or(|path| path == "/shop.Cart/AddOneItem"), "{path:?}");
    }
    group.finish();
}

fn routes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    group.throughput(Throughput::Elements(1));
    let mut routes = Routes::new(RouteSettings::default());
    group.bench_function("repeated", |bencher| {
        bencher.iter(|| routes.resolve(black_box("items"), black_box("/api/items/42")));
    });
    let mut number = 0_u64;
    group.bench_function("never_seen", |bencher| {
        bencher.iter_batched(
            || {
                number += 1;
                format!("/api/items/{number}/orders/9f86d081884c7d65")
            },
            |path| routes.resolve("items", &path),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, calls, streams, routes);
criterion_main!(benches);
