//! The journal: one log on disk that every group of this server shares.
//!
//! A group is a Raft log or the log of an unreplicated stream: entries with contiguous indexes, and a few
//! small values (vote, committed). All groups append to the same sequence of preallocated files, one writer
//! thread takes what is queued, writes it with one write and one fdatasync, and completes all of it: the
//! fsync in flight collects the next batch. Callers see their own changes at once, durable is what `done`
//! reports. A failed write or fsync stops the journal for good: what the kernel kept of it is unknown. Where there is
//! no room for its next file it waits, with all that is queued, and goes on once there is (`Shortage`).
//!
//! Recovery reads the files in use. What lies behind the last position known durable and does not check out
//! is a torn tail: discarded, and said so. What lies before it is damage: reported with the entries it
//! hits, kept apart as unreadable, never dropped. Not here: what entries mean, and when to checkpoint.

mod files;
mod group;
pub(crate) mod inspect;
#[cfg(feature = "test-util")]
pub(crate) mod probe;
mod queue;
mod record;
mod recover;
mod scan;
#[cfg(test)]
mod tests;
mod writer;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::disk::{Disk, RealDisk};
use crate::error::StorageError;
use group::{MISSING, Source};
use queue::{Operation, Shared};
use record::record_bytes;
use writer::Writer;

/// Names a log. Never reused for another purpose while the journal knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u64);

/// One entry of a group's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    pub index: u64,
    pub term: u64,
    pub payload: Bytes,
}

/// Called on the journal's thread; must not block. An error means: not known to be durable.
pub type Done = Box<dyn FnOnce(Result<(), StorageError>) + Send>;

/// When appended bytes are made durable before `done`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Every batch (group commit).
    #[default]
    Always,
    /// `done` comes after the write; a power cut loses up to this much time.
    Interval(Duration),
    /// Left to the operating system.
    Never,
}

/// Settings of a journal.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// Bytes of one file; at least 16 KiB, at most 1 GiB.
    pub file_size_bytes: u64,
    pub sync: SyncPolicy,
    /// Bytes written at once.
    pub max_batch_bytes: usize,
    /// Bytes of recent payloads kept in memory, over all groups.
    pub cache_bytes: usize,
    /// `is_congested` is true above this many queued bytes.
    pub high_water_bytes: usize,
    /// With more files in use than this, entries of groups that pin the oldest file are moved forward.
    pub max_live_files: usize,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            file_size_bytes: 64 << 20,
            sync: SyncPolicy::Always,
            max_batch_bytes: 8 << 20,
            cache_bytes: 64 << 20,
            high_water_bytes: 64 << 20,
            max_live_files: 8,
        }
    }
}

/// Largest payload of an entry.
pub const MAX_ENTRY_BYTES: usize = 256 << 20;
/// The value of a group that holds why it is not to be built on; keys of owners are lower.
const DOUBT_KEY: u8 = u8::MAX;
/// Largest value of `put_state`.
pub const MAX_STATE_BYTES: usize = 64 << 10;

/// The entries a log holds. `first > last` when it holds none; the next index then is `first`, or free to
/// choose when nothing was ever appended or purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRange {
    /// Entries up to here were purged; 0 when none.
    pub purged_to: u64,
    pub first: u64,
    pub last: u64,
}

impl LogRange {
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.first > self.last
    }
}

/// What opening found.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// Groups that have entries or values.
    pub groups: Vec<GroupId>,
    /// A write was cut off by a crash; what was discarded had not been acknowledged.
    pub torn_tail: Option<TornTail>,
    /// Damage below the durable position.
    pub damages: Vec<Damage>,
    /// Entries that must be there and cannot be read.
    pub unreadable: Vec<(GroupId, Range<u64>)>,
    /// Groups that lost a value of `put_state` to damage (a vote may be older than it should be).
    pub suspects: Vec<GroupId>,
    /// Why entries that were written last may be gone, of any group: the newest file was cut off, or is unreadable
    /// as a whole. All groups are suspects then.
    pub tail_lost: Option<String>,
    pub files: usize,
    pub bytes_read: u64,
}

/// Where a torn write was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    pub path: PathBuf,
    pub offset: u64,
}

/// Bytes that do not check out although they were durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub path: PathBuf,
    pub offset: u64,
    pub length: u64,
    pub reason: String,
}

/// A group that keeps the oldest file from being recycled; its owner should checkpoint and purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Laggard {
    pub group: GroupId,
    /// Live entries in the oldest file, and their bytes.
    pub entries: u64,
    pub bytes: u64,
}

/// What the journal has no room for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// What the operating system refused, with the path.
    pub reason: Arc<str>,
    /// Nothing is written until there is room: what is queued waits. Otherwise there still is a part of a file.
    pub is_waiting: bool,
}

