//! Joins what the stream machine asks of a store (`weir_jetstream::Store`) to the stores there are
//! (`weir_storage`). A memory stream's messages are kept in memory; where its log is replicated, its checkpoints go
//! to a file all the same, so that the log can be cut.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use weir_jetstream::meta::StreamAssignment;
use weir_jetstream::{Filter, Lookup, Store, StoreFailure, StoreState, StoredMessage, SubjectState};
use weir_jsapi::StorageType;
use weir_stdx::time::UnixNanos;
use weir_storage::disk::Disk;
use weir_storage::inspect::SmallFiles;
use weir_storage::{
    FileStore, FileStoreOptions, GroupId, Journal, MemoryStore, MessageStore, StorageError, StorePart,
    Unsynced, whole_file,
};

use super::quarantine::OpenFailure;
use crate::replicated::SnapshotView;

/// What the file of a memory store starts with.
pub(crate) const MEMORY_MAGIC: &[u8; 8] = b"WEIRMEMS";

/// The messages of one stream.
pub(crate) struct StreamStore {
    messages: Box<dyn MessageStore>,
    /// Where checkpoints of a memory store go; none for one whose log is not kept either.
    memory_file: Option<(Arc<dyn Disk>, PathBuf)>,
}

impl Default for StreamStore {
    fn default() -> Self {
        Self { messages: Box::new(MemoryStore::new()), memory_file: None }
    }
}

impl StreamStore {
    /// Opens what the stream's folder holds; also gives the state of its newest checkpoint, empty when there is none.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        journal: &Journal,
        options: &FileStoreOptions,
        folder: &Path,
        assignment: &StreamAssignment,
    ) -> Result<(Self, Bytes), OpenFailure> {
        if assignment.config.storage == StorageType::Memory {
            let file = assignment.is_replicated().then(|| (Arc::clone(disk), folder.join("memory")));
            return Self::open_memory(file);
        }
        let purged = journal.log_range(GroupId(assignment.group)).purged_to;
        let options =
            FileStoreOptions { log_purged_to: Some(purged), identity: assignment.group, ..options.clone() };
        let (store, opened) = FileStore::open_on(Arc::clone(disk), folder, &options)?;
        report(assignment, folder, &opened.report);
        Ok((Self { messages: Box::new(store), memory_file: None }, opened.extra))
    }

    fn open_memory(memory_file: Option<(Arc<dyn Disk>, PathBuf)>) -> Result<(Self, Bytes), OpenFailure> {
        let mut store = Self { memory_file, ..Self::default() };
        let Some((disk, file)) = &store.memory_file else { return Ok((store, Bytes::new())) };
        let content = whole_file::read(&**disk, file, MEMORY_MAGIC)?;
        let Some(content) = content else { return Ok((store, Bytes::new())) };
        let mut content = &content[..];
        let mut length = [0_u8; 8];
        content.read_exact(&mut length).map_err(|error| format!("{}: {error}", file.display()))?;
        let length = usize::try_from(u64::from_le_bytes(length)).unwrap_or(usize::MAX);
        let (extra, mut messages) = content
            .split_at_checked(length)
            .ok_or_else(|| format!("{}: the state is longer than the file", file.display()))?;
        let extra = Bytes::copy_from_slice(extra);
        store.messages.snapshot_install(&mut messages)?;
        Ok((store, extra))
    }

    /// A memory store's checkpoints go to a file in this folder from now on.
    pub(crate) fn keep_in(&mut self, disk: Arc<dyn Disk>, folder: &Path, is_memory: bool) {
        if is_memory {
            self.memory_file = Some((disk, folder.join("memory")));
        }
    }

    /// Leaves an empty store behind.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Makes everything durable that a restart must find, together with the machine's own state.
    pub(crate) fn checkpoint(&mut self, index: u64, extra: &[u8]) -> Result<(), StorageError> {
        let Some((disk, file)) = &self.memory_file else {
            return self.messages.checkpoint(index, extra);
        };
        let mut content = Vec::new();
        content.extend_from_slice(&(extra.len() as u64).to_le_bytes());
        content.extend_from_slice(extra);
        self.messages.snapshot_write(&mut content)?;
        whole_file::write(&**disk, file, MEMORY_MAGIC, &content)
    }

    /// The files that the next checkpoint has to sync.
    pub(crate) fn unsynced(&mut self) -> Result<Vec<Unsynced>, StorageError> {
        self.messages.unsynced()
    }

    /// What could not be written because the disk is full, and is kept in memory.
    pub(crate) fn shortage(&self) -> Option<String> {
        self.messages.shortage()
    }

    /// Tries again to write it.
    pub(crate) fn retry(&mut self) -> Result<(), String> {
        self.messages.retry().map_err(|error| error.to_string())
    }

    /// The messages of one file, to be checked elsewhere.
    pub(crate) fn part(&self, from: u64) -> Option<StorePart> {
        self.messages.part(from)
    }

    /// The small files of the store, to be read elsewhere.
    pub(crate) fn small_files(&self) -> Option<SmallFiles> {
        self.messages.small_files()
    }

    /// A view of the content as it is now.
    pub(crate) fn snapshot(&mut self) -> Result<SnapshotView, String> {
        let view = self.messages.snapshot().map_err(|error| error.to_string())?;
        Ok(Box::new(move |out| view.write_to(out).map_err(io::Error::other)))
    }

    /// Replaces the content by a snapshot's.
    pub(crate) fn snapshot_install(&mut self, content: &mut dyn Read) -> Result<(), String> {
        self.messages.snapshot_install(content).map_err(|error| error.to_string())
    }
}

