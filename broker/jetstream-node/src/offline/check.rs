//! Reads everything a stopped server has on disk, changes nothing, and says what is wrong with it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use weir_jetstream::meta::{META_GROUP, StreamAssignment};
use weir_jetstream::{Lookup, Store};
use weir_jsapi::StorageType;
use weir_storage::disk::Disk;
use weir_storage::inspect::{self, FindingKind, inspect_journal, inspect_whole_file, ranges, reason_of};
use weir_storage::vault::{EncryptionOptions, KEY_FILE_MAGIC, KEY_FILE_NAME, open_store};
use weir_storage::{FileStore, FileStoreOptions, GroupId, MessageStore, StorageError};

use super::layout::{self, JOURNAL, NEW_JOURNAL, QUARANTINE, TRASH};
use super::open::{Opened, overlay};
use super::report::{CannotCheck, CheckReport, Finding, StreamReport, pairs};
use crate::meta::state as meta_state;
use crate::replicated::StateMachine;
use crate::replicator::known::Gap;
use crate::replicator::local;
use crate::stream::store::MEMORY_MAGIC;
use crate::{identity, stream::state::StreamState};

/// Checks the store in a folder, which is a `store_dir` or the folder a server made in it. Holds one stream's index
/// in memory at a time, and what its log would change.
///
/// # Errors
/// When it is no store, is in use, or cannot be read.
pub fn check(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    options: &FileStoreOptions,
    encryption: Option<&EncryptionOptions>,
) -> Result<CheckReport, CannotCheck> {
    let root = layout::find(&**disk, directory)?;
    // A store that is under its previous key is not taken over by being looked at.
    let opened = open_store(overlay(disk), &root, encryption);
    let opened = opened.map_err(|error| CannotCheck::new(&root, error.to_string()))?;
    let mut report = check_opened(&opened, &root, options)?;
    // The key file lies plain, so it is read without its keys. A repair has made it anew by opening the store.
    let found = inspect_whole_file(&**disk, &root.join(KEY_FILE_NAME), KEY_FILE_MAGIC);
    report.findings.extend(found.into_iter().map(Finding::from));
    Ok(report)
}

/// `check` of a store whose keys are at hand.
pub(super) fn check_opened(
    disk: &Arc<dyn Disk>,
    root: &Path,
    options: &FileStoreOptions,
) -> Result<CheckReport, CannotCheck> {
    let root = root.to_owned();
    let mut report = CheckReport { path: root.clone(), ..CheckReport::default() };
    let failed = |error: StorageError| CannotCheck::new(&root, error.to_string());
    small_files(&**disk, &root, &mut report).map_err(|error| CannotCheck::new(&root, error.to_string()))?;
    if disk.exists(&root.join(JOURNAL)) {
        let found = inspect_journal(&**disk, &root.join(JOURNAL)).map_err(failed)?;
        report.findings.extend(found.into_iter().map(Finding::from));
    }
    let opened = match Opened::new(disk, &root, options) {
        Ok(opened) => opened,
        Err(error @ (StorageError::Corrupt { .. } | StorageError::Foreign { .. })) => {
            report.findings.push(refusal(&root.join(JOURNAL), &error));
            return Ok(report);
        }
        Err(error @ StorageError::UnsupportedVersion { .. }) => {
            report.findings.push(refusal(&root.join(JOURNAL), &error));
            return Ok(report);
        }
        Err(error @ StorageError::InUse { .. }) => {
            return Err(CannotCheck::new(
                &root,
                format!("a server holds the store: stop it first ({error})"),
            ));
        }
        Err(error) => return Err(failed(error)),
    };
    report.mode.clone_from(&opened.mode);
    journal(&opened, &mut report);
    meta(&opened, &mut report);
    let mut assignments: BTreeMap<u64, Arc<StreamAssignment>> =
        opened.assignments().into_iter().map(|assignment| (assignment.group, assignment)).collect();
    for name in opened.folders().map_err(failed)? {
        let Some(group) = layout::group_of(&name) else {
            let path = opened.root.join(layout::STREAMS).join(&name);
            report.findings.push(Finding::of(&path, FindingKind::Foreign, "it is no stream's folder"));
            continue;
        };
        let assignment = assignments.remove(&group);
        let stream = stream(&opened, group, assignment.as_deref(), &mut report);
        report.streams.push(stream);
    }
    for (group, assignment) in assignments {
        let stream = stream(&opened, group, Some(&assignment), &mut report);
        report.streams.push(stream);
    }
    trash(&opened, &mut report);
    Ok(report)
}

