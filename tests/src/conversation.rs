//! [`Conversations`]: scripted connections, each with the exact calls that must be seen of it.

use anyhow::Result;

use crate::agent::Observer;
use crate::expected::{Expected, mismatch};
use crate::wire::Wire;

/// Connections played one after the other, and what must be seen of each.
#[derive(Debug, Default)]
pub struct Conversations {
    played: Vec<Played>,
}

#[derive(Debug)]
struct Played {
    name: String,
    port: u16,
    expected: Vec<Expected>,
}

impl Conversations {
    /// Plays `script` on a connection of its own. An error in it is the test's own.
    pub fn play(
        &mut self,
        name: &str,
        expected: Vec<Expected>,
        script: impl FnOnce(&mut Wire) -> Result<()>,
    ) {
        let mut wire = Wire::open().expect("a loopback connection opens");
        let port = wire.port();
        script(&mut wire).unwrap_or_else(|error| panic!("the script of {name} fails: {error:#}"));
        self.played.push(Played { name: name.to_owned(), port, expected });
    }

    /// Stops the observer and compares: every call expected, and no other. Panics with
    /// all differences of all conversations.
    pub fn verify(self, observer: Observer) {
        let calls = observer.finish().expect("observe ends well");
        let failures: Vec<String> = self
            .played
            .iter()
            .filter_map(|played| {
                mismatch(&played.name, &calls.to_port(played.port), &played.expected)
            })
            .collect();
        assert!(
            failures.is_empty(),
            "{} of {} conversations were seen wrongly:\n{}",
            failures.len(),
            self.played.len(),
            failures.join("\n")
        );
        assert_eq!(calls.declared_lost(), 0, "nothing is lost on a quiet host: {:?}", calls.lost);
    }
}
