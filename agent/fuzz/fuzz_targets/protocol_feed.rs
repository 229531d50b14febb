//! Any sequence of records: no panic, no status that no answer had, every bound kept.
//!
//! The input is a row of records, each behind one byte that says its length in units
//! of eight bytes.
#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use meshtap::protocol::{Output, ProtocolSettings, Protocols};
use meshtap::ring_buffer::{Event, decode::decode};
use meshtap_ebpf::event::HEAD_RESPONSE;

#[repr(align(8))]
struct Aligned([u8; 2048]);

fuzz_target!(|bytes: &[u8]| {
    let settings = ProtocolSettings {
        connections: 3,
        requests: 8,
        requests_per_connection: 4,
        head_bytes: 256,
        head_bytes_total: 512,
        ..ProtocolSettings::default()
    };
    let mut protocols = Protocols::new(settings);
    let mut out = Output::default();
    let mut statuses = HashSet::new();
    let mut rest = bytes;
    while let Some((length, tail)) = rest.split_first() {
        let length = (usize::from(*length) * 8).min(tail.len());
        let mut record = Aligned([0; 2048]);
        record.0[..length].copy_from_slice(&tail[..length]);
        // Times stay centuries before the end of the clock, so that everything can expire.
        record.0[7] = 0;
        rest = &tail[length..];
        let Ok(event) = decode(&record.0) else { continue };
        if let Event::Head(head, _) = event
            && head.header.flags & HEAD_RESPONSE != 0
        {
            statuses.insert((head.header.cookie, head.status));
        }
        protocols.feed(&event, &mut out);
        let occupancy = protocols.occupancy();
        for bound in [occupancy.connections, occupancy.requests, occupancy.head_bytes] {
            assert!(bound.used <= bound.limit);
        }
    }
    protocols.expire(u64::MAX, &mut out);
    assert_eq!(protocols.occupancy().requests.used, 0);
    assert_eq!(protocols.occupancy().head_bytes.used, 0);
    for exchange in &out.exchanges {
        assert!(exchange.end_ns >= exchange.start_ns);
        assert!(!exchange.path.as_str().contains(char::is_control));
        if let Some(status) = exchange.status {
            assert!(statuses.contains(&(exchange.socket, status)));
        }
    }
});
