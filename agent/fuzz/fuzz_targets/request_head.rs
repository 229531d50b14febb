//! Any bytes are the beginning of a head; nothing secret or dangerous gets out of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meshtap::protocol::http1;

fuzz_target!(|bytes: &[u8]| {
    let head = http1::parse(bytes);
    assert!(!head.path.contains(&b'?') && !head.path.contains(&b'#'));
    assert!(head.authority.len() <= http1::AUTHORITY_MAX);
    assert!(!head.authority.contains(&b'@'));
    assert!(head.request_id.is_none_or(|id| id.len() <= http1::REQUEST_ID_MAX));
    for part in [head.method, head.path, head.authority] {
        assert!(!http1::text(part).as_str().contains(char::is_control));
    }
});
