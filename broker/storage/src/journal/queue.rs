//! What callers and the writer share: the groups, the queue between them, and the files in use.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, RwLock};
use rustc_hash::FxHashMap;

use super::files::{LogFile, Window};
use super::group::{Group, GroupLog, Released, Slot};
use super::record::{Kind, RECORD_HEADER_BYTES};
use super::writer::complete;
use super::{Counters, Done, GroupId, JournalEntry, JournalOptions, Laggard, Shortage, entry_bytes};
use crate::error::StorageError;
use crate::vault::Vault;

/// What a request asks of the writer. The groups' views have changed already.
#[derive(Debug)]
pub(crate) enum Operation {
    Append {
        entries: Vec<JournalEntry>,
        ticket: u32,
        /// The payloads stay in memory for a while, for followers.
        cached: bool,
    },
    Truncate {
        index: u64,
        released: Released,
    },
    Purge {
        index: u64,
        released: Released,
    },
    PutState {
        key: u8,
        value: Bytes,
    },
    Drop {
        released: Released,
    },
    /// Refused when it was made; told on the journal's thread like everything else.
    Reject(StorageError),
}

impl Operation {
    fn bytes(&self) -> usize {
        match self {
            Self::Append { entries, .. } => entries.iter().map(entry_bytes).sum(),
            Self::PutState { value, .. } => RECORD_HEADER_BYTES + value.len(),
            _ => RECORD_HEADER_BYTES,
        }
    }
}

pub(crate) struct Request {
    pub(crate) group: Arc<Group>,
    pub(crate) operation: Operation,
    pub(crate) done: Done,
    bytes: usize,
}

#[derive(Default)]
struct Queue {
    requests: VecDeque<Request>,
    closed: bool,
}

/// What the writer found in the queue.
pub(crate) enum Taken {
    Batch(Vec<Request>),
    /// Nothing within the timeout.
    Idle,
    Closed,
}

pub(crate) struct Shared {
    pub(crate) options: JournalOptions,
    vault: Option<Arc<Vault>>,
    pub(crate) counters: Counters,
    /// The files in use, by generation.
    pub(crate) files: RwLock<BTreeMap<u32, Arc<LogFile>>>,
    groups: RwLock<FxHashMap<GroupId, Arc<Group>>>,
    queue: Mutex<Queue>,
    wake: Condvar,
    queued_bytes: AtomicUsize,
    failure: OnceLock<Arc<str>>,
    doubts: Mutex<Doubts>,
    shortage: Mutex<Option<Shortage>>,
}

/// Groups whose log may lack what was promised.
#[derive(Default)]
struct Doubts {
    groups: BTreeMap<GroupId, String>,
    /// Why groups may be gone altogether, those that are known not to be, and the first id that is new for certain.
    unknown: Option<(String, BTreeSet<GroupId>)>,
    new_from: Option<GroupId>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(options: JournalOptions, vault: Option<Arc<Vault>>) -> Self {
        Self {
            options,
            vault,
            counters: Counters::default(),
            files: RwLock::default(),
            groups: RwLock::default(),
            queue: Mutex::default(),
            wake: Condvar::new(),
            queued_bytes: AtomicUsize::new(0),
            failure: OnceLock::new(),
            shortage: Mutex::default(),
            doubts: Mutex::default(),
        }
    }

    /// The keys of an encrypted store.
    pub(crate) fn vault(&self) -> Option<&Vault> {
        self.vault.as_deref()
    }

    /// Notes a doubt; the first of a group stays.
    pub(crate) fn doubt(&self, groups: &[GroupId], reason: &str) {
        let mut doubts = self.doubts.lock();
        for group in groups {
            doubts.groups.entry(*group).or_insert_with(|| reason.to_owned());
        }
    }

    /// Notes that groups may be gone altogether that are none of these.
    pub(crate) fn doubt_unknown(&self, known: &[GroupId], reason: &str) {
        self.doubts.lock().unknown = Some((reason.to_owned(), known.iter().copied().collect()));
    }

    pub(crate) fn set_new_from(&self, group: GroupId) {
        self.doubts.lock().new_from = Some(group);
    }

    pub(crate) fn doubt_of(&self, group: GroupId) -> Option<String> {
        let doubts = self.doubts.lock();
        if let Some(reason) = doubts.groups.get(&group) {
            return Some(reason.clone());
        }
        let (reason, known) = doubts.unknown.as_ref()?;
        let is_new = doubts.new_from.is_some_and(|new_from| group >= new_from);
        (!is_new && !known.contains(&group)).then(|| reason.clone())
    }

    pub(crate) fn forget_doubt(&self, group: GroupId) {
        let mut doubts = self.doubts.lock();
        doubts.groups.remove(&group);
        if let Some((_, known)) = &mut doubts.unknown {
            known.insert(group);
        }
    }

    pub(crate) fn find(&self, id: GroupId) -> Option<Arc<Group>> {
        self.groups.read().get(&id).cloned()
    }

    pub(crate) fn find_or_make(&self, id: GroupId) -> Arc<Group> {
        if let Some(group) = self.find(id) {
            return group;
        }
        let make = || Arc::new(Group { id, log: Mutex::new(GroupLog::default()) });
        Arc::clone(self.groups.write().entry(id).or_insert_with(make))
    }

