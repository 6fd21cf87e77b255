//! A disk whose content is sealed: it carries the keys to those who know the formats, and passes everything on. It
//! encrypts nothing by itself: which bytes may be torn, and which go together, only a format knows.

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Disk, DiskFile, OpenMode};
use crate::vault::Vault;

/// A disk and the keys to what lies on it.
#[derive(Clone, Debug)]
pub struct SealedDisk {
    inner: Arc<dyn Disk>,
    vault: Arc<Vault>,
}

impl SealedDisk {
    pub(crate) fn new(inner: Arc<dyn Disk>, vault: Arc<Vault>) -> Self {
        Self { inner, vault }
    }
}

impl Disk for SealedDisk {
    fn vault(&self) -> Option<&Arc<Vault>> {
        Some(&self.vault)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        self.inner.open(path, mode)
    }

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
}
