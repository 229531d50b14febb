//! The kernel half of meshtap as a library: what crosses the ring buffer and
//! every decision over bytes that the programs take.
//!
//! The programs (`main.rs`, feature `programs`), the agent, the tests and the
//! fuzzers compile these same files. **Nothing here allocates, panics or reads a
//! kernel structure.**
#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod event;
pub mod flow;
pub mod frames;
pub mod host;
pub mod http1;
pub mod limits;
pub mod repeat;
pub mod sample;
pub mod sequence;
pub mod streams;
pub mod walk;
