//! Six-field cron patterns (second, minute, hour, day of month, month, day of week), as nats-server 2.15 reads them, and
//! the next moment of one in a time zone. Not the other forms of a schedule.

use weir_stdx::time::UnixNanos;

use super::zone::{Local, Zone};

/// A pattern that matches nothing for so long is refused.
const YEARS_MAX: i64 = 5;
/// Set where a field was given as `*` or `?`.
const STAR: u64 = 1 << 63;

/// Lowest and highest value of a field, and the names some have.
struct Field {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const SECONDS: Field = Field { min: 0, max: 59, names: &[] };
const MINUTES: Field = SECONDS;
const HOURS: Field = Field { min: 0, max: 23, names: &[] };
const DAYS: Field = Field { min: 1, max: 31, names: &[] };
const MONTHS: Field = Field {
    min: 1,
    max: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAYS: Field = Field { min: 0, max: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/// The values of each field, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cron {
    second: u64,
    minute: u64,
    hour: u64,
    day: u64,
    month: u64,
    weekday: u64,
}

impl Cron {
    pub(super) fn parse(pattern: &str) -> Option<Self> {
        let mut fields = pattern.split_whitespace();
        let mut next = |field: &Field| field.parse(fields.next()?);
        let cron = Self {
            second: next(&SECONDS)?,
            minute: next(&MINUTES)?,
            hour: next(&HOURS)?,
            day: next(&DAYS)?,
            month: next(&MONTHS)?,
            weekday: next(&WEEKDAYS)?,
        };
        fields.next().is_none().then_some(cron)
    }

    /// The first moment after `after`, on a whole second; `None` when there is none within five years.
    pub(super) fn next(&self, after: UnixNanos, zone: &Zone) -> Option<i64> {
        let start = i64::try_from(after.0 / 1_000_000_000).ok()? + 1;
        let last_year = zone.local(start).year + YEARS_MAX;
        let mut at = start;
        // The first field that is moved on sets all below it to their lowest.
        let mut moved = false;
        loop {
            let now = zone.local(at);
            if now.year > last_year {
                return None;
            }
            if !has(self.month, now.month) {
                at = zone.seconds_at(now.year, now.month + 1, 1, [0, 0, 0]);
                moved = true;
            } else if !self.is_day(&now) {
                let clock = if moved { [now.hour, now.minute, now.second] } else { [0, 0, 0] };
                at = zone.seconds_at(now.year, now.month, now.day + 1, clock);
                moved = true;
            } else if !has(self.hour, now.hour) {
                let from =
                    if moved { at } else { zone.seconds_at(now.year, now.month, now.day, [now.hour, 0, 0]) };
                at = from + 3600;
                moved = true;
            } else if !has(self.minute, now.minute) {
                at = if moved { at } else { at - at.rem_euclid(60) } + 60;
                moved = true;
            } else if !has(self.second, now.second) {
                at += 1;
                moved = true;
            } else {
                return Some(at);
            }
        }
    }

    /// Both fields must match where one is a star, else either.
    fn is_day(&self, now: &Local) -> bool {
        let (day, weekday) = (has(self.day, now.day), has(self.weekday, now.weekday));
        if (self.day | self.weekday) & STAR != 0 { day && weekday } else { day || weekday }
    }
}

fn has(bits: u64, value: i64) -> bool {
    bits & (1 << value) != 0
}

impl Field {
    /// A list of ranges; commas with nothing between them are passed over. A field that nothing matches is refused: the
    /// pattern would never come.
    fn parse(&self, text: &str) -> Option<u64> {
        let mut bits = 0;
        for range in text.split(',').filter(|range| !range.is_empty()) {
            bits |= self.range(range)?;
        }
        Some(bits).filter(|&bits| bits != 0)
    }

    /// `number`, `number-number`, `*` or `?`, each with `/step` if wanted.
    fn range(&self, text: &str) -> Option<u64> {
        let mut parts = text.split('/');
        let (span, step) = (parts.next()?, parts.next());
        if parts.next().is_some() {
            return None;
        }
        let mut ends = span.split('-');
        let (low, high) = (ends.next()?, ends.next());
        let is_star = low == "*" || low == "?";
        let (start, mut end) = if is_star {
            (self.min, self.max)
        } else {
            let start = self.value(low)?;
            let end = high.map_or(Some(start), |high| self.value(high))?;
            if ends.next().is_some() {
                return None;
            }
            (start, end)
        };
        let step_size = step.map_or(Some(1), number)?;
        if step.is_some() && high.is_none() {
            end = self.max;
        }
        if start < self.min || end > self.max || start > end || step_size == 0 {
            return None;
        }
        let star = if is_star && step_size == 1 { STAR } else { 0 };
        let step_size = usize::try_from(step_size).ok()?;
        Some((start..=end).step_by(step_size).fold(star, |bits, value| bits | 1 << value))
    }

    fn value(&self, text: &str) -> Option<u32> {
        let named = self.names.iter().position(|name| text.eq_ignore_ascii_case(name));
        match named {
            Some(place) => Some(u32::try_from(place).ok()? + self.min),
            None => number(text),
        }
    }
}

fn number(text: &str) -> Option<u32> {
    // As Go's Atoi, but without negatives, which no field has.
    let digits = text.strip_prefix('+').unwrap_or(text);
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-30T10:20:30.5Z, a Friday.
    const AT: UnixNanos = UnixNanos(1_769_768_430_500_000_000);

    fn next(pattern: &str, zone: &str) -> Option<String> {
        let zone = Zone::named(zone)?;
        Some(zone.rfc3339(Cron::parse(pattern)?.next(AT, &zone)?, 0))
    }

    #[test]
    fn the_next_moment_is_found() {
        for (pattern, wanted) in [
            ("* * * * * *", "2026-01-30T10:20:31Z"),
            ("*/15 * * * * *", "2026-01-30T10:20:45Z"),
            ("0 * * * * *", "2026-01-30T10:21:00Z"),
            ("0 0 0 1 1 *", "2027-01-01T00:00:00Z"),
            ("0 0 0 * * 0", "2026-02-01T00:00:00Z"),
            ("0 0 0 31 * *", "2026-01-31T00:00:00Z"),
            ("0 0 0 29 2 *", "2028-02-29T00:00:00Z"),
            ("0 0 12 ? JAN-feb mon", "2026-02-02T12:00:00Z"),
            ("0 0 12 15 * mon", "2026-02-02T12:00:00Z"),
            ("5/20 20 10 * * *", "2026-01-30T10:20:45Z"),
            ("10 20 10 30 1 *", "2027-01-30T10:20:10Z"),
        ] {
            assert_eq!(next(pattern, "UTC").as_deref(), Some(wanted), "{pattern}");
        }
        assert_eq!(next("0 0 9 * * *", "America/New_York").as_deref(), Some("2026-01-30T09:00:00-05:00"));
        assert_eq!(next("0 30 2 8 3 *", "America/New_York").as_deref(), Some("2027-03-08T02:30:00-05:00"));
    }

    #[test]
    fn what_never_comes_or_is_no_pattern_is_refused() {
        for pattern in [
            "",
            "* * * * *",
            "* * * * * * *",
            "60 * * * * *",
            "* * * 0 * *",
            "* * * * 13 *",
            "* * * * * 7",
            "5-1 * * * * *",
            "*/0 * * * * *",
            "a * * * * *",
            "1-2-3 * * * * *",
            "1/2/3 * * * * *",
            "-1 * * * * *",
            ", * * * * *",
            "0 0 0 31 2 *",
        ] {
            assert_eq!(next(pattern, "UTC"), None, "{pattern}");
        }
    }
}
