//! Calls without a whole answer have the right cause, at each end.

use super::*;

/// What one end says of a request that waits, after these records.
fn ends(side: Side, records: &[fn(&mut Socket) -> Record]) -> Option<Cause> {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(side));
    stage.feed(socket.request(0, "/a"));
    for record in records {
        stage.feed(record(&mut socket));
    }
    let exchange = stage.only();
    assert_eq!((exchange.status, exchange.first_byte_ns), (None, None));
    assert_eq!(stage.used().1, 0);
    exchange.error
}

fn asker_fin(socket: &mut Socket) -> Record {
    let direction = socket.asks();
    socket.fin(direction)
}

fn answerer_fin(socket: &mut Socket) -> Record {
    let direction = socket.answers();
    socket.fin(direction)
}

#[test]
fn whoever_sends_the_first_fin_gave_up() {
    assert_eq!(ends(Side::Client, &[answerer_fin]), Some(Cause::Closed));
    assert_eq!(ends(Side::Server, &[answerer_fin]), Some(Cause::Abandoned));
    assert_eq!(ends(Side::Client, &[asker_fin, answerer_fin]), Some(Cause::Abandoned));
    assert_eq!(ends(Side::Server, &[asker_fin, answerer_fin]), Some(Cause::Closed));
}

#[test]
fn resets_by_direction() {
    for side in [Side::Client, Side::Server] {
        assert_eq!(ends(side, &[|s| s.reset(INGRESS)]), Some(Cause::ResetReceived));
        assert_eq!(ends(side, &[|s| s.reset(EGRESS)]), Some(Cause::ResetSent));
        assert_eq!(ends(side, &[asker_fin, |s| s.reset(INGRESS)]), Some(Cause::ResetReceived));
    }
}

#[test]
fn the_end_of_the_socket_by_reason() {
    use event::*;
    type Case = (Side, fn(&mut Socket) -> Record, Cause);
    let cases: [Case; 8] = [
        (Side::Client, |s| s.closed(CLOSE_TIMEOUT), Cause::Timeout),
        (Side::Server, |s| s.closed(CLOSE_TIMEOUT), Cause::Timeout),
        (Side::Client, |s| s.closed(CLOSE_UNKNOWN), Cause::Vanished),
        (Side::Client, |s| s.closed(CLOSE_RESET_RECEIVED), Cause::ResetReceived),
        (Side::Client, |s| s.closed(CLOSE_RESET_SENT), Cause::ResetSent),
        (Side::Client, |s| s.closed(CLOSE_FIN), Cause::Closed),
        (Side::Server, |s| s.closed(CLOSE_FIN), Cause::Abandoned),
        (Side::Server, |s| s.closed(CLOSE_NONE), Cause::Vanished),
    ];
    for (side, record, cause) in cases {
        assert_eq!(ends(side, &[record]), Some(cause));
    }
    assert_eq!(
        ends(Side::Client, &[asker_fin, |s| s.closed(CLOSE_UNKNOWN)]),
        Some(Cause::Abandoned)
    );
    assert_eq!(ends(Side::Server, &[asker_fin, |s| s.closed(CLOSE_FIN)]), Some(Cause::Closed));
    assert_eq!(ends(Side::Client, &[asker_fin, |s| s.closed(CLOSE_TIMEOUT)]), Some(Cause::Timeout));
}

#[test]
fn a_half_closed_client_still_gets_its_answer() {
    for side in [Side::Client, Side::Server] {
        let (mut stage, mut socket) = (Stage::new(), Socket::new(side));
        stage
            .feed(socket.request(0, "/a"))
            .feed(asker_fin(&mut socket))
            .feed(socket.answer(0, 200, 0))
            .feed(answerer_fin(&mut socket))
            .feed(socket.closed(event::CLOSE_FIN));
        assert_eq!((stage.only().status, stage.only().error), (Some(200), None));
    }
}