/// Says what opening found that somebody should know.
fn report(assignment: &StreamAssignment, folder: &Path, report: &weir_storage::StoreReport) {
    let stream = format!("Stream '{} > {}' ({})", assignment.account, assignment.name(), folder.display());
    if let Some(error) = &report.fell_back {
        tracing::error!("{stream}: its newest checkpoint is damaged ({error}); the one before it is used");
    }
    for segment in &report.damaged_segments {
        tracing::error!("{stream}: segment {segment} is missing or too short: messages in it are unreadable");
    }
    for file in &report.unknown_files {
        tracing::warn!("{stream}: {file} belongs to no checkpoint: left as it is");
    }
}

fn failure(error: StorageError) -> StoreFailure {
    match error {
        StorageError::UnreadableMessage { seq } => StoreFailure::Unreadable { seq },
        other => StoreFailure::Failed(other.to_string()),
    }
}

impl Store for StreamStore {
    fn append(&mut self, message: &StoredMessage) -> Result<(), StoreFailure> {
        self.messages.append(message).map_err(failure)
    }

    fn get(&self, seq: u64) -> Result<Lookup, StoreFailure> {
        self.messages.get(seq).map_err(failure)
    }

    fn next_match(&self, filter: &Filter, from: u64) -> Result<Option<StoredMessage>, StoreFailure> {
        self.messages.next_match(filter, from).map_err(failure)
    }

    fn subject_state(&self, subject: &[u8]) -> Option<SubjectState> {
        self.messages.subject_state(subject)
    }

    fn for_each_subject(
        &self,
        pattern: &[u8],
        visit: &mut dyn FnMut(&[u8], SubjectState) -> ControlFlow<()>,
    ) {
        self.messages.for_each_subject(pattern, visit);
    }

    fn num_pending(&self, filter: &Filter, from: u64) -> u64 {
        self.messages.num_pending(filter, from)
    }

    fn remove(&mut self, seq: u64, erase: bool) -> Result<bool, StoreFailure> {
        self.messages.remove(seq, erase).map_err(failure)
    }

    fn compact(&mut self, below: u64) -> Result<u64, StoreFailure> {
        self.messages.compact(below).map_err(failure)
    }

    fn skip_to(&mut self, seq: u64) -> Result<(), StoreFailure> {
        self.messages.skip_to(seq).map_err(failure)
    }

    fn seq_at_or_after(&self, time: UnixNanos) -> u64 {
        self.messages.seq_at_or_after(time)
    }

    fn state(&self) -> StoreState {
        self.messages.state()
    }

    fn last_seq(&self) -> u64 {
        self.messages.bounds().1
    }

    fn first_seq(&self) -> u64 {
        self.messages.bounds().0
    }

    fn set_compression(&mut self, compress: bool) {
        self.messages.set_compression(compress);
    }

    fn deleted(&self, limit: usize) -> Vec<u64> {
        self.messages.deleted(limit)
    }

    fn message_bytes(&self, subject: usize, headers: usize, payload: usize) -> u64 {
        self.messages.message_bytes(subject, headers, payload)
    }
}
