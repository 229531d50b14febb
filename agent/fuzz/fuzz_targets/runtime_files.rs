//! Files of container runtimes and command lines of processes, which whoever runs them writes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meshtap::attribution::{container, program};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    for found in [
        container::docker_name(&text),
        container::podman_name(&text, "0123456789ab"),
        container::bundle_name(&text),
    ] {
        assert!(found.is_none_or(|found| !found.name.is_empty()));
    }
    let words: Vec<String> = text.split('\0').map(str::to_owned).collect();
    let executables = ["/usr/bin/python3.11", "/usr/bin/java", "/usr/bin/node", "/usr/bin/ruby"];
    for executable in executables.into_iter().chain([&*words[0]]) {
        let name = program::name(executable, &words);
        assert!(name.len() <= executable.len().max(text.len()));
    }
});
