//! Frames, one by one: what each says of its call.

use std::borrow::Cow;
use std::num::NonZeroU64;

use meshtap_ebpf::event::{self, Data, Frames, Header, Item};
use zerocopy::FromBytes as _;

use super::assembly::{First, Step};
use super::fields::Fields;
use super::hpack::Decoder;
use super::stream::Stream;
use super::{Http2, Memory, Pass};
use crate::protocol::{Cause, lost};
use crate::ring_buffer::Items;

impl Http2 {
    pub(super) fn frames(&mut self, record: &Frames, bytes: &[u8], pass: &mut Pass<'_>) {
        self.tcp.update(record.retransmits, record.srtt_us);
        self.count_waits(record, pass);
        let header = &record.header;
        if header.flags & event::FRAMES_PREFACE != 0 {
            self.preface(header, pass);
        }
        if header.flags & event::FRAMES_JOINED != 0 {
            self.miss(header.direction, lost::DESYNCHRONISED_GAP, pass);
        }
        if self.asks != Some(header.direction) {
            self.acknowledged = Some(record.acknowledgement);
        }
        let mut begins = header.flags & event::FRAMES_PREFACE != 0 && header.lost == 0;
        self.way(header.direction).blind = None;
        for item in Items::new(bytes) {
            match item {
                Ok((item, bytes)) => {
                    if std::mem::take(&mut begins) {
                        self.sequence.get_or_insert(item.sequence);
                    }
                    self.item(item, bytes, record, pass);
                }
                Err(_) => self.malformed(header.direction, pass),
            }
        }
    }

    /// The direction begins here, and it asks. Where records are missing they may have held
    /// its first frames: then what follows is as behind a gap.
    fn preface(&mut self, header: &Header, pass: &mut Pass<'_>) {
        let direction = header.direction;
        let upgraded = header.flags & event::FRAMES_UPGRADED != 0;
        if self.asks.is_some_and(|asks| asks != direction) || (self.next.is_some() && !upgraded) {
            pass.shared.counters.strays += 1;
            return;
        }
        self.asks = Some(direction);
        self.next.get_or_insert(1);
        if header.lost > 0 {
            return;
        }
        self.gap = None;
        self.way(direction).decoder = Decoder::whole(&pass.shared.tables);
        if !upgraded {
            // Nothing was asked, so nothing was answered.
            let answers = self.way(other(direction));
            answers.decoder = Decoder::whole(&pass.shared.tables);
            answers.blind = None;
        }
    }

    /// What the kernel half sent does not hold together: something is missing.
    pub(super) fn malformed(&mut self, direction: u8, pass: &mut Pass<'_>) {
        pass.shared.counters.frames_malformed += 1;
        self.miss(direction, lost::DESYNCHRONISED_SYNTAX, pass);
    }

    fn item(&mut self, item: &Item, bytes: &[u8], record: &Frames, pass: &mut Pass<'_>) {
        let direction = record.header.direction;
        match item.kind {
            event::FRAME_DATA => match Data::ref_from_prefix(bytes) {
                Ok((data, _)) if !self.way(direction).assembly.is_open() => {
                    self.data(item, data, direction, pass);
                }
                _ => self.malformed(direction, pass),
            },
            event::FRAME_HEADERS
            | event::FRAME_CONTINUATION
            | event::FRAME_PUSH_PROMISE
            | event::FRAME_RST_STREAM
            | event::FRAME_GOAWAY
            | event::FRAME_CLOSING => self.piece(item, bytes, record, pass),
            // The encoder says in a block what it makes of the peer's settings.
            _ => {}
        }
    }

