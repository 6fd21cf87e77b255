//! Damaged files: noticed when read, never served, never taken for a removal.

use weir_stdx::rng::SeededRng;
use weir_stdx::time::UnixNanos;

use super::model::{Change, Model, apply, directory, open, random_change};
use crate::disk::sim::{Fault, SimDisk};
use crate::store::Lookup;
use crate::{MemoryStore, MessageStore, StorageError, StoredMessage};

fn filled(seed: u64, changes: u64) -> (SimDisk, Model) {
    let mut rng = SeededRng::new(seed);
    let disk = SimDisk::new();
    let (mut store, _) = open(&disk, None).unwrap();
    let mut model = Model::default();
    for index in 1..=changes {
        let change = match random_change(&model, &mut rng) {
            Change::Compact(_) => continue,
            change => change,
        };
        model.apply(&change);
        apply(&mut store, &change).unwrap();
        if index % 50 == 0 && index != changes {
            store.checkpoint(index, b"").unwrap();
        }
    }
    store.checkpoint(changes, b"").unwrap();
    (disk, model)
}

#[test]
pub(super) fn a_flipped_bit_in_any_file_is_noticed_and_never_served() {
    let (disk, model) = filled(1, 400);
    let mut rng = SeededRng::new(9);
    let mut unreadable = 0;
    for _ in 0..400 {
        let damaged = disk.fork();
        let paths = damaged.paths();
        let path = &paths[usize::try_from(rng.below(paths.len() as u64)).unwrap()];
        let length = damaged.content(path).unwrap().len() as u64;
        let offset = usize::try_from(rng.below(length)).unwrap();
        damaged.flip_bit(path, offset, u8::try_from(rng.below(8)).unwrap());
        // Every table has two copies: the store opens.
        let (mut store, opened) = open(&damaged, None).unwrap();
        assert!(opened.report.fell_back.is_none());
        for (seq, message) in &model.messages {
            match store.get(*seq).unwrap() {
                Lookup::Found(found) => assert_eq!(&found, message),
                Lookup::Unreadable => unreadable += 1,
                Lookup::Missing => panic!("{} byte {offset}: {seq} is missing", path.display()),
            }
        }
        assert_eq!(store.state().messages, model.messages.len() as u64);
        // An unreadable message can still be removed by its number.
        let seq = *model.messages.keys().next().unwrap();
        assert!(store.remove(seq, false).unwrap());
    }
    assert!(unreadable > 100);
}

#[test]
fn a_damaged_newest_checkpoint_falls_back_only_when_the_log_reaches_back() {
    let (disk, _) = filled(2, 350);
    let checkpoints: Vec<_> =
        disk.paths().into_iter().filter(|path| path.extension().is_some_and(|e| e == "checkpoint")).collect();
    assert_eq!(checkpoints.len(), 2);
    // One of the two files of a checkpoint may go.
    let cut = |path: &std::path::Path| {
        disk.set_content(path, disk.content(path).unwrap()[..20].to_vec());
    };
    cut(&checkpoints[1]);
    assert_eq!(open(&disk.fork(), None).unwrap().1.applied_index, 350);
    cut(&crate::store::framed::copy_path(&checkpoints[1]));
    for purged_to in [None, Some(350), Some(301)] {
        let Err(error) = open(&disk.fork(), purged_to) else { panic!("{purged_to:?} was accepted") };
        assert!(matches!(&error, StorageError::Corrupt { path, .. } if *path == checkpoints[1]), "{error}");
    }
    let (store, opened) = open(&disk, Some(300)).unwrap();
    assert!(opened.applied_index == 300 && opened.report.fell_back.is_some());
    assert!(store.state().last_seq > 0);
}

#[test]
fn a_store_that_lost_its_checkpoints_is_refused_not_emptied() {
    let (disk, _) = filled(3, 300);
    let before = disk.paths();
    let only_segments = SimDisk::new();
    for path in before.iter().filter(|path| path.extension().is_some_and(|e| e != "checkpoint")) {
        use crate::disk::{Disk, OpenMode};
        let file = only_segments.open(path, OpenMode::CreateEmpty).unwrap();
        file.write_at(&disk.content(path).unwrap(), 0).unwrap();
    }
    let kept = only_segments.paths();
    let error = open(&only_segments, Some(0)).unwrap_err();
    assert!(error.to_string().contains(directory().to_str().unwrap()), "{error}");
    assert_eq!(only_segments.paths(), kept);
}

