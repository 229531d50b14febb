//! What is read out of request heads, and what never is.

use meshtap_ebpf::event::HEAD_CUT;

use super::*;
use crate::protocol::agent_class::classify;
use crate::protocol::exchange::{AgentClass, TraceContext};
use crate::protocol::trace_context::{B3, TRACE_STATE_MAX, b3_single, traceparent};
use crate::protocol::{http1, trace_context};

const WHOLE: u16 = HEAD_FIRST | HEAD_COMPLETE | HEAD_ENDED;

/// The exchange of a request with this head, in one piece.
fn exchange(head: impl AsRef<[u8]>) -> Exchange {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    stage.feed(socket.piece(0, 0, head.as_ref(), WHOLE)).feed(socket.answer(0, 200, 0));
    stage.only().clone()
}

fn with_headers(headers: &str) -> Exchange {
    exchange(format!("GET / HTTP/1.1\r\n{headers}\r\n"))
}

#[test]
fn targets() {
    for (method, target, path, authority) in [
        ("GET", "/", "/", "shop"),
        ("GET", "/a/b?token=1#f", "/a/b", "shop"),
        ("GET", "/a#f?x", "/a", "shop"),
        ("GET", "/?q=http://x/", "/", "shop"),
        ("GET", "http://example.org/x/y?z", "/x/y", "example.org"),
        ("GET", "http://example.org:8080", "/", "example.org:8080"),
        ("GET", "http://example.org?z", "/", "example.org"),
        ("GET", "http://user:word@example.org/x", "/x", "example.org"),
        ("OPTIONS", "*", "*", "shop"),
        ("CONNECT", "example.org:443", "example.org:443", "example.org:443"),
        ("CONNECT", "user:word@[::1]:443", "[::1]:443", "[::1]:443"),
        ("PROPFIND", "/dav", "/dav", "shop"),
        ("M-SEARCH", "/", "/", "shop"),
    ] {
        let exchange = exchange(format!("{method} {target} HTTP/1.1\r\nhOST:  shop \r\n\r\n"));
        assert_eq!(exchange.method.as_str(), method);
        assert_eq!(exchange.path.as_str(), path, "{target}");
        assert_eq!(exchange.authority.as_str(), authority, "{target}");
        assert!(!exchange.cut);
    }
}

#[test]
fn a_missing_or_impossible_host_is_empty() {
    assert_eq!(with_headers("").authority.as_str(), "");
    assert_eq!(with_headers("Host:\r\n").authority.as_str(), "");
    assert_eq!(with_headers(&format!("Host: {}\r\n", "h".repeat(300))).authority.as_str(), "");
}

#[test]
fn request_ids_are_bounded() {
    let id = "f".repeat(http1::REQUEST_ID_MAX);
    let kept = with_headers(&format!("X-Request-ID: {id}\r\n")).request_id;
    assert_eq!(kept, Some(Text::from(id.clone())));
    assert_eq!(with_headers(&format!("X-Request-ID: {id}f\r\n")).request_id, None);
    assert_eq!(with_headers("X-Request-ID: \r\n").request_id, None);
}

#[test]
fn http_1_0_and_leading_empty_lines() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Server));
    let head = b"\r\n\r\nGET /old HTTP/1.0\r\n\r\n";
    stage.feed(socket.piece(0, 0, head, WHOLE | event::HEAD_HTTP10)).feed(socket.answer(0, 200, 0));
    assert_eq!((stage.only().protocol, stage.only().path.as_str()), (Protocol::Http10, "/old"));
    assert!(!stage.only().cut);
}

#[test]
fn pieces_join_wherever_the_head_is_cut() {
    let head = "GET /long/path HTTP/1.1\r\nHost: shop\r\nX-Request-Id: abc\r\n\r\n";
    for at in 1..head.len() {
        let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
        let (left, right) = head.as_bytes().split_at(at);
        stage.feed(socket.piece(0, 0, left, HEAD_FIRST));
        assert_eq!(stage.used(), (1, 1, at));
        let offset = u32::try_from(at).unwrap();
        stage
            .feed(socket.piece(0, offset, right, HEAD_COMPLETE | HEAD_ENDED))
            .feed(socket.answer(0, 200, 0));
        let exchange = stage.only();
        assert_eq!(exchange.path.as_str(), "/long/path");
        assert_eq!(exchange.request_id, Some(Text::from("abc")));
        assert_eq!((exchange.cut, exchange.start_ns), (false, 1_005));
        assert_eq!(exchange.request_end_ns, Some(1_020));
        assert_eq!(stage.used(), (1, 0, 0));
    }
}

