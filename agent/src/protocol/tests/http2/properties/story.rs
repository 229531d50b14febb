//! [`Story`]: what a connection truly did, and the records that the kernel half wrote of it.

use std::collections::HashMap;

use super::*;

/// What a connection may do next; a stream is picked among those that can.
#[derive(Clone, Debug)]
pub enum Step {
    Ask { path: u8, grpc: bool, end: bool },
    AskMore { pick: prop::sample::Index, messages: u32, end: bool },
    Interim { pick: prop::sample::Index },
    Answer { pick: prop::sample::Index, status: u16, end: bool },
    AnswerMore { pick: prop::sample::Index, messages: u32, end: bool },
    Trailers { pick: prop::sample::Index, status: u32 },
    GiveUp { pick: prop::sample::Index },
    Refuse { pick: prop::sample::Index, code: u32 },
    Statistics,
}

/// How a call truly ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was open when the answering end closed the connection.
    Closed,
    Answered,
    GivenUp,
    Reset(u32),
}

impl End {
    pub fn cause(self, side: Side) -> Option<Cause> {
        Some(match self {
            Self::Answered => return None,
            Self::Closed if side == Side::Client => Cause::Closed,
            Self::Closed => Cause::Abandoned,
            Self::GivenUp => Cause::Cancelled,
            Self::Reset(7) => Cause::Refused,
            Self::Reset(code) => Cause::StreamReset(StreamError::of(code)),
        })
    }
}

/// What truly happened to a request.
#[derive(Clone, Debug)]
pub struct Truth {
    pub path: String,
    pub grpc: bool,
    pub status: Option<u16>,
    pub grpc_status: Option<u32>,
    pub end: End,
    /// Of the request and of the answer, likewise.
    pub bytes: (u64, u64),
    pub messages: [u64; 2],
}

/// A stream that is not over in the story.
#[derive(Clone, Debug)]
struct Live {
    id: u32,
    sequence: u32,
    /// The request is over; the answer has begun; it is over.
    asked: bool,
    answering: bool,
    answered: bool,
}

#[derive(Clone, Debug)]
pub struct Story {
    pub side: Side,
    pub records: Vec<Record>,
    pub truth: HashMap<u32, Truth>,
}

struct Teller {
    wire: Wire,
    story: Story,
    live: Vec<Live>,
    next: u32,
}

/// A connection from its preface to the close of its answering end.
pub fn stories() -> impl Strategy<Value = Story> {
    let index = any::<prop::sample::Index>;
    let step = prop_oneof![
        6 => (0_u8..4, any::<bool>(), any::<bool>())
            .prop_map(|(path, grpc, end)| Step::Ask { path, grpc, end }),
        4 => (index(), 0_u32..3, any::<bool>())
            .prop_map(|(pick, messages, end)| Step::AskMore { pick, messages, end }),
        1 => index().prop_map(|pick| Step::Interim { pick }),
        5 => (index(), 200_u16..600, prop::bool::weighted(0.3))
            .prop_map(|(pick, status, end)| Step::Answer { pick, status, end }),
        4 => (index(), 0_u32..3, any::<bool>())
            .prop_map(|(pick, messages, end)| Step::AnswerMore { pick, messages, end }),
        3 => (index(), 0_u32..17).prop_map(|(pick, status)| Step::Trailers { pick, status }),
        1 => index().prop_map(|pick| Step::GiveUp { pick }),
        1 => (index(), 0_u32..15).prop_map(|(pick, code)| Step::Refuse { pick, code }),
        1 => Just(Step::Statistics),
    ];
    let cut = prop_oneof![3 => Just(usize::MAX), 1 => 1_usize..30];
    let steps = prop::collection::vec((step, cut, any::<bool>()), 1..60);
    let side = prop_oneof![Just(Side::Client), Just(Side::Server)];
    (side, steps).prop_map(|(side, steps)| {
        let mut wire = Wire::new(side);
        let records = vec![wire.preface()];
        let story = Story { side, records, truth: HashMap::new() };
        let mut teller = Teller { wire, story, live: Vec::new(), next: 1 };
        for (step, piece, apart) in steps {
            teller.step(&step, piece, apart);
        }
        let answers = teller.wire.answers();
        teller.story.records.push(teller.wire.socket.fin(answers));
        teller.story.records.push(teller.wire.socket.closed(event::CLOSE_FIN));
        teller.story
    })
}

impl Teller {
    fn pick(&self, pick: prop::sample::Index, may: impl Fn(&Live) -> bool) -> Option<usize> {
        let able: Vec<usize> = (0..self.live.len()).filter(|one| may(&self.live[*one])).collect();
        (!able.is_empty()).then(|| *pick.get(&able))
    }

