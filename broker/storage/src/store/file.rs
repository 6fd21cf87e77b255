//! A message store in a directory of its own: segments, their indexes, a subject table, two checkpoints.
//! Between checkpoints only the segments grow, unsynced; opening takes the newest checkpoint and ignores
//! what lies behind it, since the owner replays that from the journal.

mod compaction;
mod inspect;
mod open;
mod rebuild;

use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use weir_stdx::time::UnixNanos;

use super::content::{Content, Sizes};
use super::framed::copy_path;
use super::record;
use super::segment::{Segment, segment_path};
use super::snapshot::{self, StorePart, StoreSnapshot};
use super::{
    Filter, Lookup, MessageStore, StoreState, StoredMessage, SubjectState, Unsynced, checkpoint,
    file_message_bytes,
};
use crate::disk::{Disk, RealDisk};
use crate::error::{IoContext, StorageError};
use crate::inspect::SmallFiles;

#[cfg(feature = "test-util")]
pub(crate) use compaction::REWRITTEN;
pub use inspect::StoreInspection;

/// Settings of a file store.
#[derive(Clone, Debug)]
pub struct FileStoreOptions {
    /// The owner's log was purged up to here: an older checkpoint than this is of no use, and is not fallen
    /// back to. Without it no checkpoint but the newest is used.
    pub log_purged_to: Option<u64>,
    /// Names the store for ever: part of every checksum, so that a record of another store that comes to lie in
    /// this one's files is not taken for one of its own.
    pub identity: u64,
    /// Makes indexes and the table of subjects anew from the records where neither copy can be read: for a repair.
    pub rebuild: bool,
    /// Segments start at this size and grow with the store up to the other.
    pub segment_bytes_min: u64,
    pub segment_bytes_max: u64,
    /// Bytes of recent messages kept in memory.
    pub recent_bytes: usize,
    /// Appended bytes collected before they go to the page cache.
    pub buffer_bytes: usize,
    /// Compress what is written.
    pub compress: bool,
}

impl Default for FileStoreOptions {
    fn default() -> Self {
        Self {
            log_purged_to: None,
            identity: 0,
            rebuild: false,
            segment_bytes_min: 8 << 20,
            segment_bytes_max: 64 << 20,
            recent_bytes: 1 << 20,
            buffer_bytes: 256 << 10,
            compress: false,
        }
    }
}

/// What opening found.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The last log entry that the checkpoint covers; replay what follows.
    pub applied_index: u64,
    /// The owner's own state, as given to `checkpoint`.
    pub extra: Bytes,
    pub report: StoreReport,
}

/// What an operator may want to know after opening.
#[derive(Clone, Debug, Default)]
pub struct StoreReport {
    /// The store was made now.
    pub created: bool,
    /// The newest checkpoint was damaged, so the one before it was used.
    pub fell_back: Option<StorageError>,
    /// Segments that are missing or too short: messages in them are unreadable.
    pub damaged_segments: Vec<String>,
    /// What was made anew from the records.
    pub rebuilt: Vec<String>,
    /// Files that no checkpoint knows; left alone.
    pub unknown_files: Vec<String>,
}

/// The store.
#[derive(Debug)]
pub struct FileStore {
    content: Content,
    /// Of the newest checkpoint.
    generation: u64,
    subjects_generation: u64,
    /// Files that only the checkpoint before the newest needs.
    retired: Vec<PathBuf>,
    /// Checkpoints there are, oldest first.
    checkpoints: Vec<u64>,
    failed: Option<StorageError>,
}

impl FileStore {
    /// Opens the store in a directory, or makes one.
    pub fn open(directory: &Path, options: &FileStoreOptions) -> Result<(Self, Opened), StorageError> {
        Self::open_on(Arc::new(RealDisk), directory, options)
    }

