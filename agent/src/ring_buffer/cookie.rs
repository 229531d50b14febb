//! [`ByCookie`]: how maps find sockets by their cookies, several times an event.
//!
//! The kernel counts cookies up and no program chooses them (`gen_cookie_next` in
//! `include/linux/cookie.h`), so a product spreads them as well as a keyed hash does.

use std::hash::{BuildHasherDefault, Hasher};

/// For maps whose keys are socket cookies.
pub type ByCookie = BuildHasherDefault<CookieHasher>;

/// An odd number without pattern: 2^64 over the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Hashes one number.
#[derive(Clone, Copy, Debug, Default)]
pub struct CookieHasher(u64);

impl Hasher for CookieHasher {
    #[inline]
    fn finish(&self) -> u64 {
        // Maps look at both ends of a hash, and a product's lower end hears of lower bits only.
        self.0 ^ self.0 >> 32
    }

    #[inline]
    fn write_u64(&mut self, cookie: u64) {
        self.0 = (self.0 ^ cookie).wrapping_mul(SPREAD);
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher as _;

    use super::*;

    #[test]
    fn neighbours_and_strides_are_spread() {
        for stride in [1, 2, 4_096, 1 << 32] {
            let hashes = (0..4_096_u64).map(|n| ByCookie::default().hash_one(n * stride));
            let places: HashSet<u64> = hashes.map(|hash| hash % 4_096).collect();
            assert!(places.len() > 2_000, "{stride}: {}", places.len());
        }
    }
}
