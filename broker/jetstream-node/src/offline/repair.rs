//! Makes a stopped server's store sound again: what can be made anew is, what is damaged is moved (never deleted) to
//! a folder inside the store, what is lost is named. What it cannot name it leaves as it is. A replica of several is
//! not repaired: the server makes it anew from the others when it starts.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use weir_jetstream::Store;
use weir_jetstream::meta::{META_GROUP, StreamAssignment};
use weir_jsapi::StorageType;
use weir_storage::disk::{Disk, OpenMode};
use weir_storage::inspect::twin_of;
use weir_storage::vault::{EncryptionOptions, open_store};
use weir_storage::{FileStore, FileStoreOptions, GroupId};

use super::check::check_opened;
use super::journal;
use super::layout::{self, JOURNAL, NEW_JOURNAL, QUARANTINE, TRASH};
use super::open::{Opened, overlay};
use super::replay::{self, LostEntries};
use super::report::{CannotCheck, CheckReport, name};
use crate::clock;
use crate::replicated::{Replicated, StateMachine};
use crate::stream::state::StreamState;

const COPY_BYTES: usize = 1 << 20;
/// The record of a repair, beside what it moved.
const RECORD: &str = "repair.json";

/// Whether a repair changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepairMode {
    /// All is done in memory.
    Try,
    Change,
}

/// What a repair made of a stream.
#[derive(Debug, Clone, Default, Serialize, serde::Deserialize)]
pub struct RepairedStream {
    pub account: String,
    pub name: String,
    pub group: u64,
    /// Messages that are lost: first and last, both included.
    pub lost: Vec<(u64, u64)>,
    /// What else is to be known.
    pub notes: Vec<String>,
}

/// What a repair did.
#[derive(Debug, Clone, Serialize)]
pub struct RepairReport {
    pub path: PathBuf,
    /// Nothing was changed.
    pub is_trial: bool,
    /// Where damaged files went; nothing where none had to.
    pub quarantine: Option<PathBuf>,
    pub done: Vec<String>,
    /// Streams that lost something.
    pub streams: Vec<RepairedStream>,
    /// What could not be repaired.
    pub left: Vec<String>,
    /// The check before and after; not part of the record that is kept.
    #[serde(skip)]
    pub before: CheckReport,
    #[serde(skip)]
    pub after: CheckReport,
}

impl RepairReport {
    /// Whether a check finds nothing any more.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        !self.after.is_damaged()
    }
}

impl fmt::Display for RepairReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.before.is_damaged() {
            return writeln!(f, "Store {}: there is nothing to repair", self.path.display());
        }
        let tried = if self.is_trial { " (tried in memory, nothing was changed)" } else { "" };
        writeln!(f, "Store {}{tried}", self.path.display())?;
        for action in &self.done {
            writeln!(f, "  {action}")?;
        }
        for stream in &self.streams {
            let RepairedStream { account, name: of, group, .. } = stream;
            writeln!(f, "Stream '{account} > {of}' (group {group})")?;
            if !stream.lost.is_empty() {
                writeln!(f, "  lost for good: messages {}", name(&stream.lost))?;
            }
            stream.notes.iter().try_for_each(|note| writeln!(f, "  {note}"))?;
        }
        for left in &self.left {
            writeln!(f, "LEFT AS IT IS: {left}")?;
        }
        if let Some(quarantine) = &self.quarantine {
            writeln!(f, "What was damaged is in {}", quarantine.display())?;
        }
        if self.is_sound() {
            writeln!(f, "The store is sound now")
        } else {
            write!(f, "The store is not sound yet:\n{}", self.after)
        }
    }
}

