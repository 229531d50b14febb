//! Calls that repeat: each is counted or told, and never both.

extern crate std;

use std::format;
use std::vec;
use std::vec::Vec;

use super::*;

/// What is told of stream 3 where it waited.
const WAITED: &str = "waited 3: 12 (1) sent, 0 (0)";
const ANSWERING: &str = "waited 3: 12 (1) sent, 0 (0) answering";
const IN_MIDST: &str = "waited 3: 12 (1) sent, 25 (1) answering";

/// Nothing is counted, and this is told, once the answer to stream 3 is this.
fn is_told(answer: &[Vec<u8>], told: &[&str]) {
    let mut connection = counting();
    connection.ask(&asked(3));
    connection.answer(&answer.concat());
    assert_eq!(connection.told(), told);
    assert!(connection.port.added.is_empty());
    let waits = connection.waits();
    assert_eq!((waits.let_wait, waits.decided, waits.told), (1, 1, 1));
    // It goes on as before.
    connection.ask(&asked(5));
    connection.answer(&answered(5));
    assert_eq!(connection.port.added.len(), 1);
    assert_eq!(connection.told().len(), told.len());
}

#[test]
fn a_call_that_repeats_is_counted() {
    for asks in [EGRESS, INGRESS] {
        let mut connection = counting_of(asks);
        connection.ask(&asked(3));
        let began_ns = connection.port.now_ns;
        assert!(connection.waits().wait());
        connection.answer(&answered(3));
        assert!(connection.told().is_empty(), "{:?}", connection.told());
        let added = connection.port.added[0];
        assert_eq!((added.asked, added.answer.body), (12, 25));
        assert_eq!(added.answer.nanoseconds, connection.port.now_ns - began_ns);
        assert_eq!(connection.port.slots[0].counts.calls[0], 1);
        assert_eq!(connection.port.claims, 0);
        let waits = connection.waits();
        assert_eq!((waits.let_wait, waits.decided, waits.told), (1, 1, 0));
    }
}

#[test]
fn the_parts_of_an_answer_may_come_in_packets_of_their_own() {
    let mut connection = counting();
    connection.ask(&asked(3));
    connection.answer(&headers(3, 0, &granted()));
    connection.answer(&data(3, 0, &message(20)));
    connection.answer(&headers(3, FLAG_END_STREAM, &status(0)));
    assert_eq!(connection.port.added.len(), 1);
    assert!(connection.told().is_empty());
}

#[test]
fn many_calls_of_one_packet_are_counted() {
    let mut connection = counting();
    let streams = || (3..35).step_by(2);
    connection.ask(&streams().flat_map(asked).collect::<Vec<_>>());
    connection.answer(&streams().rev().flat_map(answered).collect::<Vec<_>>());
    assert_eq!(connection.port.added.len(), 16);
    assert!(connection.told().is_empty());
}

#[test]
fn frames_of_the_connection_are_passed_over() {
    use crate::event::{FRAME_PING, FRAME_PRIORITY, FRAME_SETTINGS, FRAME_WINDOW_UPDATE};
    let others = [
        frame(FRAME_PING, 0, 0, &[0; 8]),
        frame(FRAME_WINDOW_UPDATE, 0, 3, &[0, 0, 1, 0]),
        frame(FRAME_SETTINGS, 1, 0, &[]),
        frame(FRAME_PRIORITY, 0, 3, &[0; 5]),
        frame(200, 9, 7, b"an extension"),
    ];
    let mut connection = counting();
    connection.ask(&[others.concat(), asked(3), others.concat()].concat());
    connection.answer(&[others.concat(), answered(3), others.concat()].concat());
    assert_eq!(connection.port.added.len(), 1);
    assert!(connection.told().is_empty());
}

#[test]
fn an_answer_of_headers_alone_is_counted() {
    let mut connection = Connection::new();
    let (ask, missing) = ([0x82, 0x87, 0x84], [0x8d]);
    for stream in [1, 3, 5] {
        connection.ask(&headers(stream, FLAG_END_STREAM, &ask));
        connection.answer(&headers(stream, FLAG_END_STREAM, &missing));
        connection.count(stream);
    }
    assert_eq!(connection.port.added.len(), 2);
    // The same head, and a body behind it.
    connection.ask(&headers(7, FLAG_END_STREAM, &ask));
    connection.port.told.clear();
    connection.answer(&[headers(7, 0, &missing), data(7, FLAG_END_STREAM, &[0; 200])].concat());
    assert_eq!(connection.told(), ["waited 7: 0 (0) sent, 0 (0) answering", "< 7 200 end"]);
}

