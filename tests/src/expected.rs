//! [`Expected`]: a call that must be seen, and how it differs from what was seen.

use crate::call::{CallLine, Calls};

/// Causes that are right at each end of a call; none: no error.
#[derive(Clone, Copy, Debug)]
pub struct Causes {
    /// At the client's end.
    pub client: &'static [&'static str],
    /// At the server's end.
    pub server: &'static [&'static str],
}

/// A call that must be seen; what is `None` is not looked at.
#[derive(Clone, Debug)]
pub struct Expected {
    method: String,
    path: String,
    status: Option<u16>,
    client_errors: &'static [&'static str],
    server_errors: &'static [&'static str],
    request_bytes: Option<u64>,
    response_bytes: Option<u64>,
    protocol: &'static str,
    client: Option<String>,
    server: Option<String>,
    rpc: Option<Rpc>,
    alternatives: Vec<Self>,
}

/// What a remote procedure call has besides.
#[derive(Clone, Debug)]
struct Rpc {
    /// Status code's name.
    code: Option<String>,
    http_status: Option<u16>,
    /// Of request and answer.
    messages: (Option<u64>, Option<u64>),
}

impl Expected {
    /// A call with a whole answer, by HTTP/1.1.
    #[must_use]
    pub fn call(method: &str, path: &str, status: u16) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            status: Some(status),
            client_errors: &[],
            server_errors: &[],
            request_bytes: None,
            response_bytes: None,
            protocol: "http/1.1",
            client: None,
            server: None,
            rpc: None,
            alternatives: Vec::new(),
        }
    }

    /// A call by gRPC that was answered with HTTP status 200: its method
    /// (`package.Service/Method`), the status code's name (empty: none was seen) and the
    /// messages of request and answer.
    #[must_use]
    pub fn rpc(method: &str, code: &str, messages: (u64, u64)) -> Self {
        let rpc = Rpc {
            code: (!code.is_empty()).then(|| code.to_owned()),
            http_status: Some(200),
            messages: (Some(messages.0), Some(messages.1)),
        };
        let path = format!("/{method}");
        let call = Self::call(method, &path, 0);
        Self { status: None, protocol: "grpc", rpc: Some(rpc), ..call }
    }

    /// Of a call by gRPC: with another HTTP status, or without an answer.
    #[must_use]
    pub fn http_status(mut self, status: Option<u16>) -> Self {
        if let Some(rpc) = &mut self.rpc {
            rpc.http_status = status;
        }
        self
    }

    /// Of a call by gRPC: by another protocol for the same.
    #[must_use]
    pub fn by(self, protocol: &'static str) -> Self {
        Self { protocol, ..self }
    }

    /// Of a call by gRPC: with messages that could not be counted.
    #[must_use]
    pub fn messages(mut self, request: Option<u64>, response: Option<u64>) -> Self {
        if let Some(rpc) = &mut self.rpc {
            rpc.messages = (request, response);
        }
        self
    }

    /// Either this call or the other one, where both are right.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        self.alternatives.push(other);
        self
    }

    /// A call without an answer: the cause at each end is one of these.
    #[must_use]
    pub fn failed(method: &str, path: &str, ends: Causes) -> Self {
        Self { status: None, ..Self::call(method, path, 0) }.broken(ends)
    }

    /// The answer began and never ended: there is a status, and a cause at each end.
    #[must_use]
    pub fn broken(self, ends: Causes) -> Self {
        Self { client_errors: ends.client, server_errors: ends.server, ..self }
    }

    /// Body bytes of request and answer.
    #[must_use]
    pub fn bytes(self, request: u64, response: u64) -> Self {
        Self { request_bytes: Some(request), response_bytes: Some(response), ..self }
    }

    /// Names of the workloads.
    #[must_use]
    pub fn between(self, client: &str, server: &str) -> Self {
        Self { client: Some(client.to_owned()), server: Some(server.to_owned()), ..self }
    }

    /// By HTTP/1.0.
    #[must_use]
    pub fn http10(self) -> Self {
        Self { protocol: "http/1.0", ..self }
    }

    /// By HTTP/2.
    #[must_use]
    pub fn http2(self) -> Self {
        Self { protocol: "http/2", ..self }
    }

    /// Why `call` is not this one, nor one of its alternatives; `None`: it is.
    fn differs(&self, call: &CallLine) -> Option<String> {
        let first = self.differs_itself(call)?;
        let is_other = self.alternatives.iter().any(|other| other.differs(call).is_none());
        (!is_other).then_some(first)
    }

    fn differs_itself(&self, call: &CallLine) -> Option<String> {
        let mut differences = Vec::new();
        let mut check = |what: &str, same: bool, wanted: String| {
            if !same {
                differences.push(format!("{what} should be {wanted}"));
            }
        };
        check("method", call.method == self.method, self.method.clone());
        check("path", call.path == self.path, self.path.clone());
        check("status", call.status == self.status, format!("{:?}", self.status));
        check("protocol", call.protocol == self.protocol, self.protocol.to_owned());
        let known = |error: &Option<String>, causes: &[&str]| match error {
            None => causes.is_empty(),
            Some(error) => causes.contains(&error.as_str()),
        };
        let (client, server) = (self.client_errors, self.server_errors);
        check("client_error", known(&call.client_error, client), format!("one of {client:?}"));
        check("server_error", known(&call.server_error, server), format!("one of {server:?}"));
        let first = call.client_error.as_ref().or(call.server_error.as_ref());
        check("error", call.error.as_ref() == first, "the client's, else the server's".to_owned());
        if let Some(bytes) = self.request_bytes {
            check("request_bytes", call.request_bytes == bytes, bytes.to_string());
        }
        if let Some(bytes) = self.response_bytes {
            check("response_bytes", call.response_bytes == bytes, bytes.to_string());
        }
        if let Some(name) = &self.client {
            check("client", call.client.name == *name, name.clone());
        }
        if let Some(name) = &self.server {
            check("server", call.server.name == *name, name.clone());
        }
        if let Some(Rpc { code, http_status, messages }) = &self.rpc {
            check("status", call.code == *code, format!("{code:?}"));
            check("http_status", call.http_status == *http_status, format!("{http_status:?}"));
            let seen = (call.request_messages, call.response_messages);
            check("messages", seen == *messages, format!("{messages:?}"));
        } else {
            check("status", call.code.is_none(), "a number".to_owned());
        }
        check("both ends", call.both_ends(), "seen".to_owned());
        (!differences.is_empty()).then(|| differences.join(", "))
    }
}

