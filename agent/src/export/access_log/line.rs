//! The fields of one line, and their two forms.

use std::fmt::Write as _;

use opentelemetry::logs::AnyValue;
use serde::{Serialize, Serializer};

use super::AllowedHeaders;
use crate::attribution::{Call, Party};
use crate::export::clock::{Clock, rfc3339};
use crate::export::spans::{error_type, known_method, url_host};
use crate::protocol::Side;

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
    status: Option<u16>,
    error: Option<&'static str>,
    duration_us: u64,
    first_byte_us: Option<u64>,
    request_bytes: u64,
    response_bytes: u64,
    rtt_us: Option<u32>,
    retransmits: u32,
    request_id: Option<&'a str>,
    trace_id: Option<String>,
    span_id: Option<String>,
}

/// What is not known is `null`, never an empty text.
fn text_or_null<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    if text.is_empty() { serializer.serialize_none() } else { serializer.serialize_str(text) }
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
        Self {
            time: rfc3339(clock.unix_ns(exchange.start_ns)),
            side: match call.side() {
                Side::Client => "client",
                Side::Server => "server",
            },
            client: End::new(&call.client),
            server: End::new(&call.server),
            protocol: exchange.protocol.name(),
            method: exchange.method.as_str(),
            host: url_host(exchange.authority.as_str()),
            path: exchange.path.as_str(),
            route: &call.route,
            status: exchange.status,
            error: exchange.error.map(|cause| cause.name()),
            duration_us: exchange.duration_ns() / 1_000,
            first_byte_us: exchange.first_byte_ns.map(since_start),
            request_bytes: exchange.request_bytes,
            response_bytes: exchange.response_bytes,
            rtt_us: exchange.rtt_us,
            retransmits: exchange.retransmits,
            request_id: exchange
                .request_id
                .as_ref()
                .filter(|_| allowed.request_id)
                .map(|id| id.as_str()),
            trace_id: trace.map(|trace| format!("{:032x}", trace.trace_id)),
            span_id: trace.map(|trace| format!("{:016x}", trace.span_id)),
        }
    }

    pub(super) fn json(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(&mut *out, self)
            .expect("invariant: text and numbers always serialize into memory");
        out.push(b'\n');
    }

    /// `time side client -> server "GET host/path" 200 12.3ms 0B/512B`, and what is unusual.
    pub(super) fn text(&self, out: &mut Vec<u8>) {
        let mut text = String::with_capacity(160);
        let milliseconds = self.duration_us as f64 / 1_000.0;
        let status = self.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
        // Writing into a string cannot fail.
        let _ = write!(
            text,
            "{} {} {} -> {} \"{} {}{}\" {status} {milliseconds:.3}ms {}B/{}B",
            self.time,
            self.side,
            Quoted(self.client.name),
            Quoted(self.server.name),
            Quoted(self.method),
            Quoted(self.host),
            Quoted(self.path),
            self.request_bytes,
            self.response_bytes,
        );
        if let Some(error) = self.error {
            let _ = write!(text, " error={error}");
        }
        if self.retransmits > 0 {
            let _ = write!(text, " retransmits={}", self.retransmits);
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
    pub(super) fn attributes(&self, call: &Call) -> Vec<(&'static str, AnyValue)> {
        let text = |text: &str| AnyValue::from(text.to_owned());
        let number = |number: u64| AnyValue::from(i64::try_from(number).unwrap_or(i64::MAX));
        let mut list = vec![
            ("meshtap.side", text(self.side)),
            ("meshtap.client.name", text(self.client.name)),
            ("meshtap.server.name", text(self.server.name)),
            ("http.request.method", text(known_method(self.method).unwrap_or("_OTHER"))),
            ("server.address", text(&call.server_address)),
            ("http.request.body.size", number(self.request_bytes)),
            ("http.response.body.size", number(self.response_bytes)),
            ("meshtap.duration_us", number(self.duration_us)),
        ];
        for (name, value) in [("url.path", self.path), ("http.route", self.route)] {
            if !value.is_empty() {
                list.push((name, text(value)));
            }
        }
        if known_method(self.method).is_none() && !self.method.is_empty() {
            list.push(("http.request.method_original", text(self.method)));
        }
        if call.server_port != 0 {
            list.push(("server.port", number(call.server_port.into())));
        }
        if let Some(status) = self.status {
            list.push(("http.response.status_code", number(status.into())));
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
        if let Some(id) = self.request_id {
            list.push(("meshtap.request_id", text(id)));
        }
        list
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
