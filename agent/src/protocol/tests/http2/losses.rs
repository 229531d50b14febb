//! What cannot be known is counted, once, and never guessed.

use super::*;
use crate::protocol::lost;

const GAP: &str = lost::DESYNCHRONISED_GAP;

#[test]
fn requests_that_were_passed_over_after_a_gap_are_lost() {
    for by_record in [false, true] {
        let (mut stage, mut wire) = begun(Side::Client);
        stage.feed(wire.request(1, "/1")).feed(wire.answer(1, "200"));
        wire.request(3, "/3");
        wire.request(5, "/5");
        let reason = if by_record {
            wire.socket.lost = 2;
            lost::RECORDS_LOST
        } else {
            stage.feed(wire.desynchronised(wire.asks()));
            GAP
        };
        stage.feed(wire.request(7, "/7"));
        assert_eq!(stage.lost(), [(2, reason)]);
        stage.feed(wire.answer(3, "200")).feed(wire.answer(7, "201"));
        assert_eq!(stage.out.exchanges.len(), 2);
        assert_eq!(stage.lost().len(), 1, "counted once");
        stage.feed(wire.socket.closed(event::CLOSE_FIN));
        assert_eq!(stage.lost().len(), 1);
    }
}

#[test]
fn a_number_alone_proves_no_more_than_what_was_sent() {
    let (mut stage, mut wire) = begun(Side::Server);
    stage.feed(wire.request(1, "/1")).feed(wire.desynchronised(wire.asks()));
    stage.feed(wire.request(0x7fff_ffff, "/last"));
    assert_eq!((stage.lost(), stage.used().1), (vec![], 1), "no frame of this connection");
    stage.feed(wire.request(3, "/3"));
    assert_eq!((stage.lost(), stage.used().1), (vec![], 2));
    wire.request(5, "/5");
    stage.feed(wire.answer(0x7fff_fffd, "200"));
    assert_eq!(stage.lost(), []);
    stage.feed(wire.answer(5, "200"));
    assert_eq!(stage.lost(), [(1, lost::RECORDS_LOST)]);
}

#[test]
fn a_preface_behind_missing_records_is_as_behind_a_gap() {
    let (mut stage, mut wire) = (Stage::new(), Wire::new(Side::Server));
    wire.preface();
    wire.request(1, "/1");
    wire.socket.lost = 1;
    // The kernel half announces the direction until a record of it came through.
    let request = wire.asking(3, "/1", true);
    stage.feed(wire.frames(wire.asks(), FRAMES_PREFACE, &[request]));
    assert_eq!(stage.lost(), [(1, lost::RECORDS_LOST)]);
    stage.feed(wire.answer(3, "200"));
    assert_eq!(stage.told(), [(exchange::UNKNOWN, Some(200), None)]);
}

#[test]
fn skipped_numbers_without_a_gap_are_no_calls() {
    let (mut stage, mut wire) = begun(Side::Client);
    stage.feed(wire.request(13, "/a")).feed(wire.answer(13, "200"));
    stage.feed(wire.socket.closed(event::CLOSE_FIN));
    assert_eq!((stage.told().len(), stage.lost()), (1, vec![]));
}

#[test]
fn an_answer_without_its_request_is_a_lost_call_once() {
    let (mut stage, mut wire) = begun(Side::Server);
    stage.feed(wire.request(1, "/1")).feed(wire.answer(1, "200"));
    wire.request(3, "/3");
    stage.feed(wire.answer_with(3, &OK, false));
    assert_eq!(stage.lost(), [(1, lost::RECORDS_LOST)]);
    let data = Frame::data(3, 1, true, Data::default());
    stage.feed(wire.frames(wire.answers(), 0, &[data]));
    stage.feed(wire.desynchronised(wire.asks())).feed(wire.request(5, "/5"));
    assert_eq!(stage.lost().len(), 1);
    assert_eq!(stage.used().1, 1);
}

