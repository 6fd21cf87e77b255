//! Go's duration texts: `1h2m3s`, `1.5s`, `250ms`, `-3us`. Read as Go's `time.ParseDuration` reads them,
//! printed as Go's `Duration.String` prints them.

use std::fmt;
use std::time::Duration;

/// Why a text is not a duration, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurationError {
    text: String,
    reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Reason {
    Invalid,
    MissingUnit,
    UnknownUnit(String),
    /// Not Go's: no option takes one.
    Negative,
}

impl fmt::Display for DurationError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.text;
        match &self.reason {
            Reason::Invalid => write!(formatter, "time: invalid duration {text:?}"),
            Reason::MissingUnit => write!(formatter, "time: missing unit in duration {text:?}"),
            Reason::UnknownUnit(unit) => {
                write!(formatter, "time: unknown unit {unit:?} in duration {text:?}")
            }
            Reason::Negative => write!(formatter, "time: negative duration {text:?}"),
        }
    }
}

impl std::error::Error for DurationError {}

/// Reads a duration in nanoseconds; a sign is allowed, `0` needs no unit.
pub fn parse_nanos(text: &str) -> Result<i64, DurationError> {
    parse(text).map_err(|reason| DurationError { text: text.to_owned(), reason })
}

/// Reads a duration that must not be negative.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let nanos = parse_nanos(text)?;
    let negative = |_| DurationError { text: text.to_owned(), reason: Reason::Negative };
    u64::try_from(nanos).map(Duration::from_nanos).map_err(negative)
}

fn parse(text: &str) -> Result<i64, Reason> {
    let (is_negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(Reason::Invalid);
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (nanos, after) = parse_term(rest)?;
        total += nanos;
        rest = after;
        if total > i128::from(i64::MAX) + 1 {
            return Err(Reason::Invalid);
        }
    }
    i64::try_from(if is_negative { -total } else { total }).map_err(|_| Reason::Invalid)
}

/// One number with its unit.
fn parse_term(text: &str) -> Result<(i128, &str), Reason> {
    let whole_digits = leading_digits(text);
    let whole = text[..whole_digits].trim_start_matches('0');
    let mut rest = &text[whole_digits..];
    let mut fraction = "";
    let point = rest.strip_prefix('.');
    if let Some(after_point) = point {
        let digits = leading_digits(after_point);
        fraction = &after_point[..digits];
        rest = &after_point[digits..];
    }
    // More digits than 2^63 has.
    if (whole_digits == 0 && fraction.is_empty()) || whole.len() > 19 {
        return Err(Reason::Invalid);
    }
    let unit_length = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
    let unit: i128 = match &rest[..unit_length] {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "" => return Err(Reason::MissingUnit),
        unknown => return Err(Reason::UnknownUnit(unknown.to_owned())),
    };
    let number = |digits: &str| digits.bytes().fold(0, |value, digit| value * 10 + i128::from(digit - b'0'));
    // 18 digits of a fraction are more than a nanosecond can show.
    let fraction = &fraction[..fraction.len().min(18)];
    let part = number(fraction) * unit / 10_i128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    Ok((number(whole) * unit + part, &rest[unit_length..]))
}

fn leading_digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// Prints a duration as Go does: `1h2m3s`, `1.5s`, `250ms`, `0s`.
#[must_use]
pub fn format_nanos(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let total = nanos.unsigned_abs();
    if total == 0 {
        return "0s".to_owned();
    }
    if total < 1_000_000_000 {
        let (unit, name) = match total {
            0..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        return format!("{sign}{}{name}", decimal(total, unit));
    }
    let (hours, minutes) = (total / 3_600_000_000_000, total / 60_000_000_000 % 60);
    let seconds = decimal(total % 60_000_000_000, 1_000_000_000);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, _) => format!("{sign}{minutes}m{seconds}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// Prints a duration as Go does.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    format_nanos(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
}

fn decimal(value: u64, unit: u64) -> String {
    let fraction = value % unit;
    if fraction == 0 {
        return (value / unit).to_string();
    }
    let width = unit.ilog10() as usize;
    format!("{}.{}", value / unit, format!("{fraction:0width$}").trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_go_prints() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (245_000_000_000, "4m5s"),
            (245_001_000_000, "4m5.001s"),
            (18_367_001_000_000, "5h6m7.001s"),
            (7_200_000_000_000, "2h0m0s"),
            (-1_500_000_000, "-1.5s"),
            (i64::MAX, "2562047h47m16.854775807s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(format_nanos(nanos), text);
            assert_eq!(parse_nanos(text), Ok(nanos));
        }
    }

    #[test]
    fn reads_what_go_reads() {
        for (text, nanos) in [
            ("0", 0),
            ("+5s", 5_000_000_000),
            ("5.6s", 5_600_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("10.5s4m", 250_500_000_000),
            ("12us", 12_000),
            ("0.3333333333333333333h", 1_199_999_999_999),
            ("0000000000000000000000007s", 7_000_000_000),
            ("39h9m14.425s", 140_954_425_000_000),
            ("0.100000000000000000000h", 360_000_000_000),
        ] {
            assert_eq!(parse_nanos(text), Ok(nanos), "{text}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for text in
            ["", "3", "-", "s", ".", "-.", ".s", "+.s", "3000000h", "9223372036854775808ns", "1d", "é"]
        {
            assert!(parse_nanos(text).is_err(), "{text}");
        }
        let said = |text| parse_duration(text).unwrap_err().to_string();
        assert_eq!(said("-1s"), "time: negative duration \"-1s\"");
        assert_eq!(said("1x"), "time: unknown unit \"x\" in duration \"1x\"");
        assert_eq!(said("3"), "time: missing unit in duration \"3\"");
        assert_eq!(said("3000000h"), "time: invalid duration \"3000000h\"");
    }
}