/// Repairs the store in a folder.
///
/// # Errors
/// When it cannot be checked (see `check`), or a file cannot be read or written.
pub fn repair(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    options: &FileStoreOptions,
    encryption: Option<&EncryptionOptions>,
    mode: RepairMode,
) -> Result<RepairReport, CannotCheck> {
    let disk = if mode == RepairMode::Try { overlay(disk) } else { Arc::clone(disk) };
    let root = layout::find(&*disk, directory)?;
    let disk =
        open_store(disk, &root, encryption).map_err(|error| CannotCheck::new(&root, error.to_string()))?;
    journal::finish_swap(&*disk, &root).map_err(|reason| CannotCheck::new(&root, reason))?;
    let before = check_opened(&disk, &root, options)?;
    let report = RepairReport {
        path: root.clone(),
        is_trial: mode == RepairMode::Try,
        quarantine: None,
        done: Vec::new(),
        streams: Vec::new(),
        left: Vec::new(),
        after: before.clone(),
        before,
    };
    if report.before.is_refused() {
        return Err(CannotCheck::new(&root, format!("it is left as it is:\n{}", report.before)));
    }
    if !report.before.is_damaged() {
        return Ok(report);
    }
    let stamp = format!("{:012}", clock::now().0 / 1_000_000_000);
    let quarantine = root.join(QUARANTINE).join(stamp);
    let mut repair = Repair { disk: Arc::clone(&disk), root, quarantine, moved: BTreeSet::new(), report };
    repair.run(options).map_err(|reason| CannotCheck::new(&repair.root, reason))?;
    let Repair { mut report, root, .. } = repair;
    report.after = check_opened(&disk, &root, options)?;
    Ok(report)
}

pub(super) struct Repair {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) root: PathBuf,
    pub(super) quarantine: PathBuf,
    moved: BTreeSet<PathBuf>,
    pub(super) report: RepairReport,
}

impl Repair {
    fn run(&mut self, options: &FileStoreOptions) -> Result<(), String> {
        self.twins()?;
        self.trash()?;
        let options = FileStoreOptions { rebuild: true, ..options.clone() };
        let opened = Opened::new(&self.disk, &self.root, &options).map_err(text)?;
        let mut repaired = BTreeSet::new();
        let rewrite = self.needs_new_journal(&opened);
        if self.meta(&opened, &mut repaired) {
            for assignment in opened.assignments() {
                if self.stream(&opened, &assignment, rewrite)? {
                    repaired.insert(assignment.group);
                }
            }
        }
        if rewrite {
            self.journal(&opened, &repaired)?;
        }
        drop(opened);
        self.record()
    }

    /// Damaged small files are made anew from their twins.
    fn twins(&mut self) -> Result<(), String> {
        let paths: Vec<PathBuf> = self
            .report
            .before
            .all_findings()
            .filter(|finding| finding.has_twin && !finding.path.starts_with(self.root.join(TRASH)))
            .map(|finding| finding.path.clone())
            .collect();
        for path in paths {
            if self.disk.exists(&path) {
                self.set_aside(&path)?;
            }
            copy(&*self.disk, &twin_of(&path), &path)?;
            self.note(format!("{} was made anew from its twin", path.display()));
        }
        Ok(())
    }

    /// Nobody waits for what is damaged in the trash.
    fn trash(&mut self) -> Result<(), String> {
        let trash = self.root.join(TRASH);
        let inside =
            |path: &PathBuf| path.strip_prefix(&trash).ok()?.iter().next().map(|name| trash.join(name));
        let damaged = self.report.before.findings.iter().filter(|finding| finding.is_damage());
        let folders: BTreeSet<PathBuf> = damaged.filter_map(|finding| inside(&finding.path)).collect();
        folders.iter().try_for_each(|folder| self.set_aside(folder))
    }

    /// Whether the journal holds anything that is not as it was written.
    fn needs_new_journal(&self, opened: &Opened) -> bool {
        let journal = self.root.join(JOURNAL);
        let damaged = self.report.before.all_findings().any(|finding| {
            finding.is_damage() && (finding.path == journal || finding.path.starts_with(&journal))
        });
        damaged || opened.journal.groups().into_iter().any(|group| opened.journal.doubt(group).is_some())
    }

