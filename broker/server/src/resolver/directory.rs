//! A folder of account JWTs: `<ACCOUNT>.jwt`, each written whole or not at all. Not who asks for them.

use std::{
    collections::HashMap,
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use weir_auth::{jwt, nkey::is_any_public};

const EXTENSION: &str = "jwt";
/// A file larger than that is no JWT.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// What deleting does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deletion {
    /// It is refused.
    Refused,
    /// The file gets another name.
    Renamed,
    /// The file is removed.
    Removed,
}

/// What is known of one file.
struct Entry {
    hash: [u8; 32],
    /// Seconds since 1970.
    expires: Option<i64>,
    /// Grows with every use.
    used: u64,
}

/// The folder and what is in it.
pub(super) struct Directory {
    path: PathBuf,
    deletion: Deletion,
    limit: usize,
    /// At the limit the least used is removed; else new accounts are refused.
    evicts: bool,
    /// How long a file is kept after its last use; `None`: until its JWT expires.
    ttl: Option<Duration>,
    entries: HashMap<String, Entry>,
    hash: [u8; 32],
    uses: u64,
}

impl Directory {
    /// Opens the folder, and makes it if it is not there.
    pub(super) fn open(
        path: &Path,
        deletion: Deletion,
        limit: usize,
        ttl: Option<Option<Duration>>,
        now: i64,
    ) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let mut directory = Self {
            path: fs::canonicalize(path)?,
            deletion,
            limit,
            evicts: ttl.is_some(),
            ttl: ttl.flatten(),
            entries: HashMap::new(),
            hash: [0; 32],
            uses: 0,
        };
        directory.index(now)?;
        Ok(directory)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A hash over all JWTs: equal folders have equal ones.
    pub(super) fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// Reads the folder again; returns the keys whose JWT is another one now.
    pub(super) fn index(&mut self, now: i64) -> io::Result<Vec<String>> {
        let before = std::mem::take(&mut self.entries);
        self.hash = [0; 32];
        let mut changed = Vec::new();
        for file in fs::read_dir(&self.path)? {
            let path = file?.path();
            if path.extension().is_none_or(|extension| extension != EXTENSION) {
                continue;
            }
            let Some(key) = path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned) else {
                continue;
            };
            let Ok(Some(token)) = read(&path) else { continue };
            self.track(&key, &token, now);
            let is_same = |entry: &Entry| self.entries.get(&key).is_some_and(|new| new.hash == entry.hash);
            if !before.get(&key).is_some_and(is_same) && (before.contains_key(&key) || self.evicts) {
                changed.push(key);
            }
        }
        Ok(changed)
    }

    fn file_of(&self, key: &str) -> Option<PathBuf> {
        is_any_public(key).then(|| self.path.join(key).with_extension(EXTENSION))
    }

    /// The JWT of that account; `None` when there is none.
    pub(super) fn load(&mut self, key: &str, now: i64) -> Result<Option<String>, String> {
        let file = self.file_of(key).ok_or("invalid public key")?;
        let token = read(&file).map_err(|error| error.to_string())?;
        self.touch(key, now);
        Ok(token)
    }

    fn touch(&mut self, key: &str, now: i64) {
        self.uses += 1;
        let expires = self.ttl.map(|ttl| after(now, ttl));
        if let Some(entry) = self.entries.get_mut(key) {
            entry.used = self.uses;
            if expires.is_some() {
                entry.expires = expires;
            }
        }
    }

    /// Keeps a JWT; true when it is another than before.
    pub(super) fn save(&mut self, key: &str, token: &str, now: i64) -> Result<bool, String> {
        let file = self.file_of(key).ok_or("invalid public key")?;
        if token.is_empty() {
            return Err("invalid JWT".to_owned());
        }
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        match self.entries.get(key) {
            Some(entry) if entry.hash == hash => {
                self.touch(key, now);
                return Ok(false);
            }
            Some(_) => {}
            None if self.entries.len() >= self.limit => {
                if !self.evicts {
                    return Err("jwt store is full".to_owned());
                }
                self.evict().map_err(|error| error.to_string())?;
            }
            None => {}
        }
        self.write(&file, token).map_err(|error| error.to_string())?;
        self.track(key, token, now);
        Ok(true)
    }

    /// Keeps a JWT unless the one that is there is newer; true when it was kept.
    pub(super) fn save_if_newer(&mut self, key: &str, token: &str, now: i64) -> Result<bool, String> {
        let file = self.file_of(key).ok_or("invalid public key")?;
        if let Some(existing) = read(&file).map_err(|error| error.to_string())? {
            let new = jwt::decode_generic(token).map_err(|error| error.to_string())?;
            if let Ok(existing) = jwt::decode_generic(&existing) {
                if existing.id == new.id || existing.issued_at > new.issued_at {
                    return Ok(false);
                }
                if new.subject != key {
                    return Err("jwt subject nkey and provided nkey do not match".to_owned());
                }
                if existing.subject != new.subject {
                    return Err("subject of existing and new jwt do not match".to_owned());
                }
            }
        }
        self.save(key, token, now)
    }

    /// A reader sees the old file or the new one, also after a crash.
    fn write(&self, file: &Path, token: &str) -> io::Result<()> {
        let unfinished = file.with_extension("new");
        let mut opened = fs::File::create(&unfinished)?;
        opened.write_all(token.as_bytes())?;
        opened.sync_all()?;
        fs::rename(&unfinished, file)?;
        fs::File::open(&self.path)?.sync_all()
    }

    /// Deletes an account's JWT; true when there was one.
    pub(super) fn delete(&mut self, key: &str) -> Result<bool, String> {
        if self.deletion == Deletion::Refused {
            return Err("store is not set up to for delete".to_owned());
        }
        let file = self.file_of(key).ok_or("invalid public key")?;
        let done = match self.deletion {
            Deletion::Renamed => fs::rename(&file, file.with_extension("jwt.deleted")),
            _ => fs::remove_file(&file),
        };
        match done {
            Ok(()) => {
                self.untrack(key);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.to_string()),
        }
    }

    pub(super) fn deletion(&self) -> Deletion {
        self.deletion
    }

    fn evict(&mut self) -> io::Result<()> {
        let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone());
        match oldest {
            Some(key) => self.discard(&key),
            None => Ok(()),
        }
    }

    fn discard(&mut self, key: &str) -> io::Result<()> {
        if let Some(file) = self.file_of(key) {
            fs::remove_file(file)?;
        }
        self.untrack(key);
        Ok(())
    }

    /// Removes what has expired.
    pub(super) fn expire(&mut self, now: i64) {
        let is_over = |entry: &Entry| entry.expires.is_some_and(|expires| expires <= now);
        let over: Vec<String> =
            self.entries.iter().filter(|(_, entry)| is_over(entry)).map(|(key, _)| key.clone()).collect();
        for key in over {
            // What cannot be removed now is tried again at the next turn.
            let _ = self.discard(&key);
        }
    }

    /// All keys.
    pub(super) fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.entries.keys().cloned().collect();
        keys.sort();
        keys
    }

    /// A JWT for another server; `None` when it is gone or has expired.
    pub(super) fn packed(&self, key: &str, now: i64) -> Option<String> {
        let token = read(&self.file_of(key)?).ok()??;
        let is_over =
            jwt::decode_generic(&token).is_ok_and(|claims| claims.expires > 0 && claims.expires < now);
        (!is_over && !token.is_empty()).then(|| format!("{key}|{token}"))
    }

    fn track(&mut self, key: &str, token: &str, now: i64) {
        self.untrack(key);
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let expires = match self.ttl {
            Some(ttl) => Some(after(now, ttl)),
            None if self.evicts => None,
            None => {
                jwt::decode_generic(token).ok().map(|claims| claims.expires).filter(|expires| *expires > 0)
            }
        };
        self.uses += 1;
        self.mix(&hash);
        self.entries.insert(key.to_owned(), Entry { hash, expires, used: self.uses });
    }

    fn untrack(&mut self, key: &str) {
        if let Some(entry) = self.entries.remove(key) {
            self.mix(&entry.hash);
        }
    }

    fn mix(&mut self, hash: &[u8; 32]) {
        self.hash.iter_mut().zip(hash).for_each(|(own, other)| *own ^= other);
    }
}

fn after(now: i64, ttl: Duration) -> i64 {
    now.saturating_add(i64::try_from(ttl.as_secs().max(1)).unwrap_or(i64::MAX))
}

/// A file's text; `None` when there is no such file.
fn read(file: &Path) -> io::Result<Option<String>> {
    match fs::metadata(file) {
        Ok(metadata) if metadata.len() > MAX_FILE_BYTES => Err(io::Error::other("file is too large")),
        Ok(_) => fs::read_to_string(file).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
