//! Streams that the kernel half let wait to be counted, and has told after all: see
//! [`meshtap_ebpf::streams`].

use std::num::NonZeroU64;

use meshtap_ebpf::event::{
    Ended, FLAG_END_HEADERS, FLAG_PADDED, FLAG_PRIORITY, FRAME_CONTINUATION, FRAME_HEADERS,
    FRAME_PUSH_PROMISE, Frames, Item, Waited,
};

use super::assembly::First;
use super::stream::Stream;
use super::{Http2, Pass};
use crate::protocol::connection::{answering_direction, asking_side};
use crate::protocol::lost;

/// What the kernel half said of streams that wait.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Waits {
    /// How many were let wait until the last record of requests.
    let_wait: u32,
    /// How many when the last request began that was told.
    known: u32,
    /// How many were told, those included whose record is missing.
    told: u32,
}

impl Waits {
    /// Whether any stream ever waited, as far as is known.
    pub(super) fn are_known(&self) -> bool {
        self.let_wait != 0 || self.told != 0
    }

    /// A request begins: how many streams before it, behind the last one that was told, were
    /// let wait.
    pub(super) fn begin(&mut self) -> u32 {
        let between = self.let_wait.wrapping_sub(self.known);
        self.known = self.let_wait;
        between
    }

    /// Of the streams behind the last one that was told as it began, until the end of the
    /// connection: how many were counted in the kernel, told, or found missing.
    pub(super) fn accounted(&self, ended: &Ended) -> u32 {
        let all = ended.told.wrapping_add(self.told).wrapping_sub(self.known).cast_signed();
        all.max(0).cast_unsigned()
    }
}

impl Http2 {
    /// A stream waited and is told now, as far as it has come.
    pub(super) fn waited(&mut self, record: &Waited, pass: &mut Pass<'_>) {
        let direction = record.header.direction;
        self.miss_told(record.told.wrapping_sub(1), pass);
        self.waits.told = record.told;
        let side = asking_side(*self.asks.get_or_insert(direction));
        let place = self.streams.binary_search_by_key(&record.stream, |stream| stream.id);
        let Err(index) = place else {
            pass.shared.counters.strays += 1;
            return;
        };
        if self.streams.len() >= pass.shared.settings.requests_per_connection {
            pass.shared.counters.requests_refused += 1;
            self.lose(1, lost::REQUESTS_BOUND, pass);
            return;
        }
        let first = First {
            stream: record.stream,
            kind: FRAME_HEADERS,
            flags: FLAG_END_HEADERS,
            sequence: record.sequence,
            time_ns: record.first_ns,
            acknowledgement: record.acknowledgement,
        };
        let retransmits = self.tcp.retransmits;
        let mut stream = Stream::begin(&first, pass.socket, side, retransmits, pass.shared);
        stream.resume(record, self.templates.get(record.tag), &mut pass.shared.scratch);
        for (direction, asks) in [(direction, true), (answering_direction(side), false)] {
            if let Some((time_ns, reason)) = self.way(direction).missed
                && time_ns >= record.first_ns
            {
                stream.miss(asks, reason);
            }
        }
        self.streams.insert(index, stream);
        pass.shared.requests += 1;
    }

    /// Takes note of what a record of frames says of those that wait.
    pub(super) fn count_waits(&mut self, record: &Frames, pass: &mut Pass<'_>) {
        match self.asks {
            Some(asks) if asks == record.header.direction => self.waits.let_wait = record.waited,
            Some(_) => self.miss_told(record.waited, pass),
            None => {}
        }
    }

    /// So many were told: those of which no record came are lost.
    fn miss_told(&mut self, told: u32, pass: &mut Pass<'_>) {
        let missing = told.wrapping_sub(self.waits.told).cast_signed();
        if missing > 0 {
            self.waits.told = told;
            self.lose(missing.cast_unsigned(), lost::RECORDS_LOST, pass);
        }
    }

    /// A block of headers begins or goes on: whether the table is still known.
    pub(super) fn look_at_table(&mut self, item: &Item, direction: u8) {
        let is_block = matches!(item.kind, FRAME_HEADERS | FRAME_CONTINUATION | FRAME_PUSH_PROMISE);
        if !is_block || item.offset != 0 {
            return;
        }
        let way = self.way(direction);
        let (version, changed) = (item.table >> 1, item.table & 1);
        let before = version.wrapping_sub(changed) & (u32::MAX >> 1);
        if std::mem::take(&mut way.doubted) && way.version != Some(before) {
            way.decoder.forget();
        }
        way.version = Some(version);
    }

    /// What the kernel half knows this block by, if it may.
    pub(super) fn tag(
        &self,
        item: &Item,
        bytes: &[u8],
        direction: u8,
        pass: &Pass<'_>,
    ) -> Option<NonZeroU64> {
        const SHAPE: u8 = FLAG_END_HEADERS | FLAG_PADDED | FLAG_PRIORITY;
        let keys = pass.shared.settings.keys.as_ref()?;
        let is_plain = item.kind == FRAME_HEADERS && item.flags & SHAPE == FLAG_END_HEADERS;
        let is_whole = usize::try_from(item.length).is_ok_and(|length| length == bytes.len());
        if !is_plain || !is_whole || item.table & 1 != 0 {
            return None;
        }
        keys.block(bytes, pass.socket, (item.table >> 1, direction))
    }
}
