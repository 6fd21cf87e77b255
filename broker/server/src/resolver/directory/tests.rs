//! Claims this: a folder keeps the newest JWT of each account, bounded, and its hash tells its content.

use super::*;
use weir_auth::{
    jwt::{Claims, encode},
    nkey::{KeyPair, Kind},
};

fn account(seed: u8) -> String {
    KeyPair::from_random(Kind::Account, &[seed; 32]).expect("a key").public()
}

fn token(key: &str, issued_at: i64, expires: i64) -> String {
    let operator = KeyPair::from_random(Kind::Operator, &[99; 32]).expect("a key");
    let nats: serde_json::Map<String, serde_json::Value> =
        [("type".to_owned(), "account".into()), ("version".to_owned(), 2.into())].into_iter().collect();
    encode(Claims { subject: key.to_owned(), expires, nats, ..Claims::default() }, &operator, issued_at)
}

fn open(path: &Path, limit: usize, cache: bool) -> Directory {
    let ttl = cache.then_some(None);
    Directory::open(path, Deletion::Renamed, limit, ttl, 0).expect("opened")
}

#[test]
fn what_is_saved_is_found_again_also_by_the_next_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let (key, other) = (account(1), account(2));
    let mut directory = open(folder.path(), usize::MAX, false);
    assert_eq!(directory.load(&key, 0), Ok(None));
    assert_eq!(directory.save(&key, &token(&key, 5, 0), 0), Ok(true));
    assert_eq!(directory.save(&key, &token(&key, 5, 0), 0), Ok(false), "the same changes nothing");
    assert_eq!(directory.save(&other, &token(&other, 5, 0), 0), Ok(true));
    let hash = directory.hash();
    assert_ne!(hash, [0; 32]);
    let mut again = open(folder.path(), usize::MAX, false);
    assert_eq!(again.hash(), hash);
    assert_eq!(again.load(&key, 0), Ok(Some(token(&key, 5, 0))));
    assert_eq!(again.delete(&key), Ok(true));
    assert_eq!(again.delete(&key), Ok(false));
    assert_eq!((again.load(&key, 0), again.keys()), (Ok(None), vec![other]));
    assert_ne!(again.hash(), hash);
}

#[test]
fn the_newer_one_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = account(1);
    let mut directory = open(folder.path(), usize::MAX, false);
    assert_eq!(directory.save_if_newer(&key, &token(&key, 5, 0), 0), Ok(true));
    assert_eq!(directory.save_if_newer(&key, &token(&key, 4, 0), 0), Ok(false));
    assert_eq!(directory.save_if_newer(&key, &token(&key, 6, 0), 0), Ok(true));
    assert!(directory.save_if_newer(&key, &token(&account(2), 7, 0), 0).is_err());
    assert!(directory.save("../etc/passwd", "x", 0).is_err());
}

#[test]
fn a_full_folder_refuses_and_a_cache_forgets_the_least_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys: Vec<String> = (1..4).map(account).collect();
    let mut full = open(folder.path(), 2, false);
    for key in &keys[..2] {
        assert_eq!(full.save(key, &token(key, 5, 0), 0), Ok(true));
    }
    assert_eq!(full.save(&keys[2], &token(&keys[2], 5, 0), 0), Err("jwt store is full".to_owned()));
    let mut cache = open(folder.path(), 2, true);
    assert!(matches!(cache.load(&keys[0], 0), Ok(Some(_))));
    assert!(matches!(cache.load(&keys[1], 0), Ok(Some(_))));
    assert!(matches!(cache.load(&keys[0], 0), Ok(Some(_))));
    assert_eq!(cache.save(&keys[2], &token(&keys[2], 5, 0), 0), Ok(true));
    assert_eq!(cache.load(&keys[1], 0), Ok(None), "it was used least");
}

#[test]
fn what_has_expired_goes() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = account(1);
    let mut directory = open(folder.path(), usize::MAX, false);
    directory.save(&key, &token(&key, 5, 100), 0).expect("saved");
    directory.expire(99);
    assert!(directory.packed(&key, 99).is_some());
    assert!(directory.packed(&key, 101).is_none(), "others need no expired one");
    directory.expire(100);
    assert_eq!((directory.load(&key, 0), directory.hash()), (Ok(None), [0; 32]));
}
