//! [`OpenRequest`]: a request that waits for its answer, and how its head is put together.

use meshtap_ebpf::event::{self, Head};

use super::heads::Facts;
use super::rpc::{self, Content};
use super::tcp::Tcp;
use super::{Cause, Exchange, Protocol, Rpc, RpcSystem, Shared, Side, http1};

/// A request without a whole answer so far.
#[derive(Debug)]
pub(crate) struct OpenRequest {
    /// [`Head::number`].
    pub(crate) number: u32,
    /// What is known; whole only once the call has ended.
    pub(crate) exchange: Box<Exchange>,
    /// `FRAMING_*` of the answer.
    pub(crate) framing: u8,
    /// Records of the connection were lost while this was open: that no answer was
    /// seen does not mean that there was none.
    pub(crate) doubtful: bool,
    /// The answer was over at this time: whole, while the request is still being sent, or
    /// broken off by a reset; unless the reset itself is told next, this is the cause.
    pub(crate) answered: Option<(u64, Option<Cause>)>,
    /// The head's end was seen: without it this may be no request at all.
    complete: bool,
    /// Nothing more of the request is to come.
    pub(crate) sent: bool,
    /// [`Head::retransmits`] when the request began.
    pub(crate) retransmits: u32,
    /// Pieces of the head while it is not whole. Empty once it was read.
    pieces: Vec<u8>,
    /// The head was read.
    read: bool,
    /// `Upgrade: h2c`
    h2c: bool,
    /// Its body is one message, as it is.
    unary: bool,
}

impl OpenRequest {
    /// Begins with any piece of the head; a piece other than the first tells at least
    /// that there is a request, and when it began.
    pub(crate) fn new(record: &Head, socket: u64, side: Side, shared: &mut Shared) -> Self {
        let exchange = match shared.spare.pop() {
            Some(mut spare) => {
                *spare = begin(record, socket, side);
                spare
            }
            None => Box::new(begin(record, socket, side)),
        };
        Self {
            number: record.number,
            exchange,
            framing: event::FRAMING_UNKNOWN,
            doubtful: false,
            answered: None,
            complete: false,
            sent: false,
            retransmits: record.retransmits,
            pieces: Vec::new(),
            read: false,
            h2c: false,
            unary: false,
        }
    }

    /// Whether it asked for HTTP/2.
    pub(crate) fn asks_for_http2(&self) -> bool {
        self.h2c && self.exchange.status == Some(101)
    }

    /// Whether it asked for HTTP/2 and was granted it.
    pub(crate) fn is_upgraded(&self) -> bool {
        self.asks_for_http2() && self.answered.is_some()
    }

    /// Takes a piece of the head. What cannot be joined to the pieces before it, or
    /// exceeds a bound, is left out, and the head counts as cut.
    pub(crate) fn piece(&mut self, record: &Head, bytes: &[u8], shared: &mut Shared) {
        let flags = record.header.flags;
        let joins = usize::try_from(record.offset).is_ok_and(|offset| offset == self.pieces.len());
        if self.read || (flags & event::HEAD_FIRST != 0 && !self.pieces.is_empty()) {
            shared.counters.strays += 1;
            return;
        }
        self.exchange.cut |= flags & event::HEAD_CUT != 0 || !joins;
        self.exchange.request_bytes = record.body_bytes;
        if flags & event::HEAD_ENDED != 0 {
            self.exchange.request_end_ns = Some(record.header.time_ns);
            self.sent = true;
        }
        let whole = flags & event::HEAD_COMPLETE != 0;
        self.complete |= whole;
        let alone = event::HEAD_FIRST | event::HEAD_COMPLETE | event::HEAD_ENDED;
        if let Some(keys) = &shared.settings.keys
            && flags & alone == alone
        {
            self.exchange.tag = keys.tag(bytes, self.exchange.socket);
        }
        let bytes = if joins { bytes } else { &[] };
        if whole && self.pieces.is_empty() {
            let room = bytes.len().min(shared.settings.head_bytes);
            self.exchange.cut |= room < bytes.len();
            self.read(&bytes[..room], shared);
            return;
        }
        let room = (shared.settings.head_bytes.saturating_sub(self.pieces.len()))
            .min(shared.settings.head_bytes_total.saturating_sub(shared.head_bytes))
            .min(bytes.len());
        self.exchange.cut |= room < bytes.len();
        self.pieces.extend_from_slice(&bytes[..room]);
        shared.head_bytes += room;
        if whole {
            self.read_pieces(shared);
        }
    }

