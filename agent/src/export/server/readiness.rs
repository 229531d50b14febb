//! [`Readiness`]: whether the agent sees what it should, and why not; parts of the agent
//! write it, the server reads it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use parking_lot::RwLock;

/// Shared by all who have a say. Not ready until the first part has reported, and while any
/// part reports an obstacle: an agent that counts nothing never looks healthy.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<RwLock<BTreeMap<&'static str, Option<String>>>>);

impl Readiness {
    /// Nobody has reported yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `part` has to report before the agent is ready.
    pub fn expect(&self, part: &'static str) {
        let mut parts = self.0.write();
        parts.entry(part).or_insert_with(|| Some("has not started yet".to_owned()));
    }

    /// `part` works.
    pub fn works(&self, part: &'static str) {
        self.0.write().insert(part, None);
    }

    /// `part` does not work: cause and remedy in one sentence.
    pub fn obstructed(&self, part: &'static str, reason: impl Into<String>) {
        self.0.write().insert(part, Some(reason.into()));
    }

    /// One line per obstacle; `None`: ready.
    #[must_use]
    pub fn obstacles(&self) -> Option<String> {
        let parts = self.0.read();
        if parts.is_empty() {
            return Some("agent: has not started yet\n".to_owned());
        }
        let mut text = String::new();
        for (part, reason) in parts.iter() {
            if let Some(reason) = reason {
                // Writing into a string cannot fail.
                let _ = writeln!(text, "{part}: {reason}");
            }
        }
        (!text.is_empty()).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_when_all_who_were_expected_work() {
        let readiness = Readiness::new();
        assert_eq!(readiness.obstacles().unwrap(), "agent: has not started yet\n");
        readiness.expect("capture");
        readiness.works("export");
        assert_eq!(readiness.obstacles().unwrap(), "capture: has not started yet\n");
        readiness.works("capture");
        readiness.expect("capture");
        assert_eq!(readiness.obstacles(), None, "what already works stays so");
        readiness.obstructed("capture", "the programs were detached; restart the agent");
        assert_eq!(
            readiness.obstacles().unwrap(),
            "capture: the programs were detached; restart the agent\n"
        );
    }
}
