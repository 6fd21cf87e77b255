//! Small files that must survive damage to any one file: kept twice, under their name and under the name of
//! their copy, each with its checksum. Used for checkpoints, segment indexes, subject tables, identities.
//! ```text
//! magic 8 | version u32 | owner u32 | length u64 | crc of the content u32 | crc of these fields u32 | content
//! ```
//! Version 2 is for stores that are encrypted: the content is sealed, in the context of the fields before the length.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::{IoContext, StorageError};
use crate::vault::{KEY_FILE_MAGIC, SEAL_BYTES, Vault};

use super::record::{u32_at, u64_at};

const HEADER_BYTES: usize = 32;
pub(crate) const FORMAT_VERSION: u32 = 1;
const SEALED_VERSION: u32 = 2;
/// The fields that a sealed content is bound to.
const CONTEXT_BYTES: usize = 16;

/// What a file must say of itself to be the one that is meant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Label<'a> {
    magic: &'a [u8; 8],
    owner: u32,
}

impl<'a> Label<'a> {
    /// Of the file of this name in the store whose checksums start at `seed`.
    pub(crate) fn new(magic: &'a [u8; 8], seed: u32, path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        Self { magic, owner: crc32c::crc32c_append(seed, name) }
    }
}

/// Ending of the name of a file's copy.
pub(crate) const COPY_SUFFIX: &str = "-copy";

/// The copy of a file.
pub(crate) fn copy_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(COPY_SUFFIX);
    name.into()
}

/// Writes and syncs a file and its copy under their final names. The names are durable after a sync of the
/// directory.
pub(crate) fn write(
    disk: &dyn Disk,
    path: &Path,
    label: Label<'_>,
    content: &[u8],
) -> Result<(), StorageError> {
    let copy = copy_path(path);
    let written = write_one(disk, path, label, content).and_then(|()| write_one(disk, &copy, label, content));
    if written.is_err() {
        discard(disk, [path, &copy]);
    }
    written
}

/// A file and its copy while they are written piece by piece, so that a long content is never whole in memory. One that
/// is sealed is: it is sealed as a whole.
pub(crate) struct Pieces<'a> {
    disk: &'a dyn Disk,
    label: Label<'a>,
    /// The file and its copy.
    files: [(PathBuf, Arc<dyn DiskFile>); 2],
    /// What was not written yet.
    pending: Vec<u8>,
    is_sealed: bool,
    length: u64,
    crc: u32,
}

const PIECE_BYTES: usize = 256 << 10;

impl<'a> Pieces<'a> {
    /// Makes both files, empty.
    pub(crate) fn create(disk: &'a dyn Disk, path: &Path, label: Label<'a>) -> Result<Self, StorageError> {
        let paths = [path.to_owned(), copy_path(path)];
        let open = |path: &PathBuf| disk.open(path, OpenMode::CreateEmpty).context("create", path);
        let files = open(&paths[0]).and_then(|file| Ok((file, open(&paths[1])?)));
        let (file, copy) = files.inspect_err(|_| discard(disk, paths.iter().map(PathBuf::as_path)))?;
        let [path, copy_path] = paths;
        let files = [(path, file), (copy_path, copy)];
        let is_sealed = keys(disk, label).is_some();
        Ok(Self { disk, label, files, pending: Vec::new(), is_sealed, length: 0, crc: 0 })
    }

    /// Where the next bytes of the content go; `written` is called between two of its items.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.pending
    }

    /// Writes the buffer if it is large enough.
    pub(crate) fn written(&mut self) -> Result<(), StorageError> {
        if self.pending.len() < PIECE_BYTES || self.is_sealed {
            return Ok(());
        }
        self.write_pending()
    }

    fn write_pending(&mut self) -> Result<(), StorageError> {
        for (path, file) in &self.files {
            file.write_at(&self.pending, HEADER_BYTES as u64 + self.length).context("write", path)?;
        }
        self.length += self.pending.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, &self.pending);
        self.pending.clear();
        Ok(())
    }

    /// Writes the rest and syncs. The names are durable after a sync of the directory.
    pub(crate) fn finish(mut self) -> Result<(), StorageError> {
        if self.is_sealed {
            return write(self.disk, &self.files[0].0, self.label, &self.pending);
        }
        self.write_pending()?;
        let header = header(FORMAT_VERSION, self.label, self.length, self.crc);
        for (path, file) in &self.files {
            file.write_at(&header, 0).context("write", path)?;
            file.sync_data().context("sync", path)?;
        }
        Ok(())
    }

    /// The paths of both files, to discard them when something failed.
    pub(crate) fn paths(&self) -> [PathBuf; 2] {
        [self.files[0].0.clone(), self.files[1].0.clone()]
    }
}