    /// Brings the list of streams to the end of its log; false where that cannot be.
    fn meta(&mut self, opened: &Opened, repaired: &mut BTreeSet<u64>) -> bool {
        let meta = match &opened.meta {
            Ok(meta) => meta,
            Err(reason) => {
                self.report.left.push(format!("the list of streams: {reason}"));
                return false;
            }
        };
        if opened.mode == "clustered" {
            return true;
        }
        let replayed = opened.fresh_meta().and_then(|fresh| {
            let lost = replay::replay(&opened.journal, GroupId(META_GROUP), &fresh, |meta, next_group| {
                meta.machine_mut().skip_groups(next_group);
                Ok(())
            })?;
            Ok((fresh, lost))
        });
        match replayed {
            Ok((fresh, lost)) => {
                for lost in &lost {
                    self.note(format!(
                        "entries {} to {} of the list of streams are lost: a stream created, changed or deleted by \
                         them is not, or is as it was",
                        lost.entries.start(),
                        lost.entries.end()
                    ));
                }
                if meta.failure().is_some() {
                    let state = fresh.lock();
                    *meta.lock().machine_mut() = state.machine().clone();
                    if let Err(error) = state.checkpoint_on(&*self.disk) {
                        self.report.left.push(format!("the list of streams: {error}"));
                        return false;
                    }
                    repaired.insert(META_GROUP);
                }
                true
            }
            Err(reason) => {
                self.report.left.push(format!("the list of streams: {reason}"));
                // Streams that are known are repaired all the same.
                true
            }
        }
    }

    /// Repairs what is kept by this server alone; true when all of its log is in a checkpoint now.
    fn stream(
        &mut self,
        opened: &Opened,
        assignment: &StreamAssignment,
        rewrite: bool,
    ) -> Result<bool, String> {
        let group = assignment.group;
        let Some(before) = self.report.before.streams.iter().find(|stream| stream.group == group).cloned()
        else {
            return Ok(false);
        };
        let damaged = before.stopped.is_some()
            || !before.lost.is_empty()
            || before.findings.iter().any(|finding| finding.is_damage() && !finding.has_twin);
        let in_doubt = rewrite && opened.journal.doubt(GroupId(group)).is_some();
        if !damaged && !in_doubt {
            return Ok(false);
        }
        if assignment.is_replicated() {
            self.report.left.push(format!(
                "stream '{} > {}': its replica here is damaged; the server makes it anew from the others when it \
                 starts",
                assignment.account,
                assignment.name()
            ));
            return Ok(false);
        }
        if assignment.config.storage == StorageType::Memory {
            return Ok(true);
        }
        let mut result = RepairedStream {
            account: assignment.account.clone(),
            name: assignment.name().to_owned(),
            group,
            ..RepairedStream::default()
        };
        let repaired = self.local_stream(opened, assignment, &before, &mut result);
        if let Err(reason) = &repaired {
            let name = format!("stream '{} > {}'", result.account, result.name);
            self.report.left.push(format!("{name}: {reason}"));
        }
        if !result.lost.is_empty() || !result.notes.is_empty() {
            self.report.streams.push(result);
        }
        Ok(repaired.is_ok())
    }

