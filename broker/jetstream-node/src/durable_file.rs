//! A small file that is replaced as a whole: written beside, synced, renamed, its folder synced. It carries a
//! checksum, so that a damaged one is refused rather than read. For checkpoints; not for anything that grows.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"WEIRFIL1";
/// Magic, then the checksum of the content.
const HEADER_LEN: usize = MAGIC.len() + 4;

/// Why a file could not be read. The file is left as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is not a file of this store, or of a newer version: left as it is")]
    Foreign { path: PathBuf },
    #[error("{path} is damaged (its checksum differs): left as it is")]
    Damaged { path: PathBuf },
}

/// Replaces the file, durably.
pub(crate) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder)?;
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(MAGIC)?;
    file.write_all(&crc32c::crc32c(content).to_le_bytes())?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}

/// The content, or `None` when there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, ReadError> {
    let io_error = |source| ReadError::Io { path: path.to_owned(), source };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(error)),
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(io_error)?;
    if bytes.len() < HEADER_LEN || &bytes[..MAGIC.len()] != MAGIC {
        return Err(ReadError::Foreign { path: path.to_owned() });
    }
    let content = bytes.split_off(HEADER_LEN);
    if bytes[MAGIC.len()..] != crc32c::crc32c(&content).to_le_bytes() {
        return Err(ReadError::Damaged { path: path.to_owned() });
    }
    Ok(Some(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/checkpoint");
        assert!(read(&path).unwrap().is_none());
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some(&b"two"[..]));
    }

    #[test]
    fn one_flipped_bit_anywhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        write(&path, b"content").unwrap();
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            fs::write(&path, &bad).unwrap();
            assert!(read(&path).is_err(), "bit flipped in byte {at}");
        }
    }
}
