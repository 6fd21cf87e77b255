//! Makes the replicas on this server those that the meta state assigns to it. It compares the whole, so that it does
//! not matter what it missed. It deletes files only of streams whose deletion it saw committed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use weir_jetstream::meta::StreamAssignment;

use crate::api::stream_list;
use crate::clock;
use crate::context::Context;
use crate::stream::growth;
use crate::stream::replica::{self, StreamReplica};
use crate::unsupported;

/// After a replica could not be opened it is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How long a stream's leader may take to say who its members are.
const INFO_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the files of a deleted stream can still be brought back by hand.
const TRASH_GRACE: Duration = Duration::from_secs(60 * 60);

/// Follows the meta state until aborted.
pub(crate) async fn run(context: Arc<Context>) {
    let mut applied = context.meta.applied_watch();
    let mut is_removal_told = false;
    loop {
        if !is_removal_told && context.meta.lock().machine().is_removed(context.peer_id.0) {
            is_removal_told = true;
            // Nothing is placed here any more.
            tracing::error!("JetStream being DISABLED, our server was removed from the cluster");
            context.server_removed();
        }
        let complete = reconcile(&context).await;
        if complete {
            if applied.changed().await.is_err() {
                return;
            }
        } else {
            let _ = tokio::time::timeout(RETRY, applied.changed()).await;
        }
        match context.trash.empty(clock::now(), TRASH_GRACE) {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => {
                tracing::info!("Removed the files of {} streams deleted an hour ago", removed.len())
            }
            Err(error) => tracing::warn!("Emptying the trash: {error}"),
        }
    }
}

/// One pass; false when something could not be opened or removed.
pub(crate) async fn reconcile(context: &Arc<Context>) -> bool {
    let own = context.peer_id.0;
    let wanted: Vec<Arc<StreamAssignment>> = {
        let meta = context.meta.lock();
        // What is to be elsewhere is served until the stream's leader has let this server go.
        let is_held = |assignment: &StreamAssignment| {
            assignment.is_replicated() && replica::folder(&context.store_dir, assignment.group).exists()
        };
        let streams = meta.machine().streams();
        streams.filter(|assignment| assignment.peers.contains(&own) || is_held(assignment)).cloned().collect()
    };
    let groups: BTreeSet<u64> = wanted.iter().map(|assignment| assignment.group).collect();
    let mut complete = true;
    for replica in context.all_replicas() {
        let assignment = replica.assignment();
        if !groups.contains(&assignment.group) {
            complete &= remove(context, &replica).await;
        }
    }
    let offline: Vec<u64> = context.offline_streams.lock().keys().copied().collect();
    for group in offline.into_iter().filter(|group| !groups.contains(group)) {
        unsupported::discard(context, group).await;
    }
    for assignment in wanted {
        let is_leaving = !assignment.peers.contains(&own);
        complete &= open_or_update(context, Arc::clone(&assignment)).await;
        if is_leaving {
            complete &= leave(context, &assignment).await;
        }
    }
    complete
}

/// Gives up a replica that is to be elsewhere, once the stream's leader does not count on it any more.
async fn leave(context: &Arc<Context>, assignment: &StreamAssignment) -> bool {
    let Some(replica) = context.replicas.read().get(&assignment.group).cloned() else { return false };
    if replica.is_leader() {
        return false;
    }
    let account = context.account(&assignment.account);
    let info = stream_list::stream_info(context, &account, assignment.name(), INFO_TIMEOUT).await;
    let Some(cluster) = info.and_then(|info| info.cluster) else { return false };
    let own = context.peer_id.to_string();
    let is_out = cluster.leader != context.server_name
        && !cluster.leader.is_empty()
        && cluster.replicas.iter().all(|peer| peer.peer != own);
    is_out && remove(context, &replica).await
}

async fn remove(context: &Arc<Context>, replica: &Arc<StreamReplica>) -> bool {
    let assignment = replica.assignment();
    context.replicas.write().remove(&assignment.group);
    match replica.remove().await {
        Ok(()) => true,
        Err(reason) => {
            tracing::warn!("Removing stream '{} > {}': {reason}", assignment.account, assignment.name());
            true
        }
    }
}

pub(crate) async fn open_or_update(context: &Arc<Context>, assignment: Arc<StreamAssignment>) -> bool {
    let existing = context.replicas.read().get(&assignment.group).cloned();
    if let Some(replica) = existing {
        let before = replica.assignment();
        if !growth::is_due(context, &before, &assignment) {
            if before != assignment {
                replica.set_assignment(assignment);
                // One that was restored is served from now on.
                replica.sync_leadership();
            }
            return true;
        }
        context.replicas.write().remove(&assignment.group);
        if let Err(reason) = growth::end_local_log(context, &replica).await {
            let name = assignment.name();
            tracing::error!("Stream '{} > {name}': ending its local log: {reason}", assignment.account);
        }
    }
    if unsupported::is_kept_closed(context, &assignment) {
        return true;
    }
    let group = assignment.group;
    match StreamReplica::open(Arc::clone(context), Arc::clone(&assignment)).await {
        Ok(replica) if unsupported::is_kept_unserved(context, &replica) => true,
        Ok(replica) => {
            context.replicas.write().insert(group, Arc::clone(&replica));
            context.open_failures.lock().remove(&group);
            replica.serve();
            true
        }
        Err(reason) => {
            tracing::error!("Stream '{} > {}' is offline: {reason}", assignment.account, assignment.name());
            context.open_failures.lock().insert(group, reason);
            false
        }
    }
}