#[test]
fn of_a_cut_head_only_what_is_whole_is_read() {
    let head = "GET /path?q HTTP/1.1\r\nHost: shop\r\nX-Request-Id: abcdef\r\n\r\n";
    for at in 0..head.len() {
        let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
        stage
            .feed(socket.piece(0, 0, &head.as_bytes()[..at], WHOLE | HEAD_CUT))
            .feed(socket.answer(0, 200, 0));
        let exchange = stage.only();
        assert!(exchange.cut, "{at}");
        assert!("GET".starts_with(exchange.method.as_str()));
        assert!("/path".starts_with(exchange.path.as_str()));
        let authority = exchange.authority.as_str();
        assert!(authority.is_empty() || authority == "shop", "{at}: {authority}");
        assert_eq!(!authority.is_empty(), at >= 34, "{at}");
        let id = exchange.request_id.as_ref().map(Text::as_str);
        assert!(id.is_none() || id == Some("abcdef"), "{at}: {id:?}");
        assert_eq!(stage.protocols.occupancy().counters.heads_cut, 1);
    }
}

#[test]
fn a_gap_between_pieces_is_a_cut() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    stage.feed(socket.piece(0, 0, b"GET /a HTTP/1.1\r\nHost: shop\r\nX-Req", HEAD_FIRST));
    socket.lost = 1;
    stage
        .feed(socket.piece(0, 60, b"uest-Id: b\r\n\r\n", HEAD_COMPLETE | HEAD_ENDED))
        .feed(socket.answer(0, 200, 0));
    let exchange = stage.only();
    assert_eq!((exchange.path.as_str(), exchange.authority.as_str()), ("/a", "shop"));
    assert_eq!((exchange.cut, &exchange.request_id), (true, &None));
    assert!(exchange.request_end_ns.is_some());
}

#[test]
fn a_request_whose_first_piece_is_missing_is_still_a_call() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    socket.lost = 1;
    stage
        .feed(socket.piece(0, 40, b"ost: shop\r\n\r\n", HEAD_COMPLETE | HEAD_ENDED))
        .feed(socket.answer(0, 200, 0));
    let exchange = stage.only();
    assert_eq!((exchange.method.as_str(), exchange.path.as_str(), exchange.cut), ("", "", true));
    assert_eq!(exchange.status, Some(200));
}

#[test]
fn heads_never_whole_are_read_at_the_end() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Server));
    stage
        .feed(socket.piece(0, 0, b"POST /slow HTTP/1.1\r\nHost: sh", HEAD_FIRST))
        .feed(socket.answer(0, 408, 0));
    let exchange = stage.only();
    assert_eq!((exchange.method.as_str(), exchange.path.as_str()), ("POST", "/slow"));
    assert_eq!((exchange.authority.as_str(), exchange.cut), ("", true));
    assert_eq!(stage.used(), (1, 0, 0));
}

#[test]
fn bytes_of_heads_are_bounded() {
    let settings =
        ProtocolSettings { head_bytes: 40, head_bytes_total: 60, ..ProtocolSettings::default() };
    let (mut stage, mut socket) = (Stage::with(settings), Socket::new(Side::Client));
    let long = "GET / HTTP/1.1\r\nHost: shop\r\nX: yyyyyyyyyyyyyyyyyyyyyyyyyyyyy";
    stage.feed(socket.piece(0, 0, long.as_bytes(), HEAD_FIRST));
    assert_eq!(stage.used().2, 40);
    stage.feed(socket.piece(1, 0, long.as_bytes(), HEAD_FIRST));
    assert_eq!(stage.used().2, 60);
    stage.feed(socket.answer(0, 200, 0)).feed(socket.answer(1, 200, 0));
    let [first, second] = &stage.out.exchanges[..] else { panic!("two exchanges") };
    assert_eq!((first.authority.as_str(), first.cut), ("shop", true));
    assert_eq!((second.authority.as_str(), second.cut), ("", true));
    assert_eq!(stage.used().2, 0);
}

