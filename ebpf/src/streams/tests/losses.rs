//! Streams that wait while something else happens: all that may concern them has them told.

extern crate std;

use std::vec::Vec;

use super::*;
use crate::event::{
    FLAG_PADDED, FLAG_PRIORITY, FRAME_CONTINUATION, FRAME_GOAWAY, FRAME_PUSH_PROMISE,
    FRAME_RST_STREAM, FRAME_SETTINGS,
};

const WAITED: &str = "waited 3: 12 (1) sent, 0 (0)";
const ANSWERING: &str = "waited 3: 12 (1) sent, 0 (0) answering";

/// A connection on which streams 3 and 5 wait.
fn waiting() -> Connection {
    let mut connection = counting();
    connection.ask(&[asked(3), asked(5)].concat());
    connection
}

fn reset(stream: u32) -> Vec<u8> {
    frame(FRAME_RST_STREAM, 0, stream, &[0, 0, 0, 8])
}

#[test]
fn a_stream_that_waits_is_told_where_it_is_reset() {
    let mut connection = waiting();
    connection.ask(&reset(3));
    connection.answer(&answered(5));
    assert_eq!(connection.told(), [WAITED, "> 3 reset"]);
    assert_eq!(connection.port.added.len(), 1);
    let mut connection = waiting();
    connection.answer(&[headers(3, 0, &granted()), reset(3), answered(5)].concat());
    assert_eq!(connection.told(), [ANSWERING, "< 3 reset"]);
    assert_eq!(connection.port.added.len(), 1);
}

#[test]
fn all_are_told_where_the_connection_goes_away() {
    for direction in [EGRESS, INGRESS] {
        let mut connection = waiting();
        connection.send(direction, 0, &frame(FRAME_GOAWAY, 0, 0, &[0; 8]));
        let told = connection.told();
        assert_eq!(told[..2], [WAITED, "waited 5: 12 (1) sent, 0 (0)"]);
        assert!(told[2].ends_with(" 0 goaway"));
        connection.answer(&[answered(3), answered(5)].concat());
        assert_eq!(connection.told().len(), 9);
        assert!(connection.port.added.is_empty());
        // What begins from here on may be counted.
        connection.ask(&asked(7));
        connection.answer(&answered(7));
        assert_eq!(connection.port.added.len(), 1);
    }
}

#[test]
fn settings_are_told_and_concern_no_stream() {
    let settings = frame(FRAME_SETTINGS, 0, 0, &[0, 1, 0, 0, 16, 0]);
    let mut connection = waiting();
    connection.answer(&[settings.clone(), answered(3)].concat());
    connection.ask(&[settings, asked(7)].concat());
    connection.answer(&[answered(7), answered(5)].concat());
    assert_eq!(connection.told(), ["< 0 settings", "> 0 settings"]);
    assert_eq!(connection.port.added.len(), 3);
}

#[test]
fn a_promise_is_told_and_may_change_the_table() {
    let mut connection = waiting();
    let promise = frame(FRAME_PUSH_PROMISE, FLAG_END_HEADERS, 3, &[0, 0, 0, 2, 0x82]);
    connection.answer(&[answered(5), promise, answered(3)].concat());
    assert_eq!(
        connection.told(),
        ["< 3 kind 5", WAITED, "< 3 headers", "< 3 25 (1)", "< 3 headers end"]
    );
    assert_eq!(connection.port.added.len(), 1);
}

#[test]
fn a_block_in_several_frames_is_told() {
    let mut connection = waiting();
    let block = granted();
    let (first, rest) = block.split_at(4);
    let parts = [
        frame(FRAME_HEADERS, 0, 3, first),
        frame(FRAME_CONTINUATION, FLAG_END_HEADERS, 3, rest),
        answered(5),
    ];
    connection.answer(&parts.concat());
    let told = connection.told();
    assert_eq!(told[..3], [WAITED, "< 3 headers", "< 3 kind 9"]);
    assert_eq!(told[3], "waited 5: 12 (1) sent, 0 (0)", "the table may be another one");
    let asked = frame(FRAME_HEADERS, 0, 7, &grpc());
    connection.ask(&[asked, frame(FRAME_CONTINUATION, FLAG_END_HEADERS, 7, &[])].concat());
    assert_eq!(connection.told()[7..], ["> 7 headers", "> 7 kind 9"]);
}

#[test]
fn frames_with_padding_or_a_priority_are_told() {
    let padded = |bytes: &[u8]| [&[2], bytes, &[0, 0]].concat();
    let mut connection = waiting();
    let head = frame(FRAME_HEADERS, FLAG_END_HEADERS | FLAG_PADDED, 3, &padded(&granted()));
    connection.answer(&head);
    assert_eq!(connection.told(), [WAITED, "< 3 headers"]);
    let mut connection = waiting();
    let body = data(3, FLAG_PADDED, &padded(&message(20)));
    connection.answer(&[headers(3, 0, &granted()), body].concat());
    assert_eq!(connection.told(), [ANSWERING, "< 3 25 (1)"]);
    let mut connection = waiting();
    let flags = FLAG_END_HEADERS | FLAG_PRIORITY | FLAG_END_STREAM;
    connection.ask(&frame(FRAME_HEADERS, flags, 7, &[&[0; 5], &*grpc()].concat()));
    assert_eq!(connection.told(), ["> 7 headers end"]);
}

#[test]
fn a_packet_out_of_its_place_has_all_told() {
    let mut connection = waiting();
    let (first, second) = (answered(3), answered(5));
    let place = connection.skip(&first);
    connection.answer(&second);
    assert!(connection.told().is_empty(), "its bytes are set aside");
    connection.send_at(INGRESS, 0, place, &first);
    let told = connection.told();
    assert_eq!(told[..2], [WAITED, "waited 5: 12 (1) sent, 0 (0)"]);
    assert_eq!(told.len(), 8);
    connection.ask(&asked(7));
    connection.answer(&answered(7));
    assert_eq!(connection.port.added.len(), 1);
}

