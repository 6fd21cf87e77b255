//! openraft's state machine over a `Machine`: hands it committed entries, keeps the applied membership,
//! makes and installs snapshots.

use std::io::{self, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta};
use parking_lot::Mutex;

use crate::codec::payload_body;
use crate::log_store::LogStore;
use crate::machine::{Committed, Machine, MachineError};
use crate::raft_types::{
    Answer, Entry, LogId, SnapshotMeta as Meta, StoredMembership, TypeConfig, log_id, position,
};
use crate::snapshot::SnapshotData;

/// Most entries and bytes handed to the machine at once.
const MAX_APPLY_ENTRIES: usize = 1024;
const MAX_APPLY_BYTES: usize = 8 * 1024 * 1024;

type FullSnapshot = Snapshot<
    openraft::type_config::alias::CommittedLeaderIdOf<TypeConfig>,
    u64,
    crate::types::PeerInfo,
    SnapshotData,
>;

/// What the adapter and its group share.
pub(crate) struct MachineState {
    pub(crate) machine: Arc<dyn Machine>,
    log: LogStore,
    progress: Mutex<Progress>,
    /// Set once openraft has read its initial state: only then are snapshots really made.
    running: AtomicBool,
    /// openraft's test suite expects snapshots at what was applied.
    #[cfg(test)]
    pub(crate) applied_is_durable: AtomicBool,
}

struct Progress {
    applied: Option<LogId>,
    membership: StoredMembership,
    /// How far the machine's state is durable, as its owner said.
    durable: Option<LogId>,
}

impl MachineState {
    pub(crate) fn new(machine: Arc<dyn Machine>, log: LogStore) -> io::Result<Arc<Self>> {
        let applied = machine.applied().map(|at| log_id(at.term, at.index));
        let membership = log.membership()?;
        let progress = Progress { applied, membership, durable: applied };
        Ok(Arc::new(Self {
            machine,
            log,
            progress: Mutex::new(progress),
            running: AtomicBool::new(false),
            #[cfg(test)]
            applied_is_durable: AtomicBool::new(false),
        }))
    }

    pub(crate) fn set_running(&self) {
        self.running.store(true, Ordering::Release);
    }

    pub(crate) fn applied(&self) -> Option<LogId> {
        self.progress.lock().applied
    }

    /// Notes that the machine's state up to `id` is durable. Never goes back.
    pub(crate) fn set_durable(&self, id: LogId) {
        let mut progress = self.progress.lock();
        progress.durable = progress.durable.max(Some(id));
    }

    /// At the start openraft only asks for the position.
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "the tests' twin uses it")]
    fn content_before_running(&self) -> SnapshotData {
        SnapshotData::Unbuilt
    }

    /// openraft's suite installs what it gets without anything running.
    #[cfg(test)]
    fn content_before_running(&self) -> SnapshotData {
        if !self.applied_is_durable.load(Ordering::Relaxed) {
            return SnapshotData::Unbuilt;
        }
        let spool = crate::snapshot::Spool::temporary();
        let source = self.machine.snapshot().expect("a snapshot");
        SnapshotData::Received(spool.write_out(source).expect("a spool file"))
    }

    fn meta(&self, last: Option<LogId>) -> Meta {
        SnapshotMeta { last_log_id: last, last_membership: self.progress.lock().membership.clone() }
    }
}

/// The adapter itself; owned by openraft's worker.
pub(crate) struct StateMachine {
    pub(crate) state: Arc<MachineState>,
}

/// Only names the position up to which the log may be cut; the content is made when it is sent.
pub(crate) struct Checkpoint {
    state: Arc<MachineState>,
}

fn machine_failed(what: &str, error: &MachineError) -> io::Error {
    io::Error::other(format!("{what}: {error}"))
}

/// Entries gathered for one call of the machine.
#[derive(Default)]
struct Gathered {
    entries: Vec<Committed>,
    responders: Vec<Option<ApplyResponder<TypeConfig>>>,
    bytes: usize,
    last: Option<LogId>,
    membership: Option<StoredMembership>,
}

