//! Everything again with an encrypted journal.

use std::sync::Arc;

use bytes::Bytes;

use super::model::{directory, open, options};
use super::{crash, damage, plain};
use crate::disk::sim::SimDisk;
use crate::journal::{GroupId, Journal, JournalEntry};
use crate::vault::Cipher;
use crate::vault::testing::coded;

const TEXT: &[u8] = b"the text that nobody may find";

fn sealed(test: impl FnOnce()) {
    coded(Some(Cipher::ChaCha20Poly1305), false, test);
}

#[test]
fn no_crash_loses_what_was_acknowledged_when_it_is_encrypted() {
    sealed(crash::no_crash_loses_what_was_acknowledged_or_invents_anything);
}

#[test]
fn crashes_in_a_row_lose_nothing_when_it_is_encrypted() {
    sealed(crash::crashes_in_a_row_lose_nothing);
}

#[test]
fn damage_is_told_as_in_a_plain_journal() {
    sealed(damage::a_flipped_bit_is_reported_with_the_entries_it_hits);
    sealed(damage::the_journal_goes_on_behind_damage_and_forgets_it_when_it_is_purged);
    sealed(damage::damage_after_opening_is_noticed_when_it_is_read);
}

#[test]
fn files_are_recycled_when_they_are_encrypted() {
    coded(
        Some(Cipher::Aes256Gcm),
        false,
        plain::files_are_recycled_and_a_group_that_pins_them_is_moved_and_named,
    );
}

#[test]
fn nothing_that_was_given_to_the_journal_lies_on_disk_in_the_clear() {
    sealed(|| {
        let disk = SimDisk::new();
        let (journal, _) = open(&disk).unwrap();
        let payload = Bytes::from_static(TEXT);
        for index in 1..=400 {
            let entry = JournalEntry { index, term: 1, payload: payload.clone() };
            journal.append(GroupId(1), vec![entry], Box::new(|_| {}));
            journal.put_state(GroupId(2), 1, payload.clone(), Box::new(|_| {}));
            while journal.pump() {}
        }
        journal.purge_to(GroupId(1), 300, Box::new(|_| {}));
        while journal.pump() {}
        drop(journal);
        for path in disk.paths() {
            let content = disk.content(&path).unwrap();
            assert!(!content.windows(TEXT.len()).any(|window| window == TEXT), "{}", path.display());
        }
        let (journal, recovery) = open(&disk).unwrap();
        assert!(recovery.damages.is_empty());
        assert_eq!(journal.get_state(GroupId(2), 1).as_deref(), Some(TEXT));
        assert_eq!(journal.read(GroupId(1), 301, 302, 1000).unwrap()[0].payload, TEXT);
    });
}

#[test]
fn a_journal_is_refused_without_its_key_and_a_plain_one_with_a_key() {
    let disk = SimDisk::new();
    sealed(|| drop(open(&disk).unwrap()));
    let before = disk.content(&disk.paths()[0]);
    let error = Journal::open_manual(Arc::new(disk.clone()), directory(), options()).unwrap_err();
    assert!(error.to_string().contains("it is encrypted"), "{error}");
    assert_eq!(disk.content(&disk.paths()[0]), before);
    let disk = SimDisk::new();
    drop(open(&disk).unwrap());
    sealed(|| {
        let error = open(&disk).unwrap_err();
        assert!(error.to_string().contains("it is not encrypted"), "{error}");
    });
}
