//! Damaged journal files: told apart from torn writes, reported, never served and never dropped silently.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use weir_stdx::rng::SeededRng;

use super::model::{directory, open, options};
use crate::StorageError;
use crate::disk::sim::SimDisk;
use crate::journal::record::{HeaderState, decode_header};
use crate::journal::{GroupId, Journal, JournalEntry, JournalOptions};

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
pub(super) fn a_flipped_bit_is_reported_with_the_entries_it_hits() {
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

/// A journal in which the second value of group 1 is damaged.
fn with_a_lost_value() -> SimDisk {
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
    disk
}

#[test]
fn a_lost_value_makes_its_group_suspect() {
    let (journal, recovery) = open(&with_a_lost_value()).unwrap();
    assert_eq!((&recovery.suspects[..], recovery.damages.len()), (&[GroupId(1)][..], 1), "{recovery:?}");
    assert_eq!(journal.get_state(GroupId(2), 0).unwrap(), "other");
}

#[test]
pub(super) fn the_journal_goes_on_behind_damage_and_forgets_it_when_it_is_purged() {
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
pub(super) fn damage_after_opening_is_noticed_when_it_is_read() {
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

/// A journal of one file in which many groups have had their say, one after the other, twenty times.
fn of_groups(groups: u64) -> (SimDisk, std::path::PathBuf) {
    let disk = SimDisk::new();
    let options = JournalOptions { file_size_bytes: 256 << 10, ..options() };
    let (journal, _) = Journal::open_manual(Arc::new(disk.clone()), directory(), options).unwrap();
    for index in 1..=20 {
        for group in 1..=groups {
            let payload = Bytes::from(vec![u8::try_from(group).unwrap(); 100]);
            journal.append(GroupId(group), vec![JournalEntry { index, term: 1, payload }], Box::new(|_| {}));
            while journal.pump() {}
        }
    }
    drop(journal);
    (disk, directory().join("00000001.journal"))
}

/// Where the record of an entry begins.
fn entry_at(content: &[u8], group: u64, index: u64) -> usize {
    let fields: Vec<u8> = [group, 1, index].into_iter().flat_map(u64::to_le_bytes).collect();
    let at = content.windows(24).position(|window| window == fields).unwrap();
    at - 24
}

#[test]
fn a_damaged_length_costs_the_entry_it_belongs_to_and_nobody_else() {
    let (disk, path) = of_groups(6);
    let at = entry_at(&disk.content(&path).unwrap(), 3, 11);
    for bit in 0..32 {
        let damaged = disk.fork();
        damaged.flip_bit(&path, at + 8 + bit / 8, u8::try_from(bit % 8).unwrap());
        let (_, recovery) = open(&damaged).unwrap();
        assert_eq!(recovery.unreadable, [(GroupId(3), 11..12)], "bit {bit}");
        assert!(recovery.suspects.is_empty() && recovery.tail_lost.is_none(), "bit {bit}: {recovery:?}");
    }
}

#[test]
fn a_damaged_block_with_a_mark_in_it_leaves_no_doubt_of_other_groups() {
    let (disk, path) = of_groups(6);
    let mut content = disk.content(&path).unwrap();
    let at = entry_at(&content, 3, 11);
    content[at..at + 4096].fill(0xA5);
    disk.set_content(&path, content);
    let (journal, recovery) = open(&disk).unwrap();
    assert!(recovery.suspects.is_empty() && recovery.tail_lost.is_none(), "{recovery:?}");
    assert!(recovery.unreadable.iter().any(|(group, range)| *group == GroupId(3) && range.contains(&11)));
    assert!((1..=6).all(|group| journal.log_range(GroupId(group)).last == 20));
}

#[test]
fn a_doubt_outlives_restarts_and_the_file_that_gave_rise_to_it() {
    let disk = with_a_lost_value();
    let doubts = |journal: &Journal| (1..=3).filter(|group| journal.doubt(GroupId(*group)).is_some()).count();
    let (journal, _) = open(&disk).unwrap();
    let before = doubts(&journal);
    assert_eq!(before, 1);
    drop(journal);
    for _ in 0..3 {
        let (journal, _) = open(&disk).unwrap();
        assert_eq!(doubts(&journal), before);
        for index in 1..=200 {
            let payload = Bytes::from(vec![1; 100]);
            let group = GroupId(9);
            let next = journal.log_range(group).last + 1;
            journal.append(group, vec![JournalEntry { index: next, term: 1, payload }], Box::new(|_| {}));
            journal.purge_to(group, next.max(index) - 1, Box::new(|_| {}));
            while journal.pump() {}
        }
    }
}
