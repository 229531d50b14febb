//! Connections that are left out so that the agent keeps within its limits.
//!
//! While a **share** of 1 in 2^n is set, each connection is judged: it is followed, and stands
//! for 2^n of its kind, or it is never looked at again. Where the share becomes smaller, those
//! that are followed are judged again: since what a smaller share takes, a larger takes too,
//! what one stands for stays right. Both ends of a connection are judged alike, by what both
//! know: the numbers of its first byte in either direction, hashed with secret words.

/// The smallest share that can be set: 1 in 2^6.
pub const SMALLEST: u32 = 6;

/// What both ends of a connection are known by, from a packet that passes either: the sum of
/// the numbers at which its two directions began. `received`: payload that TCP has taken in
/// before; 0 where that is not known to be all.
#[inline(always)]
#[must_use]
pub const fn key(sequence: u32, acknowledgement: u32, received: u32) -> u32 {
    sequence.wrapping_add(acknowledgement).wrapping_sub(received)
}

/// Whether a connection is among 1 in 2^`share`; what a smaller share takes, a larger takes
/// too. Multiply-shift: of keys that nobody chose knowing the secret, just so many.
#[inline(always)]
#[must_use]
pub const fn takes(key: u32, secret: [u64; 2], share: u32) -> bool {
    let hash = (key as u64).wrapping_mul(secret[0] | 1).wrapping_add(secret[1]);
    // Twice: a shift by 64 has no meaning.
    (hash >> 1) >> (63 - (share & 31)) == 0
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::{SMALLEST, key, takes};

    const SECRET: [u64; 2] = [0x9d39_247e_3377_6d41, 0x2af7_398d_5b5e_2b13];

    /// Numbers as far apart as those of connections.
    fn keys() -> impl Iterator<Item = u32> {
        (0..1_u32 << 16).map(|index| index.wrapping_mul(2_654_435_761).rotate_left(7) ^ index)
    }

    #[test]
    fn a_share_takes_just_so_many() {
        for share in 0..=SMALLEST {
            let taken = keys().filter(|key| takes(*key, SECRET, share)).count();
            let expected = (1_usize << 16) >> share;
            // Five standard deviations of a binomial distribution, rounded up.
            let tolerance = 5 * (1..).find(|root| root * root >= expected).unwrap();
            assert!(taken.abs_diff(expected) <= tolerance, "1 in {}: {taken}", 1 << share);
        }
        assert!(keys().all(|key| takes(key, SECRET, 0)));
    }

    #[test]
    fn a_smaller_share_is_a_part_of_a_larger() {
        for share in 1..=SMALLEST {
            let taken = |share| keys().filter(move |key| takes(*key, SECRET, share));
            assert!(taken(share).all(|key| takes(key, SECRET, share - 1)), "{share}");
        }
    }

    #[test]
    fn both_ends_know_a_connection_by_the_same_key() {
        let (client, server) = (0xffff_fff0_u32, 77_u32);
        // The request, as it leaves and as it arrives.
        assert_eq!(key(client, server, 0), key(client, server, 0));
        // A server that greets first.
        assert_eq!(key(server, client, 0), key(client, server, 0));
        // The request came to the listener: the first packet of the socket is the answer.
        assert_eq!(key(server, client.wrapping_add(120), 120), key(client, server, 0));
    }
}
