//! What to do with a TCP segment: in order, again, or ahead. Knows no bytes.
//!
//! **Sequence numbers wrap**: they are compared by their distance, never by value.

/// `later - earlier` as a signed distance; right while the two are within 2 GiB.
#[inline(always)]
#[must_use]
pub const fn distance(later: u32, earlier: u32) -> i32 {
    later.wrapping_sub(earlier) as i32
}

/// The contiguous end of what one direction has carried, and one range beyond a hole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Edge {
    /// Every byte before this has passed.
    pub end: u32,
    /// Start of a range that passed beyond a hole; meaningless while `ahead == 0`. Where the
    /// edge is beyond it, so is another hole.
    pub ahead_start: u32,
    /// End of that range.
    pub ahead_end: u32,
    /// 0: no range; 1: one; 2: several were folded into one, so its inside is not all known.
    pub ahead: u32,
}

/// How a segment stands to an [`Edge`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Arrival {
    /// Nothing new: all of it has passed before.
    Again = 0,
    /// It continues the edge (its first bytes may be old).
    InOrder = 1,
    /// It leaves a hole.
    Ahead = 2,
}

impl Edge {
    /// How the segment `[start, end)` stands to the edge.
    #[inline(always)]
    #[must_use]
    pub const fn arrival(&self, start: u32, end: u32) -> Arrival {
        if distance(end, self.end) <= 0 {
            Arrival::Again
        } else if distance(start, self.end) <= 0 {
            Arrival::InOrder
        } else {
            Arrival::Ahead
        }
    }

    /// Notes a segment that left a hole.
    #[inline(always)]
    pub fn note_ahead(&mut self, start: u32, end: u32) {
        if self.ahead == 0 {
            self.ahead_start = start;
            self.ahead_end = end;
            self.ahead = 1;
            return;
        }
        let touches = distance(start, self.ahead_end) <= 0 && distance(end, self.ahead_start) >= 0;
        if !touches {
            self.ahead = 2;
        }
        if distance(start, self.ahead_start) < 0 {
            self.ahead_start = start;
        }
        if distance(end, self.ahead_end) > 0 {
            self.ahead_end = end;
        }
    }

    /// Moves the edge to `end`, and over the range ahead where the hole before it closed.
    #[inline(always)]
    pub fn advance(&mut self, end: u32) {
        if distance(end, self.end) > 0 {
            self.end = end;
        }
        if self.ahead == 0 || distance(self.ahead_start, self.end) > 0 {
            return;
        }
        // Of several folded ranges only the first start is known: there is another hole, and
        // until it is closed the kernel's own count (`rcv_nxt`) moves the edge on.
        if self.ahead == 1 && distance(self.ahead_end, self.end) > 0 {
            self.end = self.ahead_end;
        }
        if distance(self.ahead_end, self.end) <= 0 {
            self.ahead = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(end: u32) -> Edge {
        Edge { end, ..Edge::default() }
    }

    #[test]
    fn arrivals_are_told_apart_across_the_wrap() {
        let edge = edge(5);
        assert_eq!(edge.arrival(u32::MAX - 3, 5), Arrival::Again);
        assert_eq!(edge.arrival(u32::MAX - 3, 6), Arrival::InOrder);
        assert_eq!(edge.arrival(5, 9), Arrival::InOrder);
        assert_eq!(edge.arrival(6, 9), Arrival::Ahead);
    }

    #[test]
    fn a_filled_hole_moves_the_edge_over_what_came_ahead() {
        let mut edge = edge(10);
        edge.note_ahead(20, 30);
        edge.note_ahead(30, 40);
        edge.advance(20);
        assert_eq!((edge.end, edge.ahead), (40, 0));
    }

    #[test]
    fn two_holes_are_not_jumped() {
        let mut edge = edge(10);
        edge.note_ahead(20, 30);
        edge.note_ahead(40, 50);
        edge.advance(20);
        assert_eq!((edge.end, edge.ahead), (20, 2));
        edge.advance(30);
        assert_eq!((edge.end, edge.ahead), (30, 2));
        edge.advance(50);
        assert_eq!((edge.end, edge.ahead), (50, 0));
    }

    #[test]
    fn a_partial_fill_keeps_the_range() {
        let mut edge = edge(10);
        edge.note_ahead(20, 30);
        edge.advance(15);
        assert_eq!((edge.end, edge.ahead), (15, 1));
    }
}
