//! The files of a journal: making them, taking them into use, giving them back.
//! A file is made under a temporary name, filled with zeros and synced before it gets its real one: an
//! fdatasync then has no metadata to write, and a file with our name always has our header.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::group::Slot;
use super::record::{self, FILE_HEADER_BYTES, Fields, FileHeader, record_bytes};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::{IoContext, StorageError};
use crate::vault::Vault;

pub(crate) const FILE_SUFFIX: &str = ".journal";
pub(crate) const TEMPORARY_SUFFIX: &str = ".making";
const ZERO_CHUNK_BYTES: usize = 1 << 20;
/// Files kept for reuse; more are deleted.
const FREE_FILES_MAX: usize = 4;
/// Between two attempts to make a file for which there was no room.
const RETRY: Duration = Duration::from_secs(1);
/// Bytes of the first file of a new journal, which the start waits for; each file after it is twice as large as the one
/// before, up to the size that is wanted.
const FIRST_FILE_BYTES: u64 = 16 << 20;

/// One file of the journal.
#[derive(Debug)]
pub(crate) struct LogFile {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) bytes: u64,
}

/// A file ready to be taken into use, and the copy of its header that holds the present one.
#[derive(Debug)]
pub(crate) struct FreeFile {
    pub(crate) file: Arc<LogFile>,
    pub(crate) header_copy: u64,
}

/// Makes files and keeps the unused ones.
#[derive(Debug)]
pub(crate) struct FileSupply {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    file_bytes: u64,
    /// Bytes of the file that is made next.
    next_bytes: u64,
    next_number: u64,
    /// Made and never used.
    prepared: Option<FreeFile>,
    free: Vec<FreeFile>,
    making: Option<JoinHandle<Result<FreeFile, StorageError>>>,
    background: bool,
    /// Why the last attempt to make a file in the background failed, and when.
    refused: Option<(StorageError, Instant)>,
}

impl FileSupply {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        directory: &Path,
        file_bytes: u64,
        next_number: u64,
        background: bool,
    ) -> Self {
        let directory = directory.to_owned();
        Self {
            disk,
            directory,
            file_bytes,
            // Only the names of files tell whether there ever was one.
            next_bytes: if next_number == 1 { FIRST_FILE_BYTES.min(file_bytes) } else { file_bytes },
            next_number,
            prepared: None,
            free: Vec::new(),
            making: None,
            background,
            refused: None,
        }
    }

    /// Gives a file back for reuse.
    pub(crate) fn put(&mut self, free: FreeFile) {
        self.free.push(free);
    }

    /// Deletes surplus files. Only when a durable record says that they are not needed: until then a
    /// recovery would miss them.
    fn trim(&mut self) {
        let file_bytes = self.file_bytes;
        let mut kept = 0;
        let (keep, surplus) = std::mem::take(&mut self.free).into_iter().partition(|free| {
            let keep = kept < FREE_FILES_MAX && free.file.bytes == file_bytes;
            kept += usize::from(keep);
            keep
        });
        self.free = keep;
        let surplus: Vec<FreeFile> = surplus;
        for free in surplus {
            if let Err(error) = self.disk.unlink(&free.file.path) {
                tracing::warn!("deleting the unused journal file {}: {error}", free.file.path.display());
            }
        }
    }

    /// Why there is no file ready, when the last attempt to make one failed.
    pub(crate) fn refusal(&self) -> Option<&StorageError> {
        self.refused.as_ref().filter(|_| !self.is_ready()).map(|(error, _)| error)
    }

    fn is_ready(&self) -> bool {
        self.prepared.is_some() || !self.free.is_empty()
    }

    /// A file is being made, or is to be tried again: `prepare` has something to do without being asked.
    pub(crate) fn is_busy(&self) -> bool {
        self.making.is_some() || self.refusal().is_some()
    }

    /// Takes over what was made in the background.
    fn collect(&mut self) {
        let Some(making) = self.making.take_if(|making| making.is_finished()) else { return };
        match making.join() {
            Ok(Ok(made)) => {
                self.refused = None;
                self.prepared = Some(made);
            }
            Ok(Err(error)) => self.refused = Some((error, Instant::now())),
            Err(_) => {}
        }
    }

    /// Starts to make a file in the background when none is ready.
    pub(crate) fn prepare(&mut self) {
        self.collect();
        let too_soon = self.refused.as_ref().is_some_and(|(_, at)| at.elapsed() < RETRY);
        if !self.background || self.is_ready() || self.making.is_some() || too_soon {
            return;
        }
        let (disk, path) = (Arc::clone(&self.disk), self.next_path());
        let (directory, bytes) = (self.directory.clone(), self.next_size());
        let spawned = std::thread::Builder::new()
            .name("weir-journal-file".to_owned())
            .spawn(move || make_file(&*disk, &directory, &path, bytes));
        // Without a thread the writer makes the file itself when it needs it.
        self.making = spawned.ok();
    }

    /// A file of at least `bytes_min`, made now if none is ready. A durable record must say by now that
    /// the files given back are not needed.
    pub(crate) fn take(&mut self, bytes_min: u64) -> Result<FreeFile, StorageError> {
        self.trim();
        if bytes_min > self.file_bytes {
            let path = self.next_path();
            return make_file(&*self.disk, &self.directory, &path, bytes_min.next_multiple_of(4096));
        }
        if let Some(free) = self.free.pop() {
            return Ok(free);
        }
        let made = match self.making.take().map(JoinHandle::join) {
            Some(Ok(made)) => Some(made?),
            _ => self.prepared.take(),
        };
        if let Some(made) = made {
            if made.file.bytes >= bytes_min {
                return Ok(made);
            }
            self.free.push(made);
            self.next_bytes = self.file_bytes;
        }
        let (path, bytes) = (self.next_path(), self.next_size());
        make_file(&*self.disk, &self.directory, &path, bytes.max(bytes_min.next_multiple_of(4096)))
    }

    fn next_size(&mut self) -> u64 {
        let bytes = self.next_bytes;
        self.next_bytes = (bytes * 2).min(self.file_bytes);
        bytes
    }

    fn next_path(&mut self) -> PathBuf {
        let path = self.directory.join(format!("{:08}{FILE_SUFFIX}", self.next_number));
        self.next_number += 1;
        path
    }
}

