//! The key file of an encrypted store: the data key under which everything is sealed, itself sealed under a key that
//! comes from the configured one. Changing the configured key writes this file anew and nothing else.
//!
//! ```text
//! format u8 | cipher u8 | salt 32 | sealed data key 32 + 16
//! ```
//! The key that seals the data key is HKDF-SHA256 of the configured key and the salt, which is drawn anew whenever the
//! file is written: it seals once, so its nonce is 0. The file is kept twice, as `whole_file` does; without it, nothing
//! in the store can be read.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use ring::aead::{Aad, LessSafeKey, Nonce};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom, SystemRandom};

use super::{Cipher, Vault, derive, nonce};
use crate::disk::{Disk, SealedDisk};
use crate::error::{IoContext, StorageError};
use crate::store::framed::copy_path;
use crate::whole_file;

/// What the key file starts with.
pub const KEY_FILE_MAGIC: &[u8; 8] = b"WEIRKEYS";
/// The key file's name in the folder of the store.
pub const KEY_FILE_NAME: &str = "encryption";
const FORMAT: u8 = 1;
const SALT_BYTES: usize = 32;
const HEADER_BYTES: usize = 2 + SALT_BYTES;
const DATA_KEY_BYTES: usize = 32;
type DataKey = [u8; DATA_KEY_BYTES];
/// Held while the key file is written.
pub const LOCK_FILE_NAME: &str = "encryption.lock";
const NOT_ENCRYPTED: &str = "a key is configured (jetstream.key), but the store was written without encryption, or its \
                             key file is gone: left as it is; remove the key, or choose another store_dir and restore \
                             a backup into it";

/// Which of the configured keys opens a store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fits {
    Key,
    PreviousKey,
}

/// A configured key. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreKey(Arc<[u8]>);

impl StoreKey {
    /// A key should hold 32 random bytes in some form: it is not stretched, so one that can be guessed protects nothing.
    #[must_use]
    pub fn new(key: &str) -> Self {
        Self(key.as_bytes().into())
    }

    fn wrapping(&self, cipher: Cipher, salt: &[u8]) -> LessSafeKey {
        let secret = Salt::new(HKDF_SHA256, salt).extract(&self.0);
        derive(&secret, &[b"weir data key"], cipher)
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("StoreKey(hidden)")
    }
}

/// How a store is to be encrypted.
#[derive(Clone, Debug)]
pub struct EncryptionOptions {
    pub cipher: Cipher,
    pub key: StoreKey,
    /// The key before this one: a store that it opens is taken over.
    pub previous_key: Option<StoreKey>,
}

/// A source of random bytes; false when it has none.
pub(crate) type Random<'a> = &'a mut dyn FnMut(&mut [u8]) -> bool;

/// The disk through which the store in a folder is read and written: the same one without encryption, one that seals
/// with it. A store that is encrypted otherwise than configured is refused and left as it is.
pub fn open_store(
    disk: Arc<dyn Disk>,
    folder: &Path,
    options: Option<&EncryptionOptions>,
) -> Result<Arc<dyn Disk>, StorageError> {
    let system = SystemRandom::new();
    open_store_with(disk, folder, options, &mut |bytes| system.fill(bytes).is_ok())
}

/// `open_store` with random bytes from elsewhere.
pub fn open_store_with(
    disk: Arc<dyn Disk>,
    folder: &Path,
    options: Option<&EncryptionOptions>,
    random: Random<'_>,
) -> Result<Arc<dyn Disk>, StorageError> {
    let path = folder.join(KEY_FILE_NAME);
    let content = whole_file::read(&*disk, &path, KEY_FILE_MAGIC)?;
    let Some(options) = options else { return plain(disk, &path, content.is_some()) };
    let opened = content.map(|content| unwrap(&path, &content, options)).transpose()?;
    let data_key = match opened {
        Some((data_key, Fits::Key)) => data_key,
        // Two servers that start at once must not both make one.
        Some((_, Fits::PreviousKey)) | None => {
            if opened.is_none() && holds_data(&*disk, folder) {
                return Err(refused(&path, NOT_ENCRYPTED));
            }
            disk.create_directories(folder).context("create", folder)?;
            let lock = folder.join(LOCK_FILE_NAME);
            let _lock = disk.lock(&lock).map_err(|error| match error.kind() {
                std::io::ErrorKind::WouldBlock => StorageError::InUse { path: folder.to_owned() },
                _ => StorageError::io("lock", &lock, error),
            })?;
            take_over(&*disk, &path, options, random)?
        }
    };
    sealed(disk, options, &data_key, random)
}

/// Whether a store has a key file.
#[must_use]
pub fn is_encrypted(disk: &dyn Disk, folder: &Path) -> bool {
    let path = folder.join(KEY_FILE_NAME);
    disk.exists(&path) || disk.exists(&copy_path(&path))
}

