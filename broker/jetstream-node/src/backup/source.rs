//! A stream read for its backup: its state and consumers as they are at one moment, then its messages up to the last one
//! of that moment, some at a time, so that nobody who publishes waits for it. What is removed meanwhile is left out.

use std::sync::Arc;

use parking_lot::MutexGuard;
use weir_backup::{BackupWriter, MessageRecord};
use weir_jetstream::{Filter, Store, StoreFailure};
use weir_jsapi::{StreamConfig, StreamState};
use weir_stdx::time::UnixNanos;

use super::consumers;
use crate::context::Context;
use crate::replicated::Replicated;
use crate::stream::replica::StreamReplica;
use crate::stream::state::StreamState as Machine;

/// Messages read under one lock, and their bytes.
const READ_MESSAGES: usize = 128;
const READ_BYTES: usize = 256 << 10;

pub(crate) struct Source {
    context: Arc<Context>,
    replicated: Arc<Replicated<Machine>>,
    group: u64,
    pub(crate) config: Arc<StreamConfig>,
    pub(crate) state: StreamState,
    writer: BackupWriter,
    next_seq: u64,
    is_complete: bool,
}

impl Source {
    pub(crate) fn new(
        context: &Arc<Context>,
        replica: &Arc<StreamReplica>,
        with_consumers: bool,
        now: UnixNanos,
    ) -> Self {
        let replicated = Arc::clone(&replica.replicated);
        let (config, state, records) = {
            let locked = replicated.lock();
            let machine = locked.machine();
            let shown = machine.consumers().filter(|(_, consumer)| !consumer.config.direct);
            let records: Vec<_> = shown
                .filter(|_| with_consumers)
                .map(|(name, consumer)| (Arc::clone(name), consumers::to_record(name, consumer)))
                .collect();
            (Arc::clone(machine.config()), machine.state(), records)
        };
        let mut written = state.clone();
        written.consumer_count = records.len() as u64;
        let mut writer = BackupWriter::new(&written, i64::try_from(now.0).unwrap_or(i64::MAX));
        for (name, record) in records {
            writer.consumer(&name, record);
        }
        Self {
            context: Arc::clone(context),
            replicated,
            group: replica.assignment().group,
            config,
            next_seq: state.first_seq,
            state,
            writer,
            is_complete: false,
        }
    }

    /// Reads until so many bytes can be taken or the backup is complete, and takes them. May block on the disk.
    ///
    /// # Errors
    /// When a message cannot be read or the stream is gone: what was taken is no whole backup.
    pub(crate) fn take(&mut self, count: usize) -> Result<Vec<u8>, String> {
        while !self.is_complete && self.writer.ready() < count {
            self.read_some()?;
        }
        Ok(self.writer.take(count))
    }

    fn read_some(&mut self) -> Result<(), String> {
        let mut read = Vec::with_capacity(READ_MESSAGES);
        let mut bytes = 0;
        let mut is_end = false;
        let locked = self.replicated.lock();
        // A deleted stream has let go of its messages: it is not empty.
        if !self.context.replicas.read().contains_key(&self.group) {
            return Err("stream closed".to_owned());
        }
        let store = locked.machine().store();
        while read.len() < READ_MESSAGES && bytes < READ_BYTES {
            let next = store.next_match(&Filter::default(), self.next_seq);
            match next.map_err(|failure| self.failed(&failure))? {
                Some(message) if message.seq <= self.state.last_seq => {
                    self.next_seq = message.seq + 1;
                    bytes += message.headers.len() + message.payload.len();
                    read.push(message);
                }
                _ => {
                    is_end = true;
                    break;
                }
            }
        }
        // Whoever waits to apply what is published comes first, not the next read.
        MutexGuard::unlock_fair(locked);
        for message in read {
            self.writer.message(&MessageRecord {
                seq: message.seq,
                timestamp: message.timestamp.0,
                subject: message.subject,
                headers: message.headers,
                payload: message.payload,
            });
        }
        if is_end {
            self.writer.finish();
            self.is_complete = true;
        }
        Ok(())
    }

    fn failed(&self, failure: &StoreFailure) -> String {
        format!("couldn't load next message after seq {}: {failure}", self.next_seq)
    }
}
