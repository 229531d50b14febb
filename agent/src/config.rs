//! From what was written to a configuration that is valid by construction.
