//! JSON as Go's encoder prints it: two blanks of indentation, and `<`, `>`, `&` escaped.

use serde::Serialize;

/// Indented, without a line feed at the end.
pub(crate) fn indented(value: &impl Serialize) -> String {
    escaped(serde_json::to_string_pretty(value).unwrap_or_default())
}

/// On one line.
pub fn compact(value: &impl Serialize) -> String {
    escaped(serde_json::to_string(value).unwrap_or_default())
}

/// The three characters stand only inside strings, so that replacing them in the text is safe.
fn escaped(text: String) -> String {
    if !text.contains(['<', '>', '&']) {
        return text;
    }
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

pub(crate) fn is_zero(number: &u64) -> bool {
    *number == 0
}

pub(crate) fn is_false(flag: &bool) -> bool {
    !*flag
}

/// A duration in nanoseconds, as Go's JSON has it.
pub(crate) fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Seconds as a number, whole ones without a fraction.
pub(crate) fn seconds(duration: std::time::Duration) -> serde_json::Number {
    let seconds = duration.as_secs();
    if duration.subsec_nanos() == 0 {
        return seconds.into();
    }
    serde_json::Number::from_f64(duration.as_secs_f64()).unwrap_or_else(|| seconds.into())
}
