//! Integers with a prefix of some bits (RFC 7541, section 5.1).

use super::Malformed;

/// Bytes behind the prefix that are read: enough for what a block can hold, and what
/// is longer overflows.
const BYTES: u32 = 5;

/// Reads an integer of `prefix` bits (1 to 8) from the front of `bytes`.
///
/// # Errors
/// [`Malformed`] where it does not end within `bytes`, or is 2^32 or more.
pub(super) fn decode(bytes: &mut &[u8], prefix: u32) -> Result<usize, Malformed> {
    let (first, mut rest) = bytes.split_first().ok_or(Malformed)?;
    let most = (1_u64 << prefix) - 1;
    let mut value = u64::from(*first) & most;
    if value == most {
        let mut shift = 0;
        loop {
            let (byte, behind) = rest.split_first().ok_or(Malformed)?;
            rest = behind;
            if shift == 7 * BYTES {
                return Err(Malformed);
            }
            value += u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *bytes = rest;
    let value = u32::try_from(value).map_err(|_| Malformed)?;
    usize::try_from(value).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_the_standard() {
        for (bytes, prefix, value) in [
            (&[0b1110_1010][..], 5, 10),
            (&[0b0001_1111, 0b1001_1010, 0b0000_1010], 5, 1337),
            (&[0b0010_1010], 8, 42),
        ] {
            let mut rest = bytes;
            assert_eq!(decode(&mut rest, prefix).unwrap(), value);
            assert_eq!(rest, [0_u8; 0]);
        }
    }

    #[test]
    fn what_does_not_end_or_overflows_is_malformed() {
        for bytes in [&[][..], &[0x1f], &[0x1f, 0x80], &[0x1f, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]]
        {
            assert!(decode(&mut &*bytes, 5).is_err(), "{bytes:?}");
        }
        let most = (1 << 28) - 1 + 31;
        assert_eq!(decode(&mut &[0x1f, 0xff, 0xff, 0xff, 0x7f][..], 5).unwrap(), most);
        assert!(decode(&mut &[0x1f, 0xff, 0xff, 0xff, 0xff, 0x10][..], 5).is_err());
    }
}
