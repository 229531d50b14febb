//! [`Budget`]: what the tables of all connections may hold together. Clients choose how many
//! connections they open and what they put into their tables.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::protocol::Bound;

/// Bytes that all tables hold at the most, unless told otherwise: 4,096 connections with
/// full tables both ways. Their allocations take up to three times as much.
const LIMIT: usize = 32 << 20;

/// Shared by all tables; clones are the same budget.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    used: AtomicUsize,
    limit: usize,
    refused: AtomicU64,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(LIMIT)
    }
}

impl Budget {
    /// Of `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Shared { used: AtomicUsize::new(0), limit, refused: AtomicU64::new(0) }))
    }

    /// Bytes that are held, and how many may be.
    pub(crate) fn bound(&self) -> Bound {
        Bound { used: self.0.used.load(Ordering::Relaxed), limit: self.0.limit }
    }

    /// Tables that were forgotten since there was no room.
    pub(crate) fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }
}

/// What one table holds of it; gives it back at its end.
#[derive(Debug)]
pub(in crate::protocol::http2) struct Share {
    budget: Budget,
    held: usize,
}

impl Share {
    /// Of nothing yet.
    pub(in crate::protocol::http2) fn new(budget: &Budget) -> Self {
        Self { budget: budget.clone(), held: 0 }
    }

    /// The budget that it is of.
    pub(super) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Holds `size` bytes from now on; false: there is no room, and all is as it was. One
    /// thread reads header blocks, so that what was there is still there.
    pub(in crate::protocol::http2) fn hold(&mut self, size: usize) -> bool {
        let Shared { used, limit, refused } = &*self.budget.0;
        let others = used.load(Ordering::Relaxed).saturating_sub(self.held);
        if size > self.held && others.saturating_add(size) > *limit {
            refused.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        used.store(others + size, Ordering::Relaxed);
        self.held = size;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.held, Ordering::Relaxed);
    }
}
