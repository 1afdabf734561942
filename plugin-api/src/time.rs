//! Points in time as they are stored and compared.

use std::{fmt, time::Duration};

use abi_stable::StableAbi;
use jiff::{SignedDuration, civil::DateTime, fmt::temporal::Pieces};
use serde::{Deserialize, Serialize};

/// A point in time: microseconds since 1970-01-01T00:00:00Z, without leap seconds.
///
/// Microseconds because that is the precision of the Python records Warren shares a store with.
#[repr(transparent)]
#[derive(
    StableAbi, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The latest time that can be expressed; used for "practically never".
    pub const MAX: Self = Self(i64::MAX);
    /// The earliest time that can be expressed.
    pub const MIN: Self = Self(i64::MIN);

    /// From microseconds since the Unix epoch.
    pub const fn from_unix_us(unix_us: i64) -> Self {
        Self(unix_us)
    }

    /// Microseconds since the Unix epoch.
    pub const fn unix_us(self) -> i64 {
        self.0
    }

    /// The system clock's time now.
    pub fn now() -> Self {
        let since_epoch = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Self(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
    }

    /// This time plus `duration`; [`Timestamp::MAX`] where that overflows.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)),
        )
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or_default())
    }

    /// Reads an RFC 3339 time with an offset; digits beyond microseconds are cut off.
    ///
    /// # Errors
    /// Text that is not such a time, or lies outside the years -9999 to 9999.
    pub fn parse_rfc3339(text: &str) -> Result<Self, TimestampError> {
        let pieces = Pieces::parse(text).map_err(|_| TimestampError)?;
        let time = pieces.time().ok_or(TimestampError)?;
        let offset = pieces.to_numeric_offset().ok_or(TimestampError)?;
        let since_epoch = pieces.date().to_datetime(time).duration_since(UNIX_EPOCH)
            - SignedDuration::from_secs(offset.seconds().into());
        i64::try_from(since_epoch.as_nanos().div_euclid(1_000))
            .map(Self)
            .map_err(|_| TimestampError)
    }
}

/// jiff's own `Timestamp` ends a day before the year 9999 does, its `DateTime` with it.
const UNIX_EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// Text that is not an RFC 3339 time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a time in RFC 3339 form, such as 2026-01-31T12:00:00Z")]
pub struct TimestampError;

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, as `2026-01-31T12:00:00.000001+00:00`, the fraction left out when zero.
    /// A time outside the years -9999 to 9999 is shown as its number of microseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(date_time) = UNIX_EPOCH.checked_add(SignedDuration::from_micros(self.0)) else {
            return write!(f, "{}us", self.0);
        };
        let (date, clock) = (date_time.date(), date_time.time());
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            date.year(),
            date.month(),
            date.day(),
            clock.hour(),
            clock.minute(),
            clock.second()
        )?;
        let micros = clock.subsec_nanosecond() / 1_000;
        if micros != 0 {
            write!(f, ".{micros:06}")?;
        }
        f.write_str("+00:00")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_python_writes() {
        let with_fraction = Timestamp::parse_rfc3339("2026-11-24T00:32:30.524654Z").unwrap();
        assert_eq!(
            with_fraction.to_string(),
            "2026-11-24T00:32:30.524654+00:00"
        );
        let whole = Timestamp::parse_rfc3339("2019-12-31T17:00:00+01:00").unwrap();
        assert_eq!(whole.to_string(), "2019-12-31T16:00:00+00:00");
    }

    #[test]
    fn the_first_and_the_last_microsecond_of_python_s_years_are_written_and_read() {
        for text in [
            "0001-01-01T00:00:00+00:00",
            "9999-12-31T23:59:59.999999+00:00",
        ] {
            let time = Timestamp::parse_rfc3339(text).unwrap();
            assert_eq!(time.to_string(), text);
        }
    }

    #[test]
    fn extremes_neither_panic_nor_wrap() {
        for time in [Timestamp::MIN, Timestamp::MAX] {
            assert!(!time.to_string().is_empty());
        }
        assert_eq!(Timestamp::MAX.saturating_add(Duration::MAX), Timestamp::MAX);
        assert_eq!(
            Timestamp::MIN.saturating_duration_since(Timestamp::MAX),
            Duration::ZERO
        );
    }

    #[test]
    fn garbage_is_an_error() {
        for text in ["", "now", "2026-13-01T00:00:00Z", "2026-01-01T00:00:00"] {
            assert_eq!(
                Timestamp::parse_rfc3339(text),
                Err(TimestampError),
                "{text}"
            );
        }
    }
}
