//! Changes to header blocks on the way from account to account. Not their meaning.

const VERSION_LINE: &[u8] = b"NATS/1.0\r\n";

/// The block with `name` set to `value`: earlier lines of that name are gone, the new one is the last.
pub(crate) fn set_header(headers: &[u8], name: &str, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(headers.len() + name.len() + value.len() + 16);
    let body = headers.strip_suffix(b"\r\n").unwrap_or(headers);
    let mut is_first = true;
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let is_named =
            !is_first && line.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&b':'));
        if !is_named {
            out.extend_from_slice(line);
        }
        is_first = false;
    }
    if out.is_empty() {
        out.extend_from_slice(VERSION_LINE);
    }
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend(value.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
    out.extend_from_slice(b"\r\n\r\n");
    out
}

/// The block without lines of that name; empty when nothing is left. `None` when there is no such line.
pub(crate) fn remove_header(headers: &[u8], name: &str) -> Option<Vec<u8>> {
    header(headers, name)?;
    let mut out = Vec::with_capacity(headers.len());
    for (at, line) in headers.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let rest = line.strip_prefix(name.as_bytes());
        if at == 0 || rest.is_none_or(|rest| rest.first() != Some(&b':')) {
            out.extend_from_slice(line);
        }
    }
    if out == b"NATS/1.0\r\n\r\n" {
        out.clear();
    }
    Some(out)
}

/// The first value of `name` (compared as it is written), without the blanks before it.
pub(crate) fn header<'h>(headers: &'h [u8], name: &str) -> Option<&'h [u8]> {
    lines(headers).find(|(known, _)| *known == name.as_bytes()).map(|(_, value)| value)
}

/// Names and values in order, as written but for blanks around the value.
pub(crate) fn lines(headers: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers.split(|byte| *byte == b'\n').skip(1).filter_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = memchr::memchr(b':', line)?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_replaces_those_of_its_name() {
        assert_eq!(set_header(b"", "A", b"1"), b"NATS/1.0\r\nA: 1\r\n\r\n");
        assert_eq!(
            set_header(b"NATS/1.0\r\nA: 1\r\nB: 2\r\nA:3\r\n\r\n", "A", b"4\n5"),
            b"NATS/1.0\r\nB: 2\r\nA: 4 5\r\n\r\n"
        );
        assert_eq!(
            remove_header(b"NATS/1.0\r\nA: 1\r\nB: 2\r\n\r\n", "A").as_deref(),
            Some(&b"NATS/1.0\r\nB: 2\r\n\r\n"[..])
        );
        assert_eq!(remove_header(b"NATS/1.0\r\nA: 1\r\n\r\n", "A").as_deref(), Some(&b""[..]));
        assert_eq!(remove_header(b"NATS/1.0\r\nA: 1\r\n\r\n", "B"), None);
        assert_eq!(header(b"NATS/1.0\r\nA:  x \r\n\r\n", "A"), Some(&b"x"[..]));
        assert_eq!(header(b"NATS/1.0\r\nAB: x\r\n\r\n", "A"), None);
    }
}
