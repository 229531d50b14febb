//! [`Known`]: the sockets that know themselves by one tuple.

/// Sockets with the same tuple: nearly always one, or two in two network namespaces.
#[derive(Debug)]
pub(super) enum Known {
    One([u64; 1]),
    More(Vec<u64>),
}

impl Known {
    pub(super) fn all(&self) -> &[u64] {
        match self {
            Self::One(one) => one,
            Self::More(more) => more,
        }
    }

    pub(super) fn add(&mut self, cookie: u64) {
        if self.all().contains(&cookie) {
            return;
        }
        match self {
            Self::One([one]) => *self = Self::More(vec![*one, cookie]),
            Self::More(more) => more.push(cookie),
        }
    }

    /// Whether any is left.
    pub(super) fn remove(&mut self, cookie: u64) -> bool {
        match self {
            Self::One([one]) => *one != cookie,
            Self::More(more) => {
                more.retain(|known| *known != cookie);
                !more.is_empty()
            }
        }
    }
}
