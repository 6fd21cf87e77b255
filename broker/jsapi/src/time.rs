//! Moments as the API prints them: RFC 3339 in UTC with up to nine fractional digits, trailing zeros cut, as Go does.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const NANOS_PER_SECOND: i64 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// A moment in nanoseconds since 1970, or Go's zero time (`0001-01-01T00:00:00Z`), which means "never".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

impl Time {
    /// Go's zero time.
    pub const ZERO: Self = Self(i64::MIN);

    pub const fn from_unix_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since 1970; `None` for the zero time.
    pub const fn unix_nanos(self) -> Option<i64> {
        if self.is_zero() { None } else { Some(self.0) }
    }

    pub const fn is_zero(self) -> bool {
        self.0 == i64::MIN
    }

    /// Reads RFC 3339 with any offset. The error says what Go's parser would.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse_rfc3339(text).ok_or_else(|| parse_error(text))
    }
}

/// What Go says of a text that is no time: the first part of the layout that it does not follow.
fn parse_error(text: &str) -> String {
    const LAYOUT: &str = "2006-01-02T15:04:05Z07:00";
    let parts = ["2006", "-", "01", "-", "02", "T", "15", ":", "04", ":", "05"];
    let mut rest = text;
    for part in parts {
        let fits = if part.starts_with(|first: char| first.is_ascii_digit()) {
            rest.get(..part.len()).is_some_and(|found| found.bytes().all(|byte| byte.is_ascii_digit()))
        } else {
            rest.starts_with(part)
        };
        if !fits {
            return format!("parsing time {text:?} as {LAYOUT:?}: cannot parse {rest:?} as {part:?}");
        }
        rest = &rest[part.len()..];
    }
    let fraction =
        rest.strip_prefix('.').map(|digits| digits.trim_start_matches(|digit: char| digit.is_ascii_digit()));
    let zone = fraction.unwrap_or(rest);
    if zone == "Z" || zone.starts_with(['+', '-']) {
        return format!("parsing time {text:?}: {} out of range", out_of_range(text));
    }
    format!("parsing time {text:?} as {LAYOUT:?}: cannot parse {zone:?} as \"Z07:00\"")
}

/// Which part of a text in the form of a time is too large; days of a month where nothing else is.
fn out_of_range(text: &str) -> &'static str {
    let number =
        |from: usize| text.get(from..from + 2).and_then(|digits| digits.parse::<u32>().ok()).unwrap_or(0);
    match (number(5), number(11), number(14), number(17)) {
        (0 | 13.., ..) => "month",
        (_, 24.., ..) => "hour",
        (_, _, 60.., _) => "minute",
        (.., 60..) => "second",
        _ => "day",
    }
}

impl Default for Time {
    fn default() -> Self {
        Self::ZERO
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("0001-01-01T00:00:00Z");
        }
        let seconds = self.0.div_euclid(NANOS_PER_SECOND);
        let nanos = self.0.rem_euclid(NANOS_PER_SECOND);
        let (year, month, day) = civil_from_days(seconds.div_euclid(SECONDS_PER_DAY));
        let of_day = seconds.rem_euclid(SECONDS_PER_DAY);
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if nanos > 0 {
            let digits = format!("{nanos:09}");
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

/// Days since 1970 to (year, month, day), after Howard Hinnant's `civil_from_days`.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_index = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_index + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn digits(text: &str, range: std::ops::Range<usize>) -> Option<i64> {
    let part = text.get(range)?;
    if part.bytes().all(|byte| byte.is_ascii_digit()) { part.parse().ok() } else { None }
}

fn parse_rfc3339(text: &str) -> Option<Time> {
    let bytes = text.as_bytes();
    let (year, month, day) = (digits(text, 0..4)?, digits(text, 5..7)?, digits(text, 8..10)?);
    let (hour, minute, second) = (digits(text, 11..13)?, digits(text, 14..16)?, digits(text, 17..19)?);
    let separators =
        bytes[4] == b'-' && bytes[7] == b'-' && bytes[10] == b'T' && bytes[13] == b':' && bytes[16] == b':';
    let month_days =
        [31, if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) { 29 } else { 28 }, 31, 30, 31, 30];
    let month_days = month_days.into_iter().chain([31, 31, 30, 31, 30, 31]);
    let in_range = (1..=12).contains(&month) && hour < 24 && minute < 60 && second < 60;
    if !separators
        || !in_range
        || day < 1
        || day > month_days.into_iter().nth(usize::try_from(month - 1).ok()?)?
    {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let kept = &fraction[..length.min(9)];
        nanos = format!("{kept:0<9}").parse().ok()?;
        rest = if length == 0 { return None } else { &fraction[length..] };
    }
    let offset_seconds = match rest.as_bytes() {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), ..] if rest.len() == 6 && rest.as_bytes()[3] == b':' => {
            let seconds = digits(rest, 1..3)? * 3600 + digits(rest, 4..6)? * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    let days = days_from_civil(year, month, day);
    let seconds = days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second - offset_seconds;
    if year == 1 && month == 1 && day == 1 {
        return Some(Time::ZERO);
    }
    seconds.checked_mul(NANOS_PER_SECOND)?.checked_add(nanos).map(Time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_reads_as_go_does() {
        for text in ["2026-11-21T09:24:41.121386123Z", "1970-01-01T00:00:00Z", "2024-02-29T23:59:59.5Z"] {
            assert_eq!(Time::parse(text).expect(text).to_string(), text);
        }
        assert_eq!(Time::ZERO.to_string(), "0001-01-01T00:00:00Z");
        assert_eq!(Time::parse("0001-01-01T00:00:00Z"), Ok(Time::ZERO));
        assert_eq!(Time::parse("1970-01-01T01:00:00+01:00"), Ok(Time::from_unix_nanos(0)));
    }

    #[test]
    fn bad_texts_are_refused() {
        for text in [
            "",
            "x",
            "2026-13-01T00:00:00Z",
            "2026-02-30T00:00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00.Z",
        ] {
            assert!(Time::parse(text).is_err(), "{text}");
        }
    }
}
