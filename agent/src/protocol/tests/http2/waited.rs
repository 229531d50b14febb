//! Streams that the kernel half lets wait to be counted, and what it tells of them after all.

use super::*;
use crate::kernel::repeats::Keys;

const GRPC: (&str, &str) = ("content-type", "application/grpc");

/// A stage whose kernel half counts, and a connection that has begun.
fn counting(side: Side) -> (Stage, Wire) {
    let settings = ProtocolSettings { keys: Some(Keys::draw()), ..ProtocolSettings::default() };
    let (mut stage, mut wire) = (Stage::with(settings), Wire::new(side));
    stage.feed(wire.preface());
    (stage, wire)
}

/// A unary call of gRPC, whole.
fn unary(stage: &mut Stage, wire: &mut Wire, stream: u32) {
    let one = Data { messages: 1, ..Data::default() };
    let head = [(":method", "POST"), (":scheme", "http"), (":path", "/a.B/C"), GRPC];
    let head = wire.headers(wire.asks(), stream, &head, false);
    stage.feed(wire.frames(wire.asks(), 0, &[head, Frame::data(stream, 12, true, one)]));
    let head = wire.headers(wire.answers(), stream, &[OK[0], GRPC], false);
    let tail = wire.headers(wire.answers(), stream, &[("grpc-status", "0")], true);
    let body = Frame::data(stream, 30, false, one);
    stage.feed(wire.frames(wire.answers(), 0, &[head, body, tail]));
}

/// Calls until what the kernel half counts has a tag; the next stream, and the tag.
fn settled(side: Side) -> (Stage, Wire, u32, u64) {
    let (mut stage, mut wire) = counting(side);
    for stream in [1, 3, 5, 7] {
        unary(&mut stage, &mut wire, stream);
    }
    let tag = stage.out.exchanges[3].tag.expect("is one of those that repeat").get();
    (stage, wire, 9, tag)
}

/// A stream that was let wait, and is told.
fn told(wire: &mut Wire, stream: u32, tag: u64) -> Waited {
    wire.told += 1;
    let header = wire.socket.header(wire.asks(), 0);
    let (first_ns, told) = (header.time_ns - 5, wire.told);
    Waited { header, first_ns, tag, stream, told, sent: 1, ..Waited::default() }
}

#[test]
fn calls_that_repeat_have_a_tag() {
    for side in [Side::Client, Side::Server] {
        let (stage, ..) = settled(side);
        let tags: Vec<_> = stage.out.exchanges.iter().map(|exchange| exchange.tag).collect();
        assert_eq!(tags[..2], [None, None], "they filled the tables");
        let exchange = &stage.out.exchanges[3];
        assert!(exchange.answer.head != 0 && exchange.answer.tail != 0);
        assert_ne!(exchange.answer.head, exchange.answer.tail);
    }
}

#[test]
fn without_trailers_there_is_no_tail() {
    let (mut stage, mut wire) = counting(Side::Client);
    for stream in [1, 3, 5, 7] {
        stage.feed(wire.request(stream, "/a")).feed(wire.answer(stream, "200"));
    }
    let last = stage.out.exchanges.last().unwrap();
    assert!(last.tag.is_some() && last.answer.head != 0 && last.answer.tail == 0);
    // Another answer than the usual one.
    stage.feed(wire.request(9, "/a")).feed(wire.answer(9, "404"));
    assert_eq!(stage.out.exchanges.last().unwrap().tag, None);
    // What the kernel half cannot know: it breaks off, or carries ids.
    stage.feed(wire.request(11, "/a"));
    stage.feed(wire.frames(wire.answers(), 0, &[Frame::reset(11, 2)]));
    assert_eq!(stage.out.exchanges.last().unwrap().tag, None);
}

#[test]
fn who_does_not_count_has_no_tags() {
    let (mut stage, mut wire) = begun(Side::Client);
    for stream in [1, 3, 5, 7] {
        unary(&mut stage, &mut wire, stream);
    }
    assert!(stage.out.exchanges.iter().all(|exchange| exchange.tag.is_none()));
}

