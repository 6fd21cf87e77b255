//! Encoding what is sent to clients and to other servers, into a byte vector. Not sending it.

/// `PING\r\n`.
pub const PING: &[u8] = b"PING\r\n";
/// `PONG\r\n`.
pub const PONG: &[u8] = b"PONG\r\n";
/// `+OK\r\n`.
pub const OK: &[u8] = b"+OK\r\n";
/// The end of a line and of a message.
pub const CRLF: &[u8] = b"\r\n";

/// Appends a decimal number.
pub fn number(out: &mut Vec<u8>, mut value: usize) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        // A decimal digit fits.
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends `-ERR 'text'\r\n`.
pub fn error(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(b"-ERR '");
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"'\r\n");
}

/// Appends the line of a message to a client: MSG, or HMSG when `header_size` is not 0.
/// What follows is the header block, the payload and CRLF.
pub fn message_line(
    out: &mut Vec<u8>,
    subject: &[u8],
    sid: &[u8],
    reply: Option<&[u8]>,
    header_size: usize,
    total_size: usize,
) {
    out.reserve(subject.len() + sid.len() + reply.map_or(0, <[u8]>::len) + 32);
    out.extend_from_slice(if header_size > 0 { b"HMSG " } else { b"MSG " });
    out.extend_from_slice(subject);
    out.push(b' ');
    out.extend_from_slice(sid);
    out.push(b' ');
    if let Some(reply) = reply {
        out.extend_from_slice(reply);
        out.push(b' ');
    }
    if header_size > 0 {
        number(out, header_size);
        out.push(b' ');
    }
    number(out, total_size);
    out.extend_from_slice(CRLF);
}

/// The arguments of a message to another server.
#[derive(Debug, Clone, Copy, Default)]
pub struct RouteLine<'a> {
    /// Absent on a link dedicated to one account.
    pub account: Option<&'a [u8]>,
    /// The literal subject that decides who gets it.
    pub subject: &'a [u8],
    /// The reply subject, if any.
    pub reply: Option<&'a [u8]>,
    /// The subject that receivers are shown instead, which travels behind the reply: `reply@shown`.
    pub shown: Option<&'a [u8]>,
    /// The queue groups of which one member each shall get it.
    pub queues: &'a [&'a [u8]],
    /// The size of the header block in bytes.
    pub header_size: usize,
    /// The size of header block and payload in bytes.
    pub total_size: usize,
}

/// Appends the line of a message to another server: RMSG, or HMSG when there are headers.
pub fn route_message_line(out: &mut Vec<u8>, line: &RouteLine<'_>) {
    out.reserve(line.subject.len() + line.reply.map_or(0, <[u8]>::len) + 96);
    out.extend_from_slice(if line.header_size > 0 { b"HMSG " } else { b"RMSG " });
    if let Some(account) = line.account {
        out.extend_from_slice(account);
        out.push(b' ');
    }
    out.extend_from_slice(line.subject);
    out.push(b' ');
    if !line.queues.is_empty() {
        out.extend_from_slice(if line.reply.is_some() { b"+ " } else { b"| " });
    }
    if let Some(reply) = line.reply {
        out.extend_from_slice(reply);
        if let Some(shown) = line.shown {
            out.push(b'@');
            out.extend_from_slice(shown);
        }
        out.push(b' ');
    }
    for queue in line.queues {
        out.extend_from_slice(queue);
        out.push(b' ');
    }
    if line.header_size > 0 {
        number(out, line.header_size);
        out.push(b' ');
    }
    number(out, line.total_size);
    out.extend_from_slice(CRLF);
}

/// Appends `RS+ [account] subject [queue weight]\r\n`, or `RS-` when `weight` is 0.
pub fn route_interest(
    out: &mut Vec<u8>,
    account: Option<&[u8]>,
    subject: &[u8],
    queue: Option<&[u8]>,
    weight: u32,
) {
    out.extend_from_slice(if weight > 0 { b"RS+ " } else { b"RS- " });
    if let Some(account) = account {
        out.extend_from_slice(account);
        out.push(b' ');
    }
    out.extend_from_slice(subject);
    if let Some(queue) = queue {
        out.push(b' ');
        out.extend_from_slice(queue);
        if weight > 0 {
            out.push(b' ');
            number(out, weight as usize);
        }
    }
    out.extend_from_slice(CRLF);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(encode: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        encode(&mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn message_lines_follow_the_protocol() {
        assert_eq!(text(|out| message_line(out, b"foo", b"1", None, 0, 10)), "MSG foo 1 10\r\n");
        assert_eq!(text(|out| message_line(out, b"foo", b"1", Some(b"r"), 12, 14)), "HMSG foo 1 r 12 14\r\n");
        let line = |line: RouteLine<'_>| text(|out| route_message_line(out, &line));
        let plain =
            RouteLine { account: Some(b"$G"), subject: b"foo", total_size: 7, ..RouteLine::default() };
        assert_eq!(line(plain), "RMSG $G foo 7\r\n");
        assert_eq!(
            line(RouteLine { reply: Some(b"r"), queues: &[b"q", b"p"], ..plain }),
            "RMSG $G foo + r q p 7\r\n"
        );
        assert_eq!(
            line(RouteLine { account: None, queues: &[b"q"], header_size: 12, total_size: 14, ..plain }),
            "HMSG foo | q 12 14\r\n"
        );
        assert_eq!(
            line(RouteLine { reply: Some(b"r"), shown: Some(b"s"), ..plain }),
            "RMSG $G foo r@s 7\r\n"
        );
    }

    #[test]
    fn interest_lines_name_weights_only_when_there_is_interest() {
        assert_eq!(text(|out| route_interest(out, Some(b"$G"), b"a", Some(b"q"), 3)), "RS+ $G a q 3\r\n");
        assert_eq!(text(|out| route_interest(out, Some(b"$G"), b"a", Some(b"q"), 0)), "RS- $G a q\r\n");
        assert_eq!(text(|out| route_interest(out, None, b"a", None, 1)), "RS+ a\r\n");
    }

    #[test]
    fn numbers_are_decimal() {
        for value in [0, 7, 10, 999, usize::MAX] {
            assert_eq!(text(|out| number(out, value)), value.to_string());
        }
    }
}
