//! Calls that go well.

use super::*;

#[test]
fn a_call_at_the_client_and_at_the_server() {
    for side in [Side::Client, Side::Server] {
        let (mut stage, mut wire) = begun(side);
        let sequence = wire.ways[usize::from(wire.asks())].sequence;
        let start_ns = wire.socket.time_ns + 10;
        wire.socket.srtt_us = 300;
        stage.feed(wire.request(1, "/cart?secret=1")).feed(wire.answer(1, "404"));
        let exchange = stage.only();
        assert_eq!((exchange.socket, exchange.side, exchange.protocol), (7, side, Protocol::Http2));
        assert_eq!((exchange.method.as_str(), exchange.path.as_str()), ("GET", "/cart"));
        assert_eq!((exchange.authority.as_str(), exchange.status), ("shop", Some(404)));
        assert_eq!((exchange.start_ns, exchange.request_end_ns), (start_ns, Some(start_ns)));
        assert_eq!(exchange.first_byte_ns, Some(start_ns + 10));
        assert_eq!((exchange.end_ns, exchange.rtt_us), (start_ns + 10, Some(300)));
        assert_eq!((exchange.sequence, exchange.acknowledgement), (sequence, 1_000));
        assert_eq!((exchange.error, &exchange.rpc), (None, &None));
        assert_eq!(stage.used(), (1, 0, 0));
    }
}

#[test]
fn streams_end_in_any_order() {
    let (mut stage, mut wire) = begun(Side::Client);
    for stream in [1, 3, 5] {
        stage.feed(wire.request(stream, &format!("/{stream}")));
    }
    assert_eq!(stage.used().1, 3);
    for (stream, status) in [(3, "200"), (5, "201"), (1, "202")] {
        stage.feed(wire.answer(stream, status));
    }
    let told = [("/3", Some(200), None), ("/5", Some(201), None), ("/1", Some(202), None)];
    assert_eq!(stage.told(), told);
    assert_eq!(stage.lost(), []);
}

#[test]
fn bodies_are_counted_and_trailers_end_the_answer() {
    let (mut stage, mut wire) = begun(Side::Server);
    let (asks, answers) = (wire.asks(), wire.answers());
    let head = wire.asking(1, "/upload", false);
    let data = [100, 23].map(|length| Frame::data(1, length, length == 23, Data::default()));
    stage.feed(wire.frames(asks, 0, &[head, data[0].clone()]));
    stage.feed(wire.frames(asks, 0, &data[1..]));
    let request_end_ns = wire.socket.time_ns;
    stage.feed(wire.answer_with(1, &OK, false));
    let first_byte_ns = wire.socket.time_ns;
    stage.feed(wire.frames(answers, 0, &[Frame::data(1, 7, false, Data::default())]));
    assert_eq!(stage.out.exchanges.len(), 0);
    stage.feed(wire.answer_with(1, &[("x-checksum", "1")], true));
    let exchange = stage.only();
    assert_eq!((exchange.request_bytes, exchange.response_bytes), (123, 7));
    assert_eq!(exchange.request_end_ns, Some(request_end_ns));
    assert_eq!(exchange.first_byte_ns, Some(first_byte_ns));
    assert_eq!(exchange.end_ns, wire.socket.time_ns);
}

#[test]
fn interim_answers_answer_nothing() {
    let (mut stage, mut wire) = begun(Side::Client);
    stage.feed(wire.request(1, "/a")).feed(wire.answer_with(1, &[(":status", "103")], false));
    stage.feed(wire.answer(1, "200"));
    assert_eq!(stage.told(), [("/a", Some(200), None)]);
    assert_eq!(stage.only().first_byte_ns, Some(wire.socket.time_ns));
}

#[test]
fn an_early_answer_is_told_once_the_request_is_over() {
    for by_reset in [false, true] {
        let (mut stage, mut wire) = begun(Side::Client);
        let (asks, answers) = (wire.asks(), wire.answers());
        let head = wire.asking(1, "/upload", false);
        stage.feed(wire.frames(asks, 0, &[head])).feed(wire.answer(1, "413"));
        let end_ns = wire.socket.time_ns;
        assert_eq!((stage.out.exchanges.len(), stage.used().1), (0, 1));
        stage.feed(if by_reset {
            wire.frames(answers, 0, &[Frame::reset(1, 0)])
        } else {
            wire.frames(asks, 0, &[Frame::data(1, 9, true, Data::default())])
        });
        let exchange = stage.only();
        assert_eq!((exchange.status, exchange.error, exchange.end_ns), (Some(413), None, end_ns));
        assert_eq!(exchange.request_end_ns.is_none(), by_reset);
    }
}