    /// `open` on a given disk.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        directory: &Path,
        options: &FileStoreOptions,
    ) -> Result<(Self, Opened), StorageError> {
        let sizes = Sizes {
            segment_bytes_min: options.segment_bytes_min,
            segment_bytes_max: options.segment_bytes_max.max(options.segment_bytes_min).min(1 << 30),
            buffer_bytes: options.buffer_bytes,
            recent_bytes: options.recent_bytes,
            seed: record::seed_of(options.identity),
            compress: options.compress,
        };
        open::open(disk, directory, sizes, options)
    }

    /// Bytes of all segment files, removed messages included; of what is in them, when they are coded.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.content.segments.iter().map(Segment::file_bytes).sum()
    }

    fn try_checkpoint(&mut self, applied_index: u64, extra: &[u8]) -> Result<(), StorageError> {
        // A name is used once, whatever becomes of the attempt.
        self.generation += 1;
        let generation = self.generation;
        let content = &mut self.content;
        // First, so that the newest segment can be rewritten as well.
        content.write_out()?;
        match compaction::run(content) {
            // Nothing was changed; a checkpoint without it needs less room.
            Err(error) if error.is_retryable() => {}
            result => result?,
        }
        let (disk, directory) = (Arc::clone(&content.disk), content.directory.clone());
        for segment in &mut content.segments {
            if segment.data_changed {
                let path = segment_path(&directory, segment.id);
                segment.file(&*disk, &directory)?.sync_data().context("sync", &path)?;
                segment.data_changed = false;
            }
            let replaced = segment.write_index(&*disk, &directory, generation)?;
            content.retired.extend(replaced);
        }
        if content.subjects_changed {
            checkpoint::write_subjects(&*disk, &directory, generation, content)?;
            if self.subjects_generation != 0 {
                content.retired.push(checkpoint::subjects_path(&directory, self.subjects_generation));
            }
            self.subjects_generation = generation;
            content.subjects_changed = false;
        }
        let encoded = checkpoint::encode(content, generation, self.subjects_generation, applied_index, extra);
        checkpoint::write(&*disk, &directory, generation, content.sizes.seed, &encoded)?;
        self.checkpoints.push(generation);
        self.delete_superseded();
        self.content.finish_erasures()?;
        for segment in &self.content.segments {
            segment.close_if_idle();
        }
        Ok(())
    }

    /// Deletes what neither of the two newest checkpoints needs. Failing to is no harm.
    fn delete_superseded(&mut self) {
        let mut paths = std::mem::replace(&mut self.retired, std::mem::take(&mut self.content.retired));
        while self.checkpoints.len() > 2 {
            let oldest = self.checkpoints.remove(0);
            paths.push(checkpoint::checkpoint_path(&self.content.directory, oldest));
        }
        let copies: Vec<PathBuf> = paths.iter().map(|path| copy_path(path)).collect();
        for path in paths.into_iter().chain(copies) {
            match self.content.disk.unlink(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!("deleting {}: {error}", path.display());
                }
                _ => {}
            }
        }
    }
}

impl MessageStore for FileStore {
    fn append(&mut self, message: &StoredMessage) -> Result<(), StorageError> {
        self.content.append(message)
    }

    fn get(&self, seq: u64) -> Result<Lookup, StorageError> {
        self.content.get(seq)
    }

    fn next_match(&self, filter: &Filter, from: u64) -> Result<Option<StoredMessage>, StorageError> {
        self.content.next_match(filter, from)
    }

    fn subject_state(&self, subject: &[u8]) -> Option<SubjectState> {
        Some(self.content.subjects.get(subject)?.resolve(&self.content))
    }

    fn for_each_subject(
        &self,
        pattern: &[u8],
        visit: &mut dyn FnMut(&[u8], SubjectState) -> ControlFlow<()>,
    ) {
        let subjects = &self.content.subjects;
        subjects.for_each_match(pattern, |subject, entry| visit(subject, entry.resolve(&self.content)));
    }