/// An answer shows one request of a gap; those behind it are shown by the next that begins, or
/// by the connection's end.
#[test]
fn an_answer_does_not_hide_other_requests_of_its_gap() {
    for by_request in [false, true] {
        let (mut stage, mut wire) = begun(Side::Server);
        stage.feed(wire.request(1, "/1")).feed(wire.answer(1, "200"));
        for stream in [3, 5, 7] {
            wire.request(stream, "/unseen");
        }
        wire.socket.lost = 3;
        stage.feed(wire.answer(3, "200"));
        assert_eq!(stage.lost(), [(1, lost::RECORDS_LOST)]);
        if by_request {
            stage.feed(wire.request(9, "/9"));
        }
        for stream in [5, 7] {
            stage.feed(wire.answer(stream, "200"));
        }
        if by_request {
            stage.feed(wire.answer(9, "200"));
        }
        stage.feed(wire.socket.closed(event::CLOSE_FIN));
        let lost: u32 = stage.lost().iter().map(|(calls, _)| calls).sum();
        assert_eq!(lost, 3);
        assert_eq!(stage.told().len(), if by_request { 2 } else { 1 });
    }
}

#[test]
fn what_is_open_at_a_gap_is_told_only_by_its_end() {
    for asks in [true, false] {
        for side in [Side::Client, Side::Server] {
            let (mut stage, mut wire) = begun(side);
            for stream in [1, 3, 5] {
                stage.feed(wire.request(stream, &format!("/{stream}")));
            }
            stage.feed(wire.answer_with(5, &OK, false));
            let direction = if asks { wire.asks() } else { wire.answers() };
            stage.feed(wire.desynchronised(direction));
            stage.feed(wire.answer(1, "404"));
            stage.feed(wire.answer_with(5, &[("grpc-status", "0")], true));
            let told = [("/1", Some(404), None), ("/5", Some(200), None)];
            assert_eq!(stage.told(), told);
            stage.feed(wire.socket.closed(event::CLOSE_FIN));
            assert_eq!((stage.told().len(), stage.lost()), (2, vec![(1, GAP)]));
        }
    }
}

#[test]
fn trailers_are_not_taken_for_a_head_that_was_missed() {
    let (mut stage, mut wire) = begun(Side::Client);
    stage.feed(wire.request(1, "/1"));
    wire.answer_with(1, &[(":status", "200"), ("x-a", "b")], false);
    stage.feed(wire.desynchronised(wire.answers()));
    stage.feed(wire.answer_with(1, &[("grpc-status", "0"), ("x-a", "b")], true));
    assert_eq!((stage.out.exchanges.len(), stage.lost()), (0, vec![(1, GAP)]));
}

#[test]
fn what_was_compressed_before_a_gap_is_unknown_behind_it() {
    let (mut stage, mut wire) = begun(Side::Client);
    stage.feed(wire.request(1, "/1")).feed(wire.answer(1, "200"));
    stage.feed(wire.desynchronised(wire.asks()));
    let known = wire.asking(3, "/3", true);
    let unknown = wire.asking(5, "/1", true);
    stage.feed(wire.frames(wire.asks(), FRAMES_JOINED, &[known, unknown]));
    stage.feed(wire.answer(3, "200")).feed(wire.answer(5, "200"));
    let paths: Vec<_> = stage.told().iter().map(|told| told.0).collect();
    assert_eq!(paths, ["/1", "/3", exchange::UNKNOWN]);
    assert!(stage.out.exchanges[1].authority.is_empty());
}

#[test]
fn messages_are_not_counted_across_a_gap() {
    let (mut stage, mut wire) = begun(Side::Client);
    let asks = wire.asks();
    let more = [(":path", "/a"), ("content-type", "application/grpc")];
    let head = wire.headers(asks, 1, &[&GET[..], &more].concat(), false);
    stage.feed(wire.frames(asks, 0, &[head])).feed(wire.desynchronised(asks));
    let data = Frame::data(1, 5, true, Data { messages: 1, ..Data::default() });
    stage.feed(wire.frames(asks, FRAMES_JOINED, &[data])).feed(wire.answer(1, "200"));
    let rpc = stage.only().rpc.as_ref().unwrap();
    assert_eq!((rpc.request_messages, rpc.response_messages), (None, Some(0)));
}

#[test]
fn an_early_answer_is_told_at_a_gap_of_the_request() {
    let (mut stage, mut wire) = begun(Side::Client);
    let head = wire.asking(1, "/a", false);
    stage.feed(wire.frames(wire.asks(), 0, &[head])).feed(wire.answer(1, "200"));
    stage.feed(wire.desynchronised(wire.answers()));
    assert_eq!(stage.out.exchanges.len(), 0);
    stage.feed(wire.desynchronised(wire.asks()));
    assert_eq!((stage.only().status, stage.only().error), (Some(200), None));
}

