//! Header blocks: `NATS/1.0[ code[ description]]\r\nName: value\r\n...\r\n\r\n`. Not what headers mean.

const VERSION: &[u8] = b"NATS/1.0";
const END: &[u8] = b"\r\n";

/// A view of a header block; tolerates what is not one by finding nothing in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderBlock<'a>(pub &'a [u8]);

/// The headers of a block, in order.
#[derive(Debug, Clone)]
pub struct HeaderIter<'a> {
    rest: &'a [u8],
}

impl<'a> HeaderBlock<'a> {
    /// What follows `NATS/1.0` on the first line: a code, perhaps with a description.
    pub fn status_line(&self) -> Option<&'a [u8]> {
        let end = memchr::memmem::find(self.0, END)?;
        let status = self.0[..end].strip_prefix(VERSION)?.trim_ascii();
        (!status.is_empty()).then_some(status)
    }

    /// The status code.
    pub fn status_code(&self) -> Option<u16> {
        let digits = self.status_line()?.get(..3)?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// The headers, in order.
    pub fn iter(&self) -> HeaderIter<'a> {
        let rest = self.0.strip_prefix(VERSION).and_then(|_| {
            let end = memchr::memmem::find(self.0, END)?;
            self.0.get(end + END.len()..)
        });
        HeaderIter { rest: rest.unwrap_or_default() }
    }

    /// The first value of `name`, which matches in its exact case, as nats-server matches.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.iter().find(|(key, _)| *key == name.as_bytes()).map(|(_, value)| value)
    }

    /// Like `get`, as text.
    pub fn get_str(&self, name: &str) -> Option<&'a str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }
}

impl<'a> IntoIterator for HeaderBlock<'a> {
    type Item = (&'a [u8], &'a [u8]);
    type IntoIter = HeaderIter<'a>;

    fn into_iter(self) -> HeaderIter<'a> {
        self.iter()
    }
}

impl<'a> Iterator for HeaderIter<'a> {
    /// Name and value without surrounding white space.
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let end = memchr::memmem::find(self.rest, END)?;
            let line = &self.rest[..end];
            self.rest = &self.rest[end + END.len()..];
            if line.is_empty() {
                return None;
            }
            if let Some(colon) = memchr::memchr(b':', line) {
                return Some((&line[..colon], line[colon + 1..].trim_ascii()));
            }
        }
    }
}

/// Builds a header block.
#[derive(Debug, Clone)]
pub struct HeaderBuilder {
    block: Vec<u8>,
}

impl Default for HeaderBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl HeaderBuilder {
    /// A block without status.
    pub fn new() -> Self {
        let mut block = VERSION.to_vec();
        block.extend_from_slice(END);
        Self { block }
    }

    /// A block with a status, such as `404 No Messages`.
    pub fn with_status(status: &str) -> Self {
        let mut block = VERSION.to_vec();
        block.push(b' ');
        push_clean(&mut block, status.as_bytes());
        block.extend_from_slice(END);
        Self { block }
    }

    /// Starts from an existing block, keeping its status and headers. What is no block counts as an empty one.
    pub fn from_block(block: &[u8]) -> Self {
        match block.strip_suffix(b"\r\n\r\n") {
            Some(head) if block.starts_with(VERSION) => Self { block: [head, END].concat() },
            _ => Self::new(),
        }
    }

    /// Appends a header. Line ends within are replaced by blanks, so that no value can forge a header.
    pub fn push(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Self {
        push_clean(&mut self.block, name.as_bytes());
        self.block.extend_from_slice(b": ");
        push_clean(&mut self.block, value.as_ref());
        self.block.extend_from_slice(END);
        self
    }

    /// The finished block.
    pub fn finish(mut self) -> Vec<u8> {
        self.block.extend_from_slice(END);
        self.block
    }
}

fn push_clean(block: &mut Vec<u8>, text: &[u8]) {
    block.extend(text.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_built_block_reads_back() {
        let mut builder = HeaderBuilder::with_status("404 No Messages");
        builder.push("A", "1").push("B", "two\r\nC: 3");
        let block = builder.finish();
        assert_eq!(block, b"NATS/1.0 404 No Messages\r\nA: 1\r\nB: two  C: 3\r\n\r\n");
        let block = HeaderBlock(&block);
        assert_eq!(block.status_code(), Some(404));
        assert_eq!(block.get_str("A"), Some("1"));
        assert_eq!(block.get("C"), None);
        assert_eq!(block.iter().count(), 2);
    }

    #[test]
    fn headers_can_be_added_to_a_block() {
        let mut builder = HeaderBuilder::from_block(b"NATS/1.0\r\nA: 1\r\n\r\n");
        builder.push("B", "2");
        assert_eq!(builder.finish(), b"NATS/1.0\r\nA: 1\r\nB: 2\r\n\r\n");
        assert_eq!(HeaderBuilder::from_block(b"junk").finish(), b"NATS/1.0\r\n\r\n");
        assert_eq!(HeaderBuilder::from_block(b"NATS/1.0\r\n\r\n").finish(), b"NATS/1.0\r\n\r\n");
    }

    #[test]
    fn what_is_no_block_holds_nothing() {
        for junk in [&b""[..], b"abcd", b"NATS/1.0", b"NATS/1.0\r\n", b"HTTP/1.1 200\r\nA: 1\r\n\r\n"] {
            assert_eq!(HeaderBlock(junk).iter().count(), 0);
            assert_eq!(HeaderBlock(junk).status_line(), None);
        }
    }
}