/// A finding about a file that an error names.
fn refusal(otherwise: &Path, error: &StorageError) -> Finding {
    let (path, kind) = match error {
        StorageError::UnsupportedVersion { path, .. } => (path.as_path(), FindingKind::NewerFormat),
        StorageError::Foreign { path, .. } => (path.as_path(), FindingKind::Foreign),
        StorageError::Corrupt { path, .. } => (path.as_path(), FindingKind::Lost),
        _ => (otherwise, FindingKind::Lost),
    };
    Finding::of(path, kind, reason_of(error))
}

/// Those that are replaced as a whole, and names that are nobody's.
fn small_files(disk: &dyn Disk, root: &Path, report: &mut CheckReport) -> std::io::Result<()> {
    let files: [(_, &[u8; 8]); 3] = [
        (root.join(identity::FILE), identity::MAGIC),
        (root.join(weir_storage::identity::FILE_NAME), weir_storage::identity::MAGIC),
        (root.join("meta").join("checkpoint"), meta_state::MAGIC),
    ];
    for (path, magic) in files {
        report.findings.extend(inspect_whole_file(disk, &path, magic).into_iter().map(Finding::from));
        report.files += u64::from(disk.exists(&path));
    }
    for name in layout::unknown(disk, root)? {
        let reason = "it is not of this store, and is left alone";
        report.findings.push(Finding::of(&root.join(name), FindingKind::Foreign, reason));
    }
    if disk.exists(&root.join(QUARANTINE)) {
        let reason = "what earlier repairs set aside; delete it when nobody needs it any more";
        report.findings.push(Finding::of(&root.join(QUARANTINE), FindingKind::Harmless, reason));
    }
    if disk.exists(&root.join(NEW_JOURNAL)) {
        let reason = "a repair was cut off before it was through: repair the store again";
        report.findings.push(Finding::of(&root.join(NEW_JOURNAL), FindingKind::Repairable, reason));
    }
    Ok(())
}

fn journal(opened: &Opened, report: &mut CheckReport) {
    let recovery = &opened.recovery;
    report.files += recovery.files as u64;
    report.bytes_read += recovery.bytes_read;
    for damage in &recovery.damages {
        let mut finding = Finding::of(&damage.path, FindingKind::Repairable, damage.reason.clone());
        (finding.offset, finding.length) = (damage.offset, damage.length);
        report.findings.push(finding);
    }
    if let Some(torn) = &recovery.torn_tail {
        let reason = "it ends in a write that a crash cut off and that was not acknowledged";
        let mut finding = Finding::of(&torn.path, FindingKind::Harmless, reason);
        finding.offset = torn.offset;
        report.findings.push(finding);
    }
    let path = opened.root.join(JOURNAL);
    if let Some(reason) = &recovery.tail_lost {
        let reason = format!("the newest entries may be gone: {reason}");
        report.findings.push(Finding::of(&path, FindingKind::Lost, reason));
    }
}

fn meta(opened: &Opened, report: &mut CheckReport) {
    let path = opened.root.join("meta").join("checkpoint");
    let reason = match &opened.meta {
        Err(reason) => Some(reason.clone()),
        Ok(meta) => meta.failure().map(str::to_owned).or_else(|| opened.journal.doubt(GroupId(META_GROUP))),
    };
    if let Some(reason) = reason {
        let reason = format!("the list of streams stops before its end: {reason}");
        report.findings.push(Finding::of(&path, FindingKind::Lost, reason));
    }
}

fn stream(
    opened: &Opened,
    group: u64,
    assignment: Option<&StreamAssignment>,
    report: &mut CheckReport,
) -> StreamReport {
    let folder = opened.folder(group);
    let disk = overlay(&opened.base);
    let mut stream =
        StreamReport { group, folder: folder.clone(), storage: "file", ..StreamReport::default() };
    if let Some(assignment) = assignment {
        stream.account.clone_from(&assignment.account);
        assignment.name().clone_into(&mut stream.name);
        stream.is_replicated = assignment.is_replicated();
        if assignment.config.storage == StorageType::Memory {
            stream.storage = "memory";
        }
    }
    let memory = folder.join("memory");
    stream.findings.extend(inspect_whole_file(&*disk, &memory, MEMORY_MAGIC).into_iter().map(Finding::from));
    if stream.storage == "file" && !disk.exists(&memory) {
        if !disk.exists(&folder) {
            if assignment.is_some() && opened.journal.log_range(GroupId(group)).last > 0 {
                let reason = "the stream's folder is missing";
                stream.findings.push(Finding::of(&folder, FindingKind::Lost, reason));
            }
            return stream;
        }
        file_store(opened, &disk, group, &folder, &mut stream, report);
    }
    match assignment {
        Some(assignment) => machine(opened, &disk, assignment, &mut stream),
        None => {
            let reason = "no stream is known for this folder; it is kept";
            stream.findings.push(Finding::of(&folder, FindingKind::Harmless, reason));
        }
    }
    stream
}

