//! What another server sends over a route: INFO CONNECT PING PONG RS+ RS- LS+ LS- RMSG HMSG LMSG (and A+ A-).
//! Allocates nothing; queue lists are iterated lazily. Not the machine that answers.

use crate::Parsed;
use crate::args::{find_line_end, is_prefix_of_any, parse_size, trim};
use crate::client::check_body_end;
use crate::error::ParseError;

/// A message from another server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteMessage<'a> {
    /// The cluster of the leaf node it came from, if it came from one.
    pub origin: Option<&'a [u8]>,
    /// The account's name; empty when the link is dedicated to one account.
    pub account: &'a [u8],
    /// The literal subject.
    pub subject: &'a [u8],
    /// The reply subject, if any.
    pub reply: Option<&'a [u8]>,
    /// The names of queue groups of which one member each shall get it, separated by white space.
    pub queues: &'a [u8],
    /// The header block, or empty.
    pub headers: &'a [u8],
    /// The payload without headers.
    pub payload: &'a [u8],
}

impl<'a> RouteMessage<'a> {
    /// The queue groups, one by one.
    pub fn queue_names(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        words(self.queues)
    }
}

/// One operation of another server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteOp<'a> {
    /// INFO with its JSON.
    Info(&'a [u8]),
    /// CONNECT with its JSON.
    Connect(&'a [u8]),
    /// PING.
    Ping,
    /// PONG.
    Pong,
    /// RS+ or LS+: interest there.
    Subscribe {
        /// For interest of its leaf nodes: their cluster, or `_`.
        leaf: Option<&'a [u8]>,
        /// The account's name; empty when the link is dedicated to one account.
        account: &'a [u8],
        /// The subject, wildcards included.
        subject: &'a [u8],
        /// The queue group and how many members it has there.
        queue: Option<(&'a [u8], u32)>,
    },
    /// RS- or LS-: no more interest there.
    Unsubscribe {
        /// For interest of its leaf nodes: their cluster, or `_`.
        leaf: Option<&'a [u8]>,
        /// The account's name; empty when the link is dedicated to one account.
        account: &'a [u8],
        /// The subject, wildcards included.
        subject: &'a [u8],
        /// The queue group, if any.
        queue: Option<&'a [u8]>,
    },
    /// RMSG or HMSG.
    Message(RouteMessage<'a>),
    /// A+ or A-, which only matter to gateways.
    Account,
    /// +OK.
    Ok,
    /// -ERR with its text.
    Err(&'a [u8]),
}

/// Parses what a server sends.
#[derive(Debug, Clone, Copy)]
pub struct RouteParser {
    /// The largest message (headers and payload), in bytes.
    pub max_payload: usize,
    /// The longest argument line, in bytes.
    pub max_line: usize,
    /// Whether the link is dedicated to one account, so that its operations do not name it.
    pub dedicated: bool,
}

const NAMES: &[&[u8]] = &[
    b"INFO ",
    b"CONNECT ",
    b"PING",
    b"PONG",
    b"RS+ ",
    b"RS- ",
    b"LS+ ",
    b"LS- ",
    b"RMSG ",
    b"HMSG ",
    b"LMSG ",
    b"A+ ",
    b"A- ",
    b"+OK",
    b"-ERR",
];
const LONGEST_NAME: usize = 8;

impl RouteParser {
    /// Parses the operation at the start of `buffer`.
    pub fn parse<'a>(&self, buffer: &'a [u8]) -> Result<Parsed<RouteOp<'a>>, ParseError> {
        if buffer.is_empty() {
            return Ok(Parsed::Incomplete { total: 0 });
        }
        // Nearly all of the traffic is one of these two.
        let name = if buffer.starts_with(b"RMSG ") {
            Some(&b"RMSG "[..])
        } else if buffer.starts_with(b"HMSG ") {
            Some(&b"HMSG "[..])
        } else {
            NAMES.iter().copied().find(|name| starts_with(buffer, name))
        };
        let Some(name) = name else {
            return if buffer.len() < LONGEST_NAME && is_prefix_of_any(buffer, NAMES) {
                Ok(Parsed::Incomplete { total: 0 })
            } else {
                Err(ParseError::UnknownOperation)
            };
        };
        let from = name.len();
        let Some(end) = find_line_end(buffer, from, self.max_line)? else {
            return Ok(Parsed::Incomplete { total: 0 });
        };
        let line = trim(&buffer[from..end]);
        let op = match name {
            b"RMSG " => return self.parse_message(buffer, line, end + 1, Form::Plain),
            b"HMSG " => return self.parse_message(buffer, line, end + 1, Form::Headers),
            b"LMSG " => return self.parse_message(buffer, line, end + 1, Form::Leaf),
            b"RS+ " => self.parse_subscribe(line, false)?,
            b"RS- " => self.parse_unsubscribe(line, false)?,
            b"LS+ " => self.parse_subscribe(line, true)?,
            b"LS- " => self.parse_unsubscribe(line, true)?,
            b"INFO " => RouteOp::Info(line.trim_ascii()),
            b"CONNECT " => RouteOp::Connect(line.trim_ascii()),
            b"PING" => RouteOp::Ping,
            b"PONG" => RouteOp::Pong,
            b"+OK" => RouteOp::Ok,
            b"-ERR" => RouteOp::Err(line.trim_ascii()),
            _ => RouteOp::Account,
        };
        Ok(Parsed::Op(op, end + 1))
    }

    fn account<'a>(&self, args: &mut impl Iterator<Item = &'a [u8]>) -> Result<&'a [u8], ParseError> {
        if self.dedicated {
            Ok(&[])
        } else {
            args.next().ok_or(ParseError::BadArguments("account is missing"))
        }
    }

    fn parse_subscribe<'a>(&self, line: &'a [u8], is_leaf: bool) -> Result<RouteOp<'a>, ParseError> {
        let mut args = words(line);
        let leaf = origin(&mut args, is_leaf)?;
        let account = self.account(&mut args)?;
        let subject = args.next().ok_or(ParseError::BadArguments("RS+ without a subject"))?;
        let queue = match (args.next(), args.next()) {
            (None, _) => None,
            (Some(queue), Some(weight)) => {
                let weight = parse_size(weight).and_then(|weight| u32::try_from(weight).ok());
                Some((queue, weight.ok_or(ParseError::BadArguments("RS+ with a bad weight"))?))
            }
            (Some(_), None) => return Err(ParseError::BadArguments("RS+ with a queue needs a weight")),
        };
        if args.next().is_some() {
            return Err(ParseError::BadArguments("RS+ with too many arguments"));
        }
        Ok(RouteOp::Subscribe { leaf, account, subject, queue })
    }

    fn parse_unsubscribe<'a>(&self, line: &'a [u8], is_leaf: bool) -> Result<RouteOp<'a>, ParseError> {
        let mut args = words(line);
        let leaf = origin(&mut args, is_leaf)?;
        let account = self.account(&mut args)?;
        let subject = args.next().ok_or(ParseError::BadArguments("RS- without a subject"))?;
        let queue = args.next();
        if args.next().is_some() {
            return Err(ParseError::BadArguments("RS- with too many arguments"));
        }
        Ok(RouteOp::Unsubscribe { leaf, account, subject, queue })
    }

    /// `[origin] [account] subject [reply] sizes`, or with queue groups `[account] subject (+ reply | "|") queue... sizes`.
    fn parse_message<'a>(
        &self,
        buffer: &'a [u8],
        line: &'a [u8],
        body: usize,
        form: Form,
    ) -> Result<Parsed<RouteOp<'a>>, ParseError> {
        let (rest, size) = last_word(line);
        let size = parse_size(size).ok_or(ParseError::BadArguments("message without a size"))?;
        let (rest, header_size) = if form == Form::Plain { (rest, &b"0"[..]) } else { last_word(rest) };
        let header_size = parse_size(header_size)
            .filter(|header_size| *header_size <= size)
            .ok_or(ParseError::BadArguments("message with a bad header size"))?;
        let mut args = WordsWithRest { rest };
        let origin = origin(&mut args, form == Form::Leaf)?;
        let account = self.account(&mut args)?;
        let subject = args.next().ok_or(ParseError::BadArguments("message without a subject"))?;
        let (reply, queues) = match args.next() {
            None => (None, &[][..]),
            Some(b"+") => {
                let reply =
                    args.next().ok_or(ParseError::BadArguments("message with + but without a reply"))?;
                (Some(reply), args.rest)
            }
            Some(b"|") => (None, args.rest),
            Some(_) if !args.rest.trim_ascii().is_empty() => {
                return Err(ParseError::BadArguments("message with a bad reply indicator"));
            }
            Some(reply) => (Some(reply), &[][..]),
        };
        // Both are below 10^9 (see parse_size), so they fit.
        let (size_bytes, header_bytes) = (size as usize, header_size as usize);
        if size_bytes > self.max_payload {
            return Err(ParseError::PayloadTooLarge { size });
        }
        let body_end = body + size_bytes;
        check_body_end(buffer, body_end)?;
        if buffer.len() < body_end + 2 {
            return Ok(Parsed::Incomplete { total: body_end + 2 });
        }
        let (headers, payload) = buffer[body..body_end].split_at(header_bytes);
        let message = RouteMessage { origin, account, subject, reply, queues, headers, payload };
        Ok(Parsed::Op(RouteOp::Message(message), body_end + 2))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Headers,
    /// From a leaf node: with its cluster, and always with a header size.
    Leaf,
}