#[test]
fn a_stream_that_waited_goes_on_where_it_was() {
    for side in [Side::Client, Side::Server] {
        let (mut stage, mut wire, stream, tag) = settled(side);
        wire.let_wait += 1;
        let waited = Waited {
            asked: 12,
            asked_messages: 1,
            answering: 1,
            head_ns: 7,
            ..told(&mut wire, stream, tag)
        };
        stage.feed(Record::Waited(waited));
        let one = Data { messages: 1, ..Data::default() };
        let tail = wire.headers(wire.answers(), stream, &[("grpc-status", "5")], true);
        let body = Frame::data(stream, 30, false, one);
        stage.feed(wire.frames(wire.answers(), 0, &[body, tail]));
        let exchange = stage.out.exchanges.last().unwrap();
        assert_eq!((exchange.method.as_str(), exchange.path.as_str()), ("POST", "/a.B/C"));
        assert_eq!((exchange.status, exchange.error, exchange.side), (Some(200), None, side));
        assert_eq!((exchange.start_ns, exchange.first_byte_ns), (waited.first_ns, Some(7)));
        assert_eq!((exchange.request_bytes, exchange.response_bytes), (12, 30));
        let rpc = exchange.rpc.as_deref().unwrap();
        let messages = (rpc.request_messages, rpc.response_messages);
        assert_eq!((rpc.status, messages), (Some(5), (Some(1), Some(1))));
        assert_eq!((stage.lost(), stage.used().1), (vec![], 0));
    }
}

#[test]
fn what_it_said_is_unknown_where_nobody_remembers_it() {
    let (mut stage, mut wire, stream, tag) = settled(Side::Server);
    stage.feed(Record::Waited(told(&mut wire, stream, tag ^ 1)));
    let answer = wire.headers(wire.answers(), stream, &[(":status", "404")], true);
    stage.feed(wire.frames(wire.answers(), 0, &[answer]));
    let exchange = stage.out.exchanges.last().unwrap();
    assert_eq!((exchange.path.as_str(), exchange.status), (exchange::UNKNOWN, Some(404)));
}

#[test]
fn the_end_of_the_connection_ends_it() {
    let (mut stage, mut wire, stream, tag) = settled(Side::Server);
    let waited = told(&mut wire, stream, tag);
    stage.feed(Record::Waited(waited)).feed(wire.socket.closed(event::CLOSE_RESET_RECEIVED));
    let exchange = stage.out.exchanges.last().unwrap();
    assert_eq!(exchange.error, Some(Cause::ResetReceived));
    assert_eq!(stage.used(), (0, 0, 0));
}

#[test]
fn frames_that_passed_unseen_meanwhile_make_it_doubtful() {
    let (mut stage, mut wire, stream, tag) = settled(Side::Server);
    let waited = told(&mut wire, stream, tag);
    stage.feed(wire.desynchronised(wire.answers())).feed(Record::Waited(waited));
    stage.feed(wire.socket.closed(event::CLOSE_RESET_RECEIVED));
    let missed = stage.lost();
    assert_eq!(missed, [(1, lost::DESYNCHRONISED_GAP)], "it may have been answered");
}

/// Of the streams between two that were told some were let wait: only the others are lost.
#[test]
fn those_that_wait_are_not_lost() {
    let (mut stage, mut wire, stream, _) = settled(Side::Server);
    wire.let_wait += 3;
    stage.feed(wire.request(stream + 6, "/b")).feed(wire.answer(stream + 6, "200"));
    assert_eq!(stage.lost(), []);
    // Five begin: two of them are let wait, and the records of two more are missing.
    wire.let_wait += 2;
    for unseen in [8, 10, 12, 14] {
        wire.request(stream + unseen, "/b");
    }
    wire.socket.lost = 2;
    stage.feed(wire.request(stream + 16, "/b"));
    assert_eq!(stage.lost(), [(2, lost::RECORDS_LOST)]);
}