/// How the calls seen differ from those expected, in any order; `None`: not at all.
#[must_use]
pub fn mismatch(name: &str, seen: &[&CallLine], expected: &[Expected]) -> Option<String> {
    let shown: Vec<String> = seen.iter().map(|call| call.summary()).collect();
    let mut missing = Vec::new();
    let mut rest = seen.to_vec();
    for expected in expected {
        match rest.iter().position(|call| expected.differs(call).is_none()) {
            Some(at) => drop(rest.remove(at)),
            None => missing.push(expected),
        }
    }
    if missing.is_empty() && rest.is_empty() {
        return None;
    }
    let mut text = format!("- {name}: seen {shown:?}");
    for expected in missing {
        // The call that was meant, if there is one by that name, says more.
        let near =
            rest.iter().position(|call| call.path == expected.path).map(|at| rest.remove(at));
        let why = near.and_then(|call| expected.differs(call));
        let why = why.unwrap_or_else(|| "is missing".to_owned());
        text += &format!("\n    {} {}: {why}", expected.method, expected.path);
        if let Some(call) = near {
            text += &format!("\n      {call:?}");
        }
    }
    for call in rest {
        text += &format!("\n    was never made: {call:?}");
    }
    Some(text)
}

/// Demands that the calls to `port` are exactly those expected, and that none was lost.
pub fn verify(calls: &Calls, port: u16, expected: &[Expected]) {
    if let Some(text) = mismatch(&format!("port {port}"), &calls.to_port(port), expected) {
        panic!("the calls were seen wrongly:\n{text}\n  declared lost: {:?}", calls.lost);
    }
    assert_eq!(calls.declared_lost(), 0, "nothing is lost on a quiet host: {:?}", calls.lost);
}

