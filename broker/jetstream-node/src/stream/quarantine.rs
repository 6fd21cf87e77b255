//! What becomes of a replicated stream's replica here whose log or files are damaged. It takes no part in its group:
//! it neither votes nor answers appends, since it may have forgotten what it promised. It asks the group's leader to
//! take it out; once that is committed its files go to the trash, its log is dropped, and it comes back with nothing,
//! as a new member that gets everything from the others. Not for unreplicated streams, which have nobody to ask.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use weir_jetstream::meta::StreamAssignment;
use weir_raft::GroupId;
use weir_raft::admin::{AdminClient, LeaveRequest};

use super::replica::StreamReplica;
use crate::clock;
use crate::context::{Cluster, Context};
use crate::meta::reconcile;

/// Between two attempts to open a replica that turned out to be damaged.
const RETRY: Duration = Duration::from_secs(5);

/// Why a replica could not be opened.
#[derive(Debug)]
pub(crate) struct OpenFailure {
    /// Its bytes are not what was written: they may come from the other replicas.
    pub(crate) damaged: bool,
    pub(crate) reason: String,
}

impl From<String> for OpenFailure {
    fn from(reason: String) -> Self {
        Self { damaged: false, reason }
    }
}

impl From<OpenFailure> for String {
    fn from(failure: OpenFailure) -> Self {
        failure.reason
    }
}

impl From<weir_storage::StorageError> for OpenFailure {
    fn from(error: weir_storage::StorageError) -> Self {
        let damaged = matches!(error, weir_storage::StorageError::Corrupt { .. });
        Self { damaged, reason: error.to_string() }
    }
}

/// Has the group go on without this replica, and empties it. An error: not yet, try again.
pub(crate) async fn leave_and_empty(
    context: &Context,
    assignment: &StreamAssignment,
    folder: &Path,
    reason: &str,
) -> Result<(), String> {
    let Some(cluster) = &context.cluster else { return Err(reason.to_owned()) };
    if !leave(context, cluster, assignment).await {
        return Err(format!(
            "{reason}; it takes no part in its group, whose leader has not taken it out yet"
        ));
    }
    // The files first: a crash in between leaves a log without them, which is found out at the next start.
    if context.disk.exists(folder) {
        context.trash.discard(folder, clock::now()).map_err(|error| error.to_string())?;
    }
    let dropped = cluster.raft.drop_group(GroupId(assignment.group)).await;
    dropped.map_err(|error| error.to_string())?;
    tracing::warn!(
        "Stream '{} > {}': the replica here is damaged ({reason}) and is made anew from the others; its old files \
         are in the trash",
        assignment.account,
        assignment.name()
    );
    Ok(())
}

/// Asks every other server of the stream; its leader does it.
async fn leave(context: &Context, cluster: &Cluster, assignment: &StreamAssignment) -> bool {
    let request = LeaveRequest { group: assignment.group, peer_id: context.peer_id.0 };
    let members = context.members();
    for member in members.iter().filter(|member| assignment.peers.contains(&member.id)) {
        if member.id == context.peer_id.0 {
            continue;
        }
        let known = cluster.raft.peer_info(weir_raft::PeerId(member.id)).map(|info| info.endpoint);
        let endpoint = known.unwrap_or_else(|| member.endpoint.clone());
        let Ok(client) = AdminClient::new(&endpoint, cluster.secret.as_deref()) else { continue };
        match client.leave(request).await {
            Ok(reply) if reply.left => return true,
            Ok(_) => {}
            Err(error) => tracing::debug!("asking {endpoint} to take a damaged replica out: {error}"),
        }
    }
    false
}

/// An open replica turned out to be damaged: closes it, and opens it anew.
pub(crate) fn renew(context: Arc<Context>, replica: Arc<StreamReplica>, reason: String) {
    tokio::spawn(async move {
        let assignment = replica.assignment();
        context.journal.set_doubt(GroupId(assignment.group), &reason);
        replica.close(weir_jetstream::StopReason::LeadershipChange).await;
        context.replicas.write().remove(&assignment.group);
        drop(replica);
        while !reconcile::open_or_update(&context, Arc::clone(&assignment)).await {
            tokio::time::sleep(RETRY).await;
        }
    });
}
