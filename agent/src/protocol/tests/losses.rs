//! What cannot be known is counted, once, and never guessed.

use super::*;
use crate::protocol::connection::Forgotten;
use crate::protocol::lost;

#[test]
fn a_skipped_request_and_its_answer_are_one_lost_call() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    stage.feed(socket.request(0, "/0")).feed(socket.answer(0, 200, 0));
    socket.lost = 1;
    stage
        .feed(socket.request(2, "/2"))
        .feed(socket.answer(1, 500, 0))
        .feed(socket.answer(2, 201, 0));
    assert_eq!(stage.told(), [("/0", Some(200), None), ("/2", Some(201), None)]);
    assert_eq!(stage.lost(), [(1, lost::RECORDS_LOST)]);
    assert_eq!(stage.out.lost[0].side, Some(Side::Client));
}

#[test]
fn an_answer_without_its_request_is_a_lost_call_once() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Server));
    stage.feed(socket.request(0, "/0")).feed(socket.answer(0, 200, 0));
    socket.lost = 1;
    stage
        .feed(socket.interim(1, 100))
        .feed(socket.answer_begins(1, 200, event::FRAMING_LENGTH))
        .feed(socket.answer_end(1, 3, event::END_COMPLETE));
    assert_eq!(stage.lost(), [(1, lost::RECORDS_LOST)]);
    assert_eq!(stage.out.exchanges.len(), 1);
}

#[test]
fn a_lost_answer_is_not_replaced_by_the_next() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    stage.feed(socket.request(0, "/0")).feed(socket.request(1, "/1"));
    socket.lost = 1;
    stage.feed(socket.answer(1, 404, 0));
    assert_eq!(stage.told(), [("/1", Some(404), None)]);
    assert_eq!(stage.lost(), [(1, lost::RECORDS_LOST)]);
    assert_eq!(stage.used().1, 0);
}

#[test]
fn a_lost_end_of_an_answer_is_a_lost_call() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    stage
        .feed(socket.request(0, "/0"))
        .feed(socket.answer_begins(0, 200, event::FRAMING_LENGTH))
        .feed(socket.request(1, "/1"));
    socket.lost = 1;
    stage.feed(socket.answer(1, 200, 0));
    assert_eq!(stage.told(), [("/1", Some(200), None)]);
    assert_eq!(stage.lost(), [(1, lost::RECORDS_LOST)]);
}

#[test]
fn an_end_without_the_answers_head_is_a_lost_call() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    stage.feed(socket.request(0, "/0"));
    socket.lost = 1;
    stage.feed(socket.answer_end(0, 5, event::END_COMPLETE));
    assert_eq!((stage.told(), stage.lost()), (vec![], vec![(1, lost::RECORDS_LOST)]));
}

#[test]
fn no_answer_was_seen_is_not_there_was_none() {
    for reason in [event::CLOSE_FIN, event::CLOSE_RESET_RECEIVED, event::CLOSE_TIMEOUT] {
        let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
        stage.feed(socket.request(0, "/0"));
        socket.lost = 1;
        stage.feed(socket.closed(reason));
        assert_eq!((stage.told(), stage.lost()), (vec![], vec![(1, lost::RECORDS_LOST)]));
    }
}

#[test]
fn doubt_ends_with_the_answer() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    stage.feed(socket.request(0, "/0"));
    socket.lost = 1;
    stage.feed(socket.answer(0, 200, 0)).feed(socket.request(1, "/1")).feed(socket.fin(INGRESS));
    assert_eq!(stage.told(), [("/0", Some(200), None), ("/1", None, Some(Cause::Closed))]);
    assert_eq!(stage.lost(), []);
}

#[test]
fn desynchronised_loses_what_is_open_and_begins_anew() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Server));
    for number in 0..3 {
        stage.feed(socket.request(number, "/x"));
    }
    stage
        .feed(socket.answer(0, 200, 0))
        .feed(socket.answer_begins(1, 200, event::FRAMING_CHUNKED))
        .feed(socket.desynchronised(2, event::LOST_GAP))
        .feed(socket.request(0, "/new"))
        .feed(socket.answer(0, 201, 0));
    assert_eq!(stage.told(), [("/x", Some(200), None), ("/new", Some(201), None)]);
    assert_eq!(stage.lost(), [(2, lost::DESYNCHRONISED_GAP)]);
}

#[test]
fn desynchronised_counts_answers_under_way_whether_the_kernel_does_or_not() {
    for unanswered in [0, 1] {
        let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Server));
        stage
            .feed(socket.request(0, "/x"))
            .feed(socket.answer_begins(0, 200, event::FRAMING_CHUNKED))
            .feed(socket.desynchronised(unanswered, event::LOST_SYNTAX));
        assert_eq!(stage.lost(), [(1, lost::DESYNCHRONISED_SYNTAX)]);
    }
}

#[test]
fn desynchronised_counts_requests_that_never_came_here() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    stage.feed(socket.request(0, "/0"));
    socket.lost = 2;
    stage.feed(socket.desynchronised(3, event::LOST_BUDGET));
    assert_eq!(stage.lost(), [(3, lost::DESYNCHRONISED_BUDGET)]);
}

