//! How the stores of a test lie on the disk in memory: plain unless the test asks for more. Not for programs.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use weir_stdx::rng::SeededRng;

use super::{Cipher, EncryptionOptions, StoreKey, open_store_with};
use crate::disk::Disk;
use crate::disk::sim::SimDisk;

thread_local! {
    static CIPHER: Cell<Option<Cipher>> = const { Cell::new(None) };
    static COMPRESS: Cell<bool> = const { Cell::new(false) };
    static SALTS: Cell<u64> = const { Cell::new(1) };
}

/// Runs a test of plain stores with stores that lie otherwise.
pub(crate) fn coded(cipher: Option<Cipher>, compress: bool, test: impl FnOnce()) {
    CIPHER.set(cipher);
    COMPRESS.set(compress);
    test();
    CIPHER.set(None);
    COMPRESS.set(false);
}

pub(crate) fn compress() -> bool {
    COMPRESS.get()
}

pub(crate) fn options(cipher: Cipher, key: &str, previous: Option<&str>) -> EncryptionOptions {
    EncryptionOptions { cipher, key: StoreKey::new(key), previous_key: previous.map(StoreKey::new) }
}

/// The disk as the running test wants it.
pub(crate) fn disk_of(disk: &SimDisk) -> Arc<dyn Disk> {
    let plain: Arc<dyn Disk> = Arc::new(disk.clone());
    let Some(cipher) = CIPHER.get() else { return plain };
    let seed = SALTS.get();
    SALTS.set(seed + 1);
    let mut rng = SeededRng::new(seed);
    let mut random = |bytes: &mut [u8]| {
        rng.fill(bytes);
        true
    };
    open_store_with(plain, Path::new("/store/keys"), Some(&options(cipher, "a key", None)), &mut random)
        .expect("the store's key opens it")
}
