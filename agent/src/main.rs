//! The `meshtap` program.

fn main() {}