    fn piece(&mut self, item: &Item, bytes: &[u8], record: &Frames, pass: &mut Pass<'_>) {
        let direction = record.header.direction;
        let moment = (record.header.time_ns, record.acknowledgement);
        self.look_at_table(item, direction);
        let begins = item.kind == event::FRAME_HEADERS && item.offset == 0;
        if begins && self.asks == Some(direction) {
            let Item { stream, kind, flags, sequence, .. } = *item;
            let (time_ns, acknowledgement) = moment;
            let first = First { stream, kind, flags, sequence, time_ns, acknowledgement };
            if !self.can_begin(&first) {
                return self.malformed(direction, pass);
            }
            self.begin(&first, pass);
        }
        match self.way(direction).assembly.take(item, bytes, moment, pass.shared) {
            Step::More => {}
            Step::Whole(first, payload) => match first.kind {
                event::FRAME_HEADERS => {
                    let tag = self.tag(item, bytes, direction, pass);
                    self.block(&first, Some(payload), tag, direction, pass);
                }
                event::FRAME_RST_STREAM => self.reset(first.stream, &payload, direction, pass),
                event::FRAME_GOAWAY => self.goaway(&payload, direction, pass),
                event::FRAME_CLOSING => self.closing(&first, &payload, direction, pass),
                _ => self.block(&first, Some(payload), None, direction, pass),
            },
            Step::Dropped(first) => self.block(&first, None, None, direction, pass),
            Step::Malformed => self.malformed(direction, pass),
        }
    }

    /// A block of headers is over; `None`: its bytes were not kept. `tag`: what the kernel half
    /// knows it by.
    fn block(
        &mut self,
        first: &First,
        block: Option<Cow<'_, [u8]>>,
        tag: Option<NonZeroU64>,
        direction: u8,
        pass: &mut Pass<'_>,
    ) {
        let mut memory = pass.shared.memory.take().unwrap_or_default();
        let Memory { blocks, fields, strings } = &mut *memory;
        fields.clear();
        let decoder = &mut self.way(direction).decoder;
        let decoded = block.and_then(|block| blocks.read(decoder, &block, strings, fields).ok());
        if decoded.is_none() {
            decoder.forget();
            fields.clear();
            fields.unreadable = true;
            pass.shared.counters.blocks_unreadable += 1;
        }
        if first.kind == event::FRAME_PUSH_PROMISE {
            pass.shared.counters.pushes += 1;
        } else if first.stream % 2 == 1 {
            self.learn(first, fields, direction, pass);
            match self.asks {
                Some(asks) if asks == direction => self.asked(first, fields, tag, pass),
                Some(_) => self.answered(first, fields, tag, pass),
                None => {}
            }
        }
        pass.shared.memory = Some(memory);
    }

    /// Learns who asks by the first block that only one end can have sent.
    fn learn(&mut self, first: &First, fields: &Fields, direction: u8, pass: &mut Pass<'_>) {
        if self.asks.is_some() {
            return;
        }
        if fields.status.is_some() {
            self.asks = Some(other(direction));
        } else if fields.is_request() {
            self.asks = Some(direction);
            self.begin(first, pass);
        }
    }

    /// The asking end sent headers: a request's head, or what stands behind its body.
    fn asked(
        &mut self,
        first: &First,
        fields: &mut Fields,
        tag: Option<NonZeroU64>,
        pass: &mut Pass<'_>,
    ) {
        let Some(index) = self.position(first.stream) else {
            pass.shared.counters.strays += 1;
            return;
        };
        let stream = &mut self.streams[index];
        if !stream.asked {
            if !fields.unreadable && fields.is_tunnel() {
                pass.shared.counters.tunnels += 1;
                self.drop_at(index, pass);
                return;
            }
            let tag = tag.filter(|tag| self.templates.keep(*tag, fields, pass.time_ns));
            stream.exchange.tag = tag;
            stream.say(fields, &mut pass.shared.scratch);
            pass.shared.counters.heads_cut += u64::from(stream.exchange.cut);
        } else {
            stream.exchange.tag = None;
        }
        if first.flags & event::FLAG_END_STREAM != 0 {
            self.sent(index, pass);
        } else if self.last.is_some_and(|last| first.stream > last) {
            self.finish(index, pass.time_ns, Some(Cause::Refused), pass);
        }
    }

