//! Connections whose beginning was not seen: nothing counts until an answer proves them.

use meshtap_ebpf::event::{CLOSE_FIN, LOST_GAP, OPENED_LATE};

use super::*;

#[test]
fn what_was_never_answered_on_a_late_connection_does_not_count() {
    let endings: [fn(&mut Socket) -> Record; 3] =
        [|s| s.closed(CLOSE_FIN), |s| s.reset(INGRESS), |s| s.desynchronised(1, LOST_GAP)];
    for ending in endings {
        for (flags, told) in [(OPENED_LATE, 0), (0, 1)] {
            let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Server));
            stage.feed(socket.opened(flags)).feed(socket.request(0, "/body"));
            stage.feed(ending(&mut socket));
            let lost: u32 = stage.lost().iter().map(|(calls, _)| calls).sum();
            assert_eq!(stage.out.exchanges.len() + lost as usize, told);
            assert_eq!(stage.used().1, 0, "nothing is kept either");
        }
    }
}

#[test]
fn an_answer_proves_a_late_connection() {
    let (mut stage, mut socket) = (Stage::new(), Socket::new(Side::Client));
    stage.feed(socket.opened(OPENED_LATE)).feed(socket.request(0, "/a"));
    stage.feed(socket.answer(0, 200, 2)).feed(socket.request(1, "/b"));
    stage.feed(socket.closed(CLOSE_FIN));
    let told = [("/a", Some(200), None), ("/b", None, Some(Cause::Closed))];
    assert_eq!(stage.told(), told);
}

#[test]
fn a_connection_opened_while_hooks_were_missing_is_late() {
    for (complete_ns, told) in [(2_000, 0), (0, 1)] {
        let mut stage =
            Stage::with(ProtocolSettings { complete_ns, ..ProtocolSettings::default() });
        let mut socket = Socket::new(Side::Server);
        stage.feed(socket.opened(0)).feed(socket.request(0, "/readyz"));
        stage.feed(socket.closed(CLOSE_FIN));
        assert_eq!(stage.out.exchanges.len(), told);
        assert_eq!(stage.lost(), []);
    }
}
