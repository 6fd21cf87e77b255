//! A machine and its log: commands go in by `propose`, come back applied, in the log's order, on every
//! replica. It knows neither streams nor Raft: `StateMachine` is the one side, `Replicator` the other.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use parking_lot::{Mutex, MutexGuard};
use rustc_hash::FxHashMap;
use tokio::sync::watch;
use weir_stdx::time::UnixNanos;

use crate::envelope::{self, Envelope};
use crate::patient::PatientMutex;
use crate::replicator::{LogStatus, ProposeError, Replicator};

/// The deterministic state behind one log.
pub(crate) trait StateMachine: Send + 'static {
    type Outcome: Send + 'static;
    /// Applies one command; `index` is its place in the log. Must depend on nothing but its arguments and state.
    /// An error means that this replica's state can no longer follow the log.
    fn apply(&mut self, index: u64, command: Bytes) -> Result<Self::Outcome, String>;
    /// Term and index of the last entry applied.
    fn applied(&self) -> (u64, u64);
    /// Called after each entry with its term, also after one that carries no command (of Raft's own), so that `applied` survives in the next checkpoint.
    fn advance(&mut self, term: u64, index: u64);
    /// What the machine has counted so far, if a log is to tell it (a stream's last sequence).
    fn count(&self) -> u64 {
        0
    }
    /// A view of the whole state, its `applied` included, that stays as it is while the machine goes on.
    fn snapshot(&mut self) -> Result<SnapshotView, String>;
    /// Replaces the whole state, durably, by a snapshot taken at or after that position.
    fn snapshot_install(&mut self, term: u64, index: u64, content: &mut dyn Read) -> Result<(), String>;
}

/// Writes a snapshot's content, once, on a thread that may block.
pub(crate) type SnapshotView = Box<dyn FnOnce(&mut dyn Write) -> std::io::Result<()> + Send>;

type Completion<O> = Box<dyn FnOnce(Result<O, ProposeError>) + Send>;

/// One entry as the log hands it over.
pub(crate) struct LogEntry {
    pub(crate) term: u64,
    pub(crate) index: u64,
    /// Empty for entries that carry no command.
    pub(crate) payload: Bytes,
}

/// Whether this replica leads its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Leads, and has applied all that was committed before its term.
    Leader {
        term: u64,
    },
    Follower,
}

/// A machine, its log, and the proposals on their way.
pub(crate) struct Replicated<M: StateMachine> {
    machine: PatientMutex<M>,
    pending: Mutex<FxHashMap<u64, Completion<M::Outcome>>>,
    next_number: AtomicU64,
    origin: u64,
    replicator: OnceLock<Arc<dyn Replicator>>,
    role: watch::Sender<Role>,
    /// When this replica began to lead, in nanoseconds since 1970; 0 while it does not.
    leading_since: AtomicU64,
    /// Bumped after every applied batch; holds the last applied index.
    applied: watch::Sender<u64>,
    /// Set once when the machine can no longer follow its log.
    failure: OnceLock<String>,
}

impl<M: StateMachine> Replicated<M> {
    /// `origin` must be new at every process start.
    pub(crate) fn new(machine: M, origin: u64) -> Arc<Self> {
        let applied = machine.applied().1;
        Arc::new(Self {
            machine: PatientMutex::new(machine),
            pending: Mutex::new(FxHashMap::default()),
            next_number: AtomicU64::new(1),
            origin,
            replicator: OnceLock::new(),
            role: watch::Sender::new(Role::Follower),
            leading_since: AtomicU64::new(0),
            applied: watch::Sender::new(applied),
            failure: OnceLock::new(),
        })
    }