impl Gathered {
    fn add(&mut self, entry: Entry, responder: Option<ApplyResponder<TypeConfig>>) {
        let at = position(&entry.log_id);
        let payload = match &entry.payload {
            EntryPayload::Normal(payload) => payload_body(payload),
            EntryPayload::Blank => bytes::Bytes::new(),
            EntryPayload::Membership(membership) => {
                let id = Some(entry.log_id);
                self.membership = Some(StoredMembership::new(id, membership.clone()));
                bytes::Bytes::new()
            }
        };
        self.bytes = self.bytes.saturating_add(payload.len());
        self.last = Some(entry.log_id);
        self.responders.push(responder);
        self.entries.push(Committed { term: at.term, index: at.index, payload });
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= MAX_APPLY_ENTRIES || self.bytes >= MAX_APPLY_BYTES
    }
}

impl StateMachine {
    fn apply_gathered(&self, gathered: Gathered) -> io::Result<()> {
        if gathered.entries.is_empty() {
            return Ok(());
        }
        let count = gathered.entries.len();
        let machine = &self.state.machine;
        // A panic must stop this group with a reason, not leave openraft waiting for its worker.
        let applied = catch_unwind(AssertUnwindSafe(|| machine.apply(gathered.entries)));
        let answers = applied
            .map_err(|_| io::Error::other("the machine panicked while applying entries"))?
            .map_err(|e| machine_failed("applying entries", &e))?;
        if answers.len() != count {
            let text = format!("the machine answered {} of {count} entries", answers.len());
            return Err(io::Error::other(text));
        }
        let membership = gathered.membership.clone();
        {
            let mut progress = self.state.progress.lock();
            progress.applied = gathered.last;
            #[cfg(test)]
            if self.state.applied_is_durable.load(Ordering::Relaxed) {
                progress.durable = gathered.last;
            }
            if let Some(membership) = gathered.membership {
                progress.membership = membership;
            }
        }
        if let Some(membership) = membership {
            self.state.log.save_membership(&membership);
        }
        for (responder, answer) in gathered.responders.into_iter().zip(answers) {
            if let Some(responder) = responder {
                responder.send(Answer(Mutex::new(answer)));
            }
        }
        Ok(())
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Checkpoint;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let progress = self.state.progress.lock();
        Ok((progress.applied, progress.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut gathered = Gathered::default();
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            gathered.add(entry, responder);
            if gathered.is_full() {
                self.apply_gathered(std::mem::take(&mut gathered))?;
            }
        }
        self.apply_gathered(gathered)
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        Checkpoint { state: Arc::clone(&self.state) }
    }

    async fn install_snapshot(&mut self, meta: &Meta, snapshot: SnapshotData) -> Result<(), io::Error> {
        let SnapshotData::Received(mut file) = snapshot else {
            return Err(io::Error::other("only a received snapshot can be installed"));
        };
        let Some(last) = meta.last_log_id else {
            return Err(io::Error::other("a snapshot of nothing"));
        };
        let at = position(&last);
        let machine = Arc::clone(&self.state.machine);
        let installed = tokio::task::spawn_blocking(move || {
            let mut content = BufReader::with_capacity(256 * 1024, file.reader()?);
            machine.install(at, &mut content).map_err(|e| machine_failed("installing a snapshot", &e))
        });
        installed.await.map_err(io::Error::other)??;
        let membership = meta.last_membership.clone();
        self.state.log.save_membership_durably(&membership).await?;
        let mut progress = self.state.progress.lock();
        progress.applied = Some(last);
        progress.durable = Some(last);
        progress.membership = membership;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<FullSnapshot>, io::Error> {
        if !self.state.running.load(Ordering::Acquire) {
            let durable = self.state.progress.lock().durable;
            let unbuilt = durable.map(|durable| Snapshot {
                meta: self.state.meta(Some(durable)),
                snapshot: self.state.content_before_running(),
            });
            return Ok(unbuilt);
        }
        let Some(applied) = self.state.applied() else {
            return Ok(None);
        };
        let source = self.state.machine.snapshot().map_err(|e| machine_failed("making a snapshot", &e))?;
        let at = source.position();
        if at != position(&applied) {
            let text =
                format!("the machine's snapshot is at {at:?}, but {:?} was applied", position(&applied));
            return Err(io::Error::other(text));
        }
        let meta = self.state.meta(Some(applied));
        let snapshot = SnapshotData::Source(source);
        Ok(Some(Snapshot { meta, snapshot }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Checkpoint {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<FullSnapshot, io::Error> {
        let durable = self.state.progress.lock().durable;
        // What was cut off was covered by a checkpoint then; `Opening` has checked that it still is.
        let meta = self.state.meta(durable.max(self.state.log.purged()?));
        let snapshot = SnapshotData::Unbuilt;
        Ok(Snapshot { meta, snapshot })
    }
}
