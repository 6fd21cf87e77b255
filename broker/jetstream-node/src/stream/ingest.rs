//! The way of a published message into its stream, on the stream's leader: taken from the hub inside the
//! publisher's task, queued, drained as one batch into the log, acknowledged when applied.
//! It does not judge messages: the machine does, when it applies them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use weir_hub::{Account, Inbound};
use weir_jetstream::{Outcome, PublishOutcome, PublishRecord, Republished, StreamCommand};
use weir_jsapi::StreamConfig;
use weir_stdx::rng::SeededRng;
use weir_stdx::time::UnixNanos;
use weir_subject::Transform;

use super::state::StreamState;
use crate::clock;
use crate::replicated::Replicated;
use crate::replicator::ProposeError;

/// Messages that may wait for the log before publishers are answered "too many requests", as nats-server.
const QUEUE_MESSAGES_MAX: usize = 100_000;
/// Bytes that may wait, as nats-server's default.
const QUEUE_BYTES_MAX: usize = 128 << 20;
/// Messages in one log entry.
const BATCH_MESSAGES_MAX: usize = 4_096;
/// Bytes in one log entry, unless a single message is larger.
const BATCH_BYTES_MAX: usize = 512 << 10;
/// Log entries of one stream on their way at the same time.
const BATCHES_IN_FLIGHT_MAX: usize = 64;

struct Incoming {
    subject: Bytes,
    reply: Bytes,
    headers: Bytes,
    payload: Bytes,
}

#[derive(Default)]
struct Queue {
    incoming: Vec<Incoming>,
    bytes: usize,
}

/// The queue between the hub and the log.
pub(crate) struct Ingest {
    queue: Mutex<Queue>,
    wake: Notify,
    /// Publishers are answered; off for streams with `no_ack`.
    acks: AtomicBool,
    /// What subjects become before they are stored.
    transform: ArcSwapOption<Transform>,
    in_flight: Arc<Semaphore>,
}

impl Ingest {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::new(Queue::default()),
            wake: Notify::new(),
            acks: AtomicBool::new(true),
            transform: ArcSwapOption::empty(),
            in_flight: Arc::new(Semaphore::new(BATCHES_IN_FLIGHT_MAX)),
        })
    }

    /// Takes over what the configuration says of publishes.
    pub(crate) fn configure(&self, config: &StreamConfig) {
        self.acks.store(!config.no_ack, Ordering::Relaxed);
        // One that is not valid was refused before.
        let transform = config.subject_transform.as_ref();
        let transform = transform.and_then(|pair| Transform::new(&pair.src, &pair.dest).ok());
        self.transform.store(transform.map(Arc::new));
    }

    /// Takes a message from the hub. False when the queue is full.
    pub(crate) fn accept(&self, message: &Inbound<'_>) -> bool {
        let mut incoming = copy(message);
        if !self.acks.load(Ordering::Relaxed) {
            incoming.reply = Bytes::new();
        }
        let size = incoming.subject.len() + incoming.headers.len() + incoming.payload.len();
        let mut queue = self.queue.lock();
        if queue.incoming.len() >= QUEUE_MESSAGES_MAX || queue.bytes + size > QUEUE_BYTES_MAX {
            return false;
        }
        queue.bytes += size;
        queue.incoming.push(incoming);
        let first = queue.incoming.len() == 1;
        drop(queue);
        if first {
            self.wake.notify_one();
        }
        true
    }

    /// Drains the queue into the log until dropped.
    pub(crate) async fn run(
        self: Arc<Self>,
        stream: Arc<str>,
        domain: Option<Arc<str>>,
        account: Arc<Account>,
        replicated: Arc<Replicated<StreamState>>,
    ) {
        let mut random = SeededRng::new(clock::now().as_nanos());
        loop {
            self.wake.notified().await;
            let mut drained = std::mem::take(&mut *self.queue.lock()).incoming.into_iter().peekable();
            while drained.peek().is_some() {
                let Ok(permit) = Arc::clone(&self.in_flight).acquire_owned().await else { return };
                let (mut records, replies) = next_batch(&mut drained);
                if let Some(transform) = &*self.transform.load() {
                    rename(&mut records, transform, &mut random);
                }
                let acks = Acks {
                    stream: Arc::clone(&stream),
                    domain: domain.clone(),
                    account: Arc::clone(&account),
                    replies,
                };
                let command = StreamCommand::Publish(records).encode();
                replicated.propose(command, move |result| {
                    acks.send(result);
                    drop(permit);
                });
            }
        }
    }
}