    /// Connects the log; done once, before the first proposal.
    pub(crate) fn attach(&self, replicator: Arc<dyn Replicator>) {
        if self.replicator.set(replicator).is_err() {
            tracing::error!("a replica's log was attached twice; the first stays");
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, M> {
        self.machine.lock()
    }

    /// The machine, unless it is busy.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, M>> {
        self.machine.try_lock()
    }

    pub(crate) fn role(&self) -> watch::Receiver<Role> {
        self.role.subscribe()
    }

    pub(crate) fn is_leader(&self) -> bool {
        matches!(*self.role.borrow(), Role::Leader { .. })
    }

    pub(crate) fn set_role(&self, role: Role) {
        self.role.send_replace(role);
        let since = if role == Role::Follower { 0 } else { crate::clock::now().0 };
        self.leading_since.store(since, Ordering::Relaxed);
        if role == Role::Follower {
            self.fail_pending(&ProposeError::Unknown("leadership was lost".to_owned()));
        }
    }

    pub(crate) fn leading_since(&self) -> Option<UnixNanos> {
        Some(UnixNanos(self.leading_since.load(Ordering::Relaxed))).filter(|since| since.0 > 0)
    }

    /// Notified after every applied batch.
    pub(crate) fn applied_watch(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    pub(crate) fn replicator(&self) -> Option<&Arc<dyn Replicator>> {
        self.replicator.get()
    }

    pub(crate) fn status(&self) -> LogStatus {
        self.replicator.get().map(|replicator| replicator.status()).unwrap_or_default()
    }

    /// Puts a command into the log. `done` is called once: with the outcome after it was applied here, or with
    /// the reason why this server cannot say that it was.
    pub(crate) fn propose(
        self: &Arc<Self>,
        command: Bytes,
        done: impl FnOnce(Result<M::Outcome, ProposeError>) + Send + 'static,
    ) {
        self.propose_with(|origin, number| Envelope { origin, number, command }.encode(), done);
    }

    /// `propose` of a command with `envelope::HEADER_LEN` bytes left free in front of it, which is not copied.
    pub(crate) fn propose_framed(
        self: &Arc<Self>,
        framed: BytesMut,
        done: impl FnOnce(Result<M::Outcome, ProposeError>) + Send + 'static,
    ) {
        self.propose_with(|origin, number| envelope::frame(framed, origin, number), done);
    }

    fn propose_with(
        self: &Arc<Self>,
        entry: impl FnOnce(u64, u64) -> Bytes,
        done: impl FnOnce(Result<M::Outcome, ProposeError>) + Send + 'static,
    ) {
        if let Some(reason) = self.failure.get() {
            return done(Err(ProposeError::Failed(reason.clone())));
        }
        let Some(replicator) = self.replicator.get() else {
            return done(Err(ProposeError::Failed("the log is not open yet".to_owned())));
        };
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        self.pending.lock().insert(number, Box::new(done));
        let entry = entry(self.origin, number);
        let this = Arc::downgrade(self);
        replicator.submit(
            entry,
            Box::new(move |error| {
                if let Some(this) = this.upgrade() {
                    this.complete(number, Err(error));
                }
            }),
        );
    }

    /// `propose`, awaited.
    pub(crate) async fn propose_wait(self: &Arc<Self>, command: Bytes) -> Result<M::Outcome, ProposeError> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.propose(command, move |result| {
            // The asker may have given up.
            let _ = sender.send(result);
        });
        receiver.await.unwrap_or_else(|_| Err(ProposeError::Unknown("the replica was closed".to_owned())))
    }

    /// Applies committed entries in order. Called by the log, one caller at a time.
    pub(crate) fn apply(&self, entries: Vec<LogEntry>) {
        let mut completed = Vec::with_capacity(entries.len());
        let last = {
            let mut machine = self.machine.lock();
            for entry in entries {
                if self.failure.get().is_some() {
                    break;
                }
                // A state from a snapshot may be ahead of the log that follows it.
                if entry.index <= machine.applied().1 {
                    continue;
                }
                if let Some(done) = self.apply_one(&mut machine, entry) {
                    completed.push(done);
                }
            }
            machine.applied().1
        };
        for (number, result) in completed {
            self.complete(number, result);
        }
        self.applied.send_replace(last);
    }

    fn apply_one(&self, machine: &mut M, entry: LogEntry) -> Option<(u64, Result<M::Outcome, ProposeError>)> {
        if entry.payload.is_empty() {
            machine.advance(entry.term, entry.index);
            return None;
        }
        let result =
            Envelope::decode(entry.payload).map_err(|error| error.to_string()).and_then(|envelope| {
                let outcome = machine.apply(entry.index, envelope.command)?;
                Ok((envelope.origin, envelope.number, outcome))
            });
        match result {
            Ok((origin, number, outcome)) => {
                machine.advance(entry.term, entry.index);
                (origin == self.origin).then_some((number, Ok(outcome)))
            }
            Err(reason) => {
                self.fail(format!("applying log entry {} failed: {reason}", entry.index));
                None
            }
        }
    }

    /// Tells the watchers that a snapshot replaced the state.
    pub(crate) fn installed(&self) {
        let applied = self.machine.lock().applied().1;
        self.applied.send_replace(applied);
    }

    /// Stops this replica: it accepts and applies nothing more.
    pub(crate) fn fail(&self, reason: String) {
        tracing::error!("{reason}");
        let _ = self.failure.set(reason.clone());
        self.fail_pending(&ProposeError::Failed(reason));
    }

    fn complete(&self, number: u64, result: Result<M::Outcome, ProposeError>) {
        let done = self.pending.lock().remove(&number);
        if let Some(done) = done {
            done(result);
        }
    }

    fn fail_pending(&self, error: &ProposeError) {
        let pending = std::mem::take(&mut *self.pending.lock());
        for (_, done) in pending {
            done(Err(error.clone()));
        }
    }
}
