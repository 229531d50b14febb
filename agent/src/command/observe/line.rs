//! [`Line`]: what is shown of a call, to people and to programs alike.
//!
//! Which end has the last word on what is decided here and nowhere else.

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

use super::merge::ObservedCall;
use crate::attribution::mesh::Times;
use crate::attribution::{Call, IdentityKind, Party};
use crate::protocol::exchange::UNKNOWN;
use crate::protocol::exchange::rpc::{Fault, code_text};
use crate::protocol::{Cause, Exchange, Rpc, Side, Text};

/// Nanoseconds since 1970, shown as RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub u64);

impl Time {
    /// `2026-11-24T02:39:03.000000001Z`
    #[must_use]
    pub fn rfc3339(self) -> String {
        let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(self.0);
        humantime::format_rfc3339_nanos(time).to_string()
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.rfc3339())
    }
}

/// One end of a call.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct End<'a> {
    /// Its name, or `unknown`.
    pub name: &'a str,
    /// Its namespace, if it has one.
    pub namespace: Option<&'a str>,
    /// How the name is known.
    pub kind: &'static str,
    /// Its IP address, if known.
    pub address: Option<std::net::IpAddr>,
    /// Its port, if known.
    pub port: Option<u16>,
    /// Its process on this host, if known.
    pub pid: Option<u32>,
}

impl<'a> End<'a> {
    /// Of one observation.
    #[must_use]
    pub fn of(party: &'a Party) -> Self {
        Self {
            name: &party.identity.name,
            namespace: Some(&*party.identity.namespace).filter(|name| !name.is_empty()),
            kind: party.identity.kind.name(),
            address: party.endpoint.map(|endpoint| endpoint.ip()),
            port: party.endpoint.map(|endpoint| endpoint.port()),
            pid: Some(party.pid).filter(|pid| *pid != 0),
        }
    }

    /// Each end knows itself best, unless it knows nothing.
    fn best(own: Option<&'a Party>, other: Option<&'a Party>) -> Option<Self> {
        let named = |party: &&Party| party.identity.kind != IdentityKind::Unknown;
        own.filter(named).or(other.filter(named)).or(own).or(other).map(Self::of)
    }
}

/// How a call was answered.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Status {
    /// HTTP's status.
    Http(u16),
    /// gRPC's, by name, or by number where it has no name.
    Rpc(Cow<'static, str>),
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(status) => write!(formatter, "{status}"),
            Self::Rpc(name) => formatter.write_str(name),
        }
    }
}

/// How a call went through a mesh.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Way<'a> {
    /// Of the proxies that the call passed.
    pub mesh: Option<&'static str>,
    /// How the connection between the proxies was secured.
    pub security_policy: Option<&'static str>,
    /// Whom the client's certificate names.
    pub client_principal: Option<&'a str>,
    /// Whom the server's certificate names.
    pub server_principal: Option<&'a str>,
    /// How often the client's proxy has tried.
    pub attempt: Option<u32>,
    /// Between the ends.
    pub waypoint: Option<&'a str>,
    /// By what two ends with proxies between are known to be one call's.
    pub joined_by: Option<&'static str>,
    /// What the call took between the two ends.
    pub between_us: Option<u64>,
    /// What of that it took in the proxy beside the client.
    pub client_proxy_us: Option<u64>,
    /// What of that it took in the proxy beside the server.
    pub server_proxy_us: Option<u64>,
}

