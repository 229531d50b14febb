//! Records that make no sense: no panic, every bound kept, no status made up.

use super::*;

/// Any frame, likely enough to be one.
fn frames() -> impl Strategy<Value = (Item, Vec<u8>)> {
    let payload = prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..60),
        1 => Just(vec![0x82, 0x86, 0x84, 0x41, 0x01, b'a']),
        1 => Just(vec![0x88]),
        1 => prop::collection::vec(0_u8..3, 16),
    ];
    let numbers = (0_u32..9, 0_u32..70, prop_oneof![3 => Just(0_u32), 1 => 0_u32..60]);
    let kinds = (0_u8..11, any::<u8>(), any::<bool>());
    (numbers, kinds, payload).prop_map(
        |((stream, length, offset), (kind, flags, fits), payload)| {
            let whole = u32::try_from(payload.len()).unwrap();
            let (length, offset) = if fits { (whole, 0) } else { (length, offset) };
            let bytes = u16::try_from(payload.len()).unwrap();
            let item = Item { stream, length, offset, kind, flags, bytes, ..Item::default() };
            (item, payload)
        },
    )
}

fn records() -> impl Strategy<Value = Record> {
    let header = (1_u64..3, 0_u8..2, 0_u16..8, prop_oneof![9 => Just(0_u16), 1 => 0_u16..5]);
    let items = prop::collection::vec(frames(), 0..5);
    (0_u8..12, header, items, any::<u32>(), any::<prop::sample::Index>()).prop_map(
        |(kind, (cookie, direction, flags, lost), items, number, cut)| {
            let time_ns = u64::from(number);
            let header = Header { time_ns, cookie, direction, flags, lost, ..Header::default() };
            let reason = u8::try_from(number % 8).unwrap();
            match kind {
                0 => Record::Closed(Statistics { header, reason, ..Statistics::default() }),
                1 => Record::Shut(Shut { header }),
                2 => Record::Desynchronised(Desynchronised {
                    header,
                    reason,
                    ..Desynchronised::default()
                }),
                _ => {
                    let mut wire = Wire::new(Side::Client);
                    let Record::Frames(frames, mut bytes) = wire.record(direction, 0, &items)
                    else {
                        unreachable!()
                    };
                    if kind == 3 {
                        bytes.truncate(cut.index(bytes.len() + 1));
                    }
                    Record::Frames(Frames { header, acknowledgement: number, ..frames }, bytes)
                }
            }
        },
    )
}

proptest! {
    #[test]
    fn nonsense_never_panics(records in prop::collection::vec(records(), 0..120)) {
        let settings = ProtocolSettings {
            requests: 6, requests_per_connection: 4, head_bytes: 64, head_bytes_total: 128,
            ..ProtocolSettings::default()
        };
        let mut stage = Stage::with(settings);
        for record in records {
            stage.feed(record);
            let occupancy = stage.protocols.occupancy();
            prop_assert!(occupancy.requests.used <= 6 && occupancy.head_bytes.used <= 128);
        }
        stage.protocols.expire(u64::MAX, &mut stage.out);
        prop_assert_eq!(stage.used(), (0, 0, 0));
        for exchange in &stage.out.exchanges {
            prop_assert!(exchange.status.is_none_or(|status| (200..=999).contains(&status)));
            prop_assert!(exchange.end_ns >= exchange.start_ns);
        }
    }
}