#[test]
fn bodies_that_are_no_messages_are_counted_by_their_bytes() {
    let mut connection = Connection::new();
    let call = |connection: &mut Connection, stream, length| {
        connection.ask(&headers(stream, FLAG_END_STREAM, &[0x82, 0x87, 0x84]));
        let (first, last) = (data(stream, 0, &[b'<'; 3]), vec![b'x'; length]);
        let last = data(stream, FLAG_END_STREAM, &last);
        connection.answer(&[headers(stream, 0, &[0x88]), first, last].concat());
    };
    call(&mut connection, 1, 100);
    assert!(connection.count(1));
    connection.port.told.clear();
    call(&mut connection, 3, 0);
    call(&mut connection, 5, 125);
    let bodies = connection.port.added.iter().map(|added| added.answer.body);
    assert_eq!(bodies.collect::<Vec<_>>(), [3, 128]);
    call(&mut connection, 7, 126);
    assert_eq!(connection.told(), ["waited 7: 0 (0) sent, 3 (0) answering", "< 7 126 end"]);
}

#[test]
fn an_answer_with_another_head_is_told() {
    let end = || headers(3, FLAG_END_STREAM, &status(0));
    is_told(
        &[headers(3, 0, &[0x8d]), data(3, 0, &message(20)), end()],
        &[WAITED, "< 3 headers", "< 3 25 (1)", "< 3 headers end"],
    );
    is_told(&[headers(3, FLAG_END_STREAM, &granted())], &[WAITED, "< 3 headers end"]);
    is_told(
        &[data(3, 0, &message(20)), headers(3, 0, &granted()), end()],
        &[WAITED, "< 3 25 (1)", "< 3 headers", "< 3 headers end"],
    );
}

#[test]
fn an_answer_with_another_end_is_told() {
    let (head, body) = (|| headers(3, 0, &granted()), || data(3, 0, &message(20)));
    is_told(
        &[head(), body(), headers(3, FLAG_END_STREAM, &status(5))],
        &[IN_MIDST, "< 3 headers end"],
    );
    is_told(&[head(), data(3, FLAG_END_STREAM, &message(20))], &[ANSWERING, "< 3 25 (1) end"]);
    is_told(
        &[head(), body(), headers(3, 0, &status(0)), data(3, FLAG_END_STREAM, &[])],
        &[IN_MIDST, "< 3 headers", "< 3 0 (0) end"],
    );
}

#[test]
fn an_answer_of_another_size_is_told() {
    let (head, end) = (|| headers(3, 0, &granted()), || headers(3, FLAG_END_STREAM, &status(0)));
    is_told(
        &[head(), data(3, 0, &message(200)), end()],
        &["waited 3: 12 (1) sent, 205 (1) answering", "< 3 headers end"],
    );
    is_told(&[head(), end()], &[ANSWERING, "< 3 headers end"]);
    is_told(
        &[head(), data(3, 0, &message(5)), data(3, 0, &message(5)), end()],
        &["waited 3: 12 (1) sent, 20 (2) answering", "< 3 headers end"],
    );
}

#[test]
fn messages_that_are_not_in_frames_of_their_own_are_told() {
    let (head, end) = (|| headers(3, 0, &granted()), || headers(3, FLAG_END_STREAM, &status(0)));
    let two = [message(5), message(5)].concat();
    is_told(&[head(), data(3, 0, &two), end()], &[ANSWERING, "< 3 20 (2)", "< 3 headers end"]);
    is_told(
        &[head(), data(3, 0, &two[..12]), data(3, 0, &two[12..]), end()],
        &[ANSWERING, "< 3 12 (1)", "< 3 8 (1)", "< 3 headers end"],
    );
    is_told(&[head(), data(3, 0, b"abc"), end()], &[ANSWERING, "< 3 3 (0)", "< 3 headers end"]);
}

