//! Reading and extending message header blocks (`NATS/1.0\r\nKey: value\r\n\r\n`). Names match exactly, as in
//! nats-server; a malformed block has no headers.

use bytes::Bytes;
use weir_jsapi::headers as names;
use weir_stdx::time::UnixNanos;

const FIRST_LINE: &[u8] = b"NATS/1.0\r\n";

/// The value of the first header with this name, without surrounding blanks.
pub fn get<'a>(block: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut rest = skip_line(block)?;
    while let Some(end) = find_line_end(rest) {
        let line = &rest[..end];
        if let Some(value) = line.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b":")) {
            return Some(value.trim_ascii());
        }
        rest = &rest[end + 2..];
    }
    None
}

/// The value as text; `None` when absent or not UTF-8.
pub fn get_str<'a>(block: &'a [u8], name: &str) -> Option<&'a str> {
    std::str::from_utf8(get(block, name)?).ok()
}

/// The block with one more header at its end.
pub fn with(block: &[u8], name: &str, value: &str) -> Bytes {
    let base = block.strip_suffix(b"\r\n").unwrap_or(FIRST_LINE);
    let mut out = Vec::with_capacity(base.len() + name.len() + value.len() + 6);
    out.extend_from_slice(base);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
    Bytes::from(out)
}

/// The block with the value of a header replaced where it stands, or the header added at the end.
pub fn set(block: &[u8], name: &str, value: &str) -> Bytes {
    let Some((start, end)) = lines_of(block).find(|&(start, end)| is_header(&block[start..end], name)) else {
        return with(block, name, value);
    };
    let mut out = Vec::with_capacity(block.len() + value.len());
    out.extend_from_slice(&block[..start]);
    push(&mut out, name, value.as_bytes());
    out.extend_from_slice(&block[end + 2..]);
    Bytes::from(out)
}

/// The block without the headers whose names (up to the colon) are picked; empty when none is left.
pub fn without(block: &[u8], mut is_picked: impl FnMut(&[u8]) -> bool) -> Bytes {
    let mut out = Vec::with_capacity(block.len());
    let mut kept = 0;
    for (number, (start, end)) in lines_of(block).enumerate() {
        let line = &block[start..end];
        let name = line.iter().position(|&byte| byte == b':').map(|colon| &line[..colon]);
        if number > 0 && name.is_some_and(&mut is_picked) {
            continue;
        }
        kept += usize::from(number > 0);
        out.extend_from_slice(&block[start..end + 2]);
    }
    if kept == 0 {
        return Bytes::new();
    }
    out.extend_from_slice(b"\r\n");
    Bytes::from(out)
}

/// Where each line of the block starts and ends, its first one included, the empty one at its end not.
fn lines_of(block: &[u8]) -> impl Iterator<Item = (usize, usize)> + '_ {
    let mut start = 0;
    std::iter::from_fn(move || {
        let end = start + find_line_end(&block[start..])?;
        let line = (start, end);
        start = end + 2;
        Some(line)
    })
}

fn is_header(line: &[u8], name: &str) -> bool {
    line.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b":"))
}

/// A block that is a status line and headers.
pub fn status(line: &str, fields: &[(&str, &dyn std::fmt::Display)]) -> Bytes {
    let mut out = format!("NATS/1.0 {line}\r\n");
    for (name, value) in fields {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    out.push_str("\r\n");
    Bytes::from(out)
}

/// Where a message is stored, as headers say it.
pub struct StoredAt<'a> {
    pub stream: &'a str,
    pub subject: &'a [u8],
    pub seq: u64,
    pub timestamp: UnixNanos,
}

/// A block with the headers of [`StoredAt`] at its end, still open: more may be pushed before its empty line.
pub fn with_stored_at(block: &[u8], stored: &StoredAt<'_>) -> Vec<u8> {
    let base = block.strip_suffix(b"\r\n").unwrap_or(FIRST_LINE);
    let mut out = Vec::with_capacity(base.len() + 200);
    out.extend_from_slice(base);
    push(&mut out, names::STREAM, stored.stream.as_bytes());
    push(&mut out, names::SUBJECT, stored.subject);
    push(&mut out, names::SEQUENCE, stored.seq.to_string().as_bytes());
    push(&mut out, names::TIME_STAMP, crate::stream::time(stored.timestamp).to_string().as_bytes());
    out
}

/// Adds a header to an open block.
pub fn push(block: &mut Vec<u8>, name: &str, value: &[u8]) {
    block.extend_from_slice(name.as_bytes());
    block.extend_from_slice(b": ");
    block.extend_from_slice(value);
    block.extend_from_slice(b"\r\n");
}

fn find_line_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(2).position(|pair| pair == b"\r\n").filter(|&end| end > 0)
}

fn skip_line(block: &[u8]) -> Option<&[u8]> {
    let end = find_line_end(block)?;
    Some(&block[end + 2..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_and_added() {
        let block = b"NATS/1.0\r\nA: 1\r\nNats-Msg-Id:  x y \r\n\r\n";
        assert_eq!(get_str(block, "Nats-Msg-Id"), Some("x y"));
        assert_eq!(get(block, "Nats-Msg"), None);
        assert_eq!(get(b"", "A"), None);
        assert_eq!(get(b"junk", "A"), None);
        assert_eq!(&with(b"", "K", "v")[..], b"NATS/1.0\r\nK: v\r\n\r\n");
        assert_eq!(&with(b"NATS/1.0\r\nA: 1\r\n\r\n", "K", "v")[..], b"NATS/1.0\r\nA: 1\r\nK: v\r\n\r\n");
        let block = b"NATS/1.0\r\nA: 1\r\nB: 2\r\n\r\n";
        assert_eq!(&set(block, "A", "10")[..], b"NATS/1.0\r\nA: 10\r\nB: 2\r\n\r\n");
        assert_eq!(&set(block, "C", "3")[..], b"NATS/1.0\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n");
        assert_eq!(&without(block, |name| name == b"A")[..], b"NATS/1.0\r\nB: 2\r\n\r\n");
        assert_eq!(&without(block, |_| true)[..], b"");
        assert_eq!(&without(b"", |_| true)[..], b"");
        assert_eq!(&status("404 No Messages", &[])[..], b"NATS/1.0 404 No Messages\r\n\r\n");
    }
}