#[cfg(test)]
mod tests {
    use super::{Causes, Expected, mismatch};
    use crate::call::CallLine;

    const CLOSED: Causes = Causes { client: &["connection_closed"], server: &["abandoned"] };

    fn call(path: &str, status: Option<u16>, error: Option<&str>) -> CallLine {
        let text = format!(
            r#"{{"time":0,"client":{{"name":"a","kind":"process"}},"server":{{"name":"b","kind":"process"}},
            "protocol":"http/1.1","method":"GET","path":"{path}","route":"/","client_duration_us":2,
            "server_duration_us":1,"request_bytes":0,"response_bytes":5,"retransmits":0,"weight":1}}"#
        );
        let mut call: CallLine = serde_json::from_str(&text).expect("parses");
        (call.status, call.error) = (status, error.map(str::to_owned));
        call.client_error.clone_from(&call.error);
        call.server_error = error.map(|_| "abandoned".to_owned());
        call
    }

    #[test]
    fn every_difference_is_found() {
        let (one, two) = (call("/1", Some(200), None), call("/2", None, Some("connection_closed")));
        let good = [
            Expected::failed("GET", "/2", CLOSED),
            Expected::call("GET", "/1", 200).bytes(0, 5).between("a", "b"),
        ];
        assert_eq!(mismatch("x", &[&one, &two], &good), None);
        assert!(mismatch("x", &[&one], &good).is_some(), "one is missing");
        assert!(mismatch("x", &[&one, &two, &two], &good).is_some(), "one is too many");
        for bad in [
            Expected::call("PUT", "/1", 200),
            Expected::call("GET", "/1", 201),
            Expected::call("GET", "/1", 200).bytes(1, 5),
            Expected::call("GET", "/1", 200).bytes(0, 4),
            Expected::call("GET", "/1", 200).between("b", "a"),
            Expected::call("GET", "/1", 200).http10(),
            Expected::call("GET", "/1", 200).broken(CLOSED),
            Expected::call("GET", "/1", 200).http2(),
            Expected::rpc("GET", "OK", (1, 1)),
        ] {
            assert!(mismatch("x", &[&one], std::slice::from_ref(&bad)).is_some(), "{bad:?}");
        }
        let either = Expected::call("GET", "/1", 201).or(Expected::call("GET", "/1", 200));
        assert_eq!(mismatch("x", &[&one], &[either]), None);
        let mut half = one;
        half.server_duration_us = None;
        assert!(mismatch("x", &[&half], &[Expected::call("GET", "/1", 200)]).is_some());
    }

    #[test]
    fn remote_procedure_calls_are_compared_by_status_and_messages() {
        let mut seen = call("/shop.Cart/Get", None, None);
        seen.method = "shop.Cart/Get".to_owned();
        seen.protocol = "grpc".to_owned();
        seen.code = Some("OK".to_owned());
        (seen.http_status, seen.request_messages) = (Some(200), Some(1));
        let good = Expected::rpc("shop.Cart/Get", "OK", (1, 2)).messages(Some(1), None);
        assert_eq!(mismatch("x", &[&seen], std::slice::from_ref(&good)), None);
        for bad in [
            good.clone().messages(Some(1), Some(1)),
            good.http_status(None),
            Expected::rpc("shop.Cart/Get", "", (1, 2)).messages(Some(1), None),
            Expected::rpc("shop.Cart/Put", "OK", (1, 2)).messages(Some(1), None),
        ] {
            assert!(mismatch("x", &[&seen], std::slice::from_ref(&bad)).is_some(), "{bad:?}");
        }
    }
}
