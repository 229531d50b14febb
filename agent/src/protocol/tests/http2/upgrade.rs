//! HTTP/2 on a connection that spoke HTTP/1 before.

use super::*;

const HEAD: &[u8] = b"GET /first HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade, HTTP2-Settings\r\n\
    Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";

fn upgraded() -> (Stage, Wire) {
    let (mut stage, mut wire) = (Stage::new(), Wire::new(Side::Client));
    let socket = &mut wire.socket;
    stage.feed(socket.piece(0, 0, HEAD, HEAD_FIRST | HEAD_COMPLETE | HEAD_ENDED));
    let head = socket.head(0, socket.answers(), HEAD_RESPONSE | HEAD_FIRST | HEAD_COMPLETE);
    stage.feed(Record::Head(Head { status: 101, framing: event::FRAMING_TUNNEL, ..head }, vec![]));
    assert_eq!(stage.out.exchanges.len(), 0);
    (stage, wire)
}

#[test]
fn the_first_request_is_answered_on_the_first_stream() {
    let (mut stage, mut wire) = upgraded();
    // The server need not wait for the client's preface.
    let settings = Frame::of(FRAME_SETTINGS, 0, 0, vec![]);
    stage.feed(wire.frames(wire.answers(), FRAMES_UPGRADED, &[settings]));
    stage.feed(wire.answer_with(1, &[(":status", "202"), ("x-a", "b")], true));
    stage.feed(wire.frames(wire.asks(), FRAMES_PREFACE | FRAMES_UPGRADED, &[]));
    stage.feed(wire.request(3, "/next"));
    stage.feed(wire.answer_with(3, &[(":status", "202"), ("x-a", "b")], true));
    assert_eq!(stage.told(), [("/first", Some(202), None), ("/next", Some(202), None)]);
    assert_eq!(stage.out.exchanges[0].protocol, Protocol::Http2);
    assert_eq!(stage.out.exchanges[0].authority.as_str(), "shop");
    assert_eq!((stage.lost(), stage.used().1), (vec![], 0));
    assert_eq!(stage.protocols.occupancy().counters, Counters::default());
}

#[test]
fn where_no_frames_follow_it_was_answered_by_101() {
    let (mut stage, mut wire) = upgraded();
    stage.feed(wire.socket.closed(event::CLOSE_FIN));
    assert_eq!(stage.told(), [("/first", Some(101), None)]);
    assert_eq!(stage.only().protocol, Protocol::Http11);
}

#[test]
fn an_upgrade_that_was_refused_is_an_answer() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    stage.feed(socket.piece(0, 0, HEAD, HEAD_FIRST | HEAD_COMPLETE | HEAD_ENDED));
    stage.feed(socket.answer(0, 200, 5));
    assert_eq!(stage.told(), [("/first", Some(200), None)]);
}

#[test]
fn frames_without_an_upgrade_lose_what_is_open() {
    let (mut stage, mut wire) = (Stage::new(), Wire::new(Side::Client));
    stage.feed(wire.socket.request(0, "/a")).feed(wire.preface());
    assert_eq!(stage.lost(), [(1, lost::RECORDS_LOST)]);
    stage.feed(wire.request(1, "/b")).feed(wire.answer(1, "200"));
    assert_eq!(stage.told(), [("/b", Some(200), None)]);
}
