//! Small files that must survive damage to any one file: kept twice, under their name and under the name of
//! their copy, each with its checksum. Used for checkpoints, segment indexes, subject tables, identities.
//! ```text
//! magic 8 | version u32 | owner u32 | length u64 | crc of the content u32 | crc of these fields u32 | content
//! ```
//! Version 2 is for stores that are encrypted: the content is sealed, in the context of the fields before the length.

use std::path::{Path, PathBuf};

use crate::disk::{Disk, OpenMode};
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
    let mut bytes = Vec::with_capacity(HEADER_BYTES + content.len() + SEAL_BYTES);
    bytes.extend_from_slice(label.magic);
    let version = if keys(disk, label).is_some() { SEALED_VERSION } else { FORMAT_VERSION };
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(&label.owner.to_le_bytes());
    bytes.resize(HEADER_BYTES, 0);
    bytes.extend_from_slice(content);
    if let Some(vault) = keys(disk, label) {
        let context: [u8; CONTEXT_BYTES] = std::array::from_fn(|at| bytes[at]);
        vault.seal(&context, &mut bytes, HEADER_BYTES);
    }
    let stored = &bytes[HEADER_BYTES..];
    let (length, crc) = (stored.len() as u64, crc32c::crc32c(stored));
    bytes[16..24].copy_from_slice(&length.to_le_bytes());
    bytes[24..28].copy_from_slice(&crc.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..28]);
    bytes[28..32].copy_from_slice(&crc.to_le_bytes());
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
    let Some(vault) = keys(disk, label) else { return Ok(content.to_vec()) };
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
