//! One direction by hand: segments in, frames out.

extern crate std;

use std::collections::HashMap;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use zerocopy::FromBytes;

use super::*;
use crate::event::{
    Data, Desynchronised, FLAG_END_HEADERS, FLAG_END_STREAM, FLAG_PADDED, FRAME_CLOSING,
    FRAME_CONTINUATION, FRAME_DATA, FRAME_GOAWAY, FRAME_HEADERS, FRAME_PING, FRAME_RST_STREAM,
    FRAME_SETTINGS, FRAMES_JOINED, FRAMES_PREFACE, Frames, Head, Header, INGRESS, Item, Kind,
    MESSAGE_UNKNOWN,
};
use crate::flow::{WINDOW_START, mode};
use crate::walk::tests::keep_pieces;
use crate::walk::{Port, VERDICT_OPAQUE, VERDICT_OPEN, Walk};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame as it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    kind: u8,
    flags: u8,
    stream: u32,
    /// Of DATA.
    length: u32,
    payload: Vec<u8>,
    /// Of DATA: messages, if they could be counted.
    messages: Option<u32>,
}

#[derive(Default)]
struct Recorder {
    packet: Vec<u8>,
    aside: HashMap<u32, Vec<u8>>,
    told: Vec<Told>,
    places: HashMap<(u64, u64), u64>,
    after: HashMap<u32, u32>,
    open: Option<Told>,
    announced: Vec<u16>,
    lost: Vec<u8>,
    records: usize,
    prefix: u32,
}

impl Recorder {
    fn item(&mut self, item: Item, bytes: &[u8]) {
        let Item { stream, length, offset, kind, flags, .. } = item;
        if kind == FRAME_DATA {
            let (data, _) = Data::ref_from_prefix(bytes).unwrap();
            let place = self.after.insert(stream, data.after).unwrap_or(0);
            let known = place == data.before && data.after != MESSAGE_UNKNOWN;
            if !known {
                self.after.insert(stream, MESSAGE_UNKNOWN);
            }
            let messages = known.then_some(data.messages);
            self.told.push(Told { kind, flags, stream, length, payload: vec![], messages });
            return;
        }
        let mut frame = self.open.take().unwrap_or(Told {
            kind,
            flags,
            stream,
            length: 0,
            payload: vec![],
            messages: None,
        });
        assert_eq!((frame.kind, frame.stream), (kind, stream), "pieces of one frame");
        assert_eq!(offset as usize, frame.payload.len());
        frame.payload.extend_from_slice(bytes);
        if frame.payload.len() == length as usize {
            self.told.push(frame);
        } else {
            self.open = Some(frame);
        }
    }
}

impl Port for Recorder {
    fn load(&mut self, flow: &mut Flow, offset: u32, length: u32) -> bool {
        self.load_at(flow, WINDOW_START as u32, offset, length)
    }
    fn send_head(&mut self, _: &mut Flow, _: &mut Shared, _: u32) {
        // The preface in many segments begins like a request.
    }
    fn send<T: zerocopy::IntoBytes>(&mut self, _: &mut Shared, fill: impl FnOnce(*mut T)) {
        let mut place = vec![0u64; size_of::<T>().div_ceil(8)];
        fill(place.as_mut_ptr().cast());
        let bytes = zerocopy::IntoBytes::as_bytes(place.as_slice());
        let (header, _) = Header::ref_from_prefix(bytes).unwrap();
        assert_eq!(header.kind, Kind::Desynchronised as u8);
        let (record, _) = Desynchronised::ref_from_prefix(bytes).unwrap();
        self.lost.push(record.reason);
        self.open = None;
    }
    fn measure(&mut self, _: &mut Head) {}
    fn set_aside(&mut self, flow: &mut Flow) -> u8 {
        keep_pieces(&mut self.aside, flow, &self.packet)
    }

    fn prefix(&self) -> u32 {
        self.prefix
    }
}