    fn truth(&mut self, at: usize) -> &mut Truth {
        self.story.truth.get_mut(&self.live[at].sequence).unwrap()
    }

    /// Takes a step, if it is possible; its frame comes in pieces, each in a record of its
    /// own (`apart`) or all in one.
    fn step(&mut self, step: &Step, piece: usize, apart: bool) {
        let asks = self.wire.asks();
        let answers = 1 - asks;
        let (direction, frame) = match *step {
            Step::Statistics => {
                let record = Record::Statistics(self.wire.socket.statistics());
                self.story.records.push(record);
                return;
            }
            Step::Ask { path, grpc, end } => (asks, Some(self.ask(path, grpc, end))),
            Step::AskMore { pick, messages, end } => (
                asks,
                self.pick(pick, |live| !live.asked).map(|at| self.more(at, messages, end, 0)),
            ),
            Step::Interim { pick } => {
                let at = self.pick(pick, |live| !live.answering);
                let id = at.map(|at| self.live[at].id);
                let head = [(":status", "103")];
                (answers, id.map(|id| self.wire.headers(answers, id, &head, false)))
            }
            Step::Answer { pick, status, end } => {
                let at = self.pick(pick, |live| !live.answering);
                (answers, at.map(|at| self.answer(at, status, end)))
            }
            Step::AnswerMore { pick, messages, end } => {
                let at = self.pick(pick, |live| live.answering && !live.answered);
                (answers, at.map(|at| self.more(at, messages, end, 1)))
            }
            Step::Trailers { pick, status } => {
                let at = self.pick(pick, |live| live.answering && !live.answered);
                (answers, at.map(|at| self.trailers(at, status)))
            }
            Step::GiveUp { pick } => {
                let at = self.pick(pick, |_| true);
                (asks, at.map(|at| self.reset(at, End::GivenUp, 8)))
            }
            Step::Refuse { pick, code } => {
                let at = self.pick(pick, |_| true);
                (answers, at.map(|at| self.reset(at, End::Reset(code), code)))
            }
        };
        self.live.retain(|live| !(live.asked && live.answered));
        let Some(frame) = frame else { return };
        let items = self.wire.pass(direction, &[frame], piece);
        let count = if apart { 1 } else { items.len() };
        for items in items.chunks(count) {
            self.story.records.push(self.wire.record(direction, 0, items));
        }
    }

    fn ask(&mut self, path: u8, grpc: bool, end: bool) -> Frame {
        let asks = self.wire.asks();
        let sequence = self.wire.way(asks).sequence;
        let path = format!("/path/{path}");
        let kind = [("content-type", "application/grpc"), ("te", "trailers")];
        let more = if grpc { &kind[..] } else { &[("accept", "*/*")] };
        let headers = [&GET[..], &[(":path", &path)], more].concat();
        let frame = self.wire.headers(asks, self.next, &headers, end);
        let (answering, answered) = (false, false);
        self.live.push(Live { id: self.next, sequence, asked: end, answering, answered });
        self.next += 2;
        let truth = Truth {
            path,
            grpc,
            status: None,
            grpc_status: None,
            end: End::Closed,
            bytes: (0, 0),
            messages: [0, 0],
        };
        self.story.truth.insert(sequence, truth);
        frame
    }

    fn more(&mut self, at: usize, messages: u32, end: bool, way: usize) -> Frame {
        let length = messages * 20;
        let truth = self.truth(at);
        truth.messages[way] += u64::from(messages);
        let bytes = if way == 0 { &mut truth.bytes.0 } else { &mut truth.bytes.1 };
        *bytes += u64::from(length);
        if end && way == 1 {
            truth.end = End::Answered;
        }
        let live = &mut self.live[at];
        let over = if way == 0 { &mut live.asked } else { &mut live.answered };
        *over = end;
        Frame::data(live.id, length, end, Data { messages, ..Data::default() })
    }

    fn answer(&mut self, at: usize, status: u16, end: bool) -> Frame {
        self.truth(at).status = Some(status);
        if end {
            self.truth(at).end = End::Answered;
        }
        let answers = self.wire.answers();
        let live = &mut self.live[at];
        (live.answering, live.answered) = (true, end);
        let status = status.to_string();
        let id = live.id;
        self.wire.headers(answers, id, &[(":status", &status), ("server", "x")], end)
    }

    fn trailers(&mut self, at: usize, status: u32) -> Frame {
        self.truth(at).end = End::Answered;
        let grpc = self.truth(at).grpc;
        self.truth(at).grpc_status = grpc.then_some(status);
        let name = if grpc { "grpc-status" } else { "x-sum" };
        self.live[at].answered = true;
        let id = self.live[at].id;
        self.wire.headers(self.wire.answers(), id, &[(name, &status.to_string())], true)
    }

