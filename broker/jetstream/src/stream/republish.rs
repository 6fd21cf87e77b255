//! Republishing (ADR-28): the copy of a stored message that goes out again under another subject. Not its sending.

use bytes::Bytes;
use weir_jsapi::{StreamConfig, headers as names};
use weir_subject::{Transform, is_valid_literal};

use crate::command::Republished;
use crate::headers;
use crate::store::StoredMessage;

/// What a stream's configuration says of republishing, ready for use.
#[derive(Debug)]
pub(super) struct Republisher {
    transform: Transform,
    headers_only: bool,
}

impl Republisher {
    /// `None` where the configuration asks for none; a transform that is not valid was refused before.
    pub(super) fn of(config: &StreamConfig) -> Option<Self> {
        let republish = config.republish.as_ref()?;
        let transform = Transform::new(&republish.src, &republish.dest).ok()?;
        Some(Self { transform, headers_only: republish.headers_only })
    }

    /// The copy of a message of `stream`; `last_seq` is the sequence before it on the same subject, 0 for none.
    /// Subjects that the transform leaves out, or makes invalid, are not republished.
    pub(super) fn copy(&self, stream: &str, message: &StoredMessage, last_seq: u64) -> Option<Republished> {
        // Replicas agree on a "random" part, and each message has another.
        let random = || (message.seq.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32;
        let subject = self.transform.transform(&message.subject, random)?;
        if !is_valid_literal(&subject) {
            return None;
        }
        let stored = headers::StoredAt {
            stream,
            subject: &message.subject,
            seq: message.seq,
            timestamp: message.timestamp,
        };
        let mut block = headers::with_stored_at(&message.headers, &stored);
        headers::push(&mut block, names::LAST_SEQUENCE, last_seq.to_string().as_bytes());
        if self.headers_only {
            headers::push(&mut block, names::MSG_SIZE, message.payload.len().to_string().as_bytes());
        }
        block.extend_from_slice(b"\r\n");
        let payload = if self.headers_only { Bytes::new() } else { message.payload.clone() };
        Some(Republished { subject: Bytes::from(subject), headers: Bytes::from(block), payload })
    }
}
