//! [`Stream`]: a call that is not over.

use meshtap_ebpf::event::{self, Data, Waited};

use super::assembly::First;
use super::fields::Fields;
use super::templates::Template;
use crate::protocol::exchange::UNKNOWN;
use crate::protocol::exchange::rpc::{Progress, Traffic};
use crate::protocol::rpc::{self, Content};
use crate::protocol::tcp::Tcp;
use crate::protocol::{Cause, Exchange, Protocol, Rpc, RpcSystem, Shared, Side, Text};

/// A deadline that is over by this much less counts as over: timers fire early.
const TOLERANCE_NS: u64 = 1_000_000;

/// Messages of one direction of a stream.
#[derive(Clone, Copy, Debug, Default)]
struct Messages {
    /// Place in a message behind the last frame.
    place: u32,
    count: u64,
    /// A frame is missing, or what stands there is no message.
    unknown: bool,
    /// A frame held a part of a message, or several.
    parts: bool,
}

impl Messages {
    fn take(&mut self, data: &Data) {
        self.unknown |= data.before != self.place || data.after == event::MESSAGE_UNKNOWN;
        self.parts |= (data.before | data.after) != 0 || data.messages > 1;
        self.place = data.after;
        self.count += u64::from(data.messages);
    }

    fn known(&self) -> Option<u64> {
        (!self.unknown).then_some(self.count)
    }

    /// Whole ones that passed unseen.
    fn of(count: u16) -> Self {
        Self { count: count.into(), ..Self::default() }
    }
}

/// A request without a whole answer so far, or with one while it is still being sent.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: u32,
    /// What is known; whole only once the call has ended.
    pub(super) exchange: Box<Exchange>,
    /// Something was missed while this was open, and what: that no end was seen does not
    /// mean that there was none.
    pub(super) doubt: Option<&'static str>,
    /// The answer was whole at this time, while the request is still being sent.
    pub(super) answered_ns: Option<u64>,
    /// The request's head was read, or cannot be any more.
    pub(super) asked: bool,
    /// Nothing more of the request is to come.
    pub(super) sent: bool,
    /// The end of the request may have passed unseen, or that of the answer.
    pub(super) end_missed: bool,
    pub(super) answer_missed: bool,
    /// The head of the final answer was seen, whether or not its status could be read.
    pub(super) answering: bool,
    /// The request's content type is not known.
    content_unknown: bool,
    content: Content,
    requests: Messages,
    answers: Messages,
    /// Segments that the connection had sent again when the call began.
    retransmits: u32,
}

impl Stream {
    /// Begins with the first piece of the request's head.
    pub(super) fn begin(
        first: &First,
        socket: u64,
        side: Side,
        retransmits: u32,
        shared: &mut Shared,
    ) -> Self {
        let mut exchange =
            shared.spare.pop().unwrap_or_else(|| Box::new(begin(first, socket, side)));
        *exchange = begin(first, socket, side);
        Self::of(first.stream, exchange, retransmits)
    }

    /// The request of HTTP/1 that asked for the upgrade; its answer comes on stream 1.
    pub(super) fn upgraded(mut exchange: Box<Exchange>, retransmits: u32) -> Self {
        exchange.protocol = Protocol::Http2;
        (exchange.status, exchange.first_byte_ns, exchange.response_bytes) = (None, None, 0);
        let mut stream = Self::of(1, exchange, retransmits);
        (stream.asked, stream.sent) = (true, true);
        stream
    }

    fn of(id: u32, exchange: Box<Exchange>, retransmits: u32) -> Self {
        Self {
            id,
            exchange,
            doubt: None,
            answered_ns: None,
            asked: false,
            sent: false,
            end_missed: false,
            answer_missed: false,
            answering: false,
            content_unknown: true,
            content: Content::Other,
            requests: Messages::default(),
            answers: Messages::default(),
            retransmits,
        }
    }

