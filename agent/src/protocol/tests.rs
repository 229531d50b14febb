//! A socket that plays the kernel half, and what the stage makes of it.

mod endings;
mod heads;
mod http2;
mod late;
mod losses;
mod pairing;
mod properties;

use std::borrow::Borrow;

use meshtap_ebpf::event::{
    self, Desynchronised, EGRESS, End, Frames, HEAD_COMPLETE, HEAD_ENDED, HEAD_FIRST, HEAD_INTERIM,
    HEAD_RESPONSE, Head, Header, INGRESS, Opened, Shut, Statistics, Waited,
};

use super::*;

/// One record with its loose bytes, as it could stand in the ring.
#[derive(Clone, Debug)]
enum Record {
    Opened(Opened),
    Head(Head, Vec<u8>),
    End(End),
    Shut(Shut),
    Desynchronised(Desynchronised),
    Statistics(Statistics),
    Closed(Statistics),
    Frames(Frames, Vec<u8>),
    Waited(Waited),
}

impl Record {
    fn event(&self) -> Event<'_> {
        match self {
            Self::Opened(record) => Event::Opened(record),
            Self::Head(record, bytes) => Event::Head(record, bytes),
            Self::End(record) => Event::End(record),
            Self::Shut(record) => Event::Shut(record),
            Self::Desynchronised(record) => Event::Desynchronised(record),
            Self::Statistics(record) => Event::Statistics(record),
            Self::Closed(record) => Event::Closed(record),
            Self::Frames(record, bytes) => Event::Frames(record, bytes),
            Self::Waited(record) => Event::Waited(record),
        }
    }

    fn header_mut(&mut self) -> &mut Header {
        match self {
            Self::Opened(record) => &mut record.header,
            Self::Head(record, _) => &mut record.header,
            Self::End(record) => &mut record.header,
            Self::Shut(record) => &mut record.header,
            Self::Desynchronised(record) => &mut record.header,
            Self::Statistics(record) | Self::Closed(record) => &mut record.header,
            Self::Frames(record, _) => &mut record.header,
            Self::Waited(record) => &mut record.header,
        }
    }
}

/// Writes the records of one socket; time goes on by ten nanoseconds a record.
#[derive(Clone, Debug)]
struct Socket {
    cookie: u64,
    side: Side,
    epoch: u32,
    time_ns: u64,
    retransmits: u32,
    srtt_us: u32,
    /// Records missing before the next.
    lost: u16,
}

impl Socket {
    fn new(side: Side) -> Self {
        Self { cookie: 7, side, epoch: 0, time_ns: 1_000, retransmits: 0, srtt_us: 0, lost: 0 }
    }

    fn asks(&self) -> u8 {
        if self.side == Side::Client { EGRESS } else { INGRESS }
    }

    fn answers(&self) -> u8 {
        if self.side == Side::Client { INGRESS } else { EGRESS }
    }

    fn header(&mut self, direction: u8, flags: u16) -> Header {
        self.time_ns += 10;
        let lost = std::mem::take(&mut self.lost);
        let (time_ns, cookie) = (self.time_ns, self.cookie);
        Header { time_ns, cookie, direction, flags, lost, ..Header::default() }
    }

    fn opened(&mut self, flags: u16) -> Record {
        Record::Opened(Opened { header: self.header(0, flags), ..Opened::default() })
    }

    fn head(&mut self, number: u32, direction: u8, flags: u16) -> Head {
        let header = self.header(direction, flags);
        Head {
            header,
            first_ns: header.time_ns - 5,
            number,
            epoch: self.epoch,
            sequence: self.epoch * 1_000_000 + number,
            acknowledgement: 99,
            srtt_us: self.srtt_us,
            retransmits: self.retransmits,
            ..Head::default()
        }
    }

    /// A request in one piece without a body.
    fn request(&mut self, number: u32, path: &str) -> Record {
        let bytes = format!("GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n").into_bytes();
        self.piece(number, 0, &bytes, HEAD_FIRST | HEAD_COMPLETE | HEAD_ENDED)
    }

    fn piece(&mut self, number: u32, offset: u32, bytes: &[u8], flags: u16) -> Record {
        let head = self.head(number, self.asks(), flags);
        Record::Head(Head { offset, ..head }, bytes.to_vec())
    }