#[test]
fn pieces_that_do_not_join_make_the_rest_unknown() {
    let (mut stage, mut wire) = begun(Side::Client);
    let asks = wire.asks();
    let frame = wire.asking(1, "/a", true);
    let items = wire.pass(asks, &[frame], 4);
    stage.feed(wire.record(asks, 0, &[items[0].clone(), items[2].clone()]));
    assert_eq!(stage.protocols.occupancy().counters.frames_malformed, 1);
    stage.feed(wire.answer(1, "200"));
    assert_eq!(stage.told(), [(exchange::UNKNOWN, Some(200), None)]);
    assert_eq!(stage.used().2, 0);
}

#[test]
fn blocks_are_bounded() {
    let settings = ProtocolSettings { head_bytes_total: 2_000, ..ProtocolSettings::default() };
    let (mut stage, mut wire) = (Stage::with(settings), Wire::new(Side::Client));
    stage.feed(wire.preface());
    let asks = wire.asks();
    let long = "x".repeat(4_000);
    let headers = [&GET[..], &[(":path", "/a"), ("cookie", &long)]].concat();
    let frame = wire.headers(asks, 1, &headers, true);
    for item in wire.pass(asks, &[frame], 700) {
        stage.feed(wire.record(asks, 0, &[item]));
        assert!(stage.used().2 <= 2_000);
    }
    assert_eq!(stage.protocols.occupancy().counters.blocks_unreadable, 1);
    stage.feed(wire.answer(1, "200"));
    assert_eq!(stage.told(), [(exchange::UNKNOWN, Some(200), None)]);
    assert!(stage.only().cut);
}

#[test]
fn a_block_that_cannot_be_read_is_still_a_call() {
    let (mut stage, mut wire) = begun(Side::Client);
    let (asks, answers) = (wire.asks(), wire.answers());
    let flags = FLAG_END_HEADERS | FLAG_END_STREAM;
    stage.feed(wire.frames(asks, 0, &[Frame::of(FRAME_HEADERS, flags, 1, vec![0x80])]));
    stage.feed(wire.frames(answers, 0, &[Frame::of(FRAME_HEADERS, flags, 1, vec![0x80])]));
    // It was answered; how cannot be known.
    assert_eq!(stage.told(), [(exchange::UNKNOWN, None, None)]);
    assert_eq!(stage.protocols.occupancy().counters.blocks_unreadable, 2);
}

#[test]
fn too_many_open_requests_are_lost_calls() {
    let settings =
        ProtocolSettings { requests: 3, requests_per_connection: 2, ..ProtocolSettings::default() };
    let (mut stage, mut wire) = (Stage::with(settings), Wire::new(Side::Client));
    stage.feed(wire.preface());
    for stream in [1, 3, 5] {
        stage.feed(wire.request(stream, "/a"));
    }
    assert_eq!(stage.lost(), [(1, lost::REQUESTS_BOUND)]);
    stage.feed(wire.answer(5, "200"));
    assert_eq!(stage.lost().len(), 1);
    let mut other = Wire::new(Side::Client);
    other.socket.cookie = 8;
    stage.feed(other.preface()).feed(other.request(1, "/b")).feed(other.request(3, "/b"));
    assert_eq!(stage.lost()[1..], [(2, lost::REQUESTS_BOUND)]);
    // It is heard of again: nothing is counted twice.
    stage.feed(wire.answer(3, "200")).feed(wire.request(7, "/a")).feed(wire.answer(7, "200"));
    let calls: u32 = stage.lost().iter().map(|(calls, _)| calls).sum();
    assert_eq!((calls, stage.out.exchanges.len()), (3, 1));
}

#[test]
fn silence_ends_connections() {
    let (mut stage, mut wire) = begun(Side::Client);
    stage.feed(wire.request(1, "/a"));
    stage.protocols.expire(u64::MAX, &mut stage.out);
    assert_eq!(stage.lost(), [(1, lost::EXPIRED)]);
    assert_eq!(stage.used(), (0, 0, 0));
}
