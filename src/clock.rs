//! Wall time. Intervals are measured with tokio's `Instant` instead.

use std::fmt;
use std::time::{Duration, SystemTime};

/// A moment, in milliseconds since 1970 (UTC).
///
/// Formats with whole seconds (HTTP dates, modification times on the volumes, records of version 1) round down:
/// [`Timestamp::seconds`].
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

const MILLIS_PER_SECOND: u64 = 1000;

/// The last millisecond of the year 9999, the latest time that HTTP dates and RFC 3339 can express.
const LAST_WRITABLE: u64 = 253_402_300_799_999;

impl Timestamp {
    /// The current time, rounded up to the next millisecond, so that a value stored now is never older than the
    /// file that it was read from.
    #[must_use]
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// From milliseconds since the beginning of 1970.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// The first millisecond of a second, given in seconds since the beginning of 1970.
    #[must_use]
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(MILLIS_PER_SECOND))
    }

    /// The last millisecond of a second, given in seconds since the beginning of 1970.
    #[must_use]
    pub const fn end_of_second(seconds: u64) -> Self {
        Self(seconds.saturating_mul(MILLIS_PER_SECOND).saturating_add(MILLIS_PER_SECOND - 1))
    }

    /// Milliseconds since the beginning of 1970.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// Seconds since the beginning of 1970, rounded down.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        self.0 / MILLIS_PER_SECOND
    }

    /// The moment `time` before this one, but not before the beginning of 1970.
    #[must_use]
    pub fn saturating_sub(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
    }

    /// As a `SystemTime`; moments after the year 9999 become the last one of that year.
    #[must_use]
    pub fn system_time(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.0.min(LAST_WRITABLE))
    }
}

/// Rounds up to the next millisecond; moments before 1970 become its beginning.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
    }
}

/// RFC 3339, as in XML and log lines: `2026-11-30T13:25:25.123Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_millis(self.system_time()).fmt(f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(since: Duration) -> SystemTime {
        SystemTime::UNIX_EPOCH + since
    }

    #[test]
    fn times_are_rounded_up_to_the_next_millisecond() {
        for (nanos, millis) in [(0, 0), (1, 1), (999_999, 1), (1_000_000, 1), (1_000_001, 2)] {
            assert_eq!(Timestamp::from(after(Duration::from_nanos(nanos))).millis(), millis);
        }
        assert_eq!(Timestamp::from(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), Timestamp::default());
        let before = SystemTime::now();
        let now = Timestamp::now();
        assert!(now.system_time() >= before, "{now} {before:?}");
    }

    #[test]
    fn seconds_are_rounded_down() {
        assert_eq!(Timestamp::from_millis(1999).seconds(), 1);
        assert_eq!(Timestamp::from_seconds(2), Timestamp::from_millis(2000));
        assert_eq!(Timestamp::end_of_second(2), Timestamp::from_millis(2999));
        assert_eq!(Timestamp::end_of_second(u64::MAX).millis(), u64::MAX);
    }

    #[test]
    fn a_difference_is_never_before_1970() {
        let second = Duration::from_secs(1);
        assert_eq!(Timestamp::from_millis(1234).saturating_sub(second).millis(), 234);
        assert_eq!(Timestamp::from_millis(999).saturating_sub(second), Timestamp::default());
        assert_eq!(Timestamp::from_millis(u64::MAX).saturating_sub(Duration::MAX), Timestamp::default());
    }

    #[test]
    fn every_time_can_be_written() {
        assert_eq!(Timestamp::from_millis(1_796_045_125_123).to_string(), "2026-11-30T13:25:25.123Z");
        assert_eq!(Timestamp::default().to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp::from_millis(u64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
    }
}
