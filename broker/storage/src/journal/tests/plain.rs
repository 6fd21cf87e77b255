//! The journal as its callers see it, with its thread and real files.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;

use super::model::{self, observe, options};
use crate::disk::sim::SimDisk;
use crate::journal::{GroupId, Journal, JournalEntry, JournalOptions, LogRange};
use crate::{Done, StorageError, SyncPolicy};

const GROUP: GroupId = GroupId(7);
const DEADLINE: Duration = Duration::from_secs(20);

fn entry(index: u64, payload: &[u8]) -> JournalEntry {
    JournalEntry { index, term: 3, payload: Bytes::copy_from_slice(payload) }
}

fn no_one() -> Done {
    Box::new(|_| {})
}

/// A callback and what it was called with.
fn done() -> (Done, mpsc::Receiver<Result<(), StorageError>>) {
    let (sender, receiver) = mpsc::channel();
    (Box::new(move |result| drop(sender.send(result))), receiver)
}

#[test]
fn entries_and_values_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let options = JournalOptions { file_size_bytes: 1 << 20, ..JournalOptions::default() };
    let (journal, recovery) = Journal::open(directory.path(), options.clone()).unwrap();
    assert!(recovery.groups.is_empty() && recovery.torn_tail.is_none());
    let mut waiting = Vec::new();
    for index in 1..=2000 {
        let (callback, receiver) = done();
        journal.append(GROUP, vec![entry(index, format!("payload {index}").as_bytes())], callback);
        waiting.push(receiver);
    }
    journal.put_state(GROUP, 1, Bytes::from_static(b"vote"), no_one());
    journal.purge_to(GROUP, 500, no_one());
    for receiver in waiting {
        receiver.recv_timeout(DEADLINE).unwrap().unwrap();
    }
    let stats = journal.stats();
    assert!(stats.entries == 2000 && stats.fsyncs > 0 && stats.fsyncs <= stats.batches + 10);
    drop(journal);
    let (journal, recovery) = Journal::open(directory.path(), options).unwrap();
    assert!(recovery.torn_tail.is_none() && recovery.damages.is_empty(), "{recovery:?}");
    assert_eq!(recovery.groups, [GROUP]);
    assert_eq!(journal.log_range(GROUP), LogRange { purged_to: 500, first: 501, last: 2000 });
    assert_eq!(journal.get_state(GROUP, 1).unwrap(), "vote");
    let found = observe(&journal, GROUP).unwrap();
    assert_eq!(found.entries[&1234], (3, Bytes::from("payload 1234")));
}

#[test]
fn after_an_orderly_stop_a_start_reads_only_files_with_live_entries() {
    let directory = tempfile::tempdir().unwrap();
    let options = JournalOptions { file_size_bytes: 1 << 20, ..JournalOptions::default() };
    let (journal, _) = Journal::open(directory.path(), options.clone()).unwrap();
    let payload = vec![b'x'; 100 << 10];
    for index in 1..=50 {
        journal.append(GROUP, vec![entry(index, &payload)], no_one());
    }
    journal.purge_to(GROUP, 50, no_one());
    // Another handle stays, as those of connections may.
    let kept = journal.clone();
    journal.close();
    assert!(kept.stats().files_recycled >= 4, "{:?}", kept.stats());
    let (late, refused) = done();
    kept.append(GROUP, vec![entry(51, b"late")], late);
    assert!(refused.recv_timeout(DEADLINE).unwrap().is_err());
    let (journal, recovery) = Journal::open(directory.path(), options).unwrap();
    assert_eq!((recovery.files, recovery.damages.len()), (1, 0), "{recovery:?}");
    assert_eq!(journal.log_range(GROUP), LogRange { purged_to: 50, first: 51, last: 50 });
}

#[test]
fn a_second_process_is_kept_out() {
    let directory = tempfile::tempdir().unwrap();
    let options = JournalOptions { file_size_bytes: 1 << 20, ..JournalOptions::default() };
    let first = Journal::open(directory.path(), options.clone()).unwrap();
    let error = Journal::open(directory.path(), options.clone()).unwrap_err();
    assert!(matches!(error, StorageError::InUse { .. }), "{error}");
    drop(first);
    Journal::open(directory.path(), options).unwrap();
}

