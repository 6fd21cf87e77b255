//! Everything again with stores that are compressed, encrypted, or both.

use std::sync::Arc;

use bytes::Bytes;
use weir_stdx::time::UnixNanos;

use super::model::{directory, open};
use super::{crash, damage, random};
use crate::disk::sim::SimDisk;
use crate::store::Lookup;
use crate::vault::Cipher;
use crate::vault::testing::coded;
use crate::{FileStore, FileStoreOptions, MessageStore, StoredMessage};

const CODINGS: [(Option<Cipher>, bool); 3] =
    [(Some(Cipher::ChaCha20Poly1305), false), (Some(Cipher::Aes256Gcm), true), (None, true)];
const TEXT: &str = "the text that nobody may find";

fn message(seq: u64, size: usize) -> StoredMessage {
    let payload: String = TEXT.chars().chain(" and so on".chars().cycle()).take(size).collect();
    StoredMessage {
        seq,
        timestamp: UnixNanos(seq),
        subject: Bytes::from(format!("secret.subject.{seq}")),
        headers: Bytes::new(),
        payload: payload.into(),
    }
}

fn fill(store: &mut FileStore, seqs: std::ops::RangeInclusive<u64>) {
    for seq in seqs {
        store.append(&message(seq, 200)).unwrap();
    }
}

fn file_bytes(disk: &SimDisk) -> usize {
    let segments = disk.paths().into_iter().filter(|path| path.extension().is_some_and(|e| e == "segment"));
    segments.map(|path| disk.content(&path).unwrap().len()).sum()
}

fn holds(disk: &SimDisk, text: &str) -> bool {
    let found = |content: Vec<u8>| content.windows(text.len()).any(|window| window == text.as_bytes());
    disk.paths().iter().any(|path| found(disk.content(path).unwrap()))
}

#[test]
fn coded_stores_answer_like_the_model() {
    for (cipher, compress) in CODINGS {
        coded(
            cipher,
            compress,
            random::the_file_store_answers_like_the_model_across_checkpoints_and_reopening,
        );
    }
}

#[test]
fn snapshots_pass_between_coded_and_plain_stores() {
    for (cipher, compress) in CODINGS {
        coded(cipher, compress, random::snapshots_carry_the_content_between_all_kinds_of_stores);
        coded(cipher, compress, random::a_snapshot_shows_the_moment_it_was_taken);
    }
}

#[test]
fn a_crash_leaves_a_coded_store_that_the_log_rebuilds() {
    for (cipher, compress) in CODINGS {
        coded(cipher, compress, crash::a_crash_leaves_a_checkpoint_from_which_the_log_rebuilds_everything);
    }
}

#[test]
fn a_flipped_bit_in_a_coded_store_is_noticed_and_never_served() {
    for (cipher, compress) in CODINGS {
        coded(cipher, compress, damage::a_flipped_bit_in_any_file_is_noticed_and_never_served);
    }
}

#[test]
fn nothing_of_a_message_lies_on_disk_in_the_clear() {
    for compress in [false, true] {
        coded(Some(Cipher::ChaCha20Poly1305), compress, || {
            let disk = SimDisk::new();
            let (mut store, _) = open(&disk, None).unwrap();
            fill(&mut store, 1..=300);
            store.checkpoint(1, TEXT.as_bytes()).unwrap();
            for seq in (1..=200).filter(|seq| seq % 3 != 0) {
                store.remove(seq, seq % 2 == 0).unwrap();
            }
            for index in 2..5 {
                store.checkpoint(index, TEXT.as_bytes()).unwrap();
            }
            assert!(!holds(&disk, TEXT) && !holds(&disk, "and so on") && !holds(&disk, "secret"));
            drop(store);
            let (store, opened) = open(&disk, None).unwrap();
            assert_eq!(&opened.extra[..], TEXT.as_bytes());
            assert_eq!(store.get(300).unwrap(), Lookup::Found(message(300, 200)));
            assert_eq!(store.get(1).unwrap(), Lookup::Missing);
        });
    }
}