#[test]
fn desynchronised_without_open_requests_loses_nothing() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    stage
        .feed(socket.request(0, "/0"))
        .feed(socket.answer(0, 200, 0))
        .feed(socket.desynchronised(0, event::LOST_UNEXPECTED));
    assert_eq!(stage.lost(), []);
}

#[test]
fn a_lost_desynchronised_record_shows_by_the_epoch() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    stage.feed(socket.request(0, "/0")).feed(socket.request(1, "/1"));
    drop(socket.desynchronised(2, event::LOST_GAP));
    socket.lost = 1;
    stage.feed(socket.request(1, "/new")).feed(socket.answer(1, 200, 0));
    assert_eq!(stage.told(), [("/new", Some(200), None)]);
    // Two of the old epoch, and request 0 of the new one.
    assert_eq!(stage.lost(), [(2, lost::RECORDS_LOST), (1, lost::RECORDS_LOST)]);
}

#[test]
fn a_late_answer_of_an_epoch_that_is_over_is_nobodys() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    stage.feed(socket.request(0, "/old"));
    let late = socket.answer(0, 500, 0);
    stage
        .feed(socket.desynchronised(1, event::LOST_CONTENTION))
        .feed(socket.request(0, "/new"))
        .feed(late);
    assert_eq!(stage.told(), []);
    stage.feed(socket.answer(0, 200, 0));
    assert_eq!(stage.told(), [("/new", Some(200), None)]);
    assert_eq!(stage.lost(), [(1, lost::DESYNCHRONISED_CONTENTION)]);
}

#[test]
fn a_connection_that_was_forgotten_loses_nothing_twice() {
    let mut stage = Stage::with(ProtocolSettings { connections: 1, ..ProtocolSettings::default() });
    let mut first = Socket { cookie: 1, ..Socket::new(Side::Client) };
    let mut second = Socket { cookie: 2, ..Socket::new(Side::Client) };
    for number in 0..5 {
        stage.feed(first.request(number, "/a")).feed(first.answer(number, 200, 0));
    }
    stage.feed(first.request(5, "/a")).feed(second.request(0, "/b"));
    assert_eq!(stage.lost(), [(1, lost::CONNECTIONS_BOUND)]);
    // The answer to what was counted, then a call that begins and ends afterwards.
    stage.feed(first.answer(5, 200, 0)).feed(first.request(6, "/c")).feed(first.answer(6, 200, 0));
    assert_eq!(
        stage.lost().iter().map(|lost| lost.0).sum::<u32>(),
        2,
        "5 of the first, 0 of the second"
    );
    assert_eq!(stage.out.exchanges.len(), 6);
    assert_eq!(stage.protocols.occupancy().counters.connections_evicted, 2);
}

#[test]
fn records_that_are_missing_before_a_connection_is_known_count() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    socket.lost = 1;
    let statistics = Record::Statistics(socket.statistics());
    stage.feed(statistics).feed(socket.answer(0, 200, 0));
    assert_eq!(stage.lost(), [(1, lost::RECORDS_LOST)]);
}

#[test]
fn too_many_open_requests_of_a_connection_are_lost_calls() {
    let settings = ProtocolSettings { requests_per_connection: 2, ..ProtocolSettings::default() };
    let (mut stage, mut socket) = (Stage::with(settings), Socket::new(Side::Client));
    for number in 0..4 {
        stage.feed(socket.request(number, &format!("/{number}")));
    }
    for number in 0..4 {
        stage.feed(socket.answer(number, 200, 0));
    }
    assert_eq!(stage.told(), [("/0", Some(200), None), ("/1", Some(200), None)]);
    assert_eq!(stage.lost(), [(1, lost::REQUESTS_BOUND); 2]);
    assert_eq!(stage.protocols.occupancy().counters.requests_refused, 2);
}

#[test]
fn too_many_open_requests_cost_the_connection_that_was_silent_for_longest() {
    let mut stage = Stage::with(ProtocolSettings { requests: 3, ..ProtocolSettings::default() });
    let mut first = Socket { cookie: 1, ..Socket::new(Side::Client) };
    let mut second = Socket { cookie: 2, ..Socket::new(Side::Client) };
    for number in 0..2 {
        stage.feed(first.request(number, "/a"));
    }
    for number in 0..2 {
        stage.feed(second.request(number, "/b"));
    }
    assert_eq!(stage.lost(), [(2, lost::REQUESTS_BOUND)]);
    assert_eq!(stage.used(), (1, 2, 0));
    assert_eq!(stage.out.lost[0].socket, 1);
}

