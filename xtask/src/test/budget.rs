//! [`Budget`]: the time that a whole run may take, and what is left of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// All of it: whoever runs it ends what takes 90 minutes.
const WHOLE: Duration = Duration::from_secs(84 * 60);
/// What is kept for the end-to-end tests, which begin when the builds are over. On two cores a
/// whole run, gates and tests, took 31 minutes where nothing had to be built. The builds are 1833
/// seconds of one core (`tests/src/part.rs`), so that they end half an hour after the beginning.
const TESTS: Duration = Duration::from_secs(40 * 60);
/// What every test program is given at least: one that would have less is not begun.
const LEAST: Duration = Duration::from_secs(120);
/// What is kept for what comes after the last test.
const REST: Duration = Duration::from_secs(60);

/// When a run has to be over.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    end: SystemTime,
}

impl Budget {
    /// Of a run that began so many seconds after 1970; `None`: it begins now.
    #[must_use]
    pub fn since(began: Option<u64>) -> Self {
        let began = began.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
        Self { end: began.unwrap_or_else(SystemTime::now) + WHOLE }
    }

    /// How long what tests are made of may still be built.
    #[must_use]
    pub fn for_builds(&self) -> Duration {
        self.left().saturating_sub(TESTS)
    }

    /// How long a test program may take that took `usual` before, and the reason where there
    /// is not enough left to begin it.
    pub fn for_program(&self, usual: Duration) -> Result<Duration, String> {
        let left = self.left().saturating_sub(REST);
        // Machines are not alike.
        let needed = (usual * 3 / 2).max(LEAST);
        if left < needed {
            let [left, needed, whole] = [left, needed, WHOLE].map(|time| time.as_secs());
            return Err(format!(
                "not begun: it is given {needed} s, and {left} s were left of the run's {whole} s"
            ));
        }
        Ok(left)
    }

    fn left(&self) -> Duration {
        self.end.duration_since(SystemTime::now()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ago(minutes: u64) -> Budget {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        Budget::since(Some(now - minutes * 60))
    }

    #[test]
    fn builds_end_before_the_tests_begin() {
        assert!(ago(0).for_builds() > Duration::from_secs(30 * 60));
        assert_eq!(ago(45).for_builds(), Duration::ZERO);
        assert_eq!(ago(200).for_builds(), Duration::ZERO);
    }

    #[test]
    fn nothing_is_begun_that_would_not_end() {
        let usual = Duration::from_secs(300);
        let minutes = |left: Duration| left.as_secs() / 60;
        assert_eq!(ago(35).for_program(usual).map(minutes), Ok(47));
        assert_eq!(ago(79).for_program(Duration::ZERO).map(minutes), Ok(3));
        let reason = ago(79).for_program(usual).expect_err("seven minutes are not left");
        assert!(reason.starts_with("not begun: it is given 450 s, and 2"), "{reason}");
        ago(82).for_program(Duration::ZERO).expect_err("two minutes are not left");
    }
}
