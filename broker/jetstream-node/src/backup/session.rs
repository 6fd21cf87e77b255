//! A client that gives a backup back, chunk by chunk: each is staged and then acknowledged by an empty message; an empty
//! one is the end, and is answered with the stream. A client that is silent for too long is forgotten.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use weir_hub::{Account, InternalHandler, InternalSubscription};
use weir_jetstream::config::with_server_metadata;
use weir_jsapi::advisory::RestoreComplete;
use weir_jsapi::response::{StreamCreated, kind};
use weir_jsapi::{StreamConfig, StreamInfo, errors, response};
use weir_stdx::time::UnixNanos;

use super::restoring::{Failure, Restore};
use super::staging::Staging;
use crate::clock;
use crate::context::Context;

/// How long a client may be silent.
const SILENCE: Duration = Duration::from_secs(5);
/// Bytes of chunks that are not staged yet.
const WAITING_BYTES_MAX: usize = 32 << 20;
/// Chunks of them.
const WAITING_CHUNKS_MAX: usize = 4096;

struct Chunk {
    reply: Bytes,
    bytes: Bytes,
}

/// A restore that has begun.
pub(crate) struct Session {
    pub(crate) context: Arc<Context>,
    pub(crate) account: Arc<Account>,
    pub(crate) config: StreamConfig,
    pub(crate) client: Option<Box<RawValue>>,
    pub(crate) start: UnixNanos,
    pub(crate) staging: Arc<Staging>,
    /// Ends the name's reservation with the session.
    pub(crate) running: RunningRestore,
}

/// What becomes of the input.
enum Input {
    /// The end came, to be answered here.
    Complete {
        reply: Bytes,
    },
    Failed {
        reply: Bytes,
        failure: Failure,
    },
    Stalled,
}

impl Session {
    /// Listens for chunks; gives the subject they are to be sent to.
    pub(crate) fn listen(self) -> String {
        let stream = self.config.name.clone();
        let subject = format!("$JS.SNAPSHOT.RESTORE.{stream}.{}", super::new_id(&self.context));
        let (sender, chunks) = mpsc::channel(WAITING_CHUNKS_MAX);
        let waiting = Arc::new(AtomicUsize::new(0));
        let handler = handler(sender, Arc::clone(&waiting));
        let subscription = self.account.subscribe_internal(&subject, None, handler);
        tokio::spawn(self.run(chunks, waiting, subscription));
        subject
    }

    async fn run(
        self,
        chunks: mpsc::Receiver<Chunk>,
        waiting: Arc<AtomicUsize>,
        subscription: InternalSubscription,
    ) {
        let mut total = 0;
        let input = self.receive(chunks, &waiting, &mut total).await;
        drop(subscription);
        let name = format!("{} > {}", self.account.name(), self.config.name);
        let (reply, failure) = match input {
            Input::Complete { reply } => (reply, None),
            Input::Failed { reply, failure } => (reply, Some(failure)),
            Input::Stalled => {
                tracing::warn!("restore for stream '{name}' is stalled");
                return;
            }
        };
        let Self { context, account, config, client, start, staging, running } = self;
        let stream = config.name.clone();
        let result = match failure {
            Some(failure) => Err(failure),
            None => {
                let restore =
                    Restore { context: Arc::clone(&context), account: Arc::clone(&account), config, staging };
                restore.run().await
            }
        };
        drop(running);
        let end = clock::now();
        let body = RestoreComplete {
            stream: &stream,
            start: &start.to_rfc3339(),
            end: &end.to_rfc3339(),
            bytes: total,
            client: client.as_deref(),
            domain: context.domain.as_deref().unwrap_or_default(),
        };
        let subject = crate::api::stream_snapshot::subject("RESTORE_COMPLETE", &stream);
        context.emit(&account, &subject, "restore_complete", body);
        let (size, took) = (weir_conf::friendly_bytes(total), super::took(start, end));
        let body = match result {
            Ok(info) => {
                tracing::info!("Completed restore of {size} for stream '{name}' in {took}");
                restored(info)
            }
            Err(failure) => {
                let error = failure.into_error();
                tracing::warn!("Restore failed for {size} for stream '{name}' in {took}: {error}");
                response::failure(kind::STREAM_CREATE, error)
            }
        };
        if !reply.is_empty() {
            account.publish(&reply, None, b"", &body);
        }
    }