#[test]
fn every_pipelined_request_ends_with_the_connection() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    for number in 0..3 {
        stage.feed(socket.request(number, &format!("/{number}")));
    }
    stage.feed(socket.answer(0, 200, 0)).feed(socket.fin(INGRESS));
    let closed = Some(Cause::Closed);
    assert_eq!(stage.told(), [("/0", Some(200), None), ("/1", None, closed), ("/2", None, closed)]);
    assert_eq!(stage.out.exchanges[1].end_ns, 1_050);
}

#[test]
fn a_body_until_the_close_is_whole() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    stage
        .feed(socket.request(0, "/a"))
        .feed(socket.answer_begins(0, 200, event::FRAMING_CLOSE))
        .feed(socket.answer_end(0, 77, event::END_CLOSED))
        .feed(socket.fin(INGRESS));
    assert_eq!((stage.only().error, stage.only().response_bytes), (None, 77));
}

#[test]
fn a_truncated_body_is_an_error_with_its_status() {
    for (side, cause) in [(Side::Client, Cause::Closed), (Side::Server, Cause::Abandoned)] {
        let (mut stage, mut socket) = (Stage::new(), Socket::new(side));
        stage
            .feed(socket.request(0, "/a"))
            .feed(socket.answer_begins(0, 206, event::FRAMING_LENGTH))
            .feed(socket.answer_end(0, 10, event::END_TRUNCATED))
            .feed(answerer_fin(&mut socket));
        let exchange = stage.only();
        assert_eq!((exchange.status, exchange.error), (Some(206), Some(cause)));
        assert_eq!(exchange.response_bytes, 10);
    }
}

#[test]
fn a_reset_in_the_middle_of_the_answer_is_told_by_the_resets_own_direction() {
    // The client gives up a download: its reset goes out, the answer came in.
    for (direction, cause) in [(EGRESS, Cause::ResetSent), (INGRESS, Cause::ResetReceived)] {
        let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
        stage
            .feed(socket.request(0, "/a"))
            .feed(socket.answer_begins(0, 200, event::FRAMING_LENGTH))
            .feed(socket.answer_end(0, 10, event::END_RESET));
        assert_eq!(stage.told(), []);
        stage.feed(socket.reset(direction));
        let exchange = stage.only();
        assert_eq!((exchange.status, exchange.error), (Some(200), Some(cause)));
        assert_eq!((exchange.response_bytes, exchange.end_ns), (10, 1_030));
    }
}

#[test]
fn a_broken_answer_without_the_reset_itself_is_told_at_the_end_of_the_socket() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    stage
        .feed(socket.request(0, "/a"))
        .feed(socket.answer_begins(0, 200, event::FRAMING_LENGTH))
        .feed(socket.answer_end(0, 10, event::END_RESET));
    socket.lost = 1;
    stage.feed(socket.closed(event::CLOSE_UNKNOWN));
    assert_eq!(stage.only().error, Some(Cause::ResetReceived));
}

#[test]
fn an_answer_under_way_when_the_socket_vanishes_keeps_its_status() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    stage
        .feed(socket.request(0, "/a"))
        .feed(socket.answer_begins(0, 200, event::FRAMING_CLOSE))
        .feed(socket.closed(event::CLOSE_TIMEOUT));
    assert_eq!((stage.only().status, stage.only().error), (Some(200), Some(Cause::Timeout)));
}

#[test]
fn a_truncated_request_never_ended_and_may_be_answered() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Server));
    stage
        .feed(socket.piece(0, 0, b"POST /a HTTP/1.1\r\n\r\n", HEAD_FIRST | HEAD_COMPLETE))
        .feed(socket.request_end(0, 3, event::END_TRUNCATED))
        .feed(asker_fin(&mut socket))
        .feed(socket.answer(0, 400, 0));
    let exchange = stage.only();
    assert_eq!((exchange.status, exchange.request_end_ns), (Some(400), None));
    assert_eq!(exchange.request_bytes, 3);
}

#[test]
fn an_error_takes_its_figures_from_the_last_record() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    stage.feed(socket.request(0, "/a"));
    socket.retransmits = 15;
    socket.srtt_us = 700;
    stage.feed(socket.closed(event::CLOSE_TIMEOUT));
    assert_eq!((stage.only().retransmits, stage.only().rtt_us), (15, Some(700)));
}
