//! A disk in memory for tests. It records every operation; from any prefix of the record it can produce the
//! states in which a power cut may leave the files (`CrashExplorer`), and it can make the n-th operation
//! fail (`fail_at`). Model: a write survives for certain only after a sync of its file, a name only after a
//! sync of its directory; before that any subset of the writes, torn at 512 bytes, may survive.

mod crash;
mod slow;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

pub use crash::CrashExplorer;
pub use slow::SlowDisk;

use super::{Disk, DiskFile, OpenMode};

const LOG_BLOCK_BYTES: u64 = 4096;

/// One recorded operation.
#[derive(Clone, Debug)]
pub enum Operation {
    Create {
        file: usize,
        path: PathBuf,
    },
    Empty {
        file: usize,
    },
    Write {
        file: usize,
        offset: u64,
        bytes: Arc<[u8]>,
    },
    SetLength {
        file: usize,
        length: u64,
    },
    Sync {
        file: usize,
    },
    /// The kernel reported an error and marked the pages clean: what was pending may be lost for ever.
    SyncFailed {
        file: usize,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Unlink {
        path: PathBuf,
    },
    SyncDirectory {
        path: PathBuf,
    },
    /// Set by the test: what it had been promised by then.
    Mark(u64),
}

/// What an injected failure looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Io,
    OutOfSpace,
    /// A part of the write reaches the file, then the error comes.
    ShortWrite,
}

#[derive(Debug, Default)]
struct State {
    contents: Vec<Vec<u8>>,
    names: BTreeMap<PathBuf, usize>,
    record: Vec<Operation>,
    recording: bool,
    /// Operations at the start of the record that only make the first state.
    baseline: usize,
    /// Which operation fails, counted since the last `fail_at`, and whether all later ones do.
    countdown: Option<(u64, Fault, bool)>,
    attempts: u64,
}

/// The disk. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl SimDisk {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts to record from the present (empty) disk.
    #[must_use]
    pub fn recording() -> Self {
        let disk = Self::default();
        disk.state.lock().recording = true;
        disk
    }

    pub(crate) fn from_files(files: BTreeMap<PathBuf, Vec<u8>>) -> Self {
        let disk = Self::default();
        {
            let mut state = disk.state.lock();
            for (path, content) in files {
                let file = state.contents.len();
                state.contents.push(content);
                state.names.insert(path, file);
            }
        }
        disk
    }

    /// Notes in the record that the test was promised something.
    pub fn mark(&self, value: u64) {
        self.state.lock().note(Operation::Mark(value));
    }

    /// The operations so far.
    #[must_use]
    pub fn record(&self) -> Vec<Operation> {
        self.state.lock().record.clone()
    }

    /// How many operations at the start of the record only make the state it starts from.
    #[must_use]
    pub fn baseline(&self) -> usize {
        self.state.lock().baseline
    }

    /// Makes the n-th (0 = next) write, sync, allocation, creation, rename or removal fail, once.
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        let mut state = self.state.lock();
        state.countdown = Some((operation, fault, false));
        state.attempts = 0;
    }

    /// Makes the n-th and all later ones fail until `heal`. A disk that is full refuses only what needs more room.
    pub fn fail_from(&self, operation: u64, fault: Fault) {
        let mut state = self.state.lock();
        state.countdown = Some((operation, fault, true));
        state.attempts = 0;
    }

    /// Nothing fails any more.
    pub fn heal(&self) {
        self.state.lock().countdown = None;
    }

    /// Fallible operations since the last `fail_at` (or since the start).
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.state.lock().attempts
    }

    /// Paths of all files, sorted.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.state.lock().names.keys().cloned().collect()
    }

    /// A file's bytes.
    #[must_use]
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state.lock();
        state.names.get(path).map(|&file| state.contents[file].clone())
    }

    /// Replaces a file's bytes behind everybody's back.
    pub fn set_content(&self, path: &Path, content: Vec<u8>) {
        let mut state = self.state.lock();
        if let Some(&file) = state.names.get(path) {
            state.contents[file] = content;
        }
    }

    /// Flips one bit of a file; false when the file is shorter.
    pub fn flip_bit(&self, path: &Path, offset: usize, bit: u8) -> bool {
        let mut state = self.state.lock();
        let Some(&file) = state.names.get(path) else { return false };
        match state.contents[file].get_mut(offset) {
            Some(byte) => {
                *byte ^= 1 << (bit % 8);
                true
            }
            None => false,
        }
    }

    /// An independent copy of the present state that records from now on; its record starts with writes
    /// that make this state.
    #[must_use]
    pub fn fork_recording(&self) -> Self {
        let fork = self.fork();
        {
            let mut state = fork.state.lock();
            state.recording = true;
            let names: Vec<(PathBuf, usize)> = state.names.iter().map(|(p, &f)| (p.clone(), f)).collect();
            let mut directories = Vec::new();
            for (path, file) in names {
                directories.extend(path.parent().map(Path::to_owned));
                let bytes = state.contents[file].as_slice().into();
                state.record.push(Operation::Create { file, path });
                state.record.push(Operation::Write { file, offset: 0, bytes });
                state.record.push(Operation::Sync { file });
            }
            let syncs = directories.into_iter().map(|path| Operation::SyncDirectory { path });
            state.record.extend(syncs);
            state.baseline = state.record.len();
        }
        fork
    }

    /// An independent copy of the present state.
    #[must_use]
    pub fn fork(&self) -> Self {
        let state = self.state.lock();
        Self::from_files(
            state.names.iter().map(|(path, &file)| (path.clone(), state.contents[file].clone())).collect(),
        )
    }
}

