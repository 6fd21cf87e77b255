//! Snapshots in transit: what openraft hands around, and the files they wait in.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

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
}

/// A file that is removed when dropped.
#[derive(Debug)]
pub(crate) struct SpoolFile {
    file: NamedTempFile,
}

impl Spool {
    /// Makes the folder and removes what an earlier run left in it.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_string_lossy().starts_with(SPOOL_PREFIX) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// The system's folder for temporary files; nothing is removed.
    #[cfg(test)]
    pub(crate) fn temporary() -> Self {
        Self { folder: std::env::temp_dir() }
    }

    pub(crate) fn create(&self) -> io::Result<SpoolFile> {
        let file = tempfile::Builder::new().prefix(SPOOL_PREFIX).tempfile_in(&self.folder)?;
        Ok(SpoolFile { file })
    }

    /// Writes a source's whole content to a new file. May block.
    pub(crate) fn write_out(&self, source: Box<dyn SnapshotSource>) -> io::Result<SpoolFile> {
        let file = self.create()?;
        let mut out = BufWriter::with_capacity(256 * 1024, file.file.as_file());
        source.write_to(&mut out)?;
        out.flush()?;
        drop(out);
        Ok(file)
    }
}

impl SpoolFile {
    pub(crate) fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.file.as_file().metadata()?.len())
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.as_file_mut().write_all(bytes)
    }

    /// The file, to be read from its start.
    pub(crate) fn reader(&mut self) -> io::Result<&mut File> {
        let file = self.file.as_file_mut();
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    }
}
