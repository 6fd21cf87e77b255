//! One segment file: a header, then records behind each other. What of it is live says its index, which is
//! kept in a file of its own and loaded when it is first needed.

use std::cell::{Cell, OnceCell, RefCell};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use weir_stdx::time::UnixNanos;

use super::chunks::{Coding, FIRST_CHUNK_AT};
use super::framed::{self, Label, Reader, put_u64};
use super::index::{SegmentIndex, Slot};
use super::record::{u32_at, u64_at};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::{IoContext, StorageError};

const MAGIC: &[u8; 8] = b"WEIRSEGM";
/// Version 2: checksums start from the store's seed.
const FORMAT_VERSION: u32 = 2;
/// A coded segment: see `chunks`.
const CODED_VERSION: u32 = 3;
pub(crate) const SEGMENT_HEADER_BYTES: usize = 32;
pub(crate) const INDEX_MAGIC: &[u8; 8] = b"WEIRINDX";

#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: u64,
    /// Where the store's checksums start.
    seed: u32,
    /// No record has a lower sequence.
    pub(crate) base_seq: u64,
    /// No record has a higher sequence.
    pub(crate) last_seq: u64,
    pub(crate) live: u64,
    pub(crate) live_bytes: u64,
    pub(crate) first_timestamp: UnixNanos,
    pub(crate) last_timestamp: UnixNanos,
    /// Header and records, as if they were not coded.
    pub(crate) data_bytes: u64,
    /// What of a coded segment is in its file, in bytes there; nothing for a plain one.
    pub(crate) coded_bytes: Option<u64>,
    /// It holds records that were to be erased and cannot be overwritten where they are.
    pub(crate) must_rewrite: bool,
    /// Rewriting it failed, since a record in it is damaged: not tried again before the next start.
    pub(crate) keep: bool,
    /// Names the index file of the last checkpoint; 0 when there is none.
    pub(crate) index_generation: u64,
    pub(crate) index_changed: bool,
    pub(crate) data_changed: bool,
    index: OnceCell<SegmentIndex>,
    file: RefCell<Option<Arc<dyn DiskFile>>>,
    used: Cell<bool>,
}

pub(crate) fn segment_path(directory: &Path, id: u64) -> PathBuf {
    directory.join(format!("{id:010}.segment"))
}

pub(crate) fn index_path(directory: &Path, id: u64, generation: u64) -> PathBuf {
    directory.join(format!("{id:010}.{generation:010}.index"))
}

/// The header of a segment file.
pub(crate) fn encode_header(id: u64, coded: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SEGMENT_HEADER_BYTES);
    bytes.extend_from_slice(MAGIC);
    let version = if coded { CODED_VERSION } else { FORMAT_VERSION };
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes.extend_from_slice(&[0; 8]);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

impl Segment {
    pub(crate) fn new(id: u64, seed: u32, base_seq: u64, index: SegmentIndex, coded: bool) -> Self {
        let segment = Self::described(id, seed, base_seq);
        let _ = segment.index.set(index);
        Self { index_changed: true, data_changed: true, coded_bytes: coded.then_some(0), ..segment }
    }

    pub(crate) fn is_coded(&self) -> bool {
        self.coded_bytes.is_some()
    }

