//! Reads every file of an opened store and says what is wrong: both copies of the small ones, the segments' headers
//! and all live records, and whether indexes, subjects and counters agree. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::FileStore;
use crate::disk::{Disk, OpenMode};
use crate::error::{IoContext, StorageError};
use crate::inspect::{Finding, FindingKind, SmallFiles, inspect_pair, ranges, reason_of};
use crate::store::checkpoint::{
    self, CHECKPOINT_MAGIC, Checkpoint, SUBJECTS_MAGIC, checkpoint_path, subjects_path,
};
use crate::store::framed::Label;
use crate::store::index::Slot;
use crate::store::segment::{
    INDEX_MAGIC, SEGMENT_HEADER_BYTES, Segment, encode_header, header_problem, index_path, segment_path,
};
use crate::store::snapshot::{Part, Window, read_message};
use crate::store::subjects::Subjects;

/// What reading all files of a store found.
#[derive(Clone, Debug, Default)]
pub struct StoreInspection {
    pub findings: Vec<Finding>,
    pub files: u64,
    pub bytes_read: u64,
}

impl FileStore {
    /// Reads everything the store has on disk.
    #[must_use]
    pub fn inspect(&self) -> StoreInspection {
        let mut inspection =
            Inspection { store: self, done: BTreeSet::new(), result: StoreInspection::default() };
        inspection.small_files();
        inspection.segments();
        inspection.result
    }

    /// What the newest checkpoint refers to, and the checkpoints.
    pub(super) fn list_small_files(&self) -> SmallFiles {
        let content = &self.content;
        let mut files: Vec<(std::path::PathBuf, &'static [u8; 8])> = Vec::new();
        for generation in self.checkpoints.iter().rev().take(2) {
            files.push((checkpoint_path(&content.directory, *generation), CHECKPOINT_MAGIC));
        }
        if self.subjects_generation != 0 {
            files.push((subjects_path(&content.directory, self.subjects_generation), SUBJECTS_MAGIC));
        }
        for segment in content.segments.iter().filter(|segment| segment.index_generation != 0) {
            files.push((index_path(&content.directory, segment.id, segment.index_generation), INDEX_MAGIC));
        }
        SmallFiles { disk: Arc::clone(&content.disk), seed: content.sizes.seed, files }
    }

    /// Makes headers of segments anew that are not what they were made with.
    ///
    /// # Errors
    /// When a file cannot be read or written, or is of a newer format.
    pub fn repair_headers(&self) -> Result<(), StorageError> {
        let content = &self.content;
        for segment in &content.segments {
            let path = segment_path(&content.directory, segment.id);
            let Ok(file) = content.disk.open(&path, OpenMode::ReadWrite) else { continue };
            if header_problem(&*file, segment, &path)?.is_some() {
                file.write_at(&encode_header(segment.id, segment.is_coded()), 0).context("write", &path)?;
                file.sync_data().context("sync", &path)?;
            }
        }
        Ok(())
    }
}

struct Inspection<'a> {
    store: &'a FileStore,
    done: BTreeSet<std::path::PathBuf>,
    result: StoreInspection,
}

