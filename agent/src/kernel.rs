//! Stage 0: make the kernel speak.

pub mod attach;
pub mod attached;
pub mod bpf;
pub mod cgroup;
pub mod features;
pub mod format;
pub mod load;
pub mod mount;
pub mod privilege;
