//! Requests find their answers.

use super::*;

#[test]
fn a_call_at_the_client_and_at_the_server() {
    for side in [Side::Client, Side::Server] {
        let (mut stage, mut socket) = (Stage::new(), Socket::new(side));
        socket.srtt_us = 250;
        socket.retransmits = 3;
        stage.feed(socket.request(0, "/a?secret=1"));
        socket.retransmits = 5;
        socket.srtt_us = 300;
        stage.feed(socket.answer(0, 200, 42));
        let exchange = stage.only();
        assert_eq!(exchange.side, side);
        assert_eq!(exchange.socket, 7);
        assert_eq!(exchange.protocol, Protocol::Http11);
        assert_eq!((exchange.method.as_str(), exchange.path.as_str()), ("GET", "/a"));
        assert_eq!(exchange.authority.as_str(), "shop");
        assert_eq!((exchange.status, exchange.error), (Some(200), None));
        assert_eq!((exchange.start_ns, exchange.request_end_ns), (1_005, Some(1_010)));
        assert_eq!((exchange.first_byte_ns, exchange.end_ns), (Some(1_015), 1_020));
        assert_eq!((exchange.request_bytes, exchange.response_bytes), (0, 42));
        assert_eq!((exchange.rtt_us, exchange.retransmits), (Some(300), 2));
        assert_eq!((exchange.sequence, exchange.acknowledgement), (0, 99));
        assert!(!exchange.cut);
        assert_eq!(stage.used(), (1, 0, 0));
    }
}

#[test]
fn statistics_in_between_count_for_the_call() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    stage.feed(socket.request(0, "/a"));
    socket.retransmits = 4;
    socket.srtt_us = 9;
    let statistics = Record::Statistics(socket.statistics());
    socket.retransmits = 0;
    socket.srtt_us = 0;
    stage.feed(statistics).feed(socket.answer(0, 200, 0));
    assert_eq!((stage.only().retransmits, stage.only().rtt_us), (4, Some(9)));
}

#[test]
fn no_round_trip_sample_is_none() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    stage.feed(socket.request(0, "/a")).feed(socket.answer(0, 200, 0));
    assert_eq!(stage.only().rtt_us, None);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Server));
    for number in 0..100 {
        stage.feed(socket.request(number, &format!("/{number}")));
    }
    assert_eq!(stage.used(), (1, 100, 0));
    for number in 0..100 {
        let status = 200 + u16::try_from(number).unwrap();
        stage.feed(socket.answer(number, status, 0));
    }
    assert_eq!(stage.lost(), []);
    assert_eq!(stage.out.exchanges.len(), 100);
    for (number, exchange) in (0_u16..).zip(&stage.out.exchanges) {
        assert_eq!(exchange.path.as_str(), format!("/{number}"));
        assert_eq!(exchange.status, Some(200 + number));
    }
    assert_eq!(stage.used(), (1, 0, 0));
}

#[test]
fn bodies_with_their_times() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    let head = b"POST /up HTTP/1.1\r\nHost: shop\r\nContent-Length: 9\r\n\r\n";
    stage
        .feed(socket.piece(0, 0, head, HEAD_FIRST | HEAD_COMPLETE))
        .feed(socket.request_end(0, 9, event::END_COMPLETE))
        .feed(socket.answer_begins(0, 200, event::FRAMING_CHUNKED))
        .feed(socket.answer_end(0, 1_000_000, event::END_COMPLETE));
    let exchange = stage.only();
    assert_eq!((exchange.request_bytes, exchange.response_bytes), (9, 1_000_000));
    assert_eq!(exchange.request_end_ns, Some(1_020));
    assert_eq!((exchange.first_byte_ns, exchange.end_ns), (Some(1_025), 1_040));
    assert_eq!(exchange.duration_ns(), 35);
}

#[test]
fn interim_answers_answer_nothing() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    stage.feed(socket.request(0, "/a")).feed(socket.interim(0, 100)).feed(socket.interim(0, 103));
    assert_eq!(stage.told(), []);
    stage.feed(socket.answer(0, 204, 0));
    assert_eq!(stage.only().status, Some(204));
    assert_eq!(stage.only().first_byte_ns, Some(1_035), "of the final answer");
}

#[test]
fn an_upgrade_is_a_call_that_ends_at_its_head() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    stage.feed(socket.request(0, "/chat")).feed(socket.answer_begins(
        0,
        101,
        event::FRAMING_TUNNEL,
    ));
    assert_eq!((stage.only().status, stage.only().error), (Some(101), None));
    stage.feed(socket.fin(INGRESS)).feed(socket.closed(event::CLOSE_FIN));
    assert_eq!(stage.only().end_ns, 1_020);
    assert_eq!(stage.used(), (0, 0, 0));
}

#[test]
fn connect_names_the_authority_and_a_refused_one_has_a_body() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    let head = b"CONNECT db.example:5432 HTTP/1.1\r\nHost: other\r\n\r\n";
    stage
        .feed(socket.piece(0, 0, head, HEAD_FIRST | HEAD_COMPLETE | HEAD_ENDED))
        .feed(socket.answer_begins(0, 407, event::FRAMING_LENGTH));
    assert_eq!(stage.told(), []);
    stage
        .feed(socket.answer_end(0, 12, event::END_COMPLETE))
        .feed(socket.piece(1, 0, head, HEAD_FIRST | HEAD_COMPLETE | HEAD_ENDED))
        .feed(socket.answer_begins(1, 200, event::FRAMING_TUNNEL));
    assert_eq!(
        stage.told(),
        [("db.example:5432", Some(407), None), ("db.example:5432", Some(200), None)]
    );
    assert_eq!(stage.out.exchanges[1].authority.as_str(), "db.example:5432");
}