#[test]
fn a_packet_that_comes_again_is_none() {
    let mut connection = waiting();
    let (place, answer) = (connection.sequences[0], answered(3));
    connection.answer(&answer);
    connection.send_at(INGRESS, 0, place, &answer);
    connection.answer(&answered(5));
    assert_eq!(connection.port.added.len(), 2);
    assert!(connection.told().is_empty());
}

#[test]
fn what_passed_unseen_has_all_told() {
    let mut connection = Connection::new();
    let ask = |connection: &mut Connection, stream| {
        connection.ask(&headers(stream, FLAG_END_STREAM, &[0x82, 0x87, 0x84]));
    };
    let parts = |stream| {
        let (first, last) = (data(stream, 0, &[b'x'; 40]), data(stream, FLAG_END_STREAM, b"xyz"));
        (headers(stream, 0, &[0x88]), first, last)
    };
    ask(&mut connection, 1);
    let (head, first, last) = parts(1);
    connection.answer(&[head, first, last].concat());
    assert!(connection.count(1));
    connection.port.told.clear();
    ask(&mut connection, 3);
    let (head, first, last) = parts(3);
    connection.answer(&head);
    connection.miss(&first);
    connection.answer(&last);
    let waited = "waited 3: 0 (0) sent, 0 (0) answering";
    assert_eq!(connection.told(), ["lost", waited, "< 3 3 (0) end"]);
    assert!(connection.port.added.is_empty(), "with bytes that were not seen");
}

#[test]
fn what_cannot_be_a_frame_has_all_told() {
    let mut connection = waiting();
    connection.answer(&[answered(5), frame(FRAME_DATA, 0, 0, b"of no stream")].concat());
    assert_eq!(connection.told(), [WAITED, "lost"]);
    assert_eq!(connection.port.added.len(), 1);
}

#[test]
fn the_end_of_a_direction_has_all_told() {
    for direction in [EGRESS, INGRESS] {
        for flags in [FIN, RESET] {
            let mut connection = waiting();
            connection.send(direction, flags, &[]);
            assert_eq!(connection.told(), [WAITED, "waited 5: 12 (1) sent, 0 (0)"]);
            assert!(!connection.waits().wait());
        }
    }
    let mut connection = waiting();
    connection.send(INGRESS, FIN, &answered(3));
    assert_eq!(connection.told().len(), 5, "{:?}", connection.told());
    assert!(connection.port.added.is_empty());
}

#[test]
fn the_end_of_the_socket_has_all_told() {
    let mut connection = waiting();
    connection.answer(&headers(3, 0, &granted()));
    connection.close();
    assert_eq!(connection.told(), [ANSWERING, "waited 5: 12 (1) sent, 0 (0)"]);
}

#[test]
fn a_frame_that_is_cut_has_its_stream_told() {
    let (head, body) = (headers(3, 0, &granted()), data(3, 0, &message(20)));
    let rest = [headers(3, FLAG_END_STREAM, &status(0)), answered(5)].concat();
    let answer = [head.clone(), body, rest].concat();
    for cut in 1..answer.len() {
        let mut connection = waiting();
        connection.answer(&answer[..cut]);
        connection.answer(&answer[cut..]);
        let told = connection.told();
        let (added, waits) = (connection.port.added.len(), connection.waits());
        assert_eq!(added + waits.told as usize, 2, "{cut}: {told:?}");
        let frames = told.iter().filter(|told| told.starts_with('<')).count();
        assert_eq!((waits.let_wait, waits.decided), (2, 2));
        let answers = [head.len(), head.len() + 34, head.len() + 34 + 24];
        if answers.contains(&cut) {
            assert_eq!((added, frames), (2, 0), "{cut}: {told:?}");
        }
        assert!(frames > 0 || added == 2, "{cut}");
    }
    let request = asked(7);
    for cut in 1..request.len() {
        let mut connection = counting();
        connection.ask(&request[..cut]);
        connection.ask(&request[cut..]);
        connection.answer(&answered(7));
        assert!(connection.port.added.is_empty());
        assert!(connection.told().len() >= 3);
    }
}

#[test]
fn a_packet_whose_stream_cannot_be_told_is_lost_and_the_next_tells() {
    for asks in [EGRESS, INGRESS] {
        let mut connection = counting_of(asks);
        connection.ask(&[asked(3), asked(5)].concat());
        connection.port.refuses = true;
        connection.ask(&reset(3));
        connection.port.refuses = false;
        connection.ask(&asked(7));
        connection.answer(&[answered(3), answered(5), answered(7)].concat());
        let told = connection.told();
        assert_eq!(told[..3], ["lost", WAITED, "waited 5: 12 (1) sent, 0 (0)"]);
        assert_eq!(told[3..5], ["> 7 headers", "> 7 12 (1) end"]);
        assert_eq!(told.len(), 14);
        assert!(connection.port.added.is_empty());
    }
}

#[test]
fn the_body_of_a_stream_that_does_not_wait_claims_no_answers() {
    let mut connection = waiting();
    connection.ask(&headers(7, 0, &[0x83, 0x87, 0x84]));
    for _ in 0..20 {
        connection.ask(&data(7, 0, &[b'x'; 1000]));
    }
    connection.answer(&[answered(3), answered(5)].concat());
    assert_eq!(connection.port.added.len(), 2);
    assert_eq!(connection.port.claims, 0);
}
