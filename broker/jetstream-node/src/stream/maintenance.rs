//! Looks after the replicas held here, all in one task: whether a checkpoint is due, whether a leader is known, whether a
//! stream has stopped. Streams in which nothing happens cost a look, and no task of theirs wakes. Not the checkpoint itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use weir_jsapi::PeerInfo;
use weir_raft::{GroupId, PeerId};

use super::replica::StreamReplica;
use crate::context::Context;

/// How often all replicas are looked at.
const INTERVAL: Duration = Duration::from_secs(2);
/// Log applied since the last checkpoint that asks for a new one.
const CHECKPOINT_LOG_BYTES: u64 = 32 << 20;
/// A change is in a checkpoint after so many looks, however small.
const CHECKPOINT_LOOKS_MAX: u32 = 150;
/// After so many looks without a leader, and again after as many, a replicated stream counts as stalled.
const LEADERLESS_LOOKS: u32 = 5;

/// What the looks at one replica have found so far.
#[derive(Default)]
pub(super) struct Upkeep {
    /// Since the last checkpoint.
    looks: AtomicU32,
    leaderless: AtomicU32,
    /// It was said that the stream has stopped.
    is_stop_told: AtomicBool,
    /// A checkpoint may be due.
    due: Notify,
}

/// Runs until aborted.
pub(crate) async fn run(context: Arc<Context>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        for replica in context.all_replicas() {
            replica.look_after();
        }
    }
}

impl StreamReplica {
    fn look_after(&self) {
        self.upkeep.looks.fetch_add(1, Ordering::Relaxed);
        let leaderless = if self.has_quorum() {
            self.upkeep.leaderless.store(0, Ordering::Relaxed);
            0
        } else {
            self.upkeep.leaderless.fetch_add(1, Ordering::Relaxed) + 1
        };
        if leaderless > 0 && leaderless.is_multiple_of(LEADERLESS_LOOKS) {
            self.tell_quorum_lost();
        }
        if self.replicated.failure().is_some() {
            if !self.upkeep.is_stop_told.swap(true, Ordering::Relaxed) {
                self.context.out_of_storage(self.assignment().name());
            }
            return;
        }
        // A stream that is busy is left to its own task, which may wait for it.
        let log_bytes = self.replicated.try_lock().map(|state| state.log_bytes());
        if log_bytes.is_none_or(|log_bytes| self.is_checkpoint_due(log_bytes)) {
            self.upkeep.due.notify_one();
        }
    }

    /// Checkpoints when enough was applied, when the journal needs the room, or after a while. Runs until aborted.
    pub(super) async fn checkpoint_when_due(self: Arc<Self>) {
        loop {
            self.upkeep.due.notified().await;
            let log_bytes = self.replicated.lock().log_bytes();
            if self.replicated.failure().is_none() && self.is_checkpoint_due(log_bytes) {
                self.upkeep.looks.store(0, Ordering::Relaxed);
                self.checkpoint().await;
            }
        }
    }

    fn is_checkpoint_due(&self, log_bytes: u64) -> bool {
        let is_old = || self.upkeep.looks.load(Ordering::Relaxed) >= CHECKPOINT_LOOKS_MAX;
        log_bytes >= CHECKPOINT_LOG_BYTES || (log_bytes > 0 && (is_old() || self.pins_the_journal()))
    }

    fn pins_the_journal(&self) -> bool {
        self.context.journal.laggard(GroupId(self.assignment().group)).is_some()
    }

    /// Some server leads this stream, as far as this one knows. One that takes itself for the leader and does not lead
    /// hears of no majority.
    fn has_quorum(&self) -> bool {
        if !self.assignment().is_replicated() {
            return true;
        }
        let status = self.replicated.status();
        status.is_leader || status.leader.is_some_and(|peer| peer != self.context.peer_id)
    }

    fn tell_quorum_lost(&self) {
        let assignment = self.assignment();
        let (account, name) = (&assignment.account, assignment.name());
        tracing::warn!("JetStream cluster stream '{account} > {name}' has NO quorum, stalled");
        let known = self.replicated.status().replicas;
        let others = assignment.peers.iter().filter(|peer| **peer != self.context.peer_id.0);
        let others: Vec<PeerInfo> =
            others.map(|peer| self.context.peer_info(PeerId(*peer), &known)).collect();
        self.context.quorum_lost(&self.context.account(account), name, &others);
    }
}
