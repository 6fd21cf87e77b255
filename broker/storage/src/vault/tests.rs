//! Sealing, and the key file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_stdx::rng::SeededRng;

use super::testing::options;
use super::{Cipher, KEY_FILE_NAME, SEAL_BYTES, SEALS_PER_SESSION, Vault, open_store_with};
use crate::disk::Disk;
use crate::disk::sim::{CrashExplorer, SimDisk};
use crate::store::framed::copy_path;
use crate::{EncryptionOptions, StorageError, whole_file};

const CIPHERS: [Cipher; 2] = [Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm];
const MAGIC: &[u8; 8] = b"TESTFILE";

fn folder() -> &'static Path {
    Path::new("/store")
}

fn open(
    disk: &SimDisk,
    options: Option<&EncryptionOptions>,
    seed: u64,
) -> Result<Arc<dyn Disk>, StorageError> {
    let mut rng = SeededRng::new(seed);
    open_store_with(Arc::new(disk.clone()), folder(), options, &mut |bytes| {
        rng.fill(bytes);
        true
    })
}

fn files(disk: &SimDisk) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    disk.paths().into_iter().map(|path| (path.clone(), disk.content(&path))).collect()
}

#[test]
fn sealed_bytes_open_only_whole_and_in_their_context() {
    for cipher in CIPHERS {
        let vault = Vault::new(cipher, &[3; 32], [1; 16]);
        let mut bytes = b"head".to_vec();
        bytes.extend_from_slice(b"the plain text");
        vault.seal(b"context", &mut bytes, 4);
        let sealed = bytes.split_off(4);
        assert_eq!((&bytes[..], sealed.len()), (b"head".as_slice(), 14 + SEAL_BYTES));
        assert!(!sealed.windows(5).any(|window| window == b"plain"));
        assert_eq!(vault.open(b"context", &sealed).as_deref(), Some(b"the plain text".as_slice()));
        assert_eq!(vault.open(b"another", &sealed), None);
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(vault.open(b"context", &flipped), None, "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert_eq!(vault.open(b"context", &sealed[..length]), None);
        }
        let others = [Vault::new(cipher, &[4; 32], [1; 16])];
        assert!(others.iter().all(|other| other.open(b"context", &sealed).is_none()));
    }
}

#[test]
fn a_later_process_opens_what_an_earlier_one_sealed_and_never_seals_alike() {
    let (one, other) =
        (Vault::new(Cipher::default(), &[3; 32], [1; 16]), Vault::new(Cipher::default(), &[3; 32], [2; 16]));
    let seal = |vault: &Vault| {
        let mut bytes = b"the same".to_vec();
        vault.seal(b"", &mut bytes, 0);
        bytes
    };
    let all = [seal(&one), seal(&one), seal(&other), seal(&other)];
    for (number, sealed) in all.iter().enumerate() {
        assert_eq!(other.open(b"", sealed).as_deref(), Some(b"the same".as_slice()));
        assert!(all[..number].iter().all(|earlier| earlier != sealed && earlier[..8] != sealed[..8]));
    }
}

#[test]
fn a_session_that_sealed_enough_is_followed_by_one_with_another_salt() {
    let vault = Vault::new(Cipher::Aes256Gcm, &[3; 32], [1; 16]);
    let seal = || {
        let mut bytes = b"text".to_vec();
        vault.seal(b"", &mut bytes, 0);
        bytes
    };
    let before = seal();
    vault.sealing.read().next_number.store(SEALS_PER_SESSION - 1, std::sync::atomic::Ordering::Relaxed);
    let (last, first) = (seal(), seal());
    let salt = |sealed: &[u8]| sealed[20..36].to_vec();
    assert_eq!(salt(&before), salt(&last));
    assert_ne!(salt(&last), salt(&first));
    assert!([&before, &last, &first].iter().all(|sealed| vault.open(b"", sealed).is_some()));
}

#[test]
fn a_store_opens_only_as_it_was_made() {
    for cipher in CIPHERS {
        let disk = SimDisk::new();
        let sealed = open(&disk, Some(&options(cipher, "first", None)), 1).unwrap();
        whole_file::write(&*sealed, &folder().join("mode"), MAGIC, b"standalone").unwrap();
        let before = files(&disk);
        let other_cipher = CIPHERS[usize::from(cipher == CIPHERS[0])];
        let cases = [
            (None, "no key is configured"),
            (Some(options(cipher, "second", None)), "another key"),
            (
                Some(options(cipher, "second", Some("third"))),
                "neither the configured key nor the previous one",
            ),
            (Some(options(other_cipher, "first", None)), "is configured (jetstream.cipher)"),
        ];
        for (options, reason) in cases {
            let error = open(&disk, options.as_ref(), 2).unwrap_err().to_string();
            assert!(error.contains("/store/encryption") && error.contains(reason), "{error}");
            assert!(!error.contains("second") && !error.contains("third"), "{error}");
            assert_eq!(files(&disk), before, "a refused store was changed");
        }
        let again = open(&disk, Some(&options(cipher, "first", None)), 3).unwrap();
        let content = whole_file::read(&*again, &folder().join("mode"), MAGIC).unwrap();
        assert_eq!(content.as_deref(), Some(b"standalone".as_slice()));
        assert!(whole_file::read(&disk, &folder().join("mode"), MAGIC).is_err());
    }
}