/// One allocation for all four parts.
fn copy(message: &Inbound<'_>) -> Incoming {
    let reply = message.reply.unwrap_or_default();
    let stored = message.headers_to_store();
    let total = message.subject.len() + reply.len() + stored.len() + message.payload.len();
    let mut buffer = BytesMut::with_capacity(total);
    buffer.put_slice(message.subject);
    buffer.put_slice(reply);
    buffer.put_slice(&stored);
    buffer.put_slice(message.payload);
    let mut rest = buffer.freeze();
    let subject = rest.split_to(message.subject.len());
    let reply = rest.split_to(reply.len());
    let headers = rest.split_to(stored.len());
    Incoming { subject, reply, headers, payload: rest }
}

fn next_batch(incoming: &mut impl Iterator<Item = Incoming>) -> (Vec<PublishRecord>, Vec<Bytes>) {
    let now = clock::now();
    let mut records = Vec::new();
    let mut replies = Vec::new();
    let mut bytes = 0;
    for message in incoming {
        bytes += message.subject.len() + message.headers.len() + message.payload.len();
        records.push(PublishRecord {
            subject: message.subject,
            headers: message.headers,
            payload: message.payload,
            timestamp: UnixNanos(now.0 + records.len() as u64),
        });
        replies.push(message.reply);
        if records.len() >= BATCH_MESSAGES_MAX || bytes >= BATCH_BYTES_MAX {
            break;
        }
    }
    (records, replies)
}

/// Subjects that the transform leaves out stay as they are.
fn rename(records: &mut [PublishRecord], transform: &Transform, random: &mut SeededRng) {
    for record in records {
        if let Some(subject) = transform.transform(&record.subject, || (random.next_u64() >> 32) as u32) {
            record.subject = Bytes::from(subject);
        }
    }
}

fn republish(account: &Arc<Account>, messages: &[Republished]) {
    if messages.is_empty() {
        return;
    }
    account.publish_batch(messages.iter().map(|message| weir_hub::OutboundMessage {
        subject: &message.subject,
        headers: &message.headers,
        payload: &message.payload,
        ..weir_hub::OutboundMessage::default()
    }));
}

/// The publishers of one batch that wait for an answer.
struct Acks {
    stream: Arc<str>,
    domain: Option<Arc<str>>,
    account: Arc<Account>,
    replies: Vec<Bytes>,
}

impl Acks {
    fn send(self, result: Result<Outcome, ProposeError>) {
        let outcomes = match result {
            Ok(Outcome::Published { outcomes, republished }) => {
                republish(&self.account, &republished);
                outcomes
            }
            Ok(_) => return,
            // No answer: the message may or may not be there, and the publisher's timeout says just that.
            Err(ProposeError::Unknown(_) | ProposeError::NotLeader { .. }) => return,
            Err(error) => return self.fail(&error),
        };
        let mut bodies = BytesMut::with_capacity(self.replies.len() * 48);
        let mut messages = Vec::with_capacity(self.replies.len());
        for (reply, outcome) in self.replies.iter().zip(outcomes) {
            if reply.is_empty() {
                continue;
            }
            let start = bodies.len();
            weir_jetstream::write_pub_ack(&mut bodies, &self.stream, self.domain.as_deref(), &outcome);
            messages.push((reply, start..bodies.len()));
        }
        self.account.publish_batch(messages.into_iter().map(|(reply, body)| weir_hub::OutboundMessage {
            subject: reply,
            payload: &bodies[body],
            ..weir_hub::OutboundMessage::default()
        }));
    }

    fn fail(self, error: &ProposeError) {
        let api_error = weir_jsapi::errors::STREAM_STORE_FAILED.with(error);
        let outcome = PublishOutcome::Rejected(api_error);
        let mut buffer = BytesMut::new();
        weir_jetstream::write_pub_ack(&mut buffer, &self.stream, self.domain.as_deref(), &outcome);
        for reply in self.replies.iter().filter(|reply| !reply.is_empty()) {
            self.account.publish(reply, None, b"", &buffer);
        }
    }
}