impl FramePort for Recorder {
    fn load_at(&mut self, flow: &mut Flow, at: u32, offset: u32, length: u32) -> bool {
        let (at, offset, length) = (at as usize, offset as usize, length as usize);
        assert!(length > 0);
        let Some(bytes) = self.packet.get(offset..offset + length) else { return false };
        flow.buffer[at..at + length].copy_from_slice(bytes);
        true
    }
    fn send_frames(&mut self, flow: &mut Flow, _: &mut Shared, length: u32) -> bool {
        let (record, mut rest) = Frames::ref_from_prefix(&flow.buffer[..length as usize]).unwrap();
        assert_eq!(usize::from(record.header.length), rest.len());
        self.announced.push(record.header.flags);
        self.records += 1;
        while !rest.is_empty() {
            let (item, behind) = Item::read_from_prefix(rest).unwrap();
            let bytes = usize::from(item.bytes);
            self.item(item, &behind[..bytes]);
            rest = &behind[bytes.next_multiple_of(8)..];
        }
        true
    }
    fn keep(&mut self, stream: u64, cookie: u64, place: u64) {
        self.places.insert((stream, cookie), place);
    }
    fn take(&mut self, stream: u64, cookie: u64) -> Option<u64> {
        self.places.remove(&(stream, cookie))
    }
}

/// One direction, as the programs walk it.
struct Direction {
    flow: Flow,
    shared: Shared,
    port: Recorder,
    sequence: u32,
    /// Of the latest packet.
    steps: u32,
}

impl Direction {
    fn new() -> Self {
        // SAFETY: all zero is the state of a new flow.
        let flow: Flow = unsafe { core::mem::zeroed() };
        let port = Recorder { prefix: 1024, ..Recorder::default() };
        Self { flow, shared: Shared::default(), port, sequence: u32::MAX - 40, steps: 0 }
    }

    /// A connection that is older than its first packet here.
    fn late() -> Self {
        let mut direction = Self::new();
        direction.flow.placed = PLACED;
        direction.shared.late = 1;
        let sequence = direction.sequence;
        direction.flow.edge.end = sequence;
        direction.flow.next = sequence;
        direction
    }

    fn send(&mut self, bytes: &[u8]) {
        self.send_at(self.sequence, bytes);
        self.sequence = self.sequence.wrapping_add(bytes.len() as u32);
    }

    fn send_at(&mut self, sequence: u32, bytes: &[u8]) {
        if self.flow.placed == 0 {
            self.flow.place(sequence);
        }
        self.port.packet = bytes.to_vec();
        self.flow.segment_start = sequence;
        self.flow.segment_end = sequence.wrapping_add(bytes.len() as u32);
        if self.shared.verdict == VERDICT_OPAQUE {
            return;
        }
        if !carries_frames(&self.flow, &self.shared) && !self.read_lines() {
            return;
        }
        let mut frames = self.frames();
        if !frames.enter() {
            return;
        }
        self.walk();
        if self.flow.aside > 0 {
            let sequence = self.flow.edge.end;
            let Some(bytes) = self.port.aside.remove(&sequence) else {
                return self.flow.pass_unseen();
            };
            self.flow.take_aside();
            self.send_at(sequence, &bytes);
        }
    }

    fn walk(&mut self) {
        let mut frames = self.frames();
        let mut steps = 0;
        while frames.step() {
            steps += 1;
            assert!(steps < 100_000, "a walk that does not end");
        }
        frames.leave();
        self.steps = steps;
    }

    fn frames(&mut self) -> FrameWalk<'_, Recorder> {
        let Self { flow, shared, port, .. } = self;
        FrameWalk { flow, shared, port, direction: INGRESS }
    }

    /// The walk through lines, until it gives up; true: go on with frames from the start.
    fn read_lines(&mut self) -> bool {
        let Self { flow, shared, port, .. } = self;
        let mut lines = Walk { flow, shared, port, direction: INGRESS };
        if !lines.enter() {
            return false;
        }
        while lines.step() {}
        if lines.flow.trouble != event::LOST_SYNTAX || lines.shared.verdict != VERDICT_OPEN {
            lines.leave();
            return false;
        }
        if !self.frames().recognise() {
            let Self { flow, shared, port, .. } = self;
            Walk { flow, shared, port, direction: INGRESS }.leave();
            return false;
        }
        self.walk();
        false
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

pub(crate) fn message(length: usize) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend((length as u32).to_be_bytes());
    bytes.resize(5 + length, b'm');
    bytes
}