    /// Takes the request's head.
    pub(super) fn say(&mut self, fields: &mut Fields, scratch: &mut Vec<u8>) {
        self.asked = true;
        let exchange = &mut self.exchange;
        if fields.unreadable {
            exchange.cut = true;
            return;
        }
        if let Some(method) = fields.method.take() {
            exchange.method = method;
        }
        if let Some(path) = fields.path.take() {
            exchange.path = path;
        }
        let host = fields.host.take();
        exchange.authority = fields.authority.take().or(host).unwrap_or_default();
        exchange.agent = fields.agent.unwrap_or_default();
        exchange.cut |= fields.cut;
        fields.relayed.incomplete |= fields.unknown;
        if !fields.relayed.is_empty() {
            exchange.relayed = Some(Box::new(std::mem::take(&mut fields.relayed)));
        }
        fields.say_ids(exchange, scratch);
        self.content = fields.content.unwrap_or_default();
        self.content_unknown = fields.content.is_none() && fields.unknown;
        let system = match fields.content.and_then(|content| content.system(fields.connect)) {
            // Only gRPC has this header.
            None if self.content_unknown && fields.grpc_timeout.is_some() => Some(RpcSystem::Grpc),
            None if fields.connect => Some(RpcSystem::Connect),
            system => system,
        };
        if let Some(system) = system {
            let timeout_ns = fields.grpc_timeout;
            exchange.rpc = Some(Box::new(Rpc { timeout_ns, ..Rpc::new(system) }));
        }
    }

    /// Goes on where the kernel half let it wait, with what it knows of its head.
    pub(super) fn resume(
        &mut self,
        record: &Waited,
        template: Option<&mut Template>,
        scratch: &mut Vec<u8>,
    ) {
        self.asked = true;
        self.sent = record.sent != 0;
        let answer = match template {
            Some(template) => {
                self.say(&mut template.fields.clone(), scratch);
                template.answer()
            }
            None => None,
        };
        if record.answering != 0 {
            match answer {
                Some(fields) => self.answer(fields, record.head_ns),
                None => self.answer(&Fields::default(), record.head_ns),
            }
        }
        let exchange = &mut self.exchange;
        exchange.request_end_ns = self.sent.then_some(record.first_ns);
        exchange.request_bytes = record.asked.into();
        exchange.response_bytes = record.answered.into();
        self.requests = Messages::of(record.asked_messages);
        self.answers = Messages::of(record.answered_messages);
    }

    /// Takes the final answer's head, of which the first piece came at `time_ns`.
    pub(super) fn answer(&mut self, fields: &Fields, time_ns: u64) {
        self.answering = true;
        self.exchange.first_byte_ns = Some(time_ns);
        self.exchange.status = fields.status;
        let content = fields.content.unwrap_or_default();
        if self.exchange.rpc.is_none() && self.content_unknown {
            let system = content.system(false);
            self.exchange.rpc = system.map(|system| Box::new(Rpc::new(system)));
        }
        self.trailers(fields);
    }

    /// Takes what stands behind the answer, or in its only head.
    pub(super) fn trailers(&mut self, fields: &Fields) {
        let Some(status) = fields.grpc_status else { return };
        if self.exchange.rpc.is_none() && self.content_unknown {
            self.exchange.rpc = Some(Box::new(Rpc::new(RpcSystem::Grpc)));
        }
        if let Some(rpc) = &mut self.exchange.rpc {
            rpc.status = Some(status);
        }
    }

    /// Takes a frame of the request's or of the answer's body.
    pub(super) fn data(&mut self, length: u32, data: &Data, asks: bool) {
        self.count_bytes(u64::from(length), asks);
        let messages = if asks { &mut self.requests } else { &mut self.answers };
        messages.take(data);
    }

    /// Takes the message that closes a body: of the answer's, it says how the call went.
    pub(super) fn close(&mut self, words: &[u8], asks: bool) {
        self.count_bytes(words.len() as u64, asks);
        if let Some(rpc) = &mut self.exchange.rpc
            && !asks
        {
            rpc.status = rpc.status.or(rpc::closing_status(rpc.system, words));
        }
    }

    fn count_bytes(&mut self, count: u64, asks: bool) {
        let exchange = &mut self.exchange;
        let bytes = if asks { &mut exchange.request_bytes } else { &mut exchange.response_bytes };
        *bytes = bytes.saturating_add(count);
    }

