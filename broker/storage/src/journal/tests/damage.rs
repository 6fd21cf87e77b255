//! Damaged journal files: told apart from torn writes, reported, never served and never dropped silently.

use std::collections::BTreeMap;

use bytes::Bytes;
use weir_stdx::rng::SeededRng;

use super::model::open;
use crate::StorageError;
use crate::disk::sim::SimDisk;
use crate::journal::record::{HeaderState, decode_header};
use crate::journal::{GroupId, JournalEntry};

const GROUP: GroupId = GroupId(1);

/// A journal of several files, closed in order.
fn filled(entries: u64) -> (SimDisk, BTreeMap<u64, Bytes>) {
    let disk = SimDisk::new();
    let (journal, _) = open(&disk).unwrap();
    let mut rng = SeededRng::new(4);
    let mut expected = BTreeMap::new();
    for index in 1..=entries {
        let mut payload = vec![0; 300];
        rng.fill(&mut payload);
        let payload = Bytes::from(payload);
        journal.append(
            GROUP,
            vec![JournalEntry { index, term: 1, payload: payload.clone() }],
            Box::new(|_| {}),
        );
        expected.insert(index, payload);
        while journal.pump() {}
    }
    (disk, expected)
}

#[test]
fn a_flipped_bit_is_reported_with_the_entries_it_hits() {
    let (disk, expected) = filled(120);
    let last = 120;
    let mut rng = SeededRng::new(11);
    let (mut hit, mut reported) = (0, 0);
    for _ in 0..400 {
        let damaged = disk.fork();
        let paths = damaged.paths();
        let path = &paths[usize::try_from(rng.below(paths.len() as u64)).unwrap()];
        let length = damaged.content(path).unwrap().len() as u64;
        let offset = usize::try_from(rng.below(length)).unwrap();
        damaged.flip_bit(path, offset, u8::try_from(rng.below(8)).unwrap());
        let (journal, recovery) = match open(&damaged) {
            Ok(opened) => opened,
            // The magic of one header copy: the other copy still makes it ours, or it is refused by name.
            Err(error) => {
                assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
                continue;
            }
        };
        let range = journal.log_range(GROUP);
        assert_eq!((range.first, range.last), (1, last), "{} byte {offset}", path.display());
        let unreadable = journal.unreadable(GROUP);
        for index in 1..=last {
            match journal.read(GROUP, index, index + 1, 1) {
                Ok(entries) => assert_eq!(entries[0].payload, expected[&index]),
                Err(StorageError::Unreadable { .. }) => {
                    hit += 1;
                    assert!(unreadable.iter().any(|range| range.contains(&index)));
                    assert!(!recovery.damages.is_empty());
                }
                Err(error) => panic!("{error}"),
            }
        }
        reported += usize::from(!recovery.damages.is_empty());
    }
    assert!(hit > 100 && reported > 100, "{hit} {reported}");
}

#[test]
fn damage_at_the_durable_end_is_not_taken_for_a_torn_write() {
    let (disk, _) = filled(20);
    // The last entry is in front of the mark that a quiet journal writes behind it.
    let path =
        disk.paths().into_iter().rfind(|path| path.extension().is_some_and(|e| e == "journal")).unwrap();
    let content = disk.content(&path).unwrap();
    let end = content.iter().rposition(|&byte| byte != 0).unwrap();
    disk.flip_bit(&path, end - 100, 3);
    let (_, recovery) = open(&disk).unwrap();
    assert!(recovery.torn_tail.is_none(), "{recovery:?}");
    assert!(!recovery.damages.is_empty());
}

#[test]
fn a_lost_value_makes_its_group_suspect() {
    let disk = SimDisk::new();
    let (journal, _) = open(&disk).unwrap();
    for (group, value) in [(1, "first"), (2, "other"), (1, "second")] {
        journal.put_state(GroupId(group), 0, Bytes::from(value), Box::new(|_| {}));
        while journal.pump() {}
    }
    drop(journal);
    let path =
        disk.paths().into_iter().find(|path| path.extension().is_some_and(|e| e == "journal")).unwrap();
    let content = disk.content(&path).unwrap();
    let at = content.windows(6).rposition(|window| window == b"second").unwrap();
    disk.flip_bit(&path, at, 0);
    let (journal, recovery) = open(&disk).unwrap();
    assert_eq!((&recovery.suspects[..], recovery.damages.len()), (&[GroupId(1)][..], 1), "{recovery:?}");
    assert_eq!(journal.get_state(GroupId(2), 0).unwrap(), "other");
}

#[test]
fn the_journal_goes_on_behind_damage_and_forgets_it_when_it_is_purged() {
    let (disk, _) = filled(60);
    let path =
        disk.paths().into_iter().find(|path| path.extension().is_some_and(|e| e == "journal")).unwrap();
    disk.flip_bit(&path, 6150, 3);
    let (journal, recovery) = open(&disk).unwrap();
    assert_eq!(recovery.unreadable.len(), 1, "{recovery:?}");
    let (group, range) = recovery.unreadable[0].clone();
    assert_eq!(group, GROUP);
    let payload = Bytes::from_static(b"after");
    journal.append(GROUP, vec![JournalEntry { index: 61, term: 1, payload }], Box::new(|_| {}));
    while journal.pump() {}
    drop(journal);
    let (journal, recovery) = open(&disk).unwrap();
    assert_eq!(recovery.unreadable, [(GROUP, range.clone())]);
    assert_eq!(journal.read(GROUP, 61, 62, 9).unwrap()[0].payload, "after");
    journal.purge_to(GROUP, range.end, Box::new(|_| {}));
    while journal.pump() {}
    assert!(journal.unreadable(GROUP).is_empty());
}

#[test]
fn a_missing_file_is_reported_and_its_entries_are_unreadable() {
    let (disk, expected) = filled(120);
    let files: Vec<_> =
        disk.paths().into_iter().filter(|path| path.extension().is_some_and(|e| e == "journal")).collect();
    assert!(files.len() >= 3);
    // Whether a file newer than the newest was there, nobody can know.
    let generation = |path: &&std::path::PathBuf| match decode_header(&disk.content(path).unwrap()) {
        HeaderState::Valid(header, _) => header.generation,
        state => panic!("{state:?}"),
    };
    let newest = files.iter().map(|path| generation(&path)).max().unwrap();
    for path in files.iter().filter(|path| generation(path) != newest) {
        let without = disk.fork();
        crate::disk::Disk::unlink(&without, path).unwrap();
        let (journal, recovery) = open(&without).unwrap();
        assert!(!recovery.damages.is_empty(), "without {} of {files:?}: {recovery:?}", path.display());
        assert_eq!(journal.log_range(GROUP).last, 120);
        let lost: u64 = recovery.unreadable.iter().map(|(_, range)| range.end - range.start).sum();
        assert!(lost > 10, "{recovery:?}");
        for index in (1..=120).filter(|index| !recovery.unreadable.iter().any(|(_, r)| r.contains(index))) {
            assert_eq!(journal.read(GROUP, index, index + 1, 1).unwrap()[0].payload, expected[&index]);
        }
    }
}

#[test]
fn damage_after_opening_is_noticed_when_it_is_read() {
    let (disk, _) = filled(60);
    let (journal, _) = open(&disk).unwrap();
    for path in disk.paths() {
        let length = disk.content(&path).unwrap().len();
        for offset in (4096..length).step_by(50) {
            disk.flip_bit(&path, offset, 2);
        }
    }
    let error = journal.read(GROUP, 1, 2, 1).unwrap_err();
    assert!(matches!(error, StorageError::Unreadable { index: 1, .. }), "{error}");
}
