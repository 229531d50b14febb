//! Bytes of the ring, whatever they are, become an event or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meshtap::ring_buffer::decode::decode;

/// Records begin at multiples of eight bytes in the ring.
#[repr(align(8))]
struct Aligned([u8; 1024]);

fuzz_target!(|bytes: &[u8]| {
    let mut aligned = Aligned([0; 1024]);
    let length = bytes.len().min(aligned.0.len());
    aligned.0[..length].copy_from_slice(&bytes[..length]);
    if let Ok(event) = decode(&aligned.0[..length]) {
        assert_eq!(event.header().kind, bytes[16]);
    }
});
