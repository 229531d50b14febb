//! Calls that repeat: a request waits untold, its answer decides; see [`crate::repeat`].

use super::port::Port;
use super::{Shared, VERDICT_HTTP1, Walk};
use crate::event::{self, Head, Header, Kind};
use crate::flow::{Flow, PLACED, WINDOW_START, mode, opaque};
use crate::repeat::{self, Answer, Memo};

/// Answers in a row unlike the one before, after which only some are looked at: 8.
const UNLIKE: u32 = 8;

impl<P: Port> Walk<'_, P> {
    /// Whether [`Walk::defer`] or [`Walk::take`] is to be called: for a segment of the requests
    /// that may be one that is counted, and for any while another one waits, which is to be told
    /// first; for its answer; also where either direction `ends` with a segment while one waits.
    /// To be called with each segment, before [`Walk::enter`].
    ///
    /// In numbers, and with no question but the caller's: the verifier would follow each answer
    /// to the end of the program.
    #[inline(always)]
    pub fn may_defer(&mut self, ends: bool) -> bool {
        self.take_up_number();
        let ends = u32::from(ends);
        let waits = is_any(u32::from(self.shared.waiting));
        let asks = 1 ^ is_any(u32::from(self.shared.requests ^ (self.direction + 1)));
        let fresh = 1 ^ is_any(self.hindrance() | ends);
        let length = self.flow.segment_end ^ self.flow.segment_start;
        let closes = ends & waits & (1 ^ is_any(length));
        let answers = waits & (1 ^ asks) & (1 ^ is_any(self.obstacle() | ends));
        let tries = self.tries(answers);
        closes | tries | (asks & (waits | fresh)) != 0
    }

    /// Of answers that are never alike only some are looked at.
    #[inline(always)]
    fn tries(&mut self, answers: u32) -> u32 {
        let unlike = u32::from(self.flow.unlike);
        let often = 1 ^ is_any(unlike / UNLIKE);
        let tries = answers & (often | (1 ^ is_any(unlike % repeat::EVERY)));
        let skipped = answers & (1 ^ tries);
        // It goes round, but not to where all are looked at.
        let next = unlike.wrapping_add(skipped) & 0xff;
        self.flow.unlike = (next | ((skipped & (1 ^ is_any(next / UNLIKE))) * UNLIKE)) as u8;
        tries
    }

    /// 0 where the segment is in its place and begins with the answer to the request that waits.
    #[inline(always)]
    fn obstacle(&self) -> u32 {
        let (flow, shared) = (&*self.flow, &*self.shared);
        let numbers = (flow.epoch ^ shared.epoch)
            | (flow.epoch ^ u32::from(shared.requests_epoch))
            | (flow.number ^ shared.begun)
            | u32::from(shared.settled);
        let length = flow.segment_end ^ flow.segment_start;
        self.misplaced() | numbers | (1 ^ is_any(length))
    }

    /// 0 where a message may begin with the segment, and it follows what was seen.
    #[inline(always)]
    fn misplaced(&self) -> u32 {
        let flow = &*self.flow;
        let between = u32::from(flow.mode ^ mode::START) | flow.head | flow.fill;
        let place = u32::from(flow.placed ^ PLACED)
            | flow.edge.ahead
            | u32::from(flow.aside)
            | (flow.segment_start ^ flow.edge.end)
            | (flow.next ^ flow.edge.end);
        between | place
    }

    /// Takes a segment that is the answer to the request that waits and like one before: the
    /// call is counted. False: it is to be walked.
    #[inline(always)]
    pub fn take(&mut self) -> bool {
        let length = self.flow.segment_end.wrapping_sub(self.flow.segment_start);
        let slot = self.shared.waiting;
        let head = self.port.memo(slot).map_or(0, |memo| memo.head(length));
        self.flow.unlike = self.flow.unlike.wrapping_add(1);
        let payload = self.flow.payload;
        if head == 0 || !self.port.load(self.flow, payload, head) {
            return false;
        }
        let tag = self.tag(head);
        let place = self.flow.segment_start;
        let Some(memo) = self.port.memo(slot) else { return false };
        if !memo.is(tag, place) {
            return false;
        }
        let status = memo.status;
        let body = u64::from(length.wrapping_sub(head));
        let answer = Answer { now_ns: self.flow.now_ns, nanoseconds: 0, body, status };
        if !self.port.answer(self.flow, self.shared, answer) {
            return false;
        }
        self.pass_over();
        self.flow.unlike = 0;
        true
    }

    /// The segment was looked at, and nothing is told of it.
    #[inline(always)]
    fn pass_over(&mut self) {
        let flow = &mut *self.flow;
        flow.edge.advance(flow.segment_end);
        flow.next = flow.segment_end;
        flow.fresh = 0;
        self.shared.turn = self.direction + 1;
    }

    /// Of what was loaded.
    #[inline(always)]
    fn tag(&self, length: u32) -> u64 {
        let (flow, port) = (&*self.flow, &*self.port);
        let word = |index: usize| flow.word(WINDOW_START.wrapping_add(index * 8));
        repeat::tag(length, flow.cookie, word, |index| port.key(index))
    }

    /// Takes a segment of the requests where it is one whole request that is counted and
    /// nothing else is under way; false: it is to be walked. None waits any more; `last`: the stream ends with it.
    #[inline(always)]
    pub fn defer(&mut self, last: bool) -> bool {
        self.take_up_number();
        if last || self.hindrance() != 0 {
            return false;
        }
        let length = self.flow.segment_end.wrapping_sub(self.flow.segment_start);
        let payload = self.flow.payload;
        if !self.port.load(self.flow, payload, length) {
            return false;
        }
        let tag = self.tag(length);
        let slot = self.port.slot(tag);
        if slot == 0 {
            self.shared.misses = self.shared.misses.saturating_add(1);
            return false;
        }
        self.pass_over();
        let (flow, shared) = (&mut *self.flow, &mut *self.shared);
        flow.sequence = flow.segment_start;
        flow.acknowledgement = flow.segment_ack;
        flow.first_ns = flow.now_ns;
        flow.repeat = tag;
        // None but this one waits for an answer.
        shared.heads = 0;
        shared.misses = 0;
        shared.waiting_bytes = length as u8;
        shared.waiting = slot;
        true
    }

    /// A request that waited and was told meanwhile has taken the number that would be next.
    #[inline(always)]
    fn take_up_number(&mut self) {
        let (flow, shared) = (&mut *self.flow, &*self.shared);
        let differs = u32::from(flow.mode ^ mode::START)
            | flow.head
            | flow.line
            | u32::from(shared.waiting)
            | u32::from(shared.requests ^ (self.direction + 1))
            | (u32::from(shared.requests_epoch) ^ flow.epoch)
            | (shared.begun ^ flow.number.wrapping_add(1));
        flow.number = flow.number.wrapping_add(1 ^ is_any(differs));
    }

    /// 0 where every call before is over, and the segment in its place and no longer than what
    /// may be counted.
    #[inline(always)]
    fn hindrance(&self) -> u32 {
        let (flow, shared) = (&*self.flow, &*self.shared);
        let numbers = (flow.epoch ^ shared.epoch)
            | (flow.epoch ^ u32::from(shared.requests_epoch))
            | (flow.epoch ^ u32::from(shared.responses_epoch))
            | (flow.number ^ shared.begun)
            | (flow.number ^ shared.answered)
            | (1 ^ is_any(flow.number));
        let whose = u32::from(shared.verdict ^ VERDICT_HTTP1) | u32::from(shared.waiting);
        let missed = is_any(u32::from(shared.misses / repeat::MISSES));
        let seldom = missed & is_any(flow.number % repeat::EVERY);
        let length = flow.segment_end.wrapping_sub(flow.segment_start);
        let long = (repeat::LONGEST as u32).wrapping_sub(length) >> 31;
        self.misplaced() | numbers | whose | seldom | long | (1 ^ is_any(length))
    }

    /// The head of an answer is whole, and its request waits: counts the call, or has the
    /// request told. True: it is counted.
    #[inline(always)]
    pub(super) fn answer(&mut self) -> bool {
        let flow = &*self.flow;
        let ended = flow.piece_flags == event::HEAD_COMPLETE | event::HEAD_ENDED;
        let framed = matches!(flow.framing, event::FRAMING_LENGTH | event::FRAMING_NONE);
        let counts = ended && framed && flow.grpc_status == 0;
        let answer = Answer {
            now_ns: flow.now_ns,
            nanoseconds: 0,
            body: flow.body,
            status: if counts { flow.status } else { 0 },
        };
        self.port.answer(self.flow, self.shared, answer)
    }
}

