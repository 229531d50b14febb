//! The standard's examples, and that what is resolved is never wrong.

mod corpus;
mod late;

use super::encoder::{Encoder, Manner};
use super::*;
use crate::protocol::Bound;

/// A header; `None`: not known.
type Read = (Option<Vec<u8>>, Option<Vec<u8>>);

/// Headers as they were written.
type Written = Vec<(Vec<u8>, Vec<u8>)>;

fn read(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Read>, Malformed> {
    let mut all = Vec::new();
    decoder.decode(block, &mut Scratch::default(), |field| {
        let name = (field.kind != Name::Unknown).then(|| field.name.to_vec());
        all.push((name, field.value.map(<[u8]>::to_vec)));
    })?;
    Ok(all)
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn known(headers: &[(&str, &str)]) -> Vec<Read> {
    let owned = |text: &str| Some(text.as_bytes().to_vec());
    headers.iter().map(|(name, value)| (owned(name), owned(value))).collect()
}

/// Entries of the table, the newest first.
fn table(decoder: &Decoder) -> Vec<Read> {
    let entry = |index| decoder.table.get(index);
    let owned =
        |found: table::Resolved<'_>| (Some(found.name.to_vec()), Some(found.value.to_vec()));
    (0..).map_while(entry).map(owned).collect()
}

#[test]
fn literals_of_the_standard() {
    let mut decoder = Decoder::whole(&Budget::default());
    let block = bytes("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572");
    let header = known(&[("custom-key", "custom-header")]);
    assert_eq!(read(&mut decoder, &block).unwrap(), header);
    assert_eq!(table(&decoder), header);

    let mut decoder = Decoder::whole(&Budget::default());
    let block = bytes("040c 2f73 616d 706c 652f 7061 7468");
    assert_eq!(read(&mut decoder, &block).unwrap(), known(&[(":path", "/sample/path")]));
    let block = bytes("1008 7061 7373 776f 7264 0673 6563 7265 74");
    assert_eq!(read(&mut decoder, &block).unwrap(), known(&[("password", "secret")]));
    assert_eq!(read(&mut decoder, &[0x82]).unwrap(), known(&[(":method", "GET")]));
    assert_eq!(table(&decoder), []);
}

#[test]
fn requests_of_the_standard() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let coded = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    let get = [(":method", "GET"), (":scheme", "http"), (":path", "/")];
    let authority = (":authority", "www.example.com");
    for blocks in [plain, coded] {
        let mut decoder = Decoder::whole(&Budget::default());
        let first = [&get[..], &[authority]].concat();
        assert_eq!(read(&mut decoder, &bytes(blocks[0])).unwrap(), known(&first));
        let second = [&get[..], &[authority, ("cache-control", "no-cache")]].concat();
        assert_eq!(read(&mut decoder, &bytes(blocks[1])).unwrap(), known(&second));
        let third = [
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            authority,
            ("custom-key", "custom-value"),
        ];
        assert_eq!(read(&mut decoder, &bytes(blocks[2])).unwrap(), known(&third));
        let held = [("custom-key", "custom-value"), ("cache-control", "no-cache"), authority];
        assert_eq!(table(&decoder), known(&held));
        assert_eq!(decoder.table.held_now().0, 164);
    }
}

#[test]
fn answers_of_the_standard_with_eviction() {
    let plain = [
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032
         303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63
         6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0
         5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851
         5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
    ];
    let coded = [
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b
         ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad
         94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160
         65c0 03ed 4ee5 b106 3d50 07",
    ];
    let (date, later) = ("Mon, 21 Oct 2013 20:13:21 GMT", "Mon, 21 Oct 2013 20:13:22 GMT");
    let location = ("location", "https://www.example.com");
    let cookie = ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1");
    for blocks in [plain, coded] {
        let mut decoder = Decoder::whole(&Budget::default());
        decoder.table.resize(256);
        let first = [(":status", "302"), ("cache-control", "private"), ("date", date), location];
        assert_eq!(read(&mut decoder, &bytes(blocks[0])).unwrap(), known(&first));
        assert_eq!(decoder.table.held_now().0, 222);
        let second = [&[(":status", "307")], &first[1..]].concat();
        assert_eq!(read(&mut decoder, &bytes(blocks[1])).unwrap(), known(&second));
        let third = [
            (":status", "200"),
            ("cache-control", "private"),
            ("date", later),
            location,
            ("content-encoding", "gzip"),
            cookie,
        ];
        assert_eq!(read(&mut decoder, &bytes(blocks[2])).unwrap(), known(&third));
        let held = [cookie, ("content-encoding", "gzip"), ("date", later)];
        assert_eq!(table(&decoder), known(&held));
        assert_eq!(decoder.table.held_now().0, 215);
    }
}

#[test]
fn what_cannot_be_is_malformed_and_forgets() {
    // Index 0; beyond a whole table; a size update behind a header; cut strings.
    for block in ["80", "be", "82 20", "40 03 61", "40 81", "3f"] {
        let mut decoder = Decoder::whole(&Budget::default());
        assert_eq!(read(&mut decoder, &bytes(block)), Err(Malformed), "{block}");
        assert!(!decoder.table.is_whole(), "{block}");
    }
}

#[test]
fn an_entry_larger_than_the_table_empties_it() {
    let mut decoder = Decoder::whole(&Budget::default());
    let mut encoder = Encoder::new();
    let block = encoder.block(&[("a", "b")]);
    read(&mut decoder, &block).unwrap();
    let block = encoder.block(&[("c", &"d".repeat(5_000))]);
    read(&mut decoder, &block).unwrap();
    assert_eq!(table(&decoder), []);
    assert!(decoder.table.is_whole());
}

#[test]
fn a_table_is_bounded_whatever_its_encoder_says() {
    let mut decoder = Decoder::whole(&Budget::default());
    let mut encoder = Encoder::new();
    let mut block = Vec::new();
    encoder.resize(&mut block, 1 << 30);
    for number in 0..200 {
        let value = format!("{number:01000}");
        encoder.field(&mut block, b"x", value.as_bytes(), Manner::Insert);
    }
    encoder.field(&mut block, b"x", format!("{:01000}", 199).as_bytes(), Manner::Usual);
    encoder.field(&mut block, b"x", format!("{:01000}", 0).as_bytes(), Manner::Usual);
    let headers = read(&mut decoder, &block).unwrap();
    assert_eq!(headers[200], headers[199]);
    assert_eq!(headers[201], (None, None), "what went beyond the bound is not known");
    assert!(decoder.table.held_now().0 <= table::HELD);
    assert!(decoder.table.held_now().1 <= 2 * table::HELD + 2_000);
}

#[test]
fn all_tables_together_hold_what_they_may() {
    let budget = Budget::new(100);
    let (mut one, mut other) = (Decoder::whole(&budget), Decoder::whole(&budget));
    // "a: b", inserted: 34 bytes.
    let block = [0x40, 1, b'a', 1, b'b'];
    let read = |decoder: &mut Decoder, block: &[u8]| {
        let mut values = Vec::new();
        decoder
            .decode(block, &mut Scratch::default(), |field| {
                values.push(field.value.map(<[u8]>::to_vec));
            })
            .unwrap();
        values
    };
    read(&mut one, &block);
    read(&mut one, &block);
    assert_eq!(budget.bound(), Bound { used: 68, limit: 100 });
    read(&mut other, &block);
    assert_eq!((budget.bound().used, budget.refused()), (68, 1));
    assert_eq!(read(&mut other, &[0xbe]), [None], "unknown, and no error");
    assert_eq!(read(&mut one, &[0xbe]), [Some(b"b".to_vec())]);
    drop(one);
    assert_eq!(budget.bound().used, 0);
    read(&mut other, &block);
    assert_eq!(read(&mut other, &[0xbe]), [Some(b"b".to_vec())]);
}
