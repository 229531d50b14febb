//! Embeds the committed kernel object, and refuses one that is older than its sources.
//!
//! `include_bytes!(concat!(env!("OUT_DIR"), "/meshtap.bpf.o"))` gives the bytes, and
//! `KERNEL_OBJECT_SHA256` their SHA-256. **No compiler of eBPF is needed to build the agent.**

use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[path = "../xtask/src/ebpf/sources.rs"]
mod sources;

/// Files and folders that this script reads.
const WATCHED: [&str; 7] = [
    sources::SOURCES,
    sources::MANIFEST,
    sources::WORKSPACE,
    sources::LOCK,
    sources::RECIPE,
    sources::OBJECT,
    sources::DIGEST,
];

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for path in WATCHED {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    match embed(&root) {
        Ok(digest) => {
            // Not `MESHTAP_`: cargo also sets it where it runs the agent, which refuses
            // variables of that name that are no keys.
            println!("cargo::rustc-env=KERNEL_OBJECT_SHA256={digest}");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            println!("cargo::error={reason}; renew it: {}", sources::RENEW);
            ExitCode::FAILURE
        }
    }
}

fn embed(root: &Path) -> Result<String, String> {
    let describe = |path: &str, error: std::io::Error| format!("cannot read {path} ({error})");
    let object = std::fs::read(root.join(sources::OBJECT))
        .map_err(|error| describe(sources::OBJECT, error))?;
    let text = std::fs::read_to_string(root.join(sources::DIGEST))
        .map_err(|error| describe(sources::DIGEST, error))?;
    if sources::entry(&text, "sources") != Some(&sources::digest(root)?) {
        return Err(format!("{} is older than the sources of the kernel half", sources::OBJECT));
    }
    let digest = sources::of_bytes(&object);
    if sources::entry(&text, "object") != Some(&digest) {
        return Err(format!(
            "{} is not the file that {} describes",
            sources::OBJECT,
            sources::DIGEST
        ));
    }
    let folder = std::env::var_os("OUT_DIR").ok_or("cargo did not say where to write")?;
    let copy = PathBuf::from(folder).join("meshtap.bpf.o");
    // Where a folder of builds was copied by links, another one has this file, too.
    let _ = std::fs::remove_file(&copy);
    std::fs::write(copy, &object).map_err(|error| format!("cannot write the object ({error})"))?;
    Ok(digest)
}