fn told(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Told {
    let payload = payload.to_vec();
    Told { kind, flags, stream, length: 0, payload, messages: None }
}

fn counted(flags: u8, stream: u32, length: usize, messages: u32) -> Told {
    let messages = Some(messages);
    let length = length as u32;
    Told { kind: FRAME_DATA, flags, stream, length, payload: vec![], messages }
}

#[test]
fn a_unary_call_is_two_frames_after_the_preface() {
    let mut direction = Direction::new();
    let block = [0x82, 0x86, 0x84];
    direction.send(&[PREFACE, &frame(FRAME_SETTINGS, 0, 0, &[0; 6])].concat());
    let call = [
        frame(FRAME_HEADERS, FLAG_END_HEADERS, 1, &block),
        frame(FRAME_DATA, FLAG_END_STREAM, 1, &message(7)),
    ];
    direction.send(&call.concat());
    assert_eq!(
        direction.port.told,
        [
            told(FRAME_SETTINGS, 0, 0, &[0; 6]),
            told(FRAME_HEADERS, FLAG_END_HEADERS, 1, &block),
            counted(FLAG_END_STREAM, 1, 12, 1),
        ]
    );
    assert_eq!(direction.port.announced, [FRAMES_PREFACE, 0], "a record a packet");
}

#[test]
fn a_server_may_speak_first_and_in_single_bytes() {
    let mut direction = Direction::new();
    for byte in frame(FRAME_SETTINGS, 0, 0, &[1; 12]) {
        direction.send(&[byte]);
    }
    direction.send(&frame(FRAME_HEADERS, FLAG_END_HEADERS, 1, &[0x88]));
    assert_eq!(
        direction.port.told,
        [told(FRAME_SETTINGS, 0, 0, &[1; 12]), told(FRAME_HEADERS, FLAG_END_HEADERS, 1, &[0x88]),]
    );
    assert!(direction.port.announced.iter().all(|flags| *flags == 0), "from the first byte on");
}

#[test]
fn a_preface_may_be_under_way_when_the_server_speaks() {
    for cut in 1..PREFACE.len() {
        let mut direction = Direction::new();
        direction.send(&PREFACE[..cut]);
        direction.shared.verdict = VERDICT_HTTP2;
        direction.send(&PREFACE[cut..]);
        direction.send(&frame(FRAME_HEADERS, FLAG_END_HEADERS, 1, &[0x82]));
        let expected = [told(FRAME_HEADERS, FLAG_END_HEADERS, 1, &[0x82])];
        assert_eq!(direction.port.told, expected, "after {cut} bytes");
    }
}

#[test]
fn the_whole_preface_is_read() {
    let mut direction = Direction::new();
    direction.send(b"PRI * HTTP/2.0\r\n\r\nSMILE\r\n\r\n and be happy\r\n");
    assert_ne!(direction.shared.verdict, VERDICT_HTTP2);
    assert!(direction.port.told.is_empty() && direction.port.lost.is_empty());
}

#[test]
fn nothing_of_what_stood_there_before_is_taken_for_state() {
    let mut direction = Direction::new();
    direction.flow.buffer.fill(0xff);
    direction.send(&frame(FRAME_SETTINGS, 0, 0, &[1; 6]));
    direction.send(&frame(FRAME_DATA, FLAG_END_STREAM, 1, &message(3)));
    assert_eq!(
        direction.port.told,
        [told(FRAME_SETTINGS, 0, 0, &[1; 6]), counted(FLAG_END_STREAM, 1, 8, 1),]
    );
    assert_eq!(direction.port.announced, [0, 0]);
}

#[test]
fn frames_behind_something_else_are_none_of_http2() {
    let mut direction = Direction::new();
    direction.send(b"PRIMARY KEY (id)\r\n");
    direction.send(&frame(FRAME_HEADERS, FLAG_END_HEADERS, 1, &[0x82]));
    assert!(direction.port.told.is_empty());
}

#[test]
fn what_begins_like_a_servers_frame_and_is_none_is_left_alone() {
    let mut direction = Direction::new();
    for byte in [0, 0, 5, 4, 9, 9, 9, 9, 9, 9, 9] {
        direction.send(&[byte]);
    }
    assert_ne!(direction.shared.verdict, VERDICT_HTTP2);
    assert!(direction.port.told.is_empty() && direction.port.lost.is_empty());
}

#[test]
fn data_is_told_when_its_last_byte_has_passed() {
    let mut direction = Direction::new();
    direction.send(PREFACE);
    let data = frame(FRAME_DATA, FLAG_END_STREAM, 3, &message(1000));
    direction.send(&data[..400]);
    assert!(direction.port.told.is_empty());
    direction.send(&data[400..1013]);
    assert!(direction.port.told.is_empty());
    direction.send(&data[1013..]);
    assert_eq!(direction.port.told, [counted(FLAG_END_STREAM, 3, 1005, 1)]);
}

#[test]
fn messages_are_counted_across_frames_and_streams() {
    let mut direction = Direction::new();
    direction.send(PREFACE);
    let (one, two) = (message(20_000), [message(3), message(0), message(30_000)].concat());
    for (stream, from, to) in [
        (1, 0, 3),
        (3, 0, 100),
        (1, 3, 9_000),
        (5, 0, 7),
        (1, 9_000, 20_005),
        (3, 100, 30_010),
        (3, 30_010, 30_018),
    ] {
        let bytes = if stream == 1 { &one } else { &two };
        direction.send(&frame(FRAME_DATA, 0, stream, &bytes[from..to]));
    }
    let counts: Vec<_> =
        direction.port.told.iter().map(|told| (told.stream, told.messages)).collect();
    assert_eq!(
        counts,
        [
            (1, Some(0)),
            (3, Some(3)),
            (1, Some(1)),
            (5, Some(1)),
            (1, Some(0)),
            (3, Some(0)),
            (3, Some(0))
        ]
    );
    assert_eq!(direction.port.places.len(), 1, "of the message that did not end");
}

#[test]
fn what_holds_no_messages_is_not_counted() {
    let mut direction = Direction::new();
    direction.send(PREFACE);
    direction.send(&frame(FRAME_DATA, 0, 1, b"<html>and so on"));
    direction.send(&frame(FRAME_DATA, FLAG_END_STREAM, 1, b"\0\0\0\0\x01x"));
    let counts: Vec<_> = direction.port.told.iter().map(|told| told.messages).collect();
    assert_eq!(counts, [None, None]);
}

/// A message that closes an answer.
fn closing(flag: u8, words: &[u8]) -> Vec<u8> {
    [&[flag], &(words.len() as u32).to_be_bytes()[..], words].concat()
}

#[test]
fn what_closes_an_answer_is_told_as_a_frame() {
    let words = b"grpc-status:5\r\n";
    for padding in [0, 3] {
        let mut direction = Direction::new();
        direction.send(PREFACE);
        let pad = vec![0; padding];
        let bytes = [&message(7), &closing(0x80, words), &*pad].concat();
        let (bytes, flags) = match padding {
            0 => (bytes, FLAG_END_STREAM),
            _ => ([&[3], &*bytes].concat(), FLAG_END_STREAM | FLAG_PADDED),
        };
        direction.send(&frame(FRAME_DATA, flags, 1, &bytes));
        direction.send(&frame(FRAME_DATA, FLAG_END_STREAM, 3, &closing(2, b"{}")));
        assert_eq!(
            direction.port.told,
            [
                counted(flags & !FLAG_END_STREAM, 1, 17, 1),
                told(FRAME_CLOSING, flags, 1, words),
                counted(0, 3, 5, 0),
                told(FRAME_CLOSING, FLAG_END_STREAM, 3, b"{}"),
            ]
        );
    }
}

#[test]
fn what_cannot_be_read_of_an_answers_end_is_no_message_either() {
    let mut direction = Direction::new();
    direction.send(PREFACE);
    let long = [b'a'; 1_025];
    let cases = [closing(0x80, &long), closing(0x80, b""), closing(2, b"{}x")];
    for (stream, bytes) in (1..).step_by(2).zip(&cases[..2]) {
        direction.send(&frame(FRAME_DATA, FLAG_END_STREAM, stream, bytes));
    }
    // In two frames.
    direction.send(&frame(FRAME_DATA, 0, 9, &cases[2][..6]));
    direction.send(&frame(FRAME_DATA, FLAG_END_STREAM, 9, &cases[2][6..]));
    let told: Vec<_> = direction.port.told.iter().map(|told| (told.kind, told.messages)).collect();
    assert_eq!(told, [(FRAME_DATA, Some(0)); 4]);
}

#[test]
fn an_answers_end_that_breaks_off_is_told_as_data() {
    let mut direction = Direction::new();
    direction.send(PREFACE);
    let data = frame(FRAME_DATA, FLAG_END_STREAM, 1, &closing(0x80, b"grpc-status:0"));
    direction.send(&data[..14]);
    direction.frames().break_off();
    let told = &direction.port.told[0];
    assert_eq!((told.kind, told.length, told.flags), (FRAME_DATA, 5, 0));
}

#[test]
fn bytes_that_are_all_zero_do_not_use_up_the_walk() {
    let mut direction = Direction::new();
    direction.send(PREFACE);
    let frames = [
        frame(FRAME_DATA, 0, 1, &[0; 16_000]),
        frame(FRAME_DATA, 0, 3, &[0; 16_000]),
        frame(FRAME_HEADERS, FLAG_END_HEADERS, 5, &[0x82]),
    ];
    direction.send(&frames.concat());
    let counts: Vec<_> = direction.port.told.iter().map(|told| told.messages).collect();
    assert_eq!(counts, [None, None, None]);
    assert_eq!(direction.port.told.len(), 3);
    assert!(direction.steps < 100, "{}", direction.steps);
}

#[test]
fn the_smallest_frames_of_a_whole_packet_are_walked() {
    let mut direction = Direction::new();
    direction.send(PREFACE);
    let small = frame(FRAME_DATA, 0, 1, &message(0));
    let packet: Vec<u8> = (0..4_600).flat_map(|_| small.clone()).collect();
    direction.send(&packet);
    assert_eq!(direction.port.told.len(), 4_600);
    assert!(direction.steps < 7_000, "{}", direction.steps);
}

#[test]
fn padding_is_no_data() {
    let mut direction = Direction::new();
    direction.send(PREFACE);
    let payload = [&[4][..], &message(6), &[0; 4]].concat();
    direction.send(&frame(FRAME_DATA, FLAG_PADDED, 1, &payload));
    direction.send(&frame(FRAME_DATA, FLAG_PADDED, 1, &[3, 0, 0, 0]));
    let lengths: Vec<_> =
        direction.port.told.iter().map(|told| (told.length, told.messages)).collect();
    assert_eq!(lengths, [(11, Some(1)), (0, Some(0))]);
}

#[test]
fn too_much_padding_is_a_loss_of_boundaries() {
    let mut direction = Direction::new();
    direction.send(PREFACE);
    direction.send(&frame(FRAME_DATA, FLAG_PADDED, 1, &[9, 0, 0]));
    assert_eq!(direction.port.lost, [event::LOST_SYNTAX]);
}

#[test]
fn only_what_matters_of_goaway_and_nothing_of_ping_leaves() {
    let mut direction = Direction::new();
    direction.send(PREFACE);
    direction.send(
        &[
            frame(FRAME_PING, 0, 0, &[7; 8]),
            frame(FRAME_GOAWAY, 0, 0, b"\0\0\0\x05\0\0\0\0a secret"),
            frame(77, 255, 9, b"an extension"),
            frame(FRAME_RST_STREAM, 0, 1, &[0, 0, 0, 8]),
        ]
        .concat(),
    );
    assert_eq!(
        direction.port.told,
        [
            told(FRAME_GOAWAY, 0, 0, b"\0\0\0\x05\0\0\0\0"),
            told(FRAME_RST_STREAM, 0, 1, &[0, 0, 0, 8]),
        ]
    );
}

#[test]
fn a_hole_in_data_hurts_only_the_count_of_messages() {
    let mut direction = Direction::new();
    direction.send(PREFACE);
    let data = frame(FRAME_DATA, 0, 1, &message(3_000));
    let rest = frame(FRAME_HEADERS, FLAG_END_HEADERS, 3, &[0x82]);
    direction.send(&data[..100]);
    let seen = direction.sequence.wrapping_add(2_000);
    direction.flow.catch_up(seen);
    direction.sequence = seen;
    direction.send(&[&data[2_100..], &rest[..]].concat());
    assert_eq!(direction.port.told.len(), 2);
    assert_eq!(direction.port.told[0].length, 3_005);
    assert_eq!(direction.port.told[0].messages, Some(1));
    assert!(direction.port.lost.is_empty());
}

#[test]
fn a_hole_in_a_header_block_is_a_loss_and_the_next_packet_joins() {
    let mut direction = Direction::new();
    direction.send(PREFACE);
    let headers = frame(FRAME_HEADERS, FLAG_END_HEADERS, 1, &[0x82; 300]);
    direction.send(&headers[..100]);
    let seen = direction.sequence.wrapping_add(209);
    direction.flow.catch_up(seen);
    direction.sequence = seen;
    direction.send(&frame(FRAME_HEADERS, FLAG_END_HEADERS, 3, &[0x83]));
    assert_eq!(direction.port.lost, [event::LOST_GAP]);
    assert_eq!(direction.port.told, [told(FRAME_HEADERS, FLAG_END_HEADERS, 3, &[0x83])]);
    assert_eq!(direction.port.announced.last(), Some(&FRAMES_JOINED));
}

#[test]
fn a_late_direction_joins_at_a_packet_that_is_all_frames() {
    let mut direction = Direction::late();
    direction.shared.verdict = VERDICT_HTTP2;
    direction.send(&[0x17; 400]);
    assert_eq!(direction.flow.mode, mode::IDLE);
    direction.send(&frame(FRAME_HEADERS, FLAG_END_HEADERS, 7, &[0xbe, 0xbf]));
    assert_eq!(direction.port.told, [told(FRAME_HEADERS, FLAG_END_HEADERS, 7, &[0xbe, 0xbf])]);
    assert_eq!(direction.port.announced, [FRAMES_JOINED]);
}

#[test]
fn a_late_connection_is_recognised_by_its_frames() {
    let mut direction = Direction::late();
    let frames = [
        frame(FRAME_HEADERS, FLAG_END_HEADERS, 7, &[0xbe, 0xbf]),
        frame(FRAME_DATA, FLAG_END_STREAM, 7, &message(3)),
    ];
    direction.send(&frames.concat());
    assert_eq!(direction.shared.verdict, VERDICT_HTTP2);
    assert_eq!(direction.port.told.len(), 2);
}

#[test]
fn data_that_breaks_off_is_told_with_what_came() {
    let mut direction = Direction::new();
    direction.send(PREFACE);
    let data = frame(FRAME_DATA, FLAG_END_STREAM, 1, &message(1000));
    direction.send(&data[..509]);
    direction.frames().break_off();
    let frame = &direction.port.told[0];
    assert_eq!((frame.length, frame.flags, frame.messages), (500, 0, None));
}

/// Frames that a direction carries, with what is to be told of them.
fn frames() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<Told>)>> {
    let stream = (0u32..6).prop_map(|number| number * 2 + 1);
    let headers = (stream.clone(), proptest::collection::vec(any::<u8>(), 0..400), any::<bool>())
        .prop_map(|(stream, block, more)| {
            let kind = if more { FRAME_CONTINUATION } else { FRAME_HEADERS };
            (frame(kind, 4, stream, &block), vec![told(kind, 4, stream, &block)])
        });
    let data = (stream.clone(), proptest::collection::vec(0usize..300, 0..6), any::<bool>())
        .prop_map(|(stream, lengths, end)| {
            let bytes = lengths.iter().flat_map(|length| message(*length)).collect::<Vec<_>>();
            let flags = u8::from(end);
            let count = u32::try_from(lengths.len()).unwrap();
            (
                frame(FRAME_DATA, flags, stream, &bytes),
                vec![counted(flags, stream, bytes.len(), count)],
            )
        });
    let end = (stream.clone(), 1usize..400).prop_map(|(stream, length)| {
        let words = vec![b'w'; length];
        let bytes = frame(FRAME_DATA, 1, stream, &closing(0x80, &words));
        (bytes, vec![counted(0, stream, 5, 0), told(FRAME_CLOSING, 1, stream, &words)])
    });
    let other = Just((frame(FRAME_PING, 0, 0, &[1; 8]), vec![]));
    let reset = stream.prop_map(|stream| {
        let frame = frame(FRAME_RST_STREAM, 0, stream, &[0, 0, 0, 8]);
        (frame, vec![told(FRAME_RST_STREAM, 0, stream, &[0, 0, 0, 8])])
    });
    proptest::collection::vec(prop_oneof![headers, data, end, other, reset], 1..30)
}