/// Counters since the start, and gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalStats {
    pub fsyncs: u64,
    pub batches: u64,
    pub requests: u64,
    pub entries: u64,
    /// Bytes written, with headers and padding.
    pub bytes: u64,
    /// Bytes rewritten to free old files.
    pub bytes_moved: u64,
    pub files_recycled: u64,
    pub files_in_use: usize,
    pub queued_bytes: usize,
    pub cached_bytes: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    fsyncs: AtomicU64,
    batches: AtomicU64,
    requests: AtomicU64,
    entries: AtomicU64,
    bytes: AtomicU64,
    bytes_moved: AtomicU64,
    files_recycled: AtomicU64,
    cached_bytes: AtomicU64,
}

/// The journal. Clones share it; the last one to go writes what is queued and closes the files.
#[derive(Clone, Debug)]
pub struct Journal {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Tests drive the writer themselves, so that batches are the same at every run.
    #[cfg(any(test, feature = "test-util"))]
    manual: Option<Mutex<Writer>>,
}

impl Journal {
    /// Opens the journal in a directory, or makes one. Refuses files of other programs and versions.
    pub fn open(directory: &Path, options: JournalOptions) -> Result<(Self, Recovery), StorageError> {
        Self::open_on(Arc::new(RealDisk), directory, options)
    }