#[test]
fn what_was_asked_is_seen_before_it_is_durable() {
    let disk = SimDisk::new();
    let (journal, _) = model::open(&disk).unwrap();
    journal.append(GROUP, (1..=5).map(|index| entry(index, b"one")).collect(), no_one());
    journal.truncate_after(GROUP, 3, no_one());
    journal.append(GROUP, vec![entry(4, b"two")], no_one());
    journal.put_state(GROUP, 2, Bytes::from_static(b"x"), no_one());
    assert_eq!(journal.log_range(GROUP), LogRange { purged_to: 0, first: 1, last: 4 });
    assert_eq!(journal.read(GROUP, 4, 5, 100).unwrap()[0].payload, "two");
    assert_eq!(journal.get_state(GROUP, 2).unwrap(), "x");
    assert_eq!(journal.term_at(GROUP, 4), Some(3));
    assert_eq!(journal.stats().batches, 0);
    assert!(journal.queued_bytes() > 0);
    while journal.pump() {}
    assert_eq!(journal.queued_bytes(), 0);
    assert_eq!(journal.read(GROUP, 1, 9, 1).unwrap().len(), 1);
    assert_eq!(journal.read(GROUP, 1, 9, 6).unwrap().len(), 2);
    assert!(journal.read(GROUP, 9, 12, 6).unwrap().is_empty());
    journal.purge_to(GROUP, 2, no_one());
    assert!(matches!(journal.read(GROUP, 2, 9, 6), Err(StorageError::NotInLog { index: 2, first: 3, .. })));
}

#[test]
fn a_hole_in_a_log_is_refused_and_nothing_else_is_harmed() {
    let (journal, _) = model::open(&SimDisk::new()).unwrap();
    let (bad, refused) = done();
    let (good, accepted) = done();
    journal.append(GROUP, vec![entry(1, b"a")], no_one());
    journal.append(GROUP, vec![entry(3, b"c")], bad);
    journal.append(GROUP, vec![entry(2, b"b")], good);
    journal.pump();
    let error = refused.try_recv().unwrap().unwrap_err();
    assert!(matches!(error, StorageError::NotContiguous { expected: 2, got: 3, .. }), "{error}");
    accepted.try_recv().unwrap().unwrap();
    let (callback, refused) = done();
    journal.put_state(GROUP, 1, vec![0; 65 << 10].into(), callback);
    journal.pump();
    assert!(matches!(refused.try_recv().unwrap(), Err(StorageError::TooLarge { .. })));
}

#[test]
fn one_fsync_serves_everything_that_waits() {
    let disk = SimDisk::new();
    let options = JournalOptions { max_batch_bytes: 1 << 20, ..options() };
    let (journal, _) = Journal::open_manual(Arc::new(disk), model::directory(), options).unwrap();
    for group in 0..50 {
        journal.append(GroupId(group), vec![entry(1, b"x")], no_one());
    }
    let before = journal.stats().fsyncs;
    assert!(journal.pump() && !journal.pump());
    assert_eq!(journal.stats().fsyncs - before, 1);
}

#[test]
pub(super) fn files_are_recycled_and_a_group_that_pins_them_is_moved_and_named() {
    let disk = SimDisk::new();
    let (journal, _) = model::open(&disk).unwrap();
    let pinned = GroupId(1);
    journal.append(pinned, vec![entry(1, &[7; 600])], no_one());
    let mut named = false;
    for index in 1..=600 {
        journal.append(GROUP, vec![entry(index, &[1; 500])], no_one());
        journal.purge_to(GROUP, index.saturating_sub(5), no_one());
        journal.pump();
        named |= journal.laggard(pinned).is_some()
            && journal.laggards().iter().any(|laggard| laggard.group == pinned && laggard.entries == 1);
    }
    let stats = journal.stats();
    assert!(stats.files_recycled > 10 && stats.files_in_use <= 5 && stats.bytes_moved > 0, "{stats:?}");
    assert!(named);
    assert!(disk.paths().len() <= 10, "{:?}", disk.paths());
    assert_eq!(journal.read(pinned, 1, 2, 9999).unwrap()[0].payload, vec![7; 600]);
    drop(journal);
    let (journal, recovery) = model::open(&disk).unwrap();
    assert!(recovery.damages.is_empty() && recovery.unreadable.is_empty());
    assert_eq!(journal.read(pinned, 1, 2, 9999).unwrap()[0].payload, vec![7; 600]);
}

