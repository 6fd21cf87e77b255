//! The reply subject of a fast batch's message, which says what the message is to its batch:
//! `<prefix>.<batch>.<flow>.<ok|fail>.<sequence>.<operation>.$FI` (ADR-50).

use crate::publish_headers::decimal;

/// Every reply subject of a fast batch ends so.
const SUFFIX: &[u8] = b".$FI";
/// Acknowledgements every so many messages, where the client names no number.
const FLOW_DEFAULT: u16 = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Append,
    /// The last message of the batch.
    Commit,
    /// Only ends the batch.
    End,
    /// Asks where the batch is.
    Ping,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FastReply<'a> {
    pub(super) batch: &'a [u8],
    pub(super) seq: u64,
    /// The client wants no fewer messages than these between two acknowledgements.
    pub(super) flow: u16,
    pub(super) gap_ok: bool,
    pub(super) operation: Operation,
}

/// Whether a message with this reply subject belongs to a fast batch.
pub fn is_fast_reply(reply: &[u8]) -> bool {
    reply.len() > SUFFIX.len() && reply.ends_with(SUFFIX)
}

/// Whether a message with this reply subject may begin a batch.
pub fn starts_fast_batch(reply: &[u8]) -> bool {
    FastReply::parse(reply).is_some_and(|reply| reply.seq == 1 && reply.operation != Operation::Ping)
}

impl<'a> FastReply<'a> {
    /// `None` when the subject does not follow the pattern.
    pub(super) fn parse(reply: &'a [u8]) -> Option<Self> {
        let mut parts = reply.strip_suffix(SUFFIX)?.rsplitn(6, |&byte| byte == b'.');
        let number = parts.next().and_then(decimal)?;
        let seq = parts.next().and_then(decimal).filter(|&seq| seq > 0 && seq < u64::MAX)?;
        let operation = match number {
            0 if seq == 1 => Operation::Append,
            1 if seq > 1 => Operation::Append,
            2 => Operation::Commit,
            3 if seq > 1 => Operation::End,
            4 => Operation::Ping,
            _ => return None,
        };
        let gap_ok = match parts.next()? {
            b"ok" => true,
            b"fail" => false,
            _ => return None,
        };
        let flow = match decimal(parts.next()?) {
            None | Some(0) => FLOW_DEFAULT,
            Some(flow) => u16::try_from(flow).unwrap_or(u16::MAX),
        };
        let batch = parts.next()?;
        // Something has to stand before the batch.
        parts.next()?;
        Some(Self { batch, seq, flow, gap_ok, operation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_says_batch_flow_gaps_sequence_and_operation() {
        let reply = FastReply::parse(b"_INBOX.x.y.id.100.ok.7.1.$FI").expect("valid");
        let wanted =
            FastReply { batch: b"id", seq: 7, flow: 100, gap_ok: true, operation: Operation::Append };
        assert_eq!(reply, wanted);
        assert_eq!(FastReply::parse(b"i.id.x.fail.1.0.$FI").map(|reply| reply.flow), Some(FLOW_DEFAULT));
        assert_eq!(FastReply::parse(b"i.id.99999.fail.1.0.$FI").map(|reply| reply.flow), Some(u16::MAX));
    }

    #[test]
    fn what_does_not_follow_the_pattern_is_refused() {
        for reply in [
            "i.id.1.ok.1.5.$FI",
            "i.id.1.ok.1.x.$FI",
            "i.id.1.ok.0.0.$FI",
            "i.id.1.maybe.1.0.$FI",
            "id.1.ok.1.0.$FI",
            "i.id.1.ok.2.0.$FI",
            "i.id.1.ok.1.1.$FI",
            "i.id.1.ok.1.3.$FI",
            ".$FI",
            "i.id.1.ok.18446744073709551615.1.$FI",
        ] {
            assert_eq!(FastReply::parse(reply.as_bytes()), None, "{reply}");
        }
        assert!(is_fast_reply(b"a.$FI") && !is_fast_reply(b".$FI") && !is_fast_reply(b"a.FI"));
    }
}