#[test]
fn compressible_messages_take_several_times_less_room_and_count_the_same() {
    let filled = |compress: bool| {
        let disk = SimDisk::new();
        let mut state = None;
        coded(None, compress, || {
            let (mut store, _) = open(&disk, None).unwrap();
            fill(&mut store, 1..=2000);
            // Small pieces are put together, and the files they were in go.
            (1..=3).for_each(|index| store.checkpoint(index, b"").unwrap());
            drop(store);
            let (store, _) = open(&disk, None).unwrap();
            assert!((1..=2000).all(|seq| store.get(seq).unwrap() == Lookup::Found(message(seq, 200))));
            assert_eq!(store.disk_bytes(), file_bytes(&disk) as u64);
            state = Some(store.state());
        });
        (file_bytes(&disk), state)
    };
    let ((plain, plain_state), (compressed, state)) = (filled(false), filled(true));
    assert_eq!(plain_state, state);
    assert!(compressed * 3 < plain, "{compressed} bytes instead of {plain}");
}

#[test]
fn compression_comes_and_goes_with_the_setting_and_old_segments_follow() {
    let disk = SimDisk::new();
    let (mut store, _) = open(&disk, None).unwrap();
    fill(&mut store, 1..=1000);
    store.checkpoint(1, b"").unwrap();
    let plain = file_bytes(&disk);
    store.set_compression(true);
    fill(&mut store, 1001..=1500);
    // What the checkpoints before need goes with those behind.
    (2..=4).for_each(|index| store.checkpoint(index, b"").unwrap());
    assert!(file_bytes(&disk) * 2 < plain, "{} of {plain}", file_bytes(&disk));
    store.set_compression(false);
    fill(&mut store, 1501..=2500);
    (5..=7).for_each(|index| store.checkpoint(index, b"").unwrap());
    assert!(file_bytes(&disk) > plain);
    drop(store);
    let (store, _) = open(&disk, None).unwrap();
    assert!((1..=2500).all(|seq| store.get(seq).unwrap() == Lookup::Found(message(seq, 200))));
}

#[test]
fn an_erased_message_is_gone_once_the_checkpoint_with_it_is() {
    coded(None, true, || {
        let disk = SimDisk::new();
        let (mut store, _) = open(&disk, None).unwrap();
        // Not compressed well, so that its text would be found.
        let mut secret = message(1, 40);
        secret.payload = Bytes::from_static(b"0xF3@q~zK9|w^B");
        store.append(&secret).unwrap();
        store.append(&message(2, 30)).unwrap();
        store.checkpoint(1, b"").unwrap();
        assert!(holds(&disk, "0xF3@q~zK9|w^B"));
        assert!(store.remove(1, true).unwrap());
        store.checkpoint(2, b"").unwrap();
        store.append(&message(3, 30)).unwrap();
        store.checkpoint(3, b"").unwrap();
        assert!(!holds(&disk, "0xF3@q~zK9|w^B"));
        drop(store);
        let (store, opened) = open(&disk, None).unwrap();
        assert!(opened.report.damaged_segments.is_empty() && opened.report.unknown_files.is_empty());
        assert_eq!(store.get(2).unwrap(), Lookup::Found(message(2, 30)));
        assert_eq!(store.get(3).unwrap(), Lookup::Found(message(3, 30)));
        assert_eq!(store.get(1).unwrap(), Lookup::Missing);
    });
}

#[test]
fn a_damaged_chunk_names_exactly_the_messages_in_it() {
    let disk = SimDisk::new();
    let options = FileStoreOptions { compress: true, recent_bytes: 0, ..FileStoreOptions::default() };
    let reopen = || FileStore::open_on(Arc::new(disk.clone()), directory(), &options).unwrap().0;
    let mut store = reopen();
    fill(&mut store, 1..=1000);
    store.checkpoint(1, b"").unwrap();
    drop(store);
    disk.flip_bit(&directory().join("0000000001.segment"), 100, 1);
    let store = reopen();
    let damaged = store.part(1).unwrap().damaged().unwrap();
    assert!((100..200).contains(&damaged.len()), "{}", damaged.len());
    for seq in 1..=1000 {
        let expected =
            if damaged.contains(&seq) { Lookup::Unreadable } else { Lookup::Found(message(seq, 200)) };
        assert_eq!(store.get(seq).unwrap(), expected);
    }
}