/// 1 unless all bits are 0.
#[inline(always)]
fn is_any(bits: u32) -> u32 {
    let bits = opaque(bits as usize) as u32;
    (bits | bits.wrapping_neg()) >> 31
}

/// Counts the call of a request that waits, where `answer` is the expected one (its status is
/// 0 where it cannot be), else has the request told. True: it is counted. `asking`: the
/// direction of the request; `answering`: that of the answer.
#[inline(always)]
pub fn decide(
    asking: &mut Flow,
    answering: &Flow,
    shared: &mut Shared,
    port: &mut impl Port,
    mut answer: Answer,
) -> bool {
    if shared.waiting == 0 {
        return false;
    }
    answer.nanoseconds = answer.now_ns.saturating_sub(asking.first_ns);
    if answer.status != 0 && port.count(shared.waiting, asking.repeat, &answer) {
        if let Some(memo) = port.memo(shared.waiting) {
            learn(memo, answering, answer.status);
        }
        shared.waiting = 0;
        return true;
    }
    tell(asking, shared, port);
    false
}

/// Remembers an answer that was walked and is a packet.
#[inline(always)]
fn learn(memo: &mut Memo, answering: &Flow, status: u16) {
    let (start, end) = (answering.segment_start, answering.segment_end);
    if answering.sequence == start && answering.next == end {
        memo.learn(start, end.wrapping_sub(start), answering.head, status);
    }
}

/// Tells a request that waits. Its bytes are in the window still: what comes in
/// its direction has it told before it is looked at.
#[inline(always)]
fn tell(asking: &mut Flow, shared: &mut Shared, port: &mut impl Port) {
    let length = u32::from(shared.waiting_bytes);
    let header = Header {
        time_ns: asking.first_ns,
        cookie: asking.cookie,
        kind: Kind::Head as u8,
        direction: shared.requests.wrapping_sub(1),
        flags: shared.weighed(event::HEAD_FIRST | event::HEAD_COMPLETE | event::HEAD_ENDED),
        lost: shared.lost,
        length: length as u16,
    };
    let head = Head {
        header,
        first_ns: asking.first_ns,
        number: asking.number,
        epoch: asking.epoch,
        sequence: asking.sequence,
        acknowledgement: asking.acknowledgement,
        framing: event::FRAMING_NONE,
        ..Head::default()
    };
    // SAFETY: the record fits in front of the window, and the buffer is aligned to
    // eight bytes as the first field of a flow.
    let record = unsafe {
        let place = asking.buffer.as_mut_ptr().cast::<Head>();
        place.write(head);
        &mut *place
    };
    port.measure(record);
    shared.waiting = 0;
    shared.sequence = asking.sequence;
    shared.begun = asking.number.wrapping_add(1);
    port.send_head(asking, shared, WINDOW_START as u32 + length);
    shared.tell(asking.number);
}
