//! The whole content of a store as a stream of bytes, for a replica that has fallen far behind.
//! ```text
//! magic 8 | version u32 | first_seq, last_seq, last timestamp, messages, bytes: u64 each | crc u32
//! records as in a segment ...
//! 0 u32 | messages u64 | crc over all of the above u32
//! ```

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use weir_stdx::time::UnixNanos;

use super::chunks::{ChunkCache, Chunks, Coding};
use super::index::Slot;
use super::record::{self, RECORD_FIXED_BYTES, u32_at, u64_at};
use super::{StoreState, StoredMessage};
use crate::disk::DiskFile;
use crate::error::{IoContext, StorageError};
use crate::vault::Vault;

const MAGIC: &[u8; 8] = b"WEIRSNAP";
const FORMAT_VERSION: u32 = 1;
const HEADER_BYTES: usize = 56;
const TRAILER_BYTES: usize = 12;
const RECORD_BYTES_MAX: usize = 256 << 20;
const READ_BYTES: usize = 1 << 20;

/// Live messages of one segment file. The open file keeps its content, whatever happens to its name.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) slots: Vec<(u64, Slot)>,
    /// Where the checksums of its records start.
    pub(crate) seed: u32,
    pub(crate) coded: Option<CodedPart>,
}

/// How the records of a coded segment lie in its file.
#[derive(Debug)]
pub(crate) struct CodedPart {
    pub(crate) segment: u64,
    pub(crate) chunks: Chunks,
    pub(crate) vault: Option<Arc<Vault>>,
}

/// What was read last, for the record behind it.
#[derive(Debug, Default)]
pub(crate) struct Window {
    start: u64,
    bytes: Bytes,
    chunk: ChunkCache,
}

/// One file's messages at one moment, to be checked without holding the store up.
#[derive(Debug)]
pub struct StorePart {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// An error where the file or its index cannot be used.
    pub(crate) part: Result<Part, StorageError>,
}

impl StorePart {
    /// The last sequence that the file can hold.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The sequences whose bytes are not what was written. Messages removed meanwhile may be among them: ask the
    /// store. An error of the operating system is not damage.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn damaged(&self) -> Result<Vec<u64>, StorageError> {
        let part = match &self.part {
            Ok(part) => part,
            Err(StorageError::Io { source, .. }) if source.kind() != io::ErrorKind::NotFound => {
                return Err(StorageError::io(
                    "read",
                    std::path::Path::new("a segment"),
                    source.kind().into(),
                ));
            }
            Err(_) => return Ok((self.first..=self.last).collect()),
        };
        let mut damaged = Vec::new();
        let mut window = Window::default();
        for &(seq, slot) in &part.slots {
            if read_message(part, &mut window, seq, slot)?.is_none() {
                damaged.push(seq);
            }
        }
        Ok(damaged)
    }
}

#[derive(Debug)]
enum Messages {
    /// In files, and behind them those that are not written yet.
    Files(Vec<Part>, Vec<StoredMessage>),
    Memory(Vec<StoredMessage>),
}

/// A view of a store's content at one moment. May be written out on another thread.
#[derive(Debug)]
pub struct StoreSnapshot {
    state: StoreState,
    messages: Messages,
}

impl StoreSnapshot {
    pub(crate) fn of_files(state: StoreState, parts: Vec<Part>, buffered: Vec<StoredMessage>) -> Self {
        Self { state, messages: Messages::Files(parts, buffered) }
    }

    pub(crate) fn of_memory(state: StoreState, messages: Vec<StoredMessage>) -> Self {
        Self { state, messages: Messages::Memory(messages) }
    }

    /// The store's counters at that moment.
    #[must_use]
    pub fn state(&self) -> &StoreState {
        &self.state
    }

    /// Writes the snapshot. Fails on an unreadable message: a replica with damage cannot serve as a source.
    pub fn write_to(&self, output: &mut dyn Write) -> Result<(), StorageError> {
        let mut output = Summed { inner: output, crc: 0 };
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        let StoreState { first_seq, last_seq, last_timestamp, messages, bytes, .. } = self.state;
        for value in [first_seq, last_seq, last_timestamp.0, messages, bytes] {
            header.extend_from_slice(&value.to_le_bytes());
        }
        header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
        output.put(&header)?;
        let (parts, in_memory) = match &self.messages {
            Messages::Files(parts, buffered) => (&parts[..], buffered),
            Messages::Memory(messages) => (&[][..], messages),
        };
        for part in parts {
            write_part(part, &mut output)?;
        }
        let mut buffer = Vec::new();
        for message in in_memory {
            buffer.clear();
            record::encode(&mut buffer, message, 0)?;
            output.put(&buffer)?;
        }
        let mut trailer = vec![0; 4];
        trailer.extend_from_slice(&messages.to_le_bytes());
        output.put(&trailer)?;
        let crc = output.crc;
        output.put(&crc.to_le_bytes())?;
        output.inner.flush().map_err(write_error)
    }
}

fn write_part(part: &Part, output: &mut Summed<'_>) -> Result<(), StorageError> {
    let mut window = Window::default();
    let mut buffer = Vec::new();
    for &(seq, slot) in &part.slots {
        let message = read_message(part, &mut window, seq, slot)?;
        let message = message.ok_or(StorageError::UnreadableMessage { seq })?;
        buffer.clear();
        record::encode(&mut buffer, &message, 0)?;
        output.put(&buffer)?;
    }
    Ok(())
}

