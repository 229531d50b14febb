//! Frames, one by one: what each says of its call.

use std::borrow::Cow;

use meshtap_ebpf::event::{self, Data, Frames, Header, Item};
use zerocopy::FromBytes as _;

use super::assembly::{First, Step};
use super::fields::Fields;
use super::hpack::Decoder;
use super::stream::Stream;
use super::{Http2, Memory, Pass};
use crate::protocol::{Cause, connection, lost};
use crate::ring_buffer::Items;

impl Http2 {
    pub(super) fn frames(&mut self, record: &Frames, bytes: &[u8], pass: &mut Pass<'_>) {
        self.tcp.update(record.retransmits, record.srtt_us);
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
                event::FRAME_RST_STREAM => self.reset(first.stream, &payload, direction, pass),
                event::FRAME_GOAWAY => self.goaway(&payload, direction, pass),
                event::FRAME_CLOSING => self.closing(&first, &payload, direction, pass),
                _ => self.block(&first, Some(payload), direction, pass),
            },
            Step::Dropped(first) => self.block(&first, None, direction, pass),
            Step::Malformed => self.malformed(direction, pass),
        }
    }

    /// Whether a request can have this number, where what looks like a frame may be none:
    /// behind a gap the kernel half finds its place by what is likely.
    fn can_begin(&self, first: &First) -> bool {
        let (Some(next), Some(_), Some(_)) = (self.next, self.gap, self.sequence) else {
            return true;
        };
        first.stream < next || (first.stream - next) / 2 <= self.room(first.sequence)
    }

    /// A request begins, if it does not go on: those before it of which nothing was seen
    /// are lost.
    fn begin(&mut self, first: &First, pass: &mut Pass<'_>) {
        if first.stream.is_multiple_of(2) || self.next.is_some_and(|next| first.stream < next) {
            return;
        }
        if let Some(next) = self.next {
            let calls = ((first.stream - next) / 2).min(self.room(first.sequence));
            if let Some(reason) = self.gap {
                self.lose(calls, reason, pass);
            }
        } else if !self.late {
            self.lose(self.missing.min(first.stream / 2), lost::RECORDS_LOST, pass);
        }
        self.gap = None;
        self.sequence = Some(first.sequence.wrapping_add(REQUEST_MIN));
        self.next = Some(first.stream.saturating_add(2));
        let Some(side) = self.side() else { return };
        if self.streams.len() >= pass.shared.settings.requests_per_connection {
            pass.shared.counters.requests_refused += 1;
            self.lose(1, lost::REQUESTS_BOUND, pass);
            return;
        }
        if self.streams.capacity() == 0 {
            self.streams.reserve_exact(1);
        }
        let mut stream = Stream::begin(first, pass.socket, side, self.tcp.retransmits, pass.shared);
        if let Some(reason) = self.way(connection::answering_direction(side)).blind {
            stream.miss(false, reason);
        }
        self.streams.push_back(stream);
        pass.shared.requests += 1;
    }

    /// A block of headers is over; `None`: its bytes were not kept.
    fn block(
        &mut self,
        first: &First,
        block: Option<Cow<'_, [u8]>>,
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
                Some(asks) if asks == direction => self.asked(first, fields, pass),
                Some(_) => self.answered(first, fields, pass),
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
    fn asked(&mut self, first: &First, fields: &mut Fields, pass: &mut Pass<'_>) {
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
            stream.say(fields, &mut pass.shared.scratch);
            pass.shared.counters.heads_cut += u64::from(stream.exchange.cut);
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
    fn answered(&mut self, first: &First, fields: &Fields, pass: &mut Pass<'_>) {
        let Some(index) = self.answered_stream(first.stream, pass) else { return };
        let stream = &mut self.streams[index];
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

    /// Where a stream stands of which something was seen, and whether the asking end sent it.
    pub(super) fn stream_of(
        &mut self,
        id: u32,
        direction: u8,
        pass: &mut Pass<'_>,
    ) -> Option<(usize, bool)> {
        let asked = self.asks? == direction;
        let index = if asked { self.position(id) } else { self.answered_stream(id, pass) };
        Some((index?, asked))
    }

    /// Where a stream stands of which something of the answer was seen. A request that was
    /// not seen, and those before it, are lost.
    fn answered_stream(&mut self, id: u32, pass: &mut Pass<'_>) -> Option<usize> {
        let index = self.position(id);
        if index.is_none()
            && id % 2 == 1
            && let Some(next) = self.next
            && id >= next
        {
            let room = self.acknowledged.map_or(0, |end| self.room(end));
            let calls = (id - next) / 2 + 1;
            if calls > room && self.sequence.is_some() {
                // No such request was sent yet: this is no answer.
                return None;
            }
            let calls = calls.min(room.max(1));
            // The gap stays: requests behind this one may have begun in it, too.
            let reason = self.gap.unwrap_or(lost::RECORDS_LOST);
            self.next = Some(id.saturating_add(2));
            let sent = calls.wrapping_mul(REQUEST_MIN);
            self.sequence = self.sequence.map(|begin| begin.wrapping_add(sent));
            self.lose(calls, reason, pass);
        }
        index
    }

    /// How many requests the asking end can have begun in what it sent since the last one,
    /// up to a sequence number; where that is not known, one a record that is missing. The
    /// number of a stream alone proves nothing: it may be any.
    fn room(&self, end: u32) -> u32 {
        let Some(begin) = self.sequence else { return self.missing };
        let sent = end.wrapping_sub(begin).cast_signed();
        sent.max(0).cast_unsigned() / REQUEST_MIN
    }

    fn position(&self, id: u32) -> Option<usize> {
        if self.streams.front()?.id == id {
            return Some(0);
        }
        self.streams.binary_search_by_key(&id, |stream| stream.id).ok()
    }
}

/// Bytes of the smallest frame that begins a request: its head and one header.
const REQUEST_MIN: u32 = 10;

fn other(direction: u8) -> u8 {
    if direction == event::INGRESS { event::EGRESS } else { event::INGRESS }
}
