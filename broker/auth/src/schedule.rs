//! Times of day at which users may be connected. Not the clock.

use crate::jwt::TimeRange;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// Reads `15:04:05`.
pub fn parse_time_of_day(text: &str) -> Option<Time> {
    let mut parts = text.split(':');
    let mut next = |most: i8, digits: std::ops::RangeInclusive<usize>| {
        let part = parts.next().filter(|part| digits.contains(&part.len()))?;
        let is_number = part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<i8>().ok().filter(|number| is_number && *number <= most)
    };
    // Go takes an hour of one digit.
    let (hour, minute, second) = (next(23, 1..=2)?, next(59, 2..=2)?, next(59, 2..=2)?);
    if parts.next().is_some() {
        return None;
    }
    Time::new(hour, minute, second, 0).ok()
}

/// Whether that is the name of a time zone.
pub fn is_zone(name: &str) -> bool {
    zone(name).is_some()
}

fn zone(name: &str) -> Option<TimeZone> {
    match name {
        "" | "Local" => Some(TimeZone::system()),
        name => TimeZone::get(name).ok(),
    }
}

/// Until when, in nanoseconds since 1970, somebody with these `ranges` may stay who comes at `now`; without ranges
/// for ever (`Some(None)`), outside of them not at all (`None`). `location` empty stands for the machine's zone.
pub fn allowed_until(ranges: &[TimeRange], location: &str, now: i128) -> Option<Option<i128>> {
    if ranges.is_empty() {
        return Some(None);
    }
    let zone = zone(location)?;
    let moment = Timestamp::from_nanosecond(now).ok()?;
    let today = moment.to_zoned(zone.clone()).date();
    let mut latest: Option<i128> = None;
    for range in ranges {
        // One range that cannot be read forbids all.
        let (start, end) = (parse_time_of_day(&range.start)?, parse_time_of_day(&range.end)?);
        let at = |date: Date, time: Time| {
            date.to_datetime(time).to_zoned(zone.clone()).ok().map(|zoned| zoned.timestamp())
        };
        let (starts, ends) = (at(today, start)?, at(today, end)?);
        let until = if starts < moment && ends > moment {
            Some(ends)
        } else if starts > ends {
            // Midnight lies in between: now is after it, or before it.
            let tomorrow = today.checked_add(1.day()).ok()?;
            let next_end = at(tomorrow, end)?;
            if ends > moment {
                Some(ends)
            } else {
                (starts < moment && next_end > moment).then_some(next_end)
            }
        } else {
            None
        };
        latest = latest.max(until.map(Timestamp::as_nanosecond));
    }
    latest.map(Some)
}

/// Whole seconds of nanoseconds since 1970.
pub fn seconds(nanos: i128) -> i64 {
    i64::try_from(nanos / NANOS_PER_SECOND).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &str, end: &str) -> TimeRange {
        TimeRange { start: start.into(), end: end.into() }
    }

    fn at(text: &str) -> i128 {
        text.parse::<Timestamp>().expect("a time").as_nanosecond()
    }

    #[test]
    fn times_of_day_are_read_as_go_reads_them() {
        for good in ["00:00:00", "23:59:59", "9:05:00"] {
            assert!(parse_time_of_day(good).is_some(), "{good}");
        }
        for bad in ["", "24:00:00", "10:60:00", "10:00", "10:00:00:00", "a:00:00", "10:0:00", "+1:00:00"] {
            assert!(parse_time_of_day(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_range_ends_at_its_end() {
        let day = [range("11:00:00", "22:00:00")];
        let until = |now: &str| allowed_until(&day, "UTC", at(now));
        assert_eq!(until("2024-05-01T13:00:00Z"), Some(Some(at("2024-05-01T22:00:00Z"))));
        assert_eq!(until("2024-05-01T10:59:59Z"), None);
        assert_eq!(until("2024-05-01T22:00:00Z"), None);
    }

    #[test]
    fn a_range_may_cross_midnight() {
        let night = [range("22:00:00", "06:00:00")];
        let until = |now: &str| allowed_until(&night, "UTC", at(now));
        assert_eq!(until("2024-05-01T05:00:00Z"), Some(Some(at("2024-05-01T06:00:00Z"))));
        assert_eq!(until("2024-05-01T23:30:00Z"), Some(Some(at("2024-05-02T06:00:00Z"))));
        assert_eq!(until("2024-05-01T12:00:00Z"), None);
    }

    #[test]
    fn the_longest_range_counts_and_zones_are_known() {
        let both = [range("10:00:00", "12:00:00"), range("09:00:00", "17:00:00")];
        let until = allowed_until(&both, "America/New_York", at("2024-07-01T15:00:00Z"));
        assert_eq!(until, Some(Some(at("2024-07-01T21:00:00Z"))));
        assert_eq!(allowed_until(&both, "Nowhere/Else", 0), None);
        assert_eq!(allowed_until(&[], "", 0), Some(None));
        assert!(is_zone("Europe/Berlin") && !is_zone("Europe/Nowhere"));
    }
}