#[test]
fn a_request_of_another_size_is_told_with_its_answer() {
    for (messages, asked) in [(vec![message(200)], 205), (vec![], 0), (vec![message(1); 2], 12)] {
        let mut connection = counting();
        let body = messages.iter().flat_map(|message| data(3, 0, message)).collect();
        connection.ask(&[headers(3, 0, &grpc()), body, data(3, FLAG_END_STREAM, &[])].concat());
        assert!(connection.told().is_empty());
        connection.answer(&answered(3));
        let waited = std::format!("waited 3: {asked} ({}) sent, 25 (1) answering", messages.len());
        assert_eq!(connection.told(), [&waited, "< 3 headers end"]);
        assert!(connection.port.added.is_empty());
    }
}

#[test]
fn another_request_is_told_and_takes_none_with_it() {
    let mut connection = counting();
    let other = headers(5, FLAG_END_STREAM, &[0x82, 0x87, 0x84]);
    connection.ask(&[asked(3), other, asked(7)].concat());
    connection.answer(&[answered(7), headers(5, FLAG_END_STREAM, &[0x88]), answered(3)].concat());
    assert_eq!(connection.told(), ["> 5 headers end", "< 5 headers end"]);
    assert_eq!(connection.port.added.len(), 2);
    let Told::Frame(frame) = &connection.port.told[0] else { panic!() };
    assert_eq!(frame.waited, 1, "let wait before it");
}

#[test]
fn the_body_of_a_request_may_not_come_later() {
    let mut connection = counting();
    connection.ask(&headers(3, 0, &grpc()));
    assert!(connection.waits().wait());
    connection.ask(&data(3, FLAG_END_STREAM, &message(7)));
    assert_eq!(connection.told(), ["waited 3: 0 (0), 0 (0)", "> 3 12 (1) end"]);
    assert_eq!(connection.port.claims, 1, "the answers were claimed");
    connection.answer(&answered(3));
    assert_eq!(connection.told().len(), 5);
    assert!(connection.port.added.is_empty());
}

#[test]
fn an_answer_before_the_end_of_its_request_is_told() {
    let mut connection = counting();
    connection.ask(&[headers(3, 0, &grpc()), data(3, 0, &message(7))].concat());
    connection.answer(&answered(3));
    let waited = "waited 3: 12 (1), 25 (1) answering";
    assert_eq!(connection.told(), [waited, "< 3 headers end"]);
    connection.ask(&data(3, FLAG_END_STREAM, &[]));
    assert_eq!(connection.told()[2..], ["> 3 0 (0) end"]);
}

#[test]
fn a_request_with_something_behind_its_end_is_told() {
    let mut connection = counting();
    connection.ask(&[asked(3), data(3, 0, &message(1))].concat());
    assert_eq!(connection.told(), [WAITED, "> 3 6 (1)"]);
    let mut connection = counting();
    let trailers = headers(3, FLAG_END_STREAM, &status(0));
    connection.ask(&[headers(3, 0, &grpc()), data(3, 0, &message(7)), trailers].concat());
    assert_eq!(connection.told(), ["waited 3: 12 (1), 0 (0)", "> 3 headers end"]);
}

#[test]
fn more_streams_than_there_are_places_are_told() {
    let mut connection = counting();
    let last = 3 + 2 * STREAMS as u32;
    let streams = || (3..=last).step_by(2);
    connection.ask(&streams().flat_map(asked).collect::<Vec<_>>());
    let told = [format!("> {last} headers"), format!("> {last} 12 (1) end")];
    assert_eq!(connection.told(), told);
    connection.answer(&streams().flat_map(answered).collect::<Vec<_>>());
    assert_eq!(connection.port.added.len(), STREAMS);
    assert_eq!(connection.told().len(), 5);
}

#[test]
fn where_there_is_no_room_all_are_told() {
    let mut connection = counting();
    connection.port.is_full = true;
    connection.ask(&asked(3));
    connection.answer(&answered(3));
    assert_eq!(connection.told().len(), 5);
}

#[test]
fn numbers_that_do_not_grow_are_told() {
    let mut connection = counting();
    connection.ask(&asked(5));
    connection.ask(&asked(3));
    connection.ask(&asked(5));
    connection.ask(&asked(8));
    assert_eq!(
        connection.told(),
        [
            "> 3 headers",
            "> 3 12 (1) end",
            "waited 5: 12 (1) sent, 0 (0)",
            "> 5 headers",
            "> 5 12 (1) end",
            "> 8 headers",
            "> 8 12 (1) end",
        ]
    );
}

