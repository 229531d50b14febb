//! Texts that the kernel writes: a tracepoint's format, the table of mounts, paths of cgroups.
#![no_main]

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use meshtap::attribution::{container, unit};
use meshtap::kernel::{format::Format, mount};

fn memmem(text: &[u8], part: &[u8]) -> bool {
    part.is_empty() || text.windows(part.len()).any(|window| window == part)
}

/// `\x2d` is a byte by its two digits.
fn unescaped(text: &str) -> String {
    let (mut rest, mut bytes) = (text.as_bytes(), Vec::new());
    while let Some((first, tail)) = rest.split_first() {
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        match tail {
            [b'x', high, low, behind @ ..] if *first == b'\\' => {
                if let (Some(high), Some(low)) = (digit(high), digit(low)) {
                    bytes.push((high * 16 + low) as u8);
                    rest = behind;
                    continue;
                }
            }
            _ => {}
        }
        bytes.push(*first);
        rest = tail;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fuzz_target!(|bytes: &[u8]| {
    let lines = bytes.split(|byte| *byte == b'\n').count();
    let mounts = mount::parse(bytes);
    assert!(mounts.len() <= lines);
    let has = |part: &Path| memmem(bytes, part.as_os_str().as_bytes());
    // Backslashes stand for others only before three octal digits.
    let is_octal = |byte: &u8| (b'0'..=b'7').contains(byte);
    let escaped = bytes.windows(4).any(|four| four[0] == b'\\' && four[1..].iter().all(is_octal));
    for mount in &mounts {
        assert!(escaped || (has(&mount.root) && has(&mount.point)), "{mount:?}");
        assert!(has(Path::new(&mount.kind)));
    }
    let text = String::from_utf8_lossy(bytes);
    if let Ok(format) = Format::parse(&text) {
        for name in text.split_whitespace() {
            if let Some(offset) = format.offset(name, 4) {
                assert_eq!(format.require(name, 4).ok(), Some(offset));
            }
            let symbols = format.symbols(name);
            assert!(symbols.len() <= text.len());
        }
    }
    if let Some(container) = container::from_cgroup(&text) {
        // Names of machines are unescaped.
        assert!(text.contains("\\x") || text.contains(&*container.id), "{container:?}");
        assert!(!container.short_id().is_empty());
    }
    if let Some(unit) = unit::from_cgroup(&text) {
        assert!(!unit.unit.is_empty() && !unit.unit.contains('/'), "{unit:?}");
    }
    assert_eq!(unit::unescape(&text), unescaped(&text));
});
