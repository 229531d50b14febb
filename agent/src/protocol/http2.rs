//! One connection of HTTP/2: streams, and everything that can end them.
//!
//! A call is a stream that the asking end began: an odd number. Which end asks is known
//! by the preface; where that was missed, by the first block of headers that only a
//! request or only an answer can have. Until then nothing is guessed and nothing counts.
//! CONNECT, with or without a protocol, asks for a tunnel: a hop, and no call. Streams
//! that a server pushes are no calls either.
//!
//! A call ends, and becomes an exchange, at the first of:
//! - **the end of its answer** (END_STREAM), told once its request is over, too: by its own
//!   end, or a reset of the stream by either side, which is no error any more then.
//! - **a reset of the stream**. By the asking end with CANCEL or NO_ERROR it gave up:
//!   [`Cause::DeadlineExceeded`] where `grpc-timeout` had run out (so it is where the
//!   answering end says CANCEL then), else [`Cause::Cancelled`]. By the answering end with REFUSED_STREAM:
//!   [`Cause::Refused`]. Every other is a [`Cause::StreamReset`] with its code.
//! - **GOAWAY of the answering end** with a lower last stream: [`Cause::Refused`].
//! - **the end of the connection**, with the causes that HTTP/1 has for it
//!   ([`super::connection`]).
//!
//! # What is missed
//! Frames may pass unseen: where the kernel half lost its place
//! ([`event::Desynchronised`], [`event::FRAMES_JOINED`]; one direction), where records are
//! missing ([`event::Header::lost`]; both may be concerned). Then:
//! - What was compressed before is not known ([`hpack`]): headers that refer to it are
//!   [`super::exchange::UNKNOWN`], or missing, but never others. Where records are missing the
//!   next block shows whether they held one that changed the table ([`event::Item::table`]).
//! - Open calls are in doubt. One whose answer's end is seen later is told, with the bytes
//!   that were seen and without the numbers of its messages; one whose end is not seen is
//!   lost, since it may have ended well. So is one whose answer's head was missed, and one
//!   that is reset after a part of its answer was missed: what was answered early is reset.
//! - Numbers of streams grow by two. Where the next request has a number that is higher
//!   than the next one, those between were begun unseen: lost calls. Without anything
//!   missed they were skipped, which clients may do. An answer on a stream that did not
//!   begin here shows the same.
//!
//! Of a connection whose beginning was not seen nothing counts that began before the first
//! request that was.

mod assembly;
mod blocks;
mod calls;
mod ends;
mod fact;
mod fields;
mod hpack;
mod names;
mod numbers;
mod stream;
mod templates;
mod waited;

#[cfg(test)]
pub(super) use hpack::encoder::Encoder;

use std::collections::VecDeque;

use meshtap_ebpf::event::{self, Desynchronised, Ended, Shut, Statistics};

use super::connection::{self, Pass, asking_side, closed_first, reset};
use super::tcp::Tcp;
use super::{Cause, Exchange, LostCalls, Output, Shared, Side, lost};
use crate::ring_buffer::Event;
use assembly::Assembly;
pub(crate) use hpack::Budget;
use hpack::Decoder;
use stream::Stream;
use templates::Templates;
use waited::Waits;

/// What is kept between blocks of headers, for their memory.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    blocks: blocks::Blocks,
    fields: fields::Fields,
    strings: hpack::Scratch,
}

/// Open streams above which an empty queue gives its memory back.
const QUEUE_KEPT: usize = 32;

/// One direction.
#[derive(Debug)]
struct Way {
    decoder: Decoder,
    assembly: Assembly,
    /// Frames pass unseen until the direction's next record, and why.
    blind: Option<&'static str>,
    /// Version of the table behind the last block of headers, see [`Item::table`].
    version: Option<u32>,
    /// Records are missing since then: whether the table is still known, the next block shows.
    doubted: bool,
    /// When frames passed unseen last, and why.
    missed: Option<(u64, &'static str)>,
}

/// State of one connection.
#[derive(Debug)]
pub(crate) struct Http2 {
    /// By `INGRESS` and `EGRESS`.
    ways: [Way; 2],
    /// Direction of the requests, once known.
    asks: Option<u8>,
    /// Open calls by their numbers.
    streams: VecDeque<Stream>,
    /// The lowest number of a stream of which nothing has shown that it was begun. `None`:
    /// no request was seen, and there may have been some.
    next: Option<u32>,
    /// Requests may have begun unseen since the last one, and why.
    gap: Option<&'static str>,
    /// The beginning of the connection was not seen.
    late: bool,
    /// Records missing before [`Self::sequence`] was known.
    missing: u32,
    /// Sequence number behind the last request's beginning, or of the direction's first frame.
    sequence: Option<u32>,
    /// What the answering end acknowledged last.
    acknowledged: Option<u32>,
    /// The last stream that the answering end will process.
    last: Option<u32>,
    /// The asking end has sent FIN.
    asker_shut: bool,
    tcp: Tcp,
    /// Heads whose calls the kernel half may count.
    templates: Templates,
    waits: Waits,
}

/// What was before the first frames.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// Records missing so far.
    pub(crate) missing: u32,
    /// The connection is older than the agent.
    pub(crate) late: bool,
    /// The direction in which HTTP/1 had its requests.
    pub(crate) asks: Option<u8>,
    /// The request that was answered by the upgrade, with [`event::Head::retransmits`].
    pub(crate) upgraded: Option<(Box<Exchange>, u32)>,
    /// What to go on with, where the connection was forgotten.
    pub(crate) numbers: Option<Numbers>,
}

