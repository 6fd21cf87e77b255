//! Failing disks: the journal stops, says why, and keeps what it had promised.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::model::{self, open};
use crate::disk::sim::{Fault, SimDisk};
use crate::journal::{GroupId, Journal, JournalEntry};
use crate::{Done, StorageError};

const GROUP: GroupId = GroupId(1);

type Outcomes = Arc<Mutex<Vec<Result<(), StorageError>>>>;

fn append(journal: &Journal, index: u64, outcomes: &Outcomes) {
    let outcomes = Arc::clone(outcomes);
    let done: Done = Box::new(move |result| outcomes.lock().push(result));
    let payload = Bytes::from(vec![u8::try_from(index % 251).unwrap(); 700]);
    journal.append(GROUP, vec![JournalEntry { index, term: 1, payload }], done);
}

/// Whatever operation fails, and however: nothing promised is lost, nothing is promised afterwards.
#[test]
fn any_failing_operation_stops_the_journal_for_good() {
    for fault in [Fault::Io, Fault::OutOfSpace, Fault::ShortWrite] {
        let mut stopped = 0;
        for operation in 0..150 {
            let disk = SimDisk::new();
            let (journal, _) = open(&disk).unwrap();
            let outcomes = Outcomes::default();
            disk.fail_at(operation, fault);
            for index in 1..=90 {
                append(&journal, index, &outcomes);
                while journal.pump() {}
            }
            let outcomes = outcomes.lock().clone();
            assert_eq!(outcomes.len(), 90);
            let acked = outcomes.iter().take_while(|outcome| outcome.is_ok()).count();
            assert!(outcomes[acked..].iter().all(Result::is_err), "promised again after an error");
            if acked < 90 {
                stopped += 1;
                assert!(journal.failure().is_some());
                assert!(matches!(outcomes[89], Err(StorageError::Stopped { .. })), "{:?}", outcomes[89]);
            }
            drop(journal);
            let (journal, recovery) = open(&disk).unwrap();
            assert!(recovery.damages.is_empty(), "{:?}", recovery.damages);
            assert!(journal.log_range(GROUP).last >= acked as u64);
            let entries = journal.read(GROUP, 1, acked as u64 + 1, usize::MAX).unwrap();
            assert_eq!(entries.len(), acked);
        }
        assert!(stopped > 100, "{fault:?}: only {stopped} runs met the fault");
    }
}

#[test]
fn a_full_disk_is_named() {
    let disk = SimDisk::new();
    let (journal, _) = open(&disk).unwrap();
    let outcomes = Outcomes::default();
    disk.fail_at(0, Fault::OutOfSpace);
    append(&journal, 1, &outcomes);
    journal.pump();
    let error = outcomes.lock()[0].clone().unwrap_err();
    assert!(error.is_out_of_space());
    assert!(error.to_string().contains("/store/journal/"), "{error}");
}

#[test]
fn a_journal_that_cannot_be_opened_says_which_file_and_why() {
    for operation in 0..8 {
        let disk = SimDisk::new();
        disk.fail_at(operation, Fault::Io);
        match open(&disk) {
            Err(error) => assert!(error.to_string().contains("/store/journal"), "{error}"),
            Ok(_) => assert!(operation > 4),
        }
        // What the failed attempt left does not harm the next.
        open(&disk).unwrap();
    }
    let disk = SimDisk::new();
    drop(open(&disk).unwrap());
    let path = model::directory().join("00000002.journal");
    let file = crate::disk::Disk::open(&disk, &path, crate::disk::OpenMode::CreateEmpty).unwrap();
    file.write_at(b"not a journal", 0).unwrap();
    let error = open(&disk).unwrap_err();
    assert!(matches!(&error, StorageError::Foreign { path: at, .. } if *at == path), "{error}");
}

/// A disk that stays full: what was written before is acknowledged, the rest waits, and all of it goes on in order
/// once there is room.
#[test]
fn a_journal_without_room_for_its_next_file_waits_and_goes_on() {
    let mut waited = 0;
    for operation in 0..60 {
        let disk = SimDisk::new();
        let (journal, _) = open(&disk).unwrap();
        let outcomes = Outcomes::default();
        disk.fail_from(operation, Fault::OutOfSpace);
        for index in 1..=90 {
            append(&journal, index, &outcomes);
            while journal.pump() {}
        }
        let acked = outcomes.lock().len();
        assert!(outcomes.lock().iter().all(Result::is_ok), "told of a failure, though nothing failed");
        assert!(journal.failure().is_none());
        if acked < 90 {
            waited += 1;
            let shortage = journal.shortage().unwrap();
            assert!(shortage.is_waiting);
            assert!(shortage.reason.contains("/store/journal/"), "{}", shortage.reason);
            // A server that stops and starts meanwhile serves what was acknowledged, and waits again.
            let (again, recovery) = open(&disk.fork()).unwrap();
            assert!(recovery.damages.is_empty(), "{:?}", recovery.damages);
            assert!(again.log_range(GROUP).last >= acked as u64);
        }
        disk.heal();
        while journal.pump() {}
        assert_eq!(outcomes.lock().len(), 90, "operation {operation}: {acked} before there was room");
        assert!(outcomes.lock().iter().all(Result::is_ok));
        assert_eq!(journal.shortage(), None);
        drop(journal);
        let (journal, recovery) = open(&disk).unwrap();
        assert!(recovery.damages.is_empty() && recovery.torn_tail.is_none(), "{recovery:?}");
        assert_eq!(journal.read(GROUP, 1, 91, usize::MAX).unwrap().len(), 90);
    }
    assert!(waited > 20, "only {waited} runs had to wait");
}

/// The disk is still full at the next start: the journal opens, and takes new entries once there is room.
#[test]
fn a_journal_opens_on_a_full_disk() {
    let disk = SimDisk::new();
    let (journal, _) = open(&disk).unwrap();
    let outcomes = Outcomes::default();
    disk.fail_from(0, Fault::OutOfSpace);
    for index in 1..=90 {
        append(&journal, index, &outcomes);
        while journal.pump() {}
    }
    let acked = outcomes.lock().len() as u64;
    drop(journal);
    let (journal, _) = open(&disk).unwrap();
    let last = journal.log_range(GROUP).last;
    assert!(last >= acked);
    let outcomes = Outcomes::default();
    append(&journal, last + 1, &outcomes);
    while journal.pump() {}
    assert!(outcomes.lock().is_empty() && journal.shortage().is_some());
    disk.heal();
    while journal.pump() {}
    assert_eq!(outcomes.lock().len(), 1);
    drop(journal);
    let (journal, recovery) = open(&disk).unwrap();
    assert!(recovery.damages.is_empty(), "{:?}", recovery.damages);
    assert_eq!(journal.read(GROUP, 1, last + 2, usize::MAX).unwrap().len() as u64, last + 1);
}
