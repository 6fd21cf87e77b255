//! The way of a published message into its stream, on the stream's leader: taken from the hub inside the
//! publisher's task, queued, drained as one batch into the log, acknowledged when applied.
//! It does not judge messages: the machine does, when it applies them.

use std::iter::Peekable;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use weir_hub::Inbound;
use weir_jetstream::{BatchLimits, FastLimits, FastRecord, PublishRecord, StreamCommand};
use weir_jsapi::{ErrorDefinition, StreamConfig, errors};
use weir_stdx::rng::SeededRng;
use weir_stdx::time::UnixNanos;
use weir_subject::Transform;

use super::acks::Acks;
use super::gathering::Gathering;
use super::leader::StreamLeader;
use super::state::StreamState;
use crate::clock;
use crate::context::Context;
use crate::replicated::Replicated;

/// Messages in one log entry.
const BATCH_MESSAGES_MAX: usize = 4_096;
/// Bytes in one log entry, unless a single message is larger.
const BATCH_BYTES_MAX: usize = 512 << 10;
/// Log entries of one stream on their way at the same time.
const BATCHES_IN_FLIGHT_MAX: usize = 64;

/// What a message is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Single,
    FastBatch,
    AtomicBatch,
}

struct Incoming {
    kind: Kind,
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

/// What may wait before the log (`jetstream.max_buffered_msgs` and `max_buffered_size`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IngestLimits {
    pub messages: usize,
    pub bytes: usize,
}

impl Default for IngestLimits {
    /// As nats-server's.
    fn default() -> Self {
        Self { messages: 100_000, bytes: 128 << 20 }
    }
}

/// The queue between the hub and the log.
pub(crate) struct Ingest {
    queue: Mutex<Queue>,
    wake: Notify,
    /// Publishers are answered; off for streams with `no_ack`.
    acks: AtomicBool,
    /// What subjects become before they are stored.
    transform: ArcSwapOption<Transform>,
    config: ArcSwap<StreamConfig>,
    in_flight: Arc<Semaphore>,
    /// Messages that may wait for the log before publishers are answered "too many requests".
    messages_max: usize,
    /// Bytes that may wait.
    bytes_max: usize,
    /// Of all streams of this server.
    fast_batches: Arc<AtomicUsize>,
    fast_batches_max: Arc<AtomicUsize>,
}

impl Ingest {
    pub(crate) fn new(context: &Context) -> Arc<Self> {
        let limits = &context.ingest_limits;
        Arc::new(Self {
            queue: Mutex::new(Queue::default()),
            wake: Notify::new(),
            acks: AtomicBool::new(true),
            transform: ArcSwapOption::empty(),
            config: ArcSwap::default(),
            in_flight: Arc::new(Semaphore::new(BATCHES_IN_FLIGHT_MAX)),
            messages_max: limits.messages,
            bytes_max: limits.bytes,
            fast_batches: Arc::clone(&context.batch_totals.fast),
            fast_batches_max: Arc::clone(&context.fast_batches_max),
        })
    }

