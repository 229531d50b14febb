//! [`CallLine`]: one line of `meshtap observe --json`, and selections over many.

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;

/// One end of a call as a line shows it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct PartyLine {
    /// The workload.
    pub name: String,
    /// How it is known.
    pub kind: String,
    /// Of the name; empty where there is none.
    #[serde(default, deserialize_with = "nullable")]
    pub namespace: String,
    /// Address; `None` where it is not known.
    pub address: Option<String>,
    /// Port; `None` where it is not known.
    pub port: Option<u16>,
    /// Process id; `None` or 0 where it is not known.
    pub pid: Option<u32>,
}

/// A call.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct CallLine {
    /// When it began.
    pub time: Value,
    /// Who asked.
    pub client: PartyLine,
    /// Who was asked.
    pub server: PartyLine,
    /// `http/1.1`, `http/2`, `grpc`, …
    pub protocol: String,
    /// Any token; of a remote procedure call `package.Service/Method`; empty where it was
    /// not seen.
    #[serde(deserialize_with = "nullable")]
    pub method: String,
    /// Without query; empty where it was not seen.
    #[serde(deserialize_with = "nullable")]
    pub path: String,
    /// Path as a route; empty where there is none.
    #[serde(deserialize_with = "nullable")]
    pub route: String,
    /// `status` where it is a number. `None`: no answer was seen.
    pub status: Option<u16>,
    /// `status` where it is a name, as of gRPC: [`Calls::parse`] puts it here.
    #[serde(default)]
    pub code: Option<String>,
    /// Beside a `status` that is not HTTP's.
    #[serde(default)]
    pub http_status: Option<u16>,
    /// Of a remote procedure call. `None`: not counted.
    #[serde(default)]
    pub request_messages: Option<u64>,
    /// Of a remote procedure call. `None`: not counted.
    #[serde(default)]
    pub response_messages: Option<u64>,
    /// `None`: the answer was seen to its end.
    pub error: Option<String>,
    /// Where the ends differ.
    #[serde(default)]
    pub client_error: Option<String>,
    /// Where the ends differ.
    #[serde(default)]
    pub server_error: Option<String>,
    /// To the last byte; `None`: that side was not seen.
    pub client_duration_us: Option<f64>,
    /// To the last byte; `None`: that side was not seen.
    pub server_duration_us: Option<f64>,
    /// To the first byte of the answer.
    pub first_byte_us: Option<f64>,
    /// Calls that it stands for.
    pub weight: u32,
    /// Body of the request.
    pub request_bytes: u64,
    /// Body of the answer.
    pub response_bytes: u64,
    /// Of the connection.
    pub rtt_us: Option<f64>,
    /// Of the connection, during the call.
    pub retransmits: u64,
    /// On the connection so far; `None`: not known.
    pub tcp_bytes_acked: Option<u64>,
    /// On the connection so far; `None`: not known.
    pub tcp_bytes_received: Option<u64>,
    /// What kind of client asked, as it says.
    #[serde(default)]
    pub user_agent: Option<String>,
    /// 32 hexadecimal digits.
    pub trace_id: Option<String>,
    /// The head was longer than what is captured.
    #[serde(default)]
    pub cut: bool,
    /// The other end of this call had a line of its own before.
    #[serde(default)]
    pub late_half: bool,
    /// Which mesh it went through.
    #[serde(default)]
    pub mesh: Option<String>,
    /// `mutual_tls` or `none`; `None`: not known.
    #[serde(default)]
    pub security_policy: Option<String>,
    /// `spiffe://…`
    #[serde(default)]
    pub client_principal: Option<String>,
    /// `spiffe://…`
    #[serde(default)]
    pub server_principal: Option<String>,
    /// From 1, where a proxy that tries again counts.
    #[serde(default)]
    pub attempt: Option<u32>,
    /// The waypoint that stands between.
    #[serde(default)]
    pub waypoint: Option<String>,
    /// By what two ends on either side of proxies are known to be one call's.
    #[serde(default)]
    pub joined_by: Option<String>,
    /// What the call took between them.
    #[serde(default)]
    pub between_us: Option<u64>,
    /// What of that it took in the client's proxy.
    #[serde(default)]
    pub client_proxy_us: Option<u64>,
    /// What of that it took in the server's proxy.
    #[serde(default)]
    pub server_proxy_us: Option<u64>,
}