    /// Bytes of its file.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.coded_bytes.unwrap_or(self.data_bytes)
    }

    /// How its chunks are made and read.
    pub(crate) fn coding<'a>(&self, disk: &'a dyn Disk) -> Coding<'a> {
        Coding { vault: disk.vault().map(|vault| &**vault), seed: self.seed, segment: self.id }
    }

    fn described(id: u64, seed: u32, base_seq: u64) -> Self {
        Self {
            id,
            seed,
            base_seq,
            last_seq: base_seq.saturating_sub(1),
            live: 0,
            live_bytes: 0,
            first_timestamp: UnixNanos::ZERO,
            last_timestamp: UnixNanos::ZERO,
            data_bytes: SEGMENT_HEADER_BYTES as u64,
            coded_bytes: None,
            must_rewrite: false,
            keep: false,
            index_generation: 0,
            index_changed: false,
            data_changed: false,
            index: OnceCell::new(),
            file: RefCell::new(None),
            used: Cell::new(false),
        }
    }

    /// Takes an index in the place of one that cannot be read.
    pub(crate) fn replace_index(&mut self, index: SegmentIndex) {
        self.index = OnceCell::from(index);
        self.index_changed = true;
    }

    /// What the checkpoint says of a segment.
    pub(crate) fn describe(&self, buffer: &mut Vec<u8>) {
        for value in [
            self.id,
            self.base_seq,
            self.last_seq,
            self.live,
            self.live_bytes,
            self.first_timestamp.0,
            self.last_timestamp.0,
            self.data_bytes,
            self.index_generation,
        ] {
            put_u64(buffer, value);
        }
    }

    pub(crate) fn from_description(reader: &mut Reader<'_>, seed: u32) -> Option<Self> {
        let (id, base_seq) = (reader.u64()?, reader.u64()?);
        Some(Self {
            last_seq: reader.u64()?,
            live: reader.u64()?,
            live_bytes: reader.u64()?,
            first_timestamp: UnixNanos(reader.u64()?),
            last_timestamp: UnixNanos(reader.u64()?),
            data_bytes: reader.u64()?,
            index_generation: reader.u64()?,
            ..Self::described(id, seed, base_seq)
        })
    }

    /// The index, loaded now if it was not.
    pub(crate) fn index(&self, disk: &dyn Disk, directory: &Path) -> Result<&SegmentIndex, StorageError> {
        if let Some(index) = self.index.get() {
            return Ok(index);
        }
        let path = index_path(directory, self.id, self.index_generation);
        let label = Label::new(INDEX_MAGIC, self.seed, &path);
        let content = framed::read(disk, &path, label)?;
        let index = SegmentIndex::decode(&content)
            .ok_or_else(|| StorageError::corrupt(&path, 0, "its content is not a segment index"))?;
        Ok(self.index.get_or_init(|| index))
    }

    /// The index, if it is in memory.
    pub(crate) fn loaded_index(&self) -> Option<&SegmentIndex> {
        self.index.get()
    }

    /// Nothing is appended any more.
    pub(crate) fn shrink_index(&mut self) {
        if let Some(index) = self.index.get_mut() {
            index.shrink();
        }
    }

    pub(crate) fn index_mut(
        &mut self,
        disk: &dyn Disk,
        directory: &Path,
    ) -> Result<&mut SegmentIndex, StorageError> {
        self.index(disk, directory)?;
        self.index_changed = true;
        // Every append comes here: a path is only made for the error.
        self.index.get_mut().ok_or_else(|| {
            let path = index_path(directory, self.id, self.index_generation);
            StorageError::corrupt(&path, 0, "its index is not loaded")
        })
    }

    /// Writes the index into a new file, if it has changed; returns the file it replaces.
    pub(crate) fn write_index(
        &mut self,
        disk: &dyn Disk,
        directory: &Path,
        generation: u64,
    ) -> Result<Option<PathBuf>, StorageError> {
        if !self.index_changed {
            return Ok(None);
        }
        let content = self.index(disk, directory)?.encode();
        let path = index_path(directory, self.id, generation);
        framed::write(disk, &path, Label::new(INDEX_MAGIC, self.seed, &path), &content)?;
        let replaced = self.index_generation;
        self.index_generation = generation;
        self.index_changed = false;
        Ok((replaced != 0).then(|| index_path(directory, self.id, replaced)))
    }

    /// The data file; its header is checked when it is first opened.
    pub(crate) fn file(&self, disk: &dyn Disk, directory: &Path) -> Result<Arc<dyn DiskFile>, StorageError> {
        self.used.set(true);
        if let Some(file) = &*self.file.borrow() {
            return Ok(Arc::clone(file));
        }
        let path = segment_path(directory, self.id);
        let file = disk.open(&path, OpenMode::ReadWrite).context("open", &path)?;
        if let Some(problem) = header_problem(&*file, self, &path)? {
            tracing::error!("{}: {problem}", path.display());
        }
        *self.file.borrow_mut() = Some(Arc::clone(&file));
        Ok(file)
    }

    /// The data file, made empty. A file of that name can only be left from before a crash: no checkpoint
    /// knows it.
    pub(crate) fn create_file(
        &self,
        disk: &dyn Disk,
        directory: &Path,
    ) -> Result<Arc<dyn DiskFile>, StorageError> {
        let path = segment_path(directory, self.id);
        let file = disk.open(&path, OpenMode::CreateEmpty).context("create", &path)?;
        *self.file.borrow_mut() = Some(Arc::clone(&file));
        Ok(file)
    }

    /// Writes what lies at `offset` of the segment, its header at 0. `compress` is for a coded segment only.
    pub(crate) fn write(
        &mut self,
        disk: &dyn Disk,
        directory: &Path,
        bytes: &[u8],
        offset: u64,
        compress: bool,
    ) -> Result<(), StorageError> {
        let file = if offset == 0 { self.create_file(disk, directory)? } else { self.file(disk, directory)? };
        let path = segment_path(directory, self.id);
        let Some(coded_bytes) = self.coded_bytes else {
            return file.write_at(bytes, offset).context("write", &path);
        };
        let header = if offset == 0 { SEGMENT_HEADER_BYTES.min(bytes.len()) } else { 0 };
        let (header, records) = bytes.split_at(header);
        let file_offset = if offset == 0 { 0 } else { coded_bytes.max(FIRST_CHUNK_AT) };
        let mut output = Vec::with_capacity(bytes.len() + bytes.len() / 64);
        output.extend_from_slice(header);
        let start = offset + header.len() as u64;
        let chunks = self.coding(disk).encode(records, start, compress, &mut output, file_offset);
        file.write_at(&output, file_offset).context("write", &path)?;
        self.coded_bytes = Some(file_offset + output.len() as u64);
        self.index_mut(disk, directory)?.chunks.append(chunks);
        Ok(())
    }

    /// Closes the file of a segment that was not used since the last call.
    pub(crate) fn close_if_idle(&self) {
        if !self.used.replace(false) {
            *self.file.borrow_mut() = None;
        }
    }

    pub(crate) fn note_append(&mut self, seq: u64, timestamp: UnixNanos, length: usize) {
        if self.live == 0 && self.data_bytes == SEGMENT_HEADER_BYTES as u64 {
            self.first_timestamp = timestamp;
        }
        self.last_seq = seq;
        self.last_timestamp = timestamp;
        self.live += 1;
        self.live_bytes += length as u64;
        self.data_bytes += length as u64;
        self.data_changed = true;
        self.index_changed = true;
    }

    pub(crate) fn note_removal(&mut self, slot: Slot) {
        self.live -= 1;
        self.live_bytes -= u64::from(slot.length);
        self.index_changed = true;
    }
}

