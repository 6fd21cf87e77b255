//! Lines, their arguments and numbers: what all parsers share. Not the operations.

use crate::error::ParseError;

/// Where the line that starts at `from` ends: the index of its `\n`.
/// Looks at no more than `max` argument bytes, and refuses a longer line even when its end has not come yet.
pub(crate) fn find_line_end(buffer: &[u8], from: usize, max: usize) -> Result<Option<usize>, ParseError> {
    // Two more for the line's end.
    let limit = buffer.len().min(from.saturating_add(max).saturating_add(2));
    match memchr::memchr(b'\n', buffer.get(from..limit).unwrap_or_default()) {
        Some(at) => {
            let end = from + at;
            if trim(&buffer[from..end]).len() > max {
                Err(ParseError::ControlLineTooLong)
            } else {
                Ok(Some(end))
            }
        }
        None if buffer.len() > from.saturating_add(max).saturating_add(1) => {
            Err(ParseError::ControlLineTooLong)
        }
        None => Ok(None),
    }
}

/// Without a `\r` at the end.
pub(crate) fn trim(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Splits a line into at most `N` arguments; returns how many there were, `N + 1` meaning more than `N`.
pub(crate) fn split<'a, const N: usize>(line: &'a [u8], into: &mut [&'a [u8]; N]) -> usize {
    let mut count = 0;
    let mut start = None;
    for (at, byte) in line.iter().enumerate() {
        if matches!(byte, b' ' | b'\t' | b'\r') {
            if let Some(from) = start.take() {
                if count == N {
                    return N + 1;
                }
                into[count] = &line[from..at];
                count += 1;
            }
        } else if start.is_none() {
            start = Some(at);
        }
    }
    if let Some(from) = start {
        if count == N {
            return N + 1;
        }
        into[count] = &line[from..];
        count += 1;
    }
    count
}

/// A decimal number without sign; `None` for anything else or more than 9 digits' worth of payload.
pub(crate) fn parse_size(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 9 {
        return None;
    }
    let mut value = 0u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u64::from(digit - b'0');
    }
    Some(value)
}

/// Checks that `given`, cut short by the end of the buffer, can still become one of `known` (upper case).
pub(crate) fn is_prefix_of_any(given: &[u8], known: &[&[u8]]) -> bool {
    known.iter().any(|name| {
        let common = name.len().min(given.len());
        given[..common].eq_ignore_ascii_case(&name[..common])
    })
}
