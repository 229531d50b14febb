//! [`AgentClass`] by the first words of a `User-Agent`: coarse, and cheap enough for every call.
//!
//! Refuses to name products or versions: those are labels without end.

use memchr::memmem;

use super::exchange::AgentClass::{self, Bot, Browser, Library, Probe, Tool};

/// How the value begins, all lower case, and what that means. Sorted into the order
/// in which a longer text must be tried before a shorter one.
const BEGINNINGS: &[(&str, AgentClass)] = &[
    ("amazon-route53-health-check", Probe),
    ("apache-httpasyncclient", Library),
    ("apache-httpclient", Library),
    ("apachebench", Tool),
    ("axios", Library),
    ("aiohttp", Library),
    ("aws-sdk-", Library),
    ("blackbox exporter", Probe),
    ("blackbox-exporter", Probe),
    ("boto3", Library),
    ("botocore", Library),
    ("bun/", Library),
    ("consul health check", Probe),
    ("curl", Tool),
    ("dart/", Library),
    ("deno/", Library),
    ("elb-healthchecker", Probe),
    ("envoy/hc", Probe),
    ("faraday", Library),
    ("fasthttp", Library),
    ("go-http-client", Library),
    ("go-resty", Library),
    ("googlehc", Probe),
    ("got ", Library),
    ("guzzlehttp", Library),
    ("haproxy", Probe),
    ("hey/", Tool),
    ("http.rb", Library),
    ("httpie", Tool),
    ("hyper/", Library),
    ("java-http-client", Library),
    ("java/", Library),
    ("jakarta", Library),
    ("k6/", Tool),
    ("kube-probe", Probe),
    ("libwww-perl", Library),
    ("node", Library),
    ("okhttp", Library),
    ("opera/", Browser),
    ("postmanruntime", Tool),
    ("python", Library),
    ("reactornetty", Library),
    ("reqwest", Library),
    ("restsharp", Library),
    ("rest-client", Library),
    ("ruby", Library),
    ("siege", Tool),
    ("typhoeus", Library),
    ("undici", Library),
    ("vegeta", Tool),
    ("wget", Tool),
    ("wrk", Tool),
];

/// Words by which crawlers call themselves, anywhere in the value.
const CRAWLERS: &[&[u8]] = &[b"bot", b"Bot", b"crawl", b"Crawl", b"spider", b"Spider", b"Slurp"];

/// Bytes of the value that are looked at for [`CRAWLERS`].
const LOOKED_AT: usize = 256;

/// The class of a client that sent this `User-Agent`; empty is none.
#[must_use]
pub fn classify(value: &[u8]) -> AgentClass {
    let value = value.trim_ascii();
    let value = &value[..value.len().min(LOOKED_AT)];
    let Some(first) = value.first() else { return AgentClass::None };
    let known = BEGINNINGS.iter().find(|(beginning, _)| {
        let beginning = beginning.as_bytes();
        beginning[0] == first.to_ascii_lowercase()
            && value
                .get(..beginning.len())
                .is_some_and(|begins| begins.eq_ignore_ascii_case(beginning))
    });
    if let Some((_, class)) = known {
        return *class;
    }
    if CRAWLERS.iter().any(|word| memmem::find(value, word).is_some()) {
        return Bot;
    }
    if value.starts_with(b"Mozilla/") {
        return Browser;
    }
    AgentClass::Other
}
