//! Takes MSG and HMSG apart as they arrive, fast when all are alike. Not who sends them.

use crate::Outcome;
use crate::wire::Wire;
use std::io::{Read, Write};

const READ_BYTES: usize = 512 * 1024;

/// One operation of the server.
enum Operation {
    /// A message: its sid, its reply subject and where its payload lies.
    Message {
        from: usize,
        to: usize,
        sid: u64,
        reply: Option<(usize, usize)>,
    },
    Other,
}

/// A message as handed to a visitor.
pub(crate) struct Received<'a> {
    pub(crate) sid: u64,
    pub(crate) reply: Option<&'a [u8]>,
    pub(crate) payload: &'a [u8],
}

/// Reads messages from one connection.
pub(crate) struct Messages {
    wire: Wire,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Messages {
    pub(crate) fn new(wire: Wire) -> Self {
        Self { wire, buffer: vec![0; READ_BYTES], start: 0, end: 0 }
    }

    pub(crate) fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Counts `wanted` messages that all begin with `head` and carry `size` bytes; any other is an error.
    pub(crate) fn count_alike(&mut self, wanted: u64, head: &[u8], size: usize) -> Outcome<()> {
        let length = head.len() + size + 2;
        let mut seen = 0;
        while seen < wanted {
            let unread = &self.buffer[self.start..self.end];
            let mut at = 0;
            while seen < wanted
                && let Some(message) = unread.get(at..at + length)
                && message.starts_with(head)
                && message.ends_with(b"\r\n")
            {
                at += length;
                seen += 1;
            }
            let is_cut = unread.len() - at < length;
            self.start += at;
            if seen < wanted && (!is_cut || unread_starts_otherwise(&self.buffer[self.start..self.end], head))
            {
                self.skip_other()?;
            } else if seen < wanted {
                self.fill()?;
            }
        }
        Ok(())
    }

    /// Passes over one operation that is no message; reads more when it is cut.
    fn skip_other(&mut self) -> Outcome<()> {
        match self.parse()? {
            Some((Operation::Other, next)) => self.start = next,
            Some((Operation::Message { .. }, _)) => return Err("a message that was not expected".into()),
            None => self.fill()?,
        }
        Ok(())
    }

    /// The messages of at least one read, at most `at_most`; how many they were.
    pub(crate) fn take_available(
        &mut self,
        at_most: u64,
        mut each: impl FnMut(Received<'_>) -> Outcome<()>,
    ) -> Outcome<u64> {
        let mut seen = 0;
        loop {
            while seen < at_most {
                let Some((operation, next)) = self.parse()? else { break };
                if let Operation::Message { from, to, sid, reply } = operation {
                    let reply = reply.map(|(from, to)| &self.buffer[from..to]);
                    each(Received { sid, reply, payload: &self.buffer[from..to] })?;
                    seen += 1;
                }
                self.start = next;
            }
            if seen > 0 {
                return Ok(seen);
            }
            self.fill()?;
        }
    }

    /// The next operation and the place behind it.
    fn parse(&mut self) -> Outcome<Option<(Operation, usize)>> {
        let unread = &self.buffer[self.start..self.end];
        let Some(line_end) = unread.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let line = unread[..line_end].trim_ascii_end();
        let body = self.start + line_end + 1;
        match line.first() {
            Some(b'M' | b'H') => {
                let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
                let sizes = if line[0] == b'H' { 2 } else { 1 };
                let (Some(sid), Some(size)) = (words.get(2), words.last()) else {
                    return Err("a bad MSG".into());
                };
                let size: usize = std::str::from_utf8(size)?.parse()?;
                let reply = (words.len() == 4 + sizes).then(|| {
                    let from = self.start + words[..3].iter().map(|word| word.len() + 1).sum::<usize>();
                    (from, from + words[3].len())
                });
                let message = Operation::Message {
                    from: body,
                    to: body + size,
                    sid: std::str::from_utf8(sid)?.parse()?,
                    reply,
                };
                let next = body + size + 2;
                Ok((next <= self.end).then_some((message, next)))
            }
            Some(b'P') if line.starts_with(b"PING") => {
                self.wire.write_all(b"PONG\r\n")?;
                Ok(Some((Operation::Other, body)))
            }
            Some(b'I' | b'P' | b'+') => Ok(Some((Operation::Other, body))),
            _ => Err(String::from_utf8_lossy(line).into()),
        }
    }

    fn fill(&mut self) -> Outcome<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            return Err("a message is larger than the buffer".into());
        }
        let read = self.wire.read(&mut self.buffer[self.end..])?;
        if read == 0 {
            return Err("the server closed the connection".into());
        }
        self.end += read;
        Ok(())
    }
}

/// Whether what has come cannot become a message that begins with `head`.
fn unread_starts_otherwise(unread: &[u8], head: &[u8]) -> bool {
    let common = unread.len().min(head.len());
    unread[..common] != head[..common]
}
