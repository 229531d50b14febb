//! [`Headers`] and [`Endpoint`]: where telemetry is sent, and what is sent along.
//!
//! Both can hold secrets: neither values of headers nor passwords are ever shown.

use std::fmt;

use axum::http::{HeaderName, HeaderValue};
use reqwest::Url;
use serde_json::{Value, json};

use super::document::{Content, Name, Node, Place};
use super::value::{Fault, Setting, flow, quote, scalar};

/// Base URL of a collector: `http` or `https`, and a host.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(Url);

impl Endpoint {
    /// As it is to be used, with user and password where they were given.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// With `path` below what is already there.
    #[must_use]
    pub fn join(&self, path: &str) -> Self {
        let mut url = self.0.clone();
        url.set_path(&format!("{}/{path}", self.0.path().trim_end_matches('/')));
        Self(url)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.0.clone();
        if url.password().is_some() {
            // Cannot fail: the URL has a host.
            let _ = url.set_password(Some("hidden"));
        }
        fmt::Display::fmt(&url, formatter)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Setting for Endpoint {
    fn kind() -> String {
        "URL".to_owned()
    }
    fn expected() -> String {
        "a URL, for example `http://localhost:4318`".to_owned()
    }
    fn schema() -> Value {
        json!({"type": "string", "pattern": "^https?://"})
    }
    fn read(node: &Node) -> Result<Self, Vec<Fault>> {
        let text = scalar(node).unwrap_or_default();
        let url = Url::parse(text).ok().filter(Url::has_host);
        if let Some(url) = url.filter(|url| matches!(url.scheme(), "http" | "https")) {
            return Ok(Self(url));
        }
        if text.contains('@') {
            // Not described by its text: that may hold a password.
            let fault = "this is not an `http` or `https` URL".to_owned();
            return Err(vec![Fault::at(node, fault, Self::expected())]);
        }
        let fault = Fault::not(node, "an `http` or `https` URL", Self::expected());
        let bare = !text.is_empty() && !text.contains("://");
        Err(vec![if bare { fault.remedy(format!("write `http://{text}`")) } else { fault }])
    }
    fn show(&self) -> String {
        quote(&self.to_string())
    }
}

/// Headers of requests to a collector. They hold secrets: values are never shown.
#[derive(Clone, Default, PartialEq)]
pub struct Headers(pub Vec<(HeaderName, HeaderValue)>);

impl fmt::Debug for Headers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.show())
    }
}

impl Setting for Headers {
    fn kind() -> String {
        "map of header names to values".to_owned()
    }
    fn expected() -> String {
        "a map such as `{x-tenant: shop}`, in the environment `x-tenant=shop,x-other=1`".to_owned()
    }
    fn schema() -> Value {
        json!({"type": ["object", "null"], "additionalProperties": {"type": ["string", "number", "boolean"]}})
    }
    fn read(node: &Node) -> Result<Self, Vec<Fault>> {
        if node.is_null() {
            return Ok(Self::default());
        }
        let Content::Map(map) = &node.content else {
            // Not described by its text: that may be the secret.
            return Err(vec![Fault::at(node, "this is not a map".to_owned(), Self::expected())]);
        };
        let mut headers = Vec::new();
        let mut faults = Vec::new();
        for (name, node) in map {
            let key = HeaderName::from_bytes(name.text.as_bytes());
            let value = match &node.content {
                Content::Scalar { text, .. } => HeaderValue::from_str(text).ok(),
                Content::List(_) | Content::Map(_) => None,
            };
            match (key, value) {
                (Ok(key), Some(mut value)) => {
                    value.set_sensitive(true);
                    headers.push((key, value));
                }
                (Err(_), _) => {
                    let fault = format!("`{}` is not a header's name", name.text.escape_debug());
                    let node = Node { place: name.place, content: node.content.clone() };
                    faults.push(Fault::at(&node, fault, Self::expected()));
                }
                (_, None) => {
                    let fault = format!("the value of `{}` is not a header's value", name.text);
                    faults.push(Fault::at(node, fault, "visible ASCII characters".to_owned()));
                }
            }
        }
        if faults.is_empty() { Ok(Self(headers)) } else { Err(faults) }
    }
    fn node(text: &str) -> Result<Node, Vec<Fault>> {
        if text.trim_start().starts_with('{') {
            return flow(text);
        }
        let mut map = Vec::new();
        for (index, pair) in text.split(',').map(str::trim).enumerate() {
            let place = Place { line: 1, column: index + 1 };
            let Some((name, value)) = pair.split_once('=') else {
                let fault = format!("entry {} has no `=`", index + 1);
                let part = String::new();
                let expected = Self::expected();
                return Err(vec![Fault { place: None, part, fault, expected, remedy: None }]);
            };
            let content = Content::Scalar { text: decode(value.trim()), quoted: true };
            let name = Name { text: name.trim().to_owned(), place };
            map.push((name, Node { place, content }));
        }
        Ok(Node { place: Place { line: 1, column: 1 }, content: Content::Map(map) })
    }
    fn show(&self) -> String {
        let hidden = self.0.iter().map(|(name, _)| format!("{name}: (hidden)"));
        format!("{{{}}}", hidden.collect::<Vec<_>>().join(", "))
    }
}

/// Decodes `%41`; what is no such escape stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'%').then(|| tail.get(..2)).flatten();
        // Digits alone: a sign would be read as part of a number.
        let escaped = escaped.filter(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        let escaped = escaped.and_then(|hex| std::str::from_utf8(hex).ok());
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_is_no_digit_of_an_escape() {
        assert_eq!(decode("a%20b%3d%"), "a b=%");
        assert_eq!(decode("1%+2"), "1%+2");
    }
}
