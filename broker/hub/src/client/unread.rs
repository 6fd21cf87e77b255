//! What a client is told, and the log says, of operations that cannot be read. Not the reading.

use super::session::Session;
use crate::close_reason::CloseReason;
use crate::trace;
use tracing::error;
use weir_proto::{ParseError, err};
use weir_stdx::quote::quote;

impl Session {
    /// Says what is wrong with the operation at the front of `bytes`; returns the reason to close with.
    pub(super) fn on_parse_error(&mut self, error: &ParseError, bytes: &[u8]) -> CloseReason {
        let (verb, arguments) = split(bytes);
        let is_publish = matches!(verb.as_slice(), b"PUB" | b"HPUB");
        let is_shown = matches!(error, ParseError::BadArguments(_) | ParseError::PayloadTooLarge { .. })
            || is_publish && *error == ParseError::UnknownOperation;
        if trace::is_on() && is_shown && !arguments.is_empty() {
            trace::unread_in(&self.handle.label(), &verb, arguments);
        }
        match error {
            ParseError::UnknownOperation => {
                self.error(err::UNKNOWN_OPERATION);
                self.complain("Client parser ERROR");
                CloseReason::ProtocolViolation
            }
            ParseError::BadArguments(what) => {
                // The client is told nothing.
                self.complain(&fault(&verb, what, arguments));
                CloseReason::ProtocolViolation
            }
            ParseError::ControlLineTooLong => {
                self.error(err::MAX_CONTROL_LINE);
                self.complain(err::MAX_CONTROL_LINE);
                CloseReason::MaxControlLineExceeded
            }
            ParseError::PayloadTooLarge { size } => {
                let max = self.parser.max_payload;
                self.complain(&format!("maximum payload exceeded: {size} vs {max}"));
                self.error(err::MAX_PAYLOAD);
                CloseReason::MaxPayloadExceeded
            }
        }
    }

    /// An error about this client in the log.
    pub(super) fn complain(&self, what: &str) {
        error!("{} - {what}", self.handle.label());
    }
}

/// The verb in capitals, and what follows it up to the end of the line.
fn split(bytes: &[u8]) -> (Vec<u8>, &[u8]) {
    let line = &bytes[..memchr::memchr(b'\n', bytes).unwrap_or(bytes.len())];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let end = line.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(line.len());
    let (verb, arguments) = line.split_at(end);
    (verb.to_ascii_uppercase(), arguments.trim_ascii_start())
}

/// What nats-server's log calls such arguments.
fn fault(verb: &[u8], what: &str, arguments: &[u8]) -> String {
    let (reader, is_about_headers) = match verb {
        b"PUB" => ("processPub", false),
        b"HPUB" => ("processHeaderPub", true),
        b"UNSUB" => ("processUnsub", false),
        _ => ("processSub", false),
    };
    let words: Vec<&[u8]> =
        arguments.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
    let number = |back: usize| {
        let word = words.len().checked_sub(back).and_then(|at| words.get(at))?;
        std::str::from_utf8(word).ok()?.parse::<u32>().ok()
    };
    let what = match (what.contains("missing"), is_about_headers) {
        (false, _) => "Parse Error",
        (true, false) => "Bad or Missing Size",
        (true, true) if number(2).is_none() => "Bad or Missing Header Size",
        (true, true) if number(1).is_none() => "Bad or Missing Total Size",
        (true, true) => "Header Size larger then TotalSize",
    };
    format!("{reader} {what}: {}", quote(arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_called_as_by_nats_server() {
        let of = |line: &[u8], what| {
            let (verb, arguments) = split(line);
            fault(&verb, what, arguments)
        };
        assert_eq!(of(b"sub  a b c d\r\n", "SUB takes"), r#"processSub Parse Error: "a b c d""#);
        assert_eq!(
            of(b"PUB a x\r\n", "bad or missing message size"),
            r#"processPub Bad or Missing Size: "a x""#
        );
        let size = "bad or missing header size";
        assert_eq!(of(b"HPUB a x 2\r\n", size), r#"processHeaderPub Bad or Missing Header Size: "a x 2""#);
        assert_eq!(of(b"HPUB a 2 x\r\n", size), r#"processHeaderPub Bad or Missing Total Size: "a 2 x""#);
        assert_eq!(of(b"HPUB a 5 2", size), r#"processHeaderPub Header Size larger then TotalSize: "a 5 2""#);
        assert_eq!(of(b"UNSUB 1 2 3\r\n", "UNSUB takes"), r#"processUnsub Parse Error: "1 2 3""#);
    }
}
