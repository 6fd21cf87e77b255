//! Where the chunks of a backup wait until all of them are there: a file without a name, so that nothing is left of it
//! when the server ends, in words that only this process can read. Not the storage stack's: nobody else needs it.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use weir_backup::{BackupError, BackupReader, MessageLimits};
use weir_jsapi::{StorageType, StreamState};

/// Read from the file at once.
const READ_BYTES: usize = 256 << 10;
/// What a stored message counts beside subject, headers and payload.
const FILE_OVERHEAD: u64 = 30;
const FILE_HEADERS_OVERHEAD: u64 = 4;
const MEMORY_OVERHEAD: u64 = 16;
const KEY_BYTES: usize = 32;
const LENGTH_BYTES: usize = 4;
/// A sealed chunk is never longer.
const SEALED_BYTES_MAX: usize = 128 << 20;

/// The file, as chunks: their sealed length, then they.
pub(crate) struct Staging {
    file: File,
    key: Arc<LessSafeKey>,
    /// Chunks written.
    count: AtomicU64,
}

impl Staging {
    /// A new file in a folder of the store.
    pub(crate) fn create(store_dir: &Path) -> io::Result<Self> {
        let folder = store_dir.join("restore");
        std::fs::create_dir_all(&folder)?;
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, &key).map_err(|_| unsealable())?;
        Ok(Self {
            file: tempfile::tempfile_in(folder)?,
            key: Arc::new(LessSafeKey::new(key)),
            count: AtomicU64::new(0),
        })
    }

    /// Adds a chunk; one caller at a time. May block on the disk.
    pub(crate) fn write(&self, chunk: &[u8]) -> io::Result<()> {
        let mut sealed = chunk.to_vec();
        let nonce = nonce(self.count.fetch_add(1, Ordering::AcqRel));
        self.key.seal_in_place_append_tag(nonce, Aad::empty(), &mut sealed).map_err(|_| unsealable())?;
        let length = u32::try_from(sealed.len()).map_err(io::Error::other)?;
        (&self.file).write_all(&length.to_le_bytes())?;
        (&self.file).write_all(&sealed)
    }

    /// Everything from the beginning.
    fn reader(&self) -> io::Result<Staged> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        Ok(Staged {
            file: BufReader::with_capacity(READ_BYTES, file),
            key: Arc::clone(&self.key),
            left: self.count.load(Ordering::Acquire),
            count: 0,
            chunk: Vec::new(),
            at: 0,
        })
    }

    /// The backup from its beginning. One at a time.
    pub(crate) fn open(&self) -> Result<BackupReader<Staged>, BackupError> {
        BackupReader::open(self.reader()?)
    }

    /// Reads all of the backup and keeps nothing.
    ///
    /// # Errors
    /// When it is not whole or not valid.
    pub(crate) fn summary(
        &self,
        limits: MessageLimits,
        storage: StorageType,
    ) -> Result<Summary, BackupError> {
        let mut reader = self.open()?;
        while reader.next_consumer()?.is_some() {}
        let mut bytes = 0_u64;
        while let Some(message) = reader.next_message(limits)? {
            let own = message.subject.len() + message.headers.len() + message.payload.len();
            let overhead = match storage {
                StorageType::Memory => MEMORY_OVERHEAD,
                StorageType::File if message.headers.is_empty() => FILE_OVERHEAD,
                StorageType::File => FILE_OVERHEAD + FILE_HEADERS_OVERHEAD,
            };
            bytes = bytes.saturating_add(own as u64 + overhead);
        }
        Ok(Summary { state: reader.state().clone(), bytes })
    }
}

fn unsealable() -> io::Error {
    io::Error::other("a chunk cannot be sealed")
}

/// The key is new for each file, so the chunk's number is never used twice with it.
fn nonce(count: u64) -> Nonce {
    let mut bytes = [0; ring::aead::NONCE_LEN];
    if let Some(low) = bytes.first_chunk_mut() {
        *low = count.to_le_bytes();
    }
    Nonce::assume_unique_for_key(bytes)
}

/// Reads what was staged.
pub(crate) struct Staged {
    file: BufReader<File>,
    key: Arc<LessSafeKey>,
    /// Chunks not read yet, and those that were.
    left: u64,
    count: u64,
    chunk: Vec<u8>,
    at: usize,
}

impl Staged {
    fn next_chunk(&mut self) -> io::Result<()> {
        let mut length = [0; LENGTH_BYTES];
        self.file.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if length > SEALED_BYTES_MAX {
            return Err(io::Error::other("a staged chunk is damaged"));
        }
        self.chunk.resize(length, 0);
        self.file.read_exact(&mut self.chunk)?;
        let plain = self.key.open_in_place(nonce(self.count), Aad::empty(), &mut self.chunk);
        let length = plain.map_err(|_| io::Error::other("a staged chunk is damaged"))?.len();
        self.chunk.truncate(length);
        self.at = 0;
        self.count += 1;
        self.left -= 1;
        Ok(())
    }
}

impl Read for Staged {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at >= self.chunk.len() && self.left > 0 {
            self.next_chunk()?;
        }
        let mut rest = self.chunk.get(self.at..).unwrap_or_default();
        let count = rest.read(into)?;
        self.at += count;
        Ok(count)
    }
}

/// What a whole backup holds.
pub(crate) struct Summary {
    /// As it says itself.
    pub(crate) state: StreamState,
    /// Of its messages, as the stream will count them.
    pub(crate) bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_staged_reads_back_any_number_of_times_and_has_no_name() {
        let folder = tempfile::tempdir().expect("folder");
        let staging = Staging::create(folder.path()).expect("file");
        for chunk in ["first ", "", "second"] {
            staging.write(chunk.as_bytes()).expect("written");
        }
        for _ in 0..2 {
            let mut text = String::new();
            staging.reader().expect("reader").read_to_string(&mut text).expect("readable");
            assert_eq!(text, "first second");
        }
        assert_eq!(std::fs::read_dir(folder.path().join("restore")).expect("folder").count(), 0);
        let mut raw = Vec::new();
        (&staging.file).seek(SeekFrom::Start(0)).expect("file");
        (&staging.file).read_to_end(&mut raw).expect("readable");
        assert!(!raw.windows(6).any(|window| window == b"second"), "in words that anybody can read");
    }
}
