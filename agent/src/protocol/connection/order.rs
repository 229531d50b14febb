//! Numbers and the queue of a connection: what each number that is seen says of the
//! others, and that every request leaves the queue once.

use meshtap_ebpf::event::{self, Ended};

use super::{Connection, Ending, Numbers, OpenRequest, Pass};
use crate::protocol::{Cause, LostCalls, lost};

impl Connection {
    /// Makes `epoch` the current one. `false`: it is over.
    pub(super) fn enter(&mut self, epoch: u32, pass: &mut Pass<'_>) -> bool {
        let Some(numbers) = self.numbers else {
            self.numbers = Some(Numbers { epoch, next: None, answered: 0 });
            return true;
        };
        if is_before(epoch, numbers.epoch) {
            pass.shared.counters.strays += 1;
            return false;
        }
        if epoch != numbers.epoch {
            self.lose_all(lost::RECORDS_LOST, pass);
            self.numbers = Some(Numbers { epoch, next: Some(0), answered: 0 });
        }
        true
    }

    /// Learns that request `number` exists: those before it of which nothing was seen
    /// are lost. Whether it is new itself; if so, [`Self::step_over`] must follow. `unseen`: the
    /// record of the request itself is missing.
    pub(super) fn reach(&mut self, number: u32, unseen: bool, pass: &mut Pass<'_>) -> bool {
        let Some(numbers) = &mut self.numbers else { return false };
        let next = match numbers.next {
            Some(next) => next,
            // The connection was forgotten while nothing was open, so earlier calls are
            // accounted for, unless records are missing.
            None => {
                let others = self.missing.saturating_sub(u32::from(unseen));
                let next = number.wrapping_sub(number.min(others));
                numbers.answered = next;
                next
            }
        };
        numbers.next = Some(next);
        if is_before(number, next) {
            return false;
        }
        numbers.next = Some(number);
        self.lose(number.wrapping_sub(next), lost::RECORDS_LOST, pass);
        true
    }

    /// After [`Self::reach`]: request `number` is accounted for.
    pub(super) fn step_over(&mut self, number: u32) {
        if let Some(numbers) = &mut self.numbers {
            numbers.next = Some(number.wrapping_add(1));
        }
    }

    /// Something of the answer to `number` was seen, `ended` if nothing more is to come:
    /// what waits before it will not be answered any more. Where its request stands.
    pub(super) fn answered_number(
        &mut self,
        number: u32,
        ended: bool,
        pass: &mut Pass<'_>,
    ) -> Option<usize> {
        let is_new = self.reach(number, true, pass);
        let passed_over = self.drop_while(|request| is_before(request.number, number), pass);
        self.lose(passed_over, lost::RECORDS_LOST, pass);
        if is_new {
            self.step_over(number);
            self.lose(1, lost::RECORDS_LOST, pass);
        }
        if let Some(numbers) = &mut self.numbers {
            let over = number.wrapping_add(u32::from(ended));
            if is_before(numbers.answered, over) {
                numbers.answered = over;
            }
        }
        let index = self.position(number);
        if index.is_none() && !is_new {
            pass.shared.counters.strays += 1;
        }
        index
    }

    pub(super) fn position(&self, number: u32) -> Option<usize> {
        if self.open.front()?.number == number {
            return Some(0);
        }
        self.open
            .binary_search_by(|request| request.number.wrapping_sub(number).cast_signed().cmp(&0))
            .ok()
    }

    pub(super) fn finish(
        &mut self,
        index: usize,
        end_ns: u64,
        error: Option<Cause>,
        pass: &mut Pass<'_>,
    ) {
        let Some(request) = self.open.get_mut(index) else { return };
        pass.shared.requests -= 1;
        request.finish(end_ns, error, &self.tcp, pass.shared);
        let ended = if index == 0 { self.open.pop_front() } else { self.open.remove(index) };
        if !self.unproven {
            pass.out.exchanges.extend(ended.map(|request| request.exchange));
        }
    }

