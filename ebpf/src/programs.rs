//! The programs, one file per family of hooks.

pub mod aside;
pub mod block;
pub mod cause;
pub mod claim;
pub mod emit;
pub mod follow;
pub mod frames;
pub mod globals;
pub mod held;
pub mod host;
pub mod opened;
pub mod outlet;
pub mod packet;
pub mod part;
pub mod repeat;
pub mod sample;
pub mod segment;
pub mod socket;
pub mod state;
pub mod steps;
pub mod streams;
pub mod waiting;