#[test]
fn very_many_headers_and_odd_ones() {
    let mut many = "GET /many HTTP/1.1\r\n".to_owned();
    for n in 0..200 {
        many.push_str(&format!("X-{n}: {n}\r\n"));
    }
    let exchange_ = exchange(format!("{many}Host: shop\r\n\r\n"));
    assert_eq!((exchange_.authority.as_str(), exchange_.cut), ("shop", false));
    for n in 200..300 {
        many.push_str(&format!("X-{n}: {n}\r\n"));
    }
    let exchange_ = exchange(format!("{many}Host: shop\r\n\r\n"));
    assert_eq!((exchange_.path.as_str(), exchange_.authority.as_str()), ("/many", ""));
    assert!(exchange_.cut);
    // A header that the library does not take, a version and a target that it does not.
    let exchange_ = exchange("GET / HTTP/1.1\r\nBad Name: x\r\nHost: shop\r\n\r\n");
    assert_eq!((exchange_.authority.as_str(), exchange_.cut), ("shop", false));
    let exchange_ = exchange("GET /v HTTP/1.2\r\nHost: shop\r\n\r\n");
    assert_eq!((exchange_.path.as_str(), exchange_.authority.as_str()), ("/v", "shop"));
    let exchange_ = exchange(b"GET /\xff\xfe HTTP/1.1\r\nHost: shop\r\n\r\n");
    assert_eq!(exchange_.path.as_str(), "/\u{fffd}\u{fffd}");
    assert_eq!((exchange_.authority.as_str(), exchange_.cut), ("shop", false));
}

#[test]
fn a_head_that_comes_again_says_the_same_and_one_with_ids_its_own() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    let head = |path: &str, more: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: shop\r\nUser-Agent: curl/8\r\n{more}\r\n")
    };
    let heads = [
        head("/a?secret=1", ""),
        head("/a?secret=1", ""),
        head("/b", ""),
        head("/a", "X-Request-Id: 1\r\n"),
        head("/a", "X-Request-Id: 2\r\n"),
        head("/a", "X-Request-Id: 2\r\n"),
    ];
    for (number, head) in (0..).zip(&heads) {
        stage.feed(socket.piece(number, 0, head.as_bytes(), WHOLE));
        stage.feed(socket.answer(number, 200, 0));
        if number == 3 {
            // What was done with gives its memory, and nothing else.
            for exchange in std::mem::take(&mut stage.out.exchanges).into_iter().skip(3) {
                assert_eq!(exchange.request_id.as_ref().map(Text::as_str), Some("1"));
                stage.protocols.reuse(exchange);
            }
        }
    }
    let told = stage.out.exchanges.iter().map(|exchange| {
        let id = exchange.request_id.as_ref().map(Text::as_str);
        (exchange.path.as_str(), exchange.authority.as_str(), exchange.agent, id)
    });
    let expected = ("/a", "shop", AgentClass::Tool, Some("2"));
    assert_eq!(told.collect::<Vec<_>>(), [expected, expected]);
    stage.feed(socket.piece(6, 0, heads[0].as_bytes(), WHOLE)).feed(socket.answer(6, 200, 0));
    let last = stage.out.exchanges.last().unwrap();
    assert_eq!((last.path.as_str(), last.agent), ("/a", AgentClass::Tool));
    assert_eq!((&last.request_id, last.cut), (&None, false));
}

#[test]
fn nothing_that_steers_a_terminal_gets_through() {
    for (bytes, text) in [
        (&b"/a\x1b[31m"[..], "/a\u{fffd}[31m"),
        (b"a\r\nb\tc\x7f", "a\u{fffd}\u{fffd}b\u{fffd}c\u{fffd}"),
        ("/\u{9b}31m".as_bytes(), "/\u{fffd}31m"),
        ("/\u{202e}gpj.exe".as_bytes(), "/\u{fffd}gpj.exe"),
        ("/caf\u{e9}/\u{1f980}".as_bytes(), "/caf\u{e9}/\u{1f980}"),
        (b"/\xc3", "/\u{fffd}"),
    ] {
        assert_eq!(http1::text(bytes).as_str(), text);
    }
    let exchange = exchange("GET /\u{9b}2J HTTP/1.1\r\nHost: a\tb\r\nX-Request-Id: \u{85}\r\n\r\n");
    assert_eq!(exchange.path.as_str(), "/\u{fffd}2J");
    assert_eq!(exchange.authority.as_str(), "a\u{fffd}b");
    assert_eq!(exchange.request_id, Some(Text::from("\u{fffd}")));
}