fn nullable<'de, D: serde::Deserializer<'de>>(value: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or_default())
}

impl CallLine {
    /// Whether both ends of the call were seen.
    #[must_use]
    pub fn both_ends(&self) -> bool {
        self.client_duration_us.is_some() && self.server_duration_us.is_some()
    }

    /// Whether it is a remote procedure call by gRPC.
    #[must_use]
    pub fn is_grpc(&self) -> bool {
        self.protocol == "grpc"
    }

    /// `GET /path 200`, or `GET /path error` where there was no answer.
    #[must_use]
    pub fn summary(&self) -> String {
        let status = self.status.map(|status| status.to_string()).or_else(|| self.code.clone());
        let outcome = match (status, &self.error) {
            (Some(status), None) => status,
            (Some(status), Some(error)) => format!("{status} {error}"),
            (None, Some(error)) => error.clone(),
            (None, None) => "nothing".to_owned(),
        };
        format!("{} {} {outcome}", self.method, self.path)
    }
}

/// Everything that one `observe` printed.
#[derive(Clone, Debug, Default)]
pub struct Calls {
    /// The calls, in the order of the lines.
    pub calls: Vec<CallLine>,
    /// The lines with `lost`.
    pub lost: Vec<Value>,
}

impl Calls {
    /// Parses lines. What is neither a call nor a loss is an error.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut all = Self::default();
        for line in lines {
            let mut value: Value =
                serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
            if value.get("lost").is_some_and(|lost| !lost.is_null()) {
                all.lost.push(value);
            } else {
                if value["status"].is_string() {
                    value["code"] = value["status"].take();
                }
                let call = serde_json::from_value(value)
                    .with_context(|| format!("not a call of the documented shape: {line}"))?;
                all.calls.push(call);
            }
        }
        Ok(all)
    }

    /// The calls whose server has `port`.
    #[must_use]
    pub fn to_port(&self, port: u16) -> Vec<&CallLine> {
        self.calls.iter().filter(|call| call.server.port == Some(port)).collect()
    }

    /// How many calls were declared lost.
    #[must_use]
    pub fn declared_lost(&self) -> u64 {
        self.lost.iter().filter_map(|line| line["lost"].as_u64()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::Calls;

    const CALL: &str = r#"{"time":"2026-01-01T00:00:00.000000Z","client":{"name":"curl","kind":"process","address":"127.0.0.1","port":40000,"pid":7},"server":{"name":"nginx","kind":"process","address":"127.0.0.1","port":80,"pid":null},"protocol":"http/1.1","method":"GET","path":"/","route":"/","status":200,"error":null,"client_duration_us":12,"server_duration_us":null,"first_byte_us":3,"weight":1,"request_bytes":0,"response_bytes":5,"rtt_us":null,"retransmits":0,"trace_id":null,"more":1}"#;

    #[test]
    fn calls_and_losses_are_told_apart() {
        let all = Calls::parse([CALL, r#"{"lost":3,"reason":"ring_full"}"#]).expect("parses");
        assert_eq!(all.to_port(80).len(), 1);
        assert_eq!(all.declared_lost(), 3);
        assert_eq!(all.calls[0].summary(), "GET / 200");
        assert!(!all.calls[0].both_ends());
    }

    #[test]
    fn a_status_is_a_number_or_a_name() {
        let named = CALL.replace("\"status\":200", "\"status\":\"NOT_FOUND\",\"http_status\":200");
        let all = Calls::parse([named.as_str()]).expect("parses");
        let call = &all.calls[0];
        assert_eq!((call.status, call.code.as_deref()), (None, Some("NOT_FOUND")));
        assert_eq!((call.http_status, call.request_messages), (Some(200), None));
        assert_eq!(call.summary(), "GET / NOT_FOUND");
    }

    #[test]
    fn a_missing_field_is_an_error() {
        assert!(Calls::parse([CALL.replace("\"rtt_us\":null,", "").as_str()]).is_ok());
        assert!(Calls::parse([CALL.replace("\"method\":\"GET\",", "").as_str()]).is_err());
        assert!(Calls::parse(["listening"]).is_err());
    }
}
