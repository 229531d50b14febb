//! [`Clock`]: monotonic time of the records to wall-clock time of what leaves the
//! process; it converts, and only [`SharedClock::resample`] reads a clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// The offset between the kernel's monotonic clock and Unix time at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Unix time minus monotonic time, nanoseconds.
    pub unix_minus_monotonic: i64,
}

impl Clock {
    /// Nanoseconds since 1970 of a monotonic time in nanoseconds.
    #[must_use]
    pub fn unix_ns(self, monotonic_ns: u64) -> u64 {
        monotonic_ns.saturating_add_signed(self.unix_minus_monotonic)
    }

    /// The same as a [`SystemTime`].
    #[must_use]
    pub fn system_time(self, monotonic_ns: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.unix_ns(monotonic_ns))
    }

    /// Reads both clocks now.
    #[must_use]
    pub fn sample() -> Self {
        Self::measure().0
    }

    /// The clock, and by how many nanoseconds it may be wrong: the time that passed while
    /// both were read.
    fn measure() -> (Self, u64) {
        let before = nanoseconds(ClockId::Monotonic);
        let unix = nanoseconds(ClockId::Realtime);
        let within = nanoseconds(ClockId::Monotonic).saturating_sub(before);
        (Self { unix_minus_monotonic: unix.saturating_sub(before) }, within.unsigned_abs())
    }
}

/// `CLOCK_MONOTONIC`, nanoseconds.
#[must_use]
pub fn monotonic_now_ns() -> u64 {
    nanoseconds(ClockId::Monotonic).unsigned_abs()
}

fn nanoseconds(clock: ClockId) -> i64 {
    let now = clock_gettime(clock);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}

/// A [`Clock`] that follows adjustments of the wall clock: read often, resampled rarely.
#[derive(Clone, Debug)]
pub struct SharedClock(Arc<AtomicI64>);

impl SharedClock {
    /// Starts from `clock`.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self(Arc::new(AtomicI64::new(clock.unix_minus_monotonic)))
    }

    /// The offset of the last sample. Convert both ends of an interval with one `Clock`,
    /// or an adjustment between them bends its length.
    #[must_use]
    pub fn get(&self) -> Clock {
        Clock { unix_minus_monotonic: self.0.load(Ordering::Relaxed) }
    }

    /// Reads the clocks again. The offset stays what it was where the new one differs by no
    /// more than it may be wrong: one call has one time in all that leaves.
    pub fn resample(&self) {
        let (now, error) = Clock::measure();
        if now.unix_minus_monotonic.abs_diff(self.get().unix_minus_monotonic) > error {
            self.0.store(now.unix_minus_monotonic, Ordering::Relaxed);
        }
    }
}

/// `2026-01-31T08:09:10.000123Z`: UTC, microseconds.
#[must_use]
pub fn rfc3339(unix_ns: u64) -> String {
    let seconds = unix_ns / 1_000_000_000;
    let micros = unix_ns % 1_000_000_000 / 1_000;
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// Year, month and day of a count of days since 1970, in the Gregorian calendar: years
/// begin in March, so that the leap day is a year's last.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offset_applies_both_ways_and_never_wraps() {
        assert_eq!(Clock { unix_minus_monotonic: 50 }.unix_ns(7), 57);
        assert_eq!(Clock { unix_minus_monotonic: -5 }.unix_ns(7), 2);
        assert_eq!(Clock { unix_minus_monotonic: -50 }.unix_ns(7), 0);
        assert_eq!(Clock { unix_minus_monotonic: 1 }.unix_ns(u64::MAX), u64::MAX);
    }

    #[test]
    fn a_sample_lands_on_now() {
        let now = Clock::sample().system_time(nanoseconds(ClockId::Monotonic).unsigned_abs());
        let distance = SystemTime::now().duration_since(now).unwrap_or_default();
        assert!(distance < Duration::from_secs(5), "{distance:?}");
    }

    #[test]
    fn only_an_adjustment_moves_the_offset() {
        let clock = Clock::sample();
        let shared = SharedClock::new(clock);
        shared.resample();
        let kept = shared.get().unix_minus_monotonic.abs_diff(clock.unix_minus_monotonic);
        assert!(kept < 5_000_000, "{kept}");
        let stepped = clock.unix_minus_monotonic - 3_600_000_000_000;
        let shared = SharedClock::new(Clock { unix_minus_monotonic: stepped });
        shared.resample();
        assert!(shared.get().unix_minus_monotonic > stepped + 3_599_000_000_000);
    }

    #[test]
    fn dates_including_leap_days_and_centuries() {
        let date = |seconds: u64| rfc3339(seconds * 1_000_000_000);
        assert_eq!(date(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(date(951_782_400), "2000-02-29T00:00:00.000000Z");
        assert_eq!(date(951_868_799), "2000-02-29T23:59:59.000000Z");
        assert_eq!(date(1_709_251_199), "2024-02-29T23:59:59.000000Z");
        assert_eq!(date(4_107_542_400), "2100-03-01T00:00:00.000000Z");
        assert_eq!(rfc3339(1_700_000_000_123_456_789), "2023-11-14T22:13:20.123456Z");
    }
}