#[test]
fn silence_ends_connections() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    let settings = ProtocolSettings::default();
    let mut idle = Socket { cookie: 1, ..Socket::new(Side::Client) };
    stage.feed(socket.request(0, "/a")).feed(idle.request(0, "/b")).feed(idle.answer(0, 200, 0));
    stage.protocols.expire(settings.idle_ns, &mut stage.out);
    assert_eq!(stage.used(), (2, 1, 0));
    stage.protocols.expire(settings.idle_ns + 2_000, &mut stage.out);
    assert_eq!(stage.used(), (1, 1, 0), "one still waits for its answer");
    stage.protocols.expire(settings.pending_ns + 2_000, &mut stage.out);
    assert_eq!(stage.used(), (0, 0, 0));
    assert_eq!(stage.lost(), [(1, lost::EXPIRED)]);
    assert_eq!(stage.out.lost[0].time_ns, settings.pending_ns + 2_000);
    assert_eq!(stage.protocols.occupancy().counters.connections_expired, 2);
}

/// What a connection had begun when it ended.
fn ended(requests: u32, lost: u16) -> event::Ended {
    event::Ended { requests, lost, version: 1, ..event::Ended::default() }
}

#[test]
fn requests_of_which_no_record_came_are_lost_at_the_end() {
    for is_record_lost in [false, true] {
        let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
        stage
            .feed(socket.request(0, "/0"))
            .feed(socket.answer(0, 200, 0))
            .feed(socket.request(1, "/1"));
        // Its answer found no room, nor did anything of three more calls.
        if is_record_lost {
            stage.protocols.ended(7, &ended(5, 8), 2_000, &mut stage.out);
        } else {
            socket.lost = 8;
            let Record::Closed(record) = socket.closed(event::CLOSE_FIN) else { unreachable!() };
            stage.feed(Record::Closed(Statistics { ended: ended(5, 8), ..record }));
        }
        assert_eq!(stage.told(), [("/0", Some(200), None)]);
        assert_eq!(stage.lost(), [(3, lost::RECORDS_LOST), (1, lost::RECORDS_LOST)]);
        assert_eq!(stage.used().1, 0);
    }
}

#[test]
fn a_connection_of_which_no_record_came_is_lost_at_its_end() {
    let mut stage = Stage::new();
    stage.protocols.ended(9, &ended(4, 8), 2_000, &mut stage.out);
    // Of a forgotten one the calls that were told of are accounted for.
    let forgotten = event::Ended { told: 993, ..ended(1_000, 9) };
    stage.protocols.ended(10, &forgotten, 2_000, &mut stage.out);
    // Whose FIN found no room.
    let forgotten = event::Ended { told: 1_000, ..ended(1_000, 2) };
    stage.protocols.ended(11, &forgotten, 2_000, &mut stage.out);
    // One that spoke HTTP/2: a record tells of many streams.
    let multiplexed = event::Ended { version: 2, ..ended(9, 2) };
    stage.protocols.ended(12, &multiplexed, 2_000, &mut stage.out);
    assert_eq!(stage.lost(), [4, 7, 9].map(|calls| (calls, lost::RECORDS_LOST)));
    assert_eq!(stage.protocols.occupancy().connections.used, 0);
}

/// Of HTTP/2 the kernel does not know what it told: that is remembered of what is forgotten.
#[test]
fn streams_of_a_forgotten_connection_are_lost_once() {
    let mut stage = Stage::new();
    // Of 1, 3, 5 and 7 it was told.
    stage.protocols.forgotten.put(7, Forgotten::Streams(crate::protocol::http2::Numbers::of(9)));
    let ended = event::Ended { version: 2, ..ended(6, 2) };
    stage.protocols.ended(7, &ended, 2_000, &mut stage.out);
    assert_eq!(stage.lost(), [(2, lost::RECORDS_LOST)]);
}

#[test]
fn nothing_is_lost_at_an_end_where_every_record_came() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    stage.feed(socket.request(0, "/0")).feed(socket.answer(0, 200, 0));
    let Record::Closed(record) = socket.closed(event::CLOSE_FIN) else { unreachable!() };
    // The second one is a beginning that never became a head.
    stage.feed(Record::Closed(Statistics { ended: ended(2, 0), ..record }));
    assert_eq!(stage.only().path.as_str(), "/0");
}

/// What a connection stands for is in each of its calls, and in those that are lost.
#[test]
fn calls_stand_for_as_many_as_their_connection() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    let weighed = |mut record: Record, exponent: u16| {
        record.header_mut().flags |= exponent << event::WEIGHT_SHIFT;
        record
    };
    stage.feed(socket.request(0, "/0")).feed(socket.answer(0, 200, 0));
    // A request that waited at the listener does not tell, its answer does.
    stage.feed(socket.request(1, "/1")).feed(weighed(socket.answer(1, 200, 0), 2));
    stage.feed(weighed(socket.request(2, "/2"), 3)).feed(weighed(socket.answer(2, 200, 0), 3));
    stage.feed(weighed(socket.request(3, "/3"), 3));
    let weights: Vec<_> = stage.out.exchanges.iter().map(|exchange| exchange.weight).collect();
    assert_eq!(weights, [1, 4, 8]);
    assert_eq!(stage.told().len(), 3);
    let left = socket.desynchronised(0, event::LOST_LIMITS);
    stage.feed(left);
    assert_eq!(stage.lost(), [(8, lost::LIMITS)]);
}