    async fn receive(
        &self,
        mut chunks: mpsc::Receiver<Chunk>,
        waiting: &AtomicUsize,
        total: &mut u64,
    ) -> Input {
        let name = format!("{} > {}", self.account.name(), self.config.name);
        let failed = |reply, text: &str| {
            let text = format!("restore for stream '{name}' {text}");
            tracing::warn!("{text}");
            Input::Failed { reply, failure: Failure::Text(text) }
        };
        loop {
            let Ok(chunk) = tokio::time::timeout(SILENCE, chunks.recv()).await else { return Input::Stalled };
            // The handler gives up by dropping its end.
            let Some(Chunk { reply, bytes }) = chunk else {
                return failed(Bytes::new(), "received more chunks than it acknowledged");
            };
            if reply.is_empty() {
                return failed(reply, "requires reply subject for each chunk");
            }
            if bytes.is_empty() {
                return Input::Complete { reply };
            }
            waiting.fetch_sub(bytes.len(), Ordering::Relaxed);
            *total += bytes.len() as u64;
            let room = self.context.room();
            if *total > room.max_file.max(room.max_memory) {
                let failure = Failure::Api(errors::STORAGE_RESOURCES_EXCEEDED.error());
                return Input::Failed { reply, failure };
            }
            if let Err(failure) = self.stage(bytes).await {
                return Input::Failed { reply, failure };
            }
            self.account.publish(&reply, None, b"", b"");
        }
    }

    async fn stage(&self, bytes: Bytes) -> Result<(), Failure> {
        let staging = Arc::clone(&self.staging);
        let written = tokio::task::spawn_blocking(move || staging.write(&bytes)).await;
        Ok(written.map_err(|error| Failure::Text(error.to_string()))??)
    }
}

/// Copies chunks; a client that sends more than is acknowledged is cut off.
fn handler(sender: mpsc::Sender<Chunk>, waiting: Arc<AtomicUsize>) -> InternalHandler {
    let sender = parking_lot::Mutex::new(Some(sender));
    Arc::new(move |message| {
        let mut slot = sender.lock();
        let Some(sender) = &*slot else { return };
        let length = message.headers.len() + message.payload.len();
        let is_too_much = waiting.load(Ordering::Relaxed).saturating_add(length) > WAITING_BYTES_MAX;
        // Headers are no part of a backup; nats-server takes them for one, and fails.
        let bytes = [message.headers, message.payload].concat();
        waiting.fetch_add(length, Ordering::Relaxed);
        let reply = Bytes::copy_from_slice(message.reply.unwrap_or_default());
        if is_too_much || sender.try_send(Chunk { reply, bytes: Bytes::from(bytes) }).is_err() {
            *slot = None;
        }
    })
}

fn restored(mut info: StreamInfo) -> Vec<u8> {
    with_server_metadata(&mut info.config.metadata);
    info.domain.clear();
    info.cluster = None;
    response::success(kind::STREAM_CREATE, StreamCreated { info, did_create: false })
}

/// A restore in progress; it is over when this is dropped.
pub(crate) struct RunningRestore {
    context: Arc<Context>,
    key: (String, String),
}

impl RunningRestore {
    /// Restores of one server at the same time.
    const MAX: usize = 64;

    /// `None` when there are too many.
    pub(crate) fn new(context: &Arc<Context>, account: &str, stream: &str) -> Option<Self> {
        let mut running = context.restores.lock();
        if running.values().sum::<usize>() >= Self::MAX {
            return None;
        }
        let key = (account.to_owned(), stream.to_owned());
        *running.entry(key.clone()).or_default() += 1;
        Some(Self { context: Arc::clone(context), key })
    }
}

impl Drop for RunningRestore {
    fn drop(&mut self) {
        let mut running = self.context.restores.lock();
        if let Some(count) = running.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                running.remove(&self.key);
            }
        }
    }
}
