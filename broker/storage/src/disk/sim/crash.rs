//! The states a power cut may leave: replays a record of operations step by step and, at each step, draws
//! from the legal combinations of what had and had not reached the disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use weir_stdx::rng::SeededRng;

use super::{Operation, SimDisk, apply_write};

/// Disks tear writes at this size.
const SECTOR_BYTES: usize = 512;

/// Replays a record; between steps, `crash` gives possible disks.
#[derive(Debug)]
pub struct CrashExplorer {
    operations: Vec<Operation>,
    next: usize,
    /// What is durable for certain.
    contents: Vec<Vec<u8>>,
    names: BTreeMap<PathBuf, usize>,
    /// What may or may not be durable, in order.
    pending_content: Vec<Vec<Operation>>,
    pending_names: Vec<Operation>,
    last_mark: u64,
}

impl CrashExplorer {
    #[must_use]
    pub fn new(operations: Vec<Operation>) -> Self {
        Self {
            operations,
            next: 0,
            contents: Vec::new(),
            names: BTreeMap::new(),
            pending_content: Vec::new(),
            pending_names: Vec::new(),
            last_mark: 0,
        }
    }

    /// The last mark among the operations replayed.
    #[must_use]
    pub fn last_mark(&self) -> u64 {
        self.last_mark
    }

    /// Replays one more operation; false at the end.
    pub fn step(&mut self) -> bool {
        let Some(operation) = self.operations.get(self.next).cloned() else { return false };
        self.next += 1;
        match operation {
            Operation::Create { file, .. } => {
                self.contents.resize(self.contents.len().max(file + 1), Vec::new());
                self.pending_content.resize(self.contents.len(), Vec::new());
                self.pending_names.push(operation);
            }
            Operation::Empty { file } | Operation::Write { file, .. } | Operation::SetLength { file, .. } => {
                self.pending_content[file].push(operation)
            }
            Operation::Sync { file } => {
                for pending in std::mem::take(&mut self.pending_content[file]) {
                    apply(&mut self.contents[file], &pending);
                }
            }
            Operation::SyncFailed { file } => self.pending_content[file].clear(),
            Operation::Rename { .. } | Operation::Unlink { .. } => self.pending_names.push(operation),
            Operation::SyncDirectory { path } => {
                // Paths of what came before a rename are those before it: it takes them along.
                let renamed = |pending: &Operation| {
                    matches!(pending, Operation::Rename { .. }) && touches(pending, &path)
                };
                let together = self.pending_names.iter().rposition(renamed).map_or(0, |at| at + 1);
                for (at, operation) in std::mem::take(&mut self.pending_names).into_iter().enumerate() {
                    if at < together || touches(&operation, &path) {
                        apply_name(&mut self.names, &operation);
                    } else {
                        self.pending_names.push(operation);
                    }
                }
            }
            Operation::Mark(value) => self.last_mark = value,
        }
        true
    }

    /// One possible disk after a power cut at this point.
    #[must_use]
    pub fn crash(&self, rng: &mut SeededRng) -> SimDisk {
        let mut names = self.names.clone();
        // Journaling file systems keep the order of changes to names.
        let kept = rng.below(self.pending_names.len() as u64 + 1);
        for operation in self.pending_names.iter().take(usize::try_from(kept).unwrap_or(0)) {
            apply_name(&mut names, operation);
        }
        let files = names.into_iter().map(|(path, file)| {
            let mut content = self.contents[file].clone();
            survive(&mut content, &self.pending_content[file], rng);
            (path, content)
        });
        SimDisk::from_files(files.collect())
    }
}

/// Applies what survives of the writes that no sync covered.
fn survive(content: &mut Vec<u8>, pending: &[Operation], rng: &mut SeededRng) {
    match rng.below(5) {
        0 => {}
        1 => pending.iter().for_each(|operation| apply(content, operation)),
        2 => {
            let kept = usize::try_from(rng.below(pending.len() as u64 + 1)).unwrap_or(0);
            pending[..kept].iter().for_each(|operation| apply(content, operation));
        }
        3 => {
            for operation in pending {
                if rng.chance(1, 2) {
                    apply(content, operation);
                }
            }
        }
        _ => {
            for operation in pending {
                apply_torn(content, operation, rng);
            }
        }
    }
}

fn apply_torn(content: &mut Vec<u8>, operation: &Operation, rng: &mut SeededRng) {
    let Operation::Write { offset, bytes, .. } = operation else {
        if rng.chance(1, 2) {
            apply(content, operation);
        }
        return;
    };
    let mut position = 0;
    while position < bytes.len() {
        let in_sector = (usize::try_from(*offset).unwrap_or(0) + position) % SECTOR_BYTES;
        let end = bytes.len().min(position + SECTOR_BYTES - in_sector);
        if rng.chance(1, 2) {
            apply_write(content, offset + position as u64, &bytes[position..end]);
        }
        position = end;
    }
}

fn apply(content: &mut Vec<u8>, operation: &Operation) {
    match operation {
        Operation::Empty { .. } => content.clear(),
        Operation::Write { offset, bytes, .. } => apply_write(content, *offset, bytes),
        Operation::SetLength { length, .. } => content.resize(usize::try_from(*length).unwrap_or(0), 0),
        _ => {}
    }
}

fn touches(operation: &Operation, directory: &Path) -> bool {
    match operation {
        Operation::Create { path, .. } | Operation::Unlink { path } => path.parent() == Some(directory),
        Operation::Rename { from, to } => from.parent() == Some(directory) || to.parent() == Some(directory),
        _ => false,
    }
}

/// Renames a file, or a directory with what is in it; false when there is neither.
pub(super) fn rename_names(names: &mut BTreeMap<PathBuf, usize>, from: &Path, to: &Path) -> bool {
    if let Some(file) = names.remove(from) {
        names.insert(to.to_owned(), file);
        return true;
    }
    let inside: Vec<PathBuf> = names.keys().filter(|name| name.starts_with(from)).cloned().collect();
    for name in &inside {
        if let (Some(file), Ok(rest)) = (names.remove(name), name.strip_prefix(from)) {
            names.insert(to.join(rest), file);
        }
    }
    !inside.is_empty()
}

fn apply_name(names: &mut BTreeMap<PathBuf, usize>, operation: &Operation) {
    match operation {
        Operation::Create { file, path } => {
            names.insert(path.clone(), *file);
        }
        Operation::Unlink { path } => {
            names.remove(path);
        }
        Operation::Rename { from, to } => {
            rename_names(names, from, to);
        }
        _ => {}
    }
}
