//! A simulated disk that takes its time to sync: a power cut finds something unsynced, and whoever waits notices.

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::SimDisk;
use crate::disk::{Disk, DiskFile, OpenMode};

/// Passes everything on to a `SimDisk`; each sync of a file takes `sync_time` first.
#[derive(Debug)]
pub struct SlowDisk {
    inner: SimDisk,
    sync_time: Duration,
}

impl SlowDisk {
    /// A slow way to `inner`.
    #[must_use]
    pub fn new(inner: SimDisk, sync_time: Duration) -> Self {
        Self { inner, sync_time }
    }
}

#[derive(Debug)]
struct SlowFile {
    inner: Arc<dyn DiskFile>,
    sync_time: Duration,
}

impl Disk for SlowDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(SlowFile { inner: self.inner.open(path, mode)?, sync_time: self.sync_time }))
    }

    pass_names_on!();
}

impl DiskFile for SlowFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_at(bytes, offset)
    }

    fn write_log_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_log_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        std::thread::sleep(self.sync_time);
        self.inner.sync_data()
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.inner.set_length(length)
    }

    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.inner.allocate(length)
    }
}
