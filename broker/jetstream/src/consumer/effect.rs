//! What the delivery machine asks its owner to do.

use bytes::Bytes;

use super::ConsumerEvent;

/// A message on its way to a subscriber: routed by `to`, shown to the client under `subject`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Where it goes: the request's inbox or the deliver subject.
    pub to: Bytes,
    /// The subject it was stored under.
    pub subject: Bytes,
    /// The `$JS.ACK...` subject.
    pub reply: Bytes,
    /// The whole header block, or empty.
    pub headers: Bytes,
    pub payload: Bytes,
    pub stream_seq: u64,
}

/// One instruction, to be carried out in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Deliver(Delivery),
    /// A status message without payload: 404, 408, 409, heartbeats, flow control.
    Status {
        to: Bytes,
        /// Only flow control asks for an answer.
        reply: Option<Bytes>,
        headers: Bytes,
    },
    /// To be replicated with others as a `ConsumerDelta`.
    Record(ConsumerEvent),
    /// Empty reply to an ack that asked for one; to be sent after the events recorded before it are committed.
    AckReply {
        to: Bytes,
    },
    /// An event for `$JS.EVENT.ADVISORY...`; the owner fills in `id` and `timestamp`.
    Advisory {
        subject: String,
        /// JSON object without `id` and `timestamp`.
        body: serde_json::Map<String, serde_json::Value>,
    },
    /// Nobody used the consumer for its inactive threshold: delete it by a command.
    Inactive,
    /// A stored message cannot be read; delivery went past it.
    Unreadable {
        stream_seq: u64,
    },
}
