//! Proposals: bounded, in the order of the calls, each resolved once: committed and applied, refused, or
//! unknown when leadership was lost meanwhile.

use std::future::{Future, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::future::Either;
use openraft::error::{ClientWriteError, ForwardToLeader};
use openraft::raft::ClientWriteResult;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::codec::normal_payload;
use crate::error::ProposeError;
use crate::machine::Response;
use crate::options::{GroupOptions, MAX_ENTRY_BYTES};
use crate::quiet_group::QuietGroup;
use crate::raft_types::{Payload, Proposer, TypeConfig, position};
use crate::registry::RaftHandle;
use crate::types::{Leadership, PeerId};

/// A proposal that was committed and applied here.
pub struct Proposed {
    pub index: u64,
    pub term: u64,
    pub response: Response,
}

impl std::fmt::Debug for Proposed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Proposed {{ index: {}, term: {} }}", self.index, self.term)
    }
}

/// What is in flight, and how much may be.
pub(crate) struct Bounds {
    proposals: AtomicUsize,
    bytes: AtomicUsize,
    max_proposals: usize,
    max_bytes: usize,
    freed: Notify,
}

/// One proposal's part of the bounds, given back when dropped.
pub(crate) struct Share {
    bounds: Arc<Bounds>,
    bytes: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.bounds.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        self.bounds.proposals.fetch_sub(1, Ordering::AcqRel);
        self.bounds.freed.notify_waiters();
    }
}

impl Bounds {
    fn has_room(&self) -> bool {
        self.proposals.load(Ordering::Acquire) < self.max_proposals
            && self.bytes.load(Ordering::Acquire) < self.max_bytes
    }

    /// A proposal may go over the bytes once, so that the largest one is possible at all.
    fn take(self: &Arc<Self>, bytes: usize) -> Option<Share> {
        if !self.has_room() {
            return None;
        }
        self.proposals.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        Some(Share { bounds: Arc::clone(self), bytes })
    }
}

type WriteResult = ClientWriteResult<TypeConfig>;
type Job = (Payload, Proposer<WriteResult>);

/// The way in for one group's proposals.
pub(crate) struct Proposals {
    bounds: Arc<Bounds>,
    jobs: mpsc::UnboundedSender<Job>,
    leadership: watch::Receiver<Leadership>,
}

impl Proposals {
    /// Starts the task that hands proposals to Raft in order.
    pub(crate) fn start(
        raft: RaftHandle,
        quiet: Arc<QuietGroup>,
        leadership: watch::Receiver<Leadership>,
        options: &GroupOptions,
    ) -> Self {
        // Bounded by `Bounds`: each job holds a share.
        let (jobs, mut queue) = mpsc::unbounded_channel::<Job>();
        tokio::spawn(async move {
            while let Some((payload, proposer)) = queue.recv().await {
                quiet.before_write().await;
                // A stopped Raft drops the proposer, which its owner notices.
                if raft.client_write_ff(payload, Some(proposer)).await.is_err() {
                    break;
                }
            }
        });
        let bounds = Bounds {
            proposals: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            max_proposals: options.max_proposals,
            max_bytes: options.max_proposal_bytes,
            freed: Notify::new(),
        };
        Self { bounds: Arc::new(bounds), jobs, leadership }
    }

    pub(crate) fn propose(
        &self,
        payload: &Bytes,
    ) -> impl Future<Output = Result<Proposed, ProposeError>> + Send + 'static + use<> {
        match self.submit(payload) {
            Err(error) => Either::Left(ready(Err(error))),
            Ok((result, term)) => Either::Right(outcome(result, term, self.leadership.clone())),
        }
    }

    fn submit(&self, payload: &Bytes) -> Result<(oneshot::Receiver<WriteResult>, u64), ProposeError> {
        let term = match *self.leadership.borrow() {
            Leadership::Leader { term } => term,
            Leadership::Follower { leader } => return Err(ProposeError::NotLeader { leader }),
        };
        if payload.len() >= MAX_ENTRY_BYTES {
            return Err(ProposeError::TooLarge { bytes: payload.len(), limit_bytes: MAX_ENTRY_BYTES });
        }
        let share = self.bounds.take(payload.len()).ok_or(ProposeError::Backpressure)?;
        let (sender, receiver) = oneshot::channel();
        let proposer = Proposer { result: sender, share };
        self.jobs
            .send((normal_payload(payload), proposer))
            .map_err(|_| ProposeError::Stopped("its task has ended".to_owned()))?;
        Ok((receiver, term))
    }

    /// Proposals on their way.
    pub(crate) fn in_flight(&self) -> usize {
        self.bounds.proposals.load(Ordering::Acquire)
    }

    /// Waits until there is room for a proposal.
    pub(crate) async fn ready(&self) {
        loop {
            let freed = self.bounds.freed.notified();
            if self.bounds.has_room() {
                return;
            }
            freed.await;
        }
    }
}

fn peer(forward: &ForwardToLeader<TypeConfig>) -> Option<PeerId> {
    forward.leader_id.map(PeerId)
}

/// The result, or `Unknown` as soon as this replica no longer leads in `term`.
async fn outcome(
    mut result: oneshot::Receiver<WriteResult>,
    term: u64,
    mut leadership: watch::Receiver<Leadership>,
) -> Result<Proposed, ProposeError> {
    let lost = async {
        let changed = leadership.wait_for(|now| *now != Leadership::Leader { term }).await;
        match changed.as_deref() {
            Ok(Leadership::Follower { leader }) => *leader,
            _ => None,
        }
    };
    let result = tokio::select! {
        biased;
        result = &mut result => result,
        leader = lost => return Err(ProposeError::Unknown { leader }),
    };
    match result {
        Ok(Ok(written)) => {
            let at = position(&written.log_id);
            Ok(Proposed { index: at.index, term: at.term, response: written.data.0.into_inner() })
        }
        Ok(Err(ClientWriteError::ForwardToLeader(forward))) => {
            Err(ProposeError::NotLeader { leader: peer(&forward) })
        }
        Ok(Err(ClientWriteError::LogEntryDiscarded(forward))) => {
            Err(ProposeError::Unknown { leader: peer(&forward) })
        }
        Ok(Err(error)) => Err(ProposeError::Stopped(error.to_string())),
        Err(_) => Err(ProposeError::Unknown { leader: None }),
    }
}
