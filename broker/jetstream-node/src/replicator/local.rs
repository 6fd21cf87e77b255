//! The log of an unreplicated stream, and of the meta state of a single server: this server's journal.
//! An entry is applied after the fsync that covers it. An unreplicated memory stream has no journal: its
//! entries are applied at once and kept nowhere. Not for anything that has more than one replica.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures::FutureExt;
use parking_lot::Mutex;
use tokio::sync::Notify;
use weir_jetstream::meta::META_GROUP;
use weir_storage::{GroupId, Journal, JournalEntry, StorageError};

use super::known::{Gap, Known};
use super::{LogStatus, OnFailure, ProposeError, Replicator};
use crate::replicated::{LogEntry, Replicated, Role, StateMachine};

/// Entries read back at once when the log is replayed.
const REPLAY_BATCH_BYTES: usize = 4 << 20;

/// Between two looks whether all is applied.
const SEAL_POLL: std::time::Duration = std::time::Duration::from_millis(2);

struct Waiting {
    index: u64,
    entry: Bytes,
}

struct Shared {
    /// Submitted and not yet applied, by index.
    waiting: Mutex<Queue>,
    /// Highest index known durable.
    durable: AtomicU64,
    applied: AtomicU64,
    wake: Notify,
    failed: Mutex<Option<String>>,
}

struct Queue {
    /// Nothing more is taken.
    is_sealed: bool,
    next_index: u64,
    /// What was known of the machine lately, for the entries to tell.
    known: Known,
    entries: VecDeque<Waiting>,
}

/// When an entry is applied, and with it acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// After the journal has it, as the journal's sync policy says.
    Journal,
    /// Before: what a crash finds on its way to the disk is lost. While the journal is behind, as `Journal`.
    Early,
}

/// A journal group that only this server writes.
pub(crate) struct LocalLog {
    /// Absent for a log that is kept nowhere.
    journal: Option<Journal>,
    group: GroupId,
    shared: Arc<Shared>,
    durability: Durability,
    applier: tokio::task::JoinHandle<()>,
}

impl LocalLog {
    /// Replays what the journal holds past the machine's checkpoint, then takes new entries.
    pub(crate) fn open<M: StateMachine>(
        journal: Option<Journal>,
        group: GroupId,
        durability: Durability,
        replicated: &Arc<Replicated<M>>,
    ) -> Result<Arc<Self>, String> {
        let last = match &journal {
            Some(journal) => replay(journal, group, replicated)?,
            None => replicated.lock().applied().1,
        };
        let queue = Queue {
            is_sealed: false,
            next_index: last + 1,
            known: known(replicated),
            entries: VecDeque::new(),
        };
        let shared = Arc::new(Shared {
            waiting: Mutex::new(queue),
            durable: AtomicU64::new(last),
            applied: AtomicU64::new(last),
            wake: Notify::new(),
            failed: Mutex::new(None),
        });
        let applier = tokio::spawn(apply_durable(Arc::clone(&shared), Arc::downgrade(replicated)));
        replicated.set_role(Role::Leader { term: 0 });
        Ok(Arc::new(Self { journal, group, shared, durability, applier }))
    }
}

impl LocalLog {
    /// Changes of the meta state are refused rather than left waiting for room: who asked is told at once. What
    /// streams have on its way waits, since messages are refused before they come here.
    fn no_room(&self) -> Option<String> {
        let journal = self.journal.as_ref().filter(|_| self.group.0 == META_GROUP)?;
        let shortage = journal.shortage().filter(|shortage| shortage.is_waiting)?;
        Some(format!("no room on the disk: {}", shortage.reason))
    }
}

impl Drop for LocalLog {
    fn drop(&mut self) {
        self.applier.abort();
    }
}

/// Applies what the journal holds past the machine's checkpoint; returns the last index. Where the log is damaged the
/// machine stops: what came before is served, nothing is written, and what lies behind is kept for a repair.
pub(crate) fn replay<M: StateMachine>(
    journal: &Journal,
    group: GroupId,
    replicated: &Replicated<M>,
) -> Result<u64, String> {
    let range = journal.log_range(group);
    let mut applied = replicated.lock().applied().1;
    if range.purged_to > applied {
        replicated.fail(format!(
            "its log starts after entry {}, but the newest checkpoint ends at entry {applied}: entries between \
             them are gone",
            range.purged_to
        ));
        return Ok(applied);
    }
    while applied < range.last {
        let entries = match journal.read(group, applied + 1, range.last + 1, REPLAY_BATCH_BYTES) {
            Ok(entries) => entries,
            Err(StorageError::Unreadable { .. } | StorageError::NotInLog { .. }) => Vec::new(),
            Err(error) => return Err(format!("reading the journal of group {}: {error}", group.0)),
        };
        if entries.is_empty() {
            let damage = journal.doubt(group).unwrap_or_else(|| "an entry is missing".to_owned());
            let is_stream = group.0 != META_GROUP;
            let lost = if is_stream { lost_with(journal, group, known(replicated)) } else { String::new() };
            replicated.fail(format!(
                "{damage}{lost}; it ends at entry {applied} for now, entries up to {} are kept as they are",
                range.last
            ));
            return Ok(applied);
        }
        applied += entries.len() as u64;
        replicated.apply(
            entries
                .into_iter()
                .map(|entry| LogEntry { term: 0, index: entry.index, payload: entry.payload })
                .collect(),
        );
        if replicated.failure().is_some() {
            // The entry needs a message that cannot be read, or the store refused it.
            return Ok(replicated.lock().applied().1);
        }
    }
    if let Some(reason) = journal.doubt(group) {
        journal.set_doubt(group, &reason);
        replicated.fail(reason);
        return Ok(applied);
    }
    catch_up(journal, group, applied);
    Ok(applied)
}

