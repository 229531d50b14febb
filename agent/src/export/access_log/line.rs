//! The fields of one line, and their two forms.

use std::borrow::Cow;
use std::fmt::Write as _;

use opentelemetry::Value;
use opentelemetry::logs::AnyValue;
use serde::{Serialize, Serializer};

use super::AllowedHeaders;
use crate::aggregation::RpcNames;
use crate::attribution::{Call, Party};
use crate::export::clock::{Clock, rfc3339};
use crate::export::spans::{error_type, known_method, rpc, url_host};
use crate::protocol::exchange::UNKNOWN;
use crate::protocol::exchange::rpc::code_text;
use crate::protocol::{Exchange, Side};

/// What a line says. Field order is the order in JSON.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a> {
    time: String,
    side: &'static str,
    client: End<'a>,
    server: End<'a>,
    protocol: &'static str,
    #[serde(serialize_with = "text_or_null")]
    method: &'a str,
    #[serde(serialize_with = "text_or_null")]
    host: &'a str,
    #[serde(serialize_with = "text_or_null")]
    path: &'a str,
    #[serde(serialize_with = "text_or_null")]
    route: &'a str,
    status: Option<Status>,
    http_status: Option<u16>,
    error: Option<&'static str>,
    duration_us: u64,
    first_byte_us: Option<u64>,
    request_bytes: u64,
    response_bytes: u64,
    request_messages: Option<u64>,
    response_messages: Option<u64>,
    rtt_us: Option<u32>,
    retransmits: u32,
    tcp_bytes_acked: Option<u64>,
    tcp_bytes_received: Option<u64>,
    user_agent: Option<&'static str>,
    weight: u32,
    cut: bool,
    request_id: Option<&'a str>,
    trace_id: Option<String>,
    span_id: Option<String>,
    #[serde(skip)]
    is_rpc: bool,
}

/// HTTP's is a number, gRPC's a name.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Status {
    Http(u16),
    Rpc(Cow<'static, str>),
}

impl Status {
    fn of(exchange: &Exchange) -> Option<Self> {
        match exchange.rpc.as_deref() {
            Some(rpc) => rpc.status.map(|code| Self::Rpc(code_text(code))),
            None => exchange.status.map(Self::Http),
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Http(status) => write!(formatter, "{status}"),
            Self::Rpc(name) => formatter.write_str(name),
        }
    }
}

/// What is not known is `null`, never an empty text.
fn text_or_null<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    let is_known = !text.is_empty() && text != UNKNOWN;
    if !is_known { serializer.serialize_none() } else { serializer.serialize_str(text) }
}

#[derive(Debug, Serialize)]
struct End<'a> {
    name: &'a str,
    #[serde(serialize_with = "text_or_null")]
    namespace: &'a str,
    kind: &'static str,
    address: Option<String>,
    port: Option<u16>,
    pid: Option<u32>,
}

impl<'a> End<'a> {
    fn new(party: &'a Party) -> Self {
        Self {
            name: &party.identity.name,
            namespace: &party.identity.namespace,
            kind: party.identity.kind.name(),
            address: party.endpoint.map(|endpoint| endpoint.ip().to_canonical().to_string()),
            port: party.endpoint.map(|endpoint| endpoint.port()),
            pid: Some(party.pid).filter(|pid| *pid != 0),
        }
    }
}

impl<'a> Line<'a> {
    pub(super) fn new(call: &'a Call, clock: Clock, allowed: AllowedHeaders) -> Self {
        let exchange = &call.exchange;
        let since_start = |at: u64| at.saturating_sub(exchange.start_ns) / 1_000;
        let trace = exchange.trace.filter(|_| allowed.trace);
        let rpc = exchange.rpc.as_deref();
        Self {
            time: rfc3339(clock.unix_ns(exchange.start_ns)),
            side: match call.side() {
                Side::Client => "client",
                Side::Server => "server",
            },
            client: End::new(&call.client),
            server: End::new(&call.server),
            protocol: rpc.map_or(exchange.protocol.name(), |rpc| rpc.system.protocol()),
            method: exchange.rpc_method().unwrap_or(exchange.method.as_str()),
            host: url_host(exchange.authority.as_str()),
            path: exchange.path.as_str(),
            // A method is no route.
            route: if rpc.is_some() { "" } else { &call.route },
            status: Status::of(exchange),
            http_status: exchange.status,
            error: exchange.error.map(|cause| cause.name()),
            duration_us: exchange.duration_ns() / 1_000,
            first_byte_us: exchange.first_byte_ns.map(since_start),
            request_bytes: exchange.request_bytes,
            response_bytes: exchange.response_bytes,
            request_messages: rpc.and_then(|rpc| rpc.request_messages),
            response_messages: rpc.and_then(|rpc| rpc.response_messages),
            rtt_us: exchange.rtt_us,
            retransmits: exchange.retransmits,
            tcp_bytes_acked: exchange.connection_bytes.map(|bytes| bytes.acked),
            tcp_bytes_received: exchange.connection_bytes.map(|bytes| bytes.received),
            user_agent: exchange.agent.name(),
            weight: exchange.weight,
            cut: exchange.cut,
            request_id: exchange
                .request_id
                .as_ref()
                .filter(|_| allowed.request_id)
                .map(|id| id.as_str()),
            trace_id: trace.map(|trace| format!("{:032x}", trace.trace_id)),
            span_id: trace.map(|trace| format!("{:016x}", trace.span_id)),
            is_rpc: rpc.is_some(),
        }
    }

