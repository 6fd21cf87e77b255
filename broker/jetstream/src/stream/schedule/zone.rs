//! Time zones by their names in the time zone database, which is part of the program, and the reckoning of Go's `time`
//! around clock changes. Not a calendar for anything else.

use jiff::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;

/// Minutes and the like of a moment as the zone's clocks show them; a weekday of 0 is Sunday.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Local {
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
    pub(super) hour: i64,
    pub(super) minute: i64,
    pub(super) second: i64,
    pub(super) weekday: i64,
}

#[derive(Debug, Clone)]
pub(super) struct Zone(TimeZone);

impl Zone {
    pub(super) const UTC: Self = Self(TimeZone::UTC);

    /// Names are compared exactly; `Local` is UTC, since servers must agree.
    pub(super) fn named(name: &str) -> Option<Self> {
        if name == "UTC" || name == "Local" {
            return Some(Self::UTC);
        }
        let zone = jiff::tz::db().get(name).ok()?;
        (zone.iana_name() == Some(name)).then_some(Self(zone))
    }

    fn offset(&self, seconds: i64) -> i64 {
        let Ok(at) = Timestamp::from_second(seconds) else { return 0 };
        i64::from(self.0.to_offset(at).seconds())
    }

    pub(super) fn local(&self, seconds: i64) -> Local {
        let shown = Timestamp::from_second(seconds + self.offset(seconds)).unwrap_or(Timestamp::MAX);
        let shown = TimeZone::UTC.to_datetime(shown);
        Local {
            year: i64::from(shown.year()),
            month: i64::from(shown.month()),
            day: i64::from(shown.day()),
            hour: i64::from(shown.hour()),
            minute: i64::from(shown.minute()),
            second: i64::from(shown.second()),
            weekday: match shown.weekday() {
                Weekday::Sunday => 0,
                other => i64::from(other.to_monday_one_offset()),
            },
        }
    }

    /// The moment at which the clocks show this; a month of 13 is the next year's first, a day beyond its month's last
    /// is in the next. Where the clocks were moved, the one of two moments that Go's `time.Date` gives.
    pub(super) fn seconds_at(&self, year: i64, month: i64, day: i64, clock: [i64; 3]) -> i64 {
        let [hour, minute, second] = clock;
        let shown = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
        let offset = self.offset(shown);
        if offset == 0 { shown } else { shown - self.offset(shown - offset) }
    }

    /// RFC 3339 with the zone's offset, and as many digits of the fraction as are needed.
    pub(super) fn rfc3339(&self, seconds: i64, nanos: u32) -> String {
        let now = self.local(seconds);
        let mut text = format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            now.year, now.month, now.day, now.hour, now.minute, now.second
        );
        if nanos > 0 {
            let digits = format!("{nanos:09}");
            text.push('.');
            text.push_str(digits.trim_end_matches('0'));
        }
        match self.offset(seconds) / 60 {
            0 => text.push('Z'),
            offset => {
                let sign = if offset < 0 { '-' } else { '+' };
                let minutes = offset.abs();
                text.push_str(&format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60));
            }
        }
        text
    }
}

/// Days since 1970 (after Howard Hinnant's `days_from_civil`).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = (year + (month - 1).div_euclid(12), (month - 1).rem_euclid(12) + 1);
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact() {
        assert!(Zone::named("Europe/Berlin").is_some());
        for name in ["europe/berlin", "Mars/Base", "", "../UTC", "/etc/localtime"] {
            assert!(Zone::named(name).is_none(), "{name}");
        }
    }

    #[test]
    fn clocks_and_moments_agree() {
        let zone = Zone::named("Europe/Berlin").expect("known");
        let noon = zone.seconds_at(2026, 7, 1, [12, 0, 0]);
        assert_eq!(zone.rfc3339(noon, 500_000_000), "2026-07-01T12:00:00.5+02:00");
        assert_eq!(zone.seconds_at(2025, 13, 1, [0, 0, 0]), zone.seconds_at(2026, 1, 1, [0, 0, 0]));
        assert_eq!(
            Zone::UTC.rfc3339(Zone::UTC.seconds_at(2026, 2, 29, [1, 2, 3]), 0),
            "2026-03-01T01:02:03Z"
        );
    }
}