impl State {
    fn note(&mut self, operation: Operation) {
        if self.recording {
            self.record.push(operation);
        }
    }

    /// The fault for this operation, if its turn has come. `grows`: it needs more room on the disk.
    fn attempt(&mut self, grows: bool) -> Option<Fault> {
        let attempt = self.attempts;
        self.attempts += 1;
        let (at, fault, lasting) = self.countdown?;
        if attempt < at || (lasting && fault == Fault::OutOfSpace && !grows) {
            return None;
        }
        if !lasting {
            self.countdown = None;
        }
        Some(fault)
    }

    /// The fault of an operation that never needs room.
    fn attempt_removal(&mut self) -> Option<Fault> {
        let fault = self.attempt(false);
        fault.filter(|fault| *fault == Fault::Io)
    }
}

fn error_of(fault: Fault) -> io::Error {
    match fault {
        Fault::Io | Fault::ShortWrite => io::Error::other("injected I/O error"),
        Fault::OutOfSpace => io::ErrorKind::StorageFull.into(),
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        let existing = state.names.get(path).copied();
        let file = match (existing, mode) {
            (Some(file), OpenMode::CreateEmpty) => {
                if let Some(fault) = state.attempt(false) {
                    return Err(error_of(fault));
                }
                state.contents[file].clear();
                state.note(Operation::Empty { file });
                file
            }
            (Some(file), _) => file,
            (None, OpenMode::CreateEmpty) => {
                if let Some(fault) = state.attempt(true) {
                    return Err(error_of(fault));
                }
                let file = state.contents.len();
                state.contents.push(Vec::new());
                state.names.insert(path.to_owned(), file);
                state.note(Operation::Create { file, path: path.to_owned() });
                file
            }
            (None, _) => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Arc::new(SimFile { state: Arc::clone(&self.state), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        if let Some(fault) = state.attempt(false) {
            return Err(error_of(fault));
        }
        if !crash::rename_names(&mut state.names, from, to) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.note(Operation::Rename { from: from.to_owned(), to: to.to_owned() });
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if let Some(fault) = state.attempt_removal() {
            return Err(error_of(fault));
        }
        state.names.remove(path);
        state.note(Operation::Unlink { path: path.to_owned() });
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        if let Some(fault) = state.attempt(false) {
            return Err(error_of(fault));
        }
        state.note(Operation::SyncDirectory { path: path.to_owned() });
        Ok(())
    }

    fn create_directories(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list_files(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        let names = state.names.keys().filter(|name| name.parent() == Some(path));
        Ok(names.filter_map(|name| name.file_name()?.to_str().map(str::to_owned)).collect())
    }

    fn list_directories(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        let inside = state.names.keys().filter_map(|name| name.strip_prefix(path).ok());
        let folders = inside.filter(|rest| rest.components().count() > 1);
        let mut names: Vec<String> =
            folders.filter_map(|rest| rest.iter().next()?.to_str().map(str::to_owned)).collect();
        names.dedup();
        Ok(names)
    }

    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        let inside: Vec<PathBuf> =
            self.state.lock().names.keys().filter(|name| name.starts_with(path)).cloned().collect();
        inside.iter().try_for_each(|name| self.unlink(name))
    }

    fn exists(&self, path: &Path) -> bool {
        let state = self.state.lock();
        state.names.keys().any(|name| name.starts_with(path))
    }

    fn lock(&self, _path: &Path) -> io::Result<Box<dyn Debug + Send + Sync>> {
        Ok(Box::new(()))
    }
}

#[derive(Debug)]
struct SimFile {
    state: Arc<Mutex<State>>,
    file: usize,
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.state.lock();
        let content = &state.contents[self.file];
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let count = buffer.len().min(content.len() - from);
        buffer[..count].copy_from_slice(&content[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let grows = offset + bytes.len() as u64 > state.contents[self.file].len() as u64;
        let fault = state.attempt(grows);
        let written = match fault {
            None => bytes,
            Some(Fault::ShortWrite) => &bytes[..bytes.len() / 2],
            Some(_) => &[],
        };
        if !written.is_empty() {
            apply_write(&mut state.contents[self.file], offset, written);
            state.note(Operation::Write { file: self.file, offset, bytes: written.into() });
        }
        fault.map_or(Ok(()), |fault| Err(error_of(fault)))
    }

    /// With the zeros that a write of whole blocks leaves behind the bytes.
    fn write_log_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        let zeros = end.next_multiple_of(LOG_BLOCK_BYTES).min(self.length()?).saturating_sub(end);
        let mut padded = bytes.to_vec();
        padded.resize(bytes.len() + usize::try_from(zeros).unwrap_or(0), 0);
        self.write_at(&padded, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        if let Some(fault) = state.attempt(false) {
            state.note(Operation::SyncFailed { file: self.file });
            return Err(error_of(fault));
        }
        state.note(Operation::Sync { file: self.file });
        Ok(())
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let grows = length > state.contents[self.file].len() as u64;
        if let Some(fault) = state.attempt(grows) {
            return Err(error_of(fault));
        }
        state.contents[self.file].resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
        state.note(Operation::SetLength { file: self.file, length });
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.state.lock().contents[self.file].len() as u64)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        if self.length()? < length { self.set_length(length) } else { Ok(()) }
    }
}

fn apply_write(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let from = usize::try_from(offset).unwrap_or(usize::MAX);
    if content.len() < from + bytes.len() {
        content.resize(from + bytes.len(), 0);
    }
    content[from..from + bytes.len()].copy_from_slice(bytes);
}
