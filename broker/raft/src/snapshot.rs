//! Snapshots in transit: what openraft hands around, and the files they wait in.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::NamedTempFile;
use weir_storage::vault::{SEAL_BYTES, Vault};

use crate::machine::SnapshotSource;

/// Prefix of files in the spool folder, so that only our own are removed at start.
const SPOOL_PREFIX: &str = "snapshot-";

/// A snapshot's content at its different stages.
pub(crate) enum SnapshotData {
    /// Only the position is asked for.
    Unbuilt,
    /// A view of the machine, to be written out when it is sent.
    Source(Box<dyn SnapshotSource>),
    /// Received whole and checked.
    Received(SpoolFile),
}

impl std::fmt::Debug for SnapshotData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unbuilt => "unbuilt",
            Self::Source(_) => "source",
            Self::Received(_) => "received",
        })
    }
}

/// The folder where snapshots wait.
#[derive(Clone, Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    vault: Option<Arc<Vault>>,
}

/// A file that is removed when dropped. In an encrypted store its content lies in frames: a length u32, and so many
/// sealed bytes.
#[derive(Debug)]
pub(crate) struct SpoolFile {
    file: NamedTempFile,
    vault: Option<Arc<Vault>>,
    plain_bytes: u64,
}

/// Plain bytes of a frame at most.
const FRAME_BYTES: usize = 256 * 1024;
/// What a frame is bound to.
const CONTEXT: &[u8] = b"snapshot";

impl Spool {
    /// Makes the folder and removes what an earlier run left in it.
    pub(crate) fn open(folder: &Path, vault: Option<Arc<Vault>>) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_string_lossy().starts_with(SPOOL_PREFIX) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { folder: folder.to_owned(), vault })
    }

    /// The system's folder for temporary files; nothing is removed.
    #[cfg(test)]
    pub(crate) fn temporary() -> Self {
        Self { folder: std::env::temp_dir(), vault: None }
    }

    pub(crate) fn create(&self) -> io::Result<SpoolFile> {
        let file = tempfile::Builder::new().prefix(SPOOL_PREFIX).tempfile_in(&self.folder)?;
        Ok(SpoolFile { file, vault: self.vault.clone(), plain_bytes: 0 })
    }

    /// Writes a source's whole content to a new file. May block.
    pub(crate) fn write_out(&self, source: Box<dyn SnapshotSource>) -> io::Result<SpoolFile> {
        let mut file = self.create()?;
        let mut out = BufWriter::with_capacity(FRAME_BYTES, Appending(&mut file));
        source.write_to(&mut out)?;
        out.flush()?;
        drop(out);
        Ok(file)
    }
}

struct Appending<'a>(&'a mut SpoolFile);

impl Write for Appending<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SpoolFile {
    /// Bytes of the content.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.plain_bytes
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.plain_bytes += bytes.len() as u64;
        let Some(vault) = &self.vault else { return self.file.as_file_mut().write_all(bytes) };
        for piece in bytes.chunks(FRAME_BYTES) {
            let mut frame = vec![0; 4];
            frame.extend_from_slice(piece);
            vault.seal(CONTEXT, &mut frame, 4);
            let length = u32::try_from(frame.len() - 4).unwrap_or(u32::MAX);
            frame[..4].copy_from_slice(&length.to_le_bytes());
            self.file.as_file_mut().write_all(&frame)?;
        }
        Ok(())
    }

    /// The content, to be read from its start.
    pub(crate) fn reader(&mut self) -> io::Result<SpoolReader<'_>> {
        let file = self.file.as_file_mut();
        file.seek(SeekFrom::Start(0))?;
        Ok(SpoolReader { file, vault: self.vault.as_deref(), frame: Vec::new(), position: 0 })
    }
}

/// Reads what was appended.
pub(crate) struct SpoolReader<'a> {
    file: &'a mut File,
    vault: Option<&'a Vault>,
    frame: Vec<u8>,
    position: usize,
}

impl SpoolReader<'_> {
    /// The next frame; an empty one behind the last.
    fn next_frame(&mut self, vault: &Vault) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        match self.file.read(&mut length[..1])? {
            0 => return Ok(Vec::new()),
            _ => self.file.read_exact(&mut length[1..])?,
        }
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a spooled snapshot is damaged");
        let length = u32::from_le_bytes(length) as usize;
        if length > FRAME_BYTES + SEAL_BYTES {
            return Err(damaged());
        }
        let mut sealed = vec![0; length];
        self.file.read_exact(&mut sealed)?;
        vault.open(CONTEXT, &sealed).ok_or_else(damaged)
    }
}

impl Read for SpoolReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(vault) = self.vault else { return self.file.read(buffer) };
        if self.position == self.frame.len() {
            self.frame = self.next_frame(vault)?;
            self.position = 0;
        }
        let rest = self.frame.get(self.position..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.position += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weir_storage::disk::RealDisk;
    use weir_storage::{Cipher, EncryptionOptions, StoreKey, vault};

    use super::*;

    #[test]
    fn a_sealed_spool_reads_back_and_holds_nothing_in_the_clear() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = StoreKey::new("a key");
        let options = EncryptionOptions { cipher: Cipher::default(), key, previous_key: None };
        let disk = vault::open_store(Arc::new(RealDisk), folder.path(), Some(&options)).expect("a store");
        let spool = Spool::open(&folder.path().join("spool"), disk.vault().cloned()).expect("a spool");
        let text = b"the text that nobody may find ".repeat(20_000);
        let mut file = spool.create().expect("a file");
        for piece in text.chunks(100_000) {
            file.append(piece).expect("it is written");
        }
        assert_eq!(file.size_bytes(), text.len() as u64);
        let mut read = Vec::new();
        file.reader().expect("a reader").read_to_end(&mut read).expect("it is read");
        assert!(read == text);
        let stored = std::fs::read(file.file.path()).expect("its bytes");
        assert!(!stored.windows(20).any(|window| window == &text[..20]));
    }
}
