//! What clients send: CONNECT PING PONG PUB HPUB SUB UNSUB (and the INFO, +OK, -ERR they may echo).
//! Parses in place, allocates nothing. Whether an operation is allowed is not its business.

use crate::Parsed;
use crate::args::{find_line_end, is_prefix_of_any, parse_size, split, trim};
use crate::error::ParseError;
use crate::limits::MAX_CLIENT_ARGS;

/// A message to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish<'a> {
    /// The subject as sent; not checked.
    pub subject: &'a [u8],
    /// The reply subject, if any; not checked.
    pub reply: Option<&'a [u8]>,
    /// The header block (HPUB), or empty; not checked.
    pub headers: &'a [u8],
    /// The payload without headers.
    pub payload: &'a [u8],
    /// Whether it came as HPUB.
    pub with_headers: bool,
}

/// One operation of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientOp<'a> {
    /// CONNECT with its JSON.
    Connect(&'a [u8]),
    /// PING.
    Ping,
    /// PONG.
    Pong,
    /// PUB or HPUB.
    Publish(Publish<'a>),
    /// SUB.
    Subscribe {
        /// The subject as sent; not checked.
        subject: &'a [u8],
        /// The queue group, if any.
        queue: Option<&'a [u8]>,
        /// The client's id for it.
        sid: &'a [u8],
    },
    /// UNSUB.
    Unsubscribe {
        /// The client's id for it.
        sid: &'a [u8],
        /// After how many messages; `None` means now.
        max: Option<u64>,
    },
    /// INFO with its JSON, which a client has no business to send.
    Info(&'a [u8]),
    /// +OK, ignored.
    Ok,
    /// -ERR with its text.
    Err(&'a [u8]),
}

/// Parses what a client sends, under the server's limits.
#[derive(Debug, Clone, Copy)]
pub struct ClientParser {
    /// The longest argument line, in bytes.
    pub max_control_line: usize,
    /// The largest message (headers and payload), in bytes.
    pub max_payload: usize,
}

const NAMES: &[&[u8]] =
    &[b"PUB ", b"PING", b"PONG", b"HPUB ", b"SUB ", b"UNSUB ", b"CONNECT ", b"INFO", b"+OK", b"-ERR "];

impl ClientParser {
    /// Parses the operation at the start of `buffer`.
    pub fn parse<'a>(&self, buffer: &'a [u8]) -> Result<Parsed<ClientOp<'a>>, ParseError> {
        let Some(first) = buffer.first() else { return Ok(Parsed::Incomplete { total: 0 }) };
        match first | 0x20 {
            b'p' if has_name(buffer, b"PUB") => self.parse_publish(buffer, 4, false),
            b'p' if has_word(buffer, b"PING") => self.parse_bare(buffer, 4, ClientOp::Ping),
            b'p' if has_word(buffer, b"PONG") => self.parse_bare(buffer, 4, ClientOp::Pong),
            b'h' if has_name(buffer, b"HPUB") => self.parse_publish(buffer, 5, true),
            b's' if has_name(buffer, b"SUB") => self.with_line(buffer, 4, parse_subscribe),
            b'u' if has_name(buffer, b"UNSUB") => self.with_line(buffer, 6, parse_unsubscribe),
            b'c' if has_word(buffer, b"CONNECT") => {
                self.with_line(buffer, 7, |line| Ok(ClientOp::Connect(line.trim_ascii())))
            }
            b'i' if has_word(buffer, b"INFO") => {
                self.with_line(buffer, 4, |line| Ok(ClientOp::Info(line.trim_ascii())))
            }
            b'+' | 0x0b if has_word(buffer, b"+OK") => self.parse_bare(buffer, 3, ClientOp::Ok),
            b'-' | 0x0d if has_name(buffer, b"-ERR") => {
                self.with_line(buffer, 4, |line| Ok(ClientOp::Err(line)))
            }
            _ => incomplete_or_unknown(buffer),
        }
    }

    /// An operation without arguments; whatever follows it on its line is ignored, as nats-server does.
    fn parse_bare<'a>(
        &self,
        buffer: &'a [u8],
        from: usize,
        op: ClientOp<'a>,
    ) -> Result<Parsed<ClientOp<'a>>, ParseError> {
        self.with_line(buffer, from, |_| Ok(op))
    }

    fn with_line<'a>(
        &self,
        buffer: &'a [u8],
        from: usize,
        parse: impl FnOnce(&'a [u8]) -> Result<ClientOp<'a>, ParseError>,
    ) -> Result<Parsed<ClientOp<'a>>, ParseError> {
        match find_line_end(buffer, from, self.max_control_line)? {
            Some(end) => Ok(Parsed::Op(parse(trim(&buffer[from..end]))?, end + 1)),
            None => Ok(Parsed::Incomplete { total: 0 }),
        }
    }

    fn parse_publish<'a>(
        &self,
        buffer: &'a [u8],
        from: usize,
        with_headers: bool,
    ) -> Result<Parsed<ClientOp<'a>>, ParseError> {
        let Some(end) = find_line_end(buffer, from, self.max_control_line)? else {
            return Ok(Parsed::Incomplete { total: 0 });
        };
        let mut args = [&[][..]; MAX_CLIENT_ARGS];
        let count = split(trim(&buffer[from..end]), &mut args);
        let sizes = if with_headers { 2 } else { 1 };
        let reply = match count - sizes.min(count) {
            1 => None,
            2 => Some(args[1]),
            _ => {
                return Err(ParseError::BadArguments(
                    "PUB and HPUB take a subject, an optional reply and sizes",
                ));
            }
        };
        let size =
            parse_size(args[count - 1]).ok_or(ParseError::BadArguments("bad or missing message size"))?;
        let header_size = if with_headers {
            parse_size(args[count - 2])
                .filter(|header_size| *header_size <= size)
                .ok_or(ParseError::BadArguments("bad or missing header size"))?
        } else {
            0
        };
        // Both are below 10^9 (see parse_size), so they fit.
        let (size_bytes, header_bytes) = (size as usize, header_size as usize);
        if size_bytes > self.max_payload {
            return Err(ParseError::PayloadTooLarge { size });
        }
        let body_end = end + 1 + size_bytes;
        check_body_end(buffer, body_end)?;
        if buffer.len() < body_end + 2 {
            return Ok(Parsed::Incomplete { total: body_end + 2 });
        }
        let (headers, payload) = buffer[end + 1..body_end].split_at(header_bytes);
        let publish = Publish { subject: args[0], reply, headers, payload, with_headers };
        Ok(Parsed::Op(ClientOp::Publish(publish), body_end + 2))
    }
}