    /// The request is over.
    fn sent(&mut self, index: usize, pass: &mut Pass<'_>) {
        let stream = &mut self.streams[index];
        stream.sent = true;
        stream.exchange.request_end_ns = Some(pass.time_ns);
        if let Some(end_ns) = stream.answered_ns {
            self.finish(index, end_ns, None, pass);
        } else if self.last.is_some_and(|last| stream.id > last) {
            self.finish(index, pass.time_ns, Some(Cause::Refused), pass);
        }
    }

    /// The answering end sent headers: an interim answer's, the answer's, or what stands
    /// behind its body.
    fn answered(
        &mut self,
        first: &First,
        fields: &Fields,
        tag: Option<NonZeroU64>,
        pass: &mut Pass<'_>,
    ) {
        let Some(index) = self.answered_stream(first.stream, pass) else { return };
        let stream = &mut self.streams[index];
        let is_usual = match (stream.exchange.tag, tag) {
            (Some(_), Some(tail)) if stream.answering => {
                stream.exchange.answer.tail = tail.get();
                !fields.unknown
            }
            (Some(asked), Some(head)) => {
                stream.exchange.answer.head = head.get();
                self.templates.answered(asked, head, fields)
            }
            _ => false,
        };
        if !is_usual {
            stream.exchange.tag = None;
        }
        match fields.status {
            Some(..200) => return,
            Some(_) if stream.exchange.status.is_none() => stream.answer(fields, first.time_ns),
            Some(_) => {}
            None if stream.answering => stream.trailers(fields),
            // The head, of which nothing more can be known; but where frames were missed
            // it may be what stands behind the body, and then the head is not known.
            None if stream.doubt.is_none() => stream.answer(fields, first.time_ns),
            None => {}
        }
        if first.flags & event::FLAG_END_STREAM != 0 {
            self.answer_whole(index, pass);
        }
    }

    /// The answer is over: the call ends, but waits to be told while its request is still
    /// being sent.
    fn answer_whole(&mut self, index: usize, pass: &mut Pass<'_>) {
        let stream = &mut self.streams[index];
        if !stream.answering {
            let reason = stream.doubt.unwrap_or(lost::RECORDS_LOST);
            self.drop_at(index, pass);
            self.lose(1, reason, pass);
        } else if stream.sent || stream.end_missed {
            self.finish(index, pass.time_ns, None, pass);
        } else {
            stream.answered_ns.get_or_insert(pass.time_ns);
        }
    }

    fn data(&mut self, item: &Item, data: &Data, direction: u8, pass: &mut Pass<'_>) {
        let length = item.length;
        self.body((item.stream, item.flags), direction, pass, |stream, asked| {
            stream.data(length, data, asked);
        });
    }

    /// The end of a body says what stands in trailers elsewhere.
    fn closing(&mut self, first: &First, words: &[u8], direction: u8, pass: &mut Pass<'_>) {
        self.body((first.stream, first.flags), direction, pass, |stream, asked| {
            stream.close(words, asked);
        });
    }

    /// Bytes of a body: the request's where `take` is told so, else the answer's.
    fn body(
        &mut self,
        (id, flags): (u32, u8),
        direction: u8,
        pass: &mut Pass<'_>,
        take: impl FnOnce(&mut Stream, bool),
    ) {
        let Some((index, asked)) = self.stream_of(id, direction, pass) else { return };
        take(&mut self.streams[index], asked);
        if flags & event::FLAG_END_STREAM == 0 {
            return;
        }
        if asked { self.sent(index, pass) } else { self.answer_whole(index, pass) }
    }
}

fn other(direction: u8) -> u8 {
    if direction == event::INGRESS { event::EGRESS } else { event::INGRESS }
}
