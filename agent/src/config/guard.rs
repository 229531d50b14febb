//! The keys of `privileges`: what the agent keeps of what it was given.

use super::reader::{Bounds, Key, Reader};
use super::settings::section;

section! {
    /// What the agent may do once it runs: what only its start needs is given up then.
    Privileges = "privileges" {
        /// User, and group of the same number, that the agent becomes where it was started as
        /// root; 0: it stays root. It keeps the capabilities that reading takes, and nothing is
        /// lost. Other processes of the user may end it: a user of its own is better where
        /// people log in. Root stays where `kubernetes.kubeconfig` is used, which may name a
        /// command to run.
        user: usize = 65_534, Bounds::between(0, 4_294_967_294);
    }
}