    pub(super) fn json(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(&mut *out, self)
            .expect("invariant: text and numbers always serialize into memory");
        out.push(b'\n');
    }

    /// `time side client -> server "GET host/path" 200 12.3ms 0B/512B`, and what is unusual; of
    /// a remote procedure call `"grpc host/package.Service/Method" OK 12.3ms 5B/7B`.
    pub(super) fn text(&self, out: &mut Vec<u8>) {
        let mut text = String::with_capacity(160);
        let milliseconds = self.duration_us as f64 / 1_000.0;
        let status = self.status.as_ref().map_or_else(|| "-".to_owned(), Status::to_string);
        let method = if self.is_rpc { self.protocol } else { self.method };
        // Writing into a string cannot fail.
        let _ = write!(
            text,
            "{} {} {} -> {} \"{} {}{}\" {status} {milliseconds:.3}ms {}B/{}B",
            self.time,
            self.side,
            Quoted(self.client.name),
            Quoted(self.server.name),
            Quoted(method),
            Quoted(self.host),
            Quoted(self.path),
            self.request_bytes,
            self.response_bytes,
        );
        if let (None, Some(status), true) = (&self.status, self.http_status, self.is_rpc) {
            let _ = write!(text, " http_status={status}");
        }
        // One message each way is what most calls are.
        let counts = [
            ("request_messages", self.request_messages),
            ("response_messages", self.response_messages),
        ];
        for (name, count) in counts {
            if let Some(count) = count.filter(|count| *count != 1) {
                let _ = write!(text, " {name}={count}");
            }
        }
        if let Some(error) = self.error {
            let _ = write!(text, " error={error}");
        }
        if self.retransmits > 0 {
            let _ = write!(text, " retransmits={}", self.retransmits);
        }
        if self.weight > 1 {
            let _ = write!(text, " weight={}", self.weight);
        }
        if self.cut {
            text.push_str(" cut");
        }
        if let Some(id) = self.request_id {
            let _ = write!(text, " request_id=\"{}\"", Quoted(id));
        }
        if let Some(id) = &self.trace_id {
            let _ = write!(text, " trace_id={id}");
        }
        out.extend_from_slice(text.as_bytes());
        out.push(b'\n');
    }

    /// For an OpenTelemetry record: conventions' names where there are some.
    pub(super) fn attributes(&self, call: &Call, names: RpcNames) -> Vec<(&'static str, AnyValue)> {
        let mut list = vec![
            ("meshtap.side", text(self.side)),
            ("meshtap.client.name", text(self.client.name)),
            ("meshtap.server.name", text(self.server.name)),
            ("server.address", text(&call.server_address)),
            ("meshtap.duration_us", number(self.duration_us)),
        ];
        match call.exchange.rpc.as_deref() {
            Some(called) => {
                let said = rpc::attributes(call, called, names).into_iter();
                list.extend(said.map(|(name, value)| (name, any(value))));
            }
            None => self.http(&mut list),
        }
        if call.server_port != 0 {
            list.push(("server.port", number(call.server_port.into())));
        }
        if let Some(error) = error_type(call) {
            list.push(("error.type", text(&error.as_str())));
        }
        if let Some(address) = &self.client.address {
            list.push(("client.address", text(address)));
        }
        if let Some(rtt) = self.rtt_us {
            list.push(("meshtap.tcp.rtt_us", number(rtt.into())));
        }
        if self.weight > 1 {
            list.push(("meshtap.weight", number(self.weight.into())));
        }
        if self.cut {
            list.push(("meshtap.head_cut", AnyValue::Boolean(true)));
        }
        if let Some(id) = self.request_id {
            list.push(("meshtap.request_id", text(id)));
        }
        list
    }

    fn http(&self, list: &mut Vec<(&'static str, AnyValue)>) {
        list.push(("http.request.method", text(known_method(self.method).unwrap_or("_OTHER"))));
        list.push(("http.request.body.size", number(self.request_bytes)));
        list.push(("http.response.body.size", number(self.response_bytes)));
        let is_known = |text: &str| !text.is_empty() && text != UNKNOWN;
        for (name, value) in [("url.path", self.path), ("http.route", self.route)] {
            if is_known(value) {
                list.push((name, text(value)));
            }
        }
        if known_method(self.method).is_none() && is_known(self.method) {
            list.push(("http.request.method_original", text(self.method)));
        }
        if let Some(status) = self.http_status {
            list.push(("http.response.status_code", number(status.into())));
        }
    }
}

fn text(text: &str) -> AnyValue {
    AnyValue::from(text.to_owned())
}

fn number(number: u64) -> AnyValue {
    AnyValue::from(i64::try_from(number).unwrap_or(i64::MAX))
}

fn any(value: Value) -> AnyValue {
    match value {
        Value::I64(number) => AnyValue::Int(number),
        Value::String(text) => AnyValue::String(text),
        other => AnyValue::from(other.as_str().into_owned()),
    }
}

/// Text that came over the wire, made harmless on a terminal and inside quotes.
struct Quoted<'a>(&'a str);

impl std::fmt::Display for Quoted<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '"' | '\\' => write!(formatter, "\\{letter}")?,
                _ if letter.is_control() => write!(formatter, "{}", letter.escape_default())?,
                _ => formatter.write_char(letter)?,
            }
        }
        Ok(())
    }
}
