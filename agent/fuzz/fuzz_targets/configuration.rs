//! Any file of configuration is read or refused; what is read can be printed and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meshtap::config::{Config, RawConfig, document};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let read = document::parse(text);
    if let Err(faults) = &read {
        assert!(!faults.is_empty(), "a refusal says why");
    }
    match RawConfig::default().with_text("m.yaml", text) {
        Ok(raw) => {
            if let Err(problems) = Config::read(&raw) {
                assert!(!problems.to_string().is_empty(), "a refusal says why");
            }
        }
        Err(_) => assert!(read.is_err()),
    }
});