/// A record of one that is told after all may be missing itself.
#[test]
fn one_that_is_told_may_be_lost() {
    let (mut stage, mut wire, stream, tag) = settled(Side::Server);
    wire.let_wait += 3;
    let (_, second) = (told(&mut wire, stream, tag), told(&mut wire, stream + 2, tag));
    let mut second = Record::Waited(second);
    second.header_mut().lost = 1;
    stage.feed(second);
    assert_eq!(stage.lost(), [(1, lost::RECORDS_LOST)]);
    // The third is lost with its connection's last records.
    let Record::Closed(mut closed) = wire.socket.closed(event::CLOSE_FIN) else { unreachable!() };
    closed.header.lost = 1;
    closed.ended.requests = stream / 2 + 3;
    closed.ended.told = 0;
    stage.feed(Record::Closed(closed));
    let calls: u32 = stage.out.lost.iter().map(|lost| lost.calls).sum();
    let broken = stage.out.exchanges.len() - 4;
    assert_eq!(calls as usize + broken, 3, "{:?}", stage.lost());
}

#[test]
fn what_was_counted_is_not_lost_at_the_end() {
    for (counted, missing) in [(5, 0), (3, 2)] {
        let (mut stage, mut wire, stream, _) = settled(Side::Server);
        let Record::Closed(mut closed) = wire.socket.closed(event::CLOSE_FIN) else {
            unreachable!()
        };
        closed.header.lost = 1;
        closed.ended.requests = stream / 2 + 5;
        closed.ended.told = counted;
        stage.feed(Record::Closed(closed));
        let calls: u32 = stage.out.lost.iter().map(|lost| lost.calls).sum();
        assert_eq!(calls, missing);
    }
}

/// Streams go on waiting while the agent forgets the connection.
#[test]
fn a_connection_that_was_forgotten_goes_on() {
    let settings = ProtocolSettings { idle_ns: 100, ..ProtocolSettings::default() };
    let (mut stage, mut wire) = (Stage::with(settings), Wire::new(Side::Server));
    stage.feed(wire.preface()).feed(wire.request(1, "/a")).feed(wire.answer(1, "200"));
    let Stage { protocols, out } = &mut stage;
    protocols.expire(wire.socket.time_ns + 1_000, out);
    assert_eq!(stage.used().0, 0);
    // Two were counted meanwhile, and a third is told.
    wire.let_wait += 3;
    let waited = told(&mut wire, 7, 9);
    stage.feed(Record::Waited(waited)).feed(wire.answer(7, "204"));
    assert_eq!(stage.told()[1], (exchange::UNKNOWN, Some(204), None));
    stage.feed(wire.request(9, "/a")).feed(wire.answer(9, "200"));
    assert_eq!(stage.lost(), []);
}

/// Where records are missing the versions say whether they held a block that matters.
#[test]
fn a_table_is_known_as_long_as_nothing_changed_it_unseen() {
    for changes in [false, true] {
        let (mut stage, mut wire) = begun(Side::Server);
        stage.feed(wire.request(1, "/a")).feed(wire.answer(1, "200"));
        // This one is not fed.
        wire.request(3, if changes { "/b" } else { "/a" });
        wire.socket.lost = 1;
        stage.feed(wire.request(5, "/a")).feed(wire.answer(5, "200"));
        let path = if changes { exchange::UNKNOWN } else { "/a" };
        assert_eq!(stage.told()[1].0, path);
        assert_eq!(stage.lost(), [(1, lost::RECORDS_LOST)]);
    }
}

/// A block of which a piece is missing may have held anything.
#[test]
fn a_block_that_is_not_whole_leaves_nothing_known() {
    let (mut stage, mut wire) = begun(Side::Server);
    let frame = wire.asking(1, "/a-path-that-is-long-enough", true);
    let pieces = wire.pass(wire.asks(), &[frame], 8);
    let record = wire.record(wire.asks(), 0, &pieces[..1]);
    stage.feed(record);
    wire.socket.lost = 1;
    stage.feed(wire.request(3, "/a-path-that-is-long-enough")).feed(wire.answer(3, "200"));
    assert_eq!(stage.told(), [(exchange::UNKNOWN, Some(200), None)]);
}
