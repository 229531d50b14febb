//! Answers of netlink, of sockets and of connection tracking, whatever bytes they are.
//!
//! The first byte says of which; of a row of messages each is behind one that says its length,
//! and gets a header that fits, so that what is in it is reached.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meshtap::attribution::host::conntrack;
use meshtap::attribution::inventory::diag;

/// Length of a message's header.
const HEADER: usize = 16;
/// The number of the question.
const NUMBER: u32 = 7;

fn message(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = (HEADER + body.len()) as u32;
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend([0; 2]);
    bytes.extend(NUMBER.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend_from_slice(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn sockets(bytes: &[u8]) {
    let mut rows = Vec::new();
    let ended = diag::read(bytes, &mut rows);
    // Every row had a header and the fixed part of an answer (`inet_diag_msg`).
    assert!(rows.len() * (HEADER + 72) <= bytes.len() + 3);
    if bytes.is_empty() {
        assert!(matches!(ended, Ok(false)));
    }
}

fn tracked(bytes: &[u8]) {
    if let Ok(conntrack::Answer::Entry(entry)) = conntrack::read(bytes, NUMBER) {
        assert_eq!(
            bytes.get(8..12),
            Some(&NUMBER.to_ne_bytes()[..]),
            "an answer to another question"
        );
        // Ports stand in messages in network order.
        for port in [entry.original.0.port(), entry.reply.1.port()] {
            assert!(bytes.windows(2).any(|two| two == port.to_be_bytes()), "{port} was not said");
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, rest)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => sockets(rest),
        1 => tracked(rest),
        2 => {
            // `SOCK_DIAG_BY_FAMILY` and those of all protocols: no operation, errors, the end.
            const KINDS: [u16; 4] = [20, 20, 2, 3];
            let (mut left, mut all) = (rest, Vec::new());
            while let Some(([kind, length], tail)) = left.split_first_chunk() {
                let (body, behind) = tail.split_at(usize::from(*length).min(tail.len()));
                all.extend(message(KINDS[usize::from(*kind) % KINDS.len()], body));
                left = behind;
            }
            sockets(&all);
        }
        // `IPCTNL_MSG_CT_NEW` of `NFNL_SUBSYS_CTNETLINK`, and an error.
        _ => {
            tracked(&message(1 << 8, rest));
            tracked(&message(2, rest));
        }
    }
});