    /// Frames were missed, in the direction of the requests (`asks`) or of the answers.
    pub(super) fn miss(&mut self, asks: bool, reason: &'static str) {
        self.doubt.get_or_insert(reason);
        self.asked |= asks;
        self.end_missed |= asks;
        self.answer_missed |= !asks;
        let messages = if asks { &mut self.requests } else { &mut self.answers };
        messages.unknown = true;
    }

    /// Whether the time that the client announced is over at `time_ns`.
    pub(super) fn is_over(&self, time_ns: u64) -> bool {
        let timeout_ns = self.exchange.rpc.as_ref().and_then(|rpc| rpc.timeout_ns);
        let lasted_ns = time_ns.saturating_sub(self.exchange.start_ns);
        timeout_ns.is_some_and(|timeout_ns| lasted_ns.saturating_add(TOLERANCE_NS) >= timeout_ns)
    }

    /// The call has ended: its exchange is whole now.
    pub(super) fn finish(mut self, end_ns: u64, error: Option<Cause>, tcp: &Tcp) -> Box<Exchange> {
        self.count_messages();
        self.conclude();
        let may_repeat = error.is_none() && self.doubt.is_none() && self.is_counted();
        let exchange = &mut self.exchange;
        if !may_repeat {
            exchange.tag = None;
        }
        exchange.error = error;
        let begun = exchange.first_byte_ns.unwrap_or(exchange.start_ns);
        exchange.end_ns = end_ns.max(begun).max(exchange.start_ns);
        tcp.say(exchange, self.retransmits);
        self.exchange
    }

    /// What a remote procedure call did since its last report, if anything.
    pub(super) fn report(&mut self, now_ns: u64, tcp: &Tcp) -> Option<Progress> {
        self.count_messages();
        let exchange = &mut self.exchange;
        let rpc = exchange.rpc.as_mut()?;
        let before = rpc.reported;
        // A number that is not known any more stays where it was.
        let now = Traffic {
            request_messages: rpc.request_messages.unwrap_or(before.request_messages),
            response_messages: rpc.response_messages.unwrap_or(before.response_messages),
            request_bytes: exchange.request_bytes,
            response_bytes: exchange.response_bytes,
        };
        if now == before {
            return None;
        }
        rpc.reported = now;
        let gains = Traffic {
            request_messages: now.request_messages - before.request_messages,
            response_messages: now.response_messages - before.response_messages,
            request_bytes: now.request_bytes - before.request_bytes,
            response_bytes: now.response_bytes - before.response_bytes,
        };
        let mut exchange = exchange.clone();
        exchange.end_ns = now_ns.max(exchange.start_ns);
        tcp.say(&mut exchange, self.retransmits);
        Some(Progress { exchange, gains })
    }

    /// Whether the kernel half can count all that is to be counted of such a call.
    fn is_counted(&self) -> bool {
        match self.exchange.rpc.as_deref() {
            None => !self.content_unknown,
            Some(rpc) => {
                rpc.system == RpcSystem::Grpc && !self.requests.parts && !self.answers.parts
            }
        }
    }

    /// Gives the call its numbers of messages.
    fn count_messages(&mut self) {
        let Some(rpc) = &mut self.exchange.rpc else { return };
        let is_framed = match rpc.system {
            RpcSystem::Grpc => true,
            RpcSystem::GrpcWeb => self.content == Content::GrpcWeb,
            RpcSystem::Connect => self.content == Content::ConnectStream,
        };
        rpc.request_messages = self.requests.known().filter(|_| is_framed);
        rpc.response_messages = self.answers.known().filter(|_| is_framed);
    }

    /// A unary call of Connect has no status but that of HTTP.
    fn conclude(&mut self) {
        let is_ok = self.content == Content::Unary && self.exchange.status == Some(200);
        if let Some(rpc) = &mut self.exchange.rpc
            && rpc.system == RpcSystem::Connect
            && is_ok
        {
            rpc.status = Some(0);
        }
    }
}

/// What the first piece of a request's head tells.
fn begin(first: &First, socket: u64, side: Side) -> Exchange {
    Exchange {
        method: Text::from(UNKNOWN),
        path: Text::from(UNKNOWN),
        sequence: first.sequence,
        acknowledgement: first.acknowledgement,
        ..Exchange::begun(socket, side, Protocol::Http2, first.time_ns)
    }
}
