//! What a checkpoint says: the counters of a store, its segments, and what the owner keeps with it. Two
//! checkpoints are kept, so files leave the directory only when the older one does not need them either.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use weir_stdx::time::UnixNanos;

use super::SubjectState;
use super::content::Content;
use super::framed::{self, Label, Reader, put_bytes, put_u64};
use super::segment::Segment;
use super::subjects::Subjects;
use crate::disk::Disk;
use crate::error::StorageError;

pub(crate) const CHECKPOINT_MAGIC: &[u8; 8] = b"WEIRCHKP";
pub(crate) const SUBJECTS_MAGIC: &[u8; 8] = b"WEIRSUBJ";
pub(crate) const CHECKPOINT_SUFFIX: &str = ".checkpoint";
pub(crate) const TEMPORARY_SUFFIX: &str = ".making";

/// The content of a checkpoint file.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) generation: u64,
    pub(crate) applied_index: u64,
    pub(crate) extra: Bytes,
    pub(crate) next_segment_id: u64,
    pub(crate) subjects_generation: u64,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    pub(crate) last_timestamp: UnixNanos,
    pub(crate) segments: VecDeque<Segment>,
    /// Names of files that only the checkpoint before needs.
    pub(crate) retired: Vec<String>,
}

pub(crate) fn checkpoint_path(directory: &Path, generation: u64) -> PathBuf {
    directory.join(format!("{generation:010}{CHECKPOINT_SUFFIX}"))
}

pub(crate) fn subjects_path(directory: &Path, generation: u64) -> PathBuf {
    directory.join(format!("{generation:010}.subjects"))
}

/// The checkpoint of a content as it is.
pub(crate) fn encode(
    content: &Content,
    generation: u64,
    subjects_generation: u64,
    applied_index: u64,
    extra: &[u8],
) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(256 + extra.len() + content.segments.len() * 48);
    for value in [
        generation,
        applied_index,
        content.next_segment_id,
        subjects_generation,
        content.messages,
        content.bytes,
        content.first_seq,
        content.last_seq,
        content.last_timestamp.0,
        content.segments.len() as u64,
    ] {
        put_u64(&mut buffer, value);
    }
    content.segments.iter().for_each(|segment| segment.describe(&mut buffer));
    put_u64(&mut buffer, content.retired.len() as u64);
    for path in &content.retired {
        put_bytes(&mut buffer, path.file_name().unwrap_or_default().as_encoded_bytes());
    }
    put_bytes(&mut buffer, extra);
    // Behind everything else: stores without coded segments are as they always were.
    let coded: Vec<_> = content.segments.iter().filter_map(|it| Some((it.id, it.coded_bytes?))).collect();
    if !coded.is_empty() {
        put_u64(&mut buffer, coded.len() as u64);
        for (id, bytes) in coded {
            put_u64(&mut buffer, id);
            put_u64(&mut buffer, bytes);
        }
    }
    buffer
}

pub(crate) fn decode(bytes: &[u8], seed: u32) -> Option<Checkpoint> {
    let mut reader = Reader::new(bytes);
    let mut numbers = [0; 10];
    for number in &mut numbers {
        *number = reader.u64()?;
    }
    let mut segments = VecDeque::new();
    for _ in 0..numbers[9] {
        segments.push_back(Segment::from_description(&mut reader, seed)?);
    }
    let mut retired = Vec::new();
    for _ in 0..reader.u64()? {
        retired.push(String::from_utf8(reader.bytes()?.to_vec()).ok()?);
    }
    let extra = Bytes::copy_from_slice(reader.bytes()?);
    if !reader.is_empty() {
        for _ in 0..reader.u64()? {
            let (id, bytes) = (reader.u64()?, reader.u64()?);
            segments.iter_mut().find(|segment: &&mut Segment| segment.id == id)?.coded_bytes = Some(bytes);
        }
    }
    Some(Checkpoint {
        generation: numbers[0],
        applied_index: numbers[1],
        extra,
        next_segment_id: numbers[2],
        subjects_generation: numbers[3],
        messages: numbers[4],
        bytes: numbers[5],
        first_seq: numbers[6],
        last_seq: numbers[7],
        last_timestamp: UnixNanos(numbers[8]),
        segments,
        retired,
    })
}