    /// Messages that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.lock().incoming.len()
    }

    /// Takes over what the configuration says of publishes.
    pub(crate) fn configure(&self, config: &Arc<StreamConfig>) {
        self.config.store(Arc::clone(config));
        self.acks.store(!config.no_ack, Ordering::Relaxed);
        // One that is not valid was refused before.
        let transform = config.subject_transform.as_ref();
        let transform = transform.and_then(|pair| Transform::new(&pair.src, &pair.dest).ok());
        self.transform.store(transform.map(Arc::new));
    }

    /// Takes a message from the hub. The error is why it does not.
    pub(crate) fn accept(&self, message: &Inbound<'_>) -> Result<(), ErrorDefinition> {
        let mut incoming = copy(message);
        if incoming.kind == Kind::FastBatch && self.is_one_batch_too_many(&incoming.reply) {
            return Err(errors::BATCH_PUBLISH_TOO_MANY_INFLIGHT);
        }
        // The reply subject of a fast batch's message says what it is.
        if !self.acks.load(Ordering::Relaxed) && incoming.kind != Kind::FastBatch {
            incoming.reply = Bytes::new();
        }
        let size = incoming.subject.len() + incoming.headers.len() + incoming.payload.len();
        let mut queue = self.queue.lock();
        if queue.incoming.len() >= self.messages_max || queue.bytes + size > self.bytes_max {
            return Err(errors::STREAM_TOO_MANY_REQUESTS);
        }
        queue.bytes += size;
        queue.incoming.push(incoming);
        let first = queue.incoming.len() == 1;
        drop(queue);
        if first {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Whether the message would begin a fast batch where the server has as many as it may. The bound is approximate:
    /// batches that begin at the same time are not counted yet.
    fn is_one_batch_too_many(&self, reply: &[u8]) -> bool {
        self.fast_batches.load(Ordering::Relaxed) >= self.fast_batches_max.load(Ordering::Relaxed)
            && self.config.load().allow_batched
            && weir_jetstream::starts_fast_batch(reply)
    }

    /// Drains the queue into the log until dropped.
    pub(crate) async fn run(
        self: Arc<Self>,
        leader: Arc<StreamLeader>,
        replicated: Arc<Replicated<StreamState>>,
    ) {
        let mut random = SeededRng::new(clock::now().as_nanos());
        let mut gathering = Gathering::new(&leader);
        loop {
            tokio::select! {
                () = self.wake.notified() => {}
                () = gathering.until_expiry() => gathering.expire(),
            }
            let limits = leader.context.room().batches;
            let mut drained = std::mem::take(&mut *self.queue.lock()).incoming.into_iter().peekable();
            while let Some(kind) = drained.peek().map(|message| message.kind) {
                let Ok(permit) = Arc::clone(&self.in_flight).acquire_owned().await else { return };
                let batch = if kind == Kind::AtomicBatch {
                    let Some(message) = drained.next() else { break };
                    gathering.take(message.into_record(clock::now()), &self.config.load())
                } else {
                    Some(next_batch(&mut drained, &limits))
                };
                let Some(mut batch) = batch else { continue };
                if let Some(transform) = &*self.transform.load() {
                    batch.rename(transform, &mut random);
                }
                let acks = Acks {
                    stream: Arc::clone(leader.name()),
                    domain: leader.context.domain.clone(),
                    account: Arc::clone(&leader.account),
                    replies: batch.replies,
                };
                replicated.propose(batch.command.encode(), move |result| {
                    acks.send(result);
                    drop(permit);
                });
            }
        }
    }
}

/// One log entry to be, and whom its outcomes go to.
pub(super) struct Batch {
    pub(super) command: StreamCommand,
    pub(super) replies: Vec<Bytes>,
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
    let kind = if weir_jetstream::is_fast_reply(&reply) {
        Kind::FastBatch
    } else if weir_jetstream::atomic_batch_id(&headers).is_some() {
        Kind::AtomicBatch
    } else {
        Kind::Single
    };
    Incoming { kind, subject, reply, headers, payload: rest }
}

impl Incoming {
    /// The message as the log has it, and where its acknowledgement goes.
    fn into_record(self, timestamp: UnixNanos) -> (PublishRecord, Bytes) {
        let record =
            PublishRecord { subject: self.subject, headers: self.headers, payload: self.payload, timestamp };
        (record, self.reply)
    }
}

/// As many messages as go into one entry; those of atomic batches have their own.
fn next_batch(incoming: &mut Peekable<impl Iterator<Item = Incoming>>, limits: &BatchLimits) -> Batch {
    let now = clock::now();
    let mut records = Vec::new();
    let mut replies = Vec::new();
    let mut bytes = 0;
    // The places of messages of fast batches; mostly none.
    let mut fast = Vec::new();
    while let Some(message) = incoming.next_if(|message| message.kind != Kind::AtomicBatch) {
        bytes += message.subject.len() + message.headers.len() + message.payload.len();
        if message.kind == Kind::FastBatch {
            fast.push(records.len());
        }
        let (record, reply) = message.into_record(UnixNanos(now.0 + records.len() as u64 + 1));
        records.push(record);
        replies.push(reply);
        if records.len() >= BATCH_MESSAGES_MAX || bytes >= BATCH_BYTES_MAX {
            break;
        }
    }
    let command = if fast.is_empty() {
        StreamCommand::Publish(records)
    } else {
        with_fast(records, &replies, &fast, limits)
    };
    Batch { command, replies }
}

fn with_fast(
    records: Vec<PublishRecord>,
    replies: &[Bytes],
    fast: &[usize],
    limits: &BatchLimits,
) -> StreamCommand {
    let mut records: Vec<FastRecord> =
        records.into_iter().map(|record| FastRecord { record, reply: Bytes::new() }).collect();
    for &place in fast {
        if let (Some(record), Some(reply)) = (records.get_mut(place), replies.get(place)) {
            record.reply = reply.clone();
        }
    }
    let limits = FastLimits { timeout: limits.timeout, inflight_max: limits.fast_per_stream() as u64 };
    StreamCommand::PublishFast { limits, records }
}

impl Batch {
    /// Subjects that the transform leaves out stay as they are.
    fn rename(&mut self, transform: &Transform, random: &mut SeededRng) {
        let mut rename = |record: &mut PublishRecord| {
            let subject = transform.transform(&record.subject, || (random.next_u64() >> 32) as u32);
            if let Some(subject) = subject {
                record.subject = Bytes::from(subject);
            }
        };
        match &mut self.command {
            StreamCommand::Publish(records) | StreamCommand::PublishAtomic { records, .. } => {
                records.iter_mut().for_each(rename);
            }
            StreamCommand::PublishFast { records, .. } => {
                records.iter_mut().for_each(|fast| rename(&mut fast.record));
            }
            _ => {}
        }
    }
}
