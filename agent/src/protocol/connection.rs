//! One connection: requests wait in order, and everything that can end them.
//!
//! A call ends, and becomes an exchange, at the first of:
//! - **the end of its answer**. Interim answers (1xx but 101) answer nothing; a 101 and
//!   an accepted CONNECT end at their head, what follows is bytes of no call. Where the
//!   request is still being sent then, the call has ended, and is told once that is over
//!   too: how long the request became is known only then.
//! - **a FIN of the answering end.** The FIN of the asking end ends nothing: it may
//!   still read. A body that lasts until the close is whole then; anything else is an
//!   error of **whoever sent the first FIN**. The answering end first: the client says
//!   [`Cause::Closed`], the server [`Cause::Abandoned`]. The asking end before it (it
//!   gave up and the other side followed): the client says [`Cause::Abandoned`], the
//!   server [`Cause::Closed`].
//! - **a reset** in either direction: [`Cause::ResetReceived`] or [`Cause::ResetSent`].
//! - **the end of the socket**: by the record's reason, and as for a FIN where that is
//!   an orderly one; [`Cause::Timeout`]; else [`Cause::Vanished`], or the close of the
//!   asking end if its FIN was seen.
//!
//! A call is lost instead where that cannot be known: its boundaries are gone
//! ([`event::Desynchronised`]); its answer, or the end of it, was passed over by a
//! later answer; its request was never seen but a later number was; records are
//! missing ([`event::Header::lost`]) and no answer was seen, since the answer may have
//! been among them. What is counted as lost stays lost, even if it shows up late.
//!
//! On a connection older than the agent nothing counts, neither as an exchange nor as
//! lost, until a request and its answer were both seen: what looked like a request may
//! have stood in the middle of a body.
//!
//! A head that was never whole and never answered is neither a call nor a lost one:
//! what is not HTTP may begin like a request.
//!
//! Numbers are compared in serial arithmetic: a connection may outlive 2^32 requests.

mod ending;
mod forgotten;
mod order;

use std::collections::VecDeque;

use meshtap_ebpf::event::{self, Desynchronised, End, Frames, Head, Shut, Statistics};

#[cfg(doc)]
use super::Cause;
use super::http2::{self, Before, Http2};
use super::request::OpenRequest;
use super::tcp::Tcp;
use super::{Output, Shared, Side, lost};
use crate::ring_buffer::Event;
use ending::{Ending, asking_direction, ending};
pub(super) use ending::{answering_direction, asking_side, cause, closed_first, reset};
pub(crate) use forgotten::{Forgotten, Numbers};

/// Open requests above which an empty queue gives its memory back.
const QUEUE_KEPT: usize = 32;

/// One event on its way through: where it is from, and where results go.
pub(crate) struct Pass<'a> {
    pub(crate) socket: u64,
    pub(crate) time_ns: u64,
    pub(crate) shared: &'a mut Shared,
    pub(crate) out: &'a mut Output,
}

/// State of one connection.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    numbers: Option<Numbers>,
    /// Requests without a whole answer, by number.
    open: VecDeque<OpenRequest>,
    /// Which end this is, once a request was seen.
    side: Option<Side>,
    /// The asking end has sent FIN.
    asker_shut: bool,
    /// Older than the agent, and no answer to a request was seen yet: nothing counts.
    unproven: bool,
    /// Records missing before anything was known of the connection.
    missing: u32,
    tcp: Tcp,
    heard_ns: u64,
    /// It speaks HTTP/2, and all but [`Self::heard_ns`] is there.
    http2: Option<Box<Http2>>,
    /// How many connections it stands for, as an exponent of two.
    weight: u8,
    /// What to go on with, where a connection of HTTP/2 was forgotten.
    streams: Option<http2::Numbers>,
}

impl Connection {
    /// When the last event came.
    pub(crate) fn heard_ns(&self) -> u64 {
        self.heard_ns
    }

