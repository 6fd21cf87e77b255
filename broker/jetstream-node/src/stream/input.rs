//! What clients send to the consumers of a stream, on its way to the delivery task. Not what it means: see `delivery`.

use std::sync::Arc;

use bytes::Bytes;
use weir_hub::Inbound;
use weir_jetstream::Effect;
use weir_jsapi::{API_LEVEL, headers};

use super::delivery::ResetAnswer;

/// Something for one of the stream's consumers.
pub(crate) enum Input {
    Ack(Message),
    Next(Message),
    FlowControl {
        subject: Bytes,
        headers: Bytes,
    },
    /// Somebody began or ceased to listen on a push consumer's deliver subject.
    Interest {
        consumer: Arc<str>,
    },
    /// The consumer was changed from outside.
    Wake {
        consumer: String,
    },
    /// CONSUMER.RESET.
    Reset {
        consumer: String,
        seq: u64,
        answer: ResetAnswer,
    },
}

/// A message in one piece of memory: subject, reply, body.
pub(crate) struct Message {
    bytes: Box<[u8]>,
    subject_len: u32,
    reply_len: u32,
}

impl Message {
    /// `None`: not text, or larger than any message can be.
    fn copy(message: &Inbound<'_>) -> Option<Self> {
        std::str::from_utf8(message.subject).ok()?;
        let reply = message.reply.unwrap_or_default();
        let mut bytes = Vec::with_capacity(message.subject.len() + reply.len() + message.payload.len());
        bytes.extend_from_slice(message.subject);
        bytes.extend_from_slice(reply);
        bytes.extend_from_slice(message.payload);
        let subject_len = u32::try_from(message.subject.len()).ok()?;
        let reply_len = u32::try_from(reply.len()).ok()?;
        Some(Self { bytes: bytes.into_boxed_slice(), subject_len, reply_len })
    }

    fn part(&self, from: usize, to: usize) -> &[u8] {
        self.bytes.get(from..to).unwrap_or_default()
    }

    pub(crate) fn subject(&self) -> &str {
        std::str::from_utf8(self.part(0, self.subject_len as usize)).unwrap_or_default()
    }

    pub(crate) fn reply(&self) -> Option<&[u8]> {
        let from = self.subject_len as usize;
        Some(self.part(from, from + self.reply_len as usize)).filter(|reply| !reply.is_empty())
    }

    pub(crate) fn body(&self) -> &[u8] {
        self.part((self.subject_len + self.reply_len) as usize, self.bytes.len())
    }
}

impl Input {
    pub(crate) fn ack(message: &Inbound<'_>) -> Option<Self> {
        Message::copy(message).map(Self::Ack)
    }

    /// A pull request; one that needs a newer server is refused on the spot.
    pub(crate) fn next(message: &Inbound<'_>) -> Option<Self> {
        let reply = message.reply?;
        if !message.headers.is_empty() && asks_newer_api(message.headers) {
            message.account.publish(reply, None, b"NATS/1.0 412 Required Api Level\r\n\r\n", b"");
            return None;
        }
        Message::copy(message).map(Self::Next)
    }

    pub(crate) fn flow_control(message: &Inbound<'_>) -> Option<Self> {
        let headers = Bytes::copy_from_slice(message.headers);
        Some(Self::FlowControl { subject: Bytes::copy_from_slice(message.subject), headers })
    }
}

/// `Nats-Required-Api-Level` above ours, or no number.
pub(crate) fn asks_newer_api(block: &[u8]) -> bool {
    let Some(value) = weir_jetstream::headers::get(block, headers::REQUIRED_API_LEVEL) else { return false };
    if value.is_empty() {
        return false;
    }
    let level: Option<i64> = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
    level.is_none_or(|level| level > i64::from(API_LEVEL))
}

/// What the hub says where nobody listens: the stream listens for all its consumers, also for those that are not there.
pub(crate) fn no_responders(reply: Option<&[u8]>, subject: &str) -> Option<Effect> {
    let headers = Bytes::from(format!("NATS/1.0 503\r\nNats-Subject: {subject}\r\n\r\n"));
    reply.map(|reply| Effect::Status { to: Bytes::copy_from_slice(reply), reply: None, headers })
}
