//! A simulated disk that takes its time to sync, so that a power cut finds something unsynced.

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use weir_storage::disk::sim::SimDisk;
use weir_storage::disk::{Disk, DiskFile, OpenMode};

const SYNC_TIME: Duration = Duration::from_millis(2);

#[derive(Debug)]
pub(crate) struct SlowDisk(pub(crate) SimDisk);

#[derive(Debug)]
struct SlowFile(Arc<dyn DiskFile>);

impl Disk for SlowDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.0.open(path, mode)?;
        Ok(Arc::new(SlowFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.0.unlink(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.0.sync_directory(path)
    }

    fn create_directories(&self, path: &Path) -> io::Result<()> {
        self.0.create_directories(path)
    }

    fn list_files(&self, path: &Path) -> io::Result<Vec<String>> {
        self.0.list_files(path)
    }

    fn list_directories(&self, path: &Path) -> io::Result<Vec<String>> {
        self.0.list_directories(path)
    }

    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        self.0.remove_tree(path)
    }

    fn exists(&self, path: &Path) -> bool {
        self.0.exists(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Debug + Send + Sync>> {
        self.0.lock(path)
    }
}

impl DiskFile for SlowFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }

    fn write_log_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_log_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        std::thread::sleep(SYNC_TIME);
        self.0.sync_data()
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.0.set_length(length)
    }

    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.0.allocate(length)
    }
}
