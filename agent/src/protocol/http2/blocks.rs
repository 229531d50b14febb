//! [`Blocks`]: what blocks of headers said that were read before. Calls of one kind on one
//! connection repeat theirs, byte by byte, and leave the table as it was.
//!
//! A block says the same wherever the same stands in the table, so both together are known
//! by 128 bits of hash, under keys that are drawn at start. What would not come again is
//! not remembered: a block that changes the table, or that carries ids.

use super::fields::Fields;
use super::hpack::{Decoder, Malformed, Scratch, State};

/// Blocks that are remembered. One place for each hash: the newer block takes it.
const PLACES: usize = 1_024;
/// Longest block that is remembered: longer ones have literals.
const LONGEST: usize = 256;

/// Stands for a block and the table it was read with.
type Print = (u64, u64);

#[derive(Debug)]
pub(super) struct Blocks {
    /// None before the first block.
    places: Vec<(Print, Option<Fields>)>,
    hashers: [ahash::RandomState; 2],
}

impl Default for Blocks {
    fn default() -> Self {
        let hashers = [ahash::RandomState::new(), ahash::RandomState::new()];
        Self { places: Vec::new(), hashers }
    }
}

impl Blocks {
    /// Reads a block into `fields`, which are empty.
    ///
    /// # Errors
    /// As [`Decoder::decode`]; what came before is in the fields then.
    pub(super) fn read(
        &mut self,
        decoder: &mut Decoder,
        block: &[u8],
        strings: &mut Scratch,
        fields: &mut Fields,
    ) -> Result<(), Malformed> {
        if block.len() > LONGEST {
            return decoder.decode(block, strings, |field| fields.take(field));
        }
        let state = decoder.state();
        let print = self.print(state, block);
        if let Some((known, Some(read))) = self.place(print)
            && *known == print
        {
            fields.copy(read);
            return Ok(());
        }
        decoder.decode(block, strings, |field| fields.take(field))?;
        if decoder.state() == state && fields.repeat() {
            if self.places.is_empty() {
                self.places.resize_with(PLACES, Default::default);
            }
            if let Some(place) = self.place(print) {
                *place = (print, Some(fields.clone()));
            }
        }
        Ok(())
    }

    fn print(&self, state: State, block: &[u8]) -> Print {
        let [one, other] = &self.hashers;
        (one.hash_one((state, block)), other.hash_one((state, block)))
    }

    fn place(&mut self, print: Print) -> Option<&mut (Print, Option<Fields>)> {
        let index = usize::try_from(print.0 % PLACES as u64).unwrap_or(0);
        self.places.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Budget, Encoder};
    use super::*;

    struct Reader {
        blocks: Blocks,
        strings: Scratch,
    }

    impl Reader {
        /// Method, path and status of a block.
        fn read(&mut self, decoder: &mut Decoder, block: &[u8]) -> (String, String, Option<u16>) {
            let mut fields = Fields::default();
            let read = self.blocks.read(decoder, block, &mut self.strings, &mut fields);
            read.expect("a block");
            let text = |text: &Option<crate::protocol::Text>| {
                text.as_ref().map_or("", |text| text.as_str()).to_owned()
            };
            (text(&fields.method), text(&fields.path), fields.status)
        }

        fn remembered(&self) -> usize {
            self.blocks.places.iter().filter(|(_, read)| read.is_some()).count()
        }
    }

    #[test]
    fn a_block_says_what_it_says_with_its_table() {
        let budget = Budget::default();
        let mut reader = Reader { blocks: Blocks::default(), strings: Scratch::default() };
        let paths = ["/a", "/b"];
        let mut ways = paths.map(|path| {
            let (mut encoder, mut decoder) = (Encoder::new(), Decoder::whole(&budget));
            let head = [(":method", "POST"), (":path", path)];
            let first = encoder.block(&head);
            assert_eq!(reader.read(&mut decoder, &first).1, path);
            (encoder.block(&head), decoder, encoder)
        });
        assert_eq!(reader.remembered(), 0, "the first ones fill the tables");
        assert_eq!(ways[0].0, ways[1].0, "the same bytes");
        for _ in 0..3 {
            for ((block, decoder, _), path) in ways.iter_mut().zip(paths) {
                let read = reader.read(decoder, block);
                assert_eq!((&*read.0, &*read.1), ("POST", path));
            }
        }
        assert_eq!(reader.remembered(), 2);
        // Something else moves in front of it.
        let (block, decoder, encoder) = &mut ways[0];
        reader.read(decoder, &encoder.block(&[(":path", "/c")]));
        assert_eq!(reader.read(decoder, block).1, "/c");
        decoder.forget();
        assert_eq!(reader.read(decoder, block).1, "", "not known any more");
    }

    #[test]
    fn tables_with_one_history_share_what_is_remembered() {
        let budget = Budget::default();
        let mut reader = Reader { blocks: Blocks::default(), strings: Scratch::default() };
        for _ in 0..10 {
            let (mut encoder, mut decoder) = (Encoder::new(), Decoder::whole(&budget));
            for _ in 0..3 {
                let block = encoder.block(&[(":status", "200"), ("x-a", "b")]);
                assert_eq!(reader.read(&mut decoder, &block).2, Some(200));
            }
        }
        assert_eq!(reader.remembered(), 1);
    }

    #[test]
    fn ids_are_not_remembered() {
        let budget = Budget::default();
        let mut reader = Reader { blocks: Blocks::default(), strings: Scratch::default() };
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::whole(&budget));
        for name in ["x-request-id", "traceparent"] {
            let value = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
            for _ in 0..3 {
                reader.read(&mut decoder, &encoder.block(&[(name, value)]));
            }
        }
        assert_eq!(reader.remembered(), 0);
    }
}
