//! [`Fact`]: what a header says, read once and shared by all calls that repeat it.

use std::sync::Arc;

use meshtap_ebpf::limits;

use super::names::Name;
use crate::protocol::agent_class;
use crate::protocol::exchange::{AgentClass, Text};
use crate::protocol::http1;
use crate::protocol::relayed::Relayed;
use crate::protocol::rpc::{self, Content};

/// Longest path that is kept whole.
const PATH_MAX: usize = limits::HEAD_PREFIX_MAX as usize;
/// Values that are remembered.
const PLACES: usize = 1_024;
/// Longest value that is remembered.
const LONGEST: usize = 512;

/// What a header says.
#[derive(Clone, Debug, Default)]
pub(super) enum Fact {
    /// Nothing that matters here.
    #[default]
    Nothing,
    Method(Text),
    Scheme,
    /// Without query and fragment.
    Path(Text),
    /// Longer than what is kept.
    PathCut(Text),
    Authority(Text),
    Protocol,
    Status(u16),
    Host(Text),
    Agent(AgentClass),
    RequestId(Text),
    Content(Content),
    ConnectVersion,
    GrpcStatus(u32),
    GrpcTimeout(u64),
    /// What a mesh's proxy says.
    Relayed(Arc<Relayed>),
    /// The value itself is needed, under this name.
    Trace(&'static str),
}

impl Fact {
    /// Reads a header.
    pub(super) fn read(name: Name, value: &[u8]) -> Self {
        match name {
            Name::Unknown | Name::Other => Self::Nothing,
            Name::Method => Self::Method(http1::method(value)),
            Name::Scheme => Self::Scheme,
            Name::Path => path(value),
            Name::Authority => Self::Authority(http1::text(http1::authority(value))),
            Name::Protocol => Self::Protocol,
            Name::Status => status(value).map_or(Self::Nothing, Self::Status),
            Name::Host => Self::Host(http1::text(http1::authority(value.trim_ascii()))),
            Name::UserAgent => Self::Agent(agent_class::classify(value)),
            Name::RequestId => http1::request_id(value)
                .map_or(Self::Nothing, |id| Self::RequestId(http1::text(id))),
            Name::ContentType => Self::Content(Content::of(value)),
            Name::ConnectVersion => Self::ConnectVersion,
            Name::GrpcStatus => rpc::decimal(value).map_or(Self::Nothing, Self::GrpcStatus),
            Name::GrpcTimeout => rpc::timeout(value).map_or(Self::Nothing, Self::GrpcTimeout),
            Name::ForwardedCertificate => relayed(Relayed::certificate(value)),
            Name::Attempt => relayed(Relayed::attempt(value)),
            Name::LinkerdClient => relayed(Relayed::linkerd(value)),
            Name::Trace(name) => Self::Trace(name),
        }
    }
}

fn relayed(said: Relayed) -> Fact {
    if said.is_empty() { Fact::Nothing } else { Fact::Relayed(Arc::new(said)) }
}

fn path(value: &[u8]) -> Fact {
    let end = memchr::memchr2(b'?', b'#', value).unwrap_or(value.len());
    match value.get(..PATH_MAX) {
        Some(begin) if end > PATH_MAX => Fact::PathCut(http1::text(begin)),
        _ => Fact::Path(http1::text(&value[..end])),
    }
}

fn status(value: &[u8]) -> Option<u16> {
    let status = if value.len() == 3 { rpc::decimal(value)? } else { return None };
    u16::try_from(status).ok().filter(|status| *status >= 100)
}

/// Facts by the values that they were read from: what many connections repeat is there once.
///
/// As with the heads of HTTP/1, a value is known by 128 bits of hash under keys that are
/// drawn at start: only what an exchange keeps stays here. One place for each hash.
#[derive(Debug)]
pub(super) struct Words {
    /// None before the first HTTP/2.
    places: Vec<(u64, u64, Fact)>,
    hashers: [ahash::RandomState; 2],
}

impl Default for Words {
    fn default() -> Self {
        let hashers = [ahash::RandomState::new(), ahash::RandomState::new()];
        Self { places: Vec::new(), hashers }
    }
}

impl Words {
    /// [`Fact::read`], shared where the value is of a kind that comes again.
    pub(super) fn read(&mut self, name: Name, value: &[u8]) -> Fact {
        let repeats = matches!(
            name,
            Name::Path
                | Name::Authority
                | Name::Host
                | Name::UserAgent
                | Name::Method
                | Name::ForwardedCertificate
                | Name::LinkerdClient
        );
        if !repeats || value.len() > LONGEST {
            return Fact::read(name, value);
        }
        if self.places.is_empty() {
            self.places.resize(PLACES, (0, 0, Fact::Nothing));
        }
        let [one, other] = &self.hashers;
        let (one, other) = (one.hash_one((name, value)), other.hash_one((name, value)));
        let index = usize::try_from(one % PLACES as u64).unwrap_or(0);
        let Some(place) = self.places.get_mut(index) else { return Fact::read(name, value) };
        let known = (place.0, place.1) == (one, other) && !matches!(place.2, Fact::Nothing);
        if !known {
            *place = (one, other, Fact::read(name, value));
        }
        place.2.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_query_and_no_user_information_is_kept() {
        let Fact::Path(path) = Fact::read(Name::Path, b"/a?b=secret#c") else { panic!("a path") };
        assert_eq!(path.as_str(), "/a");
        let Fact::Authority(host) = Fact::read(Name::Authority, b"u:p@h:1") else {
            panic!("a host")
        };
        assert_eq!(host.as_str(), "h:1");
    }

    #[test]
    fn a_very_long_path_is_cut() {
        let long = vec![b'a'; PATH_MAX + 1];
        let Fact::PathCut(path) = Fact::read(Name::Path, &long) else { panic!("cut") };
        assert_eq!(path.as_str().len(), PATH_MAX);
        assert!(matches!(Fact::read(Name::Path, &long[1..]), Fact::Path(_)));
        let mut query = b"/?".to_vec();
        query.extend(long);
        let Fact::Path(path) = Fact::read(Name::Path, &query) else { panic!("not cut") };
        assert_eq!(path.as_str(), "/");
    }

    #[test]
    fn a_status_has_three_digits() {
        assert!(matches!(Fact::read(Name::Status, b"200"), Fact::Status(200)));
        for wrong in ["", "20", "2000", "099", "abc"] {
            assert!(matches!(Fact::read(Name::Status, wrong.as_bytes()), Fact::Nothing));
        }
    }

    #[test]
    fn what_repeats_is_shared() {
        let mut words = Words::default();
        let mut read = |value: &[u8]| match words.read(Name::Path, value) {
            Fact::Path(path) => path,
            other => panic!("{other:?}"),
        };
        let (one, other) = (read(b"/a"), read(b"/a"));
        assert!(one.is_same(&other));
        assert_eq!(read(b"/b").as_str(), "/b");
    }
}
