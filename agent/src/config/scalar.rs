//! The values that are one word: switches, numbers, sizes, durations, addresses, paths.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::document::{Content, Node};
use super::value::{Fault, Setting, quote, scalar};

/// The text of a single value that was not quoted: numbers and switches.
fn plain(node: &Node) -> Option<&str> {
    match &node.content {
        Content::Scalar { text, quoted: false } => Some(text),
        _ => None,
    }
}

fn read_plain<T: Setting>(node: &Node, value: impl Fn(&str) -> Option<T>) -> Result<T, Vec<Fault>> {
    if let Some(value) = plain(node).and_then(&value) {
        return Ok(value);
    }
    let fault = Fault::not(node, &format!("a {}", T::kind()), T::expected());
    let unquoted = scalar(node).is_some_and(|text| value(text).is_some());
    Err(vec![if unquoted { fault.remedy("remove the quotes") } else { fault }])
}

impl Setting for bool {
    fn kind() -> String {
        "switch".to_owned()
    }
    fn expected() -> String {
        "`true` or `false`".to_owned()
    }
    fn schema() -> Value {
        json!({"type": "boolean"})
    }
    fn read(node: &Node) -> Result<Self, Vec<Fault>> {
        read_plain(node, |text| text.parse().ok())
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for usize {
    fn kind() -> String {
        "whole number".to_owned()
    }
    fn expected() -> String {
        "a whole number, for example `1000`".to_owned()
    }
    fn schema() -> Value {
        json!({"type": "integer", "minimum": 0})
    }
    fn read(node: &Node) -> Result<Self, Vec<Fault>> {
        read_plain(node, |text| text.parse().ok())
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for f64 {
    fn kind() -> String {
        "number".to_owned()
    }
    fn expected() -> String {
        "a number, for example `0.01`".to_owned()
    }
    fn schema() -> Value {
        json!({"type": "number"})
    }
    fn read(node: &Node) -> Result<Self, Vec<Fault>> {
        read_plain(node, |text| text.parse().ok().filter(|number: &f64| number.is_finite()))
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// Binary and decimal units; the binary ones first, so that they are used to show.
    const UNITS: [(&'static str, u64); 7] = [
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("kB", 1_000),
        ("B", 1),
    ];

    fn from_text(text: &str) -> Option<Self> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let number: u64 = digits.parse().ok()?;
        let unit = unit.trim_start();
        let factor = match unit {
            "" => 1,
            _ => Self::UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1,
        };
        number.checked_mul(factor).map(Self)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit =
            Self::UNITS[..3].iter().find(|(_, bytes)| self.0 > 0 && self.0.is_multiple_of(*bytes));
        match unit {
            Some((name, bytes)) => write!(formatter, "{} {name}", self.0 / bytes),
            None => write!(formatter, "{} B", self.0),
        }
    }
}

impl Setting for Size {
    fn kind() -> String {
        "size".to_owned()
    }
    fn expected() -> String {
        "a number of bytes, for example `8 MiB`".to_owned()
    }
    fn schema() -> Value {
        json!({"type": ["string", "integer"]})
    }
    fn read(node: &Node) -> Result<Self, Vec<Fault>> {
        scalar(node)
            .and_then(Self::from_text)
            .ok_or_else(|| vec![Fault::not(node, "a size", Self::expected())])
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for Duration {
    fn kind() -> String {
        "duration".to_owned()
    }
    fn expected() -> String {
        "a duration with its unit, for example `500ms`, `10s` or `5m`".to_owned()
    }
    fn schema() -> Value {
        json!({"type": "string"})
    }
    fn read(node: &Node) -> Result<Self, Vec<Fault>> {
        let text = scalar(node);
        let value = text.and_then(|text| humantime::parse_duration(text).ok());
        value.ok_or_else(|| {
            let fault = Fault::not(node, "a duration", Self::expected());
            let bare = text.filter(|text| text.parse::<u64>().is_ok());
            vec![match bare {
                Some(number) => fault.remedy(format!("add the unit: `{number}s` or `{number}ms`")),
                None => fault,
            }]
        })
    }
    fn show(&self) -> String {
        quote(&humantime::format_duration(*self).to_string().replace(' ', ""))
    }
}

impl Setting for SocketAddr {
    fn kind() -> String {
        "address and port".to_owned()
    }
    fn expected() -> String {
        "an address and a port, for example `127.0.0.1:9990` or `[::]:9990`".to_owned()
    }
    fn schema() -> Value {
        json!({"type": "string"})
    }
    fn read(node: &Node) -> Result<Self, Vec<Fault>> {
        let text = scalar(node);
        text.and_then(|text| text.parse().ok()).ok_or_else(|| {
            let fault = Fault::not(node, "an address and a port", Self::expected());
            let port = text.and_then(|text| text.trim_start_matches(':').parse::<u16>().ok());
            vec![match port {
                Some(port) => fault.remedy(format!(
                    "write `0.0.0.0:{port}` for every address or `127.0.0.1:{port}` for this host"
                )),
                None => fault,
            }]
        })
    }
    fn show(&self) -> String {
        quote(&self.to_string())
    }
}

impl Setting for PathBuf {
    fn kind() -> String {
        "path".to_owned()
    }
    fn expected() -> String {
        "a path from the root, for example `/var/lib/docker`".to_owned()
    }
    fn schema() -> Value {
        json!({"type": "string", "pattern": "^/"})
    }
    fn read(node: &Node) -> Result<Self, Vec<Fault>> {
        let path = scalar(node).map(Self::from).filter(|path| path.is_absolute());
        path.ok_or_else(|| vec![Fault::not(node, "a path from the root", Self::expected())])
    }
    fn show(&self) -> String {
        quote(&self.to_string_lossy())
    }
}
