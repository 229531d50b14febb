//! Texts that the kernel writes: a tracepoint's format, the table of mounts, paths of cgroups.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meshtap::attribution::{container, unit};
use meshtap::kernel::{format::Format, mount};

fuzz_target!(|bytes: &[u8]| {
    let lines = bytes.split(|byte| *byte == b'\n').count();
    assert!(mount::parse(bytes).len() <= lines);
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
        assert!(text.contains(&*container.id) && !container.short_id().is_empty());
    }
    let _ = unit::from_cgroup(&text);
});
