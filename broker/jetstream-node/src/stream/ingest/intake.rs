//! What waits between the hub and the log, in the order it came. Most messages are written straight into the log entry
//! they will be part of: no allocation and one copy each. Those that need a look of their own, or are so large that
//! copying them would keep other publishers waiting, are kept apart. Not the limits, and not who is told of them.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use weir_jetstream::{PublishEncoder, PublishRecord};
use weir_stdx::time::UnixNanos;

use crate::envelope;
use crate::stream::acks::Replies;

/// Messages in one log entry.
const BATCH_MESSAGES_MAX: usize = 4_096;
/// Bytes in one log entry, unless a single message is larger.
const BATCH_BYTES_MAX: usize = 512 << 10;
/// A log entry starts with this room, bytes.
const BATCH_BYTES_MIN: usize = 16 << 10;
/// Larger messages are copied before the queue is locked, bytes.
pub(super) const ENCODED_BYTES_MAX: usize = 32 << 10;

/// What a message is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Single,
    FastBatch,
    AtomicBatch,
}

impl Kind {
    pub(super) fn of(reply: &[u8], headers: &[u8]) -> Self {
        if weir_jetstream::is_fast_reply(reply) {
            Self::FastBatch
        } else if weir_jetstream::atomic_batch_id(headers).is_some() {
            Self::AtomicBatch
        } else {
            Self::Single
        }
    }
}

/// A message as it came.
pub(super) struct Arrived<'a> {
    pub(super) subject: &'a [u8],
    pub(super) reply: &'a [u8],
    pub(super) headers: &'a [u8],
    pub(super) payload: &'a [u8],
}

impl Arrived<'_> {
    /// One allocation for all four parts.
    pub(super) fn copy(&self, kind: Kind) -> Incoming {
        let parts = [self.subject, self.reply, self.headers, self.payload];
        let mut buffer = BytesMut::with_capacity(parts.iter().map(|part| part.len()).sum());
        parts.iter().for_each(|part| buffer.put_slice(part));
        let mut rest = buffer.freeze();
        let subject = rest.split_to(self.subject.len());
        let reply = rest.split_to(self.reply.len());
        let headers = rest.split_to(self.headers.len());
        Incoming { kind, subject, reply, headers, payload: rest }
    }
}

/// A message that is kept apart.
pub(super) struct Incoming {
    pub(super) kind: Kind,
    subject: Bytes,
    reply: Bytes,
    headers: Bytes,
    payload: Bytes,
}

impl Incoming {
    fn size(&self) -> usize {
        self.subject.len() + self.headers.len() + self.payload.len()
    }

    /// The message as the log has it, and where its acknowledgement goes.
    pub(super) fn into_record(self, timestamp: UnixNanos) -> (PublishRecord, Bytes) {
        let record =
            PublishRecord { subject: self.subject, headers: self.headers, payload: self.payload, timestamp };
        (record, self.reply)
    }
}

enum Item {
    Encoded(PublishEncoder, Replies),
    Apart(Incoming),
}

/// The queue.
#[derive(Default)]
pub(super) struct Intake {
    items: VecDeque<Item>,
    messages: usize,
    bytes: usize,
    /// Of the message encoded last: no two have the same time.
    last_timestamp: UnixNanos,
}

impl Intake {
    pub(super) fn messages(&self) -> usize {
        self.messages
    }

    /// Subjects, headers and payloads.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, incoming: Incoming) {
        self.messages += 1;
        self.bytes += incoming.size();
        self.items.push_back(Item::Apart(incoming));
    }

    pub(super) fn encode(&mut self, arrived: &Arrived<'_>, now: UnixNanos) {
        let size = arrived.subject.len() + arrived.headers.len() + arrived.payload.len();
        self.messages += 1;
        self.bytes += size;
        self.last_timestamp = now.max(UnixNanos(self.last_timestamp.0 + 1));
        let timestamp = self.last_timestamp;
        let write = |encoder: &mut PublishEncoder, replies: &mut Replies| {
            encoder.push(timestamp, arrived.subject, arrived.headers, arrived.payload);
            replies.push(arrived.reply);
        };
        match self.items.back_mut() {
            Some(Item::Encoded(encoder, replies))
                if encoder.count() < BATCH_MESSAGES_MAX && encoder.length() < BATCH_BYTES_MAX =>
            {
                write(encoder, replies);
            }
            _ => {
                // The buffer grows to what a round trip of the log brings, by doubling.
                let capacity = if self.items.is_empty() { BATCH_BYTES_MIN } else { BATCH_BYTES_MAX };
                let mut encoder = PublishEncoder::new(envelope::HEADER_LEN, capacity.max(size));
                let mut replies = Replies::default();
                write(&mut encoder, &mut replies);
                self.items.push_back(Item::Encoded(encoder, replies));
            }
        }
    }

    /// All that waits.
    pub(super) fn take(&mut self) -> Drained {
        (self.messages, self.bytes) = (0, 0);
        Drained(std::mem::take(&mut self.items))
    }
}

