//! How the kernel object is compiled: every flag and version that decides its bytes.
//!
//! This file counts among the object's sources: changing a flag makes the object stale.

/// Linker of eBPF objects, on crates.io.
pub const LINKER: &str = "0.13.0";
/// Debian's LLVM that the linker is built against.
pub const LLVM: &str = "/usr/lib/llvm-22";
/// Packages that bring it.
pub const PACKAGES: [&str; 2] = ["llvm-22-dev", "libpolly-22-dev"];
/// Target of the compiler.
pub const TARGET: &str = "bpfel-unknown-none";

/// Arguments of cargo.
pub const CARGO: [&str; 13] = [
    "build",
    "--release",
    "--locked",
    "-p",
    "meshtap-ebpf",
    "--bin",
    "meshtap-ebpf",
    "--features",
    "programs",
    "--target",
    TARGET,
    "-Z",
    "build-std=core",
];

/// Flags of the compiler; debugging information is what BTF is made from, and is stripped after.
pub const RUSTFLAGS: [&str; 4] = ["-C", "debuginfo=2", "-C", "link-arg=--btf"];

/// Settings of cargo's profile: the object must not change with those of the agent.
pub const PROFILE: [(&str, &str); 6] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3"),
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    ("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "false"),
    ("CARGO_PROFILE_RELEASE_STRIP", "none"),
];
