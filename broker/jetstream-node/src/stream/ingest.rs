//! The way of a published message into its stream, on the stream's leader: taken from the hub inside the
//! publisher's task, queued, drained as one batch into the log, acknowledged when applied.
//! It does not judge messages: the machine does, when it applies them.

mod intake;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use weir_hub::Inbound;
use weir_jetstream::{BatchLimits, FastLimits, FastRecord, PublishRecord, StreamCommand};
use weir_jsapi::{ErrorDefinition, StreamConfig, errors};
use weir_stdx::rng::SeededRng;
use weir_stdx::time::UnixNanos;
use weir_subject::Transform;

use self::intake::{Arrived, ENCODED_BYTES_MAX, Incoming, Intake, Kind, Next};
use super::acks::{Acks, Replies};
use super::gathering::Gathering;
use super::leader::StreamLeader;
use super::state::StreamState;
use crate::clock;
use crate::context::Context;
use crate::replicated::Replicated;

/// Log entries of one stream on their way at the same time.
const BATCHES_IN_FLIGHT_MAX: usize = 64;

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
    queue: Mutex<Intake>,
    wake: Notify,
    /// Publishers are answered; off for streams with `no_ack`.
    acks: AtomicBool,
    /// What subjects become before they are stored.
    transform: ArcSwapOption<Transform>,
    /// There is a transform.
    renames: AtomicBool,
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
            queue: Mutex::new(Intake::default()),
            wake: Notify::new(),
            acks: AtomicBool::new(true),
            transform: ArcSwapOption::empty(),
            renames: AtomicBool::new(false),
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
        self.queue.lock().messages()
    }

    /// Takes over what the configuration says of publishes.
    pub(crate) fn configure(&self, config: &Arc<StreamConfig>) {
        self.config.store(Arc::clone(config));
        self.acks.store(!config.no_ack, Ordering::Relaxed);
        // One that is not valid was refused before.
        let transform = config.subject_transform.as_ref();
        let transform = transform.and_then(|pair| Transform::new(&pair.src, &pair.dest).ok());
        self.renames.store(transform.is_some(), Ordering::Relaxed);
        self.transform.store(transform.map(Arc::new));
    }

    /// Takes a message from the hub. The error is why it does not.
    pub(crate) fn accept(&self, message: &Inbound<'_>) -> Result<(), ErrorDefinition> {
        let headers = message.headers_to_store();
        let mut reply = message.reply.unwrap_or_default();
        let kind = Kind::of(reply, &headers);
        if kind == Kind::FastBatch && self.is_one_batch_too_many(reply) {
            return Err(errors::BATCH_PUBLISH_TOO_MANY_INFLIGHT);
        }
        // The reply subject of a fast batch's message says what it is.
        if kind != Kind::FastBatch && !self.acks.load(Ordering::Relaxed) {
            reply = b"";
        }
        let size = message.subject.len() + headers.len() + message.payload.len();
        let arrived =
            Arrived { subject: message.subject, reply, headers: &headers, payload: message.payload };
        let apart = kind != Kind::Single || size > ENCODED_BYTES_MAX || self.renames.load(Ordering::Relaxed);
        let incoming = apart.then(|| arrived.copy(kind));
        let now = clock::now();
        let mut queue = self.queue.lock();
        if queue.messages() >= self.messages_max || queue.bytes() + size > self.bytes_max {
            return Err(errors::STREAM_TOO_MANY_REQUESTS);
        }
        let first = queue.messages() == 0;
        match incoming {
            Some(incoming) => queue.push(incoming),
            None => queue.encode(&arrived, now),
        }
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
            let mut drained = self.queue.lock().take();
            while let Some(next) = drained.next_entry() {
                let Ok(permit) = Arc::clone(&self.in_flight).acquire_owned().await else { return };
                let batch = match next {
                    Next::Encoded(encoder, replies) => {
                        let acks = self.acks_to(&leader, replies);
                        replicated.propose_framed(encoder.finish(), move |result| {
                            acks.send(result);
                            drop(permit);
                        });
                        continue;
                    }
                    Next::Atomic(message) => {
                        gathering.take(message.into_record(clock::now()), &self.config.load())
                    }
                    Next::Apart(messages) => Some(batch_of(messages, &limits)),
                };
                let Some(mut batch) = batch else { continue };
                if let Some(transform) = &*self.transform.load() {
                    batch.rename(transform, &mut random);
                }
                let acks = self.acks_to(&leader, batch.replies);
                replicated.propose(batch.command.encode(), move |result| {
                    acks.send(result);
                    drop(permit);
                });
            }
        }
    }

    fn acks_to(&self, leader: &StreamLeader, replies: Replies) -> Acks {
        Acks {
            stream: Arc::clone(leader.name()),
            domain: leader.context.domain.clone(),
            account: Arc::clone(&leader.account),
            replies,
        }
    }
}

/// One log entry to be, and whom its outcomes go to.
pub(super) struct Batch {
    pub(super) command: StreamCommand,
    pub(super) replies: Replies,
}

/// One entry of messages that were kept apart.
fn batch_of(messages: Vec<Incoming>, limits: &BatchLimits) -> Batch {
    let now = clock::now();
    let mut records = Vec::with_capacity(messages.len());
    let mut replies = Replies::default();
    // The places of messages of fast batches, with their replies; mostly none.
    let mut fast = Vec::new();
    for message in messages {
        let kind = message.kind;
        let (record, reply) = message.into_record(UnixNanos(now.0 + records.len() as u64 + 1));
        replies.push(&reply);
        if kind == Kind::FastBatch {
            fast.push((records.len(), reply));
        }
        records.push(record);
    }
    let command =
        if fast.is_empty() { StreamCommand::Publish(records) } else { with_fast(records, fast, limits) };
    Batch { command, replies }
}

fn with_fast(records: Vec<PublishRecord>, fast: Vec<(usize, Bytes)>, limits: &BatchLimits) -> StreamCommand {
    let mut records: Vec<FastRecord> =
        records.into_iter().map(|record| FastRecord { record, reply: Bytes::new() }).collect();
    for (place, reply) in fast {
        if let Some(record) = records.get_mut(place) {
            record.reply = reply;
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