#[test]
fn a_missing_or_cut_segment_is_reported_and_unreadable() {
    let (disk, model) = filled(4, 300);
    let segment = disk.paths().into_iter().find(|p| p.extension().is_some_and(|e| e == "segment")).unwrap();
    let cut = disk.fork();
    cut.set_content(&segment, disk.content(&segment).unwrap()[..100].to_vec());
    let missing = disk.fork();
    crate::disk::Disk::unlink(&missing, &segment).unwrap();
    for disk in [cut, missing] {
        let (store, opened) = open(&disk, None).unwrap();
        assert_eq!(opened.report.damaged_segments.len(), 1);
        let lookups = model.messages.keys().map(|&seq| store.get(seq).unwrap());
        let unreadable = lookups.filter(|lookup| *lookup == Lookup::Unreadable).count();
        assert!(unreadable > 0);
    }
}

#[test]
fn newer_and_foreign_files_are_refused_by_name() {
    let (disk, _) = filled(5, 100);
    let checkpoint =
        disk.paths().into_iter().rfind(|path| path.extension().is_some_and(|e| e == "checkpoint")).unwrap();
    let mut content = disk.content(&checkpoint).unwrap();
    content[8] = 9;
    let crc = crc32c::crc32c(&content[..28]);
    content[28..32].copy_from_slice(&crc.to_le_bytes());
    let newer = disk.fork();
    // The copy is of the version we know, but the file says that a newer program was here.
    newer.set_content(&checkpoint, content.clone());
    let error = open(&newer, Some(0)).unwrap_err();
    assert!(matches!(error, StorageError::UnsupportedVersion { found: 9, .. }), "{error}");
    for path in [crate::store::framed::copy_path(&checkpoint), checkpoint] {
        disk.set_content(&path, b"a text somebody put here, long enough for a header".to_vec());
    }
    let error = open(&disk, Some(0)).unwrap_err();
    assert!(matches!(error, StorageError::Foreign { .. }), "{error}");
}

/// Every single operation of a checkpoint fails once: the store says so, refuses further checkpoints, and
/// the directory opens to the checkpoint before.
#[test]
fn a_failing_disk_fails_the_checkpoint_and_leaves_the_one_before() {
    for fault in [Fault::Io, Fault::OutOfSpace, Fault::ShortWrite] {
        for operation in 0..45 {
            let (disk, model) = filled(6, 150);
            let (mut store, _) = open(&disk, None).unwrap();
            let mut later = model.clone();
            let mut rng = SeededRng::new(operation);
            disk.fail_at(operation, fault);
            let mut failed = false;
            for _ in 0..40 {
                let change = random_change(&later, &mut rng);
                failed |= apply(&mut store, &change).is_err();
                if failed {
                    break;
                }
                later.apply(&change);
            }
            let mut index = 999;
            if !failed && let Err(error) = store.checkpoint(index, b"") {
                index = 1000;
                let again = store.checkpoint(index, b"");
                assert_eq!(again.is_ok(), error.is_retryable(), "after {error}");
                failed = again.is_err();
            }
            drop(store);
            let (store, opened) = open(&disk, None).unwrap();
            if !failed || opened.applied_index >= 999 {
                super::model::check(&store, &later, &mut rng).unwrap();
            } else {
                super::model::check(&store, &model, &mut rng).unwrap();
            }
        }
    }
}

/// A disk that stays full from any operation on: changes are kept in memory, everything is served, and once there is
/// room a checkpoint has it all.
#[test]
fn a_store_on_a_full_disk_serves_everything_and_goes_on() {
    let (mut short, mut refused) = (0, 0);
    for operation in 0..45 {
        let (disk, mut model) = filled(8, 150);
        let (mut store, _) = open(&disk, None).unwrap();
        let mut rng = SeededRng::new(operation);
        disk.fail_from(operation, Fault::OutOfSpace);
        for _ in 0..60 {
            let change = random_change(&model, &mut rng);
            apply(&mut store, &change).unwrap();
            model.apply(&change);
        }
        if let Err(error) = store.checkpoint(999, b"") {
            assert!(error.is_retryable() && error.to_string().contains("/store/"), "{error}");
            refused += 1;
        }
        short += u32::from(store.shortage().is_some());
        super::model::check(&store, &model, &mut rng).unwrap();
        let mut snapshot = Vec::new();
        store.snapshot_write(&mut snapshot).unwrap();
        let mut copy = MemoryStore::new();
        copy.snapshot_install(&mut &snapshot[..]).unwrap();
        assert_eq!(copy.state().messages, store.state().messages);
        store.retry().unwrap();
        disk.heal();
        store.retry().unwrap();
        assert_eq!(store.shortage(), None);
        store.checkpoint(1000, b"").unwrap();
        drop(store);
        let (store, opened) = open(&disk, None).unwrap();
        assert_eq!(
            (opened.applied_index, opened.report.unknown_files.len()),
            (1000, 0),
            "{:?}",
            opened.report
        );
        super::model::check(&store, &model, &mut rng).unwrap();
    }
    assert!(short > 5 && refused > 20, "{short} times short, {refused} checkpoints refused");
}

