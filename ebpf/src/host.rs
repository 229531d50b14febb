//! What is counted for the host as a whole: where each figure stands in the kernel's
//! array, one array per CPU.
//!
//! These causes name no connection, so they belong to no edge.

/// Reasons of drops that have a figure of their own; the numbers are the kernel's own.
/// Linux 6.18 has 127.
pub const DROP_REASONS: u32 = 192;
/// Drops for any other reason: subsystems number theirs from 65,536 on.
pub const OTHER_DROPS: u32 = DROP_REASONS;
/// Resets that were sent.
pub const RESETS_SENT: u32 = DROP_REASONS + 1;
/// Resets that were received.
pub const RESETS_RECEIVED: u32 = DROP_REASONS + 2;
/// TCP packets that were sent again.
pub const RETRANSMITS: u32 = DROP_REASONS + 3;
/// All figures.
pub const FIGURES: usize = DROP_REASONS as usize + 4;
