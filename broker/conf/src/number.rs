//! Values that start with a digit or a minus sign: integers with units, floats, dates, addresses,
//! and bare strings that happen to start with a digit (`3xyz`).

use crate::{
    error::ConfError,
    scan::{Scanner, is_blank, is_line_end, shown},
    value::Value,
};

/// What a scan of a leading digit found.
pub(crate) enum Numeric {
    Value(Value),
    /// Not a number after all: the caller goes on reading a bare string from its start.
    BareString,
}

/// Reads a number, date or address; the cursor is at its first digit or at the minus sign.
pub(crate) fn scan(scanner: &mut Scanner<'_>) -> Result<Numeric, ConfError> {
    let start = scanner.position().offset;
    let negative = scanner.take('-');
    if negative && !scanner.peek().is_some_and(|c| c.is_ascii_digit()) {
        let next = scanner.next();
        if next == Some('.') {
            return Err(scanner.error("Floats must start with a digit, not '.'."));
        }
        return Err(scanner.error(format!("Expected a digit but got '{}'.", shown(next))));
    }
    scanner.skip_while(|c| c.is_ascii_digit());
    match scanner.peek() {
        Some('-') if !negative => {
            if scanner.position().offset - start != 4 {
                return Err(scanner.error("All ISO8601 dates must be in full Zulu form."));
            }
            date(scanner, start).map(Numeric::Value)
        }
        Some('.') => float_or_address(scanner, start).map(Numeric::Value),
        Some(c) if is_unit(c) => {
            scanner.next();
            scanner.skip_while(|c| matches!(c, 'b' | 'B' | 'i' | 'I'));
            if !negative && !ends_number(scanner.peek()) {
                return Ok(Numeric::BareString);
            }
            integer(scanner, start).map(Numeric::Value)
        }
        next if negative || ends_number(next) => integer(scanner, start).map(Numeric::Value),
        _ => {
            // Whatever it is belongs to the string, a `]` too: no option takes a list of numbers.
            scanner.next();
            Ok(Numeric::BareString)
        }
    }
}

fn is_unit(c: char) -> bool {
    matches!(c.to_ascii_lowercase(), 'k' | 'm' | 'g' | 't' | 'p' | 'e')
}

/// A `]` does not end a number in nats-server, so that `[1, 2]` is refused there, and here.
fn ends_number(next: Option<char>) -> bool {
    next.is_none_or(|c| is_line_end(c) || is_blank(c) || matches!(c, '}' | ';' | ','))
}

fn integer(scanner: &Scanner<'_>, start: usize) -> Result<Value, ConfError> {
    let text = scanner.since(start);
    let digits = text.find(|c: char| c != '-' && !c.is_ascii_digit()).unwrap_or(text.len());
    let out_of_range = || {
        let at = scanner.position();
        let message = format!("integer '{text}' is out of the range");
        ConfError::bare(scanner.file(), at.line, at.column(), message)
    };
    let number: i64 = text[..digits].parse().map_err(|_| out_of_range())?;
    let factor = unit_factor(&text[digits..])
        .ok_or_else(|| scanner.error(format!("'{}' is not a unit of a number", &text[digits..])))?;
    number.checked_mul(factor).map(Value::Integer).ok_or_else(out_of_range)
}

/// `k` is 1000, `kb`, `ki` and `kib` are 1024, and so on up to exa.
fn unit_factor(unit: &str) -> Option<i64> {
    let unit = unit.to_ascii_lowercase();
    let Some(prefix) = unit.chars().next() else { return Some(1) };
    let power = "kmgtpe".find(prefix)? as u32 + 1;
    match &unit[1..] {
        "" => 1000i64.checked_pow(power),
        "b" | "i" | "ib" => 1024i64.checked_pow(power),
        _ => None,
    }
}

/// After the digits of a float: a second point makes it an address such as `127.0.0.1:4222`.
fn float_or_address(scanner: &mut Scanner<'_>, start: usize) -> Result<Value, ConfError> {
    scanner.next();
    if !scanner.peek().is_some_and(|c| c.is_ascii_digit()) {
        let next = shown(scanner.next());
        let message = format!("Floats must have a digit after the '.', but got '{next}' instead.");
        return Err(scanner.error(message));
    }
    scanner.skip_while(|c| c.is_ascii_digit());
    if scanner.peek() == Some('.') {
        scanner.skip_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':' | '-'));
        return Ok(Value::String(scanner.since(start).to_owned()));
    }
    let text = scanner.since(start);
    let number: f64 = text.parse().map_err(|_| {
        let at = scanner.position();
        let message = format!("expected float, but got '{text}'");
        ConfError::bare(scanner.file(), at.line, at.column(), message)
    })?;
    Ok(Value::Float(number))
}

/// The rest of `YYYY-MM-DDThh:mm:ssZ`; the cursor is at the first minus sign.
fn date(scanner: &mut Scanner<'_>, start: usize) -> Result<Value, ConfError> {
    scanner.next();
    for wanted in "00-00T00:00:00Z".chars() {
        let found = scanner.next();
        let digit = found.is_some_and(|c| c.is_ascii_digit());
        if wanted == '0' && !digit {
            let message =
                format!("Expected digit in ISO8601 datetime, but found '{}' instead.", shown(found));
            return Err(scanner.error(message));
        }
        if wanted != '0' && found != Some(wanted) {
            let message =
                format!("Expected '{wanted}' in ISO8601 datetime, but found '{}' instead.", shown(found));
            return Err(scanner.error(message));
        }
    }
    let text = scanner.since(start);
    seconds_since_epoch(text).map(Value::Datetime).ok_or_else(|| {
        let at = scanner.position();
        let message = format!("expected Zulu formatted DateTime, but got '{text}'");
        ConfError::bare(scanner.file(), at.line, at.column(), message)
    })
}

/// `text` has the form `YYYY-MM-DDThh:mm:ssZ`; `None` when a field is out of its range.
fn seconds_since_epoch(text: &str) -> Option<i64> {
    let field = |from: usize, to: usize| text[from..to].parse::<i64>().ok();
    let (year, month, day) = (field(0, 4)?, field(5, 7)?, field(8, 10)?);
    let (hour, minute, second) = (field(11, 13)?, field(14, 16)?, field(17, 19)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=month_days).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Days from the civil date: March-based years make the leap day the last of its year.
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}