    /// Takes the last bytes of the answer's body, where a message stands that closes it.
    pub(crate) fn tail(&mut self, record: &Head, bytes: &[u8]) {
        if let Some(rpc) = &mut self.exchange.rpc
            && record.header.flags & event::HEAD_CUT == 0
        {
            rpc.status = rpc.status.or(rpc::tail_status(rpc.system, bytes));
        }
    }

    /// Whether this is known, or must be feared, to be a call: bytes that began as a
    /// head and never became one are none.
    pub(crate) fn is_call(&self) -> bool {
        self.complete || self.doubtful || self.exchange.status.is_some()
    }

    /// Whether its head was whole and more of it is to come.
    pub(crate) fn is_being_sent(&self) -> bool {
        self.complete && !self.sent
    }

    /// The call has ended; its exchange is whole now.
    pub(crate) fn finish(
        &mut self,
        end_ns: u64,
        error: Option<Cause>,
        tcp: &Tcp,
        shared: &mut Shared,
    ) {
        if !self.read {
            self.exchange.cut = true;
            self.read_pieces(shared);
        }
        let exchange = &mut self.exchange;
        if let Some(rpc) = &mut exchange.rpc
            && self.unary
            && rpc.system == RpcSystem::Connect
            && exchange.status == Some(200)
        {
            // Its status is that of HTTP.
            rpc.status = Some(0);
        }
        exchange.error = error;
        let begun = exchange.first_byte_ns.unwrap_or(exchange.start_ns);
        exchange.end_ns = end_ns.max(begun).max(exchange.start_ns);
        tcp.say(exchange, self.retransmits);
    }

    /// The call is lost: gives back what it held.
    pub(crate) fn release(&mut self, shared: &mut Shared) {
        shared.head_bytes -= self.pieces.len();
        self.pieces = Vec::new();
    }

    fn read_pieces(&mut self, shared: &mut Shared) {
        let pieces = std::mem::take(&mut self.pieces);
        shared.head_bytes -= pieces.len();
        self.read(&pieces, shared);
    }

    fn read(&mut self, bytes: &[u8], shared: &mut Shared) {
        self.read = true;
        let print = shared.heads.print(bytes);
        if let Some(facts) = print.and_then(|print| shared.heads.known(print)) {
            (self.h2c, self.unary) = (facts.h2c, facts.unary);
            self.exchange.say(facts.clone());
        } else {
            let facts = self.parse(bytes, shared);
            let exchange = &mut self.exchange;
            // A head with ids of its own does not come again.
            let repeats =
                !exchange.cut && exchange.trace.is_none() && exchange.request_id.is_none();
            if let Some(print) = print.filter(|_| repeats) {
                shared.heads.remember(print, facts.clone());
            }
            (self.h2c, self.unary) = (facts.h2c, facts.unary);
            exchange.say(facts);
        }
        shared.counters.heads_cut += u64::from(self.exchange.cut);
    }

    fn parse(&mut self, bytes: &[u8], shared: &mut Shared) -> Facts {
        let head = http1::parse(bytes);
        let exchange = &mut self.exchange;
        exchange.request_id = head.request_id.map(http1::text);
        exchange.cut |= head.cut;
        if let Some((context, is_w3c)) = head.carrier.context() {
            exchange.trace = Some(context);
            if is_w3c {
                shared.scratch.clear();
                head.carrier.trace_state(&mut shared.scratch);
                if !shared.scratch.is_empty() {
                    exchange.trace_state = Some(http1::text(&shared.scratch));
                }
            }
        }
        Facts {
            method: http1::method(head.method),
            path: http1::text(head.path),
            authority: http1::text(head.authority),
            agent: head.agent,
            relayed: (!head.relayed.is_empty()).then(|| Box::new(head.relayed)),
            call: head.content.system(head.connect).filter(|system| *system != RpcSystem::Grpc),
            unary: head.content == Content::Unary,
            h2c: head.h2c,
        }
    }
}

/// What the first piece of a request's head tells.
#[inline(always)]
fn begin(record: &Head, socket: u64, side: Side) -> Exchange {
    let http10 = record.header.flags & event::HEAD_HTTP10 != 0;
    Exchange {
        sequence: record.sequence,
        acknowledgement: record.acknowledgement,
        ..Exchange::begun(
            socket,
            side,
            if http10 { Protocol::Http10 } else { Protocol::Http11 },
            record.first_ns,
        )
    }
}

impl Exchange {
    fn say(&mut self, facts: Facts) {
        let Facts { method, path, authority, agent, call, relayed, .. } = facts;
        self.relayed = relayed;
        (self.method, self.path, self.authority, self.agent) = (method, path, authority, agent);
        self.rpc = call.map(|system| Box::new(Rpc::new(system)));
    }
}
