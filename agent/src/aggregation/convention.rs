//! [`RpcNames`]: which names of OpenTelemetry's RPC conventions are written.

/// Semantic conventions 1.45 gave remote procedure calls new names, and their durations
/// seconds for milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RpcNames {
    /// The names that are stable.
    #[default]
    Stable,
    /// The stable ones, and the deprecated ones beside them.
    Both,
    /// The deprecated ones alone, as up to semantic conventions 1.37.
    Deprecated,
}

impl RpcNames {
    /// Whether the stable names are written.
    #[must_use]
    pub fn stable(self) -> bool {
        self != Self::Deprecated
    }

    /// Whether the deprecated names are written.
    #[must_use]
    pub fn deprecated(self) -> bool {
        self != Self::Stable
    }
}
