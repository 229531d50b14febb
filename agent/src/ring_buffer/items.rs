//! [`Items`]: what stands behind a record of frames.

use meshtap_ebpf::event::Item;
use zerocopy::FromBytes as _;

use super::decode::DecodeError;

/// The items of a [`meshtap_ebpf::event::Frames`] record, each with its bytes.
///
/// Ends behind the first one that does not hold what it says, which is an error.
#[derive(Clone, Debug)]
pub struct Items<'a> {
    rest: &'a [u8],
}

impl<'a> Items<'a> {
    /// Reads the loose bytes of the record.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<(&'a Item, &'a [u8]), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let short = DecodeError::Short(self.rest.len());
        let rest = std::mem::take(&mut self.rest);
        let Ok((item, rest)) = Item::ref_from_prefix(rest) else { return Some(Err(short)) };
        let length = usize::from(item.bytes);
        let Some(bytes) = rest.get(..length) else { return Some(Err(short)) };
        // The last one need not be filled up.
        self.rest = rest.get(length.next_multiple_of(8)..).unwrap_or_default();
        Some(Ok((item, bytes)))
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes as _;

    use super::*;

    fn bytes(items: &[(u32, &[u8])]) -> Vec<u8> {
        let mut all = Vec::new();
        for (stream, bytes) in items {
            let length = u16::try_from(bytes.len()).unwrap();
            let item = Item { stream: *stream, bytes: length, ..Item::default() };
            all.extend_from_slice(item.as_bytes());
            all.extend_from_slice(bytes);
            all.resize(all.len().next_multiple_of(8), 0);
        }
        all
    }

    #[test]
    fn items_stand_one_behind_the_other() {
        let all = bytes(&[(1, b"abc"), (3, b""), (5, b"12345678")]);
        let read: Vec<_> = Items::new(&all)
            .map(|item| item.map(|(item, bytes)| (item.stream, bytes)).unwrap())
            .collect();
        assert_eq!(read, [(1, &b"abc"[..]), (3, b""), (5, b"12345678")]);
    }

    #[test]
    fn what_is_cut_is_an_error_and_the_end() {
        let all = bytes(&[(1, b"abc"), (3, b"12345678")]);
        for cut in 33..all.len() {
            let mut items = Items::new(&all[..cut]);
            assert!(items.next().unwrap().is_ok());
            assert_eq!(items.next().unwrap().unwrap_err(), DecodeError::Short(cut - 32));
            assert!(items.next().is_none());
        }
    }
}
