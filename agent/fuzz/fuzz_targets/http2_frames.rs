//! Any frames of HTTP/2, with any header blocks: no panic, every bound kept, no call twice.
//!
//! The input is a row of frames: a byte says the direction and whether the record breaks
//! the compression's state, one the kind, one the flags, one the stream, one the length of
//! the payload, which follows. The preface comes first, so that whole tables are reached. One kind
//! is a stream that waited to be counted.
#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use meshtap::kernel::repeats::Keys;
use meshtap::protocol::{Output, ProtocolSettings, Protocols};
use meshtap::ring_buffer::Event;
use meshtap_ebpf::event::{FRAMES_JOINED, FRAMES_PREFACE, Frames, Header, Item, Waited};
use zerocopy::IntoBytes as _;

/// Beyond the kinds of frames.
const WAITED: u8 = 10;

fn record(time_ns: u64, direction: u8, flags: u16, lost: u16) -> Frames {
    let header = Header { time_ns, cookie: 1, direction, flags, lost, ..Header::default() };
    Frames { header, acknowledgement: 1_000_000, ..Frames::default() }
}

fuzz_target!(|bytes: &[u8]| {
    let settings = ProtocolSettings {
        requests: 8,
        requests_per_connection: 6,
        head_bytes_total: 512,
        keys: Some(Keys::draw()),
        ..ProtocolSettings::default()
    };
    let mut protocols = Protocols::new(settings);
    let mut out = Output::default();
    protocols.feed(&Event::Frames(&record(0, 1, FRAMES_PREFACE, 0), &[]), &mut out);
    let (mut rest, mut time_ns, mut sequence) = (bytes, 0, 0);
    while let Some(([way, kind, flags, stream, length], tail)) = rest.split_first_chunk() {
        let length = usize::from(*length).min(tail.len());
        let (payload, behind) = tail.split_at(length);
        rest = behind;
        // Most frames are whole; some are longer than what comes of them.
        let more = if way & 0x30 == 0x30 { 7 } else { 0 };
        let item = Item {
            sequence,
            stream: u32::from(*stream),
            length: length as u32 + more,
            offset: if way & 0x40 == 0 { 0 } else { u32::from(way >> 4) },
            kind: kind % 11,
            flags: *flags,
            bytes: length as u16,
            table: u32::from(kind / 11),
        };
        let mut items = item.as_bytes().to_vec();
        items.extend_from_slice(payload);
        time_ns += 1;
        sequence += 9 + length as u32;
        let joined = if way & 0x0c == 0x0c { FRAMES_JOINED } else { 0 };
        let record = record(time_ns, way & 1, joined, u16::from(way & 0x8e == 0x8e));
        let record = Frames { waited: u32::from(flags >> 4), ..record };
        if item.kind == WAITED {
            let tag = out.exchanges.last().and_then(|exchange| exchange.tag);
            let waited = Waited {
                header: record.header,
                first_ns: time_ns.saturating_sub(u64::from(*flags)),
                tag: tag.map_or(0, |tag| tag.get()),
                stream: item.stream,
                sequence,
                told: u32::from(flags >> 4),
                sent: flags & 1,
                answering: flags >> 1 & 1,
                ..Waited::default()
            };
            protocols.feed(&Event::Waited(&waited), &mut out);
        } else {
            protocols.feed(&Event::Frames(&record, &items), &mut out);
        }
        let occupancy = protocols.occupancy();
        for bound in [occupancy.connections, occupancy.requests, occupancy.head_bytes] {
            assert!(bound.used <= bound.limit);
        }
    }
    protocols.expire(u64::MAX, &mut out);
    assert_eq!(protocols.occupancy().requests.used, 0);
    assert_eq!(protocols.occupancy().head_bytes.used, 0);
    let mut told = HashSet::new();
    for exchange in &out.exchanges {
        assert!(exchange.end_ns >= exchange.start_ns);
        assert!(!exchange.path.as_str().contains(char::is_control));
        assert!(told.insert(exchange.sequence));
    }
});