fn known<M: StateMachine>(replicated: &Replicated<M>) -> Known {
    let machine = replicated.lock();
    Known { applied: machine.applied().1, count: machine.count() }
}

/// Names what was counted in the entries that cannot be read next, as far as those behind them tell.
fn lost_with(journal: &Journal, group: GroupId, before: Known) -> String {
    let counted = Gap::find(journal, group, before.applied).and_then(|gap| gap.counted(before.count));
    match counted {
        Some(counted) if counted.is_empty() => ", which held no message".to_owned(),
        Some(counted) if counted.start() == counted.end() => {
            format!(", which held message {}", counted.end())
        }
        Some(counted) => format!(", which held messages {} to {}", counted.start(), counted.end()),
        None => format!(", which held messages from {} on", before.count + 1),
    }
}

/// Applies entries as they become durable, in order.
async fn apply_durable<M: StateMachine>(shared: Arc<Shared>, replicated: Weak<Replicated<M>>) {
    loop {
        shared.wake.notified().await;
        let Some(replicated) = replicated.upgrade() else { return };
        if let Some(reason) = shared.failed.lock().clone() {
            replicated.fail(reason);
            return;
        }
        let durable = shared.durable.load(Ordering::Acquire);
        let ready = take_up_to(&shared, durable);
        if ready.is_empty() {
            continue;
        }
        let entries: Vec<LogEntry> = ready
            .into_iter()
            .map(|waiting| LogEntry { term: 0, index: waiting.index, payload: waiting.entry })
            .collect();
        replicated.apply(entries);
        shared.waiting.lock().known = known(&replicated);
        shared.applied.store(durable, Ordering::Release);
    }
}

/// A checkpoint may hold entries that were applied early and never reached the journal: its log goes on after them.
fn catch_up(journal: &Journal, group: GroupId, applied: u64) {
    if journal.log_range(group).last >= applied {
        return;
    }
    journal.purge_to(
        group,
        applied,
        Box::new(move |result| {
            if let Err(error) = result {
                tracing::warn!("journal group {}: moving it to entry {applied} failed: {error}", group.0);
            }
        }),
    );
}

fn take_up_to(shared: &Shared, durable: u64) -> Vec<Waiting> {
    let mut queue = shared.waiting.lock();
    let ready = queue.entries.partition_point(|waiting| waiting.index <= durable);
    queue.entries.drain(..ready).collect()
}

impl Replicator for LocalLog {
    fn submit(&self, entry: Bytes, on_failure: OnFailure) {
        if let Some(reason) = self.shared.failed.lock().clone() {
            return on_failure(ProposeError::Failed(reason));
        }
        if let Some(reason) = self.no_room() {
            return on_failure(ProposeError::Failed(reason));
        }
        // The journal is called under the lock: the order of indexes is the order of its queue.
        let mut queue = self.shared.waiting.lock();
        if queue.is_sealed {
            drop(queue);
            return on_failure(ProposeError::Unknown("the stream gets another log".to_owned()));
        }
        let index = queue.next_index;
        queue.next_index += 1;
        let term = queue.known.term_of(index);
        queue.entries.push_back(Waiting { index, entry: entry.clone() });
        let shared = Arc::clone(&self.shared);
        let Some(journal) = &self.journal else {
            shared.durable.fetch_max(index, Ordering::AcqRel);
            shared.wake.notify_one();
            return;
        };
        if self.durability == Durability::Early && !journal.is_congested() {
            shared.durable.fetch_max(index, Ordering::AcqRel);
            shared.wake.notify_one();
        }
        journal.append_unread(
            self.group,
            vec![JournalEntry { index, term, payload: entry }],
            Box::new(move |result| match result {
                Ok(()) => {
                    shared.durable.fetch_max(index, Ordering::AcqRel);
                    shared.wake.notify_one();
                }
                Err(error) => {
                    shared.failed.lock().get_or_insert_with(|| format!("journal: {error}"));
                    shared.wake.notify_one();
                }
            }),
        );
    }

    fn status(&self) -> LogStatus {
        LogStatus {
            is_leader: self.shared.failed.lock().is_none(),
            committed: self.shared.durable.load(Ordering::Acquire),
            applied: self.shared.applied.load(Ordering::Acquire),
            ..LogStatus::default()
        }
    }

    fn compact(&self, index: u64) {
        let group = self.group;
        let Some(journal) = &self.journal else { return };
        journal.purge_to(
            group,
            index,
            Box::new(move |result| {
                if let Err(error) = result {
                    tracing::warn!("journal group {}: purging up to {index} failed: {error}", group.0);
                }
            }),
        );
    }

    fn seal(&self) -> futures::future::BoxFuture<'static, ()> {
        let shared = Arc::clone(&self.shared);
        async move {
            let last = {
                let mut queue = shared.waiting.lock();
                queue.is_sealed = true;
                queue.next_index - 1
            };
            while shared.applied.load(Ordering::Acquire) < last && shared.failed.lock().is_none() {
                tokio::time::sleep(SEAL_POLL).await;
            }
        }
        .boxed()
    }

    fn step_down(
        &self,
        _to: Option<weir_raft::PeerId>,
    ) -> futures::future::BoxFuture<'static, Result<(), String>> {
        async { Err("an unreplicated log has no other leader".to_owned()) }.boxed()
    }
}
