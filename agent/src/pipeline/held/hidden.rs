//! [`Hidden`]: calls whose client a waypoint hides. The client's own end, where it is on this
//! host, comes within moments and tells who it is; so long, and not longer, they wait for it.

use std::collections::VecDeque;

use crate::attribution::Attributor;
use crate::protocol::Exchange;

/// Calls that wait at once; what comes beyond goes by the names that are known.
pub(super) const BOUND: usize = 4_096;
/// How long the client's end may take longer than the server's.
const PATIENCE_NS: u64 = 500_000_000;

/// What waits, oldest first.
#[derive(Debug, Default)]
pub(super) struct Hidden {
    waiting: VecDeque<Box<Exchange>>,
    /// Ends of clients at the last look.
    clients: u64,
}

impl Hidden {
    /// Keeps a call whose client may still show itself, else gives it back.
    pub(super) fn keep(
        &mut self,
        exchange: Box<Exchange>,
        attributor: &Attributor,
    ) -> Option<Box<Exchange>> {
        if self.waiting.len() >= BOUND || !attributor.awaits_client(&exchange) {
            return Some(exchange);
        }
        self.waiting.push_back(exchange);
        None
    }

    /// What has its client by now, or has waited long enough.
    pub(super) fn due(&mut self, now_ns: u64, attributor: &Attributor) -> VecDeque<Box<Exchange>> {
        let Some(oldest) = self.waiting.front() else { return VecDeque::new() };
        let is_over = |exchange: &Exchange| now_ns >= exchange.end_ns.saturating_add(PATIENCE_NS);
        if attributor.client_ends() == self.clients && !is_over(oldest) {
            return VecDeque::new();
        }
        self.clients = attributor.client_ends();
        let (due, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|exchange| is_over(exchange) || !attributor.awaits_client(exchange));
        self.waiting = waiting;
        due
    }

    /// All that waits.
    pub(super) fn all(&mut self) -> VecDeque<Box<Exchange>> {
        std::mem::take(&mut self.waiting)
    }

    /// Calls that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests;
