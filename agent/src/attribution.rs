//! Stage 3: exchanges become [`Call`]s: who called whom.

pub mod call;

pub use call::{Call, ConnectionReport, Identity, IdentityKind, Party};
