//! A log that one server wrote alone becomes the log of a group: its last entry is the group's first, and the server
//! its one member, until others are added. Not the adding (see `membership`).

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use tokio::sync::oneshot;

use crate::error::GroupError;
use crate::group::Group;
use crate::log_store;
use crate::node::RaftNode;
use crate::raft_types::{Membership, StoredMembership, log_id};
use crate::types::{GroupId, PeerInfo};

impl RaftNode {
    /// Whether the journal holds a group of this id: its members or a vote.
    #[must_use]
    pub fn has_begun(&self, id: GroupId) -> bool {
        log_store::has_begun(&*self.group_log(), id)
    }

    /// Begins a group whose log is what this server wrote alone, with term 0, up to `index`: all of that is in the
    /// machine, durably. To be called before the group is opened; safe to repeat.
    ///
    /// # Errors
    /// Of the journal.
    pub async fn begin_group_at(&self, id: GroupId, index: u64) -> io::Result<()> {
        if self.has_begun(id) || index == 0 {
            return Ok(());
        }
        let this = self.peer();
        let info = self.peer_info(this).unwrap_or_default();
        let nodes: BTreeMap<u64, PeerInfo> = BTreeMap::from([(this.0, info)]);
        let membership = Membership::new(vec![BTreeSet::from([this.0])], nodes)
            .map_err(|error| io::Error::other(error.to_string()))?;
        let last = log_id(0, index);
        let stored = StoredMembership::new(Some(last), membership);
        let (sender, receiver) = oneshot::channel();
        let done = Box::new(move |result| {
            // The caller may have given up.
            let _ = sender.send(result);
        });
        log_store::begin(&*self.group_log(), id, &last, &stored, done);
        receiver.await.map_err(io::Error::other)?
    }
}

impl Group {
    /// Stands for election now rather than after the usual silence: for a member that is alone.
    ///
    /// # Errors
    /// `Stopped`.
    pub async fn campaign(&self) -> Result<(), GroupError> {
        self.raft().trigger().elect(false).await.map_err(|error| GroupError::Stopped(error.to_string()))
    }
}