#[test]
fn texts_of_one_request_do_not_run_into_each_other() {
    let exchange = exchange(
        "BREW /pot HTTP/1.1\r\nHost: shop:80\r\nX-Request-Id: one\r\ntracestate: a=b\r\n\
         traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n",
    );
    let texts = [&exchange.method, &exchange.path, &exchange.authority];
    assert_eq!(texts.map(Text::as_str), ["BREW", "/pot", "shop:80"]);
    assert_eq!(exchange.request_id, Some(Text::from("one")));
    assert_eq!(exchange.trace_state, Some(Text::from("a=b")));
}

const TRACE: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
const SPAN: u64 = 0xb7ad_6b71_6920_3331;

fn context(sampled: Option<bool>) -> TraceContext {
    TraceContext { trace_id: TRACE, span_id: SPAN, sampled }
}

#[test]
fn traceparents() {
    let ids = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";
    for (value, sampled) in [
        (format!("00-{ids}-01"), true),
        (format!("00-{ids}-00"), false),
        (format!("00-{ids}-03"), true),
        (format!("00-{ids}-fe"), false),
        (format!("01-{ids}-01"), true),
        (format!("cc-{ids}-01-what-the-future-brings"), true),
    ] {
        assert_eq!(traceparent(value.as_bytes()), Some(context(Some(sampled))), "{value}");
    }
    for value in [
        String::new(),
        format!("00-{ids}"),
        format!("00-{ids}-01-"),
        format!("00-{ids}-011"),
        format!("01-{ids}-01x"),
        format!("ff-{ids}-01"),
        format!("0g-{ids}-01"),
        format!("00-{ids}-0x"),
        format!("00_{ids}-01"),
        format!("00-{}-01", ids.to_uppercase()),
        "00-00000000000000000000000000000000-b7ad6b7169203331-01".into(),
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01".into(),
    ] {
        assert_eq!(traceparent(value.as_bytes()), None, "{value}");
    }
}

#[test]
fn b3_in_one_header() {
    for (value, expected) in [
        ("0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1", B3::Context(context(Some(true)))),
        ("0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-d", B3::Context(context(Some(true)))),
        ("0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0", B3::Context(context(Some(false)))),
        ("0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", B3::Context(context(None))),
        (
            "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1-05e3ac9a4f6e3b90",
            B3::Context(context(Some(true))),
        ),
        (
            "8448eb211c80319c-b7ad6b7169203331-1",
            B3::Context(TraceContext { trace_id: 0x8448_eb21_1c80_319c, ..context(Some(true)) }),
        ),
        ("0", B3::Decision),
        ("d", B3::Decision),
        ("", B3::Invalid),
        ("2", B3::Invalid),
        ("0af7651916cd43dd8448eb211c80319c", B3::Invalid),
        ("0af7651916cd43dd-0000000000000000-1", B3::Invalid),
        ("0000000000000000-b7ad6b7169203331-1", B3::Invalid),
        ("0af7651916cd43dd-b7ad6b7169203331-x", B3::Invalid),
        ("0af7651916cd43dd-b7ad6b7169203331-1-zz", B3::Invalid),
        ("0af7651916cd43dd-b7ad6b7169203331-1-05e3ac9a4f6e3b90-1", B3::Invalid),
    ] {
        assert_eq!(b3_single(value.as_bytes()), expected, "{value}");
    }
}

