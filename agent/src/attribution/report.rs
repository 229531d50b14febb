//! [`ConnectionReport`]s: what changed on a connection since the last one.

use meshtap_ebpf::event;

use super::connection::{Connection, Figures};
use super::{Attributor, ConnectionReport};
use crate::protocol::Side;

/// How long a connection's beginning waits, so that the other end is known when it is reported.
const SETTLE_NS: u64 = 300_000_000;
/// Beginnings that are reported at once, and room that is kept for those to come.
const BEGINNINGS: usize = 1_024;

impl Attributor {
    pub(super) fn statistics(
        &mut self,
        record: &event::Statistics,
        out: &mut Vec<ConnectionReport>,
    ) {
        if let Some(report) = self.report(record.header.cookie, Some(record), record.header.time_ns)
        {
            out.push(report);
        }
    }

    pub(super) fn closed(&mut self, record: &event::Statistics, out: &mut Vec<ConnectionReport>) {
        let cookie = record.header.cookie;
        let is_again =
            self.connections.get(cookie).is_some_and(|connection| connection.closed_ns.is_some());
        if is_again {
            return;
        }
        if let Some(mut report) = self.report(cookie, Some(record), record.header.time_ns) {
            match self.connections.get(cookie) {
                Some(connection) if connection.failed => report.failed = Some(record.reason),
                _ => report.closed = Some(record.reason),
            }
            out.push(report);
        }
        self.connections.close(cookie, record.header.time_ns);
    }

    /// Reports the beginnings that waited for their other end, so many at once that a burst of
    /// connections takes no memory twice. Whether there are more.
    pub fn report_beginnings(&mut self, now_ns: u64, out: &mut Vec<ConnectionReport>) -> bool {
        let (_, bound) = self.connections.occupancy();
        let mut room = BEGINNINGS;
        while let Some(&(opened_ns, cookie)) = self.unreported.front() {
            if now_ns.saturating_sub(opened_ns) < SETTLE_NS && self.unreported.len() <= bound {
                break;
            }
            if room == 0 {
                return true;
            }
            room -= 1;
            self.unreported.pop_front();
            let waits = self
                .connections
                .get(cookie)
                .is_some_and(|connection| !connection.reported && !connection.failed);
            if waits {
                out.extend(self.report(cookie, None, now_ns));
            }
        }
        if self.unreported.is_empty() {
            // A burst of connections is no measure of what comes next.
            self.unreported.shrink_to(BEGINNINGS);
        }
        false
    }

    /// Ends the connection that the next one will push out, as far as reports go.
    pub(super) fn make_room(&mut self, now_ns: u64, out: &mut Vec<ConnectionReport>) {
        let Some(oldest) = self.connections.next_to_go() else { return };
        let Some(connection) = self.connections.get(oldest) else { return };
        if connection.closed_ns.is_some() || connection.failed {
            return;
        }
        if let Some(mut report) = self.report(oldest, None, now_ns) {
            report.closed = Some(event::CLOSE_UNKNOWN);
            out.push(report);
        }
    }

    fn report(
        &mut self,
        cookie: u64,
        record: Option<&event::Statistics>,
        now_ns: u64,
    ) -> Option<ConnectionReport> {
        self.refresh(cookie, now_ns);
        self.inquire(cookie, now_ns);
        // A report that no record asks for does not make the connection any younger.
        let connection = match record {
            Some(_) => self.connections.get_mut(cookie),
            None => self.connections.peek_mut(cookie),
        };
        let Some(connection) = connection else {
            self.strangers += 1;
            return None;
        };
        let gained = record.map_or_else(Figures::default, |record| connection.gain(record));
        let opened = !connection.reported && !connection.failed;
        connection.reported = true;
        let connection = self.connections.get(cookie)?;
        // Both applications behind a hop report their own connections.
        if connection.is_passed_on() {
            return None;
        }
        let side = self.side(connection);
        let ends = self.ends(cookie, connection, side, None);
        Some(ConnectionReport {
            socket: cookie,
            side,
            client: ends.client,
            server: ends.server,
            opened,
            late: connection.late,
            closed: None,
            failed: None,
            bytes_received: gained.received,
            bytes_sent: gained.acked,
            retransmits: gained.retransmits,
            rtt_us: record.map(|record| record.srtt_us).filter(|rtt| *rtt != 0),
            connect_ns: Some(connection.connect_ns).filter(|time| *time != 0 && opened),
            service: connection.service.clone(),
            mesh: self.mesh_of(cookie, connection),
            spoke: connection.first_seen.is_some(),
        })
    }
}

impl Connection {
    /// What the figures grew by since the last record. A connection older than the agent
    /// begins to count with the first figures that are seen of it.
    fn gain(&mut self, record: &event::Statistics) -> Figures {
        // The kernel counts a SYN and a FIN that were acknowledged as a byte each.
        let syn = u64::from(self.role == Some(Side::Client) && !self.late);
        let fin = u64::from(record.reason == event::CLOSE_FIN);
        let now = Figures {
            received: record.bytes_received.saturating_sub(fin),
            acked: record.bytes_acked.saturating_sub(syn + fin),
            retransmits: record.retransmits,
        };
        let Some(last) = self.figures.replace(now) else { return Figures::default() };
        Figures {
            received: now.received.saturating_sub(last.received),
            acked: now.acked.saturating_sub(last.acked),
            retransmits: now.retransmits.saturating_sub(last.retransmits),
        }
    }
}