    fn local_stream(
        &mut self,
        opened: &Opened,
        assignment: &StreamAssignment,
        before: &super::report::StreamReport,
        result: &mut RepairedStream,
    ) -> Result<(), String> {
        let folder = opened.folder(assignment.group);
        for finding in before.findings.iter().filter(|finding| finding.is_damage() && !finding.has_twin) {
            if finding.path.starts_with(&folder) && self.disk.exists(&finding.path) && finding.path != folder
            {
                self.keep_copy(&finding.path)?;
            }
        }
        let (store, found) =
            FileStore::open_on(Arc::clone(&self.disk), &folder, &opened.store_options(assignment.group))
                .map_err(text)?;
        result.notes.extend(found.report.rebuilt);
        store.repair_headers().map_err(text)?;
        let inspection = store.inspect();
        drop(store);
        let mut unreadable: Vec<u64> = inspection
            .findings
            .iter()
            .flat_map(|finding| finding.sequences.iter().cloned().flatten())
            .collect();
        unreadable.sort_unstable();
        // What the log does may need to read what cannot be read: then that goes first.
        let replayed = self.replayed(opened, assignment, &[], &unreadable);
        let (replicated, gaps) = match replayed {
            Err(_) if !unreadable.is_empty() => self.replayed(opened, assignment, &unreadable, &[])?,
            replayed => replayed?,
        };
        let is_missed = |seq: &u64| {
            before.stopped.is_some() || before.lost.iter().any(|(first, last)| (*first..=*last).contains(seq))
        };
        let mut lost: Vec<u64> = unreadable.into_iter().filter(is_missed).collect();
        if let (true, Some(doubt)) = (gaps.is_empty(), opened.journal.doubt(GroupId(assignment.group))) {
            let mut state = replicated.lock();
            let last = state.count();
            skip(&mut state, last + replay::COUNTED_PER_ENTRY_MAX)?;
            result.notes.push(format!("messages behind {last} may be lost: {doubt}"));
        }
        for LostEntries { entries, counted, is_exact } in gaps {
            let (first, last) = (entries.start(), entries.end());
            let mut note = format!("entries {first} to {last} of its log are lost");
            if is_exact {
                lost.extend(counted);
                note.push_str(", and with them what they deleted or acknowledged");
            } else {
                note.push_str(&format!(
                    ": messages from {} on, how many is not known; the stream goes on behind {}",
                    counted.start(),
                    counted.end()
                ));
            }
            result.notes.push(note);
        }
        lost.sort_unstable();
        lost.dedup();
        let ranges = weir_storage::inspect::ranges(lost);
        result.lost = super::report::pairs(&ranges);
        // Twice: two checkpoints are kept, and neither is to need what was damaged.
        let mut state = replicated.lock();
        state.checkpoint().map_err(|error| error.to_string())?;
        state.checkpoint().map(|_| ()).map_err(|error| error.to_string())
    }

    /// The stream with its log applied, without messages that go before or after that.
    fn replayed(
        &self,
        opened: &Opened,
        assignment: &StreamAssignment,
        gone_before: &[u64],
        gone_after: &[u64],
    ) -> Result<Replayed, String> {
        let replicated = opened.stream(&self.disk, assignment)?;
        let drop_all = |sequences: &[u64]| {
            let mut state = replicated.lock();
            sequences.iter().try_for_each(|seq| {
                state.machine_mut().drop_unreadable(*seq).map(|_| ()).map_err(|error| error.to_string())
            })
        };
        drop_all(gone_before)?;
        let gaps = replay::replay(&opened.journal, GroupId(assignment.group), &replicated, skip)?;
        drop_all(gone_after)?;
        Ok((replicated, gaps))
    }

    /// Writes all that is sound of the journal into a new one.
    fn journal(&mut self, opened: &Opened, repaired: &BTreeSet<u64>) -> Result<(), String> {
        let stuck = opened
            .journal
            .groups()
            .into_iter()
            .find(|group| !repaired.contains(&group.0) && opened.journal.doubt(*group).is_some());
        if let Some(group) = stuck {
            self.report
                .left
                .push(format!("the journal: group {} is in doubt and could not be repaired", group.0));
            return Ok(());
        }
        journal::rewrite(self, opened, repaired)?;
        self.note("the journal was written anew".to_owned());
        Ok(())
    }

    /// Keeps the report beside what was moved.
    fn record(&mut self) -> Result<(), String> {
        let content = serde_json::to_vec_pretty(&self.report).map_err(text)?;
        self.disk.create_directories(&self.quarantine).map_err(text)?;
        let file = self.disk.open(&self.quarantine.join(RECORD), OpenMode::CreateEmpty).map_err(text)?;
        file.write_at(&content, 0).and_then(|()| file.sync_data()).map_err(text)?;
        self.disk.sync_directory(&self.quarantine).map_err(text)
    }

    pub(super) fn note(&mut self, done: String) {
        self.report.done.push(done);
    }

