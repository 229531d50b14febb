//! What is kept of a connection that was forgotten, so that it can go on.

use super::Connection;
use crate::protocol::http2;

/// Where the numbers of an epoch stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    pub(super) epoch: u32,
    /// The lowest number of which nothing has shown that its request exists. `None`:
    /// nothing was seen of the epoch, which may be under way.
    pub(super) next: Option<u32>,
    /// Every lower number's answer is over.
    pub(super) answered: u32,
}

/// What is kept of a connection that was forgotten, of which nothing must be counted again:
/// open requests of HTTP/1, which were counted as lost then, and all streams of HTTP/2, of which
/// the kernel does not know what it told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Forgotten {
    /// Of HTTP/1.
    Numbers(Numbers),
    /// Of HTTP/2.
    Streams(http2::Numbers),
}

impl Connection {
    /// Goes on where a connection was forgotten.
    pub(crate) fn resume(forgotten: Option<Forgotten>) -> Self {
        let mut connection = Self::default();
        match forgotten {
            Some(Forgotten::Numbers(numbers)) => connection.numbers = Some(numbers),
            Some(Forgotten::Streams(numbers)) => connection.streams = Some(numbers),
            None => {}
        }
        connection
    }

    /// What [`Self::resume`] needs.
    pub(crate) fn forgotten(&self) -> Option<Forgotten> {
        match &self.http2 {
            Some(http2) => http2.numbers().map(Forgotten::Streams),
            None => self.numbers.filter(|_| self.has_open_requests()).map(Forgotten::Numbers),
        }
    }
}