fn header(version: u32, label: Label<'_>, length: u64, crc: u32) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(label.magic);
    header[8..12].copy_from_slice(&version.to_le_bytes());
    header[12..16].copy_from_slice(&label.owner.to_le_bytes());
    header[16..24].copy_from_slice(&length.to_le_bytes());
    header[24..28].copy_from_slice(&crc.to_le_bytes());
    let crc = crc32c::crc32c(&header[..28]);
    header[28..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Deletes what a failed attempt left: on a full disk it would take the room that is missing.
pub(crate) fn discard<'a>(disk: &dyn Disk, paths: impl IntoIterator<Item = &'a Path>) {
    for path in paths {
        let _ = disk.unlink(path);
    }
}

/// Writes and syncs one of the two.
pub(crate) fn write_one(
    disk: &dyn Disk,
    path: &Path,
    label: Label<'_>,
    content: &[u8],
) -> Result<(), StorageError> {
    let bytes = encode(disk, label, content);
    let file = disk.open(path, OpenMode::CreateEmpty).context("create", path)?;
    file.write_at(&bytes, 0).context("write", path)?;
    file.sync_data().context("sync", path)
}

/// The keys that seal a file of this label: none for the one that holds them.
fn keys<'a>(disk: &'a dyn Disk, label: Label<'_>) -> Option<&'a Vault> {
    disk.vault().map(|vault| &**vault).filter(|_| label.magic != KEY_FILE_MAGIC)
}

fn encode(disk: &dyn Disk, label: Label<'_>, content: &[u8]) -> Vec<u8> {
    let vault = keys(disk, label);
    let version = if vault.is_some() { SEALED_VERSION } else { FORMAT_VERSION };
    let mut bytes = Vec::with_capacity(HEADER_BYTES + content.len() + SEAL_BYTES);
    bytes.extend_from_slice(&header(version, label, 0, 0));
    bytes.extend_from_slice(content);
    if let Some(vault) = vault {
        let context: [u8; CONTEXT_BYTES] = std::array::from_fn(|at| bytes[at]);
        vault.seal(&context, &mut bytes, HEADER_BYTES);
    }
    let stored = &bytes[HEADER_BYTES..];
    let (length, crc) = (stored.len() as u64, crc32c::crc32c(stored));
    bytes[..HEADER_BYTES].copy_from_slice(&header(version, label, length, crc));
    bytes
}

/// Reads the content from the file, or from its copy where the file is damaged. A file of a newer format is
/// refused whatever its copy says.
pub(crate) fn read(disk: &dyn Disk, path: &Path, label: Label<'_>) -> Result<Vec<u8>, StorageError> {
    let error = match read_one(disk, path, label) {
        Err(error @ (StorageError::Corrupt { .. } | StorageError::Foreign { .. })) => error,
        Err(error) if is_missing(&error) => error,
        result => return result,
    };
    let copy = copy_path(path);
    match read_one(disk, &copy, label) {
        Ok(content) => {
            tracing::error!("{error}; its copy {} is whole and is used", copy.display());
            Ok(content)
        }
        Err(other @ (StorageError::UnsupportedVersion { .. } | StorageError::Key { .. })) => Err(other),
        Err(_) => Err(error),
    }
}

/// Reads one of the two.
pub(crate) fn read_one(disk: &dyn Disk, path: &Path, label: Label<'_>) -> Result<Vec<u8>, StorageError> {
    let file = disk.open(path, OpenMode::Read).context("open", path)?;
    let length = file.length().context("read", path)?;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let count = file.read_at(&mut bytes, 0).context("read", path)?;
    bytes.truncate(count);
    let (context, content) = read_copy(&bytes, path, label, keys(disk, label).is_some())?;
    let Some(vault) = keys(disk, label) else {
        let end = HEADER_BYTES + content.len();
        bytes.truncate(end);
        bytes.drain(..HEADER_BYTES);
        return Ok(bytes);
    };
    let opened = vault.open(context, content);
    opened.ok_or_else(|| StorageError::corrupt(path, 0, "the store's key does not open it"))
}

/// Whether an error says that there is no such file.
pub(crate) fn is_missing(error: &StorageError) -> bool {
    matches!(error, StorageError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

/// What its content is bound to, and the content as it is stored.
fn read_copy<'a>(
    bytes: &'a [u8],
    path: &Path,
    label: Label<'_>,
    sealed: bool,
) -> Result<(&'a [u8], &'a [u8]), StorageError> {
    let damaged = |reason: &str| StorageError::corrupt(path, 0, reason);
    let header = bytes.get(..HEADER_BYTES).ok_or_else(|| damaged("it is too short"))?;
    if &header[..8] != label.magic {
        return Err(StorageError::Foreign {
            path: path.to_owned(),
            reason: "it does not start as such a file does".to_owned(),
        });
    }
    if crc32c::crc32c(&header[..28]) != u32_at(header, 28) {
        return Err(damaged("its header fails its checksum"));
    }
    let version = u32_at(header, 8);
    let (expected, other) =
        if sealed { (SEALED_VERSION, FORMAT_VERSION) } else { (FORMAT_VERSION, SEALED_VERSION) };
    if version == other {
        let reason =
            if sealed { "it is not encrypted, its store is" } else { "it is encrypted, its store is not" };
        return Err(StorageError::Key { path: path.to_owned(), reason: reason.to_owned() });
    }
    if version != expected {
        return Err(StorageError::UnsupportedVersion {
            path: path.to_owned(),
            found: version,
            supported: SEALED_VERSION,
        });
    }
    if u32_at(header, 12) != label.owner {
        return Err(damaged("it is another file's content"));
    }
    let length = usize::try_from(u64_at(header, 16)).unwrap_or(usize::MAX);
    let content = HEADER_BYTES
        .checked_add(length)
        .and_then(|end| bytes.get(HEADER_BYTES..end))
        .ok_or_else(|| damaged("it is cut off"))?;
    if crc32c::crc32c(content) != u32_at(header, 24) {
        return Err(damaged("its content fails its checksum"));
    }
    Ok((&header[..CONTEXT_BYTES], content))
}

/// Appends a length and the bytes.
pub(crate) fn put_bytes(buffer: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(buffer, bytes.len() as u64);
    buffer.extend_from_slice(bytes);
}

/// Appends a number in as few bytes as it needs (LEB128).
pub(crate) fn put_u64(buffer: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        buffer.push(u8::try_from(value & 0x7F).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    buffer.push(u8::try_from(value).unwrap_or(0));
}

/// Reads what `put_u64` and `put_bytes` wrote; every read is checked.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        let mut value = 0;
        for position in 0..10 {
            let (&byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            value |= u64::from(byte & 0x7F).checked_shl(position * 7)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        u32::try_from(self.u64()?).ok()
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u64()?).ok()?;
        let (bytes, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;

    fn label() -> Label<'static> {
        Label::new(b"TESTTEST", 7, Path::new("/f"))
    }

    #[test]
    fn damage_to_one_file_is_survived() {
        let disk = SimDisk::new();
        let path = Path::new("/f");
        write(&disk, path, label(), b"some content").unwrap();
        let length = disk.content(path).unwrap().len();
        for bit in 0..length * 8 {
            let damaged = disk.fork();
            damaged.flip_bit(path, bit / 8, u8::try_from(bit % 8).unwrap());
            assert_eq!(read(&damaged, path, label()).unwrap(), b"some content", "bit {bit}");
        }
        for cut in 0..length {
            let damaged = disk.fork();
            damaged.set_content(path, disk.content(path).unwrap()[..cut].to_vec());
            assert_eq!(read(&damaged, path, label()).unwrap(), b"some content", "cut at {cut}");
        }
    }

    #[test]
    fn the_content_of_another_file_is_not_taken() {
        let disk = SimDisk::new();
        let (path, other) = (Path::new("/f"), Label::new(b"TESTTEST", 8, Path::new("/f")));
        write(&disk, path, other, b"some content").unwrap();
        assert!(read(&disk, path, label()).unwrap_err().to_string().contains("another file's"));
    }

    #[test]
    fn damage_to_both_copies_is_refused_with_the_path() {
        let disk = SimDisk::new();
        let path = Path::new("/f");
        write(&disk, path, label(), b"some content").unwrap();
        disk.flip_bit(path, 35, 0);
        assert_eq!(read(&disk, path, label()).unwrap(), b"some content");
        disk.flip_bit(&copy_path(path), 35, 0);
        let error = read(&disk, path, label()).unwrap_err();
        assert!(error.to_string().contains("/f") && error.to_string().contains("checksum"), "{error}");
        for length in 0..40 {
            disk.set_content(path, vec![1; length]);
            assert!(read(&disk, path, label()).is_err());
        }
    }

    #[test]
    fn numbers_read_back() {
        let mut buffer = Vec::new();
        let numbers = [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX];
        numbers.iter().for_each(|&number| put_u64(&mut buffer, number));
        let mut reader = Reader::new(&buffer);
        assert!(numbers.iter().all(|&number| reader.u64() == Some(number)));
        assert!(reader.is_empty() && reader.u64().is_none());
    }
}