/// A body must be followed by exactly `\r\n`, as far as the buffer goes.
pub(crate) fn check_body_end(buffer: &[u8], body_end: usize) -> Result<(), ParseError> {
    if buffer.get(body_end).is_some_and(|byte| *byte != b'\r')
        || buffer.get(body_end + 1).is_some_and(|byte| *byte != b'\n')
    {
        return Err(ParseError::UnknownOperation);
    }
    Ok(())
}

/// Whether `buffer` starts with the upper-case `name`, in any case, followed by white space.
fn has_name(buffer: &[u8], name: &[u8]) -> bool {
    has_word(buffer, name) && matches!(buffer.get(name.len()), Some(b' ' | b'\t'))
}

fn has_word(buffer: &[u8], name: &[u8]) -> bool {
    buffer.get(..name.len()).is_some_and(|start| start == name || start.eq_ignore_ascii_case(name))
}

fn incomplete_or_unknown<T>(buffer: &[u8]) -> Result<Parsed<T>, ParseError> {
    let longest = 8;
    if buffer.len() < longest && is_prefix_of_any(buffer, NAMES) && !buffer.contains(&b'\n') {
        Ok(Parsed::Incomplete { total: 0 })
    } else {
        Err(ParseError::UnknownOperation)
    }
}

fn parse_subscribe(line: &[u8]) -> Result<ClientOp<'_>, ParseError> {
    let mut args = [&[][..]; MAX_CLIENT_ARGS];
    match split(line, &mut args) {
        2 => Ok(ClientOp::Subscribe { subject: args[0], queue: None, sid: args[1] }),
        3 => Ok(ClientOp::Subscribe { subject: args[0], queue: Some(args[1]), sid: args[2] }),
        _ => Err(ParseError::BadArguments("SUB takes a subject, an optional queue and an id")),
    }
}

