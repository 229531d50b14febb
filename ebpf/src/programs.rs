//! The programs, one file per family of hooks.

pub mod cause;
pub mod emit;
pub mod follow;
pub mod globals;
pub mod held;
pub mod host;
pub mod opened;
pub mod packet;
pub mod segment;
pub mod socket;
pub mod state;