impl Inspection<'_> {
    fn disk(&self) -> &dyn Disk {
        &*self.store.content.disk
    }

    fn directory(&self) -> &Path {
        &self.store.content.directory
    }

    fn pair(&mut self, path: &Path, magic: &[u8; 8]) {
        if !self.done.insert(path.to_owned()) {
            return;
        }
        let label = Label::new(magic, self.store.content.sizes.seed, path);
        let findings = inspect_pair(self.disk(), path, label);
        self.result.findings.extend(findings);
        self.count(path);
        self.count(&crate::store::framed::copy_path(path));
    }

    fn count(&mut self, path: &Path) {
        if let Ok(length) = self.disk().open(path, OpenMode::Read).and_then(|file| file.length()) {
            self.result.files += 1;
            self.result.bytes_read += length;
        }
    }

    /// The two newest checkpoints and what they refer to.
    fn small_files(&mut self) {
        let generations = self.store.checkpoints.clone();
        for generation in generations.into_iter().rev().take(2) {
            let path = checkpoint_path(self.directory(), generation);
            self.pair(&path, CHECKPOINT_MAGIC);
            let seed = self.store.content.sizes.seed;
            let Ok(checkpoint) = checkpoint::read(self.disk(), self.directory(), generation, seed) else {
                continue;
            };
            self.referred(&checkpoint);
        }
    }

    fn referred(&mut self, checkpoint: &Checkpoint) {
        let path = subjects_path(self.directory(), checkpoint.subjects_generation);
        self.pair(&path, SUBJECTS_MAGIC);
        // Its own, read where a segment asks for it: what a number stood for then, it may not stand for any more.
        let seed = self.store.content.sizes.seed;
        let generation = checkpoint.subjects_generation;
        let mut subjects = None;
        for segment in &checkpoint.segments {
            if segment.index_generation != 0 {
                let path = index_path(self.directory(), segment.id, segment.index_generation);
                self.pair(&path, INDEX_MAGIC);
            }
            let held = self.store.content.segments.iter().any(|other| other.id == segment.id);
            if !held && self.done.insert(segment_path(self.directory(), segment.id)) {
                let subjects = subjects.get_or_insert_with(|| {
                    checkpoint::read_subjects(self.disk(), self.directory(), generation, seed).ok()
                });
                self.retired_segment(segment, subjects.as_ref());
            }
        }
    }

    /// A segment that only the checkpoint before the newest needs.
    fn retired_segment(&mut self, segment: &Segment, subjects: Option<&Subjects>) {
        let mut ignored = BTreeMap::new();
        let before = self.result.findings.len();
        self.segment(segment, subjects, &mut ignored);
        for finding in &mut self.result.findings[before..] {
            if finding.kind == FindingKind::Lost {
                finding.kind = FindingKind::Repairable;
            }
            finding.sequences.clear();
            finding.reason.push_str("; only the checkpoint before the newest needs it");
        }
    }

    fn segments(&mut self) {
        let content = &self.store.content;
        let mut counts = BTreeMap::new();
        for segment in &content.segments {
            self.segment(segment, Some(&content.subjects), &mut counts);
        }
        let live: u64 = content.segments.iter().map(|segment| segment.live).sum();
        let path = checkpoint_path(self.directory(), self.store.generation);
        if live != content.messages {
            let reason = format!("it counts {} messages, its segments hold {live}", content.messages);
            self.result.findings.push(Finding::of_file(&path, FindingKind::Repairable, reason));
        }
        let path = subjects_path(self.directory(), self.store.subjects_generation);
        let mut wrong = 0_u64;
        content.subjects.for_each(|_, entry| {
            wrong += u64::from(counts.get(&entry.number).copied().unwrap_or(0) != entry.count);
        });
        if wrong > 0 {
            let reason = format!("the counters of {wrong} subjects do not fit the messages");
            self.result.findings.push(Finding::of_file(&path, FindingKind::Repairable, reason));
        }
    }

    /// Header, index and live records of a segment; adds its messages to the subjects' counts. Without the table of
    /// subjects, of which there is a finding then, it is not known whose messages they are.
    fn segment(&mut self, segment: &Segment, subjects: Option<&Subjects>, counts: &mut BTreeMap<u32, u64>) {
        let path = segment_path(self.directory(), segment.id);
        let everything = || segment.base_seq..=segment.last_seq;
        let lost = |reason: String, sequences| Finding {
            sequences,
            ..Finding::of_file(&path, FindingKind::Lost, reason)
        };
        let slots = match self.store.content.live_slots(segment) {
            Ok(slots) => slots,
            Err(error) => {
                let reason = format!("its index cannot be read: {}", reason_of(&error));
                return self.result.findings.push(lost(reason, vec![everything()]));
            }
        };
        for (_, slot) in &slots {
            *counts.entry(slot.subject).or_insert(0) += 1;
        }
        if slots.len() as u64 != segment.live {
            let path = index_path(self.directory(), segment.id, segment.index_generation);
            let reason = format!("it holds {} messages, the checkpoint says {}", slots.len(), segment.live);
            self.result.findings.push(Finding::of_file(&path, FindingKind::Repairable, reason));
        }
        let file = match self.disk().open(&path, OpenMode::Read) {
            Ok(file) => file,
            Err(_) if slots.is_empty() && segment.data_bytes <= SEGMENT_HEADER_BYTES as u64 => return,
            Err(error) => {
                let sequences = ranges(slots.iter().map(|(seq, _)| *seq));
                return self.result.findings.push(lost(format!("it cannot be opened: {error}"), sequences));
            }
        };
        self.count(&path);
        match header_problem(&*file, segment, &path) {
            Ok(None) => {}
            Ok(Some(reason)) => {
                self.result.findings.push(Finding::of_file(&path, FindingKind::Repairable, reason));
            }
            Err(error) => self.result.findings.push(lost(error.to_string(), vec![everything()])),
        }
        let part = self.store.content.part_of(segment, file, slots);
        match part.and_then(|part| damaged_runs(&part, subjects)) {
            Ok(runs) => self.result.findings.extend(runs),
            Err(error) => self.result.findings.push(lost(reason_of(&error), vec![everything()])),
        }
    }
}

/// Live records that are not what was written, neighbours together.
fn damaged_runs(part: &Part, subjects: Option<&Subjects>) -> Result<Vec<Finding>, StorageError> {
    let mut window = Window::default();
    let mut runs: Vec<Finding> = Vec::new();
    let mut end_of_run = None;
    for &(seq, slot) in &part.slots {
        let name = subjects.map_or(&[][..], |subjects| subjects.name(slot.subject));
        let problem = match read_message(part, &mut window, seq, slot)? {
            None => "the bytes are not the messages that were written",
            // A table made from another state would have other names.
            Some(message) if !name.is_empty() && message.subject != name => {
                "the index gives its messages to other subjects"
            }
            Some(_) => continue,
        };
        let Slot { offset, length, .. } = slot;
        match runs.last_mut() {
            Some(run) if end_of_run == Some(offset) && run.reason == problem => {
                run.length += u64::from(length);
                let known = run.sequences.iter().cloned().flatten();
                run.sequences = ranges(known.chain([seq]));
            }
            _ => runs.push(Finding {
                path: part.path.clone(),
                kind: FindingKind::Lost,
                offset: offset.into(),
                length: length.into(),
                reason: problem.to_owned(),
                sequences: vec![seq..=seq],
            }),
        }
        end_of_run = Some(offset.wrapping_add(length));
    }
    Ok(runs)
}
