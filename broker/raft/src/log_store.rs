//! openraft's log storage on the node's journal: one group's entries, vote, committed and purged ids.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::oneshot;

use crate::codec::{
    entry_to_record, log_id_from_pb, log_id_to_pb, stored_membership_from_pb, stored_membership_to_pb,
    vote_from_pb, vote_to_pb,
};
use crate::group_log::{Done, GroupLog, LogExtent, LogRecord};
use crate::log_sizes::SizeSamples;
use crate::pb::raft as pb;
use crate::raft_types::{Entry, LogId, StoredMembership, TypeConfig, Vote, log_id, outer_index};
use crate::types::GroupId;

/// Keys of a group's small states in the journal.
const KEY_VOTE: u8 = 1;
const KEY_COMMITTED: u8 = 2;
const KEY_PURGED: u8 = 3;
const KEY_MEMBERSHIP: u8 = 4;

/// First byte of every state value.
const STATE_VERSION: u8 = 1;

/// The committed id is written along with an append at most this often: it only shortens what a
/// restarted replica must hear again.
const COMMITTED_INTERVAL: Duration = Duration::from_millis(200);

/// One group's part of the journal; clones share it.
#[derive(Clone)]
pub(crate) struct LogStore {
    inner: Arc<Inner>,
}

struct Inner {
    log: Arc<dyn GroupLog>,
    group: GroupId,
    vote: Mutex<Option<Vote>>,
    committed: Mutex<CommittedState>,
    sizes: Mutex<SizeSamples>,
}

#[derive(Default)]
struct CommittedState {
    known: Option<LogId>,
    dirty: bool,
    written_at: Option<Instant>,
}

fn encode_state<M: Message>(message: &M) -> Bytes {
    let mut value = BytesMut::with_capacity(message.encoded_len().saturating_add(1));
    value.put_u8(STATE_VERSION);
    value.extend_from_slice(&message.encode_to_vec());
    value.freeze()
}

fn decode_state<M: Message + Default>(what: &'static str, value: &Bytes) -> io::Result<M> {
    let invalid = |reason: String| {
        let text = format!("the journal's {what}: {reason}");
        io::Error::new(io::ErrorKind::InvalidData, text)
    };
    match value.first() {
        Some(&STATE_VERSION) => M::decode(value.slice(1..)).map_err(|e| invalid(e.to_string())),
        Some(version) => Err(invalid(format!("format {version} is not known"))),
        None => Err(invalid("empty".to_owned())),
    }
}

/// A callback that only reports a failure: the journal refuses all later writes after one, so that
/// whoever waits for the next one hears of it.
fn report_failure(group: GroupId, what: &'static str) -> Done {
    Box::new(move |result| {
        if let Err(error) = result {
            tracing::error!(group = group.0, %error, "journal: {what} failed");
        }
    })
}

/// Whether the journal holds a group of this id.
pub(crate) fn has_begun(log: &dyn GroupLog, group: GroupId) -> bool {
    log.get_state(group, KEY_VOTE).is_some() || log.get_state(group, KEY_MEMBERSHIP).is_some()
}

/// Makes a log without members one that is cut at `last` and has these. The members come last: without them nothing
/// has begun.
pub(crate) fn begin(
    log: &dyn GroupLog,
    group: GroupId,
    last: &LogId,
    membership: &StoredMembership,
    done: Done,
) {
    let purged = encode_state(&log_id_to_pb(last));
    log.put_state(group, KEY_PURGED, purged, report_failure(group, "writing the purged id"));
    log.purge_to(group, outer_index(last.index), report_failure(group, "cutting the log"));
    log.put_state(group, KEY_MEMBERSHIP, encode_state(&stored_membership_to_pb(membership)), done);
}