impl<'a> Way<'a> {
    /// Of the ends that were seen: the first one has the first word.
    fn of(ends: [&'a Call; 2]) -> Self {
        let passages = || ends.into_iter().filter_map(|end| end.passage.as_deref());
        let through = || ends.into_iter().filter_map(|end| end.through.as_deref());
        let between = |of: fn(&Times) -> Option<u64>| {
            through().find_map(|through| Some(of(&through.times)? / 1000))
        };
        Self {
            mesh: passages().map(|passage| passage.mesh.name()).next(),
            security_policy: passages().find_map(|passage| Some(passage.policy?.name())),
            client_principal: passages().find_map(|passage| principal(&passage.client_principal)),
            server_principal: passages().find_map(|passage| principal(&passage.server_principal)),
            attempt: ends.into_iter().find_map(Call::attempt),
            waypoint: ends.into_iter().find_map(|end| Some(&*end.waypoint()?.name)),
            joined_by: through().find_map(|through| Some(through.by?.name())),
            between_us: between(|times| times.between_ns),
            client_proxy_us: between(|times| times.client_proxy_ns),
            server_proxy_us: between(|times| times.server_proxy_ns),
        }
    }
}

/// One call.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line<'a> {
    /// See [`super::schema`] for the meaning of every field.
    pub time: Time,
    /// Who asked.
    pub client: End<'a>,
    /// Who was asked.
    pub server: End<'a>,
    /// `http/1.1`, `grpc`
    pub protocol: &'static str,
    /// `None`: not seen.
    pub method: Option<&'a str>,
    /// `None`: not seen.
    pub path: Option<&'a str>,
    /// `None`: not known.
    pub route: Option<&'a str>,
    /// Host that the client asked for.
    pub server_address: &'a str,
    /// Port that the client asked for.
    pub server_port: u16,
    /// `None`: none was seen.
    pub status: Option<Status>,
    /// Of the answer that carried it; `None`: no answer was seen.
    pub http_status: Option<u16>,
    /// The client's cause, else the server's.
    pub error: Option<&'static str>,
    /// The cause at the client's end.
    pub client_error: Option<&'static str>,
    /// The cause at the server's end.
    pub server_error: Option<&'static str>,
    /// To the last byte at the client's end.
    pub client_duration_us: Option<u64>,
    /// To the last byte at the server's end.
    pub server_duration_us: Option<u64>,
    /// To the first byte of the answer.
    pub first_byte_us: Option<u64>,
    /// Of the body.
    pub request_bytes: u64,
    /// Of the body.
    pub response_bytes: u64,
    /// Of a remote procedure call; `None`: they could not be counted.
    pub request_messages: Option<u64>,
    /// Likewise.
    pub response_messages: Option<u64>,
    /// Of the connection.
    pub rtt_us: Option<u32>,
    /// At both ends together.
    pub retransmits: u64,
    /// Of the connection.
    pub tcp_bytes_acked: Option<u64>,
    /// Of the connection.
    pub tcp_bytes_received: Option<u64>,
    /// What kind of client the request says it is from.
    pub user_agent: Option<&'static str>,
    /// 32 hexadecimal digits.
    pub trace_id: Option<String>,
    /// Through a mesh.
    #[serde(flatten)]
    pub way: Way<'a>,
    /// Calls that it stands for.
    pub weight: u32,
    /// The head was longer than what is captured.
    pub cut: bool,
    /// The same call as a line before, seen from the other end.
    pub late_half: bool,
    /// It is a remote procedure call.
    #[serde(skip)]
    pub is_rpc: bool,
    /// It failed by the rule for servers, or has no whole answer.
    #[serde(skip)]
    pub failed: bool,
}

