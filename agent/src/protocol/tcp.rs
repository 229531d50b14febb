//! [`Tcp`]: what the kernel said last of a connection below its calls.

use super::{ConnectionBytes, Exchange};

/// Figures of a connection, as of its latest record.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tcp {
    /// Segments sent again so far.
    pub(crate) retransmits: u32,
    /// Smoothed round-trip time, microseconds. 0: no sample.
    rtt_us: u32,
    bytes: ConnectionBytes,
}

impl Tcp {
    /// Goes on to what a later record says. A record of a socket that is no full one any more
    /// says nothing: its figures are zero.
    pub(crate) fn update(&mut self, retransmits: u32, rtt_us: u32) {
        self.retransmits = self.retransmits.max(retransmits);
        if rtt_us > 0 {
            self.rtt_us = rtt_us;
        }
    }

    /// What the connection has carried, by a record of the call that is under way. Those of
    /// HTTP/2's frames do not say it.
    pub(crate) fn carried(&mut self, acked: u64, received: u64) {
        self.bytes.acked = self.bytes.acked.max(acked);
        self.bytes.received = self.bytes.received.max(received);
    }

    /// Says it of a call that began when `retransmits` segments had been sent again.
    pub(crate) fn say(&self, exchange: &mut Exchange, retransmits: u32) {
        exchange.retransmits = self.retransmits.saturating_sub(retransmits);
        exchange.rtt_us = (self.rtt_us > 0).then_some(self.rtt_us);
        exchange.connection_bytes =
            (self.bytes != ConnectionBytes::default()).then_some(self.bytes);
    }
}