/// What is kept of a connection that is forgotten.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    /// The number of the next stream.
    pub(crate) next: u32,
    waits: Waits,
}

impl Numbers {
    /// Of a connection of which none ever waited.
    #[cfg(test)]
    pub(crate) fn of(next: u32) -> Self {
        Self { next, waits: Waits::default() }
    }

    /// How many of the streams of a connection that has ended are not accounted for.
    pub(crate) fn unseen(&self, ended: &Ended) -> u32 {
        let begun = ended.requests.saturating_sub(self.next / 2);
        begun.saturating_sub(self.waits.accounted(ended))
    }
}

impl Http2 {
    /// Begins with the first record, of these flags, which is to be fed next.
    pub(crate) fn new(flags: u16, before: Before, shared: &Shared) -> Self {
        let upgraded = flags & event::FRAMES_UPGRADED != 0;
        let tables = &shared.tables;
        let way = || Way {
            decoder: if upgraded { Decoder::whole(tables) } else { Decoder::unknown(tables) },
            assembly: Assembly::default(),
            blind: (!upgraded).then_some(lost::DESYNCHRONISED_GAP),
            version: None,
            doubted: false,
            missed: None,
        };
        let late = before.late || flags & event::FRAMES_JOINED != 0;
        let mut http2 = Self {
            ways: [way(), way()],
            asks: before.asks,
            streams: VecDeque::new(),
            next: before.numbers.map(|numbers| numbers.next),
            gap: None,
            late,
            missing: before.missing,
            sequence: None,
            acknowledged: None,
            last: None,
            asker_shut: false,
            tcp: Tcp::default(),
            templates: Templates::new(&shared.templates),
            waits: before.numbers.map(|numbers| numbers.waits).unwrap_or_default(),
        };
        if upgraded {
            // The request that asked for the upgrade has the first.
            http2.next = Some(3);
            let stream = |(exchange, retransmits)| Stream::upgraded(exchange, retransmits);
            http2.streams.extend(before.upgraded.map(stream));
        }
        http2
    }

    /// Whether a call waits for its answer.
    pub(crate) fn has_open_requests(&self) -> bool {
        !self.streams.is_empty()
    }

    /// What [`Before::numbers`] needs.
    pub(crate) fn numbers(&self) -> Option<Numbers> {
        self.next.map(|next| Numbers { next, waits: self.waits })
    }

    /// Takes an event of this connection.
    pub(crate) fn feed(&mut self, event: &Event<'_>, pass: &mut Pass<'_>) {
        let missing = event.header().lost;
        if missing > 0 {
            if self.sequence.is_none() {
                self.missing = self.missing.saturating_add(u32::from(missing));
            }
            self.miss_records(event::INGRESS, pass);
            self.miss_records(event::EGRESS, pass);
        }
        match event {
            Event::Frames(record, bytes) => self.frames(record, bytes, pass),
            Event::Waited(record) => self.waited(record, pass),
            Event::Desynchronised(record) => self.desynchronised(record, pass),
            Event::Shut(record) => self.shut(record, pass),
            Event::Statistics(record) => self.tcp.update(record.retransmits, record.srtt_us),
            Event::Closed(record) => self.closed(record, pass),
            Event::Head(..) | Event::End(_) => pass.shared.counters.strays += 1,
            _ => {}
        }
        if self.streams.is_empty() && self.streams.capacity() > QUEUE_KEPT {
            self.streams = VecDeque::new();
        }
    }

    /// Gives up every open call for `reason`.
    pub(crate) fn lose_all(&mut self, reason: &'static str, pass: &mut Pass<'_>) {
        let mut calls = 0;
        while let Some(stream) = self.streams.front() {
            match stream.answered_ns {
                Some(end_ns) => self.finish(0, end_ns, None, pass),
                None => {
                    self.drop_at(0, pass);
                    calls += 1;
                }
            }
        }
        self.lose(calls, reason, pass);
        self.ways.iter_mut().for_each(|way| way.assembly.clear(pass.shared));
    }

    /// Counts the streams that the kernel saw begin and of which no record came.
    pub(crate) fn lose_unseen(&mut self, ended: &Ended, pass: &mut Pass<'_>) {
        let unseen = match self.numbers() {
            Some(numbers) => numbers.unseen(ended),
            None if self.late => ended.requests.min(ended.lost.into()),
            None => ended.requests,
        };
        self.lose(unseen, self.gap.unwrap_or(lost::RECORDS_LOST), pass);
    }

