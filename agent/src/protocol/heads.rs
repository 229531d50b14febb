//! [`Heads`]: what heads said that were read before. Most clients send the same head over
//! and over; what is known of it need not be read out of its bytes again.
//!
//! **Keeps no byte of a head but what an exchange keeps**: a head is known by 128 bits of
//! hash, under keys that are drawn at start, so no header value stays here. Bounded: one
//! place for each hash, the newer head takes it.

use super::exchange::{AgentClass, RpcSystem, Text};
use super::relayed::Relayed;

/// Heads that are remembered.
const PLACES: usize = 1_024;
/// Longest head that is remembered; longer ones carry cookies or ids and hardly repeat.
const LONGEST: usize = 2_048;

/// What an exchange says of a head without ids of its own.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// See [`super::Exchange::method`].
    pub(super) method: Text,
    /// See [`super::Exchange::path`].
    pub(super) path: Text,
    /// See [`super::Exchange::authority`].
    pub(super) authority: Text,
    /// See [`super::Exchange::agent`].
    pub(super) agent: AgentClass,
    /// See [`super::Exchange::relayed`].
    pub(super) relayed: Option<Box<Relayed>>,
    /// What it calls a procedure by.
    pub(super) call: Option<RpcSystem>,
    /// Its body is one message, as it is.
    pub(super) unary: bool,
    /// `Upgrade: h2c`
    pub(super) h2c: bool,
}

/// Stands for the bytes of a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Print(u64, u64);

/// Facts by the head they were read from.
#[derive(Debug)]
pub(crate) struct Heads {
    places: Vec<(Print, Option<Facts>)>,
    hashers: [ahash::RandomState; 2],
}

impl Heads {
    /// Remembers nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            places: vec![(Print::default(), None); PLACES],
            hashers: [ahash::RandomState::new(), ahash::RandomState::new()],
        }
    }

    /// What `bytes` are known by; `None` where they are not remembered anyway.
    pub(super) fn print(&self, bytes: &[u8]) -> Option<Print> {
        let [one, other] = &self.hashers;
        (bytes.len() <= LONGEST).then(|| Print(one.hash_one(bytes), other.hash_one(bytes)))
    }

    /// What the head said, where it is remembered.
    pub(super) fn known(&self, print: Print) -> Option<&Facts> {
        let (known, facts) = self.places.get(place(print))?;
        facts.as_ref().filter(|_| *known == print)
    }

    /// Remembers a whole head that may come again.
    pub(super) fn remember(&mut self, print: Print, facts: Facts) {
        if let Some(place) = self.places.get_mut(place(print)) {
            *place = (print, Some(facts));
        }
    }
}

fn place(print: Print) -> usize {
    usize::try_from(print.0 % PLACES as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_known_by_all_of_its_bytes() {
        let mut heads = Heads::new();
        let print = heads.print(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert!(heads.known(print).is_none());
        heads.remember(print, Facts { method: Text::from("GET"), ..Facts::default() });
        assert_eq!(heads.known(print).unwrap().method.as_str(), "GET");
        let other = heads.print(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        assert!(heads.known(other).is_none());
        assert_eq!(heads.print(&[b'a'; LONGEST + 1]), None);
    }

    #[test]
    fn the_newer_head_takes_the_place() {
        let mut heads = Heads::new();
        let (older, newer) = (Print(1, 1), Print(1, 2));
        heads.remember(older, Facts::default());
        heads.remember(newer, Facts::default());
        assert!(heads.known(older).is_none());
        assert!(heads.known(newer).is_some());
    }
}
