//! Instants as nanoseconds since the Unix epoch, and the RFC 3339 text Go's `time.Time` has in JSON
//! (`2026-11-21T09:24:41.121386123Z`, trailing zeros of the fraction left out).
//! Not a calendar and not a clock: the current time comes in from outside.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What Go prints for a time that was never set.
pub const GO_ZERO_TIME: &str = "0001-01-01T00:00:00Z";

const NANOS_PER_SECOND: u64 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// Nanoseconds since 1970-01-01T00:00:00Z. Covers the years 1970 to 2554.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixNanos(pub u64);

impl UnixNanos {
    /// The epoch itself; also used for "not set".
    pub const ZERO: Self = Self(0);
    /// The last instant that can be held.
    pub const MAX: Self = Self(u64::MAX);

    /// From a system time; times before the epoch become the epoch.
    #[must_use]
    pub fn from_system_time(time: SystemTime) -> Self {
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX))
    }

    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(NANOS_PER_SECOND))
    }

    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time that passed since `earlier`; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This instant plus `duration`, stopping at the last instant that can be held.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// This instant minus `duration`, stopping at the epoch.
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// RFC 3339 text in UTC, as Go's JSON has it.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        self.to_string()
    }
}

impl fmt::Display for UnixNanos {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / NANOS_PER_SECOND;
        let nanos = self.0 % NANOS_PER_SECOND;
        let days = i64::try_from(seconds).unwrap_or(i64::MAX) / SECONDS_PER_DAY;
        let second_of_day = seconds % SECONDS_PER_DAY.unsigned_abs();
        let (year, month, day) = civil_from_days(days);
        write!(
            formatter,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
            second_of_day / 3600,
            second_of_day / 60 % 60,
            second_of_day % 60
        )?;
        if nanos != 0 {
            let fraction = format!("{nanos:09}");
            write!(formatter, ".{}", fraction.trim_end_matches('0'))?;
        }
        formatter.write_str("Z")
    }
}

/// Why a text is not a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeError {
    text: String,
    reason: &'static str,
}

impl fmt::Display for TimeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "invalid time {:?}: {}", self.text, self.reason)
    }
}

impl std::error::Error for TimeError {}

impl FromStr for UnixNanos {
    type Err = TimeError;

    /// Reads RFC 3339 with any offset. Go's zero time and everything else before 1970 become the epoch.
    fn from_str(text: &str) -> Result<Self, TimeError> {
        parse_rfc3339(text).map_err(|reason| TimeError { text: text.chars().take(64).collect(), reason })
    }
}

fn parse_rfc3339(text: &str) -> Result<UnixNanos, &'static str> {
    let bytes = text.as_bytes();
    if bytes.len() < 20 || !text.is_ascii() {
        return Err("want YYYY-MM-DDTHH:MM:SS[.fraction](Z|+HH:MM)");
    }
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if separators.iter().any(|&(at, want)| bytes[at] != want) || !matches!(bytes[10], b'T' | b't' | b' ') {
        return Err("want YYYY-MM-DDTHH:MM:SS[.fraction](Z|+HH:MM)");
    }
    let (year, month, day) = (number(bytes, 0, 4)?, number(bytes, 5, 2)?, number(bytes, 8, 2)?);
    let (hour, minute, second) = (number(bytes, 11, 2)?, number(bytes, 14, 2)?, number(bytes, 17, 2)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return Err("no such day");
    }
    if hour > 23 || minute > 59 || second > 59 {
        return Err("no such time of day");
    }
    let (nanos, rest) = fraction(&bytes[19..])?;
    let offset_seconds = offset(rest)?;
    let seconds = days_from_civil(year, month, day) * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second
        - offset_seconds;
    let Ok(seconds) = u64::try_from(seconds) else { return Ok(UnixNanos::ZERO) };
    seconds
        .checked_mul(NANOS_PER_SECOND)
        .and_then(|total| total.checked_add(nanos))
        .map(UnixNanos)
        .ok_or("later than the year 2554")
}

fn number(bytes: &[u8], from: usize, digits: usize) -> Result<i64, &'static str> {
    bytes[from..from + digits].iter().try_fold(0, |value, byte| match byte {
        b'0'..=b'9' => Ok(value * 10 + i64::from(byte - b'0')),
        _ => Err("a digit is missing"),
    })
}

/// Reads `.digits` if there; digits past the ninth are dropped, as Go does.
fn fraction(bytes: &[u8]) -> Result<(u64, &[u8]), &'static str> {
    if !matches!(bytes.first(), Some(b'.' | b',')) {
        return Ok((0, bytes));
    }
    let digits = bytes[1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return Err("the fraction has no digits");
    }
    let mut nanos = 0;
    for position in 0..9 {
        let digit = if position < digits { u64::from(bytes[1 + position] - b'0') } else { 0 };
        nanos = nanos * 10 + digit;
    }
    Ok((nanos, &bytes[1 + digits..]))
}

fn offset(bytes: &[u8]) -> Result<i64, &'static str> {
    match bytes {
        [b'Z' | b'z'] => Ok(0),
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (number(bytes, 1, 2)?, number(bytes, 4, 2)?);
            if hours > 23 || minutes > 59 {
                return Err("no such offset");
            }
            let seconds = hours * 3600 + minutes * 60;
            Ok(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => Err("the offset must be Z or +HH:MM"),
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if (year % 4 == 0 && year % 100 != 0) || year % 400 == 0 => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since the epoch of a day in the Gregorian calendar. Years begin in March here, so that the leap day
/// is the last of its year.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of `days_from_civil`.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_what_go_prints() {
        let known = [
            (0, "1970-01-01T00:00:00Z"),
            (1_795_253_081_121_386_123, "2026-11-21T09:24:41.121386123Z"),
            (1_795_253_081_120_000_000, "2026-11-21T09:24:41.12Z"),
            (951_782_400_000_000_001, "2000-02-29T00:00:00.000000001Z"),
            (u64::MAX, "2554-07-21T23:34:33.709551615Z"),
        ];
        for (nanos, text) in known {
            assert_eq!(UnixNanos(nanos).to_string(), text);
            assert_eq!(text.parse(), Ok(UnixNanos(nanos)));
        }
    }

    #[test]
    fn every_day_for_a_century_reads_back() {
        for day in 0..40_000 {
            let nanos = UnixNanos(day * 86_400 * NANOS_PER_SECOND + 7);
            assert_eq!(nanos.to_string().parse(), Ok(nanos));
        }
    }

    #[test]
    fn offsets_are_applied() {
        let text = "2026-11-21T11:24:41.5+02:00";
        assert_eq!(text.parse::<UnixNanos>().unwrap().to_string(), "2026-11-21T09:24:41.5Z");
        assert_eq!("1969-12-31T23:00:00-01:30".parse(), Ok(UnixNanos::from_secs(1800)));
    }

    #[test]
    fn times_before_the_epoch_become_the_epoch() {
        assert_eq!(GO_ZERO_TIME.parse(), Ok(UnixNanos::ZERO));
    }

    #[test]
    fn malformed_texts_are_refused_by_name() {
        for text in [
            "",
            "yesterday",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+2:00",
            "9999-01-01T00:00:00Z",
            "2026-01-01T00:00:0é0Z",
        ] {
            let error = text.parse::<UnixNanos>().unwrap_err();
            assert!(error.to_string().starts_with("invalid time"), "{text}");
        }
    }
}