/// Every file of a stream's store.
fn file_store(
    opened: &Opened,
    disk: &Arc<dyn Disk>,
    group: u64,
    folder: &Path,
    stream: &mut StreamReport,
    report: &mut CheckReport,
) {
    let (store, found) = match FileStore::open_on(Arc::clone(disk), folder, &opened.store_options(group)) {
        Ok(opened) => opened,
        Err(error) => return stream.findings.push(refusal(folder, &error)),
    };
    let inspection = store.inspect();
    report.files += inspection.files;
    report.bytes_read += inspection.bytes_read;
    let lost = inspection.findings.iter().flat_map(|finding| finding.sequences.iter().cloned().flatten());
    let mut lost: Vec<u64> = lost.collect();
    lost.sort_unstable();
    stream.lost = pairs(&ranges(lost));
    stream.findings.extend(inspection.findings.into_iter().map(Finding::from));
    for name in found.report.unknown_files {
        let ours = [".segment", ".index", ".subjects", ".making", ".new"];
        let plain = name.trim_end_matches("-copy");
        let (kind, reason) = if ours.iter().any(|ending| plain.ends_with(ending)) {
            (FindingKind::Harmless, "no checkpoint knows it: it was left by a crash")
        } else {
            (FindingKind::Foreign, "it is not of this store, and is left alone")
        };
        stream.findings.push(Finding::of(&folder.join(name), kind, reason));
    }
    let state = MessageStore::state(&store);
    (stream.messages, stream.bytes) = (state.messages, state.bytes);
    (stream.first_seq, stream.last_seq) = (state.first_seq, state.last_seq);
}

/// The stream as a server would have it.
fn machine(opened: &Opened, disk: &Arc<dyn Disk>, assignment: &StreamAssignment, stream: &mut StreamReport) {
    let group = GroupId(assignment.group);
    let replicated = match opened.stream(disk, assignment) {
        Ok(replicated) => replicated,
        Err(reason) => return stream.stopped = Some(reason),
    };
    let keeps_log = assignment.is_replicated() || assignment.config.storage == StorageType::File;
    if keeps_log {
        stream.stopped = if assignment.is_replicated() {
            opened.journal.doubt(group)
        } else {
            match local::replay(&opened.journal, group, &replicated) {
                Ok(_) => replicated.failure().map(str::to_owned),
                Err(reason) => Some(reason),
            }
        };
    }
    let state = replicated.lock();
    describe(&state, stream);
    let (applied, count) = (state.applied().1, state.count());
    let counted = Gap::find(&opened.journal, group, applied).and_then(|gap| gap.counted(count));
    if let Some(counted) = counted.filter(|counted| keeps_log && !counted.is_empty()) {
        stream.lost.push((*counted.start(), *counted.end()));
    }
}

fn describe(state: &StreamState, stream: &mut StreamReport) {
    let store = state.machine().store();
    let counters = store.state();
    (stream.messages, stream.bytes) = (counters.messages, counters.bytes);
    (stream.first_seq, stream.last_seq) = (counters.first_seq, counters.last_seq);
    stream.consumers = state.machine().consumers().len() as u64;
    // What the log has removed since is not missed.
    let lost = stream.lost.iter().flat_map(|(first, last)| *first..=*last);
    let lost: Vec<u64> = lost.filter(|seq| matches!(store.get(*seq), Ok(Lookup::Unreadable))).collect();
    stream.lost = pairs(&ranges(lost));
}

/// Folders of deleted streams, which can still be fetched back by hand.
fn trash(opened: &Opened, report: &mut CheckReport) {
    let trash = opened.root.join(TRASH);
    let names = opened.base.list_directories(&trash).unwrap_or_default();
    for name in names {
        let folder = trash.join(&name);
        let Some(group) = layout::group_in_trash(&name) else {
            report.findings.push(Finding::of(
                &folder,
                FindingKind::Foreign,
                "it is no deleted stream's folder",
            ));
            continue;
        };
        let options = FileStoreOptions { log_purged_to: None, identity: group, ..opened.options.clone() };
        let holds_store = opened
            .base
            .list_files(&folder)
            .is_ok_and(|names| names.iter().any(|name| name.ends_with(".checkpoint")));
        if !holds_store {
            continue;
        }
        let findings = match FileStore::open_on(overlay(&opened.base), &folder, &options) {
            Ok((store, _)) => store.inspect().findings,
            Err(error) => vec![inspect::Finding::of_file(&folder, FindingKind::Lost, reason_of(&error))],
        };
        report.findings.extend(findings.into_iter().map(|mut finding| {
            // Nobody misses what was deleted: a repair moves it aside.
            finding.kind = FindingKind::Repairable;
            finding.reason.push_str("; it belongs to a deleted stream");
            finding.into()
        }));
    }
}