impl Drop for FileSupply {
    fn drop(&mut self) {
        if let Some(making) = self.making.take() {
            let _ = making.join();
        }
    }
}

fn make_file(disk: &dyn Disk, directory: &Path, path: &Path, bytes: u64) -> Result<FreeFile, StorageError> {
    let made = try_make_file(disk, directory, path, bytes);
    if made.is_err() {
        // What there is of it would take the room that is missing.
        let _ = disk.unlink(&temporary_path(path));
    }
    made
}

fn temporary_path(path: &Path) -> PathBuf {
    path.with_extension(TEMPORARY_SUFFIX.trim_start_matches('.'))
}

fn try_make_file(
    disk: &dyn Disk,
    directory: &Path,
    path: &Path,
    bytes: u64,
) -> Result<FreeFile, StorageError> {
    let temporary = temporary_path(path);
    let file = disk.open(&temporary, OpenMode::CreateEmpty).context("create", &temporary)?;
    file.allocate(bytes).context("allocate", &temporary)?;
    let zeros = vec![0; ZERO_CHUNK_BYTES.min(usize::try_from(bytes).unwrap_or(ZERO_CHUNK_BYTES))];
    let mut offset = 0;
    while offset < bytes {
        let count = zeros.len().min(usize::try_from(bytes - offset).unwrap_or(usize::MAX));
        file.write_at(&zeros[..count], offset).context("fill", &temporary)?;
        offset += count as u64;
    }
    let header = FileHeader {
        generation: 0,
        epoch: 0,
        previous_generation: 0,
        oldest_generation: 0,
        file_bytes: bytes,
        sealed: disk.vault().is_some(),
    };
    file.write_at(&header.encode(), FileHeader::copy_offset(0)).context("write", &temporary)?;
    file.sync_data().context("sync", &temporary)?;
    disk.rename(&temporary, path).context("rename", &temporary)?;
    disk.sync_directory(directory).context("sync", directory)?;
    let file = Arc::new(LogFile { path: path.to_owned(), file, bytes });
    Ok(FreeFile { file, header_copy: 0 })
}

/// A piece of a file held while neighbouring entries are read from it.
#[derive(Debug, Default)]
pub(crate) struct Window {
    generation: u32,
    start: u64,
    bytes: Bytes,
}

const WINDOW_BYTES: usize = 256 << 10;

impl Window {
    /// The record at a slot, if its checksum is right and it is of the slot's generation.
    pub(crate) fn record(
        &mut self,
        file: &LogFile,
        slot: Slot,
        vault: Option<&Vault>,
    ) -> Result<Option<(Fields, Bytes)>, StorageError> {
        let length = record_bytes(slot.length as usize);
        let offset = u64::from(slot.offset);
        let held = self.generation == slot.generation
            && offset >= self.start
            && offset + length as u64 <= self.start + self.bytes.len() as u64;
        if !held {
            self.fill(file, slot.generation, offset, length)?;
        }
        let from = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        let Some(bytes) = self.bytes.get(from..) else { return Ok(None) };
        let Some(record) = record::decode(bytes) else { return Ok(None) };
        if record.generation != slot.generation || record.stored.len() != slot.length as usize {
            return Ok(None);
        }
        Ok(record.payload(vault).map(|payload| match payload {
            Cow::Borrowed(payload) => (record.fields, self.bytes.slice_ref(payload)),
            Cow::Owned(payload) => (record.fields, payload.into()),
        }))
    }

    fn fill(
        &mut self,
        file: &LogFile,
        generation: u32,
        offset: u64,
        length: usize,
    ) -> Result<(), StorageError> {
        let available = usize::try_from(file.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut buffer = vec![0; length.max(WINDOW_BYTES).min(available)];
        let count = file.file.read_at(&mut buffer, offset).context("read", &file.path)?;
        buffer.truncate(count);
        *self = Self { generation, start: offset, bytes: buffer.into() };
        Ok(())
    }
}

/// Reads a whole file (recovery scans it) into a buffer that may have held another one.
pub(crate) fn read_all(file: &LogFile, bytes: &mut Vec<u8>) -> Result<(), StorageError> {
    let length = file.file.length().context("read", &file.path)?.min(file.bytes);
    bytes.resize(usize::try_from(length).unwrap_or(0), 0);
    let count = file.file.read_at(bytes, 0).context("read", &file.path)?;
    bytes.truncate(count);
    Ok(())
}

/// Reads the header area of a file.
pub(crate) fn read_header_area(file: &dyn DiskFile, path: &Path) -> Result<Vec<u8>, StorageError> {
    let mut area = vec![0; usize::try_from(FILE_HEADER_BYTES).unwrap_or(0)];
    let count = file.read_at(&mut area, 0).context("read", path)?;
    area.truncate(count);
    Ok(area)
}