proptest! {
    #[test]
    fn any_cut_into_segments_tells_the_same(frames in frames(), cuts in proptest::collection::vec(1usize..200, 1..40)) {
        let mut direction = Direction::new();
        let bytes: Vec<u8> = PREFACE.iter().copied().chain(frames.iter().flat_map(|(bytes, _)| bytes.clone())).collect();
        let (mut at, mut turn) = (0, 0);
        while at < bytes.len() {
            let end = (at + cuts[turn % cuts.len()]).min(bytes.len());
            direction.send(&bytes[at..end]);
            (at, turn) = (end, turn + 1);
        }
        let expected: Vec<_> = frames.into_iter().flat_map(|(_, told)| told).collect();
        prop_assert_eq!(&direction.port.told, &expected);
        prop_assert!(direction.port.lost.is_empty());
    }

    #[test]
    fn any_order_of_segments_tells_the_same(
        frames in frames(),
        (segments, order) in (2usize..12).prop_flat_map(|count| (Just(count), Just((0..count).collect::<Vec<_>>()).prop_shuffle())),
    ) {
        let mut bytes = 0;
        let fit = |(frame, _): &&(Vec<u8>, Vec<Told>)| {
            bytes += frame.len();
            bytes < 1_500
        };
        let (frames, expected): (Vec<_>, Vec<_>) = frames.iter().take_while(fit).cloned().unzip();
        let (stream, expected) = (frames.concat(), expected.concat());
        let mut direction = Direction::new();
        direction.send(PREFACE);
        let (begin, size) = (direction.sequence, stream.len().div_ceil(segments).max(1));
        for index in order {
            if let Some(segment) = stream.chunks(size).nth(index) {
                direction.send_at(begin.wrapping_add((index * size) as u32), segment);
            }
        }
        prop_assert_eq!(direction.port.told, expected);
        prop_assert!(direction.port.lost.is_empty());
    }

    #[test]
    fn any_bytes_are_survived(packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 1..20), preface in any::<bool>()) {
        let mut direction = Direction::new();
        if preface {
            direction.send(PREFACE);
        }
        for packet in packets {
            direction.send(&packet);
        }
        direction.frames().break_off();
    }
}