impl<'a> Line<'a> {
    /// The facts of a call. `wall_offset_ns` is what has to be added to the kernel's
    /// monotonic time to get nanoseconds since 1970.
    #[must_use]
    pub fn of(call: &'a ObservedCall, wall_offset_ns: u64) -> Self {
        let (client, server) = (call.client(), call.server());
        let (front, back) = (call.nearer_client(), call.nearer_server());
        let cause = |end: Option<&Call>| end.and_then(|end| end.exchange.error).map(Cause::name);
        let (client_error, server_error) = (cause(client), cause(server));
        let request = [&back.exchange, &front.exchange];
        let text = |text: &'a str| Some(text).filter(|text| !text.is_empty() && *text != UNKNOWN);
        let answer = Answer::of(request.map(|exchange| &**exchange));
        let rpc = answer.rpc;
        let bytes = front.exchange.connection_bytes.or(back.exchange.connection_bytes);
        let trace = request.iter().find_map(|exchange| exchange.trace);
        Self {
            time: Time(front.exchange.start_ns.saturating_add(wall_offset_ns)),
            client: End::best(client.map(|end| &end.client), server.map(|end| &end.client))
                .unwrap_or_else(|| End::of(&front.client)),
            server: End::best(server.map(|end| &end.server), client.map(|end| &end.server))
                .unwrap_or_else(|| End::of(&back.server)),
            protocol: rpc.map_or(back.exchange.protocol.name(), |rpc| rpc.system.protocol()),
            method: request.iter().find_map(|exchange| {
                text(if rpc.is_some() { exchange.rpc_method()? } else { exchange.method.as_str() })
            }),
            path: request.iter().find_map(|exchange| text(exchange.path.as_str())),
            // A method is no route.
            route: text(&back.route).or_else(|| text(&front.route)).filter(|_| rpc.is_none()),
            server_address: &front.server_address,
            server_port: front.server_port,
            failed: answer.has_failed(client_error.is_some() || server_error.is_some()),
            status: answer.status(),
            http_status: answer.http,
            request_messages: answer.request_messages,
            response_messages: answer.response_messages,
            is_rpc: rpc.is_some(),
            error: client_error.or(server_error),
            client_error,
            server_error,
            client_duration_us: client.map(|end| end.exchange.duration_ns() / 1000),
            server_duration_us: server.map(|end| end.exchange.duration_ns() / 1000),
            first_byte_us: [front, back].iter().find_map(|end| {
                let first = end.exchange.first_byte_ns?;
                Some(first.saturating_sub(end.exchange.start_ns) / 1000)
            }),
            request_bytes: back.exchange.request_bytes,
            response_bytes: back.exchange.response_bytes,
            rtt_us: front.exchange.rtt_us.or(back.exchange.rtt_us),
            retransmits: [client, server]
                .iter()
                .flatten()
                .map(|end| u64::from(end.exchange.retransmits))
                .sum(),
            tcp_bytes_acked: bytes.map(|bytes| bytes.acked),
            tcp_bytes_received: bytes.map(|bytes| bytes.received),
            user_agent: request.iter().find_map(|exchange| exchange.agent.name()),
            trace_id: trace.map(|trace| format!("{:032x}", trace.trace_id)),
            way: Way::of([back, front]),
            weight: front.exchange.weight.max(back.exchange.weight),
            cut: front.exchange.cut || back.exchange.cut,
            late_half: call.is_late_half(),
        }
    }
}

fn principal(text: &Option<Text>) -> Option<&str> {
    text.as_ref().map(Text::as_str)
}

/// What either end saw of the answer: the server's end has the first word.
struct Answer<'a> {
    rpc: Option<&'a Rpc>,
    code: Option<u32>,
    http: Option<u16>,
    request_messages: Option<u64>,
    response_messages: Option<u64>,
}

impl<'a> Answer<'a> {
    fn of(ends: [&'a Exchange; 2]) -> Self {
        let rpcs = ends.map(|end| end.rpc.as_deref());
        let rpcs = || rpcs.into_iter().flatten();
        Self {
            rpc: rpcs().next(),
            code: rpcs().find_map(|rpc| rpc.status),
            http: ends.iter().find_map(|end| end.status),
            request_messages: rpcs().find_map(|rpc| rpc.request_messages),
            response_messages: rpcs().find_map(|rpc| rpc.response_messages),
        }
    }

    fn status(&self) -> Option<Status> {
        match self.rpc {
            Some(_) => self.code.map(|code| Status::Rpc(code_text(code))),
            None => self.http.map(Status::Http),
        }
    }

    fn has_failed(&self, has_cause: bool) -> bool {
        let by_status = match self.rpc {
            Some(_) => Fault::of(Side::Server, self.code, self.http, None).is_some(),
            None => self.http.is_some_and(|status| status >= 500),
        };
        has_cause || by_status
    }
}

/// Calls that happened and cannot be shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LostLine<'a> {
    /// When the loss was declared.
    pub time: Time,
    /// How many.
    pub lost: u64,
    /// Why.
    pub reason: &'a str,
    /// Who asked, where that is known.
    pub client: Option<End<'a>>,
    /// Who was asked, where that is known.
    pub server: Option<End<'a>>,
}

/// What was lost, as the stages say it.
#[derive(Clone, Debug)]
pub struct Lost {
    /// When the loss was declared, nanoseconds of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Calls, at least one.
    pub count: u64,
    /// As in `meshtap_calls_lost_total{reason}`.
    pub reason: &'static str,
    /// Who asked, where that is known.
    pub client: Option<Party>,
    /// Who was asked, where that is known.
    pub server: Option<Party>,
}

impl Lost {
    /// As a line.
    #[must_use]
    pub fn line(&self, wall_offset_ns: u64) -> LostLine<'_> {
        LostLine {
            time: Time(self.time_ns.saturating_add(wall_offset_ns)),
            lost: self.count,
            reason: self.reason,
            client: self.client.as_ref().map(End::of),
            server: self.server.as_ref().map(End::of),
        }
    }
}
