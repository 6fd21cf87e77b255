//! What can go wrong in storage. Errors are cheap to clone, since one failed fsync fails everything that
//! waited for it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::journal::GroupId;

/// An error of the journal or of a message store.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    /// The operating system refused an operation.
    #[error("{operation} {path}: {source}")]
    Io { operation: &'static str, path: PathBuf, source: Arc<io::Error> },
    /// Bytes on disk are not what was written.
    #[error("{path} is damaged at byte {offset}: {reason}")]
    Corrupt { path: PathBuf, offset: u64, reason: String },
    /// The file is ours, but of a version this program cannot read.
    #[error("{path} has format version {found}, this program reads version {supported}")]
    UnsupportedVersion { path: PathBuf, found: u32, supported: u32 },
    /// The file is not one of ours.
    #[error("{path} is not a file of this store: {reason}")]
    Foreign { path: PathBuf, reason: String },
    /// The store is encrypted, and not as configured. Nothing was changed.
    #[error("{path}: {reason}")]
    Key { path: PathBuf, reason: String },
    /// Another process has the store open.
    #[error("{path} is in use by another process")]
    InUse { path: PathBuf },
    /// The journal stopped after an earlier error; nothing is accepted until the process restarts.
    #[error("the journal has stopped: {reason}")]
    Stopped { reason: Arc<str> },
    /// Entries must continue the group's log.
    #[error("group {}: the log continues at index {expected}, got {got}", group.0)]
    NotContiguous { group: GroupId, expected: u64, got: u64 },
    /// The entry was removed from the log (purged, truncated or never there).
    #[error("group {}: entry {index} is not in the log ({first} to {last})", group.0)]
    NotInLog { group: GroupId, index: u64, first: u64, last: u64 },
    /// The entry was acknowledged, but its bytes on disk are damaged: repair it from a peer.
    #[error("group {}: entry {index} is unreadable", group.0)]
    Unreadable { group: GroupId, index: u64 },
    /// The message was stored, but its bytes on disk are damaged: repair it from a peer.
    #[error("message {seq} is unreadable")]
    UnreadableMessage { seq: u64 },
    /// The item does not fit.
    #[error("{what} of {size} bytes is larger than the limit of {limit}")]
    TooLarge { what: &'static str, size: u64, limit: u64 },
    /// The index of subjects is full.
    #[error("no room for one more subject beside {count} others")]
    TooManySubjects { count: u64 },
    /// Sequences only grow.
    #[error("sequence {got} is not above the last sequence {last}")]
    SequenceOrder { last: u64, got: u64 },
    /// The input stream is not a valid snapshot.
    #[error("invalid snapshot: {reason}")]
    InvalidSnapshot { reason: String },
    /// A setting makes no sense.
    #[error("invalid storage option: {reason}")]
    InvalidOption { reason: String },
}

/// The name of the operation that makes bytes durable.
const SYNC: &str = "sync";

impl StorageError {
    pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { operation, path: path.to_owned(), source: Arc::new(source) }
    }

    pub(crate) fn corrupt(path: &Path, offset: u64, reason: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), offset, reason: reason.into() }
    }

    /// True when the disk, or a quota on it, is full.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        let full = |kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        matches!(self, Self::Io { source, .. } if full(source.kind()))
    }

    /// True when the disk was full before anything was synced: what was refused can be tried again once there is
    /// room. What a failed sync left behind is unknown, whatever its reason.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.is_out_of_space() && !matches!(self, Self::Io { operation: SYNC, .. })
    }
}

/// Adds what was attempted, and on what, to an I/O error.
pub(crate) trait IoContext<T> {
    fn context(self, operation: &'static str, path: &Path) -> Result<T, StorageError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn context(self, operation: &'static str, path: &Path) -> Result<T, StorageError> {
        self.map_err(|source| StorageError::io(operation, path, source))
    }
}