    /// Ends every open request now. Doubtful ones are lost instead.
    pub(super) fn end_all(&mut self, ending: Ending, pass: &mut Pass<'_>) {
        let mut calls = 0;
        while let Some(request) = self.open.front() {
            if request.doubtful && request.answered.is_none() {
                self.drop_at(0, pass);
                calls += 1;
                continue;
            }
            if !request.is_call() {
                self.drop_at(0, pass);
                continue;
            }
            let (end_ns, cause) = match (request.answered, ending) {
                (Some((end_ns, Some(_))), Ending::Reset(cause)) => (end_ns, Some(cause)),
                (Some((end_ns, cause)), _) => (end_ns, cause),
                (None, Ending::InOrder(_)) if request.framing == event::FRAMING_CLOSE => {
                    (pass.time_ns, None)
                }
                (None, Ending::InOrder(cause) | Ending::Reset(cause) | Ending::Other(cause)) => {
                    (pass.time_ns, Some(cause))
                }
            };
            self.finish(0, end_ns, cause, pass);
        }
        self.lose(calls, lost::RECORDS_LOST, pass);
    }

    /// Drops requests from the front while `which` holds: how many calls that loses.
    /// Those whose answer is over are told, not lost.
    pub(super) fn drop_while(
        &mut self,
        which: impl Fn(&OpenRequest) -> bool,
        pass: &mut Pass<'_>,
    ) -> u32 {
        let mut calls = 0;
        while let Some(request) = self.open.front().filter(|request| which(request)) {
            if let Some((time_ns, cause)) = request.answered {
                self.finish(0, time_ns, cause, pass);
            } else {
                calls += u32::from(request.is_call());
                self.drop_at(0, pass);
            }
        }
        calls
    }

    pub(super) fn drop_at(&mut self, index: usize, pass: &mut Pass<'_>) {
        if let Some(mut request) = self.open.remove(index) {
            request.release(pass.shared);
            pass.shared.requests -= 1;
        }
    }

    pub(super) fn lose(&self, calls: u32, reason: &'static str, pass: &mut Pass<'_>) {
        if calls > 0 && !self.unproven {
            let (socket, time_ns) = (pass.socket, pass.time_ns);
            pass.out.lost.push(LostCalls { socket, side: self.side, calls, reason, time_ns });
        }
    }
}

impl Connection {
    /// The connection ended, and its record was lost.
    pub(in crate::protocol) fn ended(&mut self, ended: &Ended, pass: &mut Pass<'_>) {
        self.missing = self.missing.saturating_add(u32::from(ended.lost));
        if let Some(http2) = &mut self.http2 {
            http2.lose_unseen(ended, pass);
        } else {
            self.lose_unseen(ended, pass);
        }
        self.lose_all(lost::RECORDS_LOST, pass);
    }

    /// Counts the requests that the kernel saw begin and of which no record came. Where the
    /// connection is not known, whatever was told of has been accounted for before it was
    /// forgotten; what only began like a request is none, so no more are lost than records.
    pub(super) fn lose_unseen(&mut self, ended: &Ended, pass: &mut Pass<'_>) {
        let unseen = match self.numbers {
            Some(Numbers { epoch, next: Some(next), .. }) if epoch == ended.epoch => {
                let unseen = ended.requests.wrapping_sub(next);
                if unseen.cast_signed() < 0 { 0 } else { unseen }
            }
            Some(Numbers { epoch, .. }) if is_before(ended.epoch, epoch) => 0,
            _ if ended.version == 1 => ended.requests.saturating_sub(ended.told).min(self.missing),
            // A record may tell of many streams.
            _ => match &self.streams {
                Some(numbers) => numbers.unseen(ended),
                None => ended.requests.saturating_sub(ended.told),
            },
        };
        self.lose(unseen, lost::RECORDS_LOST, pass);
    }
}

fn is_before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() < 0
}
