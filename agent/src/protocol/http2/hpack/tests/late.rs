//! Decoders that missed something: every header is right, or not known.

use proptest::prelude::*;

use super::*;

/// A header of a block and how it is written, or a new size of the table.
#[derive(Clone, Debug)]
enum Step {
    Field { name: u8, value: u8, length: usize, manner: Manner },
    Resize(usize),
}

fn steps() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let manner = prop_oneof![
        6 => Just(Manner::Usual),
        2 => Just(Manner::Insert),
        1 => Just(Manner::Plain),
        1 => Just(Manner::Never),
    ];
    let length = prop_oneof![8 => 0_usize..40, 2 => 40_usize..400, 1 => 400_usize..6_000];
    let field = (0_u8..12, 0_u8..4, length, manner)
        .prop_map(|(name, value, length, manner)| Step::Field { name, value, length, manner });
    let limit = prop_oneof![3 => 0_usize..300, 1 => Just(4_096), 1 => 0_usize..70_000];
    let block = (prop::option::weighted(0.15, limit), prop::collection::vec(field, 0..8));
    let block = block.prop_map(|(limit, fields)| {
        limit.map(Step::Resize).into_iter().chain(fields).collect::<Vec<_>>()
    });
    prop::collection::vec(block, 1..40)
}

/// The block of some steps, and the headers in it.
fn encode(encoder: &mut Encoder, steps: &[Step]) -> (Vec<u8>, Written) {
    let names: [&[u8]; 12] = [
        b":method",
        b":path",
        b":authority",
        b":status",
        b"user-agent",
        b"cookie",
        b"grpc-status",
        b"grpc-timeout",
        b"traceparent",
        b"x-a",
        b"x-request-id",
        b"content-type",
    ];
    let (mut block, mut headers) = (Vec::new(), Vec::new());
    for step in steps {
        match step {
            Step::Resize(limit) => encoder.resize(&mut block, *limit),
            Step::Field { name, value, length, manner } => {
                let name = names[usize::from(*name)];
                let value = [value + b'0'].repeat(*length);
                encoder.field(&mut block, name, &value, *manner);
                headers.push((name.to_vec(), value));
            }
        }
    }
    (block, headers)
}

/// How many of the headers were not known; fails where one is wrong.
pub(super) fn check(got: &[Read], truth: &[(Vec<u8>, Vec<u8>)]) -> Result<usize, TestCaseError> {
    prop_assert_eq!(got.len(), truth.len());
    let mut unknown = 0;
    for ((name, value), (true_name, true_value)) in got.iter().zip(truth) {
        prop_assert!(name.as_ref().is_none_or(|name| name == true_name), "{name:?} {true_name:?}");
        prop_assert!(value.as_ref().is_none_or(|value| value == true_value));
        unknown += usize::from(name.is_none() || value.is_none());
    }
    Ok(unknown)
}

proptest! {
    #[test]
    fn from_the_first_byte_on_everything_is_known(blocks in steps(), coded: bool) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::whole(&Budget::default()));
        encoder.coded = coded;
        for steps in blocks {
            let (block, truth) = encode(&mut encoder, &steps);
            let got = read(&mut decoder, &block).unwrap();
            prop_assert_eq!(check(&got, &truth)?, 0);
        }
    }

    #[test]
    fn with_missing_blocks_nothing_is_wrong(
        blocks in steps(),
        missing in prop::collection::vec(prop::bool::weighted(0.2), 40),
        late: bool,
    ) {
        let mut encoder = Encoder::new();
        let mut decoder = if late { Decoder::unknown(&Budget::default()) } else { Decoder::whole(&Budget::default()) };
        if late {
            // What was before.
            for number in 0..20_u8 {
                encode(&mut encoder, &[Step::Field {
                    name: number % 12, value: number / 12, length: 9, manner: Manner::Insert,
                }]);
            }
        }
        for (steps, missing) in blocks.iter().zip(missing) {
            let (block, truth) = encode(&mut encoder, steps);
            if missing {
                decoder.forget();
                continue;
            }
            let got = read(&mut decoder, &block).unwrap();
            check(&got, &truth)?;
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..10),
        whole: bool,
    ) {
        let mut decoder = if whole { Decoder::whole(&Budget::default()) } else { Decoder::unknown(&Budget::default()) };
        for block in blocks {
            let _ = read(&mut decoder, &block);
            prop_assert!(decoder.table.held_now().0 <= table::HELD);
        }
    }
}

#[test]
fn what_was_inserted_since_is_known_whatever_stands_below() {
    let mut encoder = Encoder::new();
    encoder.block(&[("x-old", "1"), ("x-older", "2")]);
    let mut decoder = Decoder::unknown(&Budget::default());
    let block = encoder.block(&[("x-old", "1"), ("x-new", "3"), ("x-old", "4"), ("x-new", "3")]);
    let got = read(&mut decoder, &block).unwrap();
    let new = known(&[("x-new", "3")]).remove(0);
    let unnamed = (None, Some(b"4".to_vec()));
    assert_eq!(got, [(None, None), new.clone(), unnamed.clone(), new]);
    // The name of an entry is not known for being inserted again.
    let block = encoder.block(&[("x-old", "4")]);
    assert_eq!(read(&mut decoder, &block).unwrap(), [unnamed]);
}

#[test]
fn a_table_without_room_is_whole_again() {
    let mut encoder = Encoder::new();
    encoder.block(&[("x-old", "1")]);
    let mut decoder = Decoder::unknown(&Budget::default());
    let mut block = Vec::new();
    encoder.resize(&mut block, 0);
    encoder.resize(&mut block, 4_096);
    encoder.field(&mut block, b"x-old", b"1", Manner::Usual);
    assert_eq!(read(&mut decoder, &block).unwrap(), known(&[("x-old", "1")]));
    assert!(decoder.table.is_whole());
}
