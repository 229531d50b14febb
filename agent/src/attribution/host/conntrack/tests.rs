//! Tests of conntrack.
