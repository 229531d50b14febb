//! Any datagrams that a socket receives from port 53: no panic, the table keeps its bound, and
//! no name holds what steers a terminal.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use meshtap::attribution::dns::Names;

const BOUND: usize = 16;
const SECOND_NS: u64 = 1_000_000_000;

fuzz_target!(|bytes: &[u8]| {
    let mut names = Names::new(BOUND, SECOND_NS, 60 * SECOND_NS);
    // Several messages, each behind one byte that says its length.
    let mut rest = bytes;
    let mut messages = 0;
    while let Some((length, tail)) = rest.split_first() {
        let (message, behind) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = behind;
        messages += 1;
        names.hear(message, 1, messages * SECOND_NS);
        let (used, bound) = names.occupancy();
        assert!(used <= bound && bound == BOUND);
        assert!(names.unreadable() <= messages);
        // Addresses stand in messages as they are.
        for window in message.windows(4) {
            let address = IpAddr::from([window[0], window[1], window[2], window[3]]);
            if let Some(name) = names.name(address, 1, messages * SECOND_NS) {
                assert!(!name.is_empty() && !name.contains(char::is_control), "{name:?}");
            }
        }
    }
});