#[test]
fn a_table_that_changes_changes_what_blocks_say() {
    let insert = [0x82, 0x40, 1, b'a', 1, b'b'];
    let mut connection = counting();
    connection.ask(&[asked(3), headers(5, FLAG_END_STREAM, &insert), asked(7)].concat());
    let told = ["> 5 headers end", "> 7 headers", "> 7 12 (1) end"];
    assert_eq!(connection.told(), told, "what waits was begun before");
    connection.answer(&answered(3));
    assert_eq!(connection.port.added.len(), 1);
    // The answers' table is another one.
    let mut connection = counting();
    connection.ask(&[asked(3), asked(5)].concat());
    connection.answer(&[headers(9, FLAG_END_STREAM, &insert), answered(3)].concat());
    let told = ["< 9 headers end", WAITED, "< 3 headers", "< 3 25 (1)", "< 3 headers end"];
    assert_eq!(connection.told(), told);
    let mut connection = counting();
    connection.ask(&asked(3));
    connection.answer(&[headers(3, 0, &granted()), data(3, 0, &message(20))].concat());
    connection.answer(&headers(9, FLAG_END_STREAM, &insert));
    connection.answer(&headers(3, FLAG_END_STREAM, &status(0)));
    assert_eq!(connection.told(), ["< 9 headers end", IN_MIDST, "< 3 headers end"]);
}

#[test]
fn a_packet_of_more_frames_than_one_program_looks_at_is_looked_at_to_its_end() {
    for frames in [100, 126, 127, 128, 129, 255, 300] {
        let mut connection = Connection::new();
        let call = |connection: &mut Connection, stream| {
            connection.ask(&asked(stream));
            let messages: Vec<u8> =
                (0..frames).flat_map(|_| data(stream, 0, &message(1))).collect();
            let end = headers(stream, FLAG_END_STREAM, &status(0));
            connection.answer(&[headers(stream, 0, &granted()), messages, end].concat());
        };
        call(&mut connection, 1);
        assert!(connection.count(1));
        connection.port.told.clear();
        call(&mut connection, 3);
        assert!(connection.told().is_empty(), "{frames} frames: {:?}", connection.told());
        assert_eq!(connection.port.added.len(), 1, "{frames} frames");
    }
}

#[test]
fn a_packet_that_goes_to_and_fro_too_often_has_all_told() {
    let mut connection = counting();
    connection.ask(&[asked(3), asked(5)].concat());
    let other = headers(9, FLAG_END_STREAM, &[0x8d]);
    connection.answer(&[other.repeat(5), answered(5)].concat());
    assert_eq!(connection.port.added.len(), 1);
    connection.answer(&other.repeat(30));
    assert!(connection.told().contains(&WAITED.into()), "{:?}", connection.told());
    assert_eq!(connection.told().len(), 36);
    assert!(connection.parts < 20, "{}", connection.parts);
}

#[test]
fn a_slot_that_is_given_back_counts_nothing_more() {
    let mut connection = counting();
    connection.ask(&asked(3));
    connection.give_back(0);
    connection.answer(&answered(3));
    assert_eq!(connection.told(), [IN_MIDST, "< 3 headers end"]);
    connection.ask(&asked(5));
    assert_eq!(connection.told().len(), 4);
}

#[test]
fn messages_are_counted_to_the_end_where_another_kind_takes_the_slot() {
    let mut connection = counting();
    connection.ask(&asked(3));
    connection.answer(&headers(3, 0, &granted()));
    // Calls without messages take the slot while the stream waits.
    connection.give_back(0);
    connection.ask(&headers(5, FLAG_END_STREAM, &[0x82, 0x87, 0x84]));
    connection.answer(&headers(5, FLAG_END_STREAM, &[0x88]));
    assert!(connection.count(5));
    assert_eq!(connection.port.slots.len(), 1);
    connection.port.told.clear();
    connection
        .answer(&[data(3, 0, &message(20)), headers(3, FLAG_END_STREAM, &status(0))].concat());
    assert_eq!(connection.told(), [IN_MIDST, "< 3 headers end"]);
}