#[test]
fn a_store_with_an_unreadable_message_is_no_source_of_snapshots() {
    let (disk, _) = filled(7, 200);
    let segment = disk.paths().into_iter().find(|p| p.extension().is_some_and(|e| e == "segment")).unwrap();
    let (mut store, _) = open(&disk, None).unwrap();
    for offset in 40..disk.content(&segment).unwrap().len() {
        disk.flip_bit(&segment, offset, 1);
    }
    let error = store.snapshot_write(&mut Vec::new()).unwrap_err();
    assert!(matches!(error, StorageError::UnreadableMessage { .. }), "{error}");
    let mut memory = MemoryStore::new();
    assert!(memory.snapshot_install(&mut &b"WEIRSNAPgarbage"[..]).is_err());
}

#[test]
fn a_damaged_copy_of_a_small_file_is_found_and_made_anew() {
    let (disk, _) = filled(5, 120);
    let (store, _) = open(&disk, None).unwrap();
    let files = store.small_files().unwrap();
    assert!(files.heal(&|_| true).is_empty());
    let small: Vec<_> =
        disk.paths().into_iter().filter(|path| !path.to_string_lossy().ends_with("segment")).collect();
    let mut healed = 0;
    for path in &small {
        let before = disk.content(path).unwrap();
        disk.flip_bit(path, before.len() / 2, 3);
        assert!(files.heal(&|_| false).is_empty(), "what is not needed any more is nobody's damage");
        healed += files.heal(&|_| true).len();
        disk.set_content(path, before.clone());
    }
    assert!(healed >= 6, "{healed} of {small:?}");
    let path =
        small.iter().find(|path| path.extension().is_some_and(|ending| ending == "checkpoint")).unwrap();
    let before = disk.content(path).unwrap();
    disk.set_content(path, before[..10].to_vec());
    assert_eq!(files.heal(&|path| files.contains(path)).len(), 1);
    assert_eq!(disk.content(path).unwrap(), before);
}

fn rebuilt(disk: &SimDisk) -> (crate::FileStore, crate::Opened) {
    let options = crate::FileStoreOptions { rebuild: true, ..super::model::options(None) };
    crate::FileStore::open_on(crate::vault::testing::disk_of(disk), directory(), &options).unwrap()
}

#[test]
fn indexes_and_subjects_of_which_both_copies_are_damaged_are_made_anew() {
    let (disk, model) = filled(6, 300);
    let (whole, _) = open(&disk, None).unwrap();
    let listed = whole.small_files().unwrap().files;
    let mut made = 0;
    for (path, magic) in
        listed.into_iter().filter(|(_, magic)| magic.ends_with(b"SUBJ") || magic.ends_with(b"INDX"))
    {
        let damaged = disk.fork();
        for path in [path.clone(), crate::inspect::twin_of(&path)] {
            damaged.flip_bit(&path, 33, 1);
        }
        let (mut store, opened) = rebuilt(&damaged);
        if opened.report.rebuilt.is_empty() {
            // The index of a segment in chunks: only that says where they are.
            continue;
        }
        made += 1;
        for (seq, message) in &model.messages {
            assert_eq!(store.get(*seq).unwrap(), Lookup::Found(message.clone()), "{}: {seq}", path.display());
            if magic.ends_with(b"SUBJ") {
                assert_eq!(store.subject_state(&message.subject), whole.subject_state(&message.subject));
            }
        }
        assert!(store.state().messages >= model.messages.len() as u64);
        store.checkpoint(1000, b"").unwrap();
        store.checkpoint(1001, b"").unwrap();
        drop(store);
        let (store, _) = open(&damaged, None).unwrap();
        assert!(store.inspect().findings.is_empty(), "{:?}", store.inspect().findings);
    }
    assert!(made >= 1);
}

#[test]
fn a_number_that_another_subject_took_over_is_no_damage() {
    let disk = SimDisk::new();
    let (mut store, _) = open(&disk, None).unwrap();
    let mut fill = |subject: &str, seqs: std::ops::Range<u64>| {
        for seq in seqs.clone() {
            let (subject, payload) = (subject.to_owned().into(), vec![7; 100].into());
            let headers = bytes::Bytes::new();
            store
                .append(&StoredMessage { seq, timestamp: UnixNanos(seq), subject, headers, payload })
                .unwrap();
        }
        store.checkpoint(seqs.end, b"").unwrap();
        let findings = store.inspect().findings;
        assert!(findings.is_empty(), "{subject}: {findings:?}");
        // The number is free again; the checkpoint before the next one still goes by it.
        store.compact(seqs.end).unwrap();
    };
    fill("old", 1..40);
    fill("new", 40..80);
}