/// A call that is answered with its request still under way.
fn answered_early() -> (Stage, Socket) {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Server));
    let head = b"POST /up HTTP/1.1\r\nHost: shop\r\n\r\n";
    stage.feed(socket.piece(0, 0, head, HEAD_FIRST | HEAD_COMPLETE)).feed(socket.answer(0, 413, 0));
    assert_eq!(stage.told(), []);
    (stage, socket)
}

#[test]
fn an_answer_before_the_requests_end_ends_the_call() {
    let (mut stage, mut socket) = answered_early();
    stage.feed(socket.request_end(0, 5_000, event::END_COMPLETE));
    let exchange = stage.only();
    assert_eq!((exchange.status, exchange.request_bytes), (Some(413), 5_000));
    assert!(exchange.request_end_ns > Some(exchange.end_ns), "{exchange:?}");
    stage.feed(socket.request(1, "/b")).feed(socket.answer(1, 200, 0));
    assert_eq!(stage.told(), [("/up", Some(413), None), ("/b", Some(200), None)]);
    assert_eq!(stage.lost(), []);
}

#[test]
fn a_call_that_was_answered_early_is_told_when_the_rest_of_it_is_missed() {
    let (mut stage, mut socket) = answered_early();
    stage.feed(socket.request(1, "/b"));
    assert_eq!(stage.told(), [("/up", Some(413), None)]);
    let (mut stage, mut socket) = answered_early();
    stage.feed(socket.closed(event::CLOSE_RESET_RECEIVED));
    assert_eq!(stage.told(), [("/up", Some(413), None)]);
    assert_eq!(stage.lost(), []);
}

#[test]
fn a_requests_end_before_the_answers_end_is_kept() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Server));
    let head = b"POST /echo HTTP/1.1\r\nHost: shop\r\n\r\n";
    stage
        .feed(socket.piece(0, 0, head, HEAD_FIRST | HEAD_COMPLETE))
        .feed(socket.answer_begins(0, 200, event::FRAMING_CHUNKED))
        .feed(socket.request_end(0, 5, event::END_COMPLETE))
        .feed(socket.answer_end(0, 5, event::END_COMPLETE));
    assert_eq!(stage.only().request_end_ns, Some(1_030));
    assert_eq!(stage.only().request_bytes, 5);
}

#[test]
fn an_answer_in_two_pieces_has_one_status() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    stage.feed(socket.request(0, "/a"));
    let first = socket.head(0, INGRESS, HEAD_RESPONSE | HEAD_FIRST);
    let last = socket.head(0, INGRESS, HEAD_RESPONSE | HEAD_COMPLETE | HEAD_ENDED);
    let first_ns = first.first_ns;
    stage.feed(Record::Head(Head { status: 302, ..first }, vec![]));
    assert_eq!(stage.told(), []);
    stage.feed(Record::Head(Head { status: 302, body_bytes: 3, ..last }, vec![]));
    assert_eq!((stage.only().status, stage.only().response_bytes), (Some(302), 3));
    assert_eq!(stage.only().first_byte_ns, Some(first_ns));
}

#[test]
fn an_answer_in_the_requests_direction_is_none() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    stage.feed(socket.request(0, "/a"));
    let mut wrong = socket.answer(0, 500, 0);
    wrong.header_mut().direction = EGRESS;
    stage.feed(wrong).feed(socket.answer(0, 200, 0));
    assert_eq!(stage.only().status, Some(200));
    assert_eq!(stage.protocols.occupancy().counters.strays, 1);
}

#[test]
fn numbers_go_round() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    for number in [u32::MAX - 1, u32::MAX, 0, 1] {
        stage.feed(socket.request(number, "/a"));
    }
    for number in [u32::MAX - 1, u32::MAX, 0, 1] {
        stage.feed(socket.answer(number, 200, 0));
    }
    assert_eq!((stage.out.exchanges.len(), stage.lost()), (4, vec![]));
}

#[test]
fn connections_do_not_mix() {
    let mut stage = Stage::new();
    let mut sockets: Vec<Socket> =
        (1..=3).map(|cookie| Socket { cookie, ..Socket::new(Side::Client) }).collect();
    for socket in &mut sockets {
        let path = format!("/{}", socket.cookie);
        stage.feed(socket.request(0, &path));
    }
    for socket in sockets.iter_mut().rev() {
        let status = 200 + u16::try_from(socket.cookie).unwrap();
        stage.feed(socket.answer(0, status, 0));
    }
    assert_eq!(
        stage.told(),
        [("/3", Some(203), None), ("/2", Some(202), None), ("/1", Some(201), None)]
    );
}

#[test]
fn connections_without_http_leave_nothing() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    let statistics = Record::Statistics(socket.statistics());
    stage.feed(statistics).feed(socket.fin(EGRESS)).feed(socket.closed(event::CLOSE_FIN));
    assert_eq!(stage.used(), (0, 0, 0));
    let mut nobody = socket.request(0, "/a");
    nobody.header_mut().cookie = 0;
    stage.feed(nobody);
    assert_eq!(stage.used(), (0, 0, 0));
}