/// Why a segment's header is not what it was made with. Only a newer format keeps a segment from being read: every
/// record has a checksum of its own that names the store, and the index says where each lies, so that a damaged
/// header takes no message with it.
pub(crate) fn header_problem(
    file: &dyn DiskFile,
    segment: &Segment,
    path: &Path,
) -> Result<Option<String>, StorageError> {
    let mut header = [0; SEGMENT_HEADER_BYTES];
    let count = file.read_at(&mut header, 0).context("read", path)?;
    let whole = count == SEGMENT_HEADER_BYTES
        && &header[..8] == MAGIC
        && crc32c::crc32c(&header[..28]) == u32_at(&header, 28);
    if !whole {
        return Ok(Some("its header is damaged".to_owned()));
    }
    let version = u32_at(&header, 8);
    if version != FORMAT_VERSION && version != CODED_VERSION {
        return Err(StorageError::UnsupportedVersion {
            path: path.to_owned(),
            found: version,
            supported: CODED_VERSION,
        });
    }
    let own = u64_at(&header, 12) == segment.id && (version == CODED_VERSION) == segment.is_coded();
    Ok((!own).then(|| "its header is another segment's".to_owned()))
}

/// A piece of a segment kept for the next record of a sequential reader.
#[derive(Debug, Default)]
pub(crate) struct ReadAhead {
    segment: u64,
    start: u64,
    bytes: Bytes,
    /// Where the last record read ended.
    expected: (u64, u64),
}

const READ_AHEAD_BYTES: u64 = 128 << 10;

impl ReadAhead {
    /// Reads `length` bytes at `offset` of a file that is `available` long; reads on when the last read
    /// ended here.
    pub(crate) fn read(
        &mut self,
        segment: u64,
        file: &dyn DiskFile,
        slot: Slot,
        available: u64,
    ) -> std::io::Result<Bytes> {
        let (offset, length) = (u64::from(slot.offset), slot.length as usize);
        let sequential = self.expected == (segment, offset);
        self.expected = (segment, offset + length as u64);
        let held = self.segment == segment
            && offset >= self.start
            && offset + length as u64 <= self.start + self.bytes.len() as u64;
        if !held {
            let wanted = if sequential { READ_AHEAD_BYTES.min(available.saturating_sub(offset)) } else { 0 };
            let mut buffer = vec![0; length.max(usize::try_from(wanted).unwrap_or(0))];
            let count = file.read_at(&mut buffer, offset)?;
            buffer.truncate(count);
            let bytes = Bytes::from(buffer);
            if !sequential {
                return Ok(bytes);
            }
            (self.segment, self.start, self.bytes) = (segment, offset, bytes);
        }
        let from = usize::try_from(offset - self.start).unwrap_or(0);
        let to = (from + length).min(self.bytes.len());
        Ok(self.bytes.slice(from.min(to)..to))
    }

    /// Forgets what was read; called when bytes under it may change.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}