    /// `open` on a given disk.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        directory: &Path,
        options: JournalOptions,
    ) -> Result<(Self, Recovery), StorageError> {
        let (mut writer, shared, recovery) = recover::open(disk, directory, options, true)?;
        let thread = std::thread::Builder::new()
            .name("weir-journal".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || run_writer(&mut writer, &shared)
            })
            .map_err(|error| StorageError::io("start the writer thread of", directory, error))?;
        let handle = Handle {
            shared,
            thread: Mutex::new(Some(thread)),
            #[cfg(any(test, feature = "test-util"))]
            manual: None,
        };
        Ok((Self { handle: Arc::new(handle) }, recovery))
    }

    /// A journal whose batches are made by `pump`, not by a thread.
    #[cfg(any(test, feature = "test-util"))]
    pub fn open_manual(
        disk: Arc<dyn Disk>,
        directory: &Path,
        options: JournalOptions,
    ) -> Result<(Self, Recovery), StorageError> {
        let (writer, shared, recovery) = recover::open(disk, directory, options, false)?;
        let handle = Handle { shared, thread: Mutex::new(None), manual: Some(Mutex::new(writer)) };
        Ok((Self { handle: Arc::new(handle) }, recovery))
    }

    /// Processes one batch of what is queued; false when nothing is.
    #[cfg(any(test, feature = "test-util"))]
    pub fn pump(&self) -> bool {
        let Some(manual) = &self.handle.manual else { return false };
        if manual.lock().is_waiting() {
            manual.lock().retry();
            return !manual.lock().is_waiting();
        }
        match self.shared().take(Some(Duration::ZERO)) {
            queue::Taken::Batch(batch) => {
                manual.lock().process(batch);
                true
            }
            _ => {
                manual.lock().idle();
                false
            }
        }
    }

    fn shared(&self) -> &Shared {
        &self.handle.shared
    }

    /// Appends entries that continue the group's log. Returns at once; the entries are readable from now
    /// on and durable when `done` says so. Never blocks: callers hold back while `is_congested`.
    pub fn append(&self, group: GroupId, entries: Vec<JournalEntry>, done: Done) {
        self.append_entries(group, entries, true, done);
    }

    /// `append` of entries that nobody reads back before the next start: their payloads leave memory once they are
    /// written.
    pub fn append_unread(&self, group: GroupId, entries: Vec<JournalEntry>, done: Done) {
        self.append_entries(group, entries, false, done);
    }

    fn append_entries(&self, group: GroupId, entries: Vec<JournalEntry>, cached: bool, done: Done) {
        if let Some(entry) = entries.iter().find(|entry| entry.payload.len() > MAX_ENTRY_BYTES) {
            let error = StorageError::TooLarge {
                what: "journal entry",
                size: entry.payload.len() as u64,
                limit: MAX_ENTRY_BYTES as u64,
            };
            return self.submit(group, done, |_, _| Operation::Reject(error));
        }
        self.submit(group, done, |id, log| match log.push(id, &entries) {
            Ok(ticket) => Operation::Append { entries, ticket, cached },
            Err(error) => Operation::Reject(error),
        });
    }

    /// Removes the group's entries after `index` (a conflict with the leader's log).
    pub fn truncate_after(&self, group: GroupId, index: u64, done: Done) {
        self.submit(group, done, |_, log| {
            let mut released = group::Released::new();
            log.truncate_after(index, &mut released);
            Operation::Truncate { index, released }
        });
    }

    /// Removes the group's entries up to and including `index`: a checkpoint or snapshot covers them. An
    /// index behind the log's end moves the log there (an installed snapshot).
    pub fn purge_to(&self, group: GroupId, index: u64, done: Done) {
        self.submit(group, done, |_, log| {
            let mut released = group::Released::new();
            log.purge_to(index, &mut released);
            Operation::Purge { index, released }
        });
    }

    /// Takes the payloads of the entries up to `index` out of memory, as far as they are on disk: whoever needs them
    /// again reads them there.
    pub fn forget_payloads(&self, group: GroupId, index: u64) {
        if let Some(group) = self.shared().find(group) {
            group.log.lock().forget_payload(index);
        }
    }

    /// Sets a small value of the group; at most `MAX_STATE_BYTES`.
    pub fn put_state(&self, group: GroupId, key: u8, value: Bytes, done: Done) {
        self.submit(group, done, |_, log| {
            if value.len() > MAX_STATE_BYTES {
                return Operation::Reject(StorageError::TooLarge {
                    what: "journal state value",
                    size: value.len() as u64,
                    limit: MAX_STATE_BYTES as u64,
                });
            }
            log.put_state(key, value.clone());
            Operation::PutState { key, value }
        });
    }

    /// The value last put, whether durable yet or not.
    #[must_use]
    pub fn get_state(&self, group: GroupId, key: u8) -> Option<Bytes> {
        self.shared().find(group)?.log.lock().state(key)
    }

    /// The values last put, by key; what the journal keeps for itself is not among them.
    #[must_use]
    pub fn states(&self, group: GroupId) -> Vec<(u8, Bytes)> {
        let states = self.shared().find(group).map(|group| group.log.lock().states());
        states.into_iter().flatten().filter(|(key, _)| *key != DOUBT_KEY).collect()
    }

    /// The entries of a group, those on their way to the disk included.
    #[must_use]
    pub fn log_range(&self, group: GroupId) -> LogRange {
        self.shared()
            .find(group)
            .map_or(LogRange { purged_to: 0, first: 1, last: 0 }, |group| group.log.lock().range())
    }

    /// The term of an entry that is in the log.
    #[must_use]
    pub fn term_at(&self, group: GroupId, index: u64) -> Option<u64> {
        self.shared().find(group)?.log.lock().term(index)
    }

    /// Groups that exist, in order.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupId> {
        self.shared().group_ids()
    }

    /// Entries that must be there and cannot be read: repair them from a peer.
    #[must_use]
    pub fn unreadable(&self, group: GroupId) -> Vec<Range<u64>> {
        self.shared().find(group).map_or_else(Vec::new, |group| group.log.lock().missing())
    }

    /// Why the group's log may lack what was promised or hold what cannot be read; nothing when it is whole. Such a
    /// log must not be built on: a replica gets its data from its peers, an unreplicated log goes no further.
    #[must_use]
    pub fn doubt(&self, group: GroupId) -> Option<String> {
        if let Some(reason) = self.shared().doubt_of(group) {
            return Some(reason);
        }
        let first = self.unreadable(group).into_iter().next()?;
        Some(format!("entries {} to {} of its log are unreadable", first.start, first.end - 1))
    }

    /// Says that groups from this one on were never used before: where damage may have taken whole groups with it,
    /// they are not in doubt.
    pub fn set_new_from(&self, group: GroupId) {
        self.shared().set_new_from(group);
    }

    /// Notes from outside that a group is not to be built on, until it is dropped; survives restarts.
    pub fn set_doubt(&self, group: GroupId, reason: &str) {
        self.shared().doubt(&[group], reason);
        if self.get_state(group, DOUBT_KEY).is_none() {
            let done = Box::new(move |result: Result<(), StorageError>| {
                if let Err(error) = result {
                    tracing::warn!("journal group {}: noting that it is in doubt: {error}", group.0);
                }
            });
            self.put_state(group, DOUBT_KEY, Bytes::from(reason.to_owned()), done);
        }
    }

    /// Reads `from..to` (exclusive): as many entries as fit `max_bytes` of payload, at least one if there
    /// is one. Empty when `from` is behind the end. Stops before an unreadable entry; fails on it when it
    /// is the first.
    pub fn read(
        &self,
        group: GroupId,
        from: u64,
        to: u64,
        max_bytes: usize,
    ) -> Result<Vec<JournalEntry>, StorageError> {
        /// A file may be recycled between the lookup and the read; its entries then have moved.
        const ATTEMPTS: usize = 3;
        let mut result = Ok(Vec::new());
        for _ in 0..ATTEMPTS {
            result = self.try_read(group, from, to, max_bytes);
            if !matches!(result, Err(StorageError::Unreadable { .. })) {
                break;
            }
        }
        result
    }

    fn try_read(
        &self,
        id: GroupId,
        from: u64,
        to: u64,
        max_bytes: usize,
    ) -> Result<Vec<JournalEntry>, StorageError> {
        let Some(group) = self.shared().find(id) else { return Ok(Vec::new()) };
        let sources = {
            let log = group.log.lock();
            let range = log.range();
            if from < range.first && from < to {
                let (first, last) = (range.first, range.last);
                return Err(StorageError::NotInLog { group: id, index: from, first, last });
            }
            log.sources(from, to, max_bytes)
        };
        let mut entries = Vec::with_capacity(sources.len());
        let mut window = files::Window::default();
        for source in sources {
            let entry = match source {
                Source::Memory(entry) => Some(entry),
                Source::Disk { slot, .. } if slot.generation == MISSING => None,
                Source::Disk { index, slot } => self.shared().read_entry(id, index, slot, &mut window)?,
            };
            match entry {
                Some(entry) => entries.push(entry),
                None if entries.is_empty() => {
                    return Err(StorageError::Unreadable { group: id, index: from });
                }
                None => break,
            }
        }
        Ok(entries)
    }

    /// Removes a group with everything it has. Its id may be used again at once.
    pub fn drop_group(&self, group: GroupId, done: Done) {
        self.shared().forget_doubt(group);
        let held = self.shared().find_or_make(group);
        let mut log = held.log.lock();
        let released = log.clear();
        self.shared().enqueue(Arc::clone(&held), Operation::Drop { released }, done);
        // Under the group's lock: whoever makes the group anew queues behind this.
        self.shared().remove_exact(&held);
    }

    /// Bytes that wait to be written.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.shared().queued_bytes()
    }

    /// True while more waits than the high water mark: callers should hold back.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        self.queued_bytes() > self.shared().options.high_water_bytes
    }

    /// Why the journal has stopped, if it has.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<str>> {
        self.shared().failure()
    }

    /// What there is no room for, while the disk is full. The journal goes on by itself once there is.
    #[must_use]
    pub fn shortage(&self) -> Option<Shortage> {
        self.shared().shortage()
    }

    /// Groups that pin the oldest file, heaviest first; none while few files are in use.
    #[must_use]
    pub fn laggards(&self) -> Vec<Laggard> {
        self.shared().laggards()
    }

    /// Whether this group is one of the `laggards`; cheaper than asking for all of them.
    #[must_use]
    pub fn laggard(&self, group: GroupId) -> Option<Laggard> {
        self.shared().laggard(group)
    }

    #[must_use]
    pub fn stats(&self) -> JournalStats {
        let shared = self.shared();
        let counters = &shared.counters;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        JournalStats {
            fsyncs: load(&counters.fsyncs),
            batches: load(&counters.batches),
            requests: load(&counters.requests),
            entries: load(&counters.entries),
            bytes: load(&counters.bytes),
            bytes_moved: load(&counters.bytes_moved),
            files_recycled: load(&counters.files_recycled),
            files_in_use: shared.files.read().len(),
            queued_bytes: shared.queued_bytes(),
            cached_bytes: load(&counters.cached_bytes),
        }
    }

    /// Writes what is queued, notes which files are still needed, and stops: nothing more is accepted. Blocks until it is
    /// done. Dropping the last handle does the same.
    pub fn close(&self) {
        self.handle.close();
    }

    /// Changes the group's view and queues the operation, in one step for the order of the group.
    fn submit(
        &self,
        id: GroupId,
        done: Done,
        change: impl FnOnce(GroupId, &mut group::GroupLog) -> Operation,
    ) {
        loop {
            let group = self.shared().find_or_make(id);
            let mut log = group.log.lock();
            if log.is_dropped() {
                continue;
            }
            let operation = change(id, &mut log);
            self.shared().enqueue(Arc::clone(&group), operation, done);
            return;
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

impl Handle {
    fn close(&self) {
        self.shared.close();
        if let Some(thread) = self.thread.lock().take() {
            // The last handle may live in a callback, on the writer's own thread.
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                tracing::error!("the journal's writer thread panicked");
            }
        }
    }
}

fn run_writer(writer: &mut Writer, shared: &Shared) {
    let run = std::panic::AssertUnwindSafe(|| writer.run());
    if std::panic::catch_unwind(run).is_err() {
        shared.abandon("its writer thread panicked");
    }
}

/// Bytes an entry takes on disk.
pub(crate) fn entry_bytes(entry: &JournalEntry) -> usize {
    record_bytes(entry.payload.len())
}
