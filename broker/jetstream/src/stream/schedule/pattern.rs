//! What a `Nats-Schedule` header says (ADR-51): once at a time, every so often, or by a cron pattern. Time and zone are
//! arguments. Not the other headers of a schedule.

use weir_stdx::time::UnixNanos;

use super::cron::Cron;
use super::zone::Zone;

const SECOND: u64 = 1_000_000_000;

/// When a schedule is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    Once(UnixNanos),
    /// And again later; `text` is the moment as headers say it.
    Repeating {
        at: UnixNanos,
        text: String,
    },
}

impl Next {
    pub(super) fn at(&self) -> UnixNanos {
        match self {
            Self::Once(at) | Self::Repeating { at, .. } => *at,
        }
    }
}

/// The first time after `after` that the pattern names; a repeating one that was missed before `now` comes once, after
/// `now`. `None`: the pattern is not valid.
pub(super) fn next(pattern: &str, zone: Option<&Zone>, after: UnixNanos, now: UnixNanos) -> Option<Next> {
    if let Some(text) = pattern.strip_prefix("@at ") {
        if zone.is_some() {
            return None;
        }
        let at = weir_jsapi::Time::parse(text).ok()?;
        // What was before 1970 is due as well.
        let nanos = at.unix_nanos().and_then(|nanos| u64::try_from(nanos).ok());
        return Some(Next::Once(UnixNanos(nanos.unwrap_or(0))));
    }
    if let Some(text) = pattern.strip_prefix("@every ") {
        let interval = crate::config::parse_go_duration(text).filter(|&interval| interval >= SECOND)?;
        if zone.is_some() {
            return None;
        }
        let first = rounded(after).saturating_add(interval);
        let at = if first < now.0 { rounded(now).saturating_add(interval) } else { first };
        return Some(repeating(at, &Zone::UTC));
    }
    let cron = Cron::parse(match pattern {
        "@yearly" | "@annually" => "0 0 0 1 1 *",
        "@monthly" => "0 0 0 1 * *",
        "@weekly" => "0 0 0 * * 0",
        "@daily" | "@midnight" => "0 0 0 * * *",
        "@hourly" => "0 0 * * * *",
        other => other,
    })?;
    let utc = Zone::UTC;
    let zone = zone.unwrap_or(&utc);
    let mut seconds = cron.next(after, zone)?;
    if nanos_of(seconds) < now.0 {
        seconds = cron.next(UnixNanos(rounded(now)), zone)?;
    }
    Some(repeating(nanos_of(seconds), zone))
}

fn nanos_of(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(SECOND)
}

/// To the nearest second, halves upwards.
fn rounded(at: UnixNanos) -> u64 {
    at.0.saturating_add(SECOND / 2) / SECOND * SECOND
}

fn repeating(at: u64, zone: &Zone) -> Next {
    let seconds = i64::try_from(at / SECOND).unwrap_or(i64::MAX);
    let nanos = u32::try_from(at % SECOND).unwrap_or(0);
    Next::Repeating { at: UnixNanos(at), text: zone.rfc3339(seconds, nanos) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-30T10:20:30.5Z
    const AT: UnixNanos = UnixNanos(1_769_768_430_500_000_000);

    fn text(pattern: &str, zone: Option<&str>, after: UnixNanos) -> Option<String> {
        let zone = zone.map(|name| Zone::named(name).expect("known"));
        match next(pattern, zone.as_ref(), after, AT)? {
            Next::Once(at) => Some(at.to_rfc3339()),
            Next::Repeating { text, .. } => Some(text),
        }
    }

    #[test]
    fn each_form_names_its_next_time() {
        for (pattern, wanted) in [
            ("@at 2026-01-30T11:00:00Z", "2026-01-30T11:00:00Z"),
            ("@at 2026-01-30T11:00:00+01:00", "2026-01-30T10:00:00Z"),
            ("@every 1s", "2026-01-30T10:20:32Z"),
            ("@every 1500ms", "2026-01-30T10:20:32.5Z"),
            ("@every 1h", "2026-01-30T11:20:31Z"),
            ("@hourly", "2026-01-30T11:00:00Z"),
            ("@daily", "2026-01-31T00:00:00Z"),
            ("@midnight", "2026-01-31T00:00:00Z"),
            ("@weekly", "2026-02-01T00:00:00Z"),
            ("@monthly", "2026-02-01T00:00:00Z"),
            ("@yearly", "2027-01-01T00:00:00Z"),
            ("@annually", "2027-01-01T00:00:00Z"),
        ] {
            assert_eq!(text(pattern, None, AT).as_deref(), Some(wanted), "{pattern}");
        }
        for pattern in
            ["", "@at", "@at now", "@at 2026-01-30", "@every 999ms", "@every x", "@every -5s", "@fortnightly"]
        {
            assert_eq!(text(pattern, None, AT), None, "{pattern}");
        }
    }

    #[test]
    fn zones_are_for_cron_patterns_only() {
        assert_eq!(text("@daily", Some("Asia/Tokyo"), AT).as_deref(), Some("2026-01-31T00:00:00+09:00"));
        assert_eq!(text("@every 1h", Some("UTC"), AT), None);
        assert_eq!(text("@at 2026-01-30T11:00:00Z", Some("UTC"), AT), None);
    }

    #[test]
    fn times_that_were_missed_come_once() {
        let long_ago = UnixNanos(AT.0 - 3_600_000_000_000);
        assert_eq!(text("@every 10s", None, long_ago).as_deref(), Some("2026-01-30T10:20:41Z"));
        assert_eq!(text("*/10 * * * * *", None, long_ago).as_deref(), Some("2026-01-30T10:20:40Z"));
    }
}
