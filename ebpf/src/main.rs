//! The object that the agent loads: nothing but programs and maps.
//!
//! **Every cgroup program returns 1 on every path and writes no `sock_ops` reply**;
//! `cargo xtask ebpf --check` proves it on the bytecode.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod programs;

/// The object declares GPL for the helpers that ask for it (`bpf_probe_read_kernel`);
/// its sources are under Apache-2.0.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

/// A panic that survived compilation makes the verifier refuse the endless loop, so
/// that it fails at load and never at run time.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