    fn num_pending(&self, filter: &Filter, from: u64) -> u64 {
        self.content.num_pending(filter, from)
    }

    fn remove(&mut self, seq: u64, erase: bool) -> Result<bool, StorageError> {
        self.content.remove(seq, erase)
    }

    fn compact(&mut self, below: u64) -> Result<u64, StorageError> {
        self.content.compact(below)
    }

    fn skip_to(&mut self, seq: u64) -> Result<(), StorageError> {
        self.content.skip_to(seq)
    }

    fn seq_at_or_after(&self, time: UnixNanos) -> u64 {
        self.content.seq_at_or_after(time)
    }

    fn state(&self) -> StoreState {
        self.content.state()
    }

    fn bounds(&self) -> (u64, u64) {
        (self.content.first_seq, self.content.last_seq)
    }

    fn deleted(&self, limit: usize) -> Vec<u64> {
        self.content.deleted(limit)
    }

    fn message_bytes(&self, subject: usize, headers: usize, payload: usize) -> u64 {
        file_message_bytes(subject, headers, payload)
    }

    fn checkpoint(&mut self, applied_index: u64, extra: &[u8]) -> Result<(), StorageError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.try_checkpoint(applied_index, extra);
        // What a failed write or sync left behind is unknown: no later checkpoint may build on it.
        self.failed = result.clone().err().filter(|error| !error.is_retryable());
        result
    }

    fn unsynced(&mut self) -> Result<Vec<Unsynced>, StorageError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        // With what is left in memory the checkpoint deals.
        self.retry()?;
        let content = &self.content;
        let changed = content.segments.iter().filter(|segment| segment.data_changed && segment.live > 0);
        let on_disk = changed.filter(|segment| content.written_bytes(segment) > 0);
        let files = on_disk.map(|segment| {
            let path = segment_path(&content.directory, segment.id);
            Ok(Unsynced { path, file: segment.file(&*content.disk, &content.directory)? })
        });
        files.collect()
    }

    fn shortage(&self) -> Option<String> {
        self.content.shortage.as_ref().map(ToString::to_string)
    }

    fn retry(&mut self) -> Result<(), StorageError> {
        match self.content.write_out() {
            Err(error) if error.is_retryable() => Ok(()),
            result => result,
        }
    }

    fn snapshot(&mut self) -> Result<StoreSnapshot, StorageError> {
        match self.content.write_out() {
            Err(error) if error.is_retryable() => {}
            result => result?,
        }
        let content = &self.content;
        let mut parts = Vec::with_capacity(content.segments.len());
        let mut buffered = Vec::new();
        for segment in content.segments.iter().filter(|segment| segment.live > 0) {
            let (filed, messages) = content.split_live(segment)?;
            buffered.extend(messages);
            if !filed.is_empty() {
                let file = segment.file(&*content.disk, &content.directory)?;
                parts.push(content.part_of(segment, file, filed)?);
            }
        }
        Ok(StoreSnapshot::of_files(self.state(), parts, buffered))
    }

    fn set_compression(&mut self, compress: bool) {
        self.content.sizes.compress = compress;
    }

    fn part(&self, from: u64) -> Option<StorePart> {
        self.content.part(from)
    }

    fn small_files(&self) -> Option<SmallFiles> {
        Some(self.list_small_files())
    }

    fn snapshot_install(&mut self, input: &mut dyn Read) -> Result<(), StorageError> {
        let old = &self.content;
        let disk = Arc::clone(&old.disk);
        let mut new = Content::new(disk, old.directory.clone(), old.sizes, old.next_segment_id);
        let state = snapshot::read(input, &mut |message| new.append(&message))?;
        new.skip_to(state.last_seq)?;
        new.last_timestamp = state.last_timestamp;
        // The old segments leave as in a purge of everything.
        self.content.clear_messages();
        new.retired.append(&mut self.content.retired);
        self.content = new;
        Ok(())
    }
}