pub(crate) fn read(
    disk: &dyn Disk,
    directory: &Path,
    generation: u64,
    seed: u32,
) -> Result<Checkpoint, StorageError> {
    let path = checkpoint_path(directory, generation);
    let content = framed::read(disk, &path, Label::new(CHECKPOINT_MAGIC, seed, &path))?;
    decode(&content, seed)
        .filter(|checkpoint| checkpoint.generation == generation)
        .ok_or_else(|| StorageError::corrupt(&path, 0, "its content is not this checkpoint"))
}

/// Writes a checkpoint under a temporary name, then gives it its own: it is there whole or not at all.
pub(crate) fn write(
    disk: &dyn Disk,
    directory: &Path,
    generation: u64,
    seed: u32,
    content: &[u8],
) -> Result<(), StorageError> {
    use crate::error::IoContext;
    let path = checkpoint_path(directory, generation);
    let temporary = directory.join(format!("{generation:010}{TEMPORARY_SUFFIX}"));
    let label = Label::new(CHECKPOINT_MAGIC, seed, &path);
    let copy = framed::copy_path(&path);
    let renamed = framed::write_one(disk, &copy, label, content)
        .and_then(|()| framed::write_one(disk, &temporary, label, content))
        // The names of the files it refers to come first.
        .and_then(|()| disk.sync_directory(directory).context("sync", directory))
        .and_then(|()| disk.rename(&temporary, &path).context("rename", &temporary));
    if renamed.is_err() {
        framed::discard(disk, [&*copy, &*temporary]);
    }
    renamed?;
    disk.sync_directory(directory).context("sync", directory)
}

/// Writes the subject table of a checkpoint.
pub(crate) fn write_subjects(
    disk: &dyn Disk,
    directory: &Path,
    generation: u64,
    content: &Content,
) -> Result<(), StorageError> {
    let path = subjects_path(directory, generation);
    let label = Label::new(SUBJECTS_MAGIC, content.sizes.seed, &path);
    let mut pieces = framed::Pieces::create(disk, &path, label)?;
    let paths = pieces.paths();
    let written = put_subjects(&mut pieces, content).and_then(|()| pieces.finish());
    written.inspect_err(|_| framed::discard(disk, paths.iter().map(PathBuf::as_path)))
}

fn put_subjects(pieces: &mut framed::Pieces<'_>, content: &Content) -> Result<(), StorageError> {
    put_u64(pieces.buffer(), content.subjects.len());
    let mut written = Ok(());
    content.subjects.for_each_match(b">", |subject, entry| {
        let state = entry.resolve(content);
        let buffer = pieces.buffer();
        put_bytes(buffer, subject);
        for value in [u64::from(entry.number), state.count, state.first, state.last] {
            put_u64(buffer, value);
        }
        written = pieces.written();
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    written
}

pub(crate) fn read_subjects(
    disk: &dyn Disk,
    directory: &Path,
    generation: u64,
    seed: u32,
) -> Result<Subjects, StorageError> {
    let path = subjects_path(directory, generation);
    let content = framed::read(disk, &path, Label::new(SUBJECTS_MAGIC, seed, &path))?;
    decode_subjects(&content)
        .ok_or_else(|| StorageError::corrupt(&path, 0, "its content is not a subject table"))
}

pub(super) fn decode_subjects(bytes: &[u8]) -> Option<Subjects> {
    let mut reader = Reader::new(bytes);
    let mut subjects = Subjects::default();
    let count = usize::try_from(reader.u64()?).ok().filter(|count| *count <= bytes.len())?;
    for _ in 0..count {
        let subject = reader.bytes()?;
        let number = reader.u32()?;
        let state = SubjectState { count: reader.u64()?, first: reader.u64()?, last: reader.u64()? };
        if state.count == 0 || subject.is_empty() || !subjects.restore(subject, number, state) {
            return None;
        }
    }
    Some(subjects)
}