    /// Whether a request waits for its answer.
    pub(crate) fn has_open_requests(&self) -> bool {
        !self.open.is_empty() || self.http2.as_ref().is_some_and(|http2| http2.has_open_requests())
    }

    /// Takes an event of this connection.
    pub(crate) fn feed(&mut self, event: &Event<'_>, pass: &mut Pass<'_>) {
        if let Event::Head(Head { header, .. }, _) | Event::Frames(Frames { header, .. }, _) = event
        {
            // It never falls; a request that waited at the listener says nothing of it.
            self.weight = self.weight.max(header.weight());
        }
        self.weighed(pass, |connection, pass| connection.take(event, pass));
    }

    /// Has what comes of some work stand for as many as the connection does.
    pub(crate) fn weighed(
        &mut self,
        pass: &mut Pass<'_>,
        work: impl FnOnce(&mut Self, &mut Pass<'_>),
    ) {
        let mark = pass.out.mark();
        work(self, pass);
        if self.weight > 0 {
            pass.out.weigh(mark, self.weight);
        }
    }

    fn take(&mut self, event: &Event<'_>, pass: &mut Pass<'_>) {
        self.heard_ns = self.heard_ns.max(pass.time_ns);
        if self.http2.is_none() && matches!(event, Event::Frames(..) | Event::Waited(_)) {
            self.becomes_http2(event.header().flags, pass);
        }
        if let Some(http2) = &mut self.http2 {
            http2.feed(event, pass);
            return;
        }
        let missing = event.header().lost;
        if missing > 0 {
            self.missing = self.missing.saturating_add(u32::from(missing));
            self.open.iter_mut().for_each(|request| request.doubtful = true);
        }
        match event {
            Event::Opened(record) => {
                self.unproven = super::is_late(&record.header, &pass.shared.settings);
            }
            Event::Head(record, bytes) => self.head(record, bytes, pass),
            Event::End(record) => self.end(record, pass),
            Event::Shut(record) => self.shut(record, pass),
            Event::Desynchronised(record) => self.desynchronised(record, pass),
            Event::Statistics(record) => self.tcp.update(record.retransmits, record.srtt_us),
            Event::Closed(record) => self.closed(record, pass),
            _ => {}
        }
        if self.open.is_empty() && self.open.capacity() > QUEUE_KEPT {
            self.open = VecDeque::new();
        }
    }

    /// Gives up every open request for `reason`.
    pub(crate) fn forgo(&mut self, reason: &'static str, pass: &mut Pass<'_>) {
        self.weighed(pass, |connection, pass| connection.lose_all(reason, pass));
    }

    fn lose_all(&mut self, reason: &'static str, pass: &mut Pass<'_>) {
        let calls = self.drop_while(|_| true, pass);
        self.lose(calls, reason, pass);
        if let Some(http2) = &mut self.http2 {
            http2.lose_all(reason, pass);
        }
    }

    /// Lets calls report that began before `before_ns`.
    pub(crate) fn report(&mut self, before_ns: u64, now_ns: u64, out: &mut Output) {
        if let Some(http2) = &mut self.http2 {
            let mark = out.mark();
            http2.report(before_ns, now_ns, out);
            out.weigh(mark, self.weight);
        }
    }

    /// The first frames came. A request that asked for them goes on as the first stream;
    /// others that are open cannot be answered any more.
    #[cold]
    fn becomes_http2(&mut self, flags: u16, pass: &mut Pass<'_>) {
        let upgraded = flags & event::FRAMES_UPGRADED != 0;
        let asked = self.open.pop_back_if(|request| upgraded && request.is_upgraded());
        let before = Before {
            missing: self.missing,
            late: self.unproven,
            asks: self.side.filter(|_| upgraded).map(asking_direction),
            upgraded: asked.map(|request| (request.exchange, request.retransmits)),
            numbers: self.streams,
        };
        self.lose_all(lost::RECORDS_LOST, pass);
        self.open = VecDeque::new();
        self.http2 = Some(Box::new(Http2::new(flags, before, pass.shared)));
    }

    fn head(&mut self, record: &Head, bytes: &[u8], pass: &mut Pass<'_>) {
        self.tcp.update(record.retransmits, record.srtt_us);
        self.tcp.carried(record.bytes_acked, record.bytes_received);
        if !self.enter(record.epoch, pass) {
            return;
        }
        if record.header.flags & event::HEAD_TAIL != 0 {
            if let Some(index) = self.position(record.number) {
                self.open[index].tail(record, bytes);
            }
        } else if record.header.flags & event::HEAD_RESPONSE != 0 {
            self.answer(record, pass);
        } else {
            self.request(record, bytes, pass);
        }
    }

    fn request(&mut self, record: &Head, bytes: &[u8], pass: &mut Pass<'_>) {
        if let Some(index) = self.position(record.number) {
            if record.header.flags & event::HEAD_FIRST != 0 && !self.open[index].is_call() {
                // What came before under this number was refused as no request.
                let side = asking_side(record.header.direction);
                self.side = Some(side);
                self.open[index].release(pass.shared);
                self.open[index] = OpenRequest::new(record, pass.socket, side, pass.shared);
            }
            self.open[index].piece(record, bytes, pass.shared);
            return;
        }
        if !self.reach(record.number, false, pass) {
            pass.shared.counters.strays += 1;
            return;
        }
        self.step_over(record.number);
        // The end of a request before was missed: it is over when the next begins.
        self.drop_while(|request| request.answered.is_some(), pass);
        let side = asking_side(record.header.direction);
        self.side = Some(side);
        if self.open.len() >= pass.shared.settings.requests_per_connection {
            pass.shared.counters.requests_refused += 1;
            self.lose(1, lost::REQUESTS_BOUND, pass);
            return;
        }
        if self.open.capacity() == 0 {
            // Most connections have one request at a time; the queue would begin with four.
            self.open.reserve_exact(1);
        }
        self.open.push_back(OpenRequest::new(record, pass.socket, side, pass.shared));
        pass.shared.requests += 1;
        if let Some(request) = self.open.back_mut() {
            request.piece(record, bytes, pass.shared);
        }
    }

    fn answer(&mut self, record: &Head, pass: &mut Pass<'_>) {
        let flags = record.header.flags;
        let ended = flags & event::HEAD_ENDED != 0 && flags & event::HEAD_INTERIM == 0;
        let Some(index) = self.answered_number(record.number, ended, pass) else { return };
        if flags & event::HEAD_INTERIM != 0 {
            return;
        }
        let request = &mut self.open[index];
        let exchange = &mut request.exchange;
        let belongs = exchange.status.is_none_or(|status| status == record.status)
            && (100..=999).contains(&record.status)
            && exchange.side != asking_side(record.header.direction)
            && request.answered.is_none();
        if !belongs {
            pass.shared.counters.strays += 1;
            return;
        }
        self.unproven = false;
        exchange.status = Some(record.status);
        exchange.first_byte_ns.get_or_insert(record.first_ns);
        exchange.response_bytes = record.body_bytes;
        request.framing = record.framing;
        if let Some(rpc) = &mut exchange.rpc {
            rpc.status = record.grpc_status.checked_sub(1).map(u32::from);
        }
        let becomes_tunnel =
            record.framing == event::FRAMING_TUNNEL && flags & event::HEAD_COMPLETE != 0;
        if becomes_tunnel && request.asks_for_http2() {
            // Told as this answer only if no frames follow.
            request.answered = Some((pass.time_ns, None));
        } else if ended || becomes_tunnel {
            self.answer_whole(index, pass);
        }
    }

    fn end(&mut self, record: &End, pass: &mut Pass<'_>) {
        if !self.enter(record.epoch, pass) {
            return;
        }
        if record.header.flags & event::HEAD_RESPONSE != 0 {
            self.answer_end(record, pass);
            return;
        }
        if self.reach(record.number, true, pass) {
            // A request of which only the end was seen.
            self.step_over(record.number);
            self.lose(1, lost::RECORDS_LOST, pass);
        } else if let Some(index) = self.position(record.number) {
            let request = &mut self.open[index];
            request.sent = true;
            request.exchange.request_bytes = record.body_bytes;
            if matches!(record.reason, event::END_COMPLETE | event::END_CLOSED) {
                request.exchange.request_end_ns = Some(pass.time_ns);
            }
            if let Some((end_ns, cause)) = request.answered {
                self.finish(index, end_ns, cause, pass);
            }
        }
    }

    /// The answer is whole: the call ends, but waits to be told while its request is
    /// still being sent.
    fn answer_whole(&mut self, index: usize, pass: &mut Pass<'_>) {
        let request = &mut self.open[index];
        if request.is_being_sent() {
            request.answered = Some((pass.time_ns, None));
        } else {
            self.finish(index, pass.time_ns, None, pass);
        }
    }

    fn answer_end(&mut self, record: &End, pass: &mut Pass<'_>) {
        let Some(index) = self.answered_number(record.number, true, pass) else { return };
        let asker_shut = self.asker_shut;
        let request = &mut self.open[index];
        let exchange = &mut request.exchange;
        exchange.response_bytes = record.body_bytes;
        let side = exchange.side;
        if exchange.status.is_none() {
            self.drop_at(index, pass);
            self.lose(1, lost::RECORDS_LOST, pass);
            return;
        }
        match record.reason {
            event::END_COMPLETE | event::END_CLOSED => self.answer_whole(index, pass),
            event::END_RESET => {
                request.answered = Some((pass.time_ns, Some(reset(record.header.direction))));
            }
            // The record of the socket's end follows, and says why.
            event::END_GONE => {}
            _ => self.finish(index, pass.time_ns, Some(closed_first(side, asker_shut)), pass),
        }
    }

    fn shut(&mut self, record: &Shut, pass: &mut Pass<'_>) {
        let header = &record.header;
        if header.flags & event::SHUT_RESET != 0 {
            self.end_all(Ending::Reset(reset(header.direction)), pass);
        } else if header.flags & event::SHUT_FIN != 0 {
            let Some(side) = self.side else { return };
            if side == asking_side(header.direction) {
                self.asker_shut = true;
            } else {
                self.end_all(Ending::InOrder(closed_first(side, self.asker_shut)), pass);
            }
        }
    }

    fn closed(&mut self, record: &Statistics, pass: &mut Pass<'_>) {
        self.tcp.update(record.retransmits, record.srtt_us);
        self.tcp.carried(record.bytes_acked, record.bytes_received);
        if self.missing > 0 {
            self.lose_unseen(&record.ended, pass);
        }
        let Some(side) = self.side else { return };
        self.end_all(ending(record.reason, side, self.asker_shut), pass);
    }

    /// Counts every request of the epoch that has no whole answer: those that are open
    /// here, and those that the kernel began and of which no record came.
    ///
    /// The latter are what [`Desynchronised::unanswered`] has more than there are
    /// unanswered numbers here. It can have fewer: where the record of an answer was
    /// lost, the kernel saw the call end and this stage did not; it is lost all the same.
    fn desynchronised(&mut self, record: &Desynchronised, pass: &mut Pass<'_>) {
        if !self.enter(record.epoch, pass) {
            return;
        }
        let unseen = match self.numbers {
            Some(Numbers { next: Some(next), answered, .. }) => {
                let seen = next.wrapping_sub(answered);
                if record.unanswered >= seen {
                    // The kernel knows a head that is not whole for a request, too.
                    self.open.iter_mut().for_each(|request| request.doubtful = true);
                }
                record.unanswered.saturating_sub(seen)
            }
            _ => record.unanswered,
        };
        let open = self.drop_while(|_| true, pass);
        self.lose(open.saturating_add(unseen), lost::desynchronised(record.reason), pass);
        let epoch = record.epoch.wrapping_add(1);
        self.numbers = Some(Numbers { epoch, next: Some(0), answered: 0 });
    }
}