    fn reset(&mut self, at: usize, end: End, code: u32) -> Frame {
        if !self.live[at].answered {
            self.truth(at).end = end;
        }
        Frame::reset(self.live.remove(at).id, code)
    }
}

/// The first item of a record of frames.
fn first_item(bytes: &[u8]) -> Option<Item> {
    crate::ring_buffer::Items::new(bytes).next()?.ok().map(|(item, _)| *item)
}

impl Story {
    /// Leaves out the records for which `lost` says so; the next one that goes through says
    /// how many.
    pub fn lose(&mut self, lost: &[bool]) {
        let mut missing = 0;
        let mut lost = lost.iter().copied().chain(std::iter::repeat(false));
        let mut preface = 0;
        self.records.retain_mut(|record| {
            if let Record::Frames(frames, _) = &mut *record {
                preface |= frames.header.flags & FRAMES_PREFACE;
            }
            if lost.next() == Some(true) {
                missing += 1;
                return false;
            }
            record.header_mut().lost = std::mem::take(&mut missing);
            true
        });
        // The kernel half announces a direction until a record of it came through.
        let asks = if self.side == Side::Client { EGRESS } else { INGRESS };
        let first = self.records.iter_mut().find_map(|record| match record {
            Record::Frames(frames, _) if frames.header.direction == asks => Some(frames),
            _ => None,
        });
        if let Some(frames) = first {
            frames.header.flags |= preface;
        }
    }

    /// Lets the `count` records of frames from `from` on, in the direction of the first,
    /// pass unseen: the kernel half says so, and joins where a frame begins.
    pub fn pass_unseen(&mut self, from: usize, count: usize) {
        let is_of = |record: &Record, direction: u8| matches!(record, Record::Frames(frames, _) if frames.header.direction == direction);
        let direction = match self.records.get(from) {
            // Without its preface it would be a connection of which nothing is known.
            Some(Record::Frames(frames, _)) if frames.header.flags & FRAMES_PREFACE == 0 => {
                frames.header.direction
            }
            _ => return,
        };
        let header = Header { direction, flags: 0, ..*self.records[from].header_mut() };
        let gap = Desynchronised { header, reason: LOST_GAP, ..Desynchronised::default() };
        let mut left = count;
        let mut at = from;
        let mut joins = false;
        while at < self.records.len() {
            let begins = match &self.records[at] {
                Record::Frames(_, bytes) => first_item(bytes).is_some_and(|item| item.offset == 0),
                _ => true,
            };
            let is_last = matches!(&self.records[at], Record::Shut(_));
            if is_last || (is_of(&self.records[at], direction) && left == 0 && begins) {
                joins = !is_last;
                break;
            }
            if is_of(&self.records[at], direction) {
                self.records.remove(at);
                left = left.saturating_sub(1);
            } else {
                at += 1;
            }
        }
        if at >= self.records.len() {
            return;
        }
        if let Record::Frames(frames, _) = &mut self.records[at]
            && joins
        {
            frames.header.flags |= FRAMES_JOINED;
        }
        self.records.insert(from, Record::Desynchronised(gap));
    }

    /// Leaves out what came before `from`, and joins each direction where a frame begins.
    pub fn join_late(&mut self, from: usize) {
        self.records.drain(..from);
        let mut joined = [false; 2];
        self.records.retain_mut(|record| {
            let Record::Frames(frames, bytes) = record else { return true };
            let joined = &mut joined[usize::from(frames.header.direction)];
            if *joined || frames.header.flags & FRAMES_PREFACE != 0 {
                *joined = true;
                return true;
            }
            *joined = first_item(bytes).is_some_and(|item| item.offset == 0);
            frames.header.flags |= FRAMES_JOINED;
            *joined
        });
    }

    /// Requests of which the beginning can be seen in the records.
    pub fn shown(&self) -> usize {
        let asks = if self.side == Side::Client { EGRESS } else { INGRESS };
        let mut shown = std::collections::HashSet::new();
        for record in &self.records {
            let Record::Frames(frames, bytes) = record else { continue };
            if frames.header.direction != asks {
                continue;
            }
            for item in crate::ring_buffer::Items::new(bytes) {
                let item = *item.unwrap().0;
                let (kind, offset, sequence) = (item.kind, item.offset, item.sequence);
                if kind == FRAME_HEADERS && offset == 0 && self.truth.contains_key(&sequence) {
                    shown.insert(item.stream);
                }
            }
        }
        shown.len()
    }
}