fn origin<'a>(
    args: &mut impl Iterator<Item = &'a [u8]>,
    is_leaf: bool,
) -> Result<Option<&'a [u8]>, ParseError> {
    match is_leaf.then(|| args.next()) {
        None => Ok(None),
        Some(Some(origin)) => Ok(Some(origin)),
        Some(None) => Err(ParseError::BadArguments("the origin is missing")),
    }
}

fn starts_with(buffer: &[u8], name: &[u8]) -> bool {
    buffer.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    WordsWithRest { rest: line }
}

struct WordsWithRest<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for WordsWithRest<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest.trim_ascii_start();
        if rest.is_empty() {
            self.rest = rest;
            return None;
        }
        let end = memchr::memchr2(b' ', b'\t', rest).unwrap_or(rest.len());
        let (word, rest) = rest.split_at(end);
        self.rest = rest;
        Some(word)
    }
}

/// Splits off the last word of a line.
fn last_word(line: &[u8]) -> (&[u8], &[u8]) {
    let line = line.trim_ascii_end();
    let from = memchr::memrchr2(b' ', b'\t', line).map_or(0, |at| at + 1);
    line.split_at(from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(bytes: &[u8], dedicated: bool) -> Result<Option<(RouteOp<'_>, usize)>, ParseError> {
        match (RouteParser { max_payload: 1024, max_line: 4096, dedicated }).parse(bytes)? {
            Parsed::Op(op, consumed) => Ok(Some((op, consumed))),
            Parsed::Incomplete { .. } => Ok(None),
        }
    }

    #[test]
    fn messages_carry_reply_and_queues_in_all_forms() {
        for (line, reply, queues) in [
            ("RMSG $G foo 2", None, ""),
            ("RMSG $G foo bar 2", Some("bar"), ""),
            ("RMSG $G foo + bar q1 q2 2", Some("bar"), "q1 q2"),
            ("RMSG $G foo | q1 2", None, "q1"),
        ] {
            let bytes = format!("{line}\r\nhi\r\n");
            let Ok(Some((RouteOp::Message(message), consumed))) = parse(bytes.as_bytes(), false) else {
                panic!("{line}")
            };
            assert_eq!(consumed, bytes.len());
            assert_eq!((message.account, message.subject), (&b"$G"[..], &b"foo"[..]));
            assert_eq!(message.reply, reply.map(str::as_bytes));
            assert_eq!(message.payload, b"hi");
            let names: Vec<_> = message.queue_names().collect();
            assert_eq!(names, queues.split_whitespace().map(str::as_bytes).collect::<Vec<_>>());
        }
    }

    #[test]
    fn dedicated_links_do_not_name_the_account() {
        let Ok(Some((RouteOp::Message(message), _))) =
            parse(b"HMSG foo | q 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", true)
        else {
            panic!()
        };
        assert_eq!((message.account, message.subject), (&b""[..], &b"foo"[..]));
        assert_eq!((message.headers, message.payload), (&b"NATS/1.0\r\n\r\n"[..], &b"hi"[..]));
        assert_eq!(
            parse(b"RS+ a.> q 3\r\n", true),
            Ok(Some((
                RouteOp::Subscribe { leaf: None, account: b"", subject: b"a.>", queue: Some((b"q", 3)) },
                13
            )))
        );
    }

    #[test]
    fn interest_needs_a_weight_with_a_queue() {
        assert_eq!(
            parse(b"RS+ $G a\r\n", false),
            Ok(Some((RouteOp::Subscribe { leaf: None, account: b"$G", subject: b"a", queue: None }, 10)))
        );
        assert!(parse(b"RS+ $G a q\r\n", false).is_err());
        assert!(parse(b"RS+ $G\r\n", false).is_err());
        assert_eq!(
            parse(b"RS- $G a q\r\n", false),
            Ok(Some((
                RouteOp::Unsubscribe { leaf: None, account: b"$G", subject: b"a", queue: Some(b"q") },
                12
            )))
        );
    }

    #[test]
    fn what_comes_from_leaf_nodes_names_their_cluster() {
        assert_eq!(
            parse(b"LS+ L1 $G a q 2\r\n", false),
            Ok(Some((
                RouteOp::Subscribe {
                    leaf: Some(b"L1"),
                    account: b"$G",
                    subject: b"a",
                    queue: Some((b"q", 2))
                },
                17
            )))
        );
        assert_eq!(
            parse(b"LS- _ a\r\n", true),
            Ok(Some((
                RouteOp::Unsubscribe { leaf: Some(b"_"), account: b"", subject: b"a", queue: None },
                9
            )))
        );
        let Ok(Some((RouteOp::Message(message), _))) = parse(b"LMSG L1 $G foo r 0 2\r\nhi\r\n", false) else {
            panic!()
        };
        assert_eq!((message.origin, message.account), (Some(&b"L1"[..]), &b"$G"[..]));
        assert_eq!(
            (message.reply, message.headers, message.payload),
            (Some(&b"r"[..]), &b""[..], &b"hi"[..])
        );
        assert!(parse(b"RMSG $G foo r q 2\r\nhi\r\n", false).is_err());
    }

    proptest! {
        #[test]
        fn no_input_makes_it_panic(
            name in 0usize..NAMES.len(),
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
            line in "[ +|a-z0-9$]{0,40}\r\n",
        ) {
            let _ = parse(&bytes, false);
            let _ = parse(&[NAMES[name], line.as_bytes(), &bytes].concat(), name % 2 == 0);
        }
    }
}
