//! [`HostFigures`]: what the kernel half counts for the host as a whole.
//!
//! **What is not observed has no figure**: where an event cannot be read there is `None`,
//! never a zero.

use std::sync::Arc;

use meshtap_ebpf::host::{
    DROP_REASONS, FIGURES, OTHER_DROPS, RESETS_RECEIVED, RESETS_SENT, RETRANSMITS,
};

/// Name of the reasons that have no name or no figure of their own.
const OTHER: &str = "other";

/// Totals since the programs were loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFigures {
    /// Packets that were dropped, by the kernel's name of the reason; only reasons that
    /// occurred, at most [`DROP_REASONS`] and one.
    pub dropped: Vec<(Arc<str>, u64)>,
    /// Resets that were sent.
    pub resets_sent: Option<u64>,
    /// Resets that were received.
    pub resets_received: Option<u64>,
    /// TCP packets that were sent again.
    pub retransmits: Option<u64>,
}

/// Which figures are kept, and what the reasons are called.
#[derive(Debug)]
pub(super) struct Legend {
    /// By number; `None`: counted as [`OTHER`].
    reasons: Vec<Option<Arc<str>>>,
    other: Arc<str>,
    resets_sent: bool,
    resets_received: bool,
    retransmits: bool,
}

impl Legend {
    /// `reasons` by number; `is_attached` says of a program whether it runs.
    pub(super) fn new(reasons: &[(u64, Arc<str>)], is_attached: impl Fn(&str) -> bool) -> Self {
        let name = |number: u32| {
            let found = reasons.iter().find(|(known, _)| *known == u64::from(number));
            found.map(|(_, name)| Arc::clone(name))
        };
        Self {
            reasons: (0..DROP_REASONS).map(name).collect(),
            other: OTHER.into(),
            resets_sent: is_attached("reset_sent"),
            resets_received: is_attached("reset_received"),
            retransmits: is_attached("packet_sent_again"),
        }
    }

    /// Reads what every CPU counted.
    pub(super) fn read(&self, processors: &[[u64; FIGURES]]) -> HostFigures {
        let sum = |figure: u32| {
            processors.iter().filter_map(|figures| figures.get(figure as usize)).sum::<u64>()
        };
        let mut dropped: Vec<(Arc<str>, u64)> = Vec::new();
        let mut other = sum(OTHER_DROPS);
        for (number, name) in (0..).zip(&self.reasons) {
            match (name, sum(number)) {
                (_, 0) => {}
                (Some(name), count) => dropped.push((Arc::clone(name), count)),
                (None, count) => other += count,
            }
        }
        if other > 0 {
            dropped.push((Arc::clone(&self.other), other));
        }
        HostFigures {
            dropped,
            resets_sent: self.resets_sent.then(|| sum(RESETS_SENT)),
            resets_received: self.resets_received.then(|| sum(RESETS_RECEIVED)),
            retransmits: self.retransmits.then(|| sum(RETRANSMITS)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_added_and_what_has_no_name_is_other() {
        let legend = Legend::new(&[(3, "NO_SOCKET".into())], |program| program != "reset_sent");
        let mut processors = [[0; FIGURES]; 2];
        processors[0][3] = 4;
        processors[1][3] = 5;
        processors[1][17] = 2;
        processors[0][OTHER_DROPS as usize] = 1;
        processors[0][RESETS_RECEIVED as usize] = 6;
        processors[1][RESETS_SENT as usize] = 7;
        let expected = HostFigures {
            dropped: vec![("NO_SOCKET".into(), 9), ("other".into(), 3)],
            resets_sent: None,
            resets_received: Some(6),
            retransmits: Some(0),
        };
        assert_eq!(legend.read(&processors), expected);
    }
}