/// Reads a message through a window that moves on with the slots; nothing when its bytes are not what was written.
pub(crate) fn read_message(
    part: &Part,
    window: &mut Window,
    seq: u64,
    slot: Slot,
) -> Result<Option<StoredMessage>, StorageError> {
    let (offset, length) = (u64::from(slot.offset), slot.length as usize);
    if let Some(CodedPart { segment, chunks, vault }) = &part.coded {
        let coding = Coding { vault: vault.as_deref(), seed: part.seed, segment: *segment };
        let bytes = window.chunk.read(&*part.file, chunks, coding, offset, length);
        let bytes = bytes.context("read", &part.path)?;
        let message = bytes.and_then(|bytes| record::decode(&bytes, part.seed));
        return Ok(message.filter(|message| message.seq == seq));
    }
    if offset < window.start || offset + length as u64 > window.start + window.bytes.len() as u64 {
        let mut buffer = vec![0; length.max(READ_BYTES)];
        let count = part.file.read_at(&mut buffer, offset).context("read", &part.path)?;
        buffer.truncate(count);
        (window.start, window.bytes) = (offset, buffer.into());
    }
    let from = usize::try_from(offset - window.start).unwrap_or(usize::MAX);
    let end = from.saturating_add(length).min(window.bytes.len());
    let bytes = window.bytes.slice(from.min(end)..end);
    Ok(record::decode(&bytes, part.seed).filter(|message| message.seq == seq))
}

struct Summed<'a> {
    inner: &'a mut dyn Write,
    crc: u32,
}

impl Summed<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.inner.write_all(bytes).map_err(write_error)
    }
}

fn write_error(error: io::Error) -> StorageError {
    StorageError::io("write", std::path::Path::new("the snapshot"), error)
}

fn invalid(reason: impl Into<String>) -> StorageError {
    StorageError::InvalidSnapshot { reason: reason.into() }
}

/// Reads a snapshot, handing out its messages in order; the counters come back once all of it checked out.
pub(crate) fn read(
    input: &mut dyn Read,
    visit: &mut dyn FnMut(StoredMessage) -> Result<(), StorageError>,
) -> Result<StoreState, StorageError> {
    let mut header = [0; HEADER_BYTES];
    input.read_exact(&mut header).map_err(|error| invalid(format!("its header: {error}")))?;
    if &header[..8] != MAGIC {
        return Err(invalid("it does not start as a snapshot does"));
    }
    let version = u32_at(&header, 8);
    if version != FORMAT_VERSION {
        return Err(invalid(format!("it has format version {version}, this program reads {FORMAT_VERSION}")));
    }
    if crc32c::crc32c(&header[..HEADER_BYTES - 4]) != u32_at(&header, HEADER_BYTES - 4) {
        return Err(invalid("its header fails its checksum"));
    }
    let mut crc = crc32c::crc32c(&header);
    let state = StoreState {
        first_seq: u64_at(&header, 12),
        last_seq: u64_at(&header, 20),
        last_timestamp: UnixNanos(u64_at(&header, 28)),
        messages: u64_at(&header, 36),
        bytes: u64_at(&header, 44),
        ..StoreState::default()
    };
    let mut count = 0;
    loop {
        let mut length = [0; 4];
        read_exact(input, &mut length)?;
        crc = crc32c::crc32c_append(crc, &length);
        let length = u32::from_le_bytes(length) as usize;
        if length == 0 {
            break;
        }
        let bytes = read_record(input, length)?;
        crc = crc32c::crc32c_append(crc, &bytes[4..]);
        let message =
            record::decode(&bytes, 0).ok_or_else(|| invalid(format!("record {count} is damaged")))?;
        if message.seq > state.last_seq {
            return Err(invalid(format!("message {} lies behind the end", message.seq)));
        }
        visit(message)?;
        count += 1;
    }
    let mut trailer = [0; TRAILER_BYTES];
    read_exact(input, &mut trailer)?;
    crc = crc32c::crc32c_append(crc, &trailer[..8]);
    if u64_at(&trailer, 0) != count || count != state.messages || u32_at(&trailer, 8) != crc {
        return Err(invalid(format!("its end does not fit its {count} messages")));
    }
    Ok(state)
}

/// `bytes` with a header, and with records, whose checksums are right.
#[cfg(feature = "test-util")]
pub(super) fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = MAGIC.to_vec();
    sealed.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    sealed.extend_from_slice(bytes.get(..40).unwrap_or(&[0; 40]));
    sealed.extend_from_slice(&crc32c::crc32c(&sealed).to_le_bytes());
    let mut rest = bytes.get(40..).unwrap_or_default();
    while let Some((&length, after)) = rest.split_first() {
        let (body, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        let whole = (body.len() + 8) as u32;
        sealed.extend_from_slice(&whole.to_le_bytes());
        sealed.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
        sealed.extend_from_slice(body);
    }
    sealed.extend_from_slice(&[0; 4 + TRAILER_BYTES]);
    sealed
}

fn read_exact(input: &mut dyn Read, buffer: &mut [u8]) -> Result<(), StorageError> {
    input.read_exact(buffer).map_err(|error| invalid(error.to_string()))
}

/// Reads the rest of a record behind its length. Memory grows with what really arrives.
fn read_record(input: &mut dyn Read, length: usize) -> Result<Bytes, StorageError> {
    if !(RECORD_FIXED_BYTES..=RECORD_BYTES_MAX).contains(&length) {
        return Err(invalid(format!("a record of {length} bytes")));
    }
    let mut bytes = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes().to_vec();
    let rest = (length - 4) as u64;
    let count = input.take(rest).read_to_end(&mut bytes).map_err(|error| invalid(error.to_string()))?;
    if count as u64 != rest {
        return Err(invalid("it is cut off"));
    }
    Ok(bytes.into())
}
