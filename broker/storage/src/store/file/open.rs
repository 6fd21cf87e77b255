//! Opening a file store: which checkpoint to use, and what in the directory to trust.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::{FileStore, FileStoreOptions, Opened, StoreReport, rebuild};
use crate::disk::{Disk, OpenMode};
use crate::error::{IoContext, StorageError};
use crate::store::MessageStore;
use crate::store::checkpoint::{self, CHECKPOINT_SUFFIX, Checkpoint, TEMPORARY_SUFFIX};
use crate::store::content::{Content, Sizes};
use crate::store::framed::COPY_SUFFIX;
use crate::store::segment::{index_path, segment_path};
use crate::store::subjects::Subjects;

pub(super) fn open(
    disk: Arc<dyn Disk>,
    directory: &Path,
    sizes: Sizes,
    options: &FileStoreOptions,
) -> Result<(FileStore, Opened), StorageError> {
    disk.create_directories(directory).context("create", directory)?;
    let names = disk.list_files(directory).context("list", directory)?;
    let generations = generations(&names);
    let Some((&newest, _)) = generations.split_last() else {
        return create(disk, directory, sizes, &names);
    };
    let mut report = StoreReport::default();
    let checkpoint = choose(&*disk, directory, &generations, sizes.seed, options.log_purged_to, &mut report)?;
    let subjects =
        match checkpoint::read_subjects(&*disk, directory, checkpoint.subjects_generation, sizes.seed) {
            Err(error) if options.rebuild && rebuild::is_damage(&error) => None,
            subjects => Some(subjects?),
        };
    let mut content = Content::new(disk, directory.to_owned(), sizes, checkpoint.next_segment_id);
    content.messages = checkpoint.messages;
    content.bytes = checkpoint.bytes;
    content.first_seq = checkpoint.first_seq;
    content.last_seq = checkpoint.last_seq;
    content.last_timestamp = checkpoint.last_timestamp;
    content.segments = checkpoint.segments;
    take_subjects(&mut content, subjects, options.rebuild, &mut report)?;
    inspect(&content, &names, &checkpoint.retired, checkpoint.subjects_generation, &mut report)?;
    let store = FileStore {
        retired: checkpoint.retired.iter().map(|name| directory.join(name)).collect(),
        generation: newest,
        subjects_generation: checkpoint.subjects_generation,
        checkpoints: generations,
        content,
        failed: None,
    };
    Ok((store, Opened { applied_index: checkpoint.applied_index, extra: checkpoint.extra, report }))
}

/// The table of subjects as it was read, or as the records tell it; before that, indexes that cannot be read.
fn take_subjects(
    content: &mut Content,
    subjects: Option<Subjects>,
    may_rebuild: bool,
    report: &mut StoreReport,
) -> Result<(), StorageError> {
    let was_read = subjects.is_some();
    content.subjects = subjects.unwrap_or_default();
    content.subjects_changed = !was_read;
    if was_read && may_rebuild {
        report.rebuilt = rebuild::indexes(content)?;
    }
    if !was_read || !report.rebuilt.is_empty() {
        content.subjects = rebuild::subjects(content)?;
        content.subjects_changed = true;
        report.rebuilt.push("the table of subjects was made anew from the records".to_owned());
    }
    Ok(())
}

/// The generations of the checkpoints there are, oldest first.
fn generations(names: &[String]) -> Vec<u64> {
    let mut generations: Vec<u64> = names
        .iter()
        .filter_map(|name| name.strip_suffix(CHECKPOINT_SUFFIX)?.parse().ok())
        .filter(|&generation| generation > 0)
        .collect();
    generations.sort_unstable();
    generations
}

/// A new store begins with a checkpoint of nothing, so that a store without one is known to have lost it.
fn create(
    disk: Arc<dyn Disk>,
    directory: &Path,
    sizes: Sizes,
    names: &[String],
) -> Result<(FileStore, Opened), StorageError> {
    if let Some(name) = names.iter().find(|name| name.ends_with(".segment") || name.ends_with(".index")) {
        let reason = format!("it has no checkpoint, but {name}");
        return Err(StorageError::corrupt(directory, 0, reason));
    }
    let mut store = FileStore {
        content: Content::new(disk, directory.to_owned(), sizes, 1),
        generation: 0,
        subjects_generation: 0,
        retired: Vec::new(),
        checkpoints: Vec::new(),
        failed: None,
    };
    store.checkpoint(0, &[])?;
    let report = StoreReport { created: true, ..StoreReport::default() };
    Ok((store, Opened { applied_index: 0, extra: Bytes::new(), report }))
}

/// The newest checkpoint, or the one before it when the newest is damaged and the log still reaches back.
fn choose(
    disk: &dyn Disk,
    directory: &Path,
    generations: &[u64],
    seed: u32,
    log_purged_to: Option<u64>,
    report: &mut StoreReport,
) -> Result<Checkpoint, StorageError> {
    let mut candidates = generations.iter().rev().copied();
    let Some(newest) = candidates.next() else {
        return Err(StorageError::corrupt(directory, 0, "it has no checkpoint"));
    };
    let damage = match checkpoint::read(disk, directory, newest, seed) {
        Ok(checkpoint) => return Ok(checkpoint),
        Err(error @ StorageError::Corrupt { .. }) => error,
        Err(error) => return Err(error),
    };
    let Some(older) = candidates.next().and_then(|older| checkpoint::read(disk, directory, older, seed).ok())
    else {
        return Err(damage);
    };
    // Replaying needs every entry behind the checkpoint.
    if log_purged_to.is_none_or(|purged_to| purged_to > older.applied_index) {
        return Err(damage);
    }
    tracing::error!("{damage}; going back to the checkpoint before it");
    report.fell_back = Some(damage);
    Ok(older)
}

/// Compares the directory with what the checkpoint says. Nothing is changed.
fn inspect(
    content: &Content,
    names: &[String],
    retired: &[String],
    subjects_generation: u64,
    report: &mut StoreReport,
) -> Result<(), StorageError> {
    let directory = &content.directory;
    for segment in &content.segments {
        let path = segment_path(directory, segment.id);
        let length = match content.disk.open(&path, OpenMode::Read) {
            Ok(file) => file.length().context("read", &path)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(StorageError::io("open", &path, error)),
        };
        let expected = segment.file_bytes();
        if length < expected {
            let lost = expected - length;
            let text = format!("{}: {lost} of {expected} bytes are missing", path.display());
            tracing::error!("{text}");
            report.damaged_segments.push(text);
        }
    }
    let mut known: Vec<String> = retired.to_vec();
    let mut know = |path: std::path::PathBuf| {
        known.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
    };
    know(checkpoint::subjects_path(directory, subjects_generation));
    for segment in &content.segments {
        know(segment_path(directory, segment.id));
        know(index_path(directory, segment.id, segment.index_generation));
    }
    known.sort_unstable();
    report.unknown_files = names
        .iter()
        .filter(|name| {
            let name = name.strip_suffix(COPY_SUFFIX).unwrap_or(name);
            !name.ends_with(CHECKPOINT_SUFFIX)
                && !name.ends_with(TEMPORARY_SUFFIX)
                && known.binary_search_by(|known| known.as_str().cmp(name)).is_err()
        })
        .cloned()
        .collect();
    Ok(())
}