    /// Removes a group only if it still is this one; a new one may have taken the id.
    pub(crate) fn remove_exact(&self, group: &Arc<Group>) {
        let mut groups = self.groups.write();
        if groups.get(&group.id).is_some_and(|held| Arc::ptr_eq(held, group)) {
            groups.remove(&group.id);
        }
    }

    pub(crate) fn group_ids(&self) -> Vec<GroupId> {
        let mut ids: Vec<GroupId> = self.groups.read().keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    pub(crate) fn all_groups(&self) -> Vec<Arc<Group>> {
        self.groups.read().values().cloned().collect()
    }

    /// Called with the group's lock held: the queue's order is the order of the group's changes.
    pub(crate) fn enqueue(&self, group: Arc<Group>, operation: Operation, done: Done) {
        let bytes = operation.bytes();
        let mut queue = self.queue.lock();
        if queue.closed {
            drop(queue);
            return done(Err(self.stopped()));
        }
        self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        queue.requests.push_back(Request { group, operation, done, bytes });
        let first = queue.requests.len() == 1;
        drop(queue);
        if first {
            self.wake.notify_one();
        }
    }

    /// Takes all that is queued, up to the batch limit; waits when nothing is.
    pub(crate) fn take(&self, timeout: Option<Duration>) -> Taken {
        let mut queue = self.queue.lock();
        while queue.requests.is_empty() {
            if queue.closed {
                return Taken::Closed;
            }
            match timeout {
                Some(timeout) => {
                    if self.wake.wait_for(&mut queue, timeout).timed_out() && queue.requests.is_empty() {
                        return if queue.closed { Taken::Closed } else { Taken::Idle };
                    }
                }
                None => self.wake.wait(&mut queue),
            }
        }
        let mut bytes = 0;
        let mut count = 0;
        for request in &queue.requests {
            bytes += request.bytes;
            if bytes > self.options.max_batch_bytes && count > 0 {
                bytes -= request.bytes;
                break;
            }
            count += 1;
        }
        let batch = queue.requests.drain(..count).collect();
        drop(queue);
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        Taken::Batch(batch)
    }

    /// The writer is gone: everything queued, and everything to come, fails.
    pub(crate) fn abandon(&self, reason: &str) {
        let _ = self.failure.set(reason.into());
        let requests = {
            let mut queue = self.queue.lock();
            queue.closed = true;
            std::mem::take(&mut queue.requests)
        };
        for request in requests {
            complete(request.done, Err(self.stopped()));
        }
    }

    /// Waits until something is queued or the time is over; true when the journal is closed.
    pub(crate) fn is_closed_within(&self, timeout: Duration) -> bool {
        let mut queue = self.queue.lock();
        if !queue.closed {
            self.wake.wait_for(&mut queue, timeout);
        }
        queue.closed
    }

    pub(crate) fn set_shortage(&self, shortage: Option<Shortage>) {
        *self.shortage.lock() = shortage;
    }

    pub(crate) fn shortage(&self) -> Option<Shortage> {
        self.shortage.lock().clone()
    }

    pub(crate) fn close(&self) {
        self.queue.lock().closed = true;
        self.wake.notify_one();
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn fail(&self, error: &StorageError) {
        let _ = self.failure.set(error.to_string().into());
    }

    pub(crate) fn failure(&self) -> Option<Arc<str>> {
        self.failure.get().cloned()
    }

    pub(crate) fn stopped(&self) -> StorageError {
        StorageError::Stopped { reason: self.failure().unwrap_or_else(|| "it was closed".into()) }
    }

    /// Reads one entry from its file; nothing when the bytes there are not this entry.
    pub(crate) fn read_entry(
        &self,
        group: GroupId,
        index: u64,
        slot: Slot,
        window: &mut Window,
    ) -> Result<Option<JournalEntry>, StorageError> {
        let Some(file) = self.files.read().get(&slot.generation).cloned() else { return Ok(None) };
        let Some((fields, payload)) = window.record(&file, slot, self.vault())? else { return Ok(None) };
        let matches = matches!(fields.kind, Kind::Entry | Kind::Moved)
            && (fields.group, fields.index, fields.term) == (group.0, index, slot.term);
        Ok(matches.then_some(JournalEntry { index, term: slot.term, payload }))
    }

    /// The oldest file in use, once more than half as many as `max_live_files` are.
    fn oldest_of_many(&self) -> Option<u32> {
        let files = self.files.read();
        let few = files.len() <= (self.options.max_live_files / 2).max(1);
        files.keys().next().copied().filter(|_| !few)
    }

    pub(crate) fn laggard(&self, id: GroupId) -> Option<Laggard> {
        let (generation, group) = (self.oldest_of_many()?, self.find(id)?);
        let (entries, bytes) = group.log.lock().weight_in(generation);
        (entries > 0).then_some(Laggard { group: id, entries, bytes })
    }

    pub(crate) fn laggards(&self) -> Vec<Laggard> {
        let mut laggards: Vec<Laggard> =
            self.group_ids().into_iter().filter_map(|group| self.laggard(group)).collect();
        laggards.sort_by_key(|laggard| (std::cmp::Reverse(laggard.bytes), laggard.group));
        laggards
    }
}