fn plain(disk: Arc<dyn Disk>, path: &Path, is_encrypted: bool) -> Result<Arc<dyn Disk>, StorageError> {
    if is_encrypted {
        return Err(refused(path, "the store is encrypted, and no key is configured (jetstream.key)"));
    }
    Ok(disk)
}

fn sealed(
    disk: Arc<dyn Disk>,
    options: &EncryptionOptions,
    data_key: &DataKey,
    random: Random<'_>,
) -> Result<Arc<dyn Disk>, StorageError> {
    let mut salt = [0; 16];
    fill(random, &mut salt)?;
    let vault = Vault::new(options.cipher, data_key, salt);
    Ok(Arc::new(SealedDisk::new(disk, Arc::new(vault))))
}

/// Makes the key file, or puts it under the new key; what another server did meanwhile counts.
fn take_over(
    disk: &dyn Disk,
    path: &Path,
    options: &EncryptionOptions,
    random: Random<'_>,
) -> Result<DataKey, StorageError> {
    let mut data_key = [0; DATA_KEY_BYTES];
    match whole_file::read(disk, path, KEY_FILE_MAGIC)? {
        Some(content) => {
            let (found, fits) = unwrap(path, &content, options)?;
            data_key = found;
            if fits == Fits::PreviousKey {
                write(disk, path, options, &data_key, random)?;
                tracing::info!("{}: the store is under the new key now", path.display());
            }
        }
        None => {
            fill(random, &mut data_key)?;
            write(disk, path, options, &data_key, random)?;
        }
    }
    Ok(data_key)
}

fn refused(path: &Path, reason: &str) -> StorageError {
    StorageError::Key { path: path.to_owned(), reason: reason.to_owned() }
}

/// Whether a file of a store is its key file or the copy.
#[must_use]
pub fn is_key_file(path: &Path) -> bool {
    let name = Path::new(KEY_FILE_NAME);
    path.file_name().is_some_and(|found| found == name.as_os_str() || found == copy_path(name).as_os_str())
}

/// Anything that a server leaves in its store from its first start on.
fn holds_data(disk: &dyn Disk, folder: &Path) -> bool {
    ["mode", "identity", "journal"].iter().any(|name| {
        let path = folder.join(name);
        disk.exists(&path) || disk.exists(&copy_path(&path))
    })
}

/// The data key, and the key that opened it.
fn unwrap(path: &Path, content: &[u8], options: &EncryptionOptions) -> Result<(DataKey, Fits), StorageError> {
    unwrap_content(content, options).map_err(|reason| refused(path, &reason))
}

fn unwrap_content(content: &[u8], options: &EncryptionOptions) -> Result<(DataKey, Fits), String> {
    let (header, sealed) = content.split_at_checked(HEADER_BYTES).ok_or("it is too short")?;
    if header[0] != FORMAT {
        return Err(format!("it has format {}, this program reads format {FORMAT}", header[0]));
    }
    let cipher = Cipher::from_byte(header[1]).ok_or("it names a cipher that this program does not know")?;
    if cipher != options.cipher {
        let configured = options.cipher;
        return Err(format!(
            "the store is encrypted with {cipher}, and {configured} is configured (jetstream.cipher)"
        ));
    }
    let open = |key: &StoreKey| {
        let mut bytes = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce(0));
        let opened = key.wrapping(cipher, &header[2..]).open_in_place(nonce, Aad::from(header), &mut bytes);
        opened.ok().and_then(|data_key| DataKey::try_from(&*data_key).ok())
    };
    if let Some(data_key) = open(&options.key) {
        return Ok((data_key, Fits::Key));
    }
    match &options.previous_key {
        None => {
            Err("the store is encrypted with another key than the configured one (jetstream.key)".to_owned())
        }
        Some(previous) => open(previous).map(|data_key| (data_key, Fits::PreviousKey)).ok_or_else(|| {
            "neither the configured key nor the previous one (jetstream.key, prev_key) opens the store"
                .to_owned()
        }),
    }
}

fn write(
    disk: &dyn Disk,
    path: &Path,
    options: &EncryptionOptions,
    data_key: &DataKey,
    random: Random<'_>,
) -> Result<(), StorageError> {
    let mut content = vec![FORMAT, options.cipher.to_byte()];
    content.resize(HEADER_BYTES, 0);
    fill(random, &mut content[2..])?;
    let key = options.key.wrapping(options.cipher, &content[2..]);
    let mut sealed = data_key.to_vec();
    let nonce = Nonce::assume_unique_for_key(nonce(0));
    let appended = key.seal_in_place_append_tag(nonce, Aad::from(&content), &mut sealed);
    appended.map_err(|_| refused(path, "the data key cannot be encrypted"))?;
    content.extend_from_slice(&sealed);
    whole_file::write(disk, path, KEY_FILE_MAGIC, &content)
}

fn fill(random: Random<'_>, bytes: &mut [u8]) -> Result<(), StorageError> {
    if random(bytes) {
        return Ok(());
    }
    Err(StorageError::InvalidOption { reason: "the system has no random numbers for a key".to_owned() })
}
