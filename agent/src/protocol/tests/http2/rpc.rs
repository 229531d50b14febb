//! Remote procedure calls.

use super::*;
use crate::protocol::exchange::rpc::Traffic;

/// What the kernel says of a frame that holds whole messages.
fn messages(messages: u32) -> Data {
    Data { messages, ..Data::default() }
}

fn head(wire: &mut Wire, stream: u32, more: &[(&str, &str)], end: bool) -> Frame {
    let headers = [&[(":method", "POST"), (":scheme", "http"), (":path", "/a.B/C")], more].concat();
    wire.headers(wire.asks(), stream, &headers, end)
}

/// A call with a message in each direction, and the only exchange's call.
fn call(
    request: &[(&str, &str)],
    answer: &[(&str, &str)],
    trailers: &[(&str, &str)],
) -> Option<Rpc> {
    let (mut stage, mut wire) = begun(Side::Client);
    let (asks, answers) = (wire.asks(), wire.answers());
    let frames = [head(&mut wire, 1, request, false), Frame::data(1, 12, true, messages(1))];
    stage.feed(wire.frames(asks, 0, &frames));
    let head = wire.headers(answers, 1, &[&OK[..], answer].concat(), false);
    let last = wire.headers(answers, 1, trailers, true);
    let frames = [head, Frame::data(1, 30, false, messages(2)), last];
    stage.feed(wire.frames(answers, 0, &frames));
    stage.only().rpc.as_deref().cloned()
}

const GRPC: (&str, &str) = ("content-type", "application/grpc+proto");

#[test]
fn grpc() {
    let told = call(&[GRPC, ("grpc-timeout", "5S")], &[GRPC], &[("grpc-status", "14")]);
    let expected = Rpc {
        system: RpcSystem::Grpc,
        status: Some(14),
        request_messages: Some(1),
        response_messages: Some(2),
        timeout_ns: Some(5_000_000_000),
        reported: Traffic::default(),
    };
    assert_eq!(told, Some(expected.clone()));
    let told = call(&[GRPC], &[GRPC], &[]);
    assert_eq!(told, Some(Rpc { status: None, timeout_ns: None, ..expected }));
}

#[test]
fn trailers_only() {
    let (mut stage, mut wire) = begun(Side::Server);
    let (asks, answers) = (wire.asks(), wire.answers());
    let frames = [head(&mut wire, 1, &[GRPC], false), Frame::data(1, 12, true, messages(1))];
    stage.feed(wire.frames(asks, 0, &frames));
    let only = wire.headers(answers, 1, &[OK[0], GRPC, ("grpc-status", "12")], true);
    stage.feed(wire.frames(answers, 0, &[only]));
    let rpc = stage.only().rpc.as_ref().unwrap();
    assert_eq!((rpc.status, rpc.response_messages), (Some(12), Some(0)));
}

#[test]
fn other_systems() {
    let web = call(&[("content-type", "application/grpc-web+proto")], &[], &[]).unwrap();
    assert_eq!((web.system, web.request_messages), (RpcSystem::GrpcWeb, Some(1)));
    assert_eq!(web.response_messages, Some(2));
    let stream = call(&[("content-type", "application/connect+json")], &[], &[]).unwrap();
    assert_eq!((stream.system, stream.status), (RpcSystem::Connect, None));
    let version = ("connect-protocol-version", "1");
    let unary = call(&[("content-type", "application/json"), version], &[], &[]).unwrap();
    assert_eq!((unary.system, unary.status), (RpcSystem::Connect, Some(0)));
    assert_eq!(unary.request_messages, None);
    assert_eq!(call(&[("content-type", "application/json")], &[], &[]), None);
    assert_eq!(call(&[], &[GRPC], &[("grpc-status", "0")]), None, "the request says what it is");
}

