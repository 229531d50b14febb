//! Stage 0: make the kernel speak.

pub mod attach;
pub mod attached;
pub mod bpf;
pub mod cgroup;
pub mod events;
pub mod features;
pub mod format;
pub mod host;
pub mod load;
pub mod mount;
pub mod privilege;
pub mod repeats;
pub mod share;
pub mod tables;
pub mod verify;
