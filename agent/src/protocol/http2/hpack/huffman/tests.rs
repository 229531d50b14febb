//! Every word of the code, and what is none.

use super::*;

/// The word of `symbol`, by the rule of a canonical code.
pub(in crate::protocol::http2::hpack) fn encode(text: &[u8]) -> Vec<u8> {
    let (mut bits, mut bytes) = (Vec::new(), Vec::new());
    for symbol in text {
        let length = usize::from(LENGTHS[usize::from(*symbol)]);
        let place = CODE.symbols[CODE.begin[length]..]
            .iter()
            .position(|other| *other == u16::from(*symbol))
            .unwrap();
        let word = CODE.first[length] + u32::try_from(place).unwrap();
        bits.extend((0..length).rev().map(|bit| word >> bit & 1 == 1));
    }
    while bits.len() % 8 != 0 {
        bits.push(true);
    }
    for byte in bits.chunks(8) {
        bytes.push(byte.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit)));
    }
    bytes
}

fn decoded(coded: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut text = Vec::new();
    decode(coded, &mut text).map(|()| text)
}

#[test]
fn the_code_is_complete() {
    let sum: f64 = LENGTHS.iter().map(|length| 0.5_f64.powi(i32::from(*length))).sum();
    assert!((sum - 1.0).abs() < f64::EPSILON);
}

#[test]
fn every_byte_comes_back() {
    let all: Vec<u8> = (0..=255).collect();
    for from in 0..256 {
        assert_eq!(decoded(&encode(&all[from..])).unwrap(), &all[from..]);
    }
    assert_eq!(decoded(&[]).unwrap(), b"");
}

#[test]
fn examples_of_the_standard() {
    let coded = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
    assert_eq!(decoded(&coded).unwrap(), b"www.example.com");
    assert_eq!(decoded(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]).unwrap(), b"no-cache");
}

#[test]
fn padding_must_be_short_and_all_ones() {
    // `0` is five zeros.
    assert_eq!(decoded(&[0b0000_0111]).unwrap(), b"0");
    assert!(decoded(&[0b0000_0110]).is_err());
    assert!(decoded(&[0b0000_0111, 0xff]).is_err());
    assert!(decoded(&[0xff]).is_err());
}

#[test]
fn the_end_of_a_string_must_not_stand_in_one() {
    assert!(decoded(&[0xff, 0xff, 0xff, 0xff]).is_err());
    assert!(decoded(&[0xff, 0xff, 0xff, 0xfc, 0x07]).is_err());
}
