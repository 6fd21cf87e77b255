//! The file system of the machine.

mod direct;

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use rustix::fs::FallocateFlags;

use self::direct::LogEnd;
use super::{Disk, DiskFile, OpenMode};

/// The machine's own files.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::ReadWrite => {
                options.write(true);
            }
            OpenMode::CreateEmpty => {
                options.write(true).create(true).truncate(true);
            }
        }
        Ok(Arc::new(RealFile { file: options.open(path)?, log_end: OnceLock::new() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn create_directories(&self, path: &Path) -> io::Result<()> {
        let missing: Vec<&Path> = path.ancestors().take_while(|parent| !parent.exists()).collect();
        fs::create_dir_all(path)?;
        for made in missing {
            if let Some(parent) = made.parent() {
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                self.sync_directory(parent)?;
            }
        }
        Ok(())
    }

    fn list_files(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn list_directories(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Debug + Send + Sync>> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[derive(Debug)]
struct RealFile {
    file: File,
    /// Of a file that is written as a log; nothing where direct writes are not possible.
    log_end: OnceLock<Option<Mutex<LogEnd>>>,
}

impl RealFile {
    /// Writes the whole blocks past the page cache; false when they were not.
    fn write_direct(&self, blocks: &[u8], offset: u64) -> io::Result<bool> {
        match direct::open(&self.file) {
            Some(handle) => direct::write_blocks(&handle, blocks, offset),
            None => Ok(false),
        }
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let blocks = direct::whole_blocks(bytes.len(), offset);
        if blocks.len() < direct::LARGE_BYTES_MIN
            || !self.write_direct(&bytes[blocks.clone()], offset + blocks.start as u64)?
        {
            return self.file.write_all_at(bytes, offset);
        }
        // The blocks at both ends stay in the page cache, which alone writes them.
        self.file.write_all_at(&bytes[..blocks.start], offset)?;
        self.file.write_all_at(&bytes[blocks.end..], offset + blocks.end as u64)
    }

    fn write_log_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let log_end = self.log_end.get_or_init(|| LogEnd::open(&self.file).map(Mutex::new));
        if let Some(log_end) = log_end
            && log_end.lock().write(&self.file, bytes, offset)?
        {
            return Ok(());
        }
        self.file.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, length) {
            Ok(()) => Ok(()),
            // Some file systems (NFS, older overlays) cannot reserve; writing zeros then does.
            Err(rustix::io::Errno::OPNOTSUPP) => self.file.set_len(length),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_stdx::rng::SeededRng;

    use super::*;

    fn sample(random: &mut SeededRng, length: usize) -> Vec<u8> {
        (0..length).map(|_| random.next_u64().to_le_bytes()[0]).collect()
    }

    #[test]
    fn large_and_small_writes_at_any_offset_leave_what_they_wrote() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = RealDisk.open(&folder.path().join("file"), OpenMode::CreateEmpty).expect("a file");
        let mut random = SeededRng::new(7);
        let mut model = vec![0; 1 << 20];
        file.set_length(model.len() as u64).expect("a length");
        for round in 0..60 {
            let longest = if round % 2 == 0 { 300 << 10 } else { 9000 };
            let length = usize::try_from(random.next_u64() % longest).expect("small");
            let offset = usize::try_from(random.next_u64()).unwrap_or(0) % (model.len() - length);
            let bytes = sample(&mut random, length);
            file.write_at(&bytes, offset as u64).expect("written");
            model[offset..offset + length].copy_from_slice(&bytes);
        }
        let mut found = vec![0; model.len()];
        assert_eq!(file.read_at(&mut found, 0).expect("read"), model.len());
        assert!(found == model);
    }

    #[test]
    fn a_log_reads_back_while_and_after_it_is_written_also_by_another_handle() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let mut file = RealDisk.open(&path, OpenMode::CreateEmpty).expect("a file");
        file.allocate(1 << 20).expect("allocated");
        let mut random = SeededRng::new(3);
        let mut model = vec![7; 100];
        file.write_at(&model, 0).expect("written");
        for round in 0..80 {
            if round % 30 == 29 {
                file = RealDisk.open(&path, OpenMode::ReadWrite).expect("the file again");
            }
            let length = usize::try_from(random.next_u64() % if round % 9 == 0 { 60_000 } else { 700 })
                .expect("small");
            let bytes = sample(&mut random, length);
            file.write_log_at(&bytes, model.len() as u64).expect("written");
            model.extend_from_slice(&bytes);
            let mut found = vec![0; model.len()];
            assert_eq!(file.read_at(&mut found, 0).expect("read"), model.len());
            assert!(found == model, "round {round}");
        }
        assert_eq!(file.length().expect("a length"), 1 << 20);
    }
}
