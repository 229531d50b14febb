//! [`Pieces`]: an exposition in pieces, so that no server holds the whole text.

use super::{Format, OpenFamily, render_end, render_target};
use crate::aggregation::Snapshot;

/// A piece ends with the first series that makes it this long.
const PIECE: usize = 64 * 1024;

/// The text of a snapshot, piece by piece; one after the other they are what
/// [`super::render`] writes.
#[derive(Debug)]
pub struct Pieces {
    snapshot: Snapshot,
    format: Format,
    next_family: usize,
    opened: Option<OpenFamily>,
    has_begun: bool,
    has_ended: bool,
}

impl Pieces {
    /// The text of `snapshot`.
    #[must_use]
    pub fn new(snapshot: Snapshot, format: Format) -> Self {
        Self { snapshot, format, next_family: 0, opened: None, has_begun: false, has_ended: false }
    }
}

impl Iterator for Pieces {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        if self.has_ended {
            return None;
        }
        // One histogram series is a few kilobytes: the piece does not grow.
        let mut out = String::with_capacity(PIECE + PIECE / 4);
        if !self.has_begun {
            self.has_begun = true;
            render_target(self.format, &mut out);
        }
        while out.len() < PIECE {
            let Some(family) = self.snapshot.families.get(self.next_family) else {
                self.has_ended = true;
                render_end(self.format, &mut out);
                break;
            };
            let opened =
                self.opened.get_or_insert_with(|| OpenFamily::of(family, self.format, &mut out));
            if !opened.render_next(family, self.format, &mut out) {
                self.opened = None;
                self.next_family += 1;
            }
        }
        // The end of the text format is empty.
        (!out.is_empty()).then_some(out)
    }
}
