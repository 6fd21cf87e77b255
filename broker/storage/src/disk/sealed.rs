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

    super::pass_names_on!();
}