#[test]
fn an_entry_larger_than_a_file_gets_a_file_of_its_own() {
    let disk = SimDisk::new();
    let (journal, _) = model::open(&disk).unwrap();
    let large = vec![5; 100 << 10];
    journal.append(GROUP, vec![entry(1, b"small"), entry(2, &large), entry(3, b"small")], no_one());
    journal.pump();
    drop(journal);
    let (journal, recovery) = model::open(&disk).unwrap();
    assert!(recovery.damages.is_empty(), "{:?}", recovery.damages);
    let entries = journal.read(GROUP, 1, 4, 1 << 20).unwrap();
    assert!(entries.len() == 3 && entries[1].payload == large);
}

#[test]
fn a_dropped_group_is_gone_and_its_id_free() {
    let disk = SimDisk::new();
    let (journal, _) = model::open(&disk).unwrap();
    journal.append(GROUP, vec![entry(1, b"old")], no_one());
    journal.put_state(GROUP, 1, Bytes::from_static(b"old"), no_one());
    journal.drop_group(GROUP, no_one());
    assert!(journal.groups().is_empty() && journal.get_state(GROUP, 1).is_none());
    journal.append(GROUP, vec![entry(9, b"new")], no_one());
    while journal.pump() {}
    drop(journal);
    let (journal, _) = model::open(&disk).unwrap();
    assert_eq!(journal.log_range(GROUP), LogRange { purged_to: 0, first: 9, last: 9 });
    assert!(journal.get_state(GROUP, 1).is_none());
}

#[test]
fn interval_and_never_answer_before_the_sync() {
    for sync in [SyncPolicy::Interval(Duration::from_secs(3600)), SyncPolicy::Never] {
        let directory = tempfile::tempdir().unwrap();
        let options = JournalOptions { file_size_bytes: 1 << 20, sync, ..JournalOptions::default() };
        let (journal, _) = Journal::open(directory.path(), options.clone()).unwrap();
        let before = journal.stats().fsyncs;
        for index in 1..=20 {
            let (callback, receiver) = done();
            journal.append(GROUP, vec![entry(index, b"x")], callback);
            receiver.recv_timeout(DEADLINE).unwrap().unwrap();
        }
        assert_eq!(journal.stats().fsyncs, before, "{sync:?}");
        drop(journal);
        let (journal, _) = Journal::open(directory.path(), options).unwrap();
        assert_eq!(journal.log_range(GROUP).last, 20);
    }
}

#[test]
fn many_threads_append_purge_and_read_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let options = JournalOptions {
        file_size_bytes: 256 << 10,
        cache_bytes: 64 << 10,
        max_live_files: 3,
        ..JournalOptions::default()
    };
    let (journal, _) = Journal::open(directory.path(), options.clone()).unwrap();
    let threads: Vec<_> = (0..6)
        .map(|number| {
            let journal = journal.clone();
            std::thread::spawn(move || {
                let group = GroupId(number);
                for index in 1..=800 {
                    let (callback, receiver) = done();
                    let payload = format!("{number} {index} {}", "x".repeat(200));
                    journal.append(group, vec![entry(index, payload.as_bytes())], callback);
                    if index % 10 == 0 {
                        receiver.recv_timeout(DEADLINE).unwrap().unwrap();
                    }
                    let from = journal.log_range(group).first;
                    let read = journal.read(group, from, index + 1, 2000).unwrap();
                    assert!(
                        read[0].index == from && read[0].payload.starts_with(format!("{number} ").as_bytes())
                    );
                    if index % 50 == 0 && number != 0 {
                        journal.purge_to(group, index - 20, no_one());
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    drop(journal);
    let (journal, recovery) = Journal::open(directory.path(), options).unwrap();
    assert!(recovery.damages.is_empty(), "{:?}", recovery.damages);
    for number in 0..6 {
        let found = observe(&journal, GroupId(number)).unwrap();
        assert_eq!(found.next, 801);
        assert!(
            found.entries.iter().all(|(index, (_, payload))| {
                payload.starts_with(format!("{number} {index} ").as_bytes())
            })
        );
    }
}

#[test]
fn a_panicking_callback_harms_no_one_else() {
    let (journal, _) = model::open(&SimDisk::new()).unwrap();
    let (callback, receiver) = done();
    journal.append(GROUP, vec![entry(1, b"a")], Box::new(|_| panic!("expected by the test")));
    journal.append(GROUP, vec![entry(2, b"b")], callback);
    journal.pump();
    receiver.try_recv().unwrap().unwrap();
}