/// A call whose answer is closed by a message, which has not the place of trailers.
fn closed(content: &str, words: &[u8], piece: usize) -> Exchange {
    let (mut stage, mut wire) = begun(Side::Client);
    let (asks, answers) = (wire.asks(), wire.answers());
    let request = head(&mut wire, 1, &[("content-type", content)], false);
    stage.feed(wire.frames(asks, 0, &[request, Frame::data(1, 12, true, messages(1))]));
    let head = wire.headers(answers, 1, &OK, false);
    let last = Frame::of(event::FRAME_CLOSING, FLAG_END_STREAM, 1, words.to_vec());
    let frames = [head, Frame::data(1, 30, false, messages(2)), last];
    for item in wire.pass(answers, &frames, piece) {
        stage.feed(wire.record(answers, 0, &[item]));
    }
    stage.only().clone()
}

#[test]
fn answers_closed_by_a_message() {
    let words = b"grpc-status:5\r\ngrpc-message:none\r\n";
    for piece in [16, 23, usize::MAX] {
        let exchange = closed("application/grpc-web", words, piece);
        let rpc = exchange.rpc.as_deref().unwrap();
        assert_eq!((rpc.status, rpc.response_messages), (Some(5), Some(2)));
        assert_eq!(exchange.response_bytes, 30 + words.len() as u64);
    }
    let connect = closed("application/connect+proto", b"{}", 99);
    let rpc = connect.rpc.as_deref().unwrap();
    assert_eq!((rpc.status, rpc.response_messages), (Some(0), Some(2)));
    let grpc = closed("application/grpc", words, 99);
    assert_eq!(grpc.rpc.unwrap().status, None, "gRPC has trailers");
}

#[test]
fn messages_that_do_not_continue_are_not_counted() {
    let place = |before, after, messages| Data { before, after, messages, pad: 0 };
    let unknown = event::MESSAGE_UNKNOWN;
    for (frames, count) in [
        (vec![place(0, 100, 1), place(100, 0, 0)], Some(1)),
        (
            vec![place(0, event::MESSAGE_PREFIX | 2, 3), place(event::MESSAGE_PREFIX | 2, 7, 1)],
            Some(4),
        ),
        (vec![place(100, 0, 0)], None),
        (vec![place(0, 100, 1), place(0, 0, 1)], None),
        (vec![place(0, unknown, 0), place(unknown, unknown, 0)], None),
        (vec![], Some(0)),
    ] {
        let (mut stage, mut wire) = begun(Side::Client);
        let asks = wire.asks();
        let begin = head(&mut wire, 1, &[GRPC], frames.is_empty());
        let last = frames.len().wrapping_sub(1);
        let data = |(number, data): (usize, &Data)| Frame::data(1, 50, number == last, *data);
        let data = frames.iter().enumerate().map(data);
        let frames: Vec<_> = std::iter::once(begin).chain(data).collect();
        stage.feed(wire.frames(asks, 0, &frames));
        stage.feed(wire.answer_with(1, &[OK[0], ("grpc-status", "0")], true));
        assert_eq!(stage.only().rpc.as_ref().unwrap().request_messages, count, "{frames:?}");
    }
}

#[test]
fn an_answer_tells_what_a_late_agent_missed_of_the_request() {
    for (answer, status) in [(&[OK[0], GRPC][..], None), (&[OK[0], ("grpc-status", "0")], Some(0))]
    {
        let mut wire = Wire::new(Side::Client);
        let (asks, answers) = (wire.asks(), wire.answers());
        head(&mut wire, 1, &[GRPC, ("grpc-timeout", "1S")], false);
        let mut stage = Stage::new();
        let begin = head(&mut wire, 3, &[GRPC, ("grpc-timeout", "1S")], true);
        stage.feed(wire.frames(asks, FRAMES_JOINED, &[begin]));
        let answer = wire.headers(answers, 3, answer, true);
        stage.feed(wire.frames(answers, 0, &[answer]));
        let exchange = stage.only();
        assert_eq!(exchange.path.as_str(), exchange::UNKNOWN);
        assert_eq!(exchange.method.as_str(), "POST");
        let rpc = exchange.rpc.as_ref().unwrap();
        assert_eq!((rpc.system, rpc.status, rpc.timeout_ns), (RpcSystem::Grpc, status, None));
    }
}

