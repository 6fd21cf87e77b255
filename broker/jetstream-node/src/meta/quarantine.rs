//! What becomes of this server's copy of the meta state when its log, its votes or its checkpoint are damaged. It takes
//! no part in the meta group, since it may have forgotten what it promised: it has the group's leader take it out, its
//! files go to the trash, its log is dropped, and it joins again with nothing. Meanwhile this server serves what needs
//! no JetStream, and opens no stream: what is assigned to it is known only when it is back. Not for a single server,
//! which has nobody to ask, nor for the streams' own groups (`stream::quarantine`).

use std::sync::Arc;
use std::time::Duration;

use weir_jetstream::meta::META_GROUP;
use weir_raft::GroupId;
use weir_raft::admin::{AdminClient, LeaveRequest};

use super::state::MetaState;
use crate::clock;
use crate::context::{Cluster, Context};

/// Between two rounds of asking.
const RETRY: Duration = Duration::from_secs(2);
/// Rounds after which it is said again that nobody has done it.
const ROUNDS_TOLD: u32 = 15;
/// Between two looks whether the new copy has caught up.
const POLL: Duration = Duration::from_millis(100);

/// Until the group goes on without this server, and nothing of the damaged copy is left but in the trash.
pub(crate) async fn leave_and_empty(context: &Arc<Context>, reason: &str) {
    let Some(cluster) = &context.cluster else { return };
    tracing::error!(
        "The meta state of JetStream here is damaged: {reason}. This server takes no part in the meta group until the \
         group's leader has taken it out; its streams are offline, core NATS is served"
    );
    let mut rounds: u32 = 0;
    while !leave(context, cluster).await {
        rounds += 1;
        if rounds.is_multiple_of(ROUNDS_TOLD) {
            tracing::error!(
                "Nobody has taken the damaged copy of the meta state out of its group yet: {reason}"
            );
        }
        tokio::time::sleep(RETRY).await;
    }
    while let Err(error) = empty(context, cluster).await {
        tracing::error!("Emptying the damaged copy of the meta state: {error}");
        tokio::time::sleep(RETRY).await;
    }
    tracing::warn!(
        "The damaged copy of the meta state is made anew from the other servers; its files are in the trash"
    );
}

/// Asks every server that is known; the leader of the meta group does it.
async fn leave(context: &Context, cluster: &Cluster) -> bool {
    let request = LeaveRequest { group: META_GROUP, peer_id: context.peer_id.0 };
    for peer in cluster.neighbours.peers() {
        let endpoint = peer.info.grpc;
        let Ok(client) = AdminClient::new(&endpoint, cluster.secret.as_deref()) else { continue };
        match client.leave(request).await {
            Ok(reply) if reply.left => return true,
            Ok(_) => {}
            Err(error) => tracing::debug!("asking {endpoint} to take a damaged meta state out: {error}"),
        }
    }
    false
}

/// The files first: a crash in between leaves a log without them, which is found out at the next start.
async fn empty(context: &Context, cluster: &Cluster) -> Result<(), String> {
    let folder = context.store_dir.join("meta");
    if context.disk.exists(&folder) {
        context.trash.discard(&folder, clock::now()).map_err(|error| error.to_string())?;
    }
    let dropped = cluster.raft.drop_group(GroupId(META_GROUP)).await;
    dropped.map_err(|error| error.to_string())?;
    *context.meta.lock() = MetaState::new(Arc::clone(&context.disk), folder.join("checkpoint"));
    Ok(())
}

/// Until the new copy has what the group has: what is on the way there is no state to open or remove streams by.
pub(crate) async fn caught_up(context: &Context) {
    loop {
        let status = context.meta.status();
        let is_member = status.members.contains(&context.peer_id);
        if is_member && status.leader.is_some() && status.committed > 0 && status.applied >= status.committed
        {
            return;
        }
        tokio::time::sleep(POLL).await;
    }
}