    fn request_end(&mut self, number: u32, body_bytes: u64, reason: u8) -> Record {
        let header = self.header(self.asks(), 0);
        Record::End(End { header, body_bytes, number, epoch: self.epoch, reason, pad: [0; 7] })
    }

    /// A whole answer in one packet.
    fn answer(&mut self, number: u32, status: u16, body_bytes: u64) -> Record {
        let flags = HEAD_RESPONSE | HEAD_FIRST | HEAD_COMPLETE | HEAD_ENDED;
        let head = self.head(number, self.answers(), flags);
        Record::Head(Head { status, body_bytes, framing: event::FRAMING_LENGTH, ..head }, vec![])
    }

    fn answer_begins(&mut self, number: u32, status: u16, framing: u8) -> Record {
        let head = self.head(number, self.answers(), HEAD_RESPONSE | HEAD_FIRST | HEAD_COMPLETE);
        Record::Head(Head { status, framing, ..head }, vec![])
    }

    fn interim(&mut self, number: u32, status: u16) -> Record {
        let flags = HEAD_RESPONSE | HEAD_FIRST | HEAD_COMPLETE | HEAD_ENDED | HEAD_INTERIM;
        let head = self.head(number, self.answers(), flags);
        Record::Head(Head { status, framing: event::FRAMING_NONE, ..head }, vec![])
    }

    fn answer_end(&mut self, number: u32, body_bytes: u64, reason: u8) -> Record {
        let header = self.header(self.answers(), HEAD_RESPONSE);
        Record::End(End { header, body_bytes, number, epoch: self.epoch, reason, pad: [0; 7] })
    }

    fn fin(&mut self, direction: u8) -> Record {
        Record::Shut(Shut { header: self.header(direction, event::SHUT_FIN) })
    }

    fn reset(&mut self, direction: u8) -> Record {
        Record::Shut(Shut { header: self.header(direction, event::SHUT_RESET) })
    }

    fn desynchronised(&mut self, unanswered: u32, reason: u8) -> Record {
        let header = self.header(INGRESS, 0);
        let epoch = self.epoch;
        self.epoch += 1;
        Record::Desynchronised(Desynchronised { header, epoch, unanswered, reason, pad: [0; 7] })
    }

    fn statistics(&mut self) -> Statistics {
        let header = self.header(INGRESS, 0);
        let (retransmits, srtt_us) = (self.retransmits, self.srtt_us);
        Statistics { header, retransmits, srtt_us, ..Statistics::default() }
    }

    fn closed(&mut self, reason: u8) -> Record {
        Record::Closed(Statistics { reason, ..self.statistics() })
    }
}

/// The stage with everything that it has put out.
struct Stage {
    protocols: Protocols,
    out: Output,
}

impl Stage {
    fn new() -> Self {
        Self::with(ProtocolSettings::default())
    }

    fn with(settings: ProtocolSettings) -> Self {
        Self { protocols: Protocols::new(settings), out: Output::default() }
    }

    fn feed(&mut self, record: impl Borrow<Record>) -> &mut Self {
        self.protocols.feed(&record.borrow().event(), &mut self.out);
        self
    }

    /// The only exchange so far; nothing is lost.
    fn only(&self) -> &Exchange {
        assert_eq!(self.out.lost, []);
        assert_eq!(self.out.exchanges.len(), 1, "{:#?}", self.out.exchanges);
        &self.out.exchanges[0]
    }

    /// Path, status and error of every exchange.
    fn told(&self) -> Vec<(&str, Option<u16>, Option<Cause>)> {
        let told = |exchange: &'_ Exchange| (exchange.status, exchange.error);
        self.out
            .exchanges
            .iter()
            .map(|exchange| (exchange.path.as_str(), told(exchange).0, told(exchange).1))
            .collect()
    }

    /// Number and reason of every entry of lost calls.
    fn lost(&self) -> Vec<(u32, &'static str)> {
        self.out.lost.iter().map(|lost| (lost.calls, lost.reason)).collect()
    }

    fn used(&self) -> (usize, usize, usize) {
        let occupancy = self.protocols.occupancy();
        (occupancy.connections.used, occupancy.requests.used, occupancy.head_bytes.used)
    }
}