/// What was taken from the queue, to be cut into log entries.
pub(super) struct Drained(VecDeque<Item>);

/// The next of it.
pub(super) enum Next {
    /// A log entry.
    Encoded(PublishEncoder, Replies),
    /// A message of an atomic batch.
    Atomic(Incoming),
    /// Messages for one log entry.
    Apart(Vec<Incoming>),
}

impl Drained {
    pub(super) fn next_entry(&mut self) -> Option<Next> {
        let first = match self.0.pop_front()? {
            Item::Encoded(encoder, replies) => return Some(Next::Encoded(encoder, replies)),
            Item::Apart(message) if message.kind == Kind::AtomicBatch => return Some(Next::Atomic(message)),
            Item::Apart(message) => message,
        };
        let mut bytes = first.size();
        let mut messages = vec![first];
        while messages.len() < BATCH_MESSAGES_MAX && bytes < BATCH_BYTES_MAX {
            match self.0.pop_front() {
                Some(Item::Apart(message)) if message.kind != Kind::AtomicBatch => {
                    bytes += message.size();
                    messages.push(message);
                }
                Some(other) => {
                    self.0.push_front(other);
                    break;
                }
                None => break,
            }
        }
        Some(Next::Apart(messages))
    }
}

#[cfg(test)]
mod tests {
    use weir_jetstream::StreamCommand;

    use super::*;

    fn arrived<'a>(payload: &'a [u8], reply: &'a [u8]) -> Arrived<'a> {
        Arrived { subject: b"s", reply, headers: b"", payload }
    }

    #[test]
    fn messages_leave_in_the_order_they_came_whatever_they_are_kept_as() {
        let mut intake = Intake::default();
        intake.encode(&arrived(b"1", b"r1"), UnixNanos(5));
        intake.encode(&arrived(b"2", b""), UnixNanos(5));
        intake.push(arrived(b"3", b"r3").copy(Kind::FastBatch));
        intake.push(arrived(b"4", b"r4").copy(Kind::Single));
        intake.push(arrived(b"5", b"r5").copy(Kind::AtomicBatch));
        intake.encode(&arrived(b"6", b"r6"), UnixNanos(4));
        assert_eq!((intake.messages(), intake.bytes()), (6, 12));
        let mut drained = intake.take();
        assert_eq!((intake.messages(), intake.bytes()), (0, 0));
        let mut found = Vec::new();
        while let Some(next) = drained.next_entry() {
            found.push(match next {
                Next::Encoded(encoder, replies) => {
                    let entry = encoder.finish().freeze().slice(envelope::HEADER_LEN..);
                    let Ok(StreamCommand::Publish(records)) = StreamCommand::decode(entry) else {
                        panic!("no publishes")
                    };
                    let replies: Vec<&[u8]> = replies.iter().collect();
                    records
                        .iter()
                        .zip(replies)
                        .map(|(record, reply)| {
                            format!(
                                "{:?}@{}>{:?}",
                                record.payload,
                                record.timestamp.0,
                                Bytes::copy_from_slice(reply)
                            )
                        })
                        .collect::<Vec<_>>()
                }
                Next::Atomic(message) => vec![format!("atomic {:?}", message.payload)],
                Next::Apart(messages) => {
                    messages.iter().map(|message| format!("apart {:?}", message.payload)).collect()
                }
            });
        }
        let expected = [
            vec![r#"b"1"@5>b"r1""#, r#"b"2"@6>b"""#],
            vec![r#"apart b"3""#, r#"apart b"4""#],
            vec![r#"atomic b"5""#],
            vec![r#"b"6"@7>b"r6""#],
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_log_entry_ends_at_its_count_and_at_its_size() {
        let mut intake = Intake::default();
        (0..BATCH_MESSAGES_MAX + 1).for_each(|_| intake.encode(&arrived(b"", b""), UnixNanos(0)));
        let mut drained = intake.take();
        let mut counts = Vec::new();
        while let Some(Next::Encoded(encoder, _)) = drained.next_entry() {
            counts.push(encoder.count());
        }
        assert_eq!(counts, [BATCH_MESSAGES_MAX, 1]);
        let large = vec![0; ENCODED_BYTES_MAX];
        (0..40).for_each(|_| intake.encode(&arrived(&large, b""), UnixNanos(0)));
        let mut drained = intake.take();
        while let Some(Next::Encoded(encoder, _)) = drained.next_entry() {
            assert!(encoder.length() < BATCH_BYTES_MAX + ENCODED_BYTES_MAX + 100);
        }
    }
}
