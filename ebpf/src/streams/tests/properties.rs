//! Any calls in any order and any packets: each is counted or told, with all that is known of it.

extern crate std;

use std::vec;
use std::vec::Vec;

use proptest::collection::vec as many;
use proptest::prelude::*;
use proptest::sample::Index;

use super::account::Account;
use super::wire::{Call, Ends, Sent, Turn, Unit};
use super::*;
use crate::event::{
    FLAG_PADDED, FRAME_CONTINUATION, FRAME_GOAWAY, FRAME_PING, FRAME_RST_STREAM, FRAME_SETTINGS,
    FRAME_WINDOW_UPDATE,
};

fn block(flags: u8, block: &[u8]) -> Unit {
    vec![Sent::of(FRAME_HEADERS, FLAG_END_HEADERS | flags, block)]
}

/// Odd ways to send a block.
fn oddly(shape: u8, flags: u8, block: &[u8]) -> Unit {
    let (first, rest) = block.split_at(block.len() / 2);
    match shape {
        0 => vec![
            Sent::of(FRAME_HEADERS, flags, first),
            Sent::of(FRAME_CONTINUATION, FLAG_END_HEADERS, rest),
        ],
        1 => {
            let padded = [&[3], block, &[0; 3]].concat();
            vec![Sent::of(FRAME_HEADERS, FLAG_END_HEADERS | FLAG_PADDED | flags, &padded)]
        }
        // One header more that goes into the table.
        2 => self::block(flags, &[block, &[0x40, 1, b'n', 1, b'v']].concat()),
        // Longer than what is looked at.
        _ => self::block(flags, &[block, &[4, 120], &[b'/'; 120]].concat()),
    }
}

/// A block of headers, mostly as usual; `odd`: how often it may change the table.
fn headed(
    odd: u32,
    usual: Vec<u8>,
    other: &[u8],
    flags: u8,
) -> impl Strategy<Value = Unit> + use<> {
    prop_oneof![
        80 => Just(block(flags, &usual)),
        4 => Just(block(flags, other)),
        odd => (0u8..4).prop_map(move |shape| oddly(shape, flags, &usual)),
    ]
}

/// DATA frames of a body; the last one ends the stream if `ends`.
fn body(framed: bool, ends: bool) -> impl Strategy<Value = Vec<Unit>> {
    let sizes = prop_oneof![
        12 => Just(vec![20]),
        1 => many(prop_oneof![0usize..30, Just(200), Just(1_000)], 0..4),
    ];
    let shape = prop_oneof![30 => Just(0u8), 1 => 1u8..4];
    (sizes, shape, any::<Index>(), any::<bool>()).prop_map(move |(sizes, shape, cut, apart)| {
        let bytes = |size: usize| if framed { message(size) } else { vec![b'x'; size] };
        let mut frames: Vec<Vec<u8>> = sizes.into_iter().map(bytes).collect();
        if shape == 1 {
            // Cut anywhere.
            let all = frames.concat();
            let (first, rest) = all.split_at(cut.index(all.len() + 1));
            frames = vec![first.to_vec(), rest.to_vec()];
        }
        if shape == 2 {
            frames = vec![frames.concat()];
        }
        if ends && (apart || frames.is_empty()) {
            frames.push(vec![]);
        }
        let last = frames.len().wrapping_sub(1);
        let unit = |(index, bytes): (usize, Vec<u8>)| {
            let flags = if ends && index == last { FLAG_END_STREAM } else { 0 };
            if shape == 3 {
                let padded = [&[2], &*bytes, &[0; 2]].concat();
                return vec![Sent::of(FRAME_DATA, flags | FLAG_PADDED, &padded)];
            }
            vec![Sent::of(FRAME_DATA, flags, &bytes)]
        };
        frames.into_iter().enumerate().map(unit).collect()
    })
}

/// A call that goes well, mostly.
fn call(odd: u32) -> impl Strategy<Value = Call> {
    // One of them is about as long as blocks that are looked at.
    let path = |path: u8| {
        let length = if path == 1 { 90 } else { 2 };
        [&[4, length], &vec![path; usize::from(length)][..]].concat()
    };
    let plain = move |of: u8| [&[0x82, 0x87], &*path(of)].concat();
    let grpc_of = move |of: u8| [&grpc()[..], &*path(of)].concat();
    let framed = (0u8..2).prop_flat_map(move |path| {
        let ask = headed(odd, grpc_of(path), &grpc_of(b'x'), 0);
        let head = headed(odd, granted(), &[0x8d], 0);
        let tail = headed(odd, status(0), &status(5), FLAG_END_STREAM);
        (ask, body(true, true), head, body(true, false), tail).prop_map(
            |(ask, asks, head, answers, tail)| {
                let ways = [[vec![ask], asks].concat(), [vec![head], answers, vec![tail]].concat()];
                Call { ways, framed: true }
            },
        )
    });
    let unframed = (0u8..2).prop_flat_map(move |path| {
        let ask = headed(odd, plain(path), &plain(b'x'), FLAG_END_STREAM);
        let head = headed(odd, vec![0x88], &[0x8d], 0);
        (ask, head, body(false, true)).prop_map(|(ask, head, answers)| Call {
            ways: [vec![ask], [vec![head], answers].concat()],
            framed: false,
        })
    });
    let short = Just(Call {
        ways: [vec![block(FLAG_END_STREAM, &plain(b's'))], vec![block(FLAG_END_STREAM, &[0x89])]],
        framed: false,
    });
    let whole = prop_oneof![4 => framed, 3 => unframed, 1 => short];
    let reset = prop_oneof![16 => Just(None), 1 => (0usize..2, any::<Index>()).prop_map(Some)];
    (whole, reset).prop_map(|(mut call, reset)| {
        if let Some((way, place)) = reset {
            // The request has a head at least.
            let least = 1 - way;
            let units = &mut call.ways[way];
            units.truncate(least + place.index(units.len() - least + 1));
            units.push(vec![Sent::of(FRAME_RST_STREAM, 0, &[0, 0, 0, 8])]);
        }
        call
    })
}

