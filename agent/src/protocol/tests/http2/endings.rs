//! Everything else by which a call ends.

use super::*;

/// A request under way, and what then comes; its only exchange's status and error.
fn ended(
    side: Side,
    answer: bool,
    last: impl FnOnce(&mut Wire) -> Record,
) -> (Option<u16>, Option<Cause>) {
    let (mut stage, mut wire) = begun(side);
    stage.feed(wire.request(1, "/a"));
    if answer {
        stage.feed(wire.answer_with(1, &OK, false));
    }
    stage.feed(last(&mut wire));
    assert_eq!(stage.used().1, 0);
    assert_eq!(stage.only().end_ns, wire.socket.time_ns);
    (stage.only().status, stage.only().error)
}

#[test]
fn resets_of_a_stream() {
    let stream = |error| Cause::StreamReset(error);
    for side in [Side::Client, Side::Server] {
        for (asks, code, cause) in [
            (true, 8, Cause::Cancelled),
            (true, 0, Cause::Cancelled),
            (true, 7, stream(StreamError::RefusedStream)),
            (true, 2, stream(StreamError::InternalError)),
            (false, 7, Cause::Refused),
            (false, 0, stream(StreamError::NoError)),
            (false, 8, stream(StreamError::Cancel)),
            (false, 11, stream(StreamError::EnhanceYourCalm)),
            (false, 99, stream(StreamError::Other)),
        ] {
            for answer in [false, true] {
                let end = ended(side, answer, |wire| {
                    let direction = if asks { wire.asks() } else { wire.answers() };
                    wire.frames(direction, 0, &[Frame::reset(1, code)])
                });
                assert_eq!(end, (answer.then_some(200), Some(cause)));
            }
        }
    }
}

#[test]
fn a_deadline_that_is_over() {
    for (timeout, cause) in [
        ("20n", Cause::DeadlineExceeded),
        // Ten nanoseconds have gone by; timers are a millisecond early at the most.
        ("1000n", Cause::DeadlineExceeded),
        ("2m", Cause::Cancelled),
    ] {
        let (mut stage, mut wire) = begun(Side::Client);
        let asks = wire.asks();
        let more =
            [(":path", "/a"), ("content-type", "application/grpc"), ("grpc-timeout", timeout)];
        let frame = wire.headers(asks, 1, &[&GET[..], &more].concat(), true);
        stage.feed(wire.frames(asks, 0, &[frame]));
        stage.feed(wire.frames(asks, 0, &[Frame::reset(1, 8)]));
        assert_eq!(stage.only().error, Some(cause));
    }
}

#[test]
fn goaway_refuses_what_is_beyond_its_last_stream() {
    let (mut stage, mut wire) = begun(Side::Client);
    let (asks, answers) = (wire.asks(), wire.answers());
    for stream in [1, 3, 5] {
        stage.feed(wire.request(stream, &format!("/{stream}")));
    }
    stage.feed(wire.frames(asks, 0, &[Frame::goaway(0)]));
    stage.feed(wire.frames(answers, 0, &[Frame::goaway(u32::MAX)]));
    assert_eq!(stage.out.exchanges.len(), 0);
    stage.feed(wire.frames(answers, 0, &[Frame::goaway(3)]));
    let refused = Some(Cause::Refused);
    assert_eq!(stage.told(), [("/5", None, refused)]);
    // Under way when it came.
    stage.feed(wire.request(7, "/7"));
    let head = wire.asking(9, "/9", false);
    stage.feed(wire.frames(asks, 0, &[head]));
    stage.feed(wire.answer(1, "200")).feed(wire.answer(3, "200"));
    let told = [
        ("/5", None, refused),
        ("/7", None, refused),
        ("/9", None, refused),
        ("/1", Some(200), None),
        ("/3", Some(200), None),
    ];
    assert_eq!(stage.told(), told);
    assert_eq!((stage.lost(), stage.used().1), (vec![], 0));
}

#[test]
fn the_end_of_the_connection() {
    use event::{CLOSE_FIN, CLOSE_RESET_SENT, CLOSE_TIMEOUT, CLOSE_UNKNOWN};
    for answer in [false, true] {
        let status = answer.then_some(200);
        for (side, cause) in [(Side::Client, Cause::Closed), (Side::Server, Cause::Abandoned)] {
            let end = ended(side, answer, |wire| wire.socket.fin(wire.answers()));
            assert_eq!(end, (status, Some(cause)));
            let end = ended(side, answer, |wire| wire.socket.closed(CLOSE_FIN));
            assert_eq!(end, (status, Some(cause)));
        }
        for (reason, cause) in [
            (CLOSE_RESET_SENT, Cause::ResetSent),
            (CLOSE_TIMEOUT, Cause::Timeout),
            (CLOSE_UNKNOWN, Cause::Vanished),
        ] {
            let end = ended(Side::Client, answer, |wire| wire.socket.closed(reason));
            assert_eq!(end, (status, Some(cause)));
        }
        let end = ended(Side::Client, answer, |wire| wire.socket.reset(INGRESS));
        assert_eq!(end, (status, Some(Cause::ResetReceived)));
    }
}

#[test]
fn a_half_closed_client_still_gets_its_answers() {
    let (mut stage, mut wire) = begun(Side::Client);
    stage.feed(wire.request(1, "/1")).feed(wire.request(3, "/3"));
    stage.feed(wire.socket.fin(EGRESS)).feed(wire.answer(1, "200"));
    stage.feed(wire.socket.closed(event::CLOSE_FIN));
    assert_eq!(stage.told(), [("/1", Some(200), None), ("/3", None, Some(Cause::Abandoned))]);
}

#[test]
fn an_early_answer_is_told_at_the_end_of_the_connection() {
    let (mut stage, mut wire) = begun(Side::Server);
    let head = wire.asking(1, "/a", false);
    stage.feed(wire.frames(wire.asks(), 0, &[head])).feed(wire.answer(1, "200"));
    let end_ns = wire.socket.time_ns;
    stage.feed(wire.socket.closed(event::CLOSE_RESET_SENT));
    assert_eq!((stage.only().status, stage.only().error), (Some(200), None));
    assert_eq!(stage.only().end_ns, end_ns);
    assert_eq!(stage.used(), (0, 0, 0));
}

#[test]
fn a_head_that_is_never_whole_is_still_a_call() {
    let (mut stage, mut wire) = begun(Side::Client);
    let asks = wire.asks();
    let frame = wire.asking(1, "/a", true);
    let items = wire.pass(asks, &[frame], 5);
    stage.feed(wire.record(asks, 0, &items[..1]));
    assert_eq!(stage.used(), (1, 1, 5));
    stage.feed(wire.socket.closed(event::CLOSE_TIMEOUT));
    assert_eq!(stage.told(), [(exchange::UNKNOWN, None, Some(Cause::Timeout))]);
    assert_eq!(stage.used(), (0, 0, 0));
}
