//! Message stores: the messages of one stream, by sequence and by subject. `FileStore` keeps them in segment
//! files, `MemoryStore` in memory. One thread at a time owns a store. What is appended between two
//! checkpoints is not durable here: the owner replays it from the journal.

mod checkpoint;
mod chunks;
mod content;
mod file;
pub(crate) mod framed;
mod index;
mod memory;
#[cfg(feature = "test-util")]
pub(crate) mod probe;
mod record;
mod segment;
mod snapshot;
mod subjects;
#[cfg(test)]
mod tests;

use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use weir_stdx::time::UnixNanos;

use crate::disk::DiskFile;
use crate::error::{IoContext, StorageError};
use crate::inspect::SmallFiles;

pub use file::{FileStore, FileStoreOptions, Opened, StoreInspection, StoreReport};
pub use memory::MemoryStore;
pub use snapshot::{StorePart, StoreSnapshot};
pub use weir_messages::{Filter, Lookup, StoreState, StoredMessage, SubjectState};

/// The messages of one stream. Every answer reflects all calls before it.
pub trait MessageStore: Send {
    /// Adds a message; its sequence is above every sequence seen so far. Buffered: not durable before a
    /// checkpoint.
    fn append(&mut self, message: &StoredMessage) -> Result<(), StorageError>;
    fn get(&self, seq: u64) -> Result<Lookup, StorageError>;
    /// The first message at or after `from` that passes the filter. Fails when that one is unreadable.
    fn next_match(&self, filter: &Filter, from: u64) -> Result<Option<StoredMessage>, StorageError>;
    /// Counters of a literal subject.
    fn subject_state(&self, subject: &[u8]) -> Option<SubjectState>;
    /// Calls `visit` for every subject matching the pattern, in byte order.
    fn for_each_subject(&self, pattern: &[u8], visit: &mut dyn FnMut(&[u8], SubjectState) -> ControlFlow<()>);
    /// How many messages at or after `from` pass the filter.
    fn num_pending(&self, filter: &Filter, from: u64) -> u64;
    /// Removes one message; false when it was not there. `erase`: overwrite its bytes as well.
    fn remove(&mut self, seq: u64, erase: bool) -> Result<bool, StorageError>;
    /// Removes every message below `below`; returns how many. Raises `first_seq` to `below`, and `last_seq`
    /// to `below - 1` if it was lower.
    fn compact(&mut self, below: u64) -> Result<u64, StorageError>;
    /// Marks sequences up to `seq` as used without messages.
    fn skip_to(&mut self, seq: u64) -> Result<(), StorageError>;
    /// The first sequence stored at or after this time; `last_seq + 1` when there is none. Timestamps are
    /// taken to grow with the sequence.
    fn seq_at_or_after(&self, time: UnixNanos) -> u64;
    fn state(&self) -> StoreState;
    /// The first and the last sequence, as `state` has them; without looking for the first message's time.
    fn bounds(&self) -> (u64, u64) {
        let state = self.state();
        (state.first_seq, state.last_seq)
    }
    /// The sequences missing between first and last, at most `limit`.
    fn deleted(&self, limit: usize) -> Vec<u64>;
    /// What one message counts toward `max_bytes`.
    fn message_bytes(&self, subject: usize, headers: usize, payload: usize) -> u64;
    /// Makes everything durable, together with the index of the last applied log entry and the owner's own
    /// state. After it the journal may be purged up to that index. After an error that is not retryable no
    /// later checkpoint succeeds.
    fn checkpoint(&mut self, applied_index: u64, extra: &[u8]) -> Result<(), StorageError>;
    /// Whether what is written from now on is compressed. Stores that keep no files have nothing to compress.
    fn set_compression(&mut self, _compress: bool) {}
    /// The files that the next checkpoint has to sync. Whoever holds the store up syncs them first, while it goes on:
    /// the checkpoint then finds little to sync. Where such a sync fails no checkpoint may follow.
    fn unsynced(&mut self) -> Result<Vec<Unsynced>, StorageError> {
        Ok(Vec::new())
    }
    /// What the store could not write because the disk is full. It keeps that in memory, within a bound.
    fn shortage(&self) -> Option<String> {
        None
    }
    /// Tries again to write what there was no room for.
    fn retry(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
    /// A view of the whole content that stays as it is while the store goes on.
    fn snapshot(&mut self) -> Result<StoreSnapshot, StorageError>;
    /// The messages of one file, from the first that holds a sequence at or after `from`, to be checked elsewhere;
    /// nothing when there is none. Stores that keep no files have none.
    fn part(&self, _from: u64) -> Option<StorePart> {
        None
    }
    /// The small files that the store refers to, to be read elsewhere. Stores that keep no files have none.
    fn small_files(&self) -> Option<SmallFiles> {
        None
    }

    /// Replaces the whole content by a snapshot's. On an error the content is what it was. Durable after
    /// the next checkpoint, which the owner makes at once.
    fn snapshot_install(&mut self, input: &mut dyn Read) -> Result<(), StorageError>;
    /// Writes the whole content, checksummed.
    fn snapshot_write(&mut self, output: &mut dyn Write) -> Result<(), StorageError> {
        self.snapshot()?.write_to(output)
    }
}

/// A file with bytes that are not durable yet.
#[derive(Debug)]
pub struct Unsynced {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
}

impl Unsynced {
    /// Makes them durable.
    ///
    /// # Errors
    /// The system's. What it kept is unknown then.
    pub fn sync(&self) -> Result<(), StorageError> {
        self.file.sync_data().context("sync", &self.path)
    }
}

/// nats-server's count for file storage: 22 bytes of record header, 8 of checksum, 4 more with headers.
#[must_use]
pub fn file_message_bytes(subject: usize, headers: usize, payload: usize) -> u64 {
    let headers_length = if headers > 0 { 4 } else { 0 };
    (22 + subject + headers_length + headers + payload + 8) as u64
}

/// nats-server's count for memory storage.
#[must_use]
pub fn memory_message_bytes(subject: usize, headers: usize, payload: usize) -> u64 {
    (subject + headers + payload + 16) as u64
}