fn parse_unsubscribe(line: &[u8]) -> Result<ClientOp<'_>, ParseError> {
    let mut args = [&[][..]; MAX_CLIENT_ARGS];
    match split(line, &mut args) {
        1 => Ok(ClientOp::Unsubscribe { sid: args[0], max: None }),
        // Zero and anything that is no number mean "now", as in nats-server.
        2 => Ok(ClientOp::Unsubscribe { sid: args[0], max: parse_size(args[1]).filter(|max| *max > 0) }),
        _ => Err(ParseError::BadArguments("UNSUB takes an id and an optional maximum")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PARSER: ClientParser = ClientParser { max_control_line: 64, max_payload: 1024 };

    fn parse(bytes: &[u8]) -> Result<Option<(ClientOp<'_>, usize)>, ParseError> {
        match PARSER.parse(bytes)? {
            Parsed::Op(op, consumed) => Ok(Some((op, consumed))),
            Parsed::Incomplete { .. } => Ok(None),
        }
    }

    #[test]
    fn operations_are_parsed_in_any_case_and_with_any_white_space() {
        let publish =
            Publish { subject: b"foo", reply: None, headers: b"", payload: b"hi", with_headers: false };
        assert_eq!(parse(b"PUB foo 2\r\nhi\r\nX"), Ok(Some((ClientOp::Publish(publish), 15))));
        assert_eq!(parse(b"pub \t foo  2 \nhi\r\n"), Ok(Some((ClientOp::Publish(publish), 18))));
        assert_eq!(parse(b"ping\r\n"), Ok(Some((ClientOp::Ping, 6))));
        assert_eq!(parse(b"PINGX\n"), Ok(Some((ClientOp::Ping, 6))));
        assert_eq!(
            parse(b"SUB foo q 1\r\n"),
            Ok(Some((ClientOp::Subscribe { subject: b"foo", queue: Some(b"q"), sid: b"1" }, 13)))
        );
        assert_eq!(
            parse(b"UNSUB 1 5\r\n"),
            Ok(Some((ClientOp::Unsubscribe { sid: b"1", max: Some(5) }, 11)))
        );
        assert_eq!(parse(b"UNSUB 1 x\r\n"), Ok(Some((ClientOp::Unsubscribe { sid: b"1", max: None }, 11))));
        assert_eq!(parse(b"+OK\r\n"), Ok(Some((ClientOp::Ok, 5))));
        assert_eq!(parse(b"-ERR 'x'\r\n"), Ok(Some((ClientOp::Err(b" 'x'"), 10))));
    }

    #[test]
    fn headers_are_split_from_the_payload() {
        let publish = Publish {
            subject: b"a",
            reply: Some(b"r"),
            headers: b"NATS/1.0\r\n\r\n",
            payload: b"hi",
            with_headers: true,
        };
        assert_eq!(
            parse(b"HPUB a r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"),
            Ok(Some((ClientOp::Publish(publish), 32)))
        );
    }

    #[test]
    fn errors_are_told_apart_as_nats_server_does() {
        for (bytes, error) in [
            (&b"FOO"[..], ParseError::UnknownOperation),
            (b"PUX", ParseError::UnknownOperation),
            (b"\r\n", ParseError::UnknownOperation),
            (b"SUB\r\n", ParseError::UnknownOperation),
            (b"PUB\r\n", ParseError::UnknownOperation),
            (b"MSG a 1 1\r\n", ParseError::UnknownOperation),
            (b"PUB foo 2\r\nhello\r\n", ParseError::UnknownOperation),
            (b"PUB foo 2000\r\n", ParseError::PayloadTooLarge { size: 2000 }),
        ] {
            assert_eq!(parse(bytes), Err(error), "{bytes:?}");
        }
        for bytes in [
            &b"SUB foo\r\n"[..],
            b"SUB a b c d\r\n",
            b"PUB foo\r\n",
            b"PUB foo x\r\n",
            b"PUB foo -1\r\n",
            b"PUB foo a b 1\r\n",
            b"PUB foo 99999999999999999999\r\n",
            b"HPUB foo 15 14\r\n",
            b"UNSUB 1 2 3\r\n",
        ] {
            assert!(matches!(parse(bytes), Err(ParseError::BadArguments(_))), "{bytes:?}");
        }
    }

    #[test]
    fn a_long_line_is_refused_before_its_end_has_come() {
        let long = [b"SUB ", &[b'a'; 70][..]].concat();
        assert_eq!(parse(&long), Err(ParseError::ControlLineTooLong));
        let fits = [b"SUB ", &[b'a'; 62][..], b" 1\r\n"].concat();
        assert!(matches!(parse(&fits), Ok(Some(_))));
        let over = [b"SUB ", &[b'a'; 63][..], b" 1\r\n"].concat();
        assert_eq!(parse(&over), Err(ParseError::ControlLineTooLong));
    }

    proptest! {
        #[test]
        fn no_input_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn every_prefix_of_a_valid_operation_is_incomplete(cut in 0usize..32) {
            for whole in [
                &b"HPUB a r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"[..],
                b"CONNECT {\"verbose\":false}\r\n",
                b"UNSUB 1 2\r\n",
                b"PONG\r\n",
                b"-ERR 'x'\r\n",
            ] {
                if cut < whole.len() {
                    prop_assert_eq!(parse(&whole[..cut]), Ok(None));
                }
            }
        }
    }
}