impl LogStore {
    /// Reads what the journal holds of the group.
    pub(crate) fn open(log: Arc<dyn GroupLog>, group: GroupId) -> io::Result<Self> {
        let vote = match log.get_state(group, KEY_VOTE) {
            None => None,
            Some(value) => Some(vote_from_pb(Some(decode_state("vote", &value)?))?),
        };
        let store = Self {
            inner: Arc::new(Inner {
                log,
                group,
                vote: Mutex::new(vote),
                committed: Mutex::default(),
                sizes: Mutex::default(),
            }),
        };
        let known = store.state_log_id(KEY_COMMITTED, "committed id")?;
        store.inner.committed.lock().known = known;
        store.finish_purge()?;
        Ok(store)
    }

    fn state_log_id(&self, key: u8, what: &'static str) -> io::Result<Option<LogId>> {
        let Some(value) = self.inner.log.get_state(self.inner.group, key) else {
            return Ok(None);
        };
        let message: pb::LogId = decode_state(what, &value)?;
        Ok(Some(log_id_from_pb(&message)?))
    }

    /// The purged id is written before the log is cut: a crash between the two is finished here.
    fn finish_purge(&self) -> io::Result<()> {
        let purged = self.purged()?.map_or(0, |id| outer_index(id.index));
        let extent = self.extent();
        if extent.purged_to > purged {
            let text = format!(
                "the journal is cut up to {}, but the id of the last entry cut is {purged}",
                extent.purged_to
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        if extent.purged_to < purged {
            let done = report_failure(self.inner.group, "cutting the log");
            self.inner.log.purge_to(self.inner.group, purged, done);
        }
        Ok(())
    }

    /// Id of the last entry cut away.
    pub(crate) fn purged(&self) -> io::Result<Option<LogId>> {
        self.state_log_id(KEY_PURGED, "purged id")
    }

    /// The membership last applied, as `save_membership` left it.
    pub(crate) fn membership(&self) -> io::Result<StoredMembership> {
        let Some(value) = self.inner.log.get_state(self.inner.group, KEY_MEMBERSHIP) else {
            return Ok(StoredMembership::default());
        };
        let message: pb::StoredMembership = decode_state("membership", &value)?;
        Ok(stored_membership_from_pb(message)?)
    }

    /// Keeps the applied membership. Written in the journal's order: it is durable before any later cut
    /// of the log.
    pub(crate) fn save_membership(&self, membership: &StoredMembership) {
        let value = encode_state(&stored_membership_to_pb(membership));
        let done = report_failure(self.inner.group, "writing the membership");
        self.inner.log.put_state(self.inner.group, KEY_MEMBERSHIP, value, done);
    }

    /// As `save_membership`, and waits until it is durable.
    pub(crate) async fn save_membership_durably(&self, membership: &StoredMembership) -> io::Result<()> {
        let value = encode_state(&stored_membership_to_pb(membership));
        self.put_and_wait(KEY_MEMBERSHIP, value).await
    }

    /// Id of the entry at an outer index.
    pub(crate) fn id_at(&self, index: u64) -> io::Result<Option<LogId>> {
        if let Some(purged) = self.purged()?
            && outer_index(purged.index) == index
        {
            return Ok(Some(purged));
        }
        let extent = self.extent();
        if extent.present.is_none_or(|(first, last)| index < first || index > last) {
            return Ok(None);
        }
        let next = index.saturating_add(1);
        let records = self.inner.log.read(self.inner.group, index, next, 1)?;
        let record = records.into_iter().find(|record| record.index == index);
        Ok(record.map(|record| log_id(record.term, record.index)))
    }

    /// Bytes of log between two outer indexes, if counted.
    pub(crate) fn bytes_between(&self, after: u64, upto: u64) -> Option<u64> {
        self.inner.sizes.lock().between(after, upto)
    }

    /// Bytes of log behind an outer index, as far as they were counted (not before a restart).
    pub(crate) fn bytes_after(&self, index: u64) -> u64 {
        self.inner.sizes.lock().counted_after(index)
    }

    /// The entries up to an outer index need not stay in memory.
    pub(crate) fn forget_payloads(&self, index: u64) {
        self.inner.log.forget_payloads(self.inner.group, index);
    }

    pub(crate) fn vote(&self) -> Option<Vote> {
        *self.inner.vote.lock()
    }

    pub(crate) fn extent(&self) -> LogExtent {
        self.inner.log.extent(self.inner.group)
    }

    /// Records from outer index `from` up to `to`, one piece of at most `max_bytes`.
    pub(crate) fn records(&self, from: u64, to: u64, max_bytes: usize) -> io::Result<Vec<LogRecord>> {
        self.inner.log.read(self.inner.group, from, to, max_bytes)
    }

    async fn put_and_wait(&self, key: u8, value: Bytes) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        let done: Done = Box::new(move |result| {
            // Nobody waits any more when the group is being closed.
            let _ = sender.send(result);
        });
        self.inner.log.put_state(self.inner.group, key, value, done);
        match receiver.await {
            Ok(result) => result,
            Err(_) => Err(io::Error::other("the journal has stopped")),
        }
    }

    /// Writes the committed id if it has changed, with no wait.
    fn write_committed(&self, only_if_due: bool) {
        let id = {
            let mut state = self.inner.committed.lock();
            let recent = state.written_at.is_some_and(|at| at.elapsed() < COMMITTED_INTERVAL);
            if !state.dirty || (only_if_due && recent) {
                return;
            }
            state.dirty = false;
            state.written_at = Some(Instant::now());
            state.known
        };
        if let Some(id) = id {
            let value = encode_state(&log_id_to_pb(&id));
            let done = report_failure(self.inner.group, "writing the committed id");
            self.inner.log.put_state(self.inner.group, KEY_COMMITTED, value, done);
        }
    }

    /// For a clean stop: leaves the newest committed id in the journal.
    pub(crate) async fn flush(&self) -> io::Result<()> {
        let known = {
            let mut state = self.inner.committed.lock();
            state.dirty = false;
            state.known
        };
        match known {
            Some(id) => {
                let value = encode_state(&log_id_to_pb(&id));
                self.put_and_wait(KEY_COMMITTED, value).await
            }
            None => Ok(()),
        }
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let purged = self.purged()?;
        let extent = self.extent();
        let purged_index = purged.map_or(0, |id| outer_index(id.index));
        let last = match extent.present {
            Some((_, last)) if last > purged_index => self.id_at(last)?,
            _ => None,
        };
        Ok(LogState { last_purged_log_id: purged, last_log_id: last.or(purged) })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let value = encode_state(&vote_to_pb(vote));
        self.put_and_wait(KEY_VOTE, value).await?;
        *self.inner.vote.lock() = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let mut state = self.inner.committed.lock();
        state.dirty = state.dirty || state.known != committed;
        state.known = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        let known = self.inner.committed.lock().known;
        let last = self.get_log_state().await?.last_log_id;
        // What is committed was on a majority's disks, but not yet surely on this one's.
        Ok(known.min(last))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.write_committed(true);
        let records = entries.into_iter().map(|entry| entry_to_record(&entry)).collect::<Vec<_>>();
        if let Some(last) = records.last() {
            let bytes = records.iter().map(|record| record.payload.len() as u64);
            let (index, bytes) = (last.index, bytes.sum());
            self.inner.sizes.lock().add(index, bytes);
        }
        let done: Done = Box::new(move |result| callback.io_completed(result));
        self.inner.log.append(self.inner.group, records, done);
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let index = last_log_id.map_or(0, |id| outer_index(id.index));
        self.inner.sizes.lock().truncate_after(index);
        let done = report_failure(self.inner.group, "truncating the log");
        self.inner.log.truncate_after(self.inner.group, index, done);
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let index = outer_index(upto.index);
        self.inner.sizes.lock().forget_upto(index);
        let value = encode_state(&log_id_to_pb(&upto));
        let (log, group) = (&self.inner.log, self.inner.group);
        log.put_state(group, KEY_PURGED, value, report_failure(group, "writing the purged id"));
        log.purge_to(group, index, report_failure(group, "cutting the log"));
        Ok(())
    }
}