    /// Lets calls report that began before `before_ns`.
    pub(crate) fn report(&mut self, before_ns: u64, now_ns: u64, out: &mut Output) {
        let tcp = &self.tcp;
        let old = self.streams.iter_mut().filter(|one| one.exchange.start_ns <= before_ns);
        out.progress.extend(old.filter_map(|stream| stream.report(now_ns, tcp)));
    }

    fn desynchronised(&mut self, record: &Desynchronised, pass: &mut Pass<'_>) {
        let (direction, reason) = (record.header.direction, lost::desynchronised(record.reason));
        self.miss(direction, reason, pass);
        self.way(direction).blind = Some(reason);
    }

    /// Frames passed unseen in `direction`.
    fn miss(&mut self, direction: u8, reason: &'static str, pass: &mut Pass<'_>) {
        let way = self.way(direction);
        way.decoder.forget();
        way.missed = Some((pass.time_ns, reason));
        self.miss_frames(direction, reason, pass);
    }

    /// Records are missing, which may have held frames of `direction`.
    fn miss_records(&mut self, direction: u8, pass: &mut Pass<'_>) {
        let way = self.way(direction);
        way.doubted = true;
        if way.version.is_none() || way.assembly.is_open() {
            way.decoder.forget();
        }
        self.miss_frames(direction, lost::RECORDS_LOST, pass);
    }

    fn miss_frames(&mut self, direction: u8, reason: &'static str, pass: &mut Pass<'_>) {
        self.way(direction).assembly.clear(pass.shared);
        let asks = self.asks == Some(direction);
        if asks || self.asks.is_none() {
            self.gap.get_or_insert(reason);
        }
        for stream in &mut self.streams {
            stream.miss(asks, reason);
        }
        if asks {
            // The end of a request that was answered may have been missed.
            let mut index = 0;
            while let Some(stream) = self.streams.get(index) {
                match stream.answered_ns {
                    Some(end_ns) => self.finish(index, end_ns, None, pass),
                    None => index += 1,
                }
            }
        }
    }

    fn shut(&mut self, record: &Shut, pass: &mut Pass<'_>) {
        let header = &record.header;
        if header.flags & event::SHUT_RESET != 0 {
            self.end_all(reset(header.direction), pass);
        } else if header.flags & event::SHUT_FIN != 0 {
            let Some(side) = self.side() else { return };
            if side == asking_side(header.direction) {
                self.asker_shut = true;
            } else {
                self.end_all(closed_first(side, self.asker_shut), pass);
            }
        }
    }

    fn closed(&mut self, record: &Statistics, pass: &mut Pass<'_>) {
        self.tcp.update(record.retransmits, record.srtt_us);
        if self.gap.is_some() {
            self.lose_unseen(&record.ended, pass);
        }
        if let Some(side) = self.side() {
            self.end_all(connection::cause(record.reason, side, self.asker_shut), pass);
        }
        self.lose_all(lost::RECORDS_LOST, pass);
    }

    /// Ends every open call now. Doubtful ones are lost instead.
    fn end_all(&mut self, cause: Cause, pass: &mut Pass<'_>) {
        while let Some(stream) = self.streams.front() {
            match (stream.answered_ns, stream.doubt) {
                (Some(end_ns), _) => self.finish(0, end_ns, None, pass),
                (None, Some(reason)) => {
                    self.drop_at(0, pass);
                    self.lose(1, reason, pass);
                }
                (None, None) => self.finish(0, pass.time_ns, Some(cause), pass),
            }
        }
    }

    fn finish(&mut self, index: usize, end_ns: u64, error: Option<Cause>, pass: &mut Pass<'_>) {
        let Some(stream) = self.take(index) else { return };
        pass.shared.requests -= 1;
        pass.out.exchanges.push(stream.finish(end_ns, error, &self.tcp));
    }

    /// Forgets a stream that is no call, or that is counted as lost.
    fn drop_at(&mut self, index: usize, pass: &mut Pass<'_>) {
        if self.take(index).is_some() {
            pass.shared.requests -= 1;
        }
    }

    fn take(&mut self, index: usize) -> Option<Stream> {
        if index == 0 { self.streams.pop_front() } else { self.streams.remove(index) }
    }

    fn lose(&self, calls: u32, reason: &'static str, pass: &mut Pass<'_>) {
        if calls > 0 {
            let (socket, time_ns) = (pass.socket, pass.time_ns);
            pass.out.lost.push(LostCalls { socket, side: self.side(), calls, reason, time_ns });
        }
    }

    /// Which end this is, once it is known who asks.
    fn side(&self) -> Option<Side> {
        self.asks.map(asking_side)
    }

    fn way(&mut self, direction: u8) -> &mut Way {
        let [ingress, egress] = &mut self.ways;
        if direction == event::INGRESS { ingress } else { egress }
    }
}