    /// Where a file or folder of the store is kept.
    fn place_of(&mut self, path: &Path) -> Result<PathBuf, String> {
        let target = self.quarantine.join(path.strip_prefix(&self.root).unwrap_or(path));
        if let Some(parent) = target.parent() {
            self.disk.create_directories(parent).map_err(text)?;
        }
        self.report.quarantine = Some(self.quarantine.clone());
        Ok(target)
    }

    /// Moves a file or folder away.
    pub(super) fn set_aside(&mut self, path: &Path) -> Result<(), String> {
        let target = self.place_of(path)?;
        self.disk.rename(path, &target).map_err(|error| format!("moving {}: {error}", path.display()))?;
        for folder in [path.parent(), target.parent()].into_iter().flatten() {
            self.disk.sync_directory(folder).map_err(text)?;
        }
        self.note(format!("{} was moved to {}", path.display(), target.display()));
        Ok(())
    }

    /// Keeps a copy of a file that still holds what is needed.
    fn keep_copy(&mut self, path: &Path) -> Result<(), String> {
        if !self.moved.insert(path.to_owned()) {
            return Ok(());
        }
        let target = self.place_of(path)?;
        copy(&*self.disk, path, &target)?;
        self.note(format!("{} was copied to {} as it was", path.display(), target.display()));
        Ok(())
    }
}

type Replayed = (Arc<Replicated<StreamState>>, Vec<LostEntries>);

/// Uses sequences up to one without messages.
fn skip(state: &mut StreamState, last_seq: u64) -> Result<(), String> {
    state.machine_mut().store_mut().skip_to(last_seq).map_err(|error| error.to_string())
}

/// Copies a file, durably.
fn copy(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("copying {} to {}: {error}", from.display(), to.display());
    let source = disk.open(from, OpenMode::Read).map_err(failed)?;
    let target = disk.open(to, OpenMode::CreateEmpty).map_err(failed)?;
    let mut buffer = vec![0; COPY_BYTES];
    let mut offset = 0;
    loop {
        let count = source.read_at(&mut buffer, offset).map_err(failed)?;
        if count == 0 {
            break;
        }
        target.write_at(&buffer[..count], offset).map_err(failed)?;
        offset += count as u64;
    }
    target.sync_data().map_err(failed)?;
    to.parent().map_or(Ok(()), |folder| disk.sync_directory(folder)).map_err(failed)
}

pub(super) fn text(error: impl fmt::Display) -> String {
    error.to_string()
}

/// What earlier repairs lost, a line a stream, for as long as what they set aside is there.
pub(crate) fn past_losses(store: &Path) -> Vec<String> {
    let Ok(folders) = std::fs::read_dir(store.join(QUARANTINE)) else { return Vec::new() };
    let mut lines = Vec::new();
    for folder in folders.filter_map(|entry| Some(entry.ok()?.path())) {
        let content = std::fs::read(folder.join(RECORD)).unwrap_or_default();
        let Ok(record) = serde_json::from_slice::<Record>(&content) else { continue };
        lines.extend(record.streams.into_iter().map(|stream| {
            let RepairedStream { account, name: of, lost, notes, .. } = stream;
            let lost = if lost.is_empty() { String::new() } else { format!("messages {}; ", name(&lost)) };
            format!(
                "Stream '{account} > {of}' lost in a repair: {lost}{} (what was damaged is in {})",
                notes.join("; "),
                folder.display()
            )
        }));
    }
    lines.sort_unstable();
    lines
}

/// What of a record is told again.
#[derive(serde::Deserialize)]
struct Record {
    streams: Vec<RepairedStream>,
}

/// Refuses a store whose repair was cut off between two moves.
pub(crate) fn refuse_unfinished(store: &Path) -> Result<(), String> {
    let (journal, made) = (store.join(JOURNAL), store.join(NEW_JOURNAL));
    if made.exists() && !journal.exists() {
        return Err(format!(
            "{} is there and {} is not: a repair was cut off; run `weir store repair` again",
            made.display(),
            journal.display()
        ));
    }
    Ok(())
}
