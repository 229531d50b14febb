//! [`Relayed`]: what a mesh's proxy says, in headers of its own, of a request that it passes
//! on to the application. Worth nothing unless a proxy of that very mesh sent them: others
//! pass on what a client made up.
//!
//! `x-forwarded-client-cert` and `x-envoy-attempt-count` are Envoy's (its documentation of
//! HTTP headers), `l5d-client-id` is Linkerd's.

use super::exchange::Text;
use super::http1;

/// Longest identity that is kept: that of a certificate's URI.
const IDENTITY_MAX: usize = 512;

/// What a proxy says of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relayed {
    /// Whom the client's certificate names, as Envoy says it: `spiffe://…`.
    pub client: Option<Text>,
    /// Whom the proxy's own certificate names.
    pub server: Option<Text>,
    /// Whom the client's certificate names, as Linkerd says it:
    /// `account.namespace.serviceaccount.identity.…`.
    pub linkerd_client: Option<Text>,
    /// How often Envoy has tried, this time included.
    pub attempt: Option<u32>,
    /// Some header of the request is not known, and may have been one of these.
    pub incomplete: bool,
}

impl Relayed {
    /// Whether it says anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes what is not said yet from another header.
    pub(super) fn merge(&mut self, other: &Self) {
        if self.client.is_none() {
            self.client.clone_from(&other.client);
        }
        if self.server.is_none() {
            self.server.clone_from(&other.server);
        }
        if self.linkerd_client.is_none() {
            self.linkerd_client.clone_from(&other.linkerd_client);
        }
        self.attempt = self.attempt.or(other.attempt);
        self.incomplete |= other.incomplete;
    }

    /// Of `x-forwarded-client-cert`. Each proxy adds an element: the last one is of the
    /// connection that the last proxy has.
    pub(super) fn certificate(value: &[u8]) -> Self {
        let mut said = Self::default();
        for pair in split(split(value, b',').last().unwrap_or_default(), b';') {
            let Some(equals) = memchr::memchr(b'=', pair) else { continue };
            let (key, value) = pair.split_at(equals);
            let identity = identity(value.get(1..).unwrap_or_default());
            // A certificate may have several URIs; the first one is the identity.
            if key.trim_ascii().eq_ignore_ascii_case(b"uri") {
                said.client = said.client.or(identity);
            } else if key.trim_ascii().eq_ignore_ascii_case(b"by") {
                said.server = said.server.or(identity);
            }
        }
        said
    }

    /// Of `x-envoy-attempt-count`.
    pub(super) fn attempt(value: &[u8]) -> Self {
        let attempt = super::rpc::decimal(value.trim_ascii()).filter(|attempt| *attempt > 0);
        Self { attempt, ..Self::default() }
    }

    /// Of `l5d-client-id`.
    pub(super) fn linkerd(value: &[u8]) -> Self {
        Self { linkerd_client: identity(value), ..Self::default() }
    }
}

fn identity(value: &[u8]) -> Option<Text> {
    let value = value.trim_ascii();
    let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    let value = bare.unwrap_or(value);
    (1..=IDENTITY_MAX).contains(&value.len()).then(|| http1::text(value))
}

/// Splits outside of quotes.
fn split(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    value.split(move |byte| {
        let is_escaped = std::mem::take(&mut escaped);
        match byte {
            b'"' if !is_escaped => quoted = !quoted,
            b'\\' if quoted && !is_escaped => escaped = true,
            byte => return *byte == separator && !quoted,
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> (Option<String>, Option<String>) {
        let said = Relayed::certificate(value.as_bytes());
        let text = |text: Option<Text>| text.map(|text| text.as_str().to_owned());
        (text(said.client), text(said.server))
    }

    fn some(client: &str, server: &str) -> (Option<String>, Option<String>) {
        (Some(client.to_owned()), Some(server.to_owned()))
    }

    #[test]
    fn the_last_element_of_the_certificates_counts() {
        let one = "By=spiffe://t/ns/a/sa/b;Hash=00ff;Subject=\"\";URI=spiffe://t/ns/c/sa/d";
        assert_eq!(of(one), some("spiffe://t/ns/c/sa/d", "spiffe://t/ns/a/sa/b"));
        let two = format!("By=x;URI=forged,{one}");
        assert_eq!(of(&two), some("spiffe://t/ns/c/sa/d", "spiffe://t/ns/a/sa/b"));
        let quoted = "by=\"s\";Subject=\"CN=\\\"a,b\\\";O=x,URI=no\";uri=c";
        assert_eq!(of(quoted), some("c", "s"));
        assert_eq!(of("Hash=1;Subject=\"x\""), (None, None));
        assert_eq!(of(""), (None, None));
        assert_eq!(of("URI=,URI="), (None, None));
        assert_eq!(of("URI=a;URI=b").0.as_deref(), Some("a"));
        assert_eq!(of(&format!("URI={}", "a".repeat(513))), (None, None));
    }

    #[test]
    fn attempts_are_whole_numbers_from_one() {
        for (text, attempt) in [("1", Some(1)), (" 12 ", Some(12)), ("0", None), ("x", None)] {
            assert_eq!(Relayed::attempt(text.as_bytes()).attempt, attempt, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_may_stand_there(value: Vec<u8>) {
            let _ = (Relayed::certificate(&value), Relayed::attempt(&value), Relayed::linkerd(&value));
        }
    }
}
