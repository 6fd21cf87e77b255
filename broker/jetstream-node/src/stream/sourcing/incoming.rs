//! What came from an origin and waits to be stored: bounded in bytes. It knows nothing of the messages' meaning.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use weir_hub::Inbound;

/// Bytes that may wait: twice what an origin sends before it waits for an answer. More is dropped, found missing, and
/// asked for again.
const BYTES_MAX: usize = 64 << 20;

/// About how many bytes are handed out at once.
const TAKE_BYTES: usize = 512 << 10;

/// One message of the origin's consumer.
pub(super) struct Message {
    pub(super) subject: Bytes,
    /// The ack subject, or where a flow-control request wants its answer; empty when there is none.
    pub(super) reply: Bytes,
    pub(super) headers: Bytes,
    pub(super) payload: Bytes,
}

impl Message {
    fn len(&self) -> usize {
        self.subject.len() + self.reply.len() + self.headers.len() + self.payload.len()
    }
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<Message>,
    bytes: usize,
    heard: Option<Instant>,
}

/// The queue between the hub and a session.
#[derive(Default)]
pub(super) struct Incoming {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

impl Incoming {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Takes a message from the hub, in the publisher's task.
    pub(super) fn push(&self, message: &Inbound<'_>) {
        let message = copy(message);
        let mut waiting = self.waiting.lock();
        waiting.heard = Some(Instant::now());
        let bytes = waiting.bytes.saturating_add(message.len());
        if bytes > BYTES_MAX {
            return;
        }
        waiting.bytes = bytes;
        waiting.messages.push_back(message);
        let is_first = waiting.messages.len() == 1;
        drop(waiting);
        if is_first {
            self.wake.notify_one();
        }
    }

    /// The next messages; waits while there are none. Takes nothing when it is dropped before it is done.
    pub(super) async fn take(&self) -> Vec<Message> {
        loop {
            let messages = self.take_now();
            if !messages.is_empty() {
                return messages;
            }
            self.wake.notified().await;
        }
    }

    fn take_now(&self) -> Vec<Message> {
        let mut waiting = self.waiting.lock();
        let mut messages = Vec::new();
        let mut bytes = 0;
        while bytes < TAKE_BYTES
            && let Some(message) = waiting.messages.pop_front()
        {
            bytes += message.len();
            messages.push(message);
        }
        waiting.bytes = waiting.bytes.saturating_sub(bytes);
        messages
    }

    /// When something came last.
    pub(super) fn heard(&self) -> Option<Instant> {
        self.waiting.lock().heard
    }
}

/// One allocation for all four parts.
fn copy(message: &Inbound<'_>) -> Message {
    let reply = message.reply.unwrap_or_default();
    let parts = [message.subject, reply, message.headers, message.payload];
    let mut buffer = BytesMut::with_capacity(parts.iter().map(|part| part.len()).sum());
    for part in parts {
        buffer.put_slice(part);
    }
    let mut rest = buffer.freeze();
    let subject = rest.split_to(parts[0].len());
    let reply = rest.split_to(parts[1].len());
    let headers = rest.split_to(parts[2].len());
    Message { subject, reply, headers, payload: rest }
}
