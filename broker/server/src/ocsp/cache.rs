//! Answers about the certificates of peers, in memory and, now and then, in a file that nats-server could go on with.
//! Not what is made of them.

use std::{
    collections::BTreeMap,
    fs, io,
    io::{Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tracing::{debug, error, warn};
use weir_conf::OcspCache;
use weir_monitor::OcspPeerCache;
use weir_net::ocsp::{Response, Status};

use super::moment;
use crate::{io_reason, monitoring};

const FILE: &str = "cache.json";
/// Answers beyond this many are not kept.
const MAX_ITEMS: usize = 16 * 1024;
/// A larger file is none of ours.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// A larger answer is none of ours.
const MAX_ANSWER_BYTES: u64 = 1024 * 1024;

/// Answers by the digests of their certificates.
pub(crate) struct ResponseCache {
    /// `None`: nothing is kept.
    file: Option<Local>,
    state: Mutex<State>,
}

struct Local {
    directory: PathBuf,
    preserve_revoked: bool,
    save_interval: Duration,
}

#[derive(Default)]
struct State {
    items: BTreeMap<String, Item>,
    hits: i64,
    misses: i64,
    is_online: bool,
    is_dirty: bool,
}

#[derive(Clone, Serialize, Deserialize)]
struct Item {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    subject: String,
    cached_at: String,
    resp_status: String,
    resp_expires: String,
    /// Compressed (an S2 stream), base64.
    resp: String,
}

impl Item {
    fn is(&self, status: Status) -> bool {
        match status {
            Status::Unknown => !matches!(self.resp_status.as_str(), "good" | "revoked"),
            known => self.resp_status == known.to_string(),
        }
    }
}

impl ResponseCache {
    pub(super) fn new(options: &OcspCache) -> Self {
        let file = match options {
            OcspCache::None => None,
            OcspCache::Local { local_store, preserve_revoked, save_interval } => Some(Local {
                directory: local_store.clone(),
                preserve_revoked: *preserve_revoked,
                save_interval: *save_interval,
            }),
        };
        Self { file, state: Mutex::default() }
    }

    /// Its type, as the configuration writes it.
    pub(super) fn kind(&self) -> &'static str {
        if self.file.is_some() { "local" } else { "none" }
    }

    /// Loads what was saved.
    pub(super) fn start(&self) {
        let Some(local) = &self.file else { return };
        debug!("Starting OCSP peer cache");
        let path = absolute(&local.directory.join(FILE));
        debug!("Loading OCSP peer cache [{}]", path.display());
        let mut state = self.state.lock();
        match load(&path) {
            Ok(Some(items)) => state.items = items,
            Ok(None) => debug!("No OCSP peer cache found, starting with empty cache"),
            Err(problem) => {
                warn!("Unable to load OCSP peer cache: {problem}");
                state.is_dirty = true;
            }
        }
        state.is_online = true;
    }

    /// Saves it from time to time.
    pub(super) fn keep_saved(self: &Arc<Self>) -> Option<JoinHandle<()>> {
        let interval = self.file.as_ref()?.save_interval;
        let cache = Arc::clone(self);
        Some(tokio::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                debug!("OCSP peer cache save timer expired");
                let cache = Arc::clone(&cache);
                // A failure is in the log.
                let _ = tokio::task::spawn_blocking(move || cache.save()).await;
            }
        }))
    }

    /// Saves it and keeps nothing any more.
    pub(super) fn stop(&self) {
        if self.file.is_none() {
            return;
        }
        debug!("Stopping OCSP peer cache");
        self.state.lock().is_online = false;
        self.save();
    }

    /// The answer that was kept, if it can be read.
    pub(super) fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.file.as_ref()?;
        let mut state = self.state.lock();
        if !state.is_online {
            return None;
        }
        let Some(kept) = state.items.get(key).map(|item| item.resp.clone()) else {
            state.misses += 1;
            debug!("OCSP peer cache miss for key [{key}]");
            return None;
        };
        state.hits += 1;
        drop(state);
        debug!("OCSP peer cache hit for key [{key}]");
        expand(&kept)
            .inspect_err(|problem| error!("Unable to decompress OCSP response for key [{key}]: {problem}"))
            .ok()
    }

    /// Keeps an answer.
    pub(super) fn put(&self, key: &str, subject: &str, raw: &[u8], response: &Response) {
        if self.file.is_none() || !self.state.lock().is_online {
            return;
        }
        debug!("Caching OCSP response for [{subject}], key [{key}]");
        let compressed = match compress(raw) {
            Ok(compressed) => compressed,
            Err(problem) => return error!("Unable to compress OCSP response for key [{key}]: {problem}"),
        };
        let bytes = |count: usize| u32::try_from(count).map_or(f64::MAX, f64::from);
        debug!("OCSP response compression ratio: [{:.6}]", bytes(compressed.len()) / bytes(raw.len()));
        let now = u64::try_from(monitoring::now().unix_nanos().unwrap_or(0)).unwrap_or(0);
        let item = Item {
            subject: subject.to_owned(),
            cached_at: moment(Some((now + 500_000_000) / 1_000_000_000)),
            resp_status: response.status.to_string(),
            resp_expires: moment(response.next_update),
            resp: BASE64.encode(compressed),
        };
        let mut state = self.state.lock();
        if state.items.len() < MAX_ITEMS || state.items.contains_key(key) {
            state.items.insert(key.to_owned(), item);
            state.is_dirty = true;
        }
    }

    /// Forgets an answer that was of no use, so that it was no hit; revocations may have to stay.
    pub(super) fn delete(&self, key: &str) {
        let Some(local) = &self.file else { return };
        let mut state = self.state.lock();
        let Some(item) = state.items.get(key).filter(|_| state.is_online) else { return };
        if item.is(Status::Revoked) && local.preserve_revoked {
            debug!("Revoked OCSP response for key [{key}] preserved by cache policy");
        } else {
            debug!("Deleting OCSP peer cached response for key [{key}]");
            state.items.remove(key);
            state.is_dirty = true;
        }
        state.misses += 1;
        state.hits -= 1;
    }

    /// What `/varz` shows; nothing where nothing is kept.
    pub(crate) fn figures(&self) -> Option<OcspPeerCache> {
        self.file.as_ref()?;
        let state = self.state.lock();
        let count = |status| state.items.values().filter(|item| item.is(status)).count() as u64;
        Some(OcspPeerCache {
            cache_type: "local",
            hits: state.hits,
            misses: state.misses,
            responses: state.items.len() as u64,
            revoked: count(Status::Revoked),
            good: count(Status::Good),
            unknown: count(Status::Unknown),
        })
    }

    fn save(&self) {
        let Some(local) = &self.file else { return };
        let items = {
            let mut state = self.state.lock();
            if !std::mem::replace(&mut state.is_dirty, false) {
                return;
            }
            state.items.clone()
        };
        debug!("OCSP peer cache is dirty, saving");
        debug!("Saving OCSP peer cache [{}]", absolute(&local.directory.join(FILE)).display());
        match save(&local.directory, &items) {
            Ok(size) => debug!("Saved OCSP peer cache successfully ({size} bytes)"),
            Err(problem) => {
                error!("Unable to save OCSP peer cache: {}", io_reason(&problem));
                self.state.lock().is_dirty = true;
            }
        }
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn load(path: &Path) -> Result<Option<BTreeMap<String, Item>>, String> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("open {}: {}", path.display(), io_reason(&error))),
    };
    let mut text = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut text).map_err(|error| io_reason(&error))?;
    let mut items: BTreeMap<_, _> = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    while items.len() > MAX_ITEMS {
        items.pop_last();
    }
    Ok(Some(items))
}

/// Puts the file in place at once, and says how large it is.
fn save(directory: &Path, items: &BTreeMap<String, Item>) -> io::Result<usize> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b" ");
    items.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))?;
    if !directory.exists() {
        fs::DirBuilder::new().mode(0o750).create(directory)?;
    }
    let temporary = directory.join(format!("ocsprc-{}", std::process::id()));
    let write = || -> io::Result<()> {
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, directory.join(FILE))
    };
    // What is left of a failed attempt is of no use.
    write().inspect_err(|_| drop(fs::remove_file(&temporary)))?;
    Ok(text.len())
}

fn compress(raw: &[u8]) -> io::Result<Vec<u8>> {
    let mut writer = minlz::s2::Writer::new(Vec::new());
    writer.write_all(raw)?;
    writer.flush()?;
    Ok(writer.get_ref().clone())
}

fn expand(kept: &str) -> Result<Vec<u8>, String> {
    let compressed = BASE64.decode(kept).map_err(|error| error.to_string())?;
    let mut raw = Vec::new();
    let reader = minlz::s2::Reader::new(compressed.as_slice());
    reader.take(MAX_ANSWER_BYTES).read_to_end(&mut raw).map_err(|error| error.to_string())?;
    Ok(raw)
}
