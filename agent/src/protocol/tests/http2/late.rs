//! Connections whose beginning was not seen.

use super::*;

/// A connection on which 1 and 3 were asked and 1 was answered before anybody listened.
fn old(side: Side) -> Wire {
    let mut wire = Wire::new(side);
    wire.preface();
    wire.request(1, "/old");
    wire.request(3, "/old");
    wire.answer_with(1, &[(":status", "201"), ("x-a", "b")], true);
    wire
}

#[test]
fn what_began_before_does_not_count() {
    for flags in [FRAMES_JOINED, 0] {
        let (mut stage, mut wire) = (Stage::new(), old(Side::Client));
        let answer = wire.headers(wire.answers(), 3, &OK, true);
        stage.feed(wire.frames(wire.answers(), flags, &[answer]));
        let request = wire.asking(5, "/old", true);
        stage.feed(wire.frames(wire.asks(), flags, &[request]));
        stage.feed(wire.answer(5, "404"));
        assert_eq!(stage.lost(), []);
        assert_eq!(stage.told(), [(exchange::UNKNOWN, Some(404), None)]);
        assert_eq!(stage.only().method.as_str(), "GET");
        stage.feed(wire.request(7, "/new")).feed(wire.answer(7, "200"));
        stage.feed(wire.request(9, "/new")).feed(wire.answer(9, "201"));
        let told: Vec<_> = stage.told()[1..].to_vec();
        // 201 was inserted before, and is named by its index.
        assert_eq!(told, [("/new", Some(200), None), ("/new", None, None)]);
        stage.feed(wire.socket.closed(event::CLOSE_FIN));
        assert_eq!((stage.lost(), stage.used()), (vec![], (0, 0, 0)));
    }
}

#[test]
fn nothing_is_guessed_before_it_is_known_who_asks() {
    let (mut stage, mut wire) = (Stage::new(), old(Side::Server));
    let (asks, answers) = (wire.asks(), wire.answers());
    let data = Frame::data(3, 7, true, Data::default());
    stage.feed(wire.frames(answers, FRAMES_JOINED, std::slice::from_ref(&data)));
    let trailers = wire.headers(answers, 3, &[("x-a", "b")], true);
    stage.feed(wire.frames(answers, 0, &[trailers, Frame::reset(3, 0), Frame::goaway(3)]));
    stage.feed(wire.frames(asks, FRAMES_JOINED, &[data]));
    assert_eq!(stage.used().1, 0);
    stage.feed(wire.socket.closed(event::CLOSE_RESET_SENT));
    assert_eq!((stage.out.exchanges.len(), stage.lost()), (0, vec![]));
}

#[test]
fn a_late_connection_that_had_not_begun_is_as_any_other() {
    let (mut stage, mut wire) = (Stage::new(), Wire::new(Side::Server));
    stage.feed(wire.socket.opened(event::OPENED_LATE)).feed(wire.preface());
    stage.feed(wire.request(1, "/a")).feed(wire.desynchronised(wire.asks()));
    wire.request(3, "/b");
    let request = wire.asking(5, "/c", true);
    stage.feed(wire.frames(wire.asks(), FRAMES_JOINED, &[request]));
    assert_eq!(stage.lost(), [(1, lost::DESYNCHRONISED_GAP)]);
}

#[test]
fn records_missing_before_a_connection_is_known() {
    for (late, calls) in [(false, vec![(1, lost::RECORDS_LOST)]), (true, vec![])] {
        let (mut stage, mut wire) = (Stage::new(), old(Side::Client));
        if late {
            stage.feed(wire.socket.opened(event::OPENED_LATE));
        }
        wire.socket.lost = 1;
        stage.feed(wire.request(5, "/a")).feed(wire.answer(5, "200"));
        assert_eq!(stage.lost(), calls, "no more than records are missing");
        assert_eq!(stage.out.exchanges.len(), 1);
    }
}

#[test]
fn a_tunnel_is_known_by_what_it_does_not_have() {
    let (mut stage, mut wire) = (Stage::new(), Wire::new(Side::Client));
    let asks = wire.asks();
    let headers = [(":method", "CONNECT"), (":authority", "10.0.0.1:80")];
    wire.headers(asks, 1, &headers, false);
    stage.feed(wire.frames(asks, FRAMES_JOINED, &[]));
    let request = wire.asking(3, "/a", true);
    let tunnel = wire.headers(asks, 5, &[headers[0], (":authority", "10.0.0.2:80")], false);
    stage.feed(wire.frames(asks, 0, &[request, tunnel]));
    assert_eq!(stage.used().1, 1);
    assert_eq!(stage.protocols.occupancy().counters.tunnels, 1);
}
