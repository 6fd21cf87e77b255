//! A server's streams without network and tasks: opened, replayed, applied and removed by the code that the real one
//! uses. Not a test itself.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use weir_jetstream::meta::{META_GROUP, StreamAssignment};
use weir_jetstream::{Lookup, Store, StoreState};
use weir_stdx::rng::SeededRng;
use weir_stdx::time::UnixNanos;
use weir_storage::disk::Disk;
use weir_storage::disk::sim::SimDisk;
use weir_storage::{
    Cipher, EncryptionOptions, FileStoreOptions, GroupId, Journal, JournalOptions, NodeIdentity, Recovery,
    StoreKey, SyncPolicy, Trash, vault,
};

use crate::identity::{self, Mode};
use crate::meta::state::MetaState;
use crate::replicated::{LogEntry, Replicated, StateMachine};
use crate::replicator::known::Known;
use crate::replicator::local;
use crate::stream::replica;
use crate::stream::state::StreamState;

/// A journal group that holds nothing but a vote.
pub(super) const VOTE_GROUP: u64 = 3;

pub(super) struct Server {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) journal: Journal,
    pub(super) recovery: Recovery,
    pub(super) meta: Arc<Replicated<MetaState>>,
    pub(super) streams: BTreeMap<u64, Stream>,
    trash: Trash,
}

pub(super) struct Stream {
    pub(super) assignment: Arc<StreamAssignment>,
    pub(super) state: Arc<Replicated<StreamState>>,
}

pub(super) fn root() -> &'static Path {
    Path::new("/store")
}

fn journal_options() -> JournalOptions {
    JournalOptions {
        file_size_bytes: 16 << 10,
        sync: SyncPolicy::Always,
        max_batch_bytes: 6 << 10,
        cache_bytes: 4 << 10,
        high_water_bytes: 1 << 20,
        max_live_files: 3,
    }
}

pub(super) fn store_options() -> FileStoreOptions {
    FileStoreOptions {
        segment_bytes_min: 1500,
        segment_bytes_max: 4000,
        recent_bytes: 400,
        buffer_bytes: 500,
        ..FileStoreOptions::default()
    }
}

/// How encrypted stores are.
fn encryption() -> EncryptionOptions {
    let (cipher, key) = (Cipher::ChaCha20Poly1305, StoreKey::new("a key"));
    EncryptionOptions { cipher, key, previous_key: None }
}

/// What one who opens the store has to know.
pub(super) fn encryption_of(disk: &SimDisk) -> Option<EncryptionOptions> {
    vault::is_encrypted(disk, root()).then(encryption)
}

/// The disk through which an encrypted store is read; salts differ with every start, as drawn ones do.
fn opened(disk: &SimDisk) -> Result<Arc<dyn Disk>, String> {
    static STARTS: AtomicU64 = AtomicU64::new(1);
    let mut rng = SeededRng::new(STARTS.fetch_add(1, Ordering::Relaxed));
    let options = encryption();
    let mut random = |bytes: &mut [u8]| {
        rng.fill(bytes);
        true
    };
    vault::open_store_with(Arc::new(disk.clone()), root(), Some(&options), &mut random).map_err(text)
}

impl Server {
    /// Makes the store on an empty disk an encrypted one: every start finds that out by itself.
    pub(super) fn encrypt(disk: &SimDisk) -> Result<(), String> {
        opened(disk).map(drop)
    }

    /// What a server does at its start, up to the point where it would serve clients.
    pub(super) fn start(disk: &SimDisk) -> Result<Self, String> {
        let is_encrypted = vault::is_encrypted(disk, root());
        let disk = if is_encrypted { opened(disk)? } else { Arc::new(disk.clone()) };
        identity::claim(&*disk, root(), Mode::Standalone)?;
        NodeIdentity::load_or_create_on(&*disk, root(), &mut SeededRng::new(7)).map_err(text)?;
        let (journal, recovery) =
            Journal::open_manual(Arc::clone(&disk), &root().join("journal"), journal_options())
                .map_err(text)?;
        let meta = MetaState::open(Arc::clone(&disk), root().join("meta").join("checkpoint"))?;
        let meta = Replicated::new(meta, 1);
        local::replay(&journal, GroupId(META_GROUP), &meta)?;
        journal.set_new_from(GroupId(meta.lock().machine().next_group()));
        let trash = Trash::open_on(Arc::clone(&disk), &root().join("trash")).map_err(text)?;
        let mut server = Self { disk, journal, recovery, meta, streams: BTreeMap::new(), trash };
        server.reconcile()?;
        Ok(server)
    }

    /// Makes the streams here those of the meta state.
    pub(super) fn reconcile(&mut self) -> Result<(), String> {
        let wanted: Vec<Arc<StreamAssignment>> = self.meta.lock().machine().streams().cloned().collect();
        let gone: Vec<u64> = self
            .streams
            .keys()
            .copied()
            .filter(|group| !wanted.iter().any(|assignment| assignment.group == *group))
            .collect();
        for group in gone {
            self.streams.remove(&group);
            self.journal.drop_group(GroupId(group), Box::new(|_| {}));
            let folder = replica::folder(root(), group);
            if self.disk.exists(&folder) {
                self.trash.discard(&folder, UnixNanos::from_secs(group)).map_err(text)?;
            }
        }
        for assignment in wanted {
            if let Some(stream) = self.streams.get_mut(&assignment.group) {
                stream.assignment = assignment;
                continue;
            }
            let stream = self
                .open_stream(&assignment)
                .map_err(|reason| format!("stream {} is refused: {reason}", assignment.name()))?;
            self.streams.insert(assignment.group, stream);
        }
        Ok(())
    }

