//! Encryption at rest: seals what goes to disk and opens what comes from it. Authenticated, so that bytes that were
//! changed, or that belong elsewhere, never pass. Which bytes are sealed together is the business of the files'
//! formats; where the key comes from is `key_file`'s. Why no nonce comes twice under a key: ADR 0002.
//!
//! Sealed bytes are as long as the plain ones and `SEAL_BYTES` more:
//! ```text
//! ciphertext | tag 16 | salt of the session 16 | number within the session u64
//! ```

mod key_file;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use ring::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk};
use rustc_hash::FxHashMap;

pub use key_file::{
    EncryptionOptions, KEY_FILE_MAGIC, KEY_FILE_NAME, LOCK_FILE_NAME, StoreKey, is_encrypted, is_key_file,
    open_store, open_store_with,
};

/// Bytes that sealing adds.
pub const SEAL_BYTES: usize = TAG_BYTES + SALT_BYTES + NUMBER_BYTES;
const TAG_BYTES: usize = 16;
const SALT_BYTES: usize = 16;
const NUMBER_BYTES: usize = 8;
/// Seals of one session: far below what AES-GCM bears under one key.
const SEALS_PER_SESSION: u64 = 1 << 32;
/// Keys of earlier sessions kept at hand.
const SESSIONS_KEPT: usize = 256;

/// How a store is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cipher {
    #[default]
    ChaCha20Poly1305,
    Aes256Gcm,
}

impl Cipher {
    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
            Self::Aes256Gcm => &AES_256_GCM,
        }
    }

    const fn to_byte(self) -> u8 {
        match self {
            Self::ChaCha20Poly1305 => 1,
            Self::Aes256Gcm => 2,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::ChaCha20Poly1305),
            2 => Some(Self::Aes256Gcm),
            _ => None,
        }
    }
}

impl fmt::Display for Cipher {
    /// As nats-server prints it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::ChaCha20Poly1305 => "ChaCha20-Poly1305",
            Self::Aes256Gcm => "AES-GCM",
        })
    }
}

type Salt = [u8; SALT_BYTES];

/// What is sealed between two draws of a salt: by one process, under a key of its own.
struct Session {
    salt: Salt,
    key: LessSafeKey,
    next_number: AtomicU64,
}

/// Seals and opens the bytes of one store. Shared by everything that writes to it.
pub struct Vault {
    cipher: Cipher,
    data_key: Prk,
    sealing: RwLock<Arc<Session>>,
    opening: RwLock<FxHashMap<Salt, Arc<LessSafeKey>>>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Vault").field("cipher", &self.cipher).finish_non_exhaustive()
    }
}

impl Vault {
    /// `salt` must be drawn anew, from real randomness, for every vault made of the same data key.
    pub(crate) fn new(cipher: Cipher, data_key: &[u8; 32], salt: Salt) -> Self {
        let data_key = Prk::new_less_safe(HKDF_SHA256, data_key);
        let session = Arc::new(new_session(&data_key, cipher, salt));
        Self { cipher, data_key, sealing: RwLock::new(session), opening: RwLock::default() }
    }

    /// Seals `buffer[from..]` in place and appends what opening needs. `context` is not kept: whoever opens the bytes
    /// must state it again.
    pub fn seal(&self, context: &[u8], buffer: &mut Vec<u8>, from: usize) {
        let (session, number) = self.next_number();
        let plain = buffer.get_mut(from..).unwrap_or_default();
        let nonce = Nonce::assume_unique_for_key(nonce(number));
        let tag = session.key.seal_in_place_separate_tag(nonce, Aad::from(context), plain);
        match tag {
            Ok(tag) => buffer.extend_from_slice(tag.as_ref()),
            // Only of 64 GiB and more, which no format here has. Never the plain bytes in any case.
            Err(ring::error::Unspecified) => {
                tracing::error!("{} bytes are too many to be encrypted", plain.len());
                plain.fill(0);
                buffer.extend_from_slice(&[0; TAG_BYTES]);
            }
        }
        buffer.extend_from_slice(&session.salt);
        buffer.extend_from_slice(&number.to_le_bytes());
    }

    /// The plain bytes; nothing when they were not sealed by this store in this context, or were changed.
    #[must_use]
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (sealed, number) = sealed.split_last_chunk::<NUMBER_BYTES>()?;
        let (sealed, salt) = sealed.split_last_chunk::<SALT_BYTES>()?;
        let nonce = || Nonce::assume_unique_for_key(nonce(u64::from_le_bytes(*number)));
        let mut bytes = sealed.to_vec();
        let known = self.key_of(salt);
        let key = known.clone().unwrap_or_else(|| Arc::new(session_key(&self.data_key, self.cipher, salt)));
        let length = key.open_in_place(nonce(), Aad::from(context), &mut bytes).ok()?.len();
        if known.is_none() {
            self.remember(*salt, key);
        }
        bytes.truncate(length);
        Some(bytes)
    }

    fn next_number(&self) -> (Arc<Session>, u64) {
        loop {
            let session = Arc::clone(&self.sealing.read());
            let number = session.next_number.fetch_add(1, Ordering::Relaxed);
            if number < SEALS_PER_SESSION {
                return (session, number);
            }
            let mut sealing = self.sealing.write();
            if Arc::ptr_eq(&sealing, &session) {
                let salt = following_salt(&self.data_key, &session.salt);
                *sealing = Arc::new(new_session(&self.data_key, self.cipher, salt));
            }
        }
    }

    fn key_of(&self, salt: &Salt) -> Option<Arc<LessSafeKey>> {
        self.opening.read().get(salt).cloned()
    }

    /// Only salts that opened something are kept: damage does not fill the table.
    fn remember(&self, salt: Salt, key: Arc<LessSafeKey>) {
        let mut opening = self.opening.write();
        if opening.len() >= SESSIONS_KEPT {
            opening.clear();
        }
        opening.insert(salt, key);
    }
}

fn new_session(data_key: &Prk, cipher: Cipher, salt: Salt) -> Session {
    Session { salt, key: session_key(data_key, cipher, &salt), next_number: AtomicU64::new(0) }
}

fn session_key(data_key: &Prk, cipher: Cipher, salt: &Salt) -> LessSafeKey {
    derive(data_key, &[b"weir session ", &[cipher.to_byte()], salt], cipher)
}

/// A key of the cipher, for one purpose.
fn derive(secret: &Prk, purpose: &[&[u8]], cipher: Cipher) -> LessSafeKey {
    let output = secret.expand(purpose, cipher.algorithm());
    LessSafeKey::new(UnboundKey::from(output.expect("a key is as long as one of HKDF's outputs")))
}

/// As good as drawn: whoever does not have the data key cannot tell it from random, and it follows from a salt that
/// was drawn for this process alone.
fn following_salt(data_key: &Prk, salt: &Salt) -> Salt {
    let mut following = [0; SALT_BYTES];
    let purpose: [&[u8]; 2] = [b"weir salt ", salt];
    let output = data_key.expand(&purpose, Bytes16);
    output.expect("16 bytes").fill(&mut following).expect("16 bytes");
    following
}

struct Bytes16;

impl ring::hkdf::KeyType for Bytes16 {
    fn len(&self) -> usize {
        SALT_BYTES
    }
}

/// The number, behind four zeros.
fn nonce(number: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_le_bytes());
    nonce
}
