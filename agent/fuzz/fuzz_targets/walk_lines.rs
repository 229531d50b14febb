//! The kernel half's walk through lines: however the bytes of both directions are cut into
//! segments, the same messages are told, and no status that was not sent.
//!
//! The input: a byte that says how long the requests are, in units of four, one that seeds the
//! cuts, then the requests, and behind them the answers.
#![no_main]

use std::mem::MaybeUninit;

use libfuzzer_sys::fuzz_target;
use meshtap_ebpf::event::{
    EGRESS, End, HEAD_COMPLETE, HEAD_ENDED, HEAD_FIRST, HEAD_RESPONSE, HEAD_TAIL, Head, Header,
    INGRESS, Kind,
};
use meshtap_ebpf::flow::{Flow, WINDOW_START};
use meshtap_ebpf::walk::{Port, Shared, VERDICT_OPAQUE, Walk};
use zerocopy::{FromBytes as _, IntoBytes};

/// Bytes of a request's head that are sent.
const PREFIX: u32 = 1024;

/// What was told of a message; a head by its request's bytes or its answer's status.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Request { epoch: u32, number: u32, head: Vec<u8> },
    Answer { epoch: u32, number: u32, status: u16 },
    Ended { response: bool, epoch: u32, number: u32, body: u64, reason: u8 },
    Lost,
}

#[derive(Default)]
struct Recorder {
    packet: Vec<u8>,
    head: Vec<u8>,
    told: Vec<Told>,
}

impl Port for Recorder {
    fn load(&mut self, flow: &mut Flow, offset: u32, length: u32) -> bool {
        let (offset, length) = (offset as usize, length as usize);
        let bytes = &self.packet[offset..offset + length];
        flow.buffer[WINDOW_START..WINDOW_START + length].copy_from_slice(bytes);
        true
    }

    fn send_head(&mut self, flow: &mut Flow, _: &mut Shared, length: u32) {
        let Ok((head, bytes)) = Head::ref_from_prefix(&flow.buffer[..length as usize]) else {
            panic!("a head that is too short");
        };
        let Head { epoch, number, status, body_bytes, .. } = *head;
        let flags = head.header.flags;
        assert_eq!(usize::from(head.header.length), bytes.len());
        let response = flags & HEAD_RESPONSE != 0;
        if flags & HEAD_TAIL != 0 {
            // What it holds depends on the segment.
            return;
        }
        if flags & HEAD_FIRST != 0 {
            self.head.clear();
        }
        self.head.extend_from_slice(bytes);
        assert!(response || self.head.len() <= PREFIX as usize);
        if flags & HEAD_COMPLETE == 0 {
            return;
        }
        self.told.push(if response {
            Told::Answer { epoch, number, status }
        } else {
            Told::Request { epoch, number, head: std::mem::take(&mut self.head) }
        });
        if flags & HEAD_ENDED != 0 {
            self.told.push(Told::Ended { response, epoch, number, body: body_bytes, reason: 0 });
        }
    }

    fn send<T: IntoBytes>(&mut self, _: &mut Shared, fill: impl FnOnce(*mut T)) {
        let mut place = vec![0u64; size_of::<T>().div_ceil(8)];
        fill(place.as_mut_ptr().cast());
        let bytes = place.as_slice().as_bytes();
        let kind = Header::ref_from_prefix(bytes).expect("a record").0.kind;
        self.told.push(if kind == Kind::End as u8 {
            let end = End::ref_from_prefix(bytes).expect("an end").0;
            let response = end.header.flags & HEAD_RESPONSE != 0;
            let End { epoch, number, body_bytes: body, reason, .. } = *end;
            Told::Ended { response, epoch, number, body, reason }
        } else {
            assert_eq!(kind, Kind::Desynchronised as u8);
            Told::Lost
        });
    }

    fn measure(&mut self, _: &mut Head) {}

    fn set_aside(&mut self, _: &mut Flow) -> u8 {
        0
    }

    fn prefix(&self) -> u32 {
        PREFIX
    }
}

struct Connection {
    flows: [Flow; 2],
    sequence: [u32; 2],
    shared: Shared,
    port: Recorder,
}

impl Connection {
    fn new() -> Self {
        // Near the end of the numbers, so that they wrap.
        let sequence = [u32::MAX - 20, 77];
        let flows = sequence.map(|place| {
            // SAFETY: every field of a flow is valid as zero; so socket storage makes it.
            let mut flow: Flow = unsafe { MaybeUninit::zeroed().assume_init() };
            flow.place(place);
            flow
        });
        Self { flows, sequence, shared: Shared::default(), port: Recorder::default() }
    }

    fn send(&mut self, direction: u8, bytes: &[u8]) {
        let mine = usize::from(direction);
        let start = self.sequence[mine];
        self.sequence[mine] = start.wrapping_add(bytes.len() as u32);
        if self.shared.verdict == VERDICT_OPAQUE {
            return;
        }
        self.port.packet = bytes.to_vec();
        let flow = &mut self.flows[mine];
        flow.segment_start = start;
        flow.segment_end = self.sequence[mine];
        flow.segment_ack = self.sequence[1 - mine];
        let mut walk = Walk { flow, shared: &mut self.shared, port: &mut self.port, direction };
        if walk.enter() {
            let mut steps = 0;
            while walk.step() || walk.resume() {
                steps += 1;
                assert!(steps <= 64 + 8 * bytes.len(), "the walk does not end");
            }
            walk.leave();
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let [length, seed, rest @ ..] = bytes else { return };
    let (requests, answers) = rest.split_at((usize::from(*length) * 4).min(rest.len()));
    let (mut whole, mut cut) = (Connection::new(), Connection::new());
    let mut state = u64::from(*seed) | 1;
    for (direction, bytes) in [(INGRESS, requests), (EGRESS, answers)] {
        if !bytes.is_empty() {
            whole.send(direction, bytes);
        }
        let mut left = bytes;
        while !left.is_empty() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let size = 1 + (state >> 33) as usize % (1 + usize::from(*seed));
            let (piece, behind) = left.split_at(size.min(left.len()));
            cut.send(direction, piece);
            left = behind;
        }
    }
    // What cannot be read is given up where it is met first, and that depends on the segments; so
    // does whether a long line can be read. Whoever gives up told nothing else until then.
    let [mut fewer, mut more] = [&whole.port.told, &cut.port.told].map(|told| {
        let lost = told.iter().position(|told| *told == Told::Lost);
        (&told[..lost.unwrap_or(told.len())], lost.is_some())
    });
    if fewer.0.len() > more.0.len() {
        (fewer, more) = (more, fewer);
    }
    assert!(more.0.starts_with(fewer.0), "{fewer:#?}\n{more:#?}");
    assert!(fewer.1 || more.0.len() == fewer.0.len(), "{fewer:#?}\n{more:#?}");
    for told in &whole.port.told {
        if let Told::Answer { status, .. } = told {
            let text = status.to_string();
            assert!(rest.windows(3).any(|three| three == text.as_bytes()), "{status} was not sent");
        }
    }
});
