//! One Raft group as its owner sees it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use crate::error::{GroupError, ProposeError};
use crate::machine::Response;
use crate::types::{GroupId, GroupStatus, Leadership, PeerId};

/// A proposal that was committed and applied here.
pub struct Proposed {
    pub index: u64,
    pub term: u64,
    pub response: Response,
}

/// A handle to an open group; clones share it.
#[derive(Clone)]
pub struct Group {
    inner: Arc<GroupInner>,
}

struct GroupInner {
    id: GroupId,
    leadership: watch::Receiver<Leadership>,
}

impl Group {
    #[must_use]
    pub fn id(&self) -> GroupId {
        self.inner.id
    }

    /// Makes the first configuration, on one member, once. Other members only open the group.
    pub async fn initialize(&self, _members: Vec<PeerId>) -> Result<(), GroupError> {
        Err(GroupError::Stopped("not built yet".to_owned()))
    }

    /// Proposes one entry. The order of calls is the order in the log. The future only waits.
    pub fn propose(
        &self,
        _payload: Bytes,
    ) -> impl Future<Output = Result<Proposed, ProposeError>> + Send + 'static {
        async { Err(ProposeError::Stopped("not built yet".to_owned())) }
    }

    /// Waits until a proposal would not be refused for `Backpressure`.
    pub async fn ready(&self) {}

    #[must_use]
    pub fn status(&self) -> GroupStatus {
        GroupStatus {
            is_leader: false,
            leader: None,
            term: 0,
            last: 0,
            committed: 0,
            applied: 0,
            purged: 0,
            voters: Vec::new(),
            learners: Vec::new(),
            joint: false,
            replication: Vec::new(),
            failed: None,
        }
    }

    /// The replica's leadership, as `Machine::leadership` is told it.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// Makes `peer` a voter: learner first, voter once caught up. On the leader only. Safe to repeat.
    pub async fn add_member(&self, _peer: PeerId, _timeout: Duration) -> Result<(), GroupError> {
        Err(GroupError::Stopped("not built yet".to_owned()))
    }

    /// Takes `peer` out of the group. On the leader only. Safe to repeat.
    pub async fn remove_member(&self, _peer: PeerId, _timeout: Duration) -> Result<(), GroupError> {
        Err(GroupError::Stopped("not built yet".to_owned()))
    }

    /// Hands leadership to `to`, or to the voter that is furthest; returns once this replica no longer
    /// leads. Succeeds at once when it does not lead.
    pub async fn transfer_leader(&self, _to: Option<PeerId>) -> Result<(), GroupError> {
        Err(GroupError::Stopped("not built yet".to_owned()))
    }

    /// Tells the group that the machine's state up to `index` is durable: the log may be cut there.
    pub async fn compact(&self, _index: u64) -> Result<(), GroupError> {
        Err(GroupError::Stopped("not built yet".to_owned()))
    }

    /// Waits until everything committed when it was called is applied here, confirmed by a majority.
    /// On the leader only. Returns the index.
    pub async fn read_barrier(&self) -> Result<u64, GroupError> {
        Err(GroupError::Stopped("not built yet".to_owned()))
    }

    /// Waits until the machine has applied `index`.
    pub async fn wait_applied(&self, _index: u64, _timeout: Duration) -> Result<(), GroupError> {
        Err(GroupError::Stopped("not built yet".to_owned()))
    }
}
