//! How a stream that one server keeps alone gets a Raft group: its local log ends, what it did goes into a checkpoint,
//! and a group of one begins there. Others are then added as to every group. Not the adding (see `membership`).

use std::sync::Arc;

use weir_jetstream::StopReason;
use weir_jetstream::meta::{StreamAssignment, StreamLog};
use weir_raft::GroupId;

use super::replica::{self, StreamReplica};
use super::state::StreamState;
use crate::context::Context;
use crate::replicated::Replicated;
use crate::replicator::local;

/// Whether this server's local log of the stream is to become a group's.
pub(crate) fn is_due(context: &Context, before: &StreamAssignment, now: &StreamAssignment) -> bool {
    before.log == StreamLog::Local && now.log == StreamLog::GroupFrom(context.peer_id.0)
}

/// Ends the local log: nothing is taken any more, all that was taken is applied and in a checkpoint. The replica is of
/// no use afterwards.
pub(crate) async fn end_local_log(context: &Context, replica: &Arc<StreamReplica>) -> Result<(), String> {
    replica.close(StopReason::LeadershipChange).await;
    if let Some(log) = replica.replicated.replicator() {
        log.seal().await;
    }
    let folder = replica::folder(&context.store_dir, replica.assignment().group);
    let (replicated, disk) = (Arc::clone(&replica.replicated), Arc::clone(&context.disk));
    let ended = tokio::task::spawn_blocking(move || {
        let mut state = replicated.lock();
        state.keep_in(disk, &folder);
        let result = state.checkpoint();
        state.release();
        result
    });
    ended.await.map_err(|error| error.to_string())?.map(|_| ()).map_err(|error| error.to_string())
}

/// Before the group is opened for the first time: takes over what the local log holds, also after a crash.
pub(crate) async fn begin_group(
    context: &Context,
    assignment: &StreamAssignment,
    replicated: &Arc<Replicated<StreamState>>,
) -> Result<(), String> {
    let Some(cluster) = &context.cluster else { return Ok(()) };
    let group = GroupId(assignment.group);
    if assignment.log != StreamLog::GroupFrom(context.peer_id.0) || cluster.raft.has_begun(group) {
        return Ok(());
    }
    local::replay(&context.journal, group, replicated)?;
    // A group that began with what is left of a damaged log would make the rest of it unreachable.
    if let Some(reason) = replicated.failure() {
        return Err(reason.to_owned());
    }
    let index = replicated.lock().checkpoint().map_err(|error| error.to_string())?;
    cluster.raft.begin_group_at(group, index).await.map_err(|error| error.to_string())
}

/// After it was opened: a group of one needs nobody's vote but its own.
pub(crate) async fn lead_alone(context: &Context, group: &weir_raft::Group) {
    let this = context.peer_id;
    let voters = group.status().voters;
    let result = if voters.is_empty() {
        // The local log was empty.
        group.initialize(vec![this]).await
    } else if voters == [this] {
        group.campaign().await
    } else {
        Ok(())
    };
    if let Err(error) = result {
        tracing::debug!("leading a group of one: {error}");
    }
}