#[test]
fn which_header_wins() {
    let w3c = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00\r\n";
    let single = "B3: 1111111111111111-2222222222222222-1\r\n";
    let multi = "X-B3-TraceId: 3333333333333333\r\nX-B3-SpanId: 4444444444444444\r\n";
    let trace =
        |headers: &str| with_headers(headers).trace.map(|trace| (trace.trace_id, trace.sampled));
    assert_eq!(trace(&format!("{multi}{single}{w3c}")), Some((TRACE, Some(false))));
    assert_eq!(trace(&format!("{multi}{single}")), Some((0x1111_1111_1111_1111, Some(true))));
    let b3 = 0x3333_3333_3333_3333;
    assert_eq!(trace(multi), Some((b3, None)));
    assert_eq!(trace(&format!("{multi}X-B3-Sampled: true\r\n")), Some((b3, Some(true))));
    assert_eq!(trace(&format!("{multi}X-B3-Sampled: 0\r\n")), Some((b3, Some(false))));
    assert_eq!(
        trace(&format!("{multi}X-B3-Sampled: 0\r\nX-B3-Flags: 1\r\n")),
        Some((b3, Some(true)))
    );
    assert_eq!(trace(&format!("{multi}b3: nonsense\r\n")), Some((b3, None)));
    assert_eq!(trace(&format!("{multi}b3: 0\r\n")), None, "a decision is no trace");
    assert_eq!(trace(&format!("{w3c}{w3c}")), None, "two contexts are none");
    assert_eq!(trace(&format!("{w3c}{w3c}{multi}")), Some((b3, None)));
    assert_eq!(trace("X-B3-TraceId: 3333333333333333\r\n"), None);
    assert_eq!(trace(""), None);
}

#[test]
fn trace_states_join_and_keep_whole_members() {
    let parent = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00\r\n";
    let state = |headers: &str| with_headers(headers).trace_state;
    assert_eq!(
        state(&format!("{parent}tracestate: a=1 , b=2\r\ntracestate: c=3\r\n")),
        Some(Text::from("a=1,b=2,c=3"))
    );
    assert_eq!(state("tracestate: a=1\r\n"), None, "without its traceparent it says nothing");
    assert_eq!(state(&format!("{parent}{parent}tracestate: a=1\r\n")), None);
    assert_eq!(state(&format!("{parent}tracestate: ,\r\n")), None);
    let long = "k=".to_owned() + &"v".repeat(298);
    let kept = state(&format!("{parent}tracestate: {long},{long}\r\n")).unwrap();
    assert_eq!(kept.as_str(), long);
    let mut carrier = trace_context::Carrier::default();
    let exact = "e".repeat(TRACE_STATE_MAX);
    carrier.header("TraceState", exact.as_bytes());
    let mut state = Vec::new();
    carrier.trace_state(&mut state);
    assert_eq!(state.len(), TRACE_STATE_MAX);
}

#[test]
fn classes_of_clients() {
    for (value, class) in [
        ("", AgentClass::None),
        ("  ", AgentClass::None),
        (
            "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
            AgentClass::Browser,
        ),
        (
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            AgentClass::Bot,
        ),
        ("curl/8.5.0", AgentClass::Tool),
        ("Wget/1.21", AgentClass::Tool),
        ("kube-probe/1.31", AgentClass::Probe),
        ("ELB-HealthChecker/2.0", AgentClass::Probe),
        ("Go-http-client/1.1", AgentClass::Library),
        ("python-requests/2.32", AgentClass::Library),
        ("Java/21.0.1", AgentClass::Library),
        ("JavaScriptThing", AgentClass::Other),
        ("node", AgentClass::Library),
        ("my-service/1.0", AgentClass::Other),
    ] {
        assert_eq!(classify(value.as_bytes()), class, "{value}");
    }
    assert_eq!(with_headers("user-agent: curl/8\r\n").agent, AgentClass::Tool);
}

#[test]
fn a_head_never_whole_and_never_answered_is_no_call() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Server));
    stage
        .feed(socket.piece(0, 0, b"GET greeting", HEAD_FIRST))
        .feed(socket.piece(0, 0, b"POST /a HT", HEAD_FIRST))
        .feed(socket.piece(0, 10, b"TP/1.1\r\n\r\n", HEAD_COMPLETE | HEAD_ENDED))
        .feed(socket.answer(0, 200, 0))
        .feed(socket.piece(1, 0, b"\0\0\0\0", HEAD_FIRST))
        .feed(socket.closed(event::CLOSE_FIN));
    let exchange = stage.only();
    assert_eq!(
        (exchange.method.as_str(), exchange.path.as_str(), exchange.cut),
        ("POST", "/a", false)
    );
    assert_eq!(stage.used(), (0, 0, 0));
}
