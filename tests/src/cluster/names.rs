//! Names and ids as Kubernetes makes them.

use std::time::SystemTime;

use rand::Rng as _;
use rand::seq::IndexedRandom as _;

/// How every uid of the tests begins, so that what an earlier run left behind is known.
#[derive(Clone, Copy, Debug)]
pub struct Marked;

impl Marked {
    /// First group of a uid: `mesh` in hexadecimal digits.
    pub const UID: &'static str = "6d657368";
}

/// Random letters of those that Kubernetes uses: no vowels, so that no words come about.
pub(super) fn suffix(length: usize) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut random = rand::rng();
    let letters = (0..length).filter_map(|_| LETTERS.choose(&mut random));
    letters.map(|letter| char::from(*letter)).collect()
}

/// Random hexadecimal digits.
pub(super) fn digits(length: usize) -> String {
    let mut random = rand::rng();
    let digits = (0..length).filter_map(|_| char::from_digit(random.random_range(0..16), 16));
    digits.collect()
}

/// A uid: version 4, and begun as [`Marked::UID`].
pub(super) fn uid() -> String {
    format!("{}-{}-4{}-a{}-{}", Marked::UID, digits(4), digits(3), digits(3), digits(12))
}

/// Now, as objects say it.
pub(super) fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}