/// What was gained since the last report at `now_ns`, for each call.
fn reported(stage: &mut Stage, now_ns: u64) -> Vec<[u64; 4]> {
    stage.out.progress.clear();
    stage.protocols.report(now_ns, &mut stage.out);
    let gains = stage.out.progress.iter().map(|progress| {
        assert_eq!((progress.exchange.end_ns, progress.exchange.path.as_str()), (now_ns, "/a.B/C"));
        progress.gains
    });
    gains
        .map(|gains| {
            let messages = [gains.request_messages, gains.response_messages];
            [messages[0], messages[1], gains.request_bytes, gains.response_bytes]
        })
        .collect()
}

#[test]
fn a_call_that_goes_on_reports_what_it_did() {
    let second = 1_000_000_000;
    let settings = ProtocolSettings { report_ns: 10 * second, ..ProtocolSettings::default() };
    let (mut stage, mut wire) = (Stage::with(settings), Wire::new(Side::Client));
    stage.feed(wire.preface());
    let (asks, answers) = (wire.asks(), wire.answers());
    let frames = [head(&mut wire, 1, &[GRPC], false), Frame::data(1, 12, false, messages(2))];
    stage.feed(wire.frames(asks, 0, &frames)).feed(wire.request(3, "/no/call"));
    stage.feed(wire.answer_with(1, &OK, false));
    assert_eq!(reported(&mut stage, 9 * second), [[0; 4]; 0], "it is too young");
    assert_eq!(reported(&mut stage, 19 * second), [[2, 0, 12, 0]]);
    let more = [Frame::data(1, 5, false, messages(1)), Frame::data(1, 5, false, messages(1))];
    stage.feed(wire.frames(answers, 0, &more));
    assert_eq!(reported(&mut stage, 20 * second), [[0; 4]; 0], "not due");
    assert_eq!(reported(&mut stage, 29 * second), [[0, 2, 0, 10]]);
    assert_eq!(reported(&mut stage, 39 * second), [[0; 4]; 0], "nothing new");
    // From here on the numbers of messages are not known.
    stage.feed(wire.desynchronised(answers));
    let last = Frame::data(1, 7, true, messages(1));
    stage.feed(wire.frames(answers, FRAMES_JOINED, &[Frame::data(1, 7, false, messages(1))]));
    assert_eq!(reported(&mut stage, 49 * second), [[0, 0, 0, 7]]);
    stage.feed(wire.frames(answers, 0, &[last]));
    stage.feed(wire.frames(asks, 0, &[Frame::data(1, 0, true, Data::default())]));
    let rpc = stage.only().rpc.as_ref().unwrap();
    assert_eq!((rpc.request_messages, rpc.response_messages), (Some(2), None));
    let Traffic { request_messages, response_messages, request_bytes, response_bytes } =
        rpc.reported;
    assert_eq!([request_messages, response_messages], [2, 2]);
    assert_eq!([request_bytes, response_bytes], [12, 17]);
}

#[test]
fn over_http_1() {
    let told = |headers: &str, status| {
        let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
        for number in 0..2 {
            let head = format!("POST /a.B/C HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n");
            let flags = HEAD_FIRST | HEAD_COMPLETE | HEAD_ENDED;
            stage.feed(socket.piece(number, 0, head.as_bytes(), flags));
            stage.feed(socket.answer(number, status, 3));
        }
        // The second head is known from the first.
        let mut told = stage.out.exchanges.into_iter().map(|exchange| exchange.rpc);
        let (one, other) = (told.next().unwrap(), told.next().unwrap());
        assert_eq!(one, other);
        one
    };
    let web = told("Content-Type: application/grpc-web-text", 200);
    assert_eq!(web, Some(Box::new(Rpc::new(RpcSystem::GrpcWeb))));
    let unary = "Content-Type: application/proto\r\nConnect-Protocol-Version: 1";
    let ok = Rpc { status: Some(0), ..Rpc::new(RpcSystem::Connect) };
    assert_eq!(told(unary, 200), Some(Box::new(ok)));
    assert_eq!(told(unary, 503), Some(Box::new(Rpc::new(RpcSystem::Connect))));
    assert_eq!(told("Content-Type: application/proto", 200), None);
    assert_eq!(told("Content-Type: application/grpc", 200), None, "that needs HTTP/2");
}