#[test]
fn frames_join_wherever_they_are_cut() {
    for piece in 1..80 {
        let (mut stage, mut wire) = begun(Side::Client);
        let asks = wire.asks();
        let headers = [&GET[..], &[(":path", "/a"), ("x-long", "abcdefghijklmnopqrstuvwxyz")]];
        let block = wire.way(asks).encoder.block(&headers.concat());
        let (one, rest) = block.split_at(block.len() / 2);
        let (other, last) = rest.split_at(3);
        let padded = [&[2, 0, 0, 0, 0, 9][..], one, &[0, 0]].concat();
        let flags = FLAG_END_STREAM | event::FLAG_PADDED | event::FLAG_PRIORITY;
        let frames = [
            Frame::of(FRAME_HEADERS, flags, 1, padded),
            Frame::of(FRAME_CONTINUATION, 0, 1, other.to_vec()),
            Frame::of(FRAME_CONTINUATION, FLAG_END_HEADERS, 1, last.to_vec()),
        ];
        let items = wire.pass(asks, &frames, piece);
        for item in &items {
            stage.feed(wire.record(asks, 0, std::slice::from_ref(item)));
        }
        assert_eq!(stage.used(), (1, 1, 0));
        let start_ns = 1_020;
        stage.feed(wire.answer(1, "200"));
        assert_eq!(stage.told(), [("/a", Some(200), None)]);
        assert_eq!(stage.only().start_ns, start_ns, "when its first piece passed");
        assert_eq!(stage.protocols.occupancy().counters, Counters::default());
    }
}

#[test]
fn ids_trace_context_and_the_class_of_the_client() {
    let (mut stage, mut wire) = begun(Side::Client);
    let asks = wire.asks();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let more = [
        (":path", "/a"),
        ("host", "other"),
        ("x-request-id", "17"),
        ("traceparent", trace),
        ("tracestate", "a=1"),
        ("tracestate", "b=2"),
        ("user-agent", "grpc-go/1.0"),
        ("authorization", "secret"),
    ];
    for stream in [1, 3] {
        let headers = [&GET[..2], &more].concat();
        let frame = wire.headers(asks, stream, &headers, true);
        stage.feed(wire.frames(asks, 0, &[frame])).feed(wire.answer(stream, "200"));
    }
    for exchange in &stage.out.exchanges {
        assert_eq!(exchange.authority.as_str(), "other");
        assert_eq!(exchange.request_id.as_ref().unwrap().as_str(), "17");
        assert_eq!(exchange.trace.unwrap().span_id, 0xb7ad_6b71_6920_3331);
        assert_eq!(exchange.trace_state.as_ref().unwrap().as_str(), "a=1,b=2");
        assert_eq!(exchange.agent, exchange::AgentClass::Other);
    }
    let [one, other] = &stage.out.exchanges[..] else { panic!("two calls") };
    assert!(one.path.is_same(&other.path), "what repeats is there once");
}

#[test]
fn tunnels_and_pushes_are_no_calls() {
    let (mut stage, mut wire) = begun(Side::Client);
    let (asks, answers) = (wire.asks(), wire.answers());
    let plain = [(":method", "CONNECT"), (":authority", "10.0.0.1:80")];
    let frame = wire.headers(asks, 1, &plain, false);
    stage.feed(wire.frames(asks, 0, &[frame])).feed(wire.answer_with(1, &OK, false));
    let data = Frame::data(1, 500, false, Data::default());
    stage.feed(wire.frames(asks, 0, &[data]));
    let extended =
        [&GET[1..], &[(":method", "CONNECT"), (":protocol", "websocket"), (":path", "/")]];
    let frame = wire.headers(asks, 3, &extended.concat(), false);
    stage.feed(wire.frames(asks, 0, &[frame]));
    assert_eq!(stage.used().1, 0);

    stage.feed(wire.request(5, "/page"));
    let promised = wire.way(answers).encoder.block(&[&GET[..], &[(":path", "/style")]].concat());
    let promised = [&[0, 0, 0, 2][..], &promised].concat();
    let promise = Frame::of(FRAME_PUSH_PROMISE, FLAG_END_HEADERS, 5, promised);
    stage.feed(wire.frames(answers, 0, &[promise]));
    stage.feed(wire.answer_with(2, &[(":status", "200"), ("x-inserted", "a")], true));
    stage.feed(wire.answer(5, "200"));
    assert_eq!(stage.told(), [("/page", Some(200), None)]);
    assert_eq!(stage.lost(), []);
    let counters = stage.protocols.occupancy().counters;
    assert_eq!((counters.tunnels, counters.pushes), (2, 1));
}

#[test]
fn connections_do_not_mix() {
    let (mut stage, mut wire) = begun(Side::Client);
    let mut other = Wire::new(Side::Server);
    other.socket.cookie = 8;
    stage.feed(other.preface()).feed(wire.request(1, "/a")).feed(other.request(1, "/b"));
    stage.feed(other.answer(1, "200")).feed(wire.answer(1, "201"));
    assert_eq!(stage.told(), [("/b", Some(200), None), ("/a", Some(201), None)]);
}

#[test]
fn the_servers_settings_may_come_first() {
    let (mut stage, mut wire) = (Stage::new(), Wire::new(Side::Client));
    let settings = Frame::of(FRAME_SETTINGS, 0, 0, vec![]);
    stage.feed(wire.frames(wire.answers(), 0, &[settings])).feed(wire.preface());
    let header = [(":status", "200"), ("grpc-status", "0")];
    for stream in [1, 3] {
        stage.feed(wire.request(stream, "/a")).feed(wire.answer_with(stream, &header, true));
    }
    assert_eq!(stage.told(), [("/a", Some(200), None); 2]);
    assert_eq!(stage.protocols.occupancy().counters, Counters::default());
}
