//! [`Statuses`]: which statuses are wanted, of HTTP by number and of gRPC by name.

use crate::command::observe::line::{Line, Status};
use crate::protocol::exchange::rpc::CODES;

/// Ranges of HTTP's status codes, and names of gRPC's.
#[derive(Clone, Debug, Default)]
pub struct Statuses {
    http: Vec<(u16, u16)>,
    rpc: Vec<&'static str>,
}

impl Statuses {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut all = Self::default();
        for part in text.split(',').map(str::trim) {
            if let Some(range) = range(part) {
                all.http.push(range);
            } else if let Some(name) = CODES.iter().find(|name| name.eq_ignore_ascii_case(part)) {
                all.rpc.push(name);
            } else {
                return Err("write codes, classes or ranges, for example `404`, `5xx`, `500-503` \
                            or `404,5xx`, or names of gRPC, for example `UNAVAILABLE`"
                    .to_owned());
            }
        }
        Ok(all)
    }

    /// HTTP's status of a gRPC call says how it went only where there is none of gRPC.
    pub(super) fn matches(&self, line: &Line<'_>) -> bool {
        match (&line.status, line.http_status) {
            (Some(Status::Rpc(name)), _) => self.rpc.contains(&&**name),
            (Some(Status::Http(status)), _) => self.has(*status),
            (None, Some(status)) => self.has(status),
            (None, None) => false,
        }
    }

    fn has(&self, status: u16) -> bool {
        self.http.iter().any(|(low, high)| (*low..=*high).contains(&status))
    }
}

fn range(part: &str) -> Option<(u16, u16)> {
    let code =
        |text: &str| text.parse().ok().filter(|code| text.len() == 3 && (100..=999).contains(code));
    if let Some((low, high)) = part.split_once('-') {
        return Some((code(low)?, code(high)?)).filter(|(low, high)| low <= high);
    }
    if let [class @ b'1'..=b'9', b'x' | b'X', b'x' | b'X'] = part.as_bytes() {
        let class = u16::from(class - b'0') * 100;
        return Some((class, class + 99));
    }
    code(part).map(|code| (code, code))
}