#[test]
fn a_plain_store_is_not_taken_for_an_encrypted_one() {
    let disk = SimDisk::new();
    whole_file::write(&disk, &folder().join("mode"), MAGIC, b"standalone").unwrap();
    let before = files(&disk);
    let error = open(&disk, Some(&options(Cipher::default(), "key", None)), 1).unwrap_err().to_string();
    assert!(error.contains("without encryption"), "{error}");
    assert_eq!(files(&disk), before);
    assert!(open(&disk, None, 1).is_ok());
}

#[test]
fn a_new_key_takes_over_and_the_old_one_is_no_use_any_more() {
    let disk = SimDisk::new();
    let path = folder().join("mode");
    let sealed = open(&disk, Some(&options(Cipher::default(), "old", None)), 1).unwrap();
    whole_file::write(&*sealed, &path, MAGIC, b"standalone").unwrap();
    let stored = disk.content(&path);
    let rotated = open(&disk, Some(&options(Cipher::default(), "new", Some("old"))), 2).unwrap();
    assert_eq!(whole_file::read(&*rotated, &path, MAGIC).unwrap().unwrap(), b"standalone");
    assert_eq!(disk.content(&path), stored, "rotating writes the key file only");
    assert!(open(&disk, Some(&options(Cipher::default(), "old", None)), 3).is_err());
    // The previous key may stay configured.
    for previous in [None, Some("old")] {
        let again = open(&disk, Some(&options(Cipher::default(), "new", previous)), 4).unwrap();
        assert_eq!(whole_file::read(&*again, &path, MAGIC).unwrap().unwrap(), b"standalone");
    }
}

#[test]
fn a_crash_while_the_key_changes_leaves_a_store_that_opens() {
    let disk = SimDisk::recording();
    let path = folder().join("mode");
    let first = options(Cipher::default(), "old", None);
    let second = options(Cipher::default(), "new", Some("old"));
    let sealed = open(&disk, Some(&first), 1).unwrap();
    whole_file::write(&*sealed, &path, MAGIC, b"standalone").unwrap();
    disk.mark(1);
    open(&disk, Some(&second), 2).unwrap();
    disk.mark(2);
    let mut explorer = CrashExplorer::new(disk.record());
    let mut rng = SeededRng::new(3);
    while explorer.step() {
        for _ in 0..20 {
            let crashed = explorer.crash(&mut rng);
            let reopened = open(&crashed, Some(&second), 4).unwrap();
            let content = whole_file::read(&*reopened, &path, MAGIC).unwrap();
            assert!(content.is_some() || explorer.last_mark() == 0);
            if explorer.last_mark() == 2 {
                assert!(open(&crashed, Some(&first), 5).is_err());
            }
        }
    }
}

#[test]
fn a_damaged_key_file_is_made_anew_from_its_copy_or_refused_with_its_path() {
    let disk = SimDisk::new();
    let options = options(Cipher::default(), "key", None);
    open(&disk, Some(&options), 1).unwrap();
    let path = folder().join(KEY_FILE_NAME);
    disk.flip_bit(&path, 50, 3);
    open(&disk, Some(&options), 2).unwrap();
    disk.flip_bit(&copy_path(&path), 50, 3);
    open(&disk, Some(&options), 2).unwrap();
    disk.flip_bit(&path, 50, 3);
    disk.flip_bit(&copy_path(&path), 50, 3);
    let error = open(&disk, Some(&options), 2).unwrap_err().to_string();
    assert!(error.contains("/store/encryption"), "{error}");
}

#[test]
fn a_key_is_never_shown() {
    let options = options(Cipher::default(), "hunter2", Some("hunter1"));
    let vault = Vault::new(Cipher::default(), &[3; 32], [1; 16]);
    let shown = format!("{options:?} {vault:?}");
    assert!(!shown.contains("hunter") && !shown.contains("3, 3"), "{shown}");
}

#[test]
fn the_key_file_is_found_whole_through_the_disk_that_it_opens() {
    let disk = SimDisk::new();
    let sealed = open(&disk, Some(&options(Cipher::default(), "key", None)), 1).unwrap();
    let path = folder().join(KEY_FILE_NAME);
    assert!(crate::inspect::inspect_whole_file(&*sealed, &path, super::KEY_FILE_MAGIC).is_empty());
    assert!(whole_file::read(&*sealed, &path, super::KEY_FILE_MAGIC).unwrap().is_some());
}

/// What sealing and opening cost; `cargo test --release -p weir-storage --lib seal_costs -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn seal_costs() {
    const ROUNDS: u32 = 20_000;
    for cipher in CIPHERS {
        let vault = Vault::new(cipher, &[3; 32], [1; 16]);
        for bytes in [128, 1024, 32 << 10] {
            let plain = vec![7_u8; bytes];
            let mut buffer = Vec::with_capacity(bytes + SEAL_BYTES);
            let begun = std::time::Instant::now();
            for _ in 0..ROUNDS {
                buffer.clear();
                buffer.extend_from_slice(&plain);
                vault.seal(b"context", &mut buffer, 0);
            }
            let sealing = begun.elapsed() / ROUNDS;
            let begun = std::time::Instant::now();
            for _ in 0..ROUNDS {
                assert!(vault.open(b"context", &buffer).is_some());
            }
            println!(
                "{cipher}, {bytes} bytes: sealed in {sealing:?}, opened in {:?}",
                begun.elapsed() / ROUNDS
            );
        }
    }
}
