//! What is wrong with files, as those who read a whole store to find out tell it: which file, where, what it costs.
//! Nothing here changes a file. The readers are beside what they read (`store/file/inspect.rs`, `journal/inspect.rs`).

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, OpenMode};
use crate::error::StorageError;
use crate::store::framed::{self, Label, copy_path, is_missing};

pub use crate::journal::inspect::inspect_journal;

/// What a finding means for whoever owns the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingKind {
    /// Messages, or what else the file held, cannot be read.
    Lost,
    /// The bytes are wrong; the file's twin (see `whole_file`) is whole.
    Twin,
    /// The bytes are wrong, but what they held is elsewhere or can be made anew.
    Repairable,
    /// The file is of a newer format than this program reads.
    NewerFormat,
    /// The file is not of this store.
    Foreign,
    /// Left by a crash, or by nobody: it costs nothing.
    Harmless,
}

/// One thing that is wrong in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub path: PathBuf,
    pub kind: FindingKind,
    /// First byte concerned.
    pub offset: u64,
    /// Bytes concerned; 0 where that is not known.
    pub length: u64,
    pub reason: String,
    /// Sequences of messages that cannot be read because of it.
    pub sequences: Vec<RangeInclusive<u64>>,
}

impl Finding {
    /// Of a whole file.
    #[must_use]
    pub fn of_file(path: &Path, kind: FindingKind, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { path: path.to_owned(), kind, offset: 0, length: 0, reason, sequences: Vec::new() }
    }
}

/// Checks a small file and its copy (see `whole_file`), which are told by their first bytes. Nothing where neither
/// exists.
#[must_use]
pub fn inspect_whole_file(disk: &dyn Disk, path: &Path, magic: &[u8; 8]) -> Vec<Finding> {
    if !disk.exists(path) && !disk.exists(&copy_path(path)) {
        return Vec::new();
    }
    inspect_pair(disk, path, Label::new(magic, 0, path))
}

/// Checks a small file and its copy, both of which must be there.
pub(crate) fn inspect_pair(disk: &dyn Disk, path: &Path, label: Label<'_>) -> Vec<Finding> {
    let copy = copy_path(path);
    let errors = [path, &copy].map(|path| framed::read_one(disk, path, label).err());
    let whole = errors.iter().any(Option::is_none);
    let mut findings = Vec::new();
    for (path, error) in [path, &copy].into_iter().zip(errors) {
        let Some(error) = error else { continue };
        let kind = match &error {
            StorageError::UnsupportedVersion { .. } => FindingKind::NewerFormat,
            _ if whole => FindingKind::Twin,
            StorageError::Foreign { .. } => FindingKind::Foreign,
            _ => FindingKind::Lost,
        };
        let mut reason = if is_missing(&error) { "it is missing".to_owned() } else { reason_of(&error) };
        reason.push_str(if whole { "; its twin is whole" } else { "; so is its twin" });
        findings.push(Finding::of_file(path, kind, reason));
    }
    findings
}

/// The small files of a store at one moment, to be read elsewhere.
#[derive(Debug)]
pub struct SmallFiles {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) seed: u32,
    pub(crate) files: Vec<(PathBuf, &'static [u8; 8])>,
}

impl SmallFiles {
    #[must_use]
    pub fn contains(&self, path: &Path) -> bool {
        self.files.iter().any(|(file, _)| file == path)
    }

    /// Reads every one and its copy; one that is damaged is made anew from the other. `is_needed` says whether the
    /// store still refers to it: what a checkpoint has replaced meanwhile may be gone.
    #[must_use]
    pub fn heal(&self, is_needed: &dyn Fn(&Path) -> bool) -> Vec<Finding> {
        let mut all = Vec::new();
        for (path, magic) in &self.files {
            let findings = inspect_pair(&*self.disk, path, Label::new(magic, self.seed, path));
            if findings.is_empty() || !is_needed(path) {
                continue;
            }
            for mut finding in findings {
                if finding.kind == FindingKind::Twin {
                    match copy_over(&*self.disk, &twin_of(&finding.path), &finding.path) {
                        Ok(()) => finding.reason.push_str("; it was made anew from that"),
                        Err(error) => finding.reason.push_str(&format!("; making it anew failed: {error}")),
                    }
                }
                all.push(finding);
            }
        }
        all
    }
}

fn copy_over(disk: &dyn Disk, from: &Path, to: &Path) -> std::io::Result<()> {
    let source = disk.open(from, OpenMode::Read)?;
    let mut bytes = vec![0; usize::try_from(source.length()?).unwrap_or(0)];
    let count = source.read_at(&mut bytes, 0)?;
    let target = disk.open(to, OpenMode::CreateEmpty)?;
    target.write_at(&bytes[..count], 0)?;
    target.sync_data()
}

/// The other one of a small file and its copy.
#[must_use]
pub fn twin_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match name.strip_suffix(framed::COPY_SUFFIX) {
        Some(name) => path.with_file_name(name),
        None => copy_path(path),
    }
}

/// What an error says beside the path.
#[must_use]
pub fn reason_of(error: &StorageError) -> String {
    match error {
        StorageError::Corrupt { reason, .. } | StorageError::Foreign { reason, .. } => reason.clone(),
        StorageError::UnsupportedVersion { found, supported, .. } => {
            format!("it has format version {found}, this program reads version {supported}")
        }
        StorageError::Io { operation, source, .. } => format!("{operation}: {source}"),
        other => other.to_string(),
    }
}

/// Neighbouring sequences together.
#[must_use]
pub fn ranges(sequences: impl IntoIterator<Item = u64>) -> Vec<RangeInclusive<u64>> {
    let mut ranges: Vec<RangeInclusive<u64>> = Vec::new();
    for seq in sequences {
        match ranges.last_mut() {
            Some(range) if range.end().checked_add(1) == Some(seq) => *range = *range.start()..=seq,
            _ => ranges.push(seq..=seq),
        }
    }
    ranges
}
