//! The only file that knows two stages: it wires them.
