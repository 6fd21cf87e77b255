//! Opens the parts of a store as a server does at its start, up to the point where it would serve clients.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_jetstream::meta::{META_GROUP, StreamAssignment};
use weir_storage::disk::{Disk, OverlayDisk};
use weir_storage::{
    FileStoreOptions, GroupId, Journal, JournalOptions, Recovery, StorageError, SyncPolicy, whole_file,
};

use super::layout::{JOURNAL, STREAMS};
use crate::identity;
use crate::meta::state::MetaState;
use crate::replicated::Replicated;
use crate::replicator::local;
use crate::stream::replica;
use crate::stream::state::StreamState;

/// Bytes of changes that are held in memory while a part is looked at.
const OVERLAY_BYTES: u64 = 1 << 30;
/// Only used for what a start would write.
const JOURNAL_FILE_BYTES: u64 = 1 << 20;
/// New at every process start; nobody waits for the answers here.
const ORIGIN: u64 = 0;

/// The journal and the meta state, which all streams need.
pub(super) struct Opened {
    pub(super) base: Arc<dyn Disk>,
    pub(super) root: PathBuf,
    pub(super) options: FileStoreOptions,
    pub(super) journal: Journal,
    pub(super) recovery: Recovery,
    /// An error where it cannot be read.
    pub(super) meta: Result<Arc<Replicated<MetaState>>, String>,
    pub(super) mode: String,
}

/// Changes stay in memory.
pub(super) fn overlay(base: &Arc<dyn Disk>) -> Arc<dyn Disk> {
    Arc::new(OverlayDisk::new(Arc::clone(base), OVERLAY_BYTES))
}

impl Opened {
    /// Opens both; nothing is written.
    pub(super) fn new(
        base: &Arc<dyn Disk>,
        root: &Path,
        options: &FileStoreOptions,
    ) -> Result<Self, StorageError> {
        let disk = overlay(base);
        let journal_options = JournalOptions {
            file_size_bytes: JOURNAL_FILE_BYTES,
            sync: SyncPolicy::Never,
            cache_bytes: 0,
            max_live_files: usize::MAX,
            ..JournalOptions::default()
        };
        let (journal, recovery) = Journal::open_on(Arc::clone(&disk), &root.join(JOURNAL), journal_options)?;
        let mode = whole_file::read(&*disk, &root.join(identity::FILE), identity::MAGIC);
        let mode =
            mode.ok().flatten().map(|mode| String::from_utf8_lossy(&mode).into_owned()).unwrap_or_default();
        let meta = MetaState::open(Arc::clone(&disk), root.join("meta").join("checkpoint"))
            .map_err(String::from)
            .and_then(|meta| {
                let meta = Replicated::new(meta, ORIGIN);
                if mode != "clustered" {
                    local::replay(&journal, GroupId(META_GROUP), &meta)?;
                }
                Ok(meta)
            });
        if let Ok(meta) = &meta {
            journal.set_new_from(GroupId(meta.lock().machine().next_group()));
        }
        let (base, root, options) = (Arc::clone(base), root.to_owned(), options.clone());
        Ok(Self { base, root, options, journal, recovery, meta, mode })
    }

    /// The meta state once more, as its checkpoint has it.
    pub(super) fn fresh_meta(&self) -> Result<Arc<Replicated<MetaState>>, String> {
        let meta = MetaState::open(overlay(&self.base), self.root.join("meta").join("checkpoint"))?;
        Ok(Replicated::new(meta, ORIGIN))
    }

    /// Streams that the meta state knows.
    pub(super) fn assignments(&self) -> Vec<Arc<StreamAssignment>> {
        self.meta
            .as_ref()
            .map_or_else(|_| Vec::new(), |meta| meta.lock().machine().streams().cloned().collect())
    }

    pub(super) fn folder(&self, group: u64) -> PathBuf {
        replica::folder(&self.root, group)
    }

    /// Folders of streams, by name.
    pub(super) fn folders(&self) -> Result<Vec<String>, StorageError> {
        let streams = self.root.join(STREAMS);
        if !self.base.exists(&streams) {
            return Ok(Vec::new());
        }
        self.base.list_directories(&streams).map_err(|error| StorageError::Io {
            operation: "list",
            path: streams,
            source: Arc::new(error),
        })
    }

    /// A stream as its newest checkpoint has it, on a disk.
    pub(super) fn stream(
        &self,
        disk: &Arc<dyn Disk>,
        assignment: &StreamAssignment,
    ) -> Result<Arc<Replicated<StreamState>>, String> {
        let folder = self.folder(assignment.group);
        let state = StreamState::open(disk, &self.journal, &self.options, &folder, assignment)?;
        Ok(Replicated::new(state, ORIGIN))
    }

    /// Options of a stream's store.
    pub(super) fn store_options(&self, group: u64) -> FileStoreOptions {
        let purged = self.journal.log_range(GroupId(group)).purged_to;
        FileStoreOptions { log_purged_to: Some(purged), identity: group, ..self.options.clone() }
    }
}