    fn open_stream(&self, assignment: &Arc<StreamAssignment>) -> Result<Stream, String> {
        let folder = replica::folder(root(), assignment.group);
        let state = StreamState::open(&self.disk, &self.journal, &store_options(), &folder, assignment)?;
        let state = Replicated::new(state, 1);
        local::replay(&self.journal, GroupId(assignment.group), &state)?;
        Ok(Stream { assignment: Arc::clone(assignment), state })
    }

    pub(super) fn empty_trash(&self, now: UnixNanos) -> Result<(), String> {
        self.trash.empty(now, std::time::Duration::ZERO).map(drop).map_err(text)
    }

    /// Has the journal write what is queued, in one batch after the other.
    pub(super) fn pump(&self) {
        while self.journal.pump() {}
    }

    /// Index of the last entry applied.
    pub(super) fn applied(&self, group: u64) -> u64 {
        match self.streams.get(&group) {
            Some(stream) => stream.state.lock().applied().1,
            None => self.meta.lock().applied().1,
        }
    }

    /// What a log's entries tell of a group.
    pub(super) fn known(&self, group: u64) -> Known {
        let count = match self.streams.get(&group) {
            Some(stream) => stream.state.lock().count(),
            None => self.meta.lock().count(),
        };
        Known { applied: self.applied(group), count }
    }

    /// Why a group goes no further, if it does not.
    pub(super) fn failure(&self, group: u64) -> Option<String> {
        match self.streams.get(&group) {
            Some(stream) => stream.state.failure().map(str::to_owned),
            None => self.meta.failure().map(str::to_owned),
        }
    }

    /// What a stream's store counts.
    pub(super) fn counters(&self, group: u64) -> StoreState {
        self.streams[&group].state.lock().machine().store().state()
    }

    /// Every message of a stream as a line, by sequence.
    pub(super) fn messages(&self, group: u64) -> Result<BTreeMap<u64, String>, String> {
        self.messages_from(group, 0)
    }

    /// `messages` from a sequence on.
    pub(super) fn messages_from(&self, group: u64, from: u64) -> Result<BTreeMap<u64, String>, String> {
        let state = self.streams[&group].state.lock();
        let store = state.machine().store();
        let counters = store.state();
        let mut messages = BTreeMap::new();
        for seq in counters.first_seq.max(from)..=counters.last_seq {
            if let Lookup::Found(message) = store.get(seq).map_err(|error| error.to_string())? {
                messages.insert(seq, format!("{message:?}"));
            }
        }
        Ok(messages)
    }

    pub(super) fn apply(&self, group: u64, index: u64, payload: Bytes) -> Result<(), String> {
        let entry = LogEntry { term: 0, index, payload };
        let failure = match self.streams.get(&group) {
            Some(stream) => {
                stream.state.apply(vec![entry]);
                stream.state.failure().map(str::to_owned)
            }
            None => {
                self.meta.apply(vec![entry]);
                self.meta.failure().map(str::to_owned)
            }
        };
        failure.map_or(Ok(()), Err)
    }

    /// Writes a group's checkpoint and lets the log before it go.
    pub(super) fn checkpoint(&self, group: u64) -> Result<(), String> {
        let index = match self.streams.get(&group) {
            Some(stream) => stream.state.lock().checkpoint().map_err(text)?,
            None => self.meta.lock().checkpoint().map_err(text)?,
        };
        self.journal.purge_to(GroupId(group), index, Box::new(|_| {}));
        Ok(())
    }

    /// Everything that a client could ever see of a group, as a hash.
    pub(super) fn observe(&self, group: u64) -> Result<u64, String> {
        let mut hasher = DefaultHasher::new();
        let Some(stream) = self.streams.get(&group) else {
            self.meta.lock().machine().checkpoint().hash(&mut hasher);
            return Ok(hasher.finish());
        };
        let state = stream.state.lock();
        let store = state.machine().store();
        let StoreState {
            messages,
            bytes,
            first_seq,
            first_timestamp,
            last_seq,
            last_timestamp,
            num_subjects,
            num_deleted,
        } = store.state();
        let counters = [messages, bytes, first_seq, last_seq, num_subjects, num_deleted];
        (counters, first_timestamp.0, last_timestamp.0).hash(&mut hasher);
        for seq in first_seq..=last_seq {
            match store.get(seq).map_err(|error| error.to_string())? {
                Lookup::Found(message) => {
                    (message.seq, message.timestamp.0).hash(&mut hasher);
                    [&message.subject, &message.headers, &message.payload].hash(&mut hasher);
                }
                Lookup::Missing => seq.hash(&mut hasher),
                Lookup::Unreadable => return Err(format!("message {seq} is unreadable")),
            }
        }
        state.machine().checkpoint_state().hash(&mut hasher);
        Ok(hasher.finish())
    }

    /// A group in a line, for people.
    pub(super) fn describe(&self, group: u64) -> String {
        match self.streams.get(&group) {
            Some(stream) => {
                format!("{} {:?}", stream.assignment.name(), stream.state.lock().machine().store().state())
            }
            None => {
                let meta = self.meta.lock();
                let names: Vec<&str> = meta.machine().streams().map(|stream| stream.name()).collect();
                format!("streams {names:?}")
            }
        }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
