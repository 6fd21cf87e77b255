//! The seam between storage and the file system. Everything storage does to files goes through it, so that
//! tests can record the operations, cut the power between any two of them, and make any of them fail.
//! Not a general file system API: only what the journal and the stores use.

/// The operations on names of a disk that passes them on to its `inner` one.
macro_rules! pass_names_on {
    () => {
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.inner.rename(from, to)
        }

        fn unlink(&self, path: &Path) -> io::Result<()> {
            self.inner.unlink(path)
        }

        fn sync_directory(&self, path: &Path) -> io::Result<()> {
            self.inner.sync_directory(path)
        }

        fn create_directories(&self, path: &Path) -> io::Result<()> {
            self.inner.create_directories(path)
        }

        fn list_files(&self, path: &Path) -> io::Result<Vec<String>> {
            self.inner.list_files(path)
        }

        fn list_directories(&self, path: &Path) -> io::Result<Vec<String>> {
            self.inner.list_directories(path)
        }

        fn remove_tree(&self, path: &Path) -> io::Result<()> {
            self.inner.remove_tree(path)
        }

        fn exists(&self, path: &Path) -> bool {
            self.inner.exists(path)
        }

        fn lock(&self, path: &Path) -> io::Result<Box<dyn Debug + Send + Sync>> {
            self.inner.lock(path)
        }
    };
}
use pass_names_on;

mod budget;
mod overlay;
mod real;
mod sealed;
#[cfg(any(test, feature = "test-util"))]
pub mod sim;
mod watched;

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub use budget::BudgetDisk;
pub use overlay::OverlayDisk;
pub use real::RealDisk;
pub use sealed::SealedDisk;
pub use watched::WatchedDisk;

use crate::vault::Vault;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Existing, for reading.
    Read,
    /// Existing, for reading and writing.
    ReadWrite,
    /// Made if missing, emptied if not; for reading and writing.
    CreateEmpty,
}

/// Operations on names. A created, renamed or unlinked name survives a crash only after `sync_directory`.
pub trait Disk: Debug + Send + Sync {
    /// The keys with which everything on this disk is sealed; nothing where it lies plain. Those who write formats
    /// ask for it, the disk itself seals nothing.
    fn vault(&self) -> Option<&Arc<Vault>> {
        None
    }
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;
    /// Of a file, or of a directory with everything in it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn unlink(&self, path: &Path) -> io::Result<()>;
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
    /// Makes the directory and its parents, and syncs the parents.
    fn create_directories(&self, path: &Path) -> io::Result<()>;
    /// Names of the files (not directories) in a directory, sorted.
    fn list_files(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Names of the directories in a directory, sorted.
    fn list_directories(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Deletes a directory with everything in it.
    fn remove_tree(&self, path: &Path) -> io::Result<()>;
    fn exists(&self, path: &Path) -> bool;
    /// Keeps other processes out for as long as the guard lives; `WouldBlock` when one is in.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Debug + Send + Sync>>;
}

/// Operations on an open file. Offsets are absolute; there is no cursor, so that readers and the writer
/// share a handle.
pub trait DiskFile: Debug + Send + Sync {
    /// Reads until the buffer is full or the file ends; returns the bytes read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all bytes.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Writes all bytes behind what a log has so far; what lies behind them up to the next multiple of 4096 may become
    /// zeros. Only one writer, and nobody else writes these blocks.
    fn write_log_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes content and length durable (fdatasync).
    fn sync_data(&self) -> io::Result<()>;
    fn set_length(&self, length: u64) -> io::Result<()>;
    fn length(&self) -> io::Result<u64>;
    /// Reserves blocks for `0..length`; the file reads as zeros there.
    fn allocate(&self, length: u64) -> io::Result<()>;
}