fn other() -> impl Strategy<Value = Sent> {
    prop_oneof![
        8 => Just(Sent::of(FRAME_PING, 0, &[7; 8])),
        8 => Just(Sent::of(FRAME_WINDOW_UPDATE, 0, &[0, 0, 1, 0])),
        4 => Just(Sent::of(FRAME_SETTINGS, 1, &[])),
        2 => Just(Sent::of(FRAME_SETTINGS, 0, &[0, 1, 0, 0, 16, 0])),
        2 => (0usize..200).prop_map(|length| Sent::of(200, 255, &vec![b'?'; length])),
        1 => Just(Sent::of(FRAME_GOAWAY, 0, &[0; 8])),
    ]
}

fn units() -> impl Strategy<Value = usize> {
    prop_oneof![4 => Just(9usize), 1 => 1usize..4]
}

/// `cut`: how often a packet ends anywhere.
fn turn(cut: u32) -> impl Strategy<Value = Turn> {
    let way = || 0usize..2;
    prop_oneof![
        12 => units().prop_map(Turn::Begin),
        20 => (any::<Index>(), prop_oneof![1 => Just(0usize), 6 => Just(1)], units())
            .prop_map(|(call, way, units)| Turn::GoOn(call, way, units)),
        1 => (way(), other()).prop_map(|(way, other)| Turn::Other(way, other)),
        16 => (way(), prop_oneof![20 => Just(None), cut => any::<Index>().prop_map(Some)])
            .prop_map(|(way, part)| Turn::Pass(way, part)),
        cut => any::<Index>().prop_map(Turn::Swap),
        2 => any::<Index>().prop_map(Turn::Count),
        8 => Just(Turn::CountAll),
        1 => any::<Index>().prop_map(Turn::GiveBack),
    ]
}

/// Bytes that are, or look like, a frame of a stream that may wait.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        many(any::<u8>(), 0..40),
        Just(grpc()),
        Just(granted()),
        Just(status(0)),
        (0usize..40).prop_map(message),
    ];
    let kind = prop_oneof![4 => 0u8..2, 1 => 0u8..12];
    let flags = prop_oneof![Just(0u8), Just(1), Just(4), Just(5), any::<u8>()];
    prop_oneof![
        20 => (kind, flags, 0u32..45, payload)
            .prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload)),
        4 => (0u32..45).prop_map(answered),
        2 => (0u32..45).prop_map(asked),
        1 => many(any::<u8>(), 1..30),
    ]
}

/// A direction of the requests, calls, and what happens.
fn connections() -> impl Strategy<Value = (u8, Vec<Call>, Vec<Turn>)> {
    let kinds = prop_oneof![Just((0, 0)), Just((0, 1)), Just((2, 1))];
    kinds.prop_flat_map(|(odd, cut)| (0u8..2, many(call(odd), 1..50), many(turn(cut), 1..300)))
}

proptest! {
    #[test]
    fn each_call_is_counted_or_told((asks, calls, turns) in connections()) {
        let mut ends = Ends::new(asks, calls);
        turns.into_iter().for_each(|turn| ends.take(turn));
        ends.finish();
        Account::of(&ends).check();
    }

    #[test]
    fn any_frames_are_survived(
        packets in many((0u8..2, any::<bool>(), many(any_frame(), 1..20)), 1..20),
    ) {
        let mut connection = counting();
        for ((direction, begins, frames), stream) in packets.into_iter().zip((3u32..).step_by(2)) {
            if begins {
                connection.ask(&asked(stream));
            }
            connection.send(direction, 0, &frames.concat());
        }
        connection.close();
        let (waits, port) = (connection.waits(), &connection.port);
        prop_assert_eq!(waits.let_wait, waits.decided);
        prop_assert_eq!((waits.decided - waits.told) as usize, port.added.len());
        let waited = port.told.iter().filter(|told| matches!(told, Told::Waited(_)));
        prop_assert_eq!(waited.count(), waits.told as usize);
    }
}
