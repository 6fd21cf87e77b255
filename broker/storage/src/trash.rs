//! Where deleted streams go: their directory is moved aside and deleted only after a grace period, so that
//! a deletion by mistake can be undone by hand.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use weir_stdx::time::UnixNanos;

use crate::disk::{Disk, RealDisk};
use crate::error::{IoContext, StorageError};

/// A directory of deleted directories: `<unix seconds of the deletion>-<name>`.
#[derive(Clone, Debug)]
pub struct Trash {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
}

/// One deleted directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrashEntry {
    pub path: PathBuf,
    pub deleted_at: UnixNanos,
    /// Name it had.
    pub name: String,
}

impl Trash {
    /// The trash in a directory, which is made if missing.
    pub fn open(directory: &Path) -> Result<Self, StorageError> {
        Self::open_on(Arc::new(RealDisk), directory)
    }

    /// `open` on a given disk.
    pub fn open_on(disk: Arc<dyn Disk>, directory: &Path) -> Result<Self, StorageError> {
        disk.create_directories(directory).context("create", directory)?;
        Ok(Self { disk, directory: directory.to_owned() })
    }

    /// Moves a directory here. It must be on the same file system.
    pub fn discard(&self, path: &Path, now: UnixNanos) -> Result<PathBuf, StorageError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let seconds = now.0 / 1_000_000_000;
        let mut target = self.directory.join(format!("{seconds:012}-{name}"));
        let mut copy = 1;
        while self.disk.exists(&target) {
            copy += 1;
            target = self.directory.join(format!("{seconds:012}-{name}.{copy}"));
        }
        self.disk.rename(path, &target).context("move to the trash", path)?;
        self.disk.sync_directory(&self.directory).context("sync", &self.directory)?;
        if let Some(parent) = path.parent() {
            self.disk.sync_directory(parent).context("sync", parent)?;
        }
        Ok(target)
    }

    /// What is in the trash, oldest first. Anything that does not look like ours is left out.
    pub fn list(&self) -> Result<Vec<TrashEntry>, StorageError> {
        let mut entries = Vec::new();
        for file_name in self.disk.list_directories(&self.directory).context("list", &self.directory)? {
            let path = self.directory.join(&file_name);
            let Some((seconds, name)) = file_name.split_once('-') else { continue };
            let Ok(seconds) = seconds.parse() else { continue };
            entries.push(TrashEntry {
                path,
                deleted_at: UnixNanos::from_secs(seconds),
                name: name.to_owned(),
            });
        }
        entries.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(entries)
    }

    /// Deletes for good what was discarded longer than the grace period ago; returns what went.
    pub fn empty(&self, now: UnixNanos, grace: Duration) -> Result<Vec<TrashEntry>, StorageError> {
        let mut gone = Vec::new();
        for entry in self.list()? {
            if now.since(entry.deleted_at) >= grace {
                self.disk.remove_tree(&entry.path).context("delete", &entry.path)?;
                gone.push(entry);
            }
        }
        Ok(gone)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn deleted_directories_wait_for_the_grace_period() {
        let root = tempfile::tempdir().unwrap();
        let trash = Trash::open(&root.path().join("trash")).unwrap();
        for second in [100, 100, 200] {
            let stream = root.path().join("ORDERS");
            fs::create_dir(&stream).unwrap();
            fs::write(stream.join("file"), b"data").unwrap();
            trash.discard(&stream, UnixNanos::from_secs(second)).unwrap();
            assert!(!stream.exists());
        }
        assert_eq!(trash.list().unwrap().len(), 3);
        let grace = Duration::from_secs(60);
        assert!(trash.empty(UnixNanos::from_secs(159), grace).unwrap().is_empty());
        let gone = trash.empty(UnixNanos::from_secs(170), grace).unwrap();
        assert_eq!(gone.len(), 2);
        assert_eq!(trash.list().unwrap()[0].deleted_at, UnixNanos::from_secs(200));
    }
}
